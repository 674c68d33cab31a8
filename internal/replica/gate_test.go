package replica

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/cryptotest"

	"pgregory.net/rapid"

	"github.com/concordatdb/concordat/certifier"
	"github.com/concordatdb/concordat/election"
	"github.com/concordatdb/concordat/gcs"
	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/internal/consistency"
)

// gated is a group in which one member, the third, has not delivered what the
// first has committed at AFTER, because what makes up the log does not reach it.
func gated(t *testing.T, s settings) (w *world, first, second, third *member) {
	t.Helper()
	cryptotest.SetGlobalRandom(t, 1)
	w = newGroup(t, s)
	w.tick(4)
	first, second, third = w.members[0], w.members[1], w.members[2]
	w.cut = func(from, to *member, m gcs.Message) bool { return to == third && logless(from, to, m) }
	first.step(first.transaction(1, gtid.Set{}, "before", 1))
	first.step(first.after(2, "after"))
	second.step(second.transaction(3, gtid.Set{}, "behind", 3))
	return w, first, second, third
}

// wantShown checks what members show.
func wantShown(t *testing.T, payloads []string, members ...*member) {
	t.Helper()
	for _, m := range members {
		if got := m.payloads(); !slices.Equal(got, payloads) {
			t.Errorf("member %d shows %q, want %q", m.identity.RaftID, got, payloads)
		}
	}
}

// Nobody shows an AFTER transaction, and nothing behind it, before all have
// delivered it; nor lets anybody begin below it from then on.
func TestGate(t *testing.T) {
	w, first, second, third := gated(t, settings{})
	w.tick(6)
	wantShown(t, []string{"before"}, first, second)
	at := w.gated["after"]
	for _, m := range []*member{first, second} {
		s := m.replica.Status()
		if s.Floor != (consistency.Floor{Gate: at}) || m.floor != s.Floor || !slices.Equal(s.GateWaits, []uint64{3}) {
			t.Errorf("member %d lets begin from %+v, told %+v, and waits for %v; the transaction is at %d",
				m.identity.RaftID, s.Floor, m.floor, s.GateWaits, at)
		}
	}
	if n := len(first.answers); n != 1 || first.answers[0].Ticket != 1 || len(second.answers) != 0 {
		t.Errorf("answered %+v and %+v", first.answers, second.answers)
	}
	third.held = true
	w.cut = nil
	w.tick(6)
	all := []string{"before", "after", "behind"}
	wantShown(t, all, first, second)
	wantShown(t, nil, third)
	if third.floor.Gate != at || len(third.replica.Status().GateWaits) > 0 {
		t.Errorf("the last one to deliver it lets begin from %+v", third.floor)
	}
	third.release()
	wantShown(t, all, third)
	for _, m := range w.members {
		if s := m.replica.Status(); s.Floor != (consistency.Floor{}) || s.GateWaits != nil || m.replica.held.Len() > 0 {
			t.Errorf("member %d: floor %+v, waits %v, %d tasks held", m.identity.RaftID, s.Floor, s.GateWaits, m.replica.held.Len())
		}
	}
	if len(first.answers) != 2 || len(second.answers) != 1 {
		t.Errorf("answered %+v and %+v", first.answers, second.answers)
	}
	sameHistory(t, w.members...)
}

