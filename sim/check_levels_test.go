package sim

import (
	"strings"
	"testing"

	"github.com/concordatdb/concordat/applier"
	"github.com/concordatdb/concordat/certifier"
	"github.com/concordatdb/concordat/election"
	"github.com/concordatdb/concordat/gcs"
	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/internal/consistency"
	"github.com/concordatdb/concordat/internal/replica"
)

// audience is a record of a group of two members, with those who begin
// transactions there.
type audience struct {
	*record
	time int64
	runs [3]*runRecord // by raft id
}

func newAudience(t *testing.T) *audience {
	a := &audience{record: newRecord(t)}
	a.now = func() int64 { return a.time }
	a.view = gcs.View{Members: []gcs.Member{{RaftID: 1, State: gcs.Online}, {RaftID: 2, State: gcs.Online}}}
	for id := uint64(1); id <= 2; id++ {
		a.runs[id] = &runRecord{member: []string{"", "m1", "m2"}[id], raftID: id, session: 1}
		a.history.runs = append(a.history.runs, a.runs[id])
	}
	return a
}

// asks has a client ask a member at a time to begin, which it does at once, with
// what is visible up to a log index. adjust may change what it asks for.
func (a *audience) asks(at int64, member int, level consistency.Level, index uint64, adjust ...func(*begun)) *begun {
	a.time = at
	s := &submission{id: replica.TransactionID{0xf0, byte(len(a.begins))}, snapshot: applier.Position{Index: index}}
	if index > 0 {
		s.snapshot.Executed = a.at(index).executed
		s.seen = s.snapshot.Executed.Count()
	}
	b := &begun{history: a.history, run: a.runs[member], work: s, asked: at, began: at, read: at, level: level}
	s.begun = b
	for _, f := range adjust {
		f(b)
	}
	a.begins = append(a.begins, b)
	a.tell(func(c checker) string { return c.began(b) })
	return b
}

// commits has a transaction of member 1 delivered that writes keys, after all that
// are there, at a level. It is answered at a time, never if that is 0.
func (a *audience) commits(at int64, level consistency.Level, keys ...int) *submission {
	n := uint64(len(a.entries))
	s := a.submits(n, keys...)
	s.handed = a.time
	s.after = level.WaitsAfter()
	s.begun = &begun{run: a.runs[1], work: s, level: level, asked: a.time, began: a.time}
	last := uint64(0)
	for _, k := range keys {
		for kind := range a.oracle.touched[key{registers, k}] {
			last = max(last, a.oracle.touched[key{registers, k}][kind])
		}
	}
	a.deliver("m1", a.entry(n+1, n+1, judge(s, a.certified(n+1, last))))
	if at > 0 {
		a.time = at
		s.acked = true
		s.begun.answered, s.begun.ended, s.begun.index = true, at, n+1
		s.begun.verdict.Outcome = certifier.Certified
		a.begins = append(a.begins, s.begun)
		a.tell(func(c checker) string {
			return c.answered("m1", s, replica.Answer{Index: n + 1, Verdict: a.certified(n+1, last)}, applier.Position{Index: n + 1})
		})
	}
	return s
}

const (
	eventual = consistency.Eventual
	failover = consistency.BeforeOnPrimaryFailover
	before   = consistency.Before
	everyone = consistency.After
)

