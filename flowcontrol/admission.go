package flowcontrol

import (
	"cmp"
	"math"
	"slices"
	"time"
)

const (
	// MaxWaiting is how many transactions may wait on a member.
	MaxWaiting = 1 << 16
	// MaxTags is how many classes a member tells apart. Further ones are one.
	MaxTags = 256
	// MaxWeight bounds the weight of a class.
	MaxWeight = 1000
	// burst is how much may be saved up of the rate: what a caller of the admission
	// lets pass between two calls of Advance, and a little.
	burst = 150 * time.Millisecond
	// maxDebt is how much may be owed of it: a transaction as large as it may be
	// holds up the next ones for so long.
	maxDebt = time.Second
	// patience is how long ModeQuota lets anybody wait.
	patience = time.Second
	// firstSize is what a transaction is taken to cost before any was seen.
	firstSize = 2 * TransactionCost
)

// Pass is the leave to run one transaction, which ends with Charge or Refund.
// The zero value is a pass that nothing was reserved for.
type Pass struct {
	Tag      string
	Weight   uint32
	Reserved uint64
}

// Counts is what a member has let pass, and what it holds back. Totals count from
// the start of its process, and are told to the others in its Sample.
type Counts struct {
	Local, Offered uint64 // transactions handed to the group, and their cost
	Held, Waited   uint64 // those that had to wait, and for how many microseconds
	Queue          uint64 // those that wait now
	Used           uint64 // of the quota of the present period
}

// Outcome is what becomes of one who asks.
type Outcome byte

// The outcomes.
const (
	// Admitted: it may begin.
	Admitted Outcome = iota
	// Waits: it will be among what Advance or Decide returns, or withdraws.
	Waits
	// Refused: MaxWaiting wait already.
	Refused
)

// Grant tells one who waits that it may begin.
type Grant struct {
	ID   uint64
	Pass Pass
}

type waiter struct {
	id    uint64
	since time.Duration
}

// class is the transactions of one tag.
type class struct {
	tag    string
	weight uint32
	queue  []waiter // in the order in which they came, which is that of their ids
	// start is how much of the whole the class has had, by its weight: who has had
	// least is next.
	start float64
	held  uint64
	wait  time.Duration
}

// TagCount is how much the transactions of a tag have waited.
type TagCount struct {
	Tag     string
	Weight  uint32
	Waiting int           // now
	Held    uint64        // that had to wait, ever
	Waited  time.Duration // those, and the ones that gave up
}

// Admission lets transactions begin at the rate of the last Decision. It belongs to
// one goroutine, or to whoever holds the lock around it. Time never runs backwards.
type Admission struct {
	now      time.Duration
	decision Decision
	tokens   float64 // cost that may be begun
	used     uint64  // of Decision.Quota, those who wait too
	size     float64 // of a transaction, of late
	virtual  float64 // start of the last one admitted
	classes  []class // ascending by tag
	waiting  int
	held     uint64
	waited   time.Duration
	grants   []Grant // reused
}

// NewAdmission returns an admission that lets everybody begin.
func NewAdmission() *Admission { return &Admission{size: firstSize} }

// Waiting is how many wait.
func (a *Admission) Waiting() int { return a.waiting }

// Used is how many have asked since the present period of ModeQuota began.
func (a *Admission) Used() uint64 { return a.used }

// Held is how many had to wait, ever, and Waited for how long.
func (a *Admission) Held() (held uint64, waited time.Duration) { return a.held, a.waited }

// Tags returns what was counted of each tag, ascending.
func (a *Admission) Tags() []TagCount {
	all := make([]TagCount, 0, len(a.classes))
	for i := range a.classes {
		k := &a.classes[i]
		all = append(all, TagCount{Tag: k.tag, Weight: k.weight, Waiting: len(k.queue), Held: k.held, Waited: k.wait})
	}
	return all
}

// Ask asks for one transaction, under a number higher than those before. A weight of
// 0 stands for 1.
func (a *Admission) Ask(now time.Duration, id uint64, tag string, weight uint32) (Outcome, Pass) {
	a.pass(now)
	a.used++
	if a.waiting >= MaxWaiting {
		return Refused, Pass{}
	}
	k := a.class(tag)
	if k.tag == tag { // or it has joined those without one, and weighs as they do
		k.weight = min(max(weight, 1), MaxWeight)
	}
	if a.waiting == 0 && a.open() {
		return Admitted, a.take(k)
	}
	if len(k.queue) == 0 {
		k.start = max(k.start, a.virtual)
	}
	k.queue = append(k.queue, waiter{id, a.now})
	k.held++
	a.held++
	a.waiting++
	return Waits, Pass{}
}

// Withdraw takes back what waits under a number, and reports whether it still did.
func (a *Admission) Withdraw(now time.Duration, id uint64) bool {
	a.pass(now)
	for i := range a.classes {
		k := &a.classes[i]
		at, ok := slices.BinarySearchFunc(k.queue, id, func(w waiter, id uint64) int { return cmp.Compare(w.id, id) })
		if ok {
			a.leaves(k, k.queue[at].since)
			k.queue = slices.Delete(k.queue, at, at+1)
			return true
		}
	}
	return false
}

