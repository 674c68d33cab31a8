package concordat

import (
	"context"
	"errors"
	"strings"
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

// TestHungMemberIsAnEvent: that the member which the group is slowed for hangs is noted
// once, and again when it has worked in between.
func TestHungMemberIsAnEvent(t *testing.T) {
	s := newStandIn(t)
	step := uint64(0)
	noted := func(still time.Duration) (events int) {
		step++
		s.know(func(k *known) {
			k.Flow.Decision = flowcontrol.Decision{Step: step, Mode: FlowAdaptive, Throttled: true, Rate: 2048, Size: 2048, Limiting: standInOther}
			k.Flow.Rates = []flowcontrol.Rates{{ID: standInPrimary, Still: time.Hour}, {ID: standInOther, Still: still}}
		})
		for _, e := range s.Events(0) {
			if e.Kind == EventFlowThrottled && strings.Contains(e.Text, "finished nothing") {
				events++
				if e.Member != uuidOf(standInOther) || !strings.Contains(e.Text, e.Member.String()) {
					t.Errorf("it is about another one: %+v", e)
				}
			}
		}
		return events
	}
	for i, c := range []struct {
		still time.Duration
		want  int
	}{
		{0, 0}, {FlowStill - 1, 0}, {FlowStill, 1}, {2 * FlowStill, 1}, {0, 1}, {FlowStill, 2},
	} {
		if got := noted(c.still); got != c.want {
			t.Errorf("%d: %d events, want %d", i, got, c.want)
		}
	}
	s.know(func(*known) {})
	if noted(FlowStill); noted(FlowStill) != 3 {
		t.Error("after the limit had gone it is not noted anew")
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
