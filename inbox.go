package concordat

import (
	"context"
	"sync"

	"github.com/concordatdb/concordat/gcs"
	"github.com/concordatdb/concordat/internal/replica"
)

// inbox is where all events of a member meet. One goroutine takes them, in
// runs: whatever has gathered while the previous run was worked on.
//
// It is bounded by who may put in: peers wait while more than its limit of
// their bytes is there; completions answer work that was bounded when it was
// given out; callers hold one of a fixed number of places. So nothing that the
// taker waits for can ever be stuck behind a full inbox.
type inbox struct {
	mu     sync.Mutex
	events []replica.Event
	closed bool
	wake   chan struct{} // has a token when there may be events

	peerBytes int
	peerLimit int
	room      chan struct{} // closed, and renewed, when peerBytes goes to 0
}

func newInbox(peerLimit int) *inbox {
	return &inbox{wake: make(chan struct{}, 1), room: make(chan struct{}), peerLimit: peerLimit}
}

// put adds events, and reports false once the inbox is closed.
func (b *inbox) put(events ...replica.Event) bool {
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		return false
	}
	b.events = append(b.events, events...)
	b.mu.Unlock()
	b.signal()
	return true
}

// putPeer adds a peer's messages, and returns when there is room for more or
// ctx ends.
func (b *inbox) putPeer(ctx context.Context, from uint64, msgs []gcs.Message) {
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		return
	}
	for i := range msgs {
		b.peerBytes += msgs[i].Size()
		b.events = append(b.events, replica.Received{From: from, Message: msgs[i]})
	}
	full, room := b.peerBytes > b.peerLimit, b.room
	b.mu.Unlock()
	b.signal()
	if full {
		select {
		case <-room:
		case <-ctx.Done():
		}
	}
}

func (b *inbox) signal() {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// take returns everything that has gathered, in exchange for a slice to gather
// into.
func (b *inbox) take(spare []replica.Event) []replica.Event {
	clear(spare)
	b.mu.Lock()
	defer b.mu.Unlock()
	events := b.events
	b.events = spare[:0]
	if b.peerBytes > 0 {
		if b.peerBytes > b.peerLimit {
			close(b.room)
			b.room = make(chan struct{})
		}
		b.peerBytes = 0
	}
	return events
}

// close lets nothing more in and frees whoever waits for room.
func (b *inbox) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.closed {
		b.closed = true
		b.events = nil
		close(b.room)
	}
}

// mailbox hands work to one goroutine in the order given. It never makes the
// giver wait: the giver is the member's state machine, which bounds what it
// gives out and must not be held up by a disk.
type mailbox[T any] struct {
	mu     sync.Mutex
	items  []T
	closed bool
	wake   chan struct{}
}

func newMailbox[T any]() *mailbox[T] { return &mailbox[T]{wake: make(chan struct{}, 1)} }

func (m *mailbox[T]) put(items ...T) {
	if len(items) == 0 {
		return
	}
	m.mu.Lock()
	m.items = append(m.items, items...)
	m.mu.Unlock()
	m.signal()
}

func (m *mailbox[T]) signal() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// waiting reports whether there is work to take.
func (m *mailbox[T]) waiting() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.items) > 0
}

// take waits for work and returns all there is; ok is false once the mailbox
// is closed and empty. spare is a slice to gather into next.
func (m *mailbox[T]) take(spare []T) (items []T, ok bool) {
	clear(spare)
	for {
		m.mu.Lock()
		items, closed := m.items, m.closed
		if len(items) > 0 {
			m.items = spare[:0]
			m.mu.Unlock()
			return items, true
		}
		m.mu.Unlock()
		if closed {
			return nil, false
		}
		<-m.wake
	}
}

// close ends take after what is there has been taken.
func (m *mailbox[T]) close() {
	m.mu.Lock()
	m.closed = true
	m.mu.Unlock()
	m.signal()
}
