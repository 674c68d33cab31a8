package pebblekv

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/concordatdb/concordat/applier"
)

// Engine is an [applier.Engine] on Pebble.
//
// After [ErrFailed] it is read-only for good. One thing is then less certain
// than usual: the batch of the Apply that returned ErrFailed may become visible,
// whole, even after Apply has returned, because a commit that is waiting for a
// broken disk cannot be called back. Position tells.
type Engine struct {
	opts    Options
	dir     *directory
	failure *failure
	watcher sync.WaitGroup // calls OnFatal
	closing chan struct{}

	stateSeq    uint64 // number of the newest state directory; used by Import
	exportSeq   atomic.Uint64
	preparedSeq atomic.Uint64
	exportsMu   sync.Mutex
	exports     map[*export]struct{} // open

	// mu protects which store is used, not what is done with it: it is held for
	// reading by every use, for writing only to switch.
	mu    sync.RWMutex
	store *store // nil when closed
	last  *state // what was visible when it was closed

	// holders counts who needs the directory to stay locked: the engine while
	// it is open, and an import on its way.
	holdersMu sync.Mutex
	holders   int
}

var _ applier.Pipelined = (*Engine)(nil)

// Open opens the engine in directory path, creating it if there is none. It
// finishes or discards what a crash interrupted. What it then shows is durable.
//
// The error wraps [ErrInUse] if another engine has the directory open,
// [ErrFormat] if a newer program wrote it, [ErrCorrupt] if its files are
// damaged: then remove the directory and let the member be provisioned by
// another one.
func Open(path string, opts Options) (*Engine, error) {
	opts = opts.withDefaults()
	dir, err := openDirectory(opts.FS, path)
	if err != nil {
		return nil, fmt.Errorf("pebblekv: %w", err)
	}
	e := &Engine{
		opts: opts, dir: dir, failure: newFailure(), closing: make(chan struct{}),
		exports: make(map[*export]struct{}), holders: 1,
	}
	if err := e.openState(); err != nil {
		return nil, errors.Join(fmt.Errorf("pebblekv: %w", err), dir.lock.Close())
	}
	e.watcher.Go(e.watch)
	return e, nil
}

// openState opens the state in force, or creates the first. Nothing is removed
// before it is known that the state is sound.
func (e *Engine) openState() error {
	name, err := e.dir.current()
	if err != nil {
		return err
	}
	if name == "" {
		return e.createState()
	}
	if e.stateSeq, err = strconv.ParseUint(strings.TrimPrefix(name, statePrefix), 10, 64); err != nil {
		return fmt.Errorf("%w: %s names state %q", ErrCorrupt, e.dir.join(currentName), name)
	}
	if _, err := e.dir.Stat(e.dir.join(name)); err != nil {
		return fmt.Errorf("%w: %s names state %q: %w", ErrCorrupt, e.dir.join(currentName), name, err)
	}
	if e.store, err = openStore(e.dir.join(name), e.stateOptions(), e.failure, false); err != nil {
		return err
	}
	if err := e.dir.sweep(name); err != nil {
		return errors.Join(err, e.store.close())
	}
	return nil
}

// createState makes the first state.
func (e *Engine) createState() error {
	e.stateSeq = 1
	name := stateName(e.stateSeq)
	if err := e.checkFresh(name); err != nil {
		return err
	}
	if err := e.dir.RemoveAll(e.dir.join(name)); err != nil {
		return err
	}
	var err error
	if e.store, err = openStore(e.dir.join(name), e.stateOptions(), e.failure, true); err != nil {
		return err
	}
	if err := errors.Join(syncDir(e.dir.FS, e.dir.path), e.dir.setCurrent(name)); err != nil {
		return errors.Join(err, e.store.close())
	}
	return nil
}

// stateOptions are those of the newest state.
func (e *Engine) stateOptions() Options {
	o := e.opts
	o.stateNumber = e.stateSeq
	return o
}

// checkFresh reports an error if there is data although CURRENT is missing: then
// somebody has lost it, and creating an engine would lose the rest. A creation
// that did not finish left nothing but the state that it was about to make,
// empty or unreadable.
func (e *Engine) checkFresh(creating string) error {
	names, err := e.dir.List(e.dir.path)
	if err != nil {
		return err
	}
	for _, name := range names {
		if strings.HasPrefix(name, statePrefix) && (name != creating || e.holdsData(name)) {
			return fmt.Errorf("%w: %s is missing beside %s", ErrCorrupt, e.dir.join(currentName), name)
		}
	}
	return nil
}

func (e *Engine) holdsData(name string) bool {
	s, err := openStore(e.dir.join(name), e.opts, newFailure(), false)
	if err != nil {
		return false
	}
	index := s.visible.Load().position.Index
	return s.close() != nil || index > 0
}

func stateName(n uint64) string { return fmt.Sprintf("%s%06d", statePrefix, n) }

