package raftlog_test

import (
	"bytes"
	"errors"
	"math"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/concordatdb/concordat/gcs"
	"github.com/concordatdb/concordat/gcs/raftlog"
)

// faults is a file system that begins to fail when it is told to.
type faults struct {
	vfs.FS
	broken atomic.Bool
}

// newFaults fails the operations that match says, once broken is set.
func newFaults(fs vfs.FS, match func(errorfs.Op) bool) *faults {
	f := &faults{}
	f.FS = errorfs.Wrap(fs, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if f.broken.Load() && match(op) {
			return errorfs.ErrInjected
		}
		return nil
	}))
	return f
}

// fatals collects what OnFatal is told.
type fatals struct {
	mu   sync.Mutex
	errs []error
}

func (f *fatals) add(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.errs = append(f.errs, err)
}

func (f *fatals) all() []error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]error(nil), f.errs...)
}

func mustOpen(t testing.TB, o raftlog.Options) *raftlog.Log {
	t.Helper()
	l, err := raftlog.Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// entries returns the entries first..last of term 1, each of size bytes that
// tell its index.
func entries(first, last uint64, size int) []*raftpb.Entry {
	var out []*raftpb.Entry
	for i := first; i <= last; i++ {
		out = append(out, &raftpb.Entry{
			Index: new(i), Term: new(uint64(1)), Data: bytes.Repeat([]byte{byte(i), byte(i >> 8)}, size/2),
		})
	}
	return out
}

func write(l *raftlog.Log, es []*raftpb.Entry) error {
	return l.Write([]gcs.LogWrite{{Entries: es, Sync: true}})
}

func mustWrite(t testing.TB, l *raftlog.Log, es []*raftpb.Entry) {
	t.Helper()
	if err := write(l, es); err != nil {
		t.Fatal(err)
	}
}

// checkEntries reads the entries first..last made by entries.
func checkEntries(t testing.TB, l *raftlog.Log, first, last uint64, size int) {
	t.Helper()
	got, err := l.Entries(first, last+1, math.MaxUint64)
	if err != nil || uint64(len(got)) != last-first+1 {
		t.Fatalf("%d entries from %d to %d: %v", len(got), first, last, err)
	}
	for i, want := range entries(first, last, size) {
		if got[i].GetIndex() != want.GetIndex() || !bytes.Equal(got[i].GetData(), want.GetData()) {
			t.Fatalf("entry %d has index %d and %d bytes that differ", want.GetIndex(), got[i].GetIndex(), len(got[i].GetData()))
		}
	}
}

func isLog(op errorfs.Op) bool { return strings.HasSuffix(op.Path, ".log") }

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

// TestOpenErrors breaks every operation of an Open in turn. Each gives an error
// or a log that works; none hangs, and none ends the process.
func TestOpenErrors(t *testing.T) {
	for n := int64(1); ; n++ {
		disk := vfs.NewMem()
		l := mustOpen(t, small(disk))
		mustWrite(t, l, entries(1, 20, 200))
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		var ops atomic.Int64
		fs := errorfs.Wrap(disk, errorfs.InjectorFunc(func(op errorfs.Op) error {
			if ops.Add(1) == n {
				return errorfs.ErrInjected
			}
			return nil
		}))
		l, err := raftlog.Open(dir, small(fs))
		opened := ops.Swap(math.MinInt64) // what comes now is not Open's
		if err == nil {
			checkEntries(t, l, 1, 20, 200)
			_ = l.Close()
		}
		if opened < n {
			return
		}
	}
}

// TestReadErrorsStayBelowRaft makes reading of old entries fail.
func TestReadErrorsStayBelowRaft(t *testing.T) {
	noLeaks(t)
	fs := newFaults(vfs.NewMem(), func(op errorfs.Op) bool {
		return strings.HasSuffix(op.Path, ".sst") && op.Kind == errorfs.OpFileReadAt
	})
	var told fatals
	o := small(fs)
	o.OnFatal = told.add
	l := mustOpen(t, o)
	mustWrite(t, l, entries(1, 2000, 500))
	if err := l.Close(); err != nil { // and Open moves it all into tables
		t.Fatal(err)
	}
	l = mustOpen(t, o)
	defer func() { _ = l.Close() }()
	mustWrite(t, l, entries(2001, 2001, 10))

	fs.broken.Store(true)
	got, err := l.Entries(1, 1500, math.MaxUint64)
	if got != nil || err != nil {
		t.Errorf("raft is given %d entries and error %v", len(got), err)
	}
	if got := told.all(); len(got) != 1 || !errors.Is(got[0], errorfs.ErrInjected) {
		t.Errorf("OnFatal was told %v", got)
	}
	if err := write(l, entries(2002, 2002, 10)); err == nil {
		t.Error("a log that cannot be read takes a write")
	}
	checkEntries(t, l, 2001, 2001, 10)
}

// TestCrashWhileWriting takes the file system away in the middle of writes,
// with segments so small that they are rotated and flushed all the time. What
// was acknowledged must be there each time.
func TestCrashWhileWriting(t *testing.T) {
	noLeaks(t)
	for seed := range uint64(4) {
		fs := vfs.NewCrashableMem()
		o := small(fs)
		o.SegmentBytes = 64 << 10
		o.WarmSegments = seed%2 == 1
		l := mustOpen(t, o)
		var acked atomic.Uint64
		var wg sync.WaitGroup
		wg.Go(func() {
			for i := uint64(1); i <= 600; i++ {
				if err := write(l, entries(i, i, 1000)); err != nil {
					t.Error(err)
					return
				}
				acked.Store(i)
			}
		})
		rng := rand.New(rand.NewPCG(seed, 1))
		for at := uint64(0); at < 600; {
			if now := acked.Load(); now < min(at+100, 600) {
				continue
			}
			at = acked.Load()
			after := fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: int(seed * 33), RNG: rng})
			checkAfterCrash(t, after, at, 1000)
		}
		wg.Wait()
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestCrashWhileAdopting takes the file system away in the middle of adoptions.
// What is there then is one adoption, all of it, and not an older one than the
// last that was acknowledged.
func TestCrashWhileAdopting(t *testing.T) {
	noLeaks(t)
	const rounds = 200
	for seed := range uint64(4) {
		fs := vfs.NewCrashableMem()
		o := small(fs)
		o.SegmentBytes = 64 << 10
		l := mustOpen(t, o)
		var acked atomic.Uint64
		var wg sync.WaitGroup
		wg.Go(func() {
			for n := uint64(1); n <= rounds; n++ {
				if err := l.Adopt(adoption(n)); err != nil {
					t.Error(err)
					return
				}
				acked.Store(n)
			}
		})
		rng := rand.New(rand.NewPCG(seed, 2))
		for at := uint64(0); at < rounds; {
			if now := acked.Load(); now < min(at+20, rounds) {
				continue
			}
			at = acked.Load()
			after := fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: int(seed * 33), RNG: rng})
			checkAdopted(t, after, at)
		}
		wg.Wait()
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}
}

