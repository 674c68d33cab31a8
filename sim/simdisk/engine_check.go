package simdisk

import (
	"bytes"
	"iter"

	"github.com/concordatdb/concordat/applier"
)

var _ applier.Checker = (*engineSnapshot)(nil)

// Pairs implements [applier.Checker].
func (s *engineSnapshot) Pairs(from applier.Place) iter.Seq2[applier.Place, []byte] {
	return func(yield func(applier.Place, []byte) bool) {
		if s.err = s.check(); s.err != nil {
			return
		}
		s.state.pairs.Ascend(pair{table: from.Table, key: from.Key}, func(p pair) bool {
			if s.err = s.check(); s.err != nil {
				return false
			}
			return yield(applier.Place{Table: p.table, Key: bytes.Clone(p.key)}, bytes.Clone(p.value))
		})
	}
}

// Harm is what becomes of a pair that a disk does not keep.
type Harm byte

// The harms.
const (
	BitFlipped Harm = iota // one bit of the value is another
	PairLost               // the pair is not there
	PairAdded              // a pair is there that nobody wrote
)

// Mend sets a pair of the visible state to what it should be, nil for nothing, and
// makes the digest that of what there is.
func (e *Engine) Mend(t applier.Table, key, value []byte) {
	mended := *e.visible()
	mended.pairs = mended.pairs.Copy()
	p := pair{table: t, key: bytes.Clone(key), value: bytes.Clone(value)}
	if value == nil {
		mended.pairs.Delete(p)
	} else {
		mended.pairs.Set(p)
	}
	var d applier.Digester
	mended.pairs.Scan(func(p pair) bool {
		d.Add(p.table, p.key, p.value)
		return true
	})
	mended.digest = d.Digest()
	e.states[len(e.states)-1] = &mended
}

// Damage harms a pair in every state that has it, the synced one too, or adds it
// to all, and leaves their digests, which speak of what was written: as a disk,
// or a mistake of an engine, would. It returns false, and does nothing, where the
// visible state has no such pair to harm.
func (e *Engine) Damage(h Harm, t applier.Table, key []byte) bool {
	at := pair{table: t, key: bytes.Clone(key)}
	old, there := e.visible().pairs.Get(at)
	if there != (h != PairAdded) || h == BitFlipped && len(old.value) == 0 {
		return false
	}
	for i, st := range e.states {
		harmed := *st
		harmed.pairs = st.pairs.Copy()
		old, there := harmed.pairs.Get(at)
		switch {
		case h == PairAdded:
			harmed.pairs.Set(pair{table: t, key: at.key, value: []byte("nobody wrote this")})
		case !there:
		case h == PairLost:
			harmed.pairs.Delete(at)
		case h == BitFlipped && len(old.value) > 0:
			old.value = bytes.Clone(old.value)
			old.value[len(old.value)-1] ^= 1
			harmed.pairs.Set(old)
		}
		e.states[i] = &harmed
	}
	return true
}
