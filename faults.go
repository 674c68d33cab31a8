package concordat

import (
	"errors"
	"fmt"

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
		l.node.note(EventApplyFault, e.Faults[i].Member.UUID, "%s", faultText(&e.Faults[i]))
	}
}

func faultText(f *statecheck.Fault) string {
	did := func(c applier.Class) string {
		if c == applier.ClassNone {
			return "has applied it"
		}
		return fmt.Sprintf("cannot apply it (%s)", c)
	}
	return fmt.Sprintf("transaction %v: %s %s, and more than half: %s", f.Opinion.GTID, f.Member.UUID, did(f.Opinion.Class), did(f.Verdict))
}
