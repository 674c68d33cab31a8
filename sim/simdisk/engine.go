// Package simdisk is the disks of simulated members: the interfaces of the log
// and of the engine, in memory, with an explicit mark of what is synced.
//
// It owns what a crash leaves. It promises that a crash takes away only what
// was not synced, in the order and the units that the real parts would lose it
// in, and that a sequence of calls has one outcome. It must never know why a
// member crashed, nor draw a random number: whoever crashes a disk says how
// much of the rest survives.
package simdisk

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"iter"
	"slices"

	"github.com/tidwall/btree"

	"github.com/concordatdb/concordat/applier"
)

// MaxUnsynced is how many batches, or transactions of those executed side by side,
// an [Engine] keeps unsynced. Beyond that the oldest becomes durable by itself, as
// when a real engine flushes because its memory is full.
const MaxUnsynced = 4096

// Engine is an [applier.Engine] in memory that forgets, when told to crash,
// what was not synced. It survives Close and Crash as a disk would: Reopen
// brings it back.
//
// Every batch leads to a state of its own, a copy-on-write clone of the one
// before, so snapshots, exports and the states that a crash may fall back to
// are pointers.
//
// An Engine takes no lock and starts no goroutine. It is for one goroutine:
// the simulator has only one, and a lock would hide the day when it has two,
// which the race detector shows. A sequence of calls has one outcome.
type Engine struct {
	// states holds the synced state, then one for each batch since, oldest
	// first. The last is the visible one.
	states []*engineState
	opened *life // ends at Close and Crash
	held   *life // of snapshots: ends at Import too
	// keep is how many changes are kept, 0 for none.
	keep   int
	number uint64 // of the state in which a place of the changes counts
}

var _ applier.Parallel = (*Engine)(nil)

// life is shared by everything that ends together.
type life struct{ ended error }

// engineState is immutable once it is in Engine.states.
type engineState struct {
	position applier.Position
	digest   applier.Digest
	pairs    *btree.BTreeG[pair]
	changes  *changes // nil: none are kept
}

