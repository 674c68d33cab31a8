package forced

import (
	"fmt"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/concordatdb/concordat/gcs"
	"github.com/concordatdb/concordat/gtid"
)

// Adopt takes the last step: it returns what the member's log becomes, with the
// record next in it, in one atomic write; after that the member may run. id is
// the log's identity. The adoption is nil when the member has adopted already.
// The error is a *RefusedError, or of the log.
func (r *Record) Adopt(d Decision, id gcs.Identity, log gcs.LogReader) (a *gcs.Adoption, next Record, err error) {
	work, err := r.Align(d, log)
	switch {
	case err != nil:
		return nil, *r, err
	case r.Phase == Adopted:
		return nil, *r, nil
	case !work.Done() || work.Cut > 0:
		return nil, *r, refuse(NotAligned, r.Facts.Member, "lacks the entries from %d to %d of plan %s; run the plan again with its id", work.From, work.To, d.Plan)
	case id.Group != d.Group || id.Member != r.Facts.Member || id.RaftID != r.Facts.RaftID || id.Incarnation != d.Ends:
		return nil, *r, refuse(Damaged, r.Facts.Member, "has the log of member %s, raft id %d, of incarnation %s: it is not the one that froze; leave it out",
			id.Member, id.RaftID, id.Incarnation)
	}
	forced, err := gcs.ForcedEntry(d.Term, d.Last+1, d.change())
	if err != nil {
		return nil, *r, fmt.Errorf("forced: %w", err)
	}
	next = *r
	next.Phase, next.Decision = Adopted, d
	id.Incarnation = d.Begins
	return &gcs.Adoption{
		Identity:  id,
		HardState: &raftpb.HardState{Term: new(d.Term), Vote: new(uint64(0)), Commit: new(d.Last + 1)},
		Last:      d.Last,
		Entries:   []*raftpb.Entry{forced},
		Record:    next.Append(nil),
	}, next, nil
}

// CheckIdentity tells a member's record from one that belongs to an earlier
// life of the directory: nil when a log with this identity can have it. A
// member that joined anew has another raft id, and its record must be removed
// with its old log, in the same write.
func (r *Record) CheckIdentity(id gcs.Identity) error {
	if r.Phase == Free {
		return nil
	}
	if id.Group != r.Facts.Group || id.Member != r.Facts.Member || id.RaftID != r.Facts.RaftID {
		return refuse(Damaged, gtid.UUID{}, "the record of plan %s is of member %s, raft id %d, the log of member %s, raft id %d; remove the directory and join anew",
			r.Order.Plan, r.Facts.Member, r.Facts.RaftID, id.Member, id.RaftID)
	}
	if want := r.incarnation(); id.Incarnation != want {
		return refuse(Damaged, gtid.UUID{}, "the log is of incarnation %s, the record, %s for plan %s, of %s; remove the directory and join anew",
			id.Incarnation, r.Phase, r.Order.Plan, want)
	}
	return nil
}

// incarnation is the one that the member is of, with a part in a plan.
func (r *Record) incarnation() gtid.UUID {
	if r.Phase == Adopted {
		return r.Order.Begins
	}
	return r.Order.Ends
}
