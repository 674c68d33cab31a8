package gcs

import (
	"slices"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
)

// memlog is a log in memory that forgets what was not synced.
type memlog struct {
	cut, cutTerm uint64
	entries      []*raftpb.Entry // those after cut
	hard, synced HardState
}

var _ LogReader = (*memlog)(nil)

func (l *memlog) FirstIndex() (uint64, error) { return l.cut + 1, nil }
func (l *memlog) LastIndex() (uint64, error)  { return l.cut + uint64(len(l.entries)), nil }

func (l *memlog) Term(index uint64) (uint64, error) {
	switch {
	case index < l.cut:
		return 0, raft.ErrCompacted
	case index == l.cut:
		return l.cutTerm, nil
	case index > l.cut+uint64(len(l.entries)):
		return 0, raft.ErrUnavailable
	}
	return l.entry(index).GetTerm(), nil
}

func (l *memlog) entry(index uint64) *raftpb.Entry { return l.entries[index-l.cut-1] }

func (l *memlog) Entries(lo, hi, maxSize uint64) ([]*raftpb.Entry, error) {
	if lo <= l.cut {
		return nil, raft.ErrCompacted
	}
	n, size := lo, uint64(0)
	for n < hi {
		size += uint64(len(l.entry(n).GetData()))
		if n > lo && size > maxSize {
			break
		}
		n++
	}
	from, to := lo-l.cut-1, n-l.cut-1
	return l.entries[from:to:to], nil
}

func (l *memlog) write(w LogWrite) {
	if len(w.Entries) > 0 {
		keep := w.Entries[0].GetIndex() - l.cut - 1
		if keep < uint64(len(l.entries)) {
			l.entries = slices.Clone(l.entries[:keep]) // readers may hold the rest
		}
		l.entries = append(l.entries, w.Entries...)
	}
	if h := w.HardState; h != nil {
		l.hard = HardState{h.GetTerm(), h.GetVote(), h.GetCommit()}
	}
	if w.Sync {
		l.synced = l.hard
	}
}

// adopt is [Log.Adopt] for the part of the log that it has.
func (l *memlog) adopt(a Adoption) {
	if a.Last == 0 && len(a.Entries) == 0 {
		*l = memlog{}
	} else {
		l.entries = slices.Clone(l.entries[:a.Last-l.cut])
	}
	l.write(LogWrite{HardState: a.HardState, Entries: a.Entries, Sync: true})
}

// truncate forgets the entries up to index.
func (l *memlog) truncate(index uint64) {
	term, _ := l.Term(index)
	l.entries = l.entries[index-l.cut:]
	l.cut, l.cutTerm = index, term
}
