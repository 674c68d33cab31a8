package gcs

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/cryptotest"

	"go.etcd.io/raft/v3/raftpb"
)

// expelTicks is how long a suspect is given in these tests.
const expelTicks = 30

// expelling is a group of n that expels, led by the first.
func expelling(t *testing.T, n uint64) *world {
	t.Helper()
	cryptotest.SetGlobalRandom(t, 1)
	w := newWorld(t)
	w.expel = expelTicks
	w.form(n)
	w.run(2 * reportTicks)
	return w
}

// leader returns the member that leads.
func (w *world) leader() *member {
	w.t.Helper()
	for _, m := range w.up() {
		if m.group.Status().Leading {
			return m
		}
	}
	w.t.Fatal("nobody leads")
	return nil
}

// takes is the number of ticks until something holds.
func (w *world) takes(what string, holds func() bool) int {
	w.t.Helper()
	for ticks := range 1000 {
		if holds() {
			return ticks
		}
		w.run(1)
	}
	w.t.Fatalf("in 1000 ticks this does not come about: %s", what)
	return 0
}

// sees is what a member thinks of another one.
func (m *member) sees(t *testing.T, id uint64) Peer {
	t.Helper()
	for _, p := range m.group.Status().Peers {
		if p.RaftID == id {
			return p
		}
	}
	t.Fatalf("member %d knows nothing of %d: %+v", m.n, id, m.group.Status())
	return Peer{}
}

// kinds is what a member noticed, other than changes of leader, and of whom.
func (m *member) kinds() string {
	var all []string
	for _, n := range m.noticed {
		if n.Kind != LeaderChanged {
			all = append(all, fmt.Sprintf("%v %d", n.Kind, n.RaftID))
		}
	}
	m.noticed = nil
	return strings.Join(all, ", ")
}

func has(v View, id uint64) bool {
	_, ok := v.Member(id)
	return ok
}

// A member that is down is held for UNREACHABLE by all, and expelled, with what
// everybody knows of it for the reason.
func TestDeadMemberIsExpelled(t *testing.T) {
	w := expelling(t, 3)
	first, second := w.member(1), w.member(2)
	first.kinds()
	w.crash(w.member(3))
	first.group.Unreachable(3, true)
	w.run(suspectTicks - reportTicks)
	if first.sees(t, 3).Unreachable || second.sees(t, 3).Unreachable {
		t.Error("suspected too early")
	}
	w.run(reportTicks)
	p := first.sees(t, 3)
	if !p.Unreachable || p.Link != LinkRefused || p.Heard < suspectTicks || !second.sees(t, 3).Unreachable || first.sees(t, 2).Unreachable {
		t.Errorf("member 3 is seen as %+v", p)
	}
	if got := first.group.View(); !has(got, 3) {
		t.Fatalf("expelled at once: %s", got)
	}
	took := w.takes("expulsion", func() bool { return !has(first.group.View(), 3) })
	if took < expelTicks-reportTicks || took > expelTicks+2*reportTicks {
		t.Errorf("expelled after %d ticks of suspicion, want %d", took, expelTicks)
	}
	cause := second.group.View().Cause
	if cause.Kind != Expelled || cause.Member.RaftID != 3 {
		t.Errorf("the cause is %v", cause)
	}
	for _, part := range []string{
		"m1:7400, which leads, has not heard it for ", "its address refuses connections, so its process is gone",
		"; m2:7400 has not heard it for ",
	} {
		if !strings.Contains(cause.Reason, part) {
			t.Errorf("the reason lacks %q: %s", part, cause.Reason)
		}
	}
	if got, want := first.kinds(), "suspected 3"; got != want {
		t.Errorf("noticed: %s, want %s", got, want)
	}
	if got := first.group.Status().Peers; len(got) != 1 {
		t.Errorf("peers are %+v", got)
	}
	w.start(w.member(3))
	w.takes("word of the expulsion", func() bool { return w.member(3).group.Removed() })
}

// A member that is RECOVERING is expelled as well, even by one member alone.
func TestDeadNewcomerIsExpelled(t *testing.T) {
	w := expelling(t, 1)
	w.start(w.add(2))
	w.join(w.member(2), w.member(1))
	w.crash(w.member(2))
	w.takes("expulsion", func() bool { return !has(w.member(1).group.View(), 2) })
	if got := w.member(1).group.View().Cause.Reason; !strings.Contains(got, "nothing is known of the stream to it") {
		t.Errorf("the reason is: %s", got)
	}
}

