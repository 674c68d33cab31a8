package raftlog

import (
	"math"
	"slices"
	"sort"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
)

// entryOverhead is about what an entry costs in memory beside its data: the
// message, the three numbers that it points to, and the pointer to it.
const entryOverhead = 150

// run is a stretch of the log in one term. The log of a stable group has a
// handful.
type run struct{ first, term uint64 }

// memory is what readers are answered from without a look at the disk: where
// the log begins and ends, the term of every entry, and the newest entries
// themselves. It is not safe for concurrent use.
//
//	        cut          first of tail      last
//	         |                 |             |
//	 ........o=================#############-
//	forgotten  on disk only     in memory too
//
// Invariants:
//
//  1. runs covers cut+1..last, ascending in first and in term, and is empty
//     when the log is.
//  2. tail holds consecutive entries of which the newest is last.
//  3. An array that tail has ever pointed into is only ever appended to, so
//     slices of it that readers hold stay as they are.
type memory struct {
	cut, cutTerm uint64 // the last entry forgotten
	last         uint64
	runs         []run

	tail      []*raftpb.Entry
	tailBytes int
	tailLimit int
}

// firstInTail is the index of the oldest entry in memory, last+1 if none is.
func (m *memory) firstInTail() uint64 { return m.last + 1 - uint64(len(m.tail)) }

// term has the contract of raft.Storage.
func (m *memory) term(index uint64) (uint64, error) {
	switch {
	case index < m.cut:
		return 0, raft.ErrCompacted
	case index == m.cut:
		return m.cutTerm, nil
	case index > m.last:
		return 0, raft.ErrUnavailable
	}
	return m.runs[m.runOf(index)].term, nil
}

// runOf returns the position of the run that holds an index of cut+1..last.
// Nearly every question is about the last one.
func (m *memory) runOf(index uint64) int {
	if i := len(m.runs) - 1; m.runs[i].first <= index {
		return i
	}
	return sort.Search(len(m.runs), func(i int) bool { return m.runs[i].first > index }) - 1
}

// extend notes the term of the entry after last.
func (m *memory) extend(term uint64) {
	m.last++
	if n := len(m.runs); n == 0 || m.runs[n-1].term != term {
		m.runs = append(m.runs, run{first: m.last, term: term})
	}
}

// append adds entries, consecutive ones of which the first is at most last+1
// and above cut. They replace what is there from the first one on.
func (m *memory) append(entries []*raftpb.Entry) {
	if len(entries) == 0 {
		return
	}
	if first := entries[0].GetIndex(); first <= m.last {
		m.cutBack(first)
	}
	for _, e := range entries {
		m.extend(e.GetTerm())
		m.tail = append(m.tail, e)
		m.tailBytes += weight(e)
	}
	if m.tailBytes > m.tailLimit {
		m.shed()
	}
}

// cutBack drops the entries from first to last.
func (m *memory) cutBack(first uint64) {
	keep := 0
	if oldest := m.firstInTail(); first > oldest {
		keep = int(first - oldest)
	}
	for _, e := range m.tail[keep:] {
		m.tailBytes -= weight(e)
	}
	m.tail = slices.Clip(m.tail[:keep])
	m.last = first - 1
	for n := len(m.runs); n > 0 && m.runs[n-1].first >= first; n-- {
		m.runs = m.runs[:n-1]
	}
}

// shed makes room in the tail. It goes a quarter below the limit and moves
// what remains to an array of its own, so that nothing shed stays reachable and
// the moving costs three pointers for each entry appended.
func (m *memory) shed() {
	drop := 0
	for ; m.tailBytes > m.tailLimit/4*3 && drop < len(m.tail); drop++ {
		m.tailBytes -= weight(m.tail[drop])
	}
	m.tail = slices.Clone(m.tail[drop:])
}

// forget drops the entries up to index, which must be in cut..last.
func (m *memory) forget(index, term uint64) {
	if oldest := m.firstInTail(); index >= oldest {
		drop := int(index - oldest + 1)
		for _, e := range m.tail[:drop] {
			m.tailBytes -= weight(e)
		}
		m.tail = slices.Clone(m.tail[drop:])
	}
	if index == m.last {
		m.runs = nil
	} else {
		at := m.runOf(index + 1)
		m.runs = slices.Clone(m.runs[at:])
		m.runs[0].first = index + 1
	}
	m.cut, m.cutTerm = index, term
}

// reset makes the log empty after index.
func (m *memory) reset(index, term uint64) {
	*m = memory{cut: index, cutTerm: term, last: index, tailLimit: m.tailLimit}
}

// check returns raft's error for a question about the entries lo..hi-1 that
// the log cannot answer.
func (m *memory) check(lo, hi uint64) error {
	switch {
	case lo <= m.cut:
		return raft.ErrCompacted
	case hi > m.last+1:
		return raft.ErrUnavailable
	}
	return nil
}

// recent returns the entries lo..hi-1 if all of them are in memory. The slice
// may be kept, and appended to, but not changed.
func (m *memory) recent(lo, hi uint64) ([]*raftpb.Entry, bool) {
	oldest := m.firstInTail()
	if lo < oldest {
		return nil, false
	}
	return slices.Clip(m.tail[lo-oldest : hi-oldest]), true
}

func weight(e *raftpb.Entry) int { return len(e.GetData()) + entryOverhead }

// limitSize returns as many of entries as fit into maxSize, but at least one.
func limitSize(entries []*raftpb.Entry, maxSize uint64) []*raftpb.Entry {
	if maxSize == math.MaxUint64 || len(entries) == 0 {
		return entries
	}
	size := encodedSize(entries[0])
	for i, e := range entries[1:] {
		if size += encodedSize(e); size > maxSize {
			return slices.Clip(entries[:i+1])
		}
	}
	return entries
}
