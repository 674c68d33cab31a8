package concordat

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/concordatdb/concordat/gcs"
	"github.com/concordatdb/concordat/gcs/transport"
	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/internal/forced"
	"github.com/concordatdb/concordat/internal/replica"
	"github.com/concordatdb/concordat/internal/standing"
	"github.com/concordatdb/concordat/proto/concordat/peer/v1"
)

// place is what the group says of this member's place in it.
type place struct {
	in bool // the view has the member under its raft id
	// began is the incarnation of the group if that is not the member's any more,
	// because an operator has forced the membership; else zero.
	began gtid.UUID
	// mute: somebody answered, and nobody could tell.
	mute bool
}

// askPlace asks for this member's place. An error says that nobody could tell,
// or that who answered cannot be believed: of another incarnation only a member
// that this one knows is, unless an operator has said whom to ask.
func (n *Node) askPlace(ctx context.Context, byOrder bool) (p place, err error) {
	req := n.joinRequest(noClaim)
	req.DryRun = true
	ask := n.seeds()
	for _, c := range n.recovery.introduced() {
		ask = appendAddress(ask, c.Address)
	}
	last := errors.New("no member is known to ask")
	refused := false
	for i := 0; i < len(ask) && i <= 2*gcs.MaxMembers; i++ {
		response, err := n.askToJoin(ctx, ask[i], req)
		if err != nil {
			_, isRefusal := errors.AsType[*transport.RefusedError](err)
			refused, last = refused || isRefusal, err
			continue
		}
		p.mute = true
		if response.GetAccepted() || response.GetText() != "" {
			if p.began, err = n.followed(ctx, ask[i], response, byOrder); err == nil {
				p.in, p.mute = response.GetAccepted(), false
				n.introduce(response.GetMembers())
				return p, nil
			}
			refused, last = true, err
			continue
		}
		last = fmt.Errorf("the member at %s does not lead, or has no quorum itself", ask[i])
		if leader := response.GetLeaderAddress(); leader != "" && leader != n.address {
			ask = appendAddress(ask, leader)
		}
	}
	p.mute = p.mute && !refused
	return p, fmt.Errorf("%w: %w", ErrNoQuorum, last)
}

func appendAddress(all []string, address string) []string {
	if slices.Contains(all, address) {
		return all
	}
	return append(all, address)
}

// introduce takes note of who is in the group. Who has a view, says itself who its
// peers are.
func (n *Node) introduce(members []*peerpb.Identity) {
	n.recovery.introduce(members)
	if n.known().View.ID == 0 {
		n.setPeers(n.recovery.introduced()...)
	}
}

// addressOf is where a member is, by the view or by whoever named it as one of the
// group: of one that copies, the view may be long past.
func (n *Node) addressOf(raftID uint64) (address string, ok bool) {
	if m, ok := n.known().View.Member(raftID); ok {
		return m.Address, true
	}
	named := n.recovery.introduced()
	i := slices.IndexFunc(named, func(m gcs.Member) bool { return m.RaftID == raftID })
	if i < 0 {
		return "", false
	}
	return named[i].Address, true
}

// followed returns the incarnation of whoever answered, if that is another one
// which came of this member's, or by order one that was forced beside it; zero
// if it is the same.
func (n *Node) followed(ctx context.Context, address string, r *peerpb.JoinResponse, byOrder bool) (gtid.UUID, error) {
	own := n.log.Identity().Incarnation
	if bytes.Equal(r.GetIncarnation(), own[:]) {
		return gtid.UUID{}, nil
	}
	if !byOrder && !n.listed(address, r.GetMembers()) {
		return gtid.UUID{}, fmt.Errorf("who answers at %s is of another incarnation, and no member that this one knows", address)
	}
	ctx, cancel := context.WithTimeout(ctx, joinPatience)
	defer cancel()
	a, err := transport.Lineage(ctx, address, n.transport.Identity(), n.cfg.TLS)
	if err != nil {
		return gtid.UUID{}, err
	}
	came := slices.ContainsFunc(a.Forks, func(f transport.Fork) bool { return f.Incarnation == own })
	if !came && !(byOrder && forcedBeside(a, n.known().Forks)) {
		return gtid.UUID{}, fmt.Errorf("the member at %s is of incarnation %s, which does not come of %s", address, a.Incarnation, own)
	}
	return a.Incarnation, nil
}

// forcedBeside reports whether another incarnation and this member's, which came
// of forks, were forced in one that had ended twice: by plans that did not know
// of each other. Neither follows on the other one, so nobody but an operator can
// say which one stays.
func forcedBeside(a transport.Ancestry, forks []replica.Fork) bool {
	came := func(of gtid.UUID) bool {
		return slices.ContainsFunc(forks, func(f replica.Fork) bool { return f.Incarnation == of })
	}
	return !came(a.Incarnation) && slices.ContainsFunc(a.Forks, func(f transport.Fork) bool { return came(f.Incarnation) })
}

// listed reports whether who answers at an address is, in its own eyes and in
// those of this member, the same member. One that knows no view has nobody to
// hold against it, and nothing to lose.
func (n *Node) listed(address string, members []*peerpb.Identity) bool {
	return n.known().View.ID == 0 || slices.ContainsFunc(members, func(m *peerpb.Identity) bool {
		known, ok := n.addressOf(m.GetRaftId())
		return ok && known == address && m.GetAddress() == address
	})
}

