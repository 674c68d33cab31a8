package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/concordatdb/concordat/bench"
)

// A member that has missed little comes back while it is measured. What that
// takes is the machine's business.
func TestBenchFailures(t *testing.T) {
	t.Parallel()
	f := newFleet(t, newLoopback(t), 0)
	out := f.want(exitOK, "bench", "failures", "--only", "log", "--repeats", "2", "--transactions", "300", "--dir", t.TempDir(), "--quiet", "--json")
	var r bench.FailureReport
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		t.Fatalf("%v in\n%s", err, out)
	}
	if len(r.Rows) != 1 || len(r.Rows[0].Seconds) != 2 || r.Rows[0].Seconds[0] <= 0 || r.Rows[0].Failure != bench.BehindInLog {
		t.Errorf("%+v", r.Rows)
	}
}

// Each thing that can happen to a primary is measured, once. How long it takes is
// the machine's business; that nothing is lost is checked by the measurement.
func TestBenchFailover(t *testing.T) {
	t.Parallel()
	for _, event := range []string{"kill", "stop", "cut", "switch"} {
		t.Run(event, func(t *testing.T) {
			t.Parallel()
			out := want(t, exitOK, "bench", "failover", "--only", event, "--repeats", "1", "--dir", t.TempDir(), "--quiet", "--json")
			var r bench.FailoverReport
			if err := json.Unmarshal([]byte(out), &r); err != nil {
				t.Fatalf("%v in\n%s", err, out)
			}
			if len(r.Rows) != 1 || len(r.Rows[0].Seconds) != 1 || r.Rows[0].Seconds[0] <= 0 || r.Rows[0].Acknowledged == 0 {
				t.Errorf("%+v", r.Rows)
			}
			if stale := r.Rows[0].Stale; (event == "stop") != (stale > 0) {
				t.Errorf("%d writes waited at a stopped primary", stale)
			}
		})
	}
}

// What a member has missed is applied with each number of workers.
func TestBenchApply(t *testing.T) {
	t.Parallel()
	out := want(t, exitOK, "bench", "apply", "--workers", "1,3", "--repeats", "1", "--transactions", "300", "--dir", t.TempDir(), "--quiet", "--json")
	var r bench.ApplyReport
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		t.Fatalf("%v in\n%s", err, out)
	}
	if len(r.Rows) != 2 || r.Rows[1].Workers != 3 || len(r.Rows[1].Seconds) != 1 || r.Rows[1].Seconds[0] <= 0 || r.Rows[1].CPU[0] <= 0 {
		t.Errorf("%+v", r.Rows)
	}
}

// Levels are measured with processes, too.
func TestBenchLevels(t *testing.T) {
	t.Parallel()
	out := want(t, exitOK, "bench", "levels", "--shapes", "processes", "--modes", "single-primary", "--clients", "4", "--keys", "100",
		"--levels", "BEFORE,after", "--duration", "100ms", "--warm-up", "10ms", "--dir", t.TempDir(), "--quiet", "--json")
	var r bench.LevelReport
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		t.Fatalf("%v in\n%s", err, out)
	}
	if len(r.Rows) != 2*3 {
		t.Fatalf("%d rows of EVENTUAL, BEFORE and AFTER", len(r.Rows))
	}
	total := 0.0
	for _, row := range r.Rows {
		if total += row.PerSecond[0]; row.Errors > 0 {
			t.Errorf("%+v", row)
		}
	}
	if total == 0 {
		t.Error("no row has a transaction")
	}
	for text, args := range map[string][]string{
		`"duo-primary" is no mode`: {"--modes", "duo-primary"},
		"BEFORE_AND_AFTER":         {"--levels", "NOW"},
	} {
		if said := want(t, exitUsage, append([]string{"bench", "levels"}, args...)...); !strings.Contains(said, text) {
			t.Errorf("%v: %s", args, said)
		}
	}
}
