package concordat

import (
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/concordatdb/concordat/gtid"
)

func TestMeter(t *testing.T) {
	type at = sample
	const s = time.Second
	steady := func(from, to time.Duration, perSecond uint64) (samples []sample) {
		for now := from; now <= to; now += s / 10 {
			samples = append(samples, at{now, perSecond * uint64(now) / uint64(s)})
		}
		return samples
	}
	for name, test := range map[string]struct {
		samples []sample
		now     time.Duration
		want    float64
	}{
		"nothing":         {nil, s, 0},
		"a beginning":     {[]sample{{0, 0}}, s, 0},
		"two samples":     {[]sample{{0, 0}, {s, 100}}, s, 100},
		"a first second":  {steady(0, s, 1000), s, 1000},
		"a minute":        {steady(0, 60*s, 1000), 60 * s, 1000},
		"a short pause":   {steady(0, 60*s, 1000), 65 * s, 1000 * 5 / 10},
		"a long pause":    {steady(0, 60*s, 1000), 80 * s, 0},
		"a late start":    {[]sample{{0, 500}, {s, 600}}, s, 100},
		"no time at all":  {[]sample{{0, 0}, {0, 100}}, 0, 0},
		"what went back":  {[]sample{{0, 100}, {s, 50}}, s, 0},
		"slow, then fast": {append(steady(0, 30*s, 1), at{40 * s, 10030}), 40 * s, 1000},
	} {
		var m meter
		for _, x := range test.samples {
			m.observe(x.at, x.done)
		}
		if got := m.rate(test.now); math.Abs(got-test.want) > test.want/50 {
			t.Errorf("%s: %v per second, want %v", name, got, test.want)
		}
	}
}

// TestMeterBounds: whatever is observed, the rate lies between the lowest and
// the highest there was, and little is kept.
func TestMeterBounds(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var m meter
		now, done := time.Duration(0), uint64(0)
		low, high := math.Inf(1), 0.0
		m.observe(now, done)
		for range rapid.IntRange(1, 100).Draw(t, "samples") {
			pause := time.Duration(rapid.Int64Range(int64(time.Microsecond), int64(time.Second)).Draw(t, "pause"))
			work := rapid.Uint64Range(1, 1<<30).Draw(t, "work")
			now, done = now+pause, done+work
			rate := float64(work) / pause.Seconds()
			low, high = min(low, rate), max(high, rate)
			m.observe(now, done)
			if got := m.rate(now); got < low*0.999 || got > high*1.001 {
				t.Fatalf("rate %v, it never was outside of %v to %v", got, low, high)
			}
		}
		if len(m.samples) > meterSteps+1 {
			t.Fatalf("%d samples are kept", len(m.samples))
		}
	})
}

func TestTimeLeft(t *testing.T) {
	for _, test := range []struct {
		done, total uint64
		rate        float64
		want        time.Duration
	}{
		{0, 0, 0, 0},
		{0, 100, 0, 0},
		{100, 100, 10, 0},
		{101, 100, 10, 0},
		{0, 100, 10, 10 * time.Second},
		{95, 100, 10, time.Second / 2},
		{0, math.MaxUint64, 1e-9, 1000 * time.Hour},
	} {
		if got := timeLeft(test.done, test.total, test.rate); got != test.want {
			t.Errorf("from %d to %d at %v: %v, want %v", test.done, test.total, test.rate, got, test.want)
		}
	}
}

func TestRecoveryState(t *testing.T) {
	var s recoveryState
	if r, ok := s.report(); ok {
		t.Errorf("nothing to recover from, and yet: %v", r)
	}
	s.follow(10, 20)
	since := mustReport(t, &s).Since
	s.follow(15, 30)
	if r := mustReport(t, &s); r.Method != RecoveryLog || r.Position != 15 || r.Target != 30 || r.Since != since {
		t.Errorf("replay: %+v", r)
	}
	donor := gtid.UUID{1}
	s.beginClone(donor, "a:1")
	s.size(100)
	s.advance(30)
	s.advance(30)
	r := mustReport(t, &s)
	if r.Method != RecoveryClone || r.Donor != donor || r.Address != "a:1" || r.Done != 60 || r.Total != 100 || r.Attempt != 1 {
		t.Errorf("clone: %+v", r)
	}
	s.beginClone(gtid.UUID{2}, "b:1")
	if again := mustReport(t, &s); again.Attempt != 2 || again.Since != r.Since || again.Done != 0 || again.Total != 0 || again.Address != "b:1" {
		t.Errorf("clone from another donor: %+v", again)
	}
	s.end()
	if r, ok := s.report(); ok {
		t.Errorf("ended, and yet: %v", r)
	}
}

func mustReport(t *testing.T, s *recoveryState) Recovery {
	t.Helper()
	r, ok := s.report()
	if !ok {
		t.Fatal("no report")
	}
	return r
}
