package concordat

import (
	"fmt"
	"strings"
	"time"

	"github.com/concordatdb/concordat/gtid"
)

// ReadOnlyError says who writes where this member does not. It matches
// [ErrReadOnly].
type ReadOnlyError struct {
	// Primary is the group's primary as this member knows it, with its addresses
	// for members and for clients. It is zero in a multi-primary group, and where
	// there is none.
	Primary                gtid.UUID
	Address, ClientAddress string
	// Epoch is the one that this member has come to: of two answers, that of the
	// higher epoch counts.
	Epoch  uint64
	Reason string
}

// Error gives the reason, and says where to go.
func (e *ReadOnlyError) Error() string {
	if e.Primary.IsZero() {
		return fmt.Sprintf("%v: %s (epoch %d)", ErrReadOnly, e.Reason, e.Epoch)
	}
	at := e.Address
	if e.ClientAddress != "" {
		at = e.ClientAddress
	}
	return fmt.Sprintf("%v: %s; the primary is %s at %s (epoch %d): write there", ErrReadOnly, e.Reason, e.Primary, at, e.Epoch)
}

// Is reports whether target is ErrReadOnly.
func (e *ReadOnlyError) Is(target error) bool { return target == ErrReadOnly }

// WaitStep is what a transaction waits for before it begins.
type WaitStep byte

// The steps, in their order.
const (
	// WaitSession: until the transactions of [AfterGTIDs] are visible here.
	WaitSession WaitStep = 1 + iota
	// WaitReadIndex: for the log index up to which everything was acknowledged,
	// which whoever leads the log tells when a majority follows it.
	WaitReadIndex
	// WaitApplied: until that index is visible here.
	WaitApplied
	// WaitPrimary: until it is settled whether this member writes, and until it is
	// heard by a majority if it does.
	WaitPrimary
	// WaitGate: until an After transaction, that others may show by now, is
	// visible here.
	WaitGate
	// WaitChange: until everything is visible here that was ordered before the
	// newest change of the primary.
	WaitChange
)

// String returns what the step waits for in words.
func (s WaitStep) String() string {
	switch s {
	case WaitSession:
		return "the session's transactions"
	case WaitReadIndex:
		return "the log index up to which everything was acknowledged"
	case WaitApplied:
		return "everything that was acknowledged before"
	case WaitPrimary:
		return "the right to write"
	case WaitGate:
		return "an AFTER transaction"
	case WaitChange:
		return "the backlog of the primary before"
	}
	return fmt.Sprintf("WaitStep(%d)", byte(s))
}

// WaitError says what a transaction was waiting for when its wait ended, and how
// far that had come. Nothing happened. It matches [ErrWait], and what ended the
// wait: the context, the loss of the quorum, or that of the member.
type WaitError struct {
	Level Consistency
	Step  WaitStep
	// Want is the log index that has to be visible here, 0 where that is not known
	// or not what the step waits for; At is the one that is.
	Want, At uint64
	// Session is what WaitSession still misses.
	Session gtid.Set
	// Missing are the members that have not told that they know of the After
	// transaction that WaitGate waits for.
	Missing []gtid.UUID
	// Stale is how old the data here may be, of a transaction that asks for
	// [AtMost]; NotKnown where nothing is known of that. Fresher are the members
	// whose data are known to be young enough.
	Stale   time.Duration
	Fresher []gtid.UUID
	// Reason says more of WaitPrimary.
	Reason string
	Cause  error
}

// NotKnown stands for an age of which nothing is known.
const NotKnown time.Duration = -1

// Error says what was waited for, how far it had come, and who could serve.
func (e *WaitError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%v, nothing happened: at %v it was waiting for %v", ErrWait, e.Level, e.Step)
	if e.Reason != "" {
		fmt.Fprintf(&b, ": %s", e.Reason)
	}
	if e.Want != 0 {
		fmt.Fprintf(&b, ", up to log index %d; this member shows %d", e.Want, e.At)
	}
	if !e.Session.IsEmpty() {
		fmt.Fprintf(&b, "; %v is missing here", e.Session)
	}
	if len(e.Missing) > 0 {
		fmt.Fprintf(&b, "; members %v have not told that they know of it", e.Missing)
	}
	switch {
	case e.Stale > 0:
		fmt.Fprintf(&b, "; the data here may be %v old", e.Stale.Round(time.Millisecond))
	case e.Stale == NotKnown:
		b.WriteString("; how old the data here are is not known")
	}
	if len(e.Fresher) > 0 {
		fmt.Fprintf(&b, "; members %v have younger ones", e.Fresher)
	}
	if help := e.Step.remedy(); help != "" {
		fmt.Fprintf(&b, "; %s", help)
	}
	fmt.Fprintf(&b, ": %v", e.Cause)
	return b.String()
}

// remedy says what to do when the wait was too long.
func (s WaitStep) remedy() string {
	switch s {
	case WaitSession:
		return "wait longer, or go to a member that has them"
	case WaitReadIndex:
		return "wait longer, or go to a member that hears a majority"
	case WaitApplied:
		return "wait longer, or go to a member that is less behind"
	case WaitPrimary:
		return "wait longer, or ask another member who writes"
	case WaitGate:
		return "wait longer; whoever has not told that it knows of it is expelled in the end"
	case WaitChange:
		return "wait longer, or begin at EVENTUAL if older data will do"
	}
	return ""
}

// Is reports whether target is ErrWait.
func (e *WaitError) Is(target error) bool { return target == ErrWait }

// Unwrap returns what ended the wait.
func (e *WaitError) Unwrap() error { return e.Cause }
