package raftlog_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/concordatdb/concordat/gcs"
	"github.com/concordatdb/concordat/gcs/raftlog"
)

// In these tests Pebble is lost. What is left of it stays, and may go on with what it
// was in the middle of, so they come after those that look for goroutines.

// TestWriteErrors breaks the disk under a synced write in all the ways that
// Pebble treats as fatal.
func TestWriteErrors(t *testing.T) {
	for _, c := range []struct {
		name  string
		match func(errorfs.Op) bool
		size  int // of an entry: a big one needs a new segment
	}{
		{name: "write", size: 100, match: func(op errorfs.Op) bool {
			return isLog(op) && op.Kind == errorfs.OpFileWrite
		}},
		{name: "fdatasync", size: 100, match: func(op errorfs.Op) bool {
			return isLog(op) && (op.Kind == errorfs.OpFileSyncData || op.Kind == errorfs.OpFileSync)
		}},
		{name: "everything", size: 100, match: func(op errorfs.Op) bool {
			return op.Kind.ReadOrWrite() == errorfs.OpIsWrite
		}},
		{name: "creating a segment", size: 600 << 10, match: func(op errorfs.Op) bool {
			return isLog(op) && (op.Kind == errorfs.OpCreate || op.Kind == errorfs.OpReuseForWrite)
		}},
		{name: "syncing the directory", size: 600 << 10, match: func(op errorfs.Op) bool {
			return op.Path == dir && op.Kind == errorfs.OpFileSync
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			disk := vfs.NewCrashableMem()
			fs := newFaults(disk, c.match)
			var told fatals
			o := small(fs)
			o.OnFatal = told.add
			l := mustOpen(t, o)
			mustWrite(t, l, entries(1, 20, 200))

			fs.broken.Store(true)
			first := write(l, entries(21, 21, c.size))
			if first == nil {
				t.Fatal("a write to a broken disk gave no error")
			}
			if got := told.all(); len(got) != 1 || !errors.Is(first, got[0]) {
				t.Errorf("OnFatal was told %v, the writer %v", got, first)
			}
			checkOutOfService(t, l, first)

			if err := l.Close(); !errors.Is(err, first) || !strings.Contains(err.Error(), dir) {
				t.Errorf("close: %v", err)
			}
			if got := told.all(); len(got) != 1 {
				t.Errorf("OnFatal was called %d times", len(got))
			}
			// What is left of Pebble may still write: nobody else must.
			if _, err := raftlog.Open(dir, small(disk)); !errors.Is(err, raftlog.ErrInUse) {
				t.Errorf("open beside the failed one: %v", err)
			}
			// A restart of the machine ends that.
			checkAfterCrash(t, disk.CrashClone(vfs.CrashCloneCfg{}), 20, 200)
		})
	}
}

// checkOutOfService: every write gives the first error again, and reads go on,
// from memory and from disk. The broken disk keeps the entries 1..20.
func checkOutOfService(t *testing.T, l *raftlog.Log, first error) {
	t.Helper()
	for name, call := range map[string]func() error{
		"write":      func() error { return write(l, entries(21, 21, 10)) },
		"identity":   func() error { return l.SetIdentity(gcs.Identity{RaftID: 1}) },
		"record":     func() error { return l.SetRecord([]byte("r")) },
		"adopt":      func() error { return l.Adopt(gcs.Adoption{HardState: &raftpb.HardState{}}) },
		"truncate":   func() error { return l.Truncate(3) },
		"checkpoint": func() error { return l.SaveCheckpoint(gcs.Checkpoint{Index: 3, Term: 1}) },
		"reset":      func() error { return l.Reset(gcs.Checkpoint{Index: 99, Term: 1}, nil) },
	} {
		if err := call(); !errors.Is(err, first) {
			t.Errorf("%s after the failure: %v, want %v", name, err, first)
		}
	}
	if last, err := l.LastIndex(); err != nil || last != 20 {
		t.Errorf("last index is %d, %v", last, err)
	}
	checkEntries(t, l, 1, 20, 200)
	checkEntries(t, l, 19, 20, 200)
}

// TestStallEnds fills the memory while nothing can be flushed: writes must fail
// rather than wait for a disk that stays full.
func TestStallEnds(t *testing.T) {
	fs := newFaults(vfs.NewMem(), func(op errorfs.Op) bool {
		return strings.HasSuffix(op.Path, ".sst") && op.Kind.ReadOrWrite() == errorfs.OpIsWrite
	})
	o := small(fs)
	o.SegmentBytes = 64 << 10
	l := mustOpen(t, o)
	mustWrite(t, l, entries(1, 20, 200))
	fs.broken.Store(true)
	var err error
	for i := uint64(21); err == nil; i++ {
		err = write(l, entries(i, i, 20_000))
		if i > 1000 {
			t.Fatal("a thousand writes fit into memory")
		}
	}
	if !errors.Is(err, errorfs.ErrInjected) {
		t.Errorf("write: %v", err)
	}
	checkEntries(t, l, 1, 20, 200)
	fs.broken.Store(false) // or what is left of Pebble retries for ever
	if err := l.Close(); err == nil {
		t.Error("a log that is lost was closed")
	}
}
