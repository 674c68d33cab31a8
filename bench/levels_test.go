package bench

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/concordatdb/concordat"
)

// Every level is measured in both modes, for reading and for writing. What the
// figures are is the machine's business, which may be so busy that a row has none.
func TestLevels(t *testing.T) {
	o := LevelDefaults()
	o.Shapes, o.Clients, o.Keys = []Shape{InProcess}, []int{4}, 200
	o.Duration, o.WarmUp, o.Repeats, o.Dir = 100*time.Millisecond, 10*time.Millisecond, 2, t.TempDir()
	r, err := RunLevels(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	seen, total := map[string]bool{}, 0.0
	for i := range r.Rows {
		row := &r.Rows[i]
		seen[fmt.Sprintf("%s %s %t at %s", row.Level, row.Mode, row.ReadOnly, row.Placement)] = true
		if row.Errors > 0 || len(row.PerSecond) != 2 || len(row.P50) != 2 || len(row.P99) != 2 {
			t.Errorf("%+v", row)
		}
		least := slices.Min(row.PerSecond)
		total += least
		if row.Level == concordat.Eventual.String() && least > 1 && row.OfEventual != 1 {
			t.Errorf("EVENTUAL compares with itself as %v", row.OfEventual)
		}
	}
	if total == 0 {
		t.Error("no row has a transaction")
	}
	for _, level := range o.Levels {
		for _, kind := range []string{
			"single-primary true at follower", "single-primary false at one", "multi-primary true at spread", "multi-primary false at spread",
		} {
			if name := level.String() + " " + kind; !seen[name] {
				t.Errorf("no row of %s", name)
			}
		}
	}
	b, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	var again LevelReport
	if err := json.Unmarshal(b, &again); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(r, again); diff != "" {
		t.Error(diff)
	}
}

func TestLevelReport(t *testing.T) {
	single, multi := concordat.SinglePrimary.String(), concordat.MultiPrimary.String()
	rows := []LevelRow{
		{Shape: InProcess, Mode: single, Placement: OneFollower, Clients: 64, ReadOnly: true, Level: "EVENTUAL", PerSecond: []float64{1000, 2000, 900}, P50: []float64{0.5, 0.1, 0.2}, P99: []float64{1, 2, 3}},
		{Shape: InProcess, Mode: single, Placement: OneFollower, Clients: 64, ReadOnly: true, Level: "BEFORE", PerSecond: []float64{500, 1300, 540}, P50: []float64{1, 1, 1}, P99: []float64{2.25, 2, 3}, Noisy: true},
		{Shape: InProcess, Mode: single, Placement: OneMember, Clients: 16, Level: "EVENTUAL", PerSecond: []float64{100}, P50: []float64{1}, P99: []float64{2}},
		{Shape: InProcess, Mode: single, Placement: OneMember, Clients: 16, Level: "AFTER", PerSecond: []float64{49}, P50: []float64{1}, P99: []float64{2}, Errors: 3},
	}
	for i := range rows {
		rows[i].compare(rows)
	}
	other := []LevelRow{
		{Shape: Processes, Mode: multi, Placement: AllOver, Clients: 16, Level: "EVENTUAL", PerSecond: []float64{100}, P50: []float64{1}, P99: []float64{2}},
		{Shape: Processes, Mode: multi, Placement: AllOver, Clients: 16, Level: "AFTER", PerSecond: []float64{50}, P50: []float64{1}, P99: []float64{2}},
	}
	for i := range other {
		other[i].compare(other)
	}
	var text strings.Builder
	if err := (LevelReport{Rows: append(rows, other...)}).WriteMarkdown(&text); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"| in-process | one primary | read, at a follower | 64 | EVENTUAL | 1000 | 100 % | 200 µs | 2.0 ms | 900 to 2000 |\n",
		"| in-process | one primary | read, at a follower | 64 | BEFORE | 540 | 60 % | 1.0 ms | 2.2 ms | NOISY; 500 to 1300 |\n",
		"| in-process | one primary | read and write | 16 | AFTER | 49 | 49 % | 1.0 ms | 2.0 ms | 3 ERRORS |\n",
		"| processes | three primaries | read and write | 16 | AFTER | 50 | 50 % |",
		"Aim: BEFORE reads on a follower, 64 clients, at least 60 % of EVENTUAL. in-process, one primary, 64 clients: 60 %, reached.\n",
		"Aim: AFTER writes, at least 50 % of EVENTUAL. in-process, one primary, 16 clients: 49 %, MISSED; processes, three primaries, 16 clients: 50 %, reached.\n",
	} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("%s\nhas no %s", text.String(), want)
		}
	}
}

func TestLevelOptions(t *testing.T) {
	for want, change := range map[string]func(*LevelOptions){
		"at least one mode":  func(o *LevelOptions) { o.Modes = nil },
		"and one level":      func(o *LevelOptions) { o.Levels = nil },
		"0 clients":          func(o *LevelOptions) { o.Clients = []int{0} },
		"no way to start":    func(o *LevelOptions) { o.Shapes = []Shape{Processes} },
		"0 repeats":          func(o *LevelOptions) { o.Repeats = 0 },
		"a duration of 0s":   func(o *LevelOptions) { o.Duration = 0 },
		"need a key each":    func(o *LevelOptions) { o.Keys = 3 },
		"unknown shape":      func(o *LevelOptions) { o.Shapes = []Shape{"round"} },
		"for the members":    func(o *LevelOptions) { o.Dir = "/nonexistent/directory" },
		"must each name at ": func(o *LevelOptions) { o.Clients = nil },
	} {
		o := LevelDefaults()
		o.Shapes = []Shape{InProcess}
		change(&o)
		if _, err := RunLevels(t.Context(), o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q in it", err, want)
		}
	}
}
