package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"google.golang.org/grpc"

	"github.com/concordatdb/concordat"
	"github.com/concordatdb/concordat/proto/concordat/kv/v1"
)

// idleTimeout is how long an interactive transaction waits for its client. While it
// runs the group keeps what it would be certified against.
const idleTimeout = 60 * time.Second

// errIdle ends a transaction whose client says nothing.
var errIdle = fmt.Errorf("%w: the transaction was idle for too long, and was rolled back; begin it anew", concordat.ErrSnapshotTooOld)

// Transact implements kvpb.KVServer.
func (k *kv) Transact(stream grpc.BidiStreamingServer[kvpb.TransactRequest, kvpb.TransactResponse]) error {
	n, err := k.server.current()
	if err != nil {
		return toStatus(err)
	}
	t := &interactive{
		server: k.server, node: n, stream: stream,
		requests: make(chan *kvpb.TransactRequest), gone: make(chan error, 1),
	}
	go t.receive()
	err = t.run()
	if t.tx != nil {
		_ = t.tx.Rollback()
	}
	return toStatus(err)
}

// interactive is one transaction that a client runs step by step.
type interactive struct {
	server *Server
	node   *concordat.Node
	stream grpc.BidiStreamingServer[kvpb.TransactRequest, kvpb.TransactResponse]

	requests chan *kvpb.TransactRequest
	gone     chan error // why no more requests come

	tx     *concordat.Tx // nil before it has begun
	writes bool
	epoch  uint64 // in which one that writes has begun
}

// receive hands over what the client says. It ends with the stream, which ends with
// the handler of the call.
func (t *interactive) receive() {
	for {
		r, err := t.stream.Recv()
		if err != nil {
			t.gone <- err
			return
		}
		select {
		case t.requests <- r:
		case <-t.stream.Context().Done():
			return
		}
	}
}

// run carries out the client's requests until the transaction has ended.
func (t *interactive) run() error {
	idle := time.NewTimer(t.server.idle)
	defer idle.Stop()
	for {
		r, err := t.next(idle)
		if errors.Is(err, io.EOF) {
			return nil // the client wants nothing more, and rolls back by that
		}
		if err != nil {
			return err
		}
		ended, err := t.step(r)
		if err != nil || ended {
			return err
		}
		idle.Reset(t.server.idle)
	}
}

// next waits for a request. Nobody waits for one on behalf of a transaction that can
// only fail.
func (t *interactive) next(idle *time.Timer) (*kvpb.TransactRequest, error) {
	for {
		shown, news := t.server.board.look()
		if t.writes && demoted(shown, t.epoch) {
			return nil, t.demotion()
		}
		select {
		case r := <-t.requests:
			return r, nil
		case err := <-t.gone:
			return nil, err
		case <-news:
		case <-idle.C:
			select {
			case r := <-t.requests: // it was the server that was late
				return r, nil
			default:
				return nil, errIdle
			}
		case <-t.server.lifetime.Done():
			return nil, concordat.ErrClosed
		}
	}
}

// demoted reports whether the member that tells has lost the right to write since an
// epoch in which it had it.
func demoted(shown *kvpb.WatchResponse, epoch uint64) bool {
	if shown.GetEpoch() <= epoch {
		return false
	}
	for _, m := range shown.GetNodes() {
		if m.GetUuid() == shown.GetSelf() {
			return !m.GetWrites()
		}
	}
	return true
}

func (t *interactive) demotion() error {
	e := &concordat.ReadOnlyError{
		Epoch:  t.node.Status().Epoch,
		Reason: "it has lost the right to write while the transaction was running, which was rolled back",
	}
	if p, ok := t.node.Primary(); ok {
		e.Primary, e.Address, e.ClientAddress = p.Member, p.Address, p.ClientAddress
	}
	return e
}

// step carries out one request. An error ends the transaction.
func (t *interactive) step(r *kvpb.TransactRequest) (ended bool, err error) {
	begin, first := r.GetRequest().(*kvpb.TransactRequest_Begin_)
	if first != (t.tx == nil) {
		return false, fmt.Errorf("%w: the first request of a transaction is its begin, and no other is", concordat.ErrInvalid)
	}
	switch q := r.GetRequest().(type) {
	case *kvpb.TransactRequest_Begin_:
		return false, t.begin(begin.Begin)
	case *kvpb.TransactRequest_Operations_:
		return false, t.operate(q.Operations.GetOps())
	case *kvpb.TransactRequest_Scan:
		return false, t.scan(q.Scan)
	case *kvpb.TransactRequest_Commit_:
		return true, t.commit(q.Commit)
	case *kvpb.TransactRequest_Rollback_:
		return true, t.answer(&kvpb.TransactResponse{Response: &kvpb.TransactResponse_RolledBack_{RolledBack: &kvpb.TransactResponse_RolledBack{}}})
	default:
		return false, fmt.Errorf("%w: the request is none of begin, operations, scan, commit and rollback", concordat.ErrInvalid)
	}
}

