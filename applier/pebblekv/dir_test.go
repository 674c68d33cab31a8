package pebblekv

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/concordatdb/concordat/applier"
)

// mustOpen opens the engine in testDir on filesystem; the test closes it.
func mustOpen(t testing.TB, filesystem vfs.FS) *Engine {
	t.Helper()
	opts := testOptions()
	opts.FS = filesystem
	e, err := Open(testDir, opts)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func mustClose(t testing.TB, e *Engine) {
	t.Helper()
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
}

func mustApply(t testing.TB, e *Engine, b applier.Batch) {
	t.Helper()
	if err := e.Apply(b); err != nil {
		t.Fatal(err)
	}
}

func list(t testing.TB, filesystem vfs.FS) []string {
	t.Helper()
	return listOn(t, filesystem, testDir)
}

func listOn(t testing.TB, filesystem vfs.FS, dir string) []string {
	t.Helper()
	names, err := filesystem.List(dir)
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(names)
	return names
}

// TestOpenOnDisk goes through a life on the real file system, where paths,
// locks and links are not those of a file system in memory.
func TestOpenOnDisk(t *testing.T) {
	dir := t.TempDir() + "/some/where"
	e, err := Open(dir, testOptions())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir, testOptions()); !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), dir) {
		t.Errorf("second open: %v, want %v with the directory's name", err, ErrInUse)
	}
	mustApply(t, e, batchOf(1, "k", "v"))
	x, err := e.NewExport()
	if err != nil {
		t.Fatal(err)
	}
	var stream bytes.Buffer
	if err := x.WriteTo(t.Context(), &stream, 0); err != nil {
		t.Fatal(err)
	}
	mustApply(t, e, batchOf(2, "k", "w"))
	if _, err := e.Import(t.Context(), &stream); err != nil {
		t.Fatal(err)
	}
	mustClose(t, e)
	if e, err = Open(dir, testOptions()); err != nil {
		t.Fatal(err)
	}
	if at := e.Position().Index; at != 1 {
		t.Errorf("reopened at %d, want 1", at)
	}
	mustClose(t, e)
	if names := listOn(t, vfs.Default, dir); !slices.Equal(names, []string{currentName, lockName, "state-000002"}) {
		t.Errorf("left in the directory: %q", names)
	}
}

