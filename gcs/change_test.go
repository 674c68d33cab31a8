package gcs

import (
	"errors"
	"slices"
	"testing"
	"testing/cryptotest"

	"go.etcd.io/raft/v3"
)

// A member takes another one's place in one entry and one view. Whoever goes
// hears of it, and its raft id does not come back.
func TestReplacement(t *testing.T) {
	cryptotest.SetGlobalRandom(t, 1)
	w := newWorld(t)
	w.form(3)
	before := w.member(1).group.View()
	w.crash(w.member(3))
	w.start(w.add(4))
	leader := w.member(1).group
	if err := leader.proposeChange(replace(3, recovering(4))); err != nil {
		t.Fatal(err)
	}
	w.pump(w.member(1))
	w.run(40)
	history := leader.History()
	at := slices.IndexFunc(history, func(r ViewRecord) bool { return r.Cause.Kind == Replaced })
	if at < 0 || history[at].ID != before.ID+1 || history[at].Cause.Replaces != 3 || history[at].Cause.Member != recovering(4) {
		t.Fatalf("the history is %+v", history)
	}
	if got := standing(leader.View()); got != "1=ONLINE 2=ONLINE 4=ONLINE" {
		t.Fatalf("members are %s", got)
	}
	w.start(w.member(3))
	w.run(40)
	if !w.member(3).group.Removed() {
		t.Error("the member that went does not know")
	}
	for _, c := range []Change{join(recovering(3)), replace(4, recovering(3))} {
		if _, err := leader.applied(c, 99); !isRefused(err) {
			t.Errorf("%s came back with its raft id: %v", c, err)
		}
	}
}

func isRefused(err error) bool {
	_, ok := errors.AsType[*RefusedChangeError](err)
	return ok
}

// A leader that is expelled, or removed, loses the lead with its place.
func TestLossOfTheLeader(t *testing.T) {
	for _, c := range []Change{expel(online(1)), remove(online(1)), replace(1, recovering(4))} {
		cryptotest.SetGlobalRandom(t, 1)
		w := newWorld(t)
		w.form(3)
		w.start(w.add(4))
		if err := w.member(1).group.proposeChange(c); err != nil {
			t.Fatal(err)
		}
		w.pump(w.member(1))
		w.run(80)
		if st := w.member(1).group.Status(); st.Leading || !w.member(1).group.Removed() {
			t.Errorf("%s: it leads: %v, it knows: %v", c, st.Leading, w.member(1).group.Removed())
		}
		st := w.member(2).group.Status()
		if _, there := st.View.Member(1); there || st.Leader == raft.None {
			t.Errorf("%s: %d leads in %s", c, st.Leader, st.View)
		}
	}
}

// What a checkpoint remembers is what the log says, on every member alike.
func TestHistoryFollowsTheLog(t *testing.T) {
	cryptotest.SetGlobalRandom(t, 1)
	w := newWorld(t)
	w.form(3)
	m := w.member(2)
	w.saveCheckpoint(m)
	m.log.truncate(m.checkpoint.Index)
	for range 3 {
		w.crash(w.member(1)) // and somebody leads in a new term
		w.run(60)
		w.start(w.member(1))
		w.run(10)
	}
	w.crash(m)
	w.start(m)
	w.run(40)
	whole := w.member(1).group
	if got, want := m.group.History(), whole.History(); len(got) != int(whole.View().ID) || len(want) != len(got) {
		t.Errorf("%d and %d views are remembered after %d", len(got), len(want), whole.View().ID)
	}
	if got := whole.Terms(); !slices.Equal(got, m.group.Terms()) || len(got) < 2 || got[0] != (TermRun{1, 1}) {
		t.Errorf("terms are %v, after a checkpoint %v", got, m.group.Terms())
	}
	last := whole.Terms()[len(whole.Terms())-1]
	before, _ := w.member(1).log.Term(last.First - 1)
	if at, err := w.member(1).log.Term(last.First); err != nil || at != last.Term || before >= last.Term {
		t.Errorf("term %d does not begin at %d: %d after %d", last.Term, last.First, at, before)
	}
}
