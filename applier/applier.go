// Package applier owns the border between the group and the database that it
// replicates: the [Engine] interface, the position up to which an engine has
// applied the log, and the payload format of the key-value transactions that
// the library's own [Tx] writes.
//
// It promises that what it hands to an engine is certified, in commit order,
// and identical on every member. It must never know how transactions were
// ordered or certified, and an engine must never know that it is replicated.
package applier

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"iter"

	"github.com/concordatdb/concordat/gtid"
)

// ErrClosed is returned by every method of an engine or snapshot after Close.
var ErrClosed = errors.New("applier: engine is closed")

// ErrReplaced is returned by a snapshot whose state an Import has replaced.
var ErrReplaced = errors.New("applier: the state was replaced by an import: begin again")

// ErrOrder marks a batch that does not come after what an engine holds.
var ErrOrder = errors.New("applier: batch out of order")

// Table names a table of ordered keys. Schema and Name are non-empty UTF-8
// without NUL, at most MaxNameLen bytes each.
type Table struct {
	Schema string
	Name   string
}

// String returns schema.name.
func (t Table) String() string { return t.Schema + "." + t.Name }

// Position says how much of the log a state holds.
type Position struct {
	// Index is the log index of the last entry applied whole; 0 for an empty
	// engine.
	Index uint64
	// Part is how many transactions of the entry after that the state contains
	// as well, the first ones; 0 unless the engine is [Parallel].
	Part uint64
	// Executed holds the GTID of every transaction that the state contains.
	Executed gtid.Set
}

// AppendBinary implements [encoding.BinaryAppender]: it appends the canonical
// binary form, which [DecodePosition] reads. The error is always nil.
//
//	position := index(8, big-endian) uvarint part set      set as in package gtid
func (p Position) AppendBinary(b []byte) ([]byte, error) {
	b = binary.BigEndian.AppendUint64(b, p.Index)
	return p.Executed.AppendBinary(binary.AppendUvarint(b, p.Part))
}

// After returns the position that holds once t is visible as well, which comes
// next in commit order. It says no more than is known then: whether t was the
// last transaction of its log entry, only what comes next tells.
func (p Position) After(t *Transaction) Position {
	if t.Index > p.Index+1 {
		p.Index, p.Part = t.Index-1, 0
	}
	p.Part++
	p.Executed = p.Executed.Add(t.GTID)
	return p
}

// Reached returns the log index of the last entry of which the state contains
// anything.
func (p Position) Reached() uint64 { return p.Index + min(p.Part, 1) }

// DecodePosition reads a position from the front of b and returns what follows
// it.
func DecodePosition(b []byte) (p Position, rest []byte, err error) {
	if len(b) < 9 {
		return p, b, fmt.Errorf("position is cut off: %d bytes, at least 10 are needed", len(b))
	}
	part, n, why := uvarint(b[8:])
	if why != "" {
		return p, b, fmt.Errorf("position: the part of an entry %s", why)
	}
	executed, rest, err := gtid.DecodeSet(b[8+n:])
	if err != nil {
		return p, b, fmt.Errorf("position: %w", err)
	}
	return Position{Index: binary.BigEndian.Uint64(b), Part: part, Executed: executed}, rest, nil
}

// CheckAfter reports an error that wraps [ErrOrder] unless a state at before can
// become one at p. Every engine that is [Parallel] calls it in Commit.
func (p Position) CheckAfter(before Position) error {
	if p.Index < before.Index || p.Index == before.Index && p.Part <= before.Part {
		return fmt.Errorf("%w: to log index %d and %d of the next, the engine is at %d and %d", ErrOrder, p.Index, p.Part, before.Index, before.Part)
	}
	return nil
}

// Digest identifies the contents of an engine independently of the order in
// which they came about: two engines at the same Position must have the same
// Digest, and engines whose contents differ have different ones but for a
// hash collision. It detects divergence, it does not resist an adversary.
type Digest [16]byte

// String returns the digest in hexadecimal.
func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// Transaction is one certified transaction, ready to become visible.
type Transaction struct {
	// Index is the log index of the entry that the transaction came in.
	Index uint64
	GTID  gtid.GTID
	// LastCommitted and Sequence are the parallelisation interval: the
	// transaction may run in parallel with every one whose Sequence is
	// greater than LastCommitted. They are the same on every member.
	LastCommitted uint64
	Sequence      uint64
	// Origin is the member where it was run, and Time when it was committed there,
	// by that member's clock: microseconds since 1970 in UTC. Nothing is decided
	// by it.
	Origin gtid.UUID
	Time   int64
	// Payload is what the origin's engine asked to be applied. It is shared
	// with the log: an engine must neither change it nor keep it after Apply or
	// Build returns, or what Execute has returned is committed or discarded.
	Payload []byte
}

// Batch is a run of certified transactions that become visible together.
type Batch struct {
	// Transactions are in commit order. Empty when the log held only entries
	// that change no data.
	Transactions []Transaction
	// To is the position that holds once the batch is applied. To.Index grows
	// strictly from batch to batch.
	To Position
}