// What was ordered before an AFTER transaction is not held back for it, nor for a
// later one, though all of them are delivered at once.
func TestGateBetweenBatches(t *testing.T) {
	cryptotest.SetGlobalRandom(t, 1)
	w := newGroup(t, settings{})
	w.tick(4)
	first, second, third := w.members[0], w.members[1], w.members[2]
	second.paused = true
	w.cut = func(from, to *member, m gcs.Message) bool { return to == third && logless(from, to, m) }
	first.step(first.transaction(1, gtid.Set{}, "before", 1))
	first.step(first.after(2, "after"))
	first.step(first.transaction(3, gtid.Set{}, "behind", 3))
	first.step(first.after(4, "after all"))
	second.paused = false
	second.step()
	wantShown(t, []string{"before"}, second)
	var gates []uint64
	for i := range second.replica.gates.Len() {
		gates = append(gates, second.replica.gates.At(i).index)
	}
	if !slices.Equal(gates, []uint64{w.gated["after"], w.gated["after all"]}) {
		t.Fatalf("gates at %v, the transactions are at %v", gates, w.gated)
	}
	clear(w.gated) // what the third says here is not true
	for i, want := range [][]string{{"before", "after"}, {"before", "after", "behind", "after all"}} {
		second.step(Received{From: 3, Message: gcs.Message{Kind: gcs.MessageDelivered, Index: gates[i]}})
		wantShown(t, want, second)
	}
}

// A change of the primary is to be waited for until it is shown, by those who
// want to.
func TestFloorOfChange(t *testing.T) {
	w, first, second, _ := elections(t, settings{})
	second.held = true
	first.step(first.ask(election.SetPrimary, second, 0))
	first.step(first.transaction(1, gtid.Set{}, "backlog", 1), DrainedAsked{Action: first.replica.Status().Election.Action.ID})
	w.wantPrimary(second, 2)
	began := second.replica.Status().Election.Began
	if want := (consistency.Floor{Change: began}); second.floor != want || second.replica.Status().Floor != want {
		t.Errorf("with a backlog the floor is %+v, want %+v", second.floor, want)
	}
	second.release()
	if second.floor != (consistency.Floor{}) || second.position.Index < began {
		t.Errorf("the engine at %d, the floor is %+v", second.position.Index, second.floor)
	}
}

// In a quiet group a gate opens by the members' words, without a tick.
func TestGateOpensAtOnce(t *testing.T) {
	cryptotest.SetGlobalRandom(t, 1)
	w := newGroup(t, settings{})
	w.tick(4)
	for _, m := range w.members {
		m.answers = nil
		m.step(m.after(1, fmt.Sprintf("after %d", m.identity.RaftID)))
		if len(m.answers) != 1 || m.answers[0].Verdict.Outcome != certifier.Certified {
			t.Errorf("member %d was answered %+v", m.identity.RaftID, m.answers)
		}
	}
}

// A member that alone is the group waits for nobody.
func TestGateOfOne(t *testing.T) {
	m := newFounder(t, settings{})
	m.tick(40)
	m.step(m.after(1, "after"))
	if len(m.answers) != 1 || m.replica.gates.Len() > 0 {
		t.Errorf("answered %+v, %d gates", m.answers, m.replica.gates.Len())
	}
}

// Who has been refused is not waited for by anybody; what was committed before
// under the id is.
func TestGateOfRefusedAndRepeated(t *testing.T) {
	w, first, second, third := gated(t, settings{})
	w.cut = nil
	w.tick(6)
	w.cut = func(from, to *member, m gcs.Message) bool { return to == third && logless(from, to, m) }
	loser := first.submission(5, Header{ID: w.nextID(), After: true}, "loser", 3)
	first.step(loser)
	if a := first.last(); a.Ticket != 5 || a.Verdict.Outcome != certifier.Conflict || first.replica.gates.Len() > 0 {
		t.Errorf("answered %+v with %d gates", a, first.replica.gates.Len())
	}
	id := w.nextID()
	second.step(second.submission(6, Header{ID: id}, "eventual"))
	if a := second.last(); a.Verdict.Outcome != certifier.Certified {
		t.Fatalf("answered %+v", a)
	}
	second.step(second.submission(7, Header{ID: id, After: true}, "after again"))
	w.tick(4)
	if len(second.answers) > 0 {
		t.Errorf("repeated at AFTER it is answered %+v", second.answers)
	}
	w.cut = nil
	w.tick(4)
	if a := second.last(); a.Ticket != 7 || a.Verdict.Outcome != certifier.Duplicate {
		t.Errorf("repeated at AFTER it is answered %+v", a)
	}
}

