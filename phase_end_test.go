package concordat

import (
	"context"
	"errors"
	"log/slog"
	"testing"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/concordatdb/concordat/gcs"
	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/internal/forced"
	"github.com/concordatdb/concordat/internal/replica"
	"github.com/concordatdb/concordat/proto/concordat/peer/v1"
)

func newQuietNode() *Node {
	n, _ := newTestNode()
	n.logger = slog.New(slog.DiscardHandler)
	return n
}

// An order that comes at the moment at which the group lets the member go does
// not make it forget that.
func TestExitBesideOrder(t *testing.T) {
	ctx, interrupt := context.WithCancel(t.Context())
	interrupt()
	n := newQuietNode()
	if next := n.afterLife(ctx, ending{exit: replica.ExitLeft}); next == nil || !n.left.Load() || n.state() != Offline {
		t.Errorf("left: %t, it is %s", n.left.Load(), n.state())
	}
	n = newQuietNode()
	if next := n.afterLife(ctx, ending{exit: replica.ExitRemoved}); next == nil {
		t.Error("a removed member goes on as if it was in the group")
	}
	n = newQuietNode()
	if n.afterLife(ctx, ending{}) != nil || n.afterLife(ctx, ending{cloneFrom: 1}) != nil {
		t.Error("a life that was ended leads on by itself")
	}
}

// unreadable is a log whose disk has failed.
type unreadable struct{ gcs.Log }

func (unreadable) Entries(uint64, uint64, uint64) ([]*raftpb.Entry, error) { return nil, nil }

// Who serves entries of a log ends when the log cannot be read, and when nobody
// wants them any more.
func TestEntriesEnd(t *testing.T) {
	plan := gtid.UUID{1}
	n, _ := newTestNode()
	n.log = unreadable{}
	n.part.Store(&forced.Record{Phase: forced.Frozen, Order: forced.Order{Plan: plan}, Facts: forced.Facts{First: 1, Last: 9}})
	req := &peerpb.EntriesRequest{PlanId: plan[:], First: 1, Last: 9}
	send := func(*raftpb.Entry) error { return nil }
	if err := (*peerHandler)(n).Entries(t.Context(), req, send); err == nil {
		t.Error("nothing was sent, and it says that all was")
	}
	ended, end := context.WithCancel(t.Context())
	end()
	if err := (*peerHandler)(n).Entries(ended, req, send); !errors.Is(err, context.Canceled) {
		t.Errorf("the asker has gone: %v", err)
	}
}
