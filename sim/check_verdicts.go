package sim

import (
	"fmt"
	"slices"

	"github.com/concordatdb/concordat/certifier"
	"github.com/concordatdb/concordat/election"
)

// sameVerdict checks P4: the same verdict, GTID and interval at the same
// position, on every member, whether it delivers the first time or again; and the
// same primary, rights and planned changes.
type sameVerdict struct{ indifferent }

func (*sameVerdict) promise() string { return "P4" }

func (*sameVerdict) delivered(by string, e, first *entry) string {
	if first == nil {
		return ""
	}
	if len(e.judged) != len(first.judged) {
		return fmt.Sprintf("%s judges %d transactions at %d, where %d were judged", by, len(e.judged), e.index, len(first.judged))
	}
	for i, j := range e.judged {
		if f := first.judged[i]; j != f {
			return fmt.Sprintf("%s at %d: transaction %s is %s, where transaction %s was %s",
				by, e.index, j.id, verdictText(j.verdict), f.id, verdictText(f.verdict))
		}
	}
	if !e.executed.Equal(first.executed) {
		return fmt.Sprintf("%s has executed %s at %d, where it was %s", by, e.executed, e.index, first.executed)
	}
	if text := sameElection(e.election, first.election); text != "" {
		return fmt.Sprintf("%s at %d: %s", by, e.index, text)
	}
	return ""
}

// sameElection says how what an entry made of an election differs from what it
// made of it elsewhere.
func sameElection(a, b *election.Snapshot) string {
	switch {
	case a == nil && b == nil:
	case a == nil || b == nil:
		return fmt.Sprintf("the election changes: %t, and changed: %t", a != nil, b != nil)
	case a.Epoch != b.Epoch || a.Began != b.Began || a.View != b.View || a.Mode != b.Mode || a.Protocol != b.Protocol || a.Primary != b.Primary:
		return fmt.Sprintf("epoch %d of view %d, %s, has primary %x, where it was epoch %d of view %d, %s, with %x",
			a.Epoch, a.View, a.Mode, a.Primary, b.Epoch, b.View, b.Mode, b.Primary)
	case !slices.Equal(a.Members, b.Members):
		return fmt.Sprintf("members and rights are %+v, where they were %+v", a.Members, b.Members)
	case !slices.Equal(a.Past, b.Past):
		return fmt.Sprintf("the last epochs are %+v, where they were %+v", a.Past, b.Past)
	case (a.Action == nil) != (b.Action == nil) || a.Action != nil && !sameAction(*a.Action, *b.Action):
		return fmt.Sprintf("%+v is open, where %+v was", a.Action, b.Action)
	case !slices.EqualFunc(a.Done, b.Done, sameOutcome):
		return fmt.Sprintf("the last actions are %+v, where they were %+v", a.Done, b.Done)
	}
	return ""
}

func sameAction(a, b election.Action) bool {
	return a.ID == b.ID && a.Kind == b.Kind && a.Epoch == b.Epoch && a.View == b.View && a.Target == b.Target && a.Protocol == b.Protocol &&
		a.Grace == b.Grace && a.Force == b.Force && a.Reason == b.Reason && a.Index == b.Index && a.Asker == b.Asker &&
		slices.Equal(a.Pending, b.Pending) && a.Cut == b.Cut
}

func sameOutcome(a, b election.Outcome) bool {
	return sameAction(a.Action, b.Action) && a.Result == b.Result && a.Again == b.Again && a.Ended == b.Ended && a.Text == b.Text
}

func verdictText(v certifier.Verdict) string {
	switch v.Outcome {
	case certifier.Certified:
		return fmt.Sprintf("certified as %s (%d, %d)", v.GTID, v.LastCommitted, v.Sequence)
	case certifier.Conflict:
		return fmt.Sprintf("in conflict with %s on its item %d, range %d (%v after %v)",
			v.Clash.Winner, v.Clash.Item, v.Clash.Range, v.Clash.Incoming, v.Clash.Earlier)
	case certifier.Duplicate:
		return fmt.Sprintf("a duplicate of %s", v.GTID)
	case certifier.SnapshotTooOld, certifier.Exhausted, certifier.GTIDTaken, certifier.GTIDSpread, certifier.Unreadable, certifier.Fenced, certifier.GivenUp, certifier.TooLarge, certifier.Unapplied:
	}
	return v.Outcome.String()
}
