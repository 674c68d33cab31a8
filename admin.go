package concordat

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/concordatdb/concordat/gcs"
	"github.com/concordatdb/concordat/gcs/transport"
	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/internal/forced"
	"github.com/concordatdb/concordat/internal/outlook"
	"github.com/concordatdb/concordat/internal/replica"
	"github.com/concordatdb/concordat/internal/standing"
	"github.com/concordatdb/concordat/proto/concordat/peer/v1"
)

// Verb is what an operator can do to the membership.
type Verb = outlook.Verb

// The verbs.
const (
	VerbLeave   = outlook.Leave
	VerbRemove  = outlook.Remove
	VerbReplace = outlook.Replace
	VerbJoin    = outlook.Join
)

// Plan is what a change of the membership would lead to: view, quorum,
// tolerance, primaries, and what speaks against it.
type Plan = outlook.Plan

// Operation is a change of the membership that an operator thinks of.
type Operation struct {
	Verb   Verb
	Member gtid.UUID // whom it is about: who goes, is replaced, or joins
}

// Plan returns what an operation would lead to as this member sees the group. It
// changes nothing.
func (n *Node) Plan(op Operation) Plan {
	s := n.sight()
	return outlook.Make(n.outlookOn(&s), outlook.Ask{Verb: op.Verb, Member: op.Member})
}

// outlookOn is the group as this member sees it.
func (n *Node) outlookOn(s *known) outlook.Sight {
	return outlook.Sight{
		View: s.View, Election: s.Election, Progress: n.progress(s), Unreachable: unreachable(s), Stalled: n.stalled(s),
	}
}

// ChangeOption changes how an operator's change of the membership is made.
type ChangeOption func(*changeOptions)

type changeOptions struct{ force, stay bool }

// WithoutHandover has a primary that goes leave it to the group to elect another one,
// without letting transactions finish. Without this option it first gives its place
// to the member that ranks next.
func WithoutHandover() ChangeOption { return func(o *changeOptions) { o.stay = true } }

// Force insists on what is refused because the group would be weaker for it.
func Force() ChangeOption { return func(o *changeOptions) { o.force = true } }

// permit returns the *RefusedError of an operation that is not to be done.
func (n *Node) permit(op Operation, opts []ChangeOption) error {
	var o changeOptions
	for _, opt := range opts {
		opt(&o)
	}
	p := n.Plan(op)
	if reason := p.Refusal(o.force); reason != "" {
		return &RefusedError{Reason: reason, Forceable: p.Forceable}
	}
	return nil
}

// Leave takes the member out of the group in order, and then closes the node:
// the group becomes smaller, and so does the number of members it needs. The
// last member cannot leave; Close it instead, the group lives on in its
// directory. What would leave the group without tolerance is refused unless
// Force is given. A primary gives its place to another member first; see
// [WithoutHandover]. An error that matches ErrLeave says that the node is still
// open.
func (n *Node) Leave(ctx context.Context, opts ...ChangeOption) error {
	l := n.life.Load()
	if l == nil || n.closed.Load() {
		return n.notServing()
	}
	if err := n.quorate(ctx); err != nil {
		return fmt.Errorf("%w: %w", ErrLeave, err)
	}
	if err := n.permit(Operation{VerbLeave, n.id.Member}, opts); err != nil {
		return fmt.Errorf("%w: %w", ErrLeave, err)
	}
	n.handOver(ctx, opts)
	if err := n.letGo(ctx, l); err != nil {
		return err
	}
	return errors.Join(n.failed(), n.Close())
}

// letGo asks the group to let this member go, and waits until it has.
func (n *Node) letGo(ctx context.Context, l *life) error {
	ticket, refused := l.leaves.add()
	defer l.leaves.drop(ticket)
	l.inbox.put(replica.LeaveAsked{Ticket: ticket})
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var waited error
	left := make(chan struct{})
	go func() {
		defer close(left)
		waited = n.changed.until(ctx, func() bool {
			return n.left.Load() || n.wentOn(l)
		})
	}()
	var err error
	select {
	case err = <-refused:
		cancel()
		<-left
		return fmt.Errorf("%w: %w", ErrLeave, err)
	case <-n.quorum.lost(ctx):
		cancel()
		<-left
		err = errQuorumLost
	case <-left:
		err = waited
	}
	switch {
	case n.left.Load():
		return nil
	case err == nil:
		return fmt.Errorf("%w: it had stopped before the group let it go: %w", ErrLeave, n.notServing())
	}
	l.inbox.put(replica.LeaveWithdrawn{})
	return fmt.Errorf("%w: no word from the group; the member stays, unless that is decided already: %w", ErrLeave, err)
}

