package sim

import (
	"slices"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/concordatdb/concordat/gcs"
	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/internal/forced"
	"github.com/concordatdb/concordat/internal/replica"
)

// place is what the group says of a member's place in it.
type place struct {
	told  bool      // somebody could tell
	in    bool      // the view has the member under its raft id
	began gtid.UUID // the group's incarnation, if it is not the member's any more
	mute  bool      // somebody answered, and nobody could tell
}

// inquiry asks everybody for the place of a member. Of another incarnation only
// a member that the asker knows is believed, unless an operator has said whom to
// ask.
type inquiry struct {
	run      *run
	byOrder  bool
	answered bool
	refused  bool // or somebody was not believed
	over     bool
	then     func(p place)
}

// askPlace asks for the member's place, and hands what comes of it to then.
func (r *run) askPlace(byOrder bool, then func(p place)) {
	q := &inquiry{run: r, byOrder: byOrder, then: then}
	for _, m := range r.world.members {
		r.ask(m, q)
	}
	r.after(askAgain, func() { q.end(place{mute: q.answered && !q.refused}) })
}

func (q *inquiry) end(p place) {
	if !q.over && !q.run.ended {
		q.over = true
		q.then(p)
	}
}

// hear takes an answer.
func (q *inquiry) hear(whom *member, a replica.JoinAnswer) {
	q.answered = true
	in := a.Answer.Joined
	switch {
	case q.over || q.run.ended || !a.Quorum: // in a minority nobody knows what the group has become
		return
	case !in && a.Departed && !a.Foreign:
	case a.Answer.Refused != nil:
		q.refused = true
		return
	case !in && !a.Answer.Leading:
		return
	}
	r := q.run
	switch {
	case a.Answer.View.Incarnation == r.history.incarnation:
		r.member.introduce(a.Answer.View)
		q.end(place{told: true, in: in})
	case q.byOrder && !r.world.goesOn(r.world.incarnation(a.Answer.View.Incarnation)):
		return // the operator has named others
	case q.byOrder || r.listed(whom, a.Answer.View):
		q.refused = true // until it turns out where that incarnation comes from
		q.follow(whom, in)
	default:
		r.world.reached[markStranger]++
		q.refused = true
	}
}

// follow asks who is of another incarnation whether that came of this member's.
func (q *inquiry) follow(whom *member, in bool) {
	r := q.run
	r.lineageOf(whom, q.byOrder, func(v gcs.View, came bool) {
		if came {
			if q.byOrder && !r.listed(whom, v) {
				r.world.reached[markApart]++
			}
			q.end(place{told: true, in: in, began: v.Incarnation})
		}
	})
}

// lineageOf asks for the view that a member knows, and whether the incarnation
// of that one came of this member's, or by order was forced beside it.
func (r *run) lineageOf(whom *member, byOrder bool, then func(v gcs.View, came bool)) {
	w := r.world
	w.network.carry(r.member, whom, 0, func() {
		if whom.run == nil || !whom.run.settled() {
			return
		}
		s := whom.run.replica.Status()
		w.network.carry(whom, r.member, 0, func() {
			if !r.ended {
				came := slices.ContainsFunc(s.Forks, func(f replica.Fork) bool { return f.Incarnation == r.history.incarnation })
				then(s.View, came || byOrder && r.forcedBeside(s))
			}
		})
	})
}

// forcedBeside reports whether another incarnation and this member's were forced
// in one that had ended twice.
func (r *run) forcedBeside(s replica.Status) bool {
	came := func(of gtid.UUID) bool {
		h := r.world.incarnation(of)
		return h != nil && r.history.descends(h)
	}
	return !came(s.View.Incarnation) && slices.ContainsFunc(s.Forks, func(f replica.Fork) bool { return came(f.Incarnation) })
}

