package applier

import (
	"bytes"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// decode collects the mutations of a payload.
func decode(payload []byte) (muts []Mutation, err error) {
	for m, err := range Mutations(payload) {
		if err != nil {
			return muts, err
		}
		muts = append(muts, m)
	}
	return muts, nil
}

func sameMutation(a, b Mutation) bool {
	return a.Op == b.Op && a.Table == b.Table && bytes.Equal(a.Key, b.Key) &&
		bytes.Equal(a.Value, b.Value) && a.Delta == b.Delta
}

func encode(muts ...Mutation) (payload []byte) {
	for _, m := range muts {
		payload = AppendMutation(payload, m)
	}
	return payload
}

var accounts = Table{Schema: "bank", Name: "accounts"}

func TestPayloadEncoding(t *testing.T) {
	got := encode(
		Mutation{Op: OpPut, Table: accounts, Key: []byte("k"), Value: []byte("value")},
		Mutation{Op: OpDelete, Table: Table{Schema: "s", Name: "t"}},
		Mutation{Op: OpPut, Table: Table{Schema: "s", Name: "t"}},
		Mutation{Op: OpAdd, Table: Table{Schema: "s", Name: "t"}, Key: []byte("k"), Delta: 1},
		Mutation{Op: OpAdd, Table: Table{Schema: "s", Name: "t"}, Delta: -65},
	)
	want := "\x01\x04bank\x08accounts\x01k\x05value" + "\x02\x01s\x01t\x00" + "\x01\x01s\x01t\x00\x00" +
		"\x03\x01s\x01t\x01k\x02" + "\x03\x01s\x01t\x00\x81\x01"
	if string(got) != want {
		t.Errorf("payload %q, want %q", got, want)
	}
}

func TestPayloadMalformed(t *testing.T) {
	good := encode(Mutation{Op: OpPut, Table: accounts, Key: []byte("key"), Value: []byte("value")})
	head, add := "\x01\x04bank\x08accounts", "\x03\x04bank\x08accounts\x01k"
	for _, c := range []struct {
		what, payload, says string
		want                error
	}{
		{"operation 0", "\x00\x04bank\x08accounts\x00\x00", "unknown operation 0", nil},
		{"operation 4", "\x04\x04bank\x08accounts\x00\x00", "unknown operation 4", nil},
		{"only an operation", "\x01", "length of schema", nil},
		{"schema empty", "\x02\x00\x01t\x00", "schema is empty", ErrTableName},
		{"name empty", "\x02\x01s\x00\x00", "name is empty", ErrTableName},
		{"both empty", "\x02\x00\x00\x00", "schema is empty", ErrTableName},
		{"NUL in schema", "\x02\x02s\x00\x01t\x00", "NUL", ErrTableName},
		{"name not UTF-8", "\x02\x01s\x01\xff\x00", "UTF-8", ErrTableName},
		{"schema too long", "\x02\x80\x02" + strings.Repeat("s", 256) + "\x01t\x00", "limit is 255", ErrTooLarge},
		{"key too long", head + "\x81\x80\x04" + strings.Repeat("k", MaxKeyLen+1), "limit is 65536", ErrTooLarge},
		{"value too long", head + "\x01k\x81\x80\x80\x20", "limit is 67108864", ErrTooLarge},
		{"length overflows", head + strings.Repeat("\xff", 10) + "\x01", "overflows", nil},
		{"key beyond the end", head + "\x05key", "only 3 left", nil},
		{"value missing", head + "\x01k", "length of value", nil},
		{"delta missing", add, "delta is cut off", nil},
		{"delta cut off", add + "\x80", "delta is cut off", nil},
		{"delta overflows", add + strings.Repeat("\xff", 9) + "\x02", "overflows", nil},
		{"delta in a longer form", add + "\x82\x00", "delta is not in its shortest form", nil},
		{"delta 0 in a longer form", add + "\x80\x80\x00", "delta is not in its shortest form", nil},
		{"length in a longer form", "\x02\x84\x00bank\x08accounts\x00", "length of schema is not in its shortest", nil},
		{"length 0 in a longer form", "\x02\x01s\x01t\x80\x00", "length of key is not in its shortest", nil},
		{"good, then bad", string(good) + "\x09", "at byte 25", nil},
	} {
		_, err := decode([]byte(c.payload))
		if !errors.Is(err, ErrPayload) || c.want != nil && !errors.Is(err, c.want) ||
			!strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: got %v, want %v and %v and %q in it", c.what, err, ErrPayload, c.want, c.says)
		}
	}
	for n := 1; n < len(good); n++ {
		if muts, err := decode(good[:n]); !errors.Is(err, ErrPayload) || muts != nil {
			t.Errorf("cut to %d bytes: %v, %v", n, muts, err)
		}
	}
}

