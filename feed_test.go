package concordat_test

import (
	"context"
	"errors"
	"path/filepath"
	"sync"
	"testing"

	"github.com/concordatdb/concordat"
	"github.com/concordatdb/concordat/applier"
	"github.com/concordatdb/concordat/examples/memengine"
	"github.com/concordatdb/concordat/gtid"
)

// interruptedEngine executes side by side, and can be told to stop inside of a run:
// it makes one more transaction visible, and nothing after that.
type interruptedEngine struct {
	*memengine.Engine
	stop chan struct{} // a token stops it
	mu   sync.Mutex
	of   map[applier.Execution]*applier.Transaction
}

func newInterruptedEngine(t testing.TB, dir string) *interruptedEngine {
	t.Helper()
	e, err := memengine.Open(filepath.Join(dir, "memory"))
	if err != nil {
		t.Fatal(err)
	}
	return &interruptedEngine{Engine: e, stop: make(chan struct{}, 1), of: map[applier.Execution]*applier.Transaction{}}
}

func (e *interruptedEngine) Execute(ctx context.Context, t *applier.Transaction, attempt int) (applier.Execution, error) {
	x, err := e.Engine.Execute(ctx, t, attempt)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.of[x] = t
	return x, err
}

func (e *interruptedEngine) Commit(run []applier.Execution, to applier.Position) error {
	if len(run) > 0 {
		select {
		case <-e.stop:
			e.mu.Lock()
			first := e.of[run[0]]
			e.mu.Unlock()
			return errors.Join(e.Engine.Commit(run[:1], e.Position().After(first)), errFaulty)
		default:
		}
	}
	return e.Engine.Commit(run, to)
}

// TestParallelEngine has members with different engines in one group. One executes
// side by side, is interrupted inside of a log entry, and goes on there: a sum would
// show what was applied twice, or not at all.
func TestParallelEngine(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	g := openGroup(t, 2)
	cfg := joiner(t, g.nodes[0])
	first := newInterruptedEngine(t, cfg.Dir)
	cfg.Engine, cfg.ApplyWorkers = first, 4
	n := mustOpen(t, cfg)
	sum := concordat.Table{Schema: "bank", Name: "sums"}
	count := func(times int) {
		var callers sync.WaitGroup
		for range 8 {
			callers.Go(func() {
				for range times {
					if _, err := g.nodes[0].Update(ctx, func(tx *concordat.Tx) error { return tx.Add(sum, []byte("n"), 1) }); err != nil {
						t.Error(err)
					}
				}
			})
		}
		callers.Wait()
	}
	count(10)
	mustAgree(t, g.nodes[0], g.nodes[1], n)
	first.stop <- struct{}{}
	count(10)
	if _, err := n.WaitState(ctx, func(s concordat.State) bool { return s == concordat.Error }); err != nil {
		t.Fatal(err)
	}
	if at := first.Position(); at.Part != 1 || at.Reached() != at.Index+1 {
		t.Errorf("the engine was interrupted at %d and %d of the next entry", at.Index, at.Part)
	}
	mustClose(t, n)

	cfg = again(n, cfg)
	cfg.Engine = newInterruptedEngine(t, cfg.Dir)
	n = mustOpen(t, cfg)
	count(10)
	mustAgree(t, g.nodes[0], g.nodes[1], n)
	err := n.View(ctx, func(tx *concordat.Tx) error {
		value, _, err := tx.Get(sum, []byte("n"))
		if got, ok := applier.DecodeCounter(value); !ok || got != 240 {
			t.Errorf("the sum is %d, want 240", got)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// standingEngine is at a position.
type standingEngine struct {
	applier.Engine
	at applier.Position
}

func (e standingEngine) Position() applier.Position { return e.at }

// TestGivenAgainInsideEntry: what is given again to an engine that shows an entry in
// part is the rest of it, also where it was given no more than that, since it was
// started there.
func TestGivenAgainInsideEntry(t *testing.T) {
	t.Parallel()
	name := func(n uint64) gtid.GTID { return gtid.GTID{UUID: gtid.UUID{1}, Number: n} }
	tx := func(n, index uint64) applier.Transaction {
		return applier.Transaction{GTID: name(n), Index: index, Payload: []byte{byte(n)}}
	}
	set := func(n uint64) gtid.Set { return gtid.Set{}.AddInterval(gtid.UUID{1}, "", 1, n) }
	e := standingEngine{at: applier.Position{Index: 4, Part: 2, Executed: set(3)}}
	whole := []applier.Transaction{tx(1, 4), tx(2, 5), tx(3, 5), tx(4, 5), tx(5, 5), tx(6, 6)}
	for first := range 4 {
		given := []applier.Batch{
			{To: applier.Position{Index: 4, Executed: set(1)}},
			{Transactions: whole[first:], To: applier.Position{Index: 6, Executed: set(6)}},
		}
		again := concordat.GivenAgain(e, given, name(5))
		if len(again) != 1 || len(again[0].Transactions) != 3 {
			t.Fatalf("from transaction %d on: %+v", first+1, again)
		}
		for i, x := range again[0].Transactions {
			if n := uint64(4 + i); x.GTID != name(n) || (x.Payload == nil) != (n == 5) {
				t.Errorf("from transaction %d on, number %d is %v with payload %x", first+1, i, x.GTID, x.Payload)
			}
		}
	}
	if whole[4].Payload == nil {
		t.Error("what was given has changed")
	}
}
