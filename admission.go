package concordat

import (
	"context"
	"sync"
)

// admission bounds the commits that wait for the group's decision, by number
// and by bytes. What is handed to the group stays with it however patient its
// caller is, so a place is given back by the decision only. Callers are let in
// in the order in which they came, so a large one is not starved by small ones.
type admission struct {
	mu         sync.Mutex
	calls      int // left
	bytes      int // left; a commit larger than all of it comes in alone
	totalBytes int
	queue      []*applicant
}

type applicant struct {
	bytes int
	in    chan struct{} // closed when let in
}

func newAdmission(calls, bytes int) *admission {
	return &admission{calls: calls, bytes: bytes, totalBytes: bytes}
}

func (a *admission) fits(bytes int) bool {
	return a.calls > 0 && (bytes <= a.bytes || a.bytes == a.totalBytes)
}

func (a *admission) take(bytes int) {
	a.calls--
	a.bytes -= bytes
}

// enter waits for a place, until ctx ends or lost is closed.
func (a *admission) enter(ctx context.Context, bytes int, lost <-chan struct{}) error {
	a.mu.Lock()
	if len(a.queue) == 0 && a.fits(bytes) {
		a.take(bytes)
		a.mu.Unlock()
		return nil
	}
	me := &applicant{bytes: bytes, in: make(chan struct{})}
	a.queue = append(a.queue, me)
	a.mu.Unlock()
	var err error
	select {
	case <-me.in:
		return nil
	case <-lost:
		err = ErrNoQuorum
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	select {
	case <-me.in: // at the same moment; the caller will not use it
		a.give(bytes)
	default:
		for i, other := range a.queue {
			if other == me {
				a.queue = append(a.queue[:i], a.queue[i+1:]...)
				break
			}
		}
		a.admit() // whoever stood behind may be smaller
	}
	return err
}

// leave gives a place back.
func (a *admission) leave(bytes int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.give(bytes)
}

func (a *admission) give(bytes int) {
	a.calls++
	a.bytes += bytes
	a.admit()
}

func (a *admission) admit() {
	for len(a.queue) > 0 && a.fits(a.queue[0].bytes) {
		next := a.queue[0]
		a.queue = a.queue[1:]
		a.take(next.bytes)
		close(next.in)
	}
}
