package concordat

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/concordatdb/concordat/applier"
	"github.com/concordatdb/concordat/gcs"
	"github.com/concordatdb/concordat/gcs/transport"
	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/internal/forced"
	"github.com/concordatdb/concordat/internal/replica"
	"github.com/concordatdb/concordat/internal/standing"
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
	compared  bool // its data can be compared with those of others
	transport *transport.Transport

	commits   *admission
	giants    *admission // one transaction in fragments at a time
	early     *early
	conflicts *conflictLog
	snapshots snapshots
	floor     floors
	drain     drain
	flow      *throttle
	slowed    atomic.Pointer[time.Time] // since when flow control limits this member, nil while it does not
	slowest   uint64                    // raft id of the member in the last event of that; the publishing goroutine's
	slowestAt time.Time                 // when that was
	// stillNoted: there is an event of that it hangs; the publishing goroutine's.
	stillNoted bool
	draining   draining    // what drain is shut for; the publishing goroutine's
	begun      gtid.UUID   // the action whose begin was noted last; the publishing goroutine's
	writer     atomic.Bool // the member has the right to write, and nothing that it has heard is against it
	visible    bell        // rung after each batch applied
	changed    bell        // rung when standing changes
	events     events
	consumers  consumers     // of changes
	dumps      atomic.Int64  // that are being given
	donations  donations     // copies of this member's state
	recovery   recoveryState // and what it copies or replays itself
	counters   counters

	life     atomic.Pointer[life]
	standing atomic.Pointer[known]
	failure  atomic.Pointer[error]
	quorum   gate

	// main alone changes these; who else looks at one finds it atomic.
	onRecord  atomic.Pointer[record]
	seedList  atomic.Pointer[[]string] // given by an order, nil for those of cfg
	orders    orders
	exit      atomic.Pointer[exit]
	exited    sync.Once // the program was told of the exit
	rejoinTry atomic.Int32
	waits     atomic.Pointer[waits]
	left      atomic.Bool                   // in order, in this run
	firstIdle bool                          // there was nobody to ask when the node was opened
	entering  standing.Trigger              // by which the next life begins
	donor     atomic.Pointer[string]        // wished for by an order
	frozenFor atomic.Pointer[gtid.UUID]     // plan of force-members
	part      atomic.Pointer[forced.Record] // in a plan of force-members
	reports   map[uint64]lastReport         // of the others, by raft id, of the lives that have ended
	last      *life                         // that has just ended, for an order
	aligning  sync.Mutex                    // held while a plan changes the log of a frozen member
	// interrupted is the phase that an order has ended, while it is carried out.
	interrupted phase
	spent       bool     // a life has used the session of the identity on disk
	triesMade   int      // to come back since the member was last ONLINE
	patient     bool     // the next life gives the others the time of a try to be there too
	patience    patience // of who coordinates a plan of force-members

	own stateOfMember

	lifetime context.Context
	stop     context.CancelFunc // ends main
	ended    chan struct{}      // closed when main has ended
	helpers  helpers            // goroutines that outlive the call that began them
	looking  atomic.Bool        // one of them looks whether the group goes on without this member
	closed   atomic.Bool
	close    func() error
}

// waits is why a member that is in no view yet still waits.
type waits struct {
	asked []string
	err   error
}

// known is what was last published about the member.
type known = replica.Status

type counters struct {
	committed, duplicates, conflicts, snapshotsTooOld atomic.Uint64
	applied, logWrites                                atomic.Uint64
	logNanos, checkNanos                              atomic.Int64
	checks, checkedPairs                              atomic.Uint64
}

func (n *Node) known() known { return *n.standing.Load() }

// publish makes known what the state machine knows, and begins what follows from
// it. One goroutine at a time calls it.
func (n *Node) publish(s replica.Status) {
	before := n.standing.Swap(&s)
	self, _ := n.selfIn(&s)
	n.writer.Store(self.Writes && !s.Alone && s.Outdated == 0)
	n.quorum.set(s.Quorum || s.QuorumUnknown)
	switch {
	case s.State == replica.Online && n.state() == Recovering:
		n.recovery.end()
		n.move(standing.CaughtUp)
	case s.State == replica.Recovering && n.state() == Recovering:
		target := s.Delivered
		for _, p := range s.Peers {
			target = max(target, p.Report.Delivered)
		}
		n.recovery.follow(s.Applied, target)
	}
	n.followFlow(&s)
	n.followAction(&s)
	n.noteRights(before, &s)
	n.changed.broadcast()
	if !s.Quorum && !s.QuorumUnknown {
		n.visible.broadcast() // some wait for that only while there is a quorum
	}
}

