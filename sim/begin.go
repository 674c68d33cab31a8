package sim

import (
	"slices"
	"time"

	"github.com/concordatdb/concordat/election"
	"github.com/concordatdb/concordat/flowcontrol"
	"github.com/concordatdb/concordat/gcs"
	"github.com/concordatdb/concordat/internal/consistency"
	"github.com/concordatdb/concordat/internal/replica"
)

// beginning is a transaction on its way to its snapshot, by the steps of a real
// shell's begin and in their order: flow control, the session, the read index, the right to
// write, and the floor.
type beginning struct {
	*begun
	step     beginStep
	patient  bool          // it says how long it waits
	insists  bool          // it does not look whether its member may write
	entered  bool          // the drain counts it
	atMost   time.Duration // of a bounded one, by its member's clock
	young    time.Duration // when it was bounded, by that clock
	ticket   uint64        // of its question for a read index, 0 for none
	index    uint64        // the answer
	answered bool
	want     uint64 // the floor

	tag    string
	flow   uint64 // under which it waits for flow control, 0 while it does not
	heldAt int64  // since when
	passed bool   // flow control lets it begin
	pass   flowcontrol.Pass
}

type beginStep byte

const (
	stepFlow beginStep = iota
	stepSession
	stepBound
	stepIndex
	stepShown
	stepRight
	stepFloor
	stepVisible
	stepBegin
)

// ask asks to begin the client's next transaction.
func (c *client) ask() {
	w, r := c.member.world, c.run
	p := &w.plan.rights
	b := &beginning{begun: &begun{run: r.record, history: r.history, caller: (c.member.slot + c.slot) % len(w.trails), asked: w.now, level: consistency.Eventual, write: true}, patient: true}
	c.beginning = b
	if w.plain {
		b.step = stepBegin
		c.proceed()
		return
	}
	if b.write = !c.reader && !chance(w.more, w.plan.work.reads); b.write && r.mayWrite().never {
		b.insists = chance(w.more, p.ignorant)
		if !b.insists && w.more.IntN(2) == 0 {
			c.deny()
			return
		}
		b.write = b.insists // else it reads instead
	}
	b.level = consistency.Resolve(p.levels.draw(w.more), r.standing.Settings.Consistency)
	if b.bounded = chance(w.more, p.bounded); b.bounded {
		b.bound(r, p.atMost.draw(w.more))
	}
	if chance(w.more, p.session) {
		b.session = c.trail.executed(r.history)
	}
	b.patient = !chance(w.more, p.impatient)
	if b.patient {
		r.after(p.patience.draw(w.more), func() {
			if c.beginning == b {
				c.giveUpBegin()
			}
		})
	}
	c.proceed()
}

// bound asks for data that are at most so old, by the member's clock.
func (b *beginning) bound(r *run, atMost int64) {
	b.atMost = time.Duration(atMost) * time.Microsecond
	b.complete = b.asked - atMost - atMost*r.member.drift/1000 - 2
}

// proceed goes on until the transaction has its snapshot, or has to wait.
func (c *client) proceed() {
	w := c.member.world
	for b := c.beginning; b != nil; b = c.beginning {
		before := b.step
		if !c.advance(b) {
			if c.beginning == b {
				c.run.await(c)
			}
			return
		}
		if b.step != before && !w.plain && b.step < stepBegin && chance(w.more, w.plan.rights.holdups) {
			c.run.after(span{10, 3000}.draw(w.more), func() {
				if c.beginning == b {
					c.proceed()
				}
			})
			return
		}
	}
}

