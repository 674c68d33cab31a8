package certifier

import (
	"cmp"
	"encoding/binary"
	"math/bits"
	"slices"
	"sort"
)

const (
	// mixer spreads items over the table's addresses, which are the upper bits
	// of the product. Items are hashes already; this is for whoever calls less
	// than a hash an item. It is part of the state format.
	mixer = 0xd6e8feb86659fd93

	// fullest and emptiest bound how many slots a segment has on the average.
	fullest, emptiest = 48, 12
	// crowded is how many slots a segment has at most.
	crowded = 512

	segmentChunk = 256
	lookupBatch  = 64
	// lineSlots is how many slots a cache line holds.
	lineSlots = 4
)

// mix returns the key of an item. It is a bijection.
func mix(item Item) uint64 { return uint64(item) * mixer }

// slot says how an item was touched last. Stamps are a number over two bits of
// kind: the sequence of a write, the link of a delta or a reference. None is 0.
type slot struct{ key, stamp uint64 }

func stampOf(number uint64, k Kind) uint64 { return number<<2 | uint64(k) }

func splitStamp(stamp uint64) (number uint64, k Kind) { return stamp >> 2, Kind(stamp & 3) }

// reserved is the stamp of an item that nobody has touched, for which there is room
// all the same. Nobody outside of the table sees it, and it never dies: Read is no
// kind that items are stamped with.
var reserved = stampOf(1<<62-1, Read)

// shown is the stamp as it is for who asks.
func (x slot) shown() uint64 {
	if x.stamp == reserved {
		return 0
	}
	return x.stamp
}

// segment holds the slots of a range of keys, in the order of the keys and
// without gaps.
type segment []slot

// table maps keys to stamps. It is a linear hash table: at any time some
// segments are split one level further than the rest, and every few inserts
// split the next one. So no insert ever moves more than two segments, and as
// the room in a segment grows in the allocator's steps of an eighth, an item
// takes some 17.5 bytes in a table that grows. A lookup guesses a key's place
// from its value: it costs the segment's header and, mostly, one cache line.
//
// A stamp whose number is below live of its kind is dead: it counts as absent
// for whoever asks, and its slot is given back when its segment is full, split,
// joined or visited by sweep. So is a slot that was reserved, once that is taken back.
//
// Whoever chooses items can make them all meet in one segment: neither the hash
// nor the mixer is a secret. A segment takes crowded slots, which bounds what is
// moved and searched; what exceeds it goes to a map of the runtime, which is
// seeded at random. Then lookups of what is not in the table cost one more
// lookup in that map, and giving back its dead costs one pass over it.
//
// Invariants:
//  1. 1<<level <= count < 2<<level. Segment i has the keys whose upper bits,
//     reversed, are i: level+1 bits if its other half has been split off, else
//     level bits.
//  2. The keys of a segment ascend.
//  3. used is the number of slots in segments; none has more than crowded.
//  4. A key is in one place: its segment or the crowd.
type table struct {
	chunks []*[segmentChunk]segment
	count  int
	level  uint
	used   int
	live   [Kinds]uint64
	crowd  map[uint64]uint64
	finds  [lookupBatch]find // scratch of lookup

	cursor   int // the segment to visit next
	unswept  int // segments to visit until everything dead is given back
	credit   int // slots that may be looked at
	crowdMax int // size at which the crowd is looked through for its dead
}

// find is what a lookup knows of a key. A change of the table can make it
// wrong, so that who uses it compares keys.
type find struct {
	key, at uint64 // at is its segment
	place   int    // there: the key's, or where it would be put
}

// newTable returns an empty table, in which what is absent is dead.
func newTable() table {
	return table{
		chunks: []*[segmentChunk]segment{new([segmentChunk]segment)}, count: 1,
		live: [Kinds]uint64{1, 1, 1, 1}, crowdMax: crowded,
	}
}

func (t *table) dead(stamp uint64) bool { return stamp>>2 < t.live[stamp&3] }

