package bench

import (
	"strings"
	"testing"
	"time"
)

func TestTimes(t *testing.T) {
	empty := newTimes()
	if empty.count() != 0 || empty.percentile(50) != 0 || empty.percentile(99) != 0 || empty.worst() != 0 {
		t.Errorf("none are %d of %v, %v", empty.count(), empty.percentile(50), empty.worst())
	}
	a, b := newTimes(), newTimes()
	for ms := range 100 {
		a.note(time.Duration(ms+1) * time.Millisecond)
	}
	b.note(-time.Second) // a clock that was set back
	b.note(longest + time.Hour)
	a.add(b)
	near := func(got, want float64) bool { return got > 0.999*want && got < 1.001*want }
	if a.count() != 102 || !near(a.percentile(50), 50) || !near(a.percentile(98), 99) || !near(a.worst(), 600_000) {
		t.Errorf("%d: %v, %v, %v", a.count(), a.percentile(50), a.percentile(98), a.worst())
	}
}

func TestNoise(t *testing.T) {
	if text := noise(noisyFrom - 0.1); text != "" {
		t.Error(text)
	}
	if text := noise(noisyFrom); !strings.Contains(text, "25 % busy") {
		t.Error(text)
	}
}

// Who writes on is looked at for what it notices; who does not is an error, also if
// another one does.
func TestStilled(t *testing.T) {
	beats := func(ms ...int) *pulse {
		p := &pulse{}
		for _, m := range ms {
			p.beats = append(p.beats, at(m))
		}
		return p
	}
	well := beats(10, 20, 30, 90, 100, 190, 195)
	other := beats(40, 50, 100, 130, 192)
	for name, c := range map[string]struct { // order-free: each is a test of its own
		pulses     []*pulse
		gap, quiet int
		ends       bool
	}{
		"one":      {[]*pulse{well}, 90, 60, true},
		"two":      {[]*pulse{well, other}, 90, 60, true},
		"ended":    {[]*pulse{well, beats(10, 60, 110, 120)}, 90, 60, false},
		"no write": {[]*pulse{{}, well}, 90, 60, false},
	} {
		gap, quiet, err := stilled(c.pulses, at(0), at(100), at(200), 50*time.Millisecond)
		if gap != time.Duration(c.gap)*time.Millisecond || quiet != time.Duration(c.quiet)*time.Millisecond || (err == nil) != c.ends {
			t.Errorf("%s: %v after, %v before, %v", name, gap, quiet, err)
		}
	}
}
