package client

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/proto/concordat/kv/v1"
)

const aMember = "00000000-0000-4000-8000-0000000000aa"

func saying(t *testing.T, i *kvpb.ErrorInfo) error {
	t.Helper()
	st, err := status.New(codes.Unavailable, "text").WithDetails(i)
	if err != nil {
		t.Fatal(err)
	}
	return st.Err()
}

// Every code that a member knows has its meaning, and none of those that say that
// nothing happened is taken for one that leaves it open, or the other way round.
func TestJudgeKnowsEveryCode(t *testing.T) {
	for number, name := range kvpb.ErrorInfo_Code_name {
		code := kvpb.ErrorInfo_Code(number)
		f := judge(saying(t, &kvpb.ErrorInfo{Code: code, Text: "the reason"}), true)
		kind, known := kinds[code]
		switch {
		case !known && code != kvpb.ErrorInfo_CODE_UNSPECIFIED:
			t.Errorf("%s is not known", name)
		case known && (!errors.Is(f.err, kind.err) || f.fate != kind.fate):
			t.Errorf("%s is %v, %v", name, f.fate, f.err)
		}
		open := !known || code == kvpb.ErrorInfo_CODE_OUTCOME_UNKNOWN
		if (f.fate == lost) != open {
			t.Errorf("%s leaves it open: %v", name, f.fate == lost)
		}
	}
}

func TestJudgeWithoutDetail(t *testing.T) {
	for _, c := range []struct {
		code    codes.Code
		reached bool
		want    fate
		kind    error
	}{
		{codes.Unavailable, true, lost, ErrUnavailable},
		{codes.Unavailable, false, elsewhere, ErrUnavailable},
		{codes.Canceled, true, lost, ErrUnavailable},
		{codes.DeadlineExceeded, true, lost, ErrUnavailable},
		{codes.Internal, true, lost, ErrUnavailable},
		{codes.InvalidArgument, true, final, ErrInvalid},
		{codes.ResourceExhausted, true, final, ErrTooLarge},
		{codes.Unimplemented, true, final, ErrRefused},
		{codes.PermissionDenied, true, final, ErrRefused},
	} {
		f := judge(status.Error(c.code, "text"), c.reached)
		if f.fate != c.want || !errors.Is(f.err, c.kind) {
			t.Errorf("%v, reached %v: %v, %v", c.code, c.reached, f.fate, f.err)
		}
	}
	if f := judge(errors.New("broken"), true); f.fate != lost {
		t.Errorf("what is no status: %v", f)
	}
}

func TestJudgeReads(t *testing.T) {
	member, err := gtid.ParseUUID(aMember)
	if err != nil {
		t.Fatal(err)
	}
	f := judge(saying(t, &kvpb.ErrorInfo{
		Code: kvpb.ErrorInfo_CODE_READ_ONLY, Primary: aMember, PrimaryAddress: "a:1", Epoch: 4, Text: "it is not the primary",
	}), true)
	if e, ok := errors.AsType[*ReadOnlyError](f.err); !ok || e.Primary != member || e.Address != "a:1" || e.Epoch != 4 || e.Reason == "" {
		t.Errorf("%+v", f.err)
	}
	f = judge(saying(t, &kvpb.ErrorInfo{Code: kvpb.ErrorInfo_CODE_OUTCOME_UNKNOWN, Index: 9, Missing: []string{aMember, "none"}, Text: "too late"}), true)
	if e, ok := errors.AsType[*OutcomeUnknownError](f.err); !ok || e.Index != 9 || len(e.Missing) != 1 {
		t.Errorf("%+v", f.err)
	}
	f = judge(saying(t, &kvpb.ErrorInfo{Code: kvpb.ErrorInfo_CODE_CONFLICT, Table: &kvpb.Table{Schema: "s", Name: "n"}, Key: []byte("k"), Winner: aMember + ":3"}), true)
	if e, ok := errors.AsType[*ConflictError](f.err); !ok || e.Table.String() != "s.n" || string(e.Key) != "k" || e.Winner.Number != 3 {
		t.Errorf("%+v", f.err)
	}
	wait := &kvpb.Wait{
		Step: kvpb.Wait_STEP_GATE, Consistency: kvpb.Consistency_CONSISTENCY_AFTER, Want: 7, At: 5,
		Missing: []string{aMember}, Bounded: true, StaleNanos: new(int64(time.Second)), Fresher: []string{aMember},
	}
	f = judge(saying(t, &kvpb.ErrorInfo{Code: kvpb.ErrorInfo_CODE_WAIT, Wait: wait}), true)
	e, ok := errors.AsType[*WaitError](f.err)
	if !ok || f.fate != final || e.Level != After || e.Want != 7 || e.At != 5 || len(e.Missing) != 1 || e.Stale != time.Second || !errors.Is(e, context.DeadlineExceeded) {
		t.Errorf("%v, %+v", f.fate, f.err)
	}
	wait.Cause, wait.StaleNanos = kvpb.ErrorInfo_CODE_NO_QUORUM, nil
	f = judge(saying(t, &kvpb.ErrorInfo{Code: kvpb.ErrorInfo_CODE_WAIT, Wait: wait}), true)
	if e, ok := errors.AsType[*WaitError](f.err); !ok || f.fate != elsewhere || e.Stale != NotKnown || !errors.Is(e, ErrNoQuorum) {
		t.Errorf("%v, %+v", f.fate, f.err)
	}
}

