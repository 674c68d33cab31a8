package concordat

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/concordatdb/concordat/applier"
	"github.com/concordatdb/concordat/certifier"
	"github.com/concordatdb/concordat/flowcontrol"
	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/internal/running"
)

// Tx is a transaction on one member. It reads a snapshot of the store and its
// own writes; what it writes stays in this program's memory until Commit. It
// is for one goroutine at a time.
//
// Isolation is over the whole group; see [Isolation] for the levels. A
// transaction that cannot commit any more, because another one was ordered
// first, hears of it with its next call: the error is a [ConflictError].
type Tx struct {
	node     *Node
	snapshot applier.Snapshot
	held     uint64 // log index held in node.snapshots, for one that writes
	writes   *writeBuffer
	done     bool

	isolation Isolation
	level     Consistency
	epoch     uint64 // by InEpoch, else 0
	pass      flowcontrol.Pass
	size      int  // about what it takes in the log, once it is handed over
	entered   bool // node.drain
	id        gtid.UUID
	named     bool // by the caller
	wish      gtid.GTID
	refs      []tableKey
	reads     readSet // of a serializable one that writes

	// rows and payload are of a program that certifies rows of its own.
	rows      *certifier.WriteSet
	rowRanges int // of rows, when composed
	payload   []byte
	composed  *certifier.WriteSet // what was broadcast

	running   *running.Transaction[*Tx] // nil for one that only reads
	doomed    atomic.Pointer[running.Doom]
	wake      chan struct{}  // set and rung under the lock of node.early
	submitted bool           // the group has it
	counted   bool           // as one that lost
	loss      *ConflictError // why doomed is not nil
	scanErr   error          // why the last Scan did not begin
	rowItems  [certifier.Kinds]int
	text      []byte // scratch
}

// TxOption changes one transaction.
type TxOption func(*txOptions)

type txOptions struct {
	attempts  int
	isolation Isolation
	id        gtid.UUID
	wish      gtid.GTID
	level     Consistency // Default when the transaction chooses none
	bounded   bool        // by atMost
	atMost    time.Duration
	session   gtid.Set
	epoch     uint64 // 0 for any
	tag       string // by WithTag
	weight    int
}

// WithMaxAttempts bounds how often Update runs its function. Without it only
// the context does.
func WithMaxAttempts(n int) TxOption { return func(o *txOptions) { o.attempts = n } }

// WithIsolation sets the isolation level. The default is Snapshot.
func WithIsolation(i Isolation) TxOption { return func(o *txOptions) { o.isolation = i } }

// WithID names the transaction: an idempotency key. Of all that are committed
// under one id, on whatever members, one commits, and each returns that one's
// GTID; [Node.Outcome] tells what became of it. The group remembers the ids of
// the last [GroupSettings.OutcomeTransactions]. A transaction that writes
// nothing commits nothing, and its id is not remembered. Without this option,
// and with the zero id, an id is drawn.
func WithID(id gtid.UUID) TxOption { return func(o *txOptions) { o.id = id } }

// WithGTID asks for a GTID, as one does when transactions come from elsewhere
// with theirs. If it belongs to a transaction that has committed, Commit fails
// with [ErrGTIDTaken]. Such a transaction is broadcast even when it writes
// nothing. A GTID that has a tag, and no UUID and number, asks for the group's
// next one under that tag.
func WithGTID(g gtid.GTID) TxOption { return func(o *txOptions) { o.wish = g } }

// InEpoch has a transaction commit only by a right to write that this member has had
// since that epoch, or longer, without a break; else the error is a *ReadOnlyError.
// So whoever asked for it, and learns of a later epoch in which the member had no
// right, knows that it cannot happen any more, however long the request was on its
// way. With 0 any right will do.
func InEpoch(epoch uint64) TxOption { return func(o *txOptions) { o.epoch = epoch } }

func optionsOf(opts []TxOption) (txOptions, error) {
	if len(opts) == 0 {
		return txOptions{}, nil // most begin so, and need no memory for it
	}
	return applied(opts)
}

func applied(opts []TxOption) (o txOptions, err error) {
	for _, opt := range opts {
		opt(&o)
	}
	tagOnly := o.wish.UUID.IsZero() && o.wish.Number == 0 && o.wish.Tag.Valid()
	if o.wish != (gtid.GTID{}) && !o.wish.Valid() && !tagOnly {
		return o, fmt.Errorf("%w: GTID %v cannot be one", ErrInvalid, o.wish)
	}
	if o.isolation > Serializable {
		return o, fmt.Errorf("%w: isolation level %d", ErrInvalid, o.isolation)
	}
	if !o.level.Valid() {
		return o, fmt.Errorf("%w: consistency level %d", ErrInvalid, o.level)
	}
	if o.atMost < 0 {
		return o, fmt.Errorf("%w: data at most %v old cannot be", ErrInvalid, o.atMost)
	}
	return o, CheckTag(o.tag, o.weight)
}

