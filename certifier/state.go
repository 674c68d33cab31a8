package certifier

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/concordatdb/concordat/gtid"
)

// ErrState marks bytes that are not a certifier's state of this format.
var ErrState = errors.New("certifier: malformed state")

const stateFormat = 2

// recordLen is the least that a record takes: UUID, no tag, a number, the empty
// snapshot version, no items.
const recordLen = 16 + 1 + 1 + 16 + 1 + 1

// AppendState appends all that later verdicts depend on. How much of what a
// mark dropped has been given back is not part of it: members may differ in
// that, and in nothing else.
//
//	state     := 2  group(16)  low  uvarint mark, floor, barrier, unplaced
//	             uvarint count  record*      (for sequences mark+1, mark+2, …)
//	             uvarint count  milestone*
//	             uvarint count  placed*
//	record    := gtid origin(16) snapshot  uvarint items  (item(8) kind(1))*
//	milestone := uvarint index, sequence
//	placed    := uvarint sequence  kind(1) cut(1) space(8)  uvarint len key
//
// GTIDs and GTID sets have the binary form of package gtid, items are
// little-endian.
func (c *Certifier) AppendState(b []byte) ([]byte, error) {
	b = slices.Grow(b, c.hashes.Len()*(itemLen+1)+c.records.Len()*2*recordLen)
	b = append(b, stateFormat)
	b = append(b, c.group[:]...)
	b, err := c.low.AppendBinary(b)
	if err != nil {
		return nil, err
	}
	for _, n := range [...]uint64{c.mark, c.floor, c.barrier, c.unplaced} {
		b = binary.AppendUvarint(b, n)
	}
	if b, err = c.appendRecords(b); err != nil {
		return nil, err
	}
	b = binary.AppendUvarint(b, uint64(c.milestones.Len()))
	for i := range c.milestones.Len() {
		m := c.milestones.At(i)
		b = binary.AppendUvarint(b, m.index)
		b = binary.AppendUvarint(b, m.sequence)
	}
	return c.appendPlaces(b), nil
}

func (c *Certifier) appendPlaces(b []byte) []byte {
	b = binary.AppendUvarint(b, uint64(c.places.Len()))
	for i := range c.places.Len() {
		p := c.places.At(i)
		cut := byte(0)
		if p.cut {
			cut = 1
		}
		b = binary.AppendUvarint(b, p.sequence)
		b = append(b, byte(p.kind), cut)
		b = binary.LittleEndian.AppendUint64(b, uint64(p.space))
		b = binary.AppendUvarint(b, uint64(len(p.key)))
		b = append(b, p.key...)
	}
	return b
}

func (c *Certifier) appendRecords(b []byte) (_ []byte, err error) {
	b = binary.AppendUvarint(b, c.sequence-c.mark)
	item := 0
	for seq := c.swept + 1; seq <= c.sequence; seq++ {
		r := c.writer(seq)
		first := item
		item += r.items
		if seq <= c.mark {
			continue
		}
		if b, err = r.gtid.AppendBinary(b); err != nil {
			return nil, err
		}
		b = append(b, r.origin[:]...)
		if b, err = r.snapshot.AppendBinary(b); err != nil {
			return nil, err
		}
		b = binary.AppendUvarint(b, uint64(r.items))
		for i := first; i < item; i++ {
			h := c.hashes.At(i)
			b = binary.LittleEndian.AppendUint64(b, uint64(h.item))
			b = append(b, byte(h.kind))
		}
	}
	return b, nil
}

// Restore returns the certifier whose state was appended by AppendState. Bytes
// that are not such a state are an error that wraps ErrState; of those that
// happen to look like one it makes a certifier that keeps its invariants.
func Restore(b []byte, s Settings) (*Certifier, error) {
	d := &decoder{rest: b, kind: ErrState}
	if format := d.bytes(1); len(format) == 1 && format[0] != stateFormat {
		return nil, fmt.Errorf("%w: format %d is not known to this version", ErrState, format[0])
	}
	c := New(gtid.UUID{}, s)
	copy(c.group[:], d.bytes(len(c.group)))
	c.low = d.set()
	c.mark, c.floor, c.barrier, c.unplaced = d.uvarint(), d.uvarint(), d.uvarint(), d.uvarint()
	c.executed, c.sequence, c.swept = c.low, c.mark, c.mark
	c.restoreRecords(d)
	c.restoreMilestones(d)
	c.restorePlaces(d)
	if d.err == nil && len(d.rest) != 0 {
		d.fail("%d bytes too many", len(d.rest))
	}
	if d.err != nil {
		return nil, d.err
	}
	return c, nil
}

