// Package memengine is an example of a program's own database behind
// [applier.Engine]: tables of keys in memory, in a tree of which every state is a
// copy-on-write clone of the one before.
//
// It promises what [applier.Parallel] asks for. What Flush, Import or Close has
// written is in one file of its directory, and an engine that is opened again
// begins with that; the group's log brings the rest. It must never know who
// ordered a transaction, or that there are other members.
//
// It is small, so that it can be read: a flush writes everything, and an export
// is made in memory.
package memengine

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"github.com/tidwall/btree"

	"github.com/concordatdb/concordat/applier"
)

// Engine is an [applier.Parallel] in memory.
type Engine struct {
	dir     string
	visible atomic.Pointer[state]
	durable atomic.Uint64

	mu     sync.Mutex            // held to change what is visible
	files  sync.Mutex            // held to write the file
	opened atomic.Pointer[error] // why the engine is closed, nil while it is not
	// held is what snapshots end with: the engine, or a state that was replaced.
	held atomic.Pointer[life]
}

var _ applier.Parallel = (*Engine)(nil)

// life is shared by all snapshots of one engine between two imports.
type life struct{ ended atomic.Pointer[error] }

func (l *life) err() error {
	if p := l.ended.Load(); p != nil {
		return *p
	}
	return nil
}

// state is immutable once it is visible.
type state struct {
	position applier.Position
	digest   applier.Digest
	pairs    *btree.BTreeG[pair]
}

type pair struct {
	table      applier.Table
	key, value []byte
}

func (p pair) compare(q pair) int {
	return cmp.Or(
		cmp.Compare(p.table.Schema, q.table.Schema),
		cmp.Compare(p.table.Name, q.table.Name),
		bytes.Compare(p.key, q.key),
	)
}

func newPairs() *btree.BTreeG[pair] {
	less := func(p, q pair) bool { return p.compare(q) < 0 }
	return btree.NewBTreeGOptions(less, btree.Options{NoLocks: true})
}

// Open opens the engine in a directory, which it makes if there is none. One
// process may have it open.
func Open(dir string) (*Engine, error) {
	st, err := load(dir)
	if err != nil {
		return nil, fmt.Errorf("memengine: %w", err)
	}
	e := &Engine{dir: dir}
	e.visible.Store(st)
	e.durable.Store(st.position.Index)
	e.held.Store(&life{})
	return e, nil
}

func (e *Engine) check() error {
	if p := e.opened.Load(); p != nil {
		return *p
	}
	return nil
}

// Position implements [applier.Engine].
func (e *Engine) Position() applier.Position { return e.visible.Load().position }

// Digest implements [applier.Engine].
func (e *Engine) Digest() (applier.Digest, applier.Position, error) {
	st := e.visible.Load()
	return st.digest, st.position, e.check()
}

// Begin implements [applier.Engine].
func (e *Engine) Begin() (applier.Snapshot, error) {
	held := e.held.Load() // before the state: an import changes them the other way round
	if err := e.check(); err != nil {
		return nil, err
	}
	return &snapshot{state: e.visible.Load(), held: held}, nil
}

// Apply implements [applier.Engine]. A node does not call it, for the engine is
// [applier.Parallel].
func (e *Engine) Apply(b applier.Batch) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.check(); err != nil {
		return err
	}
	before := e.visible.Load()
	if err := b.CheckAfter(before.position); err != nil {
		return err
	}
	next := newBuilder(before)
	for i := range b.Transactions {
		t := &b.Transactions[i]
		x, err := execute(next.pairs, t)
		if err != nil {
			return err
		}
		next.take(x)
	}
	e.visible.Store(next.state(b.To))
	return nil
}

// Execute implements [applier.Parallel]. It finds out what the transaction comes
// to; what it reads for that, no transaction changes that runs beside it.
func (e *Engine) Execute(_ context.Context, t *applier.Transaction, _ int) (applier.Execution, error) {
	if err := e.check(); err != nil {
		return nil, err
	}
	x, err := execute(e.visible.Load().pairs, t)
	if err != nil {
		return nil, err
	}
	return x, nil
}

// Commit implements [applier.Parallel]. The run becomes visible at once.
func (e *Engine) Commit(run []applier.Execution, to applier.Position) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.check(); err != nil {
		return err
	}
	before := e.visible.Load()
	if err := to.CheckAfter(before.position); err != nil {
		return err
	}
	next := newBuilder(before)
	for _, x := range run {
		mine, ok := x.(*execution)
		if !ok {
			return fmt.Errorf("memengine: %T is no execution of this engine", x)
		}
		next.take(mine)
	}
	e.visible.Store(next.state(to))
	return nil
}

// Durable implements [applier.Engine].
func (e *Engine) Durable() (uint64, error) { return e.durable.Load(), e.check() }

// Flush implements [applier.Engine]. It writes the whole state, beside what is
// committed meanwhile.
func (e *Engine) Flush(ctx context.Context) error {
	e.files.Lock()
	defer e.files.Unlock()
	if err := cmp.Or(e.check(), ctx.Err()); err != nil {
		return err
	}
	return e.save(e.visible.Load())
}

// save makes a state durable. e.files is held.
func (e *Engine) save(st *state) error {
	if err := save(e.dir, st); err != nil {
		return fmt.Errorf("memengine: %w", err)
	}
	e.durable.Store(st.position.Index)
	return nil
}

// NewExport implements [applier.Engine].
func (e *Engine) NewExport() (applier.Export, error) {
	if err := e.check(); err != nil {
		return nil, err
	}
	return &export{engine: e, state: e.visible.Load()}, nil
}

// Import implements [applier.Engine]. The file is replaced first: a crash leaves
// the old one or the new one.
func (e *Engine) Import(ctx context.Context, r io.Reader) (applier.Position, error) {
	if err := e.check(); err != nil {
		return applier.Position{}, err
	}
	st, err := decode(r)
	if err != nil {
		return applier.Position{}, fmt.Errorf("memengine: import: %w", err)
	}
	e.files.Lock()
	defer e.files.Unlock()
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := cmp.Or(e.check(), ctx.Err()); err != nil {
		return applier.Position{}, err
	}
	if err := e.save(st); err != nil {
		return applier.Position{}, err
	}
	e.held.Load().ended.Store(new(applier.ErrReplaced))
	e.visible.Store(st)
	e.held.Store(&life{})
	return st.position, nil
}

// Close implements [applier.Engine]. It makes the state durable.
func (e *Engine) Close() error {
	e.files.Lock()
	defer e.files.Unlock()
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.check(); err != nil {
		return err
	}
	e.opened.Store(new(applier.ErrClosed))
	e.held.Load().ended.Store(new(applier.ErrClosed))
	return e.save(e.visible.Load())
}
