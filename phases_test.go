package concordat_test

import (
	"crypto/rand"
	"errors"
	"testing"
	"time"

	"github.com/concordatdb/concordat"
)

// A member can be closed, and asked for its status, whatever it is doing. The
// next start goes on. That no goroutine is left is checked when the tests end.
func TestCloseInEveryPhase(t *testing.T) {
	t.Parallel()
	g := openGroup(t, 2, neverExpel, shortLog)
	outgrowLog(t, "much", g.nodes...)
	for name, enter := range map[string]func(t *testing.T) (*concordat.Node, concordat.Config){
		"idle":     idlePhase,
		"joining":  joiningPhase,
		"in ERROR": erroredPhase,
		"cloning":  func(t *testing.T) (*concordat.Node, concordat.Config) { return cloningPhase(t, g) },
		"frozen":   frozenPhase,
		"failed":   failedPhase,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n, cfg := enter(t)
			s, state := n.Status(), n.Status().State
			_ = n.Plan(concordat.Operation{Verb: concordat.VerbLeave, Member: s.Member})
			_, _ = n.Views(), n.Events(0)
			if s.Diagnosis.Text == "" {
				t.Errorf("there is nothing to say about a member that is %s", state)
			}
			mustClose(t, n)
			if s := n.Status(); s.State != concordat.Offline || !errors.Is(n.Close(), concordat.ErrClosed) {
				t.Errorf("closed, it is %s", s.State)
			}
			n = mustStart(t, cfg)
			eventually(t, "it to go on", func() bool {
				now := n.Status()
				return now.State == concordat.Online || now.State == state && now.Frozen == s.Frozen
			})
			mustClose(t, n)
		})
	}
}

func idlePhase(t *testing.T) (*concordat.Node, concordat.Config) {
	cfg := joiner(t)
	n := mustStart(t, cfg)
	eventually(t, "it to be idle", func() bool { return n.Status().Diagnosis.Code == "OFFLINE" })
	return n, cfg
}

func joiningPhase(t *testing.T) (*concordat.Node, concordat.Config) {
	cfg := joiner(t)
	cfg.Seeds = []string{freeAddress(t)}
	n := mustStart(t, cfg)
	eventually(t, "it to ask", func() bool { return len(eventsOf(n, concordat.EventJoining)) > 0 })
	return n, cfg
}

// erroredPhase is that of a member that tries to come back.
func erroredPhase(t *testing.T) (*concordat.Node, concordat.Config) {
	g := openLinked(t, 3, neverExpel, tireless, func(c *concordat.Config) { c.UnreachableMajorityTimeout = 200 * time.Millisecond })
	g.isolate(2, true)
	mustBe(t, concordat.Error, g.nodes[2])
	cfg := g.cfgs[2]
	cfg.Seeds = nil
	return g.nodes[2], cfg
}

func cloningPhase(t *testing.T, g *group) (*concordat.Node, concordat.Config) {
	big := make([]byte, 256<<10)
	_, _ = rand.Read(big)
	mustPut(t, g.nodes[0], "big", string(big))
	cfg := joiner(t, g.nodes[0])
	cfg.CloneRate = 1000
	neverExpel(&cfg)
	cfg.Listen = freeAddress(t)
	n := mustStart(t, cfg)
	eventually(t, "it to copy", func() bool {
		r := n.Status().Recovery
		return r != nil && r.Method == concordat.RecoveryClone && r.Total > r.Done && r.Done > 0
	})
	if code := n.Status().Diagnosis.Code; code != "RECOVERING" {
		t.Errorf("it copies, and says %s", code)
	}
	cfg.CloneRate = 0
	return n, cfg
}

// frozenPhase is that of a survivor whose coordinator is gone.
func frozenPhase(t *testing.T) (*concordat.Node, concordat.Config) {
	ctx := testContext(t)
	g := openGroup(t, 4, neverExpel)
	mustAgree(t, g.nodes...)
	mustClose(t, g.nodes[2])
	mustClose(t, g.nodes[3])
	noQuorum(t, g.nodes[:2]...)
	ids := uuids(g.nodes[:2]...)
	plan, err := g.nodes[0].PlanForceMembers(ctx, ids)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() {
		_, err := g.nodes[0].ForceMembers(ctx, plan.Plan, ids)
		ended <- err
	}()
	closeAfter(t, g.nodes[0], "frozen for plan")
	<-ended
	n := mustStart(t, again(g.nodes[0], g.cfgs[0]))
	eventually(t, "it to be frozen", func() bool { return n.Status().Frozen == plan.Plan && n.Status().State == concordat.Recovering })
	return n, again(n, g.cfgs[0])
}

func failedPhase(t *testing.T) (*concordat.Node, concordat.Config) {
	cfg := founder(t)
	engine := newFaultyEngine(t, cfg.Dir)
	cfg.Engine = engine
	n := mustOpen(t, cfg)
	engine.fault <- func() error { return errFaulty }
	_ = submit(testContext(t), n, "k")
	mustBe(t, concordat.Error, n)
	cfg.Engine = nil
	return n, again(n, cfg)
}

// A donor that goes in the middle of a clone is replaced by another one. The
// recipient tells how far it is all the time.
func TestDonorLost(t *testing.T) {
	t.Parallel()
	g := openGroup(t, 3, neverExpel, shortLog)
	big := make([]byte, 256<<10)
	for _, key := range []string{"a", "b"} {
		_, _ = rand.Read(big)
		mustPut(t, g.nodes[0], key, string(big))
	}
	outgrowLog(t, "much", g.nodes...)
	at := (leader(t, g.nodes) + 1) % 3
	named := g.nodes[at]
	cfg := joiner(t, others(g.nodes, at)[0])
	neverExpel(&cfg)
	cfg.Donor, cfg.CloneRate = named.Status().Member.String(), 1<<20
	n := mustStart(t, cfg)
	eventually(t, "it to copy from the donor that is named", func() bool {
		r := n.Status().Recovery
		return r != nil && r.Method == concordat.RecoveryClone && r.Donor == named.Status().Member && r.Done > 0 && r.Total >= r.Done
	})
	if len(eventsOf(named, concordat.EventDonor)) != 1 {
		t.Errorf("the donor tells %v", named.Events(0))
	}
	mustClose(t, named)
	mustBe(t, concordat.Online, n)
	finished := eventsOf(n, concordat.EventCloneFinished)
	if len(finished) != 1 || finished[0].Member == named.Status().Member || len(eventsOf(n, concordat.EventCloneFailed)) == 0 {
		t.Errorf("it copied from %v; the donor that was lost is %s", finished, named.Status().Member)
	}
	if n.Status().Recovery != nil {
		t.Error("it is ONLINE, and still recovers")
	}
	back := reopen(t, named, g.cfgs[at])
	mustPut(t, n, "joined", "1")
	mustAgree(t, append(others(g.nodes, at), n, back)...)
}