// wentOn reports whether something else than the end has followed on a life.
// Between the two nobody can tell.
func (n *Node) wentOn(l *life) bool {
	now := n.life.Load()
	return n.closed.Load() || n.failed() != nil || n.lost() != nil || n.frozenFor.Load() != nil || now != nil && now != l
}

// Remove takes another member out of the group, one that is dead above all: it
// no longer counts for the quorum. It returns once a view without it is known
// here. If it lives, it learns of it and is in ERROR.
func (n *Node) Remove(ctx context.Context, member gtid.UUID, opts ...ChangeOption) error {
	if err := n.serving(); err != nil {
		return err
	}
	if err := n.quorate(ctx); err != nil {
		return err
	}
	if member == n.id.Member {
		return fmt.Errorf("%w: a member does not remove itself; see Leave", ErrInvalid)
	}
	if err := n.permit(Operation{VerbRemove, member}, opts); err != nil {
		return err
	}
	view := n.known().View
	i := slices.IndexFunc(view.Members, func(m gcs.Member) bool { return m.UUID == member })
	if i < 0 {
		return &RefusedError{Reason: fmt.Sprintf("%s is no member of the group", member)}
	}
	change := gcs.Change{Kind: gcs.Removed, Member: view.Members[i], Reason: "by order of an operator, given to member " + n.id.Member.String()}
	for {
		err := n.orderRemoval(ctx, change)
		if _, in := n.known().View.Member(change.Member.RaftID); !in {
			return nil
		}
		if err == nil {
			err = n.quorate(ctx)
		}
		if err == nil && !pause(ctx, askAgain) {
			err = context.Cause(ctx)
		}
		switch {
		case errors.Is(err, ErrRefused):
			return err
		case err != nil:
			// A change that was proposed can be made later, so this matches no error
			// that says that nothing happened.
			return fmt.Errorf("concordat: member %s is not removed yet: %s", member, err.Error())
		}
	}
}

// orderRemoval asks whoever leads to propose the change. Only a refusal, and
// the end of ctx, is an error: everything else can be tried again.
func (n *Node) orderRemoval(ctx context.Context, change gcs.Change) error {
	answer, err := n.askChange(ctx, change)
	if err != nil {
		return err
	}
	if answer.Refused != nil {
		return &RefusedError{Reason: answer.Refused.Error()}
	}
	if answer.Done || answer.Leader.Address == "" || answer.Leader.UUID == n.id.Member {
		return nil
	}
	req := &peerpb.ChangeRequest{
		Identity: n.transport.Identity(), Kind: peerpb.ChangeKind_CHANGE_KIND_REMOVE,
		RaftId: change.Member.RaftID, Reason: change.Reason,
	}
	asking, cancel := context.WithTimeout(ctx, joinPatience)
	defer cancel()
	_, err = transport.Change(asking, answer.Leader.Address, req, n.cfg.TLS)
	if refused, ok := errors.AsType[*transport.RefusedError](err); ok && refused.Reason == peerpb.RefusalReason_REFUSAL_REASON_NOT_ALLOWED {
		return &RefusedError{Reason: refused.Text}
	}
	return ctx.Err()
}

// askChange hands a change to this member's own state machine.
func (n *Node) askChange(ctx context.Context, change gcs.Change) (gcs.ChangeAnswer, error) {
	l := n.life.Load()
	if l == nil {
		return gcs.ChangeAnswer{}, n.notServing()
	}
	ticket, answer := l.removals.add()
	defer l.removals.drop(ticket)
	l.inbox.put(replica.ChangeAsked{Ticket: ticket, Change: change})
	select {
	case a := <-answer:
		return a, nil
	case <-ctx.Done():
		return gcs.ChangeAnswer{}, context.Cause(ctx)
	case <-l.done:
		return gcs.ChangeAnswer{}, n.notServing()
	}
}

