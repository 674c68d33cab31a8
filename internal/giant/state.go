package giant

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"slices"

	"github.com/concordatdb/concordat/internal/wire"
)

// AppendState appends what the assembly knows from the log. What the log holds is
// only named.
//
//	state    := uvarint clock, count  giant*
//	giant    := uvarint origin, session, heard, sum, count  fragment*
//	fragment := uvarint index  uvarint message, size  |  0 uvarint size  bytes
//
// The second form is of bytes that are in no log.
func (a *Assembly) AppendState(b []byte) []byte {
	b = a.appendHead(b)
	for _, p := range a.pending {
		b = p.appendHead(b)
		for i := range p.fragments {
			f := &p.fragments[i]
			if f.index == 0 {
				b = appendCopied(b, f.data)
				continue
			}
			b = binary.AppendUvarint(b, f.index)
			b = binary.AppendUvarint(b, uint64(f.message))
			b = binary.AppendUvarint(b, uint64(f.size))
		}
	}
	return b
}

// AppendCopy appends the same state for another member, which need not have the
// log: with all bytes.
func (a *Assembly) AppendCopy(b []byte, s Source) ([]byte, error) {
	b = a.appendHead(b)
	var u unpacker
	for _, p := range a.pending {
		b = p.appendHead(b)
		for i := range p.fragments {
			data, err := p.piece(i, s, &u)
			if err != nil {
				return nil, err
			}
			b = appendCopied(b, data)
		}
	}
	return b, nil
}

func (a *Assembly) appendHead(b []byte) []byte {
	b = binary.AppendUvarint(b, a.clock)
	return binary.AppendUvarint(b, uint64(len(a.pending)))
}

func (p *pending) appendHead(b []byte) []byte {
	for _, n := range []uint64{p.origin, p.session, p.heard, uint64(p.sum), uint64(len(p.fragments))} {
		b = binary.AppendUvarint(b, n)
	}
	return b
}

func appendCopied(b, data []byte) []byte {
	b = binary.AppendUvarint(append(b, 0), uint64(len(data)))
	return append(b, data...)
}

// Restore takes an assembly that AppendState or AppendCopy appended off the front
// of b, of a member that holds at most so many bytes in memory. It keeps b.
func Restore(b []byte, memory int) (a *Assembly, rest []byte, err error) {
	d := wire.Decoder{Rest: b, Kind: ErrState}
	a = NewAssembly(memory)
	a.clock = d.Uvarint()
	for count := d.Uvarint(); count > 0 && d.Err == nil; count-- {
		p := takePending(&d)
		switch {
		case d.Err != nil:
		case p.heard > a.clock:
			d.Fail("a fragment came at %d, the clock is at %d", p.heard, a.clock)
		case len(a.pending) > 0 && a.pending[len(a.pending)-1].origin >= p.origin:
			d.Fail("the giant of %d follows another one", p.origin)
		default:
			a.pending = append(a.pending, p)
		}
	}
	if d.Err != nil {
		return nil, nil, d.Err
	}
	return a, d.Rest, nil
}

func takePending(d *wire.Decoder) *pending {
	p := &pending{origin: d.Uvarint(), session: d.Uvarint(), heard: d.Uvarint()}
	sum, count := d.Uvarint(), d.Uvarint()
	p.sum = uint32(sum)
	if d.Err == nil && (p.origin == 0 || p.session == 0 || sum != uint64(p.sum) || count == 0 || count > MaxFragments) {
		d.Fail("giant of %d in session %d with %d fragments and checksum %d", p.origin, p.session, count, sum)
	}
	// A fragment takes three bytes at least.
	if count > uint64(len(d.Rest))/3 {
		d.Fail("%d fragments in %d bytes", count, len(d.Rest))
		return p
	}
	p.fragments = make([]piece, 0, count)
	copied := uint32(0)
	for range count {
		f := takePiece(d)
		last := piece{}
		if n := len(p.fragments); n > 0 {
			last = p.fragments[n-1]
		}
		switch {
		case d.Err != nil:
			return p
		case f.size == 0 || f.size > MaxFragmentBytes || f.size > MaxBytes-p.bytes:
			d.Fail("a fragment of %d bytes behind %d", f.size, p.bytes)
		case f.index == 0 && last.index != 0, f.index != 0 && (f.index < last.index || f.index == last.index && f.message <= last.message):
			d.Fail("the fragment at %d, %d follows the one at %d, %d", f.index, f.message, last.index, last.message)
		}
		p.bytes += f.size
		copied = crc32.Update(copied, castagnoli, f.data)
		p.fragments = append(p.fragments, f)
	}
	if d.Err == nil && p.fragments[count-1].index == 0 && copied != p.sum {
		d.Fail("the checksum of what is held of %d does not match", p.origin)
	}
	return p
}

func takePiece(d *wire.Decoder) (f piece) {
	if f.index = d.Uvarint(); f.index == 0 {
		f.size = int(min(d.Uvarint(), MaxBytes))
		f.data = d.Bytes(f.size)
		return f
	}
	f.message, f.size = int(min(d.Uvarint(), MaxBytes)), int(min(d.Uvarint(), MaxBytes))
	return f
}

// Check returns an error unless the state can be one after the log entry at an
// index, of a log that begins at first.
func (a *Assembly) Check(first, index uint64) error {
	for _, p := range a.pending {
		i := slices.IndexFunc(p.fragments, func(f piece) bool { return f.index != 0 })
		if i < 0 {
			continue
		}
		if begin, end := p.fragments[i].index, p.fragments[len(p.fragments)-1].index; begin < first || end > index {
			return fmt.Errorf("%w: fragments of %d at %d to %d, the log begins at %d and the state is of %d",
				ErrState, p.origin, begin, end, first, index)
		}
	}
	return nil
}

// Origins are those with a giant, ascending.
func (a *Assembly) Origins() (ids []uint64) {
	for _, p := range a.pending {
		ids = append(ids, p.origin)
	}
	return ids
}
