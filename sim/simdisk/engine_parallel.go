package simdisk

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	"github.com/tidwall/btree"

	"github.com/concordatdb/concordat/applier"
)

// execution is what a transaction comes to: its writes, and what they do to the
// digest.
type execution struct {
	of     *applier.Transaction
	writes []change
	digest applier.Digester
}

type change struct {
	pair pair
	gone bool
}

// Discard implements [applier.Execution].
func (*execution) Discard() {}

// Execute implements [applier.Parallel].
func (e *Engine) Execute(_ context.Context, t *applier.Transaction, _ int) (applier.Execution, error) {
	if e.opened.ended != nil {
		return nil, e.opened.ended
	}
	x := &execution{of: t}
	for m, err := range applier.Mutations(t.Payload) {
		if err == nil {
			err = x.mutate(e.visible().pairs, &m)
		}
		if err != nil {
			return nil, &applier.TransactionError{GTID: t.GTID, Err: err}
		}
	}
	return x, nil
}

func (x *execution) mutate(pairs *btree.BTreeG[pair], m *applier.Mutation) error {
	p := pair{table: m.Table, key: bytes.Clone(m.Key)}
	old, exists := pairs.Get(p)
	for _, c := range x.writes {
		if c.pair.compare(p) == 0 {
			old, exists = c.pair, !c.gone
		}
	}
	switch m.Op {
	case applier.OpPut:
		p.value = bytes.Clone(m.Value)
	case applier.OpAdd:
		sum, err := applier.AddCounter(old.value, exists, m.Delta)
		if err != nil {
			return fmt.Errorf("%v, key %.64q: %w", m.Table, m.Key, err)
		}
		p.value = applier.AppendCounter(nil, sum)
	case applier.OpDelete:
	}
	if exists {
		x.digest.Remove(old.table, old.key, old.value)
	}
	if gone := m.Op == applier.OpDelete; !gone {
		x.digest.Add(p.table, p.key, p.value)
		x.writes = append(x.writes, change{pair: p})
	} else {
		x.writes = append(x.writes, change{pair: p, gone: true})
	}
	return nil
}

// Commit implements [applier.Parallel]. Each transaction leads to a state of its
// own, so that a crash may leave a part of the run.
func (e *Engine) Commit(run []applier.Execution, to applier.Position) error {
	if e.opened.ended != nil {
		return e.opened.ended
	}
	before := e.visible()
	if err := to.CheckAfter(before.position); err != nil {
		return err
	}
	states := []*engineState{}
	for i, each := range run {
		x, ok := each.(*execution)
		if !ok {
			return fmt.Errorf("simdisk: %T is no execution of this engine", each)
		}
		at := before.position.After(x.of)
		if i == len(run)-1 {
			at = to
		}
		next := x.on(before, at)
		var err error
		b := applier.Batch{Transactions: []applier.Transaction{*x.of}, To: at}
		if next.changes, err = before.changes.record(b, before.position, e.keep); err != nil {
			return err
		}
		before = next
		states = append(states, next)
	}
	if len(run) == 0 {
		next := *before
		next.position = to
		states = append(states, &next)
	}
	e.states = append(e.states, states...)
	if n := e.Unsynced() - MaxUnsynced; n > 0 {
		e.states = slices.Delete(e.states, 0, n)
	}
	return nil
}

// on is the state that an execution makes of another one.
func (x *execution) on(before *engineState, at applier.Position) *engineState {
	next := stateBuilder{pairs: before.pairs.Copy()}
	next.digester.Reset(before.digest)
	next.digester.Merge(&x.digest)
	for _, c := range x.writes {
		if c.gone {
			next.pairs.Delete(c.pair)
		} else {
			next.pairs.Set(c.pair)
		}
	}
	return next.state(at)
}
