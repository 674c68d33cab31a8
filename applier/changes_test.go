package applier

import (
	"bytes"
	"errors"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/concordatdb/concordat/gtid"
)

func drawChange(t *rapid.T) ChangeRecord {
	r := ChangeRecord{
		GTID:   gtid.GTID{UUID: gtid.UUID{rapid.Byte().Draw(t, "uuid"), 15: 1}, Number: rapid.Uint64Range(1, gtid.MaxNumber).Draw(t, "number")},
		Origin: gtid.UUID{rapid.Byte().Draw(t, "origin")},
		Time:   rapid.Int64().Draw(t, "time"),
	}
	keep := rapid.Bool().Draw(t, "keep")
	if keep {
		r.Old = []OldValue{}
	}
	for range rapid.IntRange(0, 4).Draw(t, "mutations") {
		r.Payload = AppendMutation(r.Payload, Mutation{
			Op: OpPut, Table: accounts, Key: rapid.SliceOf(rapid.Byte()).Draw(t, "key"), Value: rapid.SliceOf(rapid.Byte()).Draw(t, "value"),
		})
		if !keep {
			continue
		}
		old := OldValue{Exists: rapid.Bool().Draw(t, "exists")}
		if old.Exists {
			old.Value = rapid.SliceOf(rapid.Byte()).Draw(t, "old")
		}
		r.Old = append(r.Old, old)
	}
	return r
}

func sameChange(a, b ChangeRecord) bool {
	same := a.GTID == b.GTID && a.Origin == b.Origin && a.Time == b.Time && bytes.Equal(a.Payload, b.Payload) &&
		(a.Old == nil) == (b.Old == nil) && len(a.Old) == len(b.Old)
	for i := 0; same && i < len(a.Old); i++ {
		same = a.Old[i].Exists == b.Old[i].Exists && bytes.Equal(a.Old[i].Value, b.Old[i].Value)
	}
	return same
}

func TestChangeRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := drawChange(t)
		b, err := AppendChange([]byte("before"), &want)
		if err != nil {
			t.Fatal(err)
		}
		b = bytes.TrimPrefix(b, []byte("before"))
		got, err := DecodeChange(b)
		if err != nil || !sameChange(got, want) {
			t.Fatalf("%+v comes back as %+v, %v", want, got, err)
		}
		for n := range b {
			if _, err := DecodeChange(b[:n]); !errors.Is(err, ErrChange) {
				t.Fatalf("cut to %d of %d bytes: %v", n, len(b), err)
			}
		}
		if _, err := DecodeChange(append(b, 0)); !errors.Is(err, ErrChange) {
			t.Fatalf("a byte too many: %v", err)
		}
	})
}

func TestChangeMalformed(t *testing.T) {
	good := ChangeRecord{
		GTID: gtid.GTID{UUID: gtid.UUID{1}, Number: 5}, Payload: encode(Mutation{Op: OpDelete, Table: accounts, Key: []byte("k")}),
	}
	if _, err := AppendChange(nil, &ChangeRecord{}); err == nil {
		t.Error("a record without a GTID can be written")
	}
	head, err := AppendChange(nil, &good)
	if err != nil {
		t.Fatal(err)
	}
	head = head[:len(head)-1]
	for _, c := range []struct{ tail, says string }{
		{"\x02", "cut off or unknown"},
		{"\x01", "mutation 0 is cut off"},
		{"\x01\x02", "mutation 0 is cut off"},
		{"\x01\x01", "length of old value"},
		{"\x01\x01\x81\x00", "shortest form"},
		{"\x01\x00\x00", "1 bytes too many"},
	} {
		if _, err := DecodeChange(append(bytes.Clone(head), c.tail...)); !errors.Is(err, ErrChange) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%q behind the payload: %v, want %q in it", c.tail, err, c.says)
		}
	}
	good.Payload, good.Old = []byte("\x09"), []OldValue{{}}
	b, err := AppendChange(nil, &good)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := DecodeChange(b); !errors.Is(err, ErrChange) || !errors.Is(err, ErrPayload) {
		t.Errorf("old values of a payload that is none: %v", err)
	}
}

// FuzzDecodeChange checks that whatever decodes is what AppendChange writes.
func FuzzDecodeChange(f *testing.F) {
	for _, r := range []ChangeRecord{
		{GTID: gtid.GTID{UUID: gtid.UUID{1}, Number: 1}},
		{GTID: gtid.GTID{UUID: gtid.UUID{1}, Tag: "tag", Number: 7}, Time: -1, Old: []OldValue{}},
		{
			GTID: gtid.GTID{UUID: gtid.UUID{1}, Number: 1}, Payload: encode(Mutation{Op: OpPut, Table: accounts}, Mutation{Op: OpAdd, Table: accounts, Delta: 2}),
			Old: []OldValue{{}, {Value: []byte("v"), Exists: true}},
		},
	} {
		b, err := AppendChange(nil, &r)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := DecodeChange(b)
		if err != nil {
			return
		}
		again, err := AppendChange(nil, &r)
		if err != nil || !bytes.Equal(again, b) {
			t.Errorf("%x comes back as %x, %v", b, again, err)
		}
		if r2, err := DecodeChange(again); err != nil || !reflect.DeepEqual(r, r2) {
			t.Errorf("%+v is %+v the second time, %v", r, r2, err)
		}
	})
}
