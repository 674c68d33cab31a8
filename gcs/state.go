package gcs

import (
	"errors"
	"fmt"
	"slices"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
)

// ErrLogBehind is returned when the log ends before what the engine holds: it
// is not this engine's log, or its disk lost what it had promised to keep.
var ErrLogBehind = errors.New("gcs: log ends before the engine's position")

// ErrLogLost is what a member fails with that hears of committed entries which
// it had acknowledged and has no longer: its disk lost what it had promised to
// keep, and with its vote the group could lose them, too.
var ErrLogLost = errors.New("gcs: log lost what it acknowledged")

// ErrOtherGroup marks a log that goes on after the incarnation of the group that
// the member's identity names: its membership was forced without this member.
var ErrOtherGroup = errors.New("gcs: log is of another group")

// ErrState marks a checkpoint that is not one of this format.
var ErrState = errors.New("gcs: malformed state")

// stateFormat is the first byte of a serialised state.
const stateFormat = 2

// departedMembers bounds how many of those that left are remembered.
const departedMembers = 64

// departed remembers who left, so that a member that slept through its own
// removal is told of it. It is part of the replicated state.
type departed struct{ ids []uint64 } // oldest first

func (d *departed) add(id uint64) {
	d.ids = append(d.ids, id)
	if len(d.ids) > departedMembers {
		d.ids = slices.Delete(d.ids, 0, len(d.ids)-departedMembers)
	}
}

// remove forgets those whom a view has again. Only a Forced one can: it lists
// whoever is left.
func (d *departed) remove(v View) {
	d.ids = slices.DeleteFunc(d.ids, func(id uint64) bool {
		_, back := v.find(id)
		return back
	})
}

func (d *departed) has(id uint64) bool { return slices.Contains(d.ids, id) }

// AppendState appends what the group communication knows from the log up to
// the last delivery.
//
//	state   := 2 earlier view fifo  uvarint count  uvarint departed*  terms
//	earlier := uvarint count  record*   the history, but for the view's own record
//	fifo    := uvarint count  (uvarint id, session, next)*
func (g *Group) AppendState(b []byte) []byte {
	b = append(b, stateFormat)
	earlier := g.past.views[:max(len(g.past.views), 1)-1]
	b = appendUvarints(b, uint64(len(earlier)))
	for _, r := range earlier {
		b = appendRecord(b, r)
	}
	b = appendView(b, g.view)
	b = g.fifo.append(b)
	b = appendUvarints(b, uint64(len(g.departed.ids)))
	b = appendUvarints(b, g.departed.ids...)
	return appendTerms(b, g.past.terms)
}

func (g *Group) restore(c Checkpoint) error {
	if c.Index == 0 {
		return nil
	}
	if err := g.decodeState(c.Data); err != nil {
		return err
	}
	last := g.past.terms[len(g.past.terms)-1]
	switch {
	case g.view.Index > c.Index || last.First > c.Index:
		return fmt.Errorf("%w: it is of %d, its view began at %d and its term at %d", ErrState, c.Index, g.view.Index, last.First)
	case last.Term != c.Term:
		return fmt.Errorf("%w: it is of term %d, its entry at %d of term %d", ErrState, last.Term, c.Index, c.Term)
	case g.past.outlived(g.id):
		return fmt.Errorf("%w: its checkpoint at %d is of incarnation %s, this member of the earlier %s; remove its directory and join it anew",
			ErrOtherGroup, c.Index, g.view.Incarnation, g.id.Incarnation)
	}
	return nil
}

