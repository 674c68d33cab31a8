package sim

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/concordatdb/concordat/flowcontrol"
	"github.com/concordatdb/concordat/internal/replica"
)

// flowPlan is whether writers are slowed in a world, and how. The zero value is of a
// world without.
type flowPlan struct {
	settings flowcontrol.Settings
	change   int64 // in a thousand: a change of the settings changes these as well
	exempt   int64 // in a thousand: a member may fall behind
	tagged   int64 // in a thousand: a transaction has a tag
	heavy    int64 // in a thousand: each transaction is labour for a member's engine
	labour   span
}

// drawFlow draws from a source of its own: the other worlds are the same as ever.
func drawFlow(seed uint64, p *plan) *rand.Rand {
	r := rand.New(rand.NewPCG(seed, 0xf10))
	if r.IntN(2) == 0 {
		return r
	}
	f := &p.flow
	f.settings = drawFlowSettings(r)
	f.change = pick[int64](r, 0, 300)
	f.exempt = pick[int64](r, 0, 0, 300)
	f.tagged = pick[int64](r, 0, 500)
	f.heavy = pick[int64](r, 300, 500, 1000)
	f.labour = pick(r, span{2 * millisecond, 10 * millisecond}, span{20 * millisecond, 200 * millisecond})
	p.settings.Flow = f.settings
	p.faults.slow = max(p.faults.slow, 2)
	return r
}

func drawFlowSettings(r *rand.Rand) flowcontrol.Settings {
	s := flowcontrol.Defaults()
	s.Mode = pick(r, flowcontrol.ModeAdaptive, flowcontrol.ModeAdaptive, flowcontrol.ModeAdaptive, flowcontrol.ModeQuota, flowcontrol.ModeDisabled)
	s.Scope = pick(r, flowcontrol.ScopeAll, flowcontrol.ScopeAll, flowcontrol.ScopeMajority)
	s.TargetLag = pick(r, flowcontrol.MinTargetLag, 300*time.Millisecond)
	s.HardLag = pick(r, 0, 0, 2*s.TargetLag, 10*s.TargetLag)
	s.Floor = pick(r, 2, 20, 200)
	s.ApplierThreshold, s.CertifierThreshold = pick(r, 0, 1, 20), pick(r, 0, 5, 100)
	s.MinQuota = pick(r, 0, 3)
	return s
}

// gateway is what a run lets begin, as a real shell does: by the same admission, fed
// from what the state machine publishes. Beside it stands the obvious rule: a list
// for each tag, and what the rate allows.
type gateway struct {
	admit   *flowcontrol.Admission
	step    uint64
	last    uint64
	counts  flowcontrol.Counts
	limited bool
	queues  map[string][]*beginning
	budget  budget
}

// budget is the most that may have been spent since a limit began.
type budget struct {
	since   time.Duration
	rate    float64 // that now adds to allowed
	allowed float64
	spent   float64
	most    float64 // that may be saved up, or be on its way with a client
}

const flowTags = 3

func newGateway() *gateway {
	return &gateway{admit: flowcontrol.NewAdmission(), queues: map[string][]*beginning{}}
}

// flowNow is the time that a run's admission goes by.
func (r *run) flowNow() time.Duration { return max(0, r.ownClock()) }

// enterFlow takes the step of flow control, before anything that depends on when the
// transaction begins.
func (c *client) enterFlow(b *beginning) bool {
	r := c.run
	g := r.gateway
	if !b.write || !g.limited || b.passed {
		b.step, b.passed = stepSession, true
		return true
	}
	if b.flow != 0 {
		return c.wait(b)
	}
	w := r.world
	g.last++
	if chance(w.flow, w.plan.flow.tagged) {
		b.tag = fmt.Sprint("t", w.flow.IntN(flowTags))
	}
	outcome, pass := g.admit.Ask(r.flowNow(), g.last, b.tag, uint32(w.flow.IntN(4)))
	switch {
	case outcome == flowcontrol.Refused:
		w.violate("P12", "%s refuses a transaction, and %d wait", r.member.name, g.admit.Waiting())
		return false
	case outcome == flowcontrol.Admitted && len(g.waiting()) > 0:
		w.violate("P11", "on %s a transaction begins before %d that came earlier", r.member.name, len(g.waiting()))
		return false
	case outcome == flowcontrol.Admitted:
		b.pass, b.passed = pass, true
		b.step = stepSession
		return true
	}
	w.reached[markFlowHeld]++
	b.flow, b.heldAt = g.last, w.now
	g.queues[b.tag] = append(g.queues[b.tag], b)
	return c.wait(b)
}

// waiting are all that wait, in no order that counts.
func (g *gateway) waiting() (all []*beginning) {
	for i := range flowTags + 1 {
		all = append(all, g.queues[flowTag(i)]...)
	}
	return all
}

func flowTag(i int) string {
	if i == flowTags {
		return ""
	}
	return fmt.Sprint("t", i)
}

