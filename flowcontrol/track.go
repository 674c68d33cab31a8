package flowcontrol

import (
	"math"
	"time"
)

const (
	// halfLife is how old a measurement is that counts for a half.
	halfLife = time.Second
	// leastBusy is how long an engine must have been busy, of late, for what it did
	// to say what it can do.
	leastBusy = 0.1
	// stillness is for how many seconds an engine must have done nothing, with work,
	// to be taken for one that stood still.
	stillness = 1.0
)

// track is what a controller remembers of a member.
type track struct {
	id     uint64
	last   Sample
	period Sample // at the end of the last period of ModeQuota

	// served, applied and busy are of late, in cost, transactions and seconds:
	// what was before counts less and less.
	served, applied, busy float64
	stood                 float64       // seconds of work in which it has done nothing
	resumed               work          // the first that it did after it had stood still
	offered, local        float64       // of late as well
	span                  float64       // and the time of those two, in seconds
	capacity              float64       // cost a second, 0 while not known
	demand                float64       // cost a second
	mean                  float64       // cost of a transaction, 0 while not known
	held                  bool          // somebody had to wait there since the step before
	still                 time.Duration // for which nothing was applied there, and something waited
}

// work is the cost of what an engine did, and the seconds that it took.
type work struct{ served, busy float64 }

func newTrack(m *Member) track { return track{id: m.ID, last: m.Sample, period: m.Sample} }

// follow takes up a sample. Totals that fall are of a new run.
func (t *track) follow(s *Sample, elapsed time.Duration) {
	if s.Certified < t.last.Certified || s.Applied < t.last.Applied || s.Busy < t.last.Busy || s.Offered < t.last.Offered || s.Held < t.last.Held {
		t.last, t.period, t.still = *s, *s, 0
		return
	}
	if t.still += elapsed; s.Backlog == 0 || s.Applied != t.last.Applied {
		t.still = 0
	}
	keep := math.Exp2(-elapsed.Seconds() / halfLife.Seconds())
	decay := func(v *float64, now, before uint64) { *v = *v*keep + float64(now-before) }
	decay(&t.applied, s.Applied, t.last.Applied)
	decay(&t.offered, s.Offered, t.last.Offered)
	decay(&t.local, s.Local, t.last.Local)
	t.span = t.span*keep + elapsed.Seconds()
	t.measure(work{float64(s.Served - t.last.Served), float64(s.Busy-t.last.Busy) / 1e6}, keep)
	if t.applied >= 1 {
		t.mean = max(1, t.served/t.applied)
	}
	t.demand = 0
	if t.span > 0 {
		t.demand = t.offered / t.span
	}
	t.held = s.Held > t.last.Held || s.Queue > 0
	t.last = *s
}

// measure takes up what the engine did. Once it goes on after it had stood still, that
// it stood says nothing of what it can do; but a store that was busy with one large
// thing goes on once, and has nothing to tell again for a while.
func (t *track) measure(w work, keep float64) {
	t.served, t.busy = t.served*keep+w.served, t.busy*keep+w.busy
	switch {
	case w.served == 0:
		t.stood += w.busy
		t.resumed = work{}
	case t.stood >= stillness:
		t.stood, t.resumed = 0, w
	default:
		if t.resumed.served > 0 {
			t.served, t.busy = t.resumed.served+w.served, t.resumed.busy+w.busy
		}
		t.stood, t.resumed = 0, work{}
	}
	if t.busy >= leastBusy {
		t.capacity = t.served / t.busy
	} else { // or a low limit would leave it idle, and so never be known to be too low
		t.capacity = max(t.capacity, t.served/leastBusy)
	}
}

// size is what a transaction costs there on the average.
func (t *track) size() float64 {
	if t.mean == 0 {
		return firstSize
	}
	return t.mean
}

// backlog is the cost of what the member has yet to do.
func (t *track) backlog() float64 {
	return float64(t.last.Backlog) + float64(t.last.WaitingCertify)*t.size()
}

// lag is how long the backlog will take. That tells at once what the age of its
// oldest transaction will tell once that has waited; but an engine that does
// nothing has no capacity, and there the age counts.
func (t *track) lag() time.Duration {
	b := t.backlog()
	if b == 0 {
		return 0
	}
	if t.capacity < 1 {
		return t.last.Age()
	}
	return time.Duration(min(b/t.capacity, MaxLag.Seconds()) * float64(time.Second))
}

// record is what the formula of ModeQuota takes, and begins its next period.
func (t *track) record() record {
	s, p := &t.last, &t.period
	r := record{
		certified: int64(s.Certified - p.Certified), applied: int64(s.Remote - p.Remote), local: int64(s.Local - p.Local),
		waitingCertify: int64(min(s.WaitingCertify, math.MaxInt32)), waitingApplier: int64(min(s.WaitingRemote, math.MaxInt32)),
	}
	t.period = t.last
	return r
}
