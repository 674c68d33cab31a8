// Package queue holds the one first-in-first-out list that the state machines
// share. It promises amortised constant time, no allocation while it does not
// grow, and no reference to what was taken out. It knows nothing of what it
// holds, and it belongs to one goroutine.
package queue

// Queue is a first-in-first-out list in a ring that doubles when it is full.
// The zero value is an empty queue.
type Queue[T any] struct {
	ring []T // its length is zero or a power of two
	head int
	n    int
}

// Len is the number of elements.
func (q *Queue[T]) Len() int { return q.n }

// At returns the i-th element counted from the oldest, which is At(0). The
// pointer is good until the next Push or Pop. i must be below Len.
func (q *Queue[T]) At(i int) *T {
	_ = q.ring[:q.n][i] // an index beyond the end must not wrap round to the front
	return &q.ring[(q.head+i)&(len(q.ring)-1)]
}

// Push adds v as the newest element.
func (q *Queue[T]) Push(v T) {
	if q.n == len(q.ring) {
		q.grow()
	}
	q.n++
	*q.At(q.n - 1) = v
}

// Pop takes out the oldest element. There must be one.
func (q *Queue[T]) Pop() T {
	var zero T
	oldest := q.At(0)
	v := *oldest
	*oldest = zero
	q.head = (q.head + 1) & (len(q.ring) - 1)
	q.n--
	return v
}

func (q *Queue[T]) grow() {
	ring := make([]T, max(16, 2*len(q.ring)))
	n := copy(ring, q.ring[q.head:])
	copy(ring[n:], q.ring[:q.head])
	q.ring, q.head = ring, 0
}
