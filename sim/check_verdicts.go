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
		return fmt.Sprintf("in conflict with %s on its item %d", v.Clash.Winner, v.Clash.Item)
	case certifier.SnapshotTooOld, certifier.Exhausted, certifier.GTIDTaken, certifier.Duplicate:
	}
	return v.Outcome.String()
}

// oracle is a second certifier, exact and without bounds, that P4's common
// verdict has to agree with. It knows transactions by their place in one
// sequence and keys by name: a transaction conflicts when a key that it writes
// was written by a transaction that its snapshot does not contain.
//
// What is too old depends on where marks may fall. The oracle only knows that
// a mark at a log index never forgets what came after that index.
type oracle struct {
	indifferent
	history   *history
	certified uint64
	writer    map[key]uint64 // number of the last certified transaction that wrote it
	reached   []uint64       // by log index: certified up to and including it
	marked    uint64         // certified up to the latest mark
}

func newOracle(h *history) *oracle { return &oracle{history: h, writer: map[key]uint64{}} }

func (*oracle) promise() string { return "P4" }

func (o *oracle) delivered(by string, e, first *entry) string {
	if first != nil {
		return ""
	}
	// A mark may stand before the transactions of its frame.
	if f, ok := readFrame(e.raw); ok && f.mark > 0 && f.mark < e.index {
		o.marked = max(o.marked, o.reached[f.mark-1])
	}
	for _, j := range e.judged {
		s := o.history.submits[j.id]
		if s == nil {
			continue // a violation of P2
		}
		if objection := o.judge(s, j.verdict); objection != "" {
			return fmt.Sprintf("%s at %d: transaction %s with a snapshot of %d transactions is %s; %s",
				by, e.index, j.id, s.seen, verdictText(j.verdict), objection)
		}
	}
	o.reached = append(o.reached, o.certified)
	if n := e.executed.Count(); n != o.certified {
		return fmt.Sprintf("%s has executed %s at %d, but %d transactions were certified", by, e.executed, e.index, o.certified)
	}
	return ""
}

// judge returns what is wrong with a verdict, "" if nothing is.
func (o *oracle) judge(s *submission, v certifier.Verdict) string {
	item, winner, last := -1, uint64(0), uint64(0)
	for i, w := range s.writes {
		n := o.writer[w.key]
		last = max(last, n)
		if n > s.seen && item < 0 {
			item, winner = i, n
		}
	}
	switch v.Outcome {
	case certifier.Certified:
		if item >= 0 {
			return fmt.Sprintf("%s was written by transaction %d", s.writes[item].key, winner)
		}
		return o.certify(s, v, last)
	case certifier.Conflict:
		if item < 0 {
			return "the snapshot contains every writer of its keys"
		}
		if v.Clash.Item != item || v.Clash.Winner.Number != winner {
			return fmt.Sprintf("the first conflict is on item %d, %s, with transaction %d", item, s.writes[item].key, winner)
		}
	case certifier.SnapshotTooOld:
		if s.seen >= o.marked {
			return fmt.Sprintf("the latest history mark is at transaction %d", o.marked)
		}
	default:
		return "there are numbers left"
	}
	return ""
}

// certify checks number and interval. last is the last transaction that wrote
// one of the keys: the interval must reach it, and reach no further unless a
// mark made the certifier forget how far.
func (o *oracle) certify(s *submission, v certifier.Verdict, last uint64) string {
	o.certified++
	for _, w := range s.writes {
		o.writer[w.key] = o.certified
	}
	if v.GTID.UUID != o.history.group || v.GTID.Number != o.certified || v.Sequence != o.certified {
		return fmt.Sprintf("it is transaction %d of the group", o.certified)
	}
	if v.LastCommitted < last || v.LastCommitted > max(last, o.marked) {
		return fmt.Sprintf("it depends on transaction %d, and the latest history mark is at %d", last, o.marked)
	}
	return ""
}
