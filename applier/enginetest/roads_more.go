package enginetest

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/concordatdb/concordat/applier"
)

// mustName checks that an error is of a payload, and names its transaction.
func mustName(t *testing.T, err error, tx *applier.Transaction) {
	t.Helper()
	if named, ok := errors.AsType[*applier.TransactionError](err); !ok || named.GTID != tx.GTID || !errors.Is(err, applier.ErrPayload) {
		t.Errorf("%v, want %v of %v", err, applier.ErrPayload, tx.GTID)
	}
}

// mustBe checks that an engine holds the first n transactions.
func (s *stream) mustBe(t *testing.T, e applier.Engine, n int) {
	t.Helper()
	if got, err := s.check(e, false); err != nil || got != n {
		t.Fatalf("%d transactions, %v, want %d", got, err, n)
	}
}

// independent is a stream of one batch of transactions that put a key each.
func independent(n int) *stream {
	m := newModel()
	s := &stream{states: []*model{m.clone()}, whole: []uint64{0}, part: []uint64{0}}
	b := applier.Batch{To: applier.Position{Index: 1}}
	for i := range n {
		t := s.transaction(nil, rand.New(rand.NewPCG(0, 0)), newModel(), map[rowName]uint64{}, uint64(i))
		mu := put(accounts, keys[i], "value")
		m.mutate(mu)
		t.Index, t.LastCommitted, t.Payload = 1, 0, applier.AppendMutation(nil, mu)
		b.To.Executed = b.To.Executed.Add(t.GTID)
		b.Transactions = append(b.Transactions, t)
		s.states = append(s.states, m.clone())
		s.whole, s.part = append(s.whole, 0), append(s.part, uint64(i+1))
	}
	s.batches = []applier.Batch{b}
	return s
}

func (s *suite) parallel(t *testing.T) {
	t.Run("ExecuteHides", s.executeHides)
	t.Run("ExecuteRefuses", s.executeRefuses)
	t.Run("CommitOrder", s.commitOrder)
	t.Run("ClosedParallel", s.closedParallel)
}

// executeHides checks that nothing shows before it is committed, that what is
// discarded leaves no trace, and that payloads are not kept.
func (s *suite) executeHides(t *testing.T) {
	ctx := t.Context()
	st := independent(6)
	e, _ := s.open(t).Engine().(applier.Parallel)
	b := st.batches[0]
	var run []applier.Execution
	for i := range b.Transactions {
		for attempt := 1; attempt <= 2; attempt++ {
			tx := b.Transactions[i]
			tx.Payload = slices.Clone(tx.Payload)
			x, err := e.Execute(ctx, &tx, attempt)
			if err != nil {
				t.Fatal(err)
			}
			st.mustBe(t, e, 0)
			if attempt == 1 {
				x.Discard()
				clear(tx.Payload)
			} else {
				run = append(run, x)
			}
		}
	}
	if !bytes.Equal(b.Transactions[0].Payload, applier.AppendMutation(nil, put(accounts, keys[0], "value"))) {
		t.Error("a payload was changed")
	}
	at := e.Position()
	for i := range 4 {
		at = at.After(&b.Transactions[i])
	}
	if err := e.Commit(run[:4], at); err != nil {
		t.Fatal(err)
	}
	for i := range 4 {
		clear(b.Transactions[i].Payload)
	}
	st.mustBe(t, e, 4)
	if err := e.Commit(run[4:], b.To); err != nil {
		t.Fatal(err)
	}
	st.mustBe(t, e, 6)
}

// executeRefuses checks that a transaction that cannot be applied is named, and
// harms no other.
func (s *suite) executeRefuses(t *testing.T) {
	ctx := t.Context()
	st := independent(2)
	e, _ := s.open(t).Engine().(applier.Parallel)
	b := st.batches[0]
	first, err := e.Execute(ctx, &b.Transactions[0], 1)
	if err != nil {
		t.Fatal(err)
	}
	bad := b.Transactions[1]
	bad.Payload = append(slices.Clone(bad.Payload), 99)
	_, err = e.Execute(ctx, &bad, 1)
	mustName(t, err, &bad)
	st.mustBe(t, e, 0)
	second, err := e.Execute(ctx, &b.Transactions[1], 2)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Commit([]applier.Execution{first, second}, b.To); err != nil {
		t.Fatal(err)
	}
	st.mustBe(t, e, 2)
}

