package replica

import (
	"strings"
	"testing"

	"github.com/concordatdb/concordat/certifier"
	"github.com/concordatdb/concordat/election"
	"github.com/concordatdb/concordat/gtid"
)

// begun asks for the second member to become primary, at the third, with a grace
// of some seconds, and returns the open action.
func begun(t *testing.T, s settings) (w *world, first, second, third *member, a election.Action) {
	t.Helper()
	w, first, second, third = elections(t, s)
	third.step(third.ask(election.SetPrimary, second, 2000))
	open := third.replica.Status().Election.Action
	if len(third.actions) != 1 || third.actions[0].Action == nil || third.actions[0].Action.ID != open.ID {
		t.Fatalf("answered %+v, open is %+v", third.actions, open)
	}
	return w, first, second, third, *open
}

// wantEnd checks how an action ended, at all members alike.
func (w *world) wantEnd(a election.Action, want election.Result) {
	w.t.Helper()
	for _, m := range w.members {
		if m.down {
			continue
		}
		o, ok := m.replica.Status().Election.Outcome(a.ID)
		if !ok || o.Result != want || m.replica.Status().Election.Action != nil {
			w.t.Errorf("to member %d the action ended %+v (known: %t), want %v", m.identity.RaftID, o, ok, want)
		}
	}
	sameHistory(w.t.(*testing.T), w.members...)
}

// The change happens where the old primary says that it is done, and the lead
// goes to the new one before that.
func TestPlannedChange(t *testing.T) {
	w, first, second, _, a := begun(t, settings{})
	w.until(60, "led by the primary to be", func() bool { return second.replica.Status().Leading })
	w.wantPrimary(first, 1)
	for i := range uint64(5) {
		if got := first.commit(first.transaction(i, first.position.Executed, "draining", certifier.Item(i))); got != certifier.Certified {
			t.Errorf("while it drains: %v", got)
		}
	}
	second.smuggle(localMessage{}, election.AppendDrain([]byte{kindDrained}, election.Drain{Action: a.ID}))
	w.wantPrimary(first, 1) // only who loses something has anything to say
	last := first.transaction(9, first.position.Executed, "last", 9)
	first.step(last, DrainedAsked{Action: a.ID})
	w.until(40, "another primary", func() bool { return second.replica.Status().Election.Epoch == 2 })
	w.wantPrimary(second, 2)
	if got := first.last().Verdict.Outcome; got != certifier.Certified {
		t.Errorf("the last before it said so: %v", got)
	}
	if e := second.epochs[len(second.epochs)-1]; e.Cause != election.Planned {
		t.Errorf("the epoch is %+v", e)
	}
	w.wantEnd(a, election.Done)
}

// The primary dies before it has drained: its heir is the one that was named,
// whatever the ranks.
func TestPrimaryDiesWhileDraining(t *testing.T) {
	w, first, second, third := elections(t, settings{})
	second.step(second.ask(election.SetPrimary, third, 60_000))
	a := *second.replica.Status().Election.Action
	first.down = true
	w.until(60, "another primary", func() bool { return second.replica.Status().Election.Epoch == 2 })
	w.wantPrimary(third, 2)
	w.wantEnd(a, election.DoneByFailover)
}

// It leaves in order: the same, by the view.
func TestPrimaryLeavesWhileDraining(t *testing.T) {
	w, first, second, third := elections(t, settings{})
	second.step(second.ask(election.SetPrimary, third, 60_000))
	a := *second.replica.Status().Election.Action
	first.step(LeaveAsked{Ticket: 1})
	w.until(100, "another primary", func() bool { return second.replica.Status().Election.Epoch == 2 })
	first.down = true
	w.wantPrimary(third, 2)
	if e := third.epochs[len(third.epochs)-1]; e.Cause != election.PrimaryGone {
		t.Errorf("the epoch is %+v", e)
	}
	w.wantEnd(a, election.DoneByFailover)
}

// The member that is to take over dies: the change is cancelled, and the primary
// goes on.
func TestTargetDies(t *testing.T) {
	w, first, second, _, a := begun(t, settings{})
	second.down = true
	w.until(100, "ended", func() bool { return first.replica.Status().Election.Action == nil })
	w.wantPrimary(first, 1)
	w.wantEnd(a, election.Cancelled)
	if got := first.commit(first.transaction(1, first.position.Executed, "on", 1)); got != certifier.Certified {
		t.Errorf("afterwards: %v", got)
	}
}

// It is expelled before anybody cancels.
func TestTargetLeaves(t *testing.T) {
	w, first, second, _, a := begun(t, settings{})
	second.step(LeaveAsked{Ticket: 1})
	w.until(100, "ended", func() bool { return first.replica.Status().Election.Action == nil })
	second.down = true
	w.wantPrimary(first, 1)
	w.wantEnd(a, election.Aborted)
}

// A member that has nothing to do with it dies: it makes no difference.
func TestBystanderDies(t *testing.T) {
	w, first, second, third, a := begun(t, settings{expel: 10})
	third.down = true
	w.until(200, "expelled", func() bool { return len(first.replica.Status().View.Members) == 2 })
	if first.replica.Status().Election.Epoch == 1 {
		if open := first.replica.Status().Election.Action; open != nil {
			first.step(DrainedAsked{Action: a.ID})
		}
	}
	w.until(100, "done", func() bool { return second.replica.Status().Election.Epoch == 2 })
	w.wantPrimary(second, 2)
	w.wantEnd(a, election.Done)
}

