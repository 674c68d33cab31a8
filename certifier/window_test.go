package certifier

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// TestWindow runs a window beside a slice, in strides that cross chunks.
func TestWindow(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var w window[*int]
		var model []*int
		for range rapid.IntRange(1, 12).Draw(t, "strides") {
			for range rapid.SampledFrom([]int{0, 1, chunkLen - 1, chunkLen, 3 * chunkLen}).Draw(t, "push") {
				v := new(int)
				w.Push(v)
				model = append(model, v)
			}
			for range min(len(model), rapid.SampledFrom([]int{0, 1, chunkLen, 4 * chunkLen}).Draw(t, "pop")) {
				if got := w.Pop(); got != model[0] {
					t.Fatalf("took out the wrong element with %d left", len(model))
				}
				model = model[1:]
			}
			if w.Len() != len(model) {
				t.Fatalf("%d elements, want %d", w.Len(), len(model))
			}
			for i := range model {
				if *w.At(i) != model[i] {
					t.Fatalf("element %d of %d is wrong", i, len(model))
				}
			}
			if held, most := w.chunks.Len()*chunkLen, len(model)+2*chunkLen; held > most {
				t.Fatalf("room for %d elements is held for %d", held, len(model))
			}
			if w.spare != nil && slices.IndexFunc(w.spare[:], func(p *int) bool { return p != nil }) >= 0 {
				t.Fatal("the spare chunk still refers to what was taken out")
			}
		}
	})
}

// TestWindowOfSteadyLength checks that what is given back serves what comes.
func TestWindowOfSteadyLength(t *testing.T) {
	var w window[int]
	for i := range 2*chunkLen + 1 {
		w.Push(i)
	}
	allocs := testing.AllocsPerRun(10, func() {
		for i := range 5 * chunkLen {
			w.Push(i)
			w.Pop()
		}
	})
	if allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
}
