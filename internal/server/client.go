package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/peer"

	"github.com/concordatdb/concordat"
	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/proto/concordat/admin/v1"
	"github.com/concordatdb/concordat/proto/concordat/changes/v1"
	"github.com/concordatdb/concordat/proto/concordat/kv/v1"
)

// Client is a connection to one node. The calls of all services fail with the
// errors of package concordat, and with *ExpectationError. It is safe for
// concurrent use.
type Client struct {
	kvpb.KVClient
	adminpb.AdminClient
	changespb.ChangesClient
	conn *grpc.ClientConn
}

// Dial returns a client of the node at address, host:port; nil for config means
// plaintext. It does not wait for the connection, which is made, and made
// again, as calls need it.
func Dial(address string, config *tls.Config) (*Client, error) {
	if _, _, err := net.SplitHostPort(address); err != nil {
		return nil, fmt.Errorf("address %q is not host:port: %w", address, err)
	}
	creds := insecure.NewCredentials()
	if config != nil {
		creds = credentials.NewTLS(config)
	}
	conn, err := grpc.NewClient("passthrough:///"+address,
		grpc.WithTransportCredentials(creds),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(2*maxResultBytes)),
		grpc.WithUnaryInterceptor(typedUnary),
		grpc.WithStreamInterceptor(typedStream))
	if err != nil {
		return nil, fmt.Errorf("address %q: %w", address, err)
	}
	return &Client{
		KVClient: kvpb.NewKVClient(conn), AdminClient: adminpb.NewAdminClient(conn),
		ChangesClient: changespb.NewChangesClient(conn), conn: conn,
	}, nil
}

// Close ends the connection, and calls under way with it.
func (c *Client) Close() error { return c.conn.Close() }

// typedUnary gives the errors of unary calls their types.
func typedUnary(ctx context.Context, method string, req, reply any, conn *grpc.ClientConn,
	invoke grpc.UnaryInvoker, opts ...grpc.CallOption,
) error {
	// A call has a peer once it was given to a connection. Without one the
	// server cannot know of it.
	var to peer.Peer
	err := invoke(ctx, method, req, reply, conn, append(opts, grpc.Peer(&to))...)
	if err == nil {
		return nil
	}
	if to.Addr == nil {
		return fromStatus(err, nil)
	}
	return fromStatus(err, unanswered(req))
}

// unanswered returns what it means that a request got no answer; nil if it can
// have changed nothing.
func unanswered(req any) func(cause error) error {
	switch r := req.(type) {
	case terms:
		if txn, ok := r.(*kvpb.TxnRequest); ok && !writes(txn) {
			return nil
		}
		id, _ := gtid.ParseUUID(r.GetTransactionId()) // zero: nobody has named it
		return func(cause error) error { return &concordat.OutcomeUnknownError{ID: id, Cause: cause} }
	case *adminpb.SetSettingsRequest:
		return func(cause error) error {
			return &remoteError{
				kind: concordat.ErrOutcomeUnknown,
				text: fmt.Sprintf("concordat: the group's settings may have changed, read them again: %v", cause),
			}
		}
	case *adminpb.SetPrimaryRequest, *adminpb.SwitchModeRequest, *adminpb.SetProtocolRequest, *adminpb.CancelActionRequest:
		return func(cause error) error {
			return &remoteError{
				kind: concordat.ErrOutcomeUnknown,
				text: fmt.Sprintf("concordat: what was asked for may be done, or go on; GetAction tells by its id: %v", cause),
			}
		}
	case *adminpb.LeaveRequest, *adminpb.RemoveRequest, *adminpb.JoinRequest, *adminpb.RejoinRequest,
		*adminpb.CloneRequest, *adminpb.ForceMembersRequest:
		return func(cause error) error {
			return &remoteError{
				kind: concordat.ErrOutcomeUnknown,
				text: fmt.Sprintf("concordat: what was asked for may be done, or go on; the members' status tells: %v", cause),
			}
		}
	}
	return nil
}

// typedStream gives the errors of streams, which only read, their types.
func typedStream(ctx context.Context, desc *grpc.StreamDesc, conn *grpc.ClientConn, method string,
	open grpc.Streamer, opts ...grpc.CallOption,
) (grpc.ClientStream, error) {
	stream, err := open(ctx, desc, conn, method, opts...)
	if err != nil {
		return nil, fromStatus(err, nil)
	}
	return &typedClientStream{stream}, nil
}

type typedClientStream struct{ grpc.ClientStream }

func (s *typedClientStream) RecvMsg(m any) error {
	err := s.ClientStream.RecvMsg(m)
	if errors.Is(err, io.EOF) {
		return err
	}
	return fromStatus(err, nil)
}
