package concordat

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/concordatdb/concordat/flowcontrol"
	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/internal/replica"
)

// FlowControl is how the group keeps its members from falling behind. It is part of
// [GroupSettings].
type FlowControl = flowcontrol.Settings

// FlowControlMode is the law by which it does.
type FlowControlMode = flowcontrol.Mode

// The modes.
const (
	// FlowAdaptive lets the group write what its slowest member can apply, so that
	// what waits there takes about FlowControl.TargetLag. While nobody is behind it
	// limits nothing.
	FlowAdaptive = flowcontrol.ModeAdaptive
	// FlowQuota is the formula of Group Replication, with its variables.
	FlowQuota = flowcontrol.ModeQuota
	// FlowDisabled slows nobody.
	FlowDisabled = flowcontrol.ModeDisabled
)

// FlowControlScope says whose pace counts in FlowAdaptive.
type FlowControlScope = flowcontrol.Scope

// The scopes.
const (
	FlowAll      = flowcontrol.ScopeAll      // the slowest member's
	FlowMajority = flowcontrol.ScopeMajority // that of the slowest of a majority; a minority may fall behind
)

// DefaultFlowControl returns what a group has that has chosen nothing.
func DefaultFlowControl() FlowControl { return flowcontrol.Defaults() }

// ErrThrottled: the wait for flow control to let the transaction begin ended first.
// Nothing happened. The error is a *ThrottledError.
var ErrThrottled = errors.New("concordat: transaction has not begun, as the group is slowed")

// ThrottledError says why a transaction that writes was not let begin. It matches
// [ErrThrottled], and what ended the wait.
type ThrottledError struct {
	// Limiting is the member that the group is slowed for, and Lag how far behind it
	// is.
	Limiting gtid.UUID
	Lag      time.Duration
	// Quota is what this member may write, in transactions a second of the present
	// size; of a period, in FlowQuota. Stopped says that nobody writes before
	// Limiting has come closer.
	Quota   uint64
	Stopped bool
	// Waited is for how long this transaction has waited, and Waiting how many did
	// beside it.
	Waited  time.Duration
	Waiting int
	Cause   error
}

// Error says for whom the group is slowed, and what to do.
func (e *ThrottledError) Error() string {
	what := fmt.Sprintf("%d transactions may begin here a second", e.Quota)
	if e.Stopped {
		what = "nobody writes before it has come closer"
	}
	return fmt.Sprintf("%v, nothing happened: member %s is %v behind, and %s; this one waited for %v beside %d others; wait longer, write less, or see concordat flow: %v",
		ErrThrottled, e.Limiting, e.Lag.Round(time.Millisecond), what, e.Waited.Round(time.Millisecond), e.Waiting, e.Cause)
}

// Is reports whether target is ErrThrottled.
func (e *ThrottledError) Is(target error) bool { return target == ErrThrottled }

// Unwrap returns what ended the wait.
func (e *ThrottledError) Unwrap() error { return e.Cause }

// errFlowFull ends a wait that has not begun.
var errFlowFull = fmt.Errorf("%w: %d transactions wait here already", ErrTooLarge, flowcontrol.MaxWaiting)

// MaxTag bounds the tag of a transaction, in bytes.
const MaxTag = 64

// WithTag puts a transaction that writes into a class of this member's transactions.
// While the group is slowed, classes share what this member may write by their
// weights, 1 to 1000, and within one those begin first that came first. A weight of 0
// stands for 1. A tag is text that can be printed; the empty one, with weight 0, is
// none: transactions without a tag are a class of weight 1.
func WithTag(tag string, weight int) TxOption {
	return func(o *txOptions) { o.tag, o.weight = tag, weight }
}

// CheckTag reports what is wrong with a tag and its weight, see [WithTag]. The error
// matches ErrInvalid.
func CheckTag(tag string, weight int) error {
	switch {
	case len(tag) > MaxTag || weight < 0 || weight > flowcontrol.MaxWeight:
		return fmt.Errorf("%w: tag of %d bytes with weight %d; at most %d bytes and a weight of 0 to %d", ErrInvalid,
			len(tag), weight, MaxTag, flowcontrol.MaxWeight)
	case tag == "" && weight != 0:
		return fmt.Errorf("%w: weight %d without a tag; transactions without one are a class of weight 1", ErrInvalid, weight)
	case strings.ContainsFunc(tag, func(r rune) bool { return r == utf8.RuneError || !unicode.IsPrint(r) }):
		return fmt.Errorf("%w: tag %q cannot be printed; write UTF-8 without control characters", ErrInvalid, tag)
	}
	return nil
}

// throttle lets transactions begin at the pace that the state machine has decided.
// While there is no limit, that costs an atomic load for each, and two additions for
// each that is handed to the group.
type throttle struct {
	limited        atomic.Bool
	local, offered atomic.Uint64
	began          time.Time

	mu      sync.Mutex
	admit   *flowcontrol.Admission
	step    uint64 // of the last decision taken up
	next    uint64
	waiting map[uint64]chan flowcontrol.Pass
}

func newThrottle() *throttle {
	return &throttle{began: time.Now(), admit: flowcontrol.NewAdmission(), waiting: map[uint64]chan flowcontrol.Pass{}}
}

func (f *throttle) now() time.Duration { return time.Since(f.began) }

// counts is what the state machine tells the others.
func (f *throttle) counts() flowcontrol.Counts {
	f.mu.Lock()
	defer f.mu.Unlock()
	held, waited := f.admit.Held()
	return flowcontrol.Counts{
		Local: f.local.Load(), Offered: f.offered.Load(), Held: held, Waited: uint64(waited / time.Microsecond),
		Queue: uint64(f.admit.Waiting()), Used: f.admit.Used(),
	}
}

// decide takes up what was decided, or lets time pass if that is nothing new.
func (f *throttle) decide(d *flowcontrol.Decision) {
	if !d.Throttled && !f.limited.Load() {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	now := f.now()
	if d.Step == f.step {
		f.grant(f.admit.Advance(now))
		return
	}
	f.step = d.Step
	f.limited.Store(d.Throttled)
	f.grant(f.admit.Decide(now, d))
}

// open lets everybody begin, for this member does not write: who waits hears that.
func (f *throttle) open() { f.decide(&flowcontrol.Decision{Step: ^uint64(0)}) }

func (f *throttle) grant(grants []flowcontrol.Grant) {
	for _, g := range grants {
		f.waiting[g.ID] <- g.Pass // has room for it
		delete(f.waiting, g.ID)
	}
}

// ask asks for one transaction. Without a channel it may begin.
func (f *throttle) ask(o *txOptions) (id uint64, wait <-chan flowcontrol.Pass, p flowcontrol.Pass, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.next++
	outcome, p := f.admit.Ask(f.now(), f.next, o.tag, uint32(o.weight))
	switch outcome {
	case flowcontrol.Admitted:
		return 0, nil, p, nil
	case flowcontrol.Refused:
		return 0, nil, p, errFlowFull
	case flowcontrol.Waits:
	}
	c := make(chan flowcontrol.Pass, 1)
	f.waiting[f.next] = c
	return f.next, c, p, nil
}

// withdraw ends the wait of one that goes, and gives back what it was given at the
// same moment.
func (f *throttle) withdraw(id uint64, wait <-chan flowcontrol.Pass) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.admit.Withdraw(f.now(), id) {
		delete(f.waiting, id)
		return
	}
	f.admit.Refund(<-wait)
}

// refund gives back the pass of a transaction that comes to nothing.
func (f *throttle) refund(p flowcontrol.Pass) {
	if p.Reserved > 0 {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.admit.Refund(p)
	}
}

// charge notes a transaction that the group has been handed.
func (f *throttle) charge(p flowcontrol.Pass, bytes int) {
	cost := flowcontrol.Cost(bytes)
	f.local.Add(1)
	f.offered.Add(cost)
	if f.limited.Load() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.admit.Charge(p, cost)
	}
}

// admitted returns when a transaction that writes may begin as far as flow control
// goes, before its snapshot is fixed and anything of the engine is held.
func (n *Node) admitted(ctx context.Context, o *txOptions) (flowcontrol.Pass, error) {
	f := n.flow
	if !f.limited.Load() {
		return flowcontrol.Pass{}, nil
	}
	began := time.Now()
	id, wait, p, err := f.ask(o)
	if err == nil && wait == nil {
		return p, nil
	}
	if err == nil {
		select {
		case p = <-wait:
			return p, nil
		case <-ctx.Done():
			err = context.Cause(ctx)
		case <-n.quorum.lost(ctx):
			err = ErrNoQuorum
		}
		f.withdraw(id, wait)
	}
	d := &n.standing.Load().Flow.Decision
	e := &ThrottledError{
		Lag: d.Lag, Quota: d.Transactions(), Stopped: d.Stopped, Waited: time.Since(began), Waiting: int(f.counts().Queue), Cause: err,
	}
	if m := n.named([]uint64{d.Limiting}); len(m) > 0 {
		e.Limiting = m[0]
	}
	return p, e
}

// FlowStatus says who slows whom, as a member sees it.
type FlowStatus struct {
	Mode FlowControlMode
	// Throttled: transactions that write begin here at a limited pace, since Since.
	Throttled bool
	Since     time.Time
	// Stopped: none begins before Limiting has come closer.
	Stopped bool
	// Limiting is the member that the group is slowed for, Lag how far behind it is,
	// and Inputs says the same and the quotas in a sentence.
	Limiting gtid.UUID
	Lag      time.Duration
	Inputs   string
	// Transactions and Bytes are about what this member may write in a second, and
	// Group what the group may, in transactions of the present size. In FlowQuota
	// Transactions is that of a period.
	Transactions, Bytes, Group uint64
	// Waiting are the transactions that wait here now. Held had to wait since the
	// node was opened, for Waited together.
	Waiting int
	Held    uint64
	Waited  time.Duration
	Tags    []TagFlow // of this member's transactions, by tag
	Members []MemberFlow
}

// TagFlow is what was counted of the transactions of a tag, while there was a limit.
type TagFlow = flowcontrol.TagCount

// MemberFlow is what a member has told of its work, and what was made of that.
type MemberFlow struct {
	Member gtid.UUID
	// Counts says whether it can slow the others: it is not exempt, not RECOVERING,
	// and heard.
	Counts             bool
	Exempt, Recovering bool
	// Heard is how long ago it told this.
	Heard time.Duration
	// Lag is how long its engine will take for what it has yet to do, and Age how
	// long the oldest of that has waited.
	Lag, Age time.Duration
	// Still is for how long its engine has finished nothing although it has work.
	Still time.Duration
	// Waiting are the transactions that it has judged and does not show yet, and
	// Backlog the log entries that it has not judged.
	Waiting, Backlog uint64
	// Capacity is what its engine does while it has work, in transactions and bytes a
	// second, 0 where that is not known.
	Capacity, CapacityBytes uint64
	Applied                 uint64 // transactions, since its process started
	// Demand is what its callers ask for, in transactions of the present size a second.
	Demand uint64
	// Queue is how many of them wait, Held how many had to, and Waited for how long.
	Queue, Held uint64
	Waited      time.Duration
}

// flowStatus is what is known of flow control now.
func (n *Node) flowStatus(s *known) FlowStatus {
	d := &s.Flow.Decision
	f := FlowStatus{
		Mode: s.Settings.Flow.Mode, Throttled: d.Throttled && n.writer.Load(), Stopped: d.Stopped, Lag: d.Lag,
		Transactions: d.Transactions(), Bytes: d.Bytes(), Group: d.Group / max(d.Size, 1),
	}
	if since := n.slowed.Load(); since != nil && f.Throttled {
		f.Since = *since
	}
	if m := n.named([]uint64{d.Limiting}); len(m) > 0 {
		f.Limiting = m[0]
	}
	f.Inputs = d.Inputs(f.Limiting.String())
	n.flow.mu.Lock()
	f.Waiting, f.Tags = n.flow.admit.Waiting(), n.flow.admit.Tags()
	f.Held, f.Waited = n.flow.admit.Held()
	n.flow.mu.Unlock()
	for i := range s.Flow.Members {
		f.Members = append(f.Members, n.memberFlow(s, &s.Flow.Members[i]))
	}
	return f
}

