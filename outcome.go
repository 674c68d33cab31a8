package concordat

import (
	"context"
	"fmt"

	"github.com/concordatdb/concordat/certifier"
	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/internal/replica"
)

// OutcomeState is what is known of a transaction's fate.
type OutcomeState byte

// The states of an outcome.
const (
	// OutcomeUnknown: no transaction with the id was delivered in the part of
	// the order that the answer covers.
	OutcomeUnknown OutcomeState = iota
	// OutcomeCommitted: it has committed, and is visible on the member asked.
	OutcomeCommitted
	// OutcomeRefused: it was refused. Under the same id it may be tried again.
	OutcomeRefused
)

// String returns the state as a word for people.
func (s OutcomeState) String() string {
	switch s {
	case OutcomeCommitted:
		return "committed"
	case OutcomeRefused:
		return "refused"
	case OutcomeUnknown:
	}
	return "unknown"
}

// Outcome is the fate of a transaction, by its id.
type Outcome struct {
	State OutcomeState
	// GTID is that of a committed one.
	GTID gtid.GTID
	// Reason matches one of this package's errors if it was refused; Winner is
	// what it lost to, if that was a conflict.
	Reason error
	Winner gtid.GTID
	// Index is the log index where it was decided, 0 if it is unknown.
	Index uint64
	// From and Until are the log indexes between which this member's memory
	// of ids reaches: an unknown one was not delivered after From and up to
	// Until. It may have been before; and it may be yet, while the member that
	// broadcast it still tries.
	From, Until uint64
}

// Outcome returns the fate of the transaction with an id: one that was given by
// [WithID], or that an [OutcomeUnknownError] names. Any member can be asked,
// also after failover and restarts; the last
// [GroupSettings.OutcomeTransactions] are remembered. What has committed is
// visible here when it is answered; with an error, that is not certain.
func (n *Node) Outcome(ctx context.Context, id gtid.UUID) (Outcome, error) {
	l := n.life.Load()
	if l == nil || n.closed.Load() {
		return Outcome{}, n.notServing()
	}
	o, err := n.askOutcome(ctx, l, id)
	if err != nil || o.State != OutcomeCommitted {
		return o, err
	}
	visible := false
	err = n.visible.until(ctx, func() bool {
		if n.stopped(l) {
			return true
		}
		visible = n.engine.Position().Index >= o.Index
		return visible
	})
	if err == nil && !visible {
		err = n.notServing()
	}
	if err != nil {
		return o, err
	}
	// What no engine could apply is refused before anything behind it is visible.
	return n.askOutcome(ctx, l, id)
}

// askOutcome returns what the member has delivered of a transaction's fate.
func (n *Node) askOutcome(ctx context.Context, l *life, id gtid.UUID) (Outcome, error) {
	ticket, answer := l.outcomes.add()
	defer l.outcomes.drop(ticket)
	l.inbox.put(replica.OutcomeAsked{Ticket: ticket, ID: id})
	select {
	case a := <-answer:
		return outcomeOf(a), nil
	case <-ctx.Done():
		return Outcome{}, context.Cause(ctx)
	case <-l.done:
		return Outcome{}, n.notServing()
	}
}

// stopped reports whether nothing more becomes visible by a life.
func (n *Node) stopped(l *life) bool {
	return n.closed.Load() || n.failed() != nil || n.life.Load() != l
}

func outcomeOf(a replica.OutcomeAnswer) Outcome {
	o := Outcome{From: a.From, Until: a.Until}
	if !a.Known {
		return o
	}
	o.State, o.Index = OutcomeRefused, a.Fate.Index
	if a.Fate.Committed {
		o.State, o.GTID = OutcomeCommitted, a.Fate.GTID
		return o
	}
	o.Winner = a.Fate.Winner
	o.Reason = refusal(certifier.Outcome(a.Fate.Reason))
	return o
}

// refusal is the error for an outcome that is not a commit, without details.
func refusal(o certifier.Outcome) error {
	switch o {
	case certifier.Conflict:
		return ErrConflict
	case certifier.SnapshotTooOld:
		return ErrSnapshotTooOld
	case certifier.GTIDTaken:
		return ErrGTIDTaken
	case certifier.GTIDSpread:
		return fmt.Errorf("%w: %d intervals of GTIDs that were asked for; ask for those that lie beside others, or for none",
			ErrTooLarge, certifier.MaxGTIDIntervals)
	case certifier.Exhausted:
		return ErrExhausted
	case certifier.Unreadable:
		return fmt.Errorf("%w: the group cannot read the transaction that was handed over; nothing happened, do not run it again as it is", ErrInvalid)
	case certifier.Fenced:
		return fmt.Errorf("%w: its member had lost the right before the transaction was ordered", ErrReadOnly)
	case certifier.GivenUp:
		return fmt.Errorf("%w: it was so large that it went in pieces, and so slow that the group gave up what had come", ErrSnapshotTooOld)
	case certifier.TooLarge:
		return fmt.Errorf("%w: it is larger than TransactionSizeLimit, which the group has lowered; split it", ErrTooLarge)
	case certifier.Unapplied:
		return ErrUnapplied
	case certifier.Certified, certifier.Duplicate:
	}
	return fmt.Errorf("concordat: transaction refused for a reason that this version does not know (%s); ask a newer member", o)
}
