package certifier

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/concordatdb/concordat/gtid"
)

// maxSequence bounds sequences, weights and links, so that stamps hold them and
// sums do not overflow.
const maxSequence = 1 << 56

// The least that the parts of a state take.
const (
	milestoneLen = 5
	recordLen    = 3
	linkLen      = 2
	itemStateLen = 2
	placeLen     = 2 + itemLen + 1
	numberingLen = 2
)

// Restore returns the certifier whose state was appended by AppendState, with
// the settings that it had. Bytes that are not such a state are an error that
// wraps ErrState; of those that happen to look like one it makes a certifier
// that keeps its invariants.
func Restore(b []byte, s Settings) (*Certifier, error) {
	d := newDecoder(b, ErrState)
	if format := d.Bytes(1); len(format) == 1 && format[0] != stateFormat {
		return nil, fmt.Errorf("%w: format %d is not known to this version", ErrState, format[0])
	}
	c := New(gtid.UUID{}, s)
	copy(c.group[:], d.Bytes(len(c.group)))
	c.low = d.Set()
	c.unplaced = d.Uvarint()
	r := restorer{Certifier: c, d: d}
	for _, step := range [...]func(){
		r.milestonesAhead, r.restoreRecords, r.restoreLinks, r.restoreItems, r.restorePlaces, r.restoreNumberings,
	} {
		if d.Err == nil {
			step()
		}
	}
	if d.Err == nil && len(d.Rest) != 0 {
		d.Fail("%d bytes too many", len(d.Rest))
	}
	if d.Err != nil {
		return nil, d.Err
	}
	return c, nil
}

// restorer reads a state.
type restorer struct {
	*Certifier
	d     *decoder
	ahead []milestone // whose sequences have not been reached
	end   extent      // what now is when all have been read
}

// count takes the number of what takes at least size bytes each.
func (d *decoder) count(size int) int {
	n := d.Uvarint()
	if n > uint64(len(d.Rest)/size) {
		d.Fail("%d parts in %d bytes", n, len(d.Rest))
		return 0
	}
	return int(n)
}

// extent takes what follows an extent.
func (d *decoder) extent(before extent) extent {
	e := extent{d.Uvarint(), d.Uvarint(), d.Uvarint(), d.Uvarint()}
	if max(e.sequence, e.weight, e.bytes, e.links) > maxSequence || e.weight < e.sequence || e.links > e.weight-e.sequence {
		d.Fail("%d transactions of weight %d with %d links", e.sequence, e.weight, e.links)
		return before
	}
	return extent{before.sequence + e.sequence, before.weight + e.weight, before.bytes + e.bytes, before.links + e.links}
}

func (r *restorer) milestonesAhead() {
	mark := r.low.Count()
	if mark > maxSequence || r.unplaced > maxSequence {
		r.d.Fail("%d transactions before the mark, written keys missing for %d after it", mark, r.unplaced)
		return
	}
	r.setMark(extent{sequence: mark})
	r.unplaced += mark
	last := milestone{extent: r.mark}
	for range r.d.count(milestoneLen) {
		m := milestone{index: last.index + r.d.Uvarint()}
		m.extent = r.d.extent(last.extent)
		if m.index <= last.index || m.extent.sequence == last.extent.sequence ||
			m.extent.weight-last.extent.weight < milestoneEvery || m.extent.sequence > maxSequence {
			r.d.Fail("milestone at index %d and sequence %d where it cannot be", m.index, m.extent.sequence)
			return
		}
		r.ahead = append(r.ahead, m)
		last = m
	}
	r.end = r.d.extent(last.extent)
	if n := r.end.sequence - mark; n > uint64(len(r.d.Rest)/recordLen) || r.unplaced > r.end.sequence {
		r.d.Fail("%d transactions after the mark in %d bytes, written keys missing up to %d", n, len(r.d.Rest), r.unplaced)
	}
}

