// Package contention counts the conflicts between transactions that one member
// learns of: which tables and keys are hot, and whose transactions lose to
// whose.
//
// It owns the counts of a sliding window. It promises that its memory is
// bounded by what it was created with, however long it runs and however many
// keys, tables and members there are, and that every count says how far it may
// be off. It must never know how a conflict is found, or what time it is: the
// caller says.
package contention

import (
	"fmt"
	"time"

	"github.com/concordatdb/concordat/certifier"
	"github.com/concordatdb/concordat/gtid"
)

// What a member uses unless it has a reason for something else: a report is
// then out of date by at most ten seconds, and takes at most some 3 MB.
const (
	DefaultWindow  = 10 * time.Minute
	DefaultBuckets = 60
	DefaultKeys    = 100
)

const (
	// MaxKey is how many bytes of a key are kept. Longer keys that agree so far
	// are counted as one.
	MaxKey = 64
	// MaxTables is how many tables are told apart in one bucket of time.
	MaxTables = 256
	// MaxPairs is how many pairs of members are told apart in one bucket of
	// time: those of a group of sixteen.
	MaxPairs = 256
)

// Where tells how far a transaction got before it lost. The values are stable:
// they appear in metrics.
type Where byte

// The places.
const (
	// Refused: it was broadcast, and certification refused it.
	Refused Where = 0
	// Doomed: it was still running when what it would lose to was delivered.
	Doomed Where = 1
	// Held: it was held back before broadcast for another of its own member,
	// which then committed.
	Held Where = 2

	// Wheres is how many there are.
	Wheres = 3
)

// String returns the place as a word for people.
func (w Where) String() string {
	switch w {
	case Refused:
		return "refused"
	case Doomed:
		return "doomed"
	case Held:
		return "held"
	}
	return fmt.Sprintf("Where(%d)", byte(w))
}

// Conflict is one transaction that lost.
type Conflict struct {
	Table string // retained as it is: the engine bounds the names of tables
	Key   []byte // not retained; empty when it is not known
	// Incoming is what the loser did with the key, Earlier what the winner did.
	// Both must be kinds.
	Incoming, Earlier certifier.Kind
	// Loser and Winner are the members from which the two came.
	Loser, Winner gtid.UUID
	Where         Where // one of the places
}

// Statistics counts conflicts over a sliding window, in buckets of time that
// are dropped whole. It belongs to one goroutine at a time. Times are counted
// from when it was created, on a clock that does not go back; times that come
// a little out of order are counted where they belong.
type Statistics struct {
	width   time.Duration // of a bucket
	buckets []bucket      // the one of number n, if it still counts, is at n modulo the length
}

// bucket holds what was noted in one stretch of time.
type bucket struct {
	number int64 // of the stretch, -1 before the first use
	total  uint64
	where  [Wheres]uint64
	kinds  [certifier.Kinds][certifier.Kinds]uint64
	tables tally[string]
	pairs  tally[pair]
	keys   summary
}

type pair struct{ loser, winner gtid.UUID }

// New returns statistics over a window of about the given length: the stretch
// of time at hand and the whole ones before it, of which there are buckets in
// all. keys is how many keys are told apart in each of them; see [Report] for
// what that means for the counts. Each argument counts as at least one.
func New(window time.Duration, buckets, keys int) *Statistics {
	buckets = max(1, buckets)
	s := &Statistics{
		width:   max(1, window/time.Duration(buckets)),
		buckets: make([]bucket, buckets),
	}
	for i := range s.buckets {
		b := &s.buckets[i]
		b.number = -1
		b.tables.limit = MaxTables
		b.pairs.limit = MaxPairs
		b.keys.limit = max(1, keys)
	}
	return s
}

// Note counts one conflict at now. One that is older than the window when it
// comes is not counted.
func (s *Statistics) Note(now time.Duration, c Conflict) {
	n := s.number(now)
	b := &s.buckets[n%int64(len(s.buckets))]
	if b.number > n {
		return
	}
	if b.number < n {
		b.reset(n)
	}
	b.total++
	b.where[c.Where]++
	b.kinds[c.Incoming][c.Earlier]++
	b.tables.add(c.Table)
	b.pairs.add(pair{c.Loser, c.Winner})
	b.keys.add(c.Table, c.Key)
}

// number returns the number of the stretch of time that now falls into.
func (s *Statistics) number(now time.Duration) int64 { return int64(max(0, now) / s.width) }

// reset empties the bucket for another stretch of time. What it has allocated
// it keeps: a member with conflicts will have more.
func (b *bucket) reset(number int64) {
	b.number = number
	b.total = 0
	b.where = [Wheres]uint64{}
	b.kinds = [certifier.Kinds][certifier.Kinds]uint64{}
	clear(b.tables.counts)
	clear(b.pairs.counts)
	b.keys.reset()
}
