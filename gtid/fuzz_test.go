package gtid

import (
	"bytes"
	"errors"
	"testing"
)

func FuzzParseSet(f *testing.F) {
	for _, seed := range []string{
		"", " , ,", uuidA, uuidA + ":1-5:7", uuidA + ":1-5:tag:3:4-2,,\n" + uuidB + " : 9 - 12 ",
		uuidA + ":9223372036854775806", uuidA + ":9223372036854775807", uuidA + ":1:", uuidA + ":\xff",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		set, err := ParseSet(text)
		if err != nil {
			checkFuzzedSyntaxError(t, err, text)
			return
		}
		if err := set.valid(); err != nil {
			t.Fatal(err)
		}
		printed := set.String()
		again, err := ParseSet(printed)
		if err != nil || !again.Equal(set) || again.String() != printed {
			t.Fatalf("%q prints as %q, which parses to %q, %v", text, printed, again, err)
		}
	})
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"", uuidA + ":1", "{" + uuidA + "} : tag : 007", hexA + ":9223372036854775806", uuidA + ":1-2", uuidA + ":0",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		g, err := Parse(text)
		if err != nil {
			checkFuzzedSyntaxError(t, err, text)
			return
		}
		if !g.Valid() {
			t.Fatalf("%q parses to %v, which is not valid", text, g)
		}
		if again, err := Parse(g.String()); err != nil || again != g {
			t.Fatalf("%q prints as %v, which parses to %v, %v", text, g, again, err)
		}
		// A GTID is also a set of one, in the forms of the UUID that sets take.
		if set, err := ParseSet(g.String()); err != nil || !set.Equal(Set{}.Add(g)) {
			t.Fatalf("%v parses to the set %v, %v", g, set, err)
		}
	})
}

func checkFuzzedSyntaxError(t *testing.T, err error, text string) {
	t.Helper()
	e, ok := errors.AsType[*SyntaxError](err)
	if !ok || e.Offset < 0 || e.Offset > len(text) || e.Expected == "" {
		t.Fatalf("%q: error %v", text, err)
	}
}

func FuzzDecodeGTID(f *testing.F) {
	for _, seed := range []string{hexA + "00 01", hexA + "02 6162 ac02", hexA + "00 feffffffffffffff7f", "00"} {
		f.Add(unhex(f, seed))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		g, rest, err := DecodeGTID(b)
		if err != nil {
			if e, ok := errors.AsType[*EncodingError](err); !ok || e.Offset < 0 || e.Offset > len(b) {
				t.Fatalf("%x: error %v", b, err)
			}
			return
		}
		again, err := g.AppendBinary(nil)
		if err != nil || !bytes.Equal(append(again, rest...), b) {
			t.Fatalf("%x decodes to %v, which encodes to %x, %v", b, g, again, err)
		}
	})
}

func FuzzDecodeSet(f *testing.F) {
	for _, seed := range []string{
		"00", "01 04" + hexA + "00 7f", "01 0c" + hexA + "0002 0000 0101", "01 06" + hexA + "02 6162 0000",
		"04 04" + hexA + "0000 07 0161 0100 07 0162 0201 0a" + hexB + "0162 0000 0000",
		"01 04" + hexA + "01 fdffffffffffffff7f", "ffffffffffffffffff01",
	} {
		f.Add(unhex(f, seed))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		set, rest, err := DecodeSet(b)
		if err != nil {
			if e, ok := errors.AsType[*EncodingError](err); !ok || e.Offset < 0 || e.Offset > len(b) {
				t.Fatalf("%x: error %v", b, err)
			}
			return
		}
		if err := set.valid(); err != nil {
			t.Fatal(err)
		}
		if again := append(encode(t, set), rest...); !bytes.Equal(again, b) {
			t.Fatalf("%x decodes to %v, which encodes to %x", b, set, again)
		}
	})
}
