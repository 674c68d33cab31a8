package forced

import (
	"github.com/concordatdb/concordat/gcs"
	"github.com/concordatdb/concordat/gtid"
)

// Plan is what an operator confirms, and in the end what was done. All of it
// but the order is a forecast until the survivors are frozen.
type Plan struct {
	Decision
	// Survivors are those of the new view, ascending by raft id.
	Survivors []Survivor
	// Excluded are the others of the present view, ascending by raft id.
	Excluded []Excluded
	// View is the present view, whose voters the survivors are. Its cause is
	// not carried along.
	View gcs.View
	// Executed is what the adopted log executes up to Last, if Known: somebody
	// has delivered that far. Otherwise it is what some survivor has executed
	// of it by now.
	Executed gtid.Set
	Known    bool
	// Primary is who is primary then, by what the coordinating member knows of the
	// group's mode: zero in a multi-primary group, where nobody can be it, and of
	// a plan that was not drawn but gone on with.
	Primary gtid.UUID
	// Warnings are what the operator should know before confirming.
	Warnings []Warning
}

// Survivor is a member that adopts, and what has to happen to its log first.
type Survivor struct {
	Member      gcs.Member
	Term        uint64 // the latest that it knows of
	First, Last uint64 // ends of its log
	LastTerm    uint64
	Commit      uint64 // last index known to it as committed
	Delivered   uint64
	Cut, Fetch  uint64 // entries of its own that go, and that it gets from the seed
	Phase       Phase  // of its part in this plan
}

// Excluded is a member that the new view leaves out, and what may be lost with
// it.
type Excluded struct {
	Member gcs.Member
	// Answers: it is alive and answered the survey.
	Answers bool
	// Seen: somebody had a report of it, or it answers. The rest is known only
	// if so.
	Seen bool
	// By is the survivor with the newest report, or the member itself, and
	// Ticks how old the report is.
	By    gtid.UUID
	Ticks uint64
	// Delivered is the last log index that it was known to have delivered. Of
	// entries after the plan's Last nothing survives.
	Delivered uint64
	// AtRisk is what it was known to have executed and no survivor has. It is
	// an upper bound of what was known: some of it may be in the adopted log,
	// not yet delivered; and it may have executed more that nobody heard of.
	AtRisk gtid.Set
}

// Warning is something that speaks against going on, and does not forbid it.
type Warning struct {
	Member gtid.UUID // about whom; zero when about nobody in particular
	Text   string    // a sentence
}