// watch reports the failure of the engine, if it comes to that.
func (e *Engine) watch() {
	select {
	case <-e.failure.done:
		e.opts.Logger.Error("pebblekv: engine has failed", "dir", e.dir.path, "err", e.failure.err)
		e.opts.OnFatal(e.failure.err)
	case <-e.closing:
	}
}

// use returns the store and keeps it from being switched until done is called.
func (e *Engine) use() (s *store, done func(), err error) {
	e.mu.RLock()
	if e.store == nil {
		e.mu.RUnlock()
		return nil, nil, applier.ErrClosed
	}
	return e.store, e.mu.RUnlock, nil
}

// useInTurn is use for what changes the data, one after the other, and returns the
// state that it follows on.
func (e *Engine) useInTurn() (s *store, before *state, done func(), err error) {
	s, done, err = e.use()
	if err != nil {
		return nil, nil, nil, err
	}
	if err := s.failure.get(); err != nil {
		done()
		return nil, nil, nil, err
	}
	return s, s.builder.settle(s.visible.Load), done, nil
}

// Position implements [applier.Engine]. After Close it is what was visible last.
func (e *Engine) Position() applier.Position {
	e.mu.RLock()
	defer e.mu.RUnlock()
	if e.store == nil {
		return e.last.position
	}
	return e.store.visible.Load().position
}

// Digest implements [applier.Engine].
func (e *Engine) Digest() (applier.Digest, applier.Position, error) {
	s, done, err := e.use()
	if err != nil {
		return applier.Digest{}, applier.Position{}, err
	}
	defer done()
	st := s.visible.Load()
	return st.digest, st.position, nil
}

// Begin implements [applier.Engine]. It waits for nothing but short critical
// sections, also while a batch is being applied.
func (e *Engine) Begin() (applier.Snapshot, error) {
	s, done, err := e.use()
	if err != nil {
		return nil, err
	}
	defer done()
	return s.begin()
}

// Durable implements [applier.Engine]. It costs one read.
func (e *Engine) Durable() (uint64, error) {
	s, done, err := e.use()
	if err != nil {
		return 0, err
	}
	defer done()
	return s.durable()
}

// Flush implements [applier.Engine]. It waits for the disk beside batches that
// are applied meanwhile, which it holds up only for as long as it takes to begin
// a new memtable.
func (e *Engine) Flush(ctx context.Context) error {
	s, done, err := e.use()
	if err != nil {
		return err
	}
	flushed, err := s.beginFlush()
	done()
	if err != nil {
		return err
	}
	select {
	case <-flushed:
		return nil
	case <-e.failure.done:
		return e.failure.err
	case <-e.closing:
		return applier.ErrClosed
	case <-s.idle: // replaced by an import, which may have cut the flush short
		return applier.ErrReplaced
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Close implements [applier.Engine]. It waits for a call of Apply or NewExport
// that is under way, not for a Flush, an Import or a WriteTo: these end with
// ErrClosed, at the latest at their next step.
//
// A failed engine cannot be closed wholly and the error says so: its memory,
// some goroutines and the lock on its directory stay until the process ends.
func (e *Engine) Close() error {
	e.mu.Lock()
	s := e.store
	if s == nil {
		e.mu.Unlock()
		return applier.ErrClosed
	}
	e.store, e.last = nil, s.visible.Load()
	s.invalidate(applier.ErrClosed)
	e.mu.Unlock()

	close(e.closing)
	e.watcher.Wait()
	errs := e.closeExports()
	if err := s.close(); err != nil {
		return errors.Join(append(errs, err)...)
	}
	return errors.Join(append(errs, e.releaseDirectory())...)
}

func (e *Engine) closeExports() (errs []error) {
	e.exportsMu.Lock()
	exports := make([]*export, 0, len(e.exports))
	for x := range e.exports {
		exports = append(exports, x)
	}
	e.exportsMu.Unlock()
	for _, x := range exports {
		errs = append(errs, x.Close())
	}
	return errs
}

// checkOpen returns why nothing may be changed, or nil.
func (e *Engine) checkOpen() error {
	_, done, err := e.use()
	if err != nil {
		return err
	}
	done()
	return e.failure.get()
}

// holdDirectory keeps the directory locked beyond Close, until the function it
// returns is called.
func (e *Engine) holdDirectory() (release func(), err error) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	if e.store == nil {
		return nil, applier.ErrClosed
	}
	if err := e.failure.get(); err != nil {
		return nil, err
	}
	e.holdersMu.Lock()
	e.holders++
	e.holdersMu.Unlock()
	return func() {
		if err := e.releaseDirectory(); err != nil {
			e.opts.Logger.Warn("pebblekv: unlock directory", "dir", e.dir.path, "err", err)
		}
	}, nil
}

func (e *Engine) releaseDirectory() error {
	e.holdersMu.Lock()
	defer e.holdersMu.Unlock()
	if e.holders--; e.holders > 0 {
		return nil
	}
	return e.dir.lock.Close()
}
