package concordat

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/concordatdb/concordat/gcs"
	"github.com/concordatdb/concordat/internal/replica"
	"github.com/concordatdb/concordat/internal/standing"
)

// Why a member loses its place.
var (
	errRemoved    = errors.New("concordat: an operator has removed this member, or given its place to another one; bring it back with rejoin")
	errExpelled   = errors.New("concordat: the group has gone on without this member")
	errMinority   = errors.New("concordat: no majority was heard for the UnreachableMajorityTimeout")
	errSuperseded = errors.New("concordat: an operator has forced the membership of the group without this member")
)

// ending is how a life ends that nobody ended from outside.
type ending struct {
	cloneFrom uint64 // raft id of the member that has what no log can bring
	exit      replica.Exit
}

// living is the phase of a member that runs its state machine.
func (n *Node) living(ctx context.Context) phase {
	if why := n.recordNow().Differs; why != "" {
		n.move(n.entering)
		return n.out(standing.Differs, errDiffering(why))
	}
	if err := n.freshSession(); err != nil {
		n.fail(err)
		return nil
	}
	l, err := n.revive()
	switch {
	case errors.Is(err, errNeedsClone):
		return n.cloning(0)
	case err != nil:
		n.fail(err)
		return nil
	}
	n.floor.reset()
	n.life.Store(l)
	n.publish(l.replica.Status())
	n.move(n.entering)
	n.entering = standing.NewSession
	end := l.run(ctx)
	if n.state() == Online {
		n.triesMade = 0
	}
	n.last = l
	n.keepReports(l.replica.Status().Peers)
	n.life.Store(nil)
	n.wake()
	n.donations.end()
	for _, tx := range l.calls.abandon(n.commits) {
		n.early.end(tx.running)
	}
	n.published(l, end.exit != replica.ExitNone)
	return n.afterLife(ctx, end)
}

// afterLife is what follows on a life. That the group has let the member go, or
// has put it out, is not said twice: it counts also when somebody has ended the
// life at that moment.
func (n *Node) afterLife(ctx context.Context, end ending) phase {
	if n.failed() != nil {
		return nil
	}
	switch end.exit {
	case replica.ExitLeft:
		n.left.Store(true)
		n.move(standing.Left)
		return n.idle
	case replica.ExitExpelled:
		if err := n.reidentify(keepCommitted); err != nil {
			n.fail(err)
			return nil
		}
		return n.out(standing.Expelled, errExpelled)
	case replica.ExitRemoved:
		// It keeps its identity, and so is told again if it is started again. An
		// operator decides when it joins anew.
		return n.out(standing.Removed, errRemoved)
	case replica.ExitDiffers:
		// It keeps its identity, and so is told again if it is started again. Its
		// data stay, for whoever wants to look at them.
		s := n.known()
		next := n.recordNow()
		next.Differs, next.Peers = n.differing(&s), n.seeds()
		if err := n.remember(next); err != nil {
			n.fail(err)
			return nil
		}
		return n.out(standing.Differs, errDiffering(next.Differs))
	case replica.ExitMinority:
		return n.out(standing.MinorityTimeout, fmt.Errorf("%w: %w", ErrNoQuorum, errMinority))
	case replica.ExitNone:
	}
	switch {
	case ctx.Err() != nil:
		return nil
	case end.cloneFrom != 0:
		return n.cloning(end.cloneFrom)
	}
	return n.living
}

// freshSession sees to it that no two lives send in one session: what is on its
// way from the one before would be taken for the next one's.
func (n *Node) freshSession() error {
	if n.spent {
		if _, err := n.nextSession(n.log.Identity()); err != nil {
			return err
		}
	}
	n.spent = true
	return nil
}

// published leaves what the life knew last as what is known of the member, that
// takes no part in the group for now. One that is out of it hears nobody.
func (n *Node) published(l *life, out bool) {
	s := l.replica.Status()
	if s.State == replica.Online {
		s.State = replica.Recovering
	}
	if out {
		s.Quorum, s.QuorumUnknown, s.Leader, s.Peers = false, false, 0, nil
	}
	n.publish(s)
}

// cloning is the phase of a member that lacks what no log can bring. The donor
// is a raft id, 0 for any.
func (n *Node) cloning(donor uint64) phase {
	return func(ctx context.Context) phase { return n.clonePhase(ctx, donor) }
}

func (n *Node) clonePhase(ctx context.Context, leader uint64) phase {
	if n.state() != Recovering && n.state() != Online {
		n.move(n.entering) // the state comes before a life
	}
	n.move(standing.CloneNeeded)
	n.entering = standing.NewSession
	if err := n.knowView(); err != nil {
		n.fail(err)
		return nil
	}
	stop := n.reportAlive(ctx)
	err := n.replaceState(ctx, leader)
	stop()
	switch {
	case err == nil:
		return n.living
	case ctx.Err() == nil:
		n.fail(fmt.Errorf("clone: %w", err))
	}
	return nil
}

// knowView takes up the view of the newest checkpoint if none is known: after a
// restart that needs a clone nothing else says who the others are.
func (n *Node) knowView() error {
	s := n.known()
	if s.View.ID > 0 {
		return nil
	}
	c, err := n.log.Checkpoint(^uint64(0))
	if err != nil || c.Index == 0 {
		return err
	}
	if s.View, err = replica.CheckpointView(c); err != nil {
		return err
	}
	n.standing.Store(&s)
	return nil
}

// reportAlive tells the other members that this one lives, while it has no state
// machine that does. The returned function ends it and waits. It also looks from
// time to time whether the group still has the member, of which nobody else
// would tell it now, and who is in the group: the log may not say, or say what is
// long past.
func (n *Node) reportAlive(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	session := n.log.Identity().Session // that of the life before, if there was one
	go func() {
		defer close(done)
		lookRounds := max(1, n.lookTicks()/aliveTicks)
		for round := 1; ; round++ {
			n.setPeers(n.acquainted()...)
			others := n.others()
			if len(others) == 0 || round%lookRounds == 0 {
				n.lookForPlace()
			}
			report := &gcs.Report{Recovering: true, Session: session, Applied: n.engine.Position().Index}
			for _, id := range others {
				n.transport.Send(id, &gcs.Message{Kind: gcs.MessageReport, Report: report})
			}
			if !pause(ctx, aliveTicks*n.cfg.TickInterval) {
				return
			}
		}
	}()
	return func() {
		cancel()
		<-done
	}
}

// aliveTicks lie between two signs of life without a state machine.
const aliveTicks = 2

// others are the raft ids of the other members, as far as they are known.
func (n *Node) others() []uint64 {
	return gcs.Hearers(n.log.Identity(), n.known().View, n.recovery.introduced(), n.recovery.hears())
}

// acquainted are the members whose addresses are known, those of the view and those
// that were named since or before.
func (n *Node) acquainted() []gcs.Member {
	return slices.Concat(n.known().View.Members, n.recovery.introduced())
}
