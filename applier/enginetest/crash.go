package enginetest

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/concordatdb/concordat/applier"
)

// seeds is how many crashes of each kind the suite tries.
const seeds = 24

// crash loses power at random moments. What is left must be the state after
// some batch, not before what Durable had promised.
func (s *suite) crash(t *testing.T) {
	for seed := range uint64(seeds) {
		rng := rand.New(rand.NewPCG(seed, 0))
		h, m := s.open(t), newModel()
		for range 3 {
			e := h.Engine()
			past := history{}
			past.add(m)
			for range rng.IntN(30) {
				m.apply(t, e, m.certifiable(randomTx(rng), randomTx(rng))...)
				past.add(m)
				if rng.IntN(8) == 0 {
					if err := e.Flush(t.Context()); err != nil {
						t.Fatal(err)
					}
				}
			}
			durable, err := e.Durable()
			if err != nil {
				t.Fatal(err)
			}
			if err := crash(h, rng); err != nil {
				t.Fatal(err)
			}
			if m, err = past.after(h.Engine(), durable); err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			m.check(t, h.Engine())
		}
	}
}

// history holds the model after each batch, by log index.
type history map[uint64]*model

func (h history) add(m *model) { h[m.position.Index] = m.clone() }

// after returns the model of where e came up after a crash.
func (h history) after(e applier.Engine, durable uint64) (*model, error) {
	at := e.Position().Index
	m := h[at]
	if m == nil || at < durable {
		return nil, fmt.Errorf("after a crash at index %d, which ends no batch or is below the durable %d", at, durable)
	}
	if d, err := e.Durable(); err != nil || d < durable {
		return nil, fmt.Errorf("durable after a crash: %d, %v, was %d", d, err, durable)
	}
	return m.clone(), nil
}

func randomTx(rng *rand.Rand) (muts tx) {
	for range rng.IntN(6) {
		t, k := tables[rng.IntN(len(tables))], keys[rng.IntN(len(keys))]
		switch rng.IntN(4) {
		case 0:
			muts = append(muts, del(t, k))
		case 1:
			muts = append(muts, add(accounts, keys[rng.IntN(3)], rng.Int64()-rng.Int64()))
		default:
			muts = append(muts, put(t, k, fmt.Sprint(rng.Uint64())))
		}
	}
	return muts
}

// crashDuringImport loses power while Import reads, and after it has returned.
func (s *suite) crashDuringImport(t *testing.T) {
	m := newModel()
	donor := s.open(t).Engine()
	m.fill(t, donor, "new")
	if err := donor.Flush(t.Context()); err != nil { // so that there is more to the export than a log
		t.Fatal(err)
	}
	stream := exportOf(t.Context(), t, donor)
	for seed := range uint64(seeds) {
		rng := rand.New(rand.NewPCG(seed, 1))
		h, old := s.open(t), newModel()
		old.fill(t, h.Engine(), "old")
		if err := h.Engine().Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		crashed := false
		at := rng.IntN(len(stream))
		r := io.MultiReader(bytes.NewReader(stream[:at]), &hookReader{func() {
			if crashed = true; crash(h, rng) != nil {
				t.Fatal("no engine after a crash")
			}
		}}, bytes.NewReader(stream[at:]))
		// What the call on the engine that lost power returns is lost too.
		_, _ = h.Engine().Import(t.Context(), r)
		if !crashed {
			t.Fatalf("import read less than %d bytes", at)
		}
		old.check(t, h.Engine())

		if _, err := h.Engine().Import(t.Context(), bytes.NewReader(stream)); err != nil {
			t.Fatal(err)
		}
		if err := crash(h, rng); err != nil {
			t.Fatal(err)
		}
		m.check(t, h.Engine())
	}
}

// hookReader is empty and calls a function when that is found out.
type hookReader struct{ call func() }

func (r *hookReader) Read([]byte) (int, error) {
	r.call()
	return 0, io.EOF
}
