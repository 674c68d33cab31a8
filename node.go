package concordat

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/concordatdb/concordat/applier"
	"github.com/concordatdb/concordat/gcs"
	"github.com/concordatdb/concordat/gcs/transport"
	"github.com/concordatdb/concordat/internal/replica"
)

// Node is this program's member of the group. All methods are safe for
// concurrent use.
type Node struct {
	cfg     Config
	id      gcs.Identity // Session is that of the first life
	address string
	logger  *slog.Logger

	log       gcs.Log
	engine    applier.Engine
	transport *transport.Transport

	commits   *admission
	early     *early
	conflicts *conflictLog
	snapshots snapshots
	visible   bell // rung after each batch applied
	changed   bell // rung when standing changes
	events    events
	donations donations     // copies of this member's state
	recovery  recoveryState // and what it copies or replays itself
	counters  counters

	life     atomic.Pointer[life]
	standing atomic.Pointer[standing]
	failure  atomic.Pointer[error]

	stop   context.CancelFunc // ends main
	ended  chan struct{}      // closed when main has ended
	closed atomic.Bool
	close  func() error
}

// standing is what was last published about the member.
type standing struct {
	replica.Status
	state replica.State
}

type counters struct {
	committed, duplicates, conflicts, snapshotsTooOld atomic.Uint64
	applied, logWrites                                atomic.Uint64
	logNanos                                          atomic.Int64
}

func (n *Node) known() standing { return *n.standing.Load() }

func (n *Node) publish(s replica.Status) {
	before := n.known().state
	n.standing.Store(&standing{Status: s, state: s.State})
	if before != s.State {
		n.logger.Info("member state changed", "member", n.id.Member, "from", before.String(), "to", s.State.String())
	}
	n.changed.broadcast()
}

// viewChanged tells the transport who the peers are.
func (n *Node) viewChanged(v gcs.View) {
	n.logger.Info("view changed", "member", n.id.Member, "view", v.ID, "index", v.Index,
		"cause", v.Cause.Kind.String(), "of", v.Cause.Member.UUID, "members", len(v.Members))
	if err := n.checkAddress(v); err != nil {
		n.fail(err)
	}
	n.setPeers(v)
}

// checkAddress returns an error if the group knows this member at another
// address than it has now: nobody could reach it.
func (n *Node) checkAddress(v gcs.View) error {
	if self, ok := v.Member(n.id.RaftID); ok && self.Address != n.address {
		return fmt.Errorf("%w: the group knows this member at %s, not at %s; listen there again (Listen, Advertise), or leave and join anew",
			ErrDirectory, self.Address, n.address)
	}
	return nil
}

func (n *Node) setPeers(v gcs.View) {
	peers := make(map[uint64]string, len(v.Members))
	for _, m := range v.Members {
		peers[m.RaftID] = m.Address
	}
	n.transport.SetPeers(peers)
}

// fail takes the member to ERROR. The first cause counts.
func (n *Node) fail(err error) {
	err = fmt.Errorf("%w: %w", ErrFailed, err)
	if n.failure.CompareAndSwap(nil, &err) {
		n.logger.Error("member failed", "member", n.id.Member, "err", err)
	}
	n.stop()
	n.wake()
}

// wake lets all who wait for anything look whether it can still come.
func (n *Node) wake() {
	n.changed.broadcast()
	n.visible.broadcast()
	n.events.news.broadcast()
}

// failed returns why the member is in ERROR, nil if it is not.
func (n *Node) failed() error {
	if p := n.failure.Load(); p != nil {
		return *p
	}
	return nil
}

// main runs one life after the other until the node is closed or fails.
func (n *Node) main(ctx context.Context, first *life) {
	defer close(n.ended)
	l := first
	for {
		donor := l.run(ctx)
		n.life.Store(nil)
		n.donations.end()
		for _, tx := range l.calls.abandon(n.commits) {
			n.early.end(tx.running)
		}
		if donor == 0 {
			n.changed.broadcast()
			return
		}
		n.recovering()
		next, err := n.replaceState(ctx, donor)
		if err != nil {
			if ctx.Err() == nil {
				n.fail(fmt.Errorf("clone: %w", err))
			}
			return
		}
		l = next
		n.life.Store(l)
		n.wake()
	}
}

// recovering says of a member without a life what a state machine would say:
// that it is catching up.
func (n *Node) recovering() {
	s := n.known().Status
	s.State = replica.Recovering
	n.publish(s)
}

// waitOnline returns when the member serves transactions, or says why it will
// not.
func (n *Node) waitOnline(ctx context.Context) error {
	err := n.changed.until(ctx, func() bool {
		return n.known().state >= replica.Online || n.failed() != nil || n.closed.Load()
	})
	switch {
	case err != nil:
		s := n.known()
		return fmt.Errorf("%w: still %s after %d log entries when the wait ended; check that the other members run and can be reached: %w",
			ErrNotOnline, s.state, s.Delivered, err)
	case n.failed() != nil:
		return n.failed()
	case n.known().state == replica.Removed:
		return fmt.Errorf("%w: the group has removed this member; empty %s to join anew", ErrNotOnline, n.cfg.Dir)
	}
	return nil
}

// serving returns nil if the member takes transactions that write.
func (n *Node) serving() error {
	switch {
	case n.closed.Load():
		return ErrClosed
	case n.failed() != nil:
		return n.failed()
	case n.known().state != replica.Online:
		return fmt.Errorf("%w: it is %s", ErrNotOnline, n.known().state)
	}
	return nil
}

