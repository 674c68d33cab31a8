package concordat

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"time"

	"github.com/concordatdb/concordat/applier"
	"github.com/concordatdb/concordat/certifier"
	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/internal/replica"
)

// Tx is a transaction on one member. It reads a snapshot of the store and its
// own writes; what it writes stays in this program's memory until Commit. It
// is for one goroutine at a time.
//
// Isolation is snapshot isolation over the whole group: of two transactions
// that wrote the same key and of which neither saw the other, one commits.
type Tx struct {
	node     *Node
	snapshot applier.Snapshot
	held     uint64 // log index held in node.snapshots, for one that writes
	writes   *writeBuffer
	done     bool
}

// TxOption changes one transaction.
type TxOption func(*txOptions)

type txOptions struct{ attempts int }

// WithMaxAttempts bounds how often Update runs its function. Without it only
// the context does.
func WithMaxAttempts(n int) TxOption { return func(o *txOptions) { o.attempts = n } }

// Begin begins a transaction that may write. It must be ended by Commit or
// Rollback: until then the group remembers what it would be certified against.
func (n *Node) Begin(ctx context.Context) (*Tx, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := n.serving(); err != nil {
		return nil, err
	}
	// Held before the snapshot is taken, so never newer than it.
	held := n.engine.Position().Index
	n.snapshots.hold(held)
	s, err := n.engine.Begin()
	if err != nil {
		n.snapshots.release(held)
		return nil, err
	}
	return &Tx{node: n, snapshot: s, held: held, writes: &writeBuffer{}}, nil
}

// BeginReadOnly begins a transaction that only reads. It must be ended by
// Rollback or Commit.
func (n *Node) BeginReadOnly(ctx context.Context) (*Tx, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	// A member in ERROR still has its data, and says what it is.
	if err := n.serving(); err != nil && n.failed() == nil {
		return nil, err
	}
	s, err := n.engine.Begin()
	if err != nil {
		return nil, err
	}
	return &Tx{node: n, snapshot: s}, nil
}

