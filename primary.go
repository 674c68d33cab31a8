package concordat

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/concordatdb/concordat/election"
	"github.com/concordatdb/concordat/gcs"
	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/internal/replica"
)

// DefaultGrace is how long a planned change lets transactions finish that run where
// the right to write is taken away.
const DefaultGrace = 10 * time.Second

// Primary is the member that writes, as another one knows it.
type Primary struct {
	Member                 gtid.UUID
	Address, ClientAddress string // for members, and for clients; the second may be empty
	Epoch, Since           uint64 // the epoch, and the log index where it began
}

// Primary returns the group's primary. It is false in a multi-primary group, and
// where none can be elected.
func (n *Node) Primary() (Primary, bool) {
	s := n.standing.Load()
	p, ok := s.Election.PrimaryMember()
	if !ok {
		return Primary{}, false
	}
	m, _ := s.View.Member(p.RaftID)
	return Primary{p.UUID, m.Address, p.ClientAddress, s.Election.Epoch, s.Election.Began}, true
}

// Choice is how an election comes out: who wins, and how every member came off.
type Choice = election.Choice

// Why returns how an election would come out if it were held now, as this member
// sees the group. Why the present primary was elected is in [Node.Epochs].
func (n *Node) Why() Choice {
	s := n.sight()
	return s.Election.Why(unreachable(&s), n.progress(&s))
}

// progress is how far the members have applied the log, where that is to count.
func (n *Node) progress(s *known) (all []election.Progress) {
	if !s.Settings.PreferMostUpdated {
		return nil
	}
	for _, p := range s.Peers {
		if p.Heard != gcs.NeverHeard {
			all = append(all, election.Progress{RaftID: p.RaftID, Applied: p.Report.Applied})
		}
	}
	if self, ok := n.selfIn(s); ok {
		all = append(all, election.Progress{RaftID: self.RaftID, Applied: s.Applied})
	}
	slices.SortFunc(all, func(a, b election.Progress) int { return cmp.Compare(a.RaftID, b.RaftID) })
	return all
}

// EpochRecord is one of the group's epochs: the time from one change of who may
// write to the next.
type EpochRecord = election.Epoch

// Epochs returns the group's last 64 epochs as this member knows them, the present
// one last. They are part of what the group replicates.
func (n *Node) Epochs() []EpochRecord { return slices.Clone(n.standing.Load().Election.Past) }

// SwitchOption changes how a planned change of the primary, the mode or the protocol
// is made.
type SwitchOption func(*switchOptions)

type switchOptions struct {
	grace  time.Duration
	insist bool
	reason string
	id     gtid.UUID
}

// Grace sets how long transactions get to finish where the right to write is taken
// away; what runs then cannot commit. At most an hour; 0 means none. Default
// [DefaultGrace].
func Grace(d time.Duration) SwitchOption { return func(o *switchOptions) { o.grace = d } }

// InsistOnRecovering makes the change although members are RECOVERING or
// UNREACHABLE.
func InsistOnRecovering() SwitchOption { return func(o *switchOptions) { o.insist = true } }

// WithReason records why the change is made, on one line of at most 512 bytes.
func WithReason(reason string) SwitchOption { return func(o *switchOptions) { o.reason = reason } }

// WithActionID gives the change an id that the caller has drawn: so it can be looked
// up and taken back whatever becomes of the call. An id counts for one change only;
// without one, or with the zero UUID, one is drawn.
func WithActionID(id gtid.UUID) SwitchOption { return func(o *switchOptions) { o.id = id } }

// ActionKind is what a planned change changes.
type ActionKind = election.ActionKind

// ActionResult is how a planned change ended.
type ActionResult = election.Result

// ActionReport is a planned change: how far it is, or how it ended.
type ActionReport struct {
	ID     gtid.UUID
	Kind   ActionKind
	Asker  gtid.UUID // the member that was asked for it
	Target gtid.UUID // the primary to be, zero if there is none or it has gone
	Reason string    // of who asked
	// Result is 0 while the change is under way.
	Result ActionResult
	Text   string // the result in words
	// Pending are the members whose transactions it waits for.
	Pending []gtid.UUID
	// Cut is how many transactions still ran when the grace was over.
	Cut uint64
	// Epoch is the group's after the change, 0 where that is forgotten, or now;
	// Index the log index where it ended, or began.
	Epoch, Index uint64
	Took         time.Duration // of the call that made the change, 0 in other reports
}

