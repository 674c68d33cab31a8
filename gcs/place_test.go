package gcs

import (
	"errors"
	"strings"
	"testing"
)

// A newcomer with the UUID of a member takes its place, once that one is silent;
// any other may be told to.
func TestTakingAPlace(t *testing.T) {
	for name, c := range map[string]struct {
		uuid, replaces uint64
		refused        string
	}{
		"its own":       {uuid: 3, refused: "its UUID is that of the member at m3:7400, which is heard"},
		"another one's": {uuid: 4, replaces: 3, refused: "which it is to replace, is heard"},
	} {
		t.Run(name, func(t *testing.T) {
			w := expelling(t, 3)
			leader := w.member(1).group
			m := with(recovering(9), func(m *Member) { m.UUID = uuid(c.uuid) })
			if got := w.member(2).group.Join(m, c.replaces); got.Leader.RaftID != 1 || got.Refused != nil {
				t.Errorf("a follower answers %+v", got)
			}
			refuse := func() {
				t.Helper()
				refused, ok := errors.AsType[*RefusedChangeError](leader.Join(m, c.replaces).Refused)
				if !ok || !strings.Contains(refused.Reason, c.refused) {
					t.Errorf("the answer is %v, want %q", refused, c.refused)
				}
			}
			refuse()
			w.crash(w.member(3))
			w.run(suspectTicks - reportTicks)
			refuse()
			w.run(reportTicks)
			if got := leader.Join(m, c.replaces); got.Refused != nil || got.Joined {
				t.Errorf("the answer is %+v", got)
			}
			w.pump(w.member(1))
			w.settle()
			v := leader.View()
			if standing(v) != "1=ONLINE 2=ONLINE 9=RECOVERING" || v.Cause.Kind != Replaced || v.Cause.Replaces != 3 {
				t.Errorf("the view is %s, its cause %+v", v, v.Cause)
			}
			if !strings.Contains(v.Cause.Reason, "in the place of "+uuid(3).String()+" at m3:7400: m1:7400, which leads, has not heard it for ") {
				t.Errorf("the reason is %s", v.Cause.Reason)
			}
			if got := leader.Join(m, c.replaces); !got.Joined {
				t.Errorf("the answer to one that is in is %+v", got)
			}
		})
	}
}

// Places that cannot be taken.
func TestTakingNoPlace(t *testing.T) {
	w := expelling(t, 3)
	leader := w.member(1).group
	for name, c := range map[string]struct {
		m        Member
		replaces uint64
		refused  string
	}{
		"of a stranger":        {recovering(9), 8, "is not in this view"},
		"of the leader":        {recovering(9), 1, "is heard"},
		"of the leader itself": {with(recovering(9), func(m *Member) { m.UUID = uuid(1) }), 0, "which is heard"},
	} {
		got := leader.Join(c.m, c.replaces)
		if refused, ok := errors.AsType[*RefusedChangeError](got.Refused); !ok || !strings.Contains(refused.Reason, c.refused) {
			t.Errorf("%s: the answer is %+v, want %q", name, got, c.refused)
		}
	}
	// One that flaps may be suspected and yet there.
	w.cut[[2]uint64{1, 3}], w.cut[[2]uint64{2, 3}] = true, true
	w.run(suspectTicks + 2)
	clear(w.cut)
	w.run(reportTicks + 1)
	w.cut[[2]uint64{1, 3}], w.cut[[2]uint64{2, 3}] = true, true
	w.run(suspectTicks + 2)
	clear(w.cut)
	w.run(reportTicks + 1)
	if !w.member(1).sees(t, 3).Unreachable {
		t.Fatal("the flapping member is trusted")
	}
	if got := leader.Join(recovering(9), 3); got.Refused == nil {
		t.Errorf("the place of one that is heard is taken: %+v", got)
	}
}

// Without a majority nobody's place is taken: the newcomer has to ask again.
func TestTakingAPlaceWithoutQuorum(t *testing.T) {
	w := expelling(t, 3)
	leader := w.member(1).group
	w.crash(w.member(2))
	w.crash(w.member(3))
	for leader.detector.tick(leader.ticks+suspectTicks+reportTicks, nil) == nil {
		t.Fatal("nobody is suspected")
	}
	before := leader.last
	if got := leader.Join(recovering(9), 3); got.Refused != nil || got.Joined {
		t.Errorf("the answer is %+v", got)
	}
	w.pump(w.member(1))
	if leader.last != before {
		t.Error("a replacement was proposed")
	}
}

// An operator removes any member, heard or not, and the leader too.
func TestRemoving(t *testing.T) {
	for id := range uint64(3) {
		for _, down := range []bool{false, true} {
			w := expelling(t, 3)
			id, asked := id+1, uint64(2)
			if id == 2 {
				asked = 3
			}
			if down && id != 1 {
				w.crash(w.member(id))
			}
			order := Change{Kind: Removed, Member: Member{RaftID: id}, Reason: "on order"}
			var answer ChangeAnswer
			w.takes("removal", func() bool {
				answer = w.member(asked).group.Change(order)
				w.pump(w.member(asked))
				if answer.Refused != nil {
					t.Fatal(answer.Refused)
				}
				if to := answer.Leader.RaftID; to != 0 && to != asked {
					asked = to
				}
				return answer.Done
			})
			v := answer.View
			if has(v, id) || v.Cause.Kind != Removed || v.Cause.Reason != "on order" || v.Cause.Member.UUID != uuid(id) {
				t.Errorf("removal of %d made %s with %+v", id, v, v.Cause)
			}
			if got := w.leader().group.Change(Change{Kind: Removed, Member: Member{RaftID: 9}}); got.Refused == nil || got.Done {
				t.Errorf("removal of a stranger is answered with %+v", got)
			}
		}
	}
}

// What no operator can order in this way.
func TestChangeRefuses(t *testing.T) {
	w := expelling(t, 1)
	for _, c := range []Change{
		{Kind: Expelled, Member: online(1)},
		{Kind: Forced, Incarnation: uuid(201), Members: []Member{online(1)}},
		{Kind: Removed, Member: online(1)}, // the last one
		{Kind: Removed, Member: online(1), Reason: strings.Repeat("x", MaxReason+1)},
	} {
		if got := w.member(1).group.Change(c); got.Refused == nil {
			t.Errorf("%v is answered with %+v", c.Kind, got)
		}
	}
}

// Reasons are fit for the log, whatever the addresses are.
func TestReasonsFit(t *testing.T) {
	w := expelling(t, 3)
	g := w.member(1).group
	for i := range g.view.Members {
		g.view.Members[i].Address = "\xff" + strings.Repeat("é", maxAddressLen/2-1) + string(rune('a'+i))
	}
	w.crash(w.member(3))
	w.takes("expulsion", func() bool { return !has(w.member(2).group.View(), 3) })
	if got := w.member(2).group.View().Cause.Reason; len(got) < MaxReason-4 || len(got) > MaxReason {
		t.Errorf("the reason has %d bytes: %q", len(got), got)
	}
}
