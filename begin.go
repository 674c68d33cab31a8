package concordat

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/concordatdb/concordat/election"
	"github.com/concordatdb/concordat/gcs"
	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/internal/consistency"
	"github.com/concordatdb/concordat/internal/replica"
)

// floors are what must be visible before a transaction may begin here, as the state
// machine has told last. They only rise in a life: what was visible stays so, and a
// floor that is passed costs the next one nothing.
type floors struct{ gate, change atomic.Uint64 }

// raise is called before anybody is told what the floor stands for.
func (f *floors) raise(to consistency.Floor) {
	raise(&f.gate, to.Gate)
	raise(&f.change, to.Change)
}

func raise(v *atomic.Uint64, to uint64) {
	for now := v.Load(); now < to && !v.CompareAndSwap(now, to); now = v.Load() {
	}
}

// reset is for a new life, whose log may be another one.
func (f *floors) reset() {
	f.gate.Store(0)
	f.change.Store(0)
}

func (f *floors) floor() consistency.Floor {
	return consistency.Floor{Gate: f.gate.Load(), Change: f.change.Load()}
}

// passed forgets what is visible.
func (f *floors) passed(visible uint64) {
	for _, v := range [...]*atomic.Uint64{&f.gate, &f.change} {
		if at := v.Load(); at != 0 && at <= visible {
			v.CompareAndSwap(at, 0) // or it has just been raised
		}
	}
}

// beginAt returns when a transaction may take its snapshot, by its level and its
// bounds. One that writes has entered the drain then, and has to leave it. What it
// waits for, in this order: the session, the read index, the right to write, and
// the floor, which only ever is what others were told before. At Eventual, where no
// After transaction is on its way, it costs two atomic loads, and two more with the
// drain. With an error nothing happened.
func (n *Node) beginAt(ctx context.Context, o *txOptions, write bool) error {
	s := n.standing.Load()
	o.level = consistency.Resolve(o.level, n.cfg.Consistency, s.Settings.Consistency)
	if write {
		if err := n.serving(); err != nil {
			return err
		}
		if !n.writer.Load() {
			_, patient := ctx.Deadline()
			if r := n.rightToWrite(s); r.settled(patient) {
				return r.err
			}
		}
	} else if err := n.reading(o); err != nil {
		return err
	}
	if o.bounded || o.level.WaitsBefore() || !o.session.IsEmpty() {
		if err := n.waitFresh(ctx, o); err != nil {
			return err
		}
	}
	if write {
		if err := n.enterWriters(ctx, o); err != nil {
			return err
		}
		if err := n.inEpoch(o.epoch); err != nil {
			n.drain.leave()
			return err
		}
	}
	want := n.floor.floor().For(o.level)
	if want == 0 {
		return nil
	}
	err := n.waitFloor(ctx, o, want, write)
	if err != nil && write {
		n.drain.leave()
	}
	return err
}

// waitFresh waits until what the transaction has to see is visible here.
func (n *Node) waitFresh(ctx context.Context, o *txOptions) error {
	l := n.life.Load()
	if !o.session.IsEmpty() {
		if err := n.waitSession(ctx, l, o); err != nil {
			e := n.waitError(o, WaitSession, 0, err)
			e.Session = o.session.Subtract(n.engine.Position().Executed)
			return e
		}
	}
	if !o.bounded && !o.level.WaitsBefore() {
		return nil
	}
	if l == nil {
		return n.waitError(o, WaitReadIndex, 0, n.notServing())
	}
	shown := func(uint64) bool { return false }
	if o.bounded && !o.level.WaitsBefore() {
		shown = l.reads.bound(o.atMost)
	}
	if shown(n.engine.Position().Index) {
		return nil
	}
	index, err := n.readIndex(ctx, l)
	if err != nil {
		return n.dated(l, o, n.waitError(o, WaitReadIndex, 0, err))
	}
	err = n.untilShown(ctx, l, func() bool {
		at := n.engine.Position().Index
		return at >= index || shown(at)
	})
	if err != nil {
		return n.dated(l, o, n.waitError(o, WaitApplied, index, err))
	}
	return nil
}

