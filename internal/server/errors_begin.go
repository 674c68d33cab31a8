package server

import (
	"context"
	"errors"
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
		Reason: w.GetReason(), Cause: &remoteError{kind: context.DeadlineExceeded, text: w.GetCauseText()},
	}
	// One that is no set says less, and the rest is as true.
	e.Session, _ = gtid.ParseSet(w.GetSession())
	switch {
	case w.StaleNanos != nil:
		e.Stale = time.Duration(w.GetStaleNanos())
	case w.GetBounded():
		e.Stale = concordat.NotKnown
	}
	if kind := ErrorOf(w.GetCause()); kind != nil {
		e.Cause = &remoteError{kind: kind, text: w.GetCauseText()}
	} else if w.GetCauseText() == "" {
		e.Cause = errors.New("no cause was told")
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
