package enginetest

import (
	"cmp"
	"maps"
	"slices"
	"testing"

	"github.com/concordatdb/concordat/applier"
)

// checks holds what a state is compared by against the model, slice by slice, for
// an engine that implements [applier.Checker]: budgets small and great lead
// through all pairs once, and a snapshot is not touched by what is applied later.
func (s *suite) checks(t *testing.T) {
	h := s.open(t)
	m := newModel()
	var txs []tx
	for i, table := range tables {
		var one tx
		for j, key := range keys {
			if (i+j)%3 != 0 {
				one = append(one, put(table, key, key+"of"+table.Name))
			}
		}
		txs = append(txs, one)
	}
	if err := h.Engine().Apply(m.batch(txs...)); err != nil {
		t.Fatal(err)
	}
	snapshot, err := h.Engine().Begin()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = snapshot.Close() }()
	checker, ok := snapshot.(applier.Checker)
	if !ok {
		t.Fatalf("a snapshot is a %T, and an earlier one was an applier.Checker", snapshot)
	}
	want := m.pairs()
	later := m.clone()
	if err := h.Engine().Apply(later.batch(tx{put(tables[0], "later", "1"), del(tables[1], keys[5])})); err != nil {
		t.Fatal(err)
	}
	var got []modelPair
	for at, value := range checker.Pairs(applier.Place{}) {
		got = append(got, modelPair{at.Table, string(at.Key), string(value)})
	}
	if err := checker.Err(); err != nil || !slices.Equal(got, want) {
		t.Fatalf("all pairs are %v (error %v), want %v", got, err, want)
	}
	for _, budget := range []int{1, 100, 1000, 1 << 20} {
		checkSlices(t, checker, want, budget)
	}
	checkFrom(t, checker, want)
}

// checkSlices goes through a state slice by slice.
func checkSlices(t *testing.T, c applier.Checker, want []modelPair, budget int) {
	t.Helper()
	var from applier.Place
	var sums, all [applier.SliceSums]uint64
	whole, err := applier.HashSlice(t.Context(), c, from, 1<<30)
	if err != nil || !whole.Next.IsZero() || len(whole.Pairs) != len(want) {
		t.Fatalf("the whole state is %d pairs up to %v (error %v), want %d", len(whole.Pairs), whole.Next, err, len(want))
	}
	all = whole.Sums
	seen := 0
	for range len(want) + 1 {
		slice, err := applier.HashSlice(t.Context(), c, from, budget)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range slice.Pairs {
			if p.Place.Compare(from) < 0 || seen == len(want) || p.Place.Table != want[seen].table || string(p.Place.Key) != want[seen].key {
				t.Fatalf("with %d bytes pair %d is %v, from %v on", budget, seen, p.Place, from)
			}
			seen++
		}
		for i, sum := range slice.Sums {
			sums[i] += sum
		}
		if from = slice.Next; from.IsZero() {
			break
		}
	}
	if seen != len(want) || sums != all {
		t.Errorf("with %d bytes a slice they have %d pairs, want %d; their sums are those of the whole: %t", budget, seen, len(want), sums == all)
	}
}

// checkFrom begins at each pair, and between any two.
func checkFrom(t *testing.T, c applier.Checker, want []modelPair) {
	t.Helper()
	for i, p := range want {
		at := applier.Place{Table: p.table, Key: []byte(p.key)}
		for skipped, from := range []applier.Place{at, at.After()} {
			n := 0
			for range c.Pairs(from) {
				n++
			}
			if err := c.Err(); err != nil || n != len(want)-i-skipped {
				t.Fatalf("from %v on there are %d pairs (error %v), want %d", from, n, err, len(want)-i-skipped)
			}
		}
	}
}

// modelPair is a pair with its table.
type modelPair struct {
	table      applier.Table
	key, value string
}

// pairs returns all pairs in the order of places.
func (m *model) pairs() (all []modelPair) {
	for _, t := range tables {
		for _, k := range slices.Sorted(maps.Keys(m.tables[t])) {
			all = append(all, modelPair{t, k, m.tables[t][k]})
		}
	}
	slices.SortFunc(all, func(a, b modelPair) int {
		return cmp.Or(cmp.Compare(a.table.Schema, b.table.Schema), cmp.Compare(a.table.Name, b.table.Name), cmp.Compare(a.key, b.key))
	})
	return all
}
