package concordat

import (
	"fmt"

	"github.com/concordatdb/concordat/applier"
	"github.com/concordatdb/concordat/applier/feed"
	"github.com/concordatdb/concordat/internal/replica"
)

// Batches that have gathered are given to the engine as one, up to so many bytes
// of payload or transactions: what is built ahead should not be much larger than
// what is being committed.
const (
	feedBytes        = 1 << 20
	feedTransactions = 4096
)

// feedEngine gives the engine its tasks in order. A batch may still be on its way
// when the next one is given; for any other task, everything before it is visible.
func (l *life) feedEngine() {
	f := feed.New(l.node.engine, feed.Options{
		Workers: l.node.cfg.ApplyWorkers, Visible: l.shown, Failed: l.applyFailed,
	})
	defer f.Close()
	var tasks []replica.Task
	for ok := true; ok; {
		if tasks, ok = l.engine.take(tasks); !ok {
			_ = f.Drain() // Failed was told of an error
			return
		}
		for rest := tasks; len(rest) > 0; {
			if rest[0].Apply == nil {
				if f.Drain() != nil {
					return
				}
				if err := l.engineTask(rest[0]); err != nil {
					l.applyFailed(err)
					return
				}
				rest = rest[1:]
				continue
			}
			if len(rest[0].Bulks) > 0 {
				if l.applyBulk(f, &rest[0]) != nil {
					return
				}
				rest = rest[1:]
				continue
			}
			batch, n := gather(rest)
			if f.Apply(batch, n < len(rest) || l.engine.waiting()) != nil {
				return
			}
			rest = rest[n:]
		}
	}
}

// applyBulk gives the engine a batch whose payloads have to be read first. Nobody
// before it waits for that, and they stay in memory no longer than it takes.
func (l *life) applyBulk(f *feed.Feeder, t *replica.Task) error {
	if err := f.Drain(); err != nil {
		return err
	}
	if err := t.Load(l.node.log); err != nil {
		l.applyFailed(err)
		return err
	}
	defer t.Unload()
	if err := f.Apply(*t.Apply, false); err != nil {
		return err
	}
	return f.Drain()
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

// shown follows when something has become visible.
func (l *life) shown(at applier.Position, transactions int) {
	l.node.counters.applied.Add(uint64(transactions))
	l.node.visible.broadcast()
	l.inbox.put(replica.Applied{Index: at.Index})
}

// applyFailed is told once what keeps the engine from going on. A
// *applier.TransactionError names the transaction; everything before it, or before
// its batch where batches are visible at once, is visible then.
func (l *life) applyFailed(err error) { l.node.fail(fmt.Errorf("engine: %w", err)) }

func (l *life) engineTask(t replica.Task) error {
	switch {
	case t.Export != nil:
		l.pinExport(t.Export)
	case t.Check != nil:
		return l.pinCheck(t.Check)
	default:
		l.flushes.put(struct{}{})
	}
	return nil
}