func (c *Certifier) restorePlaces(d *decoder) {
	last := c.unplaced
	for n := d.uvarint(); n > 0 && d.err == nil; n-- {
		p := placed{sequence: d.uvarint()}
		head := d.bytes(2 + itemLen)
		size := d.uvarint()
		if d.err != nil || head[0] > byte(Delta) || head[1] > 1 || size > MaxPlace || p.sequence < last || p.sequence > c.sequence {
			d.fail("written key at sequence %d where it cannot be", p.sequence)
			return
		}
		p.kind, p.cut, p.space = Kind(head[0]), head[1] == 1, Space(binary.LittleEndian.Uint64(head[2:]))
		p.key, last = string(d.bytes(int(size))), p.sequence
		c.places.Push(p)
	}
}

func (c *Certifier) restoreRecords(d *decoder) {
	n := d.uvarint()
	if n > uint64(len(d.rest)/recordLen) {
		d.fail("%d records in %d bytes", n, len(d.rest))
		return
	}
	if c.mark > gtid.MaxNumber || c.mark != c.low.Count() || c.floor < c.mark || c.floor > c.mark+n ||
		c.barrier > c.floor || c.unplaced > c.mark+n {
		d.fail("mark %d, floor %d, %d records and the GTIDs up to the mark, %v, do not fit", c.mark, c.floor, n, c.low)
		return
	}
	for ; n > 0 && d.err == nil; n-- {
		c.restoreRecord(d)
	}
}

func (c *Certifier) restoreRecord(d *decoder) {
	r := record{gtid: d.gtid()}
	copy(r.origin[:], d.bytes(len(r.origin)))
	r.snapshot = d.set()
	count := d.uvarint()
	if count > MaxItems {
		d.fail("%d items in one record, the limit is %d", count, MaxItems)
	}
	if !r.gtid.Valid() || c.executed.Contains(r.gtid) {
		d.fail("record of %v where it cannot be", r.gtid)
	}
	if d.err != nil {
		return
	}
	items := d.bytes(int(count) * (itemLen + 1))
	c.executed = c.executed.Add(r.gtid)
	c.sequence++
	for ; len(items) > 0; items = items[itemLen+1:] {
		kind := Kind(items[itemLen])
		if kind >= Read {
			d.fail("%v among the items of %v", kind, r.gtid)
			return
		}
		item := Item(binary.LittleEndian.Uint64(items))
		c.touch(item, kind)
		c.hashes.Push(touched{item, kind})
		r.items++
	}
	c.records.Push(r)
	c.weight += uint64(r.items) + 1
}

func (c *Certifier) restoreMilestones(d *decoder) {
	m := milestone{sequence: c.mark, executed: c.low}
	for n := d.uvarint(); n > 0 && d.err == nil; n-- {
		index, sequence := d.uvarint(), d.uvarint()
		if index <= m.index || sequence <= m.sequence || sequence > c.sequence {
			d.fail("milestone at index %d and sequence %d where it cannot be", index, sequence)
			return
		}
		for m.index = index; m.sequence < sequence; m.sequence++ {
			r := c.writer(m.sequence + 1)
			m.executed = m.executed.Add(r.gtid)
			m.weight += uint64(r.items) + 1
		}
		c.milestones.Push(m)
	}
}

func (d *decoder) set() gtid.Set {
	if d.err != nil {
		return gtid.Set{}
	}
	s, rest, err := gtid.DecodeSet(d.rest)
	if err != nil {
		d.fail("%v", err)
		return gtid.Set{}
	}
	d.rest = rest
	return s
}

func (d *decoder) gtid() gtid.GTID {
	if d.err != nil {
		return gtid.GTID{}
	}
	g, rest, err := gtid.DecodeGTID(d.rest)
	if err != nil {
		d.fail("%v", err)
		return gtid.GTID{}
	}
	d.rest = rest
	return g
}
