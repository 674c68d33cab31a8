package certifier

import "sort"

// milestoneEvery is how much history lies between two places where a mark can
// fall. A mark that names a position between is rounded down.
const milestoneEvery = 1024

// milestone is a log index at which a mark can fall.
type milestone struct {
	index  uint64
	extent extent
	version
}

// HistoryItems is the size of the history: all items, and one more for each
// transaction, since the mark. It is a function of the log.
func (c *Certifier) HistoryItems() int { return int(c.now.weight - c.mark.weight) }

// HistoryBytes is about how many bytes of memory the history takes. It is a
// function of the log: what a mark has dropped and what waits to be given back
// is not in it, nor what the runtime adds.
func (c *Certifier) HistoryBytes() int { return c.bytesAfter(&c.mark) }

func (c *Certifier) bytesAfter(e *extent) int {
	return int(c.now.bytes-e.bytes) + c.placesAfter(e.sequence)*placeBytes
}

// EntryDone tells that everything up to a log index has been certified. Marks
// fall on such indexes. Indexes grow from call to call.
func (c *Certifier) EntryDone(index uint64) {
	before := c.mark.weight
	if n := c.milestones.Len(); n > 0 {
		before = c.milestones.At(n - 1).extent.weight
	}
	now := version{c.now.sequence, c.executed}
	if c.now.weight-before >= milestoneEvery {
		c.now.bytes += milestoneBytes + uint64(c.executed.IntervalCount())*intervalBytes
		c.milestones.Push(milestone{index, c.now, now})
	}
	if c.straight.to < c.now.sequence {
		c.note(now)
	}
}

// note keeps a version that is not on a straight stretch.
func (c *Certifier) note(v version) {
	if n := c.recent.Len(); n > 0 && c.recent.At(n-1).sequence == v.sequence {
		return
	}
	c.straight.begin(v.sequence, v.executed)
	c.recent.Push(v)
	c.noted += v.executed.IntervalCount()
	for c.recent.Len() > recentVersions || c.noted > recentIntervals && c.recent.Len() > 1 {
		c.noted -= c.recent.Pop().executed.IntervalCount()
	}
}

// Markable returns the greatest log index, not above limit, at which a mark
// would forget something; 0 if there is none.
func (c *Certifier) Markable(limit uint64) uint64 {
	above := sort.Search(c.milestones.Len(), func(i int) bool { return c.milestones.At(i).index > limit })
	if above == 0 {
		return 0
	}
	return c.milestones.At(above - 1).index
}

// MarkableLimit returns the least log index at which a mark would leave a
// history within the limits of the settings; if there is none, the greatest at
// which a mark would forget something. It is 0 if no mark is needed or
// possible. What a mark has dropped already does not count: another one would
// not give it back any sooner.
func (c *Certifier) MarkableLimit() uint64 {
	within := func(e *extent) bool {
		return c.now.weight-e.weight <= uint64(max(c.settings.HistoryItems, 0)) &&
			c.bytesAfter(e) <= max(c.settings.HistoryBytes, 0)
	}
	n := c.milestones.Len()
	if n == 0 || within(&c.mark) {
		return 0
	}
	i := sort.Search(n, func(i int) bool { return within(&c.milestones.At(i).extent) })
	return c.milestones.At(min(i, n-1)).index
}

// Mark forgets what was certified up to a log index. An index between two
// milestones is rounded down, one that was passed changes nothing.
func (c *Certifier) Mark(index uint64) {
	for c.milestones.Len() > 0 && c.milestones.At(0).index <= index {
		m := c.milestones.Pop()
		c.setMark(m.extent)
		c.low = m.executed
	}
}

func (c *Certifier) setMark(e extent) {
	c.mark = e
	c.table.kill(Write, e.sequence+1)
	c.table.kill(Delta, e.links+1)
	c.table.kill(Reference, e.links+1)
	if c.stray <= e.sequence {
		c.stray = 0
	}
}

// sweep gives back a part of what a mark has dropped: more than the transaction
// just certified has added, so that it comes to an end.
func (c *Certifier) sweep(ws *Encoded) {
	n := 2*ws.Len() + 2
	c.table.sweep(2*n + 4)
	for i := 0; i < 2 && c.swept < c.mark.sequence; i++ {
		c.swept++
		if c.records.Pop().origin == apart {
			delete(c.asides, c.swept)
		}
	}
	for i := 0; i < n && c.unlinked < c.mark.links; i++ {
		c.links.Pop()
		c.unlinked++
	}
	for i := 0; i < n && c.places.Len() > 0 && c.places.At(0).sequence <= c.mark.sequence; i++ {
		c.places.Pop()
	}
	for i := 0; i < n && c.barriers.Len() > 0 && *c.barriers.At(0) <= c.mark.sequence; i++ {
		c.barriers.Pop()
	}
}
