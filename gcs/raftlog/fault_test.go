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
