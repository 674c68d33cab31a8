package server

import (
	"context"
	"errors"
	"math"
	"time"

	"github.com/concordatdb/concordat"
	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/proto/concordat/kv/v1"
)

// readOnly puts into i who writes instead. What e was wrapped in is not told: the
// other side puts it into words again.
func readOnly(i *kvpb.ErrorInfo, e *concordat.ReadOnlyError) {
	i.Primary, i.PrimaryMemberAddress, i.PrimaryAddress = uuidText(e.Primary), e.Address, e.ClientAddress
	i.Epoch, i.Text = e.Epoch, e.Reason
}

// readOnlyError is the reverse of readOnly.
func readOnlyError(i *kvpb.ErrorInfo) *concordat.ReadOnlyError {
	e := &concordat.ReadOnlyError{Epoch: i.GetEpoch(), Reason: i.GetText()}
	if primary, err := gtid.ParseUUID(i.GetPrimary()); err == nil {
		e.Primary, e.Address, e.ClientAddress = primary, i.GetPrimaryMemberAddress(), i.GetPrimaryAddress()
	}
	return e
}

// wait is the form of a WaitError that goes over the network.
func wait(e *concordat.WaitError) *kvpb.Wait {
	w := &kvpb.Wait{
		Step: kvpb.Wait_Step(e.Step), Consistency: kvpb.Consistency(e.Level), Want: e.Want, At: e.At,
		Missing: uuidsText(e.Missing), Fresher: uuidsText(e.Fresher),
		Bounded: e.Stale != 0 || len(e.Fresher) > 0, Reason: e.Reason,
	}
	if !e.Session.IsEmpty() {
		w.Session = e.Session.String()
	}
	if w.Bounded && e.Stale >= 0 {
		w.StaleNanos = new(int64(e.Stale))
	}
	if e.Cause != nil {
		w.Cause, w.CauseText = codeOf(e.Cause), e.Cause.Error()
	}
	return w
}

// waitError is the reverse of wait.
func waitError(w *kvpb.Wait) *concordat.WaitError {
	e := &concordat.WaitError{
		Step: concordat.WaitStep(w.GetStep()), Level: concordat.Consistency(w.GetConsistency()),
		Want: w.GetWant(), At: w.GetAt(), Missing: parseUUIDs(w.GetMissing()), Fresher: parseUUIDs(w.GetFresher()),
		Reason: w.GetReason(), Cause: ended(w.GetCause(), w.GetCauseText()),
	}
	// One that is no set says less, and the rest is as true.
	e.Session, _ = gtid.ParseSet(w.GetSession())
	switch {
	case w.StaleNanos != nil:
		e.Stale = time.Duration(w.GetStaleNanos())
	case w.GetBounded():
		e.Stale = concordat.NotKnown
	}
	return e
}

// ended is what ended a wait: its time, where there is no code. Another wait cannot
// be that, nor an open outcome: nothing happened.
func ended(code kvpb.ErrorInfo_Code, text string) error {
	switch code {
	case kvpb.ErrorInfo_CODE_OUTCOME_UNKNOWN, kvpb.ErrorInfo_CODE_WAIT, kvpb.ErrorInfo_CODE_THROTTLED:
	default:
		if kind := ErrorOf(code); kind != nil {
			return &remoteError{kind: kind, text: text}
		}
	}
	if text == "" {
		return errors.New("no cause was told")
	}
	return &remoteError{kind: context.DeadlineExceeded, text: text}
}

// throttled is the form of a ThrottledError that goes over the network.
func throttled(e *concordat.ThrottledError) *kvpb.Throttled {
	out := &kvpb.Throttled{
		Limiting: uuidText(e.Limiting), LagNanos: int64(e.Lag), Quota: e.Quota, Stopped: e.Stopped,
		WaitedNanos: int64(e.Waited), Waiting: uint64(max(e.Waiting, 0)),
	}
	if e.Cause != nil {
		out.Cause, out.CauseText = codeOf(e.Cause), e.Cause.Error()
	}
	return out
}

// throttledError is the reverse of throttled.
func throttledError(p *kvpb.Throttled) *concordat.ThrottledError {
	e := &concordat.ThrottledError{
		Lag: time.Duration(p.GetLagNanos()), Quota: p.GetQuota(), Stopped: p.GetStopped(),
		Waited: time.Duration(p.GetWaitedNanos()), Waiting: int(min(p.GetWaiting(), math.MaxInt32)),
		Cause: ended(p.GetCause(), p.GetCauseText()),
	}
	if limiting, err := gtid.ParseUUID(p.GetLimiting()); err == nil {
		e.Limiting = limiting
	}
	return e
}

func uuidsText(members []gtid.UUID) (texts []string) {
	for _, m := range members {
		texts = append(texts, m.String())
	}
	return texts
}

// parseUUIDs is the reverse of uuidsText. It passes over what is none.
func parseUUIDs(texts []string) (members []gtid.UUID) {
	for _, text := range texts {
		if m, err := gtid.ParseUUID(text); err == nil {
			members = append(members, m)
		}
	}
	return members
}
