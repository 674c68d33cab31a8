package election

import (
	"errors"
	"strings"
	"testing"

	"github.com/concordatdb/concordat/gtid"
)

// busy is a state with something of everything.
func busy() *State {
	s := three(MultiPrimary)
	a := ask(s, ToSingle, 1)
	s.Begin(91, 2, a)
	s.Drained(92, 2, Drain{a.ID, 4})
	s.Drained(93, 3, Drain{Action: a.ID})
	s.Depose(94, 2, Deposal{Epoch: 2, Term: 2, Target: 1, Evidence: "silent"}, false)
	a = ask(s, SetPrimary, 9)
	a.ID = uuid(101)
	s.Begin(95, 2, a)
	return draining(s, SetPrimary, 2)
}

// TestRestoreRefuses has states that no log can have led to.
func TestRestoreRefuses(t *testing.T) {
	for _, c := range []struct {
		want   string
		change func(*State)
	}{
		{"format 2 is not known", nil},
		{"no mode", func(s *State) { s.mode = 0 }},
		{"3 is out of bounds", func(s *State) { s.mode = 3 }},
		{"protocol 0", func(s *State) { s.protocol = 0 }},
		{"raft id 1 follows 1", func(s *State) { s.members[1].RaftID = 1 }},
		{"raft id 0 follows 0", func(s *State) { s.members[0].RaftID = 0 }},
		{"member 1 has no UUID of its own", func(s *State) { s.members[0].UUID = gtid.UUID{} }},
		{"member 2 has no UUID of its own", func(s *State) { s.members[1].UUID = uuid(1) }},
		{"101 is out of bounds", func(s *State) { s.members[0].Weight = 101 }},
		{"member 1: election: protocols 0 to 2", func(s *State) { s.members[0].Oldest = 0 }},
		{"member 1: election: protocols 2 to 1", func(s *State) { s.members[0].Oldest, s.members[0].Newest = 2, 1 }},
		{"member 1: election: protocols 0 to 0", func(s *State) { s.members[0].Oldest, s.members[0].Newest = 0, 0 }},
		{"262 is out of bounds", func(s *State) { s.members[0].ClientAddress = strings.Repeat("a", 262) }},
		{`"\xff" is not text`, func(s *State) { s.members[0].ClientAddress = "\xff" }},
		{"member 3 has the right to write since epoch 3, ONLINE false", func(s *State) { s.members[2].Online = false }},
		{"member 3 has the right to write since epoch 4, ONLINE true, in epoch 3", func(s *State) { s.members[2].Since = 4 }},
		{"member 1 cannot have the right to write: true", func(s *State) { s.members[0].Writes = true }},
		{"member 3 cannot have the right to write: false", func(s *State) { s.members[2].Writes = false }},
		{"in epoch 0", func(s *State) { s.epoch, s.past, s.action = 0, nil, nil }},
		{"was not founded", func(s *State) {
			*s = *New()
			s.mode = SinglePrimary
		}},
		{"9223372036854775808 is out of bounds", func(s *State) { s.epoch = 1 << 63 }},
		{"was not founded", func(s *State) {
			*s = *New()
			s.protocol = 2
		}},
		{"epoch 1 began by cause \"primary gone\"", func(s *State) { s.past[0].Cause = PrimaryGone }},
		{"epoch 2 began by cause \"founded\"", func(s *State) { s.past[1].Cause = Founded }},
		{"epoch 2 began by cause \"Cause(0)\"", func(s *State) { s.past[1].Cause = 0 }},
		{"9 is out of bounds", func(s *State) { s.past[1].Cause = ForcedView + 1 }},
		{"epoch 1 has a primary in multi-primary mode", func(s *State) { s.past[0].Primary = uuid(1) }},
		{"epoch 2 began by cause \"switched to multi-primary\" in single-primary mode", func(s *State) { s.past[1].Cause = SwitchedMulti }},
		{"epoch 2 began by cause \"switched to single-primary\" in multi-primary mode", func(s *State) { s.past[1].Mode, s.past[1].Primary = MultiPrimary, gtid.UUID{} }},
		{"epoch 2 began by cause \"switched to single-primary\" without a primary", func(s *State) { s.past[1].Primary = gtid.UUID{} }},
		{"epoch 3 began by cause \"primary silent\" without a primary", func(s *State) { s.past[2].Primary = gtid.UUID{} }},
		{"epoch 2 cannot follow 1", func(s *State) { s.past[1].Index = 1 }},
		{"epoch 2 cannot follow 1", func(s *State) { s.past[1].Cause = PrimaryGone }},
		{"epoch 2 cannot follow 1", func(s *State) { s.past[1].Cause = Planned }},
		{"epoch 2 cannot follow 1", func(s *State) { s.past[1].Cause = ForcedView }},
		{"epoch 3 cannot follow 2", func(s *State) { s.past[2].Cause = Vacancy }},
		{"epoch 3 cannot follow 2", func(s *State) { s.past[2].Cause = SwitchedSingle }},
		{"epoch 3 cannot follow 2", func(s *State) { s.past[2].Primary = s.past[1].Primary }},
		{"its epoch in single-primary mode", func(s *State) { s.mode = MultiPrimary }},
		{"with a primary that is not ONLINE", func(s *State) { s.past[2].Primary = uuid(9) }},
		{"an action has no id", func(s *State) { s.action.ID = gtid.UUID{} }},
		{"the kind of action is unknown", func(s *State) { s.action.Kind = 0 }},
		{"is open in epoch 3", func(s *State) { s.action.Kind, s.action.Target = ToMulti, 0 }},
		{"set-primary of epoch 2 and view 9 is open in epoch 3", func(s *State) { s.action.Epoch = 2 }},
		{"set-primary of epoch 3 and view 10 is open in epoch 3", func(s *State) { s.action.View = 10 }},
		{"is open in epoch 3", func(s *State) { s.action.Index = 93 }},
		{"is open in epoch 3", func(s *State) { s.action.Grace = MaxGrace + 1 }},
		{"is open in epoch 3", func(s *State) { s.action.Kind = ToSingle }},
		{"whose target 7 is not ONLINE", func(s *State) { s.action.Target = 7 }},
		{"that nobody asked for", func(s *State) { s.action.Asker = gtid.UUID{} }},
		{"it must name a member", func(s *State) { s.action.Target = 0 }},
		{"an action waits for []", func(s *State) { s.action.Pending = nil }},
		{"an action waits for [2]", func(s *State) { s.action.Pending = []uint64{2} }},
		{"an action waits for [3]", func(s *State) { s.action.Target = 3 }},
		{"raft id 3 follows 3", func(s *State) { s.action.Pending = []uint64{3, 3} }},
		{"an action has no id", func(s *State) { s.done[0].ID = gtid.UUID{} }},
		{"only set-protocol has a protocol", func(s *State) { s.done[0].Protocol = 1 }},
		{"has the result \"Result(0)\"", func(s *State) { s.done[0].Result = 0 }},
		{"has the result \"done by failover\"", func(s *State) { s.done[0].Result = DoneByFailover }},
		{"7 is out of bounds", func(s *State) { s.done[0].Result = NoChange + 1 }},
		{"an action of entry 91 ended at entry 90", func(s *State) { s.done[0].Ended = 90 }},
		{"an action of entry 95 ended at entry 95", func(s *State) { s.done[0].Ended = 96 }},
		{"is there twice", func(s *State) { s.done[0].ID = s.done[1].ID }},
		{"is there twice", func(s *State) { s.done[0].ID = s.action.ID }},
		{"1025 is out of bounds", func(s *State) { s.done[0].Text = strings.Repeat("w", 1025) }},
		{"17 is out of bounds", func(s *State) {
			for n := range uint64(15) {
				o := s.done[1]
				o.ID = uuid(200 + n)
				s.done = append(s.done, o)
			}
		}},
	} {
		s := busy()
		b := s.AppendState(nil)
		if _, rest, err := Restore(b); err != nil || len(rest) != 0 {
			t.Fatalf("unchanged: %v, %d bytes are left", err, len(rest))
		}
		if c.change == nil {
			b[0] = 2
		} else {
			c.change(s)
			b = s.AppendState(nil)
		}
		if again, rest, err := Restore(b); !errors.Is(err, ErrState) || !strings.Contains(err.Error(), c.want) || again != nil || rest != nil {
			t.Errorf("%v\nwant %s", err, c.want)
		}
	}
}