// A member that dies before it has delivered is waited for until it is out.
func TestGateAndDeath(t *testing.T) {
	w, first, second, third := gated(t, settings{expel: 20})
	third.down = true
	w.tick(30)
	wantShown(t, []string{"before"}, first, second)
	w.until(200, "expelled", func() bool { return len(first.replica.Status().View.Members) == 2 })
	w.tick(2)
	wantShown(t, []string{"before", "after", "behind"}, first, second)
}

// The origin dies: the others find out by themselves.
func TestGateWithoutOrigin(t *testing.T) {
	w, first, second, third := gated(t, settings{})
	w.cut = nil
	first.down = true
	w.until(100, "visible", func() bool {
		return slices.Contains(third.payloads(), "after") && slices.Contains(second.payloads(), "after")
	})
}

// A member that starts anew makes its gates again. What was visible in the
// meantime it does not argue about, though nobody be left to ask.
func TestGateAndRestart(t *testing.T) {
	w, first, second, third := gated(t, settings{})
	before := second.position.Index
	second.restart(before)
	w.tick(6)
	wantShown(t, []string{"before"}, first, second)
	if s := second.replica.Status(); s.Floor.Gate != w.gated["after"] || s.State != Recovering {
		t.Errorf("after a restart: %v, floor %+v", s.State, s.Floor)
	}
	w.cut = nil
	w.tick(6)
	wantShown(t, []string{"before", "after", "behind"}, w.members...)
	// All that anybody had told is forgotten by one whose engine fell back, and
	// who is asked is gone.
	third.down = true
	second.restart(before)
	w.until(100, "ONLINE", func() bool { return second.state() == Online })
	wantShown(t, []string{"before", "after", "behind"}, second)
	sameHistory(t, first, second)
}

// A copy of the state is of a place that the engine may be at.
func TestGateAndExport(t *testing.T) {
	w, first, _, _ := gated(t, settings{})
	first.step(ExportAsked{Ticket: 5})
	w.tick(4)
	if len(first.exports) > 0 {
		t.Fatalf("exported behind a gate: %d, the engine is at %d", first.exports[0].Checkpoint.Index, first.position.Index)
	}
	w.cut = nil
	w.until(20, "exported", func() bool { return len(first.exports) > 0 })
	if x := first.exports[0]; x.Checkpoint.Index < w.gated["after"] || x.Checkpoint.Index > first.position.Index {
		t.Errorf("the export is of %d, the engine at %d", x.Checkpoint.Index, first.position.Index)
	}
}

// A member that clones is not waited for: the copy that it needs stands behind the
// gate. What it says of itself counts only until its next session has opened.
func TestGateAndClone(t *testing.T) {
	w, first, second, third := gated(t, settings{})
	third.down = true
	second.step(ExportAsked{Ticket: 5})
	absent := gcs.Message{Kind: gcs.MessageReport, Report: &gcs.Report{Recovering: true, Session: third.identity.Session}}
	stale := absent
	stale.Report = &gcs.Report{Recovering: true, Session: third.identity.Session - 1}
	second.step(Received{From: 3, Message: stale})
	if len(second.exports) > 0 {
		t.Fatal("the gate opened by what the third said before its session")
	}
	second.step(Received{From: 3, Message: absent})
	wantShown(t, []string{"before", "after", "behind"}, second)
	if len(second.exports) != 1 {
		t.Fatalf("%d exports", len(second.exports))
	}
	w.tick(4) // the first learns from the second that nobody is to be waited for
	wantShown(t, []string{"before", "after", "behind"}, first)
	second.answers = nil
	second.step(second.after(9, "meanwhile"))
	if len(second.answers) != 1 {
		t.Error("a later one waits for the member that clones")
	}
	// It is back, and is waited for again, whatever report of its absence is late.
	w.cut = nil
	third.restart(third.position.Index)
	w.until(100, "ONLINE", func() bool { return third.state() == Online })
	w.cut = func(from, to *member, m gcs.Message) bool { return to == third && logless(from, to, m) }
	second.answers = nil
	second.step(second.after(10, "back"))
	second.step(Received{From: 3, Message: absent})
	if len(second.answers) > 0 {
		t.Error("a late report of its absence opens a gate")
	}
}

