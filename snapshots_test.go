package concordat

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// The oldest snapshot in use is the least of those held, however they come and
// go; and what is no longer held takes no room.
func TestSnapshotsAgainstModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var s snapshots
		var held []uint64
		newest := uint64(0)
		t.Repeat(map[string]func(*rapid.T){
			"hold": func(t *rapid.T) {
				// Positions grow, and a caller may be a little late with one.
				newest += rapid.Uint64Range(0, 3).Draw(t, "growth")
				index := newest - min(newest, rapid.Uint64Range(0, 2).Draw(t, "late"))
				held = append(held, index)
				s.hold(index)
			},
			"release": func(t *rapid.T) {
				if len(held) == 0 {
					return
				}
				i := rapid.IntRange(0, len(held)-1).Draw(t, "i")
				s.release(held[i])
				held = slices.Delete(held, i, i+1)
			},
			"": func(t *rapid.T) {
				want := newest
				if len(held) > 0 {
					want = min(newest, slices.Min(held))
				}
				if got := s.oldest(newest); got != want {
					t.Fatalf("oldest %d, want %d of %v", got, want, held)
				}
				if len(s.open) > len(held) {
					t.Fatalf("%d places for %d snapshots", len(s.open), len(held))
				}
			},
		})
	})
}
