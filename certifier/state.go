package certifier

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/concordatdb/concordat/gtid"
)

// ErrState marks bytes that are not a certifier's state of this format.
var ErrState = errors.New("certifier: malformed state")

const stateFormat = 1

// AppendState appends all that later verdicts depend on. How much of what a
// mark dropped has been given back is not part of it: members may differ in
// that, and in nothing else.
//
//	state     := 1  group(16)  executed low  uvarint sequence, floor, mark
//	             uvarint count  record*      (for sequences mark+1 … sequence)
//	             uvarint count  milestone*
//	record    := gtid stored  uvarint items  item(8)*
//	milestone := uvarint index, sequence  executed
//
// GTIDs and GTID sets have the binary form of package gtid.
func (c *Certifier) AppendState(b []byte) ([]byte, error) {
	b = append(b, stateFormat)
	b = append(b, c.group[:]...)
	b, err := appendSets(b, c.executed, c.low)
	if err != nil {
		return nil, err
	}
	for _, v := range []uint64{c.sequence, c.floor, c.mark, c.sequence - c.mark} {
		b = binary.AppendUvarint(b, v)
	}
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
		if b, err = r.stored.AppendBinary(b); err != nil {
			return nil, err
		}
		b = binary.AppendUvarint(b, uint64(r.items))
		for i := first; i < item; i++ {
			b = binary.LittleEndian.AppendUint64(b, uint64(*c.hashes.At(i)))
		}
	}
	return c.appendMilestones(b)
}

func (c *Certifier) appendMilestones(b []byte) ([]byte, error) {
	b = binary.AppendUvarint(b, uint64(c.milestones.Len()))
	for i := range c.milestones.Len() {
		m := c.milestones.At(i)
		b = binary.AppendUvarint(b, m.index)
		b = binary.AppendUvarint(b, m.sequence)
		var err error
		if b, err = m.executed.AppendBinary(b); err != nil {
			return nil, err
		}
	}
	return b, nil
}

func appendSets(b []byte, sets ...gtid.Set) (_ []byte, err error) {
	for _, s := range sets {
		if b, err = s.AppendBinary(b); err != nil {
			return nil, err
		}
	}
	return b, nil
}

// Restore returns the certifier whose state was appended by AppendState.
func Restore(b []byte) (*Certifier, error) {
	d := &decoder{rest: b}
	if format := d.bytes(1); format != nil && format[0] != stateFormat {
		return nil, fmt.Errorf("%w: format %d is not known to this version", ErrState, format[0])
	}
	c := &Certifier{last: map[Item]uint64{}}
	copy(c.group[:], d.bytes(len(c.group)))
	c.executed, c.low = d.set(), d.set()
	c.sequence, c.floor, c.mark = d.uvarint(), d.uvarint(), d.uvarint()
	records := d.uvarint()
	if d.err == nil && (c.mark > c.floor || c.floor > c.sequence || records != c.sequence-c.mark) {
		d.fail("mark %d, floor %d, sequence %d and %d records do not fit", c.mark, c.floor, c.sequence, records)
	}
	c.swept = c.mark
	for seq := c.mark + 1; seq <= c.sequence && d.err == nil; seq++ {
		c.restoreRecord(d, seq)
	}
	for n := d.uvarint(); n > 0 && d.err == nil; n-- {
		c.milestones.Push(milestone{index: d.uvarint(), sequence: d.uvarint(), executed: d.set()})
	}
	if d.err == nil && len(d.rest) != 0 {
		d.fail("%d bytes too many", len(d.rest))
	}
	if d.err != nil {
		return nil, d.err
	}
	return c, nil
}

func (c *Certifier) restoreRecord(d *decoder, seq uint64) {
	r := record{gtid: d.gtid(), stored: d.set()}
	count := d.uvarint()
	if count > MaxItems {
		d.fail("%d items in one record", count)
		return
	}
	items := d.bytes(int(count) * itemLen)
	if d.err != nil {
		return
	}
	r.items = int(count)
	for i := range r.items {
		item := Item(binary.LittleEndian.Uint64(items[i*itemLen:]))
		c.last[item] = seq
		c.hashes.Push(item)
	}
	c.records.Push(r)
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
	if n <= 0 {
		d.fail("number cut off")
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
