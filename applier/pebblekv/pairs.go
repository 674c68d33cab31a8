package pebblekv

import (
	"slices"

	"github.com/concordatdb/concordat/applier"
)

// pairCache remembers what recently written keys contribute to the digest, and
// what counters stand at. To overwrite a key, apply must take the old pair out
// of the digest, for which it needs not the value but its hash; to add to a
// counter, it needs its value, of 8 bytes. Without the cache it would read the
// database for every mutation, which costs several times what the write does.
//
// What the batch under construction touches is kept apart, and so is what those
// have touched that are built and not committed, because they may come to
// nothing, and then must leave no trace.
type pairCache struct {
	share   int                    // how many caches share the memory for pairs; 0 is 1
	sets    [][pairWays]cachedPair // indexed by the low half of a keyID
	pending []map[keyID]pairState  // by batches that are built, oldest first
	touched map[keyID]pairState    // by the batch under construction
	spare   []map[keyID]pairState  // for the next ones
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

// begin starts a new batch and forgets one that was not built.
func (c *pairCache) begin() {
	if c.sets == nil {
		c.sets = make([][pairWays]cachedPair, pairSets/max(1, c.share))
	}
	c.touched = cleared(c.touched)
}

func cleared(m map[keyID]pairState) map[keyID]pairState {
	if m == nil || len(m) > maxKeptTouched {
		return make(map[keyID]pairState)
	}
	clear(m)
	return m
}

// find returns what is known of a key, as the batch under construction leaves
// it.
func (c *pairCache) find(id keyID) (state pairState, known bool) {
	if state, known = c.touched[id]; known {
		return state, true
	}
	for _, touched := range slices.Backward(c.pending) {
		if state, known = touched[id]; known {
			return state, true
		}
	}
	set := &c.sets[id.lo%uint64(len(c.sets))]
	for i := range set {
		if p := &set[i]; p.used && p.id == id {
			return p.state, true
		}
	}
	return pairState{}, false
}

// forget drops what is known of a key that nothing under way has touched.
func (c *pairCache) forget(id keyID) {
	if c.sets == nil {
		return
	}
	set := &c.sets[id.lo%uint64(len(c.sets))]
	for i := range set {
		if set[i].id == id {
			set[i] = cachedPair{}
		}
	}
}

// touch notes what the batch under construction makes of a key.
func (c *pairCache) touch(id keyID, state pairState) { c.touched[id] = state }

// built ends the batch under construction, to be committed later.
func (c *pairCache) built() {
	c.pending = append(c.pending, c.touched)
	c.touched = nil
	if n := len(c.spare); n > 0 {
		c.touched, c.spare = c.spare[n-1], c.spare[:n-1]
	}
}

// keep forgets all but the first n batches that are built.
func (c *pairCache) keep(n int) { c.pending = slices.Delete(c.pending, n, len(c.pending)) }

// commit takes over what the oldest batch has touched that is built. Each set
// keeps its newest pairs, newest first.
func (c *pairCache) commit() {
	touched := c.pending[0]
	c.pending = slices.Delete(c.pending, 0, 1)
	for id, state := range touched {
		set := &c.sets[id.lo%uint64(len(c.sets))]
		at := 0
		for at < pairWays-1 && set[at].id != id {
			at++
		}
		copy(set[1:at+1], set[:at])
		set[0] = cachedPair{used: true, id: id, state: state}
	}
	c.spare = append(c.spare, touched)
}