// A member that comes back with data of another history, which it gives up for a
// copy, shows nothing of this one, however high its numbers are.
func TestGateAndDataGivenUp(t *testing.T) {
	w, first, second, _ := gated(t, settings{})
	for _, m := range []*member{first, second} {
		m.step(Received{From: 77, Message: gcs.Message{Kind: gcs.MessageReport, Report: &gcs.Report{
			Recovering: true, Session: 1, Applied: w.gated["after"] + 1000,
		}}})
	}
	w.tick(6)
	wantShown(t, []string{"before"}, first, second)
}

// A checkpoint that is taken behind a gate is used only when the engine is there.
func TestGateAndCheckpoint(t *testing.T) {
	w, first, second, _ := gated(t, settings{checkpointBytes: 1 << 10})
	for i := range uint64(40) {
		first.step(first.transaction(100+i, gtid.Set{}, "more", certifier.Item(100+i)))
	}
	w.tick(4)
	if n := len(first.saved); n == 0 || first.saved[n-1].Index <= w.gated["after"] {
		t.Fatalf("%d checkpoints, none behind the gate", n)
	}
	first.restart(first.position.Index)
	w.cut = nil
	w.tick(20)
	for _, m := range w.members {
		if got := m.payloads(); len(got) != 43 || got[1] != "after" {
			t.Errorf("member %d shows %d transactions", m.identity.RaftID, len(got))
		}
	}
	sameHistory(t, first, second)
}

// A joiner is not waited for, and shows what had been gated when it serves.
func TestGateAndJoiner(t *testing.T) {
	cryptotest.SetGlobalRandom(t, 1)
	w := newGroup(t, settings{})
	w.tick(4)
	first, third := w.members[0], w.members[2]
	newcomer := w.member(4, settings{})
	newcomer.held = true
	newcomer.start()
	w.until(40, "in the view", func() bool {
		first.step(JoinAsked{Ticket: 1, Member: newcomer.info()})
		return len(first.replica.Status().View.Members) == 4
	})
	w.cut = func(from, to *member, m gcs.Message) bool { return to == third && logless(from, to, m) }
	first.step(first.after(2, "after"))
	if got := first.replica.Status().GateWaits; !slices.Equal(got, []uint64{3}) {
		t.Errorf("the gate waits for %v", got)
	}
	newcomer.release()
	w.until(100, "promoted", func() bool { return newcomer.replica.promoted != 0 })
	w.tick(4)
	if newcomer.state() == Online || newcomer.floor.Gate != w.gated["after"] {
		t.Errorf("promoted behind a gate the newcomer is %v, floor %+v", newcomer.state(), newcomer.floor)
	}
	w.cut = nil
	w.until(100, "ONLINE", func() bool { return newcomer.state() == Online })
	w.tick(4)
	wantShown(t, []string{"after"}, w.members...)
}

// A slow engine does not let gates pile up without bound, and none waits for
// ever.
func TestGateBackPressure(t *testing.T) {
	cryptotest.SetGlobalRandom(t, 1)
	const bound = 64 << 10
	w := newGroup(t, settings{applyBytes: bound})
	w.tick(4)
	payload := strings.Repeat("p", 8<<10)
	for _, m := range w.members {
		m.held = true
	}
	const n = 60
	for i := range uint64(n) {
		m := w.members[i%3]
		m.step(m.after(i, fmt.Sprintf("after %d %s", i, payload)))
	}
	w.tick(4)
	for _, m := range w.members {
		if given := m.replica.inApplyBytes - m.replica.heldBytes; given > 2*bound {
			t.Errorf("the engine of member %d was given %d bytes", m.identity.RaftID, given)
		}
	}
	for round := 0; len(w.members[0].payloads()) < n; round++ {
		if round > 20*n {
			t.Fatalf("%d of %d transactions are visible after %d rounds", len(w.members[0].payloads()), n, round)
		}
		m := w.members[round%3]
		m.work(min(1, len(m.tasks)))
		m.step()
		w.tick(1)
	}
	for _, m := range w.members {
		m.release()
	}
	w.tick(4)
	sameHistory(t, w.members...)
}

