package contention

import (
	"cmp"
	"slices"
	"time"

	"github.com/concordatdb/concordat/certifier"
	"github.com/concordatdb/concordat/gtid"
)

// Report is what was noted in the window. Rates are per second of Covered. The
// lists descend by count; where counts are equal they ascend, by table, then
// key, or by loser, then winner.
//
// Let k be the number of keys that are told apart in a bucket. Of the keys,
// each as far as it is kept:
//
//   - Each key that lost more than Total/k of all conflicts is listed, unless
//     the limit cuts it off.
//   - Each key that is listed came at most Count times, and at least
//     Count-Overcount times. Overcount is at most Total/k, and zero when no
//     bucket has met more than k keys.
type Report struct {
	// Covered is how much time the report is about: the window, less up to the
	// width of one bucket, or the time since the beginning if that is shorter.
	Covered time.Duration
	Total   uint64
	Rate    float64
	Where   [Wheres]uint64
	// Kinds counts by what the loser did, then by what the winner did.
	Kinds [certifier.Kinds][certifier.Kinds]uint64
	// Tables are the hottest tables. With OtherTables, which counts what is in
	// no line, they add up to Total.
	Tables      []Table
	OtherTables uint64
	Keys        []Key
	// Pairs tell whose transactions lost to whose. With OtherPairs, which
	// counts what is in no line, they add up to Total.
	Pairs      []Pair
	OtherPairs uint64
}

// Table is a line of a report about one table. Count is exact while no bucket
// has met more than MaxTables tables; then it may be too low, and what is
// missing is in OtherTables.
type Table struct {
	Name  string
	Count uint64
	Rate  float64
}

// Key is a line of a report about one key.
type Key struct {
	Table string
	Key   string // bytes that need not be text, at most MaxKey
	Cut   bool   // all keys that are longer than Key and begin with it
	// Count may be too high, by at most Overcount.
	Count, Overcount uint64
	Rate             float64 // of Count
}

// Pair is a line of a report about two members, or one twice. Count is exact
// as that of a table is.
type Pair struct {
	Loser, Winner gtid.UUID
	Count         uint64
	Rate          float64
}

// Report returns what was noted in the window that ends at now, with at most
// limit lines in each list; with 0 or less, all there are. It takes time in
// proportion to the buckets and what is in them: some milliseconds when all
// are full.
func (s *Statistics) Report(now time.Duration, limit int) Report {
	last := s.number(now)
	first := max(0, last-int64(len(s.buckets))+1)
	r := Report{Covered: max(0, now) - time.Duration(first)*s.width}
	m := merger{tables: map[string]uint64{}, pairs: map[pair]uint64{}, keys: map[keyID]merged{}}
	for n := first; n <= last; n++ {
		if b := &s.buckets[n%int64(len(s.buckets))]; b.number == n {
			r.add(b)
			m.add(b)
		}
	}
	r.Rate = r.rate(r.Total)
	r.list(&m, limit)
	return r
}

func (r *Report) add(b *bucket) {
	r.Total += b.total
	for i, n := range b.where {
		r.Where[i] += n
	}
	for i := range b.kinds {
		for j, n := range b.kinds[i] {
			r.Kinds[i][j] += n
		}
	}
}

func (r *Report) rate(count uint64) float64 {
	if r.Covered <= 0 {
		return 0
	}
	return float64(count) / r.Covered.Seconds()
}

// merger adds up the buckets.
type merger struct {
	tables map[string]uint64
	pairs  map[pair]uint64
	keys   map[keyID]merged
	least  uint64 // the sum over the buckets of the most that a key without a counter came
}

// merged is the sum of a key's counters. In the buckets where it has none it
// may have come, too: least is the sum over the others.
type merged struct{ count, over, least uint64 }

func (m *merger) add(b *bucket) {
	for table, n := range b.tables.counts { // order-free: a sum for each
		m.tables[table] += n
	}
	for p, n := range b.pairs.counts { // order-free: a sum for each
		m.pairs[p] += n
	}
	least := b.keys.least()
	m.least += least
	for i := range b.keys.counters {
		c := &b.keys.counters[i]
		sum := m.keys[c.id]
		sum.count += c.count
		sum.over += c.over
		sum.least += least
		m.keys[c.id] = sum
	}
}

// list makes the lists, sorted and cut.
func (r *Report) list(m *merger, limit int) {
	for table, n := range m.tables { // order-free: sorted below
		r.Tables = append(r.Tables, Table{Name: table, Count: n, Rate: r.rate(n)})
	}
	slices.SortFunc(r.Tables, func(a, b Table) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Name, b.Name))
	})
	for id, sum := range m.keys { // order-free: sorted below
		missed := m.least - sum.least
		count := sum.count + missed
		r.Keys = append(r.Keys, Key{
			Table: id.table, Key: id.key, Cut: id.cut,
			Count: count, Overcount: sum.over + missed, Rate: r.rate(count),
		})
	}
	slices.SortFunc(r.Keys, func(a, b Key) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Table, b.Table),
			cmp.Compare(a.Key, b.Key), whole(b)-whole(a))
	})
	for p, n := range m.pairs { // order-free: sorted below
		r.Pairs = append(r.Pairs, Pair{Loser: p.loser, Winner: p.winner, Count: n, Rate: r.rate(n)})
	}
	slices.SortFunc(r.Pairs, func(a, b Pair) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), a.Loser.Compare(b.Loser), a.Winner.Compare(b.Winner))
	})
	r.Tables, r.Keys, r.Pairs = head(r.Tables, limit), head(r.Keys, limit), head(r.Pairs, limit)
	r.OtherTables, r.OtherPairs = r.Total, r.Total
	for _, line := range r.Tables {
		r.OtherTables -= line.Count
	}
	for _, line := range r.Pairs {
		r.OtherPairs -= line.Count
	}
}

// whole sorts a key that is not cut before one that is and begins with it.
func whole(k Key) int {
	if k.Cut {
		return 0
	}
	return 1
}

// head returns a copy of the first lines, so that a short report does not hold
// on to the long one; nil if there are none.
func head[T any](lines []T, limit int) []T {
	if limit <= 0 || limit >= len(lines) {
		return lines
	}
	return slices.Clone(lines[:limit])
}