// errNoSuchSession is why a session is not waited for any longer.
var errNoSuchSession = fmt.Errorf("%w: the group had acknowledged nothing by these GTIDs when it was asked; they are of another group, or were lost when its membership was forced",
	ErrInvalid)

// waitSession waits until the transactions of a session are visible here. A caller
// that does not say how long it waits does not wait for ever for those of another
// group: what a commit has returned is acknowledged, so a read index covers it.
func (n *Node) waitSession(ctx context.Context, l *life, o *txOptions) error {
	has := func() bool { return o.session.SubsetOf(n.engine.Position().Executed) }
	if _, patient := ctx.Deadline(); patient || l == nil || has() {
		return n.untilShown(ctx, l, has)
	}
	var index uint64
	var unanswered error
	asking, answered := context.WithCancel(ctx)
	defer answered()
	done := make(chan struct{})
	go func() {
		defer close(done)
		if index, unanswered = n.readIndex(asking, l); unanswered == nil {
			answered()
		}
	}()
	err := n.untilShown(asking, l, has)
	answered()
	<-done
	if err == nil || unanswered != nil {
		return err
	}
	err = n.untilShown(ctx, l, func() bool { return has() || n.engine.Position().Index >= index })
	if err == nil && !has() {
		err = errNoSuchSession
	}
	return err
}

// readIndex returns a log index at or below which is everything that was
// acknowledged, or shown, anywhere before the call. The state machine asks once for
// all who call meanwhile.
func (n *Node) readIndex(ctx context.Context, l *life) (index uint64, err error) {
	ticket, answer := l.reads.ask()
	l.inbox.put(replica.ReadAsked{Ticket: ticket})
	select {
	case index = <-answer:
		return index, nil
	case <-ctx.Done():
		err = context.Cause(ctx)
	case <-n.quorum.lost(ctx):
		err = ErrNoQuorum
	case <-l.done:
		err = n.notServing()
	}
	l.reads.drop(ticket)
	l.inbox.put(replica.ReadWithdrawn{Ticket: ticket})
	return 0, err
}

// untilShown waits until cond holds of what is visible here: until ctx ends, or
// without a deadline until the quorum is lost, and while the life goes on by which
// more becomes visible.
func (n *Node) untilShown(ctx context.Context, l *life, cond func() bool) error {
	lost := n.quorum.lost(ctx)
	var ended error
	err := n.visible.until(ctx, func() bool {
		if cond() {
			ended = nil
			return true
		}
		if l == nil || n.stopped(l) {
			ended = n.notServing()
			return true
		}
		select {
		case <-lost:
			ended = ErrNoQuorum
			return true
		default:
			return false
		}
	})
	if err != nil {
		return err
	}
	return ended
}

// waitFloor waits until what others may show by now is visible here. A member that
// is out of its group serves readers what it has.
func (n *Node) waitFloor(ctx context.Context, o *txOptions, want uint64, write bool) error {
	if at := n.engine.Position().Index; at >= want {
		n.floor.passed(at)
		return nil
	}
	err := n.untilShown(ctx, n.life.Load(), func() bool { return n.engine.Position().Index >= want })
	if err == nil || !write && ctx.Err() == nil && n.serving() != nil && n.reading(o) == nil {
		return nil
	}
	step := WaitGate
	if n.floor.gate.Load() < want {
		step = WaitChange
	}
	e := n.waitError(o, step, want, err)
	if step == WaitGate {
		e.Missing = n.named(n.standing.Load().GateWaits)
	}
	return e
}

// waitError says how far a wait has come. Where time ran out for want of a majority
// it matches ErrNoQuorum too: another member may do better.
func (n *Node) waitError(o *txOptions, step WaitStep, want uint64, cause error) *WaitError {
	s := n.standing.Load()
	cut := !s.Quorum && !s.QuorumUnknown || step == WaitPrimary && s.Alone
	if cut && !errors.Is(cause, ErrNoQuorum) && n.serving() == nil {
		cause = fmt.Errorf("%w: %w", ErrNoQuorum, cause)
	}
	return &WaitError{Level: o.level, Step: step, Want: want, At: n.engine.Position().Index, Cause: cause}
}

