package pebblekv

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/concordatdb/concordat/applier"
	"github.com/concordatdb/concordat/gtid"
)

var table = applier.Table{Schema: "bank", Name: "accounts"}

// batchOf puts key = value at log index index.
func batchOf(index uint64, key, value string) applier.Batch {
	id := gtid.GTID{UUID: gtid.UUID{1}, Number: index}
	m := applier.Mutation{Op: applier.OpPut, Table: table, Key: []byte(key), Value: []byte(value)}
	return applier.Batch{
		Transactions: []applier.Transaction{{GTID: id, Payload: applier.AppendMutation(nil, m)}},
		To:           applier.Position{Index: index, Executed: gtid.Set{}.AddInterval(id.UUID, "", 1, index)},
	}
}

// diskFault fails operations on files whose base name begins or ends with name.
type diskFault struct {
	kinds []errorfs.OpKind
	name  string
	on    atomic.Bool
}

func (f *diskFault) String() string { return fmt.Sprint(f.kinds, " ", f.name) }

var errDisk = errors.New("the disk is on fire")

func (f *diskFault) MaybeError(op errorfs.Op) error {
	base := op.Path[strings.LastIndexByte(op.Path, '/')+1:]
	match := strings.HasPrefix(base, f.name) || strings.HasSuffix(base, f.name)
	if f.on.Load() && match && slices.Contains(f.kinds, op.Kind) {
		return errDisk
	}
	return nil
}

var (
	opWrite  = []errorfs.OpKind{errorfs.OpFileWrite}
	opSync   = []errorfs.OpKind{errorfs.OpFileSync, errorfs.OpFileSyncData, errorfs.OpFileSyncTo}
	opCreate = []errorfs.OpKind{errorfs.OpCreate, errorfs.OpReuseForWrite, errorfs.OpRename}
)

// TestDiskFailure fails every kind of file in every way while batches are
// applied. The engine must fail once, say so from every call that would change
// something, and go on reading.
func TestDiskFailure(t *testing.T) {
	for _, f := range []struct {
		what  string
		kinds []errorfs.OpKind
		name  string
	}{
		{"write WAL", opWrite, ".log"},
		{"sync WAL", opSync, ".log"},
		{"create WAL", opCreate, ".log"},
		{"write MANIFEST", opWrite, "MANIFEST"},
		{"sync MANIFEST", opSync, "MANIFEST"},
		{"create table", opCreate, ".sst"},
		{"write table", opWrite, ".sst"},
		{"sync table", opSync, ".sst"},
		{"sync directory", opSync, "state-000001"},
		{"write anything", opWrite, ""},
		{"sync anything", opSync, ""},
		{"create anything", opCreate, ""},
	} {
		t.Run(f.what, func(t *testing.T) {
			testDiskFailure(t, &diskFault{kinds: f.kinds, name: f.name})
		})
	}
}

func testDiskFailure(t *testing.T, fault *diskFault) {
	mem := vfs.NewCrashableMem()
	fatal := make(chan error, 2)
	opts := testOptions()
	opts.FS = errorfs.Wrap(mem, fault)
	opts.OnFatal = func(err error) { fatal <- err }
	e, err := Open(testDir, opts)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Apply(batchOf(1, "before", "1")); err != nil {
		t.Fatal(err)
	}
	before, err := e.Begin()
	if err != nil {
		t.Fatal(err)
	}
	fault.on.Store(true)
	applied, err := applyUntilFailure(e)
	if !errors.Is(err, ErrFailed) || !errors.Is(err, errDisk) {
		t.Fatalf("after %d batches: %v, want %v with its cause", applied, err, ErrFailed)
	}
	if err := <-fatal; !errors.Is(err, errDisk) {
		t.Errorf("OnFatal: %v", err)
	}
	fault.on.Store(false) // a disk that recovers is not trusted again

	checkFailed(t, e)
	checkReads(t, e, before)
	if err := e.Close(); !errors.Is(err, ErrFailed) {
		t.Errorf("close: %v, want %v", err, ErrFailed)
	}
	if _, err := e.Begin(); !errors.Is(err, applier.ErrClosed) {
		t.Errorf("begin after close: %v", err)
	}
	if len(fatal) > 0 {
		t.Errorf("OnFatal was called again: %v", <-fatal)
	}

	// What the disk holds is a prefix, and another process can go on with it.
	opts.FS, opts.OnFatal = mem.CrashClone(vfs.CrashCloneCfg{}), nil
	again, err := Open(testDir, opts)
	if err != nil {
		t.Fatal(err)
	}
	if at := again.Position().Index; at > applied {
		t.Errorf("index %d after a restart, no more than %d were applied", at, applied)
	}
	if err := again.Apply(batchOf(applied+1, "after", "1")); err != nil {
		t.Error(err)
	}
	if err := again.Close(); err != nil {
		t.Error(err)
	}
}

// applyUntilFailure applies and flushes until something fails, and returns the
// index up to which batches may be visible.
func applyUntilFailure(e *Engine) (index uint64, err error) {
	value := strings.Repeat("x", 8<<10)
	for index = 2; index < 2000; index++ {
		if err := e.Apply(batchOf(index, fmt.Sprint(index%7), value)); err != nil {
			return index, err
		}
		if index%50 == 0 {
			if err := e.Flush(context.Background()); err != nil {
				return index, err
			}
		}
	}
	return index, nil
}

