package certifier

import "sort"

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
			to := placed{sequence: c.now.sequence, space: p.Space, kind: kind, cut: p.Cut, size: uint8(len(p.Key))}
			copy(to.key[:], p.Key)
			c.places.Push(to)
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

// scanClash looks for a written key in a scanned range, and for a transaction
// that may have written anything.
func (c *Certifier) scanClash(ws *Encoded, v *seen) (Verdict, bool) {
	for i := c.barriers.Len() - 1; i >= 0; i-- {
		barrier := *c.barriers.At(i)
		if barrier <= c.mark.sequence {
			break
		}
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
	n := 0
	for scanned := range ws.Ranges() {
		if clash, lost := c.rangeClash(&scanned, v); lost {
			clash.Range = n
			return Verdict{Outcome: Conflict, Clash: clash}, true
		}
		n++
	}
	return Verdict{}, false
}

func (c *Certifier) rangeClash(scanned *Scanned, v *seen) (Clash, bool) {
	seenUpTo := c.mark.sequence
	if c.stray == 0 {
		seenUpTo = v.prefix
	}
	for i := c.places.Len() - 1; i >= 0; i-- {
		p := c.places.At(i)
		if p.sequence <= seenUpTo {
			break
		}
		if scanned.Covers(p.place()) && !c.sees(v, p.sequence) {
			return c.explain(p.sequence, Read, p.kind), true
		}
	}
	return Clash{}, false
}
