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

// model is the certifier as the rules tell it. It forgets nothing but written
// keys: a mark only moves a line through what was certified.
type model struct {
	settings   Settings
	group      gtid.UUID
	certified  []modelTransaction
	marked     int // of certified, the first so many lie before the mark
	milestones []modelMilestone
	keys       []modelKey
	unplaced   int // of certified, the first so many may have lost their keys
	numberings map[gtid.Tag]*numbering
}

type modelTransaction struct {
	id      gtid.GTID
	origin  gtid.UUID
	stored  gtids
	touched map[Item]Kind
	barrier bool
	weight  int
	bytes   int
}

type modelKey struct {
	at    int // in certified
	kind  Kind
	place Place
}

// modelMilestone is where a mark can fall: a log index, and how many
// transactions had been certified there.
type modelMilestone struct {
	index     uint64
	certified int
	bytes     int
}

func (m *model) executed() gtid.Set {
	s := gtid.Set{}
	for _, t := range m.certified {
		s = s.Add(t.id)
	}
	return s
}

// first is E(n).
func (m *model) first(n int) gtids {
	all := gtids{}
	for _, t := range m.certified[:n] {
		all[t.id] = true
	}
	return all
}

func (m *model) certify(r *Request) Verdict {
	seen := gtidsOf(r.Snapshot)
	if !m.first(m.marked).subsetOf(seen) {
		return Verdict{Outcome: SnapshotTooOld}
	}
	if v, conflict := m.conflict(seen, &r.WriteSet, m.marked); conflict {
		return v
	}
	if v, conflict := m.scanned(seen, &r.WriteSet); conflict {
		return v
	}
	id, outcome := m.number(r)
	if outcome != Certified {
		return Verdict{Outcome: outcome}
	}
	t := m.transaction(id, r, seen)
	v := Verdict{Outcome: Certified, GTID: id, Sequence: uint64(len(m.certified)) + 1, LastCommitted: m.lastCommitted(&t)}
	m.certified = append(m.certified, t)
	m.place(&r.WriteSet)
	return v
}

func (m *model) transaction(id gtid.GTID, r *Request, seen gtids) modelTransaction {
	t := modelTransaction{
		id: id, origin: r.Origin, stored: maps.Clone(seen), touched: map[Item]Kind{},
		barrier: r.WriteSet.Barrier(), weight: 1, bytes: 16,
	}
	t.stored[id] = true
	for item, kind := range r.WriteSet.Items() {
		if kind == Read {
			continue
		}
		t.weight++
		t.bytes += 24
		if kind != Write {
			t.bytes += 24
		}
		if before, twice := t.touched[item]; twice && before != kind {
			kind = Write
		}
		t.touched[item] = kind
	}
	regular := len(seen) <= len(m.certified) && m.first(len(seen)).subsetOf(seen)
	if !regular || id.UUID != m.group || id.Tag != "" || id.Number >= 1<<48 {
		t.bytes += 256
	}
	if !regular {
		for range r.Snapshot.Intervals() {
			t.bytes += 32
		}
	}
	return t
}

func (t *modelTransaction) clash(at int, incoming, earlier Kind) Clash {
	return Clash{Item: -1, Range: -1, Incoming: incoming, Earlier: earlier, Winner: t.id, Member: t.origin, Sequence: uint64(at) + 1}
}

// conflict finds the first item in conflict with what is not among the first
// forgotten ones.
func (m *model) conflict(seen gtids, ws *Encoded, forgotten int) (Verdict, bool) {
	i := -1
	for item, kind := range ws.Items() {
		i++
		for at := len(m.certified) - 1; at >= forgotten; at-- {
			t := &m.certified[at]
			earlier, touched := t.touched[item]
			if touched && kind.ConflictsWith(earlier) && !t.stored.subsetOf(seen) {
				clash := t.clash(at, kind, earlier)
				clash.Item = i
				return Verdict{Outcome: Conflict, Clash: clash}, true
			}
		}
	}
	return Verdict{}, false
}

