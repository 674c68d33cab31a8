package concordat_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/concordatdb/concordat"
)

// Check tells of a directory what would become of it, and changes nothing.
func TestCheck(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	g := openGroup(t, 2)
	mustPut(t, g.nodes[0], "k", "v")
	mustAgree(t, g.nodes...)

	fresh := joiner(t, g.nodes[0])
	fresh.Dir = filepath.Join(fresh.Dir, "not", "there")
	mustCheck(t, fresh, true, "would take this member in")
	if report, err := concordat.Check(ctx, fresh); err != nil || !report.New || report.RaftID != 0 {
		t.Errorf("a directory that is not there: %+v, %v", report, err)
	}
	if _, err := os.Stat(fresh.Dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it was made: %v", err)
	}
	taken := fresh
	taken.Member, taken.Listen = g.nodes[1].Status().Member.String(), freeAddress(t)
	mustCheck(t, taken, false, "which is heard")
	stranger := fresh
	stranger.Group = otherUUID
	mustCheck(t, stranger, false, "belongs to group")

	away := g.nodes[1]
	cfg := again(away, g.cfgs[1])
	if _, err := concordat.Check(ctx, cfg); !errors.Is(err, concordat.ErrDirectory) {
		t.Errorf("a directory that is in use: %v", err)
	}
	id := raftID(t, away)
	mustLeave(t, away)
	report := mustCheck(t, cfg, true, "taken this member out")
	if report.New || report.RaftID != id || report.Applied == 0 || report.Last < report.Applied || report.Executed.Count() != 1 {
		t.Errorf("what the directory holds: %+v", report)
	}
	otherMember := cfg
	otherMember.Member = otherUUID
	mustCheck(t, otherMember, false, "belongs to member")

	g.nodes[1] = mustOpen(t, cfg)
	mustAgree(t, g.nodes...)
	mustClose(t, g.nodes[1])
	mustCheck(t, cfg, false, "no quorum")
}

func mustLeave(t testing.TB, n *concordat.Node) {
	t.Helper()
	if err := n.Leave(testContext(t), concordat.Force()); err != nil {
		t.Fatal(err)
	}
}

func mustCheck(t testing.TB, cfg concordat.Config, accepted bool, because string) concordat.CheckReport {
	t.Helper()
	var report concordat.CheckReport
	eventually(t, "an answer with "+because, func() bool {
		var err error
		report, err = concordat.Check(testContext(t), cfg)
		if err != nil {
			t.Fatal(err)
		}
		return strings.Contains(strings.Join(report.Reasons, "\n"), because)
	})
	if report.Accepted != accepted {
		t.Errorf("accepted %v, want %v: %q", report.Accepted, accepted, report.Reasons)
	}
	return report
}