func (r *restorer) restoreRecords() {
	r.now = r.mark
	r.executed, r.swept = r.low, r.mark.sequence
	r.straight.begin(r.mark.sequence, r.low)
	var uuids []gtid.UUID
	number := uint64(0)
	for r.now.sequence < r.end.sequence && r.d.Err == nil {
		head := r.d.Uvarint()
		origin := head >> headBits
		if origin == uint64(len(uuids)) {
			uuid := gtid.UUID{}
			copy(uuid[:], r.d.Bytes(len(uuid)))
			uuids = append(uuids, uuid)
		}
		if origin >= uint64(len(uuids)) {
			r.d.Fail("origin %d, %d have come up", origin, len(uuids))
			return
		}
		r.restoreRecord(head, uuids[origin], &number)
		if len(r.ahead) > 0 && r.ahead[0].extent.sequence == r.now.sequence {
			r.ahead[0].version = version{r.now.sequence, r.executed}
			r.milestones.Push(r.ahead[0])
			r.ahead = r.ahead[1:]
		}
	}
	r.now = r.end
}

func (r *restorer) restoreRecord(head uint64, origin gtid.UUID, number *uint64) {
	id := gtid.GTID{UUID: r.group}
	if head&headNamed != 0 {
		if id = r.d.GTID(); id.UUID == r.group && id.Tag == "" {
			r.d.Fail("%v is called by its whole name", id)
		}
	} else {
		*number += uint64(r.d.Varint()) + 1
		id.Number = *number
	}
	v := seen{exact: true}
	if head&headIrregular != 0 {
		s := r.d.Set()
		v = r.see(s)
		if v.exact && r.low.SubsetOf(s) {
			r.d.Fail("%v saw E(%d), which is said differently", id, v.prefix)
		}
		v.exact = false // s may be older than the mark
	} else {
		back := r.d.Uvarint()
		if back > r.now.sequence-r.mark.sequence {
			r.d.Fail("%v saw less than what lies before the mark", id)
		}
		v.prefix = r.now.sequence - back
	}
	if !id.Valid() || r.executed.Contains(id) {
		r.d.Fail("record of %v where it cannot be", id)
	}
	if r.d.Err != nil {
		return
	}
	r.now.sequence++
	r.remember(id, origin, v.set, &v)
	r.execute(id)
	if head&headBarrier != 0 {
		r.barrier = r.now.sequence
		r.barriers.Push(r.barrier)
	}
}

func (r *restorer) restoreLinks() {
	if r.now.links > uint64(len(r.d.Rest)/linkLen) {
		r.d.Fail("%d links in %d bytes", r.now.links, len(r.d.Rest))
	}
	seq := r.mark.sequence
	before, next := r.mark, r.nextMilestone(0)
	for n, i := uint64(1), 0; n <= r.now.links && r.d.Err == nil; n++ {
		for ; n > next.links; i++ {
			before, next = next, r.nextMilestone(i+1)
		}
		more, head := r.d.Uvarint(), r.d.Uvarint()
		if seq += more; more > maxSequence || seq <= before.sequence || seq > next.sequence {
			r.d.Fail("link %d at sequence %d, milestones at %d and %d", n, seq, before.sequence, next.sequence)
			return
		}
		l := link{stamp: stampOf(seq, Delta+Kind(head&1))}
		if back := head >> 1; back > 0 {
			r.continueRun(&l, n, back)
		} else {
			r.restoreBase(&l, n)
		}
		r.links.Push(l)
	}
}

// nextMilestone returns the extent of the i-th milestone, and after the last
// that of now.
func (r *restorer) nextMilestone(i int) extent {
	if i < r.milestones.Len() {
		return r.milestones.At(i).extent
	}
	return r.now
}

// continueRun makes l, the n-th link, the next of the run of an earlier one.
func (r *restorer) continueRun(l *link, n, back uint64) {
	if back >= n {
		r.d.Fail("link %d follows one %d before", n, back)
		return
	}
	l.prev = n - back
	prev := r.link(l.prev)
	l.base = prev.base
	if prev.stamp&3 != l.stamp&3 || prev.stamp >= l.stamp {
		r.d.Fail("link %d follows link %d, which is not of its run", n, l.prev)
	}
}

