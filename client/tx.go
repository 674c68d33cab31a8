package client

import (
	"context"
	"errors"
	"fmt"
	"io"

	"google.golang.org/grpc"

	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/proto/concordat/kv/v1"
)

// Tx is an interactive transaction: a snapshot on one member, and writes that
// nobody else sees before Commit. It must be ended by Commit or Rollback. An error
// of any of its calls but for ErrTxDone has ended it: it was rolled back, unless the
// error says that its outcome is unknown. It is for one goroutine at a time.
type Tx struct {
	c       *Client
	o       *options
	id      gtid.UUID // zero for one that only reads
	attempt attempt
	stream  grpc.BidiStreamingClient[kvpb.TransactRequest, kvpb.TransactResponse]
	open    context.Context // of the stream
	cancel  context.CancelCauseFunc
	release func()
	err     error // why it has ended, nil while it runs
}

// Begin begins an interactive transaction: one that writes where writes are taken,
// and with [ReadOnly] one that only reads where [From] says. ctx is for the begin
// alone. A member ends a transaction that says nothing for a minute.
func (c *Client) Begin(ctx context.Context, opts ...Option) (*Tx, error) {
	o, err := c.options(opts)
	if err != nil {
		return nil, err
	}
	ctx, cancel := c.patience(ctx)
	defer cancel()
	var passed []gtid.UUID
	for tries := 0; ; tries++ {
		var r *route
		if o.readOnly {
			r, err = c.toReader(ctx, *o.from, passed, false)
		} else {
			r, err = c.toWriter(ctx, passed)
		}
		if err != nil {
			return nil, err
		}
		tx, f := c.beginAt(ctx, r, o)
		switch {
		case f.err == nil:
			return tx, nil
		case f.fate == final:
			return nil, f.err
		case ctx.Err() != nil:
			return nil, errors.Join(context.Cause(ctx), f.err)
		case c.lifetime.Err() != nil:
			return nil, ErrClosed
		}
		passed = append(passed, r.member)
		if err := c.pause(ctx, tries); err != nil {
			return nil, errors.Join(err, f.err)
		}
	}
}

// beginAt begins at one member.
func (c *Client) beginAt(ctx context.Context, r *route, o *options) (*Tx, failure) {
	tx := &Tx{c: c, o: o, attempt: attempt{member: r.member, incarnation: r.incarnation, seen: r.seen, single: o.id.IsZero()}}
	begin := &kvpb.TransactRequest_Begin{ReadOnly: o.readOnly, TimeoutNanos: int64(budget(ctx))}
	if o.readOnly {
		begin.Freshness = o.freshness()
	} else {
		tx.id, tx.attempt.epoch = o.transactionID(), r.lane.epoch
		begin.TransactionId, begin.Gtid, begin.Isolation = tx.id.String(), o.wish, o.isolation()
		begin.Freshness = o.freshnessOfWrite(r.lane.epoch)
		begin.FlowTag, begin.FlowWeight = o.tag, uint32(o.weight)
	}
	// The stream outlives ctx, and ends with the client at the latest.
	bound, unbind := r.bind(context.WithoutCancel(ctx))
	tx.open, tx.cancel = context.WithCancelCause(bound)
	stop := context.AfterFunc(c.lifetime, func() { tx.cancel(ErrClosed) }) //nolint:contextcheck // it ends with the client too
	tx.release = func() {
		stop()
		tx.cancel(nil)
		unbind()
		r.done()
	}
	var err error
	if tx.stream, err = r.kv.Transact(tx.open); err != nil { //nolint:contextcheck // it outlives the begin
		_ = tx.end(err)
		return nil, judge(err, false)
	}
	answer, f := tx.step(ctx, &kvpb.TransactRequest{Request: &kvpb.TransactRequest_Begin_{Begin: begin}})
	if f.err == nil && answer.GetBegun() == nil {
		f = failure{final, tx.end(errOutOfStep)}
	}
	if f.err == nil {
		if err := o.session.read(answer.GetBegun().GetSession()); err != nil {
			f = failure{final, tx.end(fmt.Errorf("%w: %w", errSighting, err))}
		}
	}
	return tx, f
}