type pair struct {
	table applier.Table
	key   []byte
	value []byte
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

// NewEngine returns an empty engine, open.
func NewEngine() *Engine {
	e := &Engine{states: []*engineState{{pairs: newPairs()}}}
	e.open()
	return e
}

func (e *Engine) open() {
	e.opened, e.held = &life{}, &life{}
	e.number++
}

func (e *Engine) end(why error) { e.opened.ended, e.held.ended = why, why }

func (e *Engine) visible() *engineState { return e.states[len(e.states)-1] }

// Unsynced returns how many batches a crash could take away now.
func (e *Engine) Unsynced() int { return len(e.states) - 1 }

// SyncTo makes every batch durable that ends at or below index.
func (e *Engine) SyncTo(index uint64) {
	synced := 0
	for i, st := range e.states {
		if st.position.Index <= index {
			synced = i
		}
	}
	e.states = slices.Delete(e.states, 0, synced)
}

// Crash loses what was not synced, except for as many of the oldest unsynced
// batches as keep answers when told how many there are (an answer out of range
// is taken for the nearest in it), and opens the engine again on what is left,
// which is durable now. Snapshots and exports end.
func (e *Engine) Crash(keep func(unsynced int) int) {
	kept := min(max(keep(e.Unsynced()), 0), e.Unsynced())
	e.end(applier.ErrClosed)
	e.states = []*engineState{e.states[kept]}
	e.open()
}

// Reopen opens the engine again after Close, which loses nothing.
func (e *Engine) Reopen() { e.Crash(func(unsynced int) int { return unsynced }) }

// Position implements [applier.Engine].
func (e *Engine) Position() applier.Position { return e.visible().position }

// Digest implements [applier.Engine].
func (e *Engine) Digest() (applier.Digest, applier.Position, error) {
	if e.opened.ended != nil {
		return applier.Digest{}, applier.Position{}, e.opened.ended
	}
	st := e.visible()
	return st.digest, st.position, nil
}

// Begin implements [applier.Engine].
func (e *Engine) Begin() (applier.Snapshot, error) {
	if e.opened.ended != nil {
		return nil, e.opened.ended
	}
	return &engineSnapshot{state: e.visible(), held: e.held}, nil
}

// Apply implements [applier.Engine].
func (e *Engine) Apply(b applier.Batch) error {
	if e.opened.ended != nil {
		return e.opened.ended
	}
	before := e.visible()
	if err := b.CheckAfter(before.position); err != nil {
		return err
	}
	next := stateBuilder{pairs: before.pairs.Copy()}
	next.digester.Reset(before.digest)
	for i := range b.Transactions {
		if err := next.apply(b.Transactions[i].Payload); err != nil {
			return &applier.TransactionError{GTID: b.Transactions[i].GTID, Err: err}
		}
	}
	state := next.state(b.To)
	var err error
	if state.changes, err = before.changes.record(b, before.position, e.keep); err != nil {
		return err
	}
	e.states = append(e.states, state)
	if e.Unsynced() > MaxUnsynced {
		e.states = slices.Delete(e.states, 0, 1)
	}
	return nil
}

// Durable implements [applier.Engine].
func (e *Engine) Durable() (uint64, error) {
	if e.opened.ended != nil {
		return 0, e.opened.ended
	}
	return e.states[0].position.Index, nil
}

// Flush implements [applier.Engine].
func (e *Engine) Flush(context.Context) error {
	if e.opened.ended != nil {
		return e.opened.ended
	}
	e.SyncTo(e.visible().position.Index)
	return nil
}

// Close implements [applier.Engine].
func (e *Engine) Close() error {
	if e.opened.ended != nil {
		return e.opened.ended
	}
	e.end(applier.ErrClosed)
	return nil
}

// stateBuilder makes a state out of an earlier one.
type stateBuilder struct {
	pairs    *btree.BTreeG[pair]
	digester applier.Digester
}

func (s *stateBuilder) state(at applier.Position) *engineState {
	return &engineState{position: at, digest: s.digester.Digest(), pairs: s.pairs}
}

func (s *stateBuilder) apply(payload []byte) error {
	for m, err := range applier.Mutations(payload) {
		if err != nil {
			return err
		}
		p := pair{table: m.Table, key: bytes.Clone(m.Key)}
		switch m.Op {
		case applier.OpPut:
			p.value = bytes.Clone(m.Value)
			s.set(p)
		case applier.OpAdd:
			old, exists := s.pairs.Get(p)
			sum, err := applier.AddCounter(old.value, exists, m.Delta)
			if err != nil {
				return fmt.Errorf("%v, key %.64q: %w", m.Table, m.Key, err)
			}
			p.value = applier.AppendCounter(nil, sum)
			s.set(p)
		case applier.OpDelete:
			if old, existed := s.pairs.Delete(p); existed {
				s.digester.Remove(old.table, old.key, old.value)
			}
		}
	}
	return nil
}

func (s *stateBuilder) set(p pair) {
	s.digester.Add(p.table, p.key, p.value)
	if old, existed := s.pairs.Set(p); existed {
		s.digester.Remove(old.table, old.key, old.value)
	}
}

// engineSnapshot is a state and the engine's life.
type engineSnapshot struct {
	state  *engineState
	held   *life
	closed bool
	err    error // of the last Scan
}

func (s *engineSnapshot) check() error {
	if s.closed {
		return applier.ErrClosed
	}
	return s.held.ended
}

// Position implements [applier.Snapshot].
func (s *engineSnapshot) Position() applier.Position { return s.state.position }

// Get implements [applier.Snapshot].
func (s *engineSnapshot) Get(t applier.Table, key []byte) (value []byte, ok bool, err error) {
	if err := s.check(); err != nil {
		return nil, false, err
	}
	if err := t.Check(); err != nil {
		return nil, false, err
	}
	p, ok := s.state.pairs.Get(pair{table: t, key: key})
	return bytes.Clone(p.value), ok, nil
}

// Scan implements [applier.Snapshot].
func (s *engineSnapshot) Scan(t applier.Table, from, to []byte, reverse bool) iter.Seq2[[]byte, []byte] {
	return func(yield func(k, v []byte) bool) {
		if s.err = s.check(); s.err != nil {
			return
		}
		if s.err = t.Check(); s.err != nil {
			return
		}
		if reverse {
			s.descend(t, from, to, yield)
		} else {
			s.ascend(t, from, to, yield)
		}
	}
}

func (s *engineSnapshot) ascend(t applier.Table, from, to []byte, yield func(k, v []byte) bool) {
	s.state.pairs.Ascend(pair{table: t, key: from}, func(p pair) bool {
		inside := p.table == t && (to == nil || bytes.Compare(p.key, to) < 0)
		return inside && s.step(p, yield)
	})
}

func (s *engineSnapshot) descend(t applier.Table, from, to []byte, yield func(k, v []byte) bool) {
	start := pair{table: t, key: to}
	if to == nil { // no table lies between t and this one
		start = pair{table: applier.Table{Schema: t.Schema, Name: t.Name + "\x00"}}
	}
	s.state.pairs.Descend(start, func(p pair) bool {
		if p.compare(start) == 0 { // to itself is outside
			return true
		}
		inside := p.table == t && bytes.Compare(p.key, from) >= 0
		return inside && s.step(p, yield)
	})
}

// step yields copies, which the caller may scribble on, and notices an end of
// the snapshot that came from inside the loop.
func (s *engineSnapshot) step(p pair, yield func(k, v []byte) bool) bool {
	if s.err = s.check(); s.err != nil {
		return false
	}
	return yield(bytes.Clone(p.key), bytes.Clone(p.value))
}

// Err implements [applier.Snapshot].
func (s *engineSnapshot) Err() error { return s.err }

// Close implements [applier.Snapshot].
func (s *engineSnapshot) Close() error {
	s.closed = true
	return nil
}
