// Package outlook says how a group stands, what its operator should do about
// it, and what a change of its membership would lead to, for the quorum and for
// who writes.
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
//
// A voter whose disk has stalled hears the others and is heard, so it is
// reachable, ONLINE, and part of the quorum by which its side of a broken network
// is told from a minority. But its vote and its acknowledgements are to be
// durable before they leave, so nothing commits with its help: for what may fail
// besides, and for whether anything commits, it counts as one that has failed.
type Outlook struct {
	Members    int // in the view
	Voters     int // of those ONLINE by the view, heard or not; no other has a vote
	Recovering int // of those RECOVERING: they learn and do not vote
	Reachable  int // voters that the observer hears
	Stalled    int // of those reachable, voters whose disks do not answer
	Quorum     int // voters that must be there for anything to commit
	Tolerance  int // how many more of the reachable voters with a disk that answers may fail before nothing commits
}

// Of returns how the group of a view stands for an observer that does not hear
// the members with the given raft ids, and to whom others say that their disks
// have stalled. Ids of nobody in the view do not count.
func Of(v gcs.View, unreachable []uint64, stalled ...uint64) Outlook {
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
			if slices.Contains(stalled, m.RaftID) {
				o.Stalled++
			}
		}
	}
	o.Tolerance = max(0, o.sound()-o.Quorum)
	return o
}

// HasQuorum reports whether the observer is on the side of a majority.
func (o Outlook) HasQuorum() bool { return o.Reachable >= o.Quorum }

// Commits reports whether enough of the reachable voters can promise to keep
// something for it to commit. There is no such majority without a quorum.
func (o Outlook) Commits() bool { return o.sound() >= o.Quorum }

// sound is the number of voters that are heard and whose disks answer.
func (o Outlook) sound() int { return o.Reachable - o.Stalled }
