package sim

import "github.com/concordatdb/concordat/internal/replica"

// scheduleFault lets something go wrong after a while, again and again.
func (w *world) scheduleFault() {
	w.after(w.plan.faults.every.draw(w.rand), func() {
		if w.phase == faulty {
			w.strike()
			w.scheduleFault()
		}
	})
}

// strike chooses a fault.
func (w *world) strike() {
	f := &w.plan.faults
	kinds := []struct {
		weight int
		strike func()
	}{
		{f.crash, w.crashOne},
		{f.blackout, w.blackout},
		{f.partition, w.partition},
		{f.oneWay, w.cutOneWay},
		{f.storm, w.stormStrikes},
		{f.leave, w.leaveOne},
		{f.stall, w.stallOne},
		{f.partial, w.cutFromLeader},
		{f.flap, w.flapOne},
		{f.hang, w.hangOne},
		{f.disk, w.loseDisk},
		{f.data, w.loseData},
		{f.remove, w.removeOne},
		{f.replace, w.replaceOne},
		{f.pause, w.pauseOne},
		{f.slow, w.slowOne},
		{f.skew, w.skewOne},
		{f.force, func() { w.someone().force(w.rand.IntN(2) == 0) }},
	}
	total := 0
	for _, k := range kinds {
		total += k.weight
	}
	if total == 0 {
		return
	}
	n := w.rand.IntN(total)
	for _, k := range kinds {
		if n < k.weight {
			k.strike()
			return
		}
		n -= k.weight
	}
}

func (w *world) someone() *member { return w.members[w.rand.IntN(len(w.members))] }

// crashOne cuts the power of one member, half of the time that of the leader.
func (w *world) crashOne() {
	m := w.someone()
	if m.run != nil && w.rand.IntN(2) == 0 {
		if leader := w.byRaft[m.run.leader]; leader != nil {
			m = leader
		}
	}
	if m.run == nil {
		return
	}
	w.report.Faults.Crashes++
	w.crash(m)
}

func (w *world) crash(m *member) {
	m.crash()
	w.after(w.plan.faults.down.draw(w.rand), func() {
		if m.run == nil && !m.gone {
			m.start()
		}
	})
}

// voted may crash a member just after its vote was sent. When it is back it
// must not vote again in the same term.
func (w *world) voted(r *run) {
	if w.phase != faulty || !chance(w.rand, w.plan.faults.voter) {
		return
	}
	r.after(w.plan.network.delay.draw(w.rand), func() {
		w.report.Faults.Crashes++
		r.member.crash()
		w.after(millisecond, func() {
			if r.member.run == nil && !r.member.gone {
				r.member.start()
			}
		})
	})
}

// blackout cuts the power of all.
func (w *world) blackout() {
	w.report.Faults.Blackouts++
	w.outage = true
	for _, m := range w.members {
		if m.run != nil {
			w.crash(m)
		}
	}
}

// partition splits the members in two.
func (w *world) partition() {
	w.report.Faults.Partitions++
	side := w.rand.Uint64()
	var cut []*link
	for _, a := range w.members {
		for _, b := range w.members {
			if side>>a.slot&1 != side>>b.slot&1 {
				cut = append(cut, w.network.link(a, b))
			}
		}
	}
	w.trace.note(w, "partition")
	w.cut(cut)
}

// cutOneWay cuts what one member sends to another, or to all.
func (w *world) cutOneWay() {
	w.report.Faults.OneWay++
	from, to := w.someone(), w.someone()
	var cut []*link
	for _, m := range w.members {
		if m == to || from == to {
			cut = append(cut, w.network.link(from, m))
		}
	}
	w.trace.note(w, "cut from "+from.name+" to "+to.name)
	w.cut(cut)
}

func (w *world) cut(links []*link) {
	for _, l := range links {
		l.cuts++
	}
	w.after(w.plan.faults.cut.draw(w.rand), func() {
		for _, l := range links {
			l.cuts = max(l.cuts-1, 0)
		}
	})
}

// stormStrikes makes the whole network lose much.
func (w *world) stormStrikes() {
	w.report.Faults.Storms++
	w.network.storm = 300
	w.trace.note(w, "storm")
	w.after(w.plan.faults.cut.draw(w.rand), func() { w.network.storm = 0 })
}

// leaveOne has a member leave in order.
func (w *world) leaveOne() {
	m := w.someone()
	if p := w.primary(); !w.plain && p != nil && w.more.IntN(2) == 0 {
		m = p
	}
	if m.run == nil || m.run.replica == nil || m.leaving || m.paused || m.run.state != replica.Online {
		return
	}
	m.leaving, m.asked = true, true
	w.trace.note(w, m.name+" leaves")
	m.leaveInOrder()
}

// stallOne makes a member's disks slow.
func (w *world) stallOne() {
	m := w.someone()
	w.report.Faults.Stalls++
	m.stalled = true
	w.trace.note(w, "the disks of "+m.name+" stall")
	w.after(w.plan.faults.cut.draw(w.rand), func() { m.stalled = false })
}
