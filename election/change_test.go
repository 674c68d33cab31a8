package election

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
)

// writers lists who may write, each with the epoch since which it may.
func writers(s *State) string {
	var there []string
	for _, m := range s.Members() {
		if m.Writes {
			there = append(there, fmt.Sprintf("%d since %d", m.RaftID, m.Since))
		}
	}
	return strings.Join(there, ", ")
}

// view is the next view of s, without some members and with others.
func view(s *State, without []uint64, with ...Member) View {
	next := View{ID: s.view + 1, Index: 10 * (s.view + 1)}
	for _, m := range s.Members() {
		if !slices.Contains(without, m.RaftID) && !slices.ContainsFunc(with, func(o Member) bool { return o.RaftID == m.RaftID }) {
			next.Members = append(next.Members, m)
		}
	}
	next.Members = append(next.Members, with...)
	return next
}

// told is what a step of a story left.
type told struct {
	epoch   string // the newest: number cause primary
	writers string
	ended   string // result: text, "" for nothing
	open    bool   // an action is
}

func tell(s *State, e Effect) told {
	p, ok := s.Primary()
	shown, same := s.Snapshot().PrimaryMember()
	if p != shown || ok != same || ok != (s.Mode() == SinglePrimary && s.primary != 0) {
		panic(fmt.Sprintf("the primary is %+v (%t) and %+v (%t), in %s mode", p, ok, shown, same, s.Mode()))
	}
	last := s.past[len(s.past)-1]
	t := told{
		epoch:   fmt.Sprintf("%d %s %d", s.Epoch(), last.Cause, s.primary),
		writers: writers(s), open: s.action != nil,
	}
	if e.Ended != nil {
		t.ended = e.Ended.Result.String() + ": " + e.Ended.Text
	}
	return t
}

const (
	one   = "00000000-0000-0000-0000-000000000001"
	two   = "00000000-0000-0000-0000-000000000002"
	third = "00000000-0000-0000-0000-000000000003"
)

