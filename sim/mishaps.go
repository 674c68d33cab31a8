package sim

import (
	"slices"

	"github.com/concordatdb/concordat/gcs"
)

// cutFromLeader cuts the link between a leader and another member, and no other.
func (w *world) cutFromLeader() {
	m := w.someone()
	if m.run == nil || m.run.replica == nil {
		return
	}
	leader := w.byRaft[m.run.leader]
	if leader == nil || leader == m {
		return
	}
	w.report.Faults.PartialCuts++
	w.trace.note(w, "cut between "+leader.name+" and "+m.name)
	w.cut([]*link{w.network.link(leader, m), w.network.link(m, leader)})
}

// flapOne makes the links of a member, or of two, come and go.
func (w *world) flapOne() {
	a, b := w.someone(), w.someone()
	var links []*link
	for _, m := range w.members {
		if m != a && (a == b || m == b) {
			links = append(links, w.network.link(a, m), w.network.link(m, a))
		}
	}
	w.report.Faults.Flaps++
	w.trace.note(w, "the links of "+a.name+" flap")
	period := int64(w.plan.members.suspectTicks) * w.plan.tick * span{5, 20}.draw(w.rand) / 10
	for i := range 2 + w.rand.Int64N(6) {
		w.after(2*i*period, func() { w.cutFor(links, period) })
	}
}

func (w *world) cutFor(links []*link, duration int64) {
	if w.phase != faulty {
		return
	}
	for _, l := range links {
		l.cuts++
	}
	w.after(duration, func() {
		for _, l := range links {
			l.cuts = max(l.cuts-1, 0)
		}
	})
}

// hangOne makes a member's disks answer nothing for a while.
func (w *world) hangOne() {
	m := w.someone()
	w.report.Faults.Hangs++
	m.hung = w.now + w.plan.faults.cut.draw(w.rand)
	w.trace.note(w, "the disks of "+m.name+" hang")
}

// expendable reports whether the group goes on without a member's disks: those
// of a majority are left, and nobody is in the middle of a plan.
func (w *world) expendable(m *member) bool {
	if m.gone || m.log == nil || w.planning() {
		return false
	}
	h := w.incarnation(m.log.Identity().Incarnation)
	if h == nil {
		return true
	}
	left := 0
	for _, v := range h.view.Members {
		if holder := w.byRaft[v.RaftID]; holder != nil && holder != m && !holder.cloning && v.State == gcs.Online {
			left++
		}
	}
	return left >= h.view.Quorum()
}

// planning reports whether anybody takes part in a plan that is not finished.
func (w *world) planning() bool {
	for _, m := range w.members {
		if m.gone || m.log == nil {
			continue
		}
		if n, err := decodeNote(m.log.Record()); err != nil || !n.plan.MayRun() {
			return true
		}
	}
	for _, o := range w.plans {
		if !o.boss.over() {
			return true
		}
	}
	return false
}

// loseDisk takes all that a member has. It comes back under its UUID and takes
// the place of its dead self.
func (w *world) loseDisk() {
	m := w.someone()
	if !w.expendable(m) {
		return
	}
	w.report.Faults.DiskLosses++
	w.trace.note(w, m.name+" loses its disks")
	w.blind(m)
	m.crash()
	m.settle()
	w.comeBack(m)
}

// loseData takes a member's data and leaves its log.
func (w *world) loseData() {
	m := w.someone()
	if m.run == nil || m.run.history == nil || !m.run.note.plan.MayRun() || m.run.note.clone || !w.expendable(m) {
		return
	}
	w.report.Faults.DataLosses++
	w.reached[markDataLost]++
	w.trace.note(w, m.name+" loses its data")
	w.blind(m)
	m.crash()
	m.engine = w.newEngine()
	m.harm = nil
	first, err := m.log.FirstIndex()
	m.cloning = err == nil && first > 1
	w.comeBack(m)
}

// blind notes that what a member held can be named by nobody any more.
func (w *world) blind(m *member) {
	for h := w.incarnation(m.log.Identity().Incarnation); h != nil; h = h.parent {
		h.blind = true
	}
}

func (w *world) comeBack(m *member) {
	w.after(w.plan.faults.down.draw(w.rand), func() {
		if m.run == nil && !m.gone {
			m.start()
		}
	})
}

// removeOne has an operator order a member out.
func (w *world) removeOne() {
	m := w.someone()
	if m.gone || m.log == nil || m.log.Identity().Incarnation.IsZero() {
		return
	}
	w.trace.note(w, m.name+" is ordered out")
	w.orderOut(&removal{member: gcs.Member{UUID: m.uuid, RaftID: m.raftID}, tries: 5}, w.someone())
}

