package pebblekv

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/concordatdb/concordat/applier"
)

func mustExport(t testing.TB, e *Engine) applier.Export {
	t.Helper()
	x, err := e.NewExport()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = x.Close() })
	return x
}

func mustWrite(t testing.TB, x applier.Export, from int64) []byte {
	t.Helper()
	var stream bytes.Buffer
	if err := x.WriteTo(t.Context(), &stream, from); err != nil {
		t.Fatal(err)
	}
	return stream.Bytes()
}

// TestExportSeek checks that a resumed export reads nothing of the files that
// were sent, but for one chunk.
func TestExportSeek(t *testing.T) {
	var reads atomic.Int64
	e := mustOpen(t, errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind == errorfs.OpFileReadAt && strings.Contains(op.Path, exportPrefix) {
			reads.Add(1)
		}
		return nil
	})))
	defer mustClose(t, e)
	value := make([]byte, 5*maxChunk/2)
	rng := rand.NewChaCha8([32]byte{})
	for i := range uint64(3) {
		_, _ = rng.Read(value) // never fails, and does not compress
		mustApply(t, e, batchOf(i+1, string(rune('a'+i)), string(value)))
		if err := e.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	x := mustExport(t, e)
	stream := mustWrite(t, x, 0)
	all := reads.Load()
	if all < 9 {
		t.Fatalf("%d reads for the whole export", all)
	}
	for from := int64(0); from <= x.Size(); from += maxChunk / 3 {
		reads.Store(0)
		if got := mustWrite(t, x, from); !bytes.Equal(got, stream[from:]) {
			t.Fatalf("other bytes from byte %d on", from)
		}
		left := x.Size() - from
		files := int64(len(listOn(t, e.dir.FS, x.(*export).dir)))
		if most := left/maxChunk + 1 + files; reads.Load() > most {
			t.Errorf("%d reads for the last %d bytes, want at most %d", reads.Load(), left, most)
		}
	}
	reads.Store(0)
	mustWrite(t, x, x.Size()-1)
	if reads.Load() > 0 {
		t.Errorf("%d reads of files for the end of the stream", reads.Load())
	}
}

// TestExportForeignChunk puts a chunk of another export of the same state into
// a stream: its files may differ although the state does not.
func TestExportForeignChunk(t *testing.T) {
	e := mustOpen(t, vfs.NewMem())
	defer mustClose(t, e)
	mustApply(t, e, batchOf(1, "k", "v"))
	one, two := mustWrite(t, mustExport(t, e), 0), mustWrite(t, mustExport(t, e), 0)
	r, err := newChunkReader(bytes.NewReader(one))
	if err != nil {
		t.Fatal(err)
	}
	for chunks := 0; ; chunks++ {
		at := r.at
		kind, _, err := r.next()
		if err != nil {
			t.Fatal(err)
		}
		mixed := bytes.Clone(one)
		copy(mixed[at:r.at], two[at:r.at])
		if _, err := e.Import(t.Context(), bytes.NewReader(mixed)); !errors.Is(err, ErrCorrupt) {
			t.Errorf("chunk %d of kind %q comes from another export: %v, want %v", chunks, kind, err, ErrCorrupt)
		}
		if kind == chunkEnd {
			return
		}
	}
}

// TestExportRecordTooLarge: what a recipient would refuse is not sent.
func TestExportRecordTooLarge(t *testing.T) {
	w, err := newChunkWriter(io.Discard, salt{}, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.chunk(chunkRecord, make([]byte, maxChunk+1)); err == nil {
		t.Error("a chunk above the limit is written")
	}
}