// A transaction that was not let begin names whom the group is slowed for; it is sent
// to another member only if its own ended the wait.
func TestJudgeThrottled(t *testing.T) {
	for cause, want := range map[kvpb.ErrorInfo_Code]struct { // order-free: each is a case of its own
		fate fate
		kind error
	}{
		kvpb.ErrorInfo_CODE_UNSPECIFIED:     {final, context.DeadlineExceeded},
		kvpb.ErrorInfo_CODE_NO_QUORUM:       {elsewhere, ErrNoQuorum},
		kvpb.ErrorInfo_CODE_TOO_LARGE:       {final, ErrTooLarge},
		kvpb.ErrorInfo_CODE_OUTCOME_UNKNOWN: {final, context.DeadlineExceeded},
	} {
		f := judge(saying(t, &kvpb.ErrorInfo{Code: kvpb.ErrorInfo_CODE_THROTTLED, Throttled: &kvpb.Throttled{
			Limiting: aMember, LagNanos: int64(3 * time.Second), Quota: 12, Stopped: true, WaitedNanos: 5, Waiting: 6, Cause: cause, CauseText: "why",
		}}), true)
		e, ok := errors.AsType[*ThrottledError](f.err)
		if !ok || f.fate != want.fate || !errors.Is(e, want.kind) || !errors.Is(e, ErrThrottled) || errors.Is(e, ErrOutcomeUnknown) {
			t.Fatalf("%v: %v, %v", cause, f.fate, f.err)
		}
		got := *e
		got.Cause = nil
		if got != (ThrottledError{Limiting: e.Limiting, Lag: 3 * time.Second, Quota: 12, Stopped: true, Waited: 5, Waiting: 6}) || e.Limiting.String() != aMember {
			t.Errorf("%+v", e)
		}
	}
}

// An open outcome is never taken for anything else, whatever has led to it.
func TestUnknownIsNothingElse(t *testing.T) {
	for _, cause := range []error{
		ErrConflict, ErrReadOnly, ErrUnavailable, context.Canceled,
		errors.Join(&callError{kind: ErrNoQuorum, end: context.DeadlineExceeded, text: "text"}, ErrClosed),
	} {
		err := fmt.Errorf("wrapped: %w", unknownOutcome(gtid.UUID{1}, cause, &OutcomeUnknownError{Index: 3, Cause: ErrNoQuorum}))
		e, ok := errors.AsType[*OutcomeUnknownError](err)
		if !ok || !errors.Is(err, ErrOutcomeUnknown) || Retryable(err) || e.Index != 3 || e.ID != (gtid.UUID{1}) {
			t.Errorf("%v", err)
		}
		for _, other := range []error{ErrConflict, ErrReadOnly, ErrNoQuorum, ErrUnavailable, ErrClosed} {
			if errors.Is(err, other) {
				t.Errorf("%v reads as if nothing had happened: %v", err, other)
			}
		}
		for _, end := range []error{context.Canceled, context.DeadlineExceeded} {
			if errors.Is(cause, end) != errors.Is(err, end) {
				t.Errorf("%v does not tell of %v", err, end)
			}
		}
	}
}

// FuzzErrorInfo judges whatever a member may say.
func FuzzErrorInfo(f *testing.F) {
	for _, i := range []*kvpb.ErrorInfo{
		{Code: kvpb.ErrorInfo_CODE_READ_ONLY, Primary: aMember, Epoch: 3},
		{Code: kvpb.ErrorInfo_CODE_WAIT, Wait: &kvpb.Wait{Step: 1, Session: aMember + ":1", Missing: []string{aMember}}},
		{Code: kvpb.ErrorInfo_CODE_OUTCOME_UNKNOWN, TransactionId: aMember, Index: 2},
		{Code: kvpb.ErrorInfo_CODE_CONFLICT, Winner: aMember + ":1"},
		{Code: kvpb.ErrorInfo_CODE_THROTTLED, Throttled: &kvpb.Throttled{Limiting: aMember, LagNanos: 5, Cause: kvpb.ErrorInfo_CODE_NO_QUORUM}},
		{Code: 99},
	} {
		b, err := proto.Marshal(i)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		i := &kvpb.ErrorInfo{}
		if proto.Unmarshal(b, i) != nil {
			return
		}
		judged := told(i)
		if judged.err == nil {
			t.Fatalf("%v is no error", i)
		}
		_ = judged.err.Error()
		if judged.fate == lost && Retryable(judged.err) {
			t.Errorf("%v is open, and to be run again: %v", i, judged.err)
		}
	})
}
