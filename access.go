package concordat

import (
	"bytes"
	"errors"
	"fmt"
	"iter"

	"github.com/concordatdb/concordat/applier"
	"github.com/concordatdb/concordat/certifier"
	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/internal/running"
)

// Snapshot returns the GTIDs of the transactions that this one can see.
func (tx *Tx) Snapshot() gtid.Set { return tx.snapshot.Position().Executed }

// ID returns the transaction's id, by which [Node.Outcome] knows it; zero for
// one that only reads.
func (tx *Tx) ID() gtid.UUID { return tx.id }

// usable returns why the transaction takes no more calls.
func (tx *Tx) usable() error {
	if tx.done {
		return ErrTxDone
	}
	if d := tx.doomed.Load(); d != nil {
		return tx.lost(tx.doom(d))
	}
	return nil
}

// doom is what a transaction that still runs has lost to, put into words once.
func (tx *Tx) doom(d *running.Doom) *ConflictError {
	if tx.loss == nil {
		tx.loss = tx.doomError(d, DoomedRunning)
	}
	return tx.loss
}

// writable returns why the transaction does not write.
func (tx *Tx) writable() error {
	if err := tx.usable(); err != nil {
		return err
	}
	if tx.writes == nil {
		return ErrTxReadOnly
	}
	return nil
}

// lost counts what the transaction lost.
func (tx *Tx) lost(e *ConflictError) error {
	if !tx.counted {
		tx.counted = true
		tx.node.counters.conflicts.Add(1)
		tx.node.conflicts.note(e, tx.node.id.Member)
	}
	return e
}

// touch registers what the transaction does with a key, and returns why that
// cannot be any more.
func (tx *Tx) touch(k tableKey, kind certifier.Kind) (certifier.Item, error) {
	var item certifier.Item
	item, tx.text = k.item(tx.text)
	if d := tx.node.early.touch(tx, item, kind); d != nil {
		tx.doomed.Store(d)
		e := tx.doom(d)
		if d.Item == item { // not entered anywhere yet
			e.Table, e.Key = k.table, bytes.Clone(k.key)
		}
		return item, tx.lost(e)
	}
	return item, nil
}

// certifiesReads reports whether what is read has to hold until the commit. A
// transaction that only reads has its place in the order already.
func (tx *Tx) certifiesReads() bool { return tx.isolation == Serializable && tx.writes != nil }

// Get returns the value of a key and whether there is one. The value is the
// caller's.
func (tx *Tx) Get(t Table, key []byte) (value []byte, ok bool, err error) {
	if err := tx.usable(); err != nil {
		return nil, false, err
	}
	own := -1
	if tx.writes != nil {
		own = tx.writes.find(t, key)
	}
	if own >= 0 {
		if m := &tx.writes.writes[own]; m.Op != applier.OpAdd {
			return bytes.Clone(m.Value), m.Op == applier.OpPut, nil
		}
	}
	if err := tx.noteRead(t, key); err != nil {
		return nil, false, err
	}
	value, ok, err = tx.snapshot.Get(t, key)
	if own < 0 || err != nil {
		return value, ok, err
	}
	sum, err := applier.AddCounter(value, ok, tx.writes.writes[own].Delta)
	return applier.AppendCounter(nil, sum), err == nil, err
}

func (tx *Tx) noteRead(t Table, key []byte) error {
	if !tx.certifiesReads() {
		return nil
	}
	if err := t.Check(); err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	item, err := tx.touch(tableKey{t, key}, certifier.Read)
	if err != nil {
		return err
	}
	tx.reads.point(item, tableKey{t, key})
	return tx.checkReads()
}