// TestOpenDamaged opens directories that something has happened to.
func TestOpenDamaged(t *testing.T) {
	setKey := func(key, value []byte) func(*testing.T, vfs.FS) {
		return func(t *testing.T, filesystem vfs.FS) {
			db, err := pebble.Open(testDir+"/state-000001", &pebble.Options{
				FS: filesystem, Logger: &logger{log: testOptions().Logger}, FormatMajorVersion: pebbleFormat,
			})
			if err != nil {
				t.Fatal(err)
			}
			if value == nil {
				err = db.Delete(key, pebble.Sync)
			} else {
				err = db.Set(key, value, pebble.Sync)
			}
			if err := errors.Join(err, db.Close()); err != nil {
				t.Fatal(err)
			}
		}
	}
	setFile := func(name, content string) func(*testing.T, vfs.FS) {
		return func(t *testing.T, filesystem vfs.FS) {
			if err := writeFile(filesystem, testDir+"/"+name, []byte(content)); err != nil {
				t.Fatal(err)
			}
		}
	}
	good := appendRecord(nil, &state{position: batchOf(7, "", "").To})
	flipped := bytes.Clone(good)
	flipped[len(flipped)-1] ^= 1
	long := appendRecord(nil, &state{})
	long = append(long, 0)
	for _, c := range []struct {
		what   string
		damage func(*testing.T, vfs.FS)
		want   error
	}{
		{"position record flipped", setKey(positionKey, flipped), ErrCorrupt},
		{"position record cut", setKey(positionKey, good[:20]), ErrCorrupt},
		{"position record too long", setKey(positionKey, long), ErrCorrupt},
		{"position record empty", setKey(positionKey, []byte{}), ErrCorrupt},
		{"newer format", setKey(formatKey, []byte{0, 0, 0, 2}), ErrFormat},
		{"format cut", setKey(formatKey, []byte{0}), ErrCorrupt},
		{"format missing", setKey(formatKey, nil), ErrCorrupt},
		{"CURRENT empty", setFile(currentName, ""), ErrCorrupt},
		{"CURRENT cut", setFile(currentName, "state-000001"), ErrCorrupt},
		{"CURRENT without number", setFile(currentName, "state-x\n"), ErrCorrupt},
		{"CURRENT leads out", setFile(currentName, "state-/../../x\n"), ErrCorrupt},
		{"CURRENT missing", func(t *testing.T, filesystem vfs.FS) {
			if err := filesystem.Remove(testDir + "/" + currentName); err != nil {
				t.Fatal(err)
			}
		}, ErrCorrupt},
		{"CURRENT missing after an import", func(t *testing.T, filesystem vfs.FS) {
			err := errors.Join(filesystem.Remove(testDir+"/"+currentName),
				filesystem.Rename(testDir+"/state-000001", testDir+"/state-000002"))
			if err != nil {
				t.Fatal(err)
			}
		}, ErrCorrupt},
		{"store emptied", func(t *testing.T, filesystem vfs.FS) {
			err := errors.Join(filesystem.RemoveAll(testDir+"/state-000001"),
				filesystem.MkdirAll(testDir+"/state-000001", 0o755))
			if err != nil {
				t.Fatal(err)
			}
		}, ErrCorrupt},
		{"CURRENT names nothing", setFile(currentName, "state-000009\n"), ErrCorrupt},
	} {
		t.Run(c.what, func(t *testing.T) {
			mem := vfs.NewMem()
			e := mustOpen(t, mem)
			mustApply(t, e, batchOf(1, "k", "v"))
			mustClose(t, e)
			c.damage(t, mem)
			before := list(t, mem)
			opts := testOptions()
			opts.FS = mem
			for range 2 { // and the refusal leaves nothing locked
				if _, err := Open(testDir, opts); !errors.Is(err, c.want) || !strings.Contains(err.Error(), testDir) {
					t.Errorf("got %v, want %v with the directory's name", err, c.want)
				}
			}
			if after := list(t, mem); !slices.Equal(after, before) {
				t.Errorf("the directory held %q, after the refusal %q", before, after)
			}
		})
	}
}

// TestOpenSweeps checks that what a crash left unfinished goes, and nothing
// else.
func TestOpenSweeps(t *testing.T) {
	mem := vfs.NewMem()
	mustClose(t, mustOpen(t, mem))
	for _, dir := range []string{"state-000002", "export-000001", "mine"} {
		if err := mem.MkdirAll(testDir+"/"+dir+"/deep", 0o755); err != nil {
			t.Fatal(err)
		}
	}
	mustClose(t, mustOpen(t, mem))
	want := []string{currentName, lockName, "mine", "state-000001"}
	if got := list(t, mem); !slices.Equal(got, want) {
		t.Errorf("the directory holds %q, want %q", got, want)
	}
}

// TestCreateCrash loses power before each write of the creation in turn. The
// next Open must create the engine.
func TestCreateCrash(t *testing.T) {
	var mu sync.Mutex // Pebble writes from goroutines of its own
	var clones []*vfs.MemFS
	mem := vfs.NewCrashableMem()
	e := mustOpen(t, errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		mu.Lock()
		defer mu.Unlock()
		if op.Kind.ReadOrWrite() == errorfs.OpIsWrite {
			n := uint64(len(clones))
			cfg := vfs.CrashCloneCfg{UnsyncedDataPercent: int(n%3) * 50, RNG: rand.New(rand.NewPCG(n, 0))}
			clones = append(clones, mem.CrashClone(cfg))
		}
		return nil
	})))
	mustClose(t, e)
	for _, clone := range clones {
		e := mustOpen(t, clone)
		mustApply(t, e, batchOf(1, "k", "v"))
		mustClose(t, e)
	}
	if len(clones) < 20 {
		t.Errorf("only %d writes", len(clones))
	}
}

