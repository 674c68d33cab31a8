package forced

import (
	"fmt"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/concordatdb/concordat/gcs"
	"github.com/concordatdb/concordat/gtid"
)

// Phase is how far a member has gone with a plan. The values are part of the
// record's format.
type Phase byte

// The phases.
const (
	// Free: the member has had no part in a plan.
	Free Phase = 0
	// Frozen: it says nothing more in the incarnation that the plan ends, and
	// must not run its state machine.
	Frozen Phase = 1
	// Adopted: it went over to the incarnation that the plan began.
	Adopted Phase = 2
)

// String returns the phase as a word.
func (p Phase) String() string {
	switch p {
	case Free:
		return "free"
	case Frozen:
		return "frozen"
	case Adopted:
		return "adopted"
	}
	return fmt.Sprintf("Phase(%d)", byte(p))
}

// Record is a survivor's state machine, and what it keeps durably beside its
// log. The zero value is that of a member without part in any plan.
//
// It is a value: a step returns the next record, which counts only once it is
// durable. The steps of one member follow each other, each on the record that
// the one before left on disk: work for an earlier step that is still under
// way, an alignment above all, must have ended.
type Record struct {
	Phase Phase
	Order Order
	// Facts are those of when the member froze. They do not change, whatever
	// becomes of the log, so that everybody who asks decides the same.
	Facts Facts
	// Decision is the one adopted, the zero value before.
	Decision Decision
}

// MayRun reports whether the member may run its state machine, and speak to
// others about anything but a plan.
func (r *Record) MayRun() bool { return r.Phase != Frozen }

// In reports whether r is about a plan.
func (r *Record) In(plan gtid.UUID) bool { return r.Phase != Free && r.Order.Plan == plan }

// Freeze takes the first step of a plan. now is what the member says of itself
// after its raft has stopped and its log's writer is done: nothing is promised
// to anybody that is not in it. changed is false when the member is frozen for
// the plan, or has adopted it: the answer is the record that there is. The error
// is a *RefusedError; the member may then go on as before, frozen or not.
func (r *Record) Freeze(o Order, now Survey) (next Record, changed bool, err error) {
	if reason := o.flaw(); reason != "" {
		return *r, false, refuse(OtherPlan, gtid.UUID{}, "%s", reason)
	}
	if r.In(o.Plan) {
		if !r.Order.equal(&o) {
			return *r, false, r.otherPlan(&o)
		}
		return *r, false, nil
	}
	if err := r.mayFreeze(&o, &now); err != nil {
		return *r, false, err
	}
	return Record{Phase: Frozen, Order: o, Facts: now.Facts}, true, nil
}

func (r *Record) otherPlan(o *Order) error {
	return refuse(OtherPlan, r.Facts.Member, "knows plan %s with other survivors or of another incarnation; draw a new plan", o.Plan)
}

// mayFreeze checks an order that is new to the member.
func (r *Record) mayFreeze(o *Order, now *Survey) error {
	switch {
	case now.Group != o.Group:
		return refuse(OtherGroup, now.Member, "belongs to group %s, the plan is for %s", now.Group, o.Group)
	case !o.has(now.Member, now.RaftID):
		return refuse(NotMember, now.Member, "with raft id %d is not one of the survivors of plan %s", now.RaftID, o.Plan)
	case now.Incarnation != o.Ends:
		return refuse(OtherIncarnation, now.Member, "is of incarnation %s, the plan ends %s; draw a new plan", now.Incarnation, o.Ends)
	}
	if err := now.settled(); err != nil {
		return err
	}
	if err := supersedes(r, now.Member, o.Supersedes); err != nil {
		return err
	}
	if r.Phase == Frozen && contains(r.Order.Supersedes, o.Plan) {
		return refuse(FrozenForOther, now.Member, "is frozen for plan %s, which superseded this one", r.Order.Plan)
	}
	if now.Quorum && r.MayRun() {
		return refuse(HasQuorum, now.Member, "has quorum: the group decides by itself, remove members in the ordinary way")
	}
	if err := now.sure(); err != nil {
		return err
	}
	if reason := now.flaw(); reason != "" {
		return refuse(Damaged, now.Member, "%s; leave it out, it has to join anew", reason)
	}
	return nil
}

// settled checks that the member has come as far as the view with which its
// incarnation began.
func (f *Facts) settled() error {
	if f.View.Incarnation != f.Incarnation {
		return refuse(Unsettled, f.Member, "has not delivered the view with which its incarnation %s began; try again in a moment", f.Incarnation)
	}
	return nil
}

