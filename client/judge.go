package client

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/proto/concordat/kv/v1"
)

// fate is what the error of a call says of its transaction.
type fate byte

const (
	// final: nothing happened, and no other member will say anything else.
	final fate = iota
	// elsewhere: nothing happened, and another member, or the same one later, may
	// serve the call.
	elsewhere
	// lost: nobody has said what became of it.
	lost
)

// failure is a failed call in the eyes of a client.
type failure struct {
	fate fate
	err  error
}

// kinds are what the codes of members say.
var kinds = map[kvpb.ErrorInfo_Code]struct {
	err  error
	fate fate
}{
	kvpb.ErrorInfo_CODE_CONFLICT:         {ErrConflict, final},
	kvpb.ErrorInfo_CODE_SNAPSHOT_TOO_OLD: {ErrSnapshotTooOld, final},
	kvpb.ErrorInfo_CODE_GTID_TAKEN:       {ErrGTIDTaken, final},
	kvpb.ErrorInfo_CODE_TOO_LARGE:        {ErrTooLarge, final},
	kvpb.ErrorInfo_CODE_INVALID:          {ErrInvalid, final},
	kvpb.ErrorInfo_CODE_EXHAUSTED:        {ErrRefused, final},
	kvpb.ErrorInfo_CODE_LEAVE:            {ErrRefused, final},
	kvpb.ErrorInfo_CODE_SETTINGS:         {ErrRefused, final},
	kvpb.ErrorInfo_CODE_READ_ONLY:        {ErrReadOnly, elsewhere},
	kvpb.ErrorInfo_CODE_NO_QUORUM:        {ErrNoQuorum, elsewhere},
	kvpb.ErrorInfo_CODE_NOT_ONLINE:       {ErrUnavailable, elsewhere},
	kvpb.ErrorInfo_CODE_CLOSED:           {ErrUnavailable, elsewhere},
	kvpb.ErrorInfo_CODE_FAILED:           {ErrUnavailable, elsewhere},
	kvpb.ErrorInfo_CODE_OUTCOME_UNKNOWN:  {ErrOutcomeUnknown, lost},
	kvpb.ErrorInfo_CODE_WAIT:             {ErrWait, final},
	kvpb.ErrorInfo_CODE_THROTTLED:        {ErrThrottled, final},
}

// judge says what the error of a call means. reached is false if the request was
// given to no connection, so that no member can know of it.
func judge(err error, reached bool) failure {
	st, ok := status.FromError(err)
	if !ok {
		return failure{lost, unavailable(err.Error())}
	}
	for _, detail := range st.Details() {
		if info, ok := detail.(*kvpb.ErrorInfo); ok {
			return told(info)
		}
	}
	switch st.Code() {
	case codes.InvalidArgument:
		return failure{final, &callError{kind: ErrInvalid, text: st.Message()}}
	case codes.ResourceExhausted: // gRPC's own limit on messages
		return failure{final, &callError{kind: ErrTooLarge, text: st.Message()}}
	case codes.Unimplemented, codes.Unauthenticated, codes.PermissionDenied, codes.FailedPrecondition:
		return failure{final, &callError{kind: ErrRefused, text: st.Message()}}
	default:
	}
	if !reached {
		return failure{elsewhere, unavailable(st.Message())}
	}
	return failure{lost, unavailable(st.Message())}
}

func unavailable(text string) error {
	return &callError{kind: ErrUnavailable, text: fmt.Sprintf("%v: %s", ErrUnavailable, text)}
}

