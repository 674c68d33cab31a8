package outcome

import (
	"encoding/binary"
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"github.com/concordatdb/concordat/gtid"
)

var group = gtid.UUID{0: 0x5f, 15: 1}

// idOf returns an id of its own for each number.
func idOf(n uint64) ID {
	var id ID
	binary.LittleEndian.PutUint64(id[:], n)
	return id
}

func commit(number, index uint64) Fate {
	return Fate{Committed: true, GTID: gtid.GTID{UUID: group, Number: number}, Index: index}
}

func refuse(reason byte, index uint64) Fate { return Fate{Reason: reason, Index: index} }

func lose(winner, index uint64) Fate {
	return Fate{Reason: 2, Winner: gtid.GTID{UUID: group, Number: winner}, Index: index}
}

// check reports the invariant of Window that does not hold.
func (w *Window) check() error {
	if w.head > w.first || w.first > w.next || w.next-w.first > uint64(w.limit) {
		return fmt.Errorf("positions %d, %d, %d with limit %d", w.head, w.first, w.next, w.limit)
	}
	if w.head-w.base >= chunkLen || w.next-w.base > uint64(w.chunks.Len())*chunkLen {
		return fmt.Errorf("positions %d to %d in %d chunks from %d", w.head, w.next, w.chunks.Len(), w.base)
	}
	chained, err := w.checkChains()
	if err != nil {
		return err
	}
	entries := make([]int, len(w.sources.list))
	index, ids := w.from, map[ID]bool{}
	for p := w.head; p < w.next; p++ {
		e := w.at(p)
		entries[e.source]++
		if p < w.first {
			continue
		}
		if e.index < index {
			return fmt.Errorf("position %d has index %d after %d", p, e.index, index)
		}
		index = e.index
		if (e.kind != superseded) != chained[p] || e.kind != superseded && ids[e.id] {
			return fmt.Errorf("position %d, kind %d, chained %v, id known %v", p, e.kind, chained[p], ids[e.id])
		}
		ids[e.id] = ids[e.id] || e.kind != superseded
	}
	if w.next > w.first && w.at(w.next-1).kind == superseded {
		return fmt.Errorf("the newest position %d is superseded", w.next-1)
	}
	return w.sources.check(entries)
}

func (w *Window) checkChains() (map[uint64]bool, error) {
	b := &w.buckets
	if b.n < b.half || b.n >= 2*b.half || uint64(len(b.chunks))*bucketChunk < b.n || uint64(len(b.chunks)-2)*bucketChunk > b.n && len(b.chunks) > 1 {
		return nil, fmt.Errorf("%d buckets, half %d, in %d chunks", b.n, b.half, len(b.chunks))
	}
	chained := map[uint64]bool{}
	for i := range b.n {
		for p := w.own(*b.head(i), w.next, i); p != 0; p = w.own(w.at(p).link, p, i) {
			if chained[p] {
				return nil, fmt.Errorf("position %d is in two chains", p)
			}
			chained[p] = true
		}
	}
	return chained, nil
}

func (s *sources) check(entries []int) error {
	inUse := 0
	for i, c := range s.list {
		if i == 0 {
			continue
		}
		if c.entries != entries[i] {
			return fmt.Errorf("source %d has %d entries, counted %d", i, entries[i], c.entries)
		}
		if c.entries == 0 {
			continue
		}
		inUse++
		if s.byName[c.source] != uint32(i) {
			return fmt.Errorf("source %d is known as %d", i, s.byName[c.source])
		}
	}
	if len(s.byName) != inUse || len(s.free)+inUse+1 != len(s.list) {
		return fmt.Errorf("%d sources, %d in use, %d known, %d free", len(s.list), inUse, len(s.byName), len(s.free))
	}
	return nil
}

// stray reports an entry that a chain leads to although it is of another one.
// Only a link that is older than 1<<32 positions may.
func (w *Window) stray() error {
	for i := range w.buckets.n {
		for p := w.follow(*w.buckets.head(i), w.next); p != 0; p = w.follow(w.at(p).link, p) {
			if !w.belongs(w.at(p), i) {
				return fmt.Errorf("position %d is not of bucket %d", p, i)
			}
		}
	}
	return nil
}

// model is the window as one would write it down.
type model struct {
	limit, first int
	all          []delivery
	newest       map[ID]int
}

type delivery struct {
	id   ID
	fate Fate
}

func (m *model) setLimit(n int) {
	m.limit = n
	m.first = max(m.first, len(m.all)-n)
}

func (m *model) note(id ID, f Fate) {
	m.newest[id] = len(m.all)
	m.all = append(m.all, delivery{id, f})
	m.setLimit(m.limit)
}

func (m *model) find(id ID) (Fate, bool) {
	i, ok := m.newest[id]
	if !ok || i < m.first {
		return Fate{}, false
	}
	return m.all[i].fate, true
}

func (m *model) from() uint64 {
	if m.first == 0 {
		return 0
	}
	return m.all[m.first-1].fate.Index
}

func (m *model) index() uint64 {
	if len(m.all) == 0 {
		return 0
	}
	return m.all[len(m.all)-1].fate.Index
}

// compare asks the window for everything that was ever noted.
func (m *model) compare(t *rapid.T, w *Window) {
	t.Helper()
	if err := w.check(); err != nil {
		t.Fatal(err)
	}
	if w.Limit() != m.limit || w.Len() != len(m.all)-m.first || w.From() != m.from() {
		t.Fatalf("limit %d, length %d, from %d, want %d, %d, %d",
			w.Limit(), w.Len(), w.From(), m.limit, len(m.all)-m.first, m.from())
	}
	for id := range m.newest {
		got, ok := w.Find(id)
		if want, has := m.find(id); ok != has || got != want {
			t.Fatalf("found %+v, %v of %v, want %+v, %v", got, ok, id, want, has)
		}
	}
	if f, ok := w.Find(idOf(1 << 60)); ok {
		t.Fatalf("found %+v of an id that was never noted", f)
	}
}

