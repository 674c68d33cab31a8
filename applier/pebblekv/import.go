package pebblekv

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/concordatdb/concordat/applier"
)

// Import implements [applier.Engine]. The new state is received into a
// directory of its own, made durable and opened before CURRENT names it, so
// reads and the old state go on until the last moment, and need the disk space
// of both until then.
func (e *Engine) Import(ctx context.Context, r io.Reader) (applier.Position, error) {
	release, err := e.holdDirectory()
	if err != nil {
		return applier.Position{}, err
	}
	defer release()
	e.stateSeq++
	name := stateName(e.stateSeq)
	dir := e.dir.join(name)
	incoming, err := e.receive(ctx, r, dir)
	if err != nil {
		return applier.Position{}, errors.Join(fmt.Errorf("import: %w", err), e.dir.RemoveAll(dir))
	}
	if err := e.adopt(name, incoming); err != nil {
		return applier.Position{}, fmt.Errorf("import: %w", err)
	}
	return incoming.visible.Load().position, nil
}

// receive writes the export in r to dir, and returns the store in it once it is
// durable and verified to be at the position that the export says.
func (e *Engine) receive(ctx context.Context, r io.Reader, dir string) (*store, error) {
	if err := e.dir.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	in, err := newChunkReader(r)
	if err != nil {
		return nil, err
	}
	im := newImporter(e.dir.FS, dir, in)
	record, err := im.run(ctx)
	if err != nil {
		return nil, err
	}
	for _, d := range []string{dir, e.dir.path} {
		if err := syncDir(e.dir.FS, d); err != nil {
			return nil, err
		}
	}
	s, err := openStore(dir, e.stateOptions(), e.failure, false)
	if err != nil {
		return nil, err
	}
	if got := appendRecord(nil, s.visible.Load()); !bytes.Equal(got, record) {
		err := fmt.Errorf("%w: the export says log index %d and holds %d",
			ErrCorrupt, im.state.position.Index, s.visible.Load().position.Index)
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

// adopt puts incoming in the place of the engine's store.
func (e *Engine) adopt(name string, incoming *store) error {
	if err := e.checkOpen(); err != nil {
		return errors.Join(err, incoming.close(), e.dir.RemoveAll(incoming.dir))
	}
	if err := e.dir.setCurrent(name); err != nil {
		// Either state may come up after a crash, so nothing may be added to
		// either any more.
		e.failure.set(fmt.Errorf("replace %s: %w", e.dir.join(currentName), err))
		return e.failure.err
	}
	e.mu.Lock()
	old := e.store
	if old == nil { // closed meanwhile: the next Open finds the new state
		e.mu.Unlock()
		return errors.Join(applier.ErrClosed, incoming.close())
	}
	e.store = incoming
	old.invalidate(applier.ErrReplaced)
	e.mu.Unlock()
	if err := errors.Join(old.close(), e.dir.RemoveAll(old.dir)); err != nil {
		// The import is done. The next Open removes what is left of the old.
		e.opts.Logger.Warn("pebblekv: old state not removed", "dir", old.dir, "err", err)
	}
	return nil
}

// importer receives the files of a stream.
type importer struct {
	in    *chunkReader
	out   *fileWriter
	state *state

	seen  map[string]bool // files begun
	total uint64
}

// newImporter returns an importer that writes to dir. The caller calls run.
func newImporter(fs vfs.FS, dir string, in *chunkReader) *importer {
	return &importer{in: in, out: newFileWriter(fs, dir), seen: make(map[string]bool)}
}

// run reads the whole stream and leaves every file synced. It returns the
// position record of the stream, and leaves nothing running.
func (im *importer) run(ctx context.Context) (record []byte, err error) {
	record, err = im.receive(ctx)
	if failed := im.out.finish(err == nil); err == nil {
		err = failed
	}
	return record, err
}

func (im *importer) receive(ctx context.Context) (record []byte, err error) {
	kind, payload, err := im.in.next()
	if err != nil {
		return nil, err
	}
	if kind != chunkRecord {
		return nil, fmt.Errorf("%w: export begins with a chunk of kind %q", ErrCorrupt, kind)
	}
	if im.state, err = decodeRecord(payload); err != nil {
		return nil, err
	}
	record = bytes.Clone(payload)
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		kind, payload, err := im.in.next()
		if err != nil {
			return nil, err
		}
		if kind == chunkEnd {
			return record, im.end(payload)
		}
		if err := im.chunk(kind, payload); err != nil {
			return nil, err
		}
	}
}

func (im *importer) chunk(kind byte, payload []byte) (err error) {
	switch {
	case kind == chunkFile:
		return im.beginFile(string(payload))
	case kind == chunkData && len(im.seen) > 0:
		im.total += uint64(len(payload))
		im.in.buf, err = im.out.write(payload, im.in.buf)
		return err
	default:
		return fmt.Errorf("%w: export: chunk of kind %q out of place", ErrCorrupt, kind)
	}
}

func (im *importer) beginFile(name string) error {
	if err := checkFileName(name); err != nil {
		return fmt.Errorf("%w: export: %w", ErrCorrupt, err)
	}
	if im.seen[name] {
		return fmt.Errorf("%w: export: file %q comes twice", ErrCorrupt, name)
	}
	im.seen[name] = true
	return im.out.begin(name)
}

func (im *importer) end(payload []byte) error {
	if !bytes.Equal(payload, endPayload(uint64(len(im.seen)), im.total)) {
		return fmt.Errorf("%w: export: %d files of %d bytes in all is not what its end says",
			ErrCorrupt, len(im.seen), im.total)
	}
	return nil
}