// Whoever leads when the grace is over says so, by its own clock; also when the
// leader died that had counted first.
func TestGraceOver(t *testing.T) {
	for _, dies := range []bool{false, true} {
		w, first, second, third := elections(t, settings{})
		w.join(w.member(4, settings{}))
		w.join(w.member(5, settings{}))
		second.step(second.ask(election.SetPrimary, second, 2000))
		a := *second.replica.Status().Election.Action
		w.tick(20)
		if dies {
			w.lead(third)
			third.down = true
		}
		running := first.transaction(1, first.position.Executed, "running", 1)
		w.until(200, "over", func() bool { return first.replica.Status().Election.Epoch == 2 })
		w.wantPrimary(second, 2)
		w.wantEnd(a, election.Done)
		if o, _ := first.replica.Status().Election.Outcome(a.ID); !strings.Contains(o.Text, "grace") {
			t.Errorf("the result is %q", o.Text)
		}
		if got := first.commit(running); got != certifier.Fenced {
			t.Errorf("what was still open: %v", got)
		}
	}
}

// A grace is counted in this member's ticks, rounded up.
func TestGraceInTicks(t *testing.T) {
	m := newFounder(t, settings{})
	for ms, want := range map[uint64]int{0: 0, 1: 1, 50: 1, 51: 2, 2000: 40, election.MaxGrace: 72_000, 1 << 63: 72_000} {
		if got := m.replica.inTicks(ms); got != want {
			t.Errorf("%d ms are %d ticks, want %d", ms, got, want)
		}
	}
}

// A member that starts anew while it should drain has nothing left to drain.
func TestDrainedAfterRestart(t *testing.T) {
	w, first, second, _, a := begun(t, settings{})
	first.restart(first.position.Index)
	w.until(60, "ONLINE", func() bool { return first.state() == Online })
	open := first.replica.Status().Election.Action
	if open == nil || len(open.Pending) != 1 {
		t.Fatalf("after the restart the action is %+v", open)
	}
	first.step(DrainedAsked{Action: a.ID})
	w.until(60, "another primary", func() bool { return second.replica.Status().Election.Epoch == 2 })
	w.wantEnd(a, election.Done)
}

// Quorum is lost and comes back: nothing happened meanwhile.
func TestQuorumLostWhileDraining(t *testing.T) {
	w, first, second, third, a := begun(t, settings{})
	second.paused, third.paused = true, true
	first.step(DrainedAsked{Action: a.ID})
	w.tick(60)
	if s := first.replica.Status(); s.Election.Epoch != 1 || !s.Alone {
		t.Errorf("without a majority: epoch %d, alone %t", s.Election.Epoch, s.Alone)
	}
	second.paused, third.paused = false, false
	w.until(100, "another primary", func() bool { return second.replica.Status().Election.Epoch == 2 })
	w.wantPrimary(second, 2)
	w.tick(10)
	sameHistory(t, w.members...)
}

// Actions are answered, whoever asks for what.
func TestActionAnswers(t *testing.T) {
	w, first, second, _, a := begun(t, settings{})
	ask := func(m *member, e Event) ActionAnswer {
		t.Helper()
		m.actions = nil
		m.step(e)
		w.until(20, "answered", func() bool { return len(m.actions) == 1 })
		return m.actions[0]
	}
	if got := ask(first, first.ask(election.ToMulti, nil, 0)); got.Outcome == nil || got.Outcome.Result != election.Refused || got.Action != nil {
		t.Errorf("beside an open one: %+v", got)
	}
	wrong := first.ask(election.SetPrimary, second, 0)
	wrong.Action.Kind = 99
	if got := ask(first, wrong); got.Outcome == nil || got.Outcome.Result != election.Refused || got.Ticket != wrong.Ticket {
		t.Errorf("of no kind: %+v", got)
	}
	if got := ask(second, CancelAsked{Ticket: 5, ID: gtid.UUID{99}}); got != (ActionAnswer{Ticket: 5}) {
		t.Errorf("an unknown one cancelled: %+v", got)
	}
	if got := ask(second, CancelAsked{Ticket: 6, ID: a.ID}); got.Outcome == nil || got.Outcome.Result != election.Cancelled {
		t.Errorf("cancelled: %+v", got)
	}
	if got := ask(second, CancelAsked{Ticket: 7, ID: a.ID}); got.Outcome == nil || got.Outcome.Result != election.Cancelled || got.Ticket != 7 {
		t.Errorf("cancelled again: %+v", got)
	}
	if got := ask(first, CancelAsked{Ticket: 8}); got != (ActionAnswer{Ticket: 8}) {
		t.Errorf("no id cancelled: %+v", got)
	}
	first.actions = nil
	stale := second.ask(election.SetPrimary, second, 0)
	stale.Action.Epoch--
	if got := ask(second, stale); got.Outcome == nil || !got.Outcome.Again {
		t.Errorf("of an earlier epoch: %+v", got)
	}
	w.wantEnd(a, election.Cancelled)
}
