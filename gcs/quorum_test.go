package gcs

import (
	"slices"
	"strings"
	"testing"
)

// A member that has just started hears nobody, and takes itself neither for a
// majority nor for one that has lost it, until the others had the time to be
// heard.
func TestQuorumIsUnknownAtFirst(t *testing.T) {
	w := expelling(t, 3)
	for _, n := range []uint64{2, 3} {
		w.saveCheckpoint(w.member(n))
	}
	w.cut[[2]uint64{1, 3}], w.cut[[2]uint64{2, 3}] = true, true
	w.expel = -1
	lone := w.member(3)
	w.crash(lone)
	w.start(lone)
	lone.noticed = nil
	for tick := range suspectTicks {
		if st := lone.group.Status(); st.Quorum || !st.QuorumUnknown || st.NoQuorumTicks != 0 || len(lone.noticed) != 0 {
			t.Fatalf("tick %d: %+v, noticed %+v", tick, st, lone.noticed)
		}
		w.run(1)
	}
	if st := lone.group.Status(); st.Quorum || st.QuorumUnknown || st.NoQuorumTicks != 1 {
		t.Errorf("after the time to be heard: %+v", st)
	}
	clear(w.cut)
	w.takes("quorum", func() bool { return lone.group.Status().Quorum })
	if st := lone.group.Status(); st.QuorumUnknown || st.NoQuorumTicks != 0 {
		t.Errorf("with a majority: %+v", st)
	}

	// In a group that is whole it is known as soon as others are heard.
	again := w.member(2)
	w.crash(again)
	w.start(again)
	again.noticed = nil
	if st := again.group.Status(); st.Quorum || !st.QuorumUnknown {
		t.Errorf("before the first tick: %+v", st)
	}
	w.run(2 * reportTicks)
	if st := again.group.Status(); !st.Quorum || st.QuorumUnknown {
		t.Errorf("among the others: %+v", st)
	}
	if slices.ContainsFunc(again.noticed, func(n Notice) bool { return n.Kind == QuorumLost }) {
		t.Errorf("noticed: %+v", again.noticed)
	}
}

// A group of one is its own majority, from before the first tick, and so is one
// whose log names the view only when it has been gone through.
func TestQuorumOfOne(t *testing.T) {
	w := newWorld(t)
	w.bootstrap(1)
	m := w.member(1)
	if st := m.group.Status(); !st.Quorum || st.QuorumUnknown {
		t.Errorf("its log gone through: %+v", st)
	}
	w.run(20)
	w.saveCheckpoint(m)
	g, err := New(w.config(m))
	if err != nil {
		t.Fatal(err)
	}
	if st := g.Status(); !st.Quorum || st.QuorumUnknown {
		t.Errorf("from a checkpoint: %+v", st)
	}
	// Nobody is asked who is in no view.
	empty := w.add(2)
	w.start(empty)
	if st := empty.group.Status(); st.Quorum || st.QuorumUnknown {
		t.Errorf("without a view: %+v", st)
	}
}

// An operator's order is not written into the log of a minority.
func TestRemovalNeedsQuorum(t *testing.T) {
	w := expelling(t, 3)
	leader := w.member(1).group
	suspect := func(suspected bool) {
		for i := range leader.detector.peers {
			leader.detector.peers[i].suspected = suspected
		}
	}
	last, _ := w.member(1).log.LastIndex()
	suspect(true)
	a := leader.Change(Change{Kind: Removed, Member: Member{RaftID: 3}})
	w.pump(w.member(1))
	if now, _ := w.member(1).log.LastIndex(); now != last || a.Done || a.Refused != nil || a.Leader.RaftID != 1 {
		t.Errorf("answered %+v, and the log went on from %d to %d", a, last, now)
	}
	if a = leader.Change(Change{Kind: Removed, Member: Member{RaftID: 9}}); a.Refused == nil {
		t.Error("the removal of nobody is not refused")
	}
	suspect(false)
	leader.Change(Change{Kind: Removed, Member: Member{RaftID: 3}})
	w.pump(w.member(1))
	w.settle()
	if has(leader.View(), 3) {
		t.Error("with a majority it is not removed")
	}
}

// A member whose disk is slow follows a leader in a view that it does not know yet.
// Of the view that it knows most are gone, and yet it misses no majority.
func TestFollowerOfALeaderMissesNoMajority(t *testing.T) {
	w := expelling(t, 3)
	w.expel = -1
	slow := w.member(3)
	slow.stalled = true
	for _, n := range []uint64{4, 5} {
		m := w.add(n)
		w.copyFrom(m, w.leader())
		w.start(m)
		w.join(m, w.leader())
		w.takes("member is ONLINE", func() bool {
			v, ok := w.leader().group.View().Member(n)
			return ok && v.State == Online
		})
	}
	for _, n := range []uint64{1, 2} {
		m := w.member(n)
		if err := m.group.Leave(); err != nil {
			t.Fatal(err)
		}
		w.takes("member has left", func() bool { return m.group.Removed() })
		w.crash(m)
	}
	slow.noticed = nil
	w.run(10 * suspectTicks)
	if got := slow.group.View(); len(got.Members) != 3 {
		t.Fatalf("the slow member knows %s already", got)
	}
	if st, got := slow.group.Status(), slow.kinds(); st.Quorum || st.NoQuorumTicks != 0 || strings.Contains(got, "quorum") {
		t.Errorf("a member that is led has noticed %s, and its status is %+v", got, st)
	}
	for _, n := range []uint64{4, 5} {
		w.deaf[[2]uint64{n, 3}] = true
	}
	w.run(3 * suspectTicks)
	if st := slow.group.Status(); st.NoQuorumTicks < suspectTicks {
		t.Errorf("a member that hears nobody has the status %+v", st)
	}
	clear(w.deaf)
	w.resume(slow)
	w.takes("it knows the view", func() bool { return slow.group.Status().Quorum })
}
