package pebblekv

import (
	"context"
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
	closed atomic.Bool
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
	err = s.call(func() error {
		x.state = s.visible.Load()
		return s.db.Checkpoint(x.dir, pebble.WithFlushedWAL())
	})
	if err != nil {
		return nil, fmt.Errorf("export to %s: %w", x.dir, err)
	}
	e.exportsMu.Lock()
	e.exports[x] = struct{}{}
	e.exportsMu.Unlock()
	return x, nil
}

// Position implements [applier.Export].
func (x *export) Position() applier.Position { return x.state.position }

// WriteTo implements [applier.Export].
func (x *export) WriteTo(ctx context.Context, w io.Writer) error {
	if err := x.check(ctx); err != nil {
		return err
	}
	if err := x.writeTo(ctx, w); err != nil {
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

func (x *export) writeTo(ctx context.Context, w io.Writer) error {
	names, err := x.engine.dir.List(x.dir)
	if err != nil {
		return err
	}
	slices.Sort(names)
	out, err := newChunkWriter(w)
	if err != nil {
		return err
	}
	if err := out.chunk(chunkRecord, appendRecord(nil, x.state)); err != nil {
		return err
	}
	buf := make([]byte, maxChunk)
	var total uint64
	for _, name := range names {
		if err := out.chunk(chunkFile, []byte(name)); err != nil {
			return err
		}
		n, err := x.writeFile(ctx, out, name, buf)
		if err != nil {
			return err
		}
		total += n
	}
	return out.chunk(chunkEnd, endPayload(uint64(len(names)), total))
}

func (x *export) writeFile(ctx context.Context, out *chunkWriter, name string, buf []byte) (total uint64, err error) {
	f, err := x.engine.dir.Open(x.engine.dir.PathJoin(x.dir, name), vfs.SequentialReadsOption)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	for {
		if err := x.check(ctx); err != nil {
			return total, err
		}
		n, err := io.ReadFull(f, buf)
		if n > 0 {
			if err := out.chunk(chunkData, buf[:n]); err != nil {
				return total, err
			}
			total += uint64(n)
		}
		switch {
		case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
			return total, nil
		case err != nil:
			return total, err
		}
	}
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