// However much is held back, the view that opens the gate is delivered: that of a
// member which dies, and that of one which had died when this one was away.
func TestGateIsNoDam(t *testing.T) {
	const bound = 16 << 10
	w, first, second, third := gated(t, settings{expel: 20, applyBytes: bound})
	third.down = true
	before := second.position.Index
	payload := strings.Repeat("p", bound/2)
	for i := range uint64(10) {
		first.step(first.transaction(100+i, gtid.Set{}, payload, certifier.Item(100+i)))
	}
	w.until(200, "expelled", func() bool { return len(first.replica.Status().View.Members) == 2 })
	w.tick(4)
	if n := len(first.payloads()); n != 13 || first.replica.heldBytes != 0 {
		t.Errorf("%d transactions are visible, %d bytes held", n, first.replica.heldBytes)
	}
	second.restart(before)
	w.tick(4)
	if n := len(second.payloads()); n != 13 || second.state() != Online {
		t.Errorf("after a restart %d transactions are visible, %v", n, second.state())
	}
}

// A forced view without those who are missing opens what waited for them.
func TestGateAndForcedView(t *testing.T) {
	w, first, second, third := gated(t, settings{})
	second.down, third.down = true, true
	w.tick(4)
	wantShown(t, []string{"before"}, first)
	first.identity.Session++
	self := first.info()
	self.State = gcs.Online
	last, err := first.log.LastIndex()
	if err != nil {
		t.Fatal(err)
	}
	term := first.replica.Status().Term
	forced, err := gcs.ForcedEntry(term, last+1, gcs.Change{Kind: gcs.Forced, Incarnation: forcedIncarnation, Members: []gcs.Member{self}})
	if err != nil {
		t.Fatal(err)
	}
	first.log.entries = append(first.log.entries, forced)
	first.log.hard.Commit = last + 1
	first.identity.Incarnation = forcedIncarnation
	first.restart(first.position.Index)
	w.until(100, "ONLINE", func() bool { return first.state() == Online })
	wantShown(t, []string{"before", "after", "behind"}, first)
}

// TestGateProperty does whatever may happen to members that commit at AFTER, with
// engines that take their time. The world checks each transaction as it becomes
// visible; when all is well again everything is.
func TestGateProperty(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		cryptotest.SetGlobalRandom(t, 1)
		w := newGroup(t, settings{checkpointBytes: 2 << 10})
		w.tick(4)
		lost := map[[2]uint64]bool{}
		w.cut = func(from, to *member, _ gcs.Message) bool {
			return lost[[2]uint64{from.identity.RaftID, to.identity.RaftID}]
		}
		submitted := uint64(0)
		for range rapid.IntRange(1, 60).Draw(rt, "steps") {
			m := w.members[rapid.IntRange(0, 2).Draw(rt, "member")]
			other := w.members[rapid.IntRange(0, 2).Draw(rt, "other")]
			switch rapid.SampledFrom([]string{"after", "after", "eventual", "hold", "work", "work", "tick", "tick", "cut", "heal", "restart"}).Draw(rt, "what") {
			case "after":
				submitted++
				m.step(m.after(submitted, fmt.Sprintf("after %d", submitted)))
			case "eventual":
				submitted++
				m.step(m.transaction(submitted, gtid.Set{}, "eventual", certifier.Item(submitted)))
			case "hold":
				m.held = true
			case "work":
				m.work(min(1, len(m.tasks)))
				m.step()
			case "tick":
				w.tick(rapid.IntRange(1, 30).Draw(rt, "ticks"))
			case "cut":
				lost[[2]uint64{m.identity.RaftID, other.identity.RaftID}] = true
			case "heal":
				clear(lost)
			case "restart":
				m.restart(max(m.durable, m.position.Index-min(m.position.Index, rapid.Uint64Range(0, 5).Draw(rt, "lost"))))
			}
			if t.Failed() {
				rt.Fatal("a promise was broken")
			}
		}
		clear(lost)
		for _, m := range w.members {
			m.release()
		}
		w.tick(80)
		for _, m := range w.members {
			if m.state() != Online || m.replica.gates.Len() > 0 || m.replica.held.Len() > 0 || m.floor != (consistency.Floor{}) {
				rt.Fatalf("member %d is %v with %d gates, floor %+v", m.identity.RaftID, m.state(), m.replica.gates.Len(), m.floor)
			}
		}
		sameHistory(t, w.members...)
	})
}

