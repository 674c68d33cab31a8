package pebblekv

import (
	"hash/maphash"

	"github.com/concordatdb/concordat/applier"
)

// pairCache remembers what recently written keys contribute to the digest, and
// what counters stand at. To overwrite a key, apply must take the old pair out
// of the digest, for which it needs not the value but its hash; to add to a
// counter, it needs its value, of 8 bytes. Without the cache it would read the
// database for every mutation, which costs several times what the write does.
//
// A key stands for itself by 128 bits of a keyed hash, drawn anew in every
// process, so nobody can choose keys that collide, and by chance none do.
//
// What the batch under construction touches is kept apart until it is
// committed, because it may come to nothing, and then must leave no trace.
type pairCache struct {
	seeds   [2]maphash.Seed
	sets    [][pairWays]cachedPair // indexed by the low bits of a keyID
	touched map[keyID]pairState
}

const (
	pairSets = 1 << 16 // of 112 bytes each: 7 MiB in all
	pairWays = 2

	// maxKeptTouched bounds the map that is kept between batches: clearing a
	// large one costs time for ever after.
	maxKeptTouched = 4096
)

// keyID identifies a key of the database.
type keyID struct{ lo, hi uint64 }

// pairState is what a key contributes to the digest, and to a sum.
type pairState struct {
	live    bool  // false: there is no such key
	counter bool  // its value is a counter's
	sum     int64 // what the counter stands at
	hash    applier.PairHash
}

// add returns what the key's counter stands at once n is added.
func (p pairState) add(n int64) (int64, error) {
	var value [applier.CounterLen]byte
	old := value[:0] // no counter, unless it is one
	if p.counter {
		old = applier.AppendCounter(old, p.sum)
	}
	return applier.AddCounter(old, p.live, n)
}

type cachedPair struct {
	used  bool
	id    keyID
	state pairState
}

// begin starts a new batch and forgets one that was not committed.
func (c *pairCache) begin() {
	switch {
	case c.sets == nil:
		c.seeds = [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}
		c.sets = make([][pairWays]cachedPair, pairSets)
		c.touched = make(map[keyID]pairState)
	case len(c.touched) > maxKeptTouched:
		c.touched = make(map[keyID]pairState)
	default:
		clear(c.touched)
	}
}

func (c *pairCache) id(key []byte) keyID {
	return keyID{maphash.Bytes(c.seeds[0], key), maphash.Bytes(c.seeds[1], key)}
}

// find returns what is known of a key, as the batch under construction leaves
// it.
func (c *pairCache) find(id keyID) (state pairState, known bool) {
	if state, known = c.touched[id]; known {
		return state, true
	}
	for i := range c.sets[id.lo%pairSets] {
		if p := &c.sets[id.lo%pairSets][i]; p.used && p.id == id {
			return p.state, true
		}
	}
	return pairState{}, false
}

// touch notes what the batch under construction makes of a key.
func (c *pairCache) touch(id keyID, state pairState) { c.touched[id] = state }

// commit takes over what the batch has touched. Each set keeps its newest
// pairs, newest first.
func (c *pairCache) commit() {
	for id, state := range c.touched {
		set := &c.sets[id.lo%pairSets]
		at := 0
		for at < pairWays-1 && set[at].id != id {
			at++
		}
		copy(set[1:at+1], set[:at])
		set[0] = cachedPair{used: true, id: id, state: state}
	}
}