// sure checks that the member had the time to hear the others, or is frozen.
func (s *Survey) sure() error {
	if s.Unsure && s.Record.MayRun() {
		return refuse(Unsettled, s.Member, "runs for too short a time to know whether it has quorum; try again in a moment")
	}
	return nil
}

// supersedes checks that a member with record r may be frozen for a plan that
// supersedes others.
func supersedes(r *Record, member gtid.UUID, others []gtid.UUID) error {
	if r.Phase == Frozen && !contains(others, r.Order.Plan) {
		return refuse(FrozenForOther, member,
			"is frozen for plan %s, which somebody may be carrying out: run that one again with its id. If it is given up, draw a new plan, list this member, and name %s as superseded", r.Order.Plan, r.Order.Plan)
	}
	return nil
}

// of checks that the member takes part in a decision, which must be of its own
// record.
func (r *Record) of(d *Decision) error {
	if reason := d.flaw(); reason != "" {
		return refuse(OtherDecision, gtid.UUID{}, "%s", reason)
	}
	switch {
	case !r.In(d.Plan):
		return refuse(NotFrozen, r.Facts.Member, "takes no part in plan %s, it is %s", d.Plan, r.part())
	case !r.Order.equal(&d.Order):
		return r.otherPlan(&d.Order)
	case r.Phase == Adopted && !r.Decision.equal(d):
		return refuse(OtherDecision, r.Facts.Member, "has adopted another decision of plan %s", d.Plan)
	case d.Term <= max(r.Facts.Term, r.Facts.LastTerm()):
		return refuse(OtherDecision, r.Facts.Member, "froze in term %d, the decision is of term %d", r.Facts.Term, d.Term)
	case d.Seed == r.Facts.RaftID && (d.Last != r.Facts.Last || d.LastTerm != r.Facts.LastTerm()):
		return refuse(OtherDecision, r.Facts.Member, "froze with a log up to entry %d, as the seed it would have %d", r.Facts.Last, d.Last)
	}
	_, err := d.work(&r.Facts)
	return err
}

func (r *Record) part() string {
	if r.Phase == Free {
		return "in none"
	}
	return fmt.Sprintf("%s for plan %s", r.Phase, r.Order.Plan)
}

// Align takes the second step: it says what has to be done on the member's log,
// which is as it was left by whatever was done before. The error is a
// *RefusedError, or of the log.
func (r *Record) Align(d Decision, log gcs.LogReader) (Work, error) {
	if err := r.of(&d); err != nil {
		return Work{}, err
	}
	now := r.Facts
	if r.Phase == Adopted {
		return Work{From: d.Last + 1, To: d.Last}, nil
	}
	if err := now.ReadLog(log); err != nil {
		return Work{}, err
	}
	if now.Commit > now.Last {
		return Work{}, refuse(Damaged, now.Member, "lost entries that it had when it froze: its log ends at %d; leave it out", now.Last)
	}
	return d.work(&now)
}

// Take checks entries that came from the seed, and returns the work that is
// left once they are on disk, synced: they replace what the log has from w.From
// on. The error is a *RefusedError, and the entries must not be written.
func (w Work) Take(d *Decision, entries []*raftpb.Entry) (Work, error) {
	for _, e := range entries {
		if e.GetIndex() != w.From || w.Done() {
			return w, refuse(OtherDecision, gtid.UUID{}, "the seed sent entry %d, wanted was %d of those up to %d", e.GetIndex(), w.From, w.To)
		}
		if run, ok := termAt(d.Runs, w.From); ok && run.Term != e.GetTerm() || e.GetTerm() > d.LastTerm {
			return w, refuse(OtherDecision, gtid.UUID{}, "the seed sent entry %d of term %d, which is not what it froze with", w.From, e.GetTerm())
		}
		w.From++
		w.Cut = 0
	}
	return w, nil
}

// Serve says whether a survivor of a plan may be given the entries from first
// to last of this member's log: nil when it may. The error is a *RefusedError.
func (r *Record) Serve(plan gtid.UUID, first, last uint64) error {
	switch {
	case !r.In(plan):
		return refuse(NotFrozen, r.Facts.Member, "takes no part in plan %s, it is %s", plan, r.part())
	case first < r.Facts.First || last > r.Facts.Last || first > last:
		return refuse(TooFarBehind, r.Facts.Member, "froze with the entries from %d to %d, asked for were %d to %d",
			r.Facts.First, r.Facts.Last, first, last)
	}
	return nil
}
