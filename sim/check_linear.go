package sim

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"math"
	"slices"

	"github.com/anishathalye/porcupine"

	"github.com/concordatdb/concordat/gcs"
	"github.com/concordatdb/concordat/internal/replica"
)

// linear checks P8 as clients can see it, with a linearizability checker that
// others have written. What it is told of a transaction are at most two operations,
// each of which must look as if it happened at one point of time between its call
// and its return:
//
//	sight   reads at the transaction's snapshot, called when it asked to begin
//	commit  writes, called when the transaction was handed over. It also reads
//	        what certification makes it see anew: a key that it puts or deletes,
//	        and under SERIALIZABLE everything
//
// Commits are linearizable whatever the levels. A sight is among the operations if
// its level is BEFORE or BEFORE_AND_AFTER; and, where every transaction that writes
// is AFTER or BEFORE_AND_AFTER, if its member was ONLINE in the newest view.
//
// A commit whose caller was never answered has no return. One that is not in the
// log is left out.
//
// The checker looks at each key by itself, and at all keys at once.
type linear struct {
	indifferent
	history *history
	present map[*begun]bool // its member was ONLINE in the newest view
	calls   int             // of a piece
}

func newLinear(h *history) *linear {
	return &linear{history: h, present: map[*begun]bool{}, calls: pieceCalls}
}

func (*linear) promise() string { return "P8" }

func (c *linear) began(b *begun) string {
	if v, in := c.history.view.Member(b.run.raftID); in && v.State == gcs.Online {
		c.present[b] = true
	}
	return ""
}

// operation is a sight or a commit.
type operation struct {
	id        replica.TransactionID
	by        string
	call, ret int64
	place     int // certified transactions that come before it, by the log
	reads     []read
	scans     []scan
	writes    []write // of a commit
}

func (o *operation) String() string {
	what := "sight of"
	if len(o.writes) > 0 {
		what = "commit of"
	}
	return fmt.Sprintf("%s %s at %s [%d, %d]", what, o.id, o.by, o.call, o.ret)
}

// never is the return of an operation that nobody was told of.
const never = math.MaxInt64

// operations are those of a history, by their calls.
func (c *linear) operations() (all []operation) {
	h := c.history
	begins := map[replica.TransactionID]*begun{}
	everywhere := true
	for _, s := range h.ordered {
		everywhere = everywhere && (s.after || s.early)
	}
	for _, b := range h.begins {
		begins[b.work.id] = b
		if b.level.WaitsBefore() || everywhere && c.present[b] {
			all = append(all, operation{
				id: b.work.id, by: b.run.member, call: b.asked, ret: b.began, place: int(b.work.seen),
				reads: b.work.reads, scans: b.work.scans,
			})
		}
	}
	for _, s := range h.ordered {
		if s.commit == 0 || len(s.writes) == 0 {
			continue
		}
		o := operation{id: s.id, call: s.handed, ret: never, place: s.commit - 1, writes: s.writes}
		if b := begins[s.id]; b != nil {
			// Whoever sends it again does so later than the first did.
			o.by, o.call = b.run.member, b.work.handed
			if b.committed() && b.ended > 0 {
				o.ret = b.ended
			}
		}
		if s.serializable {
			o.reads, o.scans = s.reads, s.scans
		} else {
			o.reads = s.renewed()
		}
		all = append(all, o)
	}
	slices.SortStableFunc(all, func(a, b operation) int { return cmp.Or(cmp.Compare(a.call, b.call), cmp.Compare(a.place, b.place)) })
	return all
}

// renewed are the reads that certification makes hold at the commit too, under
// snapshot isolation.
func (s *submission) renewed() (reads []read) {
	for _, r := range s.reads {
		for _, w := range s.writes {
			if w.key == r.key && !w.delta {
				reads = append(reads, r)
			}
		}
	}
	return reads
}

// conclude checks what can only be checked of a whole history.
func (h *history) conclude() {
	if text := h.linear.check(); text != "" {
		h.violate("P8", "%s", text)
	}
}

// How much the checker is given at once: operations that are called one after the
// other, and how often it may try an operation. Its work may grow without any
// bound otherwise, and a timeout would be a clock.
const (
	pieceCalls = 300
	pieceSteps = 50_000
)

func (c *linear) check() string {
	all := c.operations()
	byKey, keys := c.byKey(all)
	for _, k := range keys {
		if text := c.pieces(byKey[k]); text != "" {
			return fmt.Sprintf("%s is not linearizable: %s", k, text)
		}
	}
	if text := c.pieces(all); text != "" {
		return "the transactions are not linearizable: " + text
	}
	return ""
}

