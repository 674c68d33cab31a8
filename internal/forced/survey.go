package forced

import (
	"fmt"

	"github.com/concordatdb/concordat/gcs"
	"github.com/concordatdb/concordat/gtid"
)

// MaxRuns bounds the runs of terms that a survey has of a log.
const MaxRuns = 64

// MaxExecuted bounds the encoding of a survivor's executed set in a survey, in
// bytes. A larger one is left out, see [Facts.Executed].
const MaxExecuted = 256 << 10

// MaxHeardExecuted bounds the encoding of the set in each [Heard], in bytes.
const MaxHeardExecuted = 16 << 10

// Heard is the last report that a member has of another one.
type Heard struct {
	RaftID    uint64   // of the other one
	Delivered uint64   // log index up to which it had delivered
	Executed  gtid.Set // what it had executed; empty when it did not say
	Ticks     uint64   // how long ago the report came
}

// Facts are what a member knows of the group and has in its log. Those of a
// frozen member do not change.
type Facts struct {
	Group       gtid.UUID
	Incarnation gtid.UUID // that its identity names
	Member      gtid.UUID
	RaftID      uint64
	Address     string
	// View is the last one delivered. Its cause is not carried along.
	View gcs.View

	Term uint64 // the latest that it voted in or heard of
	// First is the first log index kept, Last the last one. First is Last+1
	// when the log holds nothing after a checkpoint.
	First, Last uint64
	// Runs cover the log up to Last, and begin at First-1 or later: the newest
	// MaxRuns are kept, and the term of the entry before the first is known
	// unless that is entry 0.
	Runs []gcs.TermRun
	// Commit is the last log index known here to be committed.
	Commit uint64
	// Delivered is the last log index delivered, at most Commit.
	Delivered uint64
	// Executed is what the entries up to Delivered executed. It may be left
	// empty when its encoding is longer than MaxExecuted: what is at risk is
	// an upper bound, and only grows by it.
	Executed gtid.Set
	// Heard has the last report of each other member, ascending by RaftID.
	Heard []Heard
}

// LastTerm is the term of the last log entry, 0 when there is none.
func (f *Facts) LastTerm() uint64 {
	if len(f.Runs) == 0 {
		return 0
	}
	return f.Runs[len(f.Runs)-1].Term
}

// Survey is what a member says of itself when asked. Of a frozen one the facts
// are those of its log as it is now and otherwise those of when it froze, see
// [Record.Facts].
type Survey struct {
	Facts
	// Quorum: it hears, itself included, a majority of the voters of its view.
	// A frozen member never does.
	Quorum bool
	// Unsure: it runs for too short a time to know that it does not.
	Unsure bool
	// Record is the part it has in a plan.
	Record Record
}

// ReadLog sets in f what a log says of itself: First, Last and Runs. The log
// must not be written to meanwhile.
func (f *Facts) ReadLog(log gcs.LogReader) error {
	first, err := log.FirstIndex()
	if err != nil {
		return fmt.Errorf("forced: start of the log: %w", err)
	}
	last, err := log.LastIndex()
	if err != nil {
		return fmt.Errorf("forced: end of the log: %w", err)
	}
	runs, err := readRuns(log, max(first, 2)-1, last)
	if err != nil {
		return err
	}
	f.First, f.Last, f.Runs = first, last, runs
	return nil
}

// flaw says what in f cannot be true of any member, "" when nothing.
func (f *Facts) flaw() string {
	switch {
	case f.Group.IsZero() || f.Incarnation.IsZero() || f.Member.IsZero() || f.RaftID == 0:
		return "does not say completely who it is"
	case f.First == 0 || f.Last+1 < f.First || f.Last >= maxNumber || f.Term >= maxNumber:
		return fmt.Sprintf("has a log from %d to %d in term %d, which cannot be", f.First, f.Last, f.Term)
	case f.Delivered > f.Commit || f.Commit > f.Last || f.Delivered+1 < f.First:
		return fmt.Sprintf("delivered up to %d and knows as committed up to %d of a log from %d to %d, which cannot be",
			f.Delivered, f.Commit, f.First, f.Last)
	case f.Last == 0:
		return "has an empty log"
	}
	return runsFlaw(f.Runs, max(f.First, 2)-1, f.Last)
}
