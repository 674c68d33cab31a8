package flowcontrol

import (
	"cmp"
	"math"
	"slices"
	"time"
)

const (
	// slowDown bounds by what factor the group's rate falls in a second.
	slowDown = 0.02
	// calmPeriod is how long nobody must have waited for a limit to go.
	calmPeriod = time.Second
	// headroom is how much more than it asks for a writer is left that does not wait.
	headroom = 1.25
)

// gain is how much of its capacity a member is given that is so many targets
// behind. At the target it is given what it can do, so its queue stays; the steps
// beside it are small, for the queue does the rest. Only far behind, where a failover
// would take long, it is given time to catch up.
func gain(targets float64) float64 {
	switch {
	case targets <= 1:
		return 1 + 0.25*(1-targets)
	case targets <= 2:
		return 1 - 0.4*(targets-1)
	case targets <= 4:
		return 0.6
	}
	return 0.6 * math.Exp2(4-targets)
}

// bid is what the group may write for one member's sake.
type bid struct {
	track *track
	rate  float64
	lag   time.Duration
}

// bids are those of the members that may limit, the lowest first. While there is no
// limit, a member that is not behind asks for none.
func (c *Controller) bids(s *Settings) []bid {
	var bids []bid
	for i := range c.tracks {
		t := &c.tracks[i]
		if t.last.Exempt || t.last.Recovering {
			continue
		}
		b := bid{t, math.Inf(1), t.lag()}
		behind := b.lag > s.TargetLag/2
		switch {
		case !behind && c.rate == 0:
		case t.capacity > 0 || behind:
			b.rate = t.capacity * gain(float64(b.lag)/float64(s.TargetLag))
		}
		bids = append(bids, b)
	}
	slices.SortStableFunc(bids, func(a, b bid) int { return cmp.Compare(a.rate, b.rate) })
	return bids
}

// limiting is the bid that counts: the lowest, or the lowest of a majority.
func limiting(bids []bid, s Scope) *bid {
	skip := 0
	if s == ScopeMajority {
		skip = max(0, (len(bids)-1)/2)
	}
	if skip >= len(bids) {
		return nil
	}
	return &bids[skip]
}

// adapt decides in ModeAdaptive.
func (c *Controller) adapt(in *Input) {
	s, d := &in.Settings, &c.decision
	b := limiting(c.bids(s), s.Scope)
	if b == nil || math.IsInf(b.rate, 1) || c.calmed(in, b) {
		c.unlimited()
		return
	}
	rate := b.rate
	if c.rate > 0 {
		rate = max(rate, c.rate*math.Pow(slowDown, in.Elapsed.Seconds()))
	}
	size := b.track.size()
	c.rate = max(rate, float64(s.Floor)*size)
	age := max(b.lag, b.track.last.Age())
	switch {
	case s.HardLag == 0 || age < s.TargetLag:
		d.Stopped = false
	case age > s.HardLag:
		d.Stopped = true
	}
	d.Throttled = true
	d.Limiting, d.Lag, d.Capacity, d.Size = b.track.id, b.lag, uint64(b.track.capacity), uint64(size)
	d.Group = uint64(c.rate)
	d.Rate = max(1, uint64(c.share(in.Self)))
}

func (c *Controller) unlimited() {
	c.rate, c.calm = 0, 0
	c.decision = Decision{Step: c.decision.Step, Period: c.decision.Period, Mode: ModeAdaptive}
}

// calmed reports whether a limit has not been felt for so long, by anybody, that it
// can go.
func (c *Controller) calmed(in *Input, b *bid) bool {
	demand, held := 0.0, false
	for i := range c.tracks {
		demand += c.tracks[i].demand
		held = held || c.tracks[i].held
	}
	if c.rate == 0 || held || demand >= 0.9*c.rate || b.lag > in.Settings.TargetLag/2 {
		c.calm = 0
		return false
	}
	c.calm += in.Elapsed
	return c.calm >= calmPeriod
}

// share is this member's part of the group's rate: everybody gets what it asks for,
// as long as that is not more than what is left of equal parts. Who has callers that
// wait asks for everything, and so does this member itself: what it leaves, nobody
// misses before it is asked for there.
func (c *Controller) share(self uint64) float64 {
	var wants []float64
	for i := range c.tracks {
		if t := &c.tracks[i]; t.id != self && !t.held {
			wants = append(wants, t.demand*headroom)
		}
	}
	slices.Sort(wants)
	greedy := 1 // this member
	for i := range c.tracks {
		if t := &c.tracks[i]; t.id != self && t.held {
			greedy++
		}
	}
	left := c.rate
	for i, want := range wants {
		part := left / float64(len(wants)-i+greedy)
		if want >= part {
			return part
		}
		left -= want
	}
	return left / float64(greedy)
}
