package certifier

import (
	"fmt"
	"sort"

	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/internal/queue"
)

// Outcome is what certification says of a transaction. Its values are stable:
// they appear in traces and metrics.
type Outcome byte

// The outcomes.
const (
	// Certified: the transaction commits on every member.
	Certified Outcome = 1
	// Conflict: an item was last written by a transaction it had not seen.
	Conflict Outcome = 2
	// SnapshotTooOld: its snapshot version does not reach the history mark.
	SnapshotTooOld Outcome = 3
	// Exhausted: there is no number left for another GTID.
	Exhausted Outcome = 4
)

// String returns the outcome as a word for people.
func (o Outcome) String() string {
	switch o {
	case Certified:
		return "certified"
	case Conflict:
		return "conflict"
	case SnapshotTooOld:
		return "snapshot too old"
	case Exhausted:
		return "numbers exhausted"
	}
	return fmt.Sprintf("Outcome(%d)", byte(o))
}

// Verdict is the answer to one transaction.
type Verdict struct {
	Outcome Outcome
	// GTID is the transaction's, if it was certified. Nothing else consumes a
	// number.
	GTID gtid.GTID
	// LastCommitted and Sequence are the parallelisation interval: the
	// transaction is independent of every one whose Sequence is greater than
	// LastCommitted.
	LastCommitted uint64
	Sequence      uint64
	// Item is the position in the write set of the first item in conflict,
	// and Winner the GTID that the transaction had not seen there.
	Item   int
	Winner gtid.GTID
}

// milestoneEvery is how much history lies between two places where a mark can
// fall. A mark that names a position between is rounded down.
const milestoneEvery = 1024

// largeWriteSet is the number of items above which scratch memory is not kept.
const largeWriteSet = 1 << 16

// Certifier holds the history and the numbering. It belongs to one goroutine.
//
// Invariants:
//  1. records holds one record for each certified transaction with a sequence
//     in (swept, sequence], in order, and hashes their items in the same order,
//     without those of the oldest record that have been given back.
//  2. last[h] is the sequence of the last certified transaction that wrote h,
//     if that is above mark. Otherwise h is absent, or its sequence is in
//     (swept, mark] and h is among the hashes that will be given back.
//  3. swept <= mark <= floor <= sequence: what lies in (swept, mark] no longer
//     counts and waits to be given back.
//  4. low is the GTID set certified up to mark, executed that up to sequence,
//     and each milestone's the one up to its sequence.
//  5. milestones ascend, by index and by sequence, within (mark, sequence].
//  6. weight counts one for each transaction and one for each of its items.
//     The difference of two weights is what was certified between.
type Certifier struct {
	group    gtid.UUID
	executed gtid.Set
	sequence uint64 // of the last certified transaction
	floor    uint64 // least value of a LastCommitted
	weight   uint64 // at sequence

	mark       uint64
	markWeight uint64
	low        gtid.Set

	last       map[Item]uint64
	records    window[record]
	hashes     window[Item]
	swept      uint64
	milestones queue.Queue[milestone]

	// before has last[h] for each item of the write set at hand. Looking an
	// item up costs a cache miss, so it is done once.
	before []uint64
}

// record is what a conflict is judged by and explained with. Snapshot version
// and GTID together are the stored set T; a set that holds both would have to
// be allocated, for a transaction that did not see the one just before it.
type record struct {
	gtid     gtid.GTID
	snapshot gtid.Set
	items    int // in hashes
}

// seenBy reports whether T is a subset of s.
func (r *record) seenBy(s gtid.Set) bool {
	return s.Contains(r.gtid) && r.snapshot.SubsetOf(s)
}

// milestone is a log index at which a mark can fall.
type milestone struct {
	index    uint64
	sequence uint64
	weight   uint64
	executed gtid.Set
}

// New returns the certifier of a new group. GTIDs are numbered under the
// group's name.
func New(group gtid.UUID) *Certifier {
	return &Certifier{group: group, last: map[Item]uint64{}}
}

// Executed returns the GTIDs of everything certified.
func (c *Certifier) Executed() gtid.Set { return c.executed }

// Sequence returns the number of transactions certified since the group began.
func (c *Certifier) Sequence() uint64 { return c.sequence }

// HistoryItems is the size of the history in memory: all items, and one more
// for each transaction, what is not yet given back included.
func (c *Certifier) HistoryItems() int { return c.hashes.Len() + c.records.Len() }

