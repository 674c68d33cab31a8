package gcs

import (
	"testing"
	"testing/cryptotest"
)

// knows is how far a member knows the others to be.
func (m *member) knows(of ...uint64) (indexes []uint64) {
	for _, id := range of {
		indexes = append(indexes, m.group.DeliveredBy(id))
	}
	return indexes
}

// What a member has delivered the others know as soon as it tells, and those that
// are RECOVERING, too.
func TestTellDelivered(t *testing.T) {
	w := reading(t, 2)
	third := w.add(3)
	w.start(third)
	w.join(third, w.member(1))
	w.settle()
	w.run(2 * reportTicks)
	w.load(w.member(1), 5)
	w.settle()
	end := w.member(1).group.Delivered()
	for _, m := range w.members {
		if got := m.knows(m.n); got[0] != end {
			t.Errorf("member %d has delivered %d and says %d of itself", m.n, end, got[0])
		}
		for _, o := range w.members {
			if got := m.knows(o.n)[0]; o != m && got >= end {
				t.Errorf("member %d knows without being told that %d has delivered %d", m.n, o.n, got)
			}
		}
	}
	for _, m := range w.members {
		m.group.TellDelivered()
		w.pump(m)
	}
	if got := len(w.take(func(e envelope) bool { return e.from == e.to })); got != 0 {
		t.Errorf("%d messages to oneself", got)
	}
	w.settle()
	for _, m := range w.members {
		for _, o := range w.members {
			if got := m.knows(o.n)[0]; got != end {
				t.Errorf("member %d knows that %d has delivered %d, want %d", m.n, o.n, got, end)
			}
		}
	}
}

// When the word of it is lost, the next report says it.
func TestReportsMendLostDeliveries(t *testing.T) {
	w := reading(t, 3)
	w.load(w.member(1), 5)
	w.settle()
	end := w.member(1).group.Delivered()
	w.member(2).group.TellDelivered()
	w.pump(w.member(2))
	w.wire = nil
	if got := w.member(1).knows(2)[0]; got >= end {
		t.Fatalf("nothing was lost: %d of %d", got, end)
	}
	w.run(reportTicks)
	if got := w.member(1).knows(2)[0]; got != end {
		t.Errorf("after a report it knows %d of %d", got, end)
	}
}

// What was delivered stays delivered, whatever comes late or anew. It is
// forgotten with the member.
func TestDeliveredNeverFalls(t *testing.T) {
	w := reading(t, 3)
	w.run(reportTicks)
	first, third := w.member(1), w.member(3)
	end := first.group.Delivered()
	for _, m := range []Message{
		{Kind: MessageDelivered, Index: end - 1},
		{Kind: MessageReport, Report: &Report{Delivered: end - 1}},
		{Kind: MessageReport, Report: &Report{Recovering: true}},
	} {
		first.group.Receive(3, m)
		if got := first.knows(3)[0]; got != end {
			t.Errorf("after %+v it is %d, was %d", m, got, end)
		}
	}
	w.crash(third)
	first.group.Change(Change{Kind: Removed, Member: online(3)})
	w.pump(first)
	w.settle()
	if got := first.knows(3)[0]; has(first.group.View(), 3) || got != 0 {
		t.Errorf("of a member that is gone it knows %d: %s", got, first.group.View())
	}
	for _, from := range []uint64{3, 7} {
		first.group.Receive(from, Message{Kind: MessageDelivered, Index: end})
		first.group.Receive(from, Message{Kind: MessageReport, Report: &Report{Delivered: end}})
	}
	if got := first.knows(3, 7); got[0] != 0 || got[1] != 0 || len(first.group.deliveredBy) != 1 {
		t.Errorf("of strangers it knows %v", got)
	}
}

// A member that begins has been up to date at no time, as far as the others are
// told, and what makes no sense of that is not said.
func TestFreshnessOfABeginner(t *testing.T) {
	cryptotest.SetGlobalRandom(t, 1)
	w := newWorld(t)
	w.form(2)
	m := w.member(2)
	w.crash(m)
	w.start(m)
	said := func() uint64 {
		for range reportTicks {
			m.group.Tick()
		}
		w.pump(m)
		reports := w.take(isKind(MessageReport))
		if len(reports) == 0 {
			t.Fatal("it reports nothing")
		}
		return reports[0].msg.Report.Fresh
	}
	if got := said(); got != NeverHeard {
		t.Errorf("it was up to date %d ticks ago", got)
	}
	for fresh, want := range map[uint64]uint64{7: 7, 1 << 50: NeverHeard} {
		m.group.Report(Report{Fresh: fresh})
		if got := said(); got != want {
			t.Errorf("up to date %d ticks ago is said as %d", fresh, got)
		}
	}
}

// A member that clones is absent until its next session has come of the log.
func TestAbsent(t *testing.T) {
	w := newWorld(t)
	w.form(2)
	g := w.members[0].group
	id := w.members[1].identity().RaftID
	say := func(r Report) { g.Receive(id, Message{Kind: MessageReport, Report: &r}) }
	spoke := g.fifo.find(id).session
	for _, c := range []struct {
		report Report
		want   bool
	}{
		{Report{Session: spoke}, false},
		{Report{Recovering: true, Session: spoke}, true},
		{Report{Recovering: true, Session: spoke + 1}, true},
		{Report{Session: spoke + 1}, false},
	} {
		if say(c.report); g.Absent(id) != c.want {
			t.Errorf("after %+v, with session %d in the log: absent %t", c.report, spoke, g.Absent(id))
		}
	}
	say(Report{Recovering: true, Session: spoke})
	g.fifo.find(id).session = spoke + 1
	if g.Absent(id) || g.Absent(12345) || g.Absent(g.id.RaftID) {
		t.Error("absent is one that has spoken since, one that is nobody, or oneself")
	}
}

// Who shows what need not be in the view. It must have a state machine.
func TestShown(t *testing.T) {
	w := newWorld(t)
	w.form(2)
	g := w.members[0].group
	before := g.Shown()
	for _, applied := range []uint64{1000, 500} {
		g.Receive(77, Message{Kind: MessageReport, Report: &Report{Applied: applied}})
	}
	g.Receive(77, Message{Kind: MessageReport})
	g.Receive(77, Message{Kind: MessageReport, Report: &Report{Recovering: true, Applied: 2000}})
	if before >= 1000 || g.Shown() != 1000 {
		t.Errorf("shown %d, before %d", g.Shown(), before)
	}
}
