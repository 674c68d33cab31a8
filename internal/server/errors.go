package server

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/concordatdb/concordat"
	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/proto/concordat/admin/v1"
	"github.com/concordatdb/concordat/proto/concordat/changes/v1"
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
	{concordat.ErrWait, kvpb.ErrorInfo_CODE_WAIT, codes.Unavailable}, // before what may have ended the wait
	{concordat.ErrThrottled, kvpb.ErrorInfo_CODE_THROTTLED, codes.ResourceExhausted},
	{concordat.ErrReadOnly, kvpb.ErrorInfo_CODE_READ_ONLY, codes.FailedPrecondition},
	{concordat.ErrConflict, kvpb.ErrorInfo_CODE_CONFLICT, codes.Aborted},
	{concordat.ErrSnapshotTooOld, kvpb.ErrorInfo_CODE_SNAPSHOT_TOO_OLD, codes.Aborted},
	{concordat.ErrGTIDTaken, kvpb.ErrorInfo_CODE_GTID_TAKEN, codes.AlreadyExists},
	{concordat.ErrExhausted, kvpb.ErrorInfo_CODE_EXHAUSTED, codes.FailedPrecondition},
	{concordat.ErrSettings, kvpb.ErrorInfo_CODE_SETTINGS, codes.Aborted},
	{concordat.ErrTooLarge, kvpb.ErrorInfo_CODE_TOO_LARGE, codes.ResourceExhausted},
	{concordat.ErrInvalid, kvpb.ErrorInfo_CODE_INVALID, codes.InvalidArgument},
	{concordat.ErrLeave, kvpb.ErrorInfo_CODE_LEAVE, codes.FailedPrecondition},
	{concordat.ErrFailed, kvpb.ErrorInfo_CODE_FAILED, codes.FailedPrecondition},
	{concordat.ErrNoQuorum, kvpb.ErrorInfo_CODE_NO_QUORUM, codes.Unavailable},
	{concordat.ErrNotOnline, kvpb.ErrorInfo_CODE_NOT_ONLINE, codes.Unavailable},
	{concordat.ErrClosed, kvpb.ErrorInfo_CODE_CLOSED, codes.Unavailable},
}

// toStatus returns err in the form that goes over the network.
func toStatus(err error) error {
	if err == nil {
		return nil
	}
	if r := refusal(err); r != nil {
		return refusalStatus(r, err.Error())
	}
	if problem := problemStatus(err); problem != nil {
		return problem
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
		i.Key, i.Winner, i.Conflict = c.Key, c.Winner.String(), conflict(c)
	}
	if e, ok := errors.AsType[*ExpectationError](err); ok {
		i.Table = &kvpb.Table{Schema: e.Table.Schema, Name: e.Table.Name}
		i.Key = e.Key
	}
	if u, ok := errors.AsType[*concordat.OutcomeUnknownError](err); ok {
		i.TransactionId, i.Text = u.ID.String(), u.Cause.Error()
		i.Index, i.Missing = u.Index, uuidTexts(u.Missing)
	}
	if e, ok := errors.AsType[*concordat.ReadOnlyError](err); ok {
		readOnly(i, e)
	}
	if e, ok := errors.AsType[*concordat.WaitError](err); ok {
		i.Wait = wait(e)
	}
	if e, ok := errors.AsType[*concordat.ThrottledError](err); ok {
		i.Throttled = throttled(e)
	}
	return i
}

// fromStatus turns an error of a call into one of package concordat. Whenever
// the server did not say better, the error of a call that may have written is
// what lost makes of the cause; lost is nil if the call did not.
func fromStatus(err error, lost func(cause error) error) error {
	st, ok := status.FromError(err)
	if err == nil || !ok {
		return err
	}
	for _, detail := range st.Details() {
		switch d := detail.(type) {
		case *kvpb.ErrorInfo:
			return fromInfo(d)
		case *adminpb.Refusal:
			return fromRefusal(d, st.Message())
		case *changespb.Problem:
			return fromProblem(d)
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
		if lost == nil {
			remote.text = fmt.Sprintf("concordat: no answer in time: %s; the member may be stopped: give it longer, or ask another one", st.Message())
		}
	case codes.InvalidArgument, codes.Unimplemented, codes.Unauthenticated, codes.PermissionDenied:
		return remote
	case codes.ResourceExhausted: // gRPC's own limit on messages
		remote.kind = concordat.ErrTooLarge
		return remote
	default:
	}
	if lost != nil {
		return lost(remote)
	}
	return remote
}

func fromInfo(i *kvpb.ErrorInfo) error {
	switch i.GetCode() {
	case kvpb.ErrorInfo_CODE_CONFLICT:
		if i.GetConflict() == nil {
			return &ExpectationError{Table: table(i.GetTable()), Key: i.GetKey()}
		}
		if c, err := conflictError(i); err == nil {
			return c
		}
	case kvpb.ErrorInfo_CODE_OUTCOME_UNKNOWN:
		id, _ := gtid.ParseUUID(i.GetTransactionId()) // zero: the server does not know it
		return &concordat.OutcomeUnknownError{
			ID: id, Cause: errors.New(i.GetText()), Index: i.GetIndex(), Missing: parseUUIDs(i.GetMissing()),
		}
	case kvpb.ErrorInfo_CODE_READ_ONLY:
		if i.GetEpoch() != 0 {
			return readOnlyError(i)
		}
	case kvpb.ErrorInfo_CODE_WAIT:
		if i.GetWait() != nil {
			return waitError(i.GetWait())
		}
	case kvpb.ErrorInfo_CODE_THROTTLED:
		if i.GetThrottled() != nil {
			return throttledError(i.GetThrottled())
		}
	default:
	}
	if kind := ErrorOf(i.GetCode()); kind != nil {
		return &remoteError{kind: kind, text: i.GetText()}
	}
	return errors.New(i.GetText())
}

// ErrorOf returns the error of package concordat that a code stands for, nil
// for a code that is not known here.
func ErrorOf(code kvpb.ErrorInfo_Code) error {
	for _, k := range kinds {
		if k.code == code {
			return k.err
		}
	}
	return nil
}
