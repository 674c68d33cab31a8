package sim

import "slices"

// dependency is a kind of edge between two transactions.
type dependency byte

const (
	ww dependency = iota
	wr
	rw
	// along leads from one auxiliary node to the next, or between such a node
	// and the transaction whose addition it stands for.
	along
)

func (d dependency) String() string { return [...]string{"ww", "wr", "rw", "along"}[d] }

// hop is an edge of the serialization graph. view.c is the cell that it is
// about, the rest of view is what the reader of a wr or rw saw.
type hop struct {
	kind     dependency
	from, to int
	view     view
}

// graph is a direct serialization graph. Its first nodes are transactions.
//
// A reader of a counter depends on all additions in what it read, and all
// later ones depend on it: many readers of many additions would be too many
// edges. So each addition has two auxiliary nodes, that of all up to it and
// that of all from it on, until the next put or deletion:
//
//	         a1     a2     a3
//	          ↓      ↓      ↓
//	up to    p1  →  p2  →  p3        p2 → a reader of a1 and a2
//	          a1     a2     a3
//	          ↑      ↑      ↑
//	from     s1  →  s2  →  s3        a reader of a1 and a2 → s3
type graph struct {
	transactions int
	nodes        int
	hops         []hop
	first        []int // of a node's hops, once these are sorted
}

// graph returns the graph of all ww and wr, and of the rw that count if asked
// for. A refused transaction did nothing.
func (l *ledger) graph(views []view, rws bool) *graph {
	g := &graph{transactions: len(l.h), nodes: len(l.h)}
	additions := map[*chain]int{} // first of its auxiliary nodes
	for i := range l.chains {
		additions[&l.chains[i]] = g.nodes
		g.changes(&l.chains[i])
	}
	for _, v := range views {
		if l.refused(v.tx) {
			continue
		}
		own := l.own(v)
		g.dependencies(v, own, additions[v.c])
		if rws && l.obliged(v.tx) {
			g.antiDependencies(v, own, additions[v.c])
		}
	}
	slices.SortStableFunc(g.hops, func(a, b hop) int { return a.from - b.from })
	g.first = make([]int, g.nodes+1)
	for _, h := range g.hops {
		g.first[h.from+1]++
	}
	for n := range g.nodes {
		g.first[n+1] += g.first[n]
	}
	return g
}

// own returns the index of the step that the reader of a view made itself, -1
// for none.
func (l *ledger) own(v view) int {
	if i := v.c.at(l.h[v.tx].commit); i >= 0 && v.c.steps[i].tx == v.tx {
		return i
	}
	return -1
}

func (g *graph) out(n int) []hop { return g.hops[g.first[n]:g.first[n+1]] }

// add adds an edge. Nobody depends on himself.
func (g *graph) add(kind dependency, from, to int, v view) {
	if from != to {
		g.hops = append(g.hops, hop{kind: kind, from: from, to: to, view: v})
	}
}

// changes adds the ww of a chain, and two auxiliary nodes for each step.
func (g *graph) changes(c *chain) {
	upTo := g.nodes
	g.nodes += 2 * len(c.steps)
	for i, s := range c.steps {
		v := view{c: c, at: i}
		if s.kind == adds {
			g.add(along, s.tx, upTo+2*i, v)
			g.add(along, upTo+2*i+1, s.tx, v)
			if s.base >= 0 {
				g.add(ww, c.steps[s.base].tx, s.tx, v)
			}
			if s.base < i-1 {
				g.add(along, upTo+2*i-2, upTo+2*i, v)
				g.add(along, upTo+2*i-1, upTo+2*i+1, v)
			}
			continue
		}
		for p := i - 1; p >= 0; p-- {
			g.add(ww, c.steps[p].tx, s.tx, v)
			if c.steps[p].kind != adds {
				break
			}
		}
	}
}

// dependencies adds the wr of a view. A reader does not depend on an addition
// of its own, even if it saw that: this is interference, not a cycle.
func (g *graph) dependencies(v view, own, upTo int) {
	base, _ := v.c.base(v.at)
	if base >= 0 {
		if from := v.c.absent(base); from != present {
			base = from
		}
	}
	if base >= 0 {
		g.add(wr, v.c.steps[base].tx, v.tx, v)
	}
	last := v.at
	if v.c.together(own, last) && own <= last {
		for ; last > own; last-- {
			g.add(wr, v.c.steps[last].tx, v.tx, v)
		}
		last--
	}
	if v.c.together(last, v.at) {
		g.add(wr, upTo+2*last, v.tx, v)
	}
}

