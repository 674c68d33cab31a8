package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"testing"

	"pgregory.net/rapid"

	"github.com/concordatdb/concordat/gtid"
)

var errKind = errors.New("malformed")

// TestRoundTrip takes apart what was put together, and every part of it that is
// cut off.
func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		u, v := rapid.Uint64().Draw(t, "unsigned"), rapid.Int64().Draw(t, "signed")
		raw := rapid.SliceOf(rapid.Byte()).Draw(t, "bytes")
		set := gtid.Set{}.AddInterval(gtid.UUID{1}, "", 1, rapid.Uint64Range(1, 99).Draw(t, "last"))
		g := gtid.GTID{UUID: gtid.UUID{2}, Tag: "t", Number: rapid.Uint64Range(1, gtid.MaxNumber).Draw(t, "number")}
		b := binary.AppendVarint(binary.AppendUvarint(nil, u), v)
		b = append(b, raw...)
		b, err := set.AppendBinary(b)
		if err != nil {
			t.Fatal(err)
		}
		if b, err = g.AppendBinary(b); err != nil {
			t.Fatal(err)
		}
		for n := range len(b) + 1 {
			d := Decoder{Rest: b[:n], Kind: errKind}
			u2, v2, raw2, set2, g2 := d.Uvarint(), d.Varint(), d.Bytes(len(raw)), d.Set(), d.GTID()
			if n < len(b) {
				if !errors.Is(d.Err, errKind) || len(d.Rest) != 0 || g2 != (gtid.GTID{}) {
					t.Fatalf("%d of %d bytes: error %v, %d left, %v", n, len(b), d.Err, len(d.Rest), g2)
				}
				continue
			}
			if d.Err != nil || u2 != u || v2 != v || !bytes.Equal(raw2, raw) || cap(raw2) != len(raw) || !set2.Equal(set) || g2 != g || len(d.Rest) != 0 {
				t.Fatalf("%d, %d, %x, %v, %v come back as %d, %d, %x, %v, %v, error %v", u, v, raw, set, g, u2, v2, raw2, set2, g2, d.Err)
			}
		}
	})
}

// TestFirstErrorCounts checks that the first mistake stays the error, and that
// a number has one form.
func TestFirstErrorCounts(t *testing.T) {
	d := Decoder{Rest: []byte{0x80, 0, 1}, Kind: errKind}
	if n := d.Uvarint(); n != 0 || d.Err == nil {
		t.Fatalf("0 in two bytes is taken as %d, error %v", n, d.Err)
	}
	first := d.Err
	d.Fail("later")
	if b := d.Bytes(1); b != nil || d.Err != first {
		t.Errorf("after an error: %x, error %v", b, d.Err)
	}
}

// TestBytesOfNoLength checks that a length too great for an int, which comes out
// negative, is like any other that the bytes do not have.
func TestBytesOfNoLength(t *testing.T) {
	for _, n := range []int{-1, math.MinInt, 4, math.MaxInt} {
		d := Decoder{Rest: []byte{1, 2, 3}, Kind: errKind}
		if b := d.Bytes(n); b != nil || !errors.Is(d.Err, errKind) {
			t.Errorf("%d of 3 bytes: %x, error %v", n, b, d.Err)
		}
	}
}

// FuzzDecoder checks that what is taken, in any order, is the one encoding of
// what came out, and that nothing is left after an error.
func FuzzDecoder(f *testing.F) {
	set, _ := gtid.Set{}.AddInterval(gtid.UUID{1}, "t", 3, 9).AppendBinary([]byte{5, 0xff, 1})
	f.Add([]byte{0, 1, 3}, set)
	g, _ := gtid.GTID{UUID: gtid.UUID{2}, Number: 7}.AppendBinary([]byte{1, 2})
	f.Add([]byte{2, 4}, g)
	f.Add([]byte{0}, []byte{0x80, 0})
	f.Fuzz(func(t *testing.T, fields, b []byte) {
		d := Decoder{Rest: b, Kind: errKind}
		var again []byte
		for _, field := range fields {
			var err error
			switch field % 5 {
			case 0:
				again = binary.AppendUvarint(again, d.Uvarint())
			case 1:
				again = binary.AppendVarint(again, d.Varint())
			case 2:
				again = append(again, d.Bytes(int(field)/5)...)
			case 3:
				again, err = d.Set().AppendBinary(again)
			case 4:
				g := d.GTID()
				if d.Err == nil {
					again, err = g.AppendBinary(again)
				}
			}
			if err != nil {
				t.Fatal(err)
			}
			if d.Err != nil {
				if !errors.Is(d.Err, errKind) || len(d.Rest) != 0 {
					t.Fatalf("error %v, %d bytes left", d.Err, len(d.Rest))
				}
				return
			}
		}
		if again = append(again, d.Rest...); !bytes.Equal(again, b) {
			t.Fatalf("fields %v of %x come back as %x", fields, b, again)
		}
	})
}
