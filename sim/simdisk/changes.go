package simdisk

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/concordatdb/concordat/applier"
	"github.com/concordatdb/concordat/gtid"
)

var _ applier.ChangeLog = (*Engine)(nil)

// changes is a log of changes up to one state. It is immutable: a crash falls back
// to an earlier one. The batches of all states share their memory, of which the
// newest uses most: what is appended behind an earlier one overwrites only what a
// crash has taken away.
type changes struct {
	base    applier.Position // what lies before it is forgotten
	batches []changeBatch
	count   int // of records in the batches
}

// changeBatch are the changes of one batch that has some.
type changeBatch struct {
	to      applier.Position
	records []keptChange
}

// keptChange is a record, and its form in an export.
type keptChange struct {
	applier.ChangeRecord

	bytes []byte
}

// KeepChanges has the engine keep about the last n changes from now on, and forget
// them all for 0. A real engine is told so when it is opened.
func (e *Engine) KeepChanges(n int) {
	e.keep = n
	st := *e.visible()
	st.changes = st.changes.adopted(st.position, n)
	e.states[len(e.states)-1] = &st
}

// adopted is what an engine that keeps so many goes on with, at a position.
func (c *changes) adopted(at applier.Position, keep int) *changes {
	switch {
	case keep == 0:
		return nil
	case c == nil:
		return &changes{base: at}
	}
	return c
}

// record returns the log behind a batch, or a transaction of one.
func (c *changes) record(b applier.Batch, before applier.Position, keep int) (*changes, error) {
	if c == nil || len(b.Transactions) == 0 {
		return c, nil
	}
	next := *c
	batch := changeBatch{to: b.To}
	r := placeAfter(before)
	for i := range b.Transactions {
		tx := &b.Transactions[i]
		if tx.Index < r.Index || tx.Index > b.To.Reached() {
			return nil, fmt.Errorf("%w: transaction %v of log index %d in a batch from %d to %d",
				applier.ErrOrder, tx.GTID, tx.Index, before.Index, b.To.Reached())
		}
		if tx.Index > r.Index {
			r.Index, r.Number = tx.Index, 0
		}
		record := applier.ChangeRecord{
			Index: r.Index, Number: r.Number, GTID: tx.GTID, Origin: tx.Origin, Time: tx.Time, Payload: slices.Clone(tx.Payload),
		}
		bytes, err := applier.AppendChange(nil, &record)
		if err != nil {
			return nil, fmt.Errorf("transaction %v: %w", tx.GTID, err)
		}
		batch.records = append(batch.records, keptChange{record, bytes})
		r.Number++
	}
	next.batches = append(next.batches, batch)
	next.count += len(batch.records)
	for next.count > keep && len(next.batches) > 1 {
		next.base = next.batches[0].to
		next.count -= len(next.batches[0].records)
		next.batches = next.batches[1:]
	}
	return &next, nil
}

// placeAfter is where the next transaction behind a position will be kept, or a place
// before it: the position may lie inside of an entry.
func placeAfter(p applier.Position) applier.ChangePlace {
	return applier.ChangePlace{Index: p.Index + 1, Number: uint32(p.Part)}
}

// precedes reports whether a place lies before another one.
func precedes(a, b applier.ChangePlace) bool {
	return a.Index < b.Index || a.Index == b.Index && a.Number < b.Number
}

// FindChanges implements [applier.ChangeLog].
func (e *Engine) FindChanges(after gtid.Set) (place applier.ChangePlace, err error) {
	st := e.visible()
	switch {
	case e.opened.ended != nil:
		return place, e.opened.ended
	case st.changes == nil:
		return place, applier.ErrChangesOff
	}
	c := st.changes
	if !c.base.Executed.SubsetOf(after) {
		return place, &applier.ChangesGoneError{Missing: c.base.Executed.Subtract(after)}
	}
	place = placeAfter(c.base)
	for _, b := range slices.Backward(c.batches) {
		if b.to.Executed.SubsetOf(after) {
			place = placeAfter(b.to)
			break
		}
	}
	place.State = e.number
	return place, nil
}