// Begin begins a transaction that may write. It must be ended by Commit or
// Rollback: until then the group remembers what it would be certified against, and
// a change of the primary waits for it. On a member that does not write the error is
// a *ReadOnlyError. What its consistency level asks for is waited for, and an error
// of that is a *WaitError; see there. While the group is slowed it waits its turn
// first, see [FlowControl]; an error of that is a *ThrottledError.
func (n *Node) Begin(ctx context.Context, opts ...TxOption) (*Tx, error) {
	o, err := optionsOf(opts)
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	pass, err := n.admitted(ctx, &o)
	if err != nil {
		return nil, err
	}
	if err := n.beginAt(ctx, &o, true); err != nil {
		n.flow.refund(pass)
		return nil, err
	}
	// Held before the snapshot is taken, so never newer than it.
	held := n.engine.Position().Index
	n.snapshots.hold(held)
	s, err := n.engine.Begin()
	if err != nil {
		n.snapshots.release(held)
		n.drain.leave()
		n.flow.refund(pass)
		return nil, err
	}
	named := !o.id.IsZero()
	if !named {
		o.id = newTransactionID()
	}
	tx := &Tx{
		node: n, snapshot: s, held: held, writes: &writeBuffer{},
		isolation: o.isolation, level: o.level, entered: true, id: o.id, named: named, wish: o.wish, epoch: o.epoch,
		pass: pass,
	}
	n.early.begin(tx)
	return tx, nil
}

// BeginReadOnly begins a transaction that only reads, of which no options count but
// [WithConsistency], [AtMost] and [AfterGTIDs]. It must be ended by Rollback or
// Commit.
func (n *Node) BeginReadOnly(ctx context.Context, opts ...TxOption) (*Tx, error) {
	o, err := optionsOf(opts)
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := n.beginAt(ctx, &o, false); err != nil {
		return nil, err
	}
	s, err := n.engine.Begin()
	if err != nil {
		return nil, err
	}
	return &Tx{node: n, snapshot: s, isolation: o.isolation, level: o.level}, nil
}

// View runs fn in a read-only transaction.
func (n *Node) View(ctx context.Context, fn func(*Tx) error, opts ...TxOption) error {
	tx, err := n.BeginReadOnly(ctx, opts...)
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
	o, err := optionsOf(opts)
	if err != nil {
		return gtid.GTID{}, err
	}
	for attempt := 1; ; attempt++ {
		id, err := n.attempt(ctx, fn, opts)
		// Without an epoch of its own it may use a right that the member has got back.
		again := Retryable(err) || errors.Is(err, ErrReadOnly) && o.epoch == 0 && n.writer.Load()
		if err == nil || !again || attempt == o.attempts {
			return id, err
		}
		if err := n.waitForWinner(ctx, err, attempt); err != nil {
			return gtid.GTID{}, err
		}
	}
}

func (n *Node) attempt(ctx context.Context, fn func(*Tx) error, opts []TxOption) (gtid.GTID, error) {
	tx, err := n.Begin(ctx, opts...)
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
			return n.serving() != nil || n.engine.Position().Executed.Contains(c.Winner)
		})
		if err != nil {
			return errors.Join(err, refused)
		}
	}
	const step, most = 100 * time.Microsecond, 100 * time.Millisecond
	pause := time.NewTimer(rand.N(min(step<<min(attempt, 10), most)))
	defer pause.Stop()
	select {
	case <-pause.C:
		return nil
	case <-ctx.Done():
		return errors.Join(context.Cause(ctx), refused)
	}
}

// Rollback ends the transaction without effect. After Commit it does nothing,
// so it can be deferred.
func (tx *Tx) Rollback() error {
	if tx.done {
		return nil
	}
	tx.done = true
	tx.leaveDrain()
	if tx.writes != nil {
		tx.node.snapshots.release(tx.held)
		if !tx.submitted {
			tx.node.flow.refund(tx.pass)
			tx.node.early.end(tx.running)
		}
	}
	return tx.snapshot.Close()
}

// leaveDrain lets a change of the primary go on without the transaction.
func (tx *Tx) leaveDrain() {
	if tx.entered {
		tx.entered = false
		tx.node.drain.leave()
	}
}

// newTransactionID draws an id. It has to be unique, not secret.
func newTransactionID() (id gtid.UUID) {
	binary.LittleEndian.PutUint64(id[:8], rand.Uint64())
	binary.LittleEndian.PutUint64(id[8:], rand.Uint64())
	return id
}
