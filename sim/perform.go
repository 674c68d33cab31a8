package sim

import (
	"errors"
	"slices"

	"github.com/concordatdb/concordat/gcs"
	"github.com/concordatdb/concordat/internal/replica"
)

func (r *run) wake() {
	if r.waking = false; r.performing {
		return // it wakes again after that
	}
	events := r.inbox
	r.inbox = nil
	r.world.protect(r.member.name, func() {
		must := r.refusals(events)
		effects := r.replica.Step(events...)
		r.world.trace.step(r, len(events), effects)
		refused := r.stepped(events, effects, must == 0)
		if refused != must {
			r.world.violate("P9", "%s refuses %d transactions before they are ordered, and is to refuse %d", r.member.name, refused, must)
			return
		}
		r.more = effects.More
		r.carryOut(effects)
	})
}

// rouse has the member take its next step if there is a reason for one.
func (r *run) rouse() {
	if (len(r.inbox) > 0 || r.more) && !r.waking && r.replica != nil {
		r.waking = true
		r.after(0, r.wake)
	}
}

// refusals is how many transactions the member has to refuse at once: all, if by what
// it has delivered it may not write.
func (r *run) refusals(events []replica.Event) (n int) {
	for _, e := range events {
		if _, ok := e.(replica.Submitted); ok {
			n++
		}
	}
	if n > 0 && r.replica.Status().Election.MayWrite(r.raftID) {
		return 0
	}
	return n
}

func (r *run) tick() {
	w := r.world
	oldest := r.member.engine.Position().Index
	for _, c := range r.member.clients {
		if c.snapshot != nil {
			oldest = min(oldest, c.snapshot.Position().Index)
		}
	}
	t := replica.Ticked{OldestSnapshot: oldest, Exports: len(r.exports)}
	if r.replica != nil {
		r.publish()
		s := &r.standing
		if text := r.history.growth.check(s.History, s.HistoryBytes); text != "" {
			w.violate("P12", "%s %s", r.member.name, text)
		}
		r.checkGiants()
		r.missLeader(s.Leader)
		if !w.plain {
			t.Fresh = r.reads.age(r)
			t.Flow = r.flowCounts()
		}
	}
	now := uint64(r.ownClock() / w.tickTime())
	t.Elapsed, r.elapsed = now-r.elapsed, now
	r.ticks++
	r.tell(t)
	r.reads.refresh(r)
	interval := w.plan.tick
	r.after(interval+interval*r.member.drift/1000, r.tick)
}

// carryOut does what the member wants done, in the order of a real shell. The floor
// comes before the messages, which tell others that this member shows no less; those
// that begin here meanwhile find it. Between any two parts the goroutine that does
// this may be held up, while everything else goes on.
func (r *run) carryOut(e *replica.Effects) {
	parts := []func(*replica.Effects){r.raiseFloor, r.sendMessages, r.giveWork, r.tellCallers, r.goOn}
	if !chance(r.world.more, r.world.plan.rights.holdups) {
		for _, part := range parts {
			part(e)
		}
		r.rouse()
		return
	}
	r.world.reached[markHeldUp]++
	r.performing = true
	r.perform(e, parts)
}

// perform does parts with gaps between them.
func (r *run) perform(e *replica.Effects, parts []func(*replica.Effects)) {
	r.world.protect(r.member.name, func() { parts[0](e) })
	if len(parts) > 1 {
		r.after(span{0, 5 * millisecond}.draw(r.world.more), func() { r.perform(e, parts[1:]) })
		return
	}
	r.performing = false
	r.rouse()
}

func (r *run) raiseFloor(e *replica.Effects) {
	r.floor.Gate, r.floor.Change = max(r.floor.Gate, e.Floor.Gate), max(r.floor.Change, e.Floor.Change)
	for _, epoch := range e.Epochs {
		r.record.epochs = append(r.record.epochs, epochSeen{epoch, r.world.now})
	}
}

func (r *run) sendMessages(e *replica.Effects) {
	for _, out := range e.Messages {
		r.world.network.send(r, out.To, out.Message)
	}
}

func (r *run) giveWork(e *replica.Effects) {
	r.writer.queue(r, e)
	r.worker.queue(r, e.Tasks)
	r.worker.told(r, e)
}

