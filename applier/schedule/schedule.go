// Package schedule decides which transactions run side by side, and which of
// them become visible next.
//
// It owns the order: a transaction starts when everything is visible that it
// depends on, and they become visible as they were certified. It promises that
// whoever asks in the same order gets the same answers, and that no more is
// under way than its limits allow. It must never know what a transaction does,
// who runs it, or how long that takes.
//
// The rule is MySQL's LOGICAL_CLOCK with the order of commits preserved
// (rpl_mta_submode.cc, rpl_replica_commit_order_manager.cc), except that a
// transaction does not wait for one before it that itself has to wait, and that
// there is no fence where numbers are missing: they are the group's own, and
// have no gaps.
package schedule

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/concordatdb/concordat/internal/queue"
)

// ErrInterval marks a transaction whose interval cannot follow on the one before.
var ErrInterval = errors.New("schedule: interval out of order")

// Limits bound what is under way.
type Limits struct {
	// Running is how many transactions may be started and not yet executed, at
	// least 1.
	Running int
	// Window is how many may be known and not yet visible, at least 1.
	Window int
	// Attempts is how often a transaction is started before it has failed for
	// good, at least 1.
	Attempts int
}

// DefaultAttempts is what MySQL does by default: replica_transaction_retries.
const DefaultAttempts = 10

// Scheduler is the state of one engine's transactions. It belongs to one
// goroutine. Transactions have numbers, in commit order, from 0.
type Scheduler struct {
	limits Limits
	slots  queue.Queue[slot]
	first  uint64 // number of the first slot
	last   uint64 // sequence of the last transaction added
	// ready are the numbers of those that may start, ascending. blocked wait for
	// what they depend on, ascending by what that is.
	ready   []uint64
	blocked []dependent
	running int
	// again is how many transactions have failed and are to be tried once more.
	again      int
	committing int // transactions at the head
}

type slot struct {
	lastCommitted, sequence uint64
	state                   state
	attempts                int
}

type dependent struct{ lastCommitted, number uint64 }

func (d dependent) compare(o dependent) int {
	return cmp.Or(cmp.Compare(d.lastCommitted, o.lastCommitted), cmp.Compare(d.number, o.number))
}

type state byte

const (
	waiting  state = iota // for what it depends on, or for its start
	running               // somebody executes it
	executed              // only its turn is missing
	retrying              // it has failed, and is tried again when it is at the head, alone
	broken                // it has failed for good
)

// New returns a scheduler that knows no transaction. What comes before the first
// is visible.
func New(l Limits) *Scheduler {
	return &Scheduler{limits: Limits{Running: max(1, l.Running), Window: max(1, l.Window), Attempts: max(1, l.Attempts)}}
}

// Len is how many transactions are known and not yet visible.
func (s *Scheduler) Len() int { return s.slots.Len() }

// Next is the number of the transaction that is added next.
func (s *Scheduler) Next() uint64 { return s.first + uint64(s.slots.Len()) }

// Room reports whether one more transaction may be added.
func (s *Scheduler) Room() bool { return s.slots.Len() < s.limits.Window }

// Add makes the next transaction in commit order known, by its parallelisation
// interval. The error wraps ErrInterval; the intervals of certified transactions
// cannot lead to it.
func (s *Scheduler) Add(lastCommitted, sequence uint64) (number uint64, err error) {
	if sequence <= s.last || lastCommitted >= sequence {
		return 0, fmt.Errorf("%w: %d after %d, dependent on %d", ErrInterval, sequence, s.last, lastCommitted)
	}
	s.last = sequence
	number = s.Next()
	s.slots.Push(slot{lastCommitted: lastCommitted, sequence: sequence})
	s.await(number)
	return number, nil
}

// await puts a transaction where it waits to be started.
func (s *Scheduler) await(number uint64) {
	x := s.at(number)
	x.state = waiting
	if s.free(x.lastCommitted) {
		at, _ := slices.BinarySearch(s.ready, number)
		s.ready = slices.Insert(s.ready, at, number)
		return
	}
	d := dependent{x.lastCommitted, number}
	at, _ := slices.BinarySearchFunc(s.blocked, d, dependent.compare)
	s.blocked = slices.Insert(s.blocked, at, d)
}

