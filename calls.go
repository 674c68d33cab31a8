package concordat

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/concordatdb/concordat/internal/replica"
)

// callTable connects commits that wait with the answers of the state machine.
type callTable struct {
	mu    sync.Mutex
	next  uint64
	calls map[uint64]*call
}

// call is one commit under way. Its place among the pending commits is given
// back by the answer, not by the caller's patience: what the group has been
// handed stays there.
type call struct {
	done  chan replica.Answer
	bytes int
	tx    *Tx
	// fragments is in how many it travels, 0 for one that goes in one piece.
	fragments int
	// commits is the log index where the group has decided that it commits, 0 as
	// long as that is not known.
	commits atomic.Uint64
}

func (t *callTable) add(tx *Tx, bytes int) (ticket uint64, c *call) {
	c = &call{done: make(chan replica.Answer, 1), bytes: bytes, tx: tx}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.next++
	t.calls[t.next] = c
	return t.next, c
}

// decided notes that a call commits at a log index, unless that is 0, and returns
// what its ticket was given to, nil if it is gone.
func (t *callTable) decided(ticket, commits uint64) *Tx {
	t.mu.Lock()
	defer t.mu.Unlock()
	if c := t.calls[ticket]; c != nil {
		c.commits.Store(commits)
		return c.tx
	}
	return nil
}

// answer gives an answer to its caller, who may have gone, and frees a place.
func (t *callTable) answer(a replica.Answer, places *admission) {
	t.mu.Lock()
	c := t.calls[a.Ticket]
	delete(t.calls, a.Ticket)
	t.mu.Unlock()
	if c != nil {
		c.done <- a
		places.leave(c.bytes)
	}
}

// withdraw frees the place of a call that nobody took over.
func (t *callTable) withdraw(ticket uint64, places *admission) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if c := t.calls[ticket]; c != nil {
		delete(t.calls, ticket)
		places.leave(c.bytes)
	}
}

// abandon frees the places of all calls that will get no answer any more, and
// returns whose they were.
func (t *callTable) abandon(places *admission) (left []*Tx) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, c := range t.calls {
		places.leave(c.bytes)
		left = append(left, c.tx)
	}
	t.calls = map[uint64]*call{}
	return left
}

// waiters connects questions to the state machine with their answers.
type waiters[T any] struct {
	mu      sync.Mutex
	next    uint64
	waiting map[uint64]chan T
}

func (w *waiters[T]) add() (ticket uint64, answer <-chan T) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.waiting == nil {
		w.waiting = map[uint64]chan T{}
	}
	w.next++
	c := make(chan T, 1)
	w.waiting[w.next] = c
	return w.next, c
}

// answer reports whether anybody still waits.
func (w *waiters[T]) answer(ticket uint64, v T) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	c, ok := w.waiting[ticket]
	delete(w.waiting, ticket)
	if ok {
		c <- v
	}
	return ok
}

func (w *waiters[T]) drop(ticket uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.waiting, ticket)
}

// fail answers all that wait.
func (w *waiters[T]) fail(v T) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for ticket, c := range w.waiting {
		delete(w.waiting, ticket)
		c <- v
	}
}

// bell wakes everybody who waits for a change of something they look at
// themselves. Ringing it costs nothing while nobody waits.
type bell struct {
	mu      sync.Mutex
	ch      chan struct{}
	waiting atomic.Int32
}

func (b *bell) broadcast() {
	if b.waiting.Load() == 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ch != nil {
		close(b.ch)
		b.ch = nil
	}
}

// until returns once cond holds, which it looks at again after each broadcast,
// or when ctx ends. cond must read what was changed before the broadcast.
func (b *bell) until(ctx context.Context, cond func() bool) error {
	b.waiting.Add(1)
	defer b.waiting.Add(-1)
	for {
		b.mu.Lock()
		if b.ch == nil {
			b.ch = make(chan struct{})
		}
		ch := b.ch
		b.mu.Unlock()
		if cond() {
			return nil
		}
		select {
		case <-ch:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
