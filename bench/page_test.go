package bench

import (
	"errors"
	"io"
	"strings"
	"testing"
)

// fullDisk takes so many bytes, and fails from then on.
type fullDisk struct {
	left  int
	calls int
}

var errFull = errors.New("no space left")

func (d *fullDisk) Write(b []byte) (int, error) {
	d.calls++
	if d.left -= len(b); d.left < 0 {
		return 0, errFull
	}
	return len(b), nil
}

func TestPageKeepsFirstError(t *testing.T) {
	d := &fullDisk{left: 3}
	p := &page{w: d}
	for range 4 {
		p.printf("%s", "ab")
	}
	if !errors.Is(p.err, errFull) || d.calls != 2 {
		t.Errorf("%v after %d writes", p.err, d.calls)
	}
}

// Every report tells of a page that cannot be written, and can be written when
// nothing or only a part was measured.
func TestReportsOfNothing(t *testing.T) {
	for name, write := range map[string]func(io.Writer) error{ // order-free: each is a test of its own
		"commits":  Report{}.WriteTable,
		"levels":   LevelReport{}.WriteMarkdown,
		"failover": FailoverReport{}.WriteMarkdown,
		"failures": FailureReport{}.WriteMarkdown,
		"apply":    ApplyReport{Rows: []ApplyRow{{Workers: 1}}}.WriteMarkdown,
		"checks":   CheckReport{Rows: []CheckRow{{Interval: 5}}}.WriteMarkdown,
		"flow":     FlowReport{}.WriteMarkdown,
		"changes":  ChangeReport{Rows: []ChangeRow{{CommitsPerSecond: []float64{1}, CPUMicros: []float64{1}}, {Kept: true}}}.WriteMarkdown,
		"giant":    GiantReport{}.WriteMarkdown,
	} {
		var b strings.Builder
		if err := write(&b); err != nil || b.Len() == 0 {
			t.Errorf("%s: %v in\n%s", name, err, b.String())
		}
		if err := write(&fullDisk{left: b.Len() - 1}); !errors.Is(err, errFull) {
			t.Errorf("%s: the end is not written, and the error is %v", name, err)
		}
	}
	for name, r := range map[string]ChangeReport{"not begun": {}, "ended at once": {Rows: []ChangeRow{{}, {Kept: true}}}} { // order-free: as above
		var b strings.Builder
		if err := r.WriteMarkdown(&b); err != nil || b.Len() > 0 {
			t.Errorf("%s: %v in\n%s", name, err, b.String())
		}
	}
}
