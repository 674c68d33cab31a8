package gcs

import "fmt"

// sender holds what this member has broadcast and not yet seen delivered.
//
// Frames are cut from what is waiting whenever there is room in the window:
// an idle member sends a lone message at once, a busy one gathers while
// earlier frames are under way. No timer is involved.
type sender struct {
	header      frameHeader // origin and session; seq of the last frame cut
	waiting     [][]byte
	outstanding []outstanding
	limits      Limits
	// quiet counts ticks since something was last delivered or sent again.
	quiet int
}

type outstanding struct {
	seq   uint64
	entry []byte
}

func newSender(origin, session uint64, limits Limits) sender {
	return sender{header: frameHeader{origin: origin, session: session}, limits: limits}
}

// submit puts a message behind those already waiting.
func (s *sender) submit(msg []byte) { s.waiting = append(s.waiting, msg) }

// cut makes the next frame, nil when nothing waits or the window is full.
func (s *sender) cut() []byte {
	if len(s.waiting) == 0 || len(s.outstanding) >= s.limits.WindowFrames {
		return nil
	}
	n, size := 0, 0
	for n < len(s.waiting) && n < MaxFrameMessages {
		size += len(s.waiting[n])
		if n > 0 && size > s.limits.FrameBytes {
			break
		}
		n++
	}
	s.header.seq++
	entry := appendFrame(make([]byte, 0, size+n*3+32), s.header, s.waiting[:n])
	clear(s.waiting[:n])
	s.waiting = s.waiting[n:]
	if len(s.waiting) == 0 {
		s.waiting = nil
	}
	if len(s.outstanding) == 0 {
		s.quiet = 0
	}
	s.outstanding = append(s.outstanding, outstanding{seq: s.header.seq, entry: entry})
	return entry
}

// delivered removes a frame of this session that has come back in order.
func (s *sender) delivered(seq uint64) {
	if len(s.outstanding) == 0 || s.outstanding[0].seq != seq {
		panic(fmt.Sprintf("gcs: own frame %d delivered, %d outstanding from %d", seq, len(s.outstanding), s.first()))
	}
	s.outstanding[0] = outstanding{}
	s.outstanding = s.outstanding[1:]
	s.quiet = 0
}

// first is the sequence number of the first outstanding frame, 0 if none.
func (s *sender) first() uint64 {
	if len(s.outstanding) == 0 {
		return 0
	}
	return s.outstanding[0].seq
}
