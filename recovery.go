package concordat

import (
	"slices"
	"sync"
	"time"

	"github.com/concordatdb/concordat/gcs"
	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/proto/concordat/peer/v1"
)

// RecoveryMethod says how a member catches up with its group.
type RecoveryMethod string

// The methods of distributed recovery.
const (
	// RecoveryLog replays what the member missed, from the logs of others.
	RecoveryLog RecoveryMethod = "log"
	// RecoveryClone copies the whole state of another member, because the logs
	// do not reach back far enough, or because the data here are of no use.
	RecoveryClone RecoveryMethod = "clone"
)

// Recovery tells how far a member is that catches up.
type Recovery struct {
	Method RecoveryMethod
	Since  time.Time // when this member began to catch up

	// Of a clone: whom the state is copied from, how many bytes have come and
	// will come in all (0 until the donor has said), and which donor in a row
	// this is, counted from 1.
	Donor       gtid.UUID
	Address     string
	Done, Total uint64
	Attempt     int

	// Of a replay: the log index applied, and the one to reach. The group goes
	// on meanwhile, so the target moves.
	Position, Target uint64

	// Rate is what was done lately, in bytes or log entries per second. Left is
	// how long the rest takes at that rate; 0 if that cannot be said.
	Rate float64
	Left time.Duration
}

// recoveryState is what a node knows about its own recovery. Its zero value is
// of a member that has nothing to catch up with. All methods are safe for
// concurrent use.
type recoveryState struct {
	mu    sync.Mutex
	now   Recovery // Method is empty when there is nothing to report
	meter meter
	// named are the members of the group by its last word: when it took this one in,
	// or when it was asked for this one's place. Until there is a view here, nothing
	// else tells whom to copy from; and the view may be long past.
	named []gcs.Member
	heard []uint64 // raft ids of those that speak to this member while it copies
}

// introduce notes who is in the group.
func (s *recoveryState) introduce(members []*peerpb.Identity) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.named = nil
	for _, m := range members {
		named := gcs.Member{RaftID: m.GetRaftId(), Address: m.GetAddress()}
		copy(named.UUID[:], m.GetMember())
		s.named = append(s.named, named)
	}
}

// introduced returns who was said to be in the group.
func (s *recoveryState) introduced() []gcs.Member {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.named)
}

// hear notes that somebody speaks to this member, which has nothing to answer with.
func (s *recoveryState) hear(raftID uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.heard = gcs.Hear(s.heard, raftID)
}

// hears returns the raft ids of those that speak to this member.
func (s *recoveryState) hears() []uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.heard)
}

// beginClone notes that another member's state is about to be copied.
func (s *recoveryState) beginClone(donor gtid.UUID, address string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.now
	s.now = Recovery{Method: RecoveryClone, Donor: donor, Address: address, Attempt: 1, Since: time.Now()}
	if before.Method == RecoveryClone {
		s.now.Attempt, s.now.Since = before.Attempt+1, before.Since
	}
	s.meter = meter{}
}

// size notes how many bytes the copy has in all.
func (s *recoveryState) size(total uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now.Total = total
}

// advance notes that n more bytes of the copy have come.
func (s *recoveryState) advance(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now.Done += uint64(n)
	s.meter.observe(time.Since(s.now.Since), s.now.Done)
}

// follow notes how far the replay of the log is, and that it has begun if it
// had not.
func (s *recoveryState) follow(position, target uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.now.Method != RecoveryLog {
		s.now = Recovery{Method: RecoveryLog, Since: time.Now()}
		s.meter = meter{}
	}
	s.now.Position, s.now.Target = position, target
	s.meter.observe(time.Since(s.now.Since), position)
}

// end notes that there is nothing to catch up with any more, or that the member
// has given up.
func (s *recoveryState) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now, s.meter = Recovery{}, meter{}
}

// report tells how far the member is; not ok if it does not catch up.
func (s *recoveryState) report() (r Recovery, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r = s.now
	if r.Method == "" {
		return r, false
	}
	done, total := r.Done, r.Total
	if r.Method == RecoveryLog {
		done, total = r.Position, r.Target
	}
	r.Rate = s.meter.rate(time.Since(r.Since))
	r.Left = timeLeft(done, total, r.Rate)
	return r, true
}

// A meter looks at the last meterWindow, in steps.
const (
	meterSteps  = 20
	meterWindow = 10 * time.Second
	meterStep   = meterWindow / meterSteps
)

// meter estimates a rate from how far something was at which time. It knows no
// clock: times are durations since some moment, and do not go back.
type meter struct {
	samples []sample // a step or more apart but for the last, oldest first
}

type sample struct {
	at   time.Duration
	done uint64
}

// observe notes how far it is now.
func (m *meter) observe(now time.Duration, done uint64) {
	s := sample{at: now, done: done}
	if n := len(m.samples); n >= 2 && now-m.samples[n-2].at < meterStep {
		m.samples[n-1] = s
		return
	}
	if m.samples = append(m.samples, s); len(m.samples) > meterSteps+1 {
		m.samples = append(m.samples[:0], m.samples[1:]...)
	}
}

// rate returns how much was done per second of late: between the newest sample
// that is a window old, or else the first, and now. 0 if nothing is known.
func (m *meter) rate(now time.Duration) float64 {
	if len(m.samples) < 2 {
		return 0
	}
	from := m.samples[0]
	for _, s := range m.samples {
		if now-s.at >= meterWindow {
			from = s
		}
	}
	last := m.samples[len(m.samples)-1]
	if now <= from.at || last.done <= from.done {
		return 0
	}
	return float64(last.done-from.done) / (now - from.at).Seconds()
}

// timeLeft returns how long it takes from done to total at that rate, 0 if it
// cannot be told.
func timeLeft(done, total uint64, rate float64) time.Duration {
	const most = 1000 * time.Hour
	if done >= total || rate <= 0 {
		return 0
	}
	seconds := float64(total-done) / rate
	if seconds >= most.Seconds() {
		return most
	}
	return time.Duration(seconds * float64(time.Second))
}
