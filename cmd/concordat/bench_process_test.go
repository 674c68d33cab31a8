package main

import (
	"encoding/json"
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