// byKey has the operations of each key, with what they do to it alone.
func (c *linear) byKey(all []operation) (byKey map[key][]operation, keys []key) {
	byKey = map[key][]operation{}
	for i := range all {
		o := &all[i]
		parts := map[key]*operation{}
		var order []key
		at := func(k key) *operation {
			if parts[k] == nil {
				parts[k] = &operation{id: o.id, by: o.by, call: o.call, ret: o.ret, place: o.place}
				order = append(order, k)
			}
			return parts[k]
		}
		for _, r := range o.reads {
			at(r.key).reads = []read{r}
		}
		for _, sc := range o.scans {
			for _, r := range sc.found {
				at(r.key).reads = []read{r}
			}
		}
		for _, w := range o.writes {
			at(w.key).writes = []write{w}
		}
		for _, k := range order {
			if byKey[k] == nil {
				keys = append(keys, k)
			}
			byKey[k] = append(byKey[k], *parts[k])
		}
	}
	return byKey, keys
}

// pieces checks operations, which are in the order of their calls, a piece at a
// time.
func (c *linear) pieces(all []operation) string {
	for from := 0; from < len(all); from += c.calls {
		if text := c.judge(pieceOf(all, from, min(from+c.calls, len(all)))); text != "" {
			return text
		}
	}
	return ""
}

// pieceOf has the operations from <= i < to, and what they may be out of order with:
// what was called before and has a later place in the log than the first of them. Of
// those that only looked, with one place, that is the one that returned first: they
// have read the same state, which P7 has checked of each of them, and each was itself
// in a piece with whatever was called before it.
//
// It is complete: all that is committed between the first and the last of all these
// is in it too, whenever that was called. So the order of the log explains each of
// their reads, if the reads are right, and begins with what the log says was there
// before the first.
func pieceOf(all []operation, from, to int) (piece []*operation, first int) {
	first, last := all[from].place, 0
	for i := from; i < to; i++ {
		first = min(first, all[i].place)
	}
	// Who was called before may have waited, and have a later place than all of these.
	for i := range to {
		last = max(last, all[i].place)
	}
	soonest := map[int]*operation{} // by place, of those that only looked before
	for i := range from {
		if o := &all[i]; len(o.writes) == 0 && o.place > first && (soonest[o.place] == nil || o.ret < soonest[o.place].ret) {
			soonest[o.place] = o
		}
	}
	for i := range all {
		o := &all[i]
		switch wrote := len(o.writes) > 0; {
		case wrote && o.place >= first && (i < to || o.place < last),
			!wrote && from <= i && i < to,
			!wrote && soonest[o.place] == o:
			piece = append(piece, o)
		}
	}
	return piece, first
}

// judge checks one piece, which begins after the first transactions.
func (c *linear) judge(piece []*operation, first int) string {
	m := newStore(c.history, piece, first)
	switch ok, steps := m.linearizable(piece); {
	case ok:
		return ""
	case steps <= pieceSteps:
		return "no order explains " + describe(piece, c.misplaced(piece))
	}
	// The search was given up. The order of the log may be one all the same.
	if at := c.misplaced(piece); at >= 0 {
		return fmt.Sprintf("after %d steps no order was found, and that of the log is none, for %s", pieceSteps, describe(piece, at))
	}
	return ""
}

// misplaced returns the first operation that cannot be where the log has it: all
// that the log has before it come first, and one of them was called only after it
// had returned. -1 if there is none.
func (c *linear) misplaced(piece []*operation) int {
	order := make([]int, len(piece))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return comparePlaces(piece[a], piece[b]) })
	latest := int64(math.MinInt64)
	for _, i := range order {
		latest = max(latest, piece[i].call)
		if piece[i].ret < latest {
			return i
		}
	}
	return -1
}

// comparePlaces compares by the log. Who only looks comes before who commits next.
func comparePlaces(a, b *operation) int {
	return cmp.Or(cmp.Compare(a.place, b.place), cmp.Compare(min(len(a.writes), 1), min(len(b.writes), 1)), cmp.Compare(a.call, b.call))
}

// describe names the operation that is out of order, and one that it is out of
// order with.
func describe(piece []*operation, at int) string {
	if at < 0 {
		return fmt.Sprintf("%d operations from %s to %s", len(piece), piece[0], piece[len(piece)-1])
	}
	late := piece[at]
	for _, o := range piece {
		if o.call > late.ret && comparePlaces(o, late) < 0 {
			return fmt.Sprintf("%s and %s, which had returned before it was called and is behind it in the log", o, late)
		}
	}
	return late.String()
}

// store is what porcupine is told about the keys of a piece. Its state is a string
// with the number of a value for each key, so that states are small and compare
// fast.
type store struct {
	index   map[key]int
	numbers map[read]uint32
	values  []read // by number
	keys    []key
	first   []byte
	steps   int
}

// width is how many bytes the number of a value takes.
const width = 4

