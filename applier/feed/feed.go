// Package feed drives an engine on the best road that it has: whole batches, one
// built while one is committed, or transactions side by side.
//
// It owns the goroutines that this takes, and waits for them. It promises that
// what becomes visible is told in commit order, that a bounded part of what it
// was given is under way, that every execution and every built batch is
// committed or given back, and that nothing is committed after an error. It must
// never know where batches come from, or who waits for them.
package feed

import (
	"errors"
	"sync"
	"sync/atomic"

	"github.com/concordatdb/concordat/applier"
	"github.com/concordatdb/concordat/applier/schedule"
)

// Options say how an engine is driven.
type Options struct {
	// Workers is how many transactions are executed at a time, by an engine that
	// is [applier.Parallel]. With 1 or less no batch is built ahead either.
	Workers int
	// Attempts is how often a transaction is tried; 0 means
	// [schedule.DefaultAttempts].
	Attempts int
	// Visible is told, in order and by one goroutine at a time, what has become
	// visible, and how many transactions that were.
	Visible func(at applier.Position, transactions int)
	// Failed is told the first error, once: an [applier.TransactionError] where a
	// transaction could not be applied. What comes before that one is visible, or,
	// where batches are visible at once, what comes before its batch. It must not
	// call the feeder. nil is for nobody.
	Failed func(err error)
}

// Feeder drives one engine. It is for one goroutine at a time.
type Feeder struct {
	engine applier.Engine
	opts   Options
	trouble
	pipe  *pipe
	lanes *lanes
}

// trouble is the first error, and who is told.
type trouble struct {
	once   sync.Once
	err    atomic.Pointer[error]
	failed chan struct{} // closed when there is one
	tell   func(error)
}

func (t *trouble) set(err error) {
	t.once.Do(func() {
		t.err.Store(&err)
		close(t.failed)
		if t.tell != nil && !errors.Is(err, errClosed) {
			t.tell(err)
		}
	})
}

func (t *trouble) get() error {
	if p := t.err.Load(); p != nil {
		return *p
	}
	return nil
}

// New begins to drive an engine. Close ends it, and does not close the engine.
func New(e applier.Engine, o Options) *Feeder {
	if o.Attempts == 0 {
		o.Attempts = schedule.DefaultAttempts
	}
	if o.Visible == nil {
		o.Visible = func(applier.Position, int) {}
	}
	f := &Feeder{engine: e, opts: o}
	f.failed, f.tell = make(chan struct{}), o.Failed
	if p, ok := e.(applier.Parallel); ok {
		f.lanes = newLanes(p, &f.opts, &f.trouble)
	} else if p, ok := e.(applier.Pipelined); ok && o.Workers > 1 {
		f.pipe = newPipe(p, &f.opts, &f.trouble)
	}
	return f
}

// Apply hands a batch over. It may return before that is visible, and waits while
// too much is under way. more says that another batch is at hand. The batch
// belongs to the feeder until it is visible. The error is the first that there
// was.
func (f *Feeder) Apply(b applier.Batch, more bool) error {
	if err := f.get(); err != nil {
		return err
	}
	switch {
	case f.lanes != nil:
		f.lanes.apply(b)
	case f.pipe != nil:
		f.pipe.apply(b, more)
	default:
		f.done(f.engine.Apply(b), b)
	}
	return f.get()
}

// done tells what has come of a batch.
func (f *Feeder) done(err error, b applier.Batch) {
	if err != nil {
		f.set(err)
		return
	}
	f.opts.Visible(b.To, len(b.Transactions))
}

// Drain returns when everything handed over is visible, or when there was an
// error and nothing is under way any more.
func (f *Feeder) Drain() error {
	switch {
	case f.lanes != nil:
		f.lanes.drain()
	case f.pipe != nil:
		f.pipe.under.Wait()
	}
	return f.get()
}

// Close ends what is under way and waits for that. What is not visible by then
// may never be.
func (f *Feeder) Close() {
	switch {
	case f.lanes != nil:
		f.lanes.close()
	case f.pipe != nil:
		f.pipe.close()
	}
}

// pipe commits batches beside the goroutine that builds them.
type pipe struct {
	engine  applier.Pipelined
	opts    *Options
	trouble *trouble
	built   chan builtBatch
	under   sync.WaitGroup // batches that are built and not committed
	behind  atomic.Int32   // how many these are
	ended   sync.WaitGroup
}

type builtBatch struct {
	applier.Built
	batch applier.Batch
}

func newPipe(e applier.Pipelined, o *Options, t *trouble) *pipe {
	p := &pipe{engine: e, opts: o, trouble: t, built: make(chan builtBatch, 1)}
	p.ended.Go(func() {
		for b := range p.built {
			p.commit(b)
		}
	})
	return p
}

// apply builds a batch. The last one at hand is committed by who built it: nobody
// has to be woken for that.
func (p *pipe) apply(b applier.Batch, more bool) {
	x, err := p.engine.Build(b)
	if err != nil {
		p.under.Wait() // what comes before it becomes visible first
		p.trouble.set(err)
		return
	}
	p.under.Add(1)
	if p.behind.Add(1) == 1 && !more {
		p.commit(builtBatch{x, b})
		return
	}
	p.built <- builtBatch{x, b}
}

func (p *pipe) commit(b builtBatch) {
	defer p.under.Done()
	defer p.behind.Add(-1)
	if p.trouble.get() != nil {
		p.discard(b)
		return
	}
	if err := p.guarded(b.Commit); err != nil {
		p.trouble.set(err)
		return
	}
	p.opts.Visible(b.batch.To, len(b.batch.Transactions))
}

func (p *pipe) discard(b builtBatch) {
	_ = p.guarded(func() error { b.Discard(); return nil }) // there was a first error
}

// guarded makes an error of a panic: no caller of the engine's is there to tell.
func (p *pipe) guarded(do func() error) (err error) {
	defer recovered(&err)
	return do()
}

func (p *pipe) close() {
	p.trouble.set(errClosed)
	close(p.built)
	p.ended.Wait()
}

// errClosed ends what is under way when a feeder is closed.
var errClosed = errors.New("feed: closed")
