package pebblekv

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/concordatdb/concordat/applier"
	"github.com/concordatdb/concordat/gtid"
)

var _ applier.ChangeLog = (*Engine)(nil)

// Kinds of keys in the space of changes.
const (
	changeMilestone = 0x01
	changeRecord    = 0x02
	changePiece     = 0x03
)

// changeSteps is into how many parts the retention is divided: the least that is
// forgotten at a time is one of them.
const changeSteps = 64

// milestone is a place in the log of changes between two entries. What lies before
// the oldest one is forgotten.
type milestone struct {
	index    uint64 // log index of the last entry before it
	bytes    uint64 // of all records before it, also of those forgotten
	at       int64  // when it was made, in nanoseconds since 1970
	giants   uint64 // records in pieces before it, also those forgotten
	executed gtid.Set
}

// keptChanges is what a store knows of its log of changes without reading it. It
// is immutable.
type keptChanges struct {
	milestones []milestone // oldest first, at least one
	bytes      uint64      // of all records, also of those forgotten
	giants     uint64      // records in pieces, also those forgotten
	fresh      bool        // the milestones are not in the store yet
}

// changeWriter writes the log of changes. It belongs to whoever builds batches.
type changeWriter struct {
	limit uint64 // bytes of records that are kept; 0: none are
	age   time.Duration
	old   bool // old values are kept too
	now   func() time.Time

	key, value []byte            // scratch
	written    map[string][]byte // what the batch under construction has left of a key, nil for nothing; with old values only
}

func newChangeWriter(o Options) changeWriter {
	return changeWriter{limit: uint64(max(0, o.ChangeBytes)), age: o.ChangeAge, old: o.ChangeOldValues, now: o.Now}
}

func appendMilestoneKey(b []byte, index uint64) []byte {
	return binary.BigEndian.AppendUint64(append(b, spaceChanges, changeMilestone), index)
}

func appendChangeKey(b []byte, index uint64, number uint32) []byte {
	b = binary.BigEndian.AppendUint64(append(b, spaceChanges, changeRecord), index)
	return binary.BigEndian.AppendUint32(b, number)
}

// decodeChangeKey returns what is in the key of a record.
func decodeChangeKey(key []byte) (index uint64, number uint32, err error) {
	if len(key) != 14 || key[1] != changeRecord {
		return 0, 0, fmt.Errorf("%w: key %x in the changes", ErrCorrupt, key)
	}
	return binary.BigEndian.Uint64(key[2:]), binary.BigEndian.Uint32(key[10:]), nil
}

//	milestone := bytes(8) at(8) giants(8) set

func (m *milestone) append(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(b, m.bytes)
	b = binary.BigEndian.AppendUint64(b, uint64(m.at))
	b = binary.BigEndian.AppendUint64(b, m.giants)
	b, _ = m.executed.AppendBinary(b) // its error is always nil
	return b
}

// milestoneHead is how many bytes of a milestone stand before its set.
const milestoneHead = 24

func decodeMilestone(key, value []byte) (m milestone, err error) {
	if len(key) != 10 || len(value) < milestoneHead+1 {
		return m, fmt.Errorf("%w: milestone of %d bytes in the changes", ErrCorrupt, len(value))
	}
	m.index, m.bytes = binary.BigEndian.Uint64(key[2:]), binary.BigEndian.Uint64(value)
	m.at = int64(binary.BigEndian.Uint64(value[8:]))
	m.giants = binary.BigEndian.Uint64(value[16:])
	executed, rest, err := gtid.DecodeSet(value[milestoneHead:])
	if err == nil && len(rest) > 0 {
		err = fmt.Errorf("%d bytes too many", len(rest))
	}
	if err != nil {
		return m, fmt.Errorf("%w: milestone at %d in the changes: %w", ErrCorrupt, m.index, err)
	}
	m.executed = executed
	return m, nil
}