// planned has who may go in which step of a planned change, whose id is 99, and
// what comes of it. See the tables of leavers of Group Replication; there it
// depends on how far each member is.
var planned = []struct {
	name string
	kind ActionKind
	step func(*State) Effect
	want told
}{
	{"set-primary: drained", SetPrimary, func(s *State) Effect {
		return s.Drained(96, 1, Drain{Action: uuid(99)})
	}, told{"2 planned 2", "2 since 2", "done: " + two + " is primary since epoch 2", false}},
	{"set-primary: drained late", SetPrimary, func(s *State) Effect {
		return s.Drained(96, 1, Drain{uuid(99), 5})
	}, told{"2 planned 2", "2 since 2", "done: " + two + " is primary since epoch 2; 5 open transactions were given up", false}},
	{"set-primary: another member drained", SetPrimary, func(s *State) Effect {
		return s.Drained(96, 2, Drain{Action: uuid(99)})
	}, told{"1 founded 1", "1 since 0", "", true}},
	{"set-primary: drained for another action", SetPrimary, func(s *State) Effect {
		return s.Drained(96, 1, Drain{Action: uuid(98)})
	}, told{"1 founded 1", "1 since 0", "", true}},
	{"set-primary: grace over", SetPrimary, func(s *State) Effect {
		return s.GraceOver(96, 4, Lapse{uuid(99), 4})
	}, told{"2 planned 2", "2 since 2", "done: " + two + " is primary since epoch 2; the grace was over before these had drained: " + one, false}},
	{"set-primary: grace over, says a deposed leader", SetPrimary, func(s *State) Effect {
		return s.GraceOver(96, 5, Lapse{uuid(99), 4})
	}, told{"1 founded 1", "1 since 0", "", true}},
	{"set-primary: grace over of another action", SetPrimary, func(s *State) Effect {
		return s.GraceOver(96, 4, Lapse{uuid(98), 4})
	}, told{"1 founded 1", "1 since 0", "", true}},
	{"set-primary: cancelled", SetPrimary, func(s *State) Effect {
		return s.Cancel(96, uuid(99))
	}, told{"1 founded 1", "1 since 0", "cancelled: cancelled", false}},
	{"set-primary: another one cancelled", SetPrimary, func(s *State) Effect {
		return s.Cancel(96, uuid(98))
	}, told{"1 founded 1", "1 since 0", "", true}},
	{"set-primary: the primary goes", SetPrimary, func(s *State) Effect {
		return s.View(view(s, []uint64{1}), false)
	}, told{"2 primary gone 2", "2 since 2", "done by failover: primary gone before the old primary had drained", false}},
	{"set-primary: the primary goes, most up to date preferred", SetPrimary, func(s *State) Effect {
		return s.View(view(s, []uint64{1}), true)
	}, told{"2 primary gone 2", "2 since 2", "done by failover: primary gone before the old primary had drained", false}},
	{"set-primary: the primary is silent", SetPrimary, func(s *State) Effect {
		return s.Depose(96, 4, Deposal{Epoch: 1, Term: 4, Target: 1}, false)
	}, told{"2 primary silent 2", "2 since 2", "done by failover: primary silent before the old primary had drained", false}},
	{"set-primary: the primary and the target are silent", SetPrimary, func(s *State) Effect {
		return s.Depose(96, 4, Deposal{Epoch: 1, Term: 4, Target: 1, Passed: []uint64{2}}, false)
	}, told{"2 primary silent 3", "3 since 2", "aborted: primary silent, and the member that was to take over could not", false}},
	{"set-primary: everybody is silent, and the target the next", SetPrimary, func(s *State) Effect {
		s.Open(2, Description{Version: version("1.0.0"), Weight: 99, Oldest: 1, Newest: 1})
		return s.Depose(96, 4, Deposal{Epoch: 1, Term: 4, Target: 1, Passed: []uint64{2, 3}}, false)
	}, told{"2 primary silent 2", "2 since 2", "done by failover: primary silent before the old primary had drained", false}},
	{"set-primary: the target goes", SetPrimary, func(s *State) Effect {
		return s.View(view(s, []uint64{2}), false)
	}, told{"1 founded 1", "1 since 0", "aborted: the member that was to become primary is out of the view", false}},
	{"set-primary: both go", SetPrimary, func(s *State) Effect {
		return s.View(view(s, []uint64{1, 2}), false)
	}, told{"2 primary gone 3", "3 since 2", "aborted: primary gone, and the member that was to take over could not", false}},
	{"set-primary: a bystander goes", SetPrimary, func(s *State) Effect {
		return s.View(view(s, []uint64{3}), false)
	}, told{"1 founded 1", "1 since 0", "", true}},
	{"set-primary: a member joins", SetPrimary, func(s *State) Effect {
		return s.View(view(s, nil, recovering(4, "1.0.0", 50)), false)
	}, told{"1 founded 1", "1 since 0", "", true}},
	{"set-primary: forced view", SetPrimary, func(s *State) Effect {
		v := view(s, []uint64{3})
		v.Forced = true
		return s.View(v, false)
	}, told{"2 forced view 1", "1 since 0", "aborted: the membership was forced", false}},
	{"single: one of two drained", ToSingle, func(s *State) Effect {
		return s.Drained(96, 1, Drain{uuid(99), 5})
	}, told{"1 founded 0", "1 since 0, 2 since 1, 3 since 1", "", true}},
	{"single: the other goes", ToSingle, func(s *State) Effect {
		s.Drained(96, 1, Drain{uuid(99), 5})
		return s.View(view(s, []uint64{3}), false)
	}, told{"2 switched to single-primary 2", "2 since 1", "done: " + two + " is primary since epoch 2; 5 open transactions were given up", false}},
	{"single: both drained", ToSingle, func(s *State) Effect {
		s.Drained(96, 3, Drain{uuid(99), 3})
		return s.Drained(97, 1, Drain{uuid(99), 4})
	}, told{"2 switched to single-primary 2", "2 since 1", "done: " + two + " is primary since epoch 2; 7 open transactions were given up", false}},
	{"single: one goes", ToSingle, func(s *State) Effect {
		return s.View(view(s, []uint64{1}), false)
	}, told{"1 founded 0", "2 since 1, 3 since 1", "", true}},
	{"single: grace over", ToSingle, func(s *State) Effect {
		return s.GraceOver(96, 4, Lapse{uuid(99), 4})
	}, told{"2 switched to single-primary 2", "2 since 1", "done: " + two + " is primary since epoch 2; the grace was over before these had drained: " + one + ", " + third, false}},
	{"single: the target goes", ToSingle, func(s *State) Effect {
		return s.View(view(s, []uint64{2}), false)
	}, told{"1 founded 0", "1 since 0, 3 since 1", "aborted: the member that was to become primary is out of the view", false}},
	{"single: a member becomes ONLINE", ToSingle, func(s *State) Effect {
		return s.View(view(s, nil, online(4, "1.0.0", 50)), false)
	}, told{"1 founded 0", "1 since 0, 2 since 1, 3 since 1", "", true}},
	{"single: a member becomes ONLINE, and it is cancelled", ToSingle, func(s *State) Effect {
		s.View(view(s, nil, online(4, "1.0.0", 50)), false)
		return s.Cancel(110, uuid(99))
	}, told{"1 founded 0", "1 since 0, 2 since 1, 3 since 1, 4 since 1", "cancelled: cancelled", false}},
	{"single: deposed in a mode without primary", ToSingle, func(s *State) Effect {
		return s.Depose(96, 4, Deposal{Epoch: 1, Term: 4}, false)
	}, told{"1 founded 0", "1 since 0, 2 since 1, 3 since 1", "", true}},
}

