package certifier

import (
	"cmp"
	"fmt"
	"slices"

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
	// GTIDTaken: the GTID that the caller asked for has been used, or is none.
	GTIDTaken Outcome = 5
	// Duplicate: a transaction with the same id has committed. A certifier does
	// not know ids; this is for those who do, so that there is one list.
	Duplicate Outcome = 6
	// Unreadable: what was broadcast is no transaction. As Duplicate, it is
	// listed here for those who read messages.
	Unreadable Outcome = 7
	// GTIDSpread: the executed set would have too many intervals; ask for GTIDs
	// that close gaps.
	GTIDSpread Outcome = 8
	// Fenced: its origin had no right to write there, or had lost it since it
	// handed the transaction over. As Duplicate, it is for those who know.
	Fenced Outcome = 9
	// GivenUp: it came in pieces, of which the group had given up what had come
	// before the last. As Duplicate, it is for those who know.
	GivenUp Outcome = 10
	// TooLarge: it is larger than the group allows. As Duplicate, it is for those
	// who know.
	TooLarge Outcome = 11
	// Unapplied: it had passed, and then no engine could apply it. Its GTID is used
	// up, and stands for nothing. Certification itself never says so.
	Unapplied Outcome = 12
)

// MaxGTIDIntervals bounds the intervals that the executed set has of GTIDs and
// tags that callers asked for. Every snapshot version, batch and checkpoint
// carries the set.
const MaxGTIDIntervals = 1024

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
	case Unreadable:
		return "unreadable"
	case GTIDSpread:
		return "GTID beyond the intervals"
	case Fenced:
		return "fenced"
	case GivenUp:
		return "given up"
	case TooLarge:
		return "too large"
	case Unapplied:
		return "applied by no engine"
	}
	return fmt.Sprintf("Outcome(%d)", byte(o))
}

