package concordat

import (
	"context"
	"errors"
	"fmt"

	"github.com/concordatdb/concordat/applier"
	"github.com/concordatdb/concordat/gtid"
)

// The sentinels. Every error of the package says in its text what to do next, and
// matches one of them with errors.Is; one that says what could not be done, as
// ErrLeave and ErrNotOnline do, may match a second one that says why.
var (
	// ErrConflict: another transaction, that this one had not seen, touched the
	// same row in a way that excludes this one, and was ordered first. Nothing
	// happened; run it again. The error is a *ConflictError.
	ErrConflict = errors.New("concordat: transaction conflicts with one committed before it; run it again")
	// ErrSnapshotTooOld: the transaction ran so long that the group no longer
	// knows what was written meanwhile. Nothing happened; run it again.
	ErrSnapshotTooOld = errors.New("concordat: transaction began before the group's history mark; run it again, and faster")
	// ErrOutcomeUnknown: the transaction was handed to the group, and the wait
	// for its fate ended first. It may commit yet, or never. The error is an
	// *OutcomeUnknownError.
	ErrOutcomeUnknown = errors.New("concordat: outcome of the transaction is unknown")
	// ErrGTIDTaken: the GTID that the caller asked for belongs to a transaction
	// that has committed. Nothing happened; do not run it again.
	ErrGTIDTaken = errors.New("concordat: GTID belongs to a committed transaction")
	// ErrExhausted: no number is free for an automatic GTID, under the tag that
	// the transaction asked for or, if it asked for none, without one. Nothing
	// happened, and the member goes on. Numbers do not come back: ask for
	// another tag, or for whole GTIDs, by [WithGTID], or begin a new group.
	ErrExhausted = errors.New("concordat: the group's GTID numbers are used up; ask for a GTID or another tag (WithGTID), or begin a new group")
	// ErrSettings: the group's settings were changed by somebody else
	// meanwhile. Nothing happened; look at them again.
	ErrSettings = errors.New("concordat: group settings were changed meanwhile; read them again")
	// ErrNotOnline: the member does not serve transactions now. Wait, or go to
	// another member.
	ErrNotOnline = errors.New("concordat: member is not ONLINE")
	// ErrTooLarge: a name, key, value or transaction exceeds its limit.
	// Nothing happened.
	ErrTooLarge = errors.New("concordat: limit exceeded")
	// ErrInvalid: a table, key or configuration is not one, or the group cannot
	// read what was handed over. Nothing happened.
	ErrInvalid = errors.New("concordat: invalid argument")
	// ErrTxDone: the transaction was committed or rolled back before.
	ErrTxDone = errors.New("concordat: transaction has ended; begin a new one")
	// ErrTxReadOnly: a read-only transaction was asked to write.
	ErrTxReadOnly = errors.New("concordat: transaction is read-only; use Update")
	// ErrClosed: the node was closed.
	ErrClosed = errors.New("concordat: node is closed")
	// ErrDirectory: the data directory is not one that this node can use.
	ErrDirectory = errors.New("concordat: unusable data directory")
	// ErrJoinRefused: the group does not take this member as it is.
	ErrJoinRefused = errors.New("concordat: the group refuses the member")
	// ErrFailed: the member is in ERROR. What it holds can still be read; it
	// takes no part in the group until it is opened again.
	ErrFailed = errors.New("concordat: member has failed")
	// ErrLeave: the member cannot leave the group as things are.
	ErrLeave = errors.New("concordat: member cannot leave")
	// ErrNoQuorum: this member does not hear a majority of its group, so the
	// group can decide nothing here. Nothing happened. Wait, go to another
	// member, or see what Status says must be done.
	ErrNoQuorum = errors.New("concordat: a majority of the group is out of reach")
	// ErrRefused: the change of the membership, or of the primary, the mode or the
	// protocol, that was asked for is refused.
	// Nothing happened. The error is a *RefusedError.
	ErrRefused = errors.New("concordat: change of the group is refused")
	// ErrReadOnly: this member has no right to write now. Nothing happened. The
	// error is a *ReadOnlyError, which names the member that has.
	ErrReadOnly = errors.New("concordat: member does not write")
	// ErrWait: the wait for what the transaction's consistency asks for ended
	// first. Nothing happened. The error is a *WaitError.
	ErrWait = errors.New("concordat: transaction has not begun")
	// ErrDiverged: the member holds transactions that the group does not have.
	// The error is a *DivergedError.
	ErrDiverged = errors.New("concordat: member has transactions that the group does not have")
)

