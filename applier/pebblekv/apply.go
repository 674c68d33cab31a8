package pebblekv

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"github.com/concordatdb/concordat/applier"
)

// writer is what apply reuses from batch to batch.
type writer struct {
	digester applier.Digester
	pairs    pairCache
	keys     []byte  // of the batch under construction, one behind the other
	writes   []write // of the batch under construction
	record   []byte
}

// write is what a batch does to one key of writer.keys.
type write struct {
	from, to int // of the key in writer.keys
	op       applier.Op
	value    []byte // of a put; aliases the payload
	sum      int64  // what an add leads to
}

func (w *writer) keyOf(x write) []byte { return w.keys[x.from:x.to] }

// begin forgets the batch before.
func (w *writer) begin() {
	clear(w.writes) // they hold on to payloads
	w.keys, w.writes = w.keys[:0], w.writes[:0]
	w.pairs.begin()
}

// fill adds the writes to batch in the order of their keys, and of several to
// one key only the last, since nobody can see the others. Pebble inserts a
// batch one by one into a list in which it searches on from the place before;
// among keys in order that place is near.
func (w *writer) fill(batch *pebble.Batch) error {
	slices.SortStableFunc(w.writes, func(a, b write) int { return bytes.Compare(w.keyOf(a), w.keyOf(b)) })
	var sum [applier.CounterLen]byte
	for i, x := range w.writes {
		key := w.keyOf(x)
		if i+1 < len(w.writes) && bytes.Equal(key, w.keyOf(w.writes[i+1])) {
			continue
		}
		var err error
		switch x.op {
		case applier.OpPut:
			err = batch.Set(key, x.value, nil)
		case applier.OpAdd:
			err = batch.Set(key, applier.AppendCounter(sum[:0], x.sum), nil)
		case applier.OpDelete:
			err = batch.Delete(key, nil)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// apply makes b visible. It builds the whole Pebble batch before anything is
// committed, so a malformed payload changes nothing.
func (s *store) apply(b applier.Batch) error {
	if err := s.failure.get(); err != nil {
		return err
	}
	before := s.visible.Load()
	if err := b.CheckAfter(before.position); err != nil {
		return err
	}
	batch := s.db.NewBatch()
	next, err := s.build(batch, b, before)
	if err != nil {
		return errors.Join(err, batch.Close())
	}
	if err := s.submit(job{batch: batch, next: next}); err != nil {
		return err // the batch may be in the hands of a parked goroutine
	}
	s.writer.pairs.commit()
	return batch.Close()
}

// build fills batch with b's mutations and the position record that follows
// from them, and returns the state they lead to.
func (s *store) build(batch *pebble.Batch, b applier.Batch, before *state) (*state, error) {
	w := &s.writer
	w.digester.Reset(before.digest)
	w.begin()
	for i := range b.Transactions {
		tx := &b.Transactions[i]
		for m, err := range applier.Mutations(tx.Payload) {
			if err == nil {
				err = s.mutate(m)
			}
			if err != nil {
				return nil, fmt.Errorf("transaction %v: %w", tx.GTID, err)
			}
		}
	}
	if err := w.fill(batch); err != nil {
		return nil, err
	}
	next := &state{position: b.To, digest: w.digester.Digest()}
	w.record = appendRecord(w.record[:0], next)
	return next, batch.Set(positionKey, w.record, nil)
}

// mutate notes m and accounts for it in the digest, for which it needs what m
// replaces. A sum is computed here and not left to a merge operator of Pebble's:
// the digest speaks of values.
func (s *store) mutate(m applier.Mutation) error {
	w := &s.writer
	x := write{from: len(w.keys), op: m.Op, value: m.Value}
	w.keys = appendKey(w.keys, m.Table, m.Key)
	x.to = len(w.keys)
	id := w.pairs.id(w.keyOf(x))
	old, known := w.pairs.find(id)
	if !known {
		var err error
		if old, err = s.readPair(m, w.keyOf(x)); err != nil {
			return err
		}
	}
	var next pairState
	switch m.Op {
	case applier.OpPut:
		next = w.pairOf(m, m.Value)
	case applier.OpAdd:
		var err error
		if x.sum, err = old.add(m.Delta); err != nil {
			return fmt.Errorf("%v, key %.64q: %w", m.Table, m.Key, err)
		}
		var value [applier.CounterLen]byte
		next = w.pairOf(m, applier.AppendCounter(value[:0], x.sum))
	case applier.OpDelete:
	}
	if old.live {
		w.digester.RemoveHash(old.hash)
	}
	if next.live {
		w.digester.AddHash(next.hash)
	}
	w.pairs.touch(id, next)
	if next.live || old.live { // else nothing to delete: no tombstone
		w.writes = append(w.writes, x)
	}
	return nil
}

// pairOf is the state of m's key when it has value.
func (w *writer) pairOf(m applier.Mutation, value []byte) pairState {
	sum, counter := applier.DecodeCounter(value)
	return pairState{live: true, counter: counter, sum: sum, hash: w.digester.Hash(m.Table, m.Key, value)}
}

// readPair reads what the database has for m's key, which is encoded as key.
func (s *store) readPair(m applier.Mutation, key []byte) (pairState, error) {
	value, closer, err := s.db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return pairState{}, nil
	}
	if err != nil {
		return pairState{}, fmt.Errorf("read %s: %w", s.dir, err)
	}
	return s.writer.pairOf(m, value), closer.Close()
}
