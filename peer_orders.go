package concordat

import (
	"context"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/concordatdb/concordat/gcs/transport"
	"github.com/concordatdb/concordat/proto/concordat/peer/v1"
)

// Change implements [transport.Handler].
func (h *peerHandler) Change(context.Context, *peerpb.ChangeRequest) (*peerpb.ChangeResponse, error) {
	return nil, cannotNow("change the membership")
}

// Survey implements [transport.Handler].
func (h *peerHandler) Survey(context.Context, *peerpb.Identity) ([]byte, error) {
	return nil, cannotNow("be surveyed")
}

// Order implements [transport.Handler].
func (h *peerHandler) Order(context.Context, *peerpb.Identity, []byte) ([]byte, error) {
	return nil, cannotNow("take orders")
}

// Entries implements [transport.Handler].
func (h *peerHandler) Entries(context.Context, *peerpb.EntriesRequest, func(*raftpb.Entry) error) error {
	return cannotNow("give entries of its log")
}

// Lineage implements [transport.Handler].
func (h *peerHandler) Lineage(context.Context, *peerpb.Identity) (transport.Ancestry, error) {
	return transport.Ancestry{}, cannotNow("tell where its incarnation came from")
}

func cannotNow(do string) error {
	return &transport.RefusedError{
		Reason: peerpb.RefusalReason_REFUSAL_REASON_NOT_ONLINE,
		Text:   "this member cannot " + do + " now; ask another one",
	}
}
