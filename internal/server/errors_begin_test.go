package server

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/concordatdb/concordat"
	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/proto/concordat/kv/v1"
)

const otherID = "00000000-0000-4000-8000-0000000000bb"

func TestReadOnlyTravels(t *testing.T) {
	for _, sent := range []*concordat.ReadOnlyError{
		{Primary: uuid(t, someID), Address: "a:1", ClientAddress: "a:2", Epoch: 7, Reason: "it is not the primary"},
		{Epoch: 8, Reason: "the group has no primary"},
	} {
		over := toStatus(fmt.Errorf("operation 1: %w", sent))
		if status.Code(over) != codes.FailedPrecondition {
			t.Errorf("status %v", status.Code(over))
		}
		if diff := cmp.Diff(error(sent), fromStatus(over, lostWrite)); diff != "" {
			t.Error(diff)
		}
	}
}

func TestWaitTravels(t *testing.T) {
	session, err := gtid.ParseSet(someID + ":5-7")
	if err != nil {
		t.Fatal(err)
	}
	for name, sent := range map[string]*concordat.WaitError{
		"gate":    {Level: concordat.After, Step: concordat.WaitGate, Want: 12, At: 9, Missing: []gtid.UUID{uuid(t, someID)}, Cause: context.DeadlineExceeded},
		"session": {Level: concordat.Eventual, Step: concordat.WaitSession, At: 9, Session: session, Cause: concordat.ErrNoQuorum},
		"age":     {Level: concordat.Eventual, Step: concordat.WaitApplied, Want: 4, At: 3, Stale: 3 * time.Second, Fresher: []gtid.UUID{uuid(t, otherID)}, Cause: concordat.ErrNotOnline},
		"no age":  {Level: concordat.Eventual, Step: concordat.WaitReadIndex, At: 3, Stale: concordat.NotKnown, Cause: context.DeadlineExceeded},
		"right":   {Level: concordat.BeforeOnPrimaryFailover, Step: concordat.WaitPrimary, Reason: "it is being decided", Cause: context.DeadlineExceeded},
	} {
		t.Run(name, func(t *testing.T) {
			got, ok := errors.AsType[*concordat.WaitError](fromStatus(toStatus(sent), lostWrite))
			if !ok || got.Error() != sent.Error() || !errors.Is(got, sent.Cause) || errors.Is(got, concordat.ErrOutcomeUnknown) {
				t.Fatalf("%v\nwant %v", got, sent)
			}
			got.Cause, sent.Cause = nil, nil
			if diff := cmp.Diff(sent, got, cmp.Comparer(gtid.Set.Equal)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestThrottledTravels(t *testing.T) {
	for name, sent := range map[string]*concordat.ThrottledError{ // order-free: each is a test of its own
		"time":   {Limiting: uuid(t, someID), Lag: 2500 * time.Millisecond, Quota: 40, Waited: time.Second, Waiting: 3, Cause: context.DeadlineExceeded},
		"nobody": {Lag: time.Minute, Stopped: true, Waited: 1, Cause: concordat.ErrNoQuorum},
		"full":   {Limiting: uuid(t, otherID), Quota: 1, Waiting: 65536, Cause: fmt.Errorf("%w: so many wait here", concordat.ErrTooLarge)},
	} {
		t.Run(name, func(t *testing.T) {
			over := toStatus(fmt.Errorf("operation 1: %w", sent))
			if status.Code(over) != codes.ResourceExhausted {
				t.Errorf("status %v", status.Code(over))
			}
			got, ok := errors.AsType[*concordat.ThrottledError](fromStatus(over, lostWrite))
			kind := sent.Cause
			if errors.Is(kind, concordat.ErrTooLarge) {
				kind = concordat.ErrTooLarge
			}
			if !ok || got.Error() != sent.Error() || !errors.Is(got, kind) || errors.Is(got, concordat.ErrOutcomeUnknown) {
				t.Fatalf("%v\nwant %v", got, sent)
			}
			got.Cause, sent.Cause = nil, nil
			if diff := cmp.Diff(sent, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// What cannot have ended a wait, as something may have happened then or another wait
// is named, is not taken for its cause.
func TestWaitsEndInNoOtherWait(t *testing.T) {
	for _, cause := range []kvpb.ErrorInfo_Code{
		kvpb.ErrorInfo_CODE_OUTCOME_UNKNOWN, kvpb.ErrorInfo_CODE_WAIT, kvpb.ErrorInfo_CODE_THROTTLED,
	} {
		waited := fromInfo(&kvpb.ErrorInfo{Code: kvpb.ErrorInfo_CODE_WAIT, Wait: &kvpb.Wait{Cause: cause, CauseText: "so"}})
		slowed := fromInfo(&kvpb.ErrorInfo{Code: kvpb.ErrorInfo_CODE_THROTTLED, Throttled: &kvpb.Throttled{Cause: cause, CauseText: "so"}})
		for _, err := range []error{waited, slowed} {
			if errors.Is(err, concordat.ErrOutcomeUnknown) || errors.Is(err, concordat.ErrWait) == errors.Is(err, concordat.ErrThrottled) {
				t.Errorf("after %v: %v", cause, err)
			}
		}
	}
}

func TestUnknownOutcomeTellsHowFar(t *testing.T) {
	sent := &concordat.OutcomeUnknownError{
		ID: uuid(t, someID), Cause: context.Canceled, Index: 44, Missing: []gtid.UUID{uuid(t, otherID)},
	}
	got, ok := errors.AsType[*concordat.OutcomeUnknownError](fromStatus(toStatus(sent), lostWrite))
	if !ok || got.Error() != sent.Error() || got.Index != 44 || len(got.Missing) != 1 {
		t.Errorf("%v, want %v", got, sent)
	}
}

// FuzzErrorInfo reads whatever a member may say of an error, and says it again.
func FuzzErrorInfo(f *testing.F) {
	for _, err := range []error{
		&concordat.ReadOnlyError{Epoch: 8, Reason: "no primary"},
		&concordat.WaitError{Step: concordat.WaitGate, Missing: []gtid.UUID{{15: 1}}, Cause: context.DeadlineExceeded},
		&concordat.WaitError{Step: concordat.WaitApplied, Stale: concordat.NotKnown, Cause: concordat.ErrNoQuorum},
		&concordat.ThrottledError{Limiting: gtid.UUID{15: 1}, Lag: time.Second, Quota: 7, Cause: concordat.ErrNoQuorum},
		&concordat.OutcomeUnknownError{ID: gtid.UUID{15: 2}, Index: 3, Cause: context.Canceled},
		&ExpectationError{Table: accounts, Key: []byte("k")},
	} {
		b, marshalErr := proto.Marshal(info(codeOf(err), err))
		if marshalErr != nil {
			f.Fatal(marshalErr)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		i := &kvpb.ErrorInfo{}
		if proto.Unmarshal(b, i) != nil {
			return
		}
		err := fromInfo(i)
		if err == nil || err.Error() == "" && i.GetText() != "" {
			t.Errorf("%v became %v", i, err)
		}
		if ErrorOf(i.GetCode()) == nil {
			return
		}
		again := fromStatus(toStatus(err), nil)
		for _, k := range kinds {
			if errors.Is(err, k.err) && k.code == i.GetCode() && !errors.Is(again, k.err) {
				t.Errorf("%v arrives as %v", err, again)
			}
		}
	})
}
