package server

import (
	"errors"
	"fmt"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/concordatdb/concordat"
	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/internal/forced"
	"github.com/concordatdb/concordat/proto/concordat/admin/v1"
)

var refusals = []error{concordat.ErrRefused, concordat.ErrJoinRefused, concordat.ErrDiverged}

// A refusal arrives as what it was sent, with every field, and whatever text
// was around it.
func TestRefusalsTravel(t *testing.T) {
	extra, err := gtid.ParseSet("00000000-0000-4000-8000-000000000009:3-5:9")
	if err != nil {
		t.Fatal(err)
	}
	refused := &concordat.RefusedError{Reason: "it is ONLINE and heard"}
	forceable := &concordat.RefusedError{Reason: "no member could fail then", Forceable: true}
	diverged := &concordat.DivergedError{Extra: extra, Common: 77}
	short := &concordat.DivergedError{Extra: extra, Common: 77, Incomplete: true}
	for _, test := range []struct {
		sent error
		kind error
	}{
		{refused, concordat.ErrRefused},
		{forceable, concordat.ErrRefused},
		{fmt.Errorf("%w: %w", concordat.ErrLeave, forceable), concordat.ErrRefused},
		{&concordat.ForceRefusedError{Cause: &forced.RefusedError{Reason: forced.HasQuorum, Text: "the group has its quorum"}}, concordat.ErrRefused},
		{diverged, concordat.ErrDiverged},
		{fmt.Errorf("rejoin: %w", diverged), concordat.ErrDiverged},
		{short, concordat.ErrDiverged},
		{fmt.Errorf("%w: it belongs to another group", concordat.ErrJoinRefused), concordat.ErrJoinRefused},
	} {
		over := toStatus(test.sent)
		if status.Code(over) != codes.FailedPrecondition {
			t.Errorf("%v: status %v", test.sent, status.Code(over))
		}
		got := fromStatus(over, lostWrite)
		if got.Error() != test.sent.Error() {
			t.Errorf("%q arrives as %q", test.sent, got)
		}
		for _, kind := range refusals {
			if errors.Is(got, kind) != (kind == test.kind) {
				t.Errorf("%v arrives as %v", test.sent, got)
			}
		}
	}
	if got, ok := errors.AsType[*concordat.RefusedError](fromStatus(toStatus(forceable), nil)); !ok || *got != *forceable {
		t.Errorf("%+v arrives as %+v", forceable, got)
	}
	for _, sent := range []*concordat.DivergedError{diverged, short} {
		got, ok := errors.AsType[*concordat.DivergedError](fromStatus(toStatus(fmt.Errorf("rejoin: %w", sent)), nil))
		if !ok || got.Common != 77 || got.Extra.String() != extra.String() || got.Incomplete != sent.Incomplete {
			t.Errorf("%+v arrives as %+v", sent, got)
		}
	}
}

// What another version, or a fault, sends is still a refusal.
func TestStrangeRefusals(t *testing.T) {
	for _, test := range []struct {
		sent *adminpb.Refusal
		text string
		kind error
	}{
		{&adminpb.Refusal{Kind: 99, Text: "later"}, "", concordat.ErrRefused},
		{&adminpb.Refusal{Kind: adminpb.Refusal_KIND_FORCE, Text: "the group has its quorum"}, "", concordat.ErrRefused},
		{&adminpb.Refusal{Kind: adminpb.Refusal_KIND_DIVERGED, Extra: "no set"}, "diverged", concordat.ErrDiverged},
		{&adminpb.Refusal{Kind: adminpb.Refusal_KIND_JOIN_REFUSED}, "", concordat.ErrJoinRefused},
	} {
		got := fromStatus(refusalStatus(test.sent, test.text), nil)
		if !errors.Is(got, test.kind) || test.text != "" && got.Error() != test.text {
			t.Errorf("%v arrives as %v", test.sent, got)
		}
	}
	if over := toStatus(&concordat.RefusedError{Reason: "\xff"}); status.Code(over) != codes.FailedPrecondition {
		t.Errorf("a text that is not UTF-8: %v", over)
	}
}

// Nobody who gets no answer may think that nothing has happened.
func TestUnansweredChanges(t *testing.T) {
	cause := status.Error(codes.DeadlineExceeded, "too long")
	for _, r := range []any{
		&adminpb.LeaveRequest{}, &adminpb.RemoveRequest{}, &adminpb.JoinRequest{}, &adminpb.RejoinRequest{},
		&adminpb.CloneRequest{}, &adminpb.ForceMembersRequest{},
	} {
		if err := fromStatus(cause, unanswered(r)); !errors.Is(err, concordat.ErrOutcomeUnknown) {
			t.Errorf("%T: %v", r, err)
		}
	}
	for _, r := range []any{&adminpb.StatusRequest{}, &adminpb.PlanRequest{}, &adminpb.PlanForceMembersRequest{}} {
		if unanswered(r) != nil {
			t.Errorf("%T is said to change something", r)
		}
	}
}
