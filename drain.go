package concordat

import (
	"context"
	"math"
	"slices"
	"sync/atomic"
	"time"

	"github.com/concordatdb/concordat/election"
	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/internal/replica"
)

// drain knows how many transactions that may write have begun and not been handed
// to the group, and holds further ones back while the group takes this member's
// right to write. Who enters counts before it looks whether the drain is shut, and
// who shuts it looks at the count after, so nobody slips through between the two.
type drain struct {
	open atomic.Int64
	shut atomic.Uint64 // the log index of the action that it is shut for, 0 while it is open
	news *bell         // rung when it opens, and when the last one leaves it while it is shut
}

// enter reports whether a transaction may begin; then leave must follow.
func (d *drain) enter() bool {
	d.open.Add(1)
	if d.shut.Load() != 0 {
		d.leave()
		return false
	}
	return true
}

// leave notes that a transaction that has entered was handed over, or ends without.
func (d *drain) leave() {
	if d.open.Add(-1) == 0 && d.shut.Load() != 0 {
		d.news.broadcast()
	}
}

// close shuts the drain for an action. One for an earlier action comes too late.
func (d *drain) close(action uint64) {
	for {
		now := d.shut.Load()
		if now >= action || d.shut.CompareAndSwap(now, action) {
			return
		}
	}
}

// reopen opens the drain again if it is shut for no later action.
func (d *drain) reopen(action uint64) {
	for {
		now := d.shut.Load()
		if now == 0 || now > action {
			return
		}
		if d.shut.CompareAndSwap(now, 0) {
			d.news.broadcast()
			return
		}
	}
}

// draining is what the present drain is for. Only the publishing goroutine
// changes it.
type draining struct {
	action gtid.UUID
	life   *life
}

// followAction begins to drain when an open action takes this member's right to
// write, and lets transactions begin again when it has ended. A member that was
// restarted meanwhile drains again in its new session, unless it is done with that.
func (n *Node) followAction(s *known) {
	l, a := n.life.Load(), s.Election.Action
	if a == nil {
		n.draining = draining{}
		n.drain.reopen(math.MaxUint64)
		return
	}
	known := n.draining == draining{a.ID, l}
	if n.draining.action != a.ID {
		n.drain.reopen(math.MaxUint64) // what it was shut for is over
	}
	self, _ := n.selfIn(s)
	if l == nil || !self.Writes || self.RaftID == a.Target {
		return
	}
	n.draining = draining{a.ID, l}
	if !slices.Contains(a.Pending, self.RaftID) {
		// It may have said so in the session before, and the group have heard it only
		// now: it waits for this member no longer.
		n.drain.close(a.Index)
		return
	}
	if known {
		return
	}
	action := *a
	n.helpers.run(func() { n.drainFor(n.lifetime, l, &action) })
}

// catchUpEntries is how close to the end of the log the next primary is to be
// before the present one takes no more work: so near that the rest is not felt.
const catchUpEntries = 64

// drainFor lets what runs here finish before the group takes the right to write
// from this member, as long as the action allows, and then says so behind the
// last transaction.
func (n *Node) drainFor(ctx context.Context, l *life, a *election.Action) {
	grace := time.Duration(a.Grace) * time.Millisecond
	ctx, cancel := context.WithTimeout(ctx, grace)
	defer cancel()
	ended := func() bool {
		now := n.standing.Load().Election.Action
		return now == nil || now.ID != a.ID
	}
	over := func() bool { return n.stopped(l) || ended() }
	// New transactions go on while the next primary still has much to apply.
	half, end := context.WithTimeout(ctx, grace/2)
	_ = n.changed.until(half, func() bool { return over() || n.nearlyApplied(a.Target) }) // it is begun all the same
	end()
	if over() {
		return
	}
	n.drain.close(a.Index)
	if ended() { // and nobody may have seen that it is to be reopened
		n.drain.reopen(a.Index)
	}
	if over() { // the next life drains anew
		return
	}
	n.note(EventActionDraining, n.id.Member, "%s %s: no transaction that writes begins here until it has ended; %d are running",
		a.Kind, a.ID, n.drain.open.Load())
	_ = n.changed.until(ctx, func() bool { return over() || n.drain.open.Load() == 0 }) // the grace is over otherwise
	if !over() {
		l.inbox.put(replica.DrainedAsked{Action: a.ID, Open: int(n.drain.open.Load())})
	}
}

// nearlyApplied reports whether a member has applied nearly all that this one has
// delivered, as far as is known.
func (n *Node) nearlyApplied(raftID uint64) bool {
	s := n.standing.Load()
	for _, p := range s.Peers {
		if p.RaftID == raftID {
			return p.Report.Applied+catchUpEntries >= s.Delivered
		}
	}
	return true // this member, or one of which nothing is known
}
