package concordat_test

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/concordatdb/concordat"
	"github.com/concordatdb/concordat/gcs"
	"github.com/concordatdb/concordat/gcs/raftlog"
	"github.com/concordatdb/concordat/gcs/transport"
	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/proto/concordat/peer/v1"
)

// joinedAndExpelled has the group take in the member of cfg, which does nothing
// more, until the group has expelled it. Only what the member had on disk by then
// is left: that it asked and, if it was told, that it was taken in.
func joinedAndExpelled(t *testing.T, g *group, cfg concordat.Config, told bool) (raftID uint64) {
	t.Helper()
	n := g.nodes[0]
	view := n.Status().View.ID
	id := gcs.Identity{Group: n.Status().Group, Member: gtid.UUID{7: 1}, RaftID: 0x1234567, Session: 1}
	req := &peerpb.JoinRequest{
		Identity: transport.IdentityOf(id, cfg.Listen), Version: concordat.Version,
	}
	eventually(t, "the group to take it in", func() bool {
		for _, n := range g.nodes {
			if r, err := transport.Join(testContext(t), n.Address(), req, nil); err == nil && r.GetAccepted() {
				return true
			}
		}
		return false
	})
	if told {
		id.Incarnation = n.Status().Incarnation
	}
	log, err := raftlog.Open(filepath.Join(cfg.Dir, "log"), raftlog.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := log.SetIdentity(id); err != nil {
		t.Fatal(err)
	}
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	// The view that has it may be over before the directory is synced.
	eventually(t, "it to be expelled", func() bool { return n.Status().View.ID >= view+2 && len(members(n)) == len(g.nodes) })
	return id.RaftID
}

// Whoever is taken in and expelled before it can know either draws a new raft
// id and joins.
func TestExpelledBeforeItsFirstEntry(t *testing.T) {
	t.Parallel()
	for name, told := range map[string]bool{"without an answer": false, "with an empty log": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := openGroup(t, 2, quick)
			cfg := joiner(t, g.nodes...)
			quick(&cfg)
			cfg.Listen, cfg.AutoRejoinInterval = freeAddress(t), 50*time.Millisecond
			before := joinedAndExpelled(t, g, cfg, told)
			n := mustOpen(t, cfg)
			if raftID(t, n) == before {
				t.Error("it is back under the raft id that was expelled")
			}
			mustPut(t, n, "k", "v")
			mustAgree(t, append(g.nodes, n)...)
			// And once more, from what it has on disk now.
			n = reopen(t, n, cfg)
			mustAgree(t, append(g.nodes, n)...)
		})
	}
}

// A new member that cannot begin from the log says that it lives while it copies
// another one's state, however long that takes: also one that was started again
// and knows the others by their addresses only.
func TestLongFirstCloneIsNotExpelled(t *testing.T) {
	t.Parallel()
	for _, restarted := range []bool{false, true} {
		t.Run(fmt.Sprint("restarted ", restarted), func(t *testing.T) {
			t.Parallel()
			patient := func(c *concordat.Config) {
				c.MemberSuspectTimeout, c.MemberExpelTimeout = time.Second, 3*time.Second
			}
			g := openGroup(t, 2, shortLog, patient)
			outgrowLog(t, "first", g.nodes...)
			for i := range 60 {
				noise := make([]byte, 5000)
				_, _ = rand.Read(noise)
				mustPut(t, g.nodes[0], fmt.Sprint("noise", i), hex.EncodeToString(noise))
			}
			cfg := joiner(t, g.nodes...)
			shortLog(&cfg)
			patient(&cfg)
			cfg.CloneRate, cfg.Listen = 48<<10, freeAddress(t) // which takes longer than that
			n := mustStart(t, cfg)
			eventually(t, "the copy to begin", func() bool { return len(eventsOf(n, concordat.EventCloneStarted)) == 1 })
			if restarted {
				mustClose(t, n)
				n = mustStart(t, cfg)
			}
			mustBe(t, concordat.Online, n)
			for _, v := range g.nodes[0].Views() {
				if strings.Contains(v.Cause, "expelled") {
					t.Errorf("view %d: %s", v.ID, v.Cause)
				}
			}
			mustAgree(t, append(g.nodes, n)...)
		})
	}
}

// When nobody hears anybody for so long that all give up, the group comes back
// with the network: by itself, or by order if that took longer than the members
// try.
func TestOutageLongerThanPatience(t *testing.T) {
	t.Parallel()
	for name, tries := range map[string]int{"by itself": 1000, "by order": 1} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := testContext(t)
			g := openLinked(t, 3, neverExpel, func(c *concordat.Config) {
				c.UnreachableMajorityTimeout = 300 * time.Millisecond
				c.AutoRejoinTries, c.AutoRejoinInterval = tries, 50*time.Millisecond
			})
			mustPut(t, g.nodes[0], "before", "1")
			mustAgree(t, g.nodes...)
			before := raftID(t, g.nodes[0])
			for i := range g.nodes {
				g.isolate(i, true)
			}
			if name == "by order" {
				for _, n := range g.nodes {
					eventually(t, "it to give up for good", func() bool { return len(eventsOf(n, concordat.EventExitStateAction)) == 1 })
				}
			} else {
				mustBe(t, concordat.Error, g.nodes...)
			}
			for i := range g.nodes {
				g.isolate(i, false)
			}
			if name == "by order" {
				for _, n := range g.nodes {
					eventually(t, "the order to find the others", func() bool {
						_, err := n.Rejoin(ctx, concordat.RejoinOptions{})
						return err == nil
					})
				}
			}
			mustBe(t, concordat.Online, g.nodes...)
			mustPut(t, g.nodes[2], "after", "1")
			mustAgree(t, g.nodes...)
			if now := raftID(t, g.nodes[0]); now != before {
				t.Errorf("it had raft id %d, now %d", before, now)
			}
		})
	}
}
