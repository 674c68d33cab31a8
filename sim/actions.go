package sim

import (
	"errors"
	"fmt"

	"github.com/concordatdb/concordat/election"
	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/internal/replica"
)

// planned is a planned change that an operator asks a member for.
type planned struct {
	action election.Action
	tries  int // to ask again, in another epoch or view
	cancel bool
}

// scheduleAction has operators plan changes, again and again.
func (w *world) scheduleAction() {
	between := w.plan.rights.between
	if between.hi == 0 {
		return
	}
	w.after(between.draw(w.more), func() {
		if w.phase == faulty {
			w.planAction()
			w.scheduleAction()
		}
	})
}

// planAction has an operator ask some member for a change of the primary, the mode
// or the protocol, and reports whether that was asked for.
func (w *world) planAction() bool {
	at := w.members[w.more.IntN(len(w.members))]
	r := at.run
	if !r.askable() {
		return false
	}
	e := &r.standing.Election
	if e.Action != nil && w.more.IntN(2) == 0 {
		r.cancelAction(e.Action.ID)
		return true
	}
	a := election.Action{ID: w.moreUUID(), Asker: at.uuid, Force: w.more.IntN(2) == 0, Reason: "its operator wants it so"}
	switch n := w.more.IntN(10); {
	case n == 0:
		a.Kind, a.Protocol = election.SetProtocol, e.Protocol+election.Protocol(w.more.IntN(2))
	case e.Mode == election.SinglePrimary && n < 8:
		a.Kind = election.SetPrimary
	case e.Mode == election.SinglePrimary:
		a.Kind = election.ToMulti
	case n < 9:
		a.Kind = election.ToSingle
	default:
		a.Kind = election.ToMulti
	}
	if a.Kind == election.SetPrimary || a.Kind == election.ToSingle && w.more.IntN(2) == 0 {
		a.Target = e.Members[w.more.IntN(len(e.Members))].RaftID
	}
	if a.Kind == election.SetPrimary || a.Kind == election.ToSingle {
		a.Grace = pick(w.more, w.plan.rights.graces...)
	}
	if !r.askAction(&planned{action: a, tries: 3}) {
		return false
	}
	w.endangerAction(at, &a)
	return true
}

// askable reports whether an operator's order reaches the member.
func (r *run) askable() bool {
	return r != nil && !r.member.paused && r.replica != nil && r.state == replica.Online && r.standing.Election.Epoch > 0
}

// askAction asks for a change in the epoch and the view that the member knows now.
// Most of the time what the group would refuse is refused at once.
func (r *run) askAction(p *planned) bool {
	w, e := r.world, &r.standing.Election
	p.action.Epoch, p.action.View = e.Epoch, e.View
	if err := e.Check(p.action); err != nil && !chance(w.more, 200) {
		return false
	}
	w.report.Actions++
	w.trace.note(w, fmt.Sprintf("%s is asked for %s, target %x", r.member.name, p.action.Kind, p.action.Target))
	ticket := w.ticket()
	r.actions[ticket] = p
	r.tell(replica.ActionAsked{Ticket: ticket, Action: p.action})
	return true
}

func (r *run) cancelAction(id gtid.UUID) {
	w := r.world
	w.trace.note(w, r.member.name+" is told to cancel "+id.String())
	ticket := w.ticket()
	r.actions[ticket] = &planned{action: election.Action{ID: id}, cancel: true}
	r.tell(replica.CancelAsked{Ticket: ticket, ID: id})
}

// endangerAction may stop one of those that a change concerns in the midst of it,
// for good or for a while, or take the change back.
func (w *world) endangerAction(asker *member, a *election.Action) {
	if chance(w.more, w.plan.rights.cancel) {
		w.after(span{0, 500 * millisecond}.draw(w.more), func() {
			if at := w.members[w.more.IntN(len(w.members))].run; at.askable() {
				at.cancelAction(a.ID)
			}
		})
	}
	if !chance(w.more, w.plan.rights.death) {
		return
	}
	victims := []*member{asker, w.primary(), w.byRaft[a.Target]}
	m := victims[w.more.IntN(len(victims))]
	if m == nil {
		return
	}
	w.after(span{0, 300 * millisecond}.draw(w.more), func() {
		switch {
		case w.phase != faulty || m.run == nil:
		case w.more.IntN(3) == 0:
			w.pause(m, span{200 * millisecond, 4 * second})
		default:
			w.report.Faults.Crashes++
			w.crash(m)
		}
	})
}

// answerActions tells operators what became of their orders.
func (r *run) answerActions(answers []replica.ActionAnswer) {
	w := r.world
	for _, a := range answers {
		p := r.actions[a.Ticket]
		if p == nil {
			w.violate("P2", "%s answers ticket %d, under which nobody asked for a change", r.member.name, a.Ticket)
			return
		}
		delete(r.actions, a.Ticket)
		if o := a.Outcome; o != nil && o.Again && p.tries > 0 && !p.cancel {
			w.reached[markActionAgain]++
			p.tries--
			r.after(2*w.plan.tick, func() { r.askAction(p) })
		}
	}
}

