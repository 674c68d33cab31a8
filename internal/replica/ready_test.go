package replica

import (
	"testing"

	"pgregory.net/rapid"
)

// TestReady compares what is followed with all that came: one giant is, from its first
// fragment to its turn or until it is gone, and no other one meanwhile.
func TestReady(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var r Ready
		came := map[uint64]int{} // fragments of the giants that are under way
		newest, followed, parts := uint64(0), uint64(0), 0
		end := func(id uint64) {
			delete(came, id)
			if id == followed {
				followed, parts = 0, 0
			}
		}
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			id := rapid.Uint64Range(1, newest+1).Draw(t, "giant")
			if _, underWay := came[id]; !underWay {
				newest++
				id = newest
				came[id] = 0
			}
			switch what := rapid.IntRange(0, 9).Draw(t, "what"); {
			case what < 6:
				want := PassOver
				if followed == 0 && came[id] == 0 {
					followed, want = id, Begin
				} else if id == followed {
					want = Take
				}
				if got := r.Fragment(id, came[id]); got != want {
					t.Fatalf("fragment %d of %d: %d, want %d", came[id], id, got, want)
				}
				if came[id]++; id == followed {
					parts++
				}
			case what == 6:
				if got := r.Gone(id); got != (id == followed) {
					t.Fatalf("%d is gone: %t, %d is followed", id, got, followed)
				}
				end(id)
			case what == 7 && followed != 0:
				r.GaveUp()
				followed, parts = 0, 0
			default:
				fragments := came[id] + rapid.IntRange(0, 1).Draw(t, "lacks")
				this, whole := r.Turn(id, fragments)
				if this != (id == followed) || whole != (this && fragments == parts) {
					t.Fatalf("turn of %d with %d fragments: %t, %t; %d is followed, of which %d came", id, fragments, this, whole, followed, parts)
				}
				end(id)
			}
		}
	})
}

func TestReadyWithNothing(t *testing.T) {
	var r Ready
	if r.Gone(0) || r.Gone(7) {
		t.Error("something is gone that was not followed")
	}
	if this, whole := r.Turn(0, 0); this || whole {
		t.Error("a giant of which nothing was told has come to its turn")
	}
	if got := r.Fragment(3, 1); got != PassOver {
		t.Errorf("a giant whose beginning is missing: %d", got)
	}
}
