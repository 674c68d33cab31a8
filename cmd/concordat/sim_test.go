package main

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"github.com/concordatdb/concordat/sim"
)

// However many worlds run at a time, the report is the same.
func TestSimJobs(t *testing.T) {
	t.Parallel()
	one := want(t, exitOK, "sim", "--first", "40", "--seeds", "5", "--json", "--jobs", "1")
	several := want(t, exitOK, "sim", "--first", "40", "--seeds", "5", "--json", "--jobs", "3")
	if one != several {
		t.Error("one job reports something else than three")
	}
	var report sim.Report
	if err := json.Unmarshal([]byte(several), &report); err != nil {
		t.Fatal(err)
	}
	if report.First != 40 || report.Seeds != 5 || report.Worlds != 5 || report.Committed == 0 {
		t.Errorf("the report is of %d worlds of %d from %d, with %d commits", report.Worlds, report.Seeds, report.First, report.Committed)
	}
}

func TestSimRefused(t *testing.T) {
	t.Parallel()
	trace := filepath.Join(t.TempDir(), "trace")
	for _, c := range []struct{ args, says string }{
		{"--seeds 0", "--seeds is 0"},
		{"--jobs 0", "--jobs is 0"},
		{"--jobs 2 --trace " + trace, "leave --jobs or --trace out"},
	} {
		if got := want(t, exitUsage, append([]string{"sim"}, strings.Fields(c.args)...)...); !strings.Contains(got, c.says) {
			t.Errorf("sim %s: %s", c.args, got)
		}
	}
}

// A job that ends before it has run its worlds is an error, and says what it said.
func TestSimJobFails(t *testing.T) {
	t.Parallel()
	if report, err := simJob(testContext(t), "go", 7, 2); err == nil || !strings.Contains(err.Error(), "from seed 7 on were not all run") {
		t.Errorf("%v, %v", report, err)
	}
}
