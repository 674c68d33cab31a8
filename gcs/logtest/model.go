package logtest

import (
	"slices"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/concordatdb/concordat/gcs"
)

// model is a log as one would write it down on paper. It is copied before each
// change, so that earlier states can be compared with what a crash left.
type model struct {
	identity     gcs.Identity
	record       []byte
	hardState    *raftpb.HardState
	cut, cutTerm uint64
	entries      []*raftpb.Entry // those after cut
	checkpoints  []gcs.Checkpoint
}

func newModel() model { return model{hardState: &raftpb.HardState{}} }

func (m model) clone() model {
	m.entries = slices.Clone(m.entries)
	m.checkpoints = slices.Clone(m.checkpoints)
	return m
}

func (m model) last() uint64 { return m.cut + uint64(len(m.entries)) }

func (m model) term(index uint64) (uint64, error) {
	switch {
	case index < m.cut:
		return 0, raft.ErrCompacted
	case index == m.cut:
		return m.cutTerm, nil
	case index > m.last():
		return 0, raft.ErrUnavailable
	}
	return m.entries[index-m.cut-1].GetTerm(), nil
}

func (m model) slice(lo, hi, maxSize uint64) ([]*raftpb.Entry, error) {
	switch {
	case lo <= m.cut:
		return nil, raft.ErrCompacted
	case hi > m.last()+1:
		return nil, raft.ErrUnavailable
	}
	var out []*raftpb.Entry
	var size uint64
	for _, e := range m.entries[lo-m.cut-1 : hi-m.cut-1] {
		size += uint64(proto.Size(e))
		if size > maxSize && len(out) > 0 {
			break
		}
		out = append(out, e)
	}
	return out, nil
}

// floor is the last index that may not be replaced.
func (m model) floor() uint64 {
	floor := m.cut
	for _, c := range m.checkpoints {
		floor = max(floor, c.Index)
	}
	return floor
}

func (m *model) write(w gcs.LogWrite) {
	if len(w.Entries) > 0 {
		m.entries = append(m.entries[:w.Entries[0].GetIndex()-m.cut-1:w.Entries[0].GetIndex()-m.cut-1], w.Entries...)
	}
	if w.HardState != nil {
		m.hardState = w.HardState
	}
}

func (m *model) truncate(index uint64) {
	if index <= m.cut {
		return
	}
	term, _ := m.term(index)
	m.entries = slices.Clone(m.entries[index-m.cut:])
	m.cut, m.cutTerm = index, term
	m.checkpoints = slices.DeleteFunc(slices.Clone(m.checkpoints), func(c gcs.Checkpoint) bool {
		return c.Index < index
	})
}

func (m *model) save(c gcs.Checkpoint) {
	m.checkpoints = slices.DeleteFunc(slices.Clone(m.checkpoints), func(old gcs.Checkpoint) bool {
		return old.Index == c.Index
	})
	m.checkpoints = append(m.checkpoints, c)
	slices.SortFunc(m.checkpoints, func(a, b gcs.Checkpoint) int { return int(a.Index) - int(b.Index) })
}

func (m *model) reset(c gcs.Checkpoint, hs *raftpb.HardState) {
	*m = model{
		identity:    m.identity,
		record:      m.record,
		hardState:   hs,
		cut:         c.Index,
		cutTerm:     c.Term,
		checkpoints: []gcs.Checkpoint{c},
	}
}

func (m *model) adopt(a gcs.Adoption) {
	if a.Last == 0 && len(a.Entries) == 0 {
		*m = newModel()
	} else {
		m.entries = slices.Concat(m.entries[:a.Last-m.cut], a.Entries)
	}
	m.identity, m.hardState, m.record = a.Identity, a.HardState, a.Record
}

func (m model) checkpoint(limit uint64) gcs.Checkpoint {
	var found gcs.Checkpoint
	for _, c := range m.checkpoints {
		if c.Index <= limit {
			found = c
		}
	}
	return found
}
