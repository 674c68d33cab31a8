package concordat

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"time"

	"github.com/concordatdb/concordat/applier"
	"github.com/concordatdb/concordat/certifier"
	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/internal/replica"
)

// touches yields what the transaction touched, by kind, in the order in which
// the write set holds it behind the program's own rows.
func (tx *Tx) touches() iter.Seq2[certifier.Kind, tableKey] {
	return func(yield func(certifier.Kind, tableKey) bool) {
		for _, kind := range [...]certifier.Kind{certifier.Write, certifier.Delta} {
			for i := range tx.writes.writes {
				m := &tx.writes.writes[i]
				if (m.Op == applier.OpAdd) != (kind == certifier.Delta) {
					continue
				}
				if !yield(kind, tableKey{m.Table, m.Key}) {
					return
				}
			}
		}
		for _, k := range tx.refs {
			if !yield(certifier.Reference, k) {
				return
			}
		}
		for _, k := range tx.reads.points {
			if !yield(certifier.Read, k) {
				return
			}
		}
	}
}

// touched returns the key that was touched as the nth of its kind.
func (tx *Tx) touched(kind certifier.Kind, nth int) (tableKey, bool) {
	if tx.rows != nil {
		nth -= tx.rowItems[kind]
	}
	for k, key := range tx.touches() {
		if k != kind {
			continue
		}
		if nth == 0 {
			return key, true
		}
		nth--
	}
	return tableKey{}, false
}

// compose makes the write set.
func (tx *Tx) compose() error {
	if err := tx.reads.endAll(); err != nil {
		return err
	}
	ws := &certifier.WriteSet{}
	if tx.rows != nil {
		ws = tx.rows
		tx.rowRanges = ws.Ranges()
		for kind := range certifier.Kind(certifier.Kinds) {
			tx.rowItems[kind] = ws.Count(kind)
		}
	}
	for kind, k := range tx.touches() {
		x := certifier.Index{Name: certifier.PrimaryIndex, Schema: k.table.Schema, Table: k.table.Name}
		ws.Add(kind, x, certifier.Bytes(k.key))
	}
	for _, r := range tx.reads.ranges {
		x := certifier.Index{Name: certifier.PrimaryIndex, Schema: r.table.Schema, Table: r.table.Name}
		ws.Range(x, bound(r.from), bound(r.to))
	}
	tx.composed = ws
	return nil
}

func bound(key []byte) []certifier.Part {
	if key == nil {
		return nil
	}
	return []certifier.Part{certifier.Bytes(key)}
}

// writesNothing reports whether there is nothing that the group should know.
func (tx *Tx) writesNothing() bool {
	if tx.writes == nil {
		return true
	}
	rows := tx.rows != nil && tx.rows.Count(certifier.Write)+tx.rows.Count(certifier.Delta) > 0
	wrong := tx.rows != nil && tx.rows.Err() != nil // which message will say
	return len(tx.writes.writes) == 0 && tx.payload == nil && !rows && !wrong && tx.wish == gtid.GTID{}
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
	if tx.writesNothing() {
		return gtid.GTID{}, nil
	}
	answer, err := tx.decide(ctx)
	if err != nil {
		return gtid.GTID{}, err
	}
	return tx.verdict(answer.Verdict)
}

// decide returns what the group decides, or has decided already.
func (tx *Tx) decide(ctx context.Context) (replica.Answer, error) {
	if d := tx.doomed.Load(); d != nil {
		return tx.lostEarly(ctx, tx.doom(d))
	}
	size, err := tx.measure()
	if err != nil {
		return replica.Answer{}, err
	}
	if size > giantBytes {
		return tx.node.commitGiant(ctx, tx)
	}
	message, err := tx.message(size)
	if err != nil {
		return replica.Answer{}, err
	}
	return tx.node.commit(ctx, tx, message, nil)
}

// lostEarly answers one that would lose. Under an id that the caller gave, what
// it would lose to may be what it repeats: only the group's memory of ids can
// tell, and by now it knows.
func (tx *Tx) lostEarly(ctx context.Context, e *ConflictError) (replica.Answer, error) {
	if tx.named {
		if o, err := tx.node.Outcome(ctx, tx.id); err == nil && o.State == OutcomeCommitted {
			return replica.Answer{Verdict: certifier.Verdict{Outcome: certifier.Duplicate, GTID: o.GTID}, Index: o.Index}, nil
		}
	}
	return replica.Answer{}, tx.lost(e)
}

// messageHead is about what a message takes beside what the transaction did: id,
// a small GTID set and lengths.
const messageHead = 104

// measure makes the write set, and returns about how much the transaction will
// take.
func (tx *Tx) measure() (size int, err error) {
	if err := tx.compose(); err != nil {
		return 0, err
	}
	tx.size = messageHead + tx.writes.bytes + tx.composed.Size() + len(tx.payload)
	return tx.size, nil
}

func (tx *Tx) header() replica.Header {
	return replica.Header{
		ID: tx.id, Snapshot: tx.Snapshot(), GTID: tx.wish,
		Epoch: cmp.Or(tx.epoch, tx.node.standing.Load().Election.Epoch), After: tx.level.WaitsAfter(),
		Time: time.Now().UnixMicro(),
	}
}

// tooLarge is the error for a transaction of so many bytes, nil if the group allows
// it.
func (tx *Tx) tooLarge(size int) error {
	if limit := tx.node.sizeLimit(); size > limit {
		return fmt.Errorf("%w: transaction of %d bytes, the limit is %d (TransactionSizeLimit); split it", ErrTooLarge, size, limit)
	}
	return nil
}

// message encodes the transaction once, in the form in which it stays.
func (tx *Tx) message(size int) ([]byte, error) {
	w := tx.writes
	header := tx.header()
	message, err := replica.AppendTransaction(make([]byte, 0, size), &header, tx.composed, tx.payload)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	for i := range w.writes {
		message = applier.AppendMutation(message, w.writes[i])
	}
	return message, tx.tooLarge(len(message))
}

func (tx *Tx) verdict(v certifier.Verdict) (gtid.GTID, error) {
	n := tx.node
	switch v.Outcome {
	case certifier.Certified:
		n.counters.committed.Add(1)
		return v.GTID, nil
	case certifier.Duplicate:
		n.counters.duplicates.Add(1)
		return v.GTID, nil
	case certifier.Conflict:
		return gtid.GTID{}, tx.lost(tx.clashError(&v.Clash))
	case certifier.SnapshotTooOld:
		n.counters.snapshotsTooOld.Add(1)
	case certifier.GTIDTaken:
		return gtid.GTID{}, fmt.Errorf("%w: %v", ErrGTIDTaken, tx.wish)
	case certifier.Fenced:
		return gtid.GTID{}, n.fenced()
	case certifier.Unapplied:
		return gtid.GTID{}, &UnappliedError{GTID: v.GTID}
	case certifier.Exhausted, certifier.GTIDSpread, certifier.Unreadable, certifier.GivenUp, certifier.TooLarge:
	}
	return gtid.GTID{}, refusal(v.Outcome)
}
