package concordat

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/concordatdb/concordat/election"
	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/internal/replica"
)

var sessionOne, sessionTwo = gtid.GTID{UUID: uuidOf(9), Number: 1}, gtid.GTID{UUID: uuidOf(9), Number: 2}

// A session waits until its transactions are visible.
func TestSession(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for _, patient := range []bool{false, true} {
			s := newStandIn(t)
			s.show(10, sessionOne)
			mustBegin(t, s.begin(t.Context(), false, AfterGTIDs(gtid.Set{}.Add(sessionOne))))
			ctx, cancel := within(t, patient)
			done := s.begin(ctx, false, AfterGTIDs(gtid.Set{}.Add(sessionOne).Add(sessionTwo)))
			s.stillWaits(done)
			cancel()
			e := mustWait(t, <-done, WaitSession, context.Canceled, sessionTwo.String(), "go to a member that has them")
			if !e.Session.Equal(gtid.Set{}.Add(sessionTwo)) {
				t.Errorf("missing are %v", e.Session)
			}
			ctx, cancel = within(t, patient)
			done = s.begin(ctx, false, AfterGTIDs(gtid.Set{}.Add(sessionTwo)))
			s.stillWaits(done)
			s.show(11, sessionOne, sessionTwo)
			mustBegin(t, done)
			cancel()
			synctest.Wait()
			if n := len(s.life.reads.waiting); n != 0 {
				t.Errorf("%d questions are remembered", n)
			}
		}
	})
}

// Who does not say how long it waits for a session is told when its transactions are
// not the group's: by then, all that the group has acknowledged is visible here. One
// with a deadline waits for what may yet come.
func TestSessionOfNobody(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStandIn(t)
		strange := AfterGTIDs(gtid.Set{}.Add(sessionOne))
		done := s.begin(t.Context(), true, strange)
		s.answerRead(s.asked()[0], 12)
		s.stillWaits(done)
		s.show(12)
		mustWait(t, <-done, WaitSession, ErrInvalid, sessionOne.String(), "of another group")

		done = s.begin(t.Context(), false, strange)
		s.answerRead(s.asked()[0], 13)
		s.stillWaits(done)
		s.show(13, sessionOne) // just in time
		mustBegin(t, done)

		s.show(14)
		done = s.begin(t.Context(), false, strange)
		s.asked()
		s.stillWaits(done)
		s.know(func(k *known) { k.Quorum = false })
		mustWait(t, <-done, WaitSession, ErrNoQuorum)

		s.know(func(*known) {})
		patient, end := context.WithTimeout(t.Context(), time.Hour)
		defer end()
		done = s.begin(patient, false, strange)
		s.stillWaits(done)
		for _, e := range s.life.inbox.take(nil) {
			if _, asked := e.(replica.ReadAsked); asked {
				t.Error("one that waits anyway has asked")
			}
		}
		end()
		mustWait(t, <-done, WaitSession, context.Canceled)
		if open := s.drain.open.Load(); open != 0 {
			t.Errorf("%d in the drain after the errors", open)
		}
	})
}

// While nobody answers, there is one question by which data are dated anew, however
// long somebody asks for young ones.
func TestRefreshOneAtATime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var r reads
		young := r.bound(time.Second)
		first, due := r.refresh()
		if !due {
			t.Fatal("nothing dates the data")
		}
		for range 3 {
			if _, due := r.refresh(); due {
				t.Error("a second question while the first one is not answered")
			}
		}
		r.answer([]replica.ReadAnswer{{Ticket: first, Index: 7}})
		if young(6) || !young(7) {
			t.Error("the answer does not date the data")
		}
		if _, due := r.refresh(); !due {
			t.Error("the data are not dated again")
		}
	})
}

// A wait that ends for want of a majority says so, also where a deadline ended it: a
// client goes to another member then.
func TestWaitsWithoutMajority(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for _, c := range []struct {
			name   string
			change func(*known)
			write  bool
			level  Consistency
			step   WaitStep
			cut    bool
		}{
			{"no quorum", func(k *known) { k.Quorum = false }, false, Before, WaitReadIndex, true},
			{"quorum", func(*known) {}, false, Before, WaitReadIndex, false},
			{"primary alone", func(k *known) { k.Alone = true }, true, Eventual, WaitPrimary, true},
			{"primary outdated", func(k *known) { k.Outdated = 9 }, true, Eventual, WaitPrimary, false},
		} {
			s := newStandIn(t)
			s.know(c.change)
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			err := <-s.begin(ctx, c.write, WithConsistency(c.level))
			cancel()
			e := mustWait(t, err, c.step, context.DeadlineExceeded)
			if cut := errors.Is(e, ErrNoQuorum); cut != c.cut {
				t.Errorf("%s: it matches ErrNoQuorum %t: %v", c.name, cut, err)
			}
		}
		// One that does not say how long it waits is told before it asks anybody.
		s := newStandIn(t)
		s.know(func(k *known) { k.Alone = true })
		if err := <-s.begin(t.Context(), true, WithConsistency(Before)); !errors.Is(err, ErrNoQuorum) {
			t.Errorf("got %v, want ErrNoQuorum", err)
		}
		// A change that is under way is waited for until the quorum is lost.
		s.know(func(*known) {})
		s.know(func(k *known) { k.Election.Action = openAction(3_600_000) })
		synctest.Wait()
		done := s.begin(t.Context(), true)
		s.stillWaits(done)
		s.know(func(k *known) {
			k.Quorum = false
			k.Election.Action = openAction(3_600_000)
		})
		mustWait(t, <-done, WaitPrimary, ErrNoQuorum, "the group gives the right to write to another member")
	})
}

// openAction takes the right to write from the stand-in.
func openAction(grace uint64) *election.Action {
	return &election.Action{
		ID: uuidOf(7), Kind: election.SetPrimary, Asker: uuidOf(2), Index: 11, Target: standInOther, Grace: grace, Pending: []uint64{standInPrimary},
	}
}

// A member can be written to when transactions can begin there, and not while they
// are held back.
func TestWaitWritable(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStandIn(t)
		if err := s.WaitWritable(t.Context()); err != nil {
			t.Fatal(err)
		}
		s.know(func(k *known) { k.Election.Action = openAction(3_600_000) })
		synctest.Wait() // the drain is shut
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		mustWait(t, s.WaitWritable(ctx), WaitPrimary, context.DeadlineExceeded, "nothing new begins here before that is settled")
		s.know(func(*known) {})
		if err := s.WaitWritable(t.Context()); err != nil {
			t.Fatal(err)
		}
		s.exit.Store(&exit{err: errExpelled, final: true})
		if err := s.WaitWritable(t.Context()); !errors.Is(err, ErrNotOnline) {
			t.Errorf("of a member that is out for good: %v", err)
		}
		s.helpers.wait()
	})
}

// In a multi-primary group no fenced transaction is sent to a primary.
func TestFencedInMultiPrimary(t *testing.T) {
	t.Parallel()
	s := newStandIn(t)
	s.know(func(k *known) { k.Election.Mode, k.Election.Primary = MultiPrimary, 0 })
	e, ok := errors.AsType[*ReadOnlyError](s.fenced())
	if !ok || !e.Primary.IsZero() || !strings.Contains(e.Error(), "run it again") {
		t.Errorf("got %v", e)
	}
}
