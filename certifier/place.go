package certifier

import (
	"bytes"
	"cmp"
	"slices"
	"sort"
)

// placed is a written key.
type placed struct {
	sequence uint64
	space    Space
	kind     Kind
	cut      bool
	size     uint8
	key      [MaxPlace]byte
}

func (p *placed) place() Place { return Place{p.space, p.key[:p.size], p.cut} }

// place remembers the keys that the transaction that is being certified wrote.
func (c *Certifier) place(ws *Encoded) {
	n := ws.Count(Write) + ws.Count(Delta)
	if n == 0 {
		return
	}
	if c.settings.RangeWrites <= 0 {
		c.unplaced = c.now.sequence
		return
	}
	i := 0
	for p := range ws.Places() {
		if n-i <= c.settings.RangeWrites {
			kind := Write
			if i >= ws.Count(Write) {
				kind = Delta
			}
			to := c.places.Add()
			to.sequence, to.space, to.kind, to.cut = c.now.sequence, p.Space, kind, p.Cut
			to.size = uint8(copy(to.key[:], p.Key))
		}
		i++
	}
	if n > c.settings.RangeWrites {
		c.unplaced = c.now.sequence
	}
	c.boundPlaces()
}

func (c *Certifier) boundPlaces() {
	for c.places.Len() > max(0, c.settings.RangeWrites) {
		c.unplaced = max(c.unplaced, c.places.Pop().sequence)
	}
}

// placesAfter is how many written keys are remembered of later sequences.
func (c *Certifier) placesAfter(sequence uint64) int {
	n := c.places.Len()
	return n - sort.Search(n, func(i int) bool { return c.places.At(i).sequence > sequence })
}

// barriersAfter is how many there are with later sequences.
func (c *Certifier) barriersAfter(sequence uint64) int {
	n := c.barriers.Len()
	return n - sort.Search(n, func(i int) bool { return *c.barriers.At(i) > sequence })
}

// seenUpTo is up to where a snapshot version has seen everything.
func (c *Certifier) seenUpTo(v *seen) uint64 {
	if c.stray == 0 {
		return v.prefix
	}
	return c.mark.sequence
}

// scanClash looks for a written key in a scanned range, and for a transaction
// that may have written anything.
func (c *Certifier) scanClash(ws *Encoded, v *seen) (Verdict, bool) {
	for i := range c.barriersAfter(c.seenUpTo(v)) {
		barrier := *c.barriers.At(c.barriers.Len() - 1 - i)
		if !c.sees(v, barrier) {
			return Verdict{Outcome: Conflict, Clash: c.explain(barrier, Read, Write)}, true
		}
	}
	if ws.RangeCount() == 0 {
		return Verdict{}, false
	}
	if c.unplaced > v.prefix {
		return Verdict{Outcome: SnapshotTooOld}, true
	}
	if clash, lost := c.rangeClash(ws, v); lost {
		return Verdict{Outcome: Conflict, Clash: clash}, true
	}
	return Verdict{}, false
}

// rangeOf is a scanned range and its place in the write set.
type rangeOf struct {
	Scanned
	number int
	// reach is the greatest upper bound of the ranges up to this one in the same
	// space; endless if one has none.
	reach   []byte
	endless bool
}

// rangeClash finds the first range that an unseen key lies in, and the newest
// such key.
//
// The ranges lie in the order of their beginnings. Those that begin at a key or
// below are its candidates, and one of them covers the key if and only if they
// reach beyond it. After each find only the ranges before it still matter, so
// that there are at most as many finds as ranges, and all other keys cost a
// binary search.
func (c *Certifier) rangeClash(ws *Encoded, v *seen) (clash Clash, lost bool) {
	c.scans = sortScans(c.scans[:0], ws)
	scans, seenUpTo := c.scans, c.seenUpTo(v)
	unseenAt, seenAt := uint64(0), uint64(0) // the last of each
	one := len(scans) == 1
	for i := c.places.Len() - 1; i >= 0 && len(scans) > 0; i-- {
		p := c.places.At(i)
		if p.sequence <= seenUpTo {
			break
		}
		if one && !scans[0].Covers(p.place()) {
			continue // most transactions have one range, or none
		}
		place := p.place()
		n := covering(scans, place)
		if n == 0 || p.sequence == seenAt {
			continue
		}
		if p.sequence != unseenAt && c.sees(v, p.sequence) {
			seenAt = p.sequence
			continue
		}
		unseenAt = p.sequence
		clash, lost = c.explain(p.sequence, Read, p.kind), true
		clash.Range = firstCover(scans[:n], place)
		scans = before(scans, clash.Range)
	}
	clear(c.scans) // they alias the write set
	return clash, lost
}

// sortScans appends the ranges of a write set in the order of their beginnings.
func sortScans(scans []rangeOf, ws *Encoded) []rangeOf {
	for s := range ws.Ranges() {
		scans = append(scans, rangeOf{Scanned: s, number: len(scans)})
	}
	slices.SortFunc(scans, func(a, b rangeOf) int {
		return cmp.Or(cmp.Compare(a.Space, b.Space), bytes.Compare(a.From, b.From))
	})
	measure(scans)
	return scans
}

// measure finds how far sorted ranges reach.
func measure(scans []rangeOf) {
	for i := range scans {
		r := &scans[i]
		r.reach, r.endless = r.To, !r.Bounded[1]
		if i > 0 && scans[i-1].Space == r.Space {
			r.endless = r.endless || scans[i-1].endless
			if bytes.Compare(scans[i-1].reach, r.reach) > 0 {
				r.reach = scans[i-1].reach
			}
		}
	}
}

// before keeps the ranges that come before one in the write set.
func before(scans []rangeOf, number int) []rangeOf {
	kept := scans[:0]
	for i := range scans {
		if scans[i].number < number {
			kept = append(kept, scans[i])
		}
	}
	measure(kept)
	return kept
}

// covering is how many candidates a key has if it lies in one of them, otherwise
// 0.
func covering(scans []rangeOf, p Place) int {
	if n := candidates(scans, p); n > 0 && scans[n-1].reaches(p) {
		return n
	}
	return 0
}

// candidates is how many of the sorted ranges lie in an earlier space, or begin
// at a key or below: of a cut key, also at one that it may be the beginning of.
func candidates(scans []rangeOf, p Place) int {
	low, high := 0, len(scans)
	for low < high {
		mid := int(uint(low+high) / 2)
		if r := &scans[mid]; r.Space < p.Space || r.Space == p.Space && r.begins(p) {
			low = mid + 1
		} else {
			high = mid
		}
	}
	return low
}

// begins reports whether a range, or what is known of it, begins at a key or
// below.
func (r *rangeOf) begins(p Place) bool {
	from := r.From
	if p.Cut {
		from = from[:min(len(from), len(p.Key))]
	}
	return bytes.Compare(from, p.Key) <= 0
}

// reaches reports whether the ranges of a key's space up to this one end beyond
// the key.
func (r *rangeOf) reaches(p Place) bool {
	return r.Space == p.Space && (r.endless || bytes.Compare(p.Key, r.reach) < 0)
}

// firstCover returns the first range, in the order of the write set, that a key
// lies in. These are its candidates, and there is one.
func firstCover(scans []rangeOf, p Place) int {
	first := MaxRanges
	for i := len(scans) - 1; i >= 0 && scans[i].reaches(p); i-- {
		if r := &scans[i]; r.Covers(p) && r.number < first {
			first = r.number
		}
	}
	return first
}
