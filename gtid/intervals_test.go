package gtid

import (
	"testing"

	"pgregory.net/rapid"
)

// TestIntervalCount counts what Intervals yields.
func TestIntervalCount(t *testing.T) {
	if n := (Set{}).IntervalCount(); n != 0 {
		t.Errorf("the empty set has %d", n)
	}
	rapid.Check(t, func(t *rapid.T) {
		s := Set{}
		for range rapid.IntRange(0, 12).Draw(t, "intervals") {
			first := rapid.Uint64Range(1, 30).Draw(t, "first")
			tag := Tag(rapid.SampledFrom([]string{"", "a", "b"}).Draw(t, "tag"))
			s = s.AddInterval(UUID{rapid.Byte().Draw(t, "uuid") % 3}, tag, first, first+rapid.Uint64Range(0, 3).Draw(t, "more"))
		}
		want := 0
		for range s.Intervals() {
			want++
		}
		if got := s.IntervalCount(); got != want {
			t.Fatalf("%v has %d, want %d", s, got, want)
		}
	})
}
