package pebblekv

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"testing/iotest"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// streamOf writes chunks, given as kind and payload, without an end.
func streamOf(t testing.TB, chunks ...string) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := newChunkWriter(&out, salt{1}, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range chunks {
		if err := w.chunk(c[0], []byte(c[1:])); err != nil {
			t.Fatal(err)
		}
	}
	return out.Bytes()
}

// receiveStream runs the part of Import that handles what comes from outside.
func receiveStream(t testing.TB, stream []byte) (*vfs.MemFS, error) {
	t.Helper()
	mem := vfs.NewMem()
	if err := mem.MkdirAll("/in", 0o755); err != nil {
		t.Fatal(err)
	}
	in, err := newChunkReader(bytes.NewReader(stream))
	if err != nil {
		return mem, err
	}
	_, err = newImporter(mem, "/in", in).run(t.Context())
	return mem, err
}

func TestImporter(t *testing.T) {
	record := "P" + string(appendRecord(nil, &state{position: batchOf(3, "", "").To}))
	end := func(files, bytes uint64) string { return "E" + string(endPayload(files, bytes)) }
	for _, c := range []struct {
		what   string
		stream []byte
		want   error
	}{
		{"nothing", streamOf(t, record, end(0, 0)), nil},
		{"one file", streamOf(t, record, "Fa", "Dx", "Dyz", end(1, 3)), nil},
		{"empty file", streamOf(t, record, "Fa", "Fb", "Dx", end(2, 1)), nil},
		{"no record", streamOf(t, "Fa", end(1, 0)), ErrCorrupt},
		{"bad record", streamOf(t, record[:30], end(0, 0)), ErrCorrupt},
		{"second record", streamOf(t, record, record, end(0, 0)), ErrCorrupt},
		{"data without file", streamOf(t, record, "Dx", end(0, 1)), ErrCorrupt},
		{"unknown kind", streamOf(t, record, "?", end(0, 0)), ErrCorrupt},
		{"file twice", streamOf(t, record, "Fa", "Fb", "Fa", end(3, 0)), ErrCorrupt},
		{"file leads out", streamOf(t, record, "F../a", end(1, 0)), ErrCorrupt},
		{"file is the directory", streamOf(t, record, "F..", end(1, 0)), ErrCorrupt},
		{"file without name", streamOf(t, record, "F", end(1, 0)), ErrCorrupt},
		{"wrong count of files", streamOf(t, record, "Fa", end(2, 0)), ErrCorrupt},
		{"wrong count of bytes", streamOf(t, record, "Fa", "Dx", end(1, 2)), ErrCorrupt},
		{"short end", streamOf(t, record, "E1234567"), ErrCorrupt},
		{"no end", streamOf(t, record, "Fa", "Dx"), io.ErrUnexpectedEOF},
		{"no magic", []byte("CCDT"), io.ErrUnexpectedEOF},
		{"other magic", []byte("GIF89a..........."), ErrCorrupt},
		{"older version", append([]byte("CCDTKV\x00\x01"), streamOf(t)[8:]...), ErrFormat},
		{"no salt", streamOf(t)[:12], io.ErrUnexpectedEOF},
		{"newer version", append([]byte("CCDTKV\x01\x00"), streamOf(t)[8:]...), ErrFormat},
		{"huge chunk", append(streamOf(t), 'P', 0xff, 0xff, 0xff, 0xff), ErrCorrupt},
	} {
		if _, err := receiveStream(t, c.stream); !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", c.what, err, c.want)
		}
	}
}

// TestImporterOrder checks that whole chunks cannot change places unnoticed.
func TestImporterOrder(t *testing.T) {
	record := "P" + string(appendRecord(nil, &state{}))
	head := len(streamOf(t, record, "Fa"))
	stream := streamOf(t, record, "Fa", "D1", "D2", "E"+string(endPayload(1, 2)))
	const chunk = chunkFrame + 1
	swapped := bytes.Clone(stream)
	copy(swapped[head:], stream[head+chunk:head+2*chunk])
	copy(swapped[head+chunk:], stream[head:head+chunk])
	if _, err := receiveStream(t, stream); err != nil {
		t.Errorf("in order: %v", err)
	}
	if _, err := receiveStream(t, swapped); !errors.Is(err, ErrCorrupt) {
		t.Errorf("out of order: got %v, want %v", err, ErrCorrupt)
	}
}

// FuzzImporter checks that no stream writes outside its directory, panics, or
// fails otherwise than by saying what is wrong with it.
func FuzzImporter(f *testing.F) {
	record := "P" + string(appendRecord(nil, &state{position: batchOf(3, "", "").To}))
	f.Add(streamOf(f, record, "Fa", "Dx", "E"+string(endPayload(1, 1))))
	f.Add(streamOf(f, record, "F../../etc/passwd"))
	f.Fuzz(func(t *testing.T, stream []byte) {
		mem, err := receiveStream(t, stream)
		if err != nil && !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrFormat) {
			t.Errorf("%v", err)
		}
		if names, err := mem.List("/"); err != nil || len(names) != 1 {
			t.Errorf("file system holds %q, %v", names, err)
		}
	})
}