// record adds to batch what the log keeps of b, and takes from it what is to be
// forgotten. So both become visible, and are lost in a crash, with b's data. under
// are the batches before b that may not be visible yet; read returns the visible
// value of a key, nil if there is none. It returns what is kept then, nil if
// nothing is.
func (w *changeWriter) record(
	batch *pebble.Batch, b applier.Batch, before *state, under []*built, read func(key []byte) ([]byte, error),
) (*keptChanges, error) {
	if w.limit == 0 {
		return nil, nil
	}
	next := *before.changes
	if w.written = nil; w.old {
		w.written = map[string][]byte{}
	}
	r := applier.ChangeRecord{}
	for i := range b.Transactions {
		tx := &b.Transactions[i]
		switch {
		case tx.Index <= before.position.Index || tx.Index > b.To.Index || tx.Index < r.Index:
			return nil, fmt.Errorf("%w: transaction %v of log index %d in a batch from %d to %d",
				applier.ErrOrder, tx.GTID, tx.Index, before.position.Index, b.To.Index)
		case tx.Index == r.Index:
			r.Number++
		default:
			r.Index, r.Number = tx.Index, 0
		}
		r.GTID, r.Origin, r.Time, r.Payload = tx.GTID, tx.Origin, tx.Time, tx.Payload
		var err error
		if w.old {
			r.Old, err = w.oldValues(tx.Payload, under, read)
		}
		if err == nil {
			w.value, err = applier.AppendChange(append(w.value[:0], changeWhole), &r)
		}
		if err != nil {
			return nil, fmt.Errorf("transaction %v: %w", tx.GTID, err)
		}
		w.key = appendChangeKey(w.key[:0], r.Index, r.Number)
		if err := batch.Set(w.key, w.value, nil); err != nil {
			return nil, err
		}
		next.bytes += uint64(len(w.key) + len(w.value))
	}
	if cap(w.value) > maxKeptChange {
		w.value = nil
	}
	if err := w.retain(batch, b.To, &next); err != nil {
		return nil, err
	}
	return &next, nil
}

// maxKeptChange bounds the buffer that is kept between batches.
const maxKeptChange = 4 << 20

// oldValues returns what the keys of a payload have before each of its mutations.
func (w *changeWriter) oldValues(payload []byte, under []*built, read func(key []byte) ([]byte, error)) ([]applier.OldValue, error) {
	all := []applier.OldValue{}
	for m, err := range applier.Mutations(payload) {
		if err != nil {
			return nil, err
		}
		w.key = appendKey(w.key[:0], m.Table, m.Key)
		value, known := w.written[string(w.key)]
		for i := len(under) - 1; i >= 0 && !known; i-- {
			value, known = under[i].written[string(w.key)]
		}
		if !known {
			if value, err = read(w.key); err != nil {
				return nil, err
			}
		}
		old := applier.OldValue{Value: value, Exists: value != nil}
		all = append(all, old)
		switch m.Op {
		case applier.OpPut:
			value = append([]byte{}, m.Value...)
		case applier.OpAdd:
			sum, err := applier.AddCounter(old.Value, old.Exists, m.Delta)
			if err != nil {
				return nil, fmt.Errorf("%v, key %.64q: %w", m.Table, m.Key, err)
			}
			value = applier.AppendCounter(nil, sum)
		case applier.OpDelete:
			value = nil
		}
		w.written[string(w.key)] = value
	}
	return all, nil
}

// retain sets a milestone where one is due, and forgets what is beyond the
// retention: up to a milestone, whose set then tells what is gone.
func (w *changeWriter) retain(batch *pebble.Batch, to applier.Position, k *keptChanges) error {
	now := w.now().UnixNano()
	err := w.mark(func(key, value []byte) error { return batch.Set(key, value, nil) }, to, k, now)
	if err != nil {
		return err
	}
	cut := w.beyond(k, now)
	if cut == 0 {
		return nil
	}
	gone := k.milestones[cut].giants
	if gone > k.milestones[0].giants {
		if err := batch.DeleteRange(appendPieceKey(nil, 0, 0), appendPieceKey(nil, gone, 0), nil); err != nil {
			return err
		}
	}
	k.milestones = k.milestones[cut:]
	oldest := k.milestones[0].index
	return errors.Join(
		batch.DeleteRange(appendMilestoneKey(nil, 0), appendMilestoneKey(nil, oldest), nil),
		batch.DeleteRange(appendChangeKey(nil, 0, 0), appendChangeKey(nil, oldest+1, 0), nil),
	)
}