// OutcomeUnknownError says which transaction's fate is open, and why nobody
// waited for it. It matches [ErrOutcomeUnknown], and the end of the context if
// that was the cause; no other sentinel of this package, lest somebody read
// that nothing has happened.
type OutcomeUnknownError struct {
	ID    gtid.UUID // the transaction's id
	Cause error
	// Index is where the group has decided that it commits, 0 if this member does
	// not know that yet. It is visible here once Index is.
	Index uint64
	// Missing are the members that have not yet told that they know of an After
	// transaction which holds this one back, at the time of this error.
	Missing []gtid.UUID
}

// Error names the transaction, the cause, and what it was waiting for.
func (e *OutcomeUnknownError) Error() string {
	what := fmt.Sprintf("concordat: outcome of transaction %s is unknown, it may commit yet", e.ID)
	if e.Index != 0 {
		what = fmt.Sprintf("concordat: transaction %s is ordered at log index %d and commits, and was not visible here yet", e.ID, e.Index)
	}
	if len(e.Missing) > 0 {
		what += fmt.Sprintf(", as members %v have not told that they know of what comes before it", e.Missing)
	}
	return fmt.Sprintf("%s: %v", what, e.Cause)
}

// Is reports whether target is ErrOutcomeUnknown.
func (e *OutcomeUnknownError) Is(target error) bool { return target == ErrOutcomeUnknown }

// Unwrap returns the cause if it is the end of a context.
func (e *OutcomeUnknownError) Unwrap() error {
	if errors.Is(e.Cause, context.Canceled) || errors.Is(e.Cause, context.DeadlineExceeded) {
		return e.Cause
	}
	return nil
}

// RefusedError says why a change of the group is not made. It matches
// [ErrRefused].
type RefusedError struct {
	Reason string
	// Forceable is true where the operator may insist, see [Force] and
	// [InsistOnRecovering].
	Forceable bool
}

// Error returns the reason, and how to insist.
func (e *RefusedError) Error() string {
	if e.Forceable {
		return fmt.Sprintf("%v: %s; if that is what you want, insist with force", ErrRefused, e.Reason)
	}
	return fmt.Sprintf("%v: %s", ErrRefused, e.Reason)
}

// Is reports whether target is ErrRefused.
func (e *RefusedError) Is(target error) bool { return target == ErrRefused }

// DivergedError names the transactions that keep a member out of its group. It
// matches [ErrDiverged]. Node.Rejoin can save them to a file and give them up.
type DivergedError struct {
	// Extra are transactions that only the member has. A GTID is among them also
	// when the group has given it to another transaction.
	Extra gtid.Set
	// Common is the log index up to which the two histories are the same, 0 if
	// that is too long ago to be known.
	Common uint64
	// Incomplete is true where the member's log does not go back to Common any
	// more: there may be others, of which nothing but the data is left.
	Incomplete bool
}

// Error names the transactions, and the remedy.
func (e *DivergedError) Error() string {
	more := ""
	if e.Incomplete {
		more = " and perhaps others, for its log does not go back so far"
	}
	return fmt.Sprintf("%v: %v, after log index %d%s; save and discard them with rejoin --discard-errant (RejoinOptions.DiscardErrant), or keep its directory and join with an empty one",
		ErrDiverged, e.Extra, e.Common, more)
}

// Is reports whether target is ErrDiverged.
func (e *DivergedError) Is(target error) bool { return target == ErrDiverged }

// Retryable reports whether running the same transaction again can succeed and
// cannot apply it twice.
func Retryable(err error) bool {
	return errors.Is(err, ErrConflict) || errors.Is(err, ErrSnapshotTooOld)
}

// Table names a table of ordered keys.
type Table = applier.Table