// antiDependencies adds the rw of a view. An addition of the reader's own must
// not come after itself.
func (g *graph) antiDependencies(v view, own, upTo int) {
	next := v.c.next(v.at)
	if next == len(v.c.steps) {
		return
	}
	if v.c.steps[next].kind != adds {
		g.add(rw, v.tx, v.c.steps[next].tx, v)
		return
	}
	first := next
	if v.c.together(own, next) && own >= next {
		for ; first < own; first++ {
			g.add(rw, v.tx, v.c.steps[first].tx, v)
		}
		first++
	}
	if v.c.together(first, next) {
		g.add(rw, v.tx, upTo+2*first+1, v)
	}
}

// together reports whether steps i and k are additions to the same.
func (c *chain) together(i, k int) bool {
	addition := func(i int) bool { return 0 <= i && i < len(c.steps) && c.steps[i].kind == adds }
	return addition(i) && addition(k) && c.steps[i].base == c.steps[k].base
}

// cycle returns the transactions and dependencies of a cycle, nil if there is
// none: the shortest of those through any of the first hundred transactions
// that are on cycles.
func (g *graph) cycle() []hop {
	var best []hop
	part, size := g.components()
	tries := 0
	for n := 0; n < g.transactions && tries < 100; n++ {
		if size[part[n]] == 1 {
			continue
		}
		tries++
		if c := g.around(n, part); best == nil || len(c) < len(best) {
			best = c
		}
	}
	return best
}

// components returns the strongly connected component of each node, and how
// many nodes each has. It is Tarjan's algorithm with a stack of its own, as
// histories are longer than a goroutine's stack should be deep.
func (g *graph) components() (part, size []int) {
	part = make([]int, g.nodes)
	low := make([]int, g.nodes)   // 0 for a node not yet seen
	taken := make([]int, g.nodes) // hops of the node already followed
	var path, open []int
	seen := 0
	enter := func(n int) {
		seen++
		low[n], part[n] = seen, -seen // negative while its component is open
		path, open = append(path, n), append(open, n)
	}
	for root := range g.nodes {
		if low[root] == 0 {
			enter(root)
		}
		for len(path) > 0 {
			n := path[len(path)-1]
			if out := g.out(n); taken[n] < len(out) {
				to := out[taken[n]].to
				taken[n]++
				if low[to] == 0 {
					enter(to)
				} else if part[to] < 0 {
					low[n] = min(low[n], low[to])
				}
				continue
			}
			path = path[:len(path)-1]
			if len(path) > 0 {
				low[path[len(path)-1]] = min(low[path[len(path)-1]], low[n])
			}
			if low[n] != -part[n] {
				continue
			}
			i := len(open) - 1
			for open[i] != n {
				i--
			}
			for _, m := range open[i:] {
				part[m] = len(size)
			}
			size = append(size, len(open)-i)
			open = open[:i]
		}
	}
	return part, size
}

// around returns a shortest cycle through a transaction that is on one. Edges
// along auxiliary nodes count nothing.
func (g *graph) around(start int, part []int) []hop {
	came := make(map[int]hop) // by which each node was reached
	far := make(map[int]int)  // and how far it is
	now, later := []int{start}, []int(nil)
	for distance := 0; len(now) > 0; {
		n := now[len(now)-1]
		now = now[:len(now)-1]
		for _, h := range g.out(n) {
			d := distance
			if h.kind != along {
				d++
			}
			if known, ok := far[h.to]; part[h.to] != part[start] || (ok && known <= d) {
				continue
			}
			came[h.to], far[h.to] = h, d
			if d == distance {
				now = append(now, h.to)
			} else {
				later = append(later, h.to)
			}
		}
		if len(now) == 0 {
			now, later = later, nil
			distance++
		}
	}
	return g.retrace(start, came)
}

// retrace returns the way from start to start, transaction by transaction.
func (g *graph) retrace(start int, came map[int]hop) []hop {
	all := []hop{came[start]}
	for all[len(all)-1].from != start {
		all = append(all, came[all[len(all)-1].from])
	}
	var cycle []hop
	var leg hop
	for _, h := range slices.Backward(all) {
		switch {
		case h.from < g.transactions:
			leg = h
		case h.kind != along:
			leg.kind, leg.view = h.kind, h.view
		}
		if h.to < g.transactions {
			leg.to = h.to
			cycle = append(cycle, leg)
		}
	}
	return cycle
}
