package server

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/concordatdb/concordat"
	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/proto/concordat/kv/v1"
)

// ExpectationError says that a key does not hold what a Txn expects. Nothing
// happened. It matches concordat.ErrConflict: read again, and run it again.
type ExpectationError struct {
	Table concordat.Table
	Key   []byte
}

// Error names the key.
func (e *ExpectationError) Error() string {
	return fmt.Sprintf("concordat: %s key %q is not what the transaction expects; read it and run the transaction again", e.Table, e.Key)
}

// Is reports whether target is concordat.ErrConflict.
func (e *ExpectationError) Is(target error) bool { return target == concordat.ErrConflict }

// remoteError is what another process said about an error, or gRPC about the
// way there.
type remoteError struct {
	kind error
	text string
}

func (e *remoteError) Error() string { return e.text }

func (e *remoteError) Unwrap() error { return e.kind }

// kinds pairs the errors of a call with their form on the network. The order
// counts: an error that wraps two of them is the first one.
var kinds = []struct {
	err    error
	code   kvpb.ErrorInfo_Code
	status codes.Code
}{
	{concordat.ErrOutcomeUnknown, kvpb.ErrorInfo_CODE_OUTCOME_UNKNOWN, codes.Unknown},
	{concordat.ErrConflict, kvpb.ErrorInfo_CODE_CONFLICT, codes.Aborted},
	{concordat.ErrSnapshotTooOld, kvpb.ErrorInfo_CODE_SNAPSHOT_TOO_OLD, codes.Aborted},
	{concordat.ErrTooLarge, kvpb.ErrorInfo_CODE_TOO_LARGE, codes.ResourceExhausted},
	{concordat.ErrInvalid, kvpb.ErrorInfo_CODE_INVALID, codes.InvalidArgument},
	{concordat.ErrLeave, kvpb.ErrorInfo_CODE_LEAVE, codes.FailedPrecondition},
	{concordat.ErrFailed, kvpb.ErrorInfo_CODE_FAILED, codes.FailedPrecondition},
	{concordat.ErrNotOnline, kvpb.ErrorInfo_CODE_NOT_ONLINE, codes.Unavailable},
	{concordat.ErrClosed, kvpb.ErrorInfo_CODE_CLOSED, codes.Unavailable},
}

// toStatus returns err in the form that goes over the network.
func toStatus(err error) error {
	if err == nil {
		return nil
	}
	for _, k := range kinds {
		if !errors.Is(err, k.err) {
			continue
		}
		st, detailErr := status.New(k.status, err.Error()).WithDetails(info(k.code, err))
		if detailErr != nil { // a text that is not UTF-8: the code still goes
			return status.Error(k.status, k.err.Error())
		}
		return st.Err()
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return status.FromContextError(err).Err()
	}
	if st, ok := status.FromError(err); ok {
		return st.Err()
	}
	return status.Error(codes.Internal, err.Error())
}

func info(code kvpb.ErrorInfo_Code, err error) *kvpb.ErrorInfo {
	i := &kvpb.ErrorInfo{Code: code, Text: err.Error()}
	if c, ok := errors.AsType[*concordat.ConflictError](err); ok {
		i.Table = &kvpb.Table{Schema: c.Table.Schema, Name: c.Table.Name}
		i.Key, i.Winner = c.Key, c.Winner.String()
	}
	if e, ok := errors.AsType[*ExpectationError](err); ok {
		i.Table = &kvpb.Table{Schema: e.Table.Schema, Name: e.Table.Name}
		i.Key = e.Key
	}
	if u, ok := errors.AsType[*concordat.OutcomeUnknownError](err); ok {
		i.TransactionId, i.Text = u.ID.String(), u.Cause.Error()
	}
	return i
}

// fromStatus turns an error of a call into one of package concordat. A call
// whose write may have reached the server says so, whenever the server did not
// say better.
func fromStatus(err error, wrote bool) error {
	st, ok := status.FromError(err)
	if err == nil || !ok {
		return err
	}
	for _, detail := range st.Details() {
		if i, ok := detail.(*kvpb.ErrorInfo); ok {
			return fromInfo(i)
		}
	}
	remote := &remoteError{kind: err, text: st.Message()}
	switch st.Code() {
	case codes.Unavailable:
		remote.kind = concordat.ErrNotOnline
		remote.text = fmt.Sprintf("%v: no answer: %s; check the address, or try another member", concordat.ErrNotOnline, st.Message())
	case codes.Canceled:
		remote.kind = context.Canceled
	case codes.DeadlineExceeded:
		remote.kind = context.DeadlineExceeded
	case codes.InvalidArgument, codes.Unimplemented, codes.Unauthenticated, codes.PermissionDenied:
		return remote
	case codes.ResourceExhausted: // gRPC's own limit on messages
		remote.kind = concordat.ErrTooLarge
		return remote
	default:
	}
	if wrote {
		return &concordat.OutcomeUnknownError{Cause: remote}
	}
	return remote
}

func fromInfo(i *kvpb.ErrorInfo) error {
	switch i.GetCode() {
	case kvpb.ErrorInfo_CODE_CONFLICT:
		t := table(i.GetTable())
		if i.GetWinner() == "" {
			return &ExpectationError{Table: t, Key: i.GetKey()}
		}
		winner, err := gtid.Parse(i.GetWinner())
		if err == nil {
			return &concordat.ConflictError{Table: t, Key: i.GetKey(), Winner: winner}
		}
	case kvpb.ErrorInfo_CODE_OUTCOME_UNKNOWN:
		id, _ := gtid.ParseUUID(i.GetTransactionId()) // zero: the server does not know it
		return &concordat.OutcomeUnknownError{ID: id, Cause: errors.New(i.GetText())}
	default:
	}
	for _, k := range kinds {
		if k.code == i.GetCode() {
			return &remoteError{kind: k.err, text: i.GetText()}
		}
	}
	return errors.New(i.GetText())
}
