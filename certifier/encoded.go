package certifier

import (
	"bytes"
	"encoding/binary"
	"iter"

	"github.com/concordatdb/concordat/internal/wire"
)

// Encoded is a write set as it stands in the log. The zero value is empty.
type Encoded struct {
	counts [Kinds]int
	items  []byte
	spaces []byte
	places []byte
	nrange int
	ranges []byte
}

// DecodeWriteSet takes a write set off the front of b. It aliases b, and takes
// only what [WriteSet.AppendBinary] could have written.
func DecodeWriteSet(b []byte) (e Encoded, rest []byte, err error) {
	d := newDecoder(b, ErrWriteSet)
	total := uint64(0)
	for k := range e.counts {
		n := d.Uvarint()
		if n > MaxItems || total+n > MaxItems {
			d.Fail("more than %d items", MaxItems)
			break
		}
		total += n
		e.counts[k] = int(n)
	}
	spaces, ranges := d.Uvarint(), d.Uvarint()
	placed := uint64(e.counts[Write] + e.counts[Delta])
	if spaces > placed+ranges || ranges > MaxRanges {
		d.Fail("%d key spaces and %d ranges for %d written keys", spaces, ranges, placed)
	}
	if d.Err != nil {
		return Encoded{}, nil, d.Err
	}
	e.nrange = int(ranges)
	e.items = d.Bytes(int(total) * itemLen)
	e.spaces = d.Bytes(int(spaces) * itemLen)
	used := uint64(0)
	e.places = d.section(func() {
		for range placed {
			used = d.place(used)
		}
	})
	e.ranges = d.section(func() {
		for range ranges {
			used = d.scanned(used)
		}
	})
	if d.Err == nil && used != spaces {
		d.Fail("%d key spaces of which %d are used", spaces, used)
	}
	if d.Err != nil {
		return Encoded{}, nil, d.Err
	}
	return e, d.Rest, nil
}

// decoder takes write sets and states apart.
type decoder struct{ wire.Decoder }

func newDecoder(b []byte, kind error) *decoder {
	return &decoder{wire.Decoder{Rest: b, Kind: kind}}
}

// section returns the bytes that read takes.
func (d *decoder) section(read func()) []byte {
	before := d.Rest
	read()
	if d.Err != nil {
		return nil
	}
	n := len(before) - len(d.Rest)
	return before[:n:n]
}

// useSpace checks the number of a key space, of which used have come up: they
// are numbered as they come up, so that a write set has one encoding.
func (d *decoder) useSpace(number, used uint64) uint64 {
	if number > used {
		d.Fail("key space %d where %d can be the next", number, used)
	}
	if number == used {
		return used + 1
	}
	return used
}

func (d *decoder) place(used uint64) uint64 {
	head := d.Uvarint()
	size := d.Bytes(1)
	if d.Err != nil {
		return used
	}
	if n := int(size[0]); n > MaxPlace || (head&1 == 1 && n != MaxPlace) {
		d.Fail("written key of %d bytes, cut %d, the limit is %d", n, head&1, MaxPlace)
	}
	d.Bytes(int(size[0]))
	return d.useSpace(head>>1, used)
}

func (d *decoder) scanned(used uint64) uint64 {
	used = d.useSpace(d.Uvarint(), used)
	for range 2 {
		switch has := d.Bytes(1); {
		case d.Err != nil:
			return used
		case has[0] == 1:
			n := d.Uvarint()
			if n > uint64(len(d.Rest)) {
				d.Fail("bound of %d bytes, %d left", n, len(d.Rest))
			}
			d.Bytes(int(min(n, uint64(len(d.Rest)))))
		case has[0] != 0:
			d.Fail("bound of kind %d", has[0])
		}
	}
	return used
}

