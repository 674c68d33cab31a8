package gcs

import "fmt"

// sender holds what this member has broadcast and not yet seen delivered.
//
// Frames are cut from what is waiting whenever there is room in the window:
// an idle member sends a lone message at once, a busy one gathers while
// earlier frames are under way. No timer is involved. With two frames under
// way, a third has to be worth a log entry: measured with 64 callers in
// process, cutting at once whatever waits took 0.15 log fsyncs a commit over
// three members, and this takes 0.11.
type sender struct {
	header      frameHeader // origin and session; seq of the last frame cut
	waiting     [][]byte
	taken       uint64   // messages that were put into frames
	alone       []uint64 // messages that share a frame with no other, by their number, of those waiting
	outstanding []outstanding
	bytes       int // of outstanding
	limits      Limits
	// quiet counts ticks since something was last delivered or all was sent
	// again.
	quiet int
	// refused is the first frame that the leader refused, 0 for none. While
	// there is one nothing is cut: what comes behind it could not be
	// delivered.
	refused uint64
	// passed is the last frame that all have passed over since one before it was
	// not there yet, 0 for none. It may have been lost, or it stands behind it in
	// the log; what was passed over has to come again in either case. While there
	// is one nothing is cut, as with one that was refused.
	passed uint64
	held   int // ticks since there is either
	pause  int // ticks to wait before it is sent again, doubled each time
}

type outstanding struct {
	seq   uint64
	entry []byte
}

func newSender(origin, session uint64, limits Limits) sender {
	if limits.WindowBytes == 0 {
		limits.WindowBytes = defaultWindowBytes
	}
	if limits.EagerFrames == 0 {
		limits.EagerFrames = defaultEagerFrames
	}
	return sender{header: frameHeader{origin: origin, session: session}, limits: limits, pause: 1}
}

// submit puts a message behind those already waiting.
func (s *sender) submit(msg []byte) { s.waiting = append(s.waiting, msg) }

// submitAlone is submit for a message that shares a frame with no other.
func (s *sender) submitAlone(msg []byte) {
	s.alone = append(s.alone, s.taken+uint64(len(s.waiting)))
	s.submit(msg)
}

// next returns how many messages go into the next frame, and their size.
func (s *sender) next() (n, size int) {
	most := min(len(s.waiting), MaxFrameMessages)
	if len(s.alone) > 0 {
		most = min(most, max(1, int(s.alone[0]-s.taken)))
	}
	for n < most {
		more := len(s.waiting[n])
		if n > 0 && size+more > s.limits.FrameBytes {
			break
		}
		size += more
		n++
	}
	return n, size
}

// cut makes the next frame, nil when nothing waits or the window is full.
func (s *sender) cut() []byte {
	if len(s.waiting) == 0 || s.refused != 0 || s.passed != 0 || len(s.outstanding) >= s.limits.WindowFrames {
		return nil
	}
	n, size := s.next()
	if len(s.outstanding) > 0 && s.bytes+size > s.limits.WindowBytes {
		return nil
	}
	if len(s.outstanding) >= s.limits.EagerFrames && n == len(s.waiting) && size < s.limits.FrameBytes/8 {
		return nil
	}
	s.header.seq++
	entry := appendFrame(make([]byte, 0, size+n*3+32), s.header, s.waiting[:n])
	s.bytes += len(entry)
	clear(s.waiting[:n])
	s.waiting = s.waiting[n:]
	if len(s.alone) > 0 && s.alone[0] == s.taken {
		s.alone = s.alone[1:]
	}
	s.taken += uint64(n)
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
	s.bytes -= len(s.outstanding[0].entry)
	s.outstanding[0] = outstanding{}
	s.outstanding = s.outstanding[1:]
	s.quiet, s.pause = 0, 1
	if s.refused <= seq {
		s.refused = 0
	}
	if s.passed <= seq {
		s.passed = 0
	}
	if s.refused == 0 && s.passed == 0 {
		s.held = 0
	}
}

// refuse notes that the leader did not take a frame that is still outstanding.
func (s *sender) refuse(seq uint64) {
	if first := s.first(); first == 0 || seq < first || seq > s.header.seq {
		return
	}
	if s.refused == 0 || seq < s.refused {
		s.refused = seq
	}
}

// passOver notes that a frame was ordered and delivered by nobody. If it is still
// outstanding, one before it is missing.
func (s *sender) passOver(seq uint64) {
	if first := s.first(); first != 0 && first < seq && seq <= s.header.seq {
		s.passed = max(s.passed, seq)
	}
}

// tick lets time pass, and returns the frame from which on all are to be sent
// again, 0 for none. Those before a refused one are in the leader's log, and
// would only be there twice; if they got lost, silence tells, or one behind them
// that is passed over. At first either costs a tick, under a leader that stays
// short of room more and more.
func (s *sender) tick() (from uint64) {
	if s.quiet++; s.quiet >= resendTicks {
		return s.first()
	}
	if s.refused == 0 && s.passed == 0 {
		return 0
	}
	if s.held++; s.held < s.pause {
		return 0
	}
	s.pause = min(2*s.pause, resendTicks)
	if s.passed != 0 {
		return s.first()
	}
	return s.refused
}

// from returns the outstanding frames from one on, for sending them again.
func (s *sender) from(seq uint64) []outstanding {
	first := s.first()
	if first == 0 {
		return nil
	}
	s.refused, s.passed, s.held = 0, 0, 0
	if seq <= first {
		s.quiet = 0
		return s.outstanding
	}
	return s.outstanding[seq-first:]
}

// first is the sequence number of the first outstanding frame, 0 if none.
func (s *sender) first() uint64 {
	if len(s.outstanding) == 0 {
		return 0
	}
	return s.outstanding[0].seq
}