// FuzzRecord checks that what decodes encodes to the same bytes.
func FuzzRecord(f *testing.F) {
	f.Add(appendRecord(nil, &state{position: batchOf(3, "", "").To}))
	f.Add([]byte(strings.Repeat("\x00", 29)))
	f.Fuzz(func(t *testing.T, b []byte) {
		st, err := decodeRecord(b)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Errorf("%v", err)
			}
			return
		}
		if again := appendRecord(nil, st); !bytes.Equal(again, b) {
			t.Errorf("%x decodes and encodes to %x", b, again)
		}
	})
}

// filesOf returns a stream of n files of three chunks each, the longest of
// that length or of 1000 bytes, and what is in the files.
func filesOf(t testing.TB, n, longest int) (stream []byte, contents map[string]string) {
	chunks := []string{"P" + string(appendRecord(nil, &state{}))}
	contents = map[string]string{}
	total := 0
	for i := range n {
		name := fmt.Sprint("file", i)
		chunks = append(chunks, "F"+name)
		for j, size := range []int{longest, 1, 1000} {
			data := strings.Repeat(string(rune('a'+3*i+j)), size)
			chunks = append(chunks, "D"+data)
			contents[name] += data
			total += size
		}
	}
	return streamOf(t, append(chunks, "E"+string(endPayload(uint64(n), uint64(total))))...), contents
}

// TestImporterIsDurable loses power after an import of more chunks and files
// than may be under way at a time: nothing may be missing or mixed up.
func TestImporterIsDurable(t *testing.T) {
	stream, contents := filesOf(t, syncsBehind+3, maxChunk)
	mem := vfs.NewCrashableMem()
	if err := errors.Join(mem.MkdirAll("/in", 0o755), syncDir(mem, "/")); err != nil {
		t.Fatal(err)
	}
	in, err := newChunkReader(bytes.NewReader(stream))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := newImporter(mem, "/in", in).run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := syncDir(mem, "/in"); err != nil {
		t.Fatal(err)
	}
	mem = mem.CrashClone(vfs.CrashCloneCfg{})
	if names := listOn(t, mem, "/in"); len(names) != len(contents) {
		t.Errorf("files %q", names)
	}
	for name, want := range contents {
		if got, err := readFile(mem, "/in/"+name); err != nil || string(got) != want {
			t.Errorf("%s: other contents, %d bytes of %d, %v", name, len(got), len(want), err)
		}
	}
}

// TestImporterDiskFails has every change of the disk fail in turn. The import
// fails for that reason, changes nothing afterwards, and leaves nothing open and
// nothing running.
func TestImporterDiskFails(t *testing.T) {
	stream, _ := filesOf(t, syncsBehind+1, 2000)
	full := errors.New("the disk is full")
	run := func(fails int32) (writes int32, err error) {
		var n, open atomic.Int32
		mem := vfs.NewMem()
		if err := mem.MkdirAll("/in", 0o755); err != nil {
			t.Fatal(err)
		}
		disk := errorfs.Wrap(openCounter{mem, &open}, errorfs.InjectorFunc(func(op errorfs.Op) error {
			if op.Kind.ReadOrWrite() == errorfs.OpIsWrite && n.Add(1) == fails {
				return full
			}
			return nil
		}))
		in, err := newChunkReader(bytes.NewReader(stream))
		if err != nil {
			t.Fatal(err)
		}
		_, err = newImporter(disk, "/in", in).run(t.Context())
		if open.Load() != 0 {
			t.Errorf("%d files are open after a failure at write %d", open.Load(), fails)
		}
		return n.Load(), err
	}
	all, err := run(0)
	if err != nil {
		t.Fatal(err)
	}
	for fails := int32(1); fails <= all; fails++ {
		// Beside what fails, the other syncs that are under way may go on.
		if n, err := run(fails); !errors.Is(err, full) || n > fails+syncsBehind {
			t.Errorf("write %d of %d fails: %v after %d", fails, all, err, n)
		}
	}
}

// openCounter counts the files that are created and not closed.
type openCounter struct {
	vfs.FS
	open *atomic.Int32
}

func (c openCounter) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := c.FS.Create(name, category)
	c.open.Add(1)
	return countedFile{f, c.open}, err
}

type countedFile struct {
	vfs.File
	open *atomic.Int32
}

func (f countedFile) Close() error {
	f.open.Add(-1)
	return f.File.Close()
}

// TestImporterLinkBreaks: an import whose link breaks ends with the link's
// error, whatever is under way.
func TestImporterLinkBreaks(t *testing.T) {
	stream, _ := filesOf(t, 2, 5000)
	broken := errors.New("the link broke")
	for _, at := range []int{100, 2500, 6000, len(stream) - 1} {
		in, err := newChunkReader(io.MultiReader(bytes.NewReader(stream[:at]), iotest.ErrReader(broken)))
		if err != nil {
			t.Fatal(err)
		}
		mem := vfs.NewMem()
		if err := mem.MkdirAll("/in", 0o755); err != nil {
			t.Fatal(err)
		}
		if _, err := newImporter(mem, "/in", in).run(t.Context()); !errors.Is(err, broken) {
			t.Errorf("broken at byte %d: %v", at, err)
		}
	}
}
