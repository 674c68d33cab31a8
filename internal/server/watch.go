package server

import (
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/concordatdb/concordat"
	"github.com/concordatdb/concordat/proto/concordat/kv/v1"
)

// keepAlive is after how long without a change a watcher hears the same again.
const keepAlive = time.Second

// board shows what the member knows of its group to all who watch. It keeps the
// newest only: who looks seldom misses what was between.
type board struct {
	mu    sync.Mutex
	shown *kvpb.WatchResponse // which nobody changes any more
	news  chan struct{}       // closed when something else is shown that matters
}

// show replaces what is shown, and wakes those who wait if it says something new.
func (b *board) show(r *kvpb.WatchResponse) {
	b.mu.Lock()
	defer b.mu.Unlock()
	same := b.shown != nil && proto.Equal(essence(b.shown), essence(r))
	b.shown = r
	if !same && b.news != nil {
		close(b.news)
		b.news = nil
	}
}

// look returns what is shown, nil if that is nothing yet, and what is closed when
// there are news.
func (b *board) look() (*kvpb.WatchResponse, <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.news == nil {
		b.news = make(chan struct{})
	}
	return b.shown, b.news
}

// essence is what of an answer is news when it changes: all but how far the members
// are.
func essence(r *kvpb.WatchResponse) *kvpb.WatchResponse {
	e := proto.CloneOf(r)
	e.Index = 0
	for _, n := range e.GetNodes() {
		n.Applied, n.FreshNanos = 0, nil
	}
	return e
}

// Watch implements kvpb.KVServer.
func (k *kv) Watch(_ *kvpb.WatchRequest, stream grpc.ServerStreamingServer[kvpb.WatchResponse]) error {
	s := k.server
	if _, err := s.current(); err != nil {
		return toStatus(err)
	}
	again := time.NewTimer(keepAlive)
	defer again.Stop()
	for {
		shown, news := s.board.look()
		if shown != nil {
			// It waits while the client is slow, which then hears the newest.
			if err := stream.Send(shown); err != nil {
				return err
			}
			again.Reset(keepAlive)
		}
		select {
		case <-news:
		case <-again.C:
		case <-stream.Context().Done():
			return toStatus(stream.Context().Err())
		case <-s.lifetime.Done():
			return toStatus(concordat.ErrClosed)
		}
	}
}

// sight is what a node knows of its group.
func sight(n *concordat.Node) *kvpb.WatchResponse {
	s := n.Status()
	r := &kvpb.WatchResponse{
		Group: uuidText(s.Group), Incarnation: uuidText(s.Incarnation), Self: uuidText(s.Member),
		Epoch: s.Epoch, Index: s.Delivered, View: s.View.ID, Mode: kvpb.Mode(s.Mode), Primary: uuidText(s.Primary),
		Quorum: s.Quorum, Alone: s.Alone, Writable: s.Writable, ActionOpen: s.Action != nil,
	}
	epochs := n.Epochs()
	if i := slices.IndexFunc(epochs, func(e concordat.EpochRecord) bool { return e.Number == s.Epoch }); i >= 0 {
		r.EpochIndex = epochs[i].Index
	}
	for i := range s.View.Members {
		m := &s.View.Members[i]
		node := &kvpb.Node{
			Uuid: m.UUID.String(), ClientAddress: m.ClientAddress, State: string(m.State), Writes: m.Writes, Applied: m.Applied,
		}
		fresh := m.Fresh
		if m.UUID == s.Member {
			node.State, node.Applied, fresh = string(s.State), s.Applied, s.Fresh
		}
		if fresh >= 0 {
			node.FreshNanos = new(int64(fresh))
		}
		r.Nodes = append(r.Nodes, node)
	}
	return r
}
