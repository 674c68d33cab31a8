package concordat_test

import (
	"strings"
	"testing"
	"time"

	"github.com/concordatdb/concordat"
)

// Who does not say how long to wait does not wait without end for a group that
// has no quorum.
func TestNobodyWaitsWithoutEnd(t *testing.T) {
	t.Parallel()
	g := openGroup(t, 2, neverExpel)
	mustPut(t, g.nodes[0], "k", "v")
	mustAgree(t, g.nodes...)
	mustClose(t, g.nodes[1])
	noQuorum(t, g.nodes[0])
	cfg := joiner(t)
	cfg.AutoRejoinInterval = 10 * time.Millisecond
	n := mustStart(t, cfg)
	eventually(t, "it to be idle", func() bool { return n.Status().Diagnosis.Code == "OFFLINE" })
	err := n.Join(endless(t), concordat.JoinOptions{Seeds: []string{g.nodes[0].Address()}})
	if err == nil || !strings.Contains(err.Error(), "without a leader or a quorum") {
		t.Errorf("join: %v, want the reason", err)
	}
	if s := n.Status(); s.State != concordat.Offline {
		t.Errorf("it is %s", s.State)
	}
}