// kill makes all stamps of kind k dead whose number is below n.
func (t *table) kill(k Kind, n uint64) {
	t.live[k] = n
	t.unswept = t.count
}

// at returns the i-th segment.
func (t *table) at(i uint64) *segment { return &t.chunks[i/segmentChunk][i%segmentChunk] }

// locate returns the number of a key's segment, and how many upper bits all
// keys have in common there.
func (t *table) locate(key uint64) (at uint64, depth uint) {
	at = bits.Reverse64(key) & (2<<t.level - 1)
	if at|1<<t.level < uint64(t.count) {
		return at, t.level + 1
	}
	return at & (1<<t.level - 1), t.level
}

// guess returns about where a key is in a segment, which must not be empty.
func (s segment) guess(key uint64, depth uint) int {
	at, _ := bits.Mul64(key<<depth, uint64(len(s)))
	return int(at)
}

// search returns the place of a key, starting from a guess.
func (s segment) search(key uint64, at int) (_ int, found bool) {
	if len(s) == 0 {
		return 0, false
	}
	if s[at].key < key {
		for at++; at < len(s) && s[at].key < key; at++ {
		}
		return at, at < len(s) && s[at].key == key
	}
	for at > 0 && s[at-1].key >= key {
		at--
	}
	return at, s[at].key == key
}

// lookup finds the stamps of the first items of an encoded list, and returns
// how many it has looked up. Stamps may be dead, and are 0 for items not found.
// What it has learnt of them is in finds until the next lookup.
//
// It goes over the items three times, so that the cache misses of one pass do
// not wait for each other.
func (t *table) lookup(items []byte, stamps *[lookupBatch]uint64) int {
	n := min(len(items)/itemLen, lookupBatch)
	for i := range n {
		f := &t.finds[i]
		f.key = mix(Item(binary.LittleEndian.Uint64(items[i*itemLen:])))
		at, depth := t.locate(f.key)
		f.at, f.place = at, t.at(at).guess(f.key, depth)
	}
	for i := range n {
		f := &t.finds[i]
		if s := *t.at(f.at); f.place < len(s) {
			// The search may go either way from the guess.
			stamps[i] = s[max(f.place-lineSlots/2, 0)].key ^ s[min(f.place+lineSlots/2, len(s)-1)].key
		}
	}
	for i := range n {
		f := &t.finds[i]
		stamps[i] = 0
		s := *t.at(f.at)
		place, found := s.search(f.key, f.place)
		f.place = place
		if found {
			stamps[i] = s[place].shown()
		} else if len(t.crowd) > 0 {
			stamps[i] = slot{stamp: t.crowd[f.key]}.shown()
		}
	}
	return n
}

// swap gives a key a stamp, and returns the one it had, dead or alive, or 0.
func (t *table) swap(key, stamp uint64) (old uint64) {
	f := find{key: key}
	t.seek(&f)
	return t.swapAt(&f, stamp)
}

// seek finds the place of a key, and reports whether it is there.
func (t *table) seek(f *find) (found bool) {
	at, depth := t.locate(f.key)
	s := *t.at(at)
	f.at = at
	f.place, found = s.search(f.key, s.guess(f.key, depth))
	return found
}

// swapAt is swap where a lookup has found the key's place. Since then keys may
// have been put, and segments split, but none joined.
func (t *table) swapAt(f *find, stamp uint64) (old uint64) {
	s := t.at(f.at)
	found := f.place < len(*s) && (*s)[f.place].key == f.key
	if !found && !t.fits(f) {
		found = t.seek(f)
		s = t.at(f.at)
	}
	if found {
		x := &(*s)[f.place]
		old, x.stamp = x.shown(), stamp
		return old
	}
	if len(t.crowd) > 0 {
		if old, found = t.crowd[f.key]; found {
			t.crowd[f.key] = stamp
			return slot{stamp: old}.shown()
		}
	}
	if len(*s) == cap(*s) || len(*s) == crowded {
		if !t.makeRoom(s) {
			t.jostle(f.key, stamp)
			return 0
		}
		t.seek(f)
	}
	grown := (*s)[:len(*s)+1]
	copy(grown[f.place+1:], grown[f.place:])
	grown[f.place] = slot{f.key, stamp}
	*s = grown
	t.used++
	if t.used > t.count*fullest {
		t.split()
	}
	return 0
}

