package concordat

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/concordatdb/concordat/gtid"
)

// handOver makes another member primary where this one is it and is about to go.
// That is a kindness to those who write here, and no condition: the group elects
// another one in any case, once this one has gone.
func (n *Node) handOver(ctx context.Context, opts []ChangeOption) {
	var o changeOptions
	for _, opt := range opts {
		opt(&o)
	}
	if o.stay {
		return
	}
	ctx, cancel := n.halfOf(ctx)
	defer cancel()
	for range handOverTries {
		s := n.sight()
		p, ok := s.Election.PrimaryMember()
		if !ok || p.UUID != n.id.Member || n.serving() != nil {
			return
		}
		if a := s.Election.Action; a != nil { // it may do the same
			if n.changed.until(ctx, func() bool { return n.actionOver(a.ID) }) != nil {
				return
			}
			continue
		}
		away := unreachable(&s)
		next, ok := s.Election.Member(s.Election.Why(append(slices.Clone(away), p.RaftID), n.progress(&s)).Winner)
		if !ok || next.UUID == n.id.Member || slices.Contains(away, next.RaftID) {
			return
		}
		deadline, _ := ctx.Deadline()
		grace := max(0, min(DefaultGrace, time.Until(deadline)/2))
		_, err := n.SetPrimary(ctx, next.UUID, Grace(grace), InsistOnRecovering(), WithReason("the primary goes"))
		if err == nil || !errors.Is(err, ErrRefused) || !pause(ctx, askAgain) {
			return
		}
	}
}

// handOverTries are for other actions, and members that go: they may be faster.
const handOverTries = 5

// halfOf is ctx for a kindness, behind which the rest needs its time too.
func (n *Node) halfOf(ctx context.Context) (context.Context, context.CancelFunc) {
	if deadline, patient := ctx.Deadline(); patient {
		return context.WithTimeout(ctx, time.Until(deadline)/2)
	}
	return n.bounded(ctx)
}

// actionOver reports whether an action is not open any more, or nobody here can
// tell.
func (n *Node) actionOver(id gtid.UUID) bool {
	a := n.standing.Load().Election.Action
	return a == nil || a.ID != id || n.serving() != nil
}