// View runs fn in a read-only transaction.
func (n *Node) View(ctx context.Context, fn func(*Tx) error) error {
	tx, err := n.BeginReadOnly(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	return fn(tx)
}

// Update runs fn in a transaction and commits it. When the commit is refused
// for a reason that a new attempt can overcome, it waits until what won is
// visible here, and runs fn again; fn must therefore have no effects but those
// on its Tx. An error of fn ends it, and nothing happens.
func (n *Node) Update(ctx context.Context, fn func(*Tx) error, opts ...TxOption) (gtid.GTID, error) {
	var o txOptions
	for _, opt := range opts {
		opt(&o)
	}
	for attempt := 1; ; attempt++ {
		id, err := n.attempt(ctx, fn)
		if err == nil || !Retryable(err) || attempt == o.attempts {
			return id, err
		}
		if err := n.waitForWinner(ctx, err, attempt); err != nil {
			return gtid.GTID{}, err
		}
	}
}

func (n *Node) attempt(ctx context.Context, fn func(*Tx) error) (gtid.GTID, error) {
	tx, err := n.Begin(ctx)
	if err != nil {
		return gtid.GTID{}, err
	}
	defer func() { _ = tx.Rollback() }()
	if err := fn(tx); err != nil {
		return gtid.GTID{}, err
	}
	return tx.Commit(ctx)
}

// waitForWinner waits for what a new attempt needs in order to do better: to
// see the transaction that won, and not to meet the same rivals in step.
func (n *Node) waitForWinner(ctx context.Context, refused error, attempt int) error {
	if c, ok := errors.AsType[*ConflictError](refused); ok {
		err := n.visible.until(ctx, func() bool {
			return n.closed.Load() || n.failed() != nil || n.engine.Position().Executed.Contains(c.Winner)
		})
		if err != nil {
			return errors.Join(err, refused)
		}
	}
	if attempt < 3 {
		return nil
	}
	const step, most = time.Millisecond, 100 * time.Millisecond
	pause := time.NewTimer(rand.N(min(step<<min(attempt, 10), most)))
	defer pause.Stop()
	select {
	case <-pause.C:
		return nil
	case <-ctx.Done():
		return errors.Join(context.Cause(ctx), refused)
	}
}

// Snapshot returns the GTIDs of the transactions that this one can see.
func (tx *Tx) Snapshot() gtid.Set { return tx.snapshot.Position().Executed }

// Get returns the value of a key and whether there is one. The value is the
// caller's.
func (tx *Tx) Get(t Table, key []byte) (value []byte, ok bool, err error) {
	if tx.done {
		return nil, false, ErrTxDone
	}
	if tx.writes != nil {
		if i := tx.writes.find(t, key); i >= 0 {
			m := tx.writes.writes[i]
			return bytes.Clone(m.Value), m.Op == applier.OpPut, nil
		}
	}
	return tx.snapshot.Get(t, key)
}

// Put sets the value of a key. Both are copied.
func (tx *Tx) Put(t Table, key, value []byte) error {
	// One allocation holds both. A nil value is an empty one.
	both := make([]byte, 0, len(key)+len(value))
	both = append(append(both, key...), value...)
	n := len(key)
	return tx.write(applier.Mutation{Op: applier.OpPut, Table: t, Key: both[:n:n], Value: both[n:]})
}

// Delete removes a key. There need not be one.
func (tx *Tx) Delete(t Table, key []byte) error {
	return tx.write(applier.Mutation{Op: applier.OpDelete, Table: t, Key: bytes.Clone(key)})
}

func (tx *Tx) write(m applier.Mutation) error {
	switch {
	case tx.done:
		return ErrTxDone
	case tx.writes == nil:
		return ErrTxReadOnly
	}
	if err := m.Check(); err != nil {
		kind := ErrInvalid
		if errors.Is(err, applier.ErrTooLarge) {
			kind = ErrTooLarge
		}
		return fmt.Errorf("%w: %w", kind, err)
	}
	if limit := tx.node.cfg.TransactionSizeLimit; !tx.writes.put(m, limit) {
		return fmt.Errorf("%w: transaction of more than %d bytes (TransactionSizeLimit); split it", ErrTooLarge, limit)
	}
	return nil
}

// Scan yields the pairs with from <= key < to in key order, this transaction's
// own writes included as they were when the loop began. A nil bound is none.
// Key and value are valid until the next step. After the loop, Err tells
// whether it was complete.
func (tx *Tx) Scan(t Table, from, to []byte) iter.Seq2[[]byte, []byte] {
	return tx.scan(t, from, to, false)
}

// ScanReverse is Scan in descending key order.
func (tx *Tx) ScanReverse(t Table, from, to []byte) iter.Seq2[[]byte, []byte] {
	return tx.scan(t, from, to, true)
}

func (tx *Tx) scan(t Table, from, to []byte, reverse bool) iter.Seq2[[]byte, []byte] {
	return func(yield func([]byte, []byte) bool) {
		if tx.done {
			return
		}
		var own []applier.Mutation
		if tx.writes != nil {
			own = tx.writes.within(t, from, to, reverse)
		}
		overlay(tx.snapshot.Scan(t, from, to, reverse), own, reverse)(yield)
	}
}

// Err returns what ended the last Scan early, nil if it was complete.
func (tx *Tx) Err() error {
	if tx.done {
		return ErrTxDone
	}
	return tx.snapshot.Err()
}

// Commit ends the transaction. It returns the transaction's GTID once its
// writes are on the disks of a majority and visible on this member; the zero
// GTID if there were none. See the package's errors for what else can happen.
// When ctx ends while the group decides, the error matches ErrOutcomeUnknown.
func (tx *Tx) Commit(ctx context.Context) (gtid.GTID, error) {
	if tx.done {
		return gtid.GTID{}, ErrTxDone
	}
	defer func() { _ = tx.Rollback() }()
	if err := ctx.Err(); err != nil {
		return gtid.GTID{}, err
	}
	if tx.writes == nil || len(tx.writes.writes) == 0 {
		return gtid.GTID{}, nil
	}
	id := newTransactionID()
	message, err := tx.message(id)
	if err != nil {
		return gtid.GTID{}, err
	}
	answer, err := tx.node.commit(ctx, id, message)
	if err != nil {
		return gtid.GTID{}, err
	}
	return tx.verdict(answer.Verdict)
}

// message encodes the transaction once, in the form in which it stays.
func (tx *Tx) message(id gtid.UUID) ([]byte, error) {
	w := tx.writes
	const head = 96 // id, a small GTID set and lengths
	message, err := replica.AppendTransaction(make([]byte, 0, head+w.bytes), &replica.Header{ID: id, Snapshot: tx.Snapshot()}, w.writeSet(), nil)
	if err != nil {
		return nil, err
	}
	for _, m := range w.writes {
		message = applier.AppendMutation(message, m)
	}
	if limit := tx.node.cfg.TransactionSizeLimit; len(message) > limit {
		return nil, fmt.Errorf("%w: transaction of %d bytes, the limit is %d (TransactionSizeLimit); split it", ErrTooLarge, len(message), limit)
	}
	return message, nil
}

func (tx *Tx) verdict(v certifier.Verdict) (gtid.GTID, error) {
	n := tx.node
	switch v.Outcome {
	case certifier.Certified:
		n.counters.committed.Add(1)
		return v.GTID, nil
	case certifier.Conflict:
		n.counters.conflicts.Add(1)
		m := tx.writes.writes[v.Clash.Item]
		return gtid.GTID{}, &ConflictError{Table: m.Table, Key: m.Key, Winner: v.Clash.Winner}
	case certifier.SnapshotTooOld:
		n.counters.snapshotsTooOld.Add(1)
		return gtid.GTID{}, ErrSnapshotTooOld
	case certifier.Exhausted, certifier.GTIDTaken, certifier.Duplicate:
	}
	return gtid.GTID{}, fmt.Errorf("%w: %s: a new group is needed", ErrFailed, v.Outcome)
}

// Rollback ends the transaction without effect. After Commit it does nothing,
// so it can be deferred.
func (tx *Tx) Rollback() error {
	if tx.done {
		return nil
	}
	tx.done = true
	if tx.writes != nil {
		tx.node.snapshots.release(tx.held)
	}
	return tx.snapshot.Close()
}

// newTransactionID draws an id. It has to be unique, not secret.
func newTransactionID() (id gtid.UUID) {
	binary.LittleEndian.PutUint64(id[:8], rand.Uint64())
	binary.LittleEndian.PutUint64(id[8:], rand.Uint64())
	return id
}
