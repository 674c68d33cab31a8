package concordat_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/concordatdb/concordat"
)

// tireless makes a member try to come back until the test has seen enough.
func tireless(c *concordat.Config) {
	c.AutoRejoinTries, c.AutoRejoinInterval = 1000, 50*time.Millisecond
}

// A member that is silent for too long is expelled, with the evidence on record,
// and comes back by itself on its own disk as a new one: from the log, or with a
// copy of another member's state when the log is gone.
func TestExpelledComesBack(t *testing.T) {
	t.Parallel()
	for _, from := range []string{"log", "clone"} {
		t.Run(from, func(t *testing.T) {
			t.Parallel()
			g := openLinked(t, 3, quick, tireless, shortLog)
			mustPut(t, g.nodes[0], "before", "1")
			mustAgree(t, g.nodes...)
			const at = 2
			gone, rest := g.nodes[at], others(g.nodes, at)
			before, uuid := raftID(t, gone), gone.Status().Member
			g.isolate(at, true)
			for _, n := range rest {
				eventually(t, "the silent member to be expelled", func() bool { return len(members(n)) == 2 })
				mustKnowWhy(t, n, uuid.String())
			}
			mustPut(t, rest[0], "meanwhile", "1")
			if from == "clone" {
				outgrowLog(t, "meanwhile", rest...)
			}
			noQuorum(t, gone)
			g.isolate(at, false)
			eventually(t, "it to come back as a new member", func() bool {
				s := gone.Status()
				for _, m := range s.View.Members {
					if m.UUID == uuid && m.RaftID != before {
						return s.State == concordat.Online
					}
				}
				return false
			})
			if err := gone.Status().Err; err != nil || gone.Status().RejoinTry != 0 {
				t.Errorf("it is back, and says %v", err)
			}
			if len(eventsOf(gone, concordat.EventLost)) == 0 || len(eventsOf(gone, concordat.EventJoining)) == 0 {
				t.Errorf("it does not tell how it was lost and came back: %v", gone.Events(0))
			}
			if cloned := len(eventsOf(gone, concordat.EventCloneFinished)) > 0; cloned != (from == "clone") {
				t.Errorf("it copied another member's state: %t", cloned)
			}
			mustPut(t, gone, "back", "1")
			mustAgree(t, g.nodes...)
		})
	}
}

// mustKnowWhy checks what a member tells of an expulsion.
func mustKnowWhy(t *testing.T, n *concordat.Node, uuid string) {
	t.Helper()
	found := false
	for _, v := range n.Views() {
		if v.Cause == uuid+" expelled" {
			found = true
			if !strings.Contains(v.Reason, "has not heard it for") {
				t.Errorf("the evidence is %q", v.Reason)
			}
		}
	}
	if !found {
		t.Errorf("no view tells of the expulsion: %v", n.Views())
	}
	for _, kind := range []concordat.EventKind{concordat.EventSuspected, concordat.EventView} {
		about := 0
		for _, ev := range eventsOf(n, kind) {
			if ev.Member.String() == uuid && ev.Text != "" {
				about++
			}
		}
		if about == 0 {
			t.Errorf("no event %s about it", kind)
		}
	}
}