func TestPlannedChange(t *testing.T) {
	for _, c := range planned {
		mode := SinglePrimary
		if c.kind == ToSingle {
			mode = MultiPrimary
		}
		s := draining(three(mode), c.kind, 2)
		if diff := gocmp.Diff(c.want, tell(s, c.step(s)), gocmp.AllowUnexported(told{})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
}

// silent is a leader's message about the founder.
var silent = Deposal{Epoch: 1, Term: 4, Target: 1, Evidence: "silent for 1s"}

// failovers has the ways in which a primary loses its place without a plan.
var failovers = []struct {
	name  string
	state *State
	step  func(*State) Effect
	want  told
}{
	{"a member of higher weight comes", three(SinglePrimary), func(s *State) Effect {
		return s.View(view(s, nil, online(4, "1.0.0", 100)), false)
	}, told{"1 founded 1", "1 since 0", "", false}},
	{"gone", three(SinglePrimary), func(s *State) Effect {
		return s.View(view(s, []uint64{1}), false)
	}, told{"2 primary gone 3", "3 since 2", "", false}},
	{"gone, most up to date preferred", three(SinglePrimary), func(s *State) Effect {
		return s.View(view(s, []uint64{1}), true)
	}, told{"2 primary gone 0", "", "", false}},
	{"gone, most up to date preferred, and one left", group(SinglePrimary, online(1, "1.0.0", 50), online(2, "1.0.0", 50)), func(s *State) Effect {
		return s.View(view(s, []uint64{1}), true)
	}, told{"2 primary gone 2", "2 since 2", "", false}},
	{"vacancy, filled by progress", three(SinglePrimary), func(s *State) Effect {
		s.View(view(s, []uint64{1}), true)
		return s.Depose(101, 4, Deposal{Epoch: 2, Term: 4, Progress: []Progress{{2, 500}, {3, 400}}}, true)
	}, told{"3 vacancy 2", "2 since 3", "", false}},
	{"vacancy, filled without progress", three(SinglePrimary), func(s *State) Effect {
		s.View(view(s, []uint64{1}), true)
		return s.Depose(101, 4, Deposal{Epoch: 2, Term: 4, Progress: []Progress{{2, 500}, {3, 400}}}, false)
	}, told{"3 vacancy 3", "3 since 3", "", false}},
	{"vacancy, and a view", three(SinglePrimary), func(s *State) Effect {
		s.View(view(s, []uint64{1}), true)
		return s.View(view(s, nil, recovering(4, "1.0.0", 50)), true)
	}, told{"2 primary gone 0", "", "", false}},
	{"vacancy, and a view that leaves one", three(SinglePrimary), func(s *State) Effect {
		s.View(view(s, []uint64{1}), true)
		return s.View(view(s, []uint64{3}), true)
	}, told{"3 vacancy 2", "2 since 3", "", false}},
	{"vacancy, and a named primary", three(SinglePrimary), func(s *State) Effect {
		s.View(view(s, []uint64{1}), true)
		a := ask(s, SetPrimary, 2)
		return s.Begin(101, 3, a)
	}, told{"3 planned 2", "2 since 3", "done: " + two + " is primary since epoch 3", false}},
	{"silent", three(SinglePrimary), func(s *State) Effect {
		return s.Depose(96, 4, silent, false)
	}, told{"2 primary silent 3", "3 since 2", "", false}},
	{"silent, says a leader of an earlier term", three(SinglePrimary), func(s *State) Effect {
		return s.Depose(96, 5, silent, false)
	}, told{"1 founded 1", "1 since 0", "", false}},
	{"silent, said in an earlier epoch", three(SinglePrimary), func(s *State) Effect {
		s.Depose(96, 4, silent, false)
		m := silent
		m.Target = 3
		return s.Depose(97, 4, m, false)
	}, told{"2 primary silent 3", "3 since 2", "", false}},
	{"silent, and another is primary", three(SinglePrimary), func(s *State) Effect {
		m := silent
		m.Target = 2
		return s.Depose(96, 4, m, false)
	}, told{"1 founded 1", "1 since 0", "", false}},
	{"no primary, and there is one", three(SinglePrimary), func(s *State) Effect {
		m := silent
		m.Target = 0
		return s.Depose(96, 4, m, false)
	}, told{"1 founded 1", "1 since 0", "", false}},
	{"silent, with the first in rank", three(SinglePrimary), func(s *State) Effect {
		m := silent
		m.Passed = []uint64{3}
		return s.Depose(96, 4, m, false)
	}, told{"2 primary silent 2", "2 since 2", "", false}},
	{
		"silent, and alone in its version",
		group(SinglePrimary, online(1, "1.0.0", 50), online(2, "1.1.0", 50)),
		func(s *State) Effect { return s.Depose(96, 4, silent, false) },
		told{"1 founded 1", "1 since 0", "", false},
	},
	{
		"gone, and alone in its version",
		group(SinglePrimary, online(1, "1.0.0", 50), online(2, "1.1.0", 50), recovering(3, "1.0.0", 50)),
		func(s *State) Effect { return s.View(view(s, []uint64{1}), false) },
		told{"2 primary gone 2", "2 since 2", "", false},
	},
	{"forced, without the primary", three(SinglePrimary), func(s *State) Effect {
		v := view(s, []uint64{1})
		v.Forced = true
		return s.View(v, false)
	}, told{"2 forced view 3", "3 since 2", "", false}},
	{"forced, without the primary, most up to date preferred", three(SinglePrimary), func(s *State) Effect {
		v := view(s, []uint64{1})
		v.Forced = true
		return s.View(v, true)
	}, told{"2 forced view 0", "", "", false}},
	{"forced, with several primaries", three(MultiPrimary), func(s *State) Effect {
		v := view(s, []uint64{1}, online(4, "1.0.0", 50))
		v.Forced = true
		return s.View(v, true)
	}, told{"2 forced view 0", "2 since 1, 3 since 1, 4 since 2", "", false}},
}

func TestFailover(t *testing.T) {
	for _, c := range failovers {
		if diff := gocmp.Diff(c.want, tell(c.state, c.step(c.state)), gocmp.AllowUnexported(told{})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
}

// TestReasons checks what people are told of epochs.
func TestReasons(t *testing.T) {
	s := three(SinglePrimary)
	s.Depose(96, 4, Deposal{Epoch: 1, Term: 4, Target: 1, Evidence: "1 silent for 1s"}, false)
	a := ask(s, SetPrimary, 2)
	a.Reason = "maintenance"
	s.Begin(97, 1, a)
	s.Drained(98, 3, Drain{Action: a.ID})
	v := view(s, []uint64{2})
	v.Reason = "2 left"
	s.View(v, true)
	s.Depose(102, 4, Deposal{Epoch: 4, Term: 4, Progress: []Progress{{1, 1}, {3, 999}}}, true)
	a = ask(s, SetPrimary, 1)
	a.ID = uuid(101)
	s.Begin(103, 3, a)
	v = view(s, []uint64{3})
	v.Reason = "3 expelled"
	s.View(v, true)
	v = view(s, nil)
	v.Forced, v.Reason = true, "plan 7"
	s.View(v, true)
	var got []string
	for _, e := range s.Snapshot().Past {
		got = append(got, fmt.Sprintf("%d at %d, %s: %s", e.Number, e.Index, e.Cause, e.Reason))
	}
	if diff := gocmp.Diff([]string{
		"1 at 2, founded: the group was founded",
		"2 at 96, primary silent: 1 silent for 1s; " + third + " is elected: it has the highest weight, 60",
		"3 at 98, planned: asked for at " + one + "; maintenance",
		"4 at 100, primary gone: 2 left; who is most up to date is elected next",
		"5 at 102, vacancy: " + third + " is elected: it is the most up to date",
		"6 at 110, primary gone: 3 expelled; " + one + " was to become primary anyway",
		"7 at 120, forced view: the membership was forced; plan 7",
	}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	s = three(SinglePrimary)
	v = view(s, []uint64{1}, online(4, "1.0.0", 10))
	v.Forced = true
	s.View(v, true)
	want := "the membership was forced; who is most up to date is elected next"
	if past := s.Snapshot().Past; past[len(past)-1].Reason != want {
		t.Errorf("without a primary, the most up to date preferred: %q, want %q", past[len(past)-1].Reason, want)
	}
}

// TestAdmits has a member that loses its right and gets it back.
func TestAdmits(t *testing.T) {
	s := New()
	s.View(View{ID: 1, Index: 1, Members: []Member{online(1, "1.0.0", 50), recovering(2, "1.0.0", 60)}}, false)
	if !s.Admits(1, 0) || s.Admits(1, 1) || s.Admits(2, 0) || s.Admits(3, 0) {
		t.Error("before the founding not exactly the ONLINE member is admitted, in epoch 0")
	}
	s.Found(2, MultiPrimary, FirstProtocol)
	s.View(view(s, nil, online(2, "1.0.0", 60)), false)
	s = draining(s, ToSingle, 0) // member 2 has the highest weight
	check := func(when string, want string) {
		t.Helper()
		var got []string
		for origin := range uint64(4) {
			for epoch := range s.Epoch() + 2 {
				if s.Admits(origin, epoch) {
					got = append(got, fmt.Sprintf("%d:%d", origin, epoch))
				}
			}
			m, _ := s.Member(origin)
			if s.MayWrite(origin) != m.Writes || s.Snapshot().MayWrite(origin) != m.Writes {
				t.Errorf("%s: the right of %d is %t and %t, want %t", when, origin, s.MayWrite(origin), s.Snapshot().MayWrite(origin), m.Writes)
			}
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: admitted are %q, want %q", when, got, want)
		}
	}
	check("while the others drain", "1:0 1:1 2:1")
	s.Drained(96, 1, Drain{Action: uuid(99)})
	check("in single-primary mode", "2:1 2:2")
	s.Begin(97, 2, ask(s, ToMulti, 0))
	check("in multi-primary mode again", "1:3 2:1 2:2 2:3")
}

// TestVersionsInMultiPrimaryMode has the rules of Group Replication for who may
// write, by the lowest version; here it is that of the ONLINE members.
func TestVersionsInMultiPrimaryMode(t *testing.T) {
	s := group(MultiPrimary, online(1, "8.0.35", 50))
	s.View(view(s, nil, online(2, "8.0.41", 50)), false)
	if got := writers(s); got != "1 since 0" {
		t.Errorf("a newer member came: %s", got)
	}
	s.View(view(s, nil, recovering(3, "8.0.35", 50)), false)
	s.View(view(s, []uint64{1}), false)
	if got := writers(s); got != "2 since 1" {
		t.Errorf("the lowest ONLINE one left: %s", got)
	}
	s.View(view(s, nil, online(3, "8.0.35", 50)), false)
	if got := writers(s); got != "2 since 1, 3 since 1" {
		t.Errorf("an older one became ONLINE: %s", got)
	}
	s.View(view(s, nil, online(4, "8.0.41", 50)), false)
	if got := writers(s); got != "2 since 1, 3 since 1" {
		t.Errorf("another newer one came: %s", got)
	}
	e := s.Open(3, Description{Version: version("8.0.41"), Weight: 50, Oldest: 1, Newest: 1})
	if got := writers(s); got != "2 since 1, 3 since 1, 4 since 1" || !e.Members {
		t.Errorf("the older one was upgraded: %s", got)
	}
	s.Begin(200, 4, ask(s, ToSingle, 4))
	s.GraceOver(201, 1, Lapse{uuid(100), 1})
	if p, ok := s.Primary(); !ok || p.RaftID != 4 {
		t.Errorf("the primary is %+v", p)
	}
}

// TestSetProtocol raises it.
func TestSetProtocol(t *testing.T) {
	s := three(SinglePrimary)
	a := ask(s, SetProtocol, 0)
	a.Protocol = 2
	e := s.Begin(97, 3, a)
	if s.Protocol() != 2 || s.Snapshot().Protocol != 2 || s.Epoch() != 1 || e.Ended == nil ||
		e.Ended.Result != Done || e.Ended.Text != "the group speaks protocol 2, it spoke 1" || e.Ended.Asker != uuid(3) {
		t.Errorf("protocol %d in epoch %d: %+v", s.Protocol(), s.Epoch(), e.Ended)
	}
	a = ask(s, SetProtocol, 0)
	a.ID, a.Protocol = uuid(101), 1
	if err := s.Check(a); err == nil || !strings.Contains(err.Error(), "below the present one, 2") {
		t.Errorf("lowered: %v", err)
	}
}

// TestSnapshotIsCached checks that an unchanged state costs nothing, and that
// a snapshot does not change with the state.
func TestSnapshotIsCached(t *testing.T) {
	s := draining(three(SinglePrimary), SetPrimary, 2)
	before := s.Snapshot()
	if allocs := testing.AllocsPerRun(100, func() { s.Snapshot(); s.Admits(1, 1); s.MayWrite(2) }); allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
	s.Cancel(96, uuid(98))
	s.Found(97, MultiPrimary, 7)
	s.Depose(98, 4, Deposal{Epoch: 1, Term: 5, Target: 1}, false)
	m, _ := s.Member(3)
	s.Open(3, describe(m, 2))
	if !s.Snapshot().Same(before) {
		t.Error("nothing changed, and the snapshot is another")
	}
	kept := show(before)
	m.Weight = 1
	s.Open(3, describe(m, 2))
	if s.Snapshot().Same(before) {
		t.Error("a weight changed, and the snapshot is the same")
	}
	s.Drained(99, 1, Drain{uuid(99), 1})
	s.View(view(s, []uint64{1}), false)
	v := view(s, nil)
	s.Snapshot()
	if s.View(v, false); s.Snapshot().View != v.ID || s.Snapshot().Same(before) {
		t.Errorf("view %d began, the snapshot is of view %d", v.ID, s.Snapshot().View)
	}
	if got := show(before); got != kept {
		t.Errorf("a snapshot changed:\n%s\n%s", kept, got)
	}
}