// JoinOptions says how a member joins.
type JoinOptions struct {
	Seeds    []string  // addresses of members to ask; empty for those of Config
	Replaces gtid.UUID // a dead member whose place it takes, zero for none
	Donor    string    // as Config.Donor; empty for that
}

// Join has a member that is OFFLINE ask the group to take it in. It returns
// once the member is in the group and on its way to ONLINE. A ctx without a
// deadline does not wait for longer than one try to come back may take.
func (n *Node) Join(ctx context.Context, o JoinOptions) error {
	check := func() error {
		if n.state() != Offline || n.left.Load() {
			return &RefusedError{Reason: fmt.Sprintf("the member is %s; only one that is OFFLINE and never was a member joins, others rejoin", n.state())}
		}
		return nil
	}
	if err := check(); err != nil {
		return err
	}
	ctx, cancel := n.bounded(ctx)
	defer cancel()
	return n.order(ctx, func(ctx context.Context) (phase, error) {
		if err := check(); err != nil { // it was taken in meanwhile
			return n.interrupted, err
		}
		if len(o.Seeds) > 0 {
			n.seedList.Store(&o.Seeds)
		}
		n.wish(o.Donor)
		claim, err := n.claim(ctx)
		if err == nil {
			err = n.join(ctx, claim, o.Replaces)
		}
		if err != nil {
			return n.interrupted, err
		}
		return n.afterJoin(), nil
	})
}

// bounded is ctx for a caller who does not say how long to wait for a group that
// may have no quorum.
func (n *Node) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, patient := ctx.Deadline(); patient {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, n.tryPatience())
}

// wish sets the donor that is asked first.
func (n *Node) wish(donor string) {
	if donor != "" {
		n.donor.Store(&donor)
	}
}

// RejoinOptions says how a member comes back.
type RejoinOptions struct {
	Seeds []string // addresses of members to ask beside those that it knows
	// DiscardErrant saves the transactions that only this member has to a file
	// in its directory, and then gives up all that it holds for a copy of the
	// group's state.
	DiscardErrant bool
	Donor         string // as Config.Donor; empty for that
}

// RejoinReport says what became of a rejoin.
type RejoinReport struct {
	Discarded gtid.Set // transactions that only this member had
	SavedTo   string   // file that has them, one JSON object a line; empty if there were none
}

// Rejoin has a member that is in ERROR because it lost its place, or that has
// left, ask the group to take it back, now. It returns once the member is in the
// group and on its way to ONLINE. One whose data differ from the group's
// ([ErrDiffers]) gives them up for a copy of another member's.
//
// One that has its place gives that up only where a member named in Seeds has
// gone over, by force, to an incarnation that came of this one's or was forced
// beside it, and has a quorum there: two groups may then go on beside each other,
// and the operator says which one stays.
func (n *Node) Rejoin(ctx context.Context, o RejoinOptions) (report RejoinReport, err error) {
	if n.failed() != nil {
		return report, n.failed()
	}
	ended := n.log.Identity().Incarnation
	var began gtid.UUID
	inPlace := func() error {
		if n.lost() != nil || n.left.Load() || n.partNow().Phase == forced.Frozen {
			return nil
		}
		if !began.IsZero() && n.log.Identity().Incarnation == ended {
			return nil
		}
		return &RefusedError{Reason: fmt.Sprintf("the member has not lost its place, it is %s", n.state())}
	}
	if inPlace() != nil {
		began = n.namedFork(ctx, o.Seeds)
	}
	if err := inPlace(); err != nil {
		return report, err
	}
	err = n.order(ctx, func(ctx context.Context) (phase, error) {
		if err := inPlace(); err != nil { // it has come back meanwhile
			return n.interrupted, err
		}
		more := slices.Concat(n.configuredSeeds(), o.Seeds)
		n.seedList.Store(&more)
		n.wish(o.Donor)
		if err := n.giveWay(began); err != nil {
			return n.idle, err
		}
		if n.partNow().Phase == forced.Frozen {
			if next, err := n.unfreeze(ctx); next != nil || err != nil {
				return next, err
			}
		}
		n.triesMade = 0
		next, err := n.rejoinByOrder(ctx)
		if diverged, ok := errors.AsType[*DivergedError](err); ok && o.DiscardErrant {
			next, report, err = n.discard(ctx, diverged)
		}
		if err != nil {
			return n.stillOut(next, err), err
		}
		n.left.Store(false)
		return next, nil
	})
	return report, err
}