// Whom an operator removes stays out until an operator brings it back. Until
// then it does its ExitStateAction, and the program is told once.
func TestExitStateAction(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	// Nobody is suspected, however slow the machine is: who lives is not removed
	// without force.
	g := openGroup(t, 4, quick, func(c *concordat.Config) { c.MemberSuspectTimeout = time.Minute })
	mustPut(t, g.nodes[0], "k", "v")
	mustAgree(t, g.nodes...)
	for i, action := range []concordat.ExitStateAction{concordat.ReadOnly, concordat.OfflineMode, concordat.Abort} {
		at := i + 1
		told := make(chan error, 10)
		cfg := g.cfgs[at]
		cfg.ExitStateAction, cfg.OnExit = action, func(reason error) { told <- reason }
		n := reopen(t, g.nodes[at], cfg)
		before := raftID(t, n)
		uuid := n.Status().Member

		eventually(t, "all to be heard", func() bool { return g.nodes[0].Status().Outlook.Reachable == 4 })
		plain, forceable := g.nodes[0].Remove(ctx, uuid), new(concordat.RefusedError)
		if !errors.As(plain, &forceable) || !forceable.Forceable {
			t.Errorf("removal of a member that lives: %v", plain)
		}
		if err := g.nodes[0].Remove(ctx, uuid, concordat.Force()); err != nil {
			t.Fatal(err)
		}
		reason := <-told
		mustBe(t, concordat.Error, n)
		s := n.Status()
		if s.Err == nil || s.Err.Error() != reason.Error() || !strings.Contains(reason.Error(), "removed") || s.Diagnosis.Code != "ERROR" {
			t.Errorf("%s: told %v, status %v, %v", action, reason, s.Err, s.Diagnosis)
		}
		if len(eventsOf(n, concordat.EventJoining)) != 0 || len(eventsOf(n, concordat.EventExitStateAction)) != 1 {
			t.Errorf("%s: it tried to come back: %v", action, n.Events(0))
		}
		readable := n.View(ctx, func(tx *concordat.Tx) error { mustRead(t, tx, "k", "v"); return nil })
		if action == concordat.ReadOnly && readable != nil || action != concordat.ReadOnly && !errors.Is(readable, concordat.ErrNotOnline) {
			t.Errorf("%s: reads: %v", action, readable)
		}
		if _, err := n.Begin(ctx); !errors.Is(err, concordat.ErrNotOnline) {
			t.Errorf("%s: a transaction that may write: %v", action, err)
		}
		if action == concordat.Abort { // also a restart does not bring it back
			n = mustStart(t, again(reclosed(t, n), cfg))
			<-told
			mustBe(t, concordat.Error, n)
		}
		mustRejoin(t, n, concordat.RejoinOptions{})
		mustBe(t, concordat.Online, n)
		if raftID(t, n) == before {
			t.Errorf("%s: it is back as %d, which was removed", action, before)
		}
		mustPut(t, n, fmt.Sprint("back", at), "1")
		if len(told) != 0 {
			t.Errorf("%s: the program is told again: %v", action, <-told)
		}
		g.nodes[at] = n
	}
	mustAgree(t, g.nodes...)
}

func reclosed(t *testing.T, n *concordat.Node) *concordat.Node {
	mustClose(t, n)
	return n
}

// The program may close the member when it is told that it is out for good. So
// it is told of a disk that fails.
func TestOnExitMayClose(t *testing.T) {
	t.Parallel()
	cfg := founder(t)
	engine := newFaultyEngine(t, cfg.Dir)
	closed := make(chan error)
	var n *concordat.Node
	cfg.Engine, cfg.ExitStateAction = engine, concordat.Abort
	cfg.OnExit = func(reason error) {
		if !errors.Is(reason, concordat.ErrFailed) {
			t.Errorf("told %v", reason)
		}
		closed <- n.Close()
	}
	n = mustOpen(t, cfg)
	engine.fault <- func() error { return errFaulty }
	_ = submit(testContext(t), n, "k")
	if err := <-closed; err != nil {
		t.Errorf("close: %v", err)
	}
	if s := n.Status(); s.State != concordat.Offline {
		t.Errorf("it is %s", s.State)
	}
}

// The tries to come back are counted; after the last one only an order helps.
func TestRejoinTriesAreCounted(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	const tries = 2
	told := make(chan error, 10)
	g := openLinked(t, 3, neverExpel, func(c *concordat.Config) {
		c.UnreachableMajorityTimeout, c.AutoRejoinTries, c.AutoRejoinInterval = 300*time.Millisecond, tries, 20*time.Millisecond
		c.OnExit = func(reason error) { told <- reason }
	})
	mustPut(t, g.nodes[1], "k", "v")
	n := g.nodes[2]
	before := raftID(t, n)
	g.isolate(2, true)
	reason := <-told
	for _, want := range []error{concordat.ErrNoQuorum} {
		if !errors.Is(reason, want) || !strings.Contains(reason.Error(), fmt.Sprintf("try %d of %d", tries, tries)) {
			t.Errorf("told %v", reason)
		}
	}
	mustBe(t, concordat.Error, n)
	short, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
	defer cancel()
	if _, err := n.Rejoin(short, concordat.RejoinOptions{}); err == nil {
		t.Error("it rejoins nobody")
	}
	if n.Status().State != concordat.Error || len(told) != 0 {
		t.Errorf("it is %s, told %d times more", n.Status().State, len(told))
	}
	g.isolate(2, false)
	eventually(t, "an order to bring it back", func() bool {
		_, err := n.Rejoin(ctx, concordat.RejoinOptions{})
		return err == nil
	})
	mustBe(t, concordat.Online, n)
	if now := raftID(t, n); now != before {
		t.Errorf("it has raft id %d and had %d, which was never taken out", now, before)
	}
	mustPut(t, n, "back", "1")
	mustAgree(t, g.nodes...)
}
