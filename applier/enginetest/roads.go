package enginetest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/concordatdb/concordat/applier"
)

// road is a way into an engine.
type road struct {
	name string
	has  func(applier.Engine) bool
	// run applies batches. It calls point before and after each call of the
	// engine, and ends with its error.
	run func(w *walker, batches []applier.Batch) error
	// inside says that the engine may stop inside of a batch.
	inside bool
	lone   bool                     // of streams in which many batches hold one sorted transaction
	more   func(*suite, *testing.T) // what else there is to check
}

var roads = []road{
	{"Batches", func(applier.Engine) bool { return true }, (*walker).apply, false, false, func(*suite, *testing.T) {}},
	{"Pipelined", isPipelined, (*walker).build, false, false, (*suite).pipelined},
	{"Parallel", isParallel, (*walker).execute, true, false, (*suite).parallel},
	{"Prepared", isPreparer, (*walker).prepare, false, true, (*suite).prepared},
}

func isPipelined(e applier.Engine) bool { _, ok := e.(applier.Pipelined); return ok }

func isParallel(e applier.Engine) bool { _, ok := e.(applier.Parallel); return ok }

// walker takes a road.
type walker struct {
	engine     applier.Engine
	rng        *rand.Rand
	concurrent bool
	point      func() error
	prepared   []applier.Preparation // that were not discarded
}

// call makes a call of the engine between two points.
func (w *walker) call(do func() error) error {
	if err := w.point(); err != nil {
		return err
	}
	if err := do(); err != nil {
		return err
	}
	return w.point()
}

func (w *walker) sometimesFlush() error {
	if w.rng.IntN(4) > 0 {
		return nil
	}
	return w.call(func() error { return w.engine.Flush(context.Background()) })
}

func (w *walker) apply(batches []applier.Batch) error {
	for _, b := range batches {
		if err := w.call(func() error { return w.engine.Apply(b) }); err != nil {
			return err
		}
		if err := w.sometimesFlush(); err != nil {
			return err
		}
	}
	return nil
}

// build is up to two batches ahead. Now and then it gives one up, and builds it
// again.
func (w *walker) build(batches []applier.Batch) error {
	e, _ := w.engine.(applier.Pipelined)
	var ahead []applier.Built
	commit := func() error {
		x := ahead[0]
		ahead = ahead[1:]
		return w.call(x.Commit)
	}
	for _, b := range batches {
		for tries := 1 + w.rng.IntN(5)/4; tries > 0; tries-- {
			err := w.call(func() error {
				x, err := e.Build(b)
				if err == nil && x == nil {
					err = errors.New("an engine builds nothing, and returns no error")
				}
				ahead = append(ahead, x)
				return err
			})
			if err != nil {
				return err
			}
			if tries > 1 {
				ahead[len(ahead)-1].Discard()
				ahead = ahead[:len(ahead)-1]
			}
		}
		for len(ahead) > w.rng.IntN(3) {
			if err := commit(); err != nil {
				return err
			}
		}
		if err := w.sometimesFlush(); err != nil {
			return err
		}
	}
	for len(ahead) > 0 {
		if err := commit(); err != nil {
			return err
		}
	}
	return nil
}

// execute executes what may run side by side, all of it at once, in no order, and
// commits it in runs of any length.
func (w *walker) execute(batches []applier.Batch) error {
	e, _ := w.engine.(applier.Parallel)
	at := e.Position()
	for _, b := range batches {
		for rest := b.Transactions; len(rest) > 0; {
			n := 1
			for n < len(rest) && rest[n].LastCommitted < rest[0].Sequence {
				n++
			}
			runs, err := w.executeAll(e, rest[:n])
			if err != nil {
				return err
			}
			for from := 0; from < n; {
				to := from + 1 + w.rng.IntN(n-from)
				for i := range rest[from:to] {
					at = at.After(&rest[from+i])
				}
				if err := w.call(func() error { return e.Commit(runs[from:to], at) }); err != nil {
					return err
				}
				from = to
			}
			rest = rest[n:]
			if err := w.sometimesFlush(); err != nil {
				return err
			}
		}
		at = b.To
		if err := w.call(func() error { return e.Commit(nil, at) }); err != nil {
			return err
		}
	}
	return nil
}

func (w *walker) executeAll(e applier.Parallel, txs []applier.Transaction) (runs []applier.Execution, err error) {
	runs = make([]applier.Execution, len(txs))
	errs := make([]error, len(txs))
	var workers sync.WaitGroup
	for _, i := range w.rng.Perm(len(txs)) {
		twice := w.rng.IntN(5) == 0
		one := func() {
			x, err := e.Execute(context.Background(), &txs[i], 1)
			if err == nil && twice {
				x.Discard()
				x, err = e.Execute(context.Background(), &txs[i], 2)
			}
			runs[i], errs[i] = x, err
			if err == nil && x == nil {
				errs[i] = errors.New("an engine executes nothing, and returns no error")
			}
		}
		if w.concurrent {
			workers.Go(one)
			continue
		}
		if err := w.point(); err != nil {
			return nil, err
		}
		one()
	}
	workers.Wait()
	return runs, errors.Join(errors.Join(errs...), w.point())
}