// checkReads bounds what a transaction remembers of what it has read.
func (tx *Tx) checkReads() error {
	if limit := tx.node.sizeLimit(); tx.writes.bytes+tx.reads.bytes > limit {
		return fmt.Errorf("%w: a transaction that has read and written more than %d bytes of keys (TransactionSizeLimit); split it, or scan ranges",
			ErrTooLarge, limit)
	}
	return nil
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

// Add adds n to the counter under a key; a key that is not there counts as 0.
// A counter's value is what [AppendCounter] makes; any other value is an error
// that matches ErrInvalid. Transactions that add to one counter do not conflict
// with each other, whatever members they run on, and nothing is lost; they
// conflict with all else that writes the key. Sums beyond 64 bits wrap around.
//
// Reading a counter in the same transaction shows the snapshot's value and what
// this transaction has added. Who must act on the value it has read should be
// serializable, and will then conflict with others that add.
func (tx *Tx) Add(t Table, key []byte, n int64) error {
	if err := tx.writable(); err != nil {
		return err
	}
	m := applier.Mutation{Op: applier.OpAdd, Table: t, Key: bytes.Clone(key), Delta: n}
	if err := checkMutation(m); err != nil {
		return err
	}
	var sum int64
	var err error
	if i := tx.writes.find(t, key); i < 0 {
		var old []byte
		var exists bool
		if old, exists, err = tx.snapshot.Get(t, key); err != nil {
			return err
		}
		_, err = applier.AddCounter(old, exists, n)
	} else if own := &tx.writes.writes[i]; own.Op == applier.OpAdd {
		m.Delta += own.Delta
	} else {
		sum, err = applier.AddCounter(own.Value, own.Op == applier.OpPut, n)
		m.Op, m.Delta, m.Value = applier.OpPut, 0, applier.AppendCounter(nil, sum)
	}
	if err != nil {
		// The caller has learnt what the key is not, and may act on it.
		if err := tx.noteRead(t, key); err != nil {
			return err
		}
		return fmt.Errorf("%w: %s key %q holds no counter; Put one first", ErrInvalid, t, key)
	}
	return tx.write(m)
}

// AppendCounter appends the value of a counter, for [Tx.Put].
func AppendCounter(b []byte, n int64) []byte { return applier.AppendCounter(b, n) }

// DecodeCounter returns the number in a counter's value; ok is false if it is
// none.
func DecodeCounter(value []byte) (n int64, ok bool) { return applier.DecodeCounter(value) }

// Reference makes sure that a key, which this transaction has found or not, is
// not written by anybody else before this one commits: the parent that a child
// needs. References do not conflict with each other. It returns whether the key
// is there.
func (tx *Tx) Reference(t Table, key []byte) (ok bool, err error) {
	if err := tx.writable(); err != nil {
		return false, err
	}
	if err := t.Check(); err != nil {
		return false, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if i := tx.writes.find(t, key); i >= 0 {
		return tx.writes.writes[i].Op != applier.OpDelete, nil
	}
	k := tableKey{t, bytes.Clone(key)}
	if _, err := tx.touch(k, certifier.Reference); err != nil {
		return false, err
	}
	tx.refs = append(tx.refs, k)
	tx.reads.bytes += pointBytes + len(k.key)
	if err := tx.checkReads(); err != nil {
		return false, err
	}
	_, ok, err = tx.snapshot.Get(t, key)
	return ok, err
}

func checkMutation(m applier.Mutation) error {
	err := m.Check()
	if err == nil {
		return nil
	}
	kind := ErrInvalid
	if errors.Is(err, applier.ErrTooLarge) {
		kind = ErrTooLarge
	}
	return fmt.Errorf("%w: %w", kind, err)
}

func (tx *Tx) write(m applier.Mutation) error {
	if err := tx.writable(); err != nil {
		return err
	}
	if err := checkMutation(m); err != nil {
		return err
	}
	if tx.payload != nil {
		return fmt.Errorf("%w: the transaction has a payload of the program's own, which its keys would follow", ErrInvalid)
	}
	kind := certifier.Write
	if m.Op == applier.OpAdd {
		kind = certifier.Delta
	}
	if limit := tx.node.sizeLimit(); !tx.writes.put(m, limit-messageHead) {
		return fmt.Errorf("%w: transaction of more than %d bytes (TransactionSizeLimit); split it", ErrTooLarge, limit)
	}
	// After that: what was refused must not doom the transaction.
	_, err := tx.touch(tableKey{m.Table, m.Key}, kind)
	return err
}

// Scan yields the pairs with from <= key < to in key order, this transaction's
// own writes included as they were when the loop began. A nil bound is none.
// Key and value are valid until the next step. After the loop, Err tells
// whether it was complete. What a serializable transaction has scanned, up to
// where the loop ended, must be as it was when it commits; all of the range, if
// it commits inside the loop.
func (tx *Tx) Scan(t Table, from, to []byte) iter.Seq2[[]byte, []byte] {
	return tx.scan(t, from, to, false)
}

// ScanReverse is Scan in descending key order.
func (tx *Tx) ScanReverse(t Table, from, to []byte) iter.Seq2[[]byte, []byte] {
	return tx.scan(t, from, to, true)
}

func (tx *Tx) scan(t Table, from, to []byte, reverse bool) iter.Seq2[[]byte, []byte] {
	return func(yield func([]byte, []byte) bool) {
		if tx.scanErr = tx.usable(); tx.scanErr != nil {
			return
		}
		var own []applier.Mutation
		if tx.writes != nil {
			own = tx.writes.within(t, from, to, reverse)
		}
		pairs := overlay(tx.snapshot.Scan(t, from, to, reverse), own, reverse)
		if !tx.certifiesReads() || t.Check() != nil {
			pairs(yield)
			return
		}
		seen := &tableRange{t, bytes.Clone(from), bytes.Clone(to)}
		tx.reads.begin(seen)
		defer func() { tx.scanErr = tx.reads.end(seen) }()
		for k, v := range pairs {
			if yield(k, v) {
				continue
			}
			if reverse {
				seen.from = bytes.Clone(k)
			} else {
				seen.to = append(bytes.Clone(k), 0) // the least key after k
			}
			return
		}
	}
}

// Err returns what ended the last Scan early, nil if it was complete.
func (tx *Tx) Err() error {
	if tx.done {
		return ErrTxDone
	}
	if tx.scanErr != nil {
		return tx.scanErr
	}
	return tx.snapshot.Err()
}

// Rows returns the write set of a program that certifies rows of its own,
// beside or instead of the library's keys: what it notes there is certified
// with the transaction. It belongs to the transaction.
func (tx *Tx) Rows() (*certifier.WriteSet, error) {
	if err := tx.writable(); err != nil {
		return nil, err
	}
	if tx.rows == nil {
		tx.rows = &certifier.WriteSet{}
	}
	return tx.rows, nil
}

// SetPayload sets what the engine of the program's own is to apply if the
// transaction commits; Put, Delete and Add must not be used beside it. It is
// copied. The rows that the payload changes are noted by [Tx.Rows]; without
// any, the transaction is a barrier: no other one is applied beside it.
func (tx *Tx) SetPayload(payload []byte) error {
	if err := tx.writable(); err != nil {
		return err
	}
	if len(tx.writes.writes) > 0 {
		return fmt.Errorf("%w: the transaction has written keys; a payload of the program's own replaces them", ErrInvalid)
	}
	if limit := tx.node.sizeLimit(); len(payload) > limit {
		return fmt.Errorf("%w: payload of %d bytes, the limit is %d (TransactionSizeLimit); split it", ErrTooLarge, len(payload), limit)
	}
	tx.payload = append(make([]byte, 0, len(payload)), payload...)
	return nil
}
