package concordat

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/concordatdb/concordat/applier"
	"github.com/concordatdb/concordat/applier/feed"
	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/internal/replica"
)

// Batches that have gathered are given to the engine as one, up to so many bytes
// of payload or transactions: what is built ahead should not be much larger than
// what is being committed, and what flow control learns of the engine's work comes
// by whole batches: those of a slow one must not be all that has gathered while it
// worked on the last.
const (
	feedBytes        = 1 << 20
	feedTransactions = 256
)

// feeding is an engine that is given its tasks, and what it was given and does not
// show yet: where a transaction turns out to be one that no engine can apply, that
// is given again without it. It belongs to one goroutine, but for under.
type feeding struct {
	life   *life
	feeder *feed.Feeder
	ready  readying
	told   uint64 // log index up to which the state machine knows what is visible; of who shows

	mu    sync.Mutex
	under []applier.Batch // in order
}

// feedEngine gives the engine its tasks in order. A batch may still be on its way
// when the next one is given; for any other task, everything before it is visible.
func (l *life) feedEngine() {
	f := &feeding{life: l, ready: newReadying(l.node)}
	f.begin()
	defer func() {
		f.feeder.Close()
		f.ready.discard()
	}()
	err := f.all()
	if err != nil && !errors.Is(err, errStopped) {
		l.node.fail(fmt.Errorf("engine: %w", err))
	}
}

func (f *feeding) begin() {
	l := f.life
	f.feeder = feed.New(l.node.engine, feed.Options{
		Workers: l.node.cfg.ApplyWorkers, Visible: f.shown,
		// Nobody may be giving anything: a task that is none has it noticed.
		Failed: func(error) { l.engine.put(replica.Task{}) },
	})
}

// all gives the engine all tasks until there will be none.
func (f *feeding) all() error {
	var tasks []replica.Task
	for ok := true; ok; {
		if tasks, ok = f.life.engine.take(tasks); !ok {
			return f.drain()
		}
		for rest := tasks; len(rest) > 0; {
			n, err := f.first(rest)
			if err != nil {
				return err
			}
			rest = rest[n:]
		}
	}
	return nil
}

// first does the first of some tasks, or as many as make one batch.
func (f *feeding) first(tasks []replica.Task) (n int, err error) {
	switch t := &tasks[0]; {
	case t.Ahead != nil:
		return 1, f.ahead(t.Ahead)
	case t.Apply == nil:
		if err := f.drain(); err != nil {
			return 0, err
		}
		return 1, f.life.engineTask(*t)
	case len(t.Bulks) > 0:
		return 1, f.bulk(t)
	}
	batch, n := gather(tasks)
	return n, f.apply(batch, n < len(tasks) || f.life.engine.waiting())
}

// bulk gives the engine a batch whose payloads have to be read first, unless it has
// got ready for it. Nobody before it waits for that, and they stay in memory no longer
// than it takes.
func (f *feeding) bulk(t *replica.Task) error {
	if err := f.drain(); err != nil {
		return err
	}
	if visible, err := f.turn(t); visible || err != nil {
		return err
	}
	if err := t.Load(f.life.node.log); err != nil {
		return err
	}
	defer t.Unload()
	if err := f.apply(*t.Apply, false); err != nil {
		return err
	}
	return f.drain()
}

func (f *feeding) apply(b applier.Batch, more bool) error {
	f.mu.Lock()
	f.under = append(f.under, b)
	f.mu.Unlock()
	if err := f.feeder.Apply(b, more); err != nil {
		return f.mend()
	}
	return nil
}

// drain waits until everything is visible.
func (f *feeding) drain() error {
	if err := f.feeder.Drain(); err != nil {
		return f.mend()
	}
	return nil
}

// mend goes on behind an error, if that is of a transaction which no engine can
// apply: what is not visible is given again, and that transaction is empty. When it
// returns nil, everything is visible.
func (f *feeding) mend() error {
	for {
		err := f.feeder.Drain()
		if err == nil {
			return nil
		}
		at, class, shared := mayBeShared(err)
		if !shared {
			return err
		}
		f.feeder.Close()
		asked := f.life.ask(at, class, err)
		f.begin()
		if asked != nil {
			return asked
		}
		for _, b := range f.again(at) {
			if f.feeder.Apply(b, true) != nil {
				break // Drain returns it
			}
		}
	}
}

// again makes what is to be given to the engine anew: all that it does not show,
// with nothing left of one transaction but its GTID. By its GTID, too, it is told what
// is visible of an entry that is so in part: which part of it a batch began with says
// nobody, for one that comes after a restart has the rest alone.
func (f *feeding) again(without gtid.GTID) []applier.Batch {
	p := f.life.node.engine.Position()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.under = slices.DeleteFunc(f.under, func(b applier.Batch) bool { return b.To.Index <= p.Index })
	for i := range f.under {
		b := &f.under[i]
		b.Transactions = slices.DeleteFunc(slices.Clone(b.Transactions), func(t applier.Transaction) bool { return p.Executed.Contains(t.GTID) })
		for j := range b.Transactions {
			if t := &b.Transactions[j]; t.GTID == without {
				t.Payload = nil
			}
		}
	}
	return slices.Clone(f.under)
}

// gather makes one batch of the first tasks, and returns of how many.
func gather(tasks []replica.Task) (batch applier.Batch, n int) {
	batch = *tasks[0].Apply
	size := 0
	for n = 1; n < len(tasks) && tasks[n].Apply != nil && len(tasks[n].Bulks) == 0 && size < feedBytes && len(batch.Transactions) < feedTransactions; n++ {
		next := tasks[n].Apply
		for i := range next.Transactions {
			size += len(next.Transactions[i].Payload)
		}
		batch.Transactions = append(batch.Transactions, next.Transactions...)
		batch.To = next.To
	}
	return batch, n
}

// shown follows when something has become visible. The state machine counts in
// whole log entries.
func (f *feeding) shown(at applier.Position, transactions int) {
	f.mu.Lock()
	n := 0
	for n < len(f.under) && f.under[n].To.Index <= at.Index {
		n++
	}
	f.under = slices.Delete(f.under, 0, n)
	f.mu.Unlock()
	l := f.life
	l.node.counters.applied.Add(uint64(transactions))
	l.node.visible.broadcast()
	if at.Index > f.told {
		f.told = at.Index
		l.inbox.put(replica.Applied{Index: at.Index})
	}
}

func (l *life) engineTask(t replica.Task) error {
	switch {
	case t.Export != nil:
		l.pinExport(t.Export)
	case t.Check != nil:
		return l.pinCheck(t.Check)
	case t.Flush:
		l.flushes.put(struct{}{})
	}
	return l.trimChanges()
}
