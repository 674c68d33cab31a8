package memengine

import (
	"bytes"
	"fmt"

	"github.com/tidwall/btree"

	"github.com/concordatdb/concordat/applier"
)

// execution is what a transaction comes to: pairs to set and to delete, and what
// that does to the digest. It holds nothing that somebody else would miss.
type execution struct {
	writes []write
	change applier.Digester
}

type write struct {
	pair pair
	gone bool
}

// Discard implements [applier.Execution].
func (*execution) Discard() {}

// execute finds out what a transaction comes to on the pairs that it depends on.
// Keys and values are copied: the payload is the log's.
func execute(pairs *btree.BTreeG[pair], t *applier.Transaction) (*execution, error) {
	x := &execution{}
	for m, err := range applier.Mutations(t.Payload) {
		if err == nil {
			err = x.mutate(pairs, &m)
		}
		if err != nil {
			return nil, &applier.TransactionError{GTID: t.GTID, Err: err}
		}
	}
	return x, nil
}

// find returns what a key holds after the writes so far.
func (x *execution) find(pairs *btree.BTreeG[pair], p pair) (found pair, ok bool) {
	for i := len(x.writes) - 1; i >= 0; i-- {
		if w := &x.writes[i]; w.pair.compare(p) == 0 {
			return w.pair, !w.gone
		}
	}
	return pairs.Get(p)
}

func (x *execution) mutate(pairs *btree.BTreeG[pair], m *applier.Mutation) error {
	p := pair{table: m.Table, key: bytes.Clone(m.Key)}
	old, exists := x.find(pairs, p)
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
		if !exists {
			return nil
		}
	}
	gone := m.Op == applier.OpDelete
	if exists {
		x.change.Remove(old.table, old.key, old.value)
	}
	if !gone {
		x.change.Add(p.table, p.key, p.value)
	}
	x.writes = append(x.writes, write{p, gone})
	return nil
}

// builder makes a state out of an earlier one, which stays as it is.
type builder struct {
	pairs    *btree.BTreeG[pair]
	digester applier.Digester
}

func newBuilder(before *state) *builder {
	b := &builder{pairs: before.pairs.Copy()}
	b.digester.Reset(before.digest)
	return b
}

func (b *builder) take(x *execution) {
	for _, w := range x.writes {
		if w.gone {
			b.pairs.Delete(w.pair)
		} else {
			b.pairs.Set(w.pair)
		}
	}
	b.digester.Merge(&x.change)
}

func (b *builder) state(at applier.Position) *state {
	return &state{position: at, digest: b.digester.Digest(), pairs: b.pairs}
}
