package sim

import (
	"fmt"

	"github.com/concordatdb/concordat/certifier"
)

// sameVerdict checks P4: the same verdict, GTID and interval at the same
// position, on every member, whether it delivers the first time or again.
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
	return ""
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
	case certifier.SnapshotTooOld, certifier.Exhausted, certifier.GTIDTaken, certifier.GTIDSpread, certifier.Unreadable, certifier.Fenced:
	}
	return v.Outcome.String()
}
