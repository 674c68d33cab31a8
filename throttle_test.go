package concordat

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/concordatdb/concordat/flowcontrol"
)

// limit publishes a limit of one transaction of 2 KiB a second.
func (s *standIn) limit(step uint64, stopped bool) {
	s.know(func(k *known) {
		k.Flow.Decision = flowcontrol.Decision{
			Step: step, Mode: FlowAdaptive, Throttled: true, Stopped: stopped, Rate: 2048, Size: 2048, Limiting: standInOther, Lag: time.Second,
		}
	})
}

// waiting begins a transaction that writes, and returns once it waits.
func (s *standIn) waiting(ctx context.Context) <-chan error {
	done := make(chan error, 1)
	go func() {
		o := &txOptions{}
		pass, err := s.admitted(ctx, o)
		if err == nil {
			if err = s.beginAt(ctx, o, true); err == nil {
				s.drain.leave()
			}
			s.flow.refund(pass)
		}
		done <- err
	}()
	synctest.Wait()
	return done
}

func TestThrottleWaits(t *testing.T) {
	for name, end := range map[string]func(s *standIn, cancel func()) (want error){ // order-free: each is a test of its own
		"the limit goes":     func(s *standIn, _ func()) error { s.know(func(*known) {}); return nil },
		"its turn comes":     func(s *standIn, _ func()) error { s.limit(2, false); return nil },
		"its caller goes":    func(_ *standIn, cancel func()) error { cancel(); return ErrThrottled },
		"the quorum is lost": func(s *standIn, _ func()) error { s.quorum.set(false); return ErrNoQuorum },
		"the right is lost": func(s *standIn, _ func()) error {
			s.know(func(k *known) { k.Election.Primary, k.Election.Members[0].Writes = standInOther, false })
			return ErrReadOnly
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newStandIn(t)
				s.limit(1, true)
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				done := s.waiting(ctx)
				select {
				case err := <-done:
					t.Fatalf("it did not wait: %v", err)
				default:
				}
				if s.drain.open.Load() != 0 {
					t.Error("a change of the primary waits for one that waits to begin")
				}
				want := end(s, cancel)
				time.Sleep(2 * time.Second)
				s.publish(*s.standing.Load())
				if err := <-done; !errors.Is(err, want) {
					t.Errorf("%v, want %v", err, want)
				}
				if n := s.flow.admit.Waiting(); n != 0 || len(s.flow.waiting) != 0 {
					t.Errorf("%d wait, %d channels are left", n, len(s.flow.waiting))
				}
			})
		})
	}
}

// TestThrottleRefunds: what comes to nothing gives back what it was given.
func TestThrottleRefunds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStandIn(t)
		s.limit(1, false)
		time.Sleep(2 * time.Second)
		for i := range uint64(3) {
			s.limit(i+2, false)
			pass, err := s.admitted(t.Context(), &txOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if pass.Reserved == 0 {
				t.Fatal("nothing was reserved")
			}
			s.flow.refund(pass)
		}
	})
}

// TestUnlimitedCostsNothing: without a limit nothing is counted per transaction that
// begins.
func TestUnlimitedCostsNothing(t *testing.T) {
	s := newStandIn(t)
	o := &txOptions{}
	if n := testing.AllocsPerRun(100, func() {
		if _, err := s.admitted(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
	if u := s.flow.counts().Used; u != 0 {
		t.Errorf("%d were counted", u)
	}
}
