package sim

import (
	"math/rand/v2"

	"github.com/concordatdb/concordat/certifier"
	"github.com/concordatdb/concordat/flowcontrol"
	"github.com/concordatdb/concordat/internal/replica"
)

// brake is a trial of ModeAdaptive, which comes when the faults are over: one member's
// engine becomes so slow, and stays so, that it can do a third of what the clients ask
// for, steadily: nobody is busy with a long transaction, or has a giant one. Once that has
// settled, it must never be further behind than farthest targets.
//
// The bound has three parts. At the target the group is given what the slow member can
// do, and less above it, so there its backlog does not grow. What it is given is by
// what was heard of it up to five ticks ago, and with what every member may save up
// for 150 ms: less than half a target. And where few clients happen to pause the limit
// goes, and comes anew when the backlog is half a target and that has been heard of:
// until then it grows by what comes in beyond what is done, for half a second.
type brake struct {
	world *world
	pause int64   // that clients make between two transactions
	slow  *member // nil before that
	run   *run    // of it, then
	until int64
	most  int64 // that the slow member was behind
	felt  bool  // somebody was slowed
}

const (
	// farthest is how many targets a slow member may be behind once it has settled.
	farthest = 3
	// settling is how long that takes: the backlog of the time before anybody knew
	// that the member is slow is worked off at two fifths of what it can do.
	settling = 15 * second
	// braking is for how long it is looked at then.
	braking = 8 * second
	// measuring is for how long it is looked at how much the clients ask for.
	measuring = 3
	// asking is how much clients ask for together, at most, in transactions a second,
	// and leastAsking how much they must.
	asking, leastAsking = 300, 15
	// wholeQueue is the least ApplyBytes with which all that the slow member has yet to
	// do is delivered there. What is not is counted by log entries, each of which may
	// hold several transactions.
	wholeQueue = 16 << 20
	// overload is how much more that is than the slow member can do.
	overload = 3
)

// brakeRand is a source of its own: what comes before the trial is as ever.
func brakeRand(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 0xf11)) }

// tryBrake has the trial come, in some of the worlds in which writers are slowed, and then
// the end.
func (w *world) tryBrake() {
	r := brakeRand(w.seed)
	if w.plan.flow.settings.Mode == 0 || w.plan.applyBytes < wholeQueue {
		w.close()
		return
	}
	b := &brake{world: w, until: w.now + 10*second}
	w.brake = b
	b.agree(r)
}

// end is the end of the trial.
func (b *brake) end() {
	w := b.world
	w.brake = nil
	if b.slow != nil {
		b.slow.labour = 0
	}
	w.close()
}

// whole reports whether all are there and nobody's data are wrong.
func (w *world) whole() bool {
	for _, m := range w.members {
		if !m.gone && (m.harm != nil || !m.serves() || m.run.history != w.newest()) {
			return false
		}
	}
	return true
}

// brakeSettings are those of the group for the trial.
func brakeSettings() flowcontrol.Settings {
	s := flowcontrol.Defaults()
	s.Floor = 1
	return s
}

// agree has an operator choose the settings, until all members have them. Then it is
// looked at how much the clients ask for.
func (b *brake) agree(r *rand.Rand) {
	w := b.world
	if w.now >= b.until {
		b.end() // somebody is not back in time
		return
	}
	agreed := w.whole()
	for _, m := range w.members {
		if agreed && !m.gone && m.run.replica.Status().Settings.Flow != brakeSettings() {
			agreed = false
			s := m.run.replica.Status().Settings
			s.Flow = brakeSettings()
			m.run.tell(replica.SettingsAsked{Ticket: w.ticket(), Settings: s})
		}
	}
	if !agreed {
		w.after(200*millisecond, func() { b.agree(r) })
		return
	}
	writers := int64(0)
	for _, m := range w.members {
		if !m.gone && m.run.mayNow {
			writers += int64(len(m.clients))
		}
	}
	b.pause = writers * second / asking
	w.after(second, func() {
		count, cost := b.offered()
		w.after(measuring*second, func() {
			now, nowCost := b.offered()
			b.begin(r, (now-count)/measuring, (nowCost-cost)/measuring)
		})
	})
}

// offered is how much clients have handed to the members that are there.
func (b *brake) offered() (count, cost uint64) {
	for _, m := range b.world.members {
		if r := m.run; r != nil && r.replica != nil { // else it copies another one's state
			count += r.gateway.counts.Local
			cost += r.gateway.counts.Offered
		}
	}
	return count, cost
}

// begin has a member become slow, by what clients ask for in a second.
func (b *brake) begin(r *rand.Rand, count, cost uint64) {
	w := b.world
	var able []*member
	for _, m := range w.members {
		if !m.gone && !m.exempt {
			able = append(able, m)
		}
	}
	if !w.whole() || count < leastAsking || count > 2*asking || len(able) == 0 {
		b.end()
		return
	}
	b.slow = able[r.IntN(len(able))]
	b.run = b.slow.run
	b.slow.labour = overload * second * flowcontrol.TransactionCost / int64(cost)
	w.trace.note(w, b.slow.name+" has become slow")
	w.after(settling, func() {
		b.until = w.now + braking
		b.look()
	})
}

// look checks how far the slow member is behind: since when the oldest transaction that
// it does not show has been delivered anywhere.
func (b *brake) look() {
	w, m := b.world, b.slow
	if !w.whole() || m.run != b.run {
		b.end()
		return
	}
	behind := m.behind()
	b.most = max(b.most, behind)
	for _, other := range w.members {
		b.felt = b.felt || !other.gone && other.run.gateway.limited
	}
	target := brakeSettings().TargetLag
	if behind > farthest*target.Microseconds() {
		w.violate("P12", "%s is slow for %d s, and it is %d ms behind with a target of %v; what it may write: %s",
			m.name, (w.now-b.until+braking+settling)/second, behind/millisecond, target, m.run.flowText())
		return
	}
	if w.now < b.until {
		w.after(50*millisecond, b.look)
		return
	}
	if b.felt && b.most > target.Microseconds()/2 {
		w.reached[markFlowBounded]++
	}
	b.end()
}

// behind is for how long the oldest transaction has been delivered that the member does
// not show, 0 where it shows all.
func (m *member) behind() int64 {
	h := m.run.history
	for index := m.engine.Position().Index + 1; ; index++ {
		e := h.at(index)
		if e == nil {
			return 0
		}
		for i := range e.judged {
			if e.judged[i].verdict.Outcome == certifier.Certified {
				return m.world.now - e.at
			}
		}
	}
}

func (r *run) flowText() string {
	d := &r.standing.Flow.Decision
	name := ""
	if m := r.world.byRaft[d.Limiting]; m != nil {
		name = m.name
	}
	return d.Inputs(name)
}
