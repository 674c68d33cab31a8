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

const stateFormat = 1

// recordLen is the least that a record takes: UUID, no tag, a number, the empty
// snapshot version, no items.
const recordLen = 16 + 1 + 1 + 1 + 1

// AppendState appends all that later verdicts depend on. How much of what a
// mark dropped has been given back is not part of it: members may differ in
// that, and in nothing else.
//
//	state     := 1  group(16)  low  uvarint mark, floor
//	             uvarint count  record*      (for sequences mark+1, mark+2, …)
//	             uvarint count  milestone*
//	record    := gtid snapshot  uvarint items  item(8)*
//	milestone := uvarint index, sequence
//
// GTIDs and GTID sets have the binary form of package gtid, items are
// little-endian. What can be reckoned from the rest is left out, so each state
// has one encoding.
func (c *Certifier) AppendState(b []byte) ([]byte, error) {
	b = slices.Grow(b, c.hashes.Len()*itemLen+c.records.Len()*2*recordLen)
	b = append(b, stateFormat)
	b = append(b, c.group[:]...)
	b, err := c.low.AppendBinary(b)
	if err != nil {
		return nil, err
	}
	b = binary.AppendUvarint(b, c.mark)
	b = binary.AppendUvarint(b, c.floor)
	if b, err = c.appendRecords(b); err != nil {
		return nil, err
	}
	b = binary.AppendUvarint(b, uint64(c.milestones.Len()))
	for i := range c.milestones.Len() {
		m := c.milestones.At(i)
		b = binary.AppendUvarint(b, m.index)
		b = binary.AppendUvarint(b, m.sequence)
	}
	return b, nil
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
		if b, err = r.snapshot.AppendBinary(b); err != nil {
			return nil, err
		}
		b = binary.AppendUvarint(b, uint64(r.items))
		for i := first; i < item; i++ {
			b = binary.LittleEndian.AppendUint64(b, uint64(*c.hashes.At(i)))
		}
	}
	return b, nil
}

// Restore returns the certifier whose state was appended by AppendState. Bytes
// that are not such a state are an error that wraps ErrState; of those that
// happen to look like one it makes a certifier that keeps its invariants.
func Restore(b []byte) (*Certifier, error) {
	d := &decoder{rest: b}
	if format := d.bytes(1); len(format) == 1 && format[0] != stateFormat {
		return nil, fmt.Errorf("%w: format %d is not known to this version", ErrState, format[0])
	}
	c := &Certifier{}
	copy(c.group[:], d.bytes(len(c.group)))
	c.low = d.set()
	c.mark, c.floor = d.uvarint(), d.uvarint()
	c.executed, c.sequence, c.swept = c.low, c.mark, c.mark
	c.restoreRecords(d)
	c.restoreMilestones(d)
	if d.err == nil && len(d.rest) != 0 {
		d.fail("%d bytes too many", len(d.rest))
	}
	if d.err != nil {
		return nil, d.err
	}
	return c, nil
}

func (c *Certifier) restoreRecords(d *decoder) {
	n := d.uvarint()
	if n > uint64(len(d.rest)/recordLen) {
		d.fail("%d records in %d bytes", n, len(d.rest))
		return
	}
	if c.mark > gtid.MaxNumber || c.mark != c.low.Count() || c.floor < c.mark || c.floor > c.mark+n {
		d.fail("mark %d, floor %d, %d records and the GTIDs up to the mark, %v, do not fit", c.mark, c.floor, n, c.low)
		return
	}
	c.last = make(map[Item]uint64, n)
	for ; n > 0 && d.err == nil; n-- {
		c.restoreRecord(d)
	}
}

func (c *Certifier) restoreRecord(d *decoder) {
	r := record{gtid: d.gtid(), snapshot: d.set()}
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
	items := d.bytes(int(count) * itemLen)
	c.executed = c.executed.Add(r.gtid)
	c.sequence++
	r.items = len(items) / itemLen
	for i := range r.items {
		item := Item(binary.LittleEndian.Uint64(items[i*itemLen:]))
		c.last[item] = c.sequence
		c.hashes.Push(item)
	}
	c.records.Push(r)
	c.weight += count + 1
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

// decoder takes fields off the front of rest; after the first error all
// fields are zero.
type decoder struct {
	rest []byte
	err  error
}

func (d *decoder) fail(format string, args ...any) {
	if d.err == nil {
		d.err = fmt.Errorf("%w: %s", ErrState, fmt.Sprintf(format, args...))
	}
	d.rest = nil
}

func (d *decoder) bytes(n int) []byte {
	if n > len(d.rest) {
		d.fail("%d bytes wanted, %d left", n, len(d.rest))
		return nil
	}
	b := d.rest[:n]
	d.rest = d.rest[n:]
	return b
}

func (d *decoder) uvarint() uint64 {
	x, n := binary.Uvarint(d.rest)
	if n <= 0 || n > 1 && d.rest[n-1] == 0 {
		d.fail("number cut off, or not in its shortest form")
		return 0
	}
	d.rest = d.rest[n:]
	return x
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