// grant lets those go on whom the admission lets begin.
func (r *run) grant(grants []flowcontrol.Grant) {
	g := r.gateway
	for _, x := range grants {
		q := g.queues[x.Pass.Tag]
		if len(q) == 0 || q[0].flow != x.ID {
			r.world.violate("P11", "%s lets %d begin of tag %q, and %d wait, not that one first", r.member.name, x.ID, x.Pass.Tag, len(q))
			return
		}
		q[0].pass, q[0].passed, q[0].flow = x.Pass, true, 0
		q[0].step = stepSession
		g.queues[x.Pass.Tag] = q[1:]
	}
}

// leaveFlow ends what a beginning has of flow control: its wait, or its pass, which a
// transaction that was handed over has paid for.
func (r *run) leaveFlow(b *beginning) {
	g := r.gateway
	if b.flow != 0 {
		if !g.admit.Withdraw(r.flowNow(), b.flow) {
			r.world.violate("P11", "%s does not know of transaction %d that waits to begin", r.member.name, b.flow)
		}
		g.queues[b.tag] = slices.DeleteFunc(slices.Clone(g.queues[b.tag]), func(x *beginning) bool { return x == b })
		b.flow = 0
		return
	}
	g.admit.Refund(b.pass)
	b.pass = flowcontrol.Pass{}
}

// chargeFlow notes what was handed to the group.
func (r *run) chargeFlow(b *beginning, bytes int) {
	g := r.gateway
	cost := flowcontrol.Cost(bytes)
	g.counts.Local++
	g.counts.Offered += cost
	if !g.limited {
		return
	}
	g.budget.spent += float64(min(b.pass.Reserved, cost)) // what it cost beyond that may be forgiven
	g.admit.Charge(b.pass, cost)
	b.pass = flowcontrol.Pass{}
}

// followFlow takes up what the state machine has decided.
func (r *run) followFlow() {
	w, g, d := r.world, r.gateway, &r.standing.Flow.Decision
	now := r.flowNow()
	if !r.mayNow || r.standing.State != replica.Online {
		if g.limited && len(g.waiting()) > 0 {
			w.reached[markFlowOpened]++
		}
		g.limited, g.step = false, 0
		r.grant(g.admit.Decide(now, &flowcontrol.Decision{Step: ^uint64(0)}))
		return
	}
	g.budget.pass(now, g.limited)
	if d.Step == g.step {
		r.grant(g.admit.Advance(now))
	} else {
		r.decideFlow(d, now)
	}
	r.checkFlow()
}

func (r *run) decideFlow(d *flowcontrol.Decision, now time.Duration) {
	w, g := r.world, r.gateway
	switch {
	case d.Throttled && !g.limited:
		w.reached[markFlowThrottled]++
		if d.Mode == flowcontrol.ModeQuota {
			w.reached[markFlowQuota]++
		}
		g.budget = budget{since: now}
	case !d.Throttled && g.limited:
		w.reached[markFlowReleased]++
	}
	if d.Stopped {
		w.reached[markFlowStopped]++
	}
	g.step, g.limited = d.Step, d.Throttled
	g.budget.take(d)
	r.grant(g.admit.Decide(now, d))
}

func (b *budget) pass(now time.Duration, limited bool) {
	if limited && now > b.since {
		b.allowed += b.rate * (now - b.since).Seconds()
	}
	b.since = max(b.since, now)
}

// take is the rate from now on.
func (b *budget) take(d *flowcontrol.Decision) {
	b.rate = float64(d.Rate)
	if d.Stopped {
		b.rate = 0
	}
	b.most = max(b.most, float64(d.Rate), float64(d.Size))
}

// flowPatience is how long nobody waits for flow control while somebody may begin.
const flowPatience = 30 * second

// checkFlow holds what the admission does against the obvious rules.
func (r *run) checkFlow() {
	w, g := r.world, r.gateway
	all := g.waiting()
	if n := g.admit.Waiting(); n != len(all) || n > len(r.member.clients) {
		w.violate("P12", "%s counts %d that wait to begin; %d do, of %d clients", r.member.name, n, len(all), len(r.member.clients))
	}
	for _, b := range all {
		if w.now-b.heldAt > flowPatience && !r.standing.Flow.Decision.Stopped {
			w.violate("P11", "on %s a transaction waits to begin for %d s: %+v", r.member.name, (w.now-b.heldAt)/second, r.standing.Flow.Decision)
		}
	}
	if d := &r.standing.Flow.Decision; !d.Throttled || d.Mode == flowcontrol.ModeQuota {
		return
	}
	if b := &g.budget; b.spent > b.allowed+b.most+float64(len(r.member.clients))*b.most {
		w.violate("P12", "%s has let begin what costs %.0f since its limit began, of %.0f", r.member.name, b.spent, b.allowed)
	}
}

// flowCounts are what a run's state machine tells the others.
func (r *run) flowCounts() flowcontrol.Counts {
	c := r.gateway.counts
	held, waited := r.gateway.admit.Held()
	c.Held, c.Waited = held, uint64(waited/time.Microsecond)
	c.Queue, c.Used = uint64(r.gateway.admit.Waiting()), r.gateway.admit.Used()
	return c
}