// breachesOfLevels break P8, in histories that are sound otherwise.
var breachesOfLevels = []struct {
	what  string
	wrong bool
	play  func(a *audience)
}{
	{"EVENTUAL may be stale", false, func(a *audience) {
		a.commits(10, eventual, 1)
		a.asks(20, 2, eventual, 0)
	}},
	{"BEFORE shows what was acknowledged", false, func(a *audience) {
		a.commits(10, eventual, 1)
		a.asks(20, 2, before, 1)
	}},
	{"BEFORE may miss what was acknowledged meanwhile", false, func(a *audience) {
		a.commits(10, eventual, 1)
		a.asks(20, 2, before, 0, func(b *begun) { b.asked = 9 })
	}},
	{"BEFORE misses what was acknowledged", true, func(a *audience) {
		a.commits(10, eventual, 1)
		a.asks(20, 2, before, 0)
	}},
	{"BEFORE_AND_AFTER misses what was acknowledged", true, func(a *audience) {
		a.commits(10, eventual, 1)
		a.asks(20, 2, consistency.BeforeAndAfter, 0)
	}},
	{"BEFORE misses what was shown", true, func(a *audience) {
		a.commits(0, eventual, 1)
		a.asks(10, 1, eventual, 1)
		a.asks(20, 2, before, 0)
	}},
	{"AFTER is not shown while it is not answered", false, func(a *audience) {
		a.commits(0, everyone, 1)
		a.asks(20, 2, eventual, 0)
	}},
	{"AFTER was acknowledged and is missed", true, func(a *audience) {
		a.commits(10, everyone, 1)
		a.asks(20, 2, eventual, 0)
	}},
	{"AFTER was acknowledged and is missed by who is out of the view", false, func(a *audience) {
		a.commits(10, everyone, 1)
		a.view.Members = a.view.Members[:1]
		a.asks(20, 2, eventual, 0)
	}},
	{"AFTER was shown elsewhere and is missed", true, func(a *audience) {
		a.commits(0, everyone, 1)
		a.asks(10, 1, eventual, 1)
		a.asks(20, 2, eventual, 0)
	}},
	{"a later one was shown elsewhere and an AFTER one before it is missed", true, func(a *audience) {
		a.commits(0, everyone, 1)
		a.commits(0, eventual, 2)
		a.asks(10, 1, eventual, 2)
		a.asks(20, 2, eventual, 0)
	}},
	{"a change of primary that is not known", false, func(a *audience) {
		a.commits(0, eventual, 1)
		a.runs[2].epochs = []epochSeen{{election.Epoch{Number: 2, Index: 1}, 30}}
		a.asks(20, 2, failover, 0)
	}},
	{"EVENTUAL begins below a change of primary", false, func(a *audience) {
		a.commits(0, eventual, 1)
		a.runs[2].epochs = []epochSeen{{election.Epoch{Number: 2, Index: 1}, 10}}
		a.asks(20, 2, eventual, 0)
	}},
	{"BEFORE_ON_PRIMARY_FAILOVER begins below a change of primary", true, func(a *audience) {
		a.commits(0, eventual, 1)
		a.runs[2].epochs = []epochSeen{{election.Epoch{Number: 2, Index: 1}, 10}}
		a.asks(20, 2, failover, 0)
	}},
	{"AFTER begins below a change of primary", true, func(a *audience) {
		a.commits(0, eventual, 1)
		a.runs[2].epochs = []epochSeen{{election.Epoch{Number: 2, Index: 1}, 10}}
		a.asks(20, 2, everyone, 0)
	}},
	{"younger than a bounded age", false, func(a *audience) {
		a.commits(10, eventual, 1)
		a.asks(20, 2, eventual, 0, func(b *begun) { b.bounded, b.complete = true, 10 })
	}},
	{"older than a bounded age", true, func(a *audience) {
		a.commits(10, eventual, 1)
		a.asks(20, 2, eventual, 0, func(b *begun) { b.bounded, b.complete = true, 11 })
	}},
	{"a session that sees its own", false, func(a *audience) {
		a.commits(10, eventual, 1)
		a.asks(20, 2, eventual, 1, func(b *begun) { b.session = a.set(1) })
	}},
	{"a session that misses its own", true, func(a *audience) {
		a.commits(10, eventual, 1)
		a.asks(20, 2, eventual, 0, func(b *begun) { b.session = a.set(1) })
	}},
	{"a member that shows less than before", true, func(a *audience) {
		a.commits(10, eventual, 1)
		a.asks(20, 2, eventual, 1)
		a.asks(30, 2, eventual, 0)
	}},
	{"a long fork", true, func(a *audience) {
		a.commits(0, eventual, 1)
		a.asks(20, 1, eventual, 1)
		a.asks(30, 2, eventual, 1, func(b *begun) { b.work.snapshot.Executed = gtid.Set{}.AddInterval(a.group, "", 2, 2) })
	}},
	{"write skew under SERIALIZABLE", true, func(a *audience) { a.skews(true) }},
	{"write skew under snapshot isolation", false, func(a *audience) { a.skews(false) }},
}

// skews commits two transactions of which each has read what the other one writes.
func (a *audience) skews(serializable bool) {
	first := a.submits(0, 1)
	first.reads = []read{{key: key{registers, 2}}}
	a.deliver("m1", a.entry(1, 1, judge(first, a.certified(1, 0))))
	second := a.submits(0, 2)
	second.reads = []read{{key: key{registers, 1}}}
	second.serializable = serializable
	if serializable { // the oracle would notice it first
		a.checkers = []checker{a.visibility}
	}
	a.deliver("m1", a.entry(2, 2, judge(second, a.certified(2, 0))))
}

