package replica

import (
	"github.com/concordatdb/concordat/election"
	"github.com/concordatdb/concordat/gcs"
)

// maxElapsed bounds the ticks that one Ticked may stand for.
const maxElapsed = 1 << 16

// lease is a member's own clock: ticks as they passed, also those that it slept
// through. It decides when the member says that it may have been deposed, and
// nothing else: what is committed does not rest on a clock.
type lease struct {
	now  uint64
	past []uint64 // what now was at the last ticks, the newest at index at
	at   int
}

func newLease(ticks int) lease { return lease{past: make([]uint64, ticks+1)} }

func (l *lease) tick(elapsed uint64) {
	l.now += min(elapsed, maxElapsed)
	l.at = (l.at + 1) % len(l.past)
	l.past[l.at] = l.now
}

// within reports whether what was so many of this member's ticks ago is no longer
// ago than so many ticks of its clock.
func (l *lease) within(ago int, limit uint64) bool {
	if ago < 0 || ago >= len(l.past) {
		return false
	}
	then := l.past[(l.at-ago+len(l.past))%len(l.past)]
	return l.now-then <= limit
}

// unheard reports whether this member is the primary of what it has delivered, and
// too few of the others have told it lately that they hear it: it could commit
// nothing, and another one may be primary already.
func (r *Replica) unheard() bool {
	self := r.cfg.Group.Identity.RaftID
	if r.elect.Mode() != election.SinglePrimary || !r.elect.MayWrite(self) {
		return false
	}
	view, touched := r.group.View(), 0
	for _, m := range view.Members {
		if m.State == gcs.Online && (m.RaftID == self || r.lease.within(r.group.Contact(m.RaftID), uint64(r.cfg.FailoverTicks))) {
			touched++
		}
	}
	return touched < view.Quorum()
}

// observeLease notes at a tick what the shell is told of the member's lease. It is
// alone when it was unheard at the tick before, too: what the others said while its
// process did not run waits between the two to be read.
func (r *Replica) observeLease(elapsed uint64) {
	r.lease.tick(elapsed)
	unheard := r.unheard()
	r.isAlone, r.wasUnheard, r.rumour = unheard && r.wasUnheard, unheard, 0
	for _, p := range r.group.Status().Peers {
		r.rumour = max(r.rumour, p.Report.Epoch)
	}
}

// outdated is the newest epoch that another member of the view has reported, 0 if
// that is not newer than what is delivered here.
func (r *Replica) outdated() uint64 {
	if r.rumour <= r.elect.Epoch() {
		return 0
	}
	return r.rumour
}
