package pebblekv

import (
	"bytes"
	"errors"
	"fmt"
	"hash/maphash"

	"github.com/cockroachdb/pebble/v2"

	"github.com/concordatdb/concordat/applier"
)

// writer is what apply reuses from batch to batch.
type writer struct {
	digester applier.Digester
	touched  overlay
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
	return batch.Close()
}

// build fills batch with b's mutations and the position record that follows
// from them, and returns the state they lead to.
func (s *store) build(batch *pebble.Batch, b applier.Batch, before *state) (*state, error) {
	w := &s.writer
	w.digester.Reset(before.digest)
	defer w.touched.reset()
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
// the value that m replaces.
func (s *store) mutate(batch *pebble.Batch, m applier.Mutation) error {
	w := &s.writer
	w.key = appendKey(w.key[:0], m.Table, m.Key)
	touched := w.touched.find(w.key)
	exists, err := s.removeOld(m, touched)
	if err != nil {
		return err
	}
	if touched == nil {
		touched = w.touched.add(w.key)
	}
	touched.value, touched.live = m.Value, m.Op == applier.OpPut
	switch {
	case touched.live:
		w.digester.Add(m.Table, m.Key, m.Value)
		return batch.Set(w.key, m.Value, nil)
	case exists:
		return batch.Delete(w.key, nil)
	default:
		return nil // nothing to delete: no tombstone
	}
}

// removeOld takes the pair that m replaces out of the digest and returns
// whether there is one. touched is what an earlier mutation of the same batch
// left there, nil if none did.
func (s *store) removeOld(m applier.Mutation, touched *touchedKey) (exists bool, err error) {
	w := &s.writer
	if touched != nil {
		if touched.live {
			w.digester.Remove(m.Table, m.Key, touched.value)
		}
		return touched.live, nil
	}
	old, closer, err := s.db.Get(w.key)
	if errors.Is(err, pebble.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read %s: %w", s.dir, err)
	}
	w.digester.Remove(m.Table, m.Key, old)
	return true, closer.Close()
}

// overlay remembers the keys that the batch under construction has touched:
// the database does not show them yet. It is a hash map of byte strings that
// allocates nothing once it has grown.
type overlay struct {
	seed  maphash.Seed
	first map[uint64]int32 // hash to the last key added with it, index into keys
	keys  []touchedKey
	bytes []byte // the keys themselves, end to end
}

type touchedKey struct {
	from, to int   // in overlay.bytes
	next     int32 // the key added before with the same hash, or -1
	value    []byte
	live     bool // false: deleted
}

// maxKeptOverlay bounds what an overlay keeps between batches.
const maxKeptOverlay = 1 << 20

// find returns what is remembered of key, or nil. It is valid until the next
// add.
func (o *overlay) find(key []byte) *touchedKey {
	if len(o.keys) == 0 {
		return nil
	}
	at, ok := o.first[o.hash(key)]
	for ; ok && at >= 0; at = o.keys[at].next {
		if k := &o.keys[at]; bytes.Equal(o.bytes[k.from:k.to], key) {
			return k
		}
	}
	return nil
}

// add remembers key, which find does not know. The result is valid until the
// next add.
func (o *overlay) add(key []byte) *touchedKey {
	if o.first == nil {
		o.seed, o.first = maphash.MakeSeed(), make(map[uint64]int32)
	}
	hash := o.hash(key)
	next, ok := o.first[hash]
	if !ok {
		next = -1
	}
	o.first[hash] = int32(len(o.keys))
	from := len(o.bytes)
	o.bytes = append(o.bytes, key...)
	o.keys = append(o.keys, touchedKey{from: from, to: len(o.bytes), next: next})
	return &o.keys[len(o.keys)-1]
}

func (o *overlay) hash(key []byte) uint64 { return maphash.Bytes(o.seed, key) }

// reset forgets everything, the values that alias payloads first of all.
func (o *overlay) reset() {
	if cap(o.bytes) > maxKeptOverlay || len(o.keys) > maxKeptOverlay/64 {
		*o = overlay{}
		return
	}
	clear(o.first)
	clear(o.keys)
	o.keys, o.bytes = o.keys[:0], o.bytes[:0]
}
