package certifier

import (
	"encoding/binary"
	"errors"
	"slices"

	"github.com/concordatdb/concordat/gtid"
)

// ErrState marks bytes that are not a certifier's state of this format.
var ErrState = errors.New("certifier: malformed state")

const stateFormat = 3

// The bits of a record's head, under its origin.
const (
	headNamed     = 1 << iota // the GTID is not one of the group's without a tag
	headIrregular             // the snapshot version is not E(n)
	headBarrier
	headBits = iota
)

// AppendState appends all that later verdicts depend on. How much of what a
// mark dropped has been given back is not part of it: members may differ in
// that, and in nothing else.
//
//	state     := 3  group(16)  low  uvarint unplaced
//	             uvarint count  (index extent)*            milestones
//	             extent                                    now
//	             record*                                   for each sequence
//	             link*                                     for each link
//	             count(8)  (uvarint key  uvarint stamp)*   items
//	             uvarint count  placed*
//	             uvarint count  (len(1) tag numbering)*
//	extent    := uvarint sequence, weight, bytes, links    since the one before
//	record    := uvarint origin<<3|barrier<<2|irregular<<1|named  [origin(16)]
//	             gtid | varint number  set | uvarint back
//	link      := uvarint sequence  uvarint back<<1|reference  [base]
//	base      := 0 | uvarint back<<1|linked
//	placed    := uvarint sequence  delta<<1|cut(1)  space(8)  len(1) key
//
// Sequences and links count from the mark, and those of links and places from
// the one before; keys count from the one before, and so do numbers. back
// counts from what it stands in, whose own place it is not. Origins are numbered
// as they come up, each UUID where it does first. Whatever lies before the mark
// is as if it were not there. Fixed numbers are little-endian; GTIDs and sets
// have the binary form of package gtid, varints are zigzag.
//
// Items come in the order of their keys: products with a constant, modulo 1<<64
// (see mixer).
func (c *Certifier) AppendState(b []byte) ([]byte, error) {
	b = slices.Grow(b, 11*c.table.used+4*c.records.Len())
	b = append(b, stateFormat)
	b = append(b, c.group[:]...)
	b, err := c.low.AppendBinary(b)
	if err != nil {
		return nil, err
	}
	b = binary.AppendUvarint(b, max(c.unplaced, c.mark.sequence)-c.mark.sequence)
	b = c.appendMilestones(b)
	if b, err = c.appendRecords(b); err != nil {
		return nil, err
	}
	b = c.appendLinks(b)
	b = c.appendItems(b)
	b = c.appendPlaces(b)
	return c.appendNumberings(b), nil
}

func (e *extent) append(b []byte, before *extent) []byte {
	b = binary.AppendUvarint(b, e.sequence-before.sequence)
	b = binary.AppendUvarint(b, e.weight-before.weight)
	b = binary.AppendUvarint(b, e.bytes-before.bytes)
	return binary.AppendUvarint(b, e.links-before.links)
}

func (c *Certifier) appendMilestones(b []byte) []byte {
	b = binary.AppendUvarint(b, uint64(c.milestones.Len()))
	before, index := &c.mark, uint64(0)
	for i := range c.milestones.Len() {
		m := c.milestones.At(i)
		b = binary.AppendUvarint(b, m.index-index)
		b = m.extent.append(b, before)
		before, index = &m.extent, m.index
	}
	return c.now.append(b, before)
}

// originCoder numbers members as they come up.
type originCoder struct {
	number map[gtid.UUID]uint64
	last   gtid.UUID
	lastAt uint64
}

func (o *originCoder) find(uuid gtid.UUID) (n uint64, known bool) {
	if uuid == o.last && len(o.number) > 0 {
		return o.lastAt, true
	}
	if n, known = o.number[uuid]; !known {
		n = uint64(len(o.number))
		o.number[uuid] = n
	}
	o.last, o.lastAt = uuid, n
	return n, known
}

