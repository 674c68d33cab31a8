package server

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/concordatdb/concordat"
	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/proto/concordat/changes/v1"
	"github.com/concordatdb/concordat/proto/concordat/kv/v1"
)

// followBytes is about how much of the changes goes into one message, unless one
// alone is larger.
const followBytes = 256 << 10

// changes implements the service Changes.
type changes struct {
	changespb.UnimplementedChangesServer
	server *Server
}

// Follow implements changespb.ChangesServer. A client that is slow to take what was
// sent holds up its own stream, and nothing else.
func (c *changes) Follow(r *changespb.FollowRequest, stream grpc.ServerStreamingServer[changespb.FollowResponse]) error {
	n, err := c.server.current()
	if err != nil {
		return toStatus(err)
	}
	after, err := gtid.ParseSet(r.GetAfter())
	if err != nil {
		return toStatus(fmt.Errorf("%w: after: %w", concordat.ErrInvalid, err))
	}
	var options []concordat.ChangesOption
	if r.GetUntilNow() {
		options = append(options, concordat.ChangesUntilNow())
	}
	for _, t := range r.GetTables() {
		if err := check(table(t)); err != nil {
			return toStatus(err)
		}
		options = append(options, concordat.ChangesIn(table(t)))
	}
	ctx, cancel := c.server.streaming(stream.Context())
	defer cancel()
	for run, err := range n.ChangeRuns(ctx, after, options...) {
		if err != nil {
			return toStatus(c.server.ended(err))
		}
		for len(run) > 0 {
			var message *changespb.FollowResponse
			message, run = changesMessage(run)
			if err := stream.Send(message); err != nil {
				return err
			}
		}
	}
	return nil
}

// streaming is the context of a stream, which is no reason to keep a server that
// stops.
func (s *Server) streaming(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(s.lifetime, cancel)
	return ctx, func() {
		stop()
		cancel()
	}
}

// ended is the error of a stream.
func (s *Server) ended(err error) error {
	if err != nil && s.lifetime.Err() != nil {
		return concordat.ErrClosed
	}
	return err
}

// changesMessage makes a message of the first of some changes, and returns the rest. A
// change that is too large for one is continued by the next.
func changesMessage(run []concordat.Change) (*changespb.FollowResponse, []concordat.Change) {
	message := &changespb.FollowResponse{}
	bytes := 0
	for i := range run {
		c := &run[i]
		change := &changespb.Change{
			Gtid: c.GTID.String(), Origin: c.Origin[:], Index: c.Index, UnixMicros: c.Time.UnixMicro(),
		}
		for j := range c.Rows {
			row := &c.Rows[j]
			size := len(row.Key) + len(row.New) + len(row.Old)
			if bytes += size; bytes > followBytes && bytes > size {
				change.More, c.Rows = true, c.Rows[j:]
				message.Changes = append(message.Changes, change)
				return message, run[i:]
			}
			change.Rows = append(change.Rows, &changespb.Row{
				Op: changespb.Row_Op(row.Op), Table: &kvpb.Table{Schema: row.Table.Schema, Name: row.Table.Name},
				Key: row.Key, New: row.New, Delta: row.Delta, OldKnown: row.OldKnown, Existed: row.Existed, Old: row.Old,
			})
		}
		message.Changes = append(message.Changes, change)
	}
	return message, nil
}

// problems pairs the errors of a stream with their form on the network.
var problems = []struct {
	err  error
	kind changespb.Problem_Kind
	code codes.Code
}{
	{concordat.ErrChangesOff, changespb.Problem_KIND_OFF, codes.FailedPrecondition},
	{concordat.ErrChangesGone, changespb.Problem_KIND_GONE, codes.OutOfRange},
	{concordat.ErrChangesLost, changespb.Problem_KIND_LOST, codes.DataLoss},
	{concordat.ErrChangesBusy, changespb.Problem_KIND_BUSY, codes.ResourceExhausted},
	{concordat.ErrDumpBusy, changespb.Problem_KIND_DUMP_BUSY, codes.ResourceExhausted},
}

// problemStatus is the form of a stream's error that goes over the network, nil if it
// is none of them.
func problemStatus(err error) error {
	for _, p := range problems {
		if !errors.Is(err, p.err) {
			continue
		}
		problem := &changespb.Problem{Kind: p.kind, Text: err.Error()}
		if gone, ok := errors.AsType[*concordat.ChangesGoneError](err); ok {
			problem.Missing = gone.Missing.String()
		}
		st, err := status.New(p.code, err.Error()).WithDetails(problem)
		if err != nil { // a text that is not UTF-8
			return status.Error(p.code, p.err.Error())
		}
		return st.Err()
	}
	return nil
}

// fromProblem is the reverse of problemStatus.
func fromProblem(p *changespb.Problem) error {
	if p.GetKind() == changespb.Problem_KIND_GONE {
		if missing, err := gtid.ParseSet(p.GetMissing()); err == nil {
			return &concordat.ChangesGoneError{Missing: missing}
		}
	}
	for _, known := range problems {
		if known.kind == p.GetKind() {
			return &remoteError{kind: known.err, text: p.GetText()}
		}
	}
	return errors.New(p.GetText())
}