// rejoinByOrder is rejoin for an operator: one whose data are not the group's
// gives them up first, and shows them to nobody before it has others.
func (n *Node) rejoinByOrder(ctx context.Context) (phase, error) {
	e := n.lost()
	if e == nil || !errors.Is(e.err, ErrDiffers) {
		return n.rejoin(ctx, true)
	}
	if !n.log.Identity().Incarnation.IsZero() {
		if err := n.giveUpData(ctx); err != nil {
			return nil, errDiffering(err.Error())
		}
	}
	next, err := n.rejoinOnceSilent(ctx)
	if err != nil {
		err = fmt.Errorf("%w: %w", ErrDiffers, err)
	}
	return next, err
}

// rejoinOnceSilent is rejoin for a member that has given up what it was. Others may
// take longer than this one to find that silent, by clocks and settings of their own,
// and refuse it until then.
func (n *Node) rejoinOnceSilent(ctx context.Context) (phase, error) {
	patience, cancel := context.WithTimeout(ctx, n.tryPatience())
	defer cancel()
	for {
		next, err := n.rejoin(ctx, true)
		refused, ok := errors.AsType[*transport.RefusedError](err)
		if !ok || refused.Reason != peerpb.RefusalReason_REFUSAL_REASON_IDENTITY_TAKEN || !pause(patience, n.silence()) {
			return next, err
		}
	}
}

// giveWay has a member that has its place give it up for an incarnation that
// came of its own, or was forced beside it. Whatever becomes of the order, the
// member is out then.
func (n *Node) giveWay(began gtid.UUID) error {
	if n.lost() != nil || n.left.Load() || n.partNow().Phase == forced.Frozen {
		return nil
	}
	cause, reason, err := n.giveUpPlace(place{began: began})
	if err != nil {
		n.fail(err)
		return err
	}
	n.note(EventLost, n.id.Member, "%v", reason)
	n.recovery.end()
	n.setExit(&exit{err: reason})
	n.move(cause)
	n.interrupted = n.tries(cause, reason)
	return nil
}

// stillOut is the phase after an order that has not brought the member back, and
// begun nothing that goes on by itself: the one that it has interrupted.
func (n *Node) stillOut(next phase, err error) phase {
	lost := n.lost()
	if lost == nil { // it has left, and waits for the next order
		return n.interrupted
	}
	e := *lost
	e.err = err
	n.setExit(&e)
	if next != nil {
		return next
	}
	return n.interrupted
}

// unfreeze frees a frozen member for which its group does not wait, or which it
// takes back as it is: then the phase is what comes next. Without one the member
// is out, and has to join.
func (n *Node) unfreeze(ctx context.Context) (phase, error) {
	ctx, cancel := context.WithTimeout(ctx, n.tryPatience())
	defer cancel()
	part := n.partNow()
	p, err := n.askPlace(ctx, true)
	switch {
	case err == nil && p.in && !p.began.IsZero():
		err = fmt.Errorf("incarnation %s of the group waits for it", p.began)
		fallthrough
	case err != nil:
		return n.interrupted, fmt.Errorf("concordat: the member is frozen; run plan %s again with its id: %w", part.Order.Plan, err)
	case p.in:
		return n.dropPlan()
	}
	cause, reason, err := n.giveUpPlace(p)
	if err != nil {
		return n.interrupted, err
	}
	n.thaw()
	n.setExit(&exit{err: reason})
	if n.state() != Error {
		n.move(cause)
	}
	// Whatever becomes of this try, the member is frozen no more.
	n.interrupted = n.tries(cause, reason)
	return nil, nil
}

