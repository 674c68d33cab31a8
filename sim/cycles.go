package sim

import (
	"cmp"
	"fmt"
	"slices"
)

// findAnomaly looks for what isolation forbids in a complete history, in the
// tradition of Adya ("Weak Consistency", 1999) and of Elle (Kingsbury, Alvaro,
// VLDB 2020). It answers with the anomaly's name and the transactions in it,
// "" if there is none. name names h[i].
//
// Elle must infer the order of versions; here the log gives it. A key's
// versions follow each other as their writers commit, except that additions
// to one counter commute: they are ordered after the put or deletion that they
// add to and before the next one, but not among each other. Thus writes cannot
// form a cycle (G0): an engine that installs them in another order shows it to
// whoever reads, as missed effects. A last reader that scans everything makes
// sure that somebody does.
//
// Every transaction, whatever its level, must read from its snapshot and win
// over nobody whom it did not see. That forbids
//
//	G1a          a read of what a refused or unknown transaction wrote
//	G1b          a read of what its writer changed once more
//	garbage      a read of what its writer never wrote
//	G1c          a cycle of ww and wr
//	lost update  T reads x, U changes it, T writes over that
//	G-SIa        interference: ww or wr from outside of the snapshot
//	G-SIb        missed effects: a cycle with exactly one rw. What T missed is
//	             in its snapshot: without G-SIa every chain of ww, wr and
//	             start-dependencies leads from a U to a T whose snapshot
//	             contains it, so that a look at T's reads is enough
//
// Where levels mix, the promise is: every cycle has an rw that leaves a writer
// under snapshot isolation. For let every writer stand at its commit and every
// reader right behind its snapshot. Then ww and wr lead forward; so does the
// rw of a reader, as what it did not see committed later; and so does the rw of
// a serializable writer, because its reads were certified. Only the rw of a
// writer under snapshot isolation may lead back. So the graph without these
// has no cycle, and one found in it is reported as
//
//	G2-item      all its rw come from reads of single keys
//	G2           one comes from a scan: a phantom, or a key found in a range
//
// It is Adya's mixed serialization graph, which has all ww, the wr that every
// level minds, and the rw of PL-3, with one thing more: readers mind their rw
// at any level. Hence no cycle at all among serializable writers, however
// their readers read; write skew, and what a reader sees of it (Fekete,
// O'Neil, O'Neil 2004), only where a writer asked for no better.
//
// Almost every history is sound, and one pass over what was seen shows that:
// if all reads are those of the snapshot and no rw that counts leads back,
// then the places above are a serial order. The graph is built only if not.
func findAnomaly(h []observed, name func(i int) string) string {
	l := &ledger{h: h, name: name, index: make(map[cell]int32), tables: map[string][]int32{}}
	if text := l.record(); text != "" {
		return "not a history: " + text
	}
	sound := len(l.races) == 0
	for t := 0; t < len(h) && sound; t++ {
		sound = l.sees(t)
	}
	if !sound {
		return l.explain()
	}
	return ""
}

// observed is a transaction as it is known when all is over. One without a
// commit only read if it has no changes; else it was refused, or nobody knows.
type observed struct {
	serializable bool
	snapshot     int // committed transactions that its snapshot contains
	commit       int // its place among the committed, from 1; 0 for none
	reads        []sight
	scans        []scanned
	changes      []change // at most one of a cell
}

// cell names a key of a table.
type cell struct {
	table string
	key   int
}

func (c cell) String() string { return fmt.Sprintf("%s/%d", c.table, c.key) }

// sight is what a snapshot showed in a cell, before the reader's own changes:
// what some transaction had put there, and the sum of what was added to it.
// What is absent reads as put by nobody, and so does a counter that nobody
// put, to which additions may have been made.
//
// A sum that several versions have is taken for the one that was due.
type sight struct {
	cell  cell
	by    int  // h[by-1] put it; 0 for nobody, any other number for a stranger
	draft bool // by changed it once more before its end
	sum   int64
}

// same reports whether two sights of one cell show the same.
func (s sight) same(t sight) bool { return s.by == t.by && s.draft == t.draft && s.sum == t.sum }