// errOutOfStep ends a transaction whose member answers something else than it was
// asked.
var errOutOfStep = &callError{kind: ErrRefused, text: ErrRefused.Error() + ": the answer does not belong to the request"}

// end ends the transaction on this side, and with that on the other. The first
// reason counts.
func (tx *Tx) end(why error) error {
	if tx.err == nil {
		tx.err = why
		tx.release()
	}
	return tx.err
}

// step sends a request and waits for its answer. An error has ended the transaction.
func (tx *Tx) step(ctx context.Context, r *kvpb.TransactRequest) (*kvpb.TransactResponse, failure) {
	stop := context.AfterFunc(ctx, func() { tx.cancel(context.Cause(ctx)) })
	defer stop()
	err := tx.stream.Send(r)
	if err == nil || errors.Is(err, io.EOF) { // then the reason comes as an answer
		var answer *kvpb.TransactResponse
		if answer, err = tx.stream.Recv(); err == nil {
			return answer, failure{}
		}
	}
	return nil, tx.failed(err)
}

// receive waits for a further answer.
func (tx *Tx) receive(ctx context.Context) (*kvpb.TransactResponse, failure) {
	stop := context.AfterFunc(ctx, func() { tx.cancel(context.Cause(ctx)) })
	defer stop()
	answer, err := tx.stream.Recv()
	if err != nil {
		return nil, tx.failed(err)
	}
	return answer, failure{}
}

func (tx *Tx) failed(err error) failure {
	if errors.Is(err, io.EOF) {
		err = errOutOfStep
	}
	f := judge(err, true)
	if end := context.Cause(tx.open); end != nil && f.fate == lost {
		f.err = ended(end, f.err)
	}
	_ = tx.end(f.err)
	return f
}

// usable returns why the transaction takes no more calls.
func (tx *Tx) usable() error {
	if tx.err != nil {
		return ErrTxDone
	}
	return nil
}

// ID returns the transaction's id, by which [Client.Outcome] knows it; zero for one
// that only reads.
func (tx *Tx) ID() gtid.UUID { return tx.id }

// Get returns the value of a key as the transaction sees it, and whether there is
// one.
func (tx *Tx) Get(ctx context.Context, key []byte) (value []byte, found bool, err error) {
	values, err := tx.Run(ctx, OpGet(key))
	if err != nil {
		return nil, false, err
	}
	return values[0].Value, values[0].Found, nil
}

// Put sets a key.
func (tx *Tx) Put(ctx context.Context, key, value []byte) error {
	_, err := tx.Run(ctx, OpPut(key, value))
	return err
}

// Delete removes a key.
func (tx *Tx) Delete(ctx context.Context, key []byte) error {
	_, err := tx.Run(ctx, OpDelete(key))
	return err
}

// Add adds to the counter under a key.
func (tx *Tx) Add(ctx context.Context, key []byte, delta int64) error {
	_, err := tx.Run(ctx, OpAdd(key, delta))
	return err
}

// Run runs operations, in order, and returns what each has brought. They cost one
// round trip together.
func (tx *Tx) Run(ctx context.Context, ops ...Op) ([]Value, error) {
	if err := tx.usable(); err != nil {
		return nil, err
	}
	ctx, cancel := tx.c.patience(ctx)
	defer cancel()
	request := &kvpb.TransactRequest_Operations{}
	for _, op := range ops {
		request.Ops = append(request.Ops, op.proto(tx.o))
	}
	answer, f := tx.step(ctx, &kvpb.TransactRequest{Request: &kvpb.TransactRequest_Operations_{Operations: request}})
	if f.err != nil {
		return nil, f.err
	}
	results := answer.GetResults().GetResults()
	if len(results) != len(ops) {
		return nil, tx.end(errOutOfStep)
	}
	return values(results), nil
}

