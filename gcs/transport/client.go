package transport

import (
	"context"
	"crypto/tls"
	"fmt"

	"google.golang.org/grpc"

	"github.com/concordatdb/concordat/gcs"
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

// IdentityOf returns how a member without a Transport presents itself, which
// answers at address when it runs.
func IdentityOf(id gcs.Identity, address string) *peerpb.Identity {
	return self{Identity: id, address: address}.proto()
}

// Identity returns how this member presents itself, in whatever it asks of
// another one.
func (t *Transport) Identity() *peerpb.Identity { return t.identity().proto() }

// Join asks the member at addr to take the one described by req into the
// group. c is as in [Config.TLS]. The error of a refusal wraps a *RefusedError;
// of one for which nobody listens at addr, [Refused] is true. A member that does
// not lead answers with the address of the one that does.
func Join(ctx context.Context, addr string, req *peerpb.JoinRequest, c *tls.Config) (*peerpb.JoinResponse, error) {
	return call("join", addr, c, func(peer peerpb.PeerClient) (*peerpb.JoinResponse, error) {
		return peer.Join(ctx, req)
	})
}

// Change asks the member at addr to change the membership. c and the errors are
// as for [Join]. A member that does not lead answers with the address of the one
// that does.
func Change(ctx context.Context, addr string, req *peerpb.ChangeRequest, c *tls.Config) (*peerpb.ChangeResponse, error) {
	return call("change of the membership", addr, c, func(peer peerpb.PeerClient) (*peerpb.ChangeResponse, error) {
		return peer.Change(ctx, req)
	})
}

// Survey asks the member at addr what it knows of the group and holds of its
// log; asker is who asks. c and the errors are as for [Join].
func Survey(ctx context.Context, addr string, asker *peerpb.Identity, c *tls.Config) ([]byte, error) {
	return call("survey", addr, c, func(peer peerpb.PeerClient) ([]byte, error) {
		response, err := peer.Survey(ctx, &peerpb.SurveyRequest{Identity: asker}, payloadLimit())
		return response.GetSurvey(), err
	})
}

// Order has the member at addr take a step of forcing the membership, and
// returns what came of it; asker is who orders. c and the errors are as for
// [Join]. After an error that is no *RefusedError the step may have been taken.
func Order(ctx context.Context, addr string, asker *peerpb.Identity, order []byte, c *tls.Config) ([]byte, error) {
	return call("order", addr, c, func(peer peerpb.PeerClient) ([]byte, error) {
		response, err := peer.Order(ctx, &peerpb.OrderRequest{Identity: asker, Order: order}, payloadLimit())
		return response.GetAnswer(), err
	})
}

// Lineage asks the member at addr of which incarnation it is, and of which ones
// that came; asker is who asks. c and the errors are as for [Join]; an answer
// that makes no sense is an error too.
func Lineage(ctx context.Context, addr string, asker *peerpb.Identity, c *tls.Config) (Ancestry, error) {
	return call("lineage", addr, c, func(peer peerpb.PeerClient) (Ancestry, error) {
		response, err := peer.Lineage(ctx, &peerpb.LineageRequest{Identity: asker})
		if err != nil {
			return Ancestry{}, err
		}
		return parseAncestry(response)
	})
}

// payloadLimit lets answers of MaxPayloadBytes in.
func payloadLimit() grpc.CallOption {
	const overhead = 1 << 10
	return grpc.MaxCallRecvMsgSize(MaxPayloadBytes + overhead)
}

// call makes one call at addr, on a connection of its own.
func call[T any](what, addr string, c *tls.Config, f func(peerpb.PeerClient) (T, error)) (T, error) {
	var none T
	var d dialing
	conn, err := grpc.NewClient("passthrough:///"+addr, append(clientOptions(c), d.option())...)
	if err != nil {
		return none, fmt.Errorf("transport: %s at %s: %w", what, addr, err)
	}
	defer conn.Close()
	response, err := f(peerpb.NewPeerClient(conn))
	if err != nil {
		return none, fmt.Errorf("transport: %s at %s: %w", what, addr, d.explain(err))
	}
	return response, nil
}
