package gtid

import (
	"encoding/binary"
	"fmt"
)

// EncodingError reports bytes that are not the encoding of a GTID or a set.
type EncodingError struct {
	// Kind is what the bytes should have been: "GTID" or "GTID set".
	Kind string
	// Offset is where the offending part begins, in bytes from 0.
	Offset int
	// Reason is what is wrong with it.
	Reason string
}

func (e *EncodingError) Error() string {
	return fmt.Sprintf("malformed encoding of a %s: at byte %d: %s", e.Kind, e.Offset, e.Reason)
}

// Bits of a group's head; the rest of it counts intervals.
const (
	headRepeated = 1 << iota // the UUID is that of the group before
	headTagged               // a tag follows
	headShift    = iota
)

// minIntervalLen is the length of the shortest interval.
const minIntervalLen = 2

// minGroupLen is the length of the shortest group: a head, a tag of one
// character with its length, and an interval.
const minGroupLen = 1 + 2 + minIntervalLen

// AppendBinary implements [encoding.BinaryAppender]: it appends the canonical
// binary form, which [DecodeSet] reads. The error is always nil.
func (s Set) AppendBinary(b []byte) ([]byte, error) {
	if s.groups == nil {
		if s.IsEmpty() {
			return append(b, 0), nil
		}
		b = append(b, 1)
		b = appendHead(b, s.id, 1, false)
		return appendSkip(b, 1, s.only), nil
	}
	b = binary.AppendUvarint(b, uint64(len(s.groups)))
	for i, g := range s.groups {
		repeated := i > 0 && s.groups[i-1].id.uuid == g.id.uuid
		b = appendHead(b, g.id, len(g.spans), repeated)
		least := uint64(1)
		for _, sp := range g.spans {
			b = appendSkip(b, least, sp)
			least = sp.last + 2
		}
	}
	return b, nil
}

// appendHead appends the part of a group before its intervals.
func appendHead(b []byte, id tsid, spans int, repeated bool) []byte {
	head := uint64(spans) << headShift
	if repeated {
		head |= headRepeated
	}
	if id.tag != "" {
		head |= headTagged
	}
	b = binary.AppendUvarint(b, head)
	if !repeated {
		b = append(b, id.uuid[:]...)
	}
	if id.tag != "" {
		b = append(b, byte(len(id.tag)))
		b = append(b, id.tag...)
	}
	return b
}

// appendSkip appends an interval that can begin at least at the earliest.
func appendSkip(b []byte, least uint64, s span) []byte {
	b = binary.AppendUvarint(b, s.first-least)
	return binary.AppendUvarint(b, s.last-s.first)
}

// MarshalBinary implements [encoding.BinaryMarshaler]; see [Set.AppendBinary].
func (s Set) MarshalBinary() ([]byte, error) { return s.AppendBinary(nil) }

// UnmarshalBinary implements [encoding.BinaryUnmarshaler]. Bytes after the set
// are an [EncodingError] too. After an error s is what it was.
func (s *Set) UnmarshalBinary(b []byte) error {
	decoded, rest, err := DecodeSet(b)
	if err != nil {
		return err
	}
	if len(rest) > 0 {
		return &EncodingError{Kind: "GTID set", Offset: len(b) - len(rest), Reason: "bytes after its end"}
	}
	*s = decoded
	return nil
}

// DecodeSet reads the set at the start of b and returns what follows it. It
// keeps no reference to b. Bytes that [Set.AppendBinary] would not have written
// are an [EncodingError]; the memory it takes is within a small multiple of
// len(b).
func DecodeSet(b []byte) (s Set, rest []byte, err error) {
	d := decoder{kind: "GTID set", in: b}
	s, err = d.set()
	if err != nil {
		return Set{}, nil, err
	}
	return s, b[d.pos:], nil
}

// AppendBinary implements [encoding.BinaryAppender]: it appends the binary form,
// which [DecodeGTID] reads. A GTID that is neither valid nor zero is an error.
func (g GTID) AppendBinary(b []byte) ([]byte, error) {
	if !g.IsZero() && !g.Valid() {
		return b, fmt.Errorf("GTID %q has no encoding: its tag or its number is out of range", g)
	}
	b = append(b, g.UUID[:]...)
	b = append(b, byte(len(g.Tag)))
	b = append(b, g.Tag...)
	return binary.AppendUvarint(b, g.Number), nil
}

// DecodeGTID reads the GTID at the start of b and returns what follows it. It
// keeps no reference to b. Bytes that [GTID.AppendBinary] would not have written
// are an [EncodingError].
func DecodeGTID(b []byte) (g GTID, rest []byte, err error) {
	d := decoder{kind: "GTID", in: b}
	g, err = d.gtid()
	if err != nil {
		return GTID{}, nil, err
	}
	return g, b[d.pos:], nil
}

// decoder reads parts off the front of in.
type decoder struct {
	kind string
	in   []byte
	pos  int
}

func (d *decoder) left() int { return len(d.in) - d.pos }

