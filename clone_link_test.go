package concordat_test

import (
	"crypto/rand"
	"fmt"
	"testing"

	"github.com/concordatdb/concordat"
)

// eventsOf returns the events of one kind.
func eventsOf(n *concordat.Node, kind concordat.EventKind) (found []concordat.Event) {
	for _, ev := range n.Events(0) {
		if ev.Kind == kind {
			found = append(found, ev)
		}
	}
	return found
}

// mustStart starts a member, which is closed at the end of the test.
func mustStart(t testing.TB, cfg concordat.Config) *concordat.Node {
	t.Helper()
	n, err := concordat.Start(testContext(t), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = n.Close() })
	return n
}

// TestCloneOverBrokenLink breaks the links to all donors in the middle of a
// clone. It goes on where it was, at the same donor, which is not the leader,
// and tells how far it is.
func TestCloneOverBrokenLink(t *testing.T) {
	t.Parallel()
	var ways []*link
	g := openGroup(t, 2, shortLog, func(c *concordat.Config) {
		ways = append(ways, newLink(t, c))
		c.ElectionTicks = 100 // who leads has to lead until the copy has begun
	})
	value := make([]byte, 128<<10)
	for i := range 16 {
		_, _ = rand.Read(value) // never fails, and does not compress
		mustPut(t, g.nodes[0], fmt.Sprint("large", i), string(value))
	}
	outgrowLog(t, "first", g.nodes...)
	first := leader(t, g.nodes)

	cfg := joiner(t, g.nodes...)
	shortLog(&cfg)
	cfg.CloneRate = 1 << 20
	third := mustStart(t, cfg)
	var seen concordat.Recovery
	eventually(t, "a part of the copy", func() bool {
		r := third.Status().Recovery
		if r == nil || r.Method != concordat.RecoveryClone || r.Total == 0 || r.Done < r.Total/4 {
			return false
		}
		seen = *r
		return true
	})
	for _, way := range ways {
		way.set(true)
	}
	for _, way := range ways {
		way.set(false)
	}
	if _, err := third.WaitState(testContext(t), func(s concordat.State) bool { return s == concordat.Online }); err != nil {
		t.Fatal(err)
	}
	if seen.Done >= seen.Total || seen.Rate <= 0 || seen.Left <= 0 || seen.Attempt != 1 || seen.Donor != g.nodes[1-first].Status().Member {
		t.Errorf("said %+v on its way", seen)
	}
	for kind, least := range map[concordat.EventKind]int{
		concordat.EventCloneStarted: 1, concordat.EventCloneResumed: 1, concordat.EventCloneFinished: 1,
	} {
		found := eventsOf(third, kind)
		if len(found) < least || kind != concordat.EventCloneResumed && len(found) > 1 {
			t.Errorf("%d events %s: %v", len(found), kind, found)
		}
		for _, ev := range found {
			if ev.Member != seen.Donor {
				t.Errorf("%s is about %v, the donor is %v", kind, ev.Member, seen.Donor)
			}
		}
	}
	if donor := eventsOf(g.nodes[1-first], concordat.EventDonor); len(donor) < 2 || donor[0].Member != third.Status().Member {
		t.Errorf("the donor says %v", donor)
	}
	mustPut(t, third, "joined", "1")
	mustAgree(t, append(g.nodes, third)...)
}

// TestCloneFromNamedDonor: who is named gives the copy, also when it leads.
func TestCloneFromNamedDonor(t *testing.T) {
	t.Parallel()
	g := openGroup(t, 2, shortLog)
	outgrowLog(t, "first", g.nodes...)
	named := g.nodes[leader(t, g.nodes)].Status().Member
	cfg := joiner(t, g.nodes...)
	shortLog(&cfg)
	cfg.Donor = named.String()
	third := mustOpen(t, cfg)
	if found := eventsOf(third, concordat.EventCloneFinished); len(found) != 1 || found[0].Member != named {
		t.Errorf("cloned from %v, %v was named", found, named)
	}
	mustAgree(t, append(g.nodes, third)...)
}
