package sim

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// held is what a cell holds, as an obvious executor of transactions knows it.
type held struct {
	by    int // h[by-1] put it
	since int // h[since-1] made it absent, or put it
	sum   int64
}

type contents map[cell]held

// run lets h[t] make its changes. A deletion of nothing does nothing.
func (s contents) run(h []observed, t int) {
	for _, ch := range h[t].changes {
		old := s[ch.cell]
		switch {
		case ch.kind == puts:
			s[ch.cell] = held{by: t + 1, since: t + 1}
		case ch.kind == adds:
			old.sum += ch.amount
			s[ch.cell] = old
		case old.by != 0 || old.sum != 0:
			s[ch.cell] = held{since: t + 1}
		}
	}
}

// after returns the contents after the first n commits.
func after(h []observed, n int) contents {
	s := contents{}
	for commit := 1; commit <= n; commit++ {
		s.run(h, slices.IndexFunc(h, func(o observed) bool { return o.commit == commit }))
	}
	return s
}

// read returns what is seen in a cell.
func (s contents) read(c cell) sight { return sight{cell: c, by: s[c].by, sum: s[c].sum} }

// scan returns what is seen in a range.
func (s contents) scan(table string, from, to int) scanned {
	r := scanned{table: table, from: from, to: to}
	for k := from; k < to; k++ {
		if seen := s.read(cell{table, k}); seen.by != 0 || seen.sum != 0 {
			r.found = append(r.found, seen)
		}
	}
	return r
}

// looked returns all cells that a transaction read or found absent.
func (o *observed) looked() []cell {
	var cells []cell
	for _, r := range o.reads {
		cells = append(cells, r.cell)
	}
	for _, s := range o.scans {
		for k := s.from; k < s.to; k++ {
			cells = append(cells, cell{s.table, k})
		}
	}
	return cells
}

// collide reports whether two transactions change a cell and do not commute.
func collide(a, b *observed) bool {
	for _, x := range a.changes {
		for _, y := range b.changes {
			if x.cell == y.cell && (x.kind != adds || y.kind != adds) {
				return true
			}
		}
	}
	return false
}

// violates says whether a history is not one of snapshot isolation, by the
// letter: who reads sees his snapshot, and the first committer wins.
func violates(h []observed) bool {
	for t := range h {
		o := &h[t]
		s := after(h, o.snapshot)
		for _, r := range o.reads {
			if r != s.read(r.cell) {
				return true
			}
		}
		for _, r := range o.scans {
			if !slices.Equal(r.found, s.scan(r.table, r.from, r.to).found) {
				return true
			}
		}
		for u := range h {
			if o.snapshot < h[u].commit && h[u].commit < o.commit && collide(o, &h[u]) {
				return true
			}
		}
	}
	return false
}

// serializable tries all serial orders of a history of snapshot isolation. The
// versions must follow each other as they were committed. Who is obliged to
// must see in its place what it saw. Of the others, nobody may see what is yet
// to be written.
func serializable(h []observed) bool {
	var order []int
	var extend func(s contents) bool
	extend = func(s contents) bool {
		done := true
		for t := range h {
			if slices.Contains(order, t) || (h[t].commit == 0 && len(h[t].changes) > 0) {
				continue
			}
			done = false
			if !mayFollow(h, order, t, s) {
				continue
			}
			next := maps.Clone(s)
			next.run(h, t)
			order = append(order, t)
			if extend(next) {
				return true
			}
			order = order[:len(order)-1]
		}
		return done
	}
	return extend(contents{})
}

// mayFollow reports whether t can come after those in order, who leave s.
func mayFollow(h []observed, order []int, t int, s contents) bool {
	o := &h[t]
	for u := range h {
		if 0 < h[u].commit && h[u].commit < o.commit && collide(o, &h[u]) && !slices.Contains(order, u) {
			return false
		}
	}
	saw := after(h, o.snapshot)
	for _, c := range o.looked() {
		if saw[c] == s[c] {
			continue
		}
		if o.serializable || o.commit == 0 {
			return false
		}
		if since := saw[c].since; since > 0 && !slices.Contains(order, since-1) {
			return false
		}
		for u := range h { // amounts are powers of two, each used once
			for _, ch := range h[u].changes {
				if ch.cell == c && saw[c].sum&ch.amount != 0 && !slices.Contains(order, u) {
					return false
				}
			}
		}
	}
	return true
}