// Settings are the limits and choices that all members share. They are part of
// the group's configuration, and change at a place in the log.
type Settings struct {
	// HistoryItems bounds what is remembered: items, and one more for each
	// transaction.
	HistoryItems int
	// HistoryBytes bounds the same by the memory that it takes, as
	// [Certifier.HistoryBytes] reckons it.
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

// Certifier holds the history and the numbering. It belongs to one goroutine.
//
// E(n) is what the first n transactions have been certified with: n GTIDs, as
// no GTID is certified twice.
//
// Invariants:
//  1. records holds one record for each sequence in (swept, now.sequence], in
//     order, and asides what does not fit into one.
//  2. links holds one link for each delta and reference with a number in
//     (unlinked, now.links], in order.
//  3. swept <= mark.sequence <= now.sequence and unlinked <= mark.links <=
//     now.links: what lies between the first two no longer counts and waits to
//     be given back.
//  4. table has a stamp for each item that was touched after the mark: of its
//     last write, or of the link of its last delta or reference. Older stamps
//     are dead. Following prev, a link leads through the run of one kind that
//     its item was touched in last; base is the stamp of what was before.
//  5. low is E(mark.sequence), executed E(now.sequence); the milestones' and the
//     recent versions' are E of their sequences.
//  6. Milestones ascend, by index and by sequence, within (mark, now].
//  7. places holds the last written keys, at most Settings.RangeWrites, and
//     unplaced is the sequence of the newest whose keys are not all there.
//  8. barriers are the sequences of those that do not say what they changed, in
//     order, and all of them after the mark; barrier is the last.
//  9. stray is the last sequence whose snapshot version had something that was
//     not certified before it; 0 if there is none.
//  10. numberings ascend by tag, and have a block size above 1.
type Certifier struct {
	settings Settings
	group    gtid.UUID
	now      extent
	executed gtid.Set
	mark     extent
	low      gtid.Set

	table    table
	expected int // items that there is or will be room for ahead; never in the state
	records  window[record]
	asides   map[uint64]*aside // by sequence
	origins  origins
	swept    uint64
	links    window[link]
	unlinked uint64
	barriers window[uint64]
	barrier  uint64
	stray    uint64
	places   window[placed]
	unplaced uint64
	scans    []rangeOf // scratch of rangeClash

	milestones queue.Queue[milestone]
	recent     queue.Queue[version]
	noted      int // intervals of recent, counted once for each version
	straight   straight
	numberings []*numbering
}

// extent is how far the history has come: of two, the difference is what was
// certified between.
type extent struct {
	sequence uint64
	weight   uint64 // one for each transaction and one for each item
	bytes    uint64 // see HistoryBytes
	links    uint64
}

// New returns the certifier of a new group. GTIDs are numbered under the
// group's name.
func New(group gtid.UUID, s Settings) *Certifier {
	return &Certifier{group: group, settings: s, table: newTable(), asides: map[uint64]*aside{}}
}

// Continue returns the certifier of a new group that goes on with the data of another
// one: everything in executed lies before its history mark. Its settings are yet to
// come. The error says that there is too much.
func Continue(group gtid.UUID, executed gtid.Set) (*Certifier, error) {
	n := executed.Count()
	if n > maxSequence {
		return nil, fmt.Errorf("%w: %d transactions, %d are the most", ErrState, n, uint64(maxSequence))
	}
	c := New(group, Settings{})
	c.setMark(extent{sequence: n})
	c.now, c.swept = c.mark, n
	c.low, c.executed = executed, executed
	c.straight.begin(n, executed)
	c.unplaced = n
	return c, nil
}

// Configure changes the settings, at the same place in the log everywhere.
func (c *Certifier) Configure(s Settings) {
	c.settings = s
	c.boundPlaces()
	for _, n := range c.numberings {
		n.setBlock(c.executed, s.BlockSize)
	}
	if blockSize(s.BlockSize) == 1 {
		c.numberings = nil
	}
}

// View hands all blocks of numbers back, as is due when members have come or
// gone, at the same place in the log everywhere.
func (c *Certifier) View() {
	for _, n := range c.numberings {
		n.recompute(c.executed)
	}
}

// Executed returns the GTIDs of everything certified.
func (c *Certifier) Executed() gtid.Set { return c.executed }

// Sequence returns the number of transactions certified since the group began.
func (c *Certifier) Sequence() uint64 { return c.now.sequence }

// Certify judges the next transaction. It keeps no reference to the bytes of r.
// A GTID or tag that is asked for and is not valid cannot be had: it is taken.
func (c *Certifier) Certify(r *Request) Verdict {
	if !c.low.SubsetOf(r.Snapshot) {
		return Verdict{Outcome: SnapshotTooOld}
	}
	v := c.see(r.Snapshot)
	if clash, lost := c.itemClash(&r.WriteSet, &v); lost {
		return Verdict{Outcome: Conflict, Clash: clash}
	}
	if r.WriteSet.Count(Read)+r.WriteSet.RangeCount() > 0 {
		if verdict, lost := c.scanClash(&r.WriteSet, &v); lost {
			return verdict
		}
	}
	id, outcome := c.number(r)
	if outcome != Certified {
		return Verdict{Outcome: outcome}
	}
	lastCommitted := c.enter(id, r, &v)
	c.sweep(&r.WriteSet)
	return Verdict{Outcome: Certified, GTID: id, LastCommitted: lastCommitted, Sequence: c.now.sequence}
}

// number finds the GTID of a transaction that is in no conflict. Unless the
// outcome is Certified, nothing has changed.
func (c *Certifier) number(r *Request) (gtid.GTID, Outcome) {
	id := r.GTID
	// What nobody asked for is numbered whatever others have asked for.
	crowded := (id.Number != 0 || id.Tag != "") && c.executed.IntervalCount() >= MaxGTIDIntervals
	if id.Number == 0 {
		if !id.Tag.Valid() {
			return id, GTIDTaken
		}
		id.UUID = c.group
		if blockSize(c.settings.BlockSize) > 1 {
			return c.reserve(id, r.Origin, crowded)
		}
		if id.Number = c.executed.FirstMissing(c.group, id.Tag, 1); id.Number == 0 {
			return id, Exhausted
		}
	} else if !id.Valid() || c.executed.Contains(id) {
		return id, GTIDTaken
	}
	if crowded && c.spreads(id) {
		return id, GTIDSpread
	}
	return id, Certified
}

// spreads reports whether a GTID that is free would be an interval of its own.
// Any other makes one longer, or two of them one.
func (c *Certifier) spreads(id gtid.GTID) bool {
	below, above := id, id
	below.Number--
	above.Number++
	return !c.executed.Contains(below) && !c.executed.Contains(above)
}

// reserve takes the next number under a tag from the block of a member.
func (c *Certifier) reserve(id gtid.GTID, member gtid.UUID, crowded bool) (gtid.GTID, Outcome) {
	at, found := slices.BinarySearchFunc(c.numberings, id.Tag, func(n *numbering, tag gtid.Tag) int { return cmp.Compare(n.tag, tag) })
	var n *numbering
	switch {
	case !found:
		n = newNumbering(c.group, id.Tag, c.settings.BlockSize)
	case crowded:
		n = c.numberings[at].clone() // the number may turn out to be one too far
	default:
		n = c.numberings[at]
	}
	number, ok := n.next(c.executed, member)
	if id.Number = number; !ok {
		return id, Exhausted
	}
	if crowded && c.spreads(id) {
		return id, GTIDSpread
	}
	if found {
		c.numberings[at] = n
	} else {
		c.numberings = slices.Insert(c.numberings, at, n)
	}
	return id, Certified
}

// itemClash looks for the first item in conflict.
func (c *Certifier) itemClash(ws *Encoded, v *seen) (Clash, bool) {
	var stamps [lookupBatch]uint64
	for at := 0; at < ws.Len(); {
		n := c.table.lookup(ws.items[at*itemLen:], &stamps)
		for i, stamp := range stamps[:n] {
			// What is absent, too, has a number that was seen, and the kind 0.
			if number, k := splitStamp(stamp); k == Write && number <= v.prefix && c.stray == 0 {
				continue
			}
			kind, _ := ws.Kind(at + i)
			if seq, earlier := c.lost(v, kind, stamp); seq != 0 {
				clash := c.explain(seq, kind, earlier)
				clash.Item = at + i
				return clash, true
			}
		}
		at += n
	}
	return Clash{}, false
}

// lost returns the newest transaction that one with this snapshot version loses
// to when it does kind with an item that was last touched like that; 0 if there
// is none.
//
// It need not look beyond one run. Who touched the item otherwise before the run
// was seen by all of the run, and whoever has seen a transaction has seen what
// that had seen.
func (c *Certifier) lost(v *seen, kind Kind, stamp uint64) (sequence uint64, earlier Kind) {
	if c.table.dead(stamp) {
		return 0, 0
	}
	number, k := splitStamp(stamp)
	if !kind.ConflictsWith(k) {
		if stamp = c.link(number).base; c.table.dead(stamp) {
			return 0, 0
		}
		number, k = splitStamp(stamp)
	}
	if k == Write {
		if c.sees(v, number) {
			return 0, 0
		}
		return number, k
	}
	for number > c.mark.links {
		l := c.link(number)
		if sequence = l.stamp >> 2; !c.sees(v, sequence) {
			return sequence, k
		}
		if v.exact && c.stray == 0 {
			break // all that are older have been seen
		}
		number = l.prev
	}
	return 0, 0
}

func (c *Certifier) explain(sequence uint64, incoming, earlier Kind) Clash {
	id, origin := c.author(sequence)
	return Clash{
		Item: -1, Range: -1, Incoming: incoming, Earlier: earlier,
		Winner: id, Member: origin, Sequence: sequence,
	}
}

// enter takes a certified transaction into the history and returns the greatest
// sequence it depends on.
func (c *Certifier) enter(id gtid.GTID, r *Request, v *seen) (lastCommitted uint64) {
	ws := &r.WriteSet
	c.now.sequence++
	c.now.weight += uint64(ws.Len()-ws.Count(Read)) + 1
	c.now.bytes += c.cost(id, r, v) + uint64(ws.Count(Write))*itemBytes +
		uint64(ws.Count(Delta)+ws.Count(Reference))*(itemBytes+linkBytes)
	c.remember(id, r.Origin, r.Snapshot, v)
	// What was forgotten can no longer show that two transactions are
	// independent, so all later ones depend on it.
	lastCommitted = max(c.mark.sequence, c.barrier)
	if ws.Barrier() {
		lastCommitted = c.now.sequence - 1
		c.barrier = c.now.sequence
		c.barriers.Push(c.barrier)
	}
	lastCommitted = max(lastCommitted, c.touchAll(ws))
	c.place(ws)
	c.execute(id)
	return lastCommitted
}