// fits reports whether an absent key would be put where f says.
func (t *table) fits(f *find) bool {
	at, _ := t.locate(f.key)
	s := *t.at(at)
	return at == f.at && f.place <= len(s) &&
		(f.place == 0 || s[f.place-1].key < f.key) && (f.place == len(s) || s[f.place].key > f.key)
}

// makeRoom makes room for one more slot in a segment, by giving back dead slots
// if there are many; false if it is crowded.
func (t *table) makeRoom(s *segment) bool {
	t.squeeze(s)
	switch n := len(*s); {
	case n >= crowded:
		return false
	case n >= cap(*s)-cap(*s)/8:
		*s = fitted(*s, n+n/8+1)
	}
	return true
}

// squeeze gives back the dead slots of a segment. It writes to none before the
// first of them, as mostly there is none.
func (t *table) squeeze(s *segment) {
	n := 0
	for n < len(*s) && !t.dead((*s)[n].stamp) {
		n++
	}
	if n == len(*s) {
		return
	}
	for _, x := range (*s)[n+1:] {
		if !t.dead(x.stamp) {
			(*s)[n] = x
			n++
		}
	}
	t.used -= len(*s) - n
	*s = (*s)[:n]
}

// fitted returns a copy with room for n slots and what the allocator adds to
// that.
func fitted(s segment, n int) segment {
	if n == 0 {
		return nil
	}
	return append(slices.Grow(segment(nil), n), s...)
}

// jostle puts a key into the crowd.
func (t *table) jostle(key, stamp uint64) {
	if t.crowd == nil {
		t.crowd = map[uint64]uint64{}
	}
	t.crowd[key] = stamp
	if len(t.crowd) > t.crowdMax {
		t.disperse()
	}
}

// disperse gives back the dead of the crowd.
func (t *table) disperse() {
	for key, stamp := range t.crowd { // order-free: each is looked at by itself
		if t.dead(stamp) {
			delete(t.crowd, key)
		}
	}
	t.crowdMax = max(crowded, 2*len(t.crowd))
	if len(t.crowd) == 0 {
		t.crowd = nil // a map keeps its room
	}
}

// split splits the next segment in two.
func (t *table) split() {
	if t.count%segmentChunk == 0 {
		t.chunks = append(t.chunks, new([segmentChunk]segment))
	}
	left, right := t.at(uint64(t.count-1<<t.level)), t.at(uint64(t.count))
	t.squeeze(left)
	half := uint64(1) << (63 - t.level)
	at := sort.Search(len(*left), func(i int) bool { return (*left)[i].key&half != 0 })
	*right = fitted((*left)[at:], len(*left)-at)
	*left = fitted((*left)[:at], at)
	t.count++
	if t.count == 2<<t.level {
		t.level++
	}
	if t.unswept > 0 {
		t.unswept++ // one more on the way round
	}
}

// sparse reports whether segments are to be joined.
func (t *table) sparse() bool { return t.count > 1 && t.used < t.count*emptiest }

// join undoes the last split.
func (t *table) join() {
	t.count--
	if t.count < 1<<t.level {
		t.level--
	}
	t.cursor = min(t.cursor, t.count-1) // the way round goes on with the first
	left, right := t.at(uint64(t.count-1<<t.level)), t.at(uint64(t.count))
	t.squeeze(left)
	t.squeeze(right)
	n := len(*left) + len(*right)
	*left = append(fitted(*left, n), *right...)
	*right = nil
	for ; n > crowded; n-- {
		last := (*left)[n-1]
		*left = (*left)[:n-1]
		t.used--
		t.jostle(last.key, last.stamp)
	}
	if t.count%segmentChunk == 0 {
		last := len(t.chunks) - 1
		t.chunks[last] = nil
		t.chunks = t.chunks[:last]
	}
}