// settled reports whether a run has come as far as the view with which its
// incarnation began. Before that it would judge by the rules of an earlier one.
func (r *run) settled() bool {
	return r.replica != nil && r.replica.Status().View.Incarnation == r.history.incarnation
}

// known is the last view that the member knows.
func (r *run) known() gcs.View {
	switch m := r.member; {
	case r.replica != nil:
		return r.replica.Status().View
	case m.view.ID == 0 && !r.note.plan.MayRun():
		return r.note.plan.Facts.View
	default:
		return m.view
	}
}

// listed reports whether who answers is, in its own eyes and in those of this
// member, the same member. One that knows no view has nobody to hold against it.
// Of one that copies, the view may be long past: whom the group has named counts, too.
func (r *run) listed(whom *member, view gcs.View) bool {
	own := r.known()
	return own.ID == 0 || slices.ContainsFunc(view.Members, func(m gcs.Member) bool {
		known, ok := own.Member(m.RaftID)
		if !ok {
			known, ok = r.member.named.Member(m.RaftID)
		}
		return ok && known.Address == whom.name && m.Address == whom.name
	})
}

// introduce takes note of who is in the group, which no view may say here, or one
// that is long past.
func (m *member) introduce(v gcs.View) {
	m.named = v
	if m.view.ID == 0 {
		m.view = v
	}
}

// longestLook bounds the time between two looks for the group.
const longestLook = 3 * second

// lookTicks is for how long a member hears no leader before it looks whether it
// has a place in the group: when it may have been expelled.
func (w *world) lookTicks() int {
	longest := int(longestLook / w.plan.tick)
	if w.plan.members.expelTicks < 0 {
		return longest
	}
	return min(longest, w.plan.members.suspectTicks+w.plan.members.expelTicks)
}

// missLeader looks for the group when no leader is known for long.
func (r *run) missLeader(leader uint64) {
	if leader != 0 {
		r.leaderless = 0
		return
	}
	if r.leaderless++; r.leaderless%r.world.lookTicks() == 0 {
		r.lookForPlace()
	}
}

// lookForPlace looks whether the group still has this member, which hears
// nothing of it: nobody tells one that the others do not know any more. One look
// at a time.
func (r *run) lookForPlace() {
	if r.looking {
		return
	}
	r.looking = true
	r.askPlace(false, func(p place) {
		if r.looking = false; p.told && !p.in {
			r.world.reached[markLookedInVain]++
			r.giveUpPlace(p)
		}
	})
}

// giveUpPlace makes the member one that has to join.
func (r *run) giveUpPlace(p place) {
	m, w := r.member, r.world
	keep := keepCommitted
	if p.began.IsZero() {
		w.trace.note(w, m.name+" finds that the group goes on without it")
	} else {
		keep = keepAll
		w.reached[markSuperseded]++
		w.trace.note(w, m.name+" was left out of a forced view")
	}
	m.stop()
	m.reidentify(keep)
	m.start()
}

// lookAt looks whether a member that does not talk to this one any more has gone
// over to an incarnation that came from this one's.
func (r *run) lookAt(whom *member) {
	w := r.world
	if r.history == nil || r.looked > w.now-askAgain {
		return
	}
	r.looked = w.now
	r.lineageOf(whom, false, func(v gcs.View, came bool) {
		if came && r.listed(whom, v) {
			r.superseded(v.Incarnation)
		}
	})
}

// superseded is a member that was left out when an operator forced the
// membership. What it holds is compared by the group before it is taken back.
//
// A frozen member has given its word for what its plan ends and what it begins,
// and no further: when the group has gone another way, nobody waits for it.
func (r *run) superseded(began gtid.UUID) {
	frozen := !r.note.plan.MayRun()
	switch {
	case frozen && r.note.plan.Order.Begins == began, r.final:
		return // it waits for its plan, or for an operator
	case frozen:
		r.world.reached[markThawed]++
	}
	r.giveUpPlace(place{told: true, began: began})
}

