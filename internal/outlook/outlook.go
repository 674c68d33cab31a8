// Package outlook says how a group stands, what its operator should do about
// it, and what a change of its membership would lead to.
//
// It owns the arithmetic of votes, the diagnoses and the rules by which an
// operator's change is refused. It promises that all of it depends on nothing
// but the arguments, that a text names who is meant and what helps, and that a
// change without an objection leaves a group that can go on. It must never know
// how a member is found to be silent, or how a change is carried out.
package outlook

import (
	"slices"

	"github.com/concordatdb/concordat/gcs"
)

// Outlook is how a group stands as one observer sees it.
type Outlook struct {
	Members    int // in the view
	Voters     int // of those ONLINE by the view, heard or not; no other has a vote
	Recovering int // of those RECOVERING: they learn and do not vote
	Reachable  int // voters that the observer hears
	Quorum     int // voters that must be there for anything to commit
	Tolerance  int // how many more of the reachable voters may fail before the quorum is lost
}

// Of returns how the group of a view stands for an observer that does not hear
// the members with the given raft ids. Ids of nobody in the view do not count.
func Of(v gcs.View, unreachable []uint64) Outlook {
	o := Outlook{Members: len(v.Members), Quorum: v.Quorum()}
	for _, m := range v.Members {
		switch {
		case m.State != gcs.Online:
			o.Recovering++
		case slices.Contains(unreachable, m.RaftID):
			o.Voters++
		default:
			o.Voters++
			o.Reachable++
		}
	}
	o.Tolerance = max(0, o.Reachable-o.Quorum)
	return o
}

// HasQuorum reports whether enough voters are reachable for anything to commit.
func (o Outlook) HasQuorum() bool { return o.Reachable >= o.Quorum }