// leaveInOrder has a primary hand over before it leaves, as a real shell does.
func (m *member) leaveInOrder() {
	w, r := m.world, m.run
	s := &r.standing
	if w.plain || !r.askable() || s.Election.Primary != r.raftID || s.Election.Action != nil || w.more.IntN(3) == 0 {
		m.askToLeave()
		return
	}
	away := func(id uint64) bool {
		for _, p := range s.Peers {
			if p.RaftID == id {
				return p.Unreachable || p.Report.Recovering
			}
		}
		return false
	}
	var passed []uint64
	for _, e := range s.Election.Members {
		if away(e.RaftID) {
			passed = append(passed, e.RaftID)
		}
	}
	best := election.Choose(election.Ballot{Members: s.Election.Members, Deposed: r.raftID, Passed: passed, Rules: election.OurRules}).Winner
	if best == 0 {
		m.askToLeave()
		return
	}
	w.reached[markLeftInOrder]++
	r.askAction(&planned{tries: 2, action: election.Action{
		ID: w.moreUUID(), Kind: election.SetPrimary, Target: best, Grace: 1000, Force: true, Asker: m.uuid, Reason: "the primary leaves",
	}})
	end := w.now + 3*second
	var wait func()
	wait = func() {
		if r.standing.Election.Primary == r.raftID && w.now < end {
			r.after(w.plan.tick, wait)
			return
		}
		m.askToLeave()
	}
	r.after(w.plan.tick, wait)
}

func (m *member) askToLeave() { m.run.tell(replica.LeaveAsked{Ticket: m.world.ticket()}) }

func (w *world) moreUUID() (u gtid.UUID) {
	for i := range u {
		u[i] = byte(w.more.IntN(256))
	}
	u[0] |= 1
	return u
}

// The versions that members run. The newer one speaks a protocol more.
const (
	olderVersion  = election.Version(1 << 16)
	newerVersion  = olderVersion + 1
	newerProtocol = election.FirstProtocol + 1
)

// self is what the member says of itself to elections.
func (m *member) self() election.Description {
	d := election.Description{
		Version: m.version, Weight: m.weight, Oldest: election.FirstProtocol, Newest: election.FirstProtocol, ClientAddress: "clients-of-" + m.name,
	}
	if m.version == newerVersion {
		d.Newest = newerProtocol
	}
	return d
}

// upgrade has the member run the newer version from its next run on.
func (m *member) upgrade() {
	m.version = newerVersion
	m.world.reached[markUpgraded]++
	m.world.trace.note(m.world, m.name+" is upgraded")
}

// tooOld reports whether a member was refused for its version. Its operator
// upgrades it.
func tooOld(err error) bool {
	var incompatible *election.IncompatibleError
	return errors.As(err, &incompatible) || errors.Is(err, replica.ErrProtocol)
}

// unsettled says what is not settled yet of who may write, in the view that a member
// has at the end.
func (r *run) unsettled() string {
	s := r.replica.Status()
	name := r.member.name
	switch e := &s.Election; {
	case e.Mode == election.SinglePrimary && e.Primary == 0:
		return name + " knows no primary"
	case e.Mode == election.SinglePrimary && !e.MayWrite(e.Primary):
		return name + " knows a primary that may not write"
	case e.Action != nil:
		return fmt.Sprintf("%s has action %s open", name, e.Action.ID)
	case len(s.GateWaits) > 0 || s.Floor.Gate > 0:
		return fmt.Sprintf("%s has a gate closed at %d for %x", name, s.Floor.Gate, s.GateWaits)
	case s.Alone:
		return name + " is primary and alone"
	case s.Outdated != 0:
		return fmt.Sprintf("%s has not delivered epoch %d", name, s.Outdated)
	case r.drain.shut != 0 || r.drain.job != nil:
		return name + " drains"
	case len(r.actions) > 0:
		return fmt.Sprintf("%s has %d orders pending", name, len(r.actions))
	case s.Queues.Reads > 0 && r.reads.refreshing == 0 || s.Queues.Reads > 1:
		return fmt.Sprintf("%s has %d waiting for a read index", name, s.Queues.Reads)
	case s.Queues.Engine+s.Queues.Held+s.Queues.Gates+s.Queues.Answers > 0:
		return fmt.Sprintf("%s has left in its queues %+v", name, s.Queues)
	}
	for _, c := range r.member.clients {
		if c.beginning != nil {
			return fmt.Sprintf("a transaction waits on %s to begin, in step %d", name, c.beginning.step)
		}
	}
	return ""
}
