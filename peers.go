package concordat

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/concordatdb/concordat/gcs"
	"github.com/concordatdb/concordat/gcs/transport"
	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/internal/replica"
	"github.com/concordatdb/concordat/proto/concordat/peer/v1"
)

// askAgain is the pause between two rounds of asking members for something
// that they cannot give at once.
const askAgain = 100 * time.Millisecond

// peerHandler is what the transport sees of a node.
type peerHandler Node

// Receive implements [transport.Handler].
func (h *peerHandler) Receive(ctx context.Context, from uint64, msgs []gcs.Message) {
	if l := h.life.Load(); l != nil {
		l.inbox.putPeer(ctx, from, msgs)
	}
}

// PeerUp implements [transport.Handler].
func (h *peerHandler) PeerUp(uint64) {}

// PeerDown implements [transport.Handler]: what was under way to the peer may
// be lost.
func (h *peerHandler) PeerDown(raftID uint64, _ error) {
	if l := h.life.Load(); l != nil {
		l.inbox.put(replica.Unreachable{RaftID: raftID})
	}
}

// Join implements [transport.Handler].
func (h *peerHandler) Join(ctx context.Context, req *peerpb.JoinRequest) (*peerpb.JoinResponse, error) {
	l := h.life.Load()
	if l == nil {
		return &peerpb.JoinResponse{}, nil // ask another member, or later
	}
	id := req.GetIdentity()
	m := gcs.Member{RaftID: id.GetRaftId(), Address: id.GetAddress(), Version: req.GetVersion(), Weight: req.GetWeight()}
	copy(m.UUID[:], id.GetMember())
	ticket, answers := l.joins.add()
	defer l.joins.drop(ticket)
	l.inbox.put(replica.JoinAsked{Ticket: ticket, Member: m})
	select {
	case a := <-answers:
		return joinResponse(m, a)
	case <-l.done:
		return &peerpb.JoinResponse{}, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func joinResponse(asker gcs.Member, a gcs.JoinAnswer) (*peerpb.JoinResponse, error) {
	refusal := ""
	if a.Refused != nil {
		refusal = a.Refused.Error()
	} else if known, _ := a.View.Member(asker.RaftID); a.Joined && known.Address != asker.Address {
		refusal = fmt.Sprintf("the group already knows this member at %s, not at %s; listen there, or empty its directory to join anew",
			known.Address, asker.Address)
	}
	if refusal != "" {
		return nil, &transport.RefusedError{Reason: peerpb.RefusalReason_REFUSAL_REASON_IDENTITY_TAKEN, Text: refusal}
	}
	r := &peerpb.JoinResponse{Accepted: a.Joined, LeaderAddress: a.Leader.Address, Incarnation: a.View.Incarnation[:]}
	for _, m := range a.View.Members {
		r.Members = append(r.Members, &peerpb.Identity{Member: m.UUID[:], RaftId: m.RaftID, Address: m.Address})
	}
	return r, nil
}

// join asks the seeds, and whom they name, until the group has this member in
// its view. The group's own decision is final when it is a refusal; everything
// else can change.
func (n *Node) join(ctx context.Context) error {
	req := &peerpb.JoinRequest{Identity: n.transport.Identity(), Version: Version, Weight: uint32(n.cfg.MemberWeight)}
	var last error
	for {
		ask := append([]string(nil), n.cfg.Seeds...)
		for i := 0; i < len(ask) && i <= 2*gcs.MaxMembers; i++ {
			response, err := n.askToJoin(ctx, ask[i], req)
			n.learnIncarnation(response)
			var refused *transport.RefusedError
			switch {
			case errors.As(err, &refused):
				return fmt.Errorf("%w: %w", ErrJoinRefused, err)
			case err != nil:
				last = err
			case response.GetAccepted():
				return n.joined(response)
			case response.GetLeaderAddress() != "" && response.GetLeaderAddress() != ask[i]:
				ask = append(ask, response.GetLeaderAddress())
			}
		}
		select {
		case <-time.After(askAgain):
		case <-ctx.Done():
			if last == nil {
				last = errors.New("no member could add this one; the group may be without a leader or a quorum")
			}
			return fmt.Errorf("concordat: join through seeds %v: %w: %w", n.cfg.Seeds, context.Cause(ctx), last)
		}
	}
}

func (n *Node) askToJoin(ctx context.Context, address string, req *peerpb.JoinRequest) (*peerpb.JoinResponse, error) {
	const patience = 5 * time.Second // for one member; others can be asked
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return transport.Join(ctx, address, req, n.cfg.TLS)
}

// learnIncarnation takes note of the group's incarnation as soon as any member
// names it, so that the leader's stream is not refused when it comes.
func (n *Node) learnIncarnation(r *peerpb.JoinResponse) {
	var incarnation gtid.UUID
	if copy(incarnation[:], r.GetIncarnation()) == len(incarnation) && !incarnation.IsZero() {
		n.id.Incarnation = incarnation
		n.transport.SetIdentity(n.id)
	}
}

func (n *Node) joined(r *peerpb.JoinResponse) error {
	if n.id.Incarnation.IsZero() {
		return errors.New("concordat: join: the group's answer names no incarnation; it runs another version")
	}
	if err := n.log.SetIdentity(n.id); err != nil {
		return err
	}
	peers := map[uint64]string{}
	for _, m := range r.GetMembers() {
		peers[m.GetRaftId()] = m.GetAddress()
	}
	n.transport.SetPeers(peers)
	return nil
}