// TestImportCrash loses power before each write of an Import in turn. The next
// Open must find the old state or the new one, whole, and no remains.
func TestImportCrash(t *testing.T) {
	donor := mustOpen(t, vfs.NewMem())
	mustApply(t, donor, batchOf(1, "new", strings.Repeat("n", 100<<10)))
	if err := donor.Flush(t.Context()); err != nil { // so that there is more to the export than a log
		t.Fatal(err)
	}
	mustApply(t, donor, batchOf(2, "new", "n"))
	x, err := donor.NewExport()
	if err != nil {
		t.Fatal(err)
	}
	var stream bytes.Buffer
	if err := x.WriteTo(t.Context(), &stream, 0); err != nil {
		t.Fatal(err)
	}
	mustClose(t, donor)

	var mu sync.Mutex // Pebble writes from goroutines of its own
	var clones []*vfs.MemFS
	importing := false
	setImporting := func(on bool) {
		mu.Lock()
		defer mu.Unlock()
		importing = on
	}
	mem := vfs.NewCrashableMem()
	e := mustOpen(t, errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		mu.Lock()
		defer mu.Unlock()
		if importing && op.Kind.ReadOrWrite() == errorfs.OpIsWrite {
			n := uint64(len(clones))
			cfg := vfs.CrashCloneCfg{UnsyncedDataPercent: int(n%3) * 50, RNG: rand.New(rand.NewPCG(n, 0))}
			clones = append(clones, mem.CrashClone(cfg))
		}
		return nil
	})))
	mustApply(t, e, batchOf(10, "old", "o"))
	if err := e.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	setImporting(true)
	if _, err := e.Import(t.Context(), &stream); err != nil {
		t.Fatal(err)
	}
	setImporting(false)
	mustClose(t, e)
	clones = append(clones, mem.CrashClone(vfs.CrashCloneCfg{}))

	seen := map[uint64]int{}
	for i, clone := range clones {
		e := mustOpen(t, clone)
		at := e.Position().Index
		seen[at]++
		snap, err := e.Begin()
		if err != nil {
			t.Fatal(err)
		}
		if v, ok, err := snap.Get(table, []byte("old")); ok != (at == 10) || err != nil {
			t.Errorf("crash %d: at %d the old key is %q, %v, %v", i, at, v, ok, err)
		}
		if v, ok, err := snap.Get(table, []byte("new")); ok != (at == 2) || err != nil {
			t.Errorf("crash %d: at %d the new key is %q, %v, %v", i, at, v, ok, err)
		}
		mustClose(t, e)
		if names := list(t, clone); len(names) > 4 || strings.Contains(fmt.Sprint(names), exportPrefix) {
			t.Errorf("crash %d: remains: %q", i, names)
		}
	}
	if seen[10] < 10 || seen[2] < 2 || len(seen) != 2 {
		t.Errorf("positions after a crash, with how often: %v; want both 10 and 2 and nothing else", seen)
	}
}

// TestImportCloses closes the engine while an import waits for the network. The
// directory stays locked until the import has noticed.
func TestImportCloses(t *testing.T) {
	mem := vfs.NewMem()
	e := mustOpen(t, mem)
	mustApply(t, e, batchOf(1, "k", "v"))
	x, err := e.NewExport()
	if err != nil {
		t.Fatal(err)
	}
	var stream bytes.Buffer
	if err := x.WriteTo(t.Context(), &stream, 0); err != nil {
		t.Fatal(err)
	}
	opts := testOptions()
	opts.FS = mem
	_, err = e.Import(t.Context(), readerFunc(func(p []byte) (int, error) {
		if e.Close() == nil {
			if _, err := Open(testDir, opts); !errors.Is(err, ErrInUse) {
				t.Errorf("open beside an import: %v, want %v", err, ErrInUse)
			}
		}
		return stream.Read(p)
	}))
	if !errors.Is(err, applier.ErrClosed) {
		t.Errorf("import across Close: %v", err)
	}
	e = mustOpen(t, mem)
	if at := e.Position().Index; at != 1 {
		t.Errorf("index %d, want 1", at)
	}
	mustClose(t, e)
	if _, err := mem.Stat(testDir + "/state-000002"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the unfinished import is still there: %v", err)
	}
}

type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }
