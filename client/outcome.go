package client

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/peer"

	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/proto/concordat/kv/v1"
)

// OutcomeState is what is known of a transaction's fate.
type OutcomeState byte

// The states of an outcome.
const (
	// OutcomeUnknown: no transaction with the id was decided in the part of the
	// log that the answer covers.
	OutcomeUnknown OutcomeState = iota
	// OutcomeCommitted: it has committed.
	OutcomeCommitted
	// OutcomeRefused: it was refused. Under the same id it may be tried again.
	OutcomeRefused
)

// String returns the state as a word for people.
func (s OutcomeState) String() string {
	switch s {
	case OutcomeCommitted:
		return "committed"
	case OutcomeRefused:
		return "refused"
	case OutcomeUnknown:
	}
	return "unknown"
}

// Outcome is the fate of a transaction, by its id.
type Outcome struct {
	State OutcomeState
	// GTID is that of one that has committed.
	GTID gtid.GTID
	// Reason matches one of this package's errors if it was refused; Winner is what
	// it lost to, if that was a conflict.
	Reason error
	Winner gtid.GTID
	// Index is the log index where it was decided, 0 if it is unknown.
	Index uint64
	// From and Until are the log indexes between which the member that was asked
	// remembers ids: an unknown one was not decided behind From and up to Until.
	From, Until uint64

	incarnation gtid.UUID // whose log that is; zero if it has changed meanwhile
}

// Outcome returns the fate of the transaction with an id. Any member knows it.
func (c *Client) Outcome(ctx context.Context, id gtid.UUID) (Outcome, error) {
	ctx, cancel := c.patience(ctx)
	defer cancel()
	var passed []gtid.UUID
	for tries := 0; ; tries++ {
		o, member, f := c.askAnother(ctx, id, passed)
		switch {
		case f.err == nil || f.fate == final:
			return o, f.err
		case ctx.Err() != nil || errors.Is(f.err, ErrClosed):
			return Outcome{}, f.err
		}
		passed = append(passed, member)
		if err := c.pause(ctx, tries); err != nil {
			return Outcome{}, errors.Join(f.err, err)
		}
	}
}

// ask asks one member.
func (c *Client) ask(ctx context.Context, r *route, id gtid.UUID) (Outcome, failure) {
	defer r.done()
	ctx, cancel := r.bind(ctx)
	defer cancel()
	var to peer.Peer
	a, err := r.kv.Outcome(ctx, &kvpb.OutcomeRequest{TransactionId: id.String()}, grpc.Peer(&to))
	if err != nil {
		return Outcome{}, judge(err, to.Addr != nil)
	}
	o, err := readOutcome(a)
	if err != nil {
		return Outcome{}, failure{elsewhere, err}
	}
	return o, failure{}
}

// readOutcome reads what came over the network.
func readOutcome(a *kvpb.OutcomeResponse) (o Outcome, err error) {
	o = Outcome{Index: a.GetIndex(), From: a.GetFrom(), Until: a.GetUntil()}
	if err := readUUID(&o.incarnation, a.GetIncarnation(), false); err != nil {
		return Outcome{}, err
	}
	switch a.GetState() {
	case kvpb.OutcomeResponse_STATE_UNKNOWN:
	case kvpb.OutcomeResponse_STATE_COMMITTED:
		o.State = OutcomeCommitted
		if o.GTID, err = gtid.Parse(a.GetGtid()); err != nil {
			return Outcome{}, fmt.Errorf("%w: %w", errSighting, err)
		}
	case kvpb.OutcomeResponse_STATE_REFUSED:
		o.State, o.Reason = OutcomeRefused, ErrRefused
		if kind, ok := kinds[a.GetReason()]; ok {
			o.Reason = kind.err
		}
		if text := a.GetWinner(); text != "" {
			if o.Winner, err = gtid.Parse(text); err != nil {
				return Outcome{}, fmt.Errorf("%w: %w", errSighting, err)
			}
		}
	default:
		return Outcome{}, fmt.Errorf("%w: state %d", errSighting, a.GetState())
	}
	return o, nil
}

// decision is what becomes of a transaction whose answer was lost.
type decision struct {
	committed bool
	gtid      gtid.GTID
	never     bool  // it has not committed, and cannot any more
	reason    error // of that, nil if none is known
}

// askFor is how long one member is asked for an outcome.
const askFor = time.Second

// resolve finds out what became of an attempt. Without an error it has committed, or
// never will, or it may be sent again under its id all the same, if that is safe.
func (c *Client) resolve(ctx context.Context, id gtid.UUID, a *attempt, blind bool) (decision, error) {
	passed := []gtid.UUID{a.member} // it may have stopped, and others know as much
	var last error
	for tries := 0; ; tries++ {
		o, member, f := c.askAnother(ctx, id, passed)
		switch {
		case f.err != nil && (ctx.Err() != nil || errors.Is(f.err, ErrClosed)):
			return decision{}, errors.Join(f.err, last)
		case f.err == nil && o.incarnation.IsZero():
			last = errors.New("the membership was forced while it was asked for")
		case f.err != nil:
			last = f.err
			passed = append(passed, member)
		case o.State == OutcomeCommitted:
			return decision{committed: true, gtid: o.GTID}, nil
		case o.State == OutcomeRefused && a.single && o.Index > a.seen:
			return decision{never: true, reason: o.Reason}, nil
		case c.fenced(a, &o):
			return decision{never: true, reason: errDemoted}, nil
		case o.incarnation == a.incarnation && o.From > a.seen:
			return decision{}, fmt.Errorf("the group remembers ids from log index %d on, and the transaction was sent at %d", o.From, a.seen)
		case blind:
			return decision{}, nil
		}
		if err := c.pause(ctx, tries); err != nil {
			return decision{}, errors.Join(err, last)
		}
	}
}

// askAnother asks a member for an outcome that is not among those to be passed over,
// if there is one, but not for long.
func (c *Client) askAnother(ctx context.Context, id gtid.UUID, passed []gtid.UUID) (Outcome, gtid.UUID, failure) {
	ctx, cancel := context.WithTimeout(ctx, askFor)
	defer cancel()
	r, err := c.toReader(ctx, Nearest(), passed, true)
	if err != nil {
		return Outcome{}, gtid.UUID{}, failure{elsewhere, err}
	}
	o, f := c.ask(ctx, r, id)
	return o, r.member, f
}

// fenced reports whether an attempt that is unknown cannot commit any more: in a
// later epoch its member had no right to write, and what was asked of it in the
// earlier one counts by that one's right only. So if the log up to that epoch does
// not have it, no log ever will.
func (c *Client) fenced(a *attempt, o *Outcome) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	h := c.held
	if h.incarnation != a.incarnation || o.incarnation != a.incarnation || h.epoch <= a.epoch || o.From > a.seen {
		return false
	}
	if h.mode == SinglePrimary {
		return h.primary != a.member && o.Until >= h.began
	}
	m := h.node(a.member)
	return (m == nil || !m.Writes) && o.Until >= h.index
}
