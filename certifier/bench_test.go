package certifier

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/concordatdb/concordat/gtid"
)

// historyItems is how much history the benchmarks certify against. The memory
// for it is some 20 bytes an item, and 12 for each transaction.
var historyItems = flag.Int("history", 1_000_000, "size of the certification `history` in benchmarks, in items")

// workload certifies transactions of one origin that lags behind, with items
// from a universe twice as large as the history, so that about half of them are
// found there. Marks keep the history at its size.
type workload struct {
	c        *Certifier
	kind     Kind
	random   *rand.PCG
	encoded  []byte
	items    int
	index    uint64
	limit    int
	universe uint64
	drawn    uint64
	refused  int
	odd      gtid.Set // has what no certifier knows
}

const (
	snapshotLag = 64 // transactions certified since a snapshot was taken
	markEvery   = 1024
)

func newWorkload(history, items int) *workload { return newWorkloadOf(Write, history, items) }

func newWorkloadOf(kind Kind, history, items int) *workload {
	ws := does(kind, make([]Item, items)...)
	encoded, err := ws.AppendBinary(nil)
	if err != nil {
		panic(err)
	}
	w := &workload{
		c: New(group, roomy), kind: kind, random: rand.NewPCG(1, 2), encoded: encoded, items: items,
		limit: history, universe: 2 * uint64(history),
	}
	for w.c.HistoryItems() < history-items {
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
	for i := range w.items {
		w.drawn++
		number := w.drawn // never twice
		if w.universe > 0 {
			number = w.random.Uint64() % w.universe
		}
		// An item's number, spread over 64 bits as a hash would.
		item := number * 0x9e3779b97f4a7c15
		for j := range itemLen {
			ws.items[i*itemLen+j] = byte(item >> (8 * j))
		}
	}
	return ws
}

func (w *workload) certify(ws Encoded) {
	snapshot := upTo(w.c.Sequence() - min(snapshotLag, w.c.Sequence()))
	if !w.odd.IsEmpty() {
		snapshot = snapshot.Union(w.odd)
	}
	v := w.c.Certify(&Request{Snapshot: snapshot, WriteSet: ws})
	if v.Outcome != Certified {
		w.refused++
	}
	w.index++
	w.c.EntryDone(w.index)
	if w.index%markEvery == 0 {
		w.c.Mark(markableItems(w.c, w.limit))
	}
}

// report adds what an item costs to a benchmark's figures: the median of
// strides, which a busy machine disturbs less than the mean.
func report(b *testing.B, items int, step func()) {
	const stride = 256
	var took []time.Duration
	b.ReportAllocs()
	start, n := time.Now(), 0
	for b.Loop() {
		step()
		if n++; n%stride == 0 {
			now := time.Now()
			took = append(took, now.Sub(start))
			start = now
		}
	}
	if len(took) > 0 {
		slices.Sort(took)
		b.ReportMetric(float64(took[len(took)/2])/float64(stride*items), "median-ns/item")
	}
}

// BenchmarkCertify is the cost of one transaction, the marks and the giving
// back of memory that it pays for included.
func BenchmarkCertify(b *testing.B) {
	for _, kind := range []Kind{Write, Delta, Reference} {
		for _, items := range []int{1, 4, 64} {
			b.Run(fmt.Sprintf("%v/items=%d", kind, items), func(b *testing.B) {
				w := newWorkloadOf(kind, *historyItems, items)
				w.refused = 0
				report(b, items, func() { w.certify(w.next()) })
				b.ReportMetric(float64(w.refused)/float64(b.N), "refused/op")
			})
		}
	}
}

// BenchmarkCertifyIrregular certifies with snapshot versions that are no E(n).
func BenchmarkCertifyIrregular(b *testing.B) {
	w := newWorkload(*historyItems, 4)
	w.odd = gtid.Set{}.AddInterval(foreign, "", 1, 1000)
	report(b, 4, func() { w.certify(w.next()) })
}

// BenchmarkCertifyBlocks certifies what three members number in blocks.
func BenchmarkCertifyBlocks(b *testing.B) {
	w := newWorkload(*historyItems, 4)
	s := roomy
	s.BlockSize = 1_000_000
	w.c.Configure(s)
	var recent [snapshotLag]gtid.Set
	for i := range recent {
		recent[i] = w.c.Executed()
	}
	n := 0
	report(b, 4, func() {
		w.c.Certify(&Request{Origin: gtid.UUID{byte(n % 3)}, Snapshot: recent[n%snapshotLag], WriteSet: w.next()})
		w.index++
		w.c.EntryDone(w.index)
		recent[n%snapshotLag] = w.c.Executed()
		if n++; n%markEvery == 0 {
			w.c.Mark(markableItems(w.c, w.limit))
		}
	})
}

// BenchmarkCertifyScan certifies a scan of a range that nobody wrote to.
func BenchmarkCertifyScan(b *testing.B) {
	w := newWorkload(*historyItems, 4)
	ws := compose([]doing{{item: 1}}, scan{1, "\xff\xff", ""})
	for b.Loop() {
		judge(w.c, upTo(w.c.Sequence()-snapshotLag), ws)
	}
}

// BenchmarkGrowth certifies items that never come again, without a mark, and
// reports the memory they take in bytes for each item, and how long single
// transactions took.
func BenchmarkGrowth(b *testing.B) {
	for _, items := range []int{1, 4, 64} {
		b.Run(fmt.Sprintf("items=%d", items), func(b *testing.B) {
			for b.Loop() {
				before := heap()
				w := newWorkload(0, items)
				w.universe, w.limit = 0, 1<<60
				took := make([]time.Duration, *historyItems/items)
				for i := range took {
					ws := w.next()
					start := time.Now()
					w.certify(ws)
					took[i] = time.Since(start)
				}
				b.ReportMetric(float64(heap()-before-8*float64(len(took)))/float64(len(took)*items), "bytes/item")
				percentiles(b, took)
				runtime.KeepAlive(w)
			}
		})
	}
}

func heap() float64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc)
}

func percentiles(b *testing.B, took []time.Duration) {
	slices.Sort(took)
	for name, at := range map[string]int{"p50-ns": len(took) / 2, "p99-ns": len(took) * 99 / 100, "p99.9-ns": len(took) * 999 / 1000, "max-ns": len(took) - 1} {
		b.ReportMetric(float64(took[at]), name)
	}
}

// BenchmarkAfterMark drops a whole history at once and reports what the
// transactions after that pay.
func BenchmarkAfterMark(b *testing.B) {
	for _, items := range []int{1, 64} {
		b.Run(fmt.Sprintf("items=%d", items), func(b *testing.B) {
			for b.Loop() {
				w := newWorkload(*historyItems, items)
				w.c.EntryDone(w.index + 1)
				w.c.Mark(w.index + 1)
				took := make([]time.Duration, 200_000/items)
				for i := range took {
					ws := w.next()
					start := time.Now()
					judge(w.c, w.c.Executed(), ws)
					took[i] = time.Since(start)
				}
				percentiles(b, took)
			}
		})
	}
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
	perItem(b, w.c, state)
}

func BenchmarkRestore(b *testing.B) {
	w := newWorkload(*historyItems, 4)
	state := appendState(b, w.c)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Restore(state, roomy); err != nil {
			b.Fatal(err)
		}
	}
	perItem(b, w.c, state)
}

func perItem(b *testing.B, c *Certifier, state []byte) {
	n := 0
	c.table.each(func(_, _ uint64) { n++ })
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/item")
	b.ReportMetric(float64(len(state))/float64(n), "state-bytes/item")
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
