package bench

import (
	"context"
	"strings"
	"testing"
	"time"
)

// at is a moment of a test, in milliseconds.
func at(ms int) time.Time { return time.UnixMilli(int64(ms)) }

func TestLongestPause(t *testing.T) {
	for _, c := range []struct {
		name     string
		beats    []int
		from, to int
		want     int
	}{
		{"even", []int{0, 10, 20, 30, 40}, 15, 40, 10},
		{"begins before", []int{0, 10, 300, 310}, 15, 400, 290},
		{"ends after", []int{0, 10, 20, 300}, 0, 100, 10},
		{"both are before", []int{0, 90, 100, 105}, 100, 200, 5},
		{"the first one", []int{70, 80}, 0, 100, 70},
		{"none", nil, 0, 100, 0},
	} {
		p := &pulse{}
		for _, ms := range c.beats {
			p.beats = append(p.beats, at(ms))
		}
		if got := p.longest(at(c.from), at(c.to)); got != time.Duration(c.want)*time.Millisecond {
			t.Errorf("%s: %v, want %d ms", c.name, got, c.want)
		}
	}
}

func TestFailureReport(t *testing.T) {
	r := FailureReport{Rows: []FailureRow{
		{Failure: LeaderKilled, Seconds: []float64{1.2, 0.8, 0.9, 1.9}, Quiet: []float64{0.004, 0.002, 0.003, 0.001}},
		{Failure: Copied, Seconds: []float64{2}, Bytes: 1 << 30, CPU: 1.25, DiskBytesPerSecond: 600 << 20, Background: 99},
	}}
	var text strings.Builder
	if err := r.WriteMarkdown(&text); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"| SIGKILL of the raft leader: longest time without a commit on a survivor | 4 | 900 ms | 1.90 s | with nothing killed, as long: 2 ms and 4 ms |\n",
		"| new member, until ONLINE with a copy | 1 | 2.00 s | 2.00 s | 1024 MiB, 512 MiB/s at the median; " +
			"all members together keep up to 1.2 processors busy; the disk takes one stream at 600 MiB/s; NOISY: the machine was 99 % busy with something else |\n",
	} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("%s\nhas no %s", text.String(), want)
		}
	}
}

func TestFailureOptions(t *testing.T) {
	start := func(context.Context, MemberOptions) (NodeProcess, error) { return nil, nil }
	good := FailureDefaults()
	good.Start = start
	if err := good.validate(); err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*FailureOptions){
		"at least one failure": func(o *FailureOptions) { o.Failures = nil },
		`"flood"`:              func(o *FailureOptions) { o.Failures = []Failure{"flood"} },
		"0 repeats":            func(o *FailureOptions) { o.Repeats = 0 },
		"0 transactions":       func(o *FailureOptions) { o.Transactions = 0 },
		"log of -1 bytes":      func(o *FailureOptions) { o.LogBytes = -1 },
		"store of 3 bytes":     func(o *FailureOptions) { o.StoreBytes = 3 },
		"no way to start":      func(o *FailureOptions) { o.Start = nil },
	} {
		o := good
		change(&o)
		if _, err := RunFailures(t.Context(), o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q in it", err, want)
		}
	}
}
