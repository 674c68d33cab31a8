package simdisk

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/concordatdb/concordat/applier"
	"github.com/concordatdb/concordat/applier/enginetest"
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

var accounts = applier.Table{Schema: "bank", Name: "accounts"}

// fillEngine applies one batch for each index from first to last.
func fillEngine(t *testing.T, e *Engine, first, last uint64) {
	t.Helper()
	for i := first; i <= last; i++ {
		m := applier.Mutation{Op: applier.OpPut, Table: accounts, Key: []byte{byte(i)}, Value: []byte("v")}
		b := applier.Batch{
			Transactions: []applier.Transaction{{Payload: applier.AppendMutation(nil, m)}},
			To:           applier.Position{Index: i},
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
	f.Fuzz(func(t *testing.T, stream []byte) {
		e := NewEngine()
		fillEngine(t, e, 1, 3)
		_, err := e.Import(t.Context(), bytes.NewReader(stream))
		if err != nil && (!errors.Is(err, errEngineExport) || e.Position().Index != 3) {
			t.Errorf("import: %v, position %d", err, e.Position().Index)
		}
	})
}
