package server

import (
	"errors"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/concordatdb/concordat"
	"github.com/concordatdb/concordat/election"
	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/proto/concordat/admin/v1"
)

// refusal returns what a refused change of the membership looks like on the
// network; nil if err is none.
func refusal(err error) *adminpb.Refusal {
	if g, ok := errors.AsType[*givenUpError](err); ok {
		kind := adminpb.Refusal_KIND_ABORTED
		if g.result == election.Cancelled {
			kind = adminpb.Refusal_KIND_CANCELLED
		}
		return &adminpb.Refusal{Kind: kind, Text: g.text}
	}
	if d, ok := errors.AsType[*concordat.DivergedError](err); ok {
		return &adminpb.Refusal{
			Kind: adminpb.Refusal_KIND_DIVERGED, Text: err.Error(),
			Extra: d.Extra.String(), Common: d.Common, Incomplete: d.Incomplete,
		}
	}
	if r, ok := errors.AsType[*concordat.RefusedError](err); ok {
		return &adminpb.Refusal{Kind: adminpb.Refusal_KIND_REFUSED, Text: r.Reason, Forceable: r.Forceable}
	}
	if f, ok := errors.AsType[*concordat.ForceRefusedError](err); ok {
		return &adminpb.Refusal{Kind: adminpb.Refusal_KIND_FORCE, Text: f.Cause.Error()}
	}
	if errors.Is(err, concordat.ErrJoinRefused) {
		return &adminpb.Refusal{Kind: adminpb.Refusal_KIND_JOIN_REFUSED, Text: err.Error()}
	}
	return nil
}

// refusalStatus is the form of a refusal that goes over the network.
func refusalStatus(r *adminpb.Refusal, text string) error {
	st, err := status.New(codes.FailedPrecondition, text).WithDetails(r)
	if err != nil { // a text that is not UTF-8
		return status.Error(codes.FailedPrecondition, concordat.ErrRefused.Error())
	}
	return st.Err()
}

// fromRefusal is the reverse of refusal. text is the whole text of the error,
// which may say more than the refusal.
func fromRefusal(r *adminpb.Refusal, text string) error {
	var kind error
	switch r.GetKind() {
	case adminpb.Refusal_KIND_CANCELLED:
		kind = &givenUpError{election.Cancelled, r.GetText()}
	case adminpb.Refusal_KIND_ABORTED:
		kind = &givenUpError{election.Aborted, r.GetText()}
	case adminpb.Refusal_KIND_DIVERGED:
		kind = concordat.ErrDiverged
		if extra, err := gtid.ParseSet(r.GetExtra()); err == nil {
			kind = &concordat.DivergedError{Extra: extra, Common: r.GetCommon(), Incomplete: r.GetIncomplete()}
		}
	case adminpb.Refusal_KIND_JOIN_REFUSED:
		kind = concordat.ErrJoinRefused
	default: // of another version, maybe
		kind = &concordat.RefusedError{Reason: r.GetText(), Forceable: r.GetForceable()}
	}
	if text == "" || text == kind.Error() {
		return kind
	}
	return &remoteError{kind: kind, text: text}
}
