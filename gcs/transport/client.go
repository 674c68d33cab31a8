package transport

import (
	"context"
	"crypto/tls"
	"fmt"

	"google.golang.org/grpc"

	"github.com/concordatdb/concordat/proto/concordat/peer/v1"
)

// clientOptions are those of every connection that this member makes.
func clientOptions(c *tls.Config) []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithTransportCredentials(transportCredentials(c)),
		grpc.WithNoProxy(),
		grpc.WithDisableRetry(),
		grpc.WithDisableServiceConfig(),
	}
}

// Identity returns how this member presents itself, for a JoinRequest or a
// CloneRequest.
func (t *Transport) Identity() *peerpb.Identity { return t.identity().proto() }

// Join asks the member at addr to take the one described by req into the
// group. c is as in [Config.TLS]. The error of a refusal wraps a *RefusedError.
// A member that does not lead answers with the address of the one that does.
func Join(ctx context.Context, addr string, req *peerpb.JoinRequest, c *tls.Config) (*peerpb.JoinResponse, error) {
	response, err := call(addr, c, func(peer peerpb.PeerClient) (*peerpb.JoinResponse, error) { return peer.Join(ctx, req) })
	if err != nil {
		return nil, fmt.Errorf("transport: join at %s: %w", addr, err)
	}
	return response, nil
}

// call makes one call at addr, on a connection of its own.
func call[T any](addr string, c *tls.Config, f func(peerpb.PeerClient) (T, error)) (response T, err error) {
	var d dialing
	conn, err := grpc.NewClient("passthrough:///"+addr, append(clientOptions(c), d.option())...)
	if err != nil {
		return response, err
	}
	defer conn.Close()
	if response, err = f(peerpb.NewPeerClient(conn)); err != nil {
		return response, d.explain(err)
	}
	return response, nil
}