// Scan returns the pairs with low <= key < high as the transaction sees them, in the
// order of their keys, but no more than limit if that is not 0. An empty bound is
// none. Of the options, [On] and [Reverse] count.
func (tx *Tx) Scan(ctx context.Context, low, high []byte, limit int, opts ...Option) ([]Pair, error) {
	if err := tx.usable(); err != nil {
		return nil, err
	}
	if limit < 0 {
		return nil, tx.end(fmt.Errorf("%w: a limit of %d", ErrInvalid, limit))
	}
	o := *tx.o
	o.reverse = false
	for _, opt := range opts {
		opt(&o)
	}
	ctx, cancel := tx.c.patience(ctx)
	defer cancel()
	answer, f := tx.step(ctx, &kvpb.TransactRequest{Request: &kvpb.TransactRequest_Scan{Scan: &kvpb.ScanRequest{
		Table: o.table.proto(), From: low, To: high, Reverse: o.reverse, Limit: uint64(limit),
	}}})
	var pairs []Pair
	for f.err == nil {
		run := answer.GetRun()
		if run == nil {
			return nil, tx.end(errOutOfStep)
		}
		if pairs = appendPairs(pairs, run.GetPairs()); run.GetLast() {
			return pairs, nil
		}
		answer, f = tx.receive(ctx)
	}
	return nil, f.err
}

// Rollback ends the transaction without effect. After Commit it does nothing, so it
// can be deferred.
func (tx *Tx) Rollback() error {
	_ = tx.end(ErrTxDone)
	return nil
}

// Commit ends the transaction. Where its answer is lost it asks the others what
// became of it, until they know or ctx ends; then the error is an
// *OutcomeUnknownError.
func (tx *Tx) Commit(ctx context.Context) (Commit, error) {
	if err := tx.usable(); err != nil {
		return Commit{}, err
	}
	ctx, cancel := tx.c.patience(ctx)
	defer cancel()
	commit := Commit{ID: tx.id, Member: tx.attempt.member, Epoch: tx.attempt.epoch}
	answer, f := tx.step(ctx, &kvpb.TransactRequest{Request: &kvpb.TransactRequest_Commit_{
		Commit: &kvpb.TransactRequest_Commit{TimeoutNanos: int64(budget(ctx))},
	}})
	switch {
	case f.err == nil && answer.GetCommitted() == nil:
		f = failure{lost, errOutOfStep}
		_ = tx.end(errOutOfStep)
	case f.err == nil:
		_ = tx.end(ErrTxDone)
		text := answer.GetCommitted().GetGtid()
		var err error
		if text != "" {
			if commit.GTID, err = gtid.Parse(text); err != nil {
				return Commit{}, unknownOutcome(tx.id, fmt.Errorf("the member answered with GTID %q", text), nil)
			}
		}
		tx.o.session.wrote(commit.GTID)
		return commit, nil
	}
	if f.fate != lost || tx.id.IsZero() {
		return Commit{}, f.err
	}
	d, err := tx.c.resolve(ctx, tx.id, &tx.attempt, false)
	switch {
	case err != nil:
		return Commit{}, unknownOutcome(tx.id, err, f.err)
	case d.never:
		return Commit{}, refused(d.reason)
	}
	commit.GTID = d.gtid
	tx.o.session.wrote(d.gtid)
	return commit, nil
}

// refused is the error of a commit of which others have told that it was refused.
func refused(reason error) error {
	return &callError{kind: reason, text: fmt.Sprintf("%v; its answer was lost, and others told", reason)}
}

// Run runs fn in a transaction and commits it, again and again while that is safe
// and can help: fn must have no effects but those on its Tx. An error of fn that is
// not one of the Tx ends it, and nothing happens.
func (c *Client) Run(ctx context.Context, fn func(*Tx) error, opts ...Option) (Commit, error) {
	ctx, cancel := c.patience(ctx)
	defer cancel()
	for tries := 0; ; tries++ {
		commit, again, err := c.runOnce(ctx, fn, opts)
		if err == nil || !again {
			return commit, err
		}
		if end := c.pause(ctx, tries); end != nil {
			return Commit{}, errors.Join(err, end)
		}
	}
}

func (c *Client) runOnce(ctx context.Context, fn func(*Tx) error, opts []Option) (commit Commit, again bool, err error) {
	tx, err := c.Begin(ctx, opts...)
	if err != nil {
		return Commit{}, false, err
	}
	defer func() { _ = tx.Rollback() }()
	if err := fn(tx); err != nil {
		return Commit{}, tx.err != nil && Retryable(tx.err), err
	}
	commit, err = tx.Commit(ctx)
	return commit, Retryable(err), err
}