// advance takes the next step, and reports whether it could be taken.
func (c *client) advance(b *beginning) bool {
	r := c.run
	w := r.world
	shown := r.member.engine.Position()
	switch b.step {
	case stepFlow:
		return c.enterFlow(b)
	case stepSession:
		if !b.session.SubsetOf(shown.Executed) {
			w.reached[markSessionWaited]++
			return c.wait(b)
		}
		b.step = stepBound
	case stepBound:
		c.askIndex(b, shown.Index)
	case stepIndex:
		if !b.answered {
			return c.wait(b)
		}
		b.step = stepShown
	case stepShown:
		if shown.Index < b.index && !b.isYoung(r, shown.Index) {
			return c.wait(b)
		}
		b.step = stepRight
	case stepRight:
		return c.enterWriters(b)
	case stepFloor:
		b.want = r.floor.For(b.level)
		b.step = stepVisible
		if b.want > shown.Index && b.want > r.floor.Gate {
			w.reached[markHeldOnFailover]++
		} else if b.want > shown.Index {
			w.reached[markHeldByGate]++
		}
	case stepVisible:
		if shown.Index < b.want {
			return c.wait(b)
		}
		b.step = stepBegin
	case stepBegin:
		if c.member.misled() {
			c.deny() // the disk has gone wrong while it waited
			return false
		}
		c.beginning = nil
		c.transact(b)
		return false
	}
	return true
}

// wait reports that the transaction has to wait, unless that would be for a
// quorum and it does not say for how long.
func (c *client) wait(b *beginning) bool {
	if s := &c.run.standing; !b.patient && !s.Quorum && !s.QuorumUnknown {
		c.giveUpBegin()
	}
	return false
}

// askIndex asks for what must be visible, if anybody has to know.
func (c *client) askIndex(b *beginning, shown uint64) {
	r := c.run
	w := r.world
	before := b.level.WaitsBefore()
	if !before && !b.bounded {
		b.step = stepRight
		return
	}
	if b.bounded && !before {
		b.young = r.ownClock()
		r.reads.wanted, r.reads.bounded = b.young, true
		if b.isYoung(r, shown) {
			w.reached[markBoundKnown]++
			b.step = stepRight
			return
		}
		w.reached[markBoundAsked]++
	}
	b.step = stepIndex
	b.ticket = r.reads.ask(r, b)
	w.reached[markReadAsked]++
	r.tell(replica.ReadAsked{Ticket: b.ticket})
}

// isYoung reports whether what is visible is known to be as young as was asked.
func (b *beginning) isYoung(r *run, shown uint64) bool {
	if !b.bounded || b.level.WaitsBefore() {
		return false
	}
	at, ok := r.reads.fresh.Known(shown)
	return ok && at+b.atMost >= b.young
}

// enterWriters takes the step into the drain, if the transaction may write.
func (c *client) enterWriters(b *beginning) bool {
	r := c.run
	if !b.write || b.entered {
		b.step = stepFloor
		return true
	}
	if b.insists || r.drain.enter() {
		if b.entered = !b.insists; b.insists || r.mayNow {
			b.step = stepFloor
			return true
		}
		r.leaveDrain(b)
	}
	switch s, right := &r.standing, r.mayWrite(); {
	case right.may:
		return c.wait(b) // it is about to be published
	case right.never, !right.held && !b.patient:
		c.deny()
		return false
	case right.held && r.drain.shut != 0:
		r.world.reached[markHeldByDrain]++
		return c.wait(b)
	case !b.patient && !s.Quorum && !s.QuorumUnknown:
		c.deny()
		return false
	}
	return false
}

// giveUpBegin is a transaction that waited for too long.
func (c *client) giveUpBegin() {
	c.member.world.reached[markWaitEnded]++
	c.deny()
}

// deny tells the client that its transaction has not begun. Nothing happened.
func (c *client) deny() {
	r, b := c.run, c.beginning
	r.world.report.Denied++
	c.beginning = nil
	r.reads.drop(r, b)
	r.leaveDrain(b)
	r.leaveFlow(b)
	c.think()
}

// right is whether a member may write, by what it knows.
type right struct {
	may   bool
	never bool // and waiting does not help
	held  bool // everybody waits
}