// due reports whether a milestone is to be set behind what there is.
func (w *changeWriter) due(k *keptChanges, now int64) bool {
	last := &k.milestones[len(k.milestones)-1]
	grown := k.bytes - last.bytes
	return grown >= max(1, w.limit/changeSteps) || w.age > 0 && grown > 0 && now-last.at >= int64(w.age)/changeSteps
}

// beyond returns how many milestones are to go. The last one stays.
func (w *changeWriter) beyond(k *keptChanges, now int64) (cut int) {
	ms := k.milestones
	for cut+1 < len(ms) && (k.bytes-ms[cut].bytes > w.limit || w.age > 0 && ms[cut+1].at < now-int64(w.age)) {
		cut++
	}
	return cut
}

// TrimChanges forgets what has grown too old (Options.ChangeAge), as each batch does,
// for an engine that is given none. It is called as Build is, and does nothing while
// batches are under way. An error leaves everything as it was.
func (e *Engine) TrimChanges() error {
	s, before, done, err := e.useInTurn()
	if err != nil {
		return err
	}
	defer done()
	if before.changes == nil || s.changes.age == 0 || len(s.builder.pending) > 0 {
		return nil
	}
	kept, batch := *before.changes, s.db.NewBatch()
	if err := s.changes.retain(batch, before.position, &kept); err != nil || batch.Empty() {
		return errors.Join(err, batch.Close())
	}
	next := &state{position: before.position, digest: before.digest, changes: &kept}
	if err := s.submit(job{batch: batch, next: next}); err != nil {
		return err // the batch may be in the hands of a parked goroutine
	}
	return batch.Close()
}

// mark sets a milestone where one is due, and the first one with the first record.
func (w *changeWriter) mark(set func(key, value []byte) error, to applier.Position, k *keptChanges, now int64) error {
	last := &k.milestones[len(k.milestones)-1]
	put := func(m *milestone) error {
		w.key, w.value = appendMilestoneKey(w.key[:0], m.index), m.append(w.value[:0])
		return set(w.key, w.value)
	}
	if k.fresh {
		if err := put(last); err != nil {
			return err
		}
		k.fresh = false
	}
	if !w.due(k, now) {
		return nil
	}
	m := milestone{index: to.Index, bytes: k.bytes, at: now, giants: k.giants, executed: to.Executed}
	k.milestones = append(slices.Clip(k.milestones), m)
	return put(&m)
}

// loadChanges finds out what a store that has just been opened keeps. One that is
// to keep nothing forgets what is left of other times: transactions will be missing
// behind it.
func (s *store) loadChanges(st *state) (err error) {
	w := &s.changes
	if w.limit == 0 {
		return s.forgetChanges()
	}
	it, err := s.changeIterator()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	k := &keptChanges{}
	for ok := it.First(); ok && it.Key()[1] == changeMilestone; ok = it.Next() {
		m, err := decodeMilestone(it.Key(), it.Value())
		if err != nil {
			return err
		}
		k.milestones, k.bytes, k.giants = append(k.milestones, m), m.bytes, m.giants
	}
	if len(k.milestones) == 0 {
		k.milestones = []milestone{{index: st.position.Index, at: w.now().UnixNano(), executed: st.position.Executed}}
		k.fresh = true
	}
	last := k.milestones[len(k.milestones)-1].index
	for ok := it.SeekGE(appendChangeKey(nil, last+1, 0)); ok && it.Key()[1] == changeRecord; ok = it.Next() {
		value, err := it.ValueAndErr()
		if err != nil {
			return fmt.Errorf("read %s: %w", s.dir, err)
		}
		in, _, err := decodeChangeValue(value)
		if err != nil {
			return err
		}
		k.bytes += uint64(len(it.Key())+len(value)) + in.size()
		if in.count > 0 {
			k.giants++
		}
	}
	st.changes = k
	return it.Error()
}

// forgetChanges removes all that is left in the space of changes.
func (s *store) forgetChanges() error {
	it, err := s.changeIterator()
	if err != nil {
		return err
	}
	some := it.First()
	if err := errors.Join(it.Error(), it.Close()); err != nil || !some {
		return err
	}
	return s.call(func() error { return s.db.DeleteRange([]byte{spaceChanges}, []byte{spaceChanges + 1}, pebble.NoSync) })
}

