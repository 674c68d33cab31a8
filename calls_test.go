package concordat

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/concordatdb/concordat/internal/replica"
)

func newCallTable() *callTable { return &callTable{calls: map[uint64]*call{}} }

// Every call gives its place back exactly once: by its answer, or at the end
// of the life that it was given to.
func TestCallTablePlaces(t *testing.T) {
	const all, size = 4, 10
	places := newAdmission(all, all*size)
	calls := newCallTable()
	var tickets []uint64
	var waiting []*call
	for range all {
		if err := places.enter(t.Context(), size, nil); err != nil {
			t.Fatal(err)
		}
		ticket, c := calls.add(nil, size)
		tickets, waiting = append(tickets, ticket), append(waiting, c)
	}
	calls.answer(replica.Answer{Ticket: tickets[1], Index: 5}, places)
	calls.answer(replica.Answer{Ticket: tickets[1], Index: 6}, places)
	calls.answer(replica.Answer{Ticket: 99}, places)
	if places.calls != 1 || places.bytes != size {
		t.Fatalf("%d places and %d bytes left after one answer, want 1 and %d", places.calls, places.bytes, size)
	}
	if a := <-waiting[1].done; a.Index != 5 {
		t.Errorf("answer %+v, want the first one", a)
	}
	calls.abandon(places)
	calls.abandon(places)
	calls.answer(replica.Answer{Ticket: tickets[0]}, places)
	if places.calls != all || places.bytes != all*size {
		t.Errorf("%d places and %d bytes left in the end, want all", places.calls, places.bytes)
	}
}

// The answer to a call whose caller has gone holds nobody up.
func TestCallTableAnswersTheAbsent(t *testing.T) {
	places := newAdmission(1, 10)
	calls := newCallTable()
	for range 3 {
		if err := places.enter(t.Context(), 1, nil); err != nil {
			t.Fatal(err)
		}
		ticket, _ := calls.add(nil, 1)
		calls.answer(replica.Answer{Ticket: ticket}, places)
	}
}

func TestWaiters(t *testing.T) {
	var w waiters[int]
	one, first := w.add()
	two, second := w.add()
	three, third := w.add()
	if !w.answer(one, 10) || w.answer(one, 11) {
		t.Error("a question is answered once")
	}
	w.drop(two)
	if w.answer(two, 20) {
		t.Error("somebody waits for an answer that was dropped")
	}
	w.fail(30)
	if w.answer(three, 31) {
		t.Error("somebody waits after all have failed")
	}
	if got := <-first; got != 10 {
		t.Errorf("first answer %d", got)
	}
	if got := <-third; got != 30 {
		t.Errorf("third answer %d", got)
	}
	select {
	case got := <-second:
		t.Errorf("second answer %d", got)
	default:
	}
}

func TestBell(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b bell
		b.broadcast() // nobody waits
		var n atomic.Int32
		var waiting sync.WaitGroup
		for range 5 {
			waiting.Go(func() {
				if err := b.until(t.Context(), func() bool { return n.Load() == 3 }); err != nil {
					t.Error(err)
				}
			})
		}
		for range 3 {
			synctest.Wait()
			n.Add(1)
			b.broadcast()
		}
		waiting.Wait()
		if b.waiting.Load() != 0 {
			t.Errorf("%d wait in the end", b.waiting.Load())
		}
	})
}

func TestBellEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b bell
		why := errors.New("enough")
		ctx, cancel := context.WithCancelCause(t.Context())
		result := make(chan error)
		go func() { result <- b.until(ctx, func() bool { return false }) }()
		synctest.Wait()
		b.broadcast()
		synctest.Wait()
		cancel(why)
		if err := <-result; !errors.Is(err, why) {
			t.Errorf("got %v, want the context's cause", err)
		}
	})
}

// A change that is announced is never missed, whenever it comes.
func TestBellMissesNothing(t *testing.T) {
	var b bell
	var n atomic.Int32
	var waiting sync.WaitGroup
	for want := range int32(200) {
		waiting.Go(func() {
			if err := b.until(t.Context(), func() bool { return n.Load() > want }); err != nil {
				t.Error(err)
			}
		})
	}
	for range 200 {
		n.Add(1)
		b.broadcast()
	}
	waiting.Wait()
}