// dated adds to the error of a transaction that asks for a bounded age how old the
// data are, and who has younger ones.
func (n *Node) dated(l *life, o *txOptions, e *WaitError) *WaitError {
	if !o.bounded {
		return e
	}
	e.Stale = l.reads.age(e.At)
	s := n.standing.Load()
	for _, p := range s.Peers {
		if age := n.ageOf(p); age != NotKnown && age <= o.atMost && !p.Unreachable {
			e.Fresher = append(e.Fresher, n.named([]uint64{p.RaftID})...)
		}
	}
	return e
}

// named are the members of the view with the given raft ids.
func (n *Node) named(raftIDs []uint64) (members []gtid.UUID) {
	view := n.standing.Load().View
	for _, id := range raftIDs {
		if m, ok := view.Member(id); ok {
			members = append(members, m.UUID)
		}
	}
	return members
}

// enterWriters returns when a transaction may write here, and has entered the drain.
func (n *Node) enterWriters(ctx context.Context, o *txOptions) error {
	for !n.enterAtOnce() {
		if err := n.waitRight(ctx, o); err != nil {
			return err
		}
	}
	return nil
}

// enterAtOnce enters first and then looks, so that a drain that has found nobody
// here is not entered by anybody who looked before.
func (n *Node) enterAtOnce() bool {
	if !n.drain.enter() {
		return false
	}
	if n.writer.Load() {
		return true
	}
	n.drain.leave()
	return false
}

// waitRight returns when it may be settled whether this member writes. A caller that
// says how long it waits is given that time also where nobody can tell.
func (n *Node) waitRight(ctx context.Context, o *txOptions) error {
	_, patient := ctx.Deadline()
	lost := n.quorum.lost(ctx)
	var r right
	var ended, cut error
	err := n.changed.until(ctx, func() bool {
		if ended = n.serving(); ended != nil {
			return true
		}
		if r = n.rightToWrite(n.standing.Load()); r.err == nil || r.settled(patient) {
			ended = r.err
			return true
		}
		select {
		case <-lost:
			cut = ErrNoQuorum
			return true
		default:
			return false
		}
	})
	if err = cmp.Or(err, cut); err != nil {
		e := n.waitError(o, WaitPrimary, 0, err)
		e.Reason = r.reason
		return e
	}
	return ended
}

// right is whether a member may write.
type right struct {
	err    error // why a transaction cannot begin now, nil if it can
	never  bool  // and waiting does not help
	held   bool  // it is held back, and everybody waits
	reason string
}

func noRight(err error, reason string) right { return right{err: err, reason: reason} }

// settled reports whether a caller is told at once that nothing begins here. One
// that says how long it waits is told later, where that may change.
func (r right) settled(patient bool) bool { return r.err != nil && (r.never || !r.held && !patient) }

// rightToWrite says whether the member may write, by what it knows. The right is
// judged again where the transaction is ordered; this is for the caller, who is
// better sent elsewhere at once.
func (n *Node) rightToWrite(s *known) right {
	self, member := n.selfIn(s)
	e := &s.Election
	switch shut := n.drain.shut.Load() != 0; {
	case self.Writes && s.Outdated != 0:
		reason := fmt.Sprintf("epoch %d has begun elsewhere, and this member has delivered up to epoch %d; ask another one who writes", s.Outdated, e.Epoch)
		r := noRight(readOnly(s, gtid.UUID{}, reason), reason)
		// Who is heard hears what has begun by and by.
		r.never, r.held = s.Alone, !s.Alone
		return r
	case self.Writes && s.Alone:
		reason := "too few of the others have told lately that they hear this primary; another one may have been elected, whom they can name"
		return noRight(fmt.Errorf("%w; nothing happened: %s", ErrNoQuorum, reason), reason)
	case self.Writes && shut:
		reason := "the group gives the right to write to another member, and nothing new begins here before that is settled"
		r := noRight(readOnly(s, n.id.Member, reason), reason)
		r.held = true
		return r
	case self.Writes:
		return right{}
	case member && self.Online && e.Action != nil && e.Action.Target == self.RaftID:
		return noRight(n.notPrimary(s), "the group is giving this member the right to write")
	case member && self.Online && e.Mode == SinglePrimary && e.Primary == 0:
		return noRight(n.notPrimary(s), "the group has no primary yet")
	}
	r := noRight(n.notPrimary(s), "")
	r.never = true
	return r
}

