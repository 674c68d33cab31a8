package concordat_test

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/concordatdb/concordat"
)

// A member that comes back to a group of which nobody is left that it knew tells
// those who are there now that it lives while it copies, however long that takes:
// also one that was started again, and knows of them only that they speak to it.
func TestCloneAmongStrangersIsNotExpelled(t *testing.T) {
	t.Parallel()
	for _, restarted := range []bool{false, true} {
		t.Run(fmt.Sprint("restarted ", restarted), func(t *testing.T) {
			t.Parallel()
			g := openGroup(t, 3, shortLog, quick, tireless)
			mustPut(t, g.nodes[0], "before", "1")
			mustAgree(t, g.nodes...)
			past, back := g.nodes[:2], g.nodes[2]
			mustClose(t, back)
			for _, n := range past {
				eventually(t, "it to be expelled", func() bool { return len(members(n)) == 2 })
			}
			var gives atomic.Bool
			present := replaceAll(t, past, &gives)
			outgrowLog(t, "meanwhile", present...)
			expelled := expulsions(present[0])

			cfg := again(back, g.cfgs[2])
			cfg.Seeds = []string{present[0].Address(), present[1].Address()}
			cfg.MemberExpelTimeout = 4 * time.Second // it looks for its place too seldom to be told in time who is there
			back = mustStart(t, cfg)
			asks := func(d time.Duration) {
				t.Helper()
				eventually(t, "it to ask for a copy in vain", func() bool {
					r := back.Status().Recovery
					return r != nil && r.Method == concordat.RecoveryClone && time.Since(r.Since) > d
				})
			}
			if restarted {
				asks(0)
				mustClose(t, back)
				back = mustStart(t, cfg)
			}
			asks(3 * time.Second) // twice as long as an expulsion takes
			gives.Store(true)
			mustBe(t, concordat.Online, back)
			if now := expulsions(present[0]); now != expelled {
				t.Errorf("it was expelled %d times on the way: %v", now-expelled, present[0].Views())
			}
			mustPut(t, back, "back", "1")
			mustAgree(t, append(present, back)...)
		})
	}
}

// replaceAll has new members join that give copies of their state when they are to,
// and the ones that were there leave.
func replaceAll(t *testing.T, past []*concordat.Node, give *atomic.Bool) (present []*concordat.Node) {
	t.Helper()
	for range past {
		cfg := joiner(t, past...)
		shortLog(&cfg)
		quick(&cfg)
		cfg.Engine = stingy{newFaultyEngine(t, cfg.Dir), give}
		present = append(present, mustOpen(t, cfg))
	}
	for _, n := range past {
		if err := n.Leave(testContext(t), concordat.Force()); err != nil {
			t.Fatal(err)
		}
	}
	for _, n := range present {
		eventually(t, "the others to be gone", func() bool { return len(members(n)) == len(present) })
	}
	return present
}

// expulsions counts those that a member knows of.
func expulsions(n *concordat.Node) (count int) {
	for _, v := range n.Views() {
		if strings.Contains(v.Cause, "expelled") {
			count++
		}
	}
	return count
}
