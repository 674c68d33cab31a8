package gtid

import (
	"bytes"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func unhex(t testing.TB, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(text, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// UUIDs A, B and C as hexadecimal digits.
var (
	hexA = strings.ReplaceAll(uuidA, "-", "")
	hexB = strings.ReplaceAll(uuidB, "-", "")
	hexC = strings.ReplaceAll(uuidC, "-", "")
)

// The bytes are what other members and old logs hold: they may not change.
func TestBinaryForm(t *testing.T) {
	for _, test := range []struct{ text, want string }{
		{"", "00"},
		{uuidA + ":1", "01 04" + hexA + "00 00"},
		{uuidA + ":1-128", "01 04" + hexA + "00 7f"},
		{uuidA + ":1-2000000", "01 04" + hexA + "00 ff887a"},
		{uuidA + ":5-6", "01 04" + hexA + "04 01"},
		{uuidA + ":9223372036854775806", "01 04" + hexA + "fdffffffffffffff7f 00"},
		{uuidA + ":1-9223372036854775806", "01 04" + hexA + "00 fdffffffffffffff7f"},
		{uuidA + ":1-3:5:8-9", "01 0c" + hexA + "0002 0000 0101"},
		{uuidA + ":ab:1", "01 06" + hexA + "02 6162 0000"},
		{uuidA + ":1:a:2:b:3-4," + uuidB + ":b:1:3", "04 04" + hexA + "0000 07 0161 0100 07 0162 0201 0a" + hexB + "0162 0000 0000"},
	} {
		set := mustSet(t, test.text)
		if got := encode(t, set); !bytes.Equal(got, unhex(t, test.want)) {
			t.Errorf("%v encodes to %x, want %s", set, got, test.want)
		}
		var decoded Set
		if err := decoded.UnmarshalBinary(unhex(t, test.want)); err != nil || !decoded.Equal(set) {
			t.Errorf("%s decodes to %v, %v; want %v", test.want, decoded, err, set)
		}
	}
}

func TestDecodeSetErrors(t *testing.T) {
	for _, test := range []struct {
		name, bytes string
		want        EncodingError
	}{
		{"nothing", "", EncodingError{Offset: 0, Reason: "a number cut short"}},
		{"count without groups", "01", EncodingError{Offset: 0, Reason: "more groups than bytes for them"}},
		{"count too large", "04 04" + hexA + "0000", EncodingError{Offset: 0, Reason: "more groups than bytes for them"}},
		{"count enormous", "ffffffffffffffffff01 04" + hexA + "0000", EncodingError{Offset: 0, Reason: "more groups than bytes for them"}},
		{"count of more than 64 bits", "ffffffffffffffffff02", EncodingError{Offset: 0, Reason: "a number of more than 64 bits"}},
		{"count in a longer form", "8100 04" + hexA + "0000", EncodingError{Offset: 0, Reason: "a number not in its shortest form"}},
		{"zero in a longer form", "8000", EncodingError{Offset: 0, Reason: "a number not in its shortest form"}},
		{"UUID cut short", "01 04" + hexA[:30], EncodingError{Offset: 2, Reason: "a UUID cut short"}},
		{"no intervals", "01 00" + hexA + "0000", EncodingError{Offset: 1, Reason: "no intervals, or more of them than bytes for them"}},
		{"too many intervals", "01 08" + hexA + "0000", EncodingError{Offset: 1, Reason: "no intervals, or more of them than bytes for them"}},
		{"intervals beyond reason", "01 fcffffffffffffffff01" + hexA + "0000", EncodingError{Offset: 1, Reason: "no intervals, or more of them than bytes for them"}},
		{"UUID repeated at the start", "01 07 0161 0000", EncodingError{Offset: 1, Reason: "a first group without a UUID"}},
		{"UUID written out again", "02 04" + hexA + "0000 06" + hexA + "0161 0000", EncodingError{Offset: 20, Reason: "the UUID of the group before, written out"}},
		{"UUIDs descending", "02 04" + hexB + "0000 04" + hexA + "0000", EncodingError{Offset: 20, Reason: "a group out of order"}},
		{"untagged behind untagged", "02 04" + hexA + "0000 05 000000", EncodingError{Offset: 20, Reason: "a group out of order"}},
		{"tags descending", "02 06" + hexA + "0162 0000 07 0161 0000", EncodingError{Offset: 22, Reason: "a group out of order"}},
		{"tag repeated", "02 06" + hexA + "0161 0000 07 0161 0000", EncodingError{Offset: 22, Reason: "a group out of order"}},
		{"empty tag", "01 06" + hexA + "00 0000", EncodingError{Offset: 1, Reason: "an empty tag"}},
		{"tag cut short", "01 06" + hexA + "05 6161", EncodingError{Offset: 18, Reason: "a tag cut short"}},
		{"tag in upper case", "01 06" + hexA + "01 41 0000", EncodingError{Offset: 18, Reason: "text that is no tag"}},
		{"tag of 33", "01 06" + hexA + "21" + strings.Repeat("61", 33) + "0000", EncodingError{Offset: 18, Reason: "text that is no tag"}},
		{"number above the highest", "01 04" + hexA + "feffffffffffffff7f 00", EncodingError{Offset: 18, Reason: "a number above the highest"}},
		{"end above the highest", "01 04" + hexA + "01 fdffffffffffffff7f", EncodingError{Offset: 18, Reason: "a number above the highest"}},
		{"length that overflows", "01 04" + hexA + "01 ffffffffffffffffff01", EncodingError{Offset: 18, Reason: "a number above the highest"}},
		{"interval behind the highest", "01 08" + hexA + "00 fdffffffffffffff7f 0000", EncodingError{Offset: 28, Reason: "a number above the highest"}},
		{"skip that overflows", "01 08" + hexA + "0000 ffffffffffffffffff01 00", EncodingError{Offset: 20, Reason: "a number above the highest"}},
		{"length missing", "01 04" + hexA + "8001", EncodingError{Offset: 20, Reason: "a number cut short"}},
		{"skip in a longer form", "01 04" + hexA + "8000 00", EncodingError{Offset: 18, Reason: "a number not in its shortest form"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			set, rest, err := DecodeSet(unhex(t, test.bytes))
			checkEncodingError(t, err, "GTID set", test.want)
			if !set.IsEmpty() || rest != nil {
				t.Errorf("the error comes with the set %v and the rest %x", set, rest)
			}
		})
	}
}

func checkEncodingError(t *testing.T, err error, kind string, want EncodingError) {
	t.Helper()
	want.Kind = kind
	got, ok := errors.AsType[*EncodingError](err)
	if !ok || *got != want {
		t.Errorf("error is %v, want %v", err, &want)
	}
}

func TestUnmarshalBinaryRefusesMore(t *testing.T) {
	var s Set
	err := s.UnmarshalBinary(unhex(t, "01 04"+hexC+"0000 00"))
	checkEncodingError(t, err, "GTID set", EncodingError{Offset: 20, Reason: "bytes after its end"})
}

func TestStrictPrefixesAreRefused(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := drawWorld(t)
		whole := encode(t, w.sets[len(w.sets)-1])
		for n := range whole {
			if set, _, err := DecodeSet(whole[:n]); err == nil {
				t.Fatalf("%d of %d bytes decode to %v", n, len(whole), set)
			}
		}
	})
}

// Whatever one bit turns an encoding into, it is refused or is the encoding of
// another set.
func TestFlippedBitsAreSeen(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := drawWorld(t)
		set := w.sets[len(w.sets)-1]
		whole := encode(t, set)
		for bit := range 8 * len(whole) {
			flipped := slices.Clone(whole)
			flipped[bit/8] ^= 1 << (bit % 8)
			got, rest, err := DecodeSet(flipped)
			if err == nil && (got.Equal(set) || !bytes.Equal(append(encode(t, got), rest...), flipped)) {
				t.Fatalf("bit %d of %x makes %v of %v, rest %x", bit, whole, got, set, rest)
			}
		}
	})
}

