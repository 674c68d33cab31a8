package giant

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"github.com/klauspost/compress/zstd"

	"github.com/concordatdb/concordat/internal/wire"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// The forms of a fragment. The values are part of the log format.
const (
	formPlain = 0
	formZstd  = 1
)

const (
	// packFrom is the size from which a fragment is packed. Below it the
	// attempt costs more than it can save.
	packFrom = 1 << 10
	// packGain is the part of a fragment that packing has to save.
	packGain = 16
)

// fragment is one as it stands in the log, still packed.
type fragment struct {
	number int // from 0
	form   byte
	size   int // of what it holds
	bytes  []byte
}

// append appends the fragment.
//
//	fragment := uvarint number  0 bytes | 1 uvarint size  bytes
//
// The first form holds a slice of the body as it is, the second one as one zstd
// frame.
func (f *fragment) append(b []byte) []byte {
	b = append(binary.AppendUvarint(b, uint64(f.number)), f.form)
	if f.form != formPlain {
		b = binary.AppendUvarint(b, uint64(f.size))
	}
	return append(b, f.bytes...)
}

// decodeFragment takes a fragment apart. The result aliases b. What is packed is
// not looked at.
func decodeFragment(b []byte) (f fragment, err error) {
	d := wire.Decoder{Rest: b, Kind: ErrFragment}
	number := d.Uvarint()
	form := d.Bytes(1)
	switch {
	case d.Err != nil:
		return fragment{}, d.Err
	case form[0] == formPlain:
		f = fragment{form: formPlain, size: len(d.Rest), bytes: d.Rest}
	case form[0] == formZstd:
		size := d.Uvarint()
		if size > MaxFragmentBytes || size <= uint64(len(d.Rest)) {
			d.Fail("%d bytes are packed in %d", size, len(d.Rest))
		}
		f = fragment{form: formZstd, size: int(size), bytes: d.Rest}
	default:
		d.Fail("form %d", form[0])
	}
	if number >= MaxFragments || f.size == 0 || f.size > MaxFragmentBytes {
		d.Fail("fragment %d of %d bytes", number, f.size)
	}
	f.number = int(number)
	if d.Err != nil {
		return fragment{}, d.Err
	}
	return f, nil
}

// unpacker gets out what fragments hold. The zero value is ready for use.
type unpacker struct{ zstd *zstd.Decoder }

// body returns what a fragment holds. It aliases a plain one.
func (u *unpacker) body(f *fragment) (_ []byte, err error) {
	if f.form == formPlain {
		return f.bytes, nil
	}
	if u.zstd == nil {
		u.zstd, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(MaxFragmentBytes))
		if err != nil {
			return nil, fmt.Errorf("giant: zstd: %w", err)
		}
	}
	b, err := u.zstd.DecodeAll(f.bytes, make([]byte, 0, f.size))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFragment, err)
	}
	if len(b) != f.size {
		return nil, fmt.Errorf("%w: %d bytes are packed, it says %d", ErrFragment, len(b), f.size)
	}
	return b, nil
}

// Writer cuts a body into fragments as it is written. It belongs to one
// goroutine.
type Writer struct {
	kind  byte
	size  int
	held  []byte // not cut yet
	parts [][]byte
	total Total
	zstd  *zstd.Encoder
}

// NewWriter makes a writer of messages that begin with kind, each holding size
// bytes of the body, at least one and at most MaxFragmentBytes.
func NewWriter(kind byte, size int) (*Writer, error) {
	size = max(1, min(size, MaxFragmentBytes))
	packer, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest),
		zstd.WithEncoderCRC(false), zstd.WithSingleSegment(true), zstd.WithWindowSize(MaxFragmentBytes))
	if err != nil {
		return nil, fmt.Errorf("giant: zstd: %w", err)
	}
	return &Writer{kind: kind, size: size, zstd: packer, held: make([]byte, 0, size)}, nil
}

// Add writes the next bytes of the body, which stay the caller's.
func (w *Writer) Add(b []byte) {
	for len(b) > 0 {
		n := min(len(b), w.size-len(w.held))
		w.held = append(w.held, b[:n]...)
		b = b[n:]
		if len(w.held) == w.size {
			w.cut()
		}
	}
}

// Size is how much of the body was written.
func (w *Writer) Size() int { return w.total.Bytes + len(w.held) }

// cut makes a fragment of what is held.
func (w *Writer) cut() {
	f := fragment{number: w.total.Fragments, form: formPlain, size: len(w.held), bytes: w.held}
	if f.size >= packFrom {
		if packed := w.zstd.EncodeAll(w.held, nil); len(packed) <= f.size-f.size/packGain {
			f.form, f.bytes = formZstd, packed
		}
	}
	w.parts = append(w.parts, f.append(append(make([]byte, 0, len(f.bytes)+12), w.kind)))
	w.total.Fragments++
	w.total.Bytes += len(w.held)
	w.total.Sum = crc32.Update(w.total.Sum, castagnoli, w.held)
	w.held = w.held[:0]
}

// Finish returns the messages, which are the caller's, and what their end has to
// say of them. The writer is of no use after it.
func (w *Writer) Finish() ([][]byte, Total) {
	if len(w.held) > 0 {
		w.cut()
	}
	w.held = nil
	return w.parts, w.total
}