// executor makes histories up.
type executor struct {
	levels     []bool // serializable or not
	concurrent bool   // else each sees all that is committed
	careless   int    // one in so many certifications of reads is left out
	reckless   int    // one in so many certifications is left out altogether
	confused   int    // one in so many reads shows another state
}

var (
	cellsOfModel  = rapid.Custom(func(t *rapid.T) cell { return cell{"a", rapid.IntRange(0, 2).Draw(t, "key")} })
	kindsOfModel  = rapid.SampledFrom([]changeKind{puts, puts, removes, adds})
	countsOfModel = rapid.SampledFrom([]int{0, 1, 1, 2})
)

func (e executor) draw(t *rapid.T) []observed {
	var h []observed
	for commits := 0; len(h) < 6; {
		o := observed{serializable: rapid.SampledFrom(e.levels).Draw(t, "serializable"), snapshot: commits}
		if e.concurrent {
			o.snapshot = rapid.IntRange(max(0, commits-3), commits).Draw(t, "snapshot")
		}
		for range countsOfModel.Draw(t, "reads") {
			o.reads = append(o.reads, e.sees(t, h, &o, commits).read(cellsOfModel.Draw(t, "cell")))
		}
		if rapid.IntRange(0, 3).Draw(t, "scan") == 0 {
			from := rapid.IntRange(0, 2).Draw(t, "from")
			to := rapid.IntRange(from, 3).Draw(t, "to")
			o.scans = append(o.scans, e.sees(t, h, &o, commits).scan("a", from, to))
		}
		for i := range countsOfModel.Draw(t, "changes") {
			ch := change{cell: cellsOfModel.Draw(t, "changed"), kind: kindsOfModel.Draw(t, "kind")}
			if ch.kind == adds {
				ch.amount = 1 << (2*len(h) + i)
			}
			if !slices.ContainsFunc(o.changes, func(c change) bool { return c.cell == ch.cell }) {
				o.changes = append(o.changes, ch)
			}
		}
		if len(o.changes) > 0 && (oneIn(t, e.reckless) || certified(h, &o, oneIn(t, e.careless))) {
			commits++
			o.commit = commits
		}
		h = append(h, o)
	}
	return h
}

// sees returns what a transaction's next read sees.
func (e executor) sees(t *rapid.T, h []observed, o *observed, commits int) contents {
	n := o.snapshot
	if oneIn(t, e.confused) {
		n = rapid.IntRange(0, commits).Draw(t, "shows")
	}
	s := after(h, n)
	if u := len(h) - 1; u >= 0 && oneIn(t, e.confused) {
		s.run(h, u) // committed or not, perhaps for the second time
	}
	return s
}

func oneIn(t *rapid.T, n int) bool { return n > 0 && rapid.IntRange(1, n).Draw(t, "chance") == n }

// certified reports whether nobody since o's snapshot changed what it changes,
// or what it read if it is serializable and the executor not careless.
func certified(h []observed, o *observed, careless bool) bool {
	looked := func(ch change) bool { return slices.Contains(o.looked(), ch.cell) }
	return !slices.ContainsFunc(h, func(u observed) bool {
		return u.commit > o.snapshot &&
			(collide(o, &u) || o.serializable && !careless && slices.ContainsFunc(u.changes, looked))
	})
}

func nameOf(i int) string { return fmt.Sprintf("T%d", i+1) }

// TestSoundHistories checks that nothing is found in what sound executors do.
func TestSoundHistories(t *testing.T) {
	for _, c := range []struct {
		name string
		executor
	}{
		{"serial", executor{levels: []bool{true}}},
		{"snapshot", executor{levels: []bool{false}, concurrent: true}},
		{"serializable", executor{levels: []bool{true}, concurrent: true}},
		{"mixed", executor{levels: []bool{false, true}, concurrent: true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				h := c.draw(t)
				if text := findAnomaly(h, nameOf); text != "" {
					t.Fatalf("found %q in %+v", text, h)
				}
			})
		})
	}
}