func newStore(h *history, piece []*operation, first int) *store {
	m := &store{index: map[key]int{}, numbers: map[read]uint32{}}
	add := func(k key) {
		if _, known := m.index[k]; known {
			return
		}
		m.index[k] = len(m.keys)
		m.keys = append(m.keys, k)
		r := read{key: k}
		if b := h.state.read(k, uint64(first)); b != nil {
			r.found = true
			r.value, _ = k.decode(b)
		}
		m.first = binary.LittleEndian.AppendUint32(m.first, m.number(r))
	}
	for _, o := range piece {
		for _, r := range o.reads {
			add(r.key)
		}
		for _, w := range o.writes {
			add(w.key)
		}
		for _, sc := range o.scans {
			for _, r := range sc.found {
				add(r.key)
			}
		}
	}
	return m
}

// number returns the number of what a key holds.
func (m *store) number(r read) uint32 {
	n, known := m.numbers[r]
	if !known {
		n = uint32(len(m.values))
		m.numbers[r] = n
		m.values = append(m.values, r)
	}
	return n
}

// holds returns the number of what a key holds in a state.
func (m *store) holds(state string, k int) uint32 {
	return binary.LittleEndian.Uint32([]byte(state[k*width : (k+1)*width]))
}

// linearizable asks porcupine, and says how often it tried an operation.
func (m *store) linearizable(piece []*operation) (ok bool, steps int) {
	model := porcupine.Model{
		Init: func() any { return string(m.first) },
		Step: func(state, input, _ any) (bool, any) {
			if m.steps++; m.steps > pieceSteps {
				return false, state
			}
			now, _ := state.(string)
			o, _ := input.(*operation)
			return m.step(now, o)
		},
		Hash: func(state any) uint64 {
			now, _ := state.(string)
			return hashOf(now)
		},
	}
	ok = porcupine.CheckEvents(model, timeline(piece))
	return ok, m.steps
}

// hashOf is FNV-1a: the same in every run, as the order of a search must be.
func hashOf(s string) uint64 {
	sum := uint64(14695981039346656037)
	for i := range len(s) {
		sum = (sum ^ uint64(s[i])) * 1099511628211
	}
	return sum
}

// timeline is the piece as calls and returns one after the other. What is called
// between two returns may have come in any order: that of the log helps the search.
func timeline(piece []*operation) []porcupine.Event {
	type end struct {
		at  int64
		ret bool
		o   int
	}
	var ends []end
	for i, o := range piece {
		ends = append(ends, end{o.call, false, i}, end{o.ret, true, i})
	}
	slices.SortStableFunc(ends, func(a, b end) int {
		switch {
		case a.at != b.at || a.ret == b.ret:
			return cmp.Compare(a.at, b.at)
		case b.ret: // what touches is concurrent
			return -1
		}
		return 1
	})
	for from := 0; from < len(ends); from++ {
		to := from
		for to < len(ends) && !ends[to].ret {
			to++
		}
		slices.SortStableFunc(ends[from:to], func(a, b end) int { return comparePlaces(piece[a.o], piece[b.o]) })
		from = to
	}
	events := make([]porcupine.Event, len(ends))
	for i, e := range ends {
		events[i] = porcupine.Event{Kind: porcupine.EventKind(e.ret), Id: e.o}
		if !e.ret {
			events[i].Value = piece[e.o]
		}
	}
	return events
}

// step does an operation, if it can come next.
func (m *store) step(now string, o *operation) (ok bool, next string) {
	for i := range o.reads {
		if m.holds(now, m.index[o.reads[i].key]) != m.number(o.reads[i]) {
			return false, now
		}
	}
	for i := range o.scans {
		if !m.finds(now, &o.scans[i]) {
			return false, now
		}
	}
	if len(o.writes) == 0 {
		return true, now
	}
	b := []byte(now)
	for i := range o.writes {
		w := &o.writes[i]
		k := m.index[w.key]
		after := read{key: w.key, found: w.delta || w.bytes != nil}
		if w.delta {
			after.value = m.values[m.holds(now, k)].value
			after.value.number += w.add
		} else if after.found {
			after.value, _ = w.key.decode(w.bytes)
		}
		binary.LittleEndian.PutUint32(b[k*width:], m.number(after))
	}
	return true, string(b)
}

// finds reports whether a scan finds what there is.
func (m *store) finds(now string, sc *scan) bool {
	there := 0
	for i, k := range m.keys {
		if k.space == sc.space && k.n >= sc.from && k.n < sc.to && m.values[m.holds(now, i)].found {
			there++
		}
	}
	for i := range sc.found {
		if m.holds(now, m.index[sc.found[i].key]) != m.number(sc.found[i]) {
			return false
		}
	}
	return there == len(sc.found)
}
