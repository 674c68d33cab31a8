package feed

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"

	"github.com/concordatdb/concordat/applier"
	"github.com/concordatdb/concordat/applier/schedule"
	"github.com/concordatdb/concordat/internal/queue"
)

// windowPerWorker is how many transactions for each worker may be executed ahead
// of the one whose turn it is.
const windowPerWorker = 64

// lanes execute transactions side by side. One goroutine owns the schedule, gives
// the workers what may start, and commits what has come to its turn.
type lanes struct {
	engine  applier.Parallel
	opts    *Options
	trouble *trouble
	ctx     context.Context
	cancel  context.CancelFunc

	in      chan request
	work    chan job
	results chan job
	workers sync.WaitGroup
	owner   sync.WaitGroup

	// The owner's.
	schedule *schedule.Scheduler
	jobs     queue.Queue[job] // those that the schedule knows, by number
	first    uint64           // number of the first of them
	adding   []applier.Transaction
	to       applier.Position // of what is being added
	ends     queue.Queue[end]
	at       applier.Position // that is visible
	under    int              // jobs with the workers
	waiting  []chan struct{}  // who waits for everything to be visible
	run      []applier.Execution
}

// request is a batch, or somebody who waits.
type request struct {
	batch *applier.Batch
	drain chan struct{}
}

// job is one transaction on its way.
type job struct {
	number      uint64
	transaction *applier.Transaction
	attempt     int
	execution   applier.Execution
	err         error
}

// end is where a batch ends: with the transaction before a number.
type end struct {
	before uint64
	to     applier.Position
}

func newLanes(e applier.Parallel, o *Options, t *trouble) *lanes {
	workers := max(1, o.Workers)
	l := &lanes{
		engine: e, opts: o, trouble: t, at: e.Position(),
		in: make(chan request),
		// A worker that has finished finds its next job there.
		work: make(chan job, 2*workers), results: make(chan job, 2*workers),
		schedule: schedule.New(schedule.Limits{Running: 2 * workers, Window: windowPerWorker * workers, Attempts: o.Attempts}),
	}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	for range workers {
		l.workers.Go(func() {
			for j := range l.work {
				j.execution, j.err = l.execute(j)
				l.results <- j
			}
		})
	}
	l.owner.Go(l.own)
	return l
}

func (l *lanes) apply(b applier.Batch) {
	select {
	case l.in <- request{batch: &b}:
	case <-l.trouble.failed:
	}
}

func (l *lanes) drain() {
	drained := make(chan struct{})
	l.in <- request{drain: drained}
	<-drained
}

func (l *lanes) close() {
	l.trouble.set(errClosed)
	l.cancel()
	close(l.in)
	l.owner.Wait()
	close(l.work)
	l.workers.Wait()
}

func (l *lanes) execute(j job) (x applier.Execution, err error) {
	defer recovered(&err)
	return l.engine.Execute(l.ctx, j.transaction, j.attempt)
}

// recovered makes an error of a panic.
func recovered(err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("engine panicked: %v\n%s", p, debug.Stack())
	}
}

// own owns the schedule until close, and until nothing is under way.
func (l *lanes) own() {
	in := l.in
	for {
		l.advance()
		if in == nil && l.under == 0 {
			return
		}
		from := in
		if len(l.adding) > 0 || l.ends.Len() > maxEnds {
			from = nil // what is there comes first
		}
		select {
		case j := <-l.results:
			l.finished(j)
		case r, ok := <-from:
			switch {
			case !ok:
				in = nil
			case r.drain != nil:
				l.waiting = append(l.waiting, r.drain)
			default:
				l.adding, l.to = r.batch.Transactions, r.batch.To
				if len(l.adding) == 0 {
					l.ends.Push(end{l.schedule.Next(), l.to})
				}
			}
		}
	}
}

// maxEnds bounds how many batches are under way.
const maxEnds = 1024

// advance does all that can be done without waiting for a worker.
func (l *lanes) advance() {
	for l.trouble.get() == nil {
		l.add()
		l.dispatch()
		if !l.commit() {
			break
		}
	}
	if l.trouble.get() != nil {
		l.giveUp()
	}
	if len(l.adding) == 0 && l.schedule.Len() == 0 && l.ends.Len() == 0 && l.under == 0 {
		for _, drained := range l.waiting {
			close(drained)
		}
		l.waiting = nil
	}
}

