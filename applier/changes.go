package applier

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/concordatdb/concordat/gtid"
)

// ErrChangesOff is returned by a [ChangeLog] that keeps nothing.
var ErrChangesOff = errors.New("applier: engine keeps no changes")

// ErrChangesGone marks that changes were asked for that are not kept any more.
// The error is a *ChangesGoneError.
var ErrChangesGone = errors.New("applier: changes are not kept any more")

// ErrChangesMoved is returned for a place that leads nowhere any more: the state
// was replaced, or what comes next there has been forgotten. Find the place again.
var ErrChangesMoved = errors.New("applier: place in the changes is gone: find it again")

// ErrChange marks a record that is not one.
var ErrChange = errors.New("applier: malformed change record")

// ChangeLog is implemented by an [Engine] that remembers what its last
// transactions changed. Its methods may be called from any goroutine, also
// concurrently with all others.
//
// What is remembered becomes visible, and is lost in a crash, together with the
// data, and an Export carries it. So whatever happens to the engine, a transaction
// that it shows is in the log exactly once, or was forgotten with all before it. An
// engine that is [Parallel] shows a part of a log entry, and that part is in the log.
type ChangeLog interface {
	// FindChanges returns the place before the first transaction that is kept and
	// not in after, or one that lies earlier. The error wraps [ErrChangesOff], or
	// [ErrChangesGone] if a transaction that is visible and not in after was
	// forgotten.
	FindChanges(after gtid.Set) (ChangePlace, error)
	// ReadChanges returns what was kept from a place on, in commit order: at least
	// one record if there is any, and no further one beyond most bytes. next is the
	// place behind them. The records are the caller's. The error wraps
	// [ErrChangesMoved] or [ErrChangesOff].
	ReadChanges(from ChangePlace, most int) (records []ChangeRecord, next ChangePlace, err error)
}

// ChangePlace is a place between two records of a log, as long as the engine is
// open.
type ChangePlace struct {
	// State says in which of an engine's states, one for each Import, this is a
	// place. Only the engine knows what it means.
	State uint64
	// Index and Number are the least that a record behind it can have: the log
	// index, and the number among the transactions of that log entry, from 0.
	Index  uint64
	Number uint32
}

// ChangeRecord is a transaction as a log remembers it.
type ChangeRecord struct {
	Index  uint64 // log index
	Number uint32 // among those with that index, from 0
	GTID   gtid.GTID
	Origin gtid.UUID // member
	Time   int64     // of its commit, by the origin's clock, in µs since 1970 UTC
	// Payload is the transaction's.
	Payload []byte
	// Old are the values that the keys of the payload's mutations had before each
	// of them; nil if the log does not keep them.
	Old []OldValue
}

// OldValue is what a key had.
type OldValue struct {
	Value  []byte // nil if there was no such key
	Exists bool
}

// ChangesGoneError says what was forgotten. It matches [ErrChangesGone].
type ChangesGoneError struct {
	// Missing are the transactions that were asked for and are not kept any more.
	Missing gtid.Set
}

// Error names the transactions.
func (e *ChangesGoneError) Error() string { return fmt.Sprintf("%v: %v", ErrChangesGone, e.Missing) }

// Is reports whether target is ErrChangesGone.
func (e *ChangesGoneError) Is(target error) bool { return target == ErrChangesGone }

// What a record says of old values.
const (
	oldUnknown = 0
	oldKept    = 1
)

// AppendChange appends what a log keeps of a record beside Index and Number, which
// are its key.
//
//	record  := gtid origin(16) time(8) uvarint(len payload) payload old
//	old     := 0 | 1 (0 | 1 uvarint(len) value)*     one for each mutation
//
// with the GTID in the form of package gtid and the time big-endian, in two's
// complement. The error is that of a GTID that cannot be one.
func AppendChange(b []byte, r *ChangeRecord) ([]byte, error) {
	if !r.GTID.Valid() {
		return nil, fmt.Errorf("%w: GTID %v cannot be one", ErrChange, r.GTID)
	}
	b, err := r.GTID.AppendBinary(b)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrChange, err)
	}
	b = append(b, r.Origin[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(r.Time))
	b = appendBytes(b, r.Payload)
	if r.Old == nil {
		return append(b, oldUnknown), nil
	}
	b = append(b, oldKept)
	for _, old := range r.Old {
		if !old.Exists {
			b = append(b, 0)
			continue
		}
		b = appendBytes(append(b, 1), old.Value)
	}
	return b, nil
}

// DecodeChange reads what AppendChange appended. The record aliases b. The error
// wraps [ErrChange].
func DecodeChange(b []byte) (r ChangeRecord, err error) {
	if r.GTID, b, err = gtid.DecodeGTID(b); err != nil {
		return r, fmt.Errorf("%w: %w", ErrChange, err)
	}
	if !r.GTID.Valid() {
		return r, fmt.Errorf("%w: GTID %v cannot be one", ErrChange, r.GTID)
	}
	if len(b) < len(r.Origin)+8 {
		return r, fmt.Errorf("%w: origin and time are cut off", ErrChange)
	}
	b = b[copy(r.Origin[:], b):]
	r.Time = int64(binary.BigEndian.Uint64(b))
	d := decoder{rest: b[8:]}
	r.Payload = d.bytes(uint64(len(d.rest)), "payload")
	if d.err != nil {
		return r, fmt.Errorf("%w: %w", ErrChange, d.err)
	}
	err = r.decodeOld(&d)
	return r, err
}

// decodeOld reads the old values, of which there is one for each mutation.
func (r *ChangeRecord) decodeOld(d *decoder) error {
	if len(d.rest) == 0 || d.rest[0] > oldKept {
		return fmt.Errorf("%w: what it says of old values is cut off or unknown", ErrChange)
	}
	kept := d.rest[0] == oldKept
	if d.rest = d.rest[1:]; !kept {
		return r.finish(d)
	}
	r.Old = []OldValue{}
	for _, err := range Mutations(r.Payload) {
		if err != nil {
			return fmt.Errorf("%w: %w", ErrChange, err)
		}
		if len(d.rest) == 0 || d.rest[0] > 1 {
			return fmt.Errorf("%w: the old value of mutation %d is cut off", ErrChange, len(r.Old))
		}
		old := OldValue{Exists: d.rest[0] == 1}
		d.rest = d.rest[1:]
		if old.Exists {
			if old.Value = d.bytes(MaxValueLen, "old value"); d.err != nil {
				return fmt.Errorf("%w: %w", ErrChange, d.err)
			}
		}
		r.Old = append(r.Old, old)
	}
	return r.finish(d)
}

func (r *ChangeRecord) finish(d *decoder) error {
	if len(d.rest) > 0 {
		return fmt.Errorf("%w: %d bytes too many", ErrChange, len(d.rest))
	}
	return nil
}
