package certifier

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// historyItems is how much history the benchmarks certify against. The memory
// for it is some 60 bytes an item, and three times that for lone items.
var historyItems = flag.Int("history", 1_000_000, "size of the certification `history` in benchmarks, in items")

// workload certifies transactions of one origin that lags behind, with items
// from a universe twice as large as the history, so that half of them are
// found there. Marks keep the history at its size.
type workload struct {
	c       *Certifier
	random  *rand.PCG
	encoded []byte
	items   int
	index   uint64
	limit   int
	refused int
}

const (
	snapshotLag = 64 // transactions certified since a snapshot was taken
	markEvery   = 1024
)

func newWorkload(history, items int) *workload {
	w := &workload{
		c: New(group, roomy), random: rand.NewPCG(1, 2), items: items, limit: history,
		encoded: encodeWrites(make([]Item, items)),
	}
	for w.c.HistoryItems() < history {
		w.certify(w.next())
	}
	return w
}

// next draws the next write set, into the same memory each time.
func (w *workload) next() Encoded {
	ws, _, err := DecodeWriteSet(w.encoded)
	if err != nil {
		panic(err)
	}
	universe := 2 * uint64(w.limit)
	for i := range w.items {
		// A key's place in the universe, spread over 64 bits as a hash would.
		item := (w.random.Uint64() % universe) * 0x9e3779b97f4a7c15
		for j := range itemLen {
			ws.items[i*itemLen+j] = byte(item >> (8 * j))
		}
	}
	return ws
}

func (w *workload) certify(ws Encoded) {
	lag := uint64(snapshotLag)
	if n := w.c.Sequence(); n < lag {
		lag = n
	}
	v := judge(w.c, upTo(w.c.Sequence()-lag), ws)
	if v.Outcome != Certified {
		w.refused++
	}
	w.index++
	w.c.EntryDone(w.index)
	if w.index%markEvery == 0 {
		w.c.Mark(markableItems(w.c, w.limit))
	}
}

// BenchmarkCertify is the cost of one transaction, the marks and the giving
// back of memory that it pays for included.
func BenchmarkCertify(b *testing.B) {
	for _, items := range []int{1, 4, 64} {
		b.Run(fmt.Sprintf("items=%d", items), func(b *testing.B) {
			w := newWorkload(*historyItems, items)
			w.refused = 0
			b.ReportAllocs()
			for b.Loop() {
				w.certify(w.next())
			}
			b.ReportMetric(float64(w.refused)/float64(b.N), "refused/op")
		})
	}
}

// BenchmarkAfterMark drops a whole history at once and reports what the
// transactions after that pay: the median, the 99.9th percentile and the
// slowest of the first 100,000, in nanoseconds.
func BenchmarkAfterMark(b *testing.B) {
	const watched = 100_000
	took := make([]time.Duration, watched)
	for b.Loop() {
		b.StopTimer()
		w := newWorkload(*historyItems, 1)
		ws := make([]Encoded, watched)
		for i := range ws {
			fresh, _, err := DecodeWriteSet(slices.Clone(w.encoded))
			if err != nil {
				b.Fatal(err)
			}
			copy(fresh.items, w.next().items)
			ws[i] = fresh
		}
		b.StartTimer()
		w.c.Mark(w.index)
		for i := range ws {
			start := time.Now()
			judge(w.c, w.c.Executed(), ws[i])
			took[i] = time.Since(start)
		}
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[watched/2]), "p50-ns")
	b.ReportMetric(float64(took[watched-watched/1000]), "p99.9-ns")
	b.ReportMetric(float64(took[watched-1]), "max-ns")
}

func BenchmarkAppendState(b *testing.B) {
	w := newWorkload(*historyItems, 4)
	var state []byte
	b.ReportAllocs()
	for b.Loop() {
		var err error
		if state, err = w.c.AppendState(state[:0]); err != nil {
			b.Fatal(err)
		}
	}
	b.SetBytes(int64(len(state)))
}

func BenchmarkRestore(b *testing.B) {
	state := appendState(b, newWorkload(*historyItems, 4).c)
	b.SetBytes(int64(len(state)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Restore(state, roomy); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkHashItem(b *testing.B) {
	text := AppendItemText(nil, PrimaryIndex, "test", "t1", make([]byte, 16))
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		text = AppendItemText(text[:0], PrimaryIndex, "test", "t1", text[:16])
		HashItem(text)
	}
}