// CheckAfter reports an error that wraps [ErrOrder] unless b may be applied to
// a state at p. Every engine calls it first: applied twice or out of order, a
// batch would corrupt the state without a trace.
func (b Batch) CheckAfter(p Position) error {
	if b.To.Index <= p.Index {
		return fmt.Errorf("%w: the batch ends at log index %d, the engine is at %d", ErrOrder, b.To.Index, p.Index)
	}
	return nil
}

// TransactionError says which transaction an engine could not apply. What comes
// before it in commit order is sound, and what comes after has not been looked
// at: of several in one batch an engine names the first.
type TransactionError struct {
	GTID gtid.GTID
	Err  error
}

// Error names the transaction and the cause.
func (e *TransactionError) Error() string { return fmt.Sprintf("transaction %v: %v", e.GTID, e.Err) }

// Unwrap returns the cause.
func (e *TransactionError) Unwrap() error { return e.Err }

// Engine is the database of one member.
//
// There are three roads into it, and a node takes the last one that the engine
// has: Apply, one batch after the other; [Pipelined], which builds a batch while
// the one before becomes visible; [Parallel], whose transactions are executed
// side by side and become visible one after the other.
//
// Who may call: Apply, NewExport and Import are called by one goroutine at a
// time, not always the same; everything else from any goroutine, also
// concurrently with them. Flush is called by one goroutine at a time, and should
// not hold up Apply. Close comes when nobody is in Apply, NewExport or Import of
// a node's; readers may be anywhere.
//
// What may be lost: Apply need not be durable. After a crash an engine opens at
// some earlier Position; what it lost must be a suffix of the batches, whole
// batches only. The group's log replays the rest.
//
// Who frees: whoever got a [Snapshot] or an [Export] closes it. A batch and what
// it holds belong to the caller again when Apply returns.
//
// Errors: an engine that fails on a transaction returns a [TransactionError].
// Anything else is taken for a failure of this member's own disk or memory.
type Engine interface {
	// Position returns what is visible now.
	Position() Position
	// Digest returns the digest of the visible state, with its position.
	Digest() (Digest, Position, error)
	// Begin captures data and position atomically. The snapshot stays valid
	// until closed, whatever is applied meanwhile.
	Begin() (Snapshot, error)
	// Apply makes all of b visible atomically, together with b.To. An error
	// leaves the previous state visible and unchanged.
	Apply(b Batch) error
	// Durable returns an index such that no crash takes the engine back
	// below it. It may lag behind Position as far as it likes; the log is
	// never cut above it.
	Durable() (uint64, error)
	// Flush makes everything applied so far durable. When ctx ends first, it
	// may become so all the same.
	Flush(ctx context.Context) error
	// NewExport pins the visible state for copying. It is quick; the copying
	// goes on beside later batches.
	NewExport() (Export, error)
	// Import replaces the whole state by one that an Export wrote, and leaves
	// it durable. It is atomic: after a crash or an error, also one of r, the
	// engine has the old state or the new one. Snapshots open at the time
	// become invalid: their methods return errors.
	Import(ctx context.Context, r io.Reader) (Position, error)
	// Close releases everything. Open snapshots become invalid.
	Close() error
}

// Snapshot is one state of an engine, for one goroutine at a time.
type Snapshot interface {
	// Position is what the snapshot contains, exactly.
	Position() Position
	// Get returns the value of a key and whether there is one. The value is
	// the caller's.
	Get(t Table, key []byte) (value []byte, ok bool, err error)
	// Scan yields the pairs with from <= key < to in key order, or in reverse
	// order. A nil from or to is unbounded. Key and value are valid only until
	// the next step. After the loop, Err tells whether it ended early.
	Scan(t Table, from, to []byte, reverse bool) iter.Seq2[[]byte, []byte]
	// Err returns the error that ended the last Scan, nil if it was complete.
	Err() error
	// Close releases the snapshot. It is harmless to call it again.
	Close() error
}

// Export is a pinned state on its way to another member: a stream of bytes that
// is the same from one call to the next, so that copying can go on where a
// broken link ended it. Its methods, other than Close, are for one goroutine at
// a time.
type Export interface {
	// Position is what the export contains, exactly.
	Position() Position
	// Size returns the length of the stream in bytes, exactly. It is quick.
	Size() int64
	// WriteTo writes the stream from byte from on, with checksums, in the form
	// that Import of the same engine type reads. It reads no more of what lies
	// before from than a bounded piece. An Import must notice when bytes of the
	// stream are lost, repeated, out of place, changed, or taken from another
	// export. An error when from is negative or greater than Size.
	WriteTo(ctx context.Context, w io.Writer, from int64) error
	// Close releases what is pinned, also while WriteTo runs, which then ends
	// with [ErrClosed]. It is harmless to call it again.
	Close() error
}

// CheckFrom returns an error unless an export of size bytes can be written from
// byte from on. Every WriteTo calls it first.
func CheckFrom(from, size int64) error {
	if from < 0 || from > size {
		return fmt.Errorf("applier: export of %d bytes cannot be written from byte %d on", size, from)
	}
	return nil
}