// Of a stream that opened before there was anybody to tell, a member knows by
// what the other one says to have heard; not by what that one heard in an earlier
// run.
func TestStreamFromBeforeTheRunIsOpen(t *testing.T) {
	w := expelling(t, 3)
	first := w.member(1)
	if got := first.sees(t, 3).Link; got != LinkOpen {
		t.Errorf("the link to a member that hears this one is %v", got)
	}
	w.crash(w.member(3))
	w.takes("expulsion", func() bool { return !has(first.group.View(), 3) })
	if got := first.group.View().Cause.Reason; !strings.Contains(got, "the stream to it is open, so its process has stalled or the way from it is cut") {
		t.Errorf("the reason is: %s", got)
	}

	w.saveCheckpoint(first)
	w.crash(first)
	w.start(first)
	says := func(hears ...Hearing) Link {
		first.group.Receive(2, Message{Kind: MessageReport, Report: &Report{Hears: hears}})
		w.tick(first)
		return first.sees(t, 2).Link
	}
	w.tick(first)
	for _, hears := range [][]Hearing{nil, {{1, NeverHeard}}, {{1, 9}}, {{3, 0}}} {
		if got := says(hears...); got != LinkUnknown {
			t.Errorf("hearings %v make the link %v", hears, got)
		}
	}
	if got := says(Hearing{1, 1}); got != LinkOpen {
		t.Errorf("the link to a member that has heard this run is %v", got)
	}
	first.group.Unreachable(2, true)
	if got := says(Hearing{1, 1}); got != LinkRefused {
		t.Errorf("what a member says makes the link %v that the shell knows to be refused", got)
	}
}

// Members that are asked to never expel anybody do not.
func TestNeverExpelled(t *testing.T) {
	w := expelling(t, 1)
	w.expel = -1
	m := w.member(1)
	w.crash(m)
	w.start(m)
	w.run(20)
	w.start(w.add(2))
	w.join(w.member(2), m)
	w.crash(w.member(2))
	w.run(500)
	if !has(m.group.View(), 2) || !m.sees(t, 2).Unreachable {
		t.Errorf("the view is %s", m.group.View())
	}
}

// Neither half of a group decides who is out, for neither is a majority; and
// when they hear each other again the time of the suspects begins anew.
func TestNobodyIsExpelledWithoutQuorum(t *testing.T) {
	for _, n := range []uint64{2, 4} {
		w := expelling(t, n)
		for a := range n / 2 {
			for b := range n / 2 {
				w.cut[[2]uint64{a + 1, n/2 + b + 1}] = true
			}
		}
		w.run(2 * suspectTicks) // by then also a leader without a majority is none any more
		for _, m := range w.members {
			if st := m.group.Status(); st.Quorum || st.NoQuorumTicks == 0 {
				t.Errorf("of %d, member %d has quorum %v, for %d ticks", n, m.n, st.Quorum, st.NoQuorumTicks)
			}
			if got := m.kinds(); !strings.HasSuffix(got, "quorum lost 0") {
				t.Errorf("of %d, member %d noticed %s", n, m.n, got)
			}
		}
		w.run(10 * expelTicks)
		for _, m := range w.members {
			if got := m.group.View(); len(got.Members) != int(n) {
				t.Errorf("of %d, member %d has %s", n, m.n, got)
			}
			if got := m.group.Status().NoQuorumTicks; got < 10*expelTicks {
				t.Errorf("of %d, member %d is without quorum for %d ticks", n, m.n, got)
			}
		}
		clear(w.cut)
		w.run(60)
		for _, m := range w.members {
			if st := m.group.Status(); !st.Quorum || st.NoQuorumTicks != 0 || len(st.View.Members) != int(n) {
				t.Errorf("of %d, member %d does not recover: %+v", n, m.n, st)
			}
			if got := m.kinds(); !strings.Contains(got, "quorum back 0") {
				t.Errorf("of %d, member %d noticed %s", n, m.n, got)
			}
		}
	}
}

// When a majority is back, who is still silent has all the time there is.
func TestCountdownBeginsWithTheMajority(t *testing.T) {
	w := expelling(t, 3)
	m := w.member(1)
	w.crash(w.member(2))
	w.crash(w.member(3))
	w.run(suspectTicks + 3*expelTicks)
	w.start(w.member(2))
	back := w.takes("a majority", func() bool { return m.group.Status().Quorum })
	took := w.takes("expulsion", func() bool { return !has(m.group.View(), 3) && !has(w.member(2).group.View(), 3) })
	if took < expelTicks {
		t.Errorf("expelled %d ticks after the majority was back, which took %d", took, back)
	}
}

