package concordat

import (
	"sync"
	"time"

	"github.com/concordatdb/concordat/gcs"
	"github.com/concordatdb/concordat/internal/consistency"
	"github.com/concordatdb/concordat/internal/replica"
)

// reads are the questions of one life for how far a member must be, and what
// their answers tell of the age of what it shows.
type reads struct {
	mu      sync.Mutex
	clock   clock
	fresh   consistency.Freshness
	last    uint64 // ticket
	waiting map[uint64]chan uint64
	wanted  time.Duration // when somebody last asked for a bounded age
	bounded bool          // somebody has
	// refreshing is the ticket of the question that nobody waits for, 0 when there
	// is none. There is one at a time: without a leader none is ever answered.
	refreshing uint64
}

// ask notes a question that is to be put at once. The answer is a log index.
func (r *reads) ask() (ticket uint64, answer <-chan uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := make(chan uint64, 1)
	if r.waiting == nil {
		r.waiting = map[uint64]chan uint64{}
	}
	r.next()
	r.waiting[r.last] = c
	return r.last, c
}

func (r *reads) next() {
	r.last++
	r.fresh.Asked(r.last, r.clock.now())
}

// drop forgets who waits. The answer still dates what is visible.
func (r *reads) drop(ticket uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.waiting, ticket)
}

// answer tells those who wait.
func (r *reads) answer(answers []replica.ReadAnswer) {
	if len(answers) == 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, a := range answers {
		r.fresh.Answered(a.Ticket, a.Index)
		if a.Ticket == r.refreshing {
			r.refreshing = 0
		}
		if c, ok := r.waiting[a.Ticket]; ok {
			delete(r.waiting, a.Ticket)
			c <- a.Index
		}
	}
}

// bound begins the wait for data that are at most so old. The returned function
// reports whether those up to a log index are.
func (r *reads) bound(atMost time.Duration) (young func(visible uint64) bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.clock.now()
	r.wanted, r.bounded = now, true
	return func(visible uint64) bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		at, ok := r.fresh.Known(visible)
		return ok && at+atMost >= now
	}
}

// age returns how old what is visible up to a log index may be, NotKnown if
// nothing is known of that.
func (r *reads) age(visible uint64) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	at, ok := r.fresh.Known(visible)
	if !ok {
		return NotKnown
	}
	return r.clock.now() - at
}

// While somebody has asked for a bounded age within refreshFor, what is visible is
// dated anew every refreshTicks: then the next one need not ask.
const (
	refreshFor   = 10 * time.Second
	refreshTicks = 2
)

// refresh returns the ticket of a question that nobody waits for, if one is due.
func (r *reads) refresh() (ticket uint64, due bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.bounded || r.refreshing != 0 || r.clock.now()-r.wanted > refreshFor {
		return 0, false
	}
	r.next()
	r.refreshing = r.last
	return r.last, true
}

// inTicks is an age in ticks, rounded up.
func (n *Node) inTicks(age time.Duration) uint64 {
	if age == NotKnown {
		return gcs.NeverHeard
	}
	return min(uint64(n.cfg.ticks(age)), gcs.NeverHeard)
}

// clock tells how much time has passed in the world. While a machine is suspended
// its monotonic clock may stand still, and its wall clock may be set back at any
// time: from one look to the next, the one that went further counts. The zero value
// begins with the first look. Its user holds a lock.
type clock struct {
	mono, wall time.Time // when it was looked at last
	passed     time.Duration
}

func (c *clock) now() time.Duration {
	t := time.Now()
	return c.at(t, t.Round(0))
}

// at is now by given clocks, of which the first has a monotonic reading.
func (c *clock) at(mono, wall time.Time) time.Duration {
	if !c.mono.IsZero() {
		c.passed += max(0, mono.Sub(c.mono), wall.Sub(c.wall))
	}
	c.mono, c.wall = mono, wall
	return c.passed
}
