package certifier

import (
	"maps"
	"slices"

	"github.com/concordatdb/concordat/gtid"
)

// gtids is a GTID set as one would write it in a minute.
type gtids map[gtid.GTID]bool

func gtidsOf(s gtid.Set) gtids {
	all := gtids{}
	for in := range s.Intervals() {
		for n := in.First; n <= in.Last; n++ {
			all[gtid.GTID{UUID: in.UUID, Tag: in.Tag, Number: n}] = true
		}
	}
	return all
}

func (s gtids) subsetOf(t gtids) bool {
	for g := range s {
		if !t[g] {
			return false
		}
	}
	return true
}

// model is the certifier as the rules tell it. It forgets nothing: a mark only
// moves a line through what was certified.
type model struct {
	group     gtid.UUID
	certified []modelTransaction
	marked    int // of certified, the first so many lie before the mark
	places    []modelPlace
}

type modelTransaction struct {
	id     gtid.GTID
	stored gtids
	items  map[Item]bool
	weight int
}

// modelPlace is where a mark can fall: a log index, and how many transactions
// had been certified there.
type modelPlace struct {
	index     uint64
	certified int
}

func (m *model) certify(snapshot gtid.Set, list []Item) Verdict {
	seen := gtidsOf(snapshot)
	for _, t := range m.certified[:m.marked] {
		if !seen[t.id] {
			return Verdict{Outcome: SnapshotTooOld}
		}
	}
	if v, conflict := m.conflict(seen, list, m.marked); conflict {
		return v
	}
	next := uint64(len(m.certified)) + 1
	t := modelTransaction{
		id: gtid.GTID{UUID: m.group, Number: next}, stored: maps.Clone(seen),
		items: map[Item]bool{}, weight: len(list) + 1,
	}
	t.stored[t.id] = true
	for _, item := range list {
		t.items[item] = true
	}
	v := Verdict{Outcome: Certified, GTID: t.id, Sequence: next, LastCommitted: m.lastCommitted(t)}
	m.certified = append(m.certified, t)
	return v
}

// conflict finds the first item whose last writer, if that is not among the
// first forgotten ones, had something that is not in seen.
func (m *model) conflict(seen gtids, list []Item, forgotten int) (Verdict, bool) {
	for i, item := range list {
		if i > 0 && item == list[i-1] {
			continue
		}
		for _, t := range slices.Backward(m.certified[forgotten:]) {
			if t.items[item] {
				if !t.stored.subsetOf(seen) {
					return lost(i, t.id), true
				}
				break
			}
		}
	}
	return Verdict{}, false
}

// lastCommitted is the sequence of the last transaction that t may depend on.
func (m *model) lastCommitted(t modelTransaction) uint64 {
	for i, before := range slices.Backward(m.certified) {
		barrier := len(t.items) == 0 || len(before.items) == 0
		if barrier || i < m.marked || before.shares(t) {
			return uint64(i) + 1
		}
	}
	return 0
}

func (t modelTransaction) shares(other modelTransaction) bool {
	for item := range t.items {
		if other.items[item] {
			return true
		}
	}
	return false
}

// weight is the size of the history after the first so many transactions.
func (m *model) weight(after int) int {
	sum := 0
	for _, t := range m.certified[after:] {
		sum += t.weight
	}
	return sum
}

func (m *model) entryDone(index uint64) {
	last := 0
	if n := len(m.places); n > 0 {
		last = m.places[n-1].certified
	}
	if m.weight(last) >= milestoneEvery {
		m.places = append(m.places, modelPlace{index, len(m.certified)})
	}
}

func (m *model) mark(index uint64) {
	for _, p := range m.places {
		if p.index <= index {
			m.marked = max(m.marked, p.certified)
		}
	}
}

// open are the places where a mark would forget something.
func (m *model) open() []modelPlace {
	return slices.DeleteFunc(slices.Clone(m.places), func(p modelPlace) bool { return p.certified <= m.marked })
}

func (m *model) markable(limit uint64) uint64 {
	var index uint64
	for _, p := range m.open() {
		if p.index <= limit {
			index = p.index
		}
	}
	return index
}

func (m *model) markableItems(limit int) uint64 {
	var index uint64
	left := m.weight(m.marked)
	for _, p := range m.open() {
		if left <= limit {
			break
		}
		index, left = p.index, m.weight(p.certified)
	}
	return index
}
