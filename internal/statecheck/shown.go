package statecheck

import (
	"slices"

	"github.com/concordatdb/concordat/applier"
	"github.com/concordatdb/concordat/gtid"
)

// Verdict is what the group has come to about a transaction that an engine could not
// apply.
type Verdict byte

// The verdicts.
const (
	// Open: some have not said yet what they did.
	Open = Verdict(undecided)
	// Decided: more than half say the same.
	Decided = Verdict(decided)
	// Hopeless: nothing will be what more than half say.
	Hopeless = Verdict(hopeless)
)

// Said is what a member did with a transaction.
type Said struct {
	By    Member
	Class applier.Class // why it could not apply it, ClassNone if it has
}

// Vote is what the group knows of one transaction that an engine could not apply.
type Vote struct {
	Of    gtid.GTID
	Index uint64 // log index at which the group heard of it first
	Said  []Said
	// Missing are the members that have yet to say what they did.
	Missing []Member
	Verdict Verdict
	Class   applier.Class // if Decided: ClassNone where it stands, else why it is applied nowhere
}

// FaultsSnapshot is what a member shows of the transactions that engines could not
// apply. Its slices must not be changed.
type FaultsSnapshot struct {
	Refused uint64  // that are applied nowhere, since the group began
	Votes   []Vote  // the last, oldest first
	Odd     []Fault // who did lately what more than half did not, oldest first
}

// Snapshot returns what is known now. While nothing changes it is the same one: it is
// asked for far more often than an engine fails.
func (f *Faults) Snapshot() FaultsSnapshot {
	if f.shown == nil {
		s := FaultsSnapshot{Refused: f.refused.Count(), Odd: slices.Clone(f.faults)}
		for i := range f.votes {
			s.Votes = append(s.Votes, f.votes[i].shown())
		}
		f.shown = &s
	}
	return *f.shown
}

func (v *vote) shown() Vote {
	out := Vote{Of: v.of, Index: v.index, Verdict: Verdict(v.verdict), Class: v.class}
	for _, o := range v.opinions {
		party := slices.IndexFunc(v.parties, func(m Member) bool { return m.RaftID == o.by })
		out.Said = append(out.Said, Said{By: v.parties[party], Class: o.class})
	}
	for _, m := range v.parties {
		if !v.said(m.RaftID) {
			out.Missing = append(out.Missing, m)
		}
	}
	return out
}