// SetPrimary makes another member the primary of a single-primary group. The present
// one lets what it runs finish, holds back what would begin, and is followed by the
// new one without a moment in which a commit would be refused. SetPrimary returns
// once the new one has applied everything from before.
//
// What cannot be is refused with an error that matches [ErrRefused], and so ends a
// change that was cancelled, or whose member went away: then nothing has changed.
// After any other error the change may be made yet, and [Node.Action] tells by the
// id in the report.
func (n *Node) SetPrimary(ctx context.Context, member gtid.UUID, opts ...SwitchOption) (ActionReport, error) {
	return n.change(ctx, election.SetPrimary, member, 0, opts)
}

// SwitchToSinglePrimary has only one member write from here on: the one given, or
// with the zero UUID the one that ranks first. All others let what they run finish.
// Errors are as for [Node.SetPrimary].
func (n *Node) SwitchToSinglePrimary(ctx context.Context, member gtid.UUID, opts ...SwitchOption) (ActionReport, error) {
	return n.change(ctx, election.ToSingle, member, 0, opts)
}

// SwitchToMultiPrimary has all ONLINE members write. Errors are as for
// [Node.SetPrimary].
func (n *Node) SwitchToMultiPrimary(ctx context.Context, opts ...SwitchOption) (ActionReport, error) {
	return n.change(ctx, election.ToMulti, gtid.UUID{}, 0, opts)
}

// SetProtocol raises the version of what members tell each other, once all of them
// speak it. It can never be lowered, and keeps older builds out. Errors are as for
// [Node.SetPrimary].
func (n *Node) SetProtocol(ctx context.Context, protocol uint32, opts ...SwitchOption) (ActionReport, error) {
	return n.change(ctx, election.SetProtocol, gtid.UUID{}, election.Protocol(protocol), opts)
}

// Action returns what became of a planned change, or how far it is. It is false for
// one that this member does not know, or no longer: the last 16 that ended are kept.
func (n *Node) Action(id gtid.UUID) (ActionReport, bool) {
	s := n.standing.Load()
	if a := s.Election.Action; a != nil && a.ID == id {
		return reportAction(s, a), true
	}
	o, ok := s.Election.Outcome(id)
	if !ok {
		return ActionReport{}, false
	}
	return reportOutcome(s, &o), true
}

// CancelAction takes a planned change back that has not been made yet. One that has
// ended otherwise, or that the group does not know, is an error that matches
// [ErrRefused].
func (n *Node) CancelAction(ctx context.Context, id gtid.UUID) error {
	if err := n.serving(); err != nil {
		return err
	}
	if err := n.quorate(ctx); err != nil {
		return err
	}
	a, err := n.askAction(ctx, func(ticket uint64) replica.Event { return replica.CancelAsked{Ticket: ticket, ID: id} })
	switch {
	case err != nil:
		return err
	case a.Outcome == nil:
		return &RefusedError{Reason: fmt.Sprintf("the group knows no action %s, or has forgotten it", id)}
	case a.Outcome.Result != election.Cancelled:
		return &RefusedError{Reason: fmt.Sprintf("action %s has ended already, %s: %s", id, a.Outcome.Result, a.Outcome.Text)}
	}
	return nil
}

// change asks for a planned change, and waits for its end.
func (n *Node) change(ctx context.Context, kind election.ActionKind, member gtid.UUID, p election.Protocol, opts []SwitchOption) (ActionReport, error) {
	began := time.Now()
	a, o, err := n.newAction(kind, p, opts)
	if err != nil {
		return ActionReport{}, err
	}
	answer, err := n.beginAction(ctx, &a, member, &o)
	if err != nil {
		return ActionReport{ID: a.ID, Kind: kind, Took: time.Since(began)}, err
	}
	end := answer.Outcome
	if end == nil {
		if end, err = n.endOfAction(ctx, a.ID); err != nil {
			r, _ := n.Action(a.ID)
			r.ID, r.Kind, r.Took = a.ID, kind, time.Since(began)
			return r, err
		}
	}
	switch end.Result {
	case election.Done, election.DoneByFailover:
		n.awaitPrimary(ctx, end)
	default:
	}
	r := reportOutcome(n.standing.Load(), end)
	r.Took = time.Since(began)
	switch end.Result {
	case election.Done, election.DoneByFailover, election.NoChange:
		return r, nil
	default:
		return r, &RefusedError{Reason: fmt.Sprintf("%s %s: %s", kind, end.Result, end.Text), Forceable: n.forceable(end)}
	}
}