// giveWay is an operator's order to a member of a group that was forced beside
// the one that stays. Whom the operator names has to have a quorum.
func (r *run) giveWay(stays *history) {
	for _, whom := range r.world.members {
		to := whom.run
		if to == nil || to.history != stays || !to.settled() || !to.replica.Status().Quorum {
			continue
		}
		r.lineageOf(whom, true, func(v gcs.View, came bool) {
			if came && v.Incarnation == stays.incarnation {
				r.world.reached[markBeside]++
				r.giveUpPlace(place{told: true, began: v.Incarnation})
			}
		})
		return
	}
}

// greet is a frozen member on its streams: it sends nothing, and who has gone
// over to another incarnation says so.
func (r *run) greet() {
	w := r.world
	members := r.note.plan.Facts.View.Members
	id := members[w.rand.IntN(len(members))].RaftID
	if whom := w.byRaft[id]; whom != nil && whom != r.member {
		w.network.carry(r.member, whom, 0, func() {
			if whom.run != nil && whom.raftID == id && whom.run.history != r.history && !r.ended {
				r.lookAt(whom)
			}
		})
	}
	r.after(askAgain, r.greet)
}

// standOut puts a member out of its group. One that keeps its place, as far as it
// knows, has heard no majority for too long. It asks as often as it may, and then
// waits for an operator.
func (m *member) standOut(kept bool, tries int) {
	r, err := m.awake()
	if err != nil {
		m.world.violate("start", "%s: %v", m.name, err)
		return
	}
	r.out, r.kept, r.tries = true, kept, tries
	r.after(askAgain, r.comeBack)
}

// comeBack is one try to be in the group again, or an operator's order when none
// is left.
func (r *run) comeBack() {
	w := r.world
	r.final = r.tries == 0
	r.askPlace(r.final, func(p place) {
		r.tries = max(r.tries-1, 0)
		switch {
		case p.told && p.in && p.began.IsZero():
			r.restart()
		case p.told:
			r.giveUpPlace(p)
		case p.mute && r.kept:
			// When all have given up there is nobody else who could say that the
			// group is back.
			w.reached[markTakenUp]++
			r.member.patient = true
			r.restart()
		case r.final && r.kept && w.rand.IntN(2) == 0:
			r.restart() // by its operator
		default:
			r.after(span{askAgain, second}.draw(w.rand), r.comeBack)
		}
	})
}

// thawByOrder is an operator's order that a frozen member rejoins. It is carried
// out when its group does not wait for it, or has it as it is.
func (r *run) thawByOrder() {
	m, w := r.member, r.world
	r.askPlace(true, func(p place) {
		switch {
		case !p.told || p.in && !p.began.IsZero():
		case p.in:
			w.reached[markPlanDropped]++
			w.trace.note(w, m.name+" drops its plan, as its operator wants")
			r.dropPlan()
		default:
			w.reached[markPlanAbandoned]++
			w.trace.note(w, m.name+" gives its plan up, as its operator wants")
			r.giveUpPlace(p)
		}
	})
}

// dropPlan takes a frozen member back to the incarnation that its plan was to
// end. What an alignment has brought may be of a later term than the member has
// voted in, and it must not lead in that one.
func (r *run) dropPlan() {
	m, w := r.member, r.world
	m.stop()
	hs := m.log.HardState()
	last, err := m.log.LastIndex()
	var term uint64
	if err == nil {
		term, err = m.log.Term(last)
	}
	if err == nil && term > hs.GetTerm() {
		raised := &raftpb.HardState{Term: &term, Vote: new(uint64(0)), Commit: new(hs.GetCommit())}
		err = m.log.Write([]gcs.LogWrite{{HardState: raised, Sync: true}})
	}
	if err == nil {
		next := r.note
		next.plan = forced.Record{}
		err = m.log.SetRecord(next.encode())
	}
	if err != nil {
		w.violate("log", "%s: %v", m.name, err)
		return
	}
	m.start()
}
