// Package server serves a node to clients over gRPC, on an address of its own
// beside the one on which members talk to each other: the services KV and Admin
// of proto/concordat, and gRPC's own health service. It has the client's half
// too: [Dial] makes a connection whose calls fail with the errors of package
// concordat, as if the node were in the same process.
//
// The package owns how errors travel. One of the group becomes a gRPC status
// with a kvpb.ErrorInfo as its detail, and on the other side the same typed
// error again: a conflict still has every field. ErrRefused, ErrJoinRefused and
// ErrDiverged have an adminpb.Refusal instead, and FailedPrecondition.
//
//	concordat            code of ErrorInfo   gRPC status
//	ErrConflict          CONFLICT            Aborted
//	ErrSnapshotTooOld    SNAPSHOT_TOO_OLD    Aborted
//	ErrOutcomeUnknown    OUTCOME_UNKNOWN     Unknown
//	ErrWait              WAIT                Unavailable
//	ErrReadOnly          READ_ONLY           FailedPrecondition
//	ErrGTIDTaken         GTID_TAKEN          AlreadyExists
//	ErrExhausted         EXHAUSTED           FailedPrecondition
//	ErrSettings          SETTINGS            Aborted
//	ErrNoQuorum          NO_QUORUM           Unavailable
//	ErrNotOnline         NOT_ONLINE          Unavailable
//	ErrClosed            CLOSED              Unavailable
//	ErrFailed            FAILED              FailedPrecondition
//	ErrLeave             LEAVE               FailedPrecondition
//	ErrTooLarge          TOO_LARGE           ResourceExhausted
//	ErrInvalid           INVALID             InvalidArgument
//
// It promises that a call that writes never fails with an error that says less
// than is known: a connection that breaks under a write is ErrOutcomeUnknown,
// one that could not be made is ErrNotOnline. A transaction whose client has
// named it may be sent again after that, to any member: once it has committed,
// each repetition is answered with its GTID, even one that could not run any
// more on what it has itself written.
//
// Whoever watches hears who writes and who serves as soon as the member knows it. A
// write is never forwarded: a member that does not write says who does. A transaction
// that a client runs step by step ends with its stream, and with the member's right
// to write.
//
// It knows nothing of how members agree, keeps no state between calls, and
// decides nothing: who may write, and when a member has to go, is the node's
// and the program's business.
package server
