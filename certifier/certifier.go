package certifier

import (
	"fmt"
	"slices"
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
	// GTIDTaken: the GTID that the caller asked for has been used.
	GTIDTaken Outcome = 5
	// Duplicate: a transaction with the same id has committed. A certifier does
	// not know ids; this is for those who do, so that there is one list.
	Duplicate Outcome = 6
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
	case GTIDTaken:
		return "GTID taken"
	case Duplicate:
		return "duplicate"
	}
	return fmt.Sprintf("Outcome(%d)", byte(o))
}

// Settings are the limits and choices that all members share. They are part of
// the group's configuration, and change at a place in the log.
type Settings struct {
	// HistoryItems bounds what is remembered: items, and one more for each
	// transaction.
	HistoryItems int
	// HistoryBytes bounds the same by the memory that it takes.
	HistoryBytes int
	// RangeWrites is how many written keys are remembered to compare them with
	// scanned ranges. A scan that is older fails with SnapshotTooOld.
	RangeWrites int
	// BlockSize is how many numbers are reserved for a member at a time; 0
	// means 1: numbers follow the order of the log.
	BlockSize uint64
}

// Request is a transaction to certify.
type Request struct {
	Origin   gtid.UUID // member
	Snapshot gtid.Set  // the snapshot version
	WriteSet Encoded
	// GTID is what the caller asks for. The zero value asks for the next of the
	// group; a tag alone for the next of the group under that tag.
	GTID gtid.GTID
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
	// Clash explains a Conflict.
	Clash Clash
}

// Clash is what a transaction lost to.
type Clash struct {
	// Item is the position in the write set of the first item in conflict, or
	// -1. Range is the position of the scanned range, or -1. When both are -1,
	// the transaction has read, and lost to one that does not say what it
	// changed.
	Item, Range int
	// Incoming is what the transaction did there, Earlier what the winner did.
	Incoming, Earlier Kind
	// Winner is the newest transaction in conflict, Member its origin, Sequence
	// its place among all that were certified.
	Winner   gtid.GTID
	Member   gtid.UUID
	Sequence uint64
}

// milestoneEvery is how much history lies between two places where a mark can
// fall. A mark that names a position between is rounded down.
const milestoneEvery = 1024

// Certifier holds the history and the numbering. It belongs to one goroutine.
//
// Invariants:
//  1. records holds one record for each certified transaction with a sequence
//     in (swept, sequence], in order, and hashes their items in the same order,
//     without those of the oldest record that have been given back.
//  2. history[h] lists, in order, who wrote, added to or referred to h, of
//     those in records.
//  3. swept <= mark <= floor <= sequence: what lies in (swept, mark] no longer
//     counts and waits to be given back.
//  4. low is the GTID set certified up to mark, executed that up to sequence,
//     and each milestone's the one up to its sequence.
//  5. milestones ascend, by index and by sequence, within (mark, sequence].
//  6. weight counts one for each transaction and one for each of its items.
//     The difference of two weights is what was certified between.
//  7. places holds the last written keys, at most Settings.RangeWrites, and
//     unplaced is the sequence of the newest whose keys are not all there.
type Certifier struct {
	settings Settings
	group    gtid.UUID
	executed gtid.Set
	sequence uint64 // of the last certified transaction
	floor    uint64 // least value of a LastCommitted
	barrier  uint64 // sequence of the last one that does not say what it changed
	weight   uint64 // at sequence

	mark       uint64
	markWeight uint64
	low        gtid.Set

	history    map[Item][]touch
	records    window[record]
	hashes     window[touched]
	swept      uint64
	milestones queue.Queue[milestone]
	places     window[placed]
	unplaced   uint64
}

// touch is one transaction's doing with an item.
type touch struct {
	sequence uint64
	kind     Kind
}

// touched is an item with what was done to it.
type touched struct {
	item Item
	kind Kind
}

// placed is a written key.
type placed struct {
	sequence uint64
	kind     Kind
	space    Space
	key      string
	cut      bool
}

