package raftlog_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"go.etcd.io/raft/v3/raftpb"
	"pgregory.net/rapid"

	"github.com/concordatdb/concordat/gcs"
	"github.com/concordatdb/concordat/gcs/raftlog"
)

// The keys and values of the package comment, written down a second time.
const (
	keyFormat    = "\x01"
	keyHardState = "\x03"
	keyCut       = "\x04"
)

func entryKey(index uint64) string {
	return string(binary.BigEndian.AppendUint64([]byte{0x10}, index))
}

func sealed(key string, body []byte) []byte {
	sum := crc32.Checksum([]byte(key+string(body)), crc32.MakeTable(crc32.Castagnoli))
	return append(binary.LittleEndian.AppendUint32(nil, sum), body...)
}

func numbers(ns ...uint64) []byte {
	var b []byte
	for _, n := range ns {
		b = binary.LittleEndian.AppendUint64(b, n)
	}
	return b
}

// newDisk returns a closed log with something of everything: entries 3..12 of
// terms 1 and 2, and a checkpoint of three chunks.
func newDisk(t testing.TB) vfs.FS {
	t.Helper()
	fs := vfs.NewMem()
	l := mustOpen(t, small(fs))
	mustWrite(t, l, entries(1, 10, 100))
	for i := uint64(11); i <= 12; i++ {
		mustWrite(t, l, []*raftpb.Entry{{Index: new(i), Term: new(uint64(2)), Data: []byte("late")}})
	}
	for _, err := range []error{
		l.SetIdentity(gcs.Identity{RaftID: 7, Session: 1}),
		l.Write([]gcs.LogWrite{{HardState: &raftpb.HardState{Term: new(uint64(2)), Commit: new(uint64(9))}}}),
		l.SetRecord([]byte("record")),
		l.Truncate(2),
		l.SaveCheckpoint(gcs.Checkpoint{Index: 9, Term: 1, Data: make([]byte, 2500)}),
		l.Close(),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return fs
}

// edit changes the records of a closed log behind its back.
func edit(t testing.TB, fs vfs.FS, change func(*pebble.DB) error) {
	t.Helper()
	db, err := pebble.Open(dir, &pebble.Options{
		FS: fs, FormatMajorVersion: pebble.FormatWALSyncChunks, Logger: silent{t},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(change(db), db.Close()); err != nil {
		t.Fatal(err)
	}
}

// silent fails the test on what Pebble would end the process for.
type silent struct{ t testing.TB }

func (silent) Infof(string, ...any)                {}
func (silent) Errorf(string, ...any)               {}
func (s silent) Fatalf(format string, args ...any) { s.t.Fatalf(format, args...) }

func set(key string, value []byte) func(*pebble.DB) error {
	return func(db *pebble.DB) error { return db.Set([]byte(key), value, pebble.Sync) }
}

func remove(key string) func(*pebble.DB) error {
	return func(db *pebble.DB) error { return db.Delete([]byte(key), pebble.Sync) }
}

// openAll opens a log and reads what Open leaves for later.
func openAll(fs vfs.FS) error {
	l, err := raftlog.Open(dir, small(fs))
	if err != nil {
		return err
	}
	_, err = l.Checkpoint(100)
	return errors.Join(err, l.Close())
}

// TestOpenNamesWhatIsWrong breaks a log in the ways that only the log can
// notice, with checksums that are right.
func TestOpenNamesWhatIsWrong(t *testing.T) {
	noLeaks(t)
	for _, c := range []struct {
		name   string
		change func(*pebble.DB) error
		want   error
		says   string
	}{
		{"gap", remove(entryKey(6)), gcs.ErrLogCorrupt, "entry 6 is missing"},
		{"first entry missing", remove(entryKey(3)), gcs.ErrLogCorrupt, "entry 3 is missing"},
		{"record of another index", func(db *pebble.DB) error {
			v, closer, err := db.Get([]byte(entryKey(5)))
			if err != nil {
				return err
			}
			return errors.Join(db.Set([]byte(entryKey(6)), slices.Clone(v), pebble.Sync), closer.Close())
		}, gcs.ErrLogCorrupt, "entry 6"},
		{"term goes backwards", set(entryKey(12), sealed(entryKey(12), append(numbers(1), 0))), gcs.ErrLogCorrupt, "entry 12 has term 1 after term 2"},
		{"term before that of the cut", set(keyCut, sealed(keyCut, numbers(2, 2))), gcs.ErrLogCorrupt, "entry 3 has term 1 after term 2"},
		{"commit index beyond the end", set(keyHardState, sealed(keyHardState, numbers(2, 0, 13))), gcs.ErrLogCorrupt, "commit index 13"},
		{"end missing", remove(entryKey(12)), nil, ""}, // nobody can know
		{"end missing below the commit index", func(db *pebble.DB) error {
			return db.DeleteRange([]byte(entryKey(9)), []byte(entryKey(13)), pebble.Sync)
		}, gcs.ErrLogCorrupt, "commit index 9"},
		{"key of no index", set("\x10abc", nil), gcs.ErrLogCorrupt, "10616263"},
		{"no format version", remove(keyFormat), gcs.ErrLogCorrupt, "format version is missing"},
		{"newer format version", set(keyFormat, sealed(keyFormat, []byte{3, 0, 0, 0})), raftlog.ErrNewerFormat, "3"},
		{"earlier format version", set(keyFormat, sealed(keyFormat, []byte{1, 0, 0, 0})), nil, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			fs := newDisk(t)
			edit(t, fs, c.change)
			for range 2 { // a refused log must not be changed by the refusal
				err := openAll(fs)
				if !errors.Is(err, c.want) || (err != nil && !strings.Contains(err.Error(), c.says)) {
					t.Fatalf("open: %v; want %v that says %q", err, c.want, c.says)
				}
			}
		})
	}
}

// TestFlippedBits flips any bit of any value.
func TestFlippedBits(t *testing.T) {
	noLeaks(t)
	rapid.Check(t, func(r *rapid.T) {
		fs := newDisk(t)
		var flipped string
		edit(t, fs, func(db *pebble.DB) error {
			records, err := readAll(db)
			if err != nil {
				return err
			}
			k := rapid.SampledFrom(records).Draw(r, "record")
			bit := rapid.IntRange(0, 8*len(k.value)-1).Draw(r, "bit")
			k.value[bit/8] ^= 1 << (bit % 8)
			flipped = k.key
			return db.Set([]byte(k.key), k.value, pebble.Sync)
		})
		err := openAll(fs)
		if !errors.Is(err, gcs.ErrLogCorrupt) {
			r.Fatalf("flipped in %x: %v", flipped, err)
		}
		if flipped[0] == 0x10 {
			if name := fmt.Sprintf("entry %d", binary.BigEndian.Uint64([]byte(flipped[1:]))); !strings.Contains(err.Error(), name) {
				r.Fatalf("%v does not name %s", err, name)
			}
		}
	})
}

type record struct {
	key   string
	value []byte
}

func readAll(db *pebble.DB) ([]record, error) {
	it, err := db.NewIter(nil)
	if err != nil {
		return nil, err
	}
	var records []record
	for ok := it.First(); ok; ok = it.Next() {
		records = append(records, record{string(it.Key()), slices.Clone(it.Value())})
	}
	return records, it.Close()
}

// TestFlippedTable flips a bit in a table of Pebble's.
func TestFlippedTable(t *testing.T) {
	noLeaks(t)
	fs := newDisk(t)
	flipFile(t, fs, ".sst")
	err := openAll(fs)
	if !errors.Is(err, gcs.ErrLogCorrupt) || !strings.Contains(err.Error(), dir) {
		t.Errorf("open: %v", err)
	}
}

// TestFlippedSegment flips a bit well before the end of the write-ahead log
// that a crash left. It must not pass for a torn end, which would make the
// member forget what it acknowledged.
func TestFlippedSegment(t *testing.T) {
	noLeaks(t)
	disk := vfs.NewCrashableMem()
	l := mustOpen(t, small(disk))
	for i := uint64(1); i <= 150; i++ { // all in one segment
		mustWrite(t, l, entries(i, i, 1000))
	}
	after := disk.CrashClone(vfs.CrashCloneCfg{})
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	flipFile(t, after, ".log")
	err := openAll(after)
	if !errors.Is(err, gcs.ErrLogCorrupt) || !strings.Contains(err.Error(), dir) {
		t.Errorf("open: %v", err)
	}
}

// flipFile flips a byte in the first third of the largest file of a kind.
func flipFile(t *testing.T, fs vfs.FS, suffix string) {
	t.Helper()
	names, err := fs.List(dir)
	if err != nil {
		t.Fatal(err)
	}
	var data []byte
	var path string
	for _, name := range names {
		if !strings.HasSuffix(name, suffix) {
			continue
		}
		f, err := fs.Open(fs.PathJoin(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(f)
		if err := errors.Join(err, f.Close()); err != nil {
			t.Fatal(err)
		}
		if len(got) > len(data) {
			data, path = got, fs.PathJoin(dir, name)
		}
	}
	data[len(data)/3] ^= 0x10
	f, err := fs.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.Write(data)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		t.Fatal(err)
	}
}

func TestInUse(t *testing.T) {
	noLeaks(t)
	for name, fs := range map[string]vfs.FS{"memory": vfs.NewMem(), "files": vfs.Default} {
		t.Run(name, func(t *testing.T) {
			where := dir
			if fs == vfs.Default {
				where = t.TempDir()
			}
			l, err := raftlog.Open(where, small(fs))
			if err != nil {
				t.Fatal(err)
			}
			_, err = raftlog.Open(where, small(fs))
			if !errors.Is(err, raftlog.ErrInUse) || !strings.Contains(err.Error(), where) {
				t.Errorf("opened twice: %v", err)
			}
			mustWrite(t, l, entries(1, 1, 1))
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			l, err = raftlog.Open(where, small(fs))
			if err != nil {
				t.Fatal(err)
			}
			if err := l.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestOrphansGo: chunks of a checkpoint whose head was never written.
func TestOrphansGo(t *testing.T) {
	noLeaks(t)
	fs := newDisk(t)
	orphan := string(append([]byte{0x21}, make([]byte, 12)...))
	orphan = orphan[:8] + "\x55" + orphan[9:]
	edit(t, fs, set(orphan, sealed(orphan, []byte("half of it"))))
	if err := openAll(fs); err != nil {
		t.Fatal(err)
	}
	edit(t, fs, func(db *pebble.DB) error {
		records, err := readAll(db)
		for _, k := range records {
			if k.key == orphan {
				t.Errorf("the orphan %x is still there", k.key)
			}
		}
		return err
	})
	l := mustOpen(t, small(fs))
	if c, err := l.Checkpoint(100); err != nil || len(c.Data) != 2500 {
		t.Errorf("the checkpoint beside it has %d bytes: %v", len(c.Data), err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}
