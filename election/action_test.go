package election

import (
	"errors"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
)

// describe is what a member of a version says that speaks protocols 1 to newest.
func describe(m Member, newest Protocol) Description {
	return Description{Version: m.Version, Weight: m.Weight, Oldest: 1, Newest: newest, ClientAddress: "client"}
}

// group is a founded group of members that have opened; the first is its
// founder. It is in view 9, which began at entry 90.
func group(mode Mode, members ...Member) *State {
	s := New()
	s.View(View{ID: 1, Index: 1, Members: members[:1]}, false)
	s.Found(2, mode, FirstProtocol)
	s.View(View{ID: 9, Index: 90, Members: members}, false)
	for _, m := range members {
		s.Open(m.RaftID, describe(m, 2))
	}
	return s
}

// three is a group of three ONLINE members of one version. Member 1 is its
// primary, if it has one.
func three(mode Mode) *State {
	return group(mode, online(1, "1.0.0", 50), online(2, "1.0.0", 40), online(3, "1.0.0", 60))
}

// ask is an action that member 1 asks for in the present epoch and view.
func ask(s *State, kind ActionKind, target uint64) Action {
	return Action{ID: uuid(100), Kind: kind, Epoch: s.Epoch(), View: s.view, Target: target, Asker: uuid(1)}
}

