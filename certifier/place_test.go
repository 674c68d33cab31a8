package certifier

import (
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/concordatdb/concordat/gtid"
)

// slowRangeClash compares every range with every key.
func slowRangeClash(c *Certifier, ws *Encoded, v *seen) (Clash, bool) {
	n := 0
	for scanned := range ws.Ranges() {
		for i := c.places.Len() - 1; i >= 0; i-- {
			p := c.places.At(i)
			if p.sequence > c.mark.sequence && scanned.Covers(p.place()) && !c.sees(v, p.sequence) {
				clash := c.explain(p.sequence, Read, p.kind)
				clash.Range = n
				return clash, true
			}
		}
		n++
	}
	return Clash{}, false
}

// TestRangeClash compares the clash of many ranges, nested, overlapping, empty
// and in several spaces, with the one that is found by looking at each.
func TestRangeClash(t *testing.T) {
	long := strings.Repeat("m", MaxPlace)
	keys := []string{"", "\x00", "a", "aa", "ab", "b", "c", "ca", "d", "e", long, long + "a", long + "m", long[:MaxPlace-1] + "n", "z"}
	key := func(t *rapid.T) string { return rapid.SampledFrom(keys).Draw(t, "key") }
	space := func(t *rapid.T) Space { return Space(rapid.Uint64Range(1, 3).Draw(t, "space")) }
	found, none := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		c := New(group, roomy)
		stray := rapid.Bool().Draw(t, "stray")
		for i := range rapid.IntRange(1, 12).Draw(t, "transactions") {
			var doings []doing
			for range rapid.IntRange(1, 3).Draw(t, "keys") {
				doings = append(doings, doing{Item(100*i + len(doings)), Kind(rapid.IntRange(0, 1).Draw(t, "kind")), space(t), key(t)})
			}
			snapshot := c.Executed()
			if stray && i%3 == 1 {
				snapshot = snapshot.AddInterval(foreign, "", 1, 2)
			}
			judge(c, snapshot, compose(doings))
		}
		var scans []scan
		for range rapid.IntRange(1, 12).Draw(t, "scans") {
			scans = append(scans, scan{space(t), key(t), key(t)})
		}
		snapshot := upTo(rapid.Uint64Range(0, c.Sequence()).Draw(t, "seen"))
		switch rapid.SampledFrom([]string{"", "hole", "more"}).Draw(t, "snapshot") {
		case "hole":
			snapshot = snapshot.Subtract(gtid.Set{}.Add(numbered(rapid.Uint64Range(1, c.Sequence()).Draw(t, "hole"))))
		case "more":
			snapshot = snapshot.AddInterval(foreign, "", 1, 2)
		}
		ws := compose(nil, scans...)
		v := c.see(snapshot)
		want, lost := slowRangeClash(c, &ws, &v)
		got, gotLost := c.rangeClash(&ws, &v)
		if got != want || gotLost != lost {
			t.Fatalf("%+v: %v %+v, want %v %+v", scans, gotLost, got, lost, want)
		}
		for _, s := range c.scans {
			if s.From != nil || s.To != nil || s.reach != nil {
				t.Fatalf("%+v is kept", s)
			}
		}
		if lost {
			found++
		} else {
			none++
		}
	})
	if found == 0 || none == 0 {
		t.Errorf("%d clashes, %d without", found, none)
	}
}

// manyPlaces is a certifier with so many written keys, and disjoint ranges
// between them.
func manyPlaces(places, ranges int) (*Certifier, Encoded) {
	s := roomy
	s.RangeWrites = places
	c := New(group, s)
	var doings []doing
	for i := range places {
		doings = append(doings, doing{Item(i), Write, 1, fmt.Sprintf("%08d", i)})
		if len(doings) == 256 {
			judge(c, c.Executed(), compose(doings))
			doings = doings[:0]
		}
	}
	var scans []scan
	for i := range ranges {
		from := fmt.Sprintf("%08d", i*places/ranges)
		scans = append(scans, scan{1, from + "a", from + "b"})
	}
	return c, compose([]doing{{item: 1 << 40}}, scans...)
}

// TestScansAllocateNothing checks it for a transaction that has seen nothing.
func TestScansAllocateNothing(t *testing.T) {
	c, ws := manyPlaces(1024, 64)
	v := c.see(gtid.Set{})
	if allocs := testing.AllocsPerRun(10, func() { c.scanClash(&ws, &v) }); allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
}

// BenchmarkRanges compares ranges with all written keys that are remembered.
func BenchmarkRanges(b *testing.B) {
	for _, ranges := range []int{1, MaxRanges} {
		b.Run(fmt.Sprintf("ranges=%d", ranges), func(b *testing.B) {
			c, ws := manyPlaces(1<<16, ranges)
			v := c.see(gtid.Set{})
			b.ReportAllocs()
			for b.Loop() {
				if _, lost := c.scanClash(&ws, &v); lost {
					b.Fatal("lost")
				}
			}
		})
	}
}

// TestSeenUpTo checks that barriers are looked at only as far as a snapshot
// version does not reach, unless somebody strayed.
func TestSeenUpTo(t *testing.T) {
	c := New(group, roomy)
	fill(t, c, 1, 100, 0)
	v := c.see(upTo(97))
	if n := c.barriersAfter(c.seenUpTo(&v)); n != 3 {
		t.Errorf("%d of 100 barriers are looked at, 3 are unseen", n)
	}
	judge(c, c.Executed().AddInterval(foreign, "", 1, 1), Encoded{})
	if n := c.barriersAfter(c.seenUpTo(&v)); n != 101 {
		t.Errorf("%d of 101 barriers are looked at where one strayed", n)
	}
}

// BenchmarkReadBehindBarriers reads behind many barriers that were seen.
func BenchmarkReadBehindBarriers(b *testing.B) {
	c := New(group, roomy)
	fill(b, c, 1, 100_000, 0)
	ws, snapshot := does(Read, 1), upTo(100_000)
	v := c.see(snapshot)
	b.ReportAllocs()
	for b.Loop() {
		if _, lost := c.scanClash(&ws, &v); lost {
			b.Fatal("lost")
		}
	}
}