// decodeState reads what AppendState appended. What no log can have led to is
// refused: raft panics when it is started with some of it.
func (g *Group) decodeState(b []byte) error {
	d := decoder{rest: b}
	if format := d.byte(); d.bad == "" && format != stateFormat {
		return fmt.Errorf("%w: format %d is not known to this version", ErrState, format)
	}
	for range d.uvarintMax(viewRecords - 1) {
		g.past.views = append(g.past.views, d.record())
	}
	g.view = d.view()
	g.past.views = append(g.past.views, g.view.record())
	g.fifo = d.fifo()
	for range d.uvarintMax(departedMembers) {
		g.departed.ids = append(g.departed.ids, d.uvarint())
	}
	g.past.terms = d.terms()
	if err := d.finish(ErrState); err != nil {
		return err
	}
	if reason := g.flaw(); reason != "" {
		return fmt.Errorf("%w: %s", ErrState, reason)
	}
	return nil
}

// flaw says why no log can have led to this state, "" when one can.
func (g *Group) flaw() string {
	for _, reason := range []string{g.view.flaw(), flawOfHistory(g.past.views), flawOfTerms(g.past.terms)} {
		if reason != "" {
			return reason
		}
	}
	same := slices.EqualFunc(g.fifo.origins, g.view.Members, func(o origin, m Member) bool { return o.id == m.RaftID })
	if !same {
		return "its origins are not the members of its view"
	}
	for i, id := range g.departed.ids {
		if _, there := g.view.find(id); there || slices.Contains(g.departed.ids[:i], id) {
			return fmt.Sprintf("member %d departed and is there, or departed twice", id)
		}
	}
	return ""
}

// StateView returns the view in a state that AppendState made. An empty state
// has the view before the first.
func StateView(state []byte) (View, error) {
	if len(state) == 0 {
		return View{}, nil
	}
	var g Group
	err := g.decodeState(state)
	return g.view, err
}

// storage shows raft the log together with the configuration that the view
// stands for at the position from which raft applies.
type storage struct {
	LogReader
	group *Group
	hard  *raftpb.HardState
	last  uint64 // index of the last entry at the start
	conf  *raftpb.ConfState
}

func newStorage(g *Group, cfg Config) (*storage, error) {
	last, err := cfg.Log.LastIndex()
	if err != nil {
		return nil, fmt.Errorf("gcs: end of the log: %w", err)
	}
	first, err := cfg.Log.FirstIndex()
	if err != nil {
		return nil, fmt.Errorf("gcs: start of the log: %w", err)
	}
	if first > cfg.Checkpoint.Index+1 {
		return nil, fmt.Errorf("%w: the log begins at %d, the checkpoint is at %d", ErrLogCorrupt, first, cfg.Checkpoint.Index)
	}
	commit := max(cfg.HardState.Commit, cfg.Checkpoint.Index, cfg.Applied)
	if commit > last {
		return nil, fmt.Errorf("%w: log ends at %d, commit index %d, engine at %d", ErrLogBehind, last, cfg.HardState.Commit, cfg.Applied)
	}
	return &storage{
		LogReader: cfg.Log,
		group:     g,
		last:      last,
		hard: &raftpb.HardState{
			Term: new(cfg.HardState.Term), Vote: new(cfg.HardState.Vote), Commit: new(commit),
		},
		conf: g.view.confState(),
	}, nil
}

// InitialState implements [raft.Storage].
func (s *storage) InitialState() (*raftpb.HardState, *raftpb.ConfState, error) {
	return s.hard, s.conf, nil
}

// Snapshot implements [raft.Storage]. It tells a member whose log is gone what
// it must have before this log can go on for it: the last entry forgotten
// here, and no later one. A member that comes back from a clone is behind the
// newest entry again, and must not be sent for another clone because of that.
// The data go another way, from an engine to an engine.
func (s *storage) Snapshot() (*raftpb.Snapshot, error) {
	first, err := s.FirstIndex()
	if err != nil || first <= 1 {
		return nil, raft.ErrSnapshotTemporarilyUnavailable
	}
	index := first - 1
	term, err := s.Term(index)
	if err != nil {
		return nil, raft.ErrSnapshotTemporarilyUnavailable
	}
	return &raftpb.Snapshot{Metadata: &raftpb.SnapshotMetadata{
		ConfState: s.group.view.confState(), Index: new(index), Term: new(term),
	}}, nil
}