// replaceOne has a newcomer take the place of a member that is down.
func (w *world) replaceOne() {
	var dead, newcomer *member
	for _, m := range w.members {
		switch {
		case m.gone && m.run == nil && newcomer == nil:
			newcomer = m
		case !m.gone && (dead == nil || m.run == nil):
			dead = m
		}
	}
	if dead == nil || newcomer == nil {
		return
	}
	w.die(dead, span{3 * second, 6 * second})
	w.trace.note(w, newcomer.name+" is to replace "+dead.name)
	old := dead.raftID
	newcomer.arrive()
	newcomer.replaces = old
}

// changeBefore has an operator plan a change just before something happens, which
// finds it open.
func (w *world) changeBefore(at int64) {
	if w.plan.rights.between.hi == 0 || w.more.IntN(2) == 0 {
		return
	}
	w.after(max(at-span{millisecond, 60 * millisecond}.draw(w.more), 0), func() {
		for range 5 {
			if w.planAction() {
				return
			}
		}
	})
}

// disaster takes most of the members away at once, dead or alive behind a
// partition. Then operators force the membership on the rest, more than one of
// them at a time perhaps, and perhaps on the others as well.
func (w *world) disaster() {
	if w.phase != faulty {
		return
	}
	w.report.Faults.Disasters++
	w.trace.note(w, "disaster")
	wait := int64(w.plan.members.suspectTicks+6) * w.plan.tick
	until := span{wait + 2*second, wait + 7*second}
	twice := chance(w.rand, w.plan.members.secondary)
	rest, gone := w.divide(twice)
	dead := w.rand.IntN(2) == 0 && !twice
	fall := func() { w.strikeDown(rest, gone, dead, until) }
	if len(rest) > 0 && w.rand.IntN(3) > 0 {
		// Some of them are behind those who go, or behind the others.
		n := 1 + w.rand.IntN(len(rest))
		w.isolate(rest[:n], append(slices.Clone(gone), rest[n:]...), span{300 * millisecond, second}.draw(w.rand))
		w.after(span{50 * millisecond, 200 * millisecond}.draw(w.rand), fall)
	} else {
		fall()
	}
	if len(rest) == 0 {
		return
	}
	sites := []*member{rest[w.rand.IntN(len(rest))]}
	if twice {
		others := gone
		if w.rand.IntN(3) == 0 {
			others = rest
		}
		sites = append(sites, others[w.rand.IntN(len(others))])
	}
	end := w.now + until.lo
	for _, at := range sites {
		w.after(wait+span{0, 700 * millisecond}.draw(w.rand), func() { w.insist(at, end) })
	}
}

// strikeDown takes some members away.
func (w *world) strikeDown(rest, gone []*member, dead bool, until span) {
	if w.phase != faulty {
		return
	}
	if !dead {
		w.isolate(rest, gone, until.draw(w.rand))
		return
	}
	for _, m := range gone {
		w.die(m, until)
	}
}

// insist has an operator try to force the membership on a member until a plan
// runs, or until the disaster is over.
func (w *world) insist(at *member, end int64) {
	if w.phase != faulty || w.now > end || at.gone {
		return
	}
	if r := at.run; r != nil && r.note.plan.MayRun() {
		at.force(w.rand.IntN(2) == 0)
	}
	w.after(span{second, 2 * second}.draw(w.rand), func() {
		if len(w.plans) == 0 || w.plans[len(w.plans)-1].begun < w.now-2*second {
			w.insist(at, end)
		}
	})
}

// divide chooses who is gone: at least half of those that vote, or just that
// many, and all who do not.
func (w *world) divide(halves bool) (rest, gone []*member) {
	view := w.newest().view
	var voters []*member
	for _, i := range w.rand.Perm(len(w.members)) {
		m := w.members[i]
		if v, _ := view.Member(m.raftID); v.State == gcs.Online && !m.gone {
			voters = append(voters, m)
		} else if !m.gone {
			gone = append(gone, m)
		}
	}
	n := min(len(view.Members), len(voters)) / 2
	if !halves && w.rand.IntN(2) == 0 {
		n = w.rand.IntN(n + 1)
	}
	return voters[:n], append(gone, voters[n:]...)
}

func (w *world) die(m *member, down span) {
	if m.run == nil {
		return
	}
	w.report.Faults.Crashes++
	m.crash()
	w.after(down.draw(w.rand), func() {
		if m.run == nil && !m.gone {
			m.start()
		}
	})
}

func (w *world) isolate(some, others []*member, duration int64) {
	var cut []*link
	for _, a := range some {
		for _, b := range others {
			cut = append(cut, w.network.link(a, b), w.network.link(b, a))
		}
	}
	w.cutFor(cut, duration)
}
