package running

import (
	"fmt"
	"math/bits"
	"testing"

	"github.com/concordatdb/concordat/certifier"
	"github.com/concordatdb/concordat/gtid"
)

// spread makes a hash of a number.
func spread(n uint64) certifier.Item { return certifier.Item(bits.Reverse64(n * 0xbf58476d1ce4e5b9)) }

// load is a member with 64 transactions, one of which ends whenever another
// begins, and a full window.
type load struct {
	r       *Registry[int]
	running [64]*Transaction[int]
	n       uint64
	items   []did
	dooms   int
}

func newLoad(items int) *load {
	l := &load{r: New[int](DefaultWindow, seed), items: make([]did, items)}
	for range DefaultWindow {
		l.deliver(func(n uint64) did { return did{spread(n), certifier.Write} })
	}
	return l
}

// turn ends the oldest transaction and lets a new one touch what draw says.
func (l *load) turn(draw func(n uint64) did) {
	at := &l.running[l.n%uint64(len(l.running))]
	if *at != nil {
		l.r.End(*at)
	}
	*at = l.r.Begin(l.r.delivered, 0)
	for range l.items {
		l.n++
		d := draw(l.n)
		if l.r.Touch(*at, d.item, d.kind) != nil {
			l.dooms++
		}
	}
	l.r.Submit(*at)
}

// deliver delivers a transaction of another member.
func (l *load) deliver(draw func(n uint64) did) {
	for i := range l.items {
		l.n++
		l.items[i] = draw(l.n)
	}
	l.dooms += len(l.r.Delivered(l.r.delivered+1, other, gtid.GTID{UUID: group, Number: 1}, yieldAll(l.items)))
}

var draws = []struct {
	name string
	draw func(n uint64) did
}{
	{"distinct", func(n uint64) did { return did{spread(n), certifier.Write} }},
	{"counter", func(n uint64) did {
		if n%4 == 0 {
			return did{1, certifier.Delta}
		}
		return did{spread(n), certifier.Write}
	}},
	{"hot", func(n uint64) did { return did{spread(n % 1000), certifier.Write} }},
}

// BenchmarkLocal is Begin, Touch, Submit and End of one transaction among 64.
func BenchmarkLocal(b *testing.B) { benchmark(b, (*load).turn) }

// BenchmarkDelivered is one delivered transaction while 64 run.
func BenchmarkDelivered(b *testing.B) { benchmark(b, (*load).deliver) }

func benchmark(b *testing.B, one func(l *load, draw func(n uint64) did)) {
	for _, d := range draws {
		for _, items := range []int{1, 4, 64} {
			b.Run(fmt.Sprintf("%s/items=%d", d.name, items), func(b *testing.B) {
				l := newLoad(items)
				for range l.running {
					l.turn(d.draw)
				}
				b.ReportAllocs()
				b.ResetTimer()
				for range b.N {
					one(l, d.draw)
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(items), "ns/item")
			})
		}
	}
}
