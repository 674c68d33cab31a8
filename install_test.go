package concordat

import (
	"errors"
	"path/filepath"
	"testing"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/concordatdb/concordat/applier/pebblekv"
	"github.com/concordatdb/concordat/gcs"
	"github.com/concordatdb/concordat/gcs/raftlog"
	"github.com/concordatdb/concordat/gtid"
)

// TestInstallLog shows what stays of the log when a checkpoint of another
// member comes: all that this member may have answered for.
func TestInstallLog(t *testing.T) {
	t.Parallel()
	// The log holds entries 11 to 20 of term 2 after a checkpoint at 10; the
	// data are lost.
	for name, c := range map[string]struct {
		index, term uint64
		useless     bool
		first, last uint64 // of the log afterwards
	}{
		"before the log":            {index: 9, term: 1, useless: true, first: 11, last: 20},
		"at its beginning":          {index: 10, term: 2, first: 11, last: 20},
		"in it, of the same term":   {index: 15, term: 2, first: 16, last: 20},
		"its end":                   {index: 20, term: 2, first: 21, last: 20},
		"in it, of another term":    {index: 15, term: 3, first: 16, last: 15},
		"beyond it":                 {index: 30, term: 3, first: 31, last: 30},
		"beyond it, of an old term": {index: 30, term: 2, first: 31, last: 30},
	} {
		t.Run(name, func(t *testing.T) {
			n := newLogOnlyNode(t)
			err := n.installLog(gcs.Checkpoint{Index: c.index, Term: c.term, Data: []byte("state")}, false)
			if c.useless != errors.Is(err, errClone) || (!c.useless && err != nil) {
				t.Fatalf("useless %v: %v", c.useless, err)
			}
			first, _ := n.log.FirstIndex()
			last, _ := n.log.LastIndex()
			if first != c.first || last != c.last {
				t.Errorf("log from %d to %d, want %d to %d", first, last, c.first, c.last)
			}
			if hs := n.log.HardState(); hs.GetTerm() < 2 || (hs.GetTerm() == 2 && hs.GetVote() != 7) {
				t.Errorf("term %d and vote %d, the vote of term 2 was for 7", hs.GetTerm(), hs.GetVote())
			}
			if saved, err := n.log.Checkpoint(c.index); err != nil || (!c.useless && saved.Index != c.index) {
				t.Errorf("checkpoint at %d, want %d (%v)", saved.Index, c.index, err)
			}
		})
	}
}

// newLogOnlyNode has a log that begins after its data end.
func newLogOnlyNode(t *testing.T) *Node {
	dir := t.TempDir()
	log, err := raftlog.Open(filepath.Join(dir, logDir), raftlog.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = log.Close() })
	engine, err := pebblekv.Open(filepath.Join(dir, dataDir), pebblekv.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = engine.Close() })
	hs := &raftpb.HardState{Term: new(uint64(2)), Vote: new(uint64(7)), Commit: new(uint64(10))}
	if err := log.Reset(gcs.Checkpoint{Index: 10, Term: 2, Data: emptyState}, hs); err != nil {
		t.Fatal(err)
	}
	var entries []*raftpb.Entry
	for index := uint64(11); index <= 20; index++ {
		entries = append(entries, &raftpb.Entry{Index: new(index), Term: new(uint64(2)), Type: raftpb.EntryNormal.Enum()})
	}
	if err := log.Write([]gcs.LogWrite{{Entries: entries, Sync: true}}); err != nil {
		t.Fatal(err)
	}
	return &Node{log: log, engine: engine}
}

// quickTick has a founder lead soon.
const quickTick = 20 * time.Millisecond

// TestFoundingCutOff: a crash between the first entry of a group and the name
// of its founder leaves a directory that can found it again, and nothing else.
func TestFoundingCutOff(t *testing.T) {
	t.Parallel()
	const group = "5f0c6b8a-3d1e-4c43-9a53-0d1c2b3a4f50"
	dir := t.TempDir()
	log, err := raftlog.Open(filepath.Join(dir, logDir), raftlog.Options{})
	if err != nil {
		t.Fatal(err)
	}
	id := gcs.Identity{Member: gtid.UUID{1}, RaftID: 5, Incarnation: gtid.UUID{2}}
	id.Group, _ = gtid.ParseUUID(group)
	w, err := gcs.Bootstrap(id, gcs.Member{UUID: id.Member, RaftID: id.RaftID, Address: "127.0.0.1:1"})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(log.Write([]gcs.LogWrite{w}), log.Close()); err != nil {
		t.Fatal(err)
	}
	cfg := Config{Group: group, Dir: dir, Listen: "127.0.0.1:0", Seeds: []string{"127.0.0.1:1"}, TickInterval: quickTick}
	if n, err := Open(t.Context(), cfg); !errors.Is(err, ErrDirectory) {
		if err == nil {
			_ = n.Close()
		}
		t.Fatalf("joining from a founder's directory: %v, want ErrDirectory", err)
	}
	cfg.Seeds, cfg.Bootstrap = nil, true
	n, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestRefusedJoinLeavesNothing: a directory that only asked to join a group
// that does not know it can be used for another one, as whatever it should be.
func TestRefusedJoinLeavesNothing(t *testing.T) {
	t.Parallel()
	const group, other = "5f0c6b8a-3d1e-4c43-9a53-0d1c2b3a4f50", "5f0c6b8a-3d1e-4c43-9a53-0d1c2b3a4f51"
	founder, err := Open(t.Context(), Config{Group: group, Dir: t.TempDir(), Listen: "127.0.0.1:0", Bootstrap: true, TickInterval: quickTick})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = founder.Close() })
	cfg := Config{Group: other, Dir: t.TempDir(), Listen: "127.0.0.1:0", Seeds: []string{founder.Address()}, TickInterval: quickTick}
	if n, err := Open(t.Context(), cfg); !errors.Is(err, ErrJoinRefused) {
		if err == nil {
			_ = n.Close()
		}
		t.Fatalf("joining with the wrong name: %v, want ErrJoinRefused", err)
	}
	cfg.Group = group
	n, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatalf("joining with the right name: %v", err)
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	cfg.Group = other
	if n, err := Open(t.Context(), cfg); !errors.Is(err, ErrDirectory) {
		if err == nil {
			_ = n.Close()
		}
		t.Fatalf("a member's directory under another name: %v, want ErrDirectory", err)
	}
}
