package pebblekv

import (
	"errors"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/concordatdb/concordat/applier"
	"github.com/concordatdb/concordat/gtid"
)

// addBatch is the batch to index of one transaction that adds 1 to key "n"
// times over.
func addBatch(index uint64, times int) applier.Batch {
	var payload []byte
	for range times {
		payload = applier.AppendMutation(payload, applier.Mutation{
			Op: applier.OpAdd, Table: table, Key: []byte("n"), Delta: 1,
		})
	}
	return applier.Batch{
		Transactions: []applier.Transaction{{GTID: gtid.GTID{UUID: gtid.UUID{1}, Number: index}, Payload: payload}},
		To:           applier.Position{Index: index},
	}
}

func counterAt(t *testing.T, e *Engine) int64 {
	t.Helper()
	s, err := e.Begin()
	if err != nil {
		t.Fatal(err)
	}
	value, _, err := s.Get(table, []byte("n"))
	n, ok := applier.DecodeCounter(value)
	if !ok || err != nil {
		t.Fatalf("value %x, %v, want a counter", value, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return n
}

// TestAddReadsOnce spoils the counter in the database behind the engine's back:
// an add that read it again would be refused.
func TestAddReadsOnce(t *testing.T) {
	fs := vfs.NewMem()
	e := mustOpen(t, fs)
	mustApply(t, e, addBatch(1, 40))
	mustClose(t, e)

	e = mustOpen(t, fs)
	s := e.store
	add := applier.Mutation{Op: applier.OpAdd, Table: table, Key: []byte("n"), Delta: 1}
	key := appendKey(nil, table, []byte("n"))
	d := &s.builder.shards[0]
	d.pairs.begin()
	if err := d.mutate(s, &write{mutation: add, key: key}); err != nil {
		t.Fatal(err)
	}
	if err := s.db.Set(key, []byte("text"), pebble.NoSync); err != nil {
		t.Fatal(err)
	}
	if err := d.mutate(s, &write{mutation: add, key: key}); err != nil {
		t.Errorf("second add of a batch: %v", err)
	}
	s.builder.release()
	// Nothing has been committed, so the engine does not know the counter.
	if err := e.Apply(addBatch(2, 1)); !errors.Is(err, applier.ErrPayload) {
		t.Errorf("add to a value that is no counter: %v, want %v", err, applier.ErrPayload)
	}
	if err := s.db.Set(key, applier.AppendCounter(nil, 40), pebble.NoSync); err != nil {
		t.Fatal(err)
	}
	mustApply(t, e, addBatch(3, 1))
	if err := s.db.Set(key, []byte("text"), pebble.NoSync); err != nil {
		t.Fatal(err)
	}
	mustApply(t, e, addBatch(4, 1))
	if got := counterAt(t, e); got != 42 {
		t.Errorf("counter at %d, want 42", got)
	}
	mustClose(t, e)
}

// TestAddAllocatesNothing compares batches of few and of many adds.
func TestAddAllocatesNothing(t *testing.T) {
	e := mustOpen(t, vfs.NewMem())
	var index uint64
	allocations := func(times int) float64 {
		b := addBatch(0, times)
		return testing.AllocsPerRun(20, func() {
			index++
			b.To.Index = index
			mustApply(t, e, b)
		})
	}
	allocations(2000) // so that what is kept between batches has its size
	if few, many := allocations(1), allocations(2000); many > few+10 {
		t.Errorf("%v allocations for 2000 adds, %v for one", many, few)
	}
	if got := counterAt(t, e); got != 21*(2000+1+2000) {
		t.Errorf("counter at %d", got)
	}
	mustClose(t, e)
}

// TestAddLeavesOneRecord checks that a hot counter costs a batch one record,
// however many adds there are.
func TestAddLeavesOneRecord(t *testing.T) {
	e := mustOpen(t, vfs.NewMem())
	s := e.store
	x := &built{batch: s.db.NewBatch()}
	if err := s.build(x, addBatch(1, 500), s.visible.Load()); err != nil {
		t.Fatal(err)
	}
	if n := x.batch.Count(); n != 2 { // the counter's, and the position's
		t.Errorf("%d records, want 2", n)
	}
	if err := x.batch.Close(); err != nil {
		t.Fatal(err)
	}
	mustClose(t, e)
}
