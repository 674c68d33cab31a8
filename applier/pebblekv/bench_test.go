package pebblekv

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/concordatdb/concordat/applier"
	"github.com/concordatdb/concordat/gtid"
)

// The shape of the group's own benchmark.
const (
	benchKeys  = 60_000
	benchValue = 100
)

func benchKey(n int) []byte {
	return binary.BigEndian.AppendUint64([]byte("account-"), uint64(n))
}

// benchEngine is an engine on disk with benchKeys keys, flushed.
func benchEngine(b *testing.B) *Engine {
	b.Helper()
	return benchEngineOf(b, Options{})
}

func benchEngineOf(b *testing.B, opts Options) *Engine {
	b.Helper()
	e, err := Open(b.TempDir(), opts)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { mustClose(b, e) })
	w := newBenchWriter()
	for n := 0; n < benchKeys; n += 1000 {
		batch := w.next(1000, func(i int) int { return n + i })
		mustApply(b, e, batch)
	}
	if err := e.Flush(b.Context()); err != nil {
		b.Fatal(err)
	}
	return e
}

// benchWriter makes batches of transactions that write one key each. It reuses
// memory, so that what is measured is the engine's.
type benchWriter struct {
	batch    applier.Batch
	payloads [][]byte
	value    []byte
	rng      *rand.ChaCha8
}

func newBenchWriter() *benchWriter {
	return &benchWriter{value: make([]byte, benchValue), rng: rand.NewChaCha8([32]byte{1})}
}

// next makes a batch of puts.
func (w *benchWriter) next(size int, key func(i int) int) applier.Batch {
	return w.nextOf(size, func(i int) applier.Mutation {
		_, _ = w.rng.Read(w.value) // it never fails
		return applier.Mutation{Op: applier.OpPut, Table: table, Key: benchKey(key(i)), Value: w.value}
	})
}

func (w *benchWriter) nextOf(size int, mutation func(i int) applier.Mutation) applier.Batch {
	w.batch.Transactions = w.batch.Transactions[:0]
	for len(w.payloads) < size {
		w.payloads = append(w.payloads, nil)
	}
	for i := range size {
		w.batch.To.Index++
		id := gtid.GTID{UUID: gtid.UUID{1}, Number: w.batch.To.Index}
		w.payloads[i] = applier.AppendMutation(w.payloads[i][:0], mutation(i))
		w.batch.Transactions = append(w.batch.Transactions, applier.Transaction{GTID: id, Payload: w.payloads[i]})
	}
	w.batch.To.Executed = gtid.Set{}.AddInterval(gtid.UUID{1}, "", 1, w.batch.To.Index)
	return w.batch
}

// BenchmarkApply overwrites random keys. Its unit is a transaction.
func BenchmarkApply(b *testing.B) {
	rng := rand.New(rand.NewPCG(1, 1))
	benchApply(b, func(w *benchWriter, size int) applier.Batch {
		return w.next(size, func(int) int { return rng.IntN(benchKeys) })
	})
}

// BenchmarkApplyHot writes one key, by puts of a counter and by adds, and adds
// to counters at random, of which the engine remembers the sums. Its unit is a
// transaction.
func BenchmarkApplyHot(b *testing.B) {
	rng := rand.New(rand.NewPCG(1, 1))
	counter := func(n int) []byte { return binary.BigEndian.AppendUint64([]byte("counter-"), uint64(n)) }
	hot, value := counter(0), make([]byte, applier.CounterLen)
	for _, c := range []struct {
		name     string
		mutation func(int) applier.Mutation
	}{
		{"put", func(int) applier.Mutation {
			value = applier.AppendCounter(value[:0], rng.Int64())
			return applier.Mutation{Op: applier.OpPut, Table: table, Key: hot, Value: value}
		}},
		{"add", func(int) applier.Mutation {
			return applier.Mutation{Op: applier.OpAdd, Table: table, Key: hot, Delta: 1}
		}},
		{"add at random", func(int) applier.Mutation {
			return applier.Mutation{Op: applier.OpAdd, Table: table, Key: counter(rng.IntN(benchKeys)), Delta: 1}
		}},
	} {
		b.Run(c.name, func(b *testing.B) {
			benchApply(b, func(w *benchWriter, size int) applier.Batch { return w.nextOf(size, c.mutation) })
		})
	}
}

