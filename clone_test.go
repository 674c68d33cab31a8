package concordat_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/concordatdb/concordat"
	"github.com/concordatdb/concordat/applier"
	"github.com/concordatdb/concordat/gtid"
)

// shortLog has members that forget their log soon.
func shortLog(c *concordat.Config) { c.CheckpointBytes = 2048 }

// outgrowLog writes until the members have cut off the log that was there.
func outgrowLog(t testing.TB, round string, nodes ...*concordat.Node) (last gtid.GTID) {
	t.Helper()
	from := nodes[0].Status().Delivered
	cut := func() bool {
		for _, n := range nodes {
			// The cut is at the newest checkpoint but one, and two fit into
			// this many entries of at least 64 bytes.
			if n.Status().Durable < from+2*2048/64 {
				return false
			}
		}
		return true
	}
	for i := 0; !cut(); i++ {
		last = mustPut(t, nodes[0], fmt.Sprint(round, i%20), strings.Repeat("v", 500))
	}
	return last
}

func TestJoinUnderLoad(t *testing.T) {
	t.Parallel()
	g := openGroup(t, 2)
	l := startLoad(t, g.nodes...)
	l.more(t, 20)
	third := mustOpen(t, joiner(t, g.nodes[1]))
	l.more(t, 20)
	mustPut(t, third, "joined", "1")
	l.mustCount(t, g.nodes[0], g.nodes[1], third)
}

// A member that is new, or was away for too long, gets a copy of the state
// when the log that it needs is gone.
func TestCloneWhenLogIsGone(t *testing.T) {
	t.Parallel()
	w := newWitness()
	g := openGroup(t, 2, shortLog)
	outgrowLog(t, "first", g.nodes...)
	cfg := joiner(t, g.nodes...)
	shortLog(&cfg)
	cfg.Logger = w.logger()
	third := mustOpen(t, cfg)
	if w.count(string(concordat.EventCloneFinished)) == 0 {
		t.Error("joined without a clone")
	}
	mustPut(t, third, "joined", "1")
	mustAgree(t, append(g.nodes, third)...)

	mustClose(t, third)
	outgrowLog(t, "second", g.nodes...)
	before := w.count(string(concordat.EventCloneFinished))
	third = reopen(t, third, cfg)
	if w.count(string(concordat.EventCloneFinished)) == before {
		t.Error("came back without a clone")
	}
	mustPut(t, third, "came back", "1")
	mustAgree(t, append(g.nodes, third)...)
}

// A member can lag behind the log while it runs. It is told apart from one
// that serves transactions until it has caught up.
func TestCloneOfRunningMember(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	w := newWitness()
	g := openGroup(t, 2, shortLog)
	cfg := joiner(t, g.nodes...)
	shortLog(&cfg)
	cfg.Logger = w.logger()
	way := newLink(t, &cfg)
	third := mustOpen(t, cfg)
	mustPut(t, third, "joined", "1")
	old := begin(t, third)

	way.set(true)
	leader(t, g.nodes)
	last := outgrowLog(t, "meanwhile", g.nodes...)
	way.set(false)
	eventually(t, "the member to catch up", func() bool { return third.Status().Executed.Contains(last) })
	if _, err := third.WaitState(ctx, func(s concordat.State) bool { return s == concordat.Online }); err != nil {
		t.Fatal(err)
	}
	if w.count(string(concordat.EventCloneFinished)) == 0 {
		t.Error("caught up without a clone")
	}
	mustPut(t, third, "back", "1")
	mustAgree(t, append(g.nodes, third)...)
	if _, _, err := old.Get(accounts, []byte("joined")); !errors.Is(err, applier.ErrReplaced) {
		t.Errorf("a snapshot of what was replaced: %v, want ErrReplaced", err)
	}
}

// brokenImport is an engine whose first import is cut off half-way.
type brokenImport struct {
	applier.Engine
	cutOff context.CancelFunc
}

func (e *brokenImport) Import(ctx context.Context, r io.Reader) (applier.Position, error) {
	if e.cutOff == nil {
		return e.Engine.Import(ctx, r)
	}
	e.cutOff()
	<-ctx.Done()
	return e.Engine.Import(ctx, io.LimitReader(r, 100))
}

// A clone that was cut off between log and data is begun again by the next
// start, which asks whoever the new log says is there.
func TestCloneIsCutOff(t *testing.T) {
	t.Parallel()
	g := openGroup(t, 2, shortLog)
	outgrowLog(t, "first", g.nodes...)
	cfg := joiner(t, g.nodes...)
	shortLog(&cfg)
	cfg.Listen = freeAddress(t)
	ctx, cancel := context.WithCancel(testContext(t))
	cfg.Engine = &brokenImport{Engine: newFaultyEngine(t, cfg.Dir), cutOff: cancel}
	if n, err := concordat.Open(ctx, cfg); !errors.Is(err, context.Canceled) {
		t.Fatalf("open while cut off: %v, %v", n, err)
	}
	w := newWitness()
	cfg.Engine, cfg.Seeds, cfg.Logger = nil, nil, w.logger()
	third := mustOpen(t, cfg)
	if w.count(string(concordat.EventCloneFinished)) != 1 {
		t.Errorf("%d clones, want 1", w.count(string(concordat.EventCloneFinished)))
	}
	mustPut(t, third, "joined", "1")
	mustAgree(t, append(g.nodes, third)...)
}

// Members whose log was cut start from their own checkpoint.
func TestRestartAfterCut(t *testing.T) {
	t.Parallel()
	w := newWitness()
	g := openGroup(t, 3, shortLog)
	outgrowLog(t, "first", g.nodes...)
	for i := range g.nodes {
		g.cfgs[i].Logger = w.logger()
		g.nodes[i] = reopen(t, g.nodes[i], g.cfgs[i])
		mustPut(t, g.nodes[i], fmt.Sprint("restart", i), "1")
	}
	if w.count(string(concordat.EventCloneFinished)) != 0 {
		t.Error("a member cloned, and had all it needed")
	}
	mustAgree(t, g.nodes...)
}
