package gcs

import (
	"fmt"
	"testing"

	"go.etcd.io/raft/v3/raftpb"
	"pgregory.net/rapid"
)

// A leader whose disk stands still gives the lead to one whose disk works, and
// is an ordinary member again when it is back.
func TestStalledLeaderStepsAside(t *testing.T) {
	w := expelling(t, 3)
	first, second, third := w.member(1), w.member(2), w.member(3)
	w.run(3 * stallTicks)
	if first.group.Status().Stalled || !first.group.Status().Leading {
		t.Fatalf("a disk that has nothing to do has stalled: %+v", first.group.Status())
	}
	first.kinds()
	first.stalled = true
	w.load(first, 1)
	w.settle()
	if got := second.group.Status().Delivered; got != first.group.Status().Delivered+1 {
		t.Fatalf("the group did not go on without the leader's disk: %d is delivered", got)
	}
	w.run(stallTicks - 1)
	if first.group.Status().Stalled {
		t.Error("stalled too early")
	}
	took := w.takes("the change of leader", func() bool { return second.group.Status().Leading || third.group.Status().Leading })
	if took > 2*reportTicks {
		t.Errorf("the lead was given up after %d more ticks", took)
	}
	w.run(reportTicks)
	heir := w.leader()
	if !first.group.Status().Stalled || !heir.sees(t, 1).Report.Stalled || heir.sees(t, 1).Unreachable {
		t.Errorf("what is seen of the stalled disk: %+v", heir.sees(t, 1))
	}
	if got, want := first.kinds(), fmt.Sprintf("disk stalled 1, lead handed over %d", heir.n); got != want {
		t.Errorf("noticed: %s, want %s", got, want)
	}
	w.load(heir, 3)
	w.run(10 * expelTicks)
	if w.leader() != heir || !has(heir.group.View(), 1) {
		t.Errorf("%d leads %s", w.leader().n, heir.group.View())
	}
	w.resume(first)
	w.run(2 * reportTicks)
	if a, b := first.group.Status(), heir.group.Status(); a.Stalled || a.Delivered != b.Delivered {
		t.Errorf("after it is back, the member is at %d of %d: %+v", a.Delivered, b.Delivered, a)
	}
	if got, want := first.kinds(), "disk back 1"; got != want {
		t.Errorf("noticed: %s, want %s", got, want)
	}
}

// The lead does not go to a member whose disk has stalled as well.
func TestHeirHasADisk(t *testing.T) {
	w := expelling(t, 4)
	first, second := w.member(1), w.member(2)
	second.stalled = true
	w.load(first, 1)
	w.run(stallTicks + reportTicks)
	for range 5 {
		if got := first.group.heir(); got == 2 || got == 0 || first.group.fit(2) {
			t.Errorf("the heir is %d", got)
		}
		w.run(1)
	}
	w.resume(second)
	w.run(2 * reportTicks)
	if !first.group.fit(2) {
		t.Error("a member is not fit though its disk is back")
	}
}

// When the others cannot elect anybody without the leader's disk, it keeps the
// lead: giving it up would only stop the group.
func TestStalledLeaderOfTwoStays(t *testing.T) {
	w := expelling(t, 2)
	first := w.member(1)
	first.kinds()
	first.stalled = true
	w.load(first, 1)
	w.run(5 * stallTicks)
	if st := first.group.Status(); !st.Leading || !st.Stalled {
		t.Errorf("the status is %+v", st)
	}
	if got, want := first.kinds(), "disk stalled 1"; got != want {
		t.Errorf("noticed: %s, want %s", got, want)
	}
	w.resume(first)
	w.run(2 * reportTicks)
	if a, b := first.group.Delivered(), w.member(2).group.Delivered(); a != b || first.group.Status().Stalled {
		t.Errorf("delivered are %d and %d", a, b)
	}
}

// A member whose disk has stalled does not campaign, and does when it is back.
func TestStalledMemberDoesNotCampaign(t *testing.T) {
	w := expelling(t, 3)
	third := w.member(3)
	third.stalled = true
	w.load(w.member(1), 1)
	w.run(stallTicks + reportTicks)
	w.crash(w.member(1))
	w.crash(w.member(2))
	term := third.group.Status().Term
	w.wire = nil
	for range 100 {
		w.tick(third)
	}
	for _, e := range w.wire {
		if e.msg.Kind == MessageRaft {
			t.Fatalf("it says %v", e.msg.Raft)
		}
	}
	w.wire = nil
	w.resume(third)
	w.start(w.member(2))
	w.run(60)
	if got := w.leader().group.Status().Term; got <= term {
		t.Errorf("the term is %d, was %d", got, term)
	}
}

// A hand-over that fails is tried again, but not all the time.
func TestStalledLeaderTriesAgain(t *testing.T) {
	w := expelling(t, 3)
	first := w.member(1)
	first.stalled = true
	w.load(first, 1)
	tries := 0
	const ticks = 20 * stallTicks
	for range ticks {
		for _, m := range w.up() {
			w.tick(m)
		}
		for i := 0; i < len(w.wire); i++ {
			if e := w.wire[i]; e.msg.Kind == MessageRaft && e.msg.Raft.GetType().String() == "MsgTimeoutNow" {
				tries++
				w.wire = append(w.wire[:i], w.wire[i+1:]...)
				i--
			}
		}
		w.settle()
	}
	if tries < 5 || tries > ticks/(2*stallTicks) {
		t.Errorf("%d tries in %d ticks", tries, ticks)
	}
}

// What was applied says nothing of what is written.
func TestApplyingIsNoAnswerOfTheDisk(t *testing.T) {
	w := expelling(t, 1)
	g := w.member(1).group
	g.owing.add(g.ticks, 1)
	g.noteWritten([]*raftpb.Message{{Type: raftpb.MsgStorageApplyResp.Enum()}})
	if got := g.owing.age(g.ticks + 5); got != 5 {
		t.Errorf("the oldest answer is owed for %d ticks, want 5", got)
	}
	g.noteWritten([]*raftpb.Message{{Type: raftpb.MsgStorageAppendResp.Enum()}})
	if got := g.owing.age(g.ticks + 5); got != 0 {
		t.Errorf("an answer that has come is owed for %d ticks", got)
	}
}

// What is owed, and for how long, against a list of single responses.
func TestOwingAgreesWithTheObvious(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var o owing
		var since []int // of each response owed
		now := 0
		t.Repeat(map[string]func(*rapid.T){
			"tick": func(*rapid.T) { now++ },
			"write": func(t *rapid.T) {
				n := rapid.IntRange(0, 3).Draw(t, "responses")
				o.add(now, n)
				for range n {
					since = append(since, now)
				}
			},
			"answer": func(t *rapid.T) {
				n := rapid.IntRange(0, len(since)).Draw(t, "responses")
				o.answered(n)
				since = since[n:]
			},
			"": func(t *rapid.T) {
				want := 0
				if len(since) > 0 {
					want = now - since[0]
				}
				if got := o.age(now); got != want {
					t.Fatalf("the oldest is owed for %d ticks, want %d", got, want)
				}
				if len(o.writes) > now+1 {
					t.Fatalf("%d records after %d ticks", len(o.writes), now)
				}
			},
		})
	})
}