// ReadChanges implements [applier.ChangeLog].
func (e *Engine) ReadChanges(from applier.ChangePlace, most int) ([]applier.ChangeRecord, applier.ChangePlace, error) {
	st := e.visible()
	switch {
	case e.opened.ended != nil:
		return nil, from, e.opened.ended
	case st.changes == nil:
		return nil, from, applier.ErrChangesOff
	case from.State != e.number || precedes(from, placeAfter(st.changes.base)):
		return nil, from, applier.ErrChangesMoved
	}
	var records []applier.ChangeRecord
	bytes := 0
	for _, b := range st.changes.batches {
		for _, kept := range b.records {
			r := kept.ChangeRecord
			at := applier.ChangePlace{State: e.number, Index: r.Index, Number: r.Number}
			if precedes(at, from) {
				continue
			}
			if bytes += len(r.Payload) + 1; bytes > most && len(records) > 0 {
				return records, at, nil
			}
			r.Payload = slices.Clone(r.Payload)
			records = append(records, r)
		}
	}
	if next := placeAfter(st.position); precedes(from, next) {
		from.Index, from.Number = next.Index, next.Number
	}
	return records, from, nil
}

// ExportedChanges is how many bytes of an export of the visible state are changes.
func (e *Engine) ExportedChanges() int { return len(e.visible().changes.append(nil)) }

// errChanges marks changes in an export that are none.
var errChanges = errors.New("malformed changes")

// append appends the changes to an export: nothing that a payload could begin with
// if there is no log.
//
//	changes := nothing | 0  position  uvarint count  batch*
//	batch   := position  uvarint count  (index(8) number(4) uvarint len  record)*
func (c *changes) append(b []byte) []byte {
	if c == nil {
		return b
	}
	b, _ = c.base.AppendBinary(append(b, 0)) // its error is always nil
	b = binary.AppendUvarint(b, uint64(len(c.batches)))
	for i := range c.batches {
		batch := &c.batches[i]
		b, _ = batch.to.AppendBinary(b)
		b = binary.AppendUvarint(b, uint64(len(batch.records)))
		for j := range batch.records {
			r := &batch.records[j]
			b = binary.BigEndian.AppendUint64(b, r.Index)
			b = binary.BigEndian.AppendUint32(b, r.Number)
			b = append(binary.AppendUvarint(b, uint64(len(r.bytes))), r.bytes...)
		}
	}
	return b
}

// decodeChanges takes the changes off the front of what follows the position of an
// export.
func decodeChanges(b []byte) (_ *changes, rest []byte, err error) {
	if len(b) == 0 || b[0] != 0 {
		return nil, b, nil
	}
	c := &changes{}
	if c.base, b, err = applier.DecodePosition(b[1:]); err != nil {
		return nil, nil, fmt.Errorf("%w: %w", errChanges, err)
	}
	batches, b, err := takeCount(b, 9)
	for i := 0; i < batches && err == nil; i++ {
		var batch changeBatch
		if batch, b, err = decodeChangeBatch(b); err == nil {
			c.batches = append(c.batches, batch)
			c.count += len(batch.records)
		}
	}
	return c, b, err
}

func decodeChangeBatch(b []byte) (batch changeBatch, rest []byte, err error) {
	if batch.to, b, err = applier.DecodePosition(b); err != nil {
		return batch, nil, fmt.Errorf("%w: %w", errChanges, err)
	}
	records, b, err := takeCount(b, 13)
	for i := 0; i < records && err == nil; i++ {
		if len(b) < 12 {
			return batch, nil, fmt.Errorf("%w: place of a record is cut off", errChanges)
		}
		index, number := binary.BigEndian.Uint64(b), binary.BigEndian.Uint32(b[8:])
		var size int
		if size, b, err = takeCount(b[12:], 1); err != nil {
			break
		}
		r, err := applier.DecodeChange(b[:size:size])
		if err != nil {
			return batch, nil, fmt.Errorf("%w: %w", errChanges, err)
		}
		r.Index, r.Number = index, number
		batch.records, b = append(batch.records, keptChange{r, b[:size:size]}), b[size:]
	}
	return batch, b, err
}

// takeCount takes the number of what takes at least size bytes each.
func takeCount(b []byte, size int) (n int, rest []byte, err error) {
	count, width := binary.Uvarint(b)
	if width <= 0 || count > uint64(len(b)-width)/uint64(size) {
		return 0, nil, fmt.Errorf("%w: %d parts in %d bytes", errChanges, count, len(b))
	}
	return int(count), b[width:], nil
}
