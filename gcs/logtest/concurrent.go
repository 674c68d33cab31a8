package logtest

import (
	"errors"
	"fmt"
	"math"
	"sync"
	"testing"

	"go.etcd.io/raft/v3"

	"github.com/concordatdb/concordat/gcs"
)

// testConcurrent reads without pause while another goroutine appends, replaces
// tails, truncates and resets. The reader cannot know the state at the moment
// of its call, but what it gets must make sense: consecutive entries that are
// each whole, of terms that do not go backwards, and no error but raft's own.
func testConcurrent(t *testing.T, o Options) {
	f := newFixture(t, o)
	f.terms(1, 1)
	done := make(chan struct{})
	var wg sync.WaitGroup
	var readErr error
	wg.Go(func() {
		for seed := uint64(1); readErr == nil; seed++ {
			select {
			case <-done:
				return
			default:
				readErr = readOnce(f.log, seed)
			}
		}
	})
	writeMuch(f)
	close(done)
	wg.Wait()
	if readErr != nil {
		t.Fatal(readErr)
	}
	f.compare("in the end")
}

func writeMuch(f *fixture) {
	term := uint64(1)
	for round := range uint64(300) {
		last := f.want.last()
		switch {
		case round%100 == 99:
			c := gcs.Checkpoint{Index: last + 10, Term: term}
			hs := hardState(term, 0, c.Index)
			if err := f.log.Reset(c, hs); err != nil {
				f.t.Error(err)
			}
			f.want.reset(c, hs)
		case round%17 == 16:
			if err := f.log.Truncate(last - 3); err != nil {
				f.t.Error(err)
			}
			f.want.truncate(last - 3)
		case round%29 == 28 && last-f.want.cut > 5:
			term++
			f.adopt(gcs.Adoption{HardState: hardState(term, 0, 0), Last: last - 3, Entries: entriesOf(last-2, 50, term, term)})
		case round%5 == 4 && last-f.want.cut > 3:
			term++
			f.terms(last-1, term)
		default:
			f.terms(last+1, term, term, term, term)
		}
	}
}

// readOnce asks for some stretch of the log and checks the answer.
func readOnce(l gcs.Log, seed uint64) error {
	first, err := l.FirstIndex()
	if err != nil {
		return err
	}
	last, err := l.LastIndex()
	if err != nil {
		return err
	}
	if last < first {
		return nil
	}
	lo := first + seed%(last-first+1)
	if term, err := l.Term(lo); err != nil && !isRafts(err) {
		return fmt.Errorf("term of %d is %d: %w", lo, term, err)
	}
	limit := uint64(math.MaxUint64)
	if seed%2 == 0 {
		limit = 200
	}
	entries, err := l.Entries(lo, last+1, limit)
	if isRafts(err) {
		return nil
	}
	if err != nil || len(entries) == 0 {
		return fmt.Errorf("%d entries from %d to %d: %w", len(entries), lo, last, err)
	}
	term := uint64(0)
	for i, e := range entries {
		want := entry(lo+uint64(i), e.GetTerm(), len(e.GetData()))
		if e.GetTerm() < term || !sameEntry(e, want) {
			return fmt.Errorf("entry %d after term %d is %v", lo+uint64(i), term, e)
		}
		term = e.GetTerm()
	}
	return nil
}

func isRafts(err error) bool {
	return errors.Is(err, raft.ErrCompacted) || errors.Is(err, raft.ErrUnavailable)
}
