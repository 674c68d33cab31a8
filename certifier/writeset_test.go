package certifier

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// items are rows whose texts and XXH64 hashes MySQL gives, and the edges of its
// composition. The texts are MySQL's, byte for byte. The hashes here are 64-bit
// murmur3 with seed 0, checked against another implementation: they stand in
// the logs and checkpoints of groups, so they never change.
var items = []struct {
	name   string
	index  string
	schema string
	table  string
	parts  []string
	text   string
	hash   Item
}{
	{"BINARY(1) key, '1'", "PRIMARY", "test", "t1", []string{"1"}, "PRIMARY½test½4t1½21½1", 0x887458bd73c72887},
	{"BINARY(1) key, '3'", "PRIMARY", "test", "t1", []string{"3"}, "PRIMARY½test½4t1½23½1", 0xbcbfbedc474d6d81},
	{"INT key, 1", "PRIMARY", "test", "t1", []string{"\x80\x00\x00\x01"}, "PRIMARY½test½4t1½2\x80\x00\x00\x01½4", 0xf999781dfc25c588},
	{"INT key, -1", "PRIMARY", "test", "t1", []string{"\x7f\xff\xff\xff"}, "PRIMARY½test½4t1½2\x7f\xff\xff\xff½4", 0x6802a2a4223376a1},
	{"INT UNSIGNED key, 1", "PRIMARY", "test", "t1", []string{"\x00\x00\x00\x01"}, "PRIMARY½test½4t1½2\x00\x00\x00\x01½4", 0x968ea52de0834595},
	{"unique index c2, INT, 2", "c2", "test", "t1", []string{"\x80\x00\x00\x02"}, "c2½test½4t1½2\x80\x00\x00\x02½4", 0xf54f104a302d99d1},
	{"key ('1', '2')", "PRIMARY", "test", "t1", []string{"1", "2"}, "PRIMARY½test½4t1½21½12½1", 0x9d918fa5b88e794b},
	{"no parts", "PRIMARY", "test", "t1", nil, "PRIMARY½test½4t1½2", 0x0bf310dc50caf651},
	{"empty part", "PRIMARY", "test", "t1", []string{""}, "PRIMARY½test½4t1½2½0", 0x84159100e1ae904c},
	{"names of ten bytes", "PRIMARY", "0123456789", "abcdefghij", []string{"1"}, "PRIMARY½0123456789½10abcdefghij½101½1", 0x3157daede2e99ed5},
	{"NUL and separator in a value", "PRIMARY", "test", "t1", []string{"a\x00½"}, "PRIMARY½test½4t1½2a\x00½½4", 0x70df32f35c4bb9df},
	{"128 bytes", "PRIMARY", "test", "t1", []string{string(make([]byte, 128))}, "PRIMARY½test½4t1½2" + string(make([]byte, 128)) + "½128", 0xd046ec749e4a261a},
}

func TestItemText(t *testing.T) {
	for _, item := range items {
		parts := make([][]byte, len(item.parts))
		for i, part := range item.parts {
			parts[i] = []byte(part)
		}
		text := AppendItemText(nil, item.index, item.schema, item.table, parts...)
		if string(text) != item.text {
			t.Errorf("%s: text %q, want %q", item.name, text, item.text)
		}
		if hash := HashItem(text); hash != item.hash {
			t.Errorf("%s: hash %#016x, want %#016x", item.name, uint64(hash), uint64(item.hash))
		}
	}
}

// TestHashFunction holds the hash against murmur3's published vectors.
func TestHashFunction(t *testing.T) {
	published := map[string]Item{
		"":             0,
		"hello":        0xcbd8a7b341bd9b02,
		"hello, world": 0x342fac623a5ebc8e,
	}
	for text, want := range published {
		if got := HashItem([]byte(text)); got != want {
			t.Errorf("%q: hash %#016x, want %#016x", text, uint64(got), uint64(want))
		}
	}
}

// TestItemTextAppends checks that the text goes behind what is there, so that
// one buffer serves all items of a transaction.
func TestItemTextAppends(t *testing.T) {
	b := AppendItemText([]byte("before "), PrimaryIndex, "s", "t", []byte("v"))
	if want := "before PRIMARY½s½1t½1v½1"; string(b) != want {
		t.Errorf("text %q, want %q", b, want)
	}
}

// TestItemTextIsUnambiguous moves the boundaries between neighbours.
func TestItemTextIsUnambiguous(t *testing.T) {
	text := func(index, schema, table string, parts ...string) string {
		var values [][]byte
		for _, p := range parts {
			values = append(values, []byte(p))
		}
		return string(AppendItemText(nil, index, schema, table, values...))
	}
	different := []string{
		text("k", "s", "t", "a", "bc"),
		text("k", "s", "t", "ab", "c"),
		text("k", "s", "t", "abc"),
		text("k", "s", "t", "1", "23"),
		text("k", "s", "t", "12", "3"),
		text("k", "s", "t", "", "123"),
		text("k", "s", "t", "123", ""),
		text("k", "s", "t"),
		text("k", "s", "t", ""),
		text("k", "s", "t", "", ""),
		text("k", "st", "", "x"),
		text("k", "", "st", "x"),
		text("ks", "", "t", "x"),
		text("k", "s1", "2t", "x"),
		text("k", "s", "12t", "x"),
	}
	seen := map[string]int{}
	hashes := map[Item]int{}
	for i, text := range different {
		if j, dup := seen[text]; dup {
			t.Errorf("keys %d and %d have the same text %q", j, i, text)
		}
		if j, dup := hashes[HashItem([]byte(text))]; dup {
			t.Errorf("keys %d and %d have the same hash", j, i)
		}
		seen[text], hashes[HashItem([]byte(text))] = i, i
	}
}

