package queue_test

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/concordatdb/concordat/internal/queue"
)

// TestModel compares the ring with a slice under random pushes and pops.
func TestModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var q queue.Queue[int]
		var model []int
		for i := range rapid.IntRange(0, 300).Draw(t, "operations") {
			if len(model) > 0 && rapid.IntRange(0, 2).Draw(t, "pop") == 0 {
				if got := q.Pop(); got != model[0] {
					t.Fatalf("popped %d, want %d", got, model[0])
				}
				model = model[1:]
			} else {
				q.Push(i)
				model = append(model, i)
			}
			if q.Len() != len(model) {
				t.Fatalf("length %d, want %d", q.Len(), len(model))
			}
			for at, want := range model {
				if got := *q.At(at); got != want {
					t.Fatalf("element %d is %d, want %d", at, got, want)
				}
			}
		}
	})
}

// TestAtBeyondTheEnd guards the one mistake that a ring makes easy to hide.
func TestAtBeyondTheEnd(t *testing.T) {
	var q queue.Queue[int]
	q.Push(1)
	defer func() {
		if recover() == nil {
			t.Fatal("At(1) of a queue of one element returned")
		}
	}()
	q.At(1)
}
