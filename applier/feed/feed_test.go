package feed

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"

	"github.com/concordatdb/concordat/applier"
	"github.com/concordatdb/concordat/examples/memengine"
	"github.com/concordatdb/concordat/gtid"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var table = applier.Table{Schema: "s", Name: "t"}

// probe is an engine that can be told to do otherwise, and counts what it gave out
// and got back.
type probe struct {
	*memengine.Engine
	execute func(ctx context.Context, t *applier.Transaction, attempt int) error // before it executes
	commit  func() error
	discard func()
	out     atomic.Int64 // executions neither committed nor discarded
}

type held struct {
	applier.Execution
	p *probe
}

func (h held) Discard() {
	h.p.out.Add(-1)
	if h.p.discard != nil {
		h.p.discard()
	}
	h.Execution.Discard()
}

func (p *probe) Execute(ctx context.Context, t *applier.Transaction, attempt int) (applier.Execution, error) {
	if p.execute != nil {
		if err := p.execute(ctx, t, attempt); err != nil {
			return nil, err
		}
	}
	x, err := p.Engine.Execute(ctx, t, attempt)
	if err != nil {
		return nil, err
	}
	p.out.Add(1)
	return held{x, p}, nil
}

func (p *probe) Commit(run []applier.Execution, to applier.Position) error {
	p.out.Add(-int64(len(run)))
	if p.commit != nil {
		if err := p.commit(); err != nil {
			return err
		}
	}
	own := make([]applier.Execution, len(run))
	for i, x := range run {
		h, _ := x.(held)
		own[i] = h.Execution
	}
	return p.Engine.Commit(own, to)
}

func newProbe(t *testing.T) *probe {
	t.Helper()
	e, err := memengine.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return &probe{Engine: e}
}

// log makes batches of transactions on few keys. Each depends on the last one of
// its key.
func log(seed uint64, batches int) (out []applier.Batch) {
	rng := rand.New(rand.NewPCG(seed, 0))
	last := map[int]uint64{}
	to, sequence := applier.Position{}, uint64(0)
	for range batches {
		b := applier.Batch{}
		for range 1 + rng.IntN(3) {
			to.Index++
			for range rng.IntN(5) {
				sequence++
				n := rng.IntN(8)
				id := gtid.GTID{UUID: gtid.UUID{1}, Number: sequence}
				b.Transactions = append(b.Transactions, applier.Transaction{
					Index: to.Index, GTID: id, LastCommitted: last[n], Sequence: sequence,
					Payload: applier.AppendMutation(nil, applier.Mutation{Op: applier.OpPut, Table: table, Key: []byte{byte(n)}, Value: fmt.Append(nil, sequence)}),
				})
				last[n] = sequence
				to.Executed = to.Executed.Add(id)
			}
		}
		b.To = to
		out = append(out, b)
	}
	return out
}

// seen notes what a feeder tells.
type seen struct {
	mu     sync.Mutex
	at     applier.Position
	count  int
	broken []error
	why    string
}

func (s *seen) options(workers int) Options {
	return Options{
		Workers: workers,
		Visible: func(at applier.Position, n int) {
			s.mu.Lock()
			defer s.mu.Unlock()
			if err := at.CheckAfter(s.at); err != nil {
				s.why = err.Error()
			}
			s.at = at
			if s.count += n; at.Executed.Count() != uint64(s.count) {
				s.why = fmt.Sprintf("%d transactions are told, %v", s.count, at.Executed)
			}
		},
		Failed: func(err error) { s.broken = append(s.broken, err) },
	}
}

func feedAll(f *Feeder, batches []applier.Batch) error {
	for i, b := range batches {
		if err := f.Apply(b, i+1 < len(batches)); err != nil {
			break
		}
	}
	return f.Drain()
}

// plain hides that an engine is parallel.
type plain struct{ applier.Engine }

// ahead builds batches without doing anything yet.
type ahead struct {
	applier.Engine
	build func(b applier.Batch) error
}

type aheadBuilt struct {
	e *ahead
	b applier.Batch
}

func (e *ahead) Build(b applier.Batch) (applier.Built, error) {
	if e.build != nil {
		if err := e.build(b); err != nil {
			return nil, err
		}
	}
	return aheadBuilt{e, b}, nil
}

func (x aheadBuilt) Commit() error { return x.e.Apply(x.b) }

func (aheadBuilt) Discard() {}

// TestRoads takes the same batches down each road.
func TestRoads(t *testing.T) {
	for seed := range uint64(20) {
		batches := log(seed, 40)
		var want applier.Digest
		for i, c := range []struct {
			what    string
			workers int
			engine  func(p *probe) applier.Engine
		}{
			{"batches", 4, func(p *probe) applier.Engine { return plain{p.Engine} }},
			{"ahead", 4, func(p *probe) applier.Engine { return &ahead{Engine: p.Engine} }},
			{"not ahead", 1, func(p *probe) applier.Engine { return &ahead{Engine: p.Engine} }},
			{"one worker", 1, func(p *probe) applier.Engine { return p }},
			{"two workers", 2, func(p *probe) applier.Engine { return p }},
			{"four workers that retry", 4, func(p *probe) applier.Engine {
				p.execute = func(_ context.Context, t *applier.Transaction, attempt int) error {
					if t.Sequence%7 == 0 && attempt <= int(t.Sequence%4) {
						return fmt.Errorf("busy: %w", applier.ErrRetry)
					}
					return nil
				}
				return p
			}},
		} {
			p, s := newProbe(t), &seen{}
			f := New(c.engine(p), s.options(c.workers))
			if err := feedAll(f, batches); err != nil {
				t.Fatalf("seed %d, %s: %v", seed, c.what, err)
			}
			f.Close()
			got, at, err := p.Digest()
			if i == 0 {
				want = got
			}
			last := batches[len(batches)-1].To
			if err != nil || got != want || at.Index != last.Index || at.Part != 0 || s.why != "" || p.out.Load() != 0 || len(s.broken) > 0 {
				t.Fatalf("seed %d, %s: digest %v at %v, want %v at %v: %s, %d executions out, %v", seed, c.what, got, at, want, last, s.why, p.out.Load(), s.broken)
			}
		}
	}
}