func (s *store) changeIterator() (*pebble.Iterator, error) {
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: []byte{spaceChanges}, UpperBound: []byte{spaceChanges + 1}})
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", s.dir, err)
	}
	return it, nil
}

// readValue returns the value that a key has, nil if there is none.
func (s *store) readValue(key []byte) ([]byte, error) { return s.get(key) }

// FindChanges implements [applier.ChangeLog]. It reads nothing from the disk.
func (e *Engine) FindChanges(after gtid.Set) (applier.ChangePlace, error) {
	s, done, err := e.use()
	if err != nil {
		return applier.ChangePlace{}, err
	}
	defer done()
	st := s.visible.Load()
	k := st.changes
	if k == nil {
		return applier.ChangePlace{}, applier.ErrChangesOff
	}
	if gone := k.milestones[0].executed; !gone.SubsetOf(after) {
		return applier.ChangePlace{}, &applier.ChangesGoneError{Missing: gone.Subtract(after)}
	}
	if st.position.Executed.SubsetOf(after) {
		return applier.ChangePlace{State: s.number, Index: st.position.Index + 1}, nil
	}
	at := k.milestones[0].index
	for _, m := range slices.Backward(k.milestones) {
		if m.executed.SubsetOf(after) {
			at = m.index
			break
		}
	}
	return applier.ChangePlace{State: s.number, Index: at + 1}, nil
}

// ReadChanges implements [applier.ChangeLog].
func (e *Engine) ReadChanges(from applier.ChangePlace, most int) ([]applier.ChangeRecord, applier.ChangePlace, error) {
	s, done, err := e.use()
	if err != nil {
		return nil, from, err
	}
	defer done()
	return s.readChanges(from, most)
}

func (s *store) readChanges(from applier.ChangePlace, most int) (records []applier.ChangeRecord, next applier.ChangePlace, err error) {
	st := s.visible.Load()
	switch {
	case st.changes == nil:
		return nil, from, applier.ErrChangesOff
	case from.State != s.number:
		return nil, from, applier.ErrChangesMoved
	}
	it, err := s.changeIterator()
	if err != nil {
		return nil, from, err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	// What the iterator shows counts: a batch may have been committed since st was
	// looked at, and have forgotten more.
	oldest := st.changes.milestones[0].index
	if it.First() && it.Key()[1] == changeMilestone && len(it.Key()) == 10 {
		oldest = binary.BigEndian.Uint64(it.Key()[2:])
	}
	if from.Index <= oldest {
		return nil, from, applier.ErrChangesMoved
	}
	bytes := uint64(0)
	for ok := it.SeekGE(appendChangeKey(nil, from.Index, from.Number)); ok && it.Key()[1] != changePiece; ok = it.Next() {
		index, number, err := decodeChangeKey(it.Key())
		if err != nil {
			return nil, from, err
		}
		if index > st.position.Index {
			break
		}
		value, err := it.ValueAndErr()
		if err != nil {
			return nil, from, fmt.Errorf("read %s: %w", s.dir, err)
		}
		in, rest, err := decodeChangeValue(value)
		if err != nil {
			return nil, from, err
		}
		if bytes += uint64(len(value)) + in.bytes; bytes > uint64(max(0, most)) && len(records) > 0 {
			return records, applier.ChangePlace{State: s.number, Index: index, Number: number}, nil
		}
		r, err := applier.DecodeChange(slices.Clone(rest))
		if err == nil && in.count > 0 {
			r.Payload, err = in.read(it)
			it.SeekGE(appendChangeKey(nil, index, number))
		}
		if err != nil {
			return nil, from, fmt.Errorf("%w: change at %d: %w", ErrCorrupt, index, err)
		}
		r.Index, r.Number = index, number
		records = append(records, r)
	}
	if err := it.Error(); err != nil {
		return nil, from, fmt.Errorf("read %s: %w", s.dir, err)
	}
	next = applier.ChangePlace{State: s.number, Index: min(st.position.Index, math.MaxUint64-1) + 1}
	if next.Index < from.Index { // a place beyond what is visible
		next = from
	}
	return records, next, nil
}