// TestBrokenHistories lets executors forget to certify, or show what is not to
// be seen: what is found must be what the definitions say.
func TestBrokenHistories(t *testing.T) {
	for _, c := range []struct {
		name string
		executor
	}{
		{"careless", executor{levels: []bool{true}, concurrent: true, careless: 2}},
		{"careless of mixed levels", executor{levels: []bool{true, true, true, false}, concurrent: true, careless: 1}},
		{"reckless", executor{levels: []bool{false, true}, concurrent: true, reckless: 4}},
		{"confused", executor{levels: []bool{false, true}, concurrent: true, confused: 8}},
		{"all of it", executor{levels: []bool{false, true}, concurrent: true, careless: 1, reckless: 8, confused: 16}},
	} {
		t.Run(c.name, func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				for range 5 { // most have nothing of interest
					compareWithDefinitions(t, c.draw(t))
				}
			})
		})
	}
}

func compareWithDefinitions(t *rapid.T, h []observed) {
	text := findAnomaly(h, nameOf)
	kind, _, _ := strings.Cut(text, ":")
	g2 := kind == "G2" || kind == "G2-item"
	switch {
	case kind == "not a history":
		t.Fatalf("found %q", text)
	case violates(h):
		if text == "" || g2 {
			t.Fatalf("found %q in %+v, which is not of snapshot isolation", text, h)
		}
	case serializable(h) != (text == ""), !g2 && text != "":
		t.Fatalf("found %q in %+v", text, h)
	}
}

// busy makes up the history of a world: groups of concurrent transactions on a
// hot counter and many cold cells, one in ten a scan of forty. mixed
// lets half of them be under snapshot isolation; careless leaves reads
// uncertified.
func busy(n int, mixed, careless bool) []observed {
	r := rand.New(rand.NewPCG(1, uint64(n)))
	h := make([]observed, 0, n)
	state, writer, commits := contents{}, map[cell]int{}, 0
	for len(h) < n {
		group := make([]observed, 8)
		for i := range group {
			group[i] = pace(r, state, commits, len(h)+i)
			group[i].serializable = !mixed || r.IntN(2) == 0
		}
		for i := range group {
			o := &group[i]
			ok := true
			for _, ch := range o.changes {
				ok = ok && (writer[ch.cell] <= o.snapshot || ch.kind == adds)
			}
			if o.serializable && !careless {
				for _, c := range o.looked() {
					ok = ok && writer[c] <= o.snapshot
				}
			}
			h = append(h, *o)
			if !ok {
				continue
			}
			if len(o.changes) > 0 {
				commits++
				h[len(h)-1].commit = commits
			}
			state.run(h, len(h)-1)
			for _, ch := range o.changes {
				writer[ch.cell] = commits
			}
		}
	}
	return h[:n]
}

// pace makes up one transaction, which will be h[t].
func pace(r *rand.Rand, state contents, commits, t int) observed {
	o := observed{snapshot: commits}
	switch r.IntN(10) {
	case 0:
		from := r.IntN(360)
		o.scans = []scanned{state.scan("registers", from, from+40)}
		o.changes = []change{{cell: cell{"registers", from + 20}}}
	case 1:
		o.reads = []sight{state.read(cell{"counters", 0})}
	case 2, 3:
		o.changes = []change{{cell: cell{"counters", 0}, kind: adds, amount: 1}}
	default:
		a, b := cell{"registers", r.IntN(400)}, cell{"registers", 400 + r.IntN(400)}
		o.reads = []sight{state.read(a), state.read(b)}
		o.changes = []change{{cell: a, kind: changeKind(r.IntN(2))}, {cell: cell{"registers", 800 + t%800}}}
		if r.IntN(2) == 0 {
			o.changes[0].cell = b
		}
	}
	return o
}

// TestBusyHistories checks histories of the size of a world's.
func TestBusyHistories(t *testing.T) {
	for _, mixed := range []bool{false, true} {
		if text := findAnomaly(busy(3000, mixed, false), nameOf); text != "" {
			t.Errorf("found %q", text)
		}
	}
	if text := findAnomaly(busy(3000, false, true), nameOf); !strings.HasPrefix(text, "G2") {
		t.Errorf("found %q where nobody certifies reads", text)
	}
}

func BenchmarkFindAnomaly(b *testing.B) {
	for _, c := range []struct {
		name     string
		n        int
		careless bool
	}{
		{"1000", 1000, false},
		{"5000", 5000, false},
		{"10000", 10000, false},
		{"broken5000", 5000, true},
	} {
		b.Run(c.name, func(b *testing.B) {
			h := busy(c.n, true, c.careless)
			b.ReportAllocs()
			for b.Loop() {
				if (findAnomaly(h, nameOf) != "") != c.careless {
					b.Fatal("the history is not what it should be")
				}
			}
		})
	}
}