// free reports whether everything up to a sequence is visible.
func (s *Scheduler) free(sequence uint64) bool {
	return s.slots.Len() == 0 || sequence < s.slots.At(0).sequence
}

// exclusive reports whether the transaction at the head is to be tried alone.
func (s *Scheduler) exclusive() bool {
	return s.again > 0 && s.slots.At(0).state == retrying
}

// Recall names a transaction that was executed and must be given up, because one
// before it is to be tried alone; it is started again later. To be asked before
// Start until there is none.
func (s *Scheduler) Recall() (number uint64, ok bool) {
	if !s.exclusive() || s.running > 0 {
		return 0, false
	}
	for i := 1; i < s.slots.Len(); i++ {
		if s.slots.At(i).state == executed {
			number = s.first + uint64(i)
			s.slots.At(i).attempts-- // it has not failed
			s.await(number)
			return number, true
		}
	}
	return 0, false
}

// Start names the next transaction to be executed, and the how manyth attempt
// that is.
func (s *Scheduler) Start() (number uint64, attempt int, ok bool) {
	switch {
	case s.slots.Len() == 0 || s.slots.At(0).state == broken:
		return 0, 0, false
	case s.exclusive():
		if s.running > 0 {
			return 0, 0, false
		}
		s.again--
		number = s.first
	case s.slots.At(0).state == running && s.slots.At(0).attempts > 1:
		return 0, 0, false // it runs alone
	case s.running == s.limits.Running || len(s.ready) == 0:
		return 0, 0, false
	default:
		number = s.ready[0]
		s.ready = slices.Delete(s.ready, 0, 1)
	}
	x := s.at(number)
	x.state = running
	x.attempts++
	s.running++
	return number, x.attempts, true
}

// Executed notes that a transaction was executed.
func (s *Scheduler) Executed(number uint64) {
	s.finished(number).state = executed
}

// Failed notes that an attempt has failed. again says whether another one may do
// better.
func (s *Scheduler) Failed(number uint64, again bool) {
	x := s.finished(number)
	if again && x.attempts < s.limits.Attempts {
		x.state = retrying
		s.again++
		return
	}
	x.state = broken
}

func (s *Scheduler) finished(number uint64) *slot {
	x := s.at(number)
	if x.state != running {
		s.misused("transaction %d is told to have run, it is in state %d", number, x.state)
	}
	s.running--
	return x
}

// Commit names the run of transactions that become visible next: those at the
// head that were executed. Committed or nothing must follow; until then there is
// no other run.
func (s *Scheduler) Commit() (first uint64, n int) {
	if s.committing > 0 {
		return s.first, 0
	}
	for n < s.slots.Len() && s.slots.At(n).state == executed {
		n++
	}
	s.committing = n
	return s.first, n
}

// Committed notes that the last run has become visible.
func (s *Scheduler) Committed() {
	for ; s.committing > 0; s.committing-- {
		s.slots.Pop()
		s.first++
	}
	n := 0
	for n < len(s.blocked) && s.free(s.blocked[n].lastCommitted) {
		at, _ := slices.BinarySearch(s.ready, s.blocked[n].number)
		s.ready = slices.Insert(s.ready, at, s.blocked[n].number)
		n++
	}
	s.blocked = slices.Delete(s.blocked, 0, n)
}

// Broken names the transaction that has failed for good, once everything before
// it is visible. Nothing behind it ever becomes visible.
func (s *Scheduler) Broken() (number uint64, ok bool) {
	return s.first, s.slots.Len() > 0 && s.slots.At(0).state == broken
}

func (s *Scheduler) at(number uint64) *slot {
	if number < s.first || number >= s.Next() {
		s.misused("transaction %d is not among %d to %d", number, s.first, s.Next())
	}
	return s.slots.At(int(number - s.first))
}

func (s *Scheduler) misused(format string, args ...any) {
	panic("schedule: " + fmt.Sprintf(format, args...))
}