// newAction is what is to be asked for, but for what this member knows of the group.
func (n *Node) newAction(kind election.ActionKind, p election.Protocol, opts []SwitchOption) (election.Action, switchOptions, error) {
	o := switchOptions{grace: DefaultGrace}
	for _, opt := range opts {
		opt(&o)
	}
	if o.id.IsZero() {
		o.id = newTransactionID()
	}
	a := election.Action{ID: o.id, Kind: kind, Protocol: p, Force: o.insist, Reason: o.reason, Asker: n.id.Member}
	if kind == election.SetPrimary || kind == election.ToSingle {
		if o.grace < 0 || o.grace > election.MaxGrace*time.Millisecond {
			return a, o, fmt.Errorf("%w: a grace of %v; it must be between 0 and an hour", ErrInvalid, o.grace)
		}
		a.Grace = uint64(o.grace / time.Millisecond)
	}
	return a, o, nil
}

// forceable reports whether an action was refused for what can be insisted on.
func (n *Node) forceable(o *election.Outcome) bool {
	if o.Result != election.Refused || o.Force {
		return false
	}
	s := n.standing.Load()
	insisted := o.Action
	insisted.Force, insisted.Epoch, insisted.View, insisted.ID = true, s.Election.Epoch, s.Election.View, newTransactionID()
	return s.Election.Check(insisted) == nil
}

// beginAction asks the group until the request comes to its turn in the epoch and
// the view that it was made for. The answer is one that counts.
func (n *Node) beginAction(ctx context.Context, a *election.Action, member gtid.UUID, o *switchOptions) (replica.ActionAnswer, error) {
	for {
		if err := n.serving(); err != nil {
			return replica.ActionAnswer{}, err
		}
		if err := n.quorate(ctx); err != nil {
			return replica.ActionAnswer{}, err
		}
		s := n.standing.Load()
		if err := n.mayChange(s, a, member, o); err != nil {
			return replica.ActionAnswer{}, err
		}
		answer, err := n.askAction(ctx, func(ticket uint64) replica.Event { return replica.ActionAsked{Ticket: ticket, Action: *a} })
		if err != nil || answer.Outcome == nil || !answer.Outcome.Again {
			return answer, err
		}
		epoch, view := a.Epoch, a.View
		err = n.changed.until(ctx, func() bool {
			e := &n.standing.Load().Election
			return e.Epoch != epoch || e.View != view || n.serving() != nil
		})
		if err != nil {
			return answer, &RefusedError{Reason: answer.Outcome.Text}
		}
	}
}

// mayChange completes an action by what this member knows now, and refuses what the
// group would refuse, or what the others in its eyes speak against.
func (n *Node) mayChange(s *known, a *election.Action, member gtid.UUID, o *switchOptions) error {
	e := &s.Election
	a.Epoch, a.View, a.Target = e.Epoch, e.View, 0
	if !member.IsZero() {
		i := slices.IndexFunc(e.Members, func(m election.Member) bool { return m.UUID == member })
		if i < 0 {
			return &RefusedError{Reason: fmt.Sprintf("%s is no member of the group", member)}
		}
		a.Target = e.Members[i].RaftID
	}
	if err := e.Check(*a); err != nil {
		insisted := *a
		insisted.Force = true
		reason := err.Error()
		if refused, ok := errors.AsType[*election.RefusedError](err); ok {
			reason = refused.Reason
		}
		return &RefusedError{Reason: reason, Forceable: !a.Force && e.Check(insisted) == nil}
	}
	away := unreachable(s)
	if slices.Contains(away, a.Target) {
		return &RefusedError{Reason: fmt.Sprintf("member %s is UNREACHABLE; name one that is heard", member)}
	}
	if len(away) > 0 && !o.insist {
		return &RefusedError{Reason: fmt.Sprintf("members %v are UNREACHABLE; wait, remove them, or insist", n.named(away)), Forceable: true}
	}
	return nil
}

