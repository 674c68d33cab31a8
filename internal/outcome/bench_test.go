package outcome

import (
	"encoding/binary"
	"math/rand/v2"
	"runtime"
	"strconv"
	"testing"
)

// drawnID returns the n-th of a series of ids that look random.
func drawnID(n uint64) ID {
	r := rand.NewPCG(n, 1)
	var id ID
	binary.LittleEndian.PutUint64(id[:], r.Uint64())
	binary.LittleEndian.PutUint64(id[8:], r.Uint64())
	return id
}

func full(limit int) *Window {
	w := New(limit, 7)
	for n := uint64(1); n <= uint64(limit); n++ {
		w.Note(drawnID(n), commit(n, n))
	}
	return w
}

// BenchmarkDelivery is what each delivered transaction costs: one Find and one
// Note in a full window.
func BenchmarkDelivery(b *testing.B) {
	for _, limit := range []int{1 << 10, 1 << 16, 1 << 20} {
		b.Run(strconv.Itoa(limit), func(b *testing.B) {
			w := full(limit)
			n := uint64(limit)
			ids := make([]ID, 1<<12)
			i := len(ids)
			b.ReportAllocs()
			for b.Loop() {
				if i == len(ids) {
					b.StopTimer()
					for i = range ids {
						ids[i] = drawnID(n + 1 + uint64(i))
					}
					i = 0
					b.StartTimer()
				}
				id := ids[i]
				i++
				n++
				if _, ok := w.Find(id); ok {
					b.Fatal("a new id was found")
				}
				w.Note(id, commit(n, n))
			}
		})
	}
}

// BenchmarkFind asks for ids that the window has.
func BenchmarkFind(b *testing.B) {
	w := full(1 << 16)
	ids := make([]ID, 1<<12)
	for i := range ids {
		ids[i] = drawnID(1 + rand.Uint64N(1<<16))
	}
	i := 0
	for b.Loop() {
		if _, ok := w.Find(ids[i%len(ids)]); !ok {
			b.Fatal("not found")
		}
		i++
	}
}

// BenchmarkFill reports the memory of a full window, and the time to fill it
// from nothing.
func BenchmarkFill(b *testing.B) {
	for _, limit := range []int{1 << 16, 1 << 20} {
		b.Run(strconv.Itoa(limit), func(b *testing.B) {
			ids := make([]ID, limit)
			for i := range ids {
				ids[i] = drawnID(uint64(i + 1))
			}
			var held float64
			for b.Loop() {
				b.StopTimer()
				before := heap()
				b.StartTimer()
				w := New(limit, 7)
				for i, id := range ids {
					w.Note(id, commit(uint64(i+1), uint64(i+1)))
				}
				b.StopTimer()
				held = float64(heap() - before)
				runtime.KeepAlive(w)
				b.StartTimer()
			}
			b.ReportMetric(held/float64(limit), "B/transaction")
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(limit), "ns/transaction")
		})
	}
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// BenchmarkState writes and reads the state of a full window.
func BenchmarkState(b *testing.B) {
	w := full(1 << 16)
	state := w.AppendState(nil)
	b.Run("append", func(b *testing.B) {
		b.ReportAllocs()
		buf := make([]byte, 0, len(state))
		for b.Loop() {
			buf = w.AppendState(buf[:0])
		}
		b.ReportMetric(float64(len(state))/(1<<16), "B/transaction")
	})
	b.Run("restore", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := Restore(state, 9); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkManySources is a window in which each GTID has a source of its own.
func BenchmarkManySources(b *testing.B) {
	w := New(1<<16, 7)
	n := uint64(0)
	b.ReportAllocs()
	for b.Loop() {
		n++
		f := commit(1, n)
		f.GTID.UUID = idOf(n)
		w.Note(idOf(n), f)
	}
}
