package concordat

import (
	"bytes"
	"cmp"
	"iter"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/concordatdb/concordat/applier"
	"github.com/concordatdb/concordat/certifier"
)

// row is a key of the model, by table.
type row struct{ table, key string }

// bufferModel is what a transaction sees, in two maps.
type bufferModel struct {
	base map[row]string
	own  map[row]*string // nil: deleted
}

func (m *bufferModel) get(r row) (string, bool) {
	if v, ok := m.own[r]; ok {
		if v == nil {
			return "", false
		}
		return *v, true
	}
	v, ok := m.base[r]
	return v, ok
}

func (m *bufferModel) scan(table string, from, to []byte, reverse bool) [][2]string {
	all := maps.Clone(m.base)
	for r := range m.own {
		all[r] = ""
	}
	var found [][2]string
	for r := range all {
		v, ok := m.get(r)
		in := r.key >= string(from) && (to == nil || r.key < string(to))
		if ok && in && r.table == table {
			found = append(found, [2]string{r.key, v})
		}
	}
	slices.SortFunc(found, func(x, y [2]string) int {
		if reverse {
			return cmp.Compare(y[0], x[0])
		}
		return cmp.Compare(x[0], y[0])
	})
	return found
}

// snapshotScan is a scan of the snapshot alone.
func (m *bufferModel) snapshotScan(table string, from, to []byte, reverse bool) iter.Seq2[[]byte, []byte] {
	pairs := (&bufferModel{base: m.base}).scan(table, from, to, reverse)
	return func(yield func([]byte, []byte) bool) {
		for _, p := range pairs {
			if !yield([]byte(p[0]), []byte(p[1])) {
				return
			}
		}
	}
}

// plenty is a limit that no test reaches by accident.
const plenty = 1 << 20

func testTable(name string) Table { return Table{Schema: "s", Name: name} }

// A transaction sees the snapshot with its own writes over it, whatever it
// wrote in which order.
func TestWriteBufferAgainstModel(t *testing.T) {
	key := rapid.SampledFrom([]string{"", "a", "aa", "ab", "b", "b\x00", "c", "d", "\xff"})
	bound := rapid.SampledFrom([][]byte{nil, {}, []byte("a"), []byte("ab"), []byte("b\x00"), []byte("c"), {0xff}})
	table := rapid.SampledFrom([]string{"t", "u"})
	value := rapid.StringN(0, 3, 8)
	rapid.Check(t, func(t *rapid.T) {
		rowOf := rapid.Custom(func(t *rapid.T) row { return row{table.Draw(t, "table"), key.Draw(t, "key")} })
		m := &bufferModel{base: rapid.MapOf(rowOf, value).Draw(t, "base"), own: map[row]*string{}}
		b := &writeBuffer{}
		t.Repeat(map[string]func(*rapid.T){
			"put": func(t *rapid.T) {
				r, v := rowOf.Draw(t, "row"), value.Draw(t, "value")
				m.own[r] = &v
				b.put(applier.Mutation{Op: applier.OpPut, Table: testTable(r.table), Key: []byte(r.key), Value: []byte(v)}, plenty)
			},
			"delete": func(t *rapid.T) {
				r := rowOf.Draw(t, "row")
				m.own[r] = nil
				b.put(applier.Mutation{Op: applier.OpDelete, Table: testTable(r.table), Key: []byte(r.key)}, plenty)
			},
			"find": func(t *rapid.T) { checkFind(t, m, b, rowOf.Draw(t, "row")) },
			"scan": func(t *rapid.T) {
				name, from, to := table.Draw(t, "table"), bound.Draw(t, "from"), bound.Draw(t, "to")
				reverse, stop := rapid.Bool().Draw(t, "reverse"), rapid.IntRange(1, 12).Draw(t, "stop")
				want := m.scan(name, from, to, reverse)
				if len(want) > stop {
					want = want[:stop]
				}
				own := b.within(testTable(name), from, to, reverse)
				if got := firstPairs(overlay(m.snapshotScan(name, from, to, reverse), own, reverse), stop); !slices.Equal(got, want) {
					t.Fatalf("scan [%q, %q) reverse %v: %q, want %q", from, to, reverse, got, want)
				}
			},
			"": func(t *rapid.T) { checkItems(t, m, b) },
		})
	})
}

