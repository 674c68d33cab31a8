package giant

import "fmt"

// Bytes is how long the body is.
func (w *Whole) Bytes() int { return w.bytes }

// Read returns the bytes of the body from one on and before another, which are
// the caller's. An error means that the log could not be read, or that it is not
// what was delivered.
func (w *Whole) Read(from, to int, s Source) ([]byte, error) {
	if from < 0 || to < from || to > w.bytes {
		return nil, fmt.Errorf("giant: bytes %d to %d of a body of %d", from, to, w.bytes)
	}
	out := make([]byte, 0, to-from)
	var u unpacker
	at := 0
	for i := range w.fragments {
		f := &w.fragments[i]
		begin, end := max(from, at), min(to, at+f.size)
		if begin < end {
			data, err := w.piece(i, s, &u)
			if err != nil {
				return nil, err
			}
			out = append(out, data[begin-at:end-at]...)
		}
		at += f.size
	}
	return out, nil
}

// Part is a fragment of a giant that may not have ended. It holds none of the bytes.
type Part struct {
	Giant  uint64 // its number among those that began here
	Number int    // of the fragment, from 0
	piece
}

// PartReader reads what parts hold. The zero value is ready for use, by one goroutine
// at a time.
type PartReader struct{ unpack unpacker }

// Read returns what a part holds, which nobody may change. Once the giant has been
// dropped the log need not have it any more.
func (r *PartReader) Read(p *Part, s Source) ([]byte, error) {
	return p.read(p.Number, s, &r.unpack)
}

// piece returns what a fragment holds.
func (b *body) piece(i int, s Source, u *unpacker) ([]byte, error) {
	if p := &b.fragments[i]; p.data != nil {
		return p.data, nil
	}
	return b.fragments[i].read(i, s, u)
}

// read reads what fragment i holds from the log.
func (p *piece) read(i int, s Source, u *unpacker) ([]byte, error) {
	raw, err := s.Fragment(p.index, p.message)
	if err != nil {
		return nil, err
	}
	f, err := decodeFragment(raw)
	var data []byte
	if err == nil {
		data, err = u.body(&f)
	}
	if err != nil || f.number != i || len(data) != p.size {
		return nil, fmt.Errorf("%w: message %d of entry %d should be fragment %d with %d bytes: fragment %d with %d, error %w",
			ErrLost, p.message, p.index, i, p.size, f.number, len(data), err)
	}
	return data, nil
}