var drawnFate = rapid.Custom(func(t *rapid.T) Fate {
	g := gtid.GTID{
		UUID:   gtid.UUID{byte(rapid.IntRange(0, 3).Draw(t, "uuid"))},
		Tag:    rapid.SampledFrom([]gtid.Tag{"", "", "a", "bb"}).Draw(t, "tag"),
		Number: rapid.OneOf(rapid.Uint64Range(1, 300), rapid.Uint64Range(1, gtid.MaxNumber)).Draw(t, "number"),
	}
	switch rapid.IntRange(0, 2).Draw(t, "kind") {
	case 0:
		return Fate{Committed: true, GTID: g}
	case 1:
		return Fate{Reason: rapid.Byte().Draw(t, "reason")}
	}
	return Fate{Reason: rapid.Byte().Draw(t, "reason"), Winner: g}
})

// pair is a window with its model.
type pair struct {
	m     *model
	w     *Window
	fresh uint64
	stale bool // links may be older than the window
}

// one notes a fate of one of a few ids, or sees that it has committed.
func (p *pair) one(t *rapid.T) {
	id := idOf(rapid.Uint64Range(0, 30).Draw(t, "id"))
	f := drawnFate.Draw(t, "fate")
	f.Index = p.m.index() + rapid.SampledFrom([]uint64{1, 0, 1, 500}).Draw(t, "add")
	f.Index = max(f.Index, 1)
	held, ok := p.m.find(id)
	if ok && held.Committed {
		if got, _ := p.w.Find(id); got != held {
			t.Fatalf("found %+v, want %+v", got, held)
		}
		return
	}
	p.w.Note(id, f)
	p.m.note(id, f)
}

// burst notes many transactions, each twice if it is to be superseded.
func (p *pair) burst(t *rapid.T) {
	n := rapid.SampledFrom([]int{1, 10, chunkLen, 1100, 3000}).Draw(t, "burst")
	every := rapid.SampledFrom([]int{1, 2, 7, 1 << 30}).Draw(t, "refused every")
	for i := range n {
		p.fresh++
		id, index := idOf(1000+p.fresh), p.m.index()+1
		f := commit(index, index)
		if i%every == every-1 {
			f = lose(index, index)
			id = idOf(1000 + p.fresh - p.fresh%64)
			if held, ok := p.m.find(id); ok && held.Committed {
				continue
			}
		}
		p.w.Note(id, f)
		p.m.note(id, f)
	}
}

func (p *pair) setLimit(t *rapid.T) {
	n := rapid.SampledFrom([]int{0, 1, 5, 600, 1500, 5000, MaxLimit}).Draw(t, "limit")
	p.w.SetLimit(n)
	p.m.setLimit(n)
}

// TestModel runs windows beside the model, from the first position and across
// the one where links begin anew, with stale links in all buckets.
func TestModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limit := rapid.SampledFrom([]int{0, 1, 7, 600, 5000}).Draw(t, "first limit")
		start := rapid.SampledFrom([]uint64{chunkLen, 1<<32 - chunkLen, 1<<32 - 3*chunkLen, 5 << 32}).Draw(t, "start")
		p := &pair{m: &model{limit: limit, newest: map[ID]int{}}, w: newAt(limit, 7, start), stale: start != chunkLen}
		if rapid.Bool().Draw(t, "stale") {
			p.stale = true
			for i := range p.w.buckets.n {
				*p.w.buckets.head(i) = uint32(start + i*7%4000)
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"one":   p.one,
			"one ":  p.one,
			"burst": p.burst,
			"limit": p.setLimit,
			"restore": func(t *rapid.T) {
				state := p.w.AppendState(nil)
				w, err := Restore(state, 9)
				if err != nil {
					t.Fatal(err)
				}
				if again := w.AppendState(nil); string(again) != string(state) {
					t.Fatalf("state %x comes back as %x", state, again)
				}
				p.w, p.stale = w, false
			},
			"": func(t *rapid.T) {
				p.m.compare(t, p.w)
				if err := p.w.stray(); err != nil && !p.stale {
					t.Fatal(err)
				}
			},
		})
	})
}

// TestTwins checks that a window that was restored on the way says and writes
// the same as one that was not, after each transaction.
func TestTwins(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limit := rapid.IntRange(0, 20).Draw(t, "limit")
		p := &pair{m: &model{limit: limit, newest: map[ID]int{}}, w: New(limit, 7)}
		twin := New(limit, 7)
		for range rapid.IntRange(1, 60).Draw(t, "transactions") {
			seen := len(p.m.all)
			p.one(t)
			for _, d := range p.m.all[seen:] {
				twin.Note(d.id, d.fate)
			}
			if rapid.IntRange(0, 9).Draw(t, "shall limit") == 0 {
				n := rapid.IntRange(0, 20).Draw(t, "limit")
				p.w.SetLimit(n)
				p.m.setLimit(n)
				twin.SetLimit(n)
			}
			state := p.w.AppendState(nil)
			if string(twin.AppendState(nil)) != string(state) {
				t.Fatalf("after %d transactions, restored: %x, not restored: %x", len(p.m.all), twin.AppendState(nil), state)
			}
			if rapid.Bool().Draw(t, "restore") {
				var err error
				if twin, err = Restore(state, 9); err != nil {
					t.Fatal(err)
				}
			}
		}
		p.m.compare(t, twin)
	})
}
