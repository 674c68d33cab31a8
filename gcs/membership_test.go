package gcs

import (
	"strconv"
	"strings"
	"testing"
	"testing/cryptotest"
)

// newcomer is a leader alone in its view and a member that has just asked to
// be let in.
func newcomer(t *testing.T) (w *world, leader, joiner *member) {
	t.Helper()
	cryptotest.SetGlobalRandom(t, 1)
	w = newWorld(t)
	w.form(1)
	leader = w.member(1)
	joiner = w.add(2)
	w.start(joiner)
	w.join(joiner, leader)
	return w, leader, joiner
}

// load puts n entries into the log.
func (w *world) load(m *member, n int) {
	for i := range n {
		w.submit(m, strconv.Itoa(i))
		w.pump(m)
	}
}

// A member that keeps up is made ONLINE although the log grows by more between
// two ticks than it may be behind.
func TestPromotionUnderLoad(t *testing.T) {
	w, leader, _ := newcomer(t)
	for range 10 {
		w.load(leader, 3*PromoteLag)
		w.run(1)
	}
	if got := leader.group.View().online(); got != 2 {
		t.Errorf("%d members are ONLINE under load: %s", got, leader.group.View())
	}
}

// A member whose engine, or whose delivery, falls further and further behind
// is not made ONLINE, however long that goes on.
func TestPromotionWaitsForTheSlow(t *testing.T) {
	for name, slow := range map[string]func(delivered uint64) *Report{
		"engine":   func(delivered uint64) *Report { return &Report{Delivered: delivered, Applied: delivered / 4} },
		"delivery": func(delivered uint64) *Report { return &Report{Delivered: delivered / 4, Applied: delivered / 4} },
	} {
		t.Run(name, func(t *testing.T) {
			w, leader, joiner := newcomer(t)
			for round := range 10 {
				w.load(leader, 3*PromoteLag)
				for range reportTicks {
					w.tick(leader)
				}
				w.settle()
				if round < 3 {
					continue // so early nobody is far behind
				}
				leader.group.Receive(joiner.n, Message{Kind: MessageReport, Report: slow(joiner.group.Delivered())})
			}
			if got := leader.group.View().online(); got != 1 {
				t.Errorf("%d members are ONLINE: %s", got, leader.group.View())
			}
		})
	}
}

// A member that is down holds no history, whether it has reported before or
// never has. One that runs does, as does one that a new leader has yet to hear.
func TestOldestSnapshotIsOfThoseThatAreHeard(t *testing.T) {
	cryptotest.SetGlobalRandom(t, 1)
	w := newWorld(t)
	w.form(3)
	leader := w.member(1).group
	oldest := func() uint64 {
		index, ok := leader.OldestSnapshot()
		if !ok {
			t.Fatal("not everybody is heard")
		}
		return index
	}
	w.run(reportTicks)
	w.load(w.member(1), 10)
	w.settle()
	end := leader.Delivered()
	w.run(2 * reportTicks)
	if got := oldest(); got != end {
		t.Errorf("the oldest snapshot is at %d, want %d", got, end)
	}
	w.crash(w.member(3))
	w.load(w.member(1), 10)
	w.run(reportTicks)
	if got := oldest(); got != end {
		t.Errorf("the oldest snapshot is at %d, a member has just reported %d", got, end)
	}
	w.run(suspectTicks)
	if got := oldest(); got != leader.Delivered() {
		t.Errorf("the oldest snapshot is at %d, of a member that is down", got)
	}

	w.cut[[2]uint64{1, 2}] = true // and comes back under a leader who has not heard it
	w.run(60)
	clear(w.cut)
	for !w.member(1).leading && !w.member(2).leading {
		w.run(1)
	}
	if w.member(2).leading {
		leader = w.member(2).group
	}
	if _, ok := leader.OldestSnapshot(); ok {
		t.Error("a new leader says what it cannot know")
	}
	w.run(suspectTicks + 1)
	if got := oldest(); got != leader.Delivered() {
		t.Errorf("the oldest snapshot is at %d, the log ends at %d", got, leader.Delivered())
	}
}

// Who has thought better of leaving can be handed the lead again.
func TestHeirIsOneThatStays(t *testing.T) {
	cryptotest.SetGlobalRandom(t, 1)
	w := newWorld(t)
	w.form(2)
	leader := w.member(1).group
	w.run(reportTicks)
	if got := leader.heir(); got != 2 {
		t.Fatalf("the heir is %d", got)
	}
	leader.changeAt = leader.ticks // a change is under way, so none is proposed
	leader.Receive(2, Message{Kind: MessageLeave})
	if got := leader.heir(); got != 0 {
		t.Errorf("the heir is %d, which wants to leave", got)
	}
	w.run(suspectTicks + 1)
	if got := leader.heir(); got != 2 {
		t.Errorf("the heir is %d, long after 2 asked to leave for the last time", got)
	}
}

// The log that a newcomer goes on with after its clone is needed for all the
// time that it clones, as long as it says so. Snapshots it has none.
func TestNeededByOneThatClones(t *testing.T) {
	cryptotest.SetGlobalRandom(t, 1)
	w := newWorld(t)
	w.form(2)
	leader, joiner := w.member(1), w.add(3)
	needed := func() uint64 {
		index, ok := leader.group.Needed()
		if !ok {
			t.Fatal("the leader does not know what is needed")
		}
		return index
	}
	if _, ok := w.member(2).group.Needed(); ok {
		t.Error("a follower says what is needed")
	}
	w.load(leader, 10)
	w.run(reportTicks)
	if got, end := needed(), leader.group.Delivered(); got != end {
		t.Errorf("%d is needed by members that have %d", got, end)
	}
	w.saveCheckpoint(leader)
	cut := leader.checkpoint.Index
	leader.log.truncate(cut)
	w.start(joiner)
	w.join(joiner, leader)
	w.run(2 * reportTicks)
	w.story.end()
	if joiner.clone != 1 {
		t.Fatalf("the newcomer is to be cloned: %d", joiner.clone)
	}
	w.crash(joiner)
	for range 5 {
		w.load(leader, 10)
		for range suspectTicks / reportTicks {
			leader.group.Receive(3, Message{Kind: MessageReport, Report: &Report{Recovering: true}})
			w.run(reportTicks)
		}
		if got := needed(); got != cut {
			t.Fatalf("%d is needed while a member clones what is in the log up to %d", got, cut)
		}
		if got, ok := leader.group.OldestSnapshot(); !ok || got <= cut {
			t.Errorf("the oldest snapshot is at %d: %v", got, ok)
		}
	}
	if strings.Contains(w.story.end(), "snapshot") {
		t.Error("a member that says that it clones is offered another clone")
	}
	w.run(suspectTicks)
	if got, end := needed(), leader.group.Delivered(); got != end {
		t.Errorf("%d is needed while the member that clones is silent, the log ends at %d", got, end)
	}
	w.copyFrom(joiner, w.member(2))
	w.run(4 * reportTicks)
	if got := leader.group.View().online(); got != 3 {
		t.Errorf("%d members are ONLINE", got)
	}
	if got, end := needed(), leader.group.Delivered(); got != end {
		t.Errorf("%d is needed by members that have %d", got, end)
	}
}
