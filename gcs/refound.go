package gcs

import (
	"fmt"

	"go.etcd.io/raft/v3/raftpb"
)

// refoundTerm is the term of all that a group begins with.
const refoundTerm = 1

// Refound is [Bootstrap] for a group that goes on at a log index, above which its log
// begins: with data that came from elsewhere. It returns the view that the group has
// there, with the founder alone, and the state of a checkpoint, in the form of
// [Group.AppendState]. The log before the index is taken to be of one term; nobody
// has it. What follows on the checkpoint is that of [RefoundEntry].
func Refound(id Identity, founder Member, index uint64) (state []byte, view View, err error) {
	founder.RaftID, founder.UUID = id.RaftID, id.Member
	change := Change{Kind: Bootstrapped, Member: founder, Incarnation: id.Incarnation}
	if view, err = (View{}).Apply(change, index); err != nil {
		return nil, View{}, err
	}
	g := Group{view: view}
	g.past.views = []ViewRecord{view.record()}
	g.past.terms = []TermRun{{Term: refoundTerm, First: 1}}
	g.fifo.align(view)
	if flaw := g.flaw(); flaw != "" {
		return nil, View{}, fmt.Errorf("%w: %s", ErrState, flaw)
	}
	return g.AppendState(nil), view, nil
}

// RefoundEntry is the first entry behind the checkpoint: a frame of the founder's
// first session with messages, of which there must be some.
func RefoundEntry(id Identity, index uint64, messages ...[]byte) LogWrite {
	next := index + 1
	return LogWrite{
		HardState: RefoundHardState(next),
		Entries: []*raftpb.Entry{{
			Term: new(uint64(refoundTerm)), Index: &next, Type: raftpb.EntryNormal.Enum(),
			Data: appendFrame(nil, frameHeader{origin: id.RaftID, session: id.Session, seq: 1}, messages),
		}},
		Sync: true,
	}
}

// RefoundHardState is what raft knows of a log that begins so, up to an index.
func RefoundHardState(commit uint64) *raftpb.HardState {
	return &raftpb.HardState{Term: new(uint64(refoundTerm)), Vote: new(uint64(0)), Commit: &commit}
}
