package pebblekv

import (
	"encoding/binary"
	"maps"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"pgregory.net/rapid"

	"github.com/concordatdb/concordat/applier"
)

// TestPairCache compares the cache with maps: what it knows is true, and it
// knows all that the batch under construction touched.
func TestPairCache(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var c pairCache
		var d applier.Digester
		committed := map[keyID]pairState{}
		for range rapid.IntRange(1, 8).Draw(t, "batches") {
			c.begin()
			touched := map[keyID]pairState{}
			for range rapid.IntRange(0, 30).Draw(t, "keys") {
				// Few sets, so that pairs push each other out.
				n := rapid.Uint64Range(0, 11).Draw(t, "key")
				id := keyID{lo: n % 3, hi: n}
				want, ok := touched[id]
				if !ok {
					want = committed[id]
				}
				if got, known := c.find(id); known && got != want || ok && !known {
					t.Fatalf("find %v: %v, %v, want %v, %v", id, got, known, want, ok)
				}
				value := binary.AppendUvarint(nil, rapid.Uint64().Draw(t, "value"))
				state := pairState{live: len(value)%2 == 1, hash: d.Hash(table, nil, value)}
				state.sum, state.counter = applier.DecodeCounter(value)
				c.touch(id, state)
				touched[id] = state
			}
			if rapid.Bool().Draw(t, "commit") {
				c.commit()
				maps.Copy(committed, touched)
			}
		}
	})
}

// TestPairCacheKeeps checks that the cache is of use.
func TestPairCacheKeeps(t *testing.T) {
	var c pairCache
	id := func(n uint64) keyID { return keyID{lo: 5, hi: n} }
	for n := range uint64(4) {
		c.begin()
		c.touch(id(n), pairState{live: true})
		c.commit()
	}
	c.begin()
	c.touch(id(2), pairState{}) // again, in place
	c.commit()
	c.begin()
	for n, want := range []bool{false, false, true, true} {
		if _, known := c.find(id(uint64(n))); known != want {
			t.Errorf("key %d: known %v, want %v", n, known, want)
		}
	}
	if state, _ := c.find(id(2)); state.live {
		t.Error("an older state of a key is found")
	}
}

// TestBeginDuringCommit begins a snapshot at the moment when a commit can be
// read and the engine has not been told yet. The snapshot must say what it
// holds, and Position must not be behind it afterwards.
func TestBeginDuringCommit(t *testing.T) {
	e := mustOpen(t, vfs.NewMem())
	mustApply(t, e, batchOf(1, "k", "v"))
	s := e.store
	batch := s.db.NewBatch()
	next, err := s.build(batch, batchOf(2, "k", "w"), s.visible.Load())
	if err != nil {
		t.Fatal(err)
	}
	s.commits.Add(1)
	if err := batch.Commit(pebble.NoSync); err != nil {
		t.Fatal(err)
	}
	snap, err := e.Begin()
	if err != nil {
		t.Fatal(err)
	}
	value, _, err := snap.Get(table, []byte("k"))
	if at := snap.Position().Index; at != 2 || string(value) != "w" || err != nil {
		t.Errorf("snapshot at %d holds %q, %v, want 2 and %q", at, value, err, "w")
	}
	if at := e.Position().Index; at != 2 {
		t.Errorf("position %d behind a snapshot at 2", at)
	}
	if digest, _, err := e.Digest(); digest != next.digest || err != nil {
		t.Errorf("digest %v, %v, want %v", digest, err, next.digest)
	}
	s.visible.Store(next)
	s.commits.Add(1)
	mustApply(t, e, batchOf(3, "k", "x"))
	mustClose(t, e)
}
