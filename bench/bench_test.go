package bench_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.uber.org/goleak"

	"github.com/concordatdb/concordat/bench"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func shortOptions(t *testing.T) bench.Options {
	o := bench.Defaults()
	o.Shapes = []bench.Shape{bench.InProcess}
	o.Clients, o.ValueBytes = []int{4}, []int{100}
	o.Duration, o.WarmUp, o.Keys = 500*time.Millisecond, 10*time.Millisecond, 1000
	o.Dir = t.TempDir()
	return o
}

// TestRun measures briefly, and checks that the figures fit together. What
// they are is the machine's business.
func TestRun(t *testing.T) {
	o := shortOptions(t)
	o.Profiles = t.TempDir()
	r, err := bench.Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if want := 2 + 6; len(r.Rows) != want { // both placements, six shapes of contention
		t.Fatalf("%d rows, want %d", len(r.Rows), want)
	}
	commits := int64(0)
	for _, row := range r.Rows {
		commits += row.Commits
		if row.Errors > 0 {
			t.Errorf("%d errors", row.Errors)
		}
		if row.Commits == 0 { // on a busy machine
			continue
		}
		if row.P50 <= 0 || row.P50 > row.P99 || row.P99 > row.P999 || row.P999 > row.Max*1.001 {
			t.Errorf("percentiles %v %v %v %v are not in order", row.P50, row.P99, row.P999, row.Max)
		}
		if row.CPUMicros <= 0 || row.LogWrites <= 0 || row.Seconds <= 0 {
			t.Errorf("CPU %v, log writes %v, seconds %v", row.CPUMicros, row.LogWrites, row.Seconds)
		}
		if row.Adds && row.Conflicts != 0 || row.FalselyRefused != 0 {
			t.Errorf("%d conflicts, %d falsely refused among those that add or scan", row.Conflicts, row.FalselyRefused)
		}
		if row.HotKeys == 0 && row.ScanShare == 0 && row.Conflicts != 0 {
			t.Errorf("%d conflicts among clients with keys of their own", row.Conflicts)
		}
	}
	if commits == 0 {
		t.Error("no row has a commit")
	}
	checkRoundTrip(t, r)
}

func checkRoundTrip(t *testing.T, r bench.Report) {
	b, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	var again bench.Report
	if err := json.Unmarshal(b, &again); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(r.Machine, again.Machine); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(r.Rows, again.Rows, cmpopts.IgnoreUnexported(bench.Row{})); diff != "" {
		t.Error(diff)
	}
	var table bytes.Buffer
	if err := r.WriteTable(&table); err != nil {
		t.Fatal(err)
	}
	if got := strings.Count(table.String(), "in-process"); got != len(r.Rows) {
		t.Errorf("%d rows in the table, want %d:\n%s", got, len(r.Rows), table.String())
	}
}

func TestOptionsRefused(t *testing.T) {
	for name, spoil := range map[string]func(*bench.Options){
		"no clients":          func(o *bench.Options) { o.Clients = nil },
		"zero clients":        func(o *bench.Options) { o.Clients = []int{0} },
		"too many clients":    func(o *bench.Options) { o.Clients = []int{5000} },
		"unknown shape":       func(o *bench.Options) { o.Shapes = []bench.Shape{"round"} },
		"unknown placement":   func(o *bench.Options) { o.Placements = []bench.Placement{"nowhere"} },
		"no time":             func(o *bench.Options) { o.Duration = 0 },
		"negative procs":      func(o *bench.Options) { o.Procs = -1 },
		"no repeats":          func(o *bench.Options) { o.Repeats = 0 },
		"processes, no start": func(o *bench.Options) { o.Shapes = []bench.Shape{bench.Processes} },
		"empty values":        func(o *bench.Options) { o.ValueBytes = []int{0} },
		"no directory":        func(o *bench.Options) { o.Dir = "/nonexistent/directory" },
	} {
		o := shortOptions(t)
		spoil(&o)
		if r, err := bench.Run(t.Context(), o); err == nil || len(r.Rows) != 0 {
			t.Errorf("%s: %d rows, error %v", name, len(r.Rows), err)
		}
	}
}