// Certify judges the next transaction. It keeps no reference to ws.
func (c *Certifier) Certify(snapshot gtid.Set, ws WriteSet) Verdict {
	if !c.low.SubsetOf(snapshot) {
		return Verdict{Outcome: SnapshotTooOld}
	}
	if v, conflict := c.conflict(snapshot, ws); conflict {
		return v
	}
	id := gtid.GTID{UUID: c.group, Number: c.executed.FirstMissing(c.group, "", 1)}
	if id.Number == 0 {
		return Verdict{Outcome: Exhausted}
	}
	c.sequence++
	v := Verdict{Outcome: Certified, GTID: id, Sequence: c.sequence}
	v.LastCommitted = c.record(id, snapshot, ws)
	c.executed = c.executed.Add(id)
	c.sweep(2*ws.Len() + 2)
	if cap(c.before) > largeWriteSet {
		c.before = nil
	}
	return v
}

// conflict looks for the first item in conflict. If there is none, c.before is
// complete.
func (c *Certifier) conflict(snapshot gtid.Set, ws WriteSet) (Verdict, bool) {
	c.before = c.before[:0]
	for i := range ws.Len() {
		seq := c.last[ws.Item(i)]
		c.before = append(c.before, seq)
		if seq <= c.mark {
			continue // never written, or forgotten
		}
		if writer := c.writer(seq); !writer.seenBy(snapshot) {
			return Verdict{Outcome: Conflict, Item: i, Winner: writer.gtid}, true
		}
	}
	return Verdict{}, false
}

func (c *Certifier) writer(seq uint64) *record {
	return c.records.At(int(seq - c.swept - 1))
}

// record enters the transaction into the history and returns the greatest
// sequence it depends on. A transaction without write set says nothing about
// what it touches: it depends on everything before it, and everything after
// depends on it.
func (c *Certifier) record(id gtid.GTID, snapshot gtid.Set, ws WriteSet) (lastCommitted uint64) {
	lastCommitted = c.floor
	if ws.Len() == 0 {
		lastCommitted = c.sequence - 1
		c.floor = c.sequence
	}
	for i, before := range c.before {
		item := ws.Item(i)
		lastCommitted = max(lastCommitted, before)
		c.last[item] = c.sequence
		c.hashes.Push(item)
	}
	c.records.Push(record{gtid: id, snapshot: snapshot, items: ws.Len()})
	c.weight += uint64(ws.Len()) + 1
	return lastCommitted
}

// EntryDone tells that everything up to a log index has been certified. Marks
// fall on such indexes. Indexes grow from call to call.
func (c *Certifier) EntryDone(index uint64) {
	before := c.markWeight
	if n := c.milestones.Len(); n > 0 {
		before = c.milestones.At(n - 1).weight
	}
	if c.weight-before >= milestoneEvery {
		c.milestones.Push(milestone{index: index, sequence: c.sequence, weight: c.weight, executed: c.executed})
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

// MarkableItems returns the least log index at which a mark would leave a
// history of at most limit, counted as HistoryItems does; if there is none,
// the greatest at which a mark would forget something. It is 0 if no mark is
// needed or possible. What a mark has dropped already does not count: another
// one would not give it back any sooner.
func (c *Certifier) MarkableItems(limit int) uint64 {
	within := func(weight uint64) bool { return c.weight-weight <= uint64(max(limit, 0)) }
	n := c.milestones.Len()
	if n == 0 || within(c.markWeight) {
		return 0
	}
	i := sort.Search(n, func(i int) bool { return within(c.milestones.At(i).weight) })
	return c.milestones.At(min(i, n-1)).index
}

// Mark forgets what was certified up to a log index. An index between two
// milestones is rounded down, one that was passed changes nothing.
func (c *Certifier) Mark(index uint64) {
	for c.milestones.Len() > 0 && c.milestones.At(0).index <= index {
		m := c.milestones.Pop()
		c.mark, c.markWeight, c.low = m.sequence, m.weight, m.executed
		// What was forgotten can no longer show that two transactions are
		// independent, so later ones depend on all of it.
		c.floor = max(c.floor, m.sequence)
	}
}

// sweep gives back up to n records and items that a mark has dropped.
func (c *Certifier) sweep(n int) {
	for n > 0 && c.swept < c.mark {
		r := c.records.At(0)
		for n > 0 && r.items > 0 {
			item := c.hashes.Pop()
			if c.last[item] == c.swept+1 {
				delete(c.last, item)
			}
			r.items--
			n--
		}
		if r.items > 0 {
			return
		}
		c.records.Pop()
		c.swept++
		n--
	}
}
