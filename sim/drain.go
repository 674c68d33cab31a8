package sim

import (
	"math"
	"slices"

	"github.com/concordatdb/concordat/election"
	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/internal/replica"
)

// drain knows how many transactions that may write have begun on a run and not been
// handed over, and holds further ones back while the group takes its right to write.
type drain struct {
	open   int
	shut   uint64    // log index of the action that it is shut for, 0 while it is open
	action gtid.UUID // that is followed
	job    *draining
}

// draining lets what runs finish before a planned change.
type draining struct {
	action election.Action
	half   int64 // when it is shut, however far the next primary is
	end    int64
	span   *drainSpan // nil before it is shut
}

func (d *drain) enter() bool {
	if d.shut != 0 {
		return false
	}
	d.open++
	return true
}

// leaveDrain notes that a transaction was handed over, or ends without.
func (r *run) leaveDrain(b *beginning) {
	if !b.entered {
		return
	}
	b.entered = false
	if r.drain.open--; r.drain.open < 0 {
		r.world.violate("panic", "%s has %d transactions in its drain", r.member.name, r.drain.open)
	}
	if r.drain.open == 0 && r.drain.job != nil {
		r.after(0, r.tendDrain)
	}
}

func (r *run) reopen(action uint64) {
	if r.drain.shut != 0 && r.drain.shut <= action {
		r.drain.shut = 0
		r.after(0, r.retry)
	}
}

// followAction begins to drain when an open action takes this member's right to
// write, and lets transactions begin again when it has ended.
func (r *run) followAction() {
	s, d := &r.standing, &r.drain
	a := s.Election.Action
	if a == nil {
		d.action, d.job = gtid.UUID{}, nil
		r.reopen(math.MaxUint64)
		return
	}
	known := d.action == a.ID
	if !known {
		r.reopen(a.Index - 1)
	}
	self, _ := s.Election.Member(r.raftID)
	if !self.Writes || r.raftID == a.Target {
		return
	}
	if !slices.Contains(a.Pending, r.raftID) {
		d.action, d.job, d.shut = a.ID, nil, a.Index
		return
	}
	if known {
		return
	}
	d.action, d.job = a.ID, nil
	if a.Asker != r.member.uuid && r.session > 1 && r.record.began > r.history.at(a.Index).at {
		r.world.reached[markDrainedAgain]++
	}
	grace := int64(a.Grace) * millisecond * (1000 + r.member.drift) / 1000
	d.job = &draining{action: *a, half: r.world.now + grace/2, end: r.world.now + grace}
	r.after(grace/2, r.tendDrain)
	r.after(grace, r.tendDrain)
	r.after(0, r.tendDrain)
}

// tendDrain takes the drain further, when it can be: it is shut when the next
// primary has applied nearly everything, and over when nothing is open.
func (r *run) tendDrain() {
	w, d := r.world, &r.drain
	j := d.job
	if j == nil {
		return
	}
	if now := r.standing.Election.Action; now == nil || now.ID != j.action.ID {
		return
	}
	if j.span == nil {
		if w.now < j.half && !r.nearlyApplied(j.action.Target) {
			return
		}
		d.shut = j.action.Index
		j.span = &drainSpan{action: j.action.ID, closed: w.now}
		r.record.drains = append(r.record.drains, j.span)
	}
	if d.open > 0 && w.now < j.end {
		return
	}
	d.job = nil
	j.span.told, j.span.orders, j.span.open, j.span.idle = w.now, r.orders, d.open, d.open == 0
	if d.open > 0 {
		w.reached[markDrainedOpen]++
	} else {
		w.reached[markDrainedIdle]++
	}
	r.tell(replica.DrainedAsked{Action: j.action.ID, Open: d.open})
}

// catchUpEntries is how close to the end of the log the next primary is to be
// before the present one takes no more work.
const catchUpEntries = 64

// nearlyApplied reports whether a member has applied nearly all that this one has
// delivered, as far as is known.
func (r *run) nearlyApplied(raftID uint64) bool {
	s := &r.standing
	for _, p := range s.Peers {
		if p.RaftID == raftID {
			return p.Report.Applied+catchUpEntries >= s.Delivered
		}
	}
	return true
}
