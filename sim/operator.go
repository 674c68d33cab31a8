package sim

import (
	"errors"
	"slices"

	"github.com/concordatdb/concordat/gcs"
	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/internal/forced"
	"github.com/concordatdb/concordat/internal/replica"
)

// campaign is a plan of force-members that operators have begun.
type campaign struct {
	id     gtid.UUID
	boss   *boss
	begun  int64
	runs   int  // times that it was run
	closed bool // all its survivors have adopted, or it was given up
}

// boss is an operator's run of a plan on one member.
type boss struct {
	world    *world
	campaign *campaign
	at       *member
	boots    int
	c        *forced.Coordinator
	done     bool
}

// over reports whether the run has ended, with its member or by itself.
func (b *boss) over() bool {
	return b == nil || b.done || b.at.boots != b.boots || b.at.run == nil
}

// canvass surveys the members of the view that m knows, and hands what came back
// to then.
func (m *member) canvass(then func(own forced.Survey, answers []forced.Survey)) {
	w := m.world
	own, ok := m.survey()
	if !ok {
		return
	}
	boots := m.boots
	var answers []forced.Survey
	for _, v := range own.View.Members {
		to := w.named(v.UUID)
		if to == m || to == nil {
			continue
		}
		for range 2 {
			w.surveyOf(m, to, func(s forced.Survey) { answers = append(answers, s) })
		}
	}
	w.after(400*millisecond, func() {
		if own, ok := m.survey(); ok && m.boots == boots {
			then(own, answers)
		}
	})
}

// surveyOf carries a question to a member and its answer back.
func (w *world) surveyOf(from, to *member, then func(forced.Survey)) {
	w.network.carry(from, to, 0, func() {
		s, ok := to.survey()
		if !ok {
			return
		}
		b := s.Append(nil)
		w.network.carry(to, from, 0, func() {
			s, err := forced.DecodeSurvey(b)
			if err != nil {
				w.violate("panic", "%s cannot decode the survey of %s: %v", from.name, to.name, err)
				return
			}
			then(s)
		})
	})
}

func (w *world) named(uuid gtid.UUID) *member {
	for _, m := range w.members {
		if m.uuid == uuid && !m.gone {
			return m
		}
	}
	return nil
}

// force has an operator on a member draw a plan and run it. With supersede, the
// plan takes over whoever is frozen for another one.
func (m *member) force(supersede bool) {
	m.canvass(func(own forced.Survey, answers []forced.Survey) {
		w := m.world
		listed, frozen := w.listed(&own, answers)
		if !supersede {
			frozen = nil
		}
		p, err := forced.New(w.uuid(), own, listed, answers, frozen)
		var refused *forced.RefusedError
		for errors.As(err, &refused) && (refused.Reason == forced.TooFarBehind || refused.Reason == forced.OtherHistory) {
			// As it says: without that one.
			listed = without(listed, refused.Member)
			p, err = forced.New(w.uuid(), own, listed, answers, frozen)
		}
		if err != nil {
			if supersede && errors.As(err, &refused) && w.halt(refused, listed) {
				m.force(true)
				return
			}
			if errors.As(err, &refused) && (refused.Reason == forced.HasQuorum || refused.Reason == forced.HealsByItself) {
				w.reached[markPlanRefused]++
			}
			w.trace.note(w, "plan on "+m.name+" is refused: "+err.Error())
			return
		}
		boots := m.boots
		w.after(span{0, 300 * millisecond}.draw(w.rand), func() {
			if m.boots == boots && m.run != nil {
				m.confirm(&p)
			}
		})
	})
}

// halt stops a member that a plan cannot list and that could still carry out
// another one, as the refusal says. It is left out like one that is dead.
func (w *world) halt(refused *forced.RefusedError, listed []gtid.UUID) bool {
	m := w.named(refused.Member)
	if w.phase == faulty || refused.Reason != forced.FrozenForOther || slices.Contains(listed, refused.Member) || m == nil || m.run == nil {
		return false
	}
	w.reached[markRivalStopped]++
	w.trace.note(w, m.name+" is stopped by its operator, to be left out")
	m.stop()
	m.boots++
	m.halted = w.now
	return true
}

func without(us []gtid.UUID, u gtid.UUID) []gtid.UUID {
	var rest []gtid.UUID
	for _, v := range us {
		if v != u {
			rest = append(rest, v)
		}
	}
	return rest
}

// listed is whom an operator lists: this member and, but for slips, everybody
// who answers and can be.
func (w *world) listed(own *forced.Survey, answers []forced.Survey) (listed, frozen []gtid.UUID) {
	all := append([]forced.Survey{*own}, answers...)
	for _, v := range own.View.Members {
		for i := range all {
			if all[i].RaftID != v.RaftID {
				continue
			}
			if r := &all[i].Record; r.Phase == forced.Frozen {
				frozen = append(frozen, r.Order.Plan)
			}
			able := v.State == gcs.Online && all[i].Incarnation == own.Incarnation
			if i == 0 || able && !chance(w.rand, w.slips(150)) {
				listed = append(listed, v.UUID)
			}
			break
		}
	}
	if chance(w.rand, w.slips(50)) {
		listed = append(listed, w.someone().uuid)
	}
	return listed, frozen
}