func (n *Node) memberFlow(s *known, m *flowcontrol.Member) MemberFlow {
	x := &m.Sample
	view, _ := s.View.Member(m.ID)
	out := MemberFlow{
		Member: view.UUID, Exempt: x.Exempt, Recovering: x.Recovering, Heard: m.Heard, Age: x.Age(),
		Waiting: x.WaitingApply, Backlog: x.WaitingCertify, Applied: x.Applied,
		Queue: x.Queue, Held: x.Held, Waited: time.Duration(min(x.Waited, 1<<53)) * time.Microsecond,
	}
	out.Counts = !m.Out && !x.Exempt && !x.Recovering
	i := slices.IndexFunc(s.Flow.Rates, func(r flowcontrol.Rates) bool { return r.ID == m.ID })
	if i >= 0 {
		r := &s.Flow.Rates[i]
		out.Lag, out.Capacity, out.Still = r.Lag, r.CapacityTransactions, r.Still
		out.CapacityBytes = r.Capacity - min(r.Capacity, r.CapacityTransactions*flowcontrol.TransactionCost)
		out.Demand = r.Demand / max(1, r.Size)
	}
	return out
}

// followFlow takes up what the state machine has decided, and puts into the history
// when that begins and ends to slow this member. Publishing calls it.
func (n *Node) followFlow(now *known) {
	if !n.writer.Load() || now.State != replica.Online {
		n.flow.open()
		n.noteFlow(now, false)
		return
	}
	n.flow.decide(&now.Flow.Decision)
	n.noteFlow(now, now.Flow.Decision.Throttled)
}

func (n *Node) noteFlow(s *known, throttled bool) {
	since := n.slowed.Load()
	d := &s.Flow.Decision
	switch {
	case throttled && since == nil:
		n.slowed.Store(new(time.Now()))
		n.slowest = d.Limiting
	case throttled && n.slowest != d.Limiting && time.Since(n.slowestAt) > flowEventPause:
		n.slowest = d.Limiting
	case throttled && n.standsStill(s):
		return
	case !throttled && since != nil:
		n.slowed.Store(nil)
		n.stillNoted = false
		held, waited := n.flow.held()
		n.note(EventFlowReleased, n.id.Member, "after %v; since the node was opened %d transactions have waited for %v",
			time.Since(*since).Round(time.Millisecond), held, waited.Round(time.Millisecond))
		return
	default:
		return
	}
	n.slowestAt = time.Now()
	var about gtid.UUID
	if m := n.named([]uint64{d.Limiting}); len(m) > 0 {
		about = m[0]
	}
	n.note(EventFlowThrottled, about, "%v: %s", s.Settings.Flow.Mode, d.Inputs(about.String()))
}

// standsStill puts into the history, once, that the member which the group is slowed
// for does nothing at all, and reports whether it did that now.
func (n *Node) standsStill(s *known) bool {
	i := slices.IndexFunc(s.Flow.Rates, func(r flowcontrol.Rates) bool { return r.ID == s.Flow.Decision.Limiting })
	still := i >= 0 && s.Flow.Rates[i].Still >= FlowStill
	began := still && !n.stillNoted
	n.stillNoted = still
	if m := n.named([]uint64{s.Flow.Decision.Limiting}); began && len(m) > 0 {
		n.note(EventFlowThrottled, m[0], "%v: the engine of %s has finished nothing for %v although it has work; the group goes on at the pace of its floor, or not at all with a hard lag: end its process, or let a minority fall behind (flow-control-scope MAJORITY)",
			s.Settings.Flow.Mode, m[0], s.Flow.Rates[i].Still.Round(time.Second))
	}
	return began
}

// FlowStill is how long an engine that has work has finished nothing when it is taken
// to hang, and not to be slow.
const FlowStill = 10 * time.Second

// flowEventPause is how long another member has limited at least when that is an
// event of its own.
const flowEventPause = 10 * time.Second

func (f *throttle) held() (held uint64, waited time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.admit.Held()
}

// ParseFlowControlMode returns the mode of a name, as in ADAPTIVE.
func ParseFlowControlMode(text string) (FlowControlMode, error) { return flowcontrol.ParseMode(text) }

// ParseFlowControlScope returns the scope of a name, as in MAJORITY.
func ParseFlowControlScope(text string) (FlowControlScope, error) {
	return flowcontrol.ParseScope(text)
}
