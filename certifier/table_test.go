package certifier

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// unmixer undoes mix, modulo 1<<64: each step of Newton's doubles the bits that
// are right.
var unmixer = func() uint64 {
	x := uint64(mixer)
	for range 6 {
		x *= 2 - mixer*x
	}
	return x
}()

func (t *table) check() error {
	if t.count < 1<<t.level || t.count >= 2<<t.level {
		return fmt.Errorf("invariant 1: %d segments at level %d", t.count, t.level)
	}
	used, room := 0, 0
	for i := range uint64(t.count) {
		s := *t.at(i)
		used += len(s)
		room += cap(s)
		if len(s) > crowded {
			return fmt.Errorf("invariant 3: segment %d of %d slots", i, len(s))
		}
		for j, x := range s {
			if at, _ := t.locate(x.key); at != i {
				return fmt.Errorf("invariant 1: key %x of segment %d is in segment %d", x.key, at, i)
			}
			if j > 0 && s[j-1].key >= x.key {
				return fmt.Errorf("invariant 2: key %x before %x", s[j-1].key, x.key)
			}
			if _, twice := t.crowd[x.key]; twice {
				return fmt.Errorf("invariant 4: key %x is in the crowd too", x.key)
			}
		}
	}
	if used != t.used {
		return fmt.Errorf("invariant 3: %d slots are used, not %d", used, t.used)
	}
	if len(t.chunks) != (t.count+segmentChunk-1)/segmentChunk {
		return fmt.Errorf("%d chunks for %d segments", len(t.chunks), t.count)
	}
	return nil
}

// get looks up one key.
func (t *table) get(key uint64) uint64 {
	var stamps [lookupBatch]uint64
	t.lookup(binary.LittleEndian.AppendUint64(nil, key*unmixer), &stamps)
	return stamps[0]
}

func (t *table) contents() (all []slot) {
	t.each(func(key, stamp uint64) { all = append(all, slot{key, stamp}) })
	return all
}

// tableModel is a table and a map side by side.
type tableModel struct {
	table
	all  map[uint64]uint64 // what was put, dead or alive
	next uint64
	keys func(i uint64) uint64
}

func newTableModel(keys func(i uint64) uint64) *tableModel {
	return &tableModel{table: newTable(), all: map[uint64]uint64{}, next: 1, keys: keys}
}

func (m *tableModel) put(t *rapid.T, i uint64, k Kind) {
	key, stamp := m.keys(i), stampOf(m.next, k)
	m.next++
	old := m.swap(key, stamp)
	if want := m.all[key]; old != want && (old != 0 || !m.dead(want)) {
		t.Fatalf("key %x had %x, want %x", key, old, want)
	}
	m.all[key] = stamp
}

// putBatch looks keys up together and then puts them where that found them,
// though the puts before may have moved, squeezed and split.
func (m *tableModel) putBatch(t *rapid.T, numbers []uint64, k Kind) {
	var items []byte
	for _, i := range numbers {
		items = binary.LittleEndian.AppendUint64(items, m.keys(i)*unmixer)
	}
	var stamps [lookupBatch]uint64
	if n := m.lookup(items, &stamps); n != len(numbers) {
		t.Fatalf("looked up %d of %d", n, len(numbers))
	}
	for at, i := range numbers {
		key, stamp := m.keys(i), stampOf(m.next, k)
		m.next++
		old := m.swapAt(&m.finds[at], stamp)
		if want := m.all[key]; old != want && (old != 0 || !m.dead(want)) {
			t.Fatalf("key %x had %x, want %x", key, old, want)
		}
		m.all[key] = stamp
	}
}

func (m *tableModel) check(t *rapid.T, span uint64) {
	if err := m.table.check(); err != nil {
		t.Fatal(err)
	}
	var want []slot
	for key, stamp := range m.all {
		if !m.dead(stamp) {
			want = append(want, slot{key, stamp})
		}
	}
	slices.SortFunc(want, func(a, b slot) int { return cmp.Compare(a.key, b.key) })
	if got := m.contents(); !slices.Equal(got, want) {
		t.Fatalf("contents %x, want %x", got, want)
	}
	for range 8 {
		key := m.keys(rapid.Uint64Range(0, span).Draw(t, "key"))
		if got, want := m.get(key), m.all[key]; got != want && (got != 0 || !m.dead(want)) {
			t.Fatalf("key %x has %x, want %x", key, got, want)
		}
	}
}

// keysets are ways in which keys can lie: spread as hashes are, all in one
// segment as an attacker would have them, close together, or both.
var keysets = map[string]func(i uint64) uint64{
	"spread":   func(i uint64) uint64 { return i * 0x9e3779b97f4a7c15 },
	"crowded":  func(i uint64) uint64 { return 0xabcdef<<40 | i*7919 },
	"adjacent": func(i uint64) uint64 { return i },
	"mixed": func(i uint64) uint64 {
		if i%3 == 0 {
			return i
		}
		return i * 0x9e3779b97f4a7c15
	},
}

