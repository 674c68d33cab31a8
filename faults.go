package concordat

import (
	"errors"
	"fmt"
	"strings"

	"github.com/concordatdb/concordat/applier"
	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/internal/replica"
	"github.com/concordatdb/concordat/internal/statecheck"
)

// ErrUnapplied: the transaction passed certification, and then no member's engine
// could apply it. It is applied nowhere, its GTID is used up and stands for nothing,
// and running it again as it is leads to the same. The error is an *UnappliedError.
var ErrUnapplied = errors.New("concordat: no engine can apply the transaction; nothing happened, do not run it again as it is")

// UnappliedError names a transaction that no engine could apply. It matches
// [ErrUnapplied], and [ErrInvalid], for it is what was handed over that is wrong.
type UnappliedError struct{ GTID gtid.GTID }

// Error names the transaction's GTID.
func (e *UnappliedError) Error() string { return fmt.Sprintf("%v (GTID %v)", ErrUnapplied, e.GTID) }

// Is reports whether target is ErrUnapplied or ErrInvalid.
func (e *UnappliedError) Is(target error) bool { return target == ErrUnapplied || target == ErrInvalid }

// errStopped ends the feeding of an engine that waited for the others' word when
// its life ended.
var errStopped = errors.New("concordat: the life has ended")

// word is what the others say of a transaction at which the engine waits.
type word struct {
	of   gtid.GTID
	skip bool // go on without it; else the fault is this member's own
}

// mayBeShared reports whether an engine's error is one that the other members can
// meet, too, and at which transaction.
func mayBeShared(err error) (at gtid.GTID, class applier.Class, shared bool) {
	fault, named := errors.AsType[*applier.TransactionError](err)
	if class = applier.ClassOf(err); !named || class == applier.ClassNone {
		return at, class, false
	}
	return fault.GTID, class, true
}

// ask waits with a transaction that the engine cannot apply, for a reason that the
// members can compare, until more than half have said what they did with it. It
// returns nil if it is to be left out; else the error is this member's own.
func (l *life) ask(at gtid.GTID, class applier.Class, cause error) error {
	l.node.note(EventApplyFault, l.node.id.Member, "the engine cannot apply %v (%s), and waits for the other members' word: %v", at, class, cause)
	l.inbox.put(replica.Faulted{GTID: at, Class: class})
	switch skip, err := l.await(at); {
	case err != nil:
		return err
	case !skip:
		return fmt.Errorf("the other members could apply what this one cannot, or will not say: %w", cause)
	}
	return nil
}

// await waits for the word on a transaction.
func (l *life) await(g gtid.GTID) (skip bool, err error) {
	var words []word
	for ok := true; ok; {
		if words, ok = l.words.take(words); !ok {
			break
		}
		for _, w := range words {
			if w.of == g {
				return w.skip, nil
			}
		}
	}
	return false, errStopped
}

// told gives the engine the others' word, and the history what came of it.
func (l *life) told(e *replica.Effects) {
	for _, g := range e.Skips {
		l.words.put(word{of: g, skip: true})
	}
	for _, g := range e.Stands {
		l.words.put(word{of: g})
	}
	for _, g := range e.Unapplied {
		l.node.note(EventUnapplied, gtid.UUID{}, "%v is applied nowhere: the engines of more than half of the members cannot", g)
	}
	for i := range e.Faults {
		l.node.note(EventApplyFault, e.Faults[i].Member.UUID, "%v", applyFault(&e.Faults[i]))
	}
}

// ApplyFaults is what the group knows of the transactions that certification has let
// pass and an engine could not apply: replicated, so a member that restarts or joins
// knows it too.
type ApplyFaults struct {
	Refused uint64 // transactions that are applied nowhere, since the group began
	// Votes are about the last sixteen that an engine could not apply, oldest first.
	Votes []ApplyVote
	// Odd are the last eight members that did what more than half did not, oldest
	// first.
	Odd []ApplyFault
}

// ApplyVerdict is what the group has come to about a transaction that an engine could
// not apply.
type ApplyVerdict string

