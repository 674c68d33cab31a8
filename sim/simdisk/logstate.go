package simdisk

import (
	"fmt"
	"slices"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/concordatdb/concordat/gcs"
)

// logState is one picture of a log. Entries are shared between pictures and
// with readers, slices of entries with readers: an array of entries is only
// ever appended to.
type logState struct {
	identity     gcs.Identity
	record       []byte // never changed, only replaced
	hardState    *raftpb.HardState
	cut, cutTerm uint64           // the last entry forgotten
	entries      []*raftpb.Entry  // those after cut
	checkpoints  []gcs.Checkpoint // ascending
}

// logChange is one step from a picture to the next. The zero fields change
// nothing.
type logChange struct {
	reset      bool // everything goes but identity and record; checkpoint is all that is left
	write      gcs.LogWrite
	truncate   uint64
	identity   *gcs.Identity
	record     *[]byte
	checkpoint *gcs.Checkpoint
	adopt      *gcs.Adoption
}

// apply makes a change that fits.
func (s *logState) apply(c logChange) {
	if c.reset {
		*s = logState{identity: s.identity, record: s.record, cut: c.checkpoint.Index, cutTerm: c.checkpoint.Term}
	}
	if c.identity != nil {
		s.identity = *c.identity
	}
	if c.record != nil {
		s.record = *c.record
	}
	if c.adopt != nil {
		s.adopt(*c.adopt)
	}
	if c.checkpoint != nil {
		s.save(*c.checkpoint)
	}
	if c.truncate > s.cut {
		s.forget(c.truncate)
	}
	s.write(c.write)
}

func (s *logState) write(w gcs.LogWrite) {
	if w.HardState != nil {
		s.hardState = copyHardState(w.HardState)
	}
	if len(w.Entries) == 0 {
		return
	}
	first := w.Entries[0].GetIndex()
	if first <= s.last() {
		s.entries = slices.Clip(s.entries[:first-s.cut-1])
	}
	s.entries = append(s.entries, w.Entries...)
}

// adopt makes the log what a says, which fits.
func (s *logState) adopt(a gcs.Adoption) {
	if a.Last == 0 && len(a.Entries) == 0 {
		*s = logState{}
	} else {
		s.entries = slices.Clip(s.entries[:a.Last-s.cut])
	}
	s.identity, s.record = a.Identity, a.Record
	s.write(gcs.LogWrite{HardState: a.HardState, Entries: a.Entries})
}

func (s *logState) save(c gcs.Checkpoint) {
	at, found := s.find(c.Index)
	if found {
		s.checkpoints[at] = c
		return
	}
	s.checkpoints = slices.Insert(s.checkpoints, at, c)
}

func (s *logState) forget(index uint64) {
	term := s.entries[index-s.cut-1].GetTerm()
	s.entries = slices.Clone(s.entries[index-s.cut:])
	s.cut, s.cutTerm = index, term
	at, _ := s.find(index)
	s.checkpoints = slices.Delete(s.checkpoints, 0, at)
}

// clone returns a picture that can go its own way.
func (s *logState) clone() logState {
	c := *s
	c.entries = slices.Clone(s.entries)
	c.checkpoints = slices.Clone(s.checkpoints)
	return c
}

func (s *logState) last() uint64 { return s.cut + uint64(len(s.entries)) }

func (s *logState) term(index uint64) (uint64, error) {
	switch {
	case index < s.cut:
		return 0, raft.ErrCompacted
	case index == s.cut:
		return s.cutTerm, nil
	case index > s.last():
		return 0, raft.ErrUnavailable
	}
	return s.entries[index-s.cut-1].GetTerm(), nil
}

// checkpoint returns the newest one at most limit.
func (s *logState) checkpoint(limit uint64) gcs.Checkpoint {
	at, found := s.find(limit)
	if !found {
		at--
	}
	if at < 0 {
		return gcs.Checkpoint{}
	}
	return s.checkpoints[at]
}

// find returns where a checkpoint at index is or belongs.
func (s *logState) find(index uint64) (int, bool) {
	return slices.BinarySearchFunc(s.checkpoints, index, func(c gcs.Checkpoint, index uint64) int {
		switch {
		case c.Index < index:
			return -1
		case c.Index > index:
			return 1
		}
		return 0
	})
}

// logEnd is as much of a picture as decides whether a write fits.
type logEnd struct {
	floor  uint64 // entries up to here stay
	last   uint64
	commit uint64
}

// admitAll checks that ws fit, one after the other.
func (s *logState) admitAll(ws []gcs.LogWrite) error {
	end := logEnd{floor: s.floor(), last: s.last(), commit: s.hardState.GetCommit()}
	for i, w := range ws {
		if err := s.admit(w, &end, ws[:i]); err != nil {
			return err
		}
	}
	return nil
}

// floor is the index of the last entry that must stay.
func (s *logState) floor() uint64 {
	if n := len(s.checkpoints); n > 0 {
		return s.checkpoints[n-1].Index
	}
	return s.cut
}

// admitAdoption checks that a fits.
func (s *logState) admitAdoption(a gcs.Adoption) error {
	if len(a.Record) > gcs.MaxRecord || a.HardState == nil {
		return fmt.Errorf("%w: an adoption with the hard state %v and a record of %d bytes, the most is %d",
			ErrLogOrder, a.HardState, len(a.Record), gcs.MaxRecord)
	}
	end := logEnd{floor: a.Last, last: a.Last}
	if a.Last+uint64(len(a.Entries)) > 0 && (a.Last < s.floor() || a.Last > s.last()) {
		return fmt.Errorf("%w: entry %d cannot be the last to stay of the entries %d to %d", ErrLogOrder, a.Last, s.floor()+1, s.last())
	}
	return s.admit(gcs.LogWrite{HardState: a.HardState, Entries: a.Entries}, &end, nil)
}

// admit checks one write that comes after those before it.
func (s *logState) admit(w gcs.LogWrite, end *logEnd, before []gcs.LogWrite) error {
	if w.HardState != nil {
		end.commit = w.HardState.GetCommit()
	}
	if len(w.Entries) > 0 {
		first := w.Entries[0].GetIndex()
		if first <= end.floor || first > end.last+1 {
			return fmt.Errorf("%w: entry %d does not follow or replace one of the entries %d to %d",
				ErrLogOrder, first, end.floor+1, end.last)
		}
		term := s.termAfter(before, first-1)
		for i, e := range w.Entries {
			if e.GetIndex() != first+uint64(i) || e.GetTerm() < term {
				return fmt.Errorf("%w: entry %d of term %d after entry %d of term %d",
					ErrLogOrder, e.GetIndex(), e.GetTerm(), first+uint64(i)-1, term)
			}
			term = e.GetTerm()
		}
		end.last = first + uint64(len(w.Entries)) - 1
	}
	if end.commit > end.last {
		return fmt.Errorf("%w: commit index %d is beyond the last entry %d", ErrLogOrder, end.commit, end.last)
	}
	return nil
}

// termAfter returns the term that the entry at index has once ws are written.
func (s *logState) termAfter(ws []gcs.LogWrite, index uint64) uint64 {
	for _, w := range slices.Backward(ws) {
		if len(w.Entries) > 0 && w.Entries[0].GetIndex() <= index {
			return w.Entries[index-w.Entries[0].GetIndex()].GetTerm()
		}
	}
	term, err := s.term(index)
	if err != nil {
		return 0
	}
	return term
}

func copyHardState(hs *raftpb.HardState) *raftpb.HardState {
	return &raftpb.HardState{Term: new(hs.GetTerm()), Vote: new(hs.GetVote()), Commit: new(hs.GetCommit())}
}
