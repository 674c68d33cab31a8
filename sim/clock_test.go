package sim

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// TestClock checks the heap against sorting: by time, then by order of
// scheduling, events scheduled from events included.
func TestClock(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	type happened struct {
		at    int64
		order int
	}
	var c clock
	var got []happened
	order := 0
	var schedule func(depth int)
	schedule = func(depth int) {
		order++
		mine, at := order, c.now+r.Int64N(20)
		c.after(at-c.now, func() {
			if c.now != at {
				t.Errorf("event %d of %d happens at %d", mine, at, c.now)
			}
			got = append(got, happened{at, mine})
			for range r.IntN(3) {
				if depth < 4 {
					schedule(depth + 1)
				}
			}
		})
	}
	for range 500 {
		schedule(0)
	}
	for c.step() {
	}
	if len(got) != order || c.done != uint64(order) {
		t.Errorf("%d events happened, counted %d, scheduled %d", len(got), c.done, order)
	}
	sorted := slices.IsSortedFunc(got, func(a, b happened) int {
		if a.at != b.at {
			return int(a.at - b.at)
		}
		return a.order - b.order
	})
	if !sorted {
		t.Error("events happened out of order")
	}
}

func TestSpan(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	seen := map[int64]bool{}
	for range 1000 {
		seen[span{-2, 2}.draw(r)] = true
	}
	for d := int64(-3); d <= 3; d++ {
		if inside := -2 <= d && d <= 2; seen[d] != inside {
			t.Errorf("%d drawn: %v, want %v", d, seen[d], inside)
		}
	}
	if d := (span{7, 7}).draw(r); d != 7 {
		t.Errorf("drawn %d from 7 to 7", d)
	}
}