// road takes a road with whole streams, with readers beside it, and cut off at each
// point.
func (s *suite) road(t *testing.T, r road, crashes bool) {
	t.Run("Stream", func(t *testing.T) {
		for seed := range uint64(8) {
			s.wholeStream(t, r, seed)
		}
	})
	if crashes {
		t.Run("CrashPoints", func(t *testing.T) {
			for seed := range uint64(3) {
				points := 0
				for s.crashAt(t, r, seed, points) {
					points++
				}
				if points == 0 {
					t.Error("there are no points to crash at")
				}
			}
		})
	}
	r.more(s, t)
}

func (s *suite) wholeStream(t *testing.T, r road, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 10))
	st := newStream(rng, 30, r.lone)
	e := s.open(t).Engine()
	done := make(chan struct{})
	var readers sync.WaitGroup
	if s.opts.Concurrent {
		for range 2 {
			readers.Go(func() { st.readUntil(t, e, done) })
		}
	}
	w := &walker{engine: e, rng: rng, concurrent: s.opts.Concurrent, point: func() error { return nil }}
	err := r.run(w, st.batches)
	close(done)
	readers.Wait()
	if err != nil {
		t.Fatalf("seed %d: %v", seed, err)
	}
	if n, err := st.check(e, true); err != nil || n != len(st.states)-1 {
		t.Fatalf("seed %d: after all, %d of %d transactions: %v", seed, n, len(st.states)-1, err)
	}
}

// readUntil checks the states that it meets, which must follow on each other.
func (s *stream) readUntil(t *testing.T, e applier.Engine, done chan struct{}) {
	last := 0
	for {
		n, err := s.check(e, false)
		if err != nil || n < last {
			t.Errorf("%d transactions after %d: %v", n, last, err)
			return
		}
		last = n
		select {
		case <-done:
			return
		default:
		}
	}
}

var errCrashed = errors.New("power lost")

// crashAt loses power at one point of a stream, goes on with what the log brings
// again, and reports whether there is such a point.
func (s *suite) crashAt(t *testing.T, r road, seed uint64, point int) bool {
	t.Helper()
	rng := rand.New(rand.NewPCG(seed, 11))
	st := newStream(rng, 5, r.lone)
	h := s.opts.Open(t)
	defer func() {
		if err := h.Close(); err != nil {
			t.Errorf("close harness: %v", err)
		}
	}()
	w := &walker{engine: h.Engine(), rng: rng, concurrent: s.opts.Concurrent}
	passed := 0
	w.point = func() error {
		if passed++; passed > point {
			return errCrashed
		}
		return nil
	}
	err := r.run(w, st.batches)
	if err == nil {
		return false
	}
	if !errors.Is(err, errCrashed) {
		t.Fatalf("seed %d: %v", seed, err)
	}
	before := h.Engine().Position()
	durable, err := h.Engine().Durable()
	if err == nil {
		err = crash(h, rand.New(rand.NewPCG(seed, uint64(point))))
	}
	w.discard() // of an engine that is gone
	if err == nil {
		err = st.afterCrash(h.Engine(), before, durable, !r.inside)
	}
	if err != nil {
		t.Fatalf("seed %d, point %d: %v", seed, point, err)
	}
	w.engine, w.point = h.Engine(), func() error { return nil }
	if err := r.run(w, st.rest(h.Engine().Position())); err != nil {
		t.Fatalf("seed %d, point %d, applied again: %v", seed, point, err)
	}
	if n, err := st.check(h.Engine(), true); err != nil || n != len(st.states)-1 {
		t.Fatalf("seed %d, point %d: after all, %d of %d transactions: %v", seed, point, n, len(st.states)-1, err)
	}
	return true
}

// afterCrash checks what a crash has left.
func (s *stream) afterCrash(e applier.Engine, before applier.Position, durable uint64, boundary bool) error {
	if _, err := s.check(e, boundary); err != nil {
		return fmt.Errorf("after the crash: %w", err)
	}
	at := e.Position()
	if at.Index < durable || !at.Executed.SubsetOf(before.Executed) {
		return fmt.Errorf("after the crash at %d+%d, %d was durable and %d+%d visible", at.Index, at.Part, durable, before.Index, before.Part)
	}
	if again, err := e.Durable(); err != nil || again < durable || again > at.Index {
		return fmt.Errorf("durable after the crash: %d, %w, was %d, at %d", again, err, durable, at.Index)
	}
	return nil
}
