package outcome

import (
	"encoding/binary"
	"math/bits"
)

// bucketChunk is how many buckets are allocated, and given back, together. It
// is a power of two, and the fewest buckets there are.
const bucketChunk = 1024

// perEntry is how many buckets there are for each entry: with two, a new id
// meets another entry half of the time.
const perEntry = 2

// buckets is the heads of the chains: half to 2*half-1 of them, half being a
// power of two. Of two buckets that differ by half, the upper one was split off
// the lower; a hash that would fall beyond the last belongs to its lower half.
type buckets struct {
	chunks []*[bucketChunk]uint32
	n      uint64
	half   uint64
}

func (b *buckets) init() {
	b.chunks = []*[bucketChunk]uint32{new([bucketChunk]uint32)}
	b.n, b.half = bucketChunk, bucketChunk
}

// of returns the bucket of a hash.
func (b *buckets) of(hash uint64) uint64 {
	if i := hash & (2*b.half - 1); i < b.n {
		return i
	}
	return hash & (b.half - 1)
}

func (b *buckets) head(i uint64) *uint32 { return &b.chunks[i/bucketChunk][i%bucketChunk] }

// add makes one more bucket, which is the upper one of the pair returned.
func (b *buckets) add() (lower, upper uint64) {
	lower, upper = b.n-b.half, b.n
	if upper/bucketChunk == uint64(len(b.chunks)) {
		b.chunks = append(b.chunks, new([bucketChunk]uint32))
	}
	b.n++
	if b.n == 2*b.half {
		b.half = b.n
	}
	return lower, upper
}

// remove takes away the last bucket.
func (b *buckets) remove() {
	b.n--
	if b.n < b.half {
		b.half /= 2
	}
	// One chunk more than needed stays, for a number that goes up and down.
	if i := len(b.chunks) - 1; uint64(i-1)*bucketChunk >= b.n {
		b.chunks[i] = nil
		b.chunks = b.chunks[:i]
	}
}

// spread is an odd number whose bits look random: the golden ratio's.
const spread = 0x9e3779b97f4a7c15

// hash mixes an id with the seed. Who does not know the seed cannot tell which
// ids will meet.
func (w *Window) hash(id ID) uint64 {
	other := bits.RotateLeft64(w.seed*spread, 32)
	high, low := bits.Mul64(binary.LittleEndian.Uint64(id[:])^w.seed, binary.LittleEndian.Uint64(id[8:])^other)
	high, low = bits.Mul64(low^other, high^spread)
	return high ^ low
}

func (w *Window) bucket(id ID) uint64 { return w.buckets.of(w.hash(id)) }

// follow returns the position of the window that a link leads to, 0 if none:
// it must lie before the one that the link was found in.
//
// A link is the lower half of a position, so one that has long left the window
// may be taken for another, of any bucket. A chain is complete up to there, and
// from there on everything it had is forgotten: a search that goes on finds
// nothing, and ends, because positions descend. Only who changes links has to
// make sure that an entry is of the bucket.
func (w *Window) follow(link uint32, before uint64) uint64 {
	back := uint32(before) - link
	if back == 0 || uint64(back) > before-w.first {
		return 0
	}
	return before - uint64(back)
}

// nowhere is a link that leads to no position of the window, now or later.
func (w *Window) nowhere() uint32 { return uint32(w.first - 1) }

// balance lets the number of buckets follow the length of the window.
func (w *Window) balance() {
	n := w.next - w.first
	for i := 0; i < perEntry && w.buckets.n < perEntry*n; i++ {
		w.split()
	}
	for i := 0; i < releases && w.buckets.n > max(2*perEntry*n, bucketChunk); i++ {
		w.merge()
	}
}

// split adds a bucket, and moves to it what belongs there.
func (w *Window) split() {
	lower, upper := w.buckets.add()
	low, high := w.buckets.head(lower), w.buckets.head(upper)
	for p := w.follow(*low, w.next); p != 0; {
		e := w.at(p)
		next := e.link
		switch {
		case w.belongs(e, lower):
			*low, low = uint32(p), &e.link
		case w.belongs(e, upper):
			*high, high = uint32(p), &e.link
		default: // the link was stale
			next = w.nowhere()
		}
		p = w.follow(next, p)
	}
	*low, *high = w.nowhere(), w.nowhere()
}

// merge takes the last bucket away, and moves what it has to the one that it
// was split off.
func (w *Window) merge() {
	upper := w.buckets.n - 1
	half := w.buckets.half
	if upper < half {
		half /= 2
	}
	lower := upper - half
	a, b := w.own(*w.buckets.head(lower), w.next, lower), w.own(*w.buckets.head(upper), w.next, upper)
	tail := w.buckets.head(lower)
	for a != 0 || b != 0 {
		p := max(a, b)
		e := w.at(p)
		if p == a {
			a = w.own(e.link, p, lower)
		} else {
			b = w.own(e.link, p, upper)
		}
		*tail, tail = uint32(p), &e.link
	}
	*tail = w.nowhere()
	w.buckets.remove()
}

// own follows a link that is to stay within a bucket.
func (w *Window) own(link uint32, before, bucket uint64) uint64 {
	p := w.follow(link, before)
	if p == 0 || !w.belongs(w.at(p), bucket) {
		return 0
	}
	return p
}

// belongs reports whether an entry can be in the chain of a bucket.
func (w *Window) belongs(e *entry, bucket uint64) bool {
	return e.kind != superseded && w.bucket(e.id) == bucket
}