// longestLook bounds the time between two looks for the group, however long a
// silent member is kept: it can also be removed, or left out.
const longestLook = 10 * time.Second

// lookTicks is for how long a member hears no leader before it looks whether it
// has a place in the group: when it may have been expelled. Nobody tells one
// that the others do not know any more, or that does not know them.
func (n *Node) lookTicks() int {
	return n.cfg.ticks(min(n.cfg.MemberSuspectTimeout+n.cfg.MemberExpelTimeout, longestLook))
}

// look has a helper look for the group. One look at a time.
func (n *Node) look(do func(ctx context.Context)) {
	if n.closed.Load() || !n.looking.CompareAndSwap(false, true) {
		return
	}
	began := n.helpers.run(func() {
		defer n.looking.Store(false)
		do(n.lifetime)
	})
	if !began {
		n.looking.Store(false)
	}
}

// lookForPlace looks whether the group still has this member, which hears
// nothing of it.
func (n *Node) lookForPlace() {
	n.look(func(ctx context.Context) {
		id := n.log.Identity()
		p, err := n.askPlace(ctx, false)
		if err == nil && !p.in {
			n.leave(ctx, func(context.Context) (phase, error) { return n.lostPlace(id.RaftID, p), nil })
		}
	})
}

// leave gives an order by which the member finds that it has no place any more.
// That somebody else gives one is as good: the next look will tell.
func (n *Node) leave(ctx context.Context, carryOut func(context.Context) (phase, error)) {
	if err := n.order(ctx, carryOut); err != nil && !errors.Is(err, errBusy) && !errors.Is(err, ErrClosed) {
		n.fail(fmt.Errorf("out of the group: %w", err))
	}
}

// lostPlace is what follows when the group has gone on without this member. It is
// called by an order.
func (n *Node) lostPlace(raftID uint64, p place) phase {
	if id := n.log.Identity(); id.RaftID != raftID || n.lost() != nil || n.partNow().Phase == forced.Frozen {
		return n.interrupted // it has found its way meanwhile, or waits for an operator
	}
	cause, reason, err := n.giveUpPlace(p)
	if err != nil {
		n.fail(err)
		return n.idle
	}
	return n.out(cause, reason)
}

// giveUpPlace makes the member one that has to join, and returns why.
func (n *Node) giveUpPlace(p place) (standing.Trigger, error, error) {
	ended := n.log.Identity().Incarnation
	if p.began.IsZero() {
		return standing.Expelled, errExpelled, n.reidentify(keepCommitted)
	}
	return standing.Superseded, fmt.Errorf("%w: incarnation %s has followed on %s", errSuperseded, p.began, ended), n.reidentify(keepAll)
}

// suspectFork looks whether a member that does not talk to this one any more
// has gone over to an incarnation that came from this one's: then an operator
// has forced the membership, and left this member out.
func (n *Node) suspectFork(raftID uint64) {
	address, ok := n.addressOf(raftID)
	if !ok {
		return
	}
	n.look(func(ctx context.Context) {
		req := n.joinRequest(noClaim)
		req.DryRun = true
		r, err := n.askToJoin(ctx, address, req)
		if err != nil || !n.listed(address, r.GetMembers()) {
			return
		}
		ended := n.log.Identity().Incarnation
		began, err := n.followed(ctx, address, r, false)
		if err != nil || began.IsZero() {
			return
		}
		n.leave(ctx, func(context.Context) (phase, error) { return n.superseded(ended, began), nil })
	})
}

// namedFork returns the incarnation, come of this member's own or forced beside
// it, of the first of the members at these addresses that is of one and has a
// quorum; zero if there is none.
func (n *Node) namedFork(ctx context.Context, addresses []string) gtid.UUID {
	req := n.joinRequest(noClaim)
	req.DryRun = true
	for _, address := range addresses {
		r, err := n.askToJoin(ctx, address, req)
		if err != nil || r.GetText() == "" && r.GetLeaderAddress() == "" {
			continue
		}
		if began, err := n.followed(ctx, address, r, true); err == nil && !began.IsZero() {
			return began
		}
	}
	return gtid.UUID{}
}

// superseded is what follows when this member was left out by an operator who
// forced the membership. What it holds is compared by the group before it is
// taken back. It is called by an order.
//
// A frozen member has given its word for what its plan ends and what it begins,
// and no further: when the group has gone another way, nobody waits for it.
func (n *Node) superseded(ended, began gtid.UUID) phase {
	e, part := n.lost(), n.partNow()
	frozen := part.Phase == forced.Frozen
	switch {
	case n.log.Identity().Incarnation != ended, frozen && part.Order.Begins == began, !frozen && e != nil && e.final:
		return n.interrupted // it has found its way meanwhile, or waits for an operator
	}
	cause, reason, err := n.giveUpPlace(place{began: began})
	if err != nil {
		n.fail(err)
		return n.idle
	}
	n.thaw()
	return n.out(cause, reason)
}

// thaw ends the part that this member had in a plan, if it was frozen for one.
func (n *Node) thaw() {
	if n.partNow().Phase != forced.Frozen {
		return
	}
	n.part.Store(nil)
	n.frozenFor.Store(nil)
	n.move(standing.Thawed)
}