// TestRestoreTakes has states that are rare, and possible.
func TestRestoreTakes(t *testing.T) {
	vacant := three(SinglePrimary)
	vacant.View(view(vacant, []uint64{1}), true)
	long := three(SinglePrimary)
	var before Snapshot
	kept := ""
	for n := range uint64(2 * keptEpochs) {
		if n == keptEpochs {
			before = long.Snapshot()
			kept = show(before)
		}
		p, _ := long.Primary()
		long.Depose(100+n, 1, Deposal{Epoch: long.Epoch(), Term: 1, Target: p.RaftID}, false)
	}
	unfounded := New()
	unfounded.View(View{ID: 1, Index: 1, Members: []Member{online(1, "1.0.0", 50), online(2, "1.0.1", 50), recovering(3, "1.0.0", 50)}}, false)
	nobody := New()
	nobody.View(View{ID: 1, Index: 1, Members: []Member{recovering(1, "1.0.0", 50)}}, false)
	nobody.Found(2, SinglePrimary, 3)
	for name, s := range map[string]*State{
		"new": New(), "unfounded": unfounded, "vacant": vacant, "long": long, "nobody ONLINE": nobody,
		"unopened": founded(SinglePrimary, online(1, "1.0.0", 50)),
	} {
		b := s.AppendState(nil)
		again, _, err := Restore(b)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if diff := difference(normal(s.Snapshot()), normal(again.Snapshot())); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	if got := show(before); got != kept {
		t.Errorf("a snapshot changed:\n%s\n%s", kept, got)
	}
	if past := long.Snapshot().Past; len(past) != keptEpochs || past[0].Number != keptEpochs+2 || long.Epoch() != 2*keptEpochs+1 {
		t.Errorf("%d epochs are remembered from %d on, the present one is %d", len(past), past[0].Number, long.Epoch())
	}
}

func BenchmarkState(b *testing.B) {
	s := busy()
	state := s.AppendState(nil)
	b.Run("append", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			state = s.AppendState(state[:0])
		}
	})
	b.Run("restore", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, _, err := Restore(state); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkAdmits is what every transaction costs.
func BenchmarkAdmits(b *testing.B) {
	s := three(SinglePrimary)
	b.ReportAllocs()
	for b.Loop() {
		if !s.Admits(1, 1) || s.Admits(2, 1) {
			b.Fatal("admitted is not who writes")
		}
	}
}
