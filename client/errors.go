package client

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/concordatdb/concordat/gtid"
)

// The sentinels. Every error of a call matches one of them, or the end of its
// context, or both. But for ErrOutcomeUnknown all of them say that nothing has
// happened.
var (
	// ErrConflict: another transaction touched the same item first, or an item is
	// not what was expected. Read again, and run it again. The error is a
	// *ConflictError.
	ErrConflict = errors.New("concordat: transaction conflicts with one committed before it; run it again")
	// ErrSnapshotTooOld: the transaction ran so long, or idled so long, that the
	// group no longer knows what was written meanwhile. Run it again.
	ErrSnapshotTooOld = errors.New("concordat: transaction ran for too long; run it again, and faster")
	// ErrReadOnly: the member that ran the transaction has lost the right to write.
	// Run it again: the next one goes where writes are taken. The error is a
	// *ReadOnlyError if the member itself has said so.
	ErrReadOnly = errors.New("concordat: member does not write")
	// ErrNoPrimary: the time of the call was over before a member was known that
	// takes writes.
	ErrNoPrimary = errors.New("concordat: no member takes writes")
	// ErrNoQuorum: a majority of the group is out of reach of those members that
	// answer.
	ErrNoQuorum = errors.New("concordat: no quorum")
	// ErrUnavailable: the member went away, or none answers that could serve the
	// call.
	ErrUnavailable = errors.New("concordat: no member answers that could serve the call")
	// ErrWait: the wait for what the call's consistency asks for ended first. The
	// error is a *WaitError.
	ErrWait = errors.New("concordat: transaction has not begun")
	// ErrThrottled: the group is slowed for a member that is behind, and the wait for
	// the transaction to begin ended first. Nothing happened. Wait longer, or write
	// less. The error is a *ThrottledError.
	ErrThrottled = errors.New("concordat: transaction has not begun, as the group is slowed")
	// ErrOutcomeUnknown: the transaction was handed to a member and nobody can tell
	// what became of it. It may commit yet. The error is an *OutcomeUnknownError.
	ErrOutcomeUnknown = errors.New("concordat: outcome of the transaction is unknown")
	// ErrGTIDTaken: the GTID that was wished for belongs to another transaction. Do
	// not run it again.
	ErrGTIDTaken = errors.New("concordat: GTID belongs to a committed transaction")
	// ErrTooLarge: a key, a value, a result or the transaction exceeds a limit.
	ErrTooLarge = errors.New("concordat: limit exceeded")
	// ErrInvalid: the call itself is wrong; the text says where.
	ErrInvalid = errors.New("concordat: invalid argument")
	// ErrRefused: the member refuses the call for another reason; the text says
	// which.
	ErrRefused = errors.New("concordat: call refused")
	// ErrTxDone: the transaction has ended before.
	ErrTxDone = errors.New("concordat: transaction has ended; begin a new one")
	// ErrClosed: the client was closed.
	ErrClosed = errors.New("concordat: client is closed")
)

// Retryable reports whether running the same transaction again can succeed and
// cannot apply it twice.
func Retryable(err error) bool {
	if errors.Is(err, ErrOutcomeUnknown) {
		return false
	}
	for _, kind := range []error{ErrConflict, ErrSnapshotTooOld, ErrReadOnly, ErrUnavailable, ErrNoQuorum} {
		if errors.Is(err, kind) {
			return true
		}
	}
	return false
}

// ConflictError says what a transaction lost to. It matches [ErrConflict].
type ConflictError struct {
	Table Table
	Key   []byte // nil where it is not known, or a range was hit
	// Winner is the GTID of the transaction that was first. It is zero where no
	// other transaction is to blame: the key does not hold what was expected.
	Winner gtid.GTID
	Text   string // of the member
}

// Error is what the member says.
func (e *ConflictError) Error() string { return e.Text }

// Is reports whether target is ErrConflict.
func (e *ConflictError) Is(target error) bool { return target == ErrConflict }

// ReadOnlyError is the answer of a member that takes no writes, or not of the epoch
// in which it was asked. It matches [ErrReadOnly].
type ReadOnlyError struct {
	Primary gtid.UUID // whom that member takes for the primary, zero for nobody
	Address string    // where clients reach that one, empty if it has not said
	Epoch   uint64    // to which the member has come
	Reason  string
}

// Error gives the reason, and says who writes.
func (e *ReadOnlyError) Error() string {
	if e.Primary.IsZero() {
		return fmt.Sprintf("%v: %s (epoch %d)", ErrReadOnly, e.Reason, e.Epoch)
	}
	return fmt.Sprintf("%v: %s; the primary is %s at %s (epoch %d)", ErrReadOnly, e.Reason, e.Primary, e.Address, e.Epoch)
}

// Is reports whether target is ErrReadOnly.
func (e *ReadOnlyError) Is(target error) bool { return target == ErrReadOnly }

// NotKnown stands for an age of which nothing is known.
const NotKnown time.Duration = -1

