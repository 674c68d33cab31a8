package concordat

import (
	"bytes"
	"context"
	"fmt"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/concordatdb/concordat/gcs"
	"github.com/concordatdb/concordat/gcs/transport"
	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/internal/forced"
	"github.com/concordatdb/concordat/proto/concordat/peer/v1"
)

// Change implements [transport.Handler].
func (h *peerHandler) Change(ctx context.Context, req *peerpb.ChangeRequest) (*peerpb.ChangeResponse, error) {
	n := (*Node)(h)
	view := n.known().View
	change := gcs.Change{Kind: gcs.Removed, Member: gcs.Member{RaftID: req.GetRaftId()}, Reason: req.GetReason()}
	for _, m := range view.Members {
		if m.RaftID == req.GetRaftId() || bytes.Equal(m.UUID[:], req.GetMember()) {
			change.Member = m
		}
	}
	a, err := n.askChange(ctx, change)
	switch {
	case err != nil:
		return nil, notOnline(err.Error())
	case a.Refused != nil:
		return nil, &transport.RefusedError{Reason: peerpb.RefusalReason_REFUSAL_REASON_NOT_ALLOWED, Text: a.Refused.Error()}
	}
	r := &peerpb.ChangeResponse{Done: a.Done, LeaderAddress: a.Leader.Address, Members: identities(a.View)}
	return r, nil
}

// Lineage implements [transport.Handler].
func (h *peerHandler) Lineage(context.Context, *peerpb.Identity) (transport.Ancestry, error) {
	s := (*Node)(h).known()
	a := transport.Ancestry{Incarnation: s.View.Incarnation}
	for _, f := range s.Forks {
		a.Forks = append(a.Forks, transport.Fork{Incarnation: f.Incarnation, Index: f.Index})
	}
	return a, nil
}

// Survey implements [transport.Handler].
func (h *peerHandler) Survey(ctx context.Context, _ *peerpb.Identity) ([]byte, error) {
	s, err := (*Node)(h).ownSurvey(ctx)
	if err != nil {
		return nil, unavailable(err.Error())
	}
	return s.Append(nil), nil
}

// Order implements [transport.Handler].
func (h *peerHandler) Order(ctx context.Context, asker *peerpb.Identity, order []byte) ([]byte, error) {
	r, err := forced.DecodeRequest(order)
	if err != nil {
		return nil, &transport.RefusedError{Reason: peerpb.RefusalReason_REFUSAL_REASON_MALFORMED_REQUEST, Text: err.Error()}
	}
	n := (*Node)(h)
	n.note(EventForce, n.id.Member, "asked by the member at %s to %s", asker.GetAddress(), r.Step)
	a, err := n.takeStep(ctx, r)
	if err != nil {
		return nil, unavailable(err.Error())
	}
	return a.Append(nil), nil
}

// Entries implements [transport.Handler].
func (h *peerHandler) Entries(ctx context.Context, req *peerpb.EntriesRequest, send func(*raftpb.Entry) error) error {
	n := (*Node)(h)
	var plan gtid.UUID
	if copy(plan[:], req.GetPlanId()) != len(req.GetPlanId()) {
		return &transport.RefusedError{Reason: peerpb.RefusalReason_REFUSAL_REASON_MALFORMED_REQUEST, Text: "the plan's id is not a UUID"}
	}
	part := n.partNow()
	if err := part.Serve(plan, req.GetFirst(), req.GetLast()); err != nil {
		return unavailable(err.Error())
	}
	const portion = 1 << 20
	for index := req.GetFirst(); index <= req.GetLast(); {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		entries, err := n.log.Entries(index, req.GetLast()+1, portion)
		if err != nil {
			return err
		}
		if len(entries) == 0 { // the disk has failed, and said so elsewhere
			return unavailable(fmt.Sprintf("its log cannot be read at entry %d", index))
		}
		for _, e := range entries {
			if err := send(e); err != nil {
				return err
			}
		}
		index += uint64(len(entries))
	}
	return nil
}

// unavailable refuses for now.
func unavailable(why string) error {
	return &transport.RefusedError{Reason: peerpb.RefusalReason_REFUSAL_REASON_NOT_ONLINE, Text: why}
}
