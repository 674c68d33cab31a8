package gcs

import (
	"testing"
	"testing/cryptotest"
)

// half starts a member again, and has it go through its log as far as to some
// entry. What it is asked to do to its disk is done.
func (w *world) half(m *member, to uint64) {
	m.session++
	var err error
	if m.group, err = New(w.config(m)); err != nil {
		w.t.Fatal(err)
	}
	for m.group.Delivered() < to {
		m.group.Flush()
		for _, write := range m.group.Writes(nil) {
			m.group.Written(write.Responses)
		}
		if _, ok := m.group.NextDelivery(); !ok {
			w.t.Fatalf("member %d has nothing after %d", m.n, m.group.Delivered())
		}
	}
	m.group.Flush()
	for _, write := range m.group.Writes(nil) {
		m.group.Written(write.Responses)
	}
	m.group.Messages(nil)
}

// A log can say that a member was expelled, and by the forced view at its end
// that it is back. Who has read only the first half tells nobody that it is out,
// and the member does not ask to be let go.
func TestHalfReadLogTakesNobodyOut(t *testing.T) {
	cryptotest.SetGlobalRandom(t, 1)
	w := newWorld(t)
	w.form(4)
	w.tail(w.member(1), []uint64{2}, func() {
		if a := w.member(1).group.Change(Change{Kind: Removed, Member: Member{RaftID: 3}}); a.Refused != nil {
			t.Fatal(a.Refused)
		}
	})
	end := w.force(w.member(2), online(2), online(3))
	reportOf := Message{Kind: MessageReport, Report: &Report{Delivered: 1}}

	w.half(w.member(2), end-1)
	second := w.member(2).group
	if has(second.View(), 3) || !second.departed.has(3) {
		t.Fatalf("the first half of the log does not take member 3 out: %s", second.View())
	}
	second.Receive(3, reportOf)
	if got := second.Messages(nil); len(got) != 0 || second.Departed(3) {
		t.Errorf("answers %+v, departed %v", got, second.Departed(3))
	}
	if a := second.Change(Change{Kind: Removed, Member: Member{RaftID: 3}}); a.Done {
		t.Error("says that member 3 is removed")
	}

	w.half(w.member(3), end-1)
	third := w.member(3).group
	for range 2 * reportTicks {
		third.Tick()
	}
	for _, o := range third.Messages(nil) {
		if o.Message.Kind == MessageLeave {
			t.Fatalf("asks %d to be let go", o.To)
		}
	}

	w.half(w.member(2), end)
	second = w.member(2).group
	second.Receive(3, reportOf)
	if second.Departed(3) || !has(second.View(), 3) || second.reports[3].Delivered != 1 {
		t.Errorf("in %s member 3 is not back", second.View())
	}
	second.Receive(1, reportOf)
	if got := second.Messages(nil); !second.Departed(1) || len(got) != 1 || got[0].Message.Kind != MessageRemoved {
		t.Errorf("member 1 is out, and is told %+v", got)
	}
}
