package server

import (
	"context"
	"errors"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/concordatdb/concordat"
	"github.com/concordatdb/concordat/proto/concordat/kv/v1"
)

func openWatch(t testing.TB, c *Client) grpc.ServerStreamingClient[kvpb.WatchResponse] {
	t.Helper()
	stream, err := c.Watch(testContext(t), &kvpb.WatchRequest{})
	if err != nil {
		t.Fatal(err)
	}
	return stream
}

// next returns the first answer that meets a condition.
func next(t testing.TB, stream grpc.ServerStreamingClient[kvpb.WatchResponse], meets func(*kvpb.WatchResponse) bool) *kvpb.WatchResponse {
	t.Helper()
	for {
		r, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if meets(r) {
			return r
		}
	}
}

func single(c *concordat.Config) {
	c.FoundingMode, c.ClientAddress = concordat.SinglePrimary, "db.example:7500"
}

func multi(c *concordat.Config) { c.FoundingMode = concordat.MultiPrimary }

// Who watches hears at once what is so, and then what changes.
func TestWatch(t *testing.T) {
	ctx := testContext(t)
	n := openNode(t, single)
	_, c := start(t, n, Config{})
	stream := openWatch(t, c)
	r := next(t, stream, func(r *kvpb.WatchResponse) bool { return r.GetWritable() })
	s := n.Status()
	self := s.Member.String()
	if r.GetGroup() != s.Group.String() || r.GetIncarnation() != s.Incarnation.String() || r.GetSelf() != self ||
		r.GetEpoch() != 1 || r.GetEpochIndex() == 0 || r.GetIndex() < r.GetEpochIndex() || r.GetView() != s.View.ID ||
		r.GetMode() != kvpb.Mode_MODE_SINGLE_PRIMARY || r.GetPrimary() != self || !r.GetQuorum() || r.GetAlone() || r.GetActionOpen() {
		t.Errorf("%v of %+v", r, s)
	}
	if len(r.GetNodes()) != 1 {
		t.Fatalf("members %v", r.GetNodes())
	}
	if m := r.GetNodes()[0]; m.GetUuid() != self || m.GetClientAddress() != "db.example:7500" || m.GetState() != "ONLINE" || !m.GetWrites() || m.GetApplied() == 0 {
		t.Errorf("member %v", m)
	}
	if _, err := n.SwitchToMultiPrimary(ctx); err != nil {
		t.Fatal(err)
	}
	r = next(t, stream, func(r *kvpb.WatchResponse) bool { return r.GetEpoch() == 2 })
	if r.GetMode() != kvpb.Mode_MODE_MULTI_PRIMARY || r.GetPrimary() != "" || !r.GetNodes()[0].GetWrites() {
		t.Errorf("after the switch %v", r)
	}
}

// Who watches hears something also where nothing changes.
func TestWatchKeepsAlive(t *testing.T) {
	t.Parallel()
	_, c := start(t, openNode(t, single), Config{})
	stream := openWatch(t, c)
	next(t, stream, func(r *kvpb.WatchResponse) bool { return r.GetWritable() })
	began := time.Now()
	next(t, stream, func(*kvpb.WatchResponse) bool { return true })
	if waited := time.Since(began); waited > 10*keepAlive {
		t.Errorf("nothing was heard for %v", waited)
	}
}

func TestWatchEndsWithTheServer(t *testing.T) {
	server, c := start(t, nil, Config{})
	stream := openWatch(t, c)
	if _, err := stream.Recv(); !errors.Is(err, concordat.ErrNotOnline) {
		t.Errorf("before there is a node: %v", err)
	}
	server.SetNode(openNode(t))
	stream = openWatch(t, c)
	next(t, stream, func(*kvpb.WatchResponse) bool { return true })
	stopped := make(chan struct{})
	go func() {
		server.Stop(testContext(t))
		close(stopped)
	}()
	var err error
	for err == nil {
		_, err = stream.Recv()
	}
	if !errors.Is(err, concordat.ErrClosed) {
		t.Errorf("after the end: %v", err)
	}
	<-stopped
}

// The board keeps the newest, and rings only for what matters.
func TestBoard(t *testing.T) {
	var b board
	show := func(epoch, index uint64) {
		b.show(&kvpb.WatchResponse{Epoch: epoch, Index: index, Nodes: []*kvpb.Node{{Applied: index, FreshNanos: new(int64(index))}}})
	}
	rung := func(news <-chan struct{}) bool {
		select {
		case <-news:
			return true
		default:
			return false
		}
	}
	shown, news := b.look()
	if shown != nil || rung(news) {
		t.Fatalf("in the beginning %v", shown)
	}
	if show(1, 10); !rung(news) {
		t.Error("the first thing shown is no news")
	}
	_, news = b.look()
	show(1, 11)
	if now, _ := b.look(); rung(news) || now.GetIndex() != 11 || now.GetNodes()[0].GetApplied() != 11 {
		t.Errorf("rang for %v, or does not show it", now)
	}
	show(2, 11)
	show(3, 11)
	if now, _ := b.look(); !rung(news) || now.GetEpoch() != 3 {
		t.Errorf("after two epochs it shows %v", now)
	}
}

// The health service tells whether the member takes writes.
func TestWritableIsHealth(t *testing.T) {
	n := openNode(t, single)
	server, c := start(t, nil, Config{})
	health := grpc_health_v1.NewHealthClient(c.conn)
	watch, err := health.Watch(testContext(t), &grpc_health_v1.HealthCheckRequest{Service: Writable})
	if err != nil {
		t.Fatal(err)
	}
	if r, err := watch.Recv(); err != nil || r.GetStatus() != grpc_health_v1.HealthCheckResponse_NOT_SERVING {
		t.Errorf("without a node: %v, %v", r, err)
	}
	server.SetNode(n)
	if r, err := watch.Recv(); err != nil || r.GetStatus() != grpc_health_v1.HealthCheckResponse_SERVING {
		t.Errorf("with a primary: %v, %v", r, err)
	}
	ctx, cancel := context.WithTimeout(testContext(t), 20*time.Second)
	defer cancel()
	if err := n.Leave(ctx); err == nil {
		if r, err := watch.Recv(); err != nil || r.GetStatus() != grpc_health_v1.HealthCheckResponse_NOT_SERVING {
			t.Errorf("after it has left: %v, %v", r, err)
		}
	}
}