// told says what a member has said.
func told(i *kvpb.ErrorInfo) failure {
	kind, ok := kinds[i.GetCode()]
	if !ok { // of a newer version
		return failure{lost, &callError{kind: ErrRefused, text: i.GetText()}}
	}
	f := failure{kind.fate, &callError{kind: kind.err, text: i.GetText()}}
	switch i.GetCode() {
	case kvpb.ErrorInfo_CODE_CONFLICT:
		e := &ConflictError{Key: i.Key, Text: i.GetText(), Table: Table{i.GetTable().GetSchema(), i.GetTable().GetName()}}
		if winner, err := gtid.Parse(i.GetWinner()); err == nil {
			e.Winner = winner
		}
		f.err = e
	case kvpb.ErrorInfo_CODE_READ_ONLY:
		primary, _ := gtid.ParseUUID(i.GetPrimary()) // zero: nobody
		f.err = &ReadOnlyError{Primary: primary, Address: i.GetPrimaryAddress(), Epoch: i.GetEpoch(), Reason: i.GetText()}
	case kvpb.ErrorInfo_CODE_OUTCOME_UNKNOWN:
		id, _ := gtid.ParseUUID(i.GetTransactionId()) // zero: who calls knows it
		f.err = &OutcomeUnknownError{ID: id, Index: i.GetIndex(), Missing: uuids(i.GetMissing()), Cause: errors.New(i.GetText())}
	case kvpb.ErrorInfo_CODE_WAIT:
		if i.GetWait() != nil {
			f = waited(i.GetWait())
		}
	case kvpb.ErrorInfo_CODE_THROTTLED:
		if i.GetThrottled() != nil {
			f = throttled(i.GetThrottled())
		}
	default:
	}
	return f
}

// waited is a wait that has ended: for good if that was its time, and elsewhere it
// may come out better if it was the member.
func waited(w *kvpb.Wait) failure {
	e := &WaitError{
		Step: steps[w.GetStep()], Want: w.GetWant(), At: w.GetAt(),
		Missing: uuids(w.GetMissing()), Fresher: uuids(w.GetFresher()), Cause: context.DeadlineExceeded,
	}
	if c := w.GetConsistency(); c >= 0 && c <= kvpb.Consistency(BeforeAndAfter) {
		e.Level = Consistency(c)
	}
	if e.Step == "" {
		e.Step = "something that this version does not know"
	}
	if w.GetReason() != "" {
		e.Step += ": " + w.GetReason()
	}
	if session, err := gtid.ParseSet(w.GetSession()); err == nil {
		e.Session = session
	}
	switch {
	case w.StaleNanos != nil:
		e.Stale = time.Duration(w.GetStaleNanos())
	case w.GetBounded():
		e.Stale = NotKnown
	}
	f := failure{final, e}
	if kind, ok := kinds[w.GetCause()]; ok {
		e.Cause = &callError{kind: kind.err, text: w.GetCauseText()}
		f.fate = elsewhere
	}
	return f
}

// throttled is a wait for flow control that has ended: for good, unless it was the
// member that ended it.
func throttled(p *kvpb.Throttled) failure {
	e := &ThrottledError{
		Lag: time.Duration(p.GetLagNanos()), Quota: p.GetQuota(), Stopped: p.GetStopped(),
		Waited: time.Duration(p.GetWaitedNanos()), Waiting: p.GetWaiting(), Cause: context.DeadlineExceeded,
	}
	e.Limiting, _ = gtid.ParseUUID(p.GetLimiting()) // zero: it has left
	f := failure{final, e}
	// Nothing happened, so what leaves that open is no cause.
	if kind, ok := kinds[p.GetCause()]; ok && kind.fate != lost {
		e.Cause = &callError{kind: kind.err, text: p.GetCauseText()}
		f.fate = kind.fate
	}
	return f
}

var steps = map[kvpb.Wait_Step]string{
	kvpb.Wait_STEP_SESSION:    "the session's transactions",
	kvpb.Wait_STEP_READ_INDEX: "the log index up to which everything was acknowledged",
	kvpb.Wait_STEP_APPLIED:    "everything that was acknowledged before",
	kvpb.Wait_STEP_PRIMARY:    "the right to write",
	kvpb.Wait_STEP_GATE:       "an AFTER transaction",
	kvpb.Wait_STEP_CHANGE:     "the backlog of the primary before",
}

// uuids reads the UUIDs of members. It passes over what is none.
func uuids(texts []string) (members []gtid.UUID) {
	for _, text := range texts {
		if m, err := gtid.ParseUUID(text); err == nil {
			members = append(members, m)
		}
	}
	return members
}