// refusals has every refusal with its text.
var refusals = []struct {
	state  *State
	action ActionKind
	target uint64
	change func(*Action)
	want   string
	again  bool
}{
	{three(SinglePrimary), SetPrimary, 2, func(a *Action) { a.ID = uuid(0) }, "it needs an id", false},
	{three(SinglePrimary), 0, 0, nil, "the kind of action is unknown", false},
	{three(SinglePrimary), SetProtocol + 1, 0, nil, "the kind of action is unknown", false},
	{three(SinglePrimary), ToMulti, 2, nil, "only set-primary and a switch to single-primary name a member", false},
	{three(SinglePrimary), SetProtocol, 2, nil, "only set-primary and a switch to single-primary name a member", false},
	{three(SinglePrimary), SetPrimary, 0, nil, "it must name a member", false},
	{three(SinglePrimary), ToMulti, 0, func(a *Action) { a.Grace = 1 }, "only set-primary and a switch to single-primary have a grace", false},
	{three(SinglePrimary), ToMulti, 0, func(a *Action) { a.Protocol = 1 }, "only set-protocol has a protocol", false},
	{three(SinglePrimary), SetPrimary, 2, func(a *Action) { a.Reason = strings.Repeat("w", 513) }, "its reason is not text on one line of at most 512 bytes", false},
	{three(SinglePrimary), SetPrimary, 2, func(a *Action) { a.Reason = "\xff" }, "its reason is not text on one line of at most 512 bytes", false},
	{three(SinglePrimary), SetPrimary, 2, func(a *Action) { a.Reason = "a\nb" }, "its reason is not text on one line of at most 512 bytes", false},
	{New(), ToMulti, 0, nil, "the group has not been founded yet; ask again", false},
	{three(SinglePrimary), SetPrimary, 2, func(a *Action) { a.Epoch = 2 }, "it was asked for in epoch 2, this is epoch 1; ask again", true},
	{three(SinglePrimary), SetPrimary, 2, func(a *Action) { a.View = 8 }, "it was asked for in view 8, this is view 9; ask again", true},
	{three(SinglePrimary), SetPrimary, 2, func(a *Action) { a.Asker = uuid(7) }, "the member that asks is not ONLINE; ask another one", false},
	{
		group(SinglePrimary, online(2, "1.0.0", 50), recovering(1, "1.0.0", 50)),
		ToMulti, 0, nil, "the member that asks is not ONLINE; ask another one", false,
	},
	{three(MultiPrimary), SetPrimary, 2, nil, "the group is in multi-primary mode; switch it to single-primary mode", false},
	{three(SinglePrimary), SetPrimary, 7, nil, "no member of the view has the raft id 7", false},
	{three(MultiPrimary), ToSingle, 7, nil, "no member of the view has the raft id 7", false},
	{
		group(SinglePrimary, online(1, "1.0.0", 50), recovering(2, "1.0.0", 50)),
		SetPrimary, 2, func(a *Action) { a.Force = true },
		"member 00000000-0000-0000-0000-000000000002 is RECOVERING; wait until it is ONLINE", false,
	},
	{
		// The long-term-support rule does not relax this one, nor does it in Group
		// Replication.
		group(SinglePrimary, online(1, "8.0.41", 50), online(2, "8.0.41", 50), online(3, "8.0.35", 50)),
		SetPrimary, 2, nil,
		"member 00000000-0000-0000-0000-000000000002 runs 8.0.41, and the oldest ONLINE member 8.0.35; name one of that version, or upgrade the older ones first",
		false,
	},
	{
		group(MultiPrimary, online(1, "8.0.35", 50), online(2, "8.0.41", 50)),
		ToSingle, 2, nil,
		"member 00000000-0000-0000-0000-000000000002 runs 8.0.41, and the oldest ONLINE member 8.0.35; name one of that version, or upgrade the older ones first",
		false,
	},
	{three(SinglePrimary), SetPrimary, 2, func(a *Action) { a.Grace = 3_600_001 }, "a grace of 3600001 ms exceeds 3600000 ms", false},
	{three(MultiPrimary), ToSingle, 0, func(a *Action) { a.Grace = 3_600_001 }, "a grace of 3600001 ms exceeds 3600000 ms", false},
	{three(SinglePrimary), ToSingle, 1, nil, "the group is in single-primary mode already; use set-primary to name another primary", false},
	{three(SinglePrimary), ToSingle, 2, nil, "the group is in single-primary mode already; use set-primary to name another primary", false},
	{
		group(SinglePrimary, online(1, "1.0.0", 50), online(2, "1.0.0", 50), recovering(3, "1.0.0", 50)),
		SetPrimary, 2, nil, "member 00000000-0000-0000-0000-000000000003 is RECOVERING; wait until it is ONLINE, or insist", false,
	},
	{
		group(SinglePrimary, online(1, "1.0.0", 50), recovering(3, "1.0.0", 50)),
		ToMulti, 0, nil, "member 00000000-0000-0000-0000-000000000003 is RECOVERING; wait until it is ONLINE, or insist", false,
	},
	{
		group(SinglePrimary, online(1, "1.0.0", 50), recovering(3, "1.0.0", 50)),
		SetProtocol, 0, func(a *Action) { a.Protocol = 2 },
		"member 00000000-0000-0000-0000-000000000003 is RECOVERING; wait until it is ONLINE, or insist", false,
	},
	{three(SinglePrimary), SetProtocol, 0, nil, "protocol 0 is below the present one, 1; it can only rise", false},
	{
		three(SinglePrimary), SetProtocol, 0, func(a *Action) { a.Protocol = 3 },
		"member 00000000-0000-0000-0000-000000000001 (1.0.0) speaks protocols 1 to 2, not 3; upgrade it first", false,
	},
	{
		opened(three(SinglePrimary), 2, Description{Version: version("1.1.0"), Oldest: 3, Newest: 4}), SetProtocol, 0, func(a *Action) { a.Protocol = 2 },
		"member 00000000-0000-0000-0000-000000000002 (1.1.0) speaks protocols 3 to 4, not 2; upgrade it first", false,
	},
	{
		founded(SinglePrimary, online(1, "1.0.0", 50)), SetProtocol, 0, func(a *Action) { a.Protocol = 2 },
		"member 00000000-0000-0000-0000-000000000001 has not said yet which protocols it speaks; ask again when it is ONLINE", false,
	},
	{draining(three(SinglePrimary), SetPrimary, 2), SetPrimary, 3, nil, "action 00000000-0000-0000-0000-000000000063 (set-primary) is open; wait for its end, or cancel it", false},
	{draining(three(MultiPrimary), ToSingle, 2), ToMulti, 0, nil, "action 00000000-0000-0000-0000-000000000063 (switch to single-primary) is open; wait for its end, or cancel it", false},
	{
		draining(three(SinglePrimary), SetPrimary, 2), SetPrimary, 3, func(a *Action) { a.ID = uuid(99) },
		"action 00000000-0000-0000-0000-000000000063 is known already; draw another id for another action", false,
	},
}

