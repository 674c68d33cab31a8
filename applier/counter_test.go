package applier

import (
	"bytes"
	"errors"
	"math"
	"testing"

	"pgregory.net/rapid"
)

// TestCounterValue fixes the format: it is in the data of members.
func TestCounterValue(t *testing.T) {
	for n, want := range map[int64]string{
		0:             "\x00\x00\x00\x00\x00\x00\x00\x00",
		1:             "\x00\x00\x00\x00\x00\x00\x00\x01",
		-2:            "\xff\xff\xff\xff\xff\xff\xff\xfe",
		0x0102030405:  "\x00\x00\x00\x01\x02\x03\x04\x05",
		math.MaxInt64: "\x7f\xff\xff\xff\xff\xff\xff\xff",
		math.MinInt64: "\x80\x00\x00\x00\x00\x00\x00\x00",
	} {
		if got := AppendCounter([]byte("before"), n); string(got) != "before"+want {
			t.Errorf("counter at %d: %q, want %q", n, got, want)
		}
		if got, ok := DecodeCounter([]byte(want)); got != n || !ok {
			t.Errorf("%q: %d, %v, want %d", want, got, ok, n)
		}
	}
}

func TestAddCounter(t *testing.T) {
	text := []byte("text")
	at := func(n int64) []byte { return AppendCounter(nil, n) }
	for _, c := range []struct {
		what   string
		old    []byte
		exists bool
		n      int64
		want   int64
		err    error
	}{
		{"missing", nil, false, 5, 5, nil},
		{"missing, and old is something else", text, false, 5, 5, nil},
		{"plain", at(40), true, 2, 42, nil},
		{"negative", at(40), true, -42, -2, nil},
		{"beyond the end", at(math.MaxInt64), true, 1, math.MinInt64, nil},
		{"beyond the beginning", at(math.MinInt64), true, -1, math.MaxInt64, nil},
		{"empty", nil, true, 5, 0, ErrPayload},
		{"too short", at(1)[1:], true, 5, 0, ErrPayload},
		{"too long", append(at(1), 0), true, 5, 0, ErrPayload},
	} {
		got, err := AddCounter(c.old, c.exists, c.n)
		if got != c.want || !errors.Is(err, c.err) {
			t.Errorf("%s: %d, %v, want %d, %v", c.what, got, err, c.want, c.err)
		}
	}
}

// TestAddCounterCommutes checks that the order of deltas does not matter, also
// when sums wrap around on the way.
func TestAddCounterCommutes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		start := AppendCounter(nil, rapid.Int64().Draw(t, "start"))
		deltas := rapid.SliceOf(rapid.Int64()).Draw(t, "deltas")
		sum := func(deltas []int64) []byte {
			value := bytes.Clone(start)
			for _, n := range deltas {
				at, err := AddCounter(value, true, n)
				if err != nil {
					t.Fatal(err)
				}
				value = AppendCounter(value[:0], at)
			}
			return value
		}
		a, b := sum(deltas), sum(rapid.Permutation(deltas).Draw(t, "order"))
		if !bytes.Equal(a, b) {
			t.Fatalf("sums %x and %x of the same deltas", a, b)
		}
	})
}

// FuzzDecodeCounter checks that a value is a counter or is not, and that a
// counter has one value.
func FuzzDecodeCounter(f *testing.F) {
	f.Add([]byte(nil))
	f.Add(AppendCounter(nil, -1))
	f.Add(append(AppendCounter(nil, 1), 0))
	f.Fuzz(func(t *testing.T, value []byte) {
		n, ok := DecodeCounter(value)
		if ok != (len(value) == CounterLen) {
			t.Errorf("%x: %v", value, ok)
		}
		if again := AppendCounter(nil, n); ok && !bytes.Equal(again, value) {
			t.Errorf("%x is a counter at %d, whose value is %x", value, n, again)
		}
	})
}
