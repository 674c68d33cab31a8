package sim

import (
	"encoding/json"
	"testing"
)

// TestSweep runs worlds of the first seeds.
func TestSweep(t *testing.T) {
	report := sweep(t, Options{First: 1, Seeds: sweepSeeds})
	if report.Worlds != sweepSeeds || report.Committed == 0 || report.Faults.Crashes == 0 || report.Faults.Lost == 0 {
		t.Errorf("the worlds were too quiet: %s", asJSON(t, report))
	}
}

// sweep runs worlds in which no promise may be broken.
func sweep(t *testing.T, o Options) Report {
	t.Helper()
	report, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range report.Violations {
		t.Error(v)
	}
	return report
}

func asJSON(t *testing.T, report Report) string {
	t.Helper()
	b, err := json.Marshal(report)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// regressions are seeds of worlds that once broke a promise, and what they
// showed. What a seed means changes with every draw that is added to a plan;
// these were looked for again, with the cause put back, when that happened.
var regressions = []struct {
	seed   uint64
	showed string
}{
	{31, "a member that had cloned was sent for another clone for as long as the group went on: the leader offered its newest position, not the beginning of its log"},
	{313, "the oracle overlooked a mark for the transactions after it in the same frame"},
	{2027, "a group of two was lost when one left and the other crashed: it did not know that the leave was committed, and waited for the vote of who had gone"},
}

func TestRegressions(t *testing.T) {
	for _, r := range regressions {
		report, err := Run(t.Context(), Options{First: r.seed, Seeds: 1})
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range report.Violations {
			t.Errorf("%s\nThis seed once showed %s.", v, r.showed)
		}
	}
}

// TestMarks has for each rare branch a world that reaches it. When a plan draws
// something new, other seeds will: a sweep's report says which marks it reached.
func TestMarks(t *testing.T) {
	for _, c := range []struct {
		seed  uint64
		marks []mark
	}{
		{6, []mark{markClosedSession}},
		{18, []mark{markCloneRefused}},
		{78, []mark{markSnapshotTooOld}},
		{209, []mark{markCheckpoint, markTruncation, markEngineBehindLog, markViewChange}},
		{216, []mark{markClone}},
		{232, []mark{markCloneStale}},
		{320, []mark{markLeaderChangePending, markRepeatedFrame}},
		{343, []mark{markCloneInterrupted, markRemovedByWord}},
		{349, []mark{markExportInterrupted}},
		{364, []mark{markRefusal}},
		{365, []mark{markHistoryMark}},
		{371, []mark{markLeaveRefused}},
		{374, []mark{markConflict, markCheckpointRestart, markUnknownDelivered, markUnknownLost}},
		{377, []mark{markEngineBehind, markRedelivery, markJoinRedirected}},
	} {
		report := sweep(t, Options{First: c.seed, Seeds: 1})
		for _, m := range c.marks {
			if report.Marks[markNames[m]] == 0 {
				t.Errorf("seed %d does not reach %q", c.seed, markNames[m])
			}
		}
	}
}
