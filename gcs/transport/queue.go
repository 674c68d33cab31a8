package transport

import (
	"context"
	"sync"

	"github.com/concordatdb/concordat/gcs"
)

// queue holds what waits for one peer. Many goroutines push, one takes.
//
// What was taken counts against the bounds until it is done, so a sender that is
// held back by its stream holds back the queue.
type queue struct {
	maxBytes, maxMessages int
	wake                  chan struct{} // holds a token while messages may wait

	mu    sync.Mutex
	msgs  []gcs.Message
	bytes int // of msgs and of what was taken and is not done
	count int // likewise
}

func newQueue(maxBytes, maxMessages int) *queue {
	return &queue{maxBytes: maxBytes, maxMessages: maxMessages, wake: make(chan struct{}, 1)}
}

// push adds m unless that would exceed a bound. It wakes the taker only when
// there was nothing to take: later messages ride with the first.
func (q *queue) push(m *gcs.Message) bool {
	size := m.Size()
	q.mu.Lock()
	if q.bytes+size > q.maxBytes || q.count >= q.maxMessages {
		q.mu.Unlock()
		return false
	}
	q.msgs = append(q.msgs, *m)
	q.bytes += size
	q.count++
	first := len(q.msgs) == 1
	q.mu.Unlock()
	if first {
		select {
		case q.wake <- struct{}{}:
		default:
		}
	}
	return true
}

// take waits for messages and returns all there are, in order. spare, emptied,
// becomes the memory of the queue. It returns nil once ctx has ended, and
// nothing that was pushed after that.
func (q *queue) take(ctx context.Context, spare []gcs.Message) []gcs.Message {
	for {
		q.mu.Lock()
		if ctx.Err() != nil {
			q.mu.Unlock()
			return nil
		}
		msgs := q.msgs
		if len(msgs) > 0 {
			q.msgs = spare[:0]
			q.mu.Unlock()
			return msgs
		}
		q.mu.Unlock()
		select {
		case <-q.wake:
		case <-ctx.Done():
		}
	}
}

// done says that msgs, which were taken, have left or are lost.
func (q *queue) done(msgs []gcs.Message) {
	size := sizeOf(msgs)
	q.mu.Lock()
	q.bytes -= size
	q.count -= len(msgs)
	q.mu.Unlock()
}

// drop forgets what was not taken.
func (q *queue) drop() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.bytes -= sizeOf(q.msgs)
	q.count -= len(q.msgs)
	q.msgs = nil
}

func sizeOf(msgs []gcs.Message) int {
	size := 0
	for i := range msgs {
		size += msgs[i].Size()
	}
	return size
}