// commitOrder checks that a position that does not follow is refused.
func (s *suite) commitOrder(t *testing.T) {
	st := independent(3)
	e, _ := s.open(t).Engine().(applier.Parallel)
	b := st.batches[0]
	w := &walker{engine: e, rng: rand.New(rand.NewPCG(1, 1)), point: func() error { return nil }}
	if err := w.execute(st.batches); err != nil {
		t.Fatal(err)
	}
	for _, to := range []applier.Position{b.To, {}, {Index: 0, Part: 2, Executed: b.To.Executed}} {
		if err := e.Commit(nil, to); !errors.Is(err, applier.ErrOrder) {
			t.Errorf("commit to %d+%d at %d: %v, want %v", to.Index, to.Part, b.To.Index, err, applier.ErrOrder)
		}
	}
	st.mustBe(t, e, 3)
}

func (s *suite) closedParallel(t *testing.T) {
	st := independent(1)
	e, _ := s.open(t).Engine().(applier.Parallel)
	x, err := e.Execute(t.Context(), &st.batches[0].Transactions[0], 1)
	if err != nil {
		t.Fatal(err)
	}
	x.Discard()
	closeIt(t, e)
	if _, err := e.Execute(context.Background(), &st.batches[0].Transactions[0], 1); !errors.Is(err, applier.ErrClosed) {
		t.Errorf("Execute after Close: %v", err)
	}
	if err := e.Commit(nil, st.batches[0].To); !errors.Is(err, applier.ErrClosed) {
		t.Errorf("Commit after Close: %v", err)
	}
}

// buildBesideCommit builds small batches while those before them are committed, so
// that a batch often becomes visible while the next one is begun.
func (s *suite) buildBesideCommit(t *testing.T) {
	st := newStream(rand.New(rand.NewPCG(1, 12)), 400, false)
	e, _ := s.open(t).Engine().(applier.Pipelined)
	built, ended := make(chan applier.Built, 1), make(chan error, 1)
	go func() {
		var failed error
		for x := range built {
			if failed != nil {
				x.Discard()
			} else {
				failed = x.Commit()
			}
		}
		ended <- failed
	}()
	var err error
	for i := 0; i < len(st.batches) && err == nil; i++ {
		var x applier.Built
		if x, err = e.Build(st.batches[i]); err == nil {
			built <- x
		}
	}
	close(built)
	if err := errors.Join(err, <-ended); err != nil {
		t.Fatal(err)
	}
	st.mustBe(t, e, len(st.states)-1)
}

// pipelined checks that what cannot be built leaves what was built before, that a
// batch out of order is refused, and that nothing is built after Close.
func (s *suite) pipelined(t *testing.T) {
	if s.opts.Concurrent {
		t.Run("BuildBesideCommit", s.buildBesideCommit)
	}
	t.Run("BuildRefuses", func(t *testing.T) {
		e, _ := s.open(t).Engine().(applier.Pipelined)
		m := newModel()
		first, want := m.batch(tx{put(accounts, "a", "1")}, tx{put(accounts, "b", "2")}), m.clone()
		x, err := e.Build(first)
		if err != nil {
			t.Fatal(err)
		}
		bad := m.batch(tx{put(accounts, "a", "lost")}, tx{put(accounts, "b", "lost")}, tx{del(accounts, "b")})
		bad.Transactions[1].Payload = append(bad.Transactions[1].Payload, 99)
		bad.Transactions[2].Payload = bad.Transactions[1].Payload
		_, err = e.Build(bad)
		mustName(t, err, &bad.Transactions[1])
		if _, err := e.Build(first); !errors.Is(err, applier.ErrOrder) {
			t.Errorf("built again: %v, want %v", err, applier.ErrOrder)
		}
		newModel().check(t, e)
		if err := x.Commit(); err != nil {
			t.Fatal(err)
		}
		want.check(t, e)
		want.apply(t, e, tx{del(accounts, "a"), put(accounts, "b", "3")})
		want.check(t, e)
	})
	t.Run("ClosedPipelined", func(t *testing.T) {
		e, _ := s.open(t).Engine().(applier.Pipelined)
		x, err := e.Build(newModel().batch(tx{put(accounts, "a", "1")}))
		if err != nil {
			t.Fatal(err)
		}
		closeIt(t, e)
		if err := x.Commit(); !errors.Is(err, applier.ErrClosed) {
			t.Errorf("Commit after Close: %v", err)
		}
		if _, err := e.Build(newModel().batch()); !errors.Is(err, applier.ErrClosed) {
			t.Errorf("Build after Close: %v", err)
		}
	})
}
