package simdisk

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/concordatdb/concordat/applier"
	"github.com/concordatdb/concordat/applier/enginetest"
	"github.com/concordatdb/concordat/gtid"
)

// engineHarness is an Engine, which is its own disk.
type engineHarness struct{ e *Engine }

func (h engineHarness) Engine() applier.Engine { return h.e }

func (h engineHarness) Reopen() error {
	h.e.Reopen()
	return nil
}

func (h engineHarness) Crash(rng *rand.Rand) error {
	h.e.Crash(func(unsynced int) int { return rng.IntN(unsynced + 1) })
	return nil
}

func (h engineHarness) Close() error { return nil }

func TestEngineConformance(t *testing.T) {
	enginetest.Run(t, enginetest.Options{
		Open: func(testing.TB) enginetest.Harness { return engineHarness{NewEngine()} },
	})
}

func TestEngineConformanceOfChanges(t *testing.T) {
	enginetest.RunChanges(t, enginetest.Options{
		Open: func(testing.TB) enginetest.Harness {
			e := NewEngine()
			e.KeepChanges(1 << 20)
			return engineHarness{e}
		},
		Changes: true,
	})
}

// TestEngineForgetsChanges checks that no more is kept than was asked for but for a
// batch, and that it is said what is gone.
func TestEngineForgetsChanges(t *testing.T) {
	e := NewEngine()
	if _, err := e.FindChanges(gtid.Set{}); !errors.Is(err, applier.ErrChangesOff) {
		t.Errorf("find: %v", err)
	}
	e.KeepChanges(3)
	place, err := e.FindChanges(gtid.Set{})
	if err != nil {
		t.Fatal(err)
	}
	fillEngine(t, e, 1, 10)
	if _, _, err := e.ReadChanges(place, 1); !errors.Is(err, applier.ErrChangesMoved) {
		t.Errorf("read: %v", err)
	}
	_, err = e.FindChanges(gtid.Set{})
	gone, ok := errors.AsType[*applier.ChangesGoneError](err)
	if !ok || gone.Missing.Count() != 7 {
		t.Fatalf("find: %v", err)
	}
	if place, err = e.FindChanges(gone.Missing); err != nil {
		t.Fatal(err)
	}
	if records, _, err := e.ReadChanges(place, 1<<20); err != nil || len(records) != 3 || records[0].Index != 8 {
		t.Errorf("what is kept is %+v, %v", records, err)
	}
}

var accounts = applier.Table{Schema: "bank", Name: "accounts"}

// fillEngine applies one batch for each index from first to last.
func fillEngine(t testing.TB, e *Engine, first, last uint64) {
	t.Helper()
	for i := first; i <= last; i++ {
		m := applier.Mutation{Op: applier.OpPut, Table: accounts, Key: []byte{byte(i)}, Value: []byte("v")}
		b := applier.Batch{
			Transactions: []applier.Transaction{{
				GTID: gtid.GTID{UUID: gtid.UUID{1}, Number: i}, Index: i, Payload: applier.AppendMutation(nil, m),
			}},
			To: applier.Position{Index: i, Executed: gtid.Set{}.AddInterval(gtid.UUID{1}, "", 1, i)},
		}
		if err := e.Apply(b); err != nil {
			t.Fatal(err)
		}
	}
}

func durable(t *testing.T, e *Engine) uint64 {
	t.Helper()
	index, err := e.Durable()
	if err != nil {
		t.Fatal(err)
	}
	return index
}

// TestEngineCrash checks what each crash leaves of batches 1 to 10, synced to 4.
func TestEngineCrash(t *testing.T) {
	for _, c := range []struct {
		keep int
		want uint64
	}{{-1, 4}, {0, 4}, {1, 5}, {5, 9}, {6, 10}, {7, 10}} {
		e := NewEngine()
		fillEngine(t, e, 1, 10)
		e.SyncTo(4)
		e.Crash(func(unsynced int) int {
			if unsynced != 6 {
				t.Errorf("%d batches unsynced, want 6", unsynced)
			}
			return c.keep
		})
		if got := e.Position().Index; got != c.want || durable(t, e) != c.want {
			t.Errorf("keeping %d: position %d, durable %d, want %d", c.keep, got, durable(t, e), c.want)
		}
		fillEngine(t, e, c.want+1, 12)
	}
}

func TestEngineSyncTo(t *testing.T) {
	e := NewEngine()
	fillEngine(t, e, 3, 6)
	for _, c := range []struct{ to, want uint64 }{{2, 0}, {4, 4}, {3, 4}, {100, 6}} {
		e.SyncTo(c.to)
		if got := durable(t, e); got != c.want {
			t.Errorf("synced to %d: durable %d, want %d", c.to, got, c.want)
		}
	}
}

func TestEngineBoundsUnsynced(t *testing.T) {
	e := NewEngine()
	fillEngine(t, e, 1, MaxUnsynced+10)
	if n := e.Unsynced(); n != MaxUnsynced {
		t.Errorf("%d batches unsynced, the limit is %d", n, MaxUnsynced)
	}
	if got := durable(t, e); got != 10 {
		t.Errorf("durable %d, want 10", got)
	}
}

// FuzzEngineExport checks that no stream makes Import panic or leave half a
// state.
func FuzzEngineExport(f *testing.F) {
	f.Add([]byte(engineExportMagic))
	e := NewEngine()
	x, err := e.NewExport()
	if err != nil {
		f.Fatal(err)
	}
	var out bytes.Buffer
	if err := x.WriteTo(f.Context(), &out, 0); err != nil {
		f.Fatal(err)
	}
	f.Add(out.Bytes())
	e.KeepChanges(10)
	fillEngine(f, e, 1, 3)
	if x, err = e.NewExport(); err != nil {
		f.Fatal(err)
	}
	var kept bytes.Buffer
	if err := x.WriteTo(f.Context(), &kept, 0); err != nil {
		f.Fatal(err)
	}
	f.Add(kept.Bytes())
	f.Fuzz(func(t *testing.T, stream []byte) {
		e := NewEngine()
		fillEngine(t, e, 1, 3)
		_, err := e.Import(t.Context(), bytes.NewReader(stream))
		if err != nil && (!errors.Is(err, errEngineExport) || e.Position().Index != 3) {
			t.Errorf("import: %v, position %d", err, e.Position().Index)
		}
	})
}
