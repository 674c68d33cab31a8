package simdisk_test

import (
	"errors"
	"testing"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/concordatdb/concordat/gcs"
	"github.com/concordatdb/concordat/gcs/logtest"
	"github.com/concordatdb/concordat/sim/simdisk"
)

// logDisk is where one log after the other is opened.
type logDisk struct{ log *simdisk.Log }

func (d *logDisk) Open() (gcs.Log, error) {
	if d.log == nil {
		d.log = simdisk.NewLog()
		return d.log, nil
	}
	// After a crash the log is open already.
	if _, err := d.log.FirstIndex(); err == nil {
		return d.log, nil
	}
	l, err := d.log.Reopen()
	if err != nil {
		return nil, err
	}
	d.log = l
	return l, nil
}

func (d *logDisk) Crash(seed uint64) {
	d.log = d.log.Crash(func(n int) int { return int(seed % uint64(n+1)) })
}

func TestLogConformance(t *testing.T) {
	logtest.Run(t, logtest.Options{
		New:          func(testing.TB) logtest.Disk { return &logDisk{} },
		OneGoroutine: true,
	})
}

// write returns a synced write of entries first..last of one term.
func write(first, last, term uint64) gcs.LogWrite {
	w := gcs.LogWrite{Sync: true}
	for i := first; i <= last; i++ {
		w.Entries = append(w.Entries, &raftpb.Entry{Index: new(i), Term: new(term)})
	}
	return w
}

func lastIndex(t *testing.T, l *simdisk.Log) uint64 {
	t.Helper()
	last, err := l.LastIndex()
	if err != nil {
		t.Fatal(err)
	}
	return last
}

// TestLogStages follows two appends through a virtual fsync.
func TestLogStages(t *testing.T) {
	l := simdisk.NewLog()
	if err := l.Stage([]gcs.LogWrite{write(1, 3, 1)}); err != nil {
		t.Fatal(err)
	}
	if err := l.Stage([]gcs.LogWrite{write(4, 5, 1), write(5, 5, 2)}); err != nil {
		t.Fatal(err)
	}
	if got := lastIndex(t, l); got != 0 {
		t.Errorf("before the sync the last index is %d", got)
	}
	if got := l.Unsynced(); got != 3 {
		t.Errorf("%d changes are unsynced, want 3", got)
	}
	l.Sync()
	if got := lastIndex(t, l); got != 5 {
		t.Errorf("after the sync the last index is %d", got)
	}
	if got := l.Unsynced(); got != 0 {
		t.Errorf("after the sync %d changes are unsynced", got)
	}
	if err := l.Stage([]gcs.LogWrite{write(6, 6, 2)}); err != nil {
		t.Fatal(err)
	}
	l.Publish()
	if got := lastIndex(t, l); got != 6 {
		t.Errorf("published, the last index is %d", got)
	}
	after := l.Crash(func(int) int { return 0 })
	if got := lastIndex(t, after); got != 5 {
		t.Errorf("published, not synced, and lost: the last index is %d", got)
	}
}

// TestLogCrashBetweenStageAndSync keeps each possible prefix once.
func TestLogCrashBetweenStageAndSync(t *testing.T) {
	for keep, want := range []uint64{2, 4, 3, 7} {
		l := simdisk.NewLog()
		if err := l.Write([]gcs.LogWrite{write(1, 2, 1)}); err != nil {
			t.Fatal(err)
		}
		// The second write replaces what the first one wrote last.
		if err := l.Stage([]gcs.LogWrite{write(3, 4, 1), write(3, 3, 2), write(4, 7, 2)}); err != nil {
			t.Fatal(err)
		}
		after := l.Crash(func(unsynced int) int {
			if unsynced != 3 {
				t.Errorf("%d changes are unsynced, want 3", unsynced)
			}
			return keep
		})
		if got := lastIndex(t, after); got != want {
			t.Errorf("with %d of 3 writes kept the last index is %d, want %d", keep, got, want)
		}
		if err := l.Write(nil); !errors.Is(err, simdisk.ErrLogClosed) {
			t.Errorf("the log before the crash answers %v", err)
		}
		if err := after.Write([]gcs.LogWrite{write(want+1, want+1, 3)}); err != nil {
			t.Errorf("with %d of 3 writes kept: %v", keep, err)
		}
	}
}

// TestLogDurableCallsSyncWhatIsStaged: an fsync does not choose.
func TestLogDurableCallsSyncWhatIsStaged(t *testing.T) {
	l := simdisk.NewLog()
	if err := l.Stage([]gcs.LogWrite{write(1, 3, 1)}); err != nil {
		t.Fatal(err)
	}
	if err := l.SetIdentity(gcs.Identity{RaftID: 7}); err != nil {
		t.Fatal(err)
	}
	after := l.Crash(func(int) int { return 0 })
	if got := lastIndex(t, after); got != 3 {
		t.Errorf("the last index is %d, want 3", got)
	}
}

func TestLogFail(t *testing.T) {
	l := simdisk.NewLog()
	if err := l.Write([]gcs.LogWrite{write(1, 3, 1)}); err != nil {
		t.Fatal(err)
	}
	broken := errors.New("disk on fire")
	l.Fail(broken)
	for range 2 {
		if err := l.Write([]gcs.LogWrite{write(4, 4, 1)}); !errors.Is(err, broken) {
			t.Errorf("write after the failure: %v", err)
		}
	}
	if err := l.Truncate(1); !errors.Is(err, broken) {
		t.Errorf("truncate after the failure: %v", err)
	}
	if got := lastIndex(t, l); got != 3 {
		t.Errorf("after the failure the last index is %d", got)
	}
}