func TestMutationCheck(t *testing.T) {
	long := strings.Repeat("x", MaxNameLen)
	for _, c := range []struct {
		what string
		m    Mutation
		want error
	}{
		{"plain", Mutation{Op: OpPut, Table: accounts, Key: []byte("k"), Value: []byte("v")}, nil},
		{"empty key and value", Mutation{Op: OpPut, Table: accounts}, nil},
		{"at the limits", Mutation{
			Op: OpPut, Table: Table{Schema: long, Name: long},
			Key: make([]byte, MaxKeyLen), Value: make([]byte, MaxValueLen),
		}, nil},
		{"delta", Mutation{Op: OpAdd, Table: accounts, Key: []byte("k"), Delta: math.MinInt64}, nil},
		{"delta of 0 for the empty key", Mutation{Op: OpAdd, Table: accounts}, nil},
		{"delta, empty name", Mutation{Op: OpAdd, Table: Table{Schema: "s"}, Delta: 1}, ErrTableName},
		{"delta, long key", Mutation{Op: OpAdd, Table: accounts, Key: make([]byte, MaxKeyLen+1)}, ErrTooLarge},
		{"long schema", Mutation{Op: OpPut, Table: Table{Schema: long + "x", Name: "t"}}, ErrTableName},
		{"long name", Mutation{Op: OpPut, Table: Table{Schema: "s", Name: long + "x"}}, ErrTableName},
		{"empty schema", Mutation{Op: OpDelete, Table: Table{Name: "t"}}, ErrTableName},
		{"empty name", Mutation{Op: OpDelete, Table: Table{Schema: "s"}}, ErrTableName},
		{"NUL in name", Mutation{Op: OpDelete, Table: Table{Schema: "s", Name: "a\x00"}}, ErrTableName},
		{"schema not UTF-8", Mutation{Op: OpDelete, Table: Table{Schema: "\xc3", Name: "t"}}, ErrTableName},
		{"long key", Mutation{Op: OpDelete, Table: accounts, Key: make([]byte, MaxKeyLen+1)}, ErrTooLarge},
		{"long value", Mutation{Op: OpPut, Table: accounts, Value: make([]byte, MaxValueLen+1)}, ErrTooLarge},
	} {
		err := c.m.Check()
		if !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", c.what, err, c.want)
		}
		// What may be written decodes, what may not does not.
		if _, derr := decode(encode(c.m)); (derr == nil) != (err == nil) {
			t.Errorf("%s: check says %v, decoding %v", c.what, err, derr)
		}
	}
	for _, op := range []Op{0, 4, 7, 255} {
		if err := (Mutation{Op: op, Table: accounts}).Check(); err == nil {
			t.Errorf("operation %d: no error", op)
		}
	}
}

// TestPayloadStops checks that a consumer may leave the loop.
func TestPayloadStops(t *testing.T) {
	payload := append(encode(Mutation{Op: OpDelete, Table: accounts}), 99)
	for m, err := range Mutations(payload) {
		if err != nil || m.Op != OpDelete {
			t.Errorf("%v, %v", m, err)
		}
		break
	}
}

// TestPayloadAliases checks that decoding copies neither keys nor values, and
// that appending to one cannot reach its neighbours.
func TestPayloadAliases(t *testing.T) {
	payload := encode(Mutation{Op: OpPut, Table: accounts, Key: []byte("key"), Value: []byte("value")})
	muts, err := decode(payload)
	if err != nil {
		t.Fatal(err)
	}
	before := bytes.Clone(payload)
	_ = append(muts[0].Key, "overrun"...)
	if !bytes.Equal(payload, before) {
		t.Errorf("appending to a key changed the payload to %q", payload)
	}
	payload[len(payload)-1] = 'E'
	if string(muts[0].Value) != "valuE" {
		t.Errorf("value %q is a copy", muts[0].Value)
	}
	if n := testing.AllocsPerRun(100, func() { _, _ = decode(nil) }); n > 1 {
		t.Errorf("%v allocations to decode nothing", n)
	}
}