func (t *interactive) answer(r *kvpb.TransactResponse) error { return t.stream.Send(r) }

// limited bounds a step by what its client gives it.
func (t *interactive) limited(nanos int64) (context.Context, context.CancelFunc) {
	if nanos <= 0 {
		return t.stream.Context(), func() {}
	}
	return context.WithTimeout(t.stream.Context(), time.Duration(nanos))
}

func (t *interactive) begin(b *kvpb.TransactRequest_Begin) (err error) {
	ctx, cancel := t.limited(b.GetTimeoutNanos())
	defer cancel()
	if b.GetReadOnly() {
		err = t.beginReadOnly(ctx, b)
	} else {
		err = t.beginWriter(ctx, b)
	}
	if err != nil {
		return err
	}
	begun := &kvpb.TransactResponse_Begun{Session: seen(t.tx, b.GetFreshness())}
	if t.writes {
		begun.TransactionId = t.tx.ID().String()
	}
	return t.answer(&kvpb.TransactResponse{Response: &kvpb.TransactResponse_Begun_{Begun: begun}})
}

func (t *interactive) beginReadOnly(ctx context.Context, b *kvpb.TransactRequest_Begin) error {
	if b.GetIsolation() != 0 || b.GetTransactionId() != "" || b.GetGtid() != "" || classed(b) {
		return fmt.Errorf("%w: a transaction that only reads has no isolation, transaction_id, gtid, flow_tag or flow_weight", concordat.ErrInvalid)
	}
	options, err := freshness(b.GetFreshness())
	if err != nil {
		return err
	}
	t.tx, err = t.node.BeginReadOnly(ctx, options...)
	return err
}

func (t *interactive) beginWriter(ctx context.Context, b *kvpb.TransactRequest_Begin) error {
	options, err := optionsOf(b)
	if err != nil {
		return err
	}
	if t.tx, err = t.node.Begin(ctx, options...); err != nil {
		return err
	}
	t.writes = true
	// Read after it began: what the board shows may still be older, and nothing is
	// concluded from that.
	if t.epoch = b.GetFreshness().GetEpoch(); t.epoch == 0 {
		t.epoch = t.node.Status().Epoch
	}
	return nil
}

func (t *interactive) operate(ops []*kvpb.Op) error {
	if n := len(ops); n > maxOps {
		return fmt.Errorf("%w: %d operations in one request, the limit is %d; send several", concordat.ErrTooLarge, n, maxOps)
	}
	results, err := runOps(t.tx, ops)
	if err != nil {
		return asked(err)
	}
	return t.answer(&kvpb.TransactResponse{Response: &kvpb.TransactResponse_Results_{
		Results: &kvpb.TransactResponse_Results{Results: results},
	}})
}

// asked is the error of an operation that one transaction has and another has not.
func asked(err error) error {
	if errors.Is(err, concordat.ErrTxReadOnly) {
		return fmt.Errorf("%w: the transaction has begun as one that only reads: %w", concordat.ErrInvalid, err)
	}
	return err
}

func (t *interactive) scan(r *kvpb.ScanRequest) error {
	if r.GetFreshness() != nil {
		return fmt.Errorf("%w: freshness belongs to the transaction, not to one of its scans", concordat.ErrInvalid)
	}
	return scan(t.tx, r, func(pairs []*kvpb.Pair, last bool) error {
		return t.answer(&kvpb.TransactResponse{Response: &kvpb.TransactResponse_Run_{
			Run: &kvpb.TransactResponse_Run{Pairs: pairs, Last: last},
		}})
	})
}

func (t *interactive) commit(c *kvpb.TransactRequest_Commit) error {
	ctx, cancel := t.limited(c.GetTimeoutNanos())
	defer cancel()
	id, err := t.tx.Commit(ctx)
	if err != nil {
		return err
	}
	return t.answer(&kvpb.TransactResponse{Response: &kvpb.TransactResponse_Committed_{
		Committed: &kvpb.TransactResponse_Committed{Gtid: gtidText(id)},
	}})
}