// A suspect is given its time by each new leader.
func TestCountdownBeginsWithTheLeader(t *testing.T) {
	w := expelling(t, 4)
	w.crash(w.member(4))
	w.run(suspectTicks + expelTicks - 2*reportTicks)
	w.member(1).group.raft.TransferLeader(2)
	w.pump(w.member(1))
	w.settle()
	if w.leader().n != 2 {
		t.Fatal("the lead was not handed over")
	}
	took := w.takes("expulsion", func() bool { return !has(w.member(2).group.View(), 4) })
	if took < expelTicks-reportTicks {
		t.Errorf("expelled %d ticks after the leader began", took)
	}
}

// Each of these gives a suspect more time: a majority that has just come back
// under the same leader, and one that is heard but not trusted yet.
func TestCountdownWaits(t *testing.T) {
	for name, wait := range map[string]func(g *Group){
		"for a majority": func(g *Group) { g.quorumAt = g.ticks },
		"for trust": func(g *Group) {
			w := g.detector.find(2)
			w.suspected, w.flaps, w.steady, w.turned = true, 9, g.ticks, g.ticks
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := expelling(t, 3)
			g := w.member(1).group
			w.crash(w.member(3))
			w.run(suspectTicks + expelTicks - 2*reportTicks)
			wait(g)
			took := w.takes("expulsion", func() bool { return !has(g.View(), 3) })
			if took < expelTicks-reportTicks || took > expelTicks+2*reportTicks {
				t.Errorf("expelled after %d more ticks, want %d", took, expelTicks)
			}
		})
	}
}

// To ask for the status between two ticks costs nothing.
func TestStatusIsMadeOnceATick(t *testing.T) {
	w := expelling(t, 3)
	g := w.member(1).group
	if got := testing.AllocsPerRun(10, func() { g.Status() }); got != 0 {
		t.Errorf("%v allocations", got)
	}
	before := g.Status()
	w.crash(w.member(3))
	w.run(reportTicks)
	if before.Peers[1].Heard > reportTicks || g.Status().Peers[1].Heard <= before.Peers[1].Heard {
		t.Errorf("member 3 was heard %d ticks ago, then %d", before.Peers[1].Heard, g.Status().Peers[1].Heard)
	}
}

// A member whose messages are lost on the way to everybody is expelled, though
// it hears the others.
func TestMuteMemberIsExpelled(t *testing.T) {
	w := expelling(t, 3)
	w.deaf[[2]uint64{3, 1}], w.deaf[[2]uint64{3, 2}] = true, true
	w.run(suspectTicks + reportTicks)
	if w.member(3).sees(t, 1).Unreachable || !w.member(1).sees(t, 3).Unreachable {
		t.Error("who hears whom is wrong")
	}
	w.member(1).group.Reachable(3)
	w.takes("expulsion", func() bool { return !has(w.member(1).group.View(), 3) })
	if got := w.member(1).group.View().Cause.Reason; !strings.Contains(got, "the stream to it is open, so its process has stalled or the way from it is cut") {
		t.Errorf("the reason is: %s", got)
	}
}

// A member that only the leader does not hear keeps its place: the lead goes to
// one that hears both.
func TestCutFromTheLeader(t *testing.T) {
	for name, cut := range map[string]func(w *world){
		"both ways":     func(w *world) { w.cut[[2]uint64{1, 3}] = true },
		"to the leader": func(w *world) { w.deaf[[2]uint64{3, 1}] = true },
	} {
		t.Run(name, func(t *testing.T) {
			w := expelling(t, 3)
			first := w.member(1)
			first.kinds()
			cut(w)
			took := w.takes("the change of leader", func() bool { return w.member(2).group.Status().Leading })
			if took < suspectTicks+expelTicks-reportTicks {
				t.Errorf("the lead was handed over after %d ticks", took)
			}
			if got, want := first.kinds(), "suspected 3, lead handed over 2"; got != want {
				t.Errorf("noticed: %s, want %s", got, want)
			}
			w.run(10 * expelTicks)
			if got := w.leader(); got.n != 2 || len(got.group.View().Members) != 3 {
				t.Errorf("%d leads, %s", got.n, got.group.View())
			}
			if !first.sees(t, 3).Unreachable || w.member(2).sees(t, 3).Unreachable || w.member(2).sees(t, 1).Unreachable {
				t.Error("who sees whom is wrong")
			}
		})
	}
}

