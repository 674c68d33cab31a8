package applier

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/concordatdb/concordat/gtid"
)

func TestBatchCheckAfter(t *testing.T) {
	at := Position{Index: 7}
	for index, want := range map[uint64]error{0: ErrOrder, 6: ErrOrder, 7: ErrOrder, 8: nil, 100: nil} {
		if err := (Batch{To: Position{Index: index}}).CheckAfter(at); !errors.Is(err, want) {
			t.Errorf("batch to %d after 7: got %v, want %v", index, err, want)
		}
	}
}

func TestPositionRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := Position{Index: rapid.Uint64().Draw(t, "index"), Part: rapid.Uint64().Draw(t, "part")}
		for range rapid.IntRange(0, 5).Draw(t, "intervals") {
			first := rapid.Uint64Range(1, 1000).Draw(t, "first")
			uuid := gtid.UUID{byte(rapid.IntRange(0, 3).Draw(t, "uuid"))}
			last := first + rapid.Uint64Range(0, 100).Draw(t, "length")
			want.Executed = want.Executed.AddInterval(uuid, "", first, last)
		}
		b, err := want.AppendBinary([]byte("before"))
		if err != nil {
			t.Fatal(err)
		}
		b = append(b, "after"...)
		got, rest, err := DecodePosition(b[len("before"):])
		if err != nil {
			t.Fatal(err)
		}
		if got.Index != want.Index || got.Part != want.Part || !got.Executed.Equal(want.Executed) || string(rest) != "after" {
			t.Fatalf("got %v and %q, want %v", got, rest, want)
		}
		whole := b[len("before") : len(b)-len("after")]
		for n := range whole {
			if _, rest, err := DecodePosition(whole[:n]); err == nil || !bytes.Equal(rest, whole[:n]) {
				t.Fatalf("cut to %d bytes: %v, rest %q", n, err, rest)
			}
		}
	})
}

// TestPositionAfter follows transactions of some entries, of which others have
// none.
func TestPositionAfter(t *testing.T) {
	at := Position{Index: 3}
	for i, c := range []struct {
		entry   uint64 // of the next transaction
		want    Position
		reached uint64
	}{
		{4, Position{Index: 3, Part: 1}, 4},
		{4, Position{Index: 3, Part: 2}, 4},
		{5, Position{Index: 4, Part: 1}, 5},
		{9, Position{Index: 8, Part: 1}, 9},
		{9, Position{Index: 8, Part: 2}, 9},
	} {
		before := at
		at = at.After(&Transaction{Index: c.entry, GTID: gtid.GTID{UUID: gtid.UUID{1}, Number: uint64(i + 1)}})
		if at.Index != c.want.Index || at.Part != c.want.Part || at.Reached() != c.reached || at.Executed.Count() != uint64(i+1) {
			t.Errorf("after %d of entry %d: %v, which reaches %d, want %v", i+1, c.entry, at, at.Reached(), c.want)
		}
		if at.CheckAfter(before) != nil || !errors.Is(before.CheckAfter(at), ErrOrder) || !errors.Is(at.CheckAfter(at), ErrOrder) {
			t.Errorf("%v does not follow on %v, or the other way round", at, before)
		}
	}
	if whole := (Position{Index: 9}); whole.CheckAfter(at) != nil || whole.Reached() != 9 {
		t.Errorf("%v does not follow on %v", whole, at)
	}
}

// FuzzPosition checks that a position has one encoding.
func FuzzPosition(f *testing.F) {
	for _, p := range []Position{{}, {Index: 7, Part: 300}} {
		b, err := p.AppendBinary(nil)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte("\x00\x00\x00\x00\x00\x00\x00\x01\x80\x00\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, rest, err := DecodePosition(b)
		if err != nil {
			return
		}
		again, err := p.AppendBinary(nil)
		if err != nil || !bytes.Equal(again, b[:len(b)-len(rest)]) {
			t.Errorf("%x decodes to %v, which is encoded as %x, %v", b, p, again, err)
		}
	})
}

// TestDigestKnown fixes the digest: members compare it across versions.
func TestDigestKnown(t *testing.T) {
	var d Digester
	if d.Digest() != (Digest{}) {
		t.Errorf("digest of nothing: %v", d.Digest())
	}
	d.Add(accounts, []byte("alice"), []byte("100"))
	one := d.Digest().String()
	d.Add(accounts, []byte("bob"), []byte("7"))
	two := d.Digest().String()
	if one != "215e744134fed0f264d5d0c59073e4ed" || two != "7cabacad6bac14c9e9ffb31c83318936" {
		t.Errorf("digests %s and %s", one, two)
	}
}

// TestDigestOrder checks that a digest depends on what is in the state, and
// not on what was or in which order it came.
func TestDigestOrder(t *testing.T) {
	pair := rapid.Custom(func(t *rapid.T) [3]string {
		return [3]string{
			rapid.SampledFrom([]string{"a", "ab", "b"}).Draw(t, "table"),
			rapid.StringN(0, 3, -1).Draw(t, "key"),
			rapid.StringN(0, 3, -1).Draw(t, "value"),
		}
	})
	add := func(d *Digester, p [3]string) { d.Add(Table{Schema: "s", Name: p[0]}, []byte(p[1]), []byte(p[2])) }
	remove := func(d *Digester, p [3]string) {
		d.Remove(Table{Schema: "s", Name: p[0]}, []byte(p[1]), []byte(p[2]))
	}
	rapid.Check(t, func(t *rapid.T) {
		pairs := rapid.SliceOfN(pair, 1, 20).Draw(t, "pairs")
		passing := rapid.SliceOf(pair).Draw(t, "passing")
		var a, b, half Digester
		for _, p := range pairs {
			add(&a, p)
		}
		for _, p := range passing {
			add(&b, p)
		}
		for _, p := range rapid.Permutation(pairs).Draw(t, "order") {
			add(&b, p)
		}
		half.Reset(b.Digest())
		for _, p := range passing {
			remove(&half, p)
		}
		if a.Digest() != half.Digest() {
			t.Fatalf("digests %v and %v of the same pairs", a.Digest(), half.Digest())
		}
		add(&half, pairs[0])
		if a.Digest() == half.Digest() {
			t.Fatal("a pair counted twice leaves the digest as it was")
		}
	})
}

// TestDigestParts checks that moving bytes between schema, name, key and value
// makes another pair.
func TestDigestParts(t *testing.T) {
	seen := map[Digest]string{}
	for _, p := range [][4]string{
		{"ab", "c", "d", "e"},
		{"a", "bc", "d", "e"},
		{"ab", "cd", "", "e"},
		{"ab", "c", "de", ""},
		{"ab", "c", "", "de"},
		{"a", "b", "cd", "e"},
	} {
		var d Digester
		d.Add(Table{Schema: p[0], Name: p[1]}, []byte(p[2]), []byte(p[3]))
		what := strings.Join(p[:], "|")
		if other, dup := seen[d.Digest()]; dup {
			t.Errorf("%s and %s have the same digest", what, other)
		}
		seen[d.Digest()] = what
	}
}

func TestDigesterDoesNotKeepHugePairs(t *testing.T) {
	var d Digester
	d.Add(accounts, []byte("k"), make([]byte, 4*maxKeptPair))
	if cap(d.pair) > maxKeptPair {
		t.Errorf("a buffer of %d bytes is kept, the limit is %d", cap(d.pair), maxKeptPair)
	}
}

func BenchmarkDigester(b *testing.B) {
	var d Digester
	key, value := []byte("account-1"), make([]byte, 100)
	b.ReportAllocs()
	for b.Loop() {
		d.Add(accounts, key, value)
	}
}