// askAction hands a request to the state machine, and returns what became of it at
// its place in the log.
func (n *Node) askAction(ctx context.Context, ask func(ticket uint64) replica.Event) (replica.ActionAnswer, error) {
	l := n.life.Load()
	if l == nil {
		return replica.ActionAnswer{}, n.notServing()
	}
	ticket, answer := l.actions.add()
	defer l.actions.drop(ticket)
	l.inbox.put(ask(ticket))
	select {
	case a := <-answer:
		return a, nil
	case <-ctx.Done():
		return replica.ActionAnswer{}, unansweredAction(context.Cause(ctx))
	case <-n.quorum.lost(ctx):
		return replica.ActionAnswer{}, unansweredAction(errQuorumLost)
	case <-l.done:
		return replica.ActionAnswer{}, unansweredAction(n.notServing())
	}
}

// unansweredAction wraps no cause of this package: those say that nothing happened.
func unansweredAction(cause error) error {
	if errors.Is(cause, context.Canceled) || errors.Is(cause, context.DeadlineExceeded) {
		return fmt.Errorf("concordat: no word from the group; the change may be made yet, and Action tells: %w", cause)
	}
	return fmt.Errorf("concordat: no word from the group; the change may be made yet, and Action tells: %s", cause.Error())
}

// endOfAction waits for the end of an action that has begun.
func (n *Node) endOfAction(ctx context.Context, id gtid.UUID) (*election.Outcome, error) {
	lost := n.quorum.lost(ctx)
	var end *election.Outcome
	var gone error
	err := n.changed.until(ctx, func() bool {
		e := &n.standing.Load().Election
		if o, ok := e.Outcome(id); ok {
			end = &o
			return true
		}
		switch {
		case n.closed.Load() || n.failed() != nil || n.lost() != nil || n.left.Load():
			gone = n.notServing()
		case e.Action == nil || e.Action.ID != id:
			gone = errors.New("so much was changed since that its end is forgotten")
		default:
			select {
			case <-lost:
				gone = errQuorumLost
			default:
			}
		}
		return gone != nil
	})
	if err = cmp.Or(err, gone); end == nil {
		return nil, unansweredAction(err)
	}
	return end, nil
}

// awaitPrimary waits until the primary that an action has made has applied what is
// older, for as long as it is one. That the change is made is true in any case.
func (n *Node) awaitPrimary(ctx context.Context, end *election.Outcome) {
	if end.Target == 0 {
		return
	}
	lost := n.quorum.lost(ctx)
	_ = n.changed.until(ctx, func() bool {
		s := n.standing.Load()
		if n.life.Load() == nil || s.Election.Primary != end.Target {
			return true
		}
		select {
		case <-lost:
			return true
		default:
		}
		if self, _ := n.selfIn(s); self.RaftID == end.Target {
			return n.engine.Position().Index >= end.Ended
		}
		for _, p := range s.Peers {
			if p.RaftID == end.Target {
				return p.Unreachable || p.Report.Applied >= end.Ended
			}
		}
		return true
	})
}

// reportAction tells of an action that is under way.
func reportAction(s *known, a *election.Action) ActionReport {
	r := ActionReport{
		ID: a.ID, Kind: a.Kind, Asker: a.Asker, Reason: a.Reason, Cut: a.Cut,
		Epoch: s.Election.Epoch, Index: a.Index,
	}
	if m, ok := s.Election.Member(a.Target); ok {
		r.Target = m.UUID
	}
	for _, id := range a.Pending {
		if m, ok := s.Election.Member(id); ok {
			r.Pending = append(r.Pending, m.UUID)
		}
	}
	return r
}

// reportOutcome tells of one that has ended.
func reportOutcome(s *known, o *election.Outcome) ActionReport {
	r := reportAction(s, &o.Action)
	r.Result, r.Text, r.Index, r.Epoch = o.Result, o.Text, o.Ended, 0
	for _, e := range s.Election.Past {
		if e.Index <= o.Ended {
			r.Epoch = e.Number
		}
	}
	return r
}