// Advance lets time pass, and returns who may begin, in that order. What it returns
// is valid until the next call.
func (a *Admission) Advance(now time.Duration) []Grant {
	a.pass(now)
	a.grants = a.grants[:0]
	for a.waiting > 0 && a.open() {
		k := a.next()
		w := k.queue[0]
		k.queue = k.queue[1:]
		a.leaves(k, w.since)
		a.grants = append(a.grants, Grant{ID: w.id, Pass: a.take(k)})
	}
	if a.decision.Mode == ModeQuota {
		a.overdue()
	}
	return a.grants
}

// Decide takes up a decision, and returns who may begin by it, as Advance does.
func (a *Admission) Decide(now time.Duration, d *Decision) []Grant {
	a.pass(now)
	before := a.decision
	a.decision = *d
	if d.Mode == ModeQuota && d.Period != before.Period {
		debt := before.Mode == ModeQuota && before.Quota > 0 && a.used > before.Quota
		a.used = 0
		if debt || !d.Throttled {
			a.decision.Throttled = false // for as long as it takes to let everybody go
			grants := a.Advance(now)
			a.decision.Throttled = d.Throttled
			a.used = 0
			return grants
		}
	}
	if d.Throttled && !before.Throttled {
		a.tokens = 0
		if d.Size > 0 {
			a.size = float64(d.Size)
		}
	}
	return a.Advance(now)
}

// Charge ends a pass with what the transaction really cost.
func (a *Admission) Charge(p Pass, cost uint64) {
	a.size += (min(float64(cost), 8*a.size) - a.size) / 32 // a single large one is not what the next will cost
	a.settle(p, float64(cost)-float64(p.Reserved))
}

// Refund ends a pass whose transaction was not handed to the group.
func (a *Admission) Refund(p Pass) { a.settle(p, -float64(p.Reserved)) }

func (a *Admission) settle(p Pass, more float64) {
	if !a.decision.Throttled || a.decision.Mode == ModeQuota {
		return
	}
	a.tokens -= more
	a.clamp()
	at, ok := slices.BinarySearchFunc(a.classes, p.Tag, func(k class, tag string) int { return cmp.Compare(k.tag, tag) })
	if ok {
		a.classes[at].start += more / float64(max(p.Weight, 1))
	}
}

// clamp bounds what is saved up, and what is owed.
func (a *Admission) clamp() {
	rate := float64(a.decision.Rate)
	most := max(rate*burst.Seconds(), a.size)
	least := -max(rate*maxDebt.Seconds(), a.size) // or whoever begins at a low rate would not pay for itself
	a.tokens = min(max(a.tokens, least), most)
}

// pass lets time pass.
func (a *Admission) pass(now time.Duration) {
	elapsed := max(0, now-a.now)
	a.now = max(a.now, now)
	if d := &a.decision; d.Throttled && d.Mode != ModeQuota && elapsed > 0 {
		if !d.Stopped {
			a.tokens += float64(d.Rate) * elapsed.Seconds()
		}
		a.clamp()
	}
}

// open reports whether the next one may begin.
func (a *Admission) open() bool {
	d := &a.decision
	switch {
	case !d.Throttled:
		return true
	case d.Mode == ModeQuota:
		return a.waiting == 0 && a.used <= d.Quota
	}
	return !d.Stopped && a.tokens > 0
}

// take lets one of a class begin.
func (a *Admission) take(k *class) Pass {
	p := Pass{Tag: k.tag, Weight: k.weight}
	if a.decision.Throttled && a.decision.Mode != ModeQuota {
		p.Reserved = uint64(a.size)
		a.tokens -= a.size
		a.clamp()
		k.start = max(k.start, a.virtual)
		a.virtual = k.start
		k.start += a.size / float64(k.weight)
	}
	return p
}

// next is the class whose turn it is. Somebody waits.
func (a *Admission) next() *class {
	least, at := math.Inf(1), -1
	for i := range a.classes {
		if k := &a.classes[i]; len(k.queue) > 0 && k.start < least {
			least, at = k.start, i
		}
	}
	return &a.classes[at]
}

// overdue lets those go who have waited for as long as ModeQuota has anybody wait.
func (a *Admission) overdue() {
	for i := range a.classes {
		k := &a.classes[i]
		for len(k.queue) > 0 && a.now-k.queue[0].since >= patience {
			w := k.queue[0]
			k.queue = k.queue[1:]
			a.leaves(k, w.since)
			a.grants = append(a.grants, Grant{ID: w.id, Pass: Pass{Tag: k.tag, Weight: k.weight}})
		}
	}
}

func (a *Admission) leaves(k *class, since time.Duration) {
	a.waiting--
	a.waited += a.now - since
	k.wait += a.now - since
}

// class returns the one of a tag. Where there are too many, one in which nobody
// waits makes room, and if there is none, those without a tag are joined.
func (a *Admission) class(tag string) *class {
	at, ok := slices.BinarySearchFunc(a.classes, tag, func(k class, tag string) int { return cmp.Compare(k.tag, tag) })
	if ok {
		return &a.classes[at]
	}
	if tag != "" && len(a.classes) >= MaxTags {
		idle := slices.IndexFunc(a.classes, func(k class) bool { return k.tag != "" && len(k.queue) == 0 && k.start <= a.virtual })
		if idle < 0 {
			return a.class("")
		}
		a.classes = slices.Delete(a.classes, idle, idle+1)
		return a.class(tag)
	}
	a.classes = slices.Insert(a.classes, at, class{tag: tag, weight: 1})
	return &a.classes[at]
}