// add makes known to the schedule what it has room for.
func (l *lanes) add() {
	for len(l.adding) > 0 && l.schedule.Room() {
		t := &l.adding[0]
		number, err := l.schedule.Add(t.LastCommitted, t.Sequence)
		if err != nil {
			l.trouble.set(fmt.Errorf("transaction %v: %w", t.GTID, err))
			return
		}
		l.jobs.Push(job{number: number, transaction: t})
		if l.adding = l.adding[1:]; len(l.adding) == 0 {
			l.ends.Push(end{l.schedule.Next(), l.to})
		}
	}
}

func (l *lanes) job(number uint64) *job { return l.jobs.At(int(number - l.first)) }

// dispatch gives the workers what may start. There are no more at a time than
// their channel holds.
func (l *lanes) dispatch() {
	for number, ok := l.schedule.Recall(); ok; number, ok = l.schedule.Recall() {
		l.discard(l.job(number))
	}
	for number, attempt, ok := l.schedule.Start(); ok; number, attempt, ok = l.schedule.Start() {
		j := *l.job(number)
		j.attempt = attempt
		l.under++
		l.work <- j
	}
}

func (l *lanes) finished(j job) {
	l.under--
	at := l.job(j.number)
	at.execution, at.err = j.execution, j.err
	switch {
	case j.err != nil:
		l.schedule.Failed(j.number, errors.Is(j.err, applier.ErrRetry))
	case j.execution == nil:
		l.trouble.set(fmt.Errorf("engine has executed transaction %v and returns nothing", j.transaction.GTID))
	default:
		l.schedule.Executed(j.number)
	}
}

// commit makes visible what has come to its turn, and reports whether there was
// anything.
func (l *lanes) commit() bool {
	if number, ok := l.schedule.Broken(); ok {
		j := l.job(number)
		l.trouble.set(named(j))
		return false
	}
	first, n := l.schedule.Commit()
	to := l.at
	l.pass(first, &to)
	l.run = l.run[:0]
	for i := range n {
		j := l.job(first + uint64(i))
		l.run = append(l.run, j.execution)
		to = to.After(j.transaction)
		l.pass(j.number+1, &to)
	}
	if n == 0 && to.Index == l.at.Index {
		return false
	}
	if err := l.commitRun(to); err != nil {
		l.at = l.engine.Position()
		l.trouble.set(err)
	}
	for range n {
		l.jobs.At(0).execution = nil // the engine's, whatever came of it
		l.jobs.Pop()
	}
	l.first += uint64(n)
	clear(l.run)
	l.schedule.Committed()
	if l.trouble.get() != nil {
		return false
	}
	l.at = to
	l.opts.Visible(to, n)
	return true
}

// pass goes beyond the batches that end before a transaction.
func (l *lanes) pass(number uint64, to *applier.Position) {
	for l.ends.Len() > 0 && l.ends.At(0).before == number {
		*to = l.ends.Pop().to
	}
}

func (l *lanes) commitRun(to applier.Position) (err error) {
	defer recovered(&err)
	return l.engine.Commit(l.run, to)
}

// named is a transaction's error, which may name it already.
func named(j *job) error {
	if t, ok := errors.AsType[*applier.TransactionError](j.err); ok {
		return t
	}
	return &applier.TransactionError{GTID: j.transaction.GTID, Err: j.err}
}

// giveUp gives back what was executed and is not to be visible any more. What the
// workers have is given up when they have finished.
func (l *lanes) giveUp() {
	l.adding = nil
	for l.ends.Len() > 0 {
		l.ends.Pop()
	}
	if l.under > 0 {
		return
	}
	for l.jobs.Len() > 0 {
		j := l.jobs.Pop()
		l.discard(&j)
	}
	l.schedule, l.first = schedule.New(schedule.Limits{}), 0 // that of nothing
}

func (l *lanes) discard(j *job) {
	if j.execution == nil {
		return
	}
	defer func() {
		if p := recover(); p != nil {
			l.trouble.set(fmt.Errorf("engine panicked: %v\n%s", p, debug.Stack()))
		}
	}()
	j.execution.Discard()
	j.execution = nil
}
