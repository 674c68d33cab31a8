package concordat

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
)

// TestAdmissionOrder lets callers in first come, first served, also past one
// that gave up, and never more than there is room for.
func TestAdmissionOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAdmission(3, 100)
		enter := func(ctx context.Context, bytes int) <-chan error {
			done := make(chan error, 1)
			go func() { done <- a.enter(ctx, bytes, nil) }()
			synctest.Wait()
			return done
		}
		waiting := func(c <-chan error) bool {
			synctest.Wait()
			return len(c) == 0
		}
		first := enter(t.Context(), 60)
		if waiting(first) || <-first != nil {
			t.Fatal("the first was not let in")
		}
		ctx, giveUp := context.WithCancel(t.Context())
		large, small := enter(ctx, 50), enter(t.Context(), 10)
		if !waiting(large) || !waiting(small) {
			t.Fatal("somebody was let in beyond the room, or past the one before")
		}
		giveUp()
		if err := <-large; !errors.Is(err, context.Canceled) {
			t.Fatalf("giving up: %v", err)
		}
		if waiting(small) || <-small != nil {
			t.Fatal("the small one was not let in after the large one gave up")
		}
		giant := enter(t.Context(), 1000)
		a.leave(60)
		if !waiting(giant) {
			t.Fatal("one larger than all room was not alone")
		}
		a.leave(10)
		if waiting(giant) || <-giant != nil {
			t.Fatal("one larger than all room never got in")
		}
		a.leave(1000)
		if a.calls != 3 || a.bytes != 100 {
			t.Fatalf("%d places and %d bytes left in the end, want 3 and 100", a.calls, a.bytes)
		}
	})
}

// TestAdmissionCalls bounds the number of commits whatever their size.
func TestAdmissionCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAdmission(1, 100)
		if err := a.enter(t.Context(), 1, nil); err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() { done <- a.enter(t.Context(), 1, nil) }()
		if synctest.Wait(); len(done) != 0 {
			t.Fatal("a second one was let in")
		}
		a.leave(1)
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	})
}