// founded is a group of one that has not opened.
func founded(mode Mode, m Member) *State {
	s := New()
	s.View(View{ID: 9, Index: 1, Members: []Member{m}}, false)
	s.Found(2, mode, FirstProtocol)
	return s
}

// opened is a group in which a member says something else of itself.
func opened(s *State, raftID uint64, d Description) *State {
	s.Open(raftID, d)
	return s
}

// draining is a group with an open action of id 99.
func draining(s *State, kind ActionKind, target uint64) *State {
	a := ask(s, kind, target)
	a.ID = uuid(99)
	s.Begin(95, 1, a)
	return s
}

func TestRefusals(t *testing.T) {
	for _, c := range refusals {
		a := ask(c.state, c.action, c.target)
		if c.change != nil {
			c.change(&a)
		}
		no, ok := errors.AsType[*RefusedError](c.state.Check(a))
		if !ok || no.Reason != c.want || no.Again != c.again || no.Error() != "election: "+a.Kind.String()+" refused: "+c.want {
			t.Errorf("%s of %d: refused %v\nwant %s, again %t", a.Kind, a.Target, no, c.want, c.again)
		}
		before := c.state.Snapshot()
		origin := uint64(a.Asker[15])
		e := c.state.Begin(97, origin, a)
		if e.Ended == nil || e.Ended.Result != Refused || e.Ended.Text != c.want || e.Ended.Again != c.again || e.Ended.Ended != 97 {
			t.Errorf("%s of %d: ended %+v\nwant %s", a.Kind, a.Target, e.Ended, c.want)
			continue
		}
		e.Ended = nil
		after := c.state.Snapshot()
		o, known := after.Outcome(a.ID)
		remembered := !c.again && a.misfit() == "" && !before.knows(a.ID)
		if known != remembered || known && o.Text != c.want {
			t.Errorf("%s of %d: remembered %t, %+v, want %t", a.Kind, a.Target, known, o, remembered)
		}
		after.Done = before.Done
		if diff := gocmp.Diff(before, after); diff != "" || e != (Effect{}) {
			t.Errorf("%s of %d was refused, with an effect: %+v\n%s", a.Kind, a.Target, e, diff)
		}
	}
}

// TestNoChange has what is so already.
func TestNoChange(t *testing.T) {
	for _, c := range []struct {
		state    *State
		kind     ActionKind
		target   uint64
		protocol Protocol
		want     string
	}{
		{three(SinglePrimary), SetPrimary, 1, 0, "the member is the primary already"},
		{three(SinglePrimary), ToSingle, 0, 0, "the group is in single-primary mode already"},
		{three(MultiPrimary), ToMulti, 0, 0, "the group is in multi-primary mode already"},
		{three(MultiPrimary), SetProtocol, 0, 1, "the group speaks protocol 1 already"},
		{group(SinglePrimary, online(1, "8.0.41", 50), online(2, "8.0.35", 50)), SetPrimary, 1, 0, "the member is the primary already"},
		// Nobody has to be ONLINE for nothing, or to say what it speaks.
		{group(SinglePrimary, online(1, "1.0.0", 50), recovering(2, "1.0.0", 50)), SetPrimary, 1, 0, "the member is the primary already"},
		{founded(SinglePrimary, online(1, "1.0.0", 50)), SetProtocol, 0, 1, "the group speaks protocol 1 already"},
	} {
		a := ask(c.state, c.kind, c.target)
		a.Protocol = c.protocol
		if err := c.state.Check(a); err != nil {
			t.Errorf("%s: %v", c.kind, err)
		}
		e := c.state.Begin(97, 1, a)
		if e.Ended == nil || e.Ended.Result != NoChange || e.Ended.Text != c.want || e.Epoch != nil || e.Begun != nil || e.Members {
			t.Errorf("%s: %+v, ended %+v\nwant %s", c.kind, e, e.Ended, c.want)
		}
	}
}

