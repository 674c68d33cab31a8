package transport

import (
	"bytes"
	"context"
	"errors"
	"io"
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

func clonePattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i ^ i>>8 ^ i>>16)
	}
	return b
}

func TestClone(t *testing.T) {
	a := start(t, 1)
	b := start(t, 2)
	for _, size := range []int{0, 1, cloneChunkBytes, 3*cloneChunkBytes + 17} {
		want := clonePattern(size)
		a.clone = func(_ context.Context, w io.Writer) error {
			half := len(want) / 2
			if _, err := w.Write(want[:half]); err != nil {
				return err
			}
			_, err := w.Write(want[half:])
			return err
		}
		r, err := Clone(t.Context(), a.address, &peerpb.CloneRequest{Identity: b.Identity()}, nil)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(r)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("clone of %d bytes: got %d bytes, %v", size, len(got), err)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
}

// readClone clones from that address and returns how it ended.
func readClone(t *testing.T, address string, id *peerpb.Identity) ([]byte, error) {
	t.Helper()
	r, err := Clone(t.Context(), address, &peerpb.CloneRequest{Identity: id}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	return io.ReadAll(r)
}

func TestCloneFails(t *testing.T) {
	a := start(t, 1)
	a.clone = func(_ context.Context, w io.Writer) error {
		if _, err := w.Write(clonePattern(2 * cloneChunkBytes)); err != nil {
			return err
		}
		return errors.New("the disk is gone")
	}
	got, err := readClone(t, a.address, start(t, 2).Identity())
	if err == nil || !strings.Contains(err.Error(), "the disk is gone") || !strings.Contains(err.Error(), "broke off at byte 524288") {
		t.Errorf("got %d bytes, %v", len(got), err)
	}
	stranger := start(t, 3, func(c *Config) { c.Identity.Incarnation = gtid.UUID{1} })
	_, err = readClone(t, a.address, stranger.Identity())
	if r, ok := errors.AsType[*RefusedError](err); !ok || r.Reason != peerpb.RefusalReason_REFUSAL_REASON_WRONG_INCARNATION {
		t.Errorf("a stranger's clone gives %v", err)
	}
}

// A clone ends with the transport that serves it, and with its reader.
func TestCloneIsInterrupted(t *testing.T) {
	a, b := start(t, 1), start(t, 2)
	ended := make(chan error, 1)
	a.clone = func(ctx context.Context, w io.Writer) error {
		var err error
		for block := clonePattern(cloneChunkBytes); err == nil && ctx.Err() == nil; {
			_, err = w.Write(block)
		}
		ended <- errors.Join(err, ctx.Err())
		return ctx.Err()
	}
	for _, interrupt := range []func(io.Closer) error{io.Closer.Close, func(io.Closer) error { return a.Close() }} {
		r, err := Clone(t.Context(), a.address, &peerpb.CloneRequest{Identity: b.Identity()}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(r, make([]byte, 1000)); err != nil {
			t.Fatal(err)
		}
		if err := interrupt(r); err != nil {
			t.Fatal(err)
		}
		if <-ended == nil {
			t.Error("the clone was not interrupted")
		}
		if _, err := io.Copy(io.Discard, r); err == nil {
			t.Error("an interrupted clone looks complete")
		}
		r.Close()
	}
}

// liar is a server that does not do what a member does.
type liar struct {
	peerpb.UnimplementedPeerServer
	chunks  []*peerpb.CloneChunk
	answers []*peerpb.ConnectResponse
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

func TestCloneIsVerified(t *testing.T) {
	for name, test := range map[string]struct {
		chunks []*peerpb.CloneChunk
		want   error
	}{
		"checksum": {[]*peerpb.CloneChunk{{Data: []byte("abc"), Crc32C: 1}, {Last: true}}, ErrCloneCorrupt},
		"cut off":  {[]*peerpb.CloneChunk{{Data: []byte("abc"), Crc32C: 0x364b3fb7}}, io.ErrUnexpectedEOF},
	} {
		t.Run(name, func(t *testing.T) {
			if got, err := readClone(t, liar{chunks: test.chunks}.serve(t), nil); !errors.Is(err, test.want) {
				t.Errorf("got %q, %v, want %v", got, err, test.want)
			}
		})
	}
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