// bad makes the error of the part that begins at offset.
func (d *decoder) bad(offset int, reason string) error {
	return &EncodingError{Kind: d.kind, Offset: offset, Reason: reason}
}

// set reads a set. One of a single interval takes no memory but the result's.
func (d *decoder) set() (Set, error) {
	count, err := d.uvarint()
	if err != nil || count == 0 {
		return Set{}, err
	}
	if count > uint64(d.left()/minGroupLen) {
		return Set{}, d.bad(0, "more groups than bytes for them")
	}
	var id tsid
	spans, err := d.head(&id, true)
	if err != nil {
		return Set{}, err
	}
	if count == 1 && spans == 1 {
		only, err := d.span(1)
		return Set{id: id, only: only}, err
	}
	groups := make([]group, 1, count)
	if groups[0], err = d.group(id, spans); err != nil {
		return Set{}, err
	}
	for len(groups) < int(count) {
		start, before := d.pos, id
		if spans, err = d.head(&id, false); err != nil {
			return Set{}, err
		}
		if before.compare(id) >= 0 {
			return Set{}, d.bad(start, "a group out of order")
		}
		g, err := d.group(id, spans)
		if err != nil {
			return Set{}, err
		}
		groups = append(groups, g)
	}
	return seal(groups), nil
}

// head reads the part of a group before its intervals, and returns how many of
// them follow. It replaces in id what differs from the group before.
func (d *decoder) head(id *tsid, first bool) (spans int, err error) {
	start := d.pos
	head, err := d.uvarint()
	if err != nil {
		return 0, err
	}
	if head&headRepeated == 0 {
		before := id.uuid
		if id.uuid, err = d.uuid(); err != nil {
			return 0, err
		}
		if !first && id.uuid == before {
			return 0, d.bad(start, "the UUID of the group before, written out")
		}
	} else if first {
		return 0, d.bad(start, "a first group without a UUID")
	}
	id.tag = ""
	if head&headTagged != 0 {
		if id.tag, err = d.tag(); err != nil {
			return 0, err
		}
		if id.tag == "" {
			return 0, d.bad(start, "an empty tag")
		}
	}
	count := head >> headShift
	if count == 0 || count > uint64(d.left()/minIntervalLen) {
		return 0, d.bad(start, "no intervals, or more of them than bytes for them")
	}
	return int(count), nil
}

// group reads the intervals of a group.
func (d *decoder) group(id tsid, count int) (group, error) {
	spans := make([]span, count)
	least := uint64(1)
	for i := range spans {
		s, err := d.span(least)
		if err != nil {
			return group{}, err
		}
		spans[i] = s
		least = s.last + 2
	}
	return group{id, spans}, nil
}

// span reads an interval that begins at least or later.
func (d *decoder) span(least uint64) (span, error) {
	start := d.pos
	skip, err := d.uvarint()
	if err != nil {
		return span{}, err
	}
	length, err := d.uvarint()
	if err != nil {
		return span{}, err
	}
	if least > MaxNumber || skip > MaxNumber-least || length > MaxNumber-least-skip {
		return span{}, d.bad(start, "a number above the highest")
	}
	first := least + skip
	return span{first, first + length}, nil
}

func (d *decoder) gtid() (g GTID, err error) {
	if g.UUID, err = d.uuid(); err != nil {
		return GTID{}, err
	}
	if g.Tag, err = d.tag(); err != nil {
		return GTID{}, err
	}
	start := d.pos
	if g.Number, err = d.uvarint(); err != nil {
		return GTID{}, err
	}
	if !g.IsZero() && !g.Valid() {
		return GTID{}, d.bad(start, "a number out of range")
	}
	return g, nil
}

func (d *decoder) uuid() (u UUID, err error) {
	if d.left() < len(u) {
		return u, d.bad(d.pos, "a UUID cut short")
	}
	d.pos += copy(u[:], d.in[d.pos:])
	return u, nil
}

// tag reads a tag with its length before it.
func (d *decoder) tag() (Tag, error) {
	start := d.pos
	if d.left() == 0 || int(d.in[start]) >= d.left() {
		return "", d.bad(start, "a tag cut short")
	}
	d.pos += 1 + int(d.in[start])
	tag := Tag(d.in[start+1 : d.pos])
	if !tag.Valid() {
		return "", d.bad(start, "text that is no tag")
	}
	return tag, nil
}

// uvarint reads a varint in its shortest form, whose last byte is not 0 unless
// it is the only one.
func (d *decoder) uvarint() (uint64, error) {
	if d.pos < len(d.in) && d.in[d.pos] < 0x80 {
		d.pos++
		return uint64(d.in[d.pos-1]), nil
	}
	n, size := binary.Uvarint(d.in[d.pos:])
	switch {
	case size == 0:
		return 0, d.bad(d.pos, "a number cut short")
	case size < 0:
		return 0, d.bad(d.pos, "a number of more than 64 bits")
	case size > 1 && d.in[d.pos+size-1] == 0:
		return 0, d.bad(d.pos, "a number not in its shortest form")
	}
	d.pos += size
	return n, nil
}
