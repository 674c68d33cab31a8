package enginetest

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/concordatdb/concordat/applier"
)

// adds checks what deltas lead to, key "n" of accounts after each case.
func (s *suite) adds(t *testing.T) {
	n := func(delta int64) applier.Mutation { return add(accounts, "n", delta) }
	set := func(at int64) applier.Mutation { return put(accounts, "n", counter(at)) }
	gone := del(accounts, "n")
	for _, c := range []struct {
		what    string
		batches [][]tx
		want    int64
	}{
		{"to a missing key", [][]tx{{{n(5)}}}, 5},
		{"nothing to a missing key", [][]tx{{{n(0)}}}, 0},
		{"negative", [][]tx{{{n(-5)}}}, -5},
		{"after a put", [][]tx{{{set(10)}}, {{n(5)}}}, 15},
		{"after a put in the batch", [][]tx{{{set(10)}, {n(5)}}}, 15},
		{"after a put in the transaction", [][]tx{{{set(10), n(5)}}}, 15},
		{"before a put", [][]tx{{{n(5)}}, {{set(10)}}}, 10},
		{"before a put in the batch", [][]tx{{{n(5)}, {set(10)}}}, 10},
		{"before a put in the transaction", [][]tx{{{n(5), set(10)}}}, 10},
		{"after a delete", [][]tx{{{set(10)}}, {{gone}}, {{n(5)}}}, 5},
		{"after a delete in the batch", [][]tx{{{set(10)}}, {{gone}, {n(5)}}}, 5},
		{"after a delete in the transaction", [][]tx{{{set(10)}}, {{gone, n(5)}}}, 5},
		{"after a put and a delete", [][]tx{{{set(10), gone, n(5)}}}, 5},
		{"around a delete", [][]tx{{{n(5), gone, n(7)}}}, 7},
		{"after a delete of what was no counter", [][]tx{{{put(accounts, "n", "text")}}, {{gone}, {n(5)}}}, 5},
		{"several in a transaction", [][]tx{{{n(1), n(2), n(4)}}}, 7},
		{"several in a batch", [][]tx{{{n(1)}, {n(2)}, {n(4)}}}, 7},
		{"several batches", [][]tx{{{n(1)}}, {{n(2)}}, {{}}, {{n(4)}}}, 7},
		{"all of it", [][]tx{{{n(1), n(2)}, {n(4)}}, {{n(8)}, {n(16), n(32)}}}, 63},
		{"back to 0", [][]tx{{{n(3)}}, {{n(-3)}}}, 0},
		{"up to the end", [][]tx{{{set(math.MaxInt64 - 1)}}, {{n(1)}}}, math.MaxInt64},
		{"beyond the end", [][]tx{{{set(math.MaxInt64)}}, {{n(1)}}}, math.MinInt64},
		{"beyond the beginning", [][]tx{{{set(math.MinInt64)}}, {{n(-1)}}}, math.MaxInt64},
		{"beyond and back", [][]tx{{{n(math.MaxInt64), n(3)}, {n(-3)}}}, math.MaxInt64},
		{"twice the beginning", [][]tx{{{n(math.MinInt64)}}, {{n(math.MinInt64)}}}, 0},
	} {
		t.Run(c.what, func(t *testing.T) {
			h, m := s.open(t), newModel()
			// A neighbour, to see that sums do not get mixed up.
			m.apply(t, h.Engine(), tx{add(accounts, "n\x00", 1000)})
			for _, txs := range c.batches {
				m.apply(t, h.Engine(), txs...)
				m.check(t, h.Engine())
				m.apply(t, h.Engine(), tx{add(accounts, "n\x00", 1)})
			}
			s.checkCounter(t, h, c.want)
			if err := h.Reopen(); err != nil {
				t.Fatal(err)
			}
			m.check(t, h.Engine())
			// An engine that has just been opened remembers no sums.
			m.apply(t, h.Engine(), tx{n(11)}, tx{n(11)})
			m.check(t, h.Engine())
			s.checkCounter(t, h, c.want+22)
		})
	}
}

// checkCounter checks key "n", and that what the adds led to cannot be told from
// what puts of the same values lead to.
func (s *suite) checkCounter(t *testing.T, h Harness, want int64) {
	t.Helper()
	snap := begin(t, h.Engine())
	value, ok, err := snap.Get(accounts, []byte("n"))
	if at, isCounter := applier.DecodeCounter(value); !ok || err != nil || !isCounter || at != want {
		t.Fatalf("value %x, %v, %v, want a counter at %d", value, ok, err, want)
	}
	var puts tx
	for k, v := range snap.Scan(accounts, nil, nil, false) {
		puts = append(puts, put(accounts, string(k), string(v)))
	}
	closeIt(t, snap)
	twin := s.open(t).Engine()
	newModel().apply(t, twin, puts)
	got, _, err := h.Engine().Digest()
	if err != nil {
		t.Fatal(err)
	}
	if want, _, err := twin.Digest(); got != want || err != nil {
		t.Fatalf("digest %v after adds, %v, %v after puts of the same", got, want, err)
	}
}

