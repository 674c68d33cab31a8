package certifier

import "github.com/concordatdb/concordat/internal/queue"

// chunkLen is how many elements of a window are allocated, and given back,
// together.
const chunkLen = 512

// window is a first-in-first-out list in chunks. A ring that doubles would be
// simpler, but growing it copies the whole history within one delivery, and it
// never shrinks. The zero value is empty.
type window[T any] struct {
	chunks queue.Queue[*[chunkLen]T]
	spare  *[chunkLen]T // so that a window of steady length allocates nothing
	head   int          // of the oldest element in the first chunk
	n      int
}

// Len is the number of elements.
func (w *window[T]) Len() int { return w.n }

// At returns the i-th element counted from the oldest. The pointer is good
// until that element is taken out. i must be below Len.
func (w *window[T]) At(i int) *T {
	i += w.head
	return &(*w.chunks.At(i / chunkLen))[i%chunkLen]
}

// Push adds v as the newest element.
func (w *window[T]) Push(v T) { *w.Add() = v }

// Add adds the zero value as the newest element and returns it, to be filled in
// place.
func (w *window[T]) Add() *T {
	if w.head+w.n == w.chunks.Len()*chunkLen {
		if w.spare == nil {
			w.spare = new([chunkLen]T)
		}
		w.chunks.Push(w.spare)
		w.spare = nil
	}
	w.n++
	return w.At(w.n - 1)
}

// Pop takes out the oldest element. There must be one.
func (w *window[T]) Pop() T {
	var zero T
	oldest := w.At(0)
	v := *oldest
	*oldest = zero
	w.head++
	w.n--
	if w.head == chunkLen {
		w.spare, w.head = w.chunks.Pop(), 0
	}
	return v
}