// checkFailed checks that nothing can be changed any more.
func checkFailed(t *testing.T, e *Engine) {
	t.Helper()
	at := e.Position().Index
	for name, call := range map[string]func() error{
		"Apply":     func() error { return e.Apply(batchOf(at+10, "k", "v")) },
		"Flush":     func() error { return e.Flush(context.Background()) },
		"NewExport": func() error { _, err := e.NewExport(); return err },
		"Import":    func() error { _, err := e.Import(t.Context(), bytes.NewReader(nil)); return err },
	} {
		if err := call(); !errors.Is(err, ErrFailed) {
			t.Errorf("%s: %v, want %v", name, err, ErrFailed)
		}
	}
	// The commit that was under way when the disk failed may have ended since.
	if now := e.Position().Index; now != at && now != at+1 {
		t.Errorf("position moved from %d to %d", at, now)
	}
}

// checkReads checks that old and new snapshots work.
func checkReads(t *testing.T, e *Engine, before applier.Snapshot) {
	t.Helper()
	from := e.Position().Index
	now, err := e.Begin()
	if err != nil {
		t.Fatal(err)
	}
	if at, to := now.Position().Index, e.Position().Index; at < from || at > to {
		t.Errorf("snapshot at %d, engine between %d and %d", at, from, to)
	}
	for _, snap := range []applier.Snapshot{before, now} {
		if v, ok, err := snap.Get(table, []byte("before")); string(v) != "1" || !ok || err != nil {
			t.Errorf("get: %q, %v, %v", v, ok, err)
		}
		pairs := 0
		for range snap.Scan(table, nil, nil, false) {
			pairs++
		}
		if pairs == 0 || snap.Err() != nil {
			t.Errorf("scan: %d pairs, %v", pairs, snap.Err())
		}
		if err := snap.Close(); err != nil {
			t.Errorf("close snapshot: %v", err)
		}
	}
	if _, _, err := e.Digest(); err != nil {
		t.Errorf("digest: %v", err)
	}
	if _, err := e.Durable(); err != nil {
		t.Errorf("durable: %v", err)
	}
}

// TestOpenFailure fails each write of Open in turn. Open must return an error
// that says why, and leave the directory to a later Open.
func TestOpenFailure(t *testing.T) {
	mem := vfs.NewMem()
	for n := range int64(1000) {
		dir := fmt.Sprint(testDir, n)
		var writes atomic.Int64
		var armed atomic.Bool
		armed.Store(true)
		opts := testOptions()
		opts.FS = errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
			if armed.Load() && op.Kind.ReadOrWrite() == errorfs.OpIsWrite && writes.Add(1) == n+1 {
				return errDisk
			}
			return nil
		}))
		e, err := Open(dir, opts)
		armed.Store(false)
		switch {
		case err != nil && !strings.Contains(err.Error(), errDisk.Error()):
			t.Errorf("write %d: %v", n, err)
		case err == nil: // what failed does not matter, such as a file that is to go
			if err := e.Close(); err != nil {
				t.Errorf("write %d: close: %v", n, err)
			}
		case !errors.Is(err, ErrFailed): // that one keeps what it could not give back
			if e, err = Open(dir, opts); err != nil {
				t.Errorf("write %d: open again: %v", n, err)
			} else if err := e.Close(); err != nil {
				t.Errorf("write %d: close: %v", n, err)
			}
		}
		if writes.Load() <= n {
			if n < 20 {
				t.Errorf("Open makes only %d writes", n)
			}
			return
		}
	}
	t.Error("Open never got through")
}

// TestExportFailure checks that an export that cannot be made or written does
// not fail the engine.
func TestExportFailure(t *testing.T) {
	fault := &diskFault{kinds: append(slices.Concat(opWrite, opSync, opCreate), errorfs.OpLink), name: ""}
	only := errorfs.InjectorFunc(func(op errorfs.Op) error {
		if !strings.Contains(op.Path, exportPrefix) {
			return nil
		}
		return fault.MaybeError(op)
	})
	opts := testOptions()
	opts.FS = errorfs.Wrap(vfs.NewMem(), only)
	e, err := Open(testDir, opts)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Apply(batchOf(1, "k", "v")); err != nil {
		t.Fatal(err)
	}
	fault.on.Store(true)
	if _, err := e.NewExport(); !errors.Is(err, errDisk) {
		t.Errorf("export on a broken disk: %v", err)
	}
	fault.on.Store(false)
	x, err := e.NewExport()
	if err != nil {
		t.Fatal(err)
	}
	if err := x.WriteTo(t.Context(), brokenWriter{}, 0); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("write to a broken pipe: %v", err)
	}
	if err := e.Apply(batchOf(2, "k", "w")); err != nil {
		t.Error(err)
	}
	if err := e.Close(); err != nil {
		t.Error(err)
	}
	if names := list(t, opts.FS); strings.Contains(fmt.Sprint(names), exportPrefix) {
		t.Errorf("left behind: %q", names)
	}
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }
