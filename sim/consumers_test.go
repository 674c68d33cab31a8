package sim

import (
	"strings"
	"testing"

	"github.com/concordatdb/concordat/applier"
	"github.com/concordatdb/concordat/certifier"
	"github.com/concordatdb/concordat/internal/replica"
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

// TestConsumerOfFormer checks that a consumer whose member went over to another
// incarnation after it looked last is not measured by the former one at the end.
func TestConsumerOfFormer(t *testing.T) {
	w, r := quietWorld()
	m, former, next := r.member, w.histories[0], newRecord(t)
	next.checkers = nil // they watch over what is not the matter here
	s := next.submits(0, 1)
	next.deliver(m.name, next.entry(1, 1, judge(s, next.certified(1, 0))))
	w.plan.consumers = consumersPlan{keep: 10, most: 1}
	w.phase, m.engine = over, w.newEngine()
	r.replica, r.state, r.history = &replica.Replica{}, replica.Online, former
	c := &consumer{world: w}
	w.consumers = []*consumer{c}
	if c.take(); c.member != m || c.history != former {
		t.Fatal("the consumer does not begin")
	}

	w.histories = []*history{next.history}
	m.run = &run{member: m, world: w, record: r.record, replica: r.replica, state: r.state, history: next.history}
	err := m.engine.Apply(applier.Batch{
		Transactions: []applier.Transaction{{
			GTID: next.certified(1, 0).GTID, Index: 1, Time: s.handed, Payload: applier.AppendMutation(nil, s.writes[0].mutation()),
		}},
		To: applier.Position{Index: 1, Executed: next.set(1)},
	})
	if err != nil {
		t.Fatal(err)
	}
	w.finishConsumers()
	if w.fault != nil || c.history != next.history || c.count != 1 {
		t.Errorf("%v; it has %d transactions", w.fault, c.count)
	}
	if len(next.broken) > 0 {
		t.Errorf("the history itself: %v", next.broken)
	}
}