// TestTable runs random puts, deaths and sweeps through a table and a map.
func TestTable(t *testing.T) {
	for _, name := range slices.Sorted(maps.Keys(keysets)) {
		t.Run(name, func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				m := newTableModel(keysets[name])
				span := rapid.SampledFrom([]uint64{20, 300, 5000}).Draw(t, "range")
				for range rapid.IntRange(1, 20).Draw(t, "steps") {
					switch rapid.SampledFrom([]string{"put", "batch", "kill", "sweep", "refill"}).Draw(t, "step") {
					case "put":
						random := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
						for range rapid.IntRange(1, 1500).Draw(t, "n") {
							m.put(t, random.Uint64N(span), Kind(random.IntN(3)))
						}
					case "batch":
						random := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
						for range rapid.IntRange(1, 20).Draw(t, "n") {
							numbers := make([]uint64, 1+random.IntN(lookupBatch))
							for i := range numbers {
								numbers[i] = random.Uint64N(span)
							}
							m.putBatch(t, numbers, Kind(random.IntN(3)))
						}
					case "kill":
						k := Kind(rapid.IntRange(0, 2).Draw(t, "kind"))
						m.kill(k, rapid.Uint64Range(m.live[k], m.next).Draw(t, "live"))
					case "sweep":
						m.sweep(rapid.IntRange(1, 3000).Draw(t, "slots"))
					case "refill":
						m.refill()
					}
					m.check(t, span)
				}
			})
		})
	}
}

// refill replaces the table by one that was filled from its contents.
func (m *tableModel) refill() {
	all := m.contents()
	again := newTable()
	again.live = m.live
	f := again.fill(len(all))
	for _, x := range all {
		f.add(x.key, x.stamp)
	}
	f.flush()
	m.table = again
}

// TestTableIsGivenBack fills a table, kills all of it, and checks what is left
// when sweeps have gone over it.
func TestTableIsGivenBack(t *testing.T) {
	for _, name := range slices.Sorted(maps.Keys(keysets)) {
		tab := newTable()
		const n = 40_000
		for i := range uint64(n) {
			tab.swap(keysets[name](i), stampOf(i+1, Write))
		}
		tab.kill(Write, n+1)
		for range n / 4 {
			tab.sweep(8)
		}
		if err := tab.check(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if tab.used != 0 || tab.count != 1 || len(tab.crowd) != 0 || cap(*tab.at(0)) > 8 {
			t.Errorf("%s: %d slots, %d segments, %d in the crowd are left, room for %d",
				name, tab.used, tab.count, len(tab.crowd), cap(*tab.at(0)))
		}
	}
}

// TestTableRoom holds the table to its budget of memory as it grows, and when
// it is steady.
func TestTableRoom(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	tab := newTable()
	perSlot := func() float64 {
		bytes := len(tab.chunks) * segmentChunk * 24
		for i := range uint64(tab.count) {
			bytes += cap(*tab.at(i)) * 16
		}
		alive := 0
		tab.each(func(_, _ uint64) { alive++ })
		return float64(bytes) / float64(alive)
	}
	worst := 0.0
	const window = 200_000
	n := uint64(0)
	for ; n < window; n++ {
		tab.swap(random.Uint64(), stampOf(n+1, Write))
		if n > 20_000 && n%1000 == 0 {
			worst = max(worst, perSlot())
		}
	}
	if worst > 20 {
		t.Errorf("%.1f bytes for each item while it grows", worst)
	}
	for worst = 0; n < 4*window; n++ {
		tab.swap(random.Uint64(), stampOf(n+1, Write))
		tab.sweep(8)
		if n%1000 == 0 {
			tab.kill(Write, n+1-window)
		}
		if n%20_000 == 10_000 {
			worst = max(worst, perSlot())
		}
	}
	t.Logf("steady: %.1f bytes for each item", worst)
	if worst > 26 {
		t.Errorf("%.1f bytes for each item when it is steady", worst)
	}
}

// TestSweepGoesRound kills all of a table behind a sweep that has come to any of its
// segments: those that are joined and split on the way make it miss none.
func TestSweepGoesRound(t *testing.T) {
	for n := uint64(100); n < 3000; n += 100 {
		for before := 0; before < 40; before += 3 {
			tab := newTable()
			put := func(from, to uint64) {
				for i := from; i < to; i++ {
					tab.swap(keysets["mixed"](i), stampOf(i+1, Write))
				}
			}
			put(0, n)
			tab.kill(Write, 2)
			for range before {
				tab.sweep(1) // a segment
			}
			put(n, n+n/3)
			tab.kill(Write, 2*n)
			tab.sweep(1 << 20)
			if tab.used != 0 || tab.count != 1 || len(tab.crowd) != 0 {
				t.Fatalf("of %d items, behind %d segments swept, %d slots are left in %d segments, %d in the crowd", n, before, tab.used, tab.count, len(tab.crowd))
			}
		}
	}
}
