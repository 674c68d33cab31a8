package concordat

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/concordatdb/concordat/applier"
	"github.com/concordatdb/concordat/certifier"
	"github.com/concordatdb/concordat/internal/replica"
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

// modelSnapshot is a snapshot that holds what a model begins with.
type modelSnapshot struct{ of *bufferModel }

func (modelSnapshot) Position() applier.Position { return applier.Position{} }
func (modelSnapshot) Err() error                 { return nil }
func (modelSnapshot) Close() error               { return nil }

func (s modelSnapshot) Get(t Table, key []byte) ([]byte, bool, error) {
	v, ok := s.of.base[row{t.Name, string(key)}]
	return []byte(v), ok, nil
}

func (s modelSnapshot) Scan(t Table, from, to []byte, reverse bool) iter.Seq2[[]byte, []byte] {
	return s.of.snapshotScan(t.Name, from, to, reverse)
}

// add does to the model what Tx.Add does, and reports whether that can be.
func (m *bufferModel) add(r row, n int64) bool {
	v, ok := m.get(r)
	if ok && len(v) != 8 {
		return false
	}
	var sum uint64
	if ok {
		sum = binary.BigEndian.Uint64([]byte(v))
	}
	made := string(binary.BigEndian.AppendUint64(nil, sum+uint64(n)))
	m.own[r] = &made
	return true
}

// A transaction sees the snapshot with its own writes over it, whatever it
// wrote in which order.
func TestWriteBufferAgainstModel(t *testing.T) {
	t.Parallel()
	key := rapid.SampledFrom([]string{"", "a", "aa", "ab", "b", "b\x00", "c", "d", "\xff", strings.Repeat("long", 20)})
	bound := rapid.SampledFrom([][]byte{nil, {}, []byte("a"), []byte("ab"), []byte("b\x00"), []byte("c"), {0xff}})
	table := rapid.SampledFrom([]string{"t", "u"})
	value := rapid.OneOf(rapid.StringN(0, 3, 8), rapid.Custom(func(t *rapid.T) string {
		return string(AppendCounter(nil, rapid.Int64().Draw(t, "counter")))
	}))
	rapid.Check(t, func(t *rapid.T) {
		rowOf := rapid.Custom(func(t *rapid.T) row { return row{table.Draw(t, "table"), key.Draw(t, "key")} })
		m := &bufferModel{base: rapid.MapOf(rowOf, value).Draw(t, "base"), own: map[row]*string{}}
		n, _ := newTestNode()
		n.limitTo(plenty)
		tx := n.newTestTx()
		tx.snapshot = modelSnapshot{m}
		t.Repeat(map[string]func(*rapid.T){
			"put": func(t *rapid.T) {
				r, v := rowOf.Draw(t, "row"), value.Draw(t, "value")
				m.own[r] = &v
				if err := tx.Put(testTable(r.table), []byte(r.key), []byte(v)); err != nil {
					t.Fatal(err)
				}
			},
			"delete": func(t *rapid.T) {
				r := rowOf.Draw(t, "row")
				m.own[r] = nil
				if err := tx.Delete(testTable(r.table), []byte(r.key)); err != nil {
					t.Fatal(err)
				}
			},
			"add": func(t *rapid.T) {
				r, by := rowOf.Draw(t, "row"), rapid.Int64().Draw(t, "by")
				done := m.add(r, by)
				if err := tx.Add(testTable(r.table), []byte(r.key), by); done != (err == nil) || (err != nil && !errors.Is(err, ErrInvalid)) {
					t.Fatalf("add to %q: %v, can be: %v", r, err, done)
				}
			},
			"get": func(t *rapid.T) { checkGet(t, m, tx, rowOf.Draw(t, "row")) },
			"scan": func(t *rapid.T) {
				name, from, to := table.Draw(t, "table"), bound.Draw(t, "from"), bound.Draw(t, "to")
				reverse, stop := rapid.Bool().Draw(t, "reverse"), rapid.IntRange(1, 12).Draw(t, "stop")
				want := m.scan(name, from, to, reverse)
				if len(want) > stop {
					want = want[:stop]
				}
				seq := tx.Scan(testTable(name), from, to)
				if reverse {
					seq = tx.ScanReverse(testTable(name), from, to)
				}
				if got := firstPairs(seq, stop); !slices.Equal(got, want) {
					t.Fatalf("scan [%q, %q) reverse %v: %q, want %q", from, to, reverse, got, want)
				}
			},
			"": func(t *rapid.T) {
				checkItems(t, m, tx)
				checkApplied(t, m, tx)
			},
		})
	})
}