// AppendBinary appends the bytes that e was decoded from.
func (e *Encoded) AppendBinary(b []byte) ([]byte, error) {
	for _, n := range e.counts {
		b = binary.AppendUvarint(b, uint64(n))
	}
	b = binary.AppendUvarint(b, uint64(len(e.spaces)/itemLen))
	b = binary.AppendUvarint(b, uint64(e.nrange))
	b = append(b, e.items...)
	b = append(b, e.spaces...)
	b = append(b, e.places...)
	return append(b, e.ranges...), nil
}

// Len is the number of items.
func (e *Encoded) Len() int { return len(e.items) / itemLen }

// Barrier reports whether the transaction does not say what it changes: it
// depends on everything before it, and everything after depends on it. What it
// refers to or reads does not say that.
func (e *Encoded) Barrier() bool { return e.counts[Write]+e.counts[Delta] == 0 }

// Item returns the i-th item.
func (e *Encoded) Item(i int) Item {
	return Item(binary.LittleEndian.Uint64(e.items[i*itemLen:]))
}

// Kind returns the kind of the i-th item, and how many of that kind come before
// it.
func (e *Encoded) Kind(i int) (k Kind, nth int) {
	for ; k < Read && i >= e.counts[k]; k++ {
		i -= e.counts[k]
	}
	return k, i
}

// Count returns the number of items of a kind. They follow each other, in the
// order of the kinds.
func (e *Encoded) Count(k Kind) int { return e.counts[k] }

// Items yields the items with their kinds, in order.
func (e *Encoded) Items() iter.Seq2[Item, Kind] {
	return func(yield func(Item, Kind) bool) {
		i := 0
		for k, n := range e.counts {
			for range n {
				if !yield(e.Item(i), Kind(k)) {
					return
				}
				i++
			}
		}
	}
}

// Place is where a written key lies in its key space.
type Place struct {
	Space Space
	Key   []byte // aliases the write set
	Cut   bool   // the key is longer than Key
}

// Places yields the places of the writes, then of the deltas, in the order of
// their items.
func (e *Encoded) Places() iter.Seq[Place] {
	return func(yield func(Place) bool) {
		for rest := e.places; len(rest) > 0; {
			head, n := binary.Uvarint(rest)
			end := n + 1 + int(rest[n])
			p := Place{Space: e.space(head >> 1), Key: rest[n+1 : end : end], Cut: head&1 == 1}
			if !yield(p) {
				return
			}
			rest = rest[end:]
		}
	}
}

func (e *Encoded) space(number uint64) Space {
	return Space(binary.LittleEndian.Uint64(e.spaces[number*itemLen:]))
}

// Scanned is a range of a key space that a transaction has scanned.
type Scanned struct {
	Space    Space
	From, To []byte // alias the write set
	Bounded  [2]bool
}

// Ranges yields the scanned ranges in the order in which they were noted.
func (e *Encoded) Ranges() iter.Seq[Scanned] {
	return func(yield func(Scanned) bool) {
		for rest := e.ranges; len(rest) > 0; {
			number, n := binary.Uvarint(rest)
			r := Scanned{Space: e.space(number)}
			rest = rest[n:]
			for i, bound := range [2]*[]byte{&r.From, &r.To} {
				r.Bounded[i] = rest[0] == 1
				rest = rest[1:]
				if r.Bounded[i] {
					size, n := binary.Uvarint(rest)
					end := n + int(size)
					*bound, rest = rest[n:end:end], rest[end:]
				}
			}
			if !yield(r) {
				return
			}
		}
	}
}

// RangeCount is the number of scanned ranges.
func (e *Encoded) RangeCount() int { return e.nrange }

// Covers reports whether p is in the range, or may be: of a key that was cut
// only the beginning is known.
func (r *Scanned) Covers(p Place) bool {
	if p.Space != r.Space {
		return false
	}
	if r.Bounded[0] {
		from := r.From
		if p.Cut {
			from = from[:min(len(from), len(p.Key))]
		}
		if bytes.Compare(p.Key, from) < 0 {
			return false
		}
	}
	return !r.Bounded[1] || bytes.Compare(p.Key, r.To) < 0
}