// slips is how often operators make a mistake, which they do not after the
// faults.
func (w *world) slips(n int64) int64 {
	if w.phase != faulty {
		return 0
	}
	return n
}

// confirm begins a plan.
func (m *member) confirm(p *forced.Plan) {
	w := m.world
	for i := range p.Excluded {
		w.told.gtids = w.told.gtids.Union(p.Excluded[i].AtRisk)
	}
	for _, o := range w.plans {
		if !o.closed {
			w.reached[markPlansAtOnce]++
			break
		}
	}
	if len(p.Supersedes) > 0 {
		w.reached[markPlanSuperseded]++
	}
	o := &campaign{id: p.Plan, begun: w.now}
	w.plans = append(w.plans, o)
	w.trace.note(w, m.name+" begins plan "+p.Plan.String())
	o.run(m, forced.Run(*p))
}

// resume goes on with a plan on some member.
func (o *campaign) resume(m *member) {
	own, ok := m.survey()
	if !ok || own.Record.In(o.id) && own.Record.Order.Plan != o.id {
		return
	}
	w := m.world
	w.reached[markPlanResumed]++
	w.trace.note(w, m.name+" resumes plan "+o.id.String())
	o.run(m, forced.Resume(o.id, own))
}

func (o *campaign) run(m *member, c *forced.Coordinator) {
	o.runs++
	o.boss = &boss{world: m.world, campaign: o, at: m, boots: m.boots, c: c}
	o.boss.pump()
}

// pump asks what is to be asked, until the run has ended.
func (b *boss) pump() {
	for _, q := range b.c.Requests() {
		b.ask(q, 1)
	}
	if !b.c.Ended() || b.done {
		return
	}
	b.done = true
	w := b.world
	report := b.c.Report()
	for i := range report.Plan.Excluded {
		w.told.gtids = w.told.gtids.Union(report.Plan.Excluded[i].AtRisk)
	}
	if report.Complete {
		b.campaign.closed = true
		if chance(w.rand, w.plan.members.secondary) {
			w.after(span{100 * millisecond, second}.draw(w.rand), w.disaster)
		}
	}
	text := "plan " + b.campaign.id.String() + " has been run"
	if report.Err != nil {
		text += ": " + report.Err.Error()
	}
	w.trace.note(w, text)
}

// attempts is how often a coordinator asks a member before it gives it up.
const attempts = 3

// ask carries a request to a member, again and again for a while.
func (b *boss) ask(q forced.Request, attempt int) {
	w := b.world
	if w.phase == faulty && attempt == 1 && chance(w.rand, w.plan.members.interrupt) && b.at.run != nil {
		w.reached[markCoordinatorCrash]++
		w.report.Faults.Crashes++
		w.crash(b.at)
		return
	}
	answered := false
	w.after(500*millisecond, func() {
		switch {
		case answered || b.over():
		case attempt < attempts:
			b.ask(q, attempt+1)
		default:
			b.c.Lost(q.To.RaftID, q.Step, "no answer")
			b.pump()
		}
	})
	to := w.named(q.To.UUID)
	if to == nil {
		return
	}
	if q.Step.Surveys() {
		w.surveyOf(b.at, to, func(s forced.Survey) {
			if answered = true; !b.over() {
				b.c.Surveyed(q.To.RaftID, q.Step, s)
				b.pump()
			}
		})
		return
	}
	raw := q.Append(nil)
	w.network.carry(b.at, to, 0, func() {
		q2, err := forced.DecodeRequest(raw)
		if err != nil {
			w.violate("panic", "%s cannot decode a request: %v", to.name, err)
			return
		}
		to.take(q2, func(a forced.Answer) { b.back(q, to, a, &answered) })
	})
}

// back carries an answer back.
func (b *boss) back(q forced.Request, from *member, a forced.Answer, answered *bool) {
	w := b.world
	raw := a.Append(nil)
	w.network.carry(from, b.at, 0, func() {
		a, err := forced.DecodeAnswer(raw)
		if err != nil {
			w.violate("panic", "%s cannot decode an answer of %s: %v", b.at.name, from.name, err)
			return
		}
		if *answered = true; !b.over() {
			b.c.Answered(q.To.RaftID, q.Step, a)
			b.pump()
		}
	})
}

// removal is an operator's order to take a member out.
type removal struct {
	member gcs.Member
	tries  int
}

// orderOut asks members to remove one until it is out.
func (w *world) orderOut(x *removal, via *member) {
	if x.tries--; x.tries < 0 || w.phase > healing {
		return
	}
	if r := via.run; r != nil && r.replica != nil {
		ticket := w.ticket()
		r.changes[ticket] = x
		r.tell(replica.ChangeAsked{Ticket: ticket, Change: gcs.Change{Kind: gcs.Removed, Member: x.member, Reason: "its operator wants it so"}})
		return
	}
	w.after(askAgain, func() { w.orderOut(x, w.someone()) })
}

func (r *run) answerChanges(answers []replica.ChangeAnswer) {
	w := r.world
	for _, a := range answers {
		x := r.changes[a.Ticket]
		delete(r.changes, a.Ticket)
		if a.Answer.Done || a.Answer.Refused != nil {
			continue
		}
		via := w.byRaft[a.Answer.Leader.RaftID]
		if via == nil {
			via = w.someone()
		}
		w.after(askAgain, func() { w.orderOut(x, via) })
	}
}