// TestGateAndViewsProperty does the same while members fall silent, are put out,
// and others come. Who is in the newest view shows everything in the end.
func TestGateAndViewsProperty(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		cryptotest.SetGlobalRandom(t, 1)
		w := newGroup(t, settings{expel: 20})
		w.tick(4)
		lost := map[[2]uint64]bool{}
		w.cut = func(from, to *member, _ gcs.Message) bool {
			return lost[[2]uint64{from.identity.RaftID, to.identity.RaftID}]
		}
		for submitted := range rapid.Uint64Range(1, 60).Draw(rt, "steps") {
			m := w.members[rapid.IntRange(0, len(w.members)-1).Draw(rt, "member")]
			switch rapid.SampledFrom([]string{"after", "after", "eventual", "hold", "work", "tick", "tick", "silence", "heal", "restart", "come", "ask"}).Draw(rt, "what") {
			case "after":
				m.step(m.after(submitted, fmt.Sprintf("after %d", submitted)))
			case "eventual":
				m.step(m.transaction(submitted, gtid.Set{}, "eventual", certifier.Item(submitted)))
			case "hold":
				m.held = true
			case "work":
				m.work(min(1, len(m.tasks)))
				m.step()
			case "tick":
				w.tick(rapid.IntRange(1, 60).Draw(rt, "ticks"))
			case "silence":
				for id := range uint64(len(w.members) + 1) {
					lost[[2]uint64{m.identity.RaftID, id}], lost[[2]uint64{id, m.identity.RaftID}] = true, true
				}
			case "heal":
				clear(lost)
			case "restart":
				m.restart(m.position.Index - min(m.position.Index, rapid.Uint64Range(0, 5).Draw(rt, "lost")))
			case "come":
				if n := len(w.members); n < 5 {
					w.member(byte(n+1), settings{expel: 20}).start()
				}
			case "ask":
				for _, other := range w.members {
					other.step(JoinAsked{Ticket: submitted, Member: m.info()})
				}
			}
			if t.Failed() {
				rt.Fatal("a promise was broken")
			}
		}
		clear(lost)
		for _, m := range w.members {
			m.release()
		}
		w.tick(300)
		newest := w.members[0].replica.Status().View
		for _, m := range w.members {
			if v := m.replica.Status().View; v.ID > newest.ID {
				newest = v
			}
		}
		var in []*member
		for _, m := range w.members {
			if _, is := newest.Member(m.identity.RaftID); !is {
				continue
			}
			in = append(in, m)
			if m.state() != Online || m.replica.gates.Len() > 0 || m.replica.held.Len() > 0 || m.floor != (consistency.Floor{}) {
				rt.Fatalf("member %d is %v with %d gates, floor %+v", m.identity.RaftID, m.state(), m.replica.gates.Len(), m.floor)
			}
		}
		sameHistory(t, in...)
		if t.Failed() {
			rt.Fatal("a promise was broken")
		}
	})
}