func checkFind(t *rapid.T, m *bufferModel, b *writeBuffer, r row) {
	i := b.find(testTable(r.table), []byte(r.key))
	want, written := m.own[r]
	if written != (i >= 0) {
		t.Fatalf("find %q: %d, written is %v", r, i, written)
	}
	if !written {
		return
	}
	got := b.writes[i]
	if deleted := got.Op == applier.OpDelete; deleted != (want == nil) || (want != nil && string(got.Value) != *want) {
		t.Fatalf("find %q: %+v, want %v", r, got, want)
	}
}

// checkItems checks that there is one write and one item for each key.
func checkItems(t *rapid.T, m *bufferModel, b *writeBuffer) {
	tx := &Tx{writes: b}
	tx.compose()
	encoded, err := tx.composed.AppendBinary(nil)
	if err != nil {
		t.Fatal(err)
	}
	ws, _, err := certifier.DecodeWriteSet(encoded)
	if err != nil {
		t.Fatal(err)
	}
	if ws.Len() != len(m.own) || len(b.writes) != len(m.own) {
		t.Fatalf("%d writes and %d items for %d keys", len(b.writes), ws.Len(), len(m.own))
	}
	size := 0
	for i, w := range b.writes {
		text := certifier.AppendItemText(nil, certifier.PrimaryIndex, w.Table.Schema, w.Table.Name, w.Key)
		if ws.Item(i) != certifier.HashItem(text) {
			t.Fatalf("item %d is not that of write %d", i, i)
		}
		size += len(applier.AppendMutation(nil, w))
	}
	if b.bytes < size {
		t.Fatalf("payload of %d bytes, and only %d were reckoned with", size, b.bytes)
	}
}

// firstPairs takes at most n pairs, and copies them as a caller must.
func firstPairs(seq iter.Seq2[[]byte, []byte], n int) (pairs [][2]string) {
	for k, v := range seq {
		pairs = append(pairs, [2]string{string(k), string(v)})
		if len(pairs) == n {
			break
		}
	}
	return pairs
}

// A key keeps its place when it is written again, also beyond the size where
// keys are indexed.
func TestWriteBufferKeepsOrderOfFirstWrite(t *testing.T) {
	b := &writeBuffer{}
	for i := range 3 * indexFrom {
		b.put(applier.Mutation{Op: applier.OpPut, Table: testTable("t"), Key: []byte{byte(i % (indexFrom + 2))}, Value: []byte{byte(i)}}, plenty)
	}
	if len(b.writes) != indexFrom+2 {
		t.Fatalf("%d writes of %d keys", len(b.writes), indexFrom+2)
	}
	for i, w := range b.writes {
		if !bytes.Equal(w.Key, []byte{byte(i)}) {
			t.Errorf("write %d is of key %x", i, w.Key)
		}
	}
}

// What would exceed the limit changes nothing, and what makes a buffer smaller
// is always let in.
func TestWriteBufferLimit(t *testing.T) {
	put := func(b *writeBuffer, size, limit int) bool {
		return b.put(applier.Mutation{Op: applier.OpPut, Table: testTable("t"), Key: []byte("k"), Value: make([]byte, size)}, limit)
	}
	b := &writeBuffer{}
	if put(b, 100, 100) || len(b.writes) != 0 || b.bytes != 0 {
		t.Fatalf("beyond the limit, and yet %d writes of %d bytes", len(b.writes), b.bytes)
	}
	if !put(b, 100, 200) || put(b, 200, 200) || len(b.writes[0].Value) != 100 {
		t.Fatal("a key grew beyond the limit")
	}
	if !put(b, 50, 60) || len(b.writes[0].Value) != 50 {
		t.Fatal("a key could not become smaller")
	}
}