// The verdicts.
const (
	ApplyOpen    ApplyVerdict = "OPEN"    // some have not said yet what they did; whose engine cannot apply it waits for that
	ApplyStands  ApplyVerdict = "STANDS"  // more than half have applied it
	ApplyRefused ApplyVerdict = "REFUSED" // more than half cannot, for one reason: it is applied nowhere
	ApplySplit   ApplyVerdict = "SPLIT"   // no more than half did the same; whose engine cannot apply it has failed alone
)

// ApplyOpinion is what a member did with a transaction.
type ApplyOpinion struct {
	Member gtid.UUID
	Class  applier.Class // why its engine could not apply it, applier.ClassNone if it has
}

// ApplyVote is what members did with a transaction that an engine could not apply.
type ApplyVote struct {
	GTID  gtid.GTID
	Index uint64 // log index at which the group heard of it first
	Said  []ApplyOpinion
	// Missing are the members that have yet to say what they did.
	Missing []gtid.UUID
	Verdict ApplyVerdict
	Class   applier.Class // why, with ApplyRefused
}

// String says what has become of the transaction, in a sentence.
func (v ApplyVote) String() string {
	said := make([]string, 0, len(v.Said)+1)
	for _, o := range v.Said {
		said = append(said, fmt.Sprintf("%s %s", o.Member, didWith(o.Class)))
	}
	if len(v.Missing) > 0 {
		said = append(said, fmt.Sprintf("%v have not said what they did", v.Missing))
	}
	what := map[ApplyVerdict]string{
		ApplyOpen: "an engine cannot apply it, and waits for the other members' word", ApplyStands: "more than half have applied it",
		ApplyRefused: "it is applied nowhere", ApplySplit: "no more than half did the same with it, and whose engine cannot apply it has failed",
	}[v.Verdict]
	return fmt.Sprintf("transaction %v, log index %d: %s: %s", v.GTID, v.Index, what, strings.Join(said, ", "))
}

// ApplyFault is a member that did not do with a transaction what more than half did.
type ApplyFault struct {
	Index  uint64 // log index at which that was found
	Member gtid.UUID
	GTID   gtid.GTID
	// Class is why its engine could not apply the transaction, and Others why those of
	// more than half could not; applier.ClassNone where it was applied.
	Class, Others applier.Class
}

// String says who did what, in a sentence.
func (f ApplyFault) String() string {
	return fmt.Sprintf("transaction %v: %s %s, and more than half: %s", f.GTID, f.Member, didWith(f.Class), didWith(f.Others))
}

func didWith(c applier.Class) string {
	if c == applier.ClassNone {
		return "has applied it"
	}
	return fmt.Sprintf("cannot apply it (%s)", c)
}

func applyFault(f *statecheck.Fault) ApplyFault {
	return ApplyFault{Index: f.Index, Member: f.Member.UUID, GTID: f.Opinion.GTID, Class: f.Opinion.Class, Others: f.Verdict}
}

func applyFaults(s *statecheck.FaultsSnapshot) ApplyFaults {
	out := ApplyFaults{Refused: s.Refused}
	for i := range s.Votes {
		out.Votes = append(out.Votes, applyVote(&s.Votes[i]))
	}
	for i := range s.Odd {
		out.Odd = append(out.Odd, applyFault(&s.Odd[i]))
	}
	return out
}

func applyVote(v *statecheck.Vote) ApplyVote {
	out := ApplyVote{GTID: v.Of, Index: v.Index, Verdict: ApplyOpen, Class: v.Class}
	switch {
	case v.Verdict == statecheck.Hopeless:
		out.Verdict = ApplySplit
	case v.Verdict == statecheck.Decided && v.Class == applier.ClassNone:
		out.Verdict = ApplyStands
	case v.Verdict == statecheck.Decided:
		out.Verdict = ApplyRefused
	}
	for _, s := range v.Said {
		out.Said = append(out.Said, ApplyOpinion{Member: s.By.UUID, Class: s.Class})
	}
	for _, m := range v.Missing {
		out.Missing = append(out.Missing, m.UUID)
	}
	return out
}