// mayWrite judges as a real shell does for its callers. Whether it is so is judged
// where the transaction is ordered.
func (r *run) mayWrite() right {
	s := &r.standing
	self, member := s.Election.Member(r.raftID)
	switch e := &s.Election; {
	case self.Writes && s.Outdated != 0:
		return right{never: s.Alone, held: !s.Alone}
	case self.Writes && s.Alone:
		return right{}
	case self.Writes && r.drain.shut != 0:
		return right{held: true}
	case self.Writes:
		return right{may: true}
	case member && self.Online && e.Action != nil && e.Action.Target == r.raftID,
		member && self.Online && e.Mode == election.SinglePrimary && e.Primary == 0:
		return right{}
	}
	return right{never: true}
}

// await has a client go on when something has changed.
func (r *run) await(c *client) {
	if !slices.Contains(r.waiting, c) {
		r.waiting = append(r.waiting, c)
	}
}

// retry lets those go on who wait.
func (r *run) retry() {
	r.stirred = true
	if r.retrying {
		return // by what one of them did
	}
	r.retrying = true
	for r.stirred && len(r.waiting) > 0 {
		r.stirred = false
		waiting := r.waiting
		r.waiting = nil
		for _, c := range waiting {
			if c.beginning != nil && c.run == r && !r.ended {
				c.proceed()
			}
		}
	}
	r.retrying = false
}

// questions are what a run asked for read indexes, and what their answers tell of
// the age of what it shows.
type questions struct {
	fresh   consistency.Freshness
	last    uint64
	waiting map[uint64]*beginning
	wanted  time.Duration // when somebody last asked for a bounded age
	bounded bool
	// refreshing is the question that nobody waits for, 0 for none.
	refreshing uint64
}

func (q *questions) ask(r *run, b *beginning) uint64 {
	q.last++
	q.fresh.Asked(q.last, r.ownClock())
	if b != nil {
		if q.waiting == nil {
			q.waiting = map[uint64]*beginning{}
		}
		q.waiting[q.last] = b
	}
	return q.last
}

func (q *questions) drop(r *run, b *beginning) {
	if b.ticket != 0 && q.waiting[b.ticket] != nil {
		delete(q.waiting, b.ticket)
		r.tell(replica.ReadWithdrawn{Ticket: b.ticket})
	}
}

func (q *questions) answer(answers []replica.ReadAnswer) {
	for _, a := range answers {
		q.fresh.Answered(a.Ticket, a.Index)
		if a.Ticket == q.refreshing {
			q.refreshing = 0
		}
		if b := q.waiting[a.Ticket]; b != nil {
			delete(q.waiting, a.Ticket)
			b.index, b.answered = a.Index, true
		}
	}
}

// While somebody has asked for a bounded age within refreshFor, what is visible is
// dated anew every refreshTicks.
const (
	refreshFor   = 10 * time.Second
	refreshTicks = 2
)

// refresh dates what is visible, when that is due.
func (q *questions) refresh(r *run) {
	if q.bounded && q.refreshing == 0 && r.ownClock()-q.wanted <= refreshFor && r.ticks%refreshTicks == 0 {
		q.refreshing = q.ask(r, nil)
		r.tell(replica.ReadAsked{Ticket: q.refreshing})
	}
}

// age is how old what is visible may be, in the member's ticks.
func (q *questions) age(r *run) uint64 {
	at, ok := q.fresh.Known(r.member.engine.Position().Index)
	if !ok {
		return gcs.NeverHeard
	}
	tick := r.world.tickTime()
	return min(uint64((r.ownClock()-at+tick-1)/tick), gcs.NeverHeard)
}

// ownClock is how much time has passed for a run by its member's clock, which goes
// on while the process stands still.
func (r *run) ownClock() time.Duration {
	passed := (r.world.now - r.began) * 1000 / (1000 + r.member.drift)
	return time.Duration(passed+r.member.skew-r.skew) * time.Microsecond
}

func (w *world) tickTime() time.Duration { return time.Duration(w.plan.tick) * time.Microsecond }
