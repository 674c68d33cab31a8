package client

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/peer"

	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/proto/concordat/kv/v1"
)

// Commit is a transaction that has committed.
type Commit struct {
	ID   gtid.UUID // of the transaction, by which Outcome knows it
	GTID gtid.GTID // zero if it wrote nothing
	// Member ran it, in Epoch. Where the answer was lost it is the one that was asked
	// last, and another one may have committed it before, under the same id.
	Member gtid.UUID
	Epoch  uint64
}

// Put sets a key.
func (c *Client) Put(ctx context.Context, key, value []byte, opts ...Option) (Commit, error) {
	return c.writeOne(ctx, opts, func(w *write, call *call) (string, error) {
		r, err := call.kv.Put(call.ctx, &kvpb.PutRequest{
			Table: w.o.table.proto(), Key: key, Value: value, Isolation: w.o.isolation(),
			TransactionId: w.id.String(), Gtid: w.o.wish, Freshness: w.o.freshnessOfWrite(call.epoch),
			FlowTag: w.o.tag, FlowWeight: uint32(w.o.weight),
		}, call.option)
		return r.GetGtid(), err
	})
}

// Delete removes a key; one that is not there is no error.
func (c *Client) Delete(ctx context.Context, key []byte, opts ...Option) (Commit, error) {
	return c.writeOne(ctx, opts, func(w *write, call *call) (string, error) {
		r, err := call.kv.Delete(call.ctx, &kvpb.DeleteRequest{
			Table: w.o.table.proto(), Key: key, Isolation: w.o.isolation(),
			TransactionId: w.id.String(), Gtid: w.o.wish, Freshness: w.o.freshnessOfWrite(call.epoch),
			FlowTag: w.o.tag, FlowWeight: uint32(w.o.weight),
		}, call.option)
		return r.GetGtid(), err
	})
}

// Add adds to the counter under a key, which counts from 0. Calls that add to one
// counter do not conflict with each other.
func (c *Client) Add(ctx context.Context, key []byte, delta int64, opts ...Option) (Commit, error) {
	return c.writeOne(ctx, opts, func(w *write, call *call) (string, error) {
		r, err := call.kv.Add(call.ctx, &kvpb.AddRequest{
			Table: w.o.table.proto(), Key: key, Delta: delta, Isolation: w.o.isolation(),
			TransactionId: w.id.String(), Gtid: w.o.wish, Freshness: w.o.freshnessOfWrite(call.epoch),
			FlowTag: w.o.tag, FlowWeight: uint32(w.o.weight),
		}, call.option)
		return r.GetGtid(), err
	})
}

// write is one transaction that is sent whole, and sent again while that is safe.
type write struct {
	c    *Client
	o    *options
	id   gtid.UUID
	send func(*write, *call) (gtidText string, err error)
	// blind: what it writes does not depend on what it finds. It may then be sent
	// again before its fate is known, under its id.
	blind  bool
	doubt  *attempt // the last of which nobody has said what became of it
	doubts int      // how many there are
	why    error    // of the last
}

// call is one request on its way.
type call struct {
	ctx    context.Context
	kv     kvpb.KVClient
	epoch  uint64
	option grpc.CallOption
}

// attempt is what was known when a transaction was sent, or committed.
type attempt struct {
	member, incarnation gtid.UUID
	epoch               uint64
	seen                uint64 // log index: it was decided behind that
	single              bool   // a refusal behind seen is its own: nothing else was broadcast under its id
}

func (c *Client) writeOne(ctx context.Context, opts []Option, send func(*write, *call) (string, error)) (Commit, error) {
	o, err := c.options(opts)
	if err != nil {
		return Commit{}, err
	}
	w := &write{c: c, o: o, id: o.transactionID(), send: send, blind: true}
	return w.run(ctx)
}

// transactionID is the one that was given, or one that is drawn. It has to be
// unique, not secret.
func (o *options) transactionID() (id gtid.UUID) {
	if !o.id.IsZero() {
		return o.id
	}
	for i := 0; i < len(id); i += 8 {
		for j, v := 0, rand.Uint64(); j < 8; j++ {
			id[i+j] = byte(v >> (8 * j))
		}
	}
	return id
}

