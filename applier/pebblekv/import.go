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
	im := &importer{fs: e.dir.FS, dir: dir, in: in, seen: make(map[string]bool)}
	record, err := im.run(ctx)
	if err != nil {
		return nil, err
	}
	for _, d := range []string{dir, e.dir.path} {
		if err := syncDir(e.dir.FS, d); err != nil {
			return nil, err
		}
	}
	s, err := openStore(dir, e.opts, e.failure, false)
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

// importer writes the files of a stream.
type importer struct {
	fs    vfs.FS
	dir   string
	in    *chunkReader
	state *state

	seen  map[string]bool // files begun
	file  vfs.File        // being written, or nil
	total uint64
}

// run reads the whole stream and leaves every file synced. It returns the
// position record of the stream.
func (im *importer) run(ctx context.Context) (record []byte, err error) {
	defer func() { err = errors.Join(err, im.finishFile(err == nil)) }()
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

func (im *importer) chunk(kind byte, payload []byte) error {
	switch {
	case kind == chunkFile:
		return im.beginFile(string(payload))
	case kind == chunkData && im.file != nil:
		im.total += uint64(len(payload))
		_, err := im.file.Write(payload)
		return err
	default:
		return fmt.Errorf("%w: export: chunk of kind %q out of place", ErrCorrupt, kind)
	}
}

func (im *importer) beginFile(name string) error {
	if err := im.finishFile(true); err != nil {
		return err
	}
	if err := checkFileName(name); err != nil {
		return fmt.Errorf("%w: export: %w", ErrCorrupt, err)
	}
	if im.seen[name] {
		return fmt.Errorf("%w: export: file %q comes twice", ErrCorrupt, name)
	}
	im.seen[name] = true
	f, err := im.fs.Create(im.fs.PathJoin(im.dir, name), vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	im.file = f
	return nil
}

// finishFile closes the file being written, synced unless it will be discarded.
func (im *importer) finishFile(keep bool) error {
	f := im.file
	im.file = nil
	if f == nil {
		return nil
	}
	if !keep {
		return f.Close()
	}
	return errors.Join(f.Sync(), f.Close())
}

func (im *importer) end(payload []byte) error {
	if !bytes.Equal(payload, endPayload(uint64(len(im.seen)), im.total)) {
		return fmt.Errorf("%w: export: %d files of %d bytes in all is not what its end says",
			ErrCorrupt, len(im.seen), im.total)
	}
	return nil
}