// adoption is the nth: n tells in all of its parts. Each third empties the log,
// the others replace more or less of it.
func adoption(n uint64) gcs.Adoption {
	a := gcs.Adoption{
		Identity:  gcs.Identity{RaftID: 7, Session: n},
		HardState: &raftpb.HardState{Term: new(n), Commit: new(uint64(0))},
		Record:    bytes.Repeat([]byte{byte(n)}, int(n*10)),
	}
	if n%3 == 0 {
		return a
	}
	for i := range n%5 + 1 {
		a.Entries = append(a.Entries, &raftpb.Entry{Index: new(i + 1), Term: new(n), Data: make([]byte, 1000)})
	}
	a.HardState.Commit = new(n%5 + 1)
	return a
}

func checkAdopted(t *testing.T, fs vfs.FS, acked uint64) {
	t.Helper()
	l := mustOpen(t, small(fs))
	n := l.Identity().Session
	want := adoption(n)
	last, err := l.LastIndex()
	if n < acked || err != nil || last != uint64(len(want.Entries)) {
		t.Errorf("after a crash adoption %d is there, %d was acknowledged; the log ends at %d (%v)", n, acked, last, err)
	}
	if hs := l.HardState(); hs.GetTerm() != n || hs.GetCommit() != last || !bytes.Equal(l.Record(), want.Record) {
		t.Errorf("adoption %d has the hard state %v and a record of %d bytes", n, hs, len(l.Record()))
	}
	if term, err := l.Term(last); err != nil || last > 0 && term != n {
		t.Errorf("adoption %d has entries of term %d (%v)", n, term, err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}

func checkAfterCrash(t *testing.T, fs vfs.FS, acked uint64, size int) {
	t.Helper()
	l, err := raftlog.Open(dir, small(fs))
	if err != nil {
		t.Errorf("after a crash: %v", err)
		return
	}
	last, err := l.LastIndex()
	if err != nil || last < acked {
		t.Errorf("after a crash the last index is %d (%v), %d was acknowledged", last, err, acked)
	}
	checkEntries(t, l, 1, acked, size)
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}
