package certifier

import (
	"fmt"
	"testing"

	"github.com/concordatdb/concordat/gtid"
)

// TestRecentVersions checks that snapshot versions of those who lag little are
// found without a look at records, however many intervals they have, and that
// what is kept for that is bounded.
func TestRecentVersions(t *testing.T) {
	c := spread(t, roomy, MaxGTIDIntervals-1)
	var snapshots []gtid.Set
	for i := range uint64(3000) {
		snapshots = append(snapshots, c.Executed())
		v := judge(c, c.Executed(), writes(Item(i)))
		if v.Outcome != Certified {
			t.Fatalf("%+v", v)
		}
		c.EntryDone(MaxGTIDIntervals + i)
		// As it comes in a message, it shares no memory.
		s, _, err := gtid.DecodeSet(setBytes(snapshots[max(0, len(snapshots)-200)]))
		if err != nil {
			t.Fatal(err)
		}
		if n := c.known(s, s.Count()); n != s.Count() {
			t.Fatalf("at %d: of a snapshot version of %d, %d are known", c.Sequence(), s.Count(), n)
		}
	}
	sum := 0
	for i := range c.recent.Len() {
		sum += int(intervals(c.recent.At(i).executed))
	}
	if sum != c.noted || sum > recentIntervals || c.recent.Len() > recentVersions {
		t.Errorf("%d recent versions of %d intervals, counted %d", c.recent.Len(), sum, c.noted)
	}
}

// BenchmarkCertifySpread certifies under an executed set of many intervals,
// with snapshot versions that lag.
func BenchmarkCertifySpread(b *testing.B) {
	for _, n := range []uint64{1, 60, 70, 500, MaxGTIDIntervals} {
		b.Run(fmt.Sprintf("intervals=%d", n), func(b *testing.B) {
			c := spread(b, roomy, n-1)
			var recent [snapshotLag]gtid.Set
			for i := range recent {
				recent[i] = c.Executed()
			}
			index := n
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				s, _, err := gtid.DecodeSet(setBytes(recent[i%snapshotLag]))
				if err != nil {
					b.Fatal(err)
				}
				if v := judge(c, s, writes(Item(1000+i))); v.Outcome != Certified {
					b.Fatalf("%+v", v)
				}
				c.EntryDone(index)
				if index++; index%markEvery == 0 {
					c.Mark(markableItems(c, 100_000))
				}
				recent[i%snapshotLag] = c.Executed()
			}
		})
	}
}
