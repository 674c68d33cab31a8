package concordat_test

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/concordatdb/concordat"
	"github.com/concordatdb/concordat/applier"
)

// A member that the others expel in the middle of its copy notices that, gives
// its place up, and comes back as a new one. What it shows on the way is what it
// had before or what the group has, and nothing in between.
func TestExpelledWhileCloning(t *testing.T) {
	t.Parallel()
	const large, at = 20, 2
	g := openLinked(t, 3, quick, tireless, shortLog, func(c *concordat.Config) { c.CloneRate = 1 << 20 })
	mustPut(t, g.nodes[0], "before", "1")
	mustAgree(t, g.nodes...)
	mustClose(t, g.nodes[at])
	rest := g.nodes[:at]
	for _, n := range rest {
		eventually(t, "it to be expelled", func() bool { return len(members(n)) == 2 })
	}
	_, err := rest[0].Update(testContext(t), func(tx *concordat.Tx) error {
		for i := range large {
			noise := make([]byte, 16<<10)
			_, _ = rand.Read(noise) // never fails, and does not compress
			if err := tx.Put(accounts, fmt.Append(nil, "large", i), []byte(hex.EncodeToString(noise))); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	outgrowLog(t, "much", rest...)
	g.restart(t, at)
	n := g.nodes[at]
	whole := func() {
		t.Helper()
		found := map[string]string{}
		err := n.View(testContext(t), func(tx *concordat.Tx) error {
			for k, v := range tx.Scan(accounts, nil, nil) {
				found[string(k)] = string(v)
			}
			return nil
		})
		seen := 0
		for i := range large {
			if found[fmt.Sprint("large", i)] != "" {
				seen++
			}
		}
		if err == nil && (found["before"] != "1" || seen != 0 && seen != large) {
			t.Errorf("it is %s, and shows %d of %d keys of one transaction", n.Status().State, seen, large)
		}
	}
	eventually(t, "a part of the copy", func() bool {
		whole()
		r := n.Status().Recovery
		return r != nil && r.Method == concordat.RecoveryClone && r.Done > 0 && r.Done < r.Total
	})
	lost := len(eventsOf(n, concordat.EventLost))
	g.isolate(at, true)
	for _, other := range rest {
		eventually(t, "it to be expelled", func() bool { whole(); return len(members(other)) == 2 })
	}
	before := raftIDs(rest[0])
	g.isolate(at, false)
	eventually(t, "it to notice", func() bool { whole(); return len(eventsOf(n, concordat.EventLost)) > lost })
	eventually(t, "it to be back", func() bool { whole(); return n.Status().State == concordat.Online })
	if now := raftID(t, n); before[now] || len(members(n)) != 3 {
		t.Errorf("it is back with raft id %d of %v", now, n.Status().View)
	}
	mustPut(t, n, "back", "1")
	mustAgree(t, g.nodes...)
}

// raftIDs are those of a member's view.
func raftIDs(n *concordat.Node) map[uint64]bool {
	ids := map[uint64]bool{}
	for _, m := range n.Status().View.Members {
		ids[m.RaftID] = true
	}
	return ids
}

// stingy is an engine that gives no copy of its state.
type stingy struct {
	applier.Engine
	gives *atomic.Bool
}

func (e stingy) NewExport() (applier.Export, error) {
	if !e.gives.Load() {
		return nil, errors.New("out of space for a snapshot")
	}
	return e.Engine.NewExport()
}

// A member whose state is to be replaced, and for which nobody has a copy, waits
// in RECOVERING for one. The order ends with its caller, and says why; what the
// member had is not gone before something else is there.
func TestCloneWithoutDonor(t *testing.T) {
	t.Parallel()
	var gives atomic.Bool
	g := &group{}
	for i := range 3 {
		cfg := founder(t)
		if i > 0 {
			cfg = joiner(t, g.nodes[0])
		}
		if i < 2 {
			cfg.Engine = stingy{newFaultyEngine(t, cfg.Dir), &gives}
		}
		neverExpel(&cfg)
		g.cfgs, g.nodes = append(g.cfgs, cfg), append(g.nodes, mustOpen(t, cfg))
	}
	mustPut(t, g.nodes[0], "before", "1")
	mustAgree(t, g.nodes...)
	n := g.nodes[2]
	eventually(t, "three voters", func() bool { return n.Status().Outlook.Voters == 3 })
	before := raftID(t, n)
	ctx, cancel := context.WithCancel(testContext(t))
	cloned := make(chan error, 1)
	go func() { cloned <- n.Clone(ctx, "") }()
	eventually(t, "both others to be asked in vain, and again", func() bool {
		r := n.Status().Recovery
		return len(eventsOf(n, concordat.EventCloneFailed)) >= 2 && r != nil && r.Attempt > 5
	})
	cancel()
	err := <-cloned
	if !errors.Is(err, context.Canceled) || !errors.Is(err, concordat.ErrNotOnline) || !strings.Contains(err.Error(), "RECOVERING") {
		t.Errorf("without a donor: %v", err)
	}
	if text := eventsOf(n, concordat.EventCloneFailed)[0].Text; !strings.Contains(text, "out of space") {
		t.Errorf("it says %q", text)
	}
	for range 2 {
		eventually(t, "it to wait for a donor", func() bool {
			s := n.Status()
			return s.State == concordat.Recovering && s.Recovery != nil && s.Recovery.Method == concordat.RecoveryClone
		})
		if _, at, err := n.Digest(); err != nil || at.Index == 0 {
			t.Errorf("what it had is gone: it is at %v, %v", at, err)
		}
		if err := n.View(testContext(t), func(*concordat.Tx) error { return nil }); !errors.Is(err, concordat.ErrNotOnline) {
			t.Errorf("it shows what is to be replaced: %v", err)
		}
		mustClose(t, n)
		n = mustStart(t, again(n, g.cfgs[2]))
	}
	gives.Store(true)
	mustBe(t, concordat.Online, n)
	if now := raftID(t, n); now == before {
		t.Errorf("it is back under the raft id %d, which has left", now)
	}
	mustPut(t, n, "after", "1")
	mustAgree(t, g.nodes[0], g.nodes[1], n)
}

// A member that has left, and whose node is open still, is brought back by order:
// nobody else would do it.
func TestRejoinAfterLeave(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	g := openLinked(t, 3, neverExpel, func(c *concordat.Config) { c.AutoRejoinInterval = 15 * time.Second })
	mustPut(t, g.nodes[0], "before", "1")
	mustAgree(t, g.nodes...)
	n := g.nodes[2]
	before := raftID(t, n)
	if err := concordat.LetGo(ctx, n); err != nil {
		t.Fatal(err)
	}
	mustBe(t, concordat.Offline, n)
	g.isolate(2, true)
	if _, err := n.Rejoin(ctx, concordat.RejoinOptions{}); err == nil {
		t.Error("nobody hears it, and it is back")
	}
	if s := n.Status(); s.State != concordat.Offline {
		t.Errorf("it is %s", s.State)
	}
	g.isolate(2, false)
	eventually(t, "the others to take it in", func() bool {
		_, err := n.Rejoin(ctx, concordat.RejoinOptions{})
		if err != nil && !errors.Is(err, concordat.ErrNoQuorum) { // which a busy machine takes from them
			t.Fatal(err)
		}
		return err == nil
	})
	mustBe(t, concordat.Online, n)
	if now := raftID(t, n); now == before {
		t.Errorf("it is back under the raft id %d, which has left", now)
	}
	mustPut(t, n, "after", "1")
	mustAgree(t, g.nodes...)
	if _, err := n.Rejoin(ctx, concordat.RejoinOptions{}); !errors.Is(err, concordat.ErrRefused) {
		t.Errorf("it has its place: %v", err)
	}
}
