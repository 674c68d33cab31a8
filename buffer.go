package concordat

import (
	"bytes"
	"cmp"
	"iter"
	"slices"

	"github.com/concordatdb/concordat/applier"
	"github.com/concordatdb/concordat/certifier"
)

// indexFrom is the number of writes from which a map finds a key faster than
// looking at all of them.
const indexFrom = 12

// writeBuffer is what a transaction has written so far: the last write of each
// key, in the order in which the keys were first written.
type writeBuffer struct {
	writes []applier.Mutation
	index  map[string]int // by table and key, from indexFrom writes on
	text   []byte         // scratch for the text of an item
	bytes  int            // about what the message will take
}

// writeOverhead is what a write costs in a message beside names, key and value:
// lengths, its item, and its place without the key.
const writeOverhead = 32

func (b *writeBuffer) find(t Table, key []byte) int {
	if b.index != nil {
		b.text = certifier.AppendItemText(b.text[:0], certifier.PrimaryIndex, t.Schema, t.Name, key)
		if i, ok := b.index[string(b.text)]; ok {
			return i
		}
		return -1
	}
	return slices.IndexFunc(b.writes, func(m applier.Mutation) bool {
		return bytes.Equal(m.Key, key) && m.Table == t
	})
}

// put enters m, whose slices belong to the buffer from here on. It reports
// false, and enters nothing, if the buffer would then take more than limit.
func (b *writeBuffer) put(m applier.Mutation, limit int) bool {
	i := b.find(m.Table, m.Key)
	grown := b.bytes + len(m.Value)
	if i >= 0 {
		grown -= len(b.writes[i].Value)
	} else {
		grown += writeOverhead + len(m.Table.Schema) + len(m.Table.Name) + len(m.Key) + min(len(m.Key), certifier.MaxPlace)
	}
	if grown > limit && grown > b.bytes {
		return false
	}
	b.bytes = grown
	if i >= 0 {
		b.writes[i] = m
		return true
	}
	b.writes = append(b.writes, m)
	switch {
	case b.index != nil:
		b.enter(len(b.writes) - 1)
	case len(b.writes) >= indexFrom:
		b.index = make(map[string]int, 2*indexFrom)
		for i := range b.writes {
			b.enter(i)
		}
	}
	return true
}

func (b *writeBuffer) enter(i int) {
	b.text = b.itemText(i)
	b.index[string(b.text)] = i
}

func (b *writeBuffer) itemText(i int) []byte {
	m := &b.writes[i]
	return certifier.AppendItemText(b.text[:0], certifier.PrimaryIndex, m.Table.Schema, m.Table.Name, m.Key)
}

// within returns the writes to a table with from <= key < to, in the order of
// a scan.
func (b *writeBuffer) within(t Table, from, to []byte, reverse bool) []applier.Mutation {
	var found []applier.Mutation
	for _, m := range b.writes {
		if m.Table == t && bytes.Compare(m.Key, from) >= 0 && (to == nil || bytes.Compare(m.Key, to) < 0) {
			found = append(found, m)
		}
	}
	slices.SortFunc(found, func(x, y applier.Mutation) int {
		if reverse {
			return bytes.Compare(y.Key, x.Key)
		}
		return bytes.Compare(x.Key, y.Key)
	})
	return found
}

// overlay yields the pairs of a scan of the snapshot as the transaction sees
// them, with its own writes in their places.
func overlay(base iter.Seq2[[]byte, []byte], own []applier.Mutation, reverse bool) iter.Seq2[[]byte, []byte] {
	if len(own) == 0 {
		return base
	}
	order := func(a, b []byte) int {
		if reverse {
			return cmp.Compare(0, bytes.Compare(a, b))
		}
		return bytes.Compare(a, b)
	}
	return func(yield func([]byte, []byte) bool) {
		rest := own
		for k, v := range base {
			for len(rest) > 0 && order(rest[0].Key, k) < 0 {
				if !yieldWrite(rest[0], nil, yield) {
					return
				}
				rest = rest[1:]
			}
			if len(rest) > 0 && bytes.Equal(rest[0].Key, k) {
				if !yieldWrite(rest[0], v, yield) {
					return
				}
				rest = rest[1:]
				continue
			}
			if !yield(k, v) {
				return
			}
		}
		for _, m := range rest {
			if !yieldWrite(m, nil, yield) {
				return
			}
		}
	}
}

// yieldWrite yields a pair as m leaves it; under is what the snapshot holds, nil
// for nothing.
func yieldWrite(m applier.Mutation, under []byte, yield func([]byte, []byte) bool) bool {
	switch m.Op {
	case applier.OpDelete:
		return true
	case applier.OpAdd:
		// Tx.Add has seen that it is a counter.
		sum, _ := applier.AddCounter(under, under != nil, m.Delta)
		return yield(m.Key, applier.AppendCounter(nil, sum))
	case applier.OpPut:
	}
	return yield(m.Key, m.Value)
}