// restoreBase takes what was before a run that l, the n-th link, begins.
func (r *restorer) restoreBase(l *link, n uint64) {
	head := r.d.Uvarint()
	back := head >> 1
	seq := l.stamp >> 2
	switch {
	case head == 0:
	case head&1 == 0 && back < seq-r.mark.sequence:
		l.base = stampOf(seq-back, Write)
	case head&1 == 1 && back > 0 && back < n:
		base := r.link(n - back)
		_, kind := splitStamp(base.stamp)
		l.base = stampOf(n-back, kind)
		if base.stamp&3 == l.stamp&3 || base.stamp>>2 >= seq {
			r.d.Fail("a run begins with link %d on top of link %d", n, n-back)
		}
	default:
		r.d.Fail("what was before link %d is %d back", n, back)
	}
}

func (r *restorer) restoreItems() {
	head := r.d.Bytes(8)
	if r.d.Err != nil {
		return
	}
	n := binary.LittleEndian.Uint64(head)
	if n > uint64(len(r.d.Rest)/itemStateLen) || n > r.now.weight {
		r.d.Fail("%d items in %d bytes of a history of %d", n, len(r.d.Rest), r.now.weight)
		return
	}
	f := r.table.fill(int(n))
	key := uint64(0)
	for i := range n {
		more, stamp := r.d.Uvarint(), r.d.Uvarint()
		if more > math.MaxUint64-key || more == 0 && i > 0 {
			r.d.Fail("items in the wrong order")
		}
		key += more
		number, kind := splitStamp(stamp)
		switch {
		case r.d.Err != nil:
			return
		case kind == Write && number-1 < r.now.sequence-r.mark.sequence:
			stamp = stampOf(r.mark.sequence+number, Write)
		case kind != Write && number-1 < r.now.links && r.link(number).stamp&3 == uint64(kind):
		default:
			r.d.Fail("%v of an item at %d where it cannot be", kind, number)
			return
		}
		f.add(key, stamp)
	}
	f.flush()
}

func (r *restorer) restorePlaces() {
	n := r.d.count(placeLen)
	if n > max(0, r.settings.RangeWrites) {
		r.d.Fail("%d written keys, the settings say %d", n, r.settings.RangeWrites)
	}
	last := max(r.unplaced, r.mark.sequence+1)
	seq := r.mark.sequence
	for ; n > 0 && r.d.Err == nil; n-- {
		more, head := r.d.Uvarint(), r.d.Bytes(1+itemLen+1)
		if r.d.Err != nil {
			return
		}
		p := placed{
			kind: Kind(head[0] >> 1), cut: head[0]&1 == 1,
			space: Space(binary.LittleEndian.Uint64(head[1:])), size: head[1+itemLen],
		}
		seq += more
		if p.kind > Delta || p.size > MaxPlace || p.cut && p.size != MaxPlace ||
			more > maxSequence || seq < last || seq > r.now.sequence {
			r.d.Fail("written key at sequence %d where it cannot be", seq)
			return
		}
		p.sequence = seq
		copy(p.key[:], r.d.Bytes(int(p.size)))
		r.places.Push(p)
	}
}

func (r *restorer) restoreNumberings() {
	block := blockSize(r.settings.BlockSize)
	for i := range r.d.count(numberingLen) {
		size := r.d.Bytes(1)
		if r.d.Err != nil {
			return
		}
		tag := gtid.Tag(r.d.Bytes(int(size[0])))
		n := restoreNumbering(r.d, r.group, tag)
		if !tag.Valid() || i > 0 && r.numberings[i-1].tag >= tag || n.block != block || block == 1 {
			r.d.Fail("numbering %d under tag %q in blocks of %d, the settings say %d", i, string(tag), n.block, block)
			return
		}
		r.numberings = append(r.numberings, n)
	}
}