// BenchmarkWorkers applies batches that lie ready, one after the other and, as a
// node does, with the next one built while one is committed. Its unit is a
// transaction.
func BenchmarkWorkers(b *testing.B) {
	for _, workers := range []int{1, 2, 4} {
		for _, ahead := range []bool{false, true} {
			b.Run(fmt.Sprintf("workers=%d,ahead=%v", workers, ahead), func(b *testing.B) { benchWorkers(b, workers, ahead) })
		}
	}
}

func benchWorkers(b *testing.B, workers int, ahead bool) {
	const size = 1024
	e := benchEngineOf(b, Options{Workers: workers})
	rng := rand.New(rand.NewPCG(1, 1))
	var ready []applier.Batch
	for range 64 {
		ready = append(ready, newBenchWriter().next(size, func(int) int { return rng.IntN(benchKeys) }))
	}
	to := e.Position()
	built, done := make(chan applier.Built, 1), make(chan error, 1)
	go func() {
		var err error
		for x := range built {
			if err == nil {
				err = x.Commit()
			}
		}
		done <- err
	}()
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		if n%size == 0 {
			batch := ready[n/size%len(ready)]
			to.Index++
			batch.To = to
			x, err := e.Build(batch)
			if err != nil {
				b.Fatal(err)
			}
			if ahead {
				built <- x
			} else if err := x.Commit(); err != nil {
				b.Fatal(err)
			}
		}
		n++
	}
	close(built)
	if err := <-done; err != nil {
		b.Fatal(err)
	}
}

func benchApply(b *testing.B, next func(w *benchWriter, size int) applier.Batch) {
	b.Helper()
	for _, size := range []int{1, 32, 1024} {
		b.Run(fmt.Sprintf("batch=%d", size), func(b *testing.B) {
			e := benchEngine(b)
			w := newBenchWriter()
			w.batch.To = e.Position()
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				if n%size == 0 {
					b.StopTimer()
					batch := next(w, size)
					b.StartTimer()
					if err := e.Apply(batch); err != nil {
						b.Fatal(err)
					}
				}
				n++
			}
		})
	}
}

// BenchmarkBegin begins and closes snapshots, alone and beside a writer.
func BenchmarkBegin(b *testing.B) {
	beginClose := func(b *testing.B, e *Engine) {
		b.ReportAllocs()
		for b.Loop() {
			s, err := e.Begin()
			if err != nil {
				b.Fatal(err)
			}
			if err := s.Close(); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.Run("idle", func(b *testing.B) { beginClose(b, benchEngine(b)) })
	b.Run("applying", func(b *testing.B) {
		e := benchEngine(b)
		stop, stopped := make(chan struct{}), make(chan error)
		go func() { stopped <- applyUntil(e, stop) }()
		beginClose(b, e)
		close(stop)
		if err := <-stopped; err != nil {
			b.Fatal(err)
		}
	})
}

// applyUntil applies batches of 32 until stop is closed.
func applyUntil(e *Engine, stop <-chan struct{}) error {
	w := newBenchWriter()
	w.batch.To = e.Position()
	rng := rand.New(rand.NewPCG(1, 1))
	for {
		select {
		case <-stop:
			return nil
		default:
		}
		if err := e.Apply(w.next(32, func(int) int { return rng.IntN(benchKeys) })); err != nil {
			return err
		}
	}
}

func BenchmarkGet(b *testing.B) {
	e := benchEngine(b)
	s, err := e.Begin()
	if err != nil {
		b.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 1))
	b.ReportAllocs()
	for b.Loop() {
		if _, ok, err := s.Get(table, benchKey(rng.IntN(benchKeys))); !ok || err != nil {
			b.Fatal(ok, err)
		}
	}
}

// BenchmarkScan reads 100 pairs from a random place.
func BenchmarkScan(b *testing.B) {
	e := benchEngine(b)
	s, err := e.Begin()
	if err != nil {
		b.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 1))
	b.ReportAllocs()
	for b.Loop() {
		pairs := 0
		for range s.Scan(table, benchKey(rng.IntN(benchKeys-100)), nil, false) {
			if pairs++; pairs == 100 {
				break
			}
		}
		if pairs != 100 || s.Err() != nil {
			b.Fatal(pairs, s.Err())
		}
	}
}

func BenchmarkDurable(b *testing.B) {
	e := benchEngine(b)
	for b.Loop() {
		if _, err := e.Durable(); err != nil {
			b.Fatal(err)
		}
	}
}
