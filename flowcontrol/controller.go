package flowcontrol

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"
)

// Member is what is known of a member that may write or limit.
type Member struct {
	ID     uint64
	Sample Sample
	// Heard is how long ago the sample was.
	Heard time.Duration
	// Out: it is in no state to do work of the group, or is not heard.
	Out bool
}

// MaxSilence is how old a sample may be that counts.
const MaxSilence = 2 * time.Second

// Input is what a step goes by.
type Input struct {
	Elapsed  time.Duration // since the step before
	Self     uint64
	Members  []Member // of the view, ascending by ID, self among them
	Settings Settings
	// Used is what Admission.Used says, for ModeQuota.
	Used uint64
}

// Decision is what a member may do until the next one. The zero value limits
// nothing.
type Decision struct {
	// Step counts the decisions; equal ones are the same.
	Step uint64
	// Period counts the periods of ModeQuota.
	Period uint64
	Mode   Mode
	// Throttled: there is a limit.
	Throttled bool
	// Stopped: nobody may begin before the limiting member has come closer.
	Stopped bool
	// Rate is what this member may spend, in cost a second, and Group what all may
	// together, in ModeAdaptive.
	Rate, Group uint64
	// Quota is how many transactions may begin in a period, in ModeQuota.
	Quota uint64
	// Limiting is the member that the limit is for, 0 if none is known. Lag is how
	// far behind it is, and Capacity what it can do, in cost a second, 0 if that is
	// not known.
	Limiting uint64
	Lag      time.Duration
	Capacity uint64
	// Size is what a transaction costs on the average at that member.
	Size uint64
}

// Transactions is about how many transactions of the present size Rate is.
func (d *Decision) Transactions() uint64 {
	if d.Mode == ModeQuota {
		return d.Quota
	}
	return d.Rate / max(d.Size, 1)
}

// Bytes is about how many bytes of transactions of the present size Rate is.
func (d *Decision) Bytes() uint64 {
	return d.Rate - min(d.Rate, d.Transactions()*TransactionCost)
}

// Inputs says in a sentence what the limit comes from.
func (d *Decision) Inputs(name string) string {
	switch {
	case !d.Throttled:
		return "no limit"
	case d.Mode == ModeQuota:
		return fmt.Sprintf("%d transactions a period, for %s, which is %v behind", d.Quota, name, d.Lag.Round(time.Millisecond))
	case d.Stopped:
		return fmt.Sprintf("nothing begins before %s, which is %v behind, has come closer", name, d.Lag.Round(time.Millisecond))
	}
	return fmt.Sprintf("%d transactions/s and %d B/s of the group's %d, for %s, which is %v behind and can do %d",
		d.Transactions(), d.Bytes(), d.Group/max(d.Size, 1), name, d.Lag.Round(time.Millisecond), d.Capacity/max(d.Size, 1))
}

// Rates is what a member does and can do, as a controller has measured it.
type Rates struct {
	ID uint64
	// Capacity is what its engine does while it has work, in cost and transactions
	// a second, 0 while that is not known.
	Capacity, CapacityTransactions uint64
	// Lag is how long what waits there will take, or the age of the oldest of it
	// where the capacity is not known.
	Lag time.Duration
	// Still is for how long its engine has finished nothing although it has work.
	Still time.Duration
	// Demand is what its callers ask for, in cost a second.
	Demand uint64
	// Size is what a transaction costs there on the average.
	Size uint64
}

// Controller makes decisions. It belongs to one goroutine.
type Controller struct {
	tracks   []track // ascending by id
	decision Decision
	calm     time.Duration // since when nobody was held up
	rate     float64       // of the group, 0 while there is no limit
	period   time.Duration // of ModeQuota, that has passed
}

// NewController returns a controller that limits nothing.
func NewController() *Controller { return &Controller{} }

// Step takes note of the samples and decides anew.
func (c *Controller) Step(in *Input) Decision {
	c.follow(in)
	if c.decision.Mode != in.Settings.Mode {
		c.decision = Decision{Step: c.decision.Step, Period: c.decision.Period + 1}
		c.rate, c.calm, c.period = 0, 0, 0
	}
	c.decision.Step++
	c.decision.Mode = in.Settings.Mode
	switch in.Settings.Mode {
	case ModeAdaptive:
		c.adapt(in)
	case ModeQuota:
		c.quota(in)
	case ModeDisabled:
	}
	return c.decision
}

// Rates returns what was measured of the members, ascending by id.
func (c *Controller) Rates() []Rates {
	all := make([]Rates, 0, len(c.tracks))
	for i := range c.tracks {
		t := &c.tracks[i]
		all = append(all, Rates{
			ID: t.id, Capacity: uint64(t.capacity), CapacityTransactions: uint64(t.capacity / t.size()),
			Lag: t.lag(), Still: t.still, Demand: uint64(t.demand), Size: uint64(t.size()),
		})
	}
	return all
}

// follow keeps one track for each member. Who is out has none.
func (c *Controller) follow(in *Input) {
	c.tracks = slices.DeleteFunc(c.tracks, func(t track) bool {
		i, ok := slices.BinarySearchFunc(in.Members, t.id, func(m Member, id uint64) int { return cmp.Compare(m.ID, id) })
		return !ok || in.Members[i].Out || in.Members[i].Heard > MaxSilence
	})
	for i := range in.Members {
		m := &in.Members[i]
		if m.Out || m.Heard > MaxSilence {
			continue
		}
		at, ok := slices.BinarySearchFunc(c.tracks, m.ID, func(t track, id uint64) int { return cmp.Compare(t.id, id) })
		if !ok {
			c.tracks = slices.Insert(c.tracks, at, newTrack(m))
			continue
		}
		c.tracks[at].follow(&m.Sample, in.Elapsed)
	}
}

// quota counts time, and applies the formula once a period. What nobody has done
// anything in says nothing of what could be done: the formula would take that for
// no limit, and gets the floor.
func (c *Controller) quota(in *Input) {
	if c.period += in.Elapsed; c.period < time.Duration(in.Settings.Period)*time.Second {
		return
	}
	c.period = 0
	var records []record
	worst, known, held := 0, false, false
	for i := range c.tracks {
		t := &c.tracks[i]
		r := t.record()
		if t.last.Exempt {
			continue
		}
		records = append(records, r)
		known = known || r.certified > 0 || r.applied > 0
		held = held || in.Settings.over(&r)
		if r.waitingApplier > int64(c.tracks[worst].last.WaitingRemote) || c.tracks[worst].last.Exempt {
			worst = i
		}
	}
	if held && !known {
		records = append(records, record{certified: 1}) // less than any floor
	}
	next := in.Settings.quotaAfter(int64(c.decision.Quota), int64(min(in.Used, math.MaxInt32)), records)
	d := &c.decision
	d.Period++
	d.Quota, d.Throttled = uint64(next), next > 0
	d.Limiting, d.Lag, d.Capacity = 0, 0, 0
	if d.Throttled && worst < len(c.tracks) {
		t := &c.tracks[worst]
		d.Limiting, d.Lag, d.Capacity, d.Size = t.id, t.last.Age(), uint64(t.capacity), uint64(t.size())
	}
}