// TestMySQLKeyForm ties the little-endian order of an item's bytes to the form
// in which MySQL shows hashes.
func TestMySQLKeyForm(t *testing.T) {
	const hash, form = 340395741608101502, "fkabnR9UuQQ="
	b := encodeWrites([]Item{hash})
	if got := base64.StdEncoding.EncodeToString(b[6:14]); got != form {
		t.Errorf("item is %s, want %s", got, form)
	}
}

func TestWriteSetRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := rapid.SliceOfN(rapid.Uint64(), 0, 300).Draw(t, "items")
		tail := rapid.SliceOfN(rapid.Byte(), 0, 20).Draw(t, "tail")
		list := make([]Item, len(want))
		for i, v := range want {
			list[i] = Item(v)
		}
		b := encodeWrites(list)
		ws, rest, err := DecodeWriteSet(append(b, tail...))
		if err != nil {
			t.Fatal(err)
		}
		if got := listed(ws); !slices.Equal(got, list) {
			t.Fatalf("decoded %v, want %v", got, list)
		}
		if !bytes.Equal(rest, tail) {
			t.Fatalf("rest %x, want %x", rest, tail)
		}
		for n := range b {
			if _, _, err := DecodeWriteSet(b[:n]); !errors.Is(err, ErrWriteSet) {
				t.Fatalf("prefix of %d of %d bytes: error %v", n, len(b), err)
			}
		}
	})
}

func listed(ws Encoded) []Item {
	list := make([]Item, ws.Len())
	for i := range list {
		list[i] = ws.Item(i)
	}
	return list
}

// TestManyItems passes the limits of the counters that were too small for
// somebody else.
func TestManyItems(t *testing.T) {
	const n = 71_000
	list := make([]Item, n)
	for i := range list {
		list[i] = Item(i)
	}
	ws, _, err := DecodeWriteSet(encodeWrites(list))
	if err != nil || ws.Len() != n || ws.Item(n-1) != n-1 {
		t.Fatalf("%d items, error %v", ws.Len(), err)
	}
}

func TestDecodeWriteSetRefuses(t *testing.T) {
	for name, b := range map[string][]byte{
		"nothing":                        {},
		"count cut off":                  {0x80},
		"count beyond 64 bits":           bytes.Repeat([]byte{0xff}, 11),
		"count not in its shortest form": {0x80, 0x00},
		"count beyond the limit":         {0x81, 0x80, 0x80, 0x08},
		"count whose size overflows":     {0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x20},
		"count beyond the bytes":         {2, 1, 2, 3, 4, 5, 6, 7, 8},
	} {
		if ws, _, err := DecodeWriteSet(b); !errors.Is(err, ErrWriteSet) {
			t.Errorf("%s: %d items, error %v", name, ws.Len(), err)
		}
	}
}

// FuzzDecodeWriteSet checks that what is accepted is the encoding of what was
// decoded, and that nothing is read beyond it.
func FuzzDecodeWriteSet(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{0})
	f.Add([]byte{0x80, 0})
	f.Add(encodeWrites([]Item{1, 2, 1 << 63}))
	f.Add(append(encodeWrites([]Item{7}), "payload"...))
	f.Fuzz(func(t *testing.T, b []byte) {
		ws, rest, err := DecodeWriteSet(b)
		if err != nil {
			if !errors.Is(err, ErrWriteSet) {
				t.Fatalf("error %v is of no known kind", err)
			}
			return
		}
		if again := append(encodeAgain(t, &ws), rest...); !bytes.Equal(again, b) {
			t.Fatalf("decoded %x, which encodes to %x", b, again)
		}
	})
}

func encodeAgain(t *testing.T, e *Encoded) []byte {
	w := WriteSet{ranges: e.ranges, count: e.RangeCount()}
	for item, kind := range e.Items() {
		w.items[kind] = append(w.items[kind], item)
	}
	i := 0
	number := func(s Space) int {
		if n := slices.Index(w.spaces, s); n >= 0 {
			return n
		}
		w.spaces = append(w.spaces, s)
		return len(w.spaces) - 1
	}
	for p := range e.Places() {
		kind, _ := e.Kind(i)
		key := p.Key
		if p.Cut {
			key = append(slices.Clone(key), 0)
		}
		w.places[kind] = appendPlace(w.places[kind], number(p.Space), key)
		i++
	}
	for r := range e.Ranges() {
		number(r.Space)
	}
	b, err := w.AppendBinary(nil)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func ExampleAppendItemText() {
	text := AppendItemText(nil, PrimaryIndex, "test", "t1", []byte("1"))
	fmt.Printf("%s\n", text)
	// Output: PRIMARY½test½4t1½21½1
}
