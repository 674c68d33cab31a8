package sim

import (
	"strings"
	"testing"

	"github.com/concordatdb/concordat/applier"
	"github.com/concordatdb/concordat/certifier"
)

// TestConsumerChecker checks that a change which is not the next one, or not what its
// client wrote, is noticed.
func TestConsumerChecker(t *testing.T) {
	r := newRecord(t)
	r.checkers = nil // they watch over what is not the matter here
	first, lost, second, third := r.submits(0, 1), r.submits(0, 1), r.submits(1, 2), r.submits(2, 3)
	third.handed = 7
	conflict := certifier.Verdict{Outcome: certifier.Conflict}
	r.deliver("m0", r.entry(1, 2, judge(first, r.certified(1, 0)), judge(lost, conflict), judge(second, r.certified(2, 1))))
	r.deliver("m0", r.entry(2, 3, judge(third, r.certified(3, 2))))
	good := func(s *submission, index uint64, number uint32, gtid uint64) *applier.ChangeRecord {
		c := &applier.ChangeRecord{Index: index, Number: number, GTID: r.certified(gtid, 0).GTID, Time: s.handed}
		for i := range s.writes {
			c.Payload = applier.AppendMutation(c.Payload, s.writes[i].mutation())
		}
		return c
	}
	for _, c := range []struct {
		what   string
		before uint64
		change *applier.ChangeRecord
		says   string
	}{
		{"the first", 0, good(first, 1, 0, 1), ""},
		{"the second of its entry", 1, good(second, 1, 1, 2), ""},
		{"the third", 2, good(third, 2, 0, 3), ""},
		{"one again", 1, good(first, 1, 0, 1), "the transaction 1, behind 1"},
		{"one left out", 1, good(third, 2, 0, 3), "the transaction 3, behind 1"},
		{"a place with nothing", 3, good(third, 3, 0, 3), "nobody has delivered"},
		{"a number too many", 3, good(third, 2, 1, 3), "where 1 were certified"},
		{"the GTID of another", 2, good(third, 2, 0, 2), "where"},
		{"what its client did not write", 2, func() *applier.ChangeRecord {
			c := good(second, 2, 0, 3)
			c.Time = 7
			return c
		}(), "its client did not write"},
		{"another time", 2, func() *applier.ChangeRecord {
			c := good(third, 2, 0, 3)
			c.Time = 8
			return c
		}(), "time 8"},
	} {
		got := r.change(c.change, c.before)
		if (got == "") != (c.says == "") || !strings.Contains(got, c.says) {
			t.Errorf("%s: %q, want %q in it", c.what, got, c.says)
		}
	}
	if len(r.broken) > 0 {
		t.Errorf("the history itself: %v", r.broken)
	}
}
