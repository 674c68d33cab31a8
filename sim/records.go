package sim

import (
	"github.com/concordatdb/concordat/certifier"
	"github.com/concordatdb/concordat/election"
	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/internal/consistency"
)

// begun is a transaction from when its client asked to begin it. It is what the
// checkers of levels know of it. Times are those of the world.
type begun struct {
	history *history // in which it is listed
	run     *runRecord
	caller  int         // those of one number are one caller, on whatever members
	work    *submission // its snapshot, what it read, and what it writes if it does

	asked int64 // when its client asked to begin
	began int64 // when it took its snapshot, all waits over
	read  int64 // when its reads had returned, which they do at once
	ended int64 // when its client was answered, a reader when it had read; 0 before

	write   bool              // it asked for the right to write
	level   consistency.Level // as resolved, never Default
	bounded bool              // it asked for data of a bounded age
	// complete is the time up to which a bounded one must see everything that was
	// acknowledged: its bound by its member's clock before it asked.
	complete int64
	session  gtid.Set // what it must see, since its client did or wrote it

	answered bool              // by the group, so the verdict is known
	verdict  certifier.Verdict // of one that was answered
	index    uint64            // of the answer, 0 of one that was not broadcast
	lost     bool              // it was handed over, and its client was never told
}

// committed reports whether its client was told that it did.
func (b *begun) committed() bool {
	return b.answered && (b.verdict.Outcome == certifier.Certified || b.verdict.Outcome == certifier.Duplicate)
}

// in is the same transaction in the history of an incarnation that came from its
// own, which has what it saw. What it was told there counts if it is so here.
func (b *begun) in(h *history, work *submission) *begun {
	t := *b
	t.history, t.work = h, work
	work.begun = &t
	if t.index > h.shared {
		t.answered, t.ended, t.index = false, 0, 0
	}
	return &t
}

// runRecord is one run of a member, as those outside know it.
type runRecord struct {
	member  string
	raftID  uint64
	session uint64
	began   int64
	ended   int64 // 0 while it runs

	epochs []epochSeen  // that it has delivered and told its clients of, in order
	pauses []pauseSpan  // in which nothing ran there
	drains []*drainSpan // for which it closed, in order
}

func (r *runRecord) end(now int64) {
	if r != nil && r.ended == 0 {
		r.ended = now
	}
}

// epochSeen is an epoch that a run has delivered: its clients begin after that.
// Those that its engine showed when it started are left out.
type epochSeen struct {
	epoch election.Epoch
	at    int64
}

// pauseSpan is a time in which a run stood still.
type pauseSpan struct{ from, to int64 } // to is 0 while it lasts

// drainSpan is a run that lets nothing more begin because an action takes its
// right to write.
type drainSpan struct {
	action gtid.UUID
	closed int64 // when nothing more began
	told   int64 // when it said that it is done, 0 if it never did
	orders int   // how many transactions it had handed over by then, in submission.order
	open   int   // how many it had not
	idle   bool  // none was open: it was done before its grace was over
}
