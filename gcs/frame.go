package gcs

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// ErrFrame marks bytes that are not a frame.
var ErrFrame = errors.New("gcs: malformed frame")

// entryFrame is the first byte of a log entry that holds a frame. Another
// first byte is a later format; a member that does not know it must not guess.
const entryFrame = 1

// MaxFrameMessages bounds the messages of one frame.
const MaxFrameMessages = 4096

// frameHeader says whose frame it is and where it belongs in its origin's
// order.
type frameHeader struct {
	origin  uint64 // raft id
	session uint64 // 1 for the first run of a member
	seq     uint64 // 1 for the first frame of a session
}

// appendFrame appends a log entry holding msgs.
//
//	frame   := 1 uvarint origin, session, seq, count  message*
//	message := uvarint len  bytes
//
// origin, session and seq begin at 1.
func appendFrame(b []byte, h frameHeader, msgs [][]byte) []byte {
	b = append(b, entryFrame)
	b = appendUvarints(b, h.origin, h.session, h.seq, uint64(len(msgs)))
	for _, m := range msgs {
		b = binary.AppendUvarint(b, uint64(len(m)))
		b = append(b, m...)
	}
	return b
}

// decodeFrame returns the header and the messages of a frame. The messages
// alias b; into is reused for them.
func decodeFrame(b []byte, into [][]byte) (frameHeader, [][]byte, error) {
	d := decoder{rest: b}
	if kind := d.byte(); d.bad == "" && kind != entryFrame {
		return frameHeader{}, nil, fmt.Errorf("%w: unknown kind of entry %d", ErrFrame, kind)
	}
	h := frameHeader{origin: d.uvarint(), session: d.uvarint(), seq: d.uvarint()}
	if d.bad == "" && (h.origin == 0 || h.session == 0 || h.seq == 0) {
		d.fail("frame %d of session %d of member %d", h.seq, h.session, h.origin)
	}
	msgs := into[:0]
	for range d.uvarintMax(MaxFrameMessages) {
		msgs = append(msgs, d.bytes(d.uvarint()))
	}
	if err := d.finish(ErrFrame); err != nil {
		return frameHeader{}, nil, err
	}
	return h, msgs, nil
}

// frameHead returns the header and the first message of a frame, which aliases b, nil
// for none. Neither need be right: the rest is not looked at.
func frameHead(b []byte) (h frameHeader, first []byte) {
	d := decoder{rest: b}
	if kind := d.byte(); kind != entryFrame {
		return h, nil
	}
	h = frameHeader{origin: d.uvarint(), session: d.uvarint(), seq: d.uvarint()}
	if d.uvarintMax(MaxFrameMessages) > 0 {
		first = d.bytes(d.uvarint())
	}
	if d.bad != "" {
		return frameHeader{}, nil
	}
	return h, first
}

// FrameMessage returns one message, counted from 0, of the frame that a log entry
// holds. It aliases entry. The error wraps [ErrFrame].
func FrameMessage(entry []byte, n int) ([]byte, error) {
	_, msgs, err := decodeFrame(entry, nil)
	if err != nil {
		return nil, err
	}
	if n < 0 || n >= len(msgs) {
		return nil, fmt.Errorf("%w: message %d of %d", ErrFrame, n, len(msgs))
	}
	return msgs[n], nil
}

// fifo decides which frames are delivered. It is part of the replicated
// state: every member asks it the same questions in the same order.
//
// Invariants, for each origin of the view:
//  1. the frames accepted have sequence numbers 1, 2, 3, … within a session;
//  2. sessions only grow, so nothing of an older session is accepted once a
//     frame of a newer one was.
//
// From these follow "at most once" (a frame sent again has a number that was
// passed) and "in the order sent", whatever raft leaders came and went between.
type fifo struct {
	origins []origin // ascending by id, one for each member of the view
}

type origin struct {
	id      uint64
	session uint64 // 0 before the first frame
	next    uint64 // the sequence number that will be accepted within session
}

func (f *fifo) find(id uint64) *origin {
	for i := range f.origins {
		if f.origins[i].id == id {
			return &f.origins[i]
		}
	}
	return nil
}

// accept reports whether the frame is the next one of its origin, and if so
// moves on.
func (f *fifo) accept(h frameHeader) bool {
	o := f.find(h.origin)
	if o == nil || h.session < o.session {
		return false
	}
	if h.session > o.session {
		if h.seq != 1 {
			return false
		}
		o.session, o.next = h.session, 1
	}
	if h.seq != o.next {
		return false
	}
	o.next++
	return true
}

// expected returns the sequence number that accept waits for, 0 if the frame
// can never be accepted.
func (f *fifo) expected(h frameHeader) uint64 {
	o := f.find(h.origin)
	switch {
	case o == nil || h.session < o.session:
		return 0
	case h.session > o.session:
		return 1
	}
	return o.next
}

// align makes the origins those of the view: a new member starts at nothing,
// one that went takes its place in the order with it.
func (f *fifo) align(v View) {
	origins := make([]origin, 0, len(v.Members))
	for _, m := range v.Members {
		o := origin{id: m.RaftID}
		if known := f.find(m.RaftID); known != nil {
			o = *known
		}
		origins = append(origins, o)
	}
	f.origins = origins
}

func (f *fifo) append(b []byte) []byte {
	b = binary.AppendUvarint(b, uint64(len(f.origins)))
	for _, o := range f.origins {
		b = appendUvarints(b, o.id, o.session, o.next)
	}
	return b
}

func (d *decoder) fifo() fifo {
	var f fifo
	for range d.uvarintMax(MaxMembers) {
		f.origins = append(f.origins, origin{id: d.uvarint(), session: d.uvarint(), next: d.uvarint()})
	}
	return f
}