// addsRefused checks that a delta for what is no counter changes nothing, nor
// does what comes before it in its batch.
func (s *suite) addsRefused(t *testing.T) {
	h, m := s.open(t), newModel()
	m.apply(t, h.Engine(), tx{
		put(accounts, "0", ""), put(accounts, "7", "seven b"), put(accounts, "9", "nine byte"),
		put(accounts, "big", strings.Repeat("x", 1<<16)), put(accounts, "n", counter(40)), add(accounts, "m", 3),
	})
	if err := h.Reopen(); err != nil {
		t.Fatal(err)
	}
	for round := range 2 { // what the second meets has been read, and written, before
		e := h.Engine()
		for i, bad := range [][]tx{
			{{add(accounts, "0", 1)}},
			{{add(accounts, "7", 1)}},
			{{add(accounts, "9", 1)}},
			{{add(accounts, "big", 0)}},
			{{put(accounts, "7", "seven B"), add(accounts, "7", 1)}},
			{{put(accounts, "n", "text")}, {add(accounts, "n", 1)}},
			{{del(accounts, "n"), put(accounts, "n", ""), add(accounts, "n", 1)}},
			{{add(accounts, "new", 1), put(accounts, "new", "text"), add(accounts, "new", 1)}},
		} {
			first := tx{add(accounts, "n", 1), add(accounts, "m", 1), add(accounts, "new", 1), put(accounts, "9", counter(9))}
			to := m.position
			to.Index += 10
			b := applier.Batch{To: to}
			for _, muts := range append([]tx{first, {del(accounts, "9"), put(accounts, "9", "nine byte")}}, bad...) {
				var payload []byte
				for _, mu := range muts {
					payload = applier.AppendMutation(payload, mu)
				}
				b.Transactions = append(b.Transactions, applier.Transaction{Payload: payload})
			}
			if err := e.Apply(b); !errors.Is(err, applier.ErrPayload) {
				t.Errorf("case %d, round %d: got %v, want %v", i, round, err, applier.ErrPayload)
			}
			m.check(t, e)
		}
		m.apply(t, e, tx{add(accounts, "n", 2), add(accounts, "m", 2), put(accounts, "7", "b seven")})
		m.check(t, e)
	}
	snap := begin(t, h.Engine())
	defer closeIt(t, snap)
	for key, want := range map[string]int64{"n": 44, "m": 7} {
		value, _, err := snap.Get(accounts, []byte(key))
		if at, ok := applier.DecodeCounter(value); !ok || at != want || err != nil {
			t.Errorf("counter %q: %x, %v, want %d", key, value, err, want)
		}
	}
}

// addsCommute applies the same deltas in different orders and groupings.
func (s *suite) addsCommute(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 3))
	var deltas tx
	for i := range 200 {
		// Large ones, so that the sums wrap around on the way.
		deltas = append(deltas, add(accounts, keys[i%3], rng.Int64()-rng.Int64()))
	}
	var want applier.Digest
	for order := range 4 {
		h, m := s.open(t), newModel()
		for rest := deltas; len(rest) > 0; {
			var txs []tx
			for range 1 + rng.IntN(4) {
				n := rng.IntN(min(8, len(rest)) + 1)
				txs, rest = append(txs, rest[:n]), rest[n:]
			}
			m.apply(t, h.Engine(), txs...)
		}
		m.check(t, h.Engine())
		got, _, err := h.Engine().Digest()
		if err != nil {
			t.Fatal(err)
		}
		if order > 0 && got != want {
			t.Errorf("order %d: digest %v, want %v", order, got, want)
		}
		want = got
		rng.Shuffle(len(deltas), func(i, j int) { deltas[i], deltas[j] = deltas[j], deltas[i] })
	}
}

// crashReplay loses power and applies again what was lost, as the log does. A
// delta that is applied twice, or not at all, leaves another sum.
func (s *suite) crashReplay(t *testing.T) {
	for seed := range uint64(seeds) {
		rng := rand.New(rand.NewPCG(seed, 4))
		h, m := s.open(t), newModel()
		var log []applier.Batch
		for i := range 20 {
			txs := m.certifiable(
				tx{add(accounts, "a", 1), put(accounts, fmt.Sprint(i), "x")},
				randomTx(rng),
				tx{add(accounts, "a", 1), add(accounts, "b", rng.Int64()-rng.Int64())},
			)
			log = append(log, m.batch(txs...))
		}
		for range 6 {
			e := h.Engine()
			for _, b := range log {
				if b.To.Index <= e.Position().Index {
					continue
				}
				if err := e.Apply(b); err != nil {
					t.Fatalf("seed %d: %v", seed, err)
				}
				if rng.IntN(10) == 0 {
					if err := e.Flush(t.Context()); err != nil {
						t.Fatal(err)
					}
				}
			}
			m.check(t, e)
			if err := crash(h, rng); err != nil {
				t.Fatal(err)
			}
		}
	}
}