func TestGTIDBinaryForm(t *testing.T) {
	uuid := mustUUID(t, uuidA)
	for _, test := range []struct {
		gtid GTID
		want string
	}{
		{GTID{}, strings.Repeat("00", 18)},
		{GTID{uuid, "", 1}, hexA + "00 01"},
		{GTID{uuid, "ab", 300}, hexA + "02 6162 ac02"},
		{GTID{uuid, "", MaxNumber}, hexA + "00 feffffffffffffff7f"},
	} {
		b, err := test.gtid.AppendBinary([]byte("x"))
		if err != nil || !bytes.Equal(b, append([]byte("x"), unhex(t, test.want)...)) {
			t.Errorf("%v encodes to %x, %v; want %s", test.gtid, b, err, test.want)
		}
		got, rest, err := DecodeGTID(append(b[1:], "tail"...))
		if err != nil || got != test.gtid || string(rest) != "tail" {
			t.Errorf("%s decodes to %v, %q, %v", test.want, got, rest, err)
		}
		for n := range len(b) - 1 {
			if got, _, err := DecodeGTID(b[1 : 1+n]); err == nil {
				t.Errorf("%d bytes of %x decode to %v", n, b[1:], got)
			}
		}
	}
	for text, want := range map[string]EncodingError{
		hexA + "00 00":                 {Offset: 17, Reason: "a number out of range"},
		hexA + "00 ffffffffffffffff7f": {Offset: 17, Reason: "a number out of range"},
		hexA + "00 8100":               {Offset: 17, Reason: "a number not in its shortest form"},
		hexA + "01 41 01":              {Offset: 16, Reason: "text that is no tag"},
	} {
		_, _, err := DecodeGTID(unhex(t, text))
		checkEncodingError(t, err, "GTID", want)
	}
}
