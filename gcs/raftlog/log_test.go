package raftlog_test

import (
	"flag"
	"math/rand/v2"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.uber.org/goleak"

	"github.com/concordatdb/concordat/gcs"
	"github.com/concordatdb/concordat/gcs/logtest"
	"github.com/concordatdb/concordat/gcs/raftlog"
)

// noLeaks checks at the end of the test that everything it started has ended.
// It is not for tests in which Pebble is lost: what is left of it stays.
func noLeaks(t *testing.T) {
	t.Helper()
	before := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, before) })
}

const dir = "data/log"

// small keeps what a test opens small: chunks and a tail that data of a few
// hundred bytes overflows.
func small(fs vfs.FS) raftlog.Options {
	return raftlog.Options{
		FS: fs, TailBytes: 1 << 10, SegmentBytes: 512 << 10, CacheBytes: 64 << 10, ChunkBytes: 999,
	}
}

// crashDisk is a directory in memory that forgets what was not synced.
type crashDisk struct {
	fs   *vfs.MemFS
	opts func(vfs.FS) raftlog.Options
	log  *raftlog.Log
}

func (d *crashDisk) Open() (gcs.Log, error) {
	l, err := raftlog.Open(dir, d.opts(d.fs))
	if err != nil {
		return nil, err
	}
	d.log = l
	return l, nil
}

// Crash goes on with the file system as it might be after power was lost. The
// old one is closed so that its goroutines end.
func (d *crashDisk) Crash(seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 0))
	after := d.fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: int(seed % 101), RNG: rng})
	_ = d.log.Close()
	d.fs = after
}

// TestConformance serves readers from memory, from disk, and from both; the
// second kind writes to warm segments.
func TestConformance(t *testing.T) {
	noLeaks(t)
	checkModel(t)
	tails := []int{16 << 20, 1, 1 << 10}
	disks := 0
	logtest.Run(t, logtest.Options{New: func(testing.TB) logtest.Disk {
		tail := tails[disks%len(tails)]
		disks++
		return &crashDisk{fs: vfs.NewCrashableMem(), opts: func(fs vfs.FS) raftlog.Options {
			o := small(fs)
			o.TailBytes = tail
			o.WarmSegments = tail == 1
			return o
		}}
	}})
}

// checkModel sets how many sequences of calls the model is tried on, unless
// somebody has said it.
func checkModel(t *testing.T) {
	t.Helper()
	f := flag.Lookup("rapid.checks")
	if f.Value.String() != f.DefValue {
		return
	}
	if err := f.Value.Set(modelChecks); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Value.Set(f.DefValue); err != nil {
			t.Error(err)
		}
	})
}