// commit hands a transaction to the group and waits for its fate. Until the
// group has it, an error means that nothing happened.
func (n *Node) commit(ctx context.Context, tx *Tx, message []byte) (replica.Answer, error) {
	if err := n.serving(); err != nil {
		return replica.Answer{}, err
	}
	if err := n.commits.enter(ctx, len(message)); err != nil {
		return replica.Answer{}, fmt.Errorf("concordat: nothing was committed, too many commits are waiting for the group (MaxPendingCommits, MaxPendingBytes): %w", err)
	}
	l := n.life.Load()
	if l == nil {
		n.commits.leave(len(message))
		return replica.Answer{}, n.notServing()
	}
	ticket, c := l.calls.add(tx, len(message))
	err := n.hold(ctx, l, tx, func() bool {
		tx.submitted = l.inbox.put(replica.Submitted{Ticket: ticket, Message: message})
		return tx.submitted
	})
	if err != nil {
		l.calls.withdraw(ticket, n.commits)
		if c, ok := errors.AsType[*ConflictError](err); ok {
			return tx.lostEarly(ctx, c)
		}
		return replica.Answer{}, err
	}
	select {
	case a := <-c.done:
		return a, nil
	case <-ctx.Done():
		return replica.Answer{}, &OutcomeUnknownError{ID: tx.id, Cause: context.Cause(ctx)}
	case <-l.done:
	}
	select {
	case a := <-c.done:
		return a, nil
	default:
		return replica.Answer{}, &OutcomeUnknownError{ID: tx.id, Cause: n.notServing()}
	}
}

// notServing is serving for a caller who knows already that it is not.
func (n *Node) notServing() error {
	if err := n.serving(); err != nil {
		return err
	}
	return ErrNotOnline
}

// Leave takes the member out of the group in order, and then closes the node:
// the group becomes smaller, and so does the number of members it needs. The
// last member cannot leave; Close it instead, the group lives on in its
// directory. An error that matches ErrLeave says that the node is still open.
func (n *Node) Leave(ctx context.Context) error {
	l := n.life.Load()
	if l == nil || n.closed.Load() {
		return n.notServing()
	}
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
			return n.known().state == replica.Removed || n.failed() != nil || n.closed.Load()
		})
	}()
	select {
	case err := <-refused:
		cancel()
		<-left
		return fmt.Errorf("%w: %w", ErrLeave, err)
	case <-left:
		if waited != nil {
			l.inbox.put(replica.LeaveWithdrawn{})
			return fmt.Errorf("%w: no word from the group; the member stays, unless that is decided already: %w", ErrLeave, waited)
		}
	}
	return errors.Join(n.failed(), n.Close())
}

// Close stops the member without telling the group, which will miss it, and
// releases the directory. Commits under way end with ErrOutcomeUnknown.
func (n *Node) Close() error {
	if !n.closed.CompareAndSwap(false, true) {
		return ErrClosed
	}
	n.wake()
	n.stop()
	// A handler may be waiting for the state machine, and the transport waits
	// for its handlers: the state machine goes first.
	<-n.ended
	return n.close()
}

// Status returns what the node knows now. It never blocks for long, and works
// in every state but after Close, when it tells what was last known.
func (n *Node) Status() Status {
	s := n.known()
	status := Status{
		Group: n.id.Group, Incarnation: s.View.Incarnation, Member: n.id.Member,
		State: n.state(), Err: n.failed(),
		View:      viewOf(s.View),
		Delivered: s.Delivered, Applied: s.Applied, Durable: s.Durable,
		Counters: Counters{
			Committed:       n.counters.committed.Load(),
			Duplicates:      n.counters.duplicates.Load(),
			Conflicts:       n.counters.conflicts.Load(),
			SnapshotsTooOld: n.counters.snapshotsTooOld.Load(),
			Applied:         n.counters.applied.Load(),
			LogWrites:       n.counters.logWrites.Load(),
			LogWriteTime:    time.Duration(n.counters.logNanos.Load()),
			HistoryItems:    uint64(s.History),
			HistoryBytes:    uint64(s.HistoryBytes),
			Sequence:        s.Sequence,
		},
	}
	if leader, ok := s.View.Member(s.Leader); ok {
		status.Leader = leader.UUID
	}
	if !n.closed.Load() {
		at := n.engine.Position()
		status.Applied, status.Executed = at.Index, at.Executed
	}
	return status
}

func (n *Node) state() State {
	if n.failed() != nil {
		return Error
	}
	if n.closed.Load() {
		return Offline
	}
	return State(n.known().state.String())
}

// Digest returns the digest of the data visible now, and the position that it
// belongs to: members at the same log index have the same one.
func (n *Node) Digest() (Digest, applier.Position, error) {
	if n.closed.Load() {
		return Digest{}, applier.Position{}, ErrClosed
	}
	return n.engine.Digest()
}

// Address returns the address that is told to other members.
func (n *Node) Address() string { return n.address }

func viewOf(v gcs.View) View {
	view := View{ID: v.ID, Index: v.Index, Members: make([]Member, 0, len(v.Members))}
	if v.ID > 0 {
		view.Cause = fmt.Sprintf("%s %s", v.Cause.Member.UUID, v.Cause.Kind)
	}
	for _, m := range v.Members {
		view.Members = append(view.Members, Member{
			UUID: m.UUID, RaftID: m.RaftID, Address: m.Address,
			Version: m.Version, Weight: m.Weight, State: State(m.State.String()),
		})
	}
	return view
}
