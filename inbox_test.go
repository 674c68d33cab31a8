package concordat

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/concordatdb/concordat/gcs"
	"github.com/concordatdb/concordat/internal/replica"
)

// tick is an event that can be told from others.
func tick(i uint64) replica.Event { return replica.Ticked{OldestSnapshot: i} }

func TestInboxTakesWhatGathered(t *testing.T) {
	b := newInbox(1)
	b.put(tick(1), tick(2))
	b.put(tick(3))
	<-b.wake
	first := b.take(nil)
	if want := []replica.Event{tick(1), tick(2), tick(3)}; !slices.Equal(first, want) {
		t.Fatalf("took %v, want %v", first, want)
	}
	b.put(tick(4))
	second := b.take(first)
	if want := []replica.Event{tick(4)}; !slices.Equal(second, want) {
		t.Fatalf("took %v, want %v", second, want)
	}
	if third := b.take(second); len(third) != 0 {
		t.Fatalf("took %v from an empty inbox", third)
	}
}

func TestInboxClosed(t *testing.T) {
	b := newInbox(1)
	b.put(tick(1))
	b.close()
	b.close()
	if b.put(tick(2)) {
		t.Error("a closed inbox took an event")
	}
	b.putPeer(t.Context(), 7, []gcs.Message{{}})
	if events := b.take(nil); len(events) != 0 {
		t.Errorf("a closed inbox holds %v", events)
	}
}

// peerMessage is one that is larger than the limit of the inboxes below.
func peerMessage() []gcs.Message {
	return []gcs.Message{{Kind: gcs.MessageFrame, Frame: make([]byte, 64)}}
}

// A peer with too much in the inbox waits; what the member does itself does
// not.
func TestInboxHoldsBackPeers(t *testing.T) {
	for _, c := range []struct {
		name string
		free func(*inbox, context.CancelFunc)
	}{
		{"until they are taken", func(b *inbox, _ context.CancelFunc) { b.take(nil) }},
		{"until it is closed", func(b *inbox, _ context.CancelFunc) { b.close() }},
		{"until their stream ends", func(_ *inbox, cancel context.CancelFunc) { cancel() }},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				b := newInbox(16)
				freed := make(chan struct{})
				go func() {
					defer close(freed)
					b.putPeer(ctx, 7, peerMessage())
				}()
				synctest.Wait()
				select {
				case <-freed:
					t.Fatal("the peer did not wait")
				default:
				}
				if !b.put(tick(1)) {
					t.Fatal("the member's own event was refused")
				}
				c.free(b, cancel)
				synctest.Wait()
				<-freed
			})
		})
	}
}

func TestInboxLetsSmallMessagesIn(t *testing.T) {
	b := newInbox(1 << 20)
	for range 10 {
		b.putPeer(t.Context(), 7, peerMessage())
	}
	events := b.take(nil)
	if len(events) != 10 {
		t.Fatalf("%d events of 10", len(events))
	}
	if r, ok := events[0].(replica.Received); !ok || r.From != 7 {
		t.Fatalf("event %+v is not from peer 7", events[0])
	}
}

// Each giver's events stay in order and none is lost, while they are taken.
func TestInboxConcurrent(t *testing.T) {
	const givers, each = 8, 200
	b := newInbox(256)
	var givings sync.WaitGroup
	for g := range uint64(givers) {
		givings.Go(func() {
			for i := range uint64(each) {
				b.put(tick(g<<32 | i))
				b.putPeer(t.Context(), g, peerMessage())
			}
		})
	}
	next := make([]uint64, givers)
	peers := 0
	var events []replica.Event
	for left := 2 * givers * each; left > 0; {
		<-b.wake
		events = b.take(events)
		left -= len(events)
		for _, e := range events {
			switch e := e.(type) {
			case replica.Ticked:
				g := e.OldestSnapshot >> 32
				if got := e.OldestSnapshot & (1<<32 - 1); got != next[g] {
					t.Fatalf("event %d of giver %d where %d should be", got, g, next[g])
				}
				next[g]++
			case replica.Received:
				peers++
			}
		}
	}
	givings.Wait()
	if peers != givers*each {
		t.Errorf("%d messages of peers, want %d", peers, givers*each)
	}
}

// What is in a mailbox when it is closed is still taken, in order.
func TestMailbox(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 1000
		m := newMailbox[int]()
		var got []int
		done := make(chan struct{})
		go func() {
			defer close(done)
			var items []int
			for ok := true; ok; {
				if items, ok = m.take(items); ok {
					got = append(got, items...)
				}
			}
		}()
		m.put()
		for i := range n {
			m.put(i)
		}
		synctest.Wait()
		if len(got) != n {
			t.Fatalf("%d of %d taken", len(got), n)
		}
		m.put(n, n+1)
		m.close()
		<-done
		if len(got) != n+2 || !slices.IsSorted(got) {
			t.Fatalf("took %d items, sorted: %v", len(got), slices.IsSorted(got))
		}
	})
}