// The lead does not go to a member that would have to expel somebody else, nor
// to one that wants to leave.
func TestCutFromTheLeaderWithoutHeir(t *testing.T) {
	for name, spoil := range map[string]func(w *world){
		"hears less": func(w *world) { w.cut[[2]uint64{2, 4}] = true },
		"is leaving": func(w *world) { w.member(1).group.leavers = map[uint64]int{2: 1 << 30, 4: 1 << 30} },
	} {
		t.Run(name, func(t *testing.T) {
			w := expelling(t, 4)
			first := w.member(1)
			first.kinds()
			w.cut[[2]uint64{1, 3}] = true
			spoil(w)
			w.takes("expulsion", func() bool { return !has(first.group.View(), 3) })
			reason := first.group.View().Cause.Reason
			for _, n := range []int{2, 4} {
				part := fmt.Sprintf("; m%d:7400 heard it ", n)
				if !strings.Contains(reason, part) || !strings.Contains(reason, "ticks ago, so the way from it to m1:7400 is cut") {
					t.Errorf("the reason lacks %q: %s", part, reason)
				}
			}
			if got, want := first.kinds(), "suspected 3"; got != want {
				t.Errorf("noticed: %s, want %s", got, want)
			}
		})
	}
}

// When nobody takes the lead that is offered for a suspect's sake, the suspect
// goes in the end.
func TestHandOverThatFails(t *testing.T) {
	w := expelling(t, 3)
	first := w.member(1)
	first.kinds()
	w.cut[[2]uint64{1, 3}] = true
	for took := range 1000 {
		for _, m := range w.up() {
			w.tick(m)
		}
		// The order to campaign is lost, each time.
		w.wire = slices.DeleteFunc(w.wire, func(e envelope) bool {
			return e.msg.Kind == MessageRaft && e.msg.Raft.GetType().String() == "MsgTimeoutNow"
		})
		w.settle()
		if has(first.group.View(), 3) {
			continue
		}
		if least := suspectTicks + 2*expelTicks - 2*reportTicks; took < least {
			t.Errorf("expelled after %d ticks, want %d", took, least)
		}
		if got, want := first.kinds(), "suspected 3, lead handed over 2"; got != want {
			t.Errorf("noticed: %s, want %s", got, want)
		}
		return
	}
	t.Error("the suspect stays")
}

// A member that comes and goes is trusted more slowly each time, but while it is
// heard nobody expels it.
func TestFlappingMember(t *testing.T) {
	w := expelling(t, 3)
	w.expel = expelTicks
	first := w.member(1)
	first.kinds()
	link := [2]uint64{1, 3}
	flap := func() (took int) {
		w.cut[link] = true
		w.cut[[2]uint64{2, 3}] = true
		w.run(suspectTicks + reportTicks)
		clear(w.cut)
		return w.takes("trust", func() bool { return !first.sees(t, 3).Unreachable })
	}
	if took := flap(); took > reportTicks+1 {
		t.Errorf("trusted after %d ticks the first time", took)
	}
	if took := flap(); took < suspectTicks {
		t.Errorf("trusted after %d ticks the second time", took)
	}
	if took := flap(); took < expelTicks {
		t.Errorf("trusted after %d ticks the third time", took)
	}
	if got := first.group.View(); len(got.Members) != 3 {
		t.Errorf("a member that is heard was expelled: %s", got)
	}
	want := "suspected 3, trusted 3, suspected 3, flapping 3, trusted 3, suspected 3, flapping 3, trusted 3"
	if got := first.kinds(); got != want {
		t.Errorf("noticed: %s\nwant %s", got, want)
	}
}

// A group of two expels nobody: whoever is left is no majority.
func TestGroupOfTwoExpelsNobody(t *testing.T) {
	w := expelling(t, 2)
	w.crash(w.member(2))
	w.run(20 * expelTicks)
	if got := w.member(1).group.View(); len(got.Members) != 2 {
		t.Errorf("the view is %s", got)
	}
}

// Notices that nobody collects do not pile up, and the last ones are kept.
func TestNoticesAreBounded(t *testing.T) {
	w := expelling(t, 2)
	g := w.member(1).group
	for i := range uint64(10 * keptNotices) {
		g.notice(Suspected, i, "")
	}
	got := g.Notices(nil)
	if len(got) != keptNotices || got[keptNotices-1].RaftID != 10*keptNotices-1 || len(g.Notices(got)) != 0 {
		t.Errorf("%d notices, the last is %+v", len(got), got[len(got)-1])
	}
}

