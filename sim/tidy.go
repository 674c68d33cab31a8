package sim

import (
	"slices"

	"github.com/concordatdb/concordat/gcs"
	"github.com/concordatdb/concordat/internal/forced"
)

// newest is the incarnation that the operator goes on with: of two that came
// from one, the one with more members in it when that was found, and that for
// good. One in which nobody is any more, since all who had gone over have lost
// their disks, is not there to be gone on with.
func (w *world) newest() *history {
	h := w.histories[0]
	for slices.ContainsFunc(h.children, func(c *history) bool { return w.population(c) > 0 }) {
		heir := h.heir
		if heir == nil {
			heir = h.children[0]
			for _, c := range h.children[1:] {
				if w.population(c) > w.population(heir) {
					heir = c
				}
			}
			if w.phase != faulty {
				h.heir = heir
				if len(h.children) > 1 {
					w.reached[markTwoHeirs]++
				}
			}
		}
		h = heir
	}
	return h
}

// goesOn reports whether an operator would send members to an incarnation: to the
// newest, or to one that this came from. While faults strike, operators do not
// know of each other.
func (w *world) goesOn(with *history) bool {
	return w.phase == faulty || w.newest().descends(with)
}

// population is how many members are of an incarnation or one that came from it.
func (w *world) population(h *history) int {
	n := 0
	for _, m := range w.members {
		if m.gone {
			continue
		}
		if of := w.incarnation(m.log.Identity().Incarnation); of != nil && of.descends(h) {
			n++
		}
	}
	return n
}

// haltedFor is how long a member that was stopped for a plan stays so at most.
const haltedFor = 10 * second

// tidyEvery is how often operators look after what faults have left.
const tidyEvery = 500 * millisecond

// tidy is what operators do when the faults are over, again and again: finish
// plans, and start anew who is of no use.
func (w *world) tidy() {
	if w.phase == over {
		return
	}
	w.after(tidyEvery, w.tidy)
	newest := w.newest()
	serving := false
	for _, m := range w.members {
		if r := m.run; r != nil && r.history == newest && r.replica != nil && !m.gone {
			st := r.replica.Status()
			serving = serving || st.Quorum && st.Leader != 0
		}
	}
	for _, m := range w.members {
		r := m.run
		switch {
		case m.gone:
		case r == nil:
			if m.halted > 0 && (serving || w.now-m.halted > haltedFor) {
				m.halted = 0
				m.start()
			}
		case r.history != nil && !newest.descends(r.history):
			r.giveWay(newest)
		case r.history == nil && m.alien == newest && !r.errant:
			w.trace.note(w, m.name+" is started anew by its operator")
			m.stop()
			m.settle()
			m.start()
		case !r.note.plan.MayRun():
			w.unfreeze(m, serving)
		case r.history != nil && r.history != newest && w.now-w.healedAt > 3*second:
			// They expelled the survivors before these went, so neither side
			// speaks to the other one before an operator says whom to ask.
			if !r.out {
				m.stop()
				m.standOut(true, 0)
			}
		}
	}
	if serving {
		w.serving = w.now
		return
	}
	w.reopen(newest)
}

// unfreeze goes on with the plan for which a member is frozen, or draws another
// one. When the group has a quorum without it, the member is told to rejoin first,
// and again where the plan cannot be finished.
func (w *world) unfreeze(m *member, serving bool) {
	o := w.planOf(m.run.note.plan.Order.Plan)
	switch {
	case !o.boss.over():
	case o.runs == 1 && serving:
		o.runs++
		m.run.thawByOrder()
	case o.runs < 4 || o.runs < 8 && !serving:
		o.resume(m)
	case o.runs%3 > 0 && !serving:
		o.runs++
		m.force(true)
	case !serving:
		o.resume(m)
	case o.runs%2 == 0:
		o.runs++
		m.run.thawByOrder()
	default:
		o.resume(m)
	}
}

func (w *world) planOf(id [16]byte) *campaign {
	for _, o := range w.plans {
		if o.id == id {
			return o
		}
	}
	return nil
}

// reopen forces the membership of a group that has had no quorum for long, on
// the member that knows most of those with a vote, as an operator who looks at
// all of them does.
func (w *world) reopen(h *history) {
	if w.now-w.serving < 10*second {
		return
	}
	var best *member
	for _, m := range w.members {
		r := m.run
		if m.gone || !r.surveyable() || r.history != h || !r.note.plan.MayRun() {
			continue
		}
		if v, _ := h.view.Member(m.raftID); v.State != gcs.Online {
			continue
		}
		if best == nil || m.engine.Position().Index > best.engine.Position().Index {
			best = m
		}
	}
	if best != nil {
		w.serving = w.now - 7*second
		w.trace.note(w, "no quorum for long")
		best.force(true)
	}
}

// reworkPlans goes on with plans whose coordinator has gone, while faults still
// strike.
func (w *world) reworkPlans() {
	if w.phase != faulty {
		return
	}
	w.after(700*millisecond, w.reworkPlans)
	for _, o := range w.plans {
		if o.closed || !o.boss.over() || !chance(w.rand, 600) {
			continue
		}
		for _, m := range w.members {
			if r := m.run; r != nil && r.note.plan.Phase == forced.Frozen && r.note.plan.In(o.id) && chance(w.rand, 600) {
				switch w.rand.IntN(8) {
				case 0, 1:
					m.force(true)
				case 2:
					r.thawByOrder()
				default:
					o.resume(m)
				}
				break
			}
		}
	}
}