var errOut = errors.New("out of order")

// TestFailures has a transaction fail in each way. What comes before it is
// visible, it is named, and nothing is left over.
func TestFailures(t *testing.T) {
	const bad = 23
	at := func(do func() error) func(context.Context, *applier.Transaction, int) error {
		return func(_ context.Context, t *applier.Transaction, _ int) error {
			if t.Sequence == bad {
				return do()
			}
			return nil
		}
	}
	for _, c := range []struct {
		what, says string
		set        func(p *probe)
		named      bool
	}{
		{"an error", "out of order", func(p *probe) { p.execute = at(func() error { return errOut }) }, true},
		{"a panic", "panicked", func(p *probe) { p.execute = at(func() error { panic("oh") }) }, true},
		{"too many retries", "busy", func(p *probe) { p.execute = at(func() error { return fmt.Errorf("busy: %w", applier.ErrRetry) }) }, true},
		{"a commit", "out of order", func(p *probe) { p.commit = func() error { return errOut } }, false},
		{"a commit that panics", "panicked", func(p *probe) { p.commit = func() error { panic("oh") } }, false},
		{"a panic while it gives up", "out of order", func(p *probe) {
			p.execute = at(func() error { return errOut })
			p.discard = func() { panic("oh") }
		}, true},
	} {
		t.Run(c.what, func(t *testing.T) {
			p, s := newProbe(t), &seen{}
			c.set(p)
			f := New(p, s.options(4))
			err := feedAll(f, log(1, 40))
			if again := f.Apply(applier.Batch{To: applier.Position{Index: 1000}}, false); err == nil || !errors.Is(again, err) {
				t.Errorf("%v, and then %v", err, again)
			}
			f.Close()
			named, ok := errors.AsType[*applier.TransactionError](err)
			if ok != c.named || ok && named.GTID.Number != bad || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v", err)
			}
			want := uint64(0)
			if c.named {
				want = bad - 1
			}
			if n := p.Position().Executed.Count(); n != want || s.why != "" || p.out.Load() != 0 || len(s.broken) != 1 {
				t.Errorf("%d transactions are visible, want %d: %s, %d executions out, told %v", n, want, s.why, p.out.Load(), s.broken)
			}
		})
	}
}

// TestPipeFails has a batch fail that is built ahead: those before it become
// visible.
func TestPipeFails(t *testing.T) {
	p, s := newProbe(t), &seen{}
	batches := log(2, 20)
	f := New(&ahead{Engine: p.Engine, build: func(b applier.Batch) error {
		if b.To.Index == batches[12].To.Index {
			return errOut
		}
		return nil
	}}, s.options(2))
	if err := feedAll(f, batches); !errors.Is(err, errOut) {
		t.Errorf("%v", err)
	}
	f.Close()
	if at := p.Position(); at.Index != batches[11].To.Index || s.at.Index != at.Index || len(s.broken) != 1 {
		t.Errorf("at %v, told %v and %v", at, s.at, s.broken)
	}
}

// TestSideBySide has transactions wait for each other in the engine: they come
// through only if all of them are there at once.
func TestSideBySide(t *testing.T) {
	const workers = 4
	p, s := newProbe(t), &seen{}
	var inside atomic.Int32
	all := make(chan struct{})
	p.execute = func(ctx context.Context, _ *applier.Transaction, _ int) error {
		if inside.Add(1) == workers {
			close(all)
		}
		select {
		case <-all:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	b := applier.Batch{To: applier.Position{Index: 1}}
	for i := range uint64(workers) {
		id := gtid.GTID{UUID: gtid.UUID{1}, Number: i + 1}
		b.Transactions = append(b.Transactions, applier.Transaction{Index: 1, GTID: id, Sequence: i + 1})
		b.To.Executed = b.To.Executed.Add(id)
	}
	f := New(p, s.options(workers))
	if err := feedAll(f, []applier.Batch{b}); err != nil || s.count != workers {
		t.Errorf("%d transactions: %v", s.count, err)
	}
	f.Close()
}

// TestCloseInside closes a feeder while the engine works: it is told, and waited
// for.
func TestCloseInside(t *testing.T) {
	p, s := newProbe(t), &seen{}
	started := make(chan struct{}, 100)
	p.execute = func(ctx context.Context, _ *applier.Transaction, _ int) error {
		started <- struct{}{}
		<-ctx.Done()
		return ctx.Err()
	}
	f := New(p, s.options(2))
	if err := f.Apply(log(3, 1)[0], false); err != nil {
		t.Fatal(err)
	}
	<-started
	f.Close()
	if s.count != 0 || p.out.Load() != 0 || len(s.broken) > 0 {
		t.Errorf("%d transactions visible, %d executions out, told %v", s.count, p.out.Load(), s.broken)
	}
}