func (w *write) run(ctx context.Context) (Commit, error) {
	ctx, cancel := w.c.patience(ctx)
	defer cancel()
	var passed []gtid.UUID
	for tries := 0; ; tries++ {
		r, err := w.c.toWriter(ctx, passed)
		if err != nil {
			return Commit{}, w.unknownIfInDoubt(err)
		}
		a := attempt{member: r.member, incarnation: r.incarnation, epoch: r.lane.epoch, seen: r.seen}
		text, f := w.try(ctx, r)
		if f.err == nil {
			return w.committed(a, text)
		}
		switch f.fate {
		case final:
			if w.doubt == nil {
				return Commit{}, f.err
			}
			if !Retryable(f.err) {
				return Commit{}, w.unknownIfInDoubt(f.err)
			}
		case elsewhere:
			passed = []gtid.UUID{r.member}
		case lost:
			// The first one decides from where on the log has to be known.
			if w.doubt != nil {
				a.seen = min(a.seen, w.doubt.seen)
			}
			w.doubt, w.why = &a, f.err
			w.doubts++
			passed = nil
		}
		if w.doubt != nil {
			d, err := w.c.resolve(ctx, w.id, w.doubt, w.blind)
			switch {
			case err != nil:
				return Commit{}, w.unknown(err, f.err)
			case d.committed:
				w.o.session.wrote(d.gtid)
				return Commit{w.id, d.gtid, a.member, a.epoch}, nil
			case d.never && w.doubts == 1: // or one of the others may have come through
				w.doubt, w.doubts = nil, 0
			}
		}
		if err := w.c.pause(ctx, tries); err != nil {
			return Commit{}, w.unknownIfInDoubt(errors.Join(f.err, err))
		}
	}
}

// try sends the transaction once.
func (w *write) try(ctx context.Context, r *route) (gtidText string, f failure) {
	defer r.done()
	ctx, cancel := r.bind(ctx)
	defer cancel()
	var to peer.Peer
	text, err := w.send(w, &call{ctx, r.kv, r.lane.epoch, grpc.Peer(&to)})
	if err == nil {
		return text, failure{}
	}
	// A call has a peer once it was given to a connection.
	f = judge(err, to.Addr != nil)
	if end := context.Cause(ctx); end != nil && f.fate == lost {
		f.err = ended(end, f.err)
	}
	return "", f
}

// ended puts what has ended a call in place of what gRPC made of that.
func ended(end, err error) error {
	if _, ok := errors.AsType[*OutcomeUnknownError](err); ok {
		return err
	}
	return end
}

func (w *write) committed(a attempt, text string) (Commit, error) {
	commit := Commit{ID: w.id, Member: a.member, Epoch: a.epoch}
	if text != "" {
		var err error
		if commit.GTID, err = gtid.Parse(text); err != nil {
			return Commit{}, w.unknown(fmt.Errorf("the member answered with GTID %q", text), nil)
		}
	}
	w.o.session.wrote(commit.GTID)
	return commit, nil
}

// unknownIfInDoubt is the error of a transaction of which an attempt may yet have
// come through; else it is err.
func (w *write) unknownIfInDoubt(err error) error {
	if w.doubt == nil {
		return err
	}
	return w.unknown(err, w.why)
}

// unknown says why the fate of the transaction is open, with what the member has
// said of it, if it has.
func (w *write) unknown(cause, told error) error { return unknownOutcome(w.id, cause, told) }

func unknownOutcome(id gtid.UUID, cause, told error) error {
	e := &OutcomeUnknownError{ID: id, Cause: cause}
	if by, ok := errors.AsType[*OutcomeUnknownError](told); ok {
		e.Index, e.Missing = by.Index, by.Missing
	}
	if told != nil && !errors.Is(cause, told) {
		e.Cause = fmt.Errorf("%w (%w)", cause, told)
	}
	return e
}

// budget is how long a member may take for what the caller waits for until the end
// of ctx: so much less that its answer arrives before. 0 is without end.
func budget(ctx context.Context) time.Duration {
	deadline, ok := ctx.Deadline()
	if !ok {
		return 0
	}
	const part, most = 5, 500 * time.Millisecond
	left := time.Until(deadline)
	return max(left-min(left/part, most), 1)
}