// Durations that make no sense are refused, and 0 stands for the default.
func TestPatienceIsChecked(t *testing.T) {
	w := expelling(t, 1)
	m := w.member(1)
	config := func(suspect, stall int) Config {
		id := m.identity()
		id.Session++
		return Config{
			Identity: id, Log: &m.log, HardState: m.log.hard, ElectionTicks: 10, Limits: DefaultLimits(),
			SuspectTicks: suspect, StallTicks: stall,
		}
	}
	for _, c := range []Config{config(2*reportTicks, 0), config(-1, 0), config(0, -1)} {
		if _, err := New(c); err == nil || !strings.Contains(err.Error(), "too few") {
			t.Errorf("%d and %d are answered with %v", c.SuspectTicks, c.StallTicks, err)
		}
	}
	g, err := New(config(0, 0))
	if err != nil {
		t.Fatal(err)
	}
	if want := (patience{suspect: DefaultSuspectTicks, expel: DefaultExpelTicks, stall: DefaultStallTicks}); g.patience != want {
		t.Errorf("the defaults are %+v, want %+v", g.patience, want)
	}
	if _, err := New(config(2*reportTicks+1, 1)); err != nil {
		t.Error(err)
	}
}

// Who is in no view has no majority to miss.
func TestStrangerMissesNobody(t *testing.T) {
	w := expelling(t, 1)
	w.start(w.add(2))
	w.run(5 * suspectTicks)
	if st := w.member(2).group.Status(); st.Quorum || st.NoQuorumTicks != 0 || w.member(2).kinds() != "" {
		t.Errorf("the status is %+v", st)
	}
}

// The lead goes to nobody who is suspected, however fit its last report.
func TestSuspectIsNotFit(t *testing.T) {
	g := expelling(t, 3).member(1).group
	if !g.fit(2) {
		t.Error("a member is not fit")
	}
	g.detector.find(2).suspected = true
	if g.fit(2) {
		t.Error("a suspect is fit to lead")
	}
}

// What a member said to have heard gets older as its report does.
func TestHearingsAge(t *testing.T) {
	g := expelling(t, 3).member(1).group
	g.Receive(2, Message{Kind: MessageReport, Report: &Report{Hears: []Hearing{{1, 0}, {3, 4}}}})
	if ago, ok := g.heardBy(2, 3); !ok || ago != 4 {
		t.Errorf("heard %d ticks ago, known %t, in the tick of the report", ago, ok)
	}
	for range 5 {
		g.Tick()
	}
	if ago, ok := g.heardBy(2, 3); !ok || ago != 9 {
		t.Errorf("heard %d ticks ago, known %t, five ticks after it was 4", ago, ok)
	}
}

// The reports of those who are silent themselves are no evidence.
func TestEvidenceIsOfThoseHeard(t *testing.T) {
	g := expelling(t, 4).member(1).group
	g.detector.find(2).heard = g.detector.now - suspectTicks
	got := g.evidence(3)
	if strings.Contains(got, "m2:7400") || !strings.Contains(got, "m4:7400") {
		t.Errorf("the evidence is: %s", got)
	}
}

// A member without a vote forgets a leader that has fallen silent as one, whatever
// else it hears of it: that one may have lost its majority. raft would hold it for
// the leader for ever.
func TestLeaderIsForgotten(t *testing.T) {
	cryptotest.SetGlobalRandom(t, 1)
	w := newWorld(t)
	w.start(w.add(4))
	m := w.member(4)
	beat := func() {
		m.group.Receive(9, Message{Kind: MessageRaft, Raft: &raftpb.Message{
			Type: raftpb.MsgHeartbeat.Enum(), From: new(uint64(9)), To: new(uint64(4)), Term: new(uint64(2)), Commit: new(uint64(0)),
		}})
		w.pump(m)
	}
	for range 2 {
		for range 2 {
			beat()
			w.run(suspectTicks - 1)
			if got := m.group.Status().Leader; got != 9 {
				t.Fatalf("the leader that is heard is %d", got)
			}
		}
		m.group.Receive(9, Message{Kind: MessageReport, Report: &Report{}})
		w.run(1)
		if got := m.group.Status().Leader; got != 0 {
			t.Fatalf("the leader that is not heard is still %d", got)
		}
	}
}
