package concordat

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/concordatdb/concordat/election"
	"github.com/concordatdb/concordat/gcs"
	"github.com/concordatdb/concordat/gcs/transport"
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
		return
	}
	h.recovery.hear(from)
}

// PeerUp implements [transport.Handler].
func (h *peerHandler) PeerUp(raftID uint64) {
	if l := h.life.Load(); l != nil {
		l.inbox.put(replica.Reachable{RaftID: raftID})
	}
}

// PeerDown implements [transport.Handler]: what was under way to the peer may
// be lost.
func (h *peerHandler) PeerDown(raftID uint64, reason error) {
	if l := h.life.Load(); l != nil {
		l.inbox.put(replica.Unreachable{RaftID: raftID, Refused: transport.Refused(reason)})
	}
	refused, ok := errors.AsType[*transport.RefusedError](reason)
	if ok && refused.Reason == peerpb.RefusalReason_REFUSAL_REASON_WRONG_INCARNATION {
		(*Node)(h).suspectFork(raftID)
	}
}

// Join implements [transport.Handler].
func (h *peerHandler) Join(ctx context.Context, req *peerpb.JoinRequest) (*peerpb.JoinResponse, error) {
	l := h.life.Load()
	// Who has not come as far as the view with which its incarnation began would
	// judge by the rules of an earlier one.
	began := (*Node)(h).known().View.Incarnation
	if l == nil || !bytes.Equal(h.transport.Identity().GetIncarnation(), began[:]) {
		return &peerpb.JoinResponse{}, nil // ask another member, or later
	}
	id := req.GetIdentity()
	m := gcs.Member{RaftID: id.GetRaftId(), Address: id.GetAddress(), Version: req.GetVersion(), Weight: req.GetWeight()}
	copy(m.UUID[:], id.GetMember())
	var claim replica.Claim
	if c := req.GetClaim(); c != nil {
		parsed, err := transport.ParseClaim(c)
		if err != nil {
			return nil, err
		}
		claim = claimed(parsed)
	}
	ticket, answers := l.joins.add()
	defer l.joins.drop(ticket)
	l.inbox.put(replica.JoinAsked{
		Ticket: ticket, Member: m, Replaces: req.GetReplaces(), Claim: claim, DryRun: req.GetDryRun(),
		Oldest: election.Protocol(req.GetOldestProtocol()), Newest: election.Protocol(req.GetNewestProtocol()),
	})
	select {
	case a := <-answers:
		return joinResponse(req, m, a)
	case <-l.done:
		return &peerpb.JoinResponse{}, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// claimed is what another member claims, as the group judges it.
func claimed(c transport.Claim) replica.Claim {
	out := replica.Claim{Incarnation: c.Incarnation, Index: c.Index, Term: c.Term, Terms: c.Terms, Executed: c.Executed}
	for _, f := range c.Forks {
		out.Forks = append(out.Forks, replica.Fork{Incarnation: f.Incarnation, Index: f.Index})
	}
	return out
}

// claiming is what this member claims, as it travels.
func claiming(c replica.Claim) *peerpb.Claim {
	out := transport.Claim{Incarnation: c.Incarnation, Index: c.Index, Term: c.Term, Terms: c.Terms, Executed: c.Executed}
	for _, f := range c.Forks {
		out.Forks = append(out.Forks, transport.Fork{Incarnation: f.Incarnation, Index: f.Index})
	}
	return out.Proto()
}

// identities are the members of a view as another member is told of them.
func identities(v gcs.View) (all []*peerpb.Identity) {
	for _, m := range v.Members {
		all = append(all, &peerpb.Identity{Member: m.UUID[:], RaftId: m.RaftID, Address: m.Address})
	}
	return all
}

func joinResponse(req *peerpb.JoinRequest, asker gcs.Member, answer replica.JoinAnswer) (*peerpb.JoinResponse, error) {
	a := answer.Answer
	r := &peerpb.JoinResponse{
		Accepted: a.Joined, LeaderAddress: a.Leader.Address, Incarnation: a.View.Incarnation[:], Members: identities(a.View),
	}
	if req.GetDryRun() && !answer.Quorum {
		r.Accepted, r.LeaderAddress = false, "" // in a minority nobody knows what the group has become
		return r, nil
	}
	if answer.Departed && !a.Joined && !answer.Foreign {
		r.Text, r.Reason = "the group has taken this member out; it can join anew", peerpb.RefusalReason_REFUSAL_REASON_IDENTITY_TAKEN
		return r, nil
	}
	if known, _ := a.View.Member(asker.RaftID); a.Joined && known.Address != asker.Address {
		return nil, &transport.RefusedError{Reason: peerpb.RefusalReason_REFUSAL_REASON_IDENTITY_TAKEN, Text: fmt.Sprintf(
			"the group already knows this member at %s, not at %s; listen there, or empty its directory to join anew", known.Address, asker.Address)}
	}
	if a.Refused != nil {
		return nil, refusedJoin(a.Refused, a.View, asker)
	}
	if req.GetDryRun() && !a.Joined && a.Leading {
		r.Text = "the group would take this member in"
	}
	return r, nil
}

// refusedJoin is what an asker is told that a view does not take.
func refusedJoin(reason error, v gcs.View, asker gcs.Member) error {
	r := &transport.RefusedError{Reason: peerpb.RefusalReason_REFUSAL_REASON_IDENTITY_TAKEN, Text: reason.Error()}
	if change, ok := errors.AsType[*gcs.RefusedChangeError](reason); ok {
		atItsAddress := func(m gcs.Member) bool { return m.Address == asker.Address && m.UUID != asker.UUID }
		switch {
		case change.Change.Kind == gcs.Joined && len(v.Members) >= gcs.MaxMembers:
			r.Reason = peerpb.RefusalReason_REFUSAL_REASON_GROUP_FULL
		case slices.ContainsFunc(v.Members, atItsAddress):
			r.Reason = peerpb.RefusalReason_REFUSAL_REASON_ADDRESS_TAKEN
		}
	}
	if diverged, ok := errors.AsType[*replica.DivergedError](reason); ok {
		r.Reason = peerpb.RefusalReason_REFUSAL_REASON_EXTRA_TRANSACTIONS
		r.Extra, r.CommonIndex = diverged.Extra.String(), diverged.Common
	}
	if _, ok := errors.AsType[*election.IncompatibleError](reason); ok {
		r.Reason = peerpb.RefusalReason_REFUSAL_REASON_WRONG_VERSION
	}
	if errors.Is(reason, replica.ErrOtherLineage) {
		r.Reason = peerpb.RefusalReason_REFUSAL_REASON_WRONG_INCARNATION
	}
	return r
}