// inEpoch returns an error if the right to write, which the member has, is not one of
// the given epoch.
func (n *Node) inEpoch(epoch uint64) error {
	if epoch == 0 {
		return nil
	}
	s := n.standing.Load()
	if now := s.Election.Epoch; epoch > now {
		return readOnly(s, n.id.Member, fmt.Sprintf("the transaction is meant for epoch %d, and this member has come to epoch %d", epoch, now))
	}
	if self, _ := n.selfIn(s); self.Since > epoch {
		return readOnly(s, gtid.UUID{}, fmt.Sprintf("the transaction is meant for epoch %d, and this member has the right to write since epoch %d", epoch, self.Since))
	}
	return nil
}

// notPrimary is the error of a member without the right to write.
func (n *Node) notPrimary(s *known) error {
	e := &s.Election
	self, _ := n.selfIn(s)
	reason := "the group has given it no right to write yet; wait, or write at another member"
	switch {
	case e.Mode == SinglePrimary && e.Primary == 0:
		reason = "the group has no primary; wait until one is elected"
	case e.Mode == SinglePrimary:
		reason = "it is not the primary"
	case self.Version > e.Lowest():
		reason = fmt.Sprintf("it runs %s and the oldest ONLINE member %s: members of that version write", self.Version, e.Lowest())
	}
	return readOnly(s, n.id.Member, reason)
}

// readOnly names the primary, unless that is who answers.
func readOnly(s *known, self gtid.UUID, reason string) *ReadOnlyError {
	e := &ReadOnlyError{Epoch: max(s.Election.Epoch, s.Outdated), Reason: reason}
	if p, ok := s.Election.PrimaryMember(); ok && p.UUID != self && s.Outdated == 0 {
		m, _ := s.View.Member(p.RaftID)
		e.Primary, e.Address, e.ClientAddress = p.UUID, m.Address, p.ClientAddress
	}
	return e
}

// fenced is the error of a transaction that was ordered when its member had no
// right to write any more, or had lost it since the transaction was handed over.
func (n *Node) fenced() error {
	s := n.standing.Load()
	if self, _ := n.selfIn(s); self.Writes {
		return readOnly(s, gtid.UUID{}, "it had lost the right to write before the transaction was ordered, and has it again; run it again")
	}
	return readOnly(s, n.id.Member, "it had lost the right to write before the transaction was ordered")
}

// selfIn returns this member as the elections know it.
func (n *Node) selfIn(s *known) (election.Member, bool) {
	i := slices.IndexFunc(s.Election.Members, func(m election.Member) bool { return m.UUID == n.id.Member })
	if i < 0 {
		return election.Member{}, false
	}
	return s.Election.Members[i], true
}

// WaitWritable waits until transactions that write can begin here, and this member
// shows everything that was ordered before it got the right to write. It waits for
// as long as ctx lets it, unless the member is out of its group for good.
func (n *Node) WaitWritable(ctx context.Context) error {
	o := &txOptions{level: BeforeOnPrimaryFailover}
	var missing, ended error
	err := n.changed.until(ctx, func() bool {
		e := n.lost()
		if missing = n.serving(); missing == nil {
			missing = n.rightToWrite(n.standing.Load()).err
		} else if n.closed.Load() || n.failed() != nil || e != nil && e.final {
			ended = missing
		}
		return missing == nil || ended != nil
	})
	switch {
	case err != nil:
		e := n.waitError(o, WaitPrimary, 0, err)
		e.Reason = missing.Error()
		return e
	case ended != nil:
		return ended
	}
	return n.waitFloor(ctx, o, n.floor.floor().For(o.level), true)
}

// ageOf is how old at most another member said that its data are, and how long ago.
func (n *Node) ageOf(p gcs.Peer) time.Duration {
	if p.Report.Fresh >= gcs.NeverHeard || p.Heard >= gcs.NeverHeard {
		return NotKnown
	}
	return time.Duration(p.Report.Fresh+p.Heard) * n.cfg.TickInterval
}