// TestRefusedIsAskedAgain checks what an id stands for when it comes twice.
func TestRefusedIsAskedAgain(t *testing.T) {
	s := group(SinglePrimary, online(1, "1.0.0", 50), online(2, "1.0.0", 50), recovering(3, "1.0.0", 50))
	a := ask(s, SetPrimary, 2)
	if e := s.Begin(97, 1, a); e.Ended == nil || e.Ended.Result != Refused {
		t.Fatalf("%+v", e)
	}
	a.Force = true
	if e := s.Begin(98, 1, a); e.Begun == nil || len(s.Snapshot().Done) != 0 {
		t.Fatalf("%+v, ended are %+v", e, s.Snapshot().Done)
	}
	if e := s.Drained(99, 1, Drain{Action: a.ID}); e.Ended == nil || e.Ended.Result != Done {
		t.Fatalf("%+v", e)
	}
	a.Epoch = s.Epoch()
	if e := s.Begin(100, 1, a); e.Ended == nil || e.Ended.Result != Refused {
		t.Fatalf("%+v", e)
	}
	if o, ok := s.Snapshot().Outcome(a.ID); !ok || o.Result != Done {
		t.Errorf("the action's outcome is %+v (%t)", o, ok)
	}
}

// TestOutcomesAreForgotten checks that so many are remembered, the newest.
func TestOutcomesAreForgotten(t *testing.T) {
	s := three(SinglePrimary)
	var before Snapshot
	kept := ""
	for n := range uint64(keptOutcomes + 3) {
		if n == keptOutcomes {
			before = s.Snapshot()
			kept = show(before)
		}
		a := ask(s, ToSingle, 0)
		a.ID = uuid(100 + n)
		s.Begin(100+n, 1, a)
	}
	done := s.Snapshot().Done
	if len(done) != keptOutcomes || done[0].ID != uuid(103) || done[keptOutcomes-1].ID != uuid(100+keptOutcomes+2) {
		t.Errorf("%d are remembered: %+v", len(done), done)
	}
	if got := show(before); got != kept {
		t.Errorf("a snapshot changed:\n%s\n%s", kept, got)
	}
}

func TestWords(t *testing.T) {
	for _, c := range []struct{ got, want []string }{
		{
			[]string{SinglePrimary.String(), MultiPrimary.String(), Mode(3).String()},
			[]string{"single-primary", "multi-primary", "Mode(3)"},
		},
		{
			[]string{SetPrimary.String(), ToSingle.String(), ToMulti.String(), SetProtocol.String(), ActionKind(5).String()},
			[]string{"set-primary", "switch to single-primary", "switch to multi-primary", "set-protocol", "ActionKind(5)"},
		},
		{
			[]string{Done.String(), DoneByFailover.String(), Aborted.String(), Cancelled.String(), Refused.String(), NoChange.String(), Result(7).String()},
			[]string{"done", "done by failover", "aborted", "cancelled", "refused", "no change", "Result(7)"},
		},
		{
			[]string{
				Founded.String(), PrimaryGone.String(), PrimarySilent.String(), Vacancy.String(), Planned.String(), SwitchedSingle.String(),
				SwitchedMulti.String(), ForcedView.String(), Cause(9).String(),
			},
			[]string{
				"founded", "primary gone", "primary silent", "vacancy", "planned", "switched to single-primary",
				"switched to multi-primary", "forced view", "Cause(9)",
			},
		},
		{[]string{Verdict(8).String()}, []string{"Verdict(8)"}},
		{[]string{clip("a\nb\x7f\xff", 99), clip("aä", 2), clip("aä", 3), clip("ä", 1)}, []string{"a b \uFFFD", "a", "aä", ""}},
	} {
		if !slices.Equal(c.got, c.want) {
			t.Errorf("%q, want %q", c.got, c.want)
		}
	}
}