func (m *model) scanned(seen gtids, ws *Encoded) (Verdict, bool) {
	if ws.Count(Read) == 0 && ws.RangeCount() == 0 {
		return Verdict{}, false
	}
	for at := len(m.certified) - 1; at >= m.marked; at-- {
		if t := &m.certified[at]; t.barrier && !t.stored.subsetOf(seen) {
			return Verdict{Outcome: Conflict, Clash: t.clash(at, Read, Write)}, true
		}
	}
	if ws.RangeCount() > 0 && !m.first(m.unplaced).subsetOf(seen) {
		return Verdict{Outcome: SnapshotTooOld}, true
	}
	n := -1
	for scanned := range ws.Ranges() {
		n++
		for _, k := range slices.Backward(m.keys) {
			t := &m.certified[k.at]
			if k.at >= m.marked && scanned.Covers(k.place) && !t.stored.subsetOf(seen) {
				clash := t.clash(k.at, Read, k.kind)
				clash.Range = n
				return Verdict{Outcome: Conflict, Clash: clash}, true
			}
		}
	}
	return Verdict{}, false
}

func (m *model) number(r *Request) (gtid.GTID, Outcome) {
	id := r.GTID
	if id.Number != 0 {
		for _, t := range m.certified {
			if t.id == id {
				return id, GTIDTaken
			}
		}
		return id, Certified
	}
	id.UUID = m.group
	if m.settings.BlockSize <= 1 {
		for id.Number = 1; m.first(len(m.certified))[id]; id.Number++ {
		}
		return id, Certified
	}
	n := m.numberings[id.Tag]
	if n == nil {
		n = newNumbering(m.group, id.Tag, m.settings.BlockSize)
		m.numberings[id.Tag] = n
	}
	id.Number, _ = n.next(m.executed(), r.Origin)
	return id, Certified
}

// lastCommitted is the sequence of the last transaction that t may depend on.
func (m *model) lastCommitted(t *modelTransaction) uint64 {
	for i, before := range slices.Backward(m.certified) {
		if t.barrier || before.barrier || i < m.marked || before.shares(t) {
			return uint64(i) + 1
		}
	}
	return 0
}

// shares reports whether there is an item that both touch, and not only refer
// to.
func (t *modelTransaction) shares(other *modelTransaction) bool {
	for item, kind := range t.touched {
		if k, both := other.touched[item]; both && (kind != Reference || k != Reference) {
			return true
		}
	}
	return false
}

func (m *model) place(ws *Encoded) {
	i := 0
	for p := range ws.Places() {
		kind, _ := ws.Kind(i)
		p.Key = slices.Clone(p.Key)
		m.keys = append(m.keys, modelKey{len(m.certified) - 1, kind, p})
		i++
	}
	m.boundKeys()
}

func (m *model) boundKeys() {
	for len(m.keys) > m.settings.RangeWrites {
		m.unplaced = m.keys[0].at + 1
		m.keys = m.keys[1:]
	}
}

func (m *model) configure(s Settings) {
	for _, n := range m.numberings {
		n.setBlock(m.executed(), s.BlockSize)
	}
	if s.BlockSize <= 1 {
		clear(m.numberings)
	}
	m.settings = s
	m.boundKeys()
}

func (m *model) view() {
	for _, n := range m.numberings {
		n.recompute(m.executed())
	}
}

// weight is the size of the history after the first so many transactions.
func (m *model) weight(after int) (sum int) {
	for _, t := range m.certified[after:] {
		sum += t.weight
	}
	return sum
}

func (m *model) bytes(after int) (sum int) {
	for _, t := range m.certified[after:] {
		sum += t.bytes
	}
	for _, p := range m.milestones {
		if p.certified > after {
			sum += p.bytes
		}
	}
	for _, k := range m.keys {
		if k.at >= after {
			sum += 64
		}
	}
	return sum
}

func (m *model) entryDone(index uint64) {
	last := 0
	if n := len(m.milestones); n > 0 {
		last = m.milestones[n-1].certified
	}
	if m.weight(last) >= milestoneEvery {
		bytes := 128
		for range m.executed().Intervals() {
			bytes += 32
		}
		m.milestones = append(m.milestones, modelMilestone{index, len(m.certified), bytes})
	}
}

func (m *model) mark(index uint64) {
	for _, p := range m.milestones {
		if p.index <= index {
			m.marked = max(m.marked, p.certified)
		}
	}
}

// open are the places where a mark would forget something.
func (m *model) open() []modelMilestone {
	return slices.DeleteFunc(slices.Clone(m.milestones), func(p modelMilestone) bool { return p.certified <= m.marked })
}

func (m *model) markable(limit uint64) (index uint64) {
	for _, p := range m.open() {
		if p.index <= limit {
			index = p.index
		}
	}
	return index
}

func (m *model) markableWithin(items, bytes int) (index uint64) {
	at := m.marked
	for _, p := range m.open() {
		if m.weight(at) <= max(items, 0) && m.bytes(at) <= max(bytes, 0) {
			break
		}
		index, at = p.index, p.certified
	}
	return index
}