// dropPlan takes a frozen member back to the incarnation that its plan was to
// end: that one has a quorum, and the member in its view. The plan can still be
// run, and freezes this member anew.
func (n *Node) dropPlan() (phase, error) {
	// What an alignment has brought may be of a later term than the member has
	// voted in, and it must not lead in that one.
	hs := n.log.HardState()
	last, err := n.log.LastIndex()
	if err != nil {
		return n.interrupted, err
	}
	term, err := n.log.Term(last)
	if err != nil {
		return n.interrupted, err
	}
	if term > hs.GetTerm() {
		raised := &raftpb.HardState{Term: &term, Vote: new(uint64(0)), Commit: new(hs.GetCommit())}
		if err := n.log.Write([]gcs.LogWrite{{HardState: raised, Sync: true}}); err != nil {
			return n.interrupted, err
		}
	}
	kept := n.recordNow()
	kept.Plan = nil
	if err := n.remember(kept); err != nil {
		return n.interrupted, err
	}
	n.thaw()
	n.setExit(nil)
	if n.state() == Error {
		n.entering = standing.Opened
	}
	return n.living, nil
}

// discard saves what only this member has, gives everything up, and joins. If
// the group does not take it at once, it goes on trying.
func (n *Node) discard(ctx context.Context, diverged *DivergedError) (next phase, report RejoinReport, err error) {
	extra, path, err := n.saveErrant(ctx, diverged)
	if err != nil {
		return nil, report, err
	}
	report.Discarded, report.SavedTo = extra, path
	n.note(EventDiscarded, n.id.Member, "%v is saved to %s and given up", extra, path)
	if err := n.reidentify(keepNothing); err != nil {
		return nil, report, err
	}
	if next, err = n.rejoin(ctx, true); err != nil {
		return n.tries(standing.Superseded, err), report, err
	}
	return next, report, nil
}

// Clone replaces what this member holds by a copy of another one's state: of
// the donor, by UUID or address, or of the least busy one. For that it leaves the
// group and comes back with nothing, since what it has answered for must not be
// lost while others count on it. It returns once the member is ONLINE again; the
// last ONLINE member cannot be cloned. A ctx without a deadline ends the wait, and
// not what goes on by itself, when the group has no quorum to take it back.
// A primary gives its place to another member first; see [WithoutHandover].
func (n *Node) Clone(ctx context.Context, donor string, opts ...ChangeOption) error {
	if err := n.serving(); err != nil {
		return err
	}
	l := n.life.Load()
	if l == nil {
		return n.notServing()
	}
	if err := n.quorate(ctx); err != nil {
		return err
	}
	n.handOver(ctx, opts)
	if err := n.letGo(ctx, l); err != nil {
		return err
	}
	err := n.order(ctx, func(ctx context.Context) (phase, error) {
		n.wish(donor)
		n.left.Store(false)
		if err := n.reidentify(keepNothing); err != nil {
			return n.interrupted, err
		}
		return n.joining, nil
	})
	if err != nil {
		return err
	}
	return n.waitBack(ctx)
}

// waitBack waits until the member is ONLINE again. A caller who does not say how
// long waits for as long as there are others or one whose state is copied, which
// is given up when it gives nothing, and for a try without them.
func (n *Node) waitBack(ctx context.Context) error {
	if _, patient := ctx.Deadline(); patient {
		return n.waitOnline(ctx)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	done := make(chan struct{})
	defer func() { <-done }()
	go func() {
		defer close(done)
		for alone := time.Duration(0); alone < n.tryPatience(); alone += askAgain {
			if n.known().Quorum && n.state() != Offline || n.copies() {
				alone = 0
			}
			if !pause(ctx, askAgain) {
				return
			}
		}
		cancel(ErrNoQuorum)
	}()
	err := n.waitOnline(ctx)
	cancel(nil)
	return err
}

// copies reports whether a donor is at it.
func (n *Node) copies() bool {
	r, _ := n.recovery.report()
	return r.Total > 0
}
