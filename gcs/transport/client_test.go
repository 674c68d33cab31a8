package transport

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/proto/concordat/peer/v1"
)

func TestJoin(t *testing.T) {
	a := start(t, 1)
	var asked *peerpb.JoinRequest
	a.join = func(req *peerpb.JoinRequest) (*peerpb.JoinResponse, error) {
		asked = req
		return &peerpb.JoinResponse{LeaderAddress: "10.0.0.3:7400"}, nil
	}
	joiner := start(t, 2, func(c *Config) { c.Identity.Incarnation = gtid.UUID{} })
	response, err := Join(t.Context(), a.address, &peerpb.JoinRequest{Identity: joiner.Identity(), Version: 1, Weight: 50}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if response.GetLeaderAddress() != "10.0.0.3:7400" || asked.GetWeight() != 50 ||
		asked.GetIdentity().GetRaftId() != 2 || asked.GetIdentity().GetAddress() != joiner.address {
		t.Errorf("asked %v, answered %v", asked, response)
	}
}

func TestJoinRefused(t *testing.T) {
	a := start(t, 1)
	refused := func(cause string, joiner node, want peerpb.RefusalReason) {
		t.Helper()
		_, err := Join(t.Context(), a.address, &peerpb.JoinRequest{Identity: joiner.Identity()}, nil)
		if r, ok := errors.AsType[*RefusedError](err); !ok || r.Reason != want {
			t.Errorf("%s: got %v, want %v", cause, err, want)
		}
	}
	stranger := start(t, 2, func(c *Config) { c.Identity.Group = gtid.UUID{1} })
	refused("another group", stranger, peerpb.RefusalReason_REFUSAL_REASON_WRONG_GROUP)
	a.logged(t, "peer refused", "belongs to group 01000000-")
	a.join = func(*peerpb.JoinRequest) (*peerpb.JoinResponse, error) {
		return nil, &RefusedError{Reason: peerpb.RefusalReason_REFUSAL_REASON_NO_QUORUM, Text: "no majority"}
	}
	refused("the handler", start(t, 3), peerpb.RefusalReason_REFUSAL_REASON_NO_QUORUM)
	a.logged(t, "peer refused", "no majority")
}

func TestJoinUnreachable(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	_, err = Join(t.Context(), address, &peerpb.JoinRequest{}, nil)
	if err == nil || !strings.Contains(err.Error(), address) {
		t.Errorf("the error does not name the seed: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if _, err := Join(ctx, deaf(t), &peerpb.JoinRequest{}, nil); status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("a deaf seed gives %v", err)
	}
}

// liar is a server that does not do what a member does.
type liar struct {
	peerpb.UnimplementedPeerServer
	chunks  []*peerpb.CloneChunk
	answers []*peerpb.ConnectResponse
	entries []*peerpb.EntriesChunk
}

func (l liar) Clone(_ *peerpb.CloneRequest, stream grpc.ServerStreamingServer[peerpb.CloneChunk]) error {
	for _, c := range l.chunks {
		if err := stream.Send(c); err != nil {
			return err
		}
	}
	return nil
}

func (l liar) Connect(stream serverStream) error {
	for _, a := range l.answers {
		if err := stream.Send(a); err != nil {
			return err
		}
	}
	<-stream.Context().Done()
	return nil
}

// serve runs the liar and returns its address.
func (l liar) serve(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	peerpb.RegisterPeerServer(server, l)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		<-served
	})
	return listener.Addr().String()
}

// The dialer, too, looks at who answers.
func TestWelcomeIsChecked(t *testing.T) {
	a := start(t, 1)
	welcome := func(change func(*peerpb.Identity)) *peerpb.ConnectResponse {
		id := start(t, 2).Identity()
		change(id)
		return &peerpb.ConnectResponse{Welcome: &peerpb.Welcome{Identity: id}}
	}
	for _, test := range []struct {
		change func(*peerpb.Identity)
		want   peerpb.RefusalReason
	}{
		{func(id *peerpb.Identity) { id.Group = make([]byte, 16) }, peerpb.RefusalReason_REFUSAL_REASON_WRONG_GROUP},
		{func(id *peerpb.Identity) { id.Incarnation = make([]byte, 16) }, peerpb.RefusalReason_REFUSAL_REASON_WRONG_INCARNATION},
		{func(id *peerpb.Identity) { id.RaftId = 5 }, peerpb.RefusalReason_REFUSAL_REASON_NOT_THIS_MEMBER},
	} {
		impostor := liar{answers: []*peerpb.ConnectResponse{welcome(test.change)}}
		a.SetPeers(map[uint64]string{2: impostor.serve(t)})
		a.refused(t, 2, test.want)
	}
	if a.wasUp(2) {
		t.Error("an impostor was believed")
	}
	right := welcome(func(*peerpb.Identity) {})
	a.SetPeers(map[uint64]string{2: liar{answers: []*peerpb.ConnectResponse{right, right}}.serve(t)})
	a.logged(t, "no stream to peer", "unexpected answer")
}