// sweep gives back dead slots and the room of those that were given back. It
// looks at about so many slots.
func (t *table) sweep(slots int) {
	t.credit += slots
	for t.credit > 0 && (t.unswept > 0 || t.sparse()) {
		if t.sparse() {
			t.join()
			t.credit -= emptiest
		}
		if t.unswept > 0 {
			t.visit()
		}
	}
	t.credit = min(t.credit, 0)
}

func (t *table) visit() {
	t.cursor = (t.cursor + 1) % t.count
	s := t.at(uint64(t.cursor))
	t.credit -= len(*s) + 1
	t.squeeze(s)
	if n := len(*s); cap(*s) > n+n/2+4 {
		*s = fitted(*s, n+n/8)
	}
	t.unswept--
	if t.unswept == 0 && len(t.crowd) > 0 {
		t.disperse()
	}
}

// each yields what is alive, in the order of the keys.
func (t *table) each(yield func(key, stamp uint64)) {
	var crowd segment
	for key, stamp := range t.crowd { // order-free: sorted below
		crowd = append(crowd, slot{key, stamp})
	}
	slices.SortFunc(crowd, func(a, b slot) int { return cmp.Compare(a.key, b.key) })
	one := func(x slot) {
		if x.stamp != reserved && !t.dead(x.stamp) {
			yield(x.key, x.stamp)
		}
	}
	for prefix := range uint64(2) << t.level {
		at := bits.Reverse64(prefix) >> (63 - t.level)
		if at >= uint64(t.count) {
			continue
		}
		for _, x := range *t.at(at) {
			for ; len(crowd) > 0 && crowd[0].key < x.key; crowd = crowd[1:] {
				one(crowd[0])
			}
			one(x)
		}
	}
	for _, x := range crowd {
		one(x)
	}
}

// reserve makes room for the items of an encoded list, so that to stamp them moves
// nothing.
func (t *table) reserve(items []byte) {
	var stamps [lookupBatch]uint64
	for len(items) > 0 {
		n := t.lookup(items, &stamps)
		for i, stamp := range stamps[:n] {
			if t.dead(stamp) {
				t.swapAt(&t.finds[i], reserved)
			}
		}
		items = items[n*itemLen:]
	}
}

// unreserve takes back what of that was not stamped.
func (t *table) unreserve(items []byte) {
	var stamps [lookupBatch]uint64
	for len(items) > 0 {
		n := t.lookup(items, &stamps)
		for i := range n {
			f := &t.finds[i]
			if s := *t.at(f.at); f.place < len(s) && s[f.place].key == f.key {
				if s[f.place].stamp == reserved {
					s[f.place].stamp = 0
				}
			} else if t.crowd[f.key] == reserved {
				t.crowd[f.key] = 0
			}
		}
		items = items[n*itemLen:]
	}
	t.unswept = t.count
}

// filler fills an empty table with keys that come in their order.
type filler struct {
	t   *table
	at  uint64
	run segment // of segment at
}

// fill makes an empty table ready for n keys.
func (t *table) fill(n int) *filler {
	for n>>t.level > fullest*3/4 {
		t.level++
	}
	t.count = 1 << t.level
	for len(t.chunks)*segmentChunk < t.count {
		t.chunks = append(t.chunks, new([segmentChunk]segment))
	}
	return &filler{t: t}
}

// add takes the next key. All keys must come in ascending order.
func (f *filler) add(key, stamp uint64) {
	at, _ := f.t.locate(key)
	if at != f.at {
		f.flush()
		f.at = at
	}
	if len(f.run) == crowded {
		f.t.jostle(key, stamp)
		return
	}
	f.run = append(f.run, slot{key, stamp})
}

// flush must follow the last key.
func (f *filler) flush() {
	*f.t.at(f.at) = fitted(f.run, len(f.run))
	f.t.used += len(f.run)
	f.run = f.run[:0]
}
