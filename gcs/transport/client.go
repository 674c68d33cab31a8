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
	conn, err := grpc.NewClient("passthrough:///"+addr, clientOptions(c)...)
	if err != nil {
		return nil, fmt.Errorf("transport: join at %s: %w", addr, err)
	}
	defer conn.Close()
	response, err := peerpb.NewPeerClient(conn).Join(ctx, req)
	if err != nil {
		return nil, fmt.Errorf("transport: join at %s: %w", addr, fromStatus(err))
	}
	return response, nil
}