// scanned is what a snapshot showed of a table in the keys [from, to).
type scanned struct {
	table    string
	from, to int
	found    []sight // in order of their keys
}

// change is what a transaction did to a cell in the end.
type change struct {
	cell   cell
	kind   changeKind
	amount int64 // that was added
}

type changeKind byte

const (
	puts    changeKind = iota
	removes            // whether or not there is something
	adds               // to what there is, or to zero
)

// step is a committed change, and what the cell holds after it.
type step struct {
	tx, commit int
	kind       changeKind
	base       int   // index of the last put or deletion up to here, -1 for none
	absent     int   // index of the step since which nothing is there, -1 for the beginning, or present
	sum        int64 // of the additions since base
}

// present says that something is there.
const present = -2

// chain is what happened to a cell.
type chain struct {
	cell  cell
	steps []step
}

// at returns the index of the last step among the first n commits, -1 for none.
func (c *chain) at(n int) int {
	if k := len(c.steps); k == 0 || c.steps[k-1].commit <= n {
		return k - 1
	}
	i, _ := slices.BinarySearchFunc(c.steps, n+1, func(s step, n int) int { return cmp.Compare(s.commit, n) })
	return i - 1
}

// base returns the index of the put or deletion that step i builds on, -1 for
// none, and the sum that was added to it since.
func (c *chain) base(i int) (base int, sum int64) {
	if i < 0 {
		return -1, 0
	}
	return c.steps[i].base, c.steps[i].sum
}

// absent returns since which step nothing is there after step i: -1 for the
// beginning, or present.
func (c *chain) absent(i int) int {
	if i < 0 {
		return -1
	}
	return c.steps[i].absent
}

// shows returns what there is to see after step i.
func (c *chain) shows(i int) sight {
	base, sum := c.base(i)
	s := sight{cell: c.cell, sum: sum}
	if base >= 0 && c.steps[base].kind == puts {
		s.by = c.steps[base].tx + 1
	}
	return s
}

// next returns the index of the first step after i that changes what there is
// to see, len(c.steps) for none. A deletion of nothing changes nothing.
func (c *chain) next(i int) int {
	nothing := c.absent(i) != present
	for i++; nothing && i < len(c.steps) && c.steps[i].kind == removes; i++ {
	}
	return i
}

// push adds a step, and returns the index of the last one that it does not
// commute with, -1 for none.
func (c *chain) push(t, commit int, ch change) (last int) {
	i := len(c.steps)
	s := step{tx: t, commit: commit, kind: ch.kind, base: i, absent: present}
	last = i - 1
	switch ch.kind {
	case puts:
	case removes:
		if s.absent = c.absent(i - 1); s.absent == present {
			s.absent = i
		}
	case adds:
		base, sum := c.base(i - 1)
		s.base, s.sum, last = base, sum+ch.amount, base
	}
	c.steps = append(c.steps, s)
	return last
}

// race is a change over a step that the changer's snapshot does not contain.
type race struct {
	tx   int
	c    cell
	over int
}

// ledger is a history by cells.
type ledger struct {
	h      []observed
	name   func(i int) string
	index  map[cell]int32
	chains []chain
	tables map[string][]int32 // chains by key
	races  []race
}

// record enters all changes, and says what makes h no history.
func (l *ledger) record() string {
	order, text := l.commitOrder()
	if text != "" {
		return text
	}
	for n, t := range order {
		for _, ch := range l.h[t].changes {
			c := l.chain(ch.cell)
			if i := len(c.steps); i > 0 && c.steps[i-1].tx == t {
				return fmt.Sprintf("%s changes %s twice", l.name(t), ch.cell)
			}
			if p := c.push(t, n+1, ch); p >= 0 && c.steps[p].commit > l.h[t].snapshot {
				l.races = append(l.races, race{tx: t, c: ch.cell, over: p})
			}
		}
	}
	for i := range l.chains {
		table := l.chains[i].cell.table
		l.tables[table] = append(l.tables[table], int32(i))
	}
	// order-free: each list is sorted by itself
	for _, chains := range l.tables {
		slices.SortFunc(chains, func(a, b int32) int {
			return cmp.Compare(l.chains[a].cell.key, l.chains[b].cell.key)
		})
	}
	return ""
}

