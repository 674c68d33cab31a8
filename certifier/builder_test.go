package certifier

import (
	"bytes"
	"encoding/hex"
	"errors"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// decoded encodes what was noted and takes it apart again.
func decoded(t fataler, w *WriteSet) Encoded {
	b, err := w.AppendBinary(nil)
	if err != nil {
		t.Fatalf("write set: %v", err)
	}
	e, rest, err := DecodeWriteSet(b)
	if err != nil || len(rest) > 0 {
		t.Fatalf("write set %x: %d bytes are left, error %v", b, len(rest), err)
	}
	return e
}

// TestParts checks the form of values against MySQL's: integers big-endian with
// the sign bit flipped, the rest as it is.
func TestParts(t *testing.T) {
	for _, c := range []struct {
		name string
		part Part
		want string
	}{
		{"int 1", Int(1, 4), "80000001"},
		{"int -1", Int(-1, 4), "7fffffff"},
		{"int unsigned 1", Uint(1, 4), "00000001"},
		{"tinyint -128", Int(-128, 1), "00"},
		{"tinyint 127", Int(127, 1), "ff"},
		{"mediumint 1", Int(1, 3), "800001"},
		{"bigint least", Int(-1<<63, 8), "0000000000000000"},
		{"bigint greatest", Int(1<<63-1, 8), "ffffffffffffffff"},
		{"bigint unsigned greatest", Uint(1<<64-1, 8), "ffffffffffffffff"},
		{"text", Text([]byte{0x1c, 0x8f}), "1c8f"},
		{"bytes", Bytes([]byte("a\x00b")), "610062"},
		{"nothing", Bytes(nil), ""},
	} {
		if got := hex.EncodeToString(c.part.value()); got != c.want || c.part.err != nil {
			t.Errorf("%s is %s, want %s (error %v)", c.name, got, c.want, c.part.err)
		}
	}
}

// frozen are items by the parts that they come from. Members of all versions
// must agree on them: a hash here never changes.
var frozen = []struct {
	name  string
	index Index
	parts []Part
	text  string
	item  Item
}{
	{"primary key, int 1", Index{Name: PrimaryIndex, Schema: "test", Table: "t1"}, []Part{Int(1, 4)}, "PRIMARY½test½4t1½2\x80\x00\x00\x01½4", 0xf999781dfc25c588},
	{"unique key c2, int 2", Index{Name: "c2", Schema: "test", Table: "t1"}, []Part{Int(2, 4)}, "c2½test½4t1½2\x80\x00\x00\x02½4", 0xf54f104a302d99d1},
	{"two columns", Index{Name: PrimaryIndex, Schema: "test", Table: "t1", Columns: 2}, []Part{Bytes([]byte("1")), Bytes([]byte("2"))}, "PRIMARY½test½4t1½21½12½1", 0x9d918fa5b88e794b},
	{"empty value", Index{Name: PrimaryIndex, Schema: "test", Table: "t1"}, []Part{Bytes(nil)}, "PRIMARY½test½4t1½2½0", 0x84159100e1ae904c},
}

func TestFrozenItems(t *testing.T) {
	for _, f := range frozen {
		w := WriteSet{}
		if !w.Write(f.index, f.parts...) {
			t.Fatalf("%s: no item", f.name)
		}
		e := decoded(t, &w)
		if got := e.Item(0); got != HashItem([]byte(f.text)) || got != f.item {
			t.Errorf("%s is %#x, its text %#x, want %#x", f.name, uint64(got), uint64(HashItem([]byte(f.text))), uint64(f.item))
		}
	}
}

var twoColumns = Index{Name: "u", Schema: "s", Table: "t", Columns: 2}

// TestComposition checks what rows and their changes contribute.
func TestComposition(t *testing.T) {
	one := Index{Name: "u", Schema: "s", Table: "t"}
	a, b := []Part{Bytes([]byte("a"))}, []Part{Bytes([]byte("b"))}
	for _, c := range []struct {
		name string
		note func(w *WriteSet)
		want [Kinds]int
	}{
		{"a row", func(w *WriteSet) { w.Write(one, a...) }, [Kinds]int{1, 0, 0, 0}},
		{"NULL in a unique key", func(w *WriteSet) { w.Write(one, Null()) }, [Kinds]int{}},
		{"NULL in one of two columns", func(w *WriteSet) { w.Write(twoColumns, a[0], Null()) }, [Kinds]int{}},
		{"a reference with NULL", func(w *WriteSet) { w.Reference(one, Null()) }, [Kinds]int{}},
		{"an update that moves the key", func(w *WriteSet) { w.Update(one, a, b) }, [Kinds]int{2, 0, 0, 0}},
		{"an update that does not", func(w *WriteSet) { w.Update(one, a, a) }, [Kinds]int{1, 0, 0, 0}},
		{"an update from NULL", func(w *WriteSet) { w.Update(one, []Part{Null()}, b) }, [Kinds]int{1, 0, 0, 0}},
		{"an update to NULL", func(w *WriteSet) { w.Update(one, a, []Part{Null()}) }, [Kinds]int{1, 0, 0, 0}},
		{"each kind", func(w *WriteSet) {
			w.Read(one, a...)
			w.Reference(one, a...)
			w.Delta(one, a...)
			w.Write(one, b...)
		}, [Kinds]int{1, 1, 1, 1}},
	} {
		w := WriteSet{}
		c.note(&w)
		e := decoded(t, &w)
		for k := range Kind(Kinds) {
			if e.Count(k) != c.want[k] || w.Count(k) != c.want[k] {
				t.Errorf("%s: %d of kind %v, want %d", c.name, e.Count(k), k, c.want[k])
			}
		}
	}
}

// TestWrongParts checks that what cannot be certified is said, once, and by the
// first mistake.
func TestWrongParts(t *testing.T) {
	one := Index{Name: "u", Schema: "s", Table: "t"}
	for name, note := range map[string]func(w *WriteSet){
		"no parts":                  func(w *WriteSet) { w.Write(one) },
		"a part too many":           func(w *WriteSet) { w.Write(one, Int(1, 4), Int(1, 4)) },
		"a part too few":            func(w *WriteSet) { w.Delta(twoColumns, Int(1, 4)) },
		"an integer too wide":       func(w *WriteSet) { w.Write(one, Int(128, 1)) },
		"a negative one too wide":   func(w *WriteSet) { w.Write(one, Int(-129, 1)) },
		"an unsigned one too wide":  func(w *WriteSet) { w.Read(one, Uint(256, 1)) },
		"no width":                  func(w *WriteSet) { w.Read(one, Uint(0, 0)) },
		"a width beyond 8":          func(w *WriteSet) { w.Read(one, Int(0, 9)) },
		"a bound of too many parts": func(w *WriteSet) { w.Range(one, []Part{Int(1, 4), Int(1, 4)}, nil) },
		"a bound of none":           func(w *WriteSet) { w.Range(one, []Part{}, nil) },
		"too many ranges": func(w *WriteSet) {
			for range MaxRanges + 1 {
				w.Range(one, nil, nil)
			}
		},
	} {
		w := WriteSet{}
		note(&w)
		w.Write(one, Bytes([]byte("right")))
		if _, err := w.AppendBinary(nil); !errors.Is(err, ErrWriteSet) {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

// TestRoundTripOfAll checks that what was noted comes back, in order.
func TestRoundTripOfAll(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := WriteSet{}
		var want [Kinds][]Item
		var places [2][]Place
		indexes := []Index{{Name: PrimaryIndex, Schema: "s", Table: "t"}, {Name: "u", Schema: "s", Table: "t"}, {Name: PrimaryIndex, Schema: "s", Table: "other"}}
		for range rapid.IntRange(0, 30).Draw(t, "items") {
			x := rapid.SampledFrom(indexes).Draw(t, "index")
			k := Kind(rapid.IntRange(0, Kinds-1).Draw(t, "kind"))
			key := rapid.SliceOfN(rapid.Byte(), 0, 50).Draw(t, "key")
			w.Add(k, x, Bytes(key))
			want[k] = append(want[k], HashItem(AppendItemText(nil, x.Name, x.Schema, x.Table, key)))
			if k <= Delta {
				places[k] = append(places[k], Place{x.Space(), key[:min(len(key), MaxPlace)], len(key) > MaxPlace})
			}
		}
		ranges := rapid.IntRange(0, 4).Draw(t, "ranges")
		for range ranges {
			w.Range(rapid.SampledFrom(indexes).Draw(t, "index"), nil, []Part{Bytes(rapid.SliceOf(rapid.Byte()).Draw(t, "to"))})
		}
		e := decoded(t, &w)
		i := 0
		for item, kind := range e.Items() {
			k, nth := e.Kind(i)
			if k2, nth2 := w.Kind(i); k != kind || k2 != kind || nth2 != nth || want[k][nth] != item || e.Item(i) != item {
				t.Fatalf("item %d is %x of kind %v, number %d of it", i, item, kind, nth)
			}
			i++
		}
		if i != w.Len() || e.RangeCount() != ranges {
			t.Fatalf("%d items and %d ranges, want %d and %d", i, e.RangeCount(), w.Len(), ranges)
		}
		all := append(places[0], places[1]...)
		for p := range e.Places() {
			if p.Space != all[0].Space || !bytes.Equal(p.Key, all[0].Key) || p.Cut != all[0].Cut {
				t.Fatalf("place %+v, want %+v", p, all[0])
			}
			all = all[1:]
		}
		if len(all) > 0 {
			t.Fatalf("%d places are missing", len(all))
		}
	})
}

// TestOrderOfKeys checks that places are in the order of the keys they stand
// for, part by part.
func TestOrderOfKeys(t *testing.T) {
	part := rapid.SliceOfN(rapid.SampledFrom([]byte{0, 1, 0xfe, 0xff}), 0, 3)
	rapid.Check(t, func(t *rapid.T) {
		columns := rapid.IntRange(1, 3).Draw(t, "columns")
		var keys [2][][]byte
		var order [2][]byte
		for i := range keys {
			parts := make([]Part, columns)
			for c := range parts {
				v := part.Draw(t, "part")
				keys[i] = append(keys[i], v)
				parts[c] = Bytes(v)
			}
			order[i] = appendOrder(nil, columns, parts)
		}
		want := slices.CompareFunc(keys[0], keys[1], bytes.Compare)
		if got := bytes.Compare(order[0], order[1]); got != want {
			t.Fatalf("%x and %x compare as %d, their places %x and %x as %d", keys[0], keys[1], want, order[0], order[1], got)
		}
	})
}

// TestCovers checks that a range covers every key that is in it, and no other
// one that it can tell from those.
func TestCovers(t *testing.T) {
	x := Index{Name: PrimaryIndex, Schema: "s", Table: "t"}
	key := rapid.Custom(func(t *rapid.T) []byte {
		long := bytes.Repeat([]byte{7}, rapid.SampledFrom([]int{0, MaxPlace - 1, MaxPlace, MaxPlace + 1}).Draw(t, "prefix"))
		return append(long, rapid.SliceOfN(rapid.Byte(), 0, 3).Draw(t, "key")...)
	})
	rapid.Check(t, func(t *rapid.T) {
		k, from, to := key.Draw(t, "written"), key.Draw(t, "from"), key.Draw(t, "to")
		w := WriteSet{}
		w.Write(x, Bytes(k))
		bounds := [2][]Part{{Bytes(from)}, {Bytes(to)}}
		open := rapid.IntRange(0, 3).Draw(t, "open")
		for i := range bounds {
			if open&(1<<i) != 0 {
				bounds[i] = nil
			}
		}
		w.Range(x, bounds[0], bounds[1])
		w.Range(Index{Name: "u", Schema: "s", Table: "t"}, nil, nil)
		e := decoded(t, &w)
		ranges := slices.Collect(e.Ranges())
		p := slices.Collect(e.Places())[0]
		in := (bounds[0] == nil || bytes.Compare(k, from) >= 0) && (bounds[1] == nil || bytes.Compare(k, to) < 0)
		covered := ranges[0].Covers(p)
		if in && !covered {
			t.Fatalf("%x is in the range from %x to %x, and not covered", k, from, to)
		}
		if covered && !in && len(k) <= MaxPlace {
			t.Fatalf("%x is not in the range from %x to %x, and covered", k, from, to)
		}
		if covered && !in && !bytes.HasPrefix(from, p.Key) && !bytes.HasPrefix(to, p.Key) {
			t.Fatalf("%x is covered by the range from %x to %x, which does not begin as it does", k, from, to)
		}
		if ranges[1].Covers(p) {
			t.Fatal("a range of another index covers the key")
		}
	})
}