func checkGet(t *rapid.T, m *bufferModel, tx *Tx, r row) {
	want, there := m.get(r)
	got, ok, err := tx.Get(testTable(r.table), []byte(r.key))
	if err != nil || ok != there || string(got) != want {
		t.Fatalf("get %q: %q, %v, %v, want %q, %v", r, got, ok, err, want, there)
	}
	if i := tx.writes.find(testTable(r.table), []byte(r.key)); (i >= 0) != m.written(r) {
		t.Fatalf("find %q: %d, written is %v", r, i, m.written(r))
	}
}

func (m *bufferModel) written(r row) bool {
	_, written := m.own[r]
	return written
}

// checkApplied checks that what goes to the engine makes of the snapshot what
// the transaction sees.
func checkApplied(t *rapid.T, m *bufferModel, tx *Tx) {
	for _, w := range tx.writes.writes {
		r := row{w.Table.Name, string(w.Key)}
		want, there := m.get(r)
		got, exists := string(w.Value), w.Op != applier.OpDelete
		if w.Op == applier.OpAdd {
			old, ok := m.base[r]
			sum, err := applier.AddCounter([]byte(old), ok, w.Delta)
			if err != nil {
				t.Fatalf("add to %q over %q: %v", r, old, err)
			}
			got = string(AppendCounter(nil, sum))
		}
		if exists != there || got != want {
			t.Fatalf("the engine makes %q, %v of %q, want %q, %v", got, exists, r, want, there)
		}
	}
}

// checkItems checks that there is one write and one item for each key.
func checkItems(t *rapid.T, m *bufferModel, tx *Tx) {
	b := tx.writes
	message, err := tx.encoded()
	if err != nil {
		t.Fatal(err)
	}
	if reckoned := b.bytes + messageHead; len(message) > reckoned {
		t.Fatalf("message of %d bytes, and only %d were reckoned with", len(message), reckoned)
	}
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
	// Items come by kind: first those of puts and deletes, then those of adds.
	sorted := slices.Clone(b.writes)
	slices.SortStableFunc(sorted, func(x, y applier.Mutation) int {
		return cmp.Compare(x.Op/applier.OpAdd, y.Op/applier.OpAdd)
	})
	for i, w := range sorted {
		text := certifier.AppendItemText(nil, certifier.PrimaryIndex, w.Table.Schema, w.Table.Name, w.Key)
		kind, _ := ws.Kind(i)
		if ws.Item(i) != certifier.HashItem(text) || (kind == certifier.Delta) != (w.Op == applier.OpAdd) {
			t.Fatalf("item %d, a %s, is not that of %+v", i, kind, w)
		}
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

// However long the keys are, what was accepted fits into a message.
func TestWriteBufferReckonsWithPlaces(t *testing.T) {
	n, _ := newTestNode()
	n.limitTo(1 << 14)
	tx := n.newTestTx()
	tx.snapshot = modelSnapshot{&bufferModel{}}
	var err error
	for i := 0; err == nil; i++ {
		err = tx.Put(testTable("t"), fmt.Appendf(nil, "%040d", i), nil)
	}
	if !errors.Is(err, ErrTooLarge) {
		t.Fatal(err)
	}
	if _, err := tx.encoded(); err != nil {
		t.Errorf("message of all that was accepted: %v", err)
	}
}

// encoded is the message of a transaction that fits into one.
func (tx *Tx) encoded() ([]byte, error) {
	size, err := tx.measure()
	if err != nil {
		return nil, err
	}
	return tx.message(size)
}

// limitTo has the node know a limit of its group.
func (n *Node) limitTo(bytes int) {
	n.standing.Store(&known{Settings: replica.Settings{Version: 1, TransactionSizeLimit: bytes}})
}