// commitOrder returns the committed transactions one after the other.
func (l *ledger) commitOrder() (order []int, text string) {
	for t := range l.h {
		if l.h[t].commit != 0 {
			order = append(order, -1)
		}
	}
	for t := range l.h {
		n := l.h[t].commit
		if n == 0 {
			continue
		}
		if n < 0 || n > len(order) || order[n-1] >= 0 {
			return nil, fmt.Sprintf("%s is number %d of %d to commit, or not alone in that", l.name(t), n, len(order))
		}
		order[n-1] = t
	}
	for t := range l.h {
		o := &l.h[t]
		if o.snapshot < 0 || o.snapshot > len(order) || (o.commit > 0 && o.snapshot >= o.commit) {
			return nil, fmt.Sprintf("%s has a snapshot of %d transactions", l.name(t), o.snapshot)
		}
		for _, s := range o.scans {
			for i, f := range s.found {
				if f.cell.table != s.table || f.cell.key < s.from || f.cell.key >= s.to || (i > 0 && s.found[i-1].cell.key >= f.cell.key) {
					return nil, fmt.Sprintf("%s finds %s in a scan of %s, or not in order", l.name(t), f.cell, s)
				}
			}
		}
	}
	return order, ""
}

// chain returns the chain of a cell that somebody changes.
func (l *ledger) chain(c cell) *chain {
	i, ok := l.index[c]
	if !ok {
		i = int32(len(l.chains))
		l.index[c] = i
		l.chains = append(l.chains, chain{cell: c})
	}
	return &l.chains[i]
}

// of returns the chain of a cell, which is empty if nobody changed it.
func (l *ledger) of(c cell) *chain {
	if i, ok := l.index[c]; ok {
		return &l.chains[i]
	}
	return &chain{cell: c}
}

func (s scanned) String() string { return fmt.Sprintf("%s [%d, %d)", s.table, s.from, s.to) }

// within returns the chains in a scan's range, by key.
func (l *ledger) within(s *scanned) []int32 {
	all := l.tables[s.table]
	find := func(key int) int {
		i, _ := slices.BinarySearchFunc(all, key, func(i int32, key int) int {
			return cmp.Compare(l.chains[i].cell.key, key)
		})
		return i
	}
	from := find(s.from)
	return all[from:max(from, find(s.to))]
}

// each shows visit what the scan found, and what it did not find although
// somebody changes it, until visit has had enough.
func (l *ledger) each(s *scanned, visit func(c *chain, seen sight) (more bool)) bool {
	found := s.found
	for _, i := range l.within(s) {
		c := &l.chains[i]
		for len(found) > 0 && found[0].cell.key < c.cell.key {
			if !visit(l.of(found[0].cell), found[0]) {
				return false
			}
			found = found[1:]
		}
		seen := sight{cell: c.cell}
		if len(found) > 0 && found[0].cell.key == c.cell.key {
			seen, found = found[0], found[1:]
		}
		if !visit(c, seen) {
			return false
		}
	}
	for _, f := range found {
		if !visit(l.of(f.cell), f) {
			return false
		}
	}
	return true
}

// refused reports whether h[t] wanted changes that were not to be.
func (l *ledger) refused(t int) bool { return l.h[t].commit == 0 && len(l.h[t].changes) > 0 }

// obliged reports whether the rw of h[t] count.
func (l *ledger) obliged(t int) bool { return l.h[t].serializable || l.h[t].commit == 0 }

// sees reports whether h[t] saw what it would see in the serial order of
// findAnomaly's comment.
func (l *ledger) sees(t int) bool {
	o := &l.h[t]
	fits := func(c *chain, seen sight) bool {
		i := c.at(o.snapshot)
		if !c.shows(i).same(seen) {
			return false
		}
		if o.serializable && o.commit > 0 {
			i = c.next(i)
			return i == len(c.steps) || c.steps[i].commit >= o.commit
		}
		return true
	}
	for _, seen := range o.reads {
		if !fits(l.of(seen.cell), seen) {
			return false
		}
	}
	for i := range o.scans {
		if !l.each(&o.scans[i], fits) {
			return false
		}
	}
	return true
}