func TestPayloadRoundTrip(t *testing.T) {
	name := rapid.StringOfN(rapid.Rune().Filter(func(r rune) bool { return r != 0 }), 1, 20, MaxNameLen)
	mutation := rapid.Custom(func(t *rapid.T) Mutation {
		m := Mutation{
			Op:    rapid.SampledFrom([]Op{OpPut, OpDelete, OpAdd}).Draw(t, "op"),
			Table: Table{Schema: name.Draw(t, "schema"), Name: name.Draw(t, "name")},
			Key:   rapid.SliceOf(rapid.Byte()).Draw(t, "key"),
		}
		switch m.Op {
		case OpPut:
			m.Value = rapid.SliceOf(rapid.Byte()).Draw(t, "value")
		case OpAdd:
			m.Delta = rapid.Int64().Draw(t, "delta")
		case OpDelete:
		}
		return m
	})
	rapid.Check(t, func(t *rapid.T) {
		want := rapid.SliceOf(mutation).Draw(t, "mutations")
		for _, m := range want {
			if err := m.Check(); err != nil {
				t.Fatal(err)
			}
		}
		got, err := decode(encode(want...))
		if err != nil {
			t.Fatal(err)
		}
		if !slices.EqualFunc(got, want, sameMutation) {
			t.Fatalf("got %v, want %v", got, want)
		}
	})
}

// FuzzMutations checks that whatever decodes passes Check, and has no encoding
// but the one it was decoded from.
func FuzzMutations(f *testing.F) {
	f.Add(encode(Mutation{Op: OpPut, Table: accounts, Key: []byte("key"), Value: []byte("value")}))
	f.Add(encode(Mutation{Op: OpDelete, Table: accounts}, Mutation{Op: OpDelete, Table: accounts, Key: []byte{0}}))
	f.Add(encode(
		Mutation{Op: OpAdd, Table: accounts, Key: []byte("n"), Delta: 1},
		Mutation{Op: OpAdd, Table: accounts, Delta: math.MinInt64},
		Mutation{Op: OpAdd, Table: accounts, Delta: math.MaxInt64},
	))
	f.Add([]byte("\x03\x01s\x01t\x00\x80\x00"))
	f.Add([]byte("\x01\x04bank\x80\x80\x80\x80\x10accounts"))
	f.Fuzz(func(t *testing.T, payload []byte) {
		muts, err := decode(payload)
		if err != nil && !errors.Is(err, ErrPayload) {
			t.Errorf("%v", err)
		}
		for _, m := range muts {
			if err := m.Check(); err != nil {
				t.Errorf("decoded: %v", err)
			}
		}
		again := encode(muts...)
		if !bytes.HasPrefix(payload, again) || err == nil && len(again) != len(payload) {
			t.Errorf("%q decoded to %v, %v, which is encoded as %q", payload, muts, err, again)
		}
	})
}

func BenchmarkMutations(b *testing.B) {
	payload := encode(Mutation{Op: OpPut, Table: accounts, Key: []byte("account-1"), Value: make([]byte, 100)})
	b.ReportAllocs()
	for b.Loop() {
		for _, err := range Mutations(payload) {
			if err != nil {
				b.Fatal(err)
			}
		}
	}
}

// FuzzMutationReader gives a payload to a reader in pieces, which must take the same
// mutations off it as there are before the first error, and leave the rest.
func FuzzMutationReader(f *testing.F) {
	good := encode(
		Mutation{Op: OpPut, Table: accounts, Key: []byte("key"), Value: bytes.Repeat([]byte{7}, 300)},
		Mutation{Op: OpAdd, Table: accounts, Key: []byte("n"), Delta: -300},
		Mutation{Op: OpDelete, Table: Table{Schema: "s", Name: "t"}},
	)
	for _, cut := range []byte{0, 1, 5, 200} {
		f.Add(good, cut)
		f.Add(good[:len(good)-1], cut)
		f.Add(append(slices.Clone(good), 9, 1), cut)
	}
	f.Fuzz(func(t *testing.T, payload []byte, cut byte) {
		var want []Mutation
		for m, err := range Mutations(payload) {
			if err == nil {
				want = append(want, m)
			}
		}
		var r MutationReader
		taken := 0
		for rest := payload; len(rest) > 0; {
			n := min(len(rest), 1+int(cut))
			piece := slices.Clone(rest[:n])
			rest = rest[n:]
			r.Add(piece)
			clear(piece)
			for m, ok := r.Next(); ok; m, ok = r.Next() {
				if taken == len(want) || !sameMutation(m, want[taken]) {
					t.Fatalf("mutation %d is %+v, of %d", taken, m, len(want))
				}
				taken++
			}
		}
		if left := len(payload) - len(encode(want...)); taken != len(want) || r.Held() != left {
			t.Fatalf("%d mutations of %d, %d bytes are left, want %d", taken, len(want), r.Held(), left)
		}
	})
}
