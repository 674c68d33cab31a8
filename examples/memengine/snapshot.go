package memengine

import (
	"bytes"
	"iter"

	"github.com/concordatdb/concordat/applier"
)

// snapshot is a state that somebody reads.
type snapshot struct {
	state  *state
	held   *life
	closed bool
	err    error // of the last Scan
}

func (s *snapshot) check() error {
	if s.closed {
		return applier.ErrClosed
	}
	return s.held.err()
}

// Position implements [applier.Snapshot].
func (s *snapshot) Position() applier.Position { return s.state.position }

// Get implements [applier.Snapshot].
func (s *snapshot) Get(t applier.Table, key []byte) (value []byte, ok bool, err error) {
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
func (s *snapshot) Scan(t applier.Table, from, to []byte, reverse bool) iter.Seq2[[]byte, []byte] {
	return func(yield func(k, v []byte) bool) {
		if s.err = s.check(); s.err != nil {
			return
		}
		if s.err = t.Check(); s.err != nil {
			return
		}
		// What is handed out is a copy: the caller may write on it.
		step := func(p pair) bool {
			if s.err = s.check(); s.err != nil {
				return false
			}
			return yield(bytes.Clone(p.key), bytes.Clone(p.value))
		}
		if !reverse {
			s.state.pairs.Ascend(pair{table: t, key: from}, func(p pair) bool {
				return p.table == t && (to == nil || bytes.Compare(p.key, to) < 0) && step(p)
			})
			return
		}
		start := pair{table: t, key: to}
		if to == nil { // no table lies between t and this one
			start = pair{table: applier.Table{Schema: t.Schema, Name: t.Name + "\x00"}}
		}
		s.state.pairs.Descend(start, func(p pair) bool {
			return p.compare(start) == 0 || p.table == t && bytes.Compare(p.key, from) >= 0 && step(p)
		})
	}
}

// Err implements [applier.Snapshot].
func (s *snapshot) Err() error { return s.err }

// Close implements [applier.Snapshot].
func (s *snapshot) Close() error {
	s.closed = true
	return nil
}