func (c *Certifier) appendRecords(b []byte) (_ []byte, err error) {
	coder := originCoder{number: map[gtid.UUID]uint64{}}
	number := uint64(0)
	barrier := c.barriers.Len() - c.barriersAfter(c.mark.sequence)
	for seq := c.mark.sequence + 1; seq <= c.now.sequence; seq++ {
		id, uuid := c.author(seq)
		origin, known := coder.find(uuid)
		head := origin << headBits
		if id.UUID != c.group || id.Tag != "" {
			head |= headNamed
		}
		a := c.asides[seq]
		if a != nil && a.irregular {
			head |= headIrregular
		}
		if barrier < c.barriers.Len() && *c.barriers.At(barrier) == seq {
			head |= headBarrier
			barrier++
		}
		b = binary.AppendUvarint(b, head)
		if !known {
			b = append(b, uuid[:]...)
		}
		if head&headNamed != 0 {
			b, err = id.AppendBinary(b)
		} else {
			b = binary.AppendVarint(b, int64(id.Number-number-1))
			number = id.Number
		}
		if err == nil && head&headIrregular != 0 {
			b, err = a.snapshot.AppendBinary(b)
		} else if err == nil {
			b = binary.AppendUvarint(b, seq-1-max(c.prefixOf(seq, a), c.mark.sequence))
		}
		if err != nil {
			return nil, err
		}
	}
	return b, nil
}

// prefixOf returns the n of which a transaction's snapshot version is E(n).
func (c *Certifier) prefixOf(sequence uint64, a *aside) uint64 {
	if a != nil {
		return a.prefix
	}
	return sequence - 1 - uint64(c.record(sequence).back)
}

func (c *Certifier) appendLinks(b []byte) []byte {
	last := c.mark.sequence
	for n := c.mark.links + 1; n <= c.now.links; n++ {
		l := c.link(n)
		seq, kind := splitStamp(l.stamp)
		b = binary.AppendUvarint(b, seq-last)
		last = seq
		head := uint64(kind - Delta)
		if l.prev > c.mark.links {
			b = binary.AppendUvarint(b, head|(n-l.prev)<<1)
			continue
		}
		b = binary.AppendUvarint(b, head)
		switch number, k := splitStamp(l.base); {
		case c.table.dead(l.base):
			b = append(b, 0)
		case k == Write:
			b = binary.AppendUvarint(b, (seq-number)<<1)
		default:
			b = binary.AppendUvarint(b, (n-number)<<1|1)
		}
	}
	return b
}

func (c *Certifier) appendItems(b []byte) []byte {
	at := len(b)
	b = binary.LittleEndian.AppendUint64(b, 0)
	count, last := uint64(0), uint64(0)
	c.table.each(func(key, stamp uint64) {
		b = binary.AppendUvarint(b, key-last)
		number, kind := splitStamp(stamp)
		if kind == Write {
			number -= c.mark.sequence
		} else {
			number -= c.mark.links
		}
		b = binary.AppendUvarint(b, stampOf(number, kind))
		last = key
		count++
	})
	binary.LittleEndian.PutUint64(b[at:], count)
	return b
}

func (c *Certifier) appendPlaces(b []byte) []byte {
	n := c.placesAfter(c.mark.sequence)
	b = binary.AppendUvarint(b, uint64(n))
	last := c.mark.sequence
	for i := c.places.Len() - n; i < c.places.Len(); i++ {
		p := c.places.At(i)
		head := byte(p.kind) << 1
		if p.cut {
			head |= 1
		}
		b = binary.AppendUvarint(b, p.sequence-last)
		b = append(b, head)
		b = binary.LittleEndian.AppendUint64(b, uint64(p.space))
		b = append(b, p.size)
		b = append(b, p.key[:p.size]...)
		last = p.sequence
	}
	return b
}

func (c *Certifier) appendNumberings(b []byte) []byte {
	b = binary.AppendUvarint(b, uint64(len(c.numberings)))
	for _, n := range c.numberings {
		b = append(b, byte(len(n.tag)))
		b = append(b, n.tag...)
		b = n.appendState(b)
	}
	return b
}
