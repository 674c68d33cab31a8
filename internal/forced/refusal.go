package forced

import (
	"fmt"

	"github.com/concordatdb/concordat/gtid"
)

// Reason is why a membership is not forced, or a step of it not taken. The
// values travel between members.
type Reason byte

// The reasons.
const (
	// EmptyList: no survivor is listed.
	EmptyList Reason = 1
	// CoordinatorNotListed: the member that is to do it would be left out.
	CoordinatorNotListed Reason = 2
	// NotMember: it is not in the present view.
	NotMember Reason = 3
	// NoVote: it is RECOVERING.
	NoVote Reason = 4
	// Unreachable: it did not answer.
	Unreachable Reason = 5
	// OtherGroup: it belongs to another group.
	OtherGroup Reason = 6
	// OtherIncarnation: it belongs to another incarnation of the group.
	OtherIncarnation Reason = 7
	// HasQuorum: the group can decide by itself.
	HasQuorum Reason = 8
	// HealsByItself: those listed are a majority and need no force.
	HealsByItself Reason = 9
	// FrozenForOther: it takes part in another plan.
	FrozenForOther Reason = 10
	// AdoptedOther: the group goes on by another plan already.
	AdoptedOther Reason = 11
	// TooFarBehind: its log cannot be continued from the seed's.
	TooFarBehind Reason = 12
	// OtherHistory: what it holds as committed is not in the seed's log.
	OtherHistory Reason = 13
	// Unsettled: it has not delivered the view of its incarnation yet.
	Unsettled Reason = 14
	// UnknownPlan: nobody who answers takes part in the plan.
	UnknownPlan Reason = 15
	// OtherPlan: the order is not the one that the plan's id stands for.
	OtherPlan Reason = 16
	// NotFrozen: it has not frozen for the plan.
	NotFrozen Reason = 17
	// NotAligned: its log is not the seed's yet.
	NotAligned Reason = 18
	// OtherDecision: the decision cannot have been made of what it said.
	OtherDecision Reason = 19
	// Damaged: what it says cannot be, or its disk failed.
	Damaged Reason = 20
)

// reasonWords are short names for people and scripts, by Reason.
var reasonWords = [...]string{
	EmptyList: "empty list", CoordinatorNotListed: "coordinator not listed",
	NotMember: "not a member", NoVote: "no vote", Unreachable: "unreachable",
	OtherGroup: "other group", OtherIncarnation: "other incarnation",
	HasQuorum: "has quorum", HealsByItself: "heals by itself",
	FrozenForOther: "frozen for another plan", AdoptedOther: "another plan adopted",
	TooFarBehind: "too far behind", OtherHistory: "other history", Unsettled: "unsettled",
	UnknownPlan: "unknown plan", OtherPlan: "other plan", NotFrozen: "not frozen",
	NotAligned: "not aligned", OtherDecision: "other decision", Damaged: "damaged",
}

// String returns the reason as a few words.
func (r Reason) String() string {
	if int(r) < len(reasonWords) && reasonWords[r] != "" {
		return reasonWords[r]
	}
	return fmt.Sprintf("Reason(%d)", byte(r))
}

// RefusedError says why the membership is not forced, or a step not taken.
// Nothing was changed by what was refused.
type RefusedError struct {
	Reason Reason
	Member gtid.UUID // about whom; zero when about nobody in particular
	Text   string    // a sentence for the operator: what is wrong and what to do
}

// Error names the member, if it is about one, and says what to do. It is read by
// operators: who hands it on says of what it is the refusal.
func (e *RefusedError) Error() string {
	if e.Member.IsZero() {
		return e.Text
	}
	return fmt.Sprintf("member %s %s", e.Member, e.Text)
}

// Unanswered reports whether it is for a member that did not answer, so that the
// same may be taken later.
func (e *RefusedError) Unanswered() bool { return e.Reason == Unreachable }

// refuse makes a *RefusedError about a member. The text goes on a sentence that
// begins with the member; without one it is the sentence.
func refuse(r Reason, member gtid.UUID, format string, args ...any) error {
	return &RefusedError{Reason: r, Member: member, Text: fmt.Sprintf(format, args...)}
}