// record is what a conflict is judged by and explained with. Snapshot version
// and GTID together are the stored set T.
type record struct {
	gtid     gtid.GTID
	origin   gtid.UUID
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
func New(group gtid.UUID, s Settings) *Certifier {
	return &Certifier{group: group, settings: s, history: map[Item][]touch{}}
}

// Configure changes the settings, at the same place in the log everywhere.
func (c *Certifier) Configure(s Settings) {
	c.settings = s
	c.boundPlaces()
}

// Executed returns the GTIDs of everything certified.
func (c *Certifier) Executed() gtid.Set { return c.executed }

// Sequence returns the number of transactions certified since the group began.
func (c *Certifier) Sequence() uint64 { return c.sequence }

// HistoryItems is the size of the history in memory: all items, and one more
// for each transaction, what is not yet given back included.
func (c *Certifier) HistoryItems() int { return c.hashes.Len() + c.records.Len() }

// Certify judges the next transaction. It keeps no reference to r.
func (c *Certifier) Certify(r *Request) Verdict {
	if !c.low.SubsetOf(r.Snapshot) {
		return Verdict{Outcome: SnapshotTooOld}
	}
	if clash, ok := c.itemClash(r); ok {
		return Verdict{Outcome: Conflict, Clash: clash}
	}
	if v, ok := c.rangeClash(r); ok {
		return v
	}
	id, outcome := c.number(r)
	if outcome != Certified {
		return Verdict{Outcome: outcome}
	}
	c.sequence++
	v := Verdict{Outcome: Certified, GTID: id, Sequence: c.sequence}
	v.LastCommitted = c.record(id, r)
	c.executed = c.executed.Add(id)
	c.sweep(2*r.WriteSet.Len() + 2)
	return v
}

func (c *Certifier) number(r *Request) (gtid.GTID, Outcome) {
	id := r.GTID
	if id.Number != 0 {
		if c.executed.Contains(id) {
			return id, GTIDTaken
		}
		return id, Certified
	}
	id.UUID = c.group
	if id.Number = c.executed.FirstMissing(c.group, id.Tag, 1); id.Number == 0 {
		return id, Exhausted
	}
	return id, Certified
}

// itemClash looks for the first item in conflict.
func (c *Certifier) itemClash(r *Request) (Clash, bool) {
	i := -1
	for item, kind := range r.WriteSet.Items() {
		i++
		for _, t := range slices.Backward(c.history[item]) {
			if t.sequence <= c.mark {
				break
			}
			if kind.ConflictsWith(t.kind) && !c.writer(t.sequence).seenBy(r.Snapshot) {
				clash := c.explain(t.sequence, kind, t.kind)
				clash.Item = i
				return clash, true
			}
		}
	}
	return Clash{}, false
}

func (c *Certifier) explain(sequence uint64, incoming, earlier Kind) Clash {
	w := c.writer(sequence)
	return Clash{
		Item: -1, Range: -1, Incoming: incoming, Earlier: earlier,
		Winner: w.gtid, Member: w.origin, Sequence: sequence,
	}
}

// rangeClash looks for a written key in a scanned range, and for a transaction
// that may have written anything.
func (c *Certifier) rangeClash(r *Request) (Verdict, bool) {
	if r.WriteSet.Count(Read)+r.WriteSet.RangeCount() == 0 {
		return Verdict{}, false
	}
	if c.barrier > c.mark && !c.writer(c.barrier).seenBy(r.Snapshot) {
		return Verdict{Outcome: Conflict, Clash: c.explain(c.barrier, Read, Write)}, true
	}
	if r.WriteSet.RangeCount() == 0 {
		return Verdict{}, false
	}
	if c.unplaced > c.mark && !c.writer(c.unplaced).seenBy(r.Snapshot) {
		return Verdict{Outcome: SnapshotTooOld}, true
	}
	n := -1
	for scanned := range r.WriteSet.Ranges() {
		n++
		for i := c.places.Len() - 1; i >= 0; i-- {
			p := c.places.At(i)
			if p.sequence <= c.mark {
				break
			}
			if scanned.Covers(Place{p.space, []byte(p.key), p.cut}) && !c.writer(p.sequence).seenBy(r.Snapshot) {
				clash := c.explain(p.sequence, Read, p.kind)
				clash.Range = n
				return Verdict{Outcome: Conflict, Clash: clash}, true
			}
		}
	}
	return Verdict{}, false
}

func (c *Certifier) writer(seq uint64) *record {
	return c.records.At(int(seq - c.swept - 1))
}

// record enters the transaction into the history and returns the greatest
// sequence it depends on.
func (c *Certifier) record(id gtid.GTID, r *Request) (lastCommitted uint64) {
	lastCommitted = c.floor
	ws := &r.WriteSet
	if ws.Barrier() {
		lastCommitted = c.sequence - 1
		c.floor, c.barrier = c.sequence, c.sequence
	}
	items := ws.Count(Write) + ws.Count(Delta) + ws.Count(Reference)
	for item, kind := range ws.Items() {
		if kind == Read {
			break
		}
		lastCommitted = max(lastCommitted, c.touch(item, kind))
		c.hashes.Push(touched{item, kind})
	}
	i := 0
	for p := range ws.Places() {
		kind, _ := ws.Kind(i)
		c.places.Push(placed{c.sequence, kind, p.Space, string(p.Key), p.Cut})
		i++
	}
	c.boundPlaces()
	c.records.Push(record{gtid: id, origin: r.Origin, snapshot: r.Snapshot, items: items})
	c.weight += uint64(items) + 1
	return lastCommitted
}

// touch notes what the transaction at hand does with an item, and returns the
// sequence of the last one that it depends on for that.
func (c *Certifier) touch(item Item, kind Kind) (depends uint64) {
	list := c.history[item]
	for _, t := range slices.Backward(list) {
		if t.sequence < c.sequence && (kind != Reference || t.kind != Reference) {
			depends = t.sequence
			break
		}
	}
	if n := len(list); n > 0 && list[n-1].sequence == c.sequence && list[n-1].kind != kind {
		kind = Write
	}
	c.history[item] = append(list, touch{c.sequence, kind})
	return depends
}

func (c *Certifier) boundPlaces() {
	for c.places.Len() > c.settings.RangeWrites {
		c.unplaced = c.places.Pop().sequence
	}
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

// MarkableLimit returns the least log index at which a mark would leave a
// history within the limits of the settings; if there is none, the greatest at
// which a mark would forget something. It is 0 if no mark is needed or
// possible. What a mark has dropped already does not count: another one would
// not give it back any sooner.
func (c *Certifier) MarkableLimit() uint64 {
	limit := c.settings.HistoryItems
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
			item := c.hashes.Pop().item
			if list := c.history[item]; len(list) == 1 {
				delete(c.history, item)
			} else {
				c.history[item] = list[1:]
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
