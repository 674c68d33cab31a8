package concordat_test

import (
	"errors"
	"testing"

	"github.com/concordatdb/concordat"
)

// What is meant for an epoch does not commit by a right of a later one, not even on
// a member that has lost the right and got it back while it was running.
func TestInEpoch(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	g := openGroup(t, 3, single)
	mustBePrimary(t, g.nodes[0], g.nodes...)
	begin := func(opts ...concordat.TxOption) *concordat.Tx {
		t.Helper()
		tx, err := g.nodes[0].Begin(ctx, opts...)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = tx.Rollback() })
		if err := tx.Put(accounts, []byte("k"+tx.ID().String()), nil); err != nil {
			t.Fatal(err)
		}
		return tx
	}
	bound, free := begin(concordat.InEpoch(1)), begin()
	for _, next := range []int{1, 0} {
		if _, err := g.nodes[2].SetPrimary(ctx, uuid(g.nodes[next]), concordat.Grace(0)); err != nil {
			t.Fatal(err)
		}
		mustBePrimary(t, g.nodes[next], g.nodes...)
	}
	if _, err := bound.Commit(ctx); !errors.Is(err, concordat.ErrReadOnly) {
		t.Errorf("committed by the right of a later epoch: %v", err)
	}
	if _, err := free.Commit(ctx); err != nil {
		t.Errorf("one that was not bound: %v", err)
	}
	for _, epoch := range []uint64{1, 2, 4} {
		_, err := g.nodes[0].Begin(ctx, concordat.InEpoch(epoch))
		if e, ok := errors.AsType[*concordat.ReadOnlyError](err); !ok || e.Epoch != 3 {
			t.Errorf("begun for epoch %d in epoch 3: %v", epoch, err)
		}
		calls := 0
		_, err = g.nodes[0].Update(ctx, func(*concordat.Tx) error { calls++; return nil }, concordat.InEpoch(epoch))
		if !errors.Is(err, concordat.ErrReadOnly) || calls != 0 {
			t.Errorf("run %d times for epoch %d: %v", calls, epoch, err)
		}
	}
	if _, err := begin(concordat.InEpoch(3)).Commit(ctx); err != nil {
		t.Errorf("in its epoch: %v", err)
	}
}
