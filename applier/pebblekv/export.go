package pebblekv

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/concordatdb/concordat/applier"
)

// export is a Pebble checkpoint: a directory of its own, mostly of hard links,
// that later batches do not touch.
type export struct {
	engine *Engine
	dir    string
	state  *state
	salt   salt
	files  []exportFile
	closed atomic.Bool
}

// exportFile is a file of the checkpoint. It does not change.
type exportFile struct {
	name string
	size int64
}

// NewExport implements [applier.Engine]. It syncs Pebble's log once and links
// its files.
func (e *Engine) NewExport() (applier.Export, error) {
	s, done, err := e.use()
	if err != nil {
		return nil, err
	}
	defer done()
	name := fmt.Sprintf("%s%06d", exportPrefix, e.exportSeq.Add(1))
	x := &export{engine: e, dir: e.dir.join(name)}
	_, _ = rand.Read(x.salt[:]) // never fails, by its contract
	err = s.call(func() error {
		x.state = s.visible.Load()
		return s.db.Checkpoint(x.dir, pebble.WithFlushedWAL())
	})
	if err == nil {
		if x.files, err = filesIn(e.dir.FS, x.dir); err != nil {
			err = errors.Join(err, e.dir.RemoveAll(x.dir))
		}
	}
	if err != nil {
		return nil, fmt.Errorf("export to %s: %w", x.dir, err)
	}
	e.exportsMu.Lock()
	e.exports[x] = struct{}{}
	e.exportsMu.Unlock()
	return x, nil
}

// filesIn returns the files of a directory in the order of their names.
func filesIn(filesystem vfs.FS, dir string) ([]exportFile, error) {
	names, err := filesystem.List(dir)
	if err != nil {
		return nil, err
	}
	slices.Sort(names)
	files := make([]exportFile, 0, len(names))
	for _, name := range names {
		info, err := filesystem.Stat(filesystem.PathJoin(dir, name))
		if err != nil {
			return nil, err
		}
		files = append(files, exportFile{name: name, size: info.Size()})
	}
	return files, nil
}

// Position implements [applier.Export].
func (x *export) Position() applier.Position { return x.state.position }

// Size implements [applier.Export].
func (x *export) Size() int64 {
	size := streamHeader + chunkSize(len(appendRecord(nil, x.state))) + chunkSize(len(endPayload(0, 0)))
	for _, f := range x.files {
		size += chunkSize(len(f.name)) + dataSize(f.size)
	}
	return size
}

// WriteTo implements [applier.Export]. Of what lies before from it reads less
// than one chunk.
func (x *export) WriteTo(ctx context.Context, w io.Writer, from int64) error {
	if err := applier.CheckFrom(from, x.Size()); err != nil {
		return err
	}
	if err := x.check(ctx); err != nil {
		return err
	}
	if err := x.writeTo(ctx, w, from); err != nil {
		// Close takes the files away, and an error that it caused says so.
		return errors.Join(x.check(ctx), fmt.Errorf("write export %s: %w", x.dir, err))
	}
	return nil
}

func (x *export) check(ctx context.Context) error {
	if x.closed.Load() {
		return applier.ErrClosed
	}
	return ctx.Err()
}

func (x *export) writeTo(ctx context.Context, w io.Writer, from int64) error {
	out, err := newChunkWriter(w, x.salt, from)
	if err != nil {
		return err
	}
	if err := out.chunk(chunkRecord, appendRecord(nil, x.state)); err != nil {
		return err
	}
	total := int64(0)
	for _, f := range x.files {
		if err := out.chunk(chunkFile, []byte(f.name)); err != nil {
			return err
		}
		if err := x.writeFile(ctx, out, f); err != nil {
			return err
		}
		total += f.size
	}
	return out.chunk(chunkEnd, endPayload(uint64(len(x.files)), uint64(total)))
}

// writeFile writes the data chunks of f that are wanted.
func (x *export) writeFile(ctx context.Context, out *chunkWriter, f exportFile) (err error) {
	if whole := dataSize(f.size); out.before() >= whole {
		out.skip(whole)
		return nil
	}
	// The chunks before the last one are all of the same length.
	done := out.before() / chunkSize(maxChunk) * maxChunk
	out.skip(dataSize(done))
	file, err := x.engine.dir.Open(x.engine.dir.PathJoin(x.dir, f.name), vfs.SequentialReadsOption)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	for done < f.size {
		if err := x.check(ctx); err != nil {
			return err
		}
		b := out.payload()
		b = b[:min(int64(len(b)), f.size-done)]
		if n, err := file.ReadAt(b, done); n < len(b) {
			return fmt.Errorf("read %s: %d bytes at %d of %d: %w", f.name, n, done, f.size, err)
		}
		if err := out.chunk(chunkData, b); err != nil {
			return err
		}
		done += int64(len(b))
	}
	return nil
}

func endPayload(files, bytes uint64) []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, files), bytes)
}

// Close implements [applier.Export].
func (x *export) Close() error {
	if x.closed.Swap(true) {
		return nil
	}
	x.engine.exportsMu.Lock()
	delete(x.engine.exports, x)
	x.engine.exportsMu.Unlock()
	if err := x.engine.dir.RemoveAll(x.dir); err != nil {
		return fmt.Errorf("remove export: %w", err)
	}
	return nil
}