// viewChanged tells the transport who the peers are.
func (n *Node) viewChanged(v gcs.View) {
	n.note(EventView, v.Cause.Member.UUID, "view %d of %d members at log index %d: %s", v.ID, len(v.Members), v.Index, causeOf(v.Cause))
	if err := n.checkAddress(v); err != nil {
		n.fail(err)
	}
	n.setPeers(v.Members...)
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

func (n *Node) setPeers(members ...gcs.Member) {
	peers := make(map[uint64]string, len(members))
	for _, m := range members {
		if m.UUID != n.id.Member { // under whatever raft id it once was
			peers[m.RaftID] = m.Address
		}
	}
	n.transport.SetPeers(peers)
}

// fail takes the member to ERROR. The first cause counts.
func (n *Node) fail(err error) {
	err = fmt.Errorf("%w: %w", ErrFailed, err)
	if n.failure.CompareAndSwap(nil, &err) {
		n.logger.Error("member failed", "member", n.id.Member, "err", err)
		n.move(standing.StoreFailed)
		n.act(err)
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

// waitOnline returns when the member serves transactions, or says why it will
// not.
func (n *Node) waitOnline(ctx context.Context) error {
	err := n.changed.until(ctx, func() bool {
		e := n.lost()
		return n.state() == Online || n.failed() != nil || n.closed.Load() || e != nil && e.final
	})
	switch e := n.lost(); {
	case err != nil:
		if w := n.waits.Load(); w != nil && n.state() == Offline {
			err = errors.Join(err, w.err)
		}
		return fmt.Errorf("%w: still %s when the wait ended: %s: %w", ErrNotOnline, n.state(), n.Status().Diagnosis.Text, err)
	case n.failed() != nil:
		return n.failed()
	case e != nil:
		return e.err
	}
	return nil
}

// serving returns nil if the member takes transactions that write. It says
// nothing of the quorum, see [Node.quorate].
func (n *Node) serving() error {
	switch e := n.lost(); {
	case n.closed.Load():
		return ErrClosed
	case n.failed() != nil:
		return n.failed()
	case e != nil:
		return fmt.Errorf("%w: %w", ErrNotOnline, e.err)
	case n.state() != Online:
		return fmt.Errorf("%w: it is %s", ErrNotOnline, n.state())
	}
	return nil
}

// reading returns nil if the member shows what it holds. One in ERROR still does, as
// old as that is, unless its ExitStateAction forbids it, or the transaction asks for
// more, or what it holds is known to be wrong.
func (n *Node) reading(o *txOptions) error {
	e, failed := n.lost(), n.failed() != nil
	closedToAll := (failed || e != nil && e.final) && n.cfg.ExitStateAction != ReadOnly
	closedToAll = closedToAll || e != nil && errors.Is(e.err, ErrDiffers)
	inError := failed || e != nil && !e.never
	if !n.closed.Load() && inError && !closedToAll && o.level == Eventual && !o.bounded {
		return nil
	}
	return n.serving()
}

// commit hands a transaction to the group and waits for its fate. Until the
// group has it, an error means that nothing happened.
func (n *Node) commit(ctx context.Context, tx *Tx, message []byte, fragments [][]byte) (replica.Answer, error) {
	if err := n.serving(); err != nil {
		return replica.Answer{}, err
	}
	if err := n.quorate(ctx); err != nil {
		return replica.Answer{}, err
	}
	lost := n.quorum.lost(ctx)
	if err := n.commits.enter(ctx, len(message), lost); err != nil {
		return replica.Answer{}, fmt.Errorf("concordat: nothing was committed, too many commits are waiting for the group (MaxPendingCommits, MaxPendingBytes): %w", err)
	}
	l := n.life.Load()
	if l == nil {
		n.commits.leave(len(message))
		return replica.Answer{}, n.notServing()
	}
	ticket, c := l.calls.add(tx, len(message))
	c.fragments = len(fragments)
	err := n.hold(ctx, l, lost, tx, func() bool {
		if tx.submitted = l.inbox.put(replica.Submitted{Ticket: ticket, Message: message, Fragments: fragments}); tx.submitted {
			n.flow.charge(tx.pass, tx.size)
			tx.leaveDrain()
		}
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
		return replica.Answer{}, n.leaveBehind(l, ticket, tx, c, context.Cause(ctx))
	case <-lost:
		return replica.Answer{}, n.leaveBehind(l, ticket, tx, c, ErrNoQuorum)
	case <-l.done:
	}
	select {
	case a := <-c.done:
		return a, nil
	default:
		return replica.Answer{}, n.outcomeUnknown(tx, c, n.notServing())
	}
}

// outcomeUnknown says how far a commit has come that nobody waits for any more.
func (n *Node) outcomeUnknown(tx *Tx, c *call, cause error) error {
	e := &OutcomeUnknownError{ID: tx.id, Cause: cause, Index: c.commits.Load()}
	if e.Index != 0 {
		e.Missing = n.named(n.standing.Load().GateWaits) // they keep nothing from being ordered
	}
	return e
}

// notServing is serving for a caller who knows already that it is not.
func (n *Node) notServing() error {
	if err := n.serving(); err != nil {
		return err
	}
	return ErrNotOnline
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
	n.helpers.wait()
	n.move(standing.Closed)
	return n.close()
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