// tellCallers answers everybody, who find published what they are told.
func (r *run) tellCallers(e *replica.Effects) {
	w := r.world
	if r.tells(e) {
		r.publish()
	}
	r.reads.answer(e.Reads)
	for _, a := range e.Outcomes {
		w.reached[markOutcomeAsked]++
		if text := r.history.oracle.outcome(r.asks[a.Ticket], a); text != "" {
			w.violate("P4", "%s is asked for an outcome: %s", r.member.name, text)
		}
		delete(r.asks, a.Ticket)
	}
	for _, a := range e.Answers {
		r.answer(a)
	}
	r.answerJoins(e.Joins)
	r.answerChanges(e.Changes)
	r.answerActions(e.Actions)
	for range e.Leaves {
		w.reached[markLeaveRefused]++
		r.member.leaving = false
	}
	if len(e.Reads) > 0 {
		r.retry()
	}
}

// tells reports whether effects change what others wait for. What changes slowly
// they find after the next tick.
func (r *run) tells(e *replica.Effects) bool {
	return len(e.Views) > 0 || len(e.Notices) > 0 || e.Reconfigured || len(e.Epochs) > 0 || len(e.Ended) > 0 || len(e.Actions) > 0 || len(e.Findings) > 0 ||
		e.State != r.standing.State || e.Alone != r.standing.Alone || e.Outdated != r.standing.Outdated
}

// publish makes the member's standing known to those who begin.
func (r *run) publish() {
	before := r.standing
	r.standing = r.replica.Status()
	s := &r.standing
	self, _ := s.Election.Member(r.raftID)
	r.mayNow = self.Writes && !s.Alone && s.Outdated == 0
	r.countStanding(&before)
	r.followFlow()
	r.followAction()
	r.mendMisled()
	if r.drain.job != nil {
		r.tendDrain()
	}
	r.retry()
}

// countStanding counts what has come about since the last time.
func (r *run) countStanding(before *replica.Status) {
	w, s := r.world, &r.standing
	if s.Alone && !before.Alone {
		w.reached[markAlone]++
	}
	if s.Checks.Passes > before.Checks.Passes {
		w.reached[markCheckPassed]++
	}
	if s.Outdated != 0 && before.Outdated == 0 {
		w.reached[markOutdated]++
	}
	if len(before.GateWaits) == 0 && len(s.GateWaits) > 0 {
		w.reached[markGateClosed]++
		if r.session > 1 && r.state != replica.Online {
			w.reached[markGateRebuilt]++
		}
	}
	if len(before.GateWaits) == 0 || s.View.ID == before.View.ID {
		return
	}
	gone := func(id uint64) bool { _, in := s.View.Member(id); return !in }
	if slices.ContainsFunc(before.GateWaits, gone) && !slices.ContainsFunc(s.GateWaits, gone) {
		w.reached[markGateByView]++
	}
	if s.View.Cause.Kind == gcs.Promoted {
		w.reached[markGateWithJoiner]++
	}
}

// goOn takes note of what the member has become.
func (r *run) goOn(e *replica.Effects) {
	w := r.world
	r.noteLeader()
	r.found(e.Findings)
	for i := range e.Notices {
		r.notice(&e.Notices[i])
	}
	if r.member.leaving && e.State == replica.Online && r.state != replica.Online {
		r.tell(replica.LeaveAsked{Ticket: w.ticket()}) // a crash forgets that it was asked
	}
	if w.outage && e.State == replica.Online && r.state != replica.Online {
		w.outage = false
		w.reached[markOutageHealed]++
	}
	r.state = e.State
	switch {
	case e.Failure != nil && errors.Is(e.Failure, replica.ErrProtocol):
		r.member.upgrade()
		r.restart()
	case e.Failure != nil:
		w.violate("P6", "%s must not go on: %v", r.member.name, e.Failure)
	case e.Exit != replica.ExitNone:
		r.exit(e.Exit)
	case e.CloneFrom != 0:
		r.cloneInstead(e.CloneFrom)
	}
}

// noteLeader notices a new leader while somebody waits for an answer.
func (r *run) noteLeader() {
	leader := r.replica.Status().Leader
	if leader != r.leader && leader != 0 {
		if r.leader != 0 && len(r.calls) > 0 {
			r.world.reached[markLeaderChangePending]++
		}
		if r.leader != 0 && len(r.reads.waiting) > 0 {
			r.world.reached[markReadReasked]++
		}
		r.leader = leader
	}
}
