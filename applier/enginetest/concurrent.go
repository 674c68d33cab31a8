package enginetest

import (
	"fmt"
	"sync"
	"testing"

	"github.com/concordatdb/concordat/applier"
)

// concurrent has readers check every state they meet while batches are applied.
// The digest of each index is known beforehand, so a reader that sees half of a
// batch, or data and position that do not belong together, is found out.
func (s *suite) concurrent(t *testing.T) {
	const batches, readers = 150, 4
	h, m := s.open(t), newModel()
	e := h.Engine()
	past := history{}
	past.add(m)
	var todo []applier.Batch
	for i := range batches {
		all := tx{del(tables[1], keys[(i+3)%len(keys)])}
		for _, k := range keys {
			all = append(all, put(accounts, k, fmt.Sprint(i)), add(tables[2], k, int64(i)))
		}
		todo = append(todo, m.batch(all, tx{put(tables[1], keys[i%len(keys)], "x")}))
		past.add(m)
	}
	done := make(chan struct{})
	var wg sync.WaitGroup
	for range readers {
		wg.Go(func() {
			var last uint64
			for {
				select {
				case <-done:
					return
				default:
				}
				var err error
				if last, err = readOnce(e, past, last); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for i, b := range todo {
		if err := e.Apply(b); err != nil {
			t.Error(err)
			break
		}
		if i%50 == 49 {
			if err := e.Flush(t.Context()); err != nil {
				t.Error(err)
			}
		}
	}
	close(done)
	wg.Wait()
	m.check(t, e)
	s.closeUnderReaders(t, h, past)
}

// readOnce checks one digest and one snapshot. It returns the index it saw,
// which must not be below the last one.
func readOnce(e applier.Engine, past history, last uint64) (uint64, error) {
	digest, at, err := e.Digest()
	if err != nil {
		return last, err
	}
	if m := past[at.Index]; m == nil || m.digest() != digest {
		return last, fmt.Errorf("digest %v at %d is not that of this index", digest, at.Index)
	}
	snap, err := e.Begin()
	if err != nil {
		return last, err
	}
	index := snap.Position().Index
	m := past[index]
	if m == nil || index < at.Index || index < last {
		return last, fmt.Errorf("snapshot at %d after a digest at %d and a snapshot at %d", index, at.Index, last)
	}
	if err := m.diff(snap); err != nil {
		return last, err
	}
	if now := e.Position().Index; now < index {
		return last, fmt.Errorf("position %d is behind a snapshot at %d", now, index)
	}
	if d, err := e.Durable(); err != nil || past[d] == nil {
		return last, fmt.Errorf("durable: %d, %w", d, err)
	}
	return index, snap.Close()
}

// closeUnderReaders closes the engine while it is being read. The readers must
// end by themselves, with errors.
func (s *suite) closeUnderReaders(t *testing.T, h Harness, past history) {
	e := h.Engine()
	var started, wg sync.WaitGroup
	for range 3 {
		started.Add(1)
		wg.Go(func() {
			_, err := readOnce(e, past, 0)
			started.Done()
			for err == nil {
				_, err = readOnce(e, past, 0)
			}
		})
	}
	started.Wait()
	closeIt(t, e)
	wg.Wait()
}
