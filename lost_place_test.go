package concordat_test

import (
	"path/filepath"
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
	eventually(t, "the view that has it", func() bool { return len(members(n)) == len(g.nodes)+1 })
	eventually(t, "it to be expelled", func() bool { return len(members(n)) == len(g.nodes) })
	return id.RaftID
}

// Whoever is taken in and expelled before it can know either draws a new raft
// id and joins.
func TestExpelledBeforeItsFirstEntry(t *testing.T) {
	for name, told := range map[string]bool{"without an answer": false} {
		t.Run(name, func(t *testing.T) {
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
