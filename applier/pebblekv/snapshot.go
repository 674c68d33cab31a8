package pebblekv

import (
	"bytes"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync"

	"github.com/cockroachdb/pebble/v2"

	"github.com/concordatdb/concordat/applier"
)

// snapshot is one state of a store. Its mutex is there because Close of the
// engine, or an import, may pull the store away from under it at any time; by
// itself a snapshot is for one goroutine.
type snapshot struct {
	store *store
	state *state

	mu     sync.Mutex
	reader *pebble.Snapshot
	ended  error   // why reader is gone, nil while it is not
	scans  []*scan // open, innermost last
	err    error   // of the last scan
	key    []byte  // scratch
}

// Position implements [applier.Snapshot].
func (s *snapshot) Position() applier.Position { return s.state.position }

// Get implements [applier.Snapshot].
func (s *snapshot) Get(t applier.Table, key []byte) (value []byte, ok bool, err error) {
	if err := t.Check(); err != nil {
		return nil, false, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended != nil {
		return nil, false, s.ended
	}
	s.key = appendKey(s.key[:0], t, key)
	v, closer, err := s.reader.Get(s.key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, fmt.Errorf("read %s: %w", t, err)
	}
	value = make([]byte, len(v))
	copy(value, v)
	return value, true, closer.Close()
}

// Scan implements [applier.Snapshot]. Scans of one snapshot may be nested.
func (s *snapshot) Scan(t applier.Table, from, to []byte, reverse bool) iter.Seq2[[]byte, []byte] {
	return func(yield func(k, v []byte) bool) {
		sc := &scan{snapshot: s, reverse: reverse}
		if !sc.open(t, from, to) {
			return
		}
		defer sc.close()
		for sc.step() && yield(sc.key, sc.value) {
			continue
		}
	}
}

// Err implements [applier.Snapshot].
func (s *snapshot) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// Close implements [applier.Snapshot].
func (s *snapshot) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended != nil {
		return nil
	}
	err := s.end(applier.ErrClosed)
	// Only now: until it is forgotten, the store waits for it before it closes.
	s.store.forget(s)
	return err
}

// invalidate ends the snapshot on behalf of the engine.
func (s *snapshot) invalidate(why error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended == nil {
		// An error of giving back what is no longer wanted helps nobody.
		_ = s.end(why)
	}
}

// end gives everything back. s.mu is held.
func (s *snapshot) end(why error) error {
	s.ended = why
	var errs []error
	for _, sc := range s.scans {
		errs = append(errs, sc.iter.Close())
		sc.iter = nil
	}
	s.scans = nil
	s.store.release(s.reader)
	return errors.Join(errs...)
}

// scan is one walk over a range. It copies each pair, because the memory that
// Pebble shows is freed when the snapshot is invalidated, which may happen
// while the caller looks at it.
type scan struct {
	snapshot   *snapshot
	iter       *pebble.Iterator // nil when closed
	reverse    bool
	started    bool
	prefix     int // bytes of a key that name the table
	key, value []byte
}

// open positions nothing yet; it returns whether there is anything to step
// through.
func (sc *scan) open(t applier.Table, from, to []byte) bool {
	s := sc.snapshot
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err = s.ended; s.err != nil {
		return false
	}
	if s.err = t.Check(); s.err != nil {
		return false
	}
	lower, upper := appendKey(nil, t, from), appendBound(nil, t, to)
	if bytes.Compare(lower, upper) >= 0 {
		return false
	}
	sc.prefix = len(lower) - len(from)
	sc.iter, s.err = s.reader.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if s.err != nil {
		return false
	}
	s.scans = append(s.scans, sc)
	return true
}

// step moves to the next pair and returns whether there is one.
func (sc *scan) step() bool {
	s := sc.snapshot
	s.mu.Lock()
	defer s.mu.Unlock()
	if sc.iter == nil {
		s.err = s.ended
		return false
	}
	if !sc.move() {
		s.err = sc.iter.Error()
		return false
	}
	value, err := sc.iter.ValueAndErr()
	if err != nil {
		s.err = err
		return false
	}
	sc.key = append(sc.key[:0], sc.iter.Key()[sc.prefix:]...)
	sc.value = append(sc.value[:0], value...)
	return true
}

func (sc *scan) move() bool {
	started := sc.started
	sc.started = true
	switch {
	case sc.reverse && !started:
		return sc.iter.Last()
	case sc.reverse:
		return sc.iter.Prev()
	case !started:
		return sc.iter.First()
	default:
		return sc.iter.Next()
	}
}

func (sc *scan) close() {
	s := sc.snapshot
	s.mu.Lock()
	defer s.mu.Unlock()
	if sc.iter == nil {
		return
	}
	if err := sc.iter.Close(); err != nil && s.err == nil {
		s.err = err
	}
	s.scans = slices.DeleteFunc(s.scans, func(o *scan) bool { return o == sc })
}