// TestLevelCheckers checks that P8 is noticed when it is broken, and only then.
func TestLevelCheckers(t *testing.T) {
	for _, c := range breachesOfLevels {
		t.Run(c.what, func(t *testing.T) {
			a := newAudience(t)
			c.play(a)
			if wrong := len(a.broken) > 0 && strings.HasPrefix(a.broken[0], "P8:"); wrong != c.wrong || wrong != (len(a.broken) > 0) {
				t.Errorf("noticed %q", a.broken)
			}
		})
	}
}

// TestTableChecker checks that the table of anomalies is kept by itself, where the
// checker of levels does not look.
func TestTableChecker(t *testing.T) {
	for _, c := range breachesOfLevels {
		a := newAudience(t)
		c.play(a)
		b := newAudience(t)
		b.checkers = []checker{b.oracle, b.visibility}
		c.play(b)
		// What one member shows, and what a caller asks for, are not in the table.
		elsewhere := strings.Contains(c.what, "age") || strings.Contains(c.what, "session") || strings.Contains(c.what, "than before")
		if noticed := len(b.broken) > 0; noticed != (c.wrong && !elsewhere) {
			t.Errorf("%s: noticed %q", c.what, b.broken)
		}
	}
}

// TestAnomaliesCounted checks that marks count what the table allows.
func TestAnomaliesCounted(t *testing.T) {
	a := newAudience(t)
	a.commits(10, eventual, 1)
	a.asks(20, 1, eventual, 1)
	a.runs[2].epochs = []epochSeen{{election.Epoch{Number: 2, Index: 1}, 10}}
	a.asks(30, 2, eventual, 0)
	a.runs[2].epochs = nil
	a.asks(40, 2, failover, 0)
	for _, m := range []mark{
		markStaleReadEventual, markBackwardsEventual, markOwnWriteEventual, markLostEventual, markStaleReadFailover,
		markBackwardsFailover, markOwnWriteFailover,
	} {
		if a.reached[m] != 1 {
			t.Errorf("%q counts %d", markNames[m], a.reached[m])
		}
	}
	b := newAudience(t)
	b.skews(false)
	if b.reached[markSkewEventual] != 1 {
		t.Error("no write skew")
	}
}

// TestLevelsInherit checks that an incarnation is held to what was seen in the one
// that it came from, as far as their logs are the same.
func TestLevelsInherit(t *testing.T) {
	a := newAudience(t)
	a.commits(10, eventual, 1)
	a.commits(20, eventual, 2)
	a.asks(25, 1, eventual, 2)
	child := newAudience(t)
	child.levels.inherit(a.levels, 1)
	child.visibility.inherit(a.visibility, 1)
	child.commits(0, eventual, 1)
	child.asks(30, 2, before, 1)
	if len(child.broken) > 0 {
		t.Errorf("noticed %q", child.broken)
	}
	child.asks(31, 1, before, 0)
	if len(child.broken) == 0 {
		t.Error("what was acknowledged before the fork is missed, and nobody noticed")
	}
}

// TestDrainChecker checks that the refusal of what was handed over before its
// member had drained is noticed.
func TestDrainChecker(t *testing.T) {
	for _, c := range []struct {
		what  string
		span  func(d *drainSpan)
		wrong bool
	}{
		{"behind the end of the drain", func(d *drainSpan) { d.orders = 0 }, false},
		{"with others left open", func(d *drainSpan) { d.idle = false }, false},
		{"in time", func(*drainSpan) {}, true},
		{"for another change", func(d *drainSpan) { d.action = gtid.UUID{99} }, false},
	} {
		p := newPolitics(newRecord(t))
		p.single()
		change := p.action(election.SetPrimary, 2)
		p.asks(3, change)
		d := &drainSpan{action: change.ID, told: 1, orders: 1, idle: true}
		c.span(d)
		p.runs = []*runRecord{{raftID: 1, session: 1, drains: []*drainSpan{d}}}
		late := p.hands(1, 1)
		p.drains(1, election.Drain{Action: change.ID})
		p.ordered(late, false)
		if noticed := len(p.broken) > 0 && strings.HasPrefix(p.broken[0], "P9:"); noticed != c.wrong {
			t.Errorf("%s: noticed %q", c.what, p.broken)
		}
	}
}