// WaitError says what a transaction was waiting for when its wait to begin ended.
// It matches [ErrWait], and what ended the wait if that was its time or the quorum.
type WaitError struct {
	Level Consistency
	Step  string // what was waited for, in words
	// Want is the log index that had to be visible, 0 where that is not known or not
	// what the step waits for; At is the one that was.
	Want, At uint64
	// Session is what was missing of the session.
	Session gtid.Set
	// Missing are the members that have not told that they know of a transaction of
	// the level After, which others may show by now.
	Missing []gtid.UUID
	// Stale is how old the data may be, of a call that bounds that; NotKnown where
	// nothing is known of it. Fresher are the members whose data are young enough.
	Stale   time.Duration
	Fresher []gtid.UUID
	Cause   error
}

// Error says what was waited for, how far it had come, and who could serve.
func (e *WaitError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%v, nothing happened: at %v it was waiting for %s", ErrWait, e.Level, e.Step)
	if e.Want != 0 {
		fmt.Fprintf(&b, ", up to log index %d; the member shows %d", e.Want, e.At)
	}
	if !e.Session.IsEmpty() {
		fmt.Fprintf(&b, "; %v is missing there", e.Session)
	}
	if len(e.Missing) > 0 {
		fmt.Fprintf(&b, "; members %v have not told that they know of it", e.Missing)
	}
	switch {
	case e.Stale > 0:
		fmt.Fprintf(&b, "; the data there may be %v old", e.Stale.Round(time.Millisecond))
	case e.Stale == NotKnown:
		b.WriteString("; how old the data there are is not known")
	}
	if len(e.Fresher) > 0 {
		fmt.Fprintf(&b, "; members %v have younger ones", e.Fresher)
	}
	fmt.Fprintf(&b, ": %v", e.Cause)
	return b.String()
}

// Is reports whether target is ErrWait.
func (e *WaitError) Is(target error) bool { return target == ErrWait }

// Unwrap returns what ended the wait.
func (e *WaitError) Unwrap() error { return e.Cause }

// ThrottledError says for whom the group is slowed, and how much may begin. It
// matches [ErrThrottled], and what ended the wait.
type ThrottledError struct {
	// Limiting is the member that the group is slowed for, zero where it has left
	// meanwhile, and Lag how far behind it is.
	Limiting gtid.UUID
	Lag      time.Duration
	// Quota is how many transactions of the present size may begin on the member that
	// was asked in a second; in a period, where flow control is in the mode QUOTA.
	// Stopped says that nobody writes before Limiting has come closer.
	Quota   uint64
	Stopped bool
	// Waited is for how long this transaction has waited, and Waiting how many did
	// beside it.
	Waited  time.Duration
	Waiting uint64
	Cause   error
}

// Error says for whom the group is slowed, and by how much.
func (e *ThrottledError) Error() string {
	what := fmt.Sprintf("%d transactions may begin where it was asked", e.Quota)
	if e.Stopped {
		what = "nobody writes before it has come closer"
	}
	return fmt.Sprintf("%v, nothing happened: member %s is %v behind, and %s; this one waited for %v beside %d others: %v",
		ErrThrottled, e.Limiting, e.Lag.Round(time.Millisecond), what, e.Waited.Round(time.Millisecond), e.Waiting, e.Cause)
}

// Is reports whether target is ErrThrottled.
func (e *ThrottledError) Is(target error) bool { return target == ErrThrottled }

// Unwrap returns what ended the wait.
func (e *ThrottledError) Unwrap() error { return e.Cause }

// OutcomeUnknownError says which transaction's fate is open, and why. It matches
// [ErrOutcomeUnknown], and the end of the context if that was the cause; no other
// sentinel, lest somebody read that nothing has happened. [Client.Outcome] may know
// later. The same transaction may be run again under the same id, see [WithID].
type OutcomeUnknownError struct {
	ID gtid.UUID
	// Index is where the group has decided that it commits, 0 if that is not known.
	Index uint64
	// Missing are the members that have not told that they know of what holds it
	// back.
	Missing []gtid.UUID
	Cause   error
}

// Error names the transaction and the cause.
func (e *OutcomeUnknownError) Error() string {
	what := fmt.Sprintf("concordat: outcome of transaction %s is unknown, it may commit yet", e.ID)
	if e.Index != 0 {
		what = fmt.Sprintf("concordat: transaction %s is ordered at log index %d and commits, and was not visible yet", e.ID, e.Index)
	}
	if len(e.Missing) > 0 {
		what += fmt.Sprintf(", as members %v have not told that they know of what comes before it", e.Missing)
	}
	return fmt.Sprintf("%s: %v", what, e.Cause)
}

// Is reports whether target is ErrOutcomeUnknown.
func (e *OutcomeUnknownError) Is(target error) bool { return target == ErrOutcomeUnknown }

// Unwrap returns the end of the context if that was the cause.
func (e *OutcomeUnknownError) Unwrap() error {
	for _, end := range []error{context.DeadlineExceeded, context.Canceled} {
		if errors.Is(e.Cause, end) {
			return end
		}
	}
	return nil
}

// callError is an error of one of the kinds above, and what ended the call if that
// was not a member.
type callError struct {
	kind, end error
	text      string
}

func (e *callError) Error() string { return e.text }

func (e *callError) Unwrap() []error {
	if e.end == nil {
		return []error{e.kind}
	}
	return []error{e.kind, e.end}
}
