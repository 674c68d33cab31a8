package pebblekv

import (
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"github.com/concordatdb/concordat/applier"
)

// writer is what apply reuses from batch to batch.
type writer struct {
	digester applier.Digester
	pairs    pairCache
	key      []byte
	record   []byte
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
	w.pairs.begin()
	for i := range b.Transactions {
		tx := &b.Transactions[i]
		for m, err := range applier.Mutations(tx.Payload) {
			if err == nil {
				err = s.mutate(batch, m)
			}
			if err != nil {
				return nil, fmt.Errorf("transaction %v: %w", tx.GTID, err)
			}
		}
	}
	next := &state{position: b.To, digest: w.digester.Digest()}
	w.record = appendRecord(w.record[:0], next)
	return next, batch.Set(positionKey, w.record, nil)
}

// mutate adds m to batch and accounts for it in the digest, for which it needs
// the hash of the pair that m replaces.
func (s *store) mutate(batch *pebble.Batch, m applier.Mutation) error {
	w := &s.writer
	w.key = appendKey(w.key[:0], m.Table, m.Key)
	id := w.pairs.id(w.key)
	old, known := w.pairs.find(id)
	if !known {
		var err error
		if old, err = s.readPair(m); err != nil {
			return err
		}
	}
	if old.live {
		w.digester.RemoveHash(old.hash)
	}
	if m.Op == applier.OpPut {
		hash := w.digester.Hash(m.Table, m.Key, m.Value)
		w.digester.AddHash(hash)
		w.pairs.touch(id, pairState{live: true, hash: hash})
		return batch.Set(w.key, m.Value, nil)
	}
	w.pairs.touch(id, pairState{})
	if !old.live {
		return nil // nothing to delete: no tombstone
	}
	return batch.Delete(w.key, nil)
}

// readPair reads what the database has for the key of m, which is in s.writer.
func (s *store) readPair(m applier.Mutation) (pairState, error) {
	w := &s.writer
	value, closer, err := s.db.Get(w.key)
	if errors.Is(err, pebble.ErrNotFound) {
		return pairState{}, nil
	}
	if err != nil {
		return pairState{}, fmt.Errorf("read %s: %w", s.dir, err)
	}
	return pairState{live: true, hash: w.digester.Hash(m.Table, m.Key, value)}, closer.Close()
}
