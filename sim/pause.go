package sim

import "math/rand/v2"

// pauseOne stops a process as a signal does, or the host of a virtual machine: for
// a while nothing runs in it, and what comes for it waits. The clock goes on.
func (w *world) pauseOne() {
	m, length := w.someone(), span{200 * millisecond, 5 * second}
	if p := w.primary(); p != nil && w.more.IntN(4) > 0 {
		// Long enough for another primary, short enough not to be out.
		m, length.lo = p, int64(w.plan.rights.failoverTicks+4)*w.plan.tick
		length.hi = 2 * length.lo
		if w.more.IntN(4) == 0 {
			w.after(length.lo+span{-6, 2}.draw(w.more)*w.plan.tick, w.cutLeaderOff)
		}
	}
	w.pause(m, length)
}

// cutLeaderOff has the leader alone with what it has just proposed. It says the same
// again when it is back, and another one leads.
func (w *world) cutLeaderOff() {
	for _, m := range w.members {
		if m.run == nil || m.run.replica == nil || m.paused || !m.run.replica.Status().Leading {
			continue
		}
		w.report.Faults.Partitions++
		w.trace.note(w, m.name+", which leads, is cut off")
		var others []*member
		for _, o := range w.members {
			if o != m {
				others = append(others, o)
			}
		}
		w.isolate([]*member{m}, others, span{500 * millisecond, 3 * second}.draw(w.more))
		return
	}
}

func (w *world) pause(m *member, length span) {
	if m.run == nil || m.paused {
		return
	}
	w.report.Faults.Pauses++
	w.trace.note(w, m.name+" stands still")
	m.paused = true
	of := m.run
	if of.record != nil {
		of.record.pauses = append(of.record.pauses, pauseSpan{from: w.now})
	}
	w.after(length.draw(w.more), func() {
		if m.run == of {
			m.resume()
		}
	})
}

// resume lets a process run again: what came meanwhile, and what it would have done,
// in the order in which it was due. It takes its time over that: those who begin
// transactions may be faster than the news that all has changed.
func (m *member) resume() {
	if !m.paused {
		return
	}
	w := m.world
	w.trace.note(w, m.name+" goes on")
	m.endPause()
	parked := m.parked
	m.parked = nil
	at := int64(0)
	for _, what := range parked {
		if w.plan.network.reorder { // else what comes now would overtake it
			at += span{0, 100}.draw(w.more)
		}
		w.after(at, what)
	}
}

// endPause ends the pause of a process that goes on, or is killed.
func (m *member) endPause() {
	if !m.paused {
		return
	}
	m.paused = false
	if r := m.run.record; r != nil {
		r.pauses[len(r.pauses)-1].to = m.world.now
	}
}

// running has the process do something, when it runs again if it stands still.
func (m *member) running(what func()) {
	if m.paused {
		m.parked = append(m.parked, what)
		return
	}
	what()
}

// slowOne makes a member's engine slow.
func (w *world) slowOne() {
	m := w.someone()
	w.report.Faults.Slowdowns++
	m.slowed = w.now + span{500 * millisecond, 4 * second}.draw(w.more)
	w.trace.note(w, m.name+" applies slowly")
}

// slowness is what slow engines take longer by, up to slowest.
const (
	slowness = 50
	slowest  = second
)

// skewOne sets a member's clock ahead.
func (w *world) skewOne() {
	m := w.someone()
	w.report.Faults.Skews++
	m.skew += span{100 * millisecond, 60 * second}.draw(w.more)
	w.trace.note(w, "the clock of "+m.name+" jumps ahead")
}

// primary is the primary of the newest incarnation, as far as anybody has
// delivered; nil if there is none.
func (w *world) primary() *member {
	h := w.newest()
	now := h.electionAt(uint64(len(h.elections)))
	if now == nil || now.Primary == 0 {
		return nil
	}
	return w.byRaft[now.Primary]
}

// moreRand is the source of what came to worlds after their first draws were
// settled, so that it moves none of those.
func moreRand(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 1)) }
