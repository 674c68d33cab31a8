package election

import (
	"encoding/json"
	"reflect"
	"slices"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/concordatdb/concordat/gtid"
)

// difference is what two values differ in, told quickly when it is nothing.
func difference(a, b any) string {
	if reflect.DeepEqual(a, b) {
		return ""
	}
	return gocmp.Diff(a, b)
}

// show writes a snapshot down, whatever it shares.
func show(s Snapshot) string {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// bare is a snapshot without its texts.
func bare(s Snapshot) Snapshot {
	s.Past, s.Done = slices.Clone(s.Past), slices.Clone(s.Done)
	for i := range s.Past {
		s.Past[i].Reason = ""
	}
	for i := range s.Done {
		s.Done[i].Text = ""
	}
	return s
}

// drawEntry draws what could come next, and now and then what could not.
func drawEntry(t *rapid.T, s Snapshot, index uint64) entry {
	e := entry{index: index, prefer: rapid.Bool().Draw(t, "prefer"), origin: drawOrigin(t, s)}
	e.term = rapid.Uint64Range(1, 2).Draw(t, "term")
	ids := func(what string) []uint64 {
		got := rapid.SliceOfNDistinct(rapid.Uint64Range(1, 6), 0, 4, rapid.ID).Draw(t, what)
		slices.Sort(got)
		return got
	}
	open := gtid.UUID{15: byte(rapid.IntRange(100, 140).Draw(t, "action"))}
	if s.Action != nil && rapid.IntRange(0, 4).Draw(t, "the open one") < 4 {
		open = s.Action.ID
	}
	epoch := s.Epoch
	if rapid.IntRange(0, 9).Draw(t, "stale") == 9 {
		epoch--
	}
	kinds := []string{"action", "action", "view", "depose", "action", "open", "view", "depose", "open", "cancel", "grace over", "found"}
	if s.Action != nil {
		kinds = []string{"drained", "drained", "view", "open", "depose", "drained", "view", "grace over", "cancel", "action"}
	}
	e.kind = rapid.SampledFrom(kinds).Draw(t, "kind")
	switch e.kind {
	case "view":
		e.view = drawView(t, s, index)
	case "open":
		e.description = Description{
			Version: version(rapid.SampledFrom([]string{"1.0.0", "1.0.0", "1.0.1"}).Draw(t, "version")), Weight: rapid.Uint32Range(0, 3).Draw(t, "weight"),
			Oldest: 1, Newest: Protocol(rapid.IntRange(1, 3).Draw(t, "newest")), ClientAddress: "c",
		}
	case "found":
		e.mode, e.protocol = Mode(rapid.IntRange(1, 2).Draw(t, "mode")), 1
	case "depose":
		e.deposal = Deposal{Epoch: epoch, Term: 1, Target: s.Primary, Passed: ids("passed"), Evidence: "silent"}
		for _, id := range ids("progress") {
			e.deposal.Progress = append(e.deposal.Progress, Progress{id, rapid.SampledFrom([]uint64{0, 63, 64, 500}).Draw(t, "applied")})
		}
		if rapid.IntRange(0, 9).Draw(t, "another target") == 9 {
			e.deposal.Target = rapid.Uint64Range(0, 6).Draw(t, "target")
		}
	case "action":
		e.action = drawAction(t, s, open, epoch)
	case "drained", "cancel":
		e.drain = Drain{open, rapid.Uint64Range(0, 2).Draw(t, "open")}
	case "grace over":
		e.lapse = Lapse{open, 1}
	}
	return e
}

func drawAction(t *rapid.T, s Snapshot, id gtid.UUID, epoch uint64) Action {
	a := Action{
		ID: id, Kind: ActionKind(rapid.IntRange(1, 4).Draw(t, "what")), Epoch: epoch, View: s.View,
		Force: rapid.IntRange(0, 3).Draw(t, "force") < 3, Reason: "asked",
	}
	switch {
	case a.Kind == SetProtocol:
		a.Protocol = Protocol(rapid.IntRange(0, 3).Draw(t, "protocol"))
	case a.Kind.drains():
		a.Target = drawTarget(t, s, a.Kind)
		a.Grace = rapid.SampledFrom([]uint64{0, 10_000, 10_000, 10_000, 10_000, 10_000, MaxGrace, MaxGrace + 1}).Draw(t, "grace")
	}
	return a
}

func drawTarget(t *rapid.T, s Snapshot, kind ActionKind) uint64 {
	if len(s.Members) == 0 || rapid.IntRange(0, 4).Draw(t, "any target") == 4 {
		return rapid.Uint64Range(uint64(2-kind), 6).Draw(t, "target")
	}
	return rapid.SampledFrom(s.Members).Draw(t, "target").RaftID
}

// drawOrigin draws who sends: mostly who has a reason to.
func drawOrigin(t *rapid.T, s Snapshot) uint64 {
	if rapid.IntRange(0, 9).Draw(t, "anybody") == 9 {
		return rapid.Uint64Range(1, 6).Draw(t, "origin")
	}
	var ids []uint64
	if s.Action != nil {
		ids = s.Action.Pending
	}
	for _, m := range s.Members {
		if len(ids) == 0 || m.Online && s.Action == nil {
			ids = append(ids, m.RaftID)
		}
	}
	if len(ids) == 0 {
		return 1
	}
	return rapid.SampledFrom(ids).Draw(t, "origin")
}

// drawView draws the next view as groups make them: one member comes, becomes
// ONLINE or goes, or all at once when it is forced.
func drawView(t *rapid.T, s Snapshot, index uint64) View {
	v := View{ID: s.View + 1, Index: index, Reason: "because", Forced: rapid.IntRange(0, 19).Draw(t, "forced") == 19}
	goes := uint64(0)
	promoted := false
	if len(s.Members) > 2 && rapid.IntRange(0, 2).Draw(t, "goes") == 2 {
		goes = rapid.SampledFrom(s.Members).Draw(t, "who goes").RaftID
	}
	for _, m := range s.Members {
		switch {
		case v.Forced && rapid.IntRange(0, 2).Draw(t, "is left out") == 2, m.RaftID == goes:
			continue
		case v.Forced:
			m.Online = rapid.Bool().Draw(t, "online")
		case !m.Online && goes == 0:
			m.Online, promoted = true, true
		}
		v.Members = append(v.Members, Member{UUID: m.UUID, RaftID: m.RaftID, Version: m.Version, Weight: m.Weight, Online: m.Online})
	}
	if id := rapid.Uint64Range(1, 6).Draw(t, "who comes"); goes == 0 && !promoted {
		if _, there := s.Member(id); !there {
			m := recovering(id, rapid.SampledFrom([]string{"1.0.0", "1.0.0", "1.0.1"}).Draw(t, "version"), rapid.Uint32Range(0, 200).Draw(t, "weight"))
			v.Members = append(v.Members, m)
		}
	}
	return v
}

// TestState tells a state and a naive group the same, and restores the state now
// and then.
func TestState(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := New()
		var log []entry
		index := uint64(0)
		first, kept := s.Snapshot(), ""
		for i := range rapid.IntRange(1, 80).Draw(t, "entries") {
			index += rapid.Uint64Range(0, 2).Draw(t, "later")
			before := s.Snapshot()
			e := drawEntry(t, before, index)
			if i == 0 {
				e.kind, e.view = "view", View{ID: 1, Index: index, Members: []Member{online(1, "1.0.0", 50)}}
			}
			if i == 1 && rapid.IntRange(0, 9).Draw(t, "unfounded") < 9 {
				e.kind, e.mode, e.protocol = "found", Mode(rapid.IntRange(1, 2).Draw(t, "mode")), 1
			}
			if i == 2 {
				e.kind, e.view = "view", View{ID: before.View + 1, Index: index}
				for id := range rapid.Uint64Range(1, 6).Draw(t, "members") {
					e.view.Members = append(e.view.Members, online(id+1, "1.0.0", uint32(id%3)))
				}
			}
			log = append(log, e)
			effect := e.tell(s)
			after := s.Snapshot()
			if diff := difference(normal(recall(log)), normal(bare(after))); diff != "" {
				t.Fatalf("after %s (-want +got):\n%s", e.kind, diff)
			}
			checkEffect(t, e, before, after, effect)
			if rapid.IntRange(0, 3).Draw(t, "restore") == 0 {
				s = restored(t, s)
			}
			if i == 10 {
				first, kept = after, show(after)
			}
		}
		if kept != "" && show(first) != kept {
			t.Fatalf("a snapshot changed:\n%s\n%s", kept, show(first))
		}
	})
}

// normal has no empty lists.
func normal(s Snapshot) Snapshot {
	if len(s.Members) == 0 {
		s.Members = nil
	}
	if len(s.Done) == 0 {
		s.Done = nil
	}
	s.Done = slices.Clone(s.Done)
	for i := range s.Done {
		if len(s.Done[i].Pending) == 0 {
			s.Done[i].Pending = nil
		}
	}
	if len(s.Past) == 0 {
		s.Past = nil
	}
	return s
}

// restored is what a checkpoint of s makes. Whatever a log leads to must be
// taken, in one form.
func restored(t *rapid.T, s *State) *State {
	b := s.AppendState([]byte("front"))[5:]
	again, rest, err := Restore(append(slices.Clone(b), "behind"...))
	if err != nil || string(rest) != "behind" {
		t.Fatalf("restored: %v, %q is left\n%s", err, rest, show(s.Snapshot()))
	}
	if diff := difference(normal(s.Snapshot()), normal(again.Snapshot())); diff != "" {
		t.Fatalf("restored (-want +got):\n%s", diff)
	}
	if twice := again.AppendState(nil); !slices.Equal(b, twice) {
		t.Fatalf("written %x\nagain   %x", b, twice)
	}
	n := rapid.IntRange(0, len(b)-1).Draw(t, "cut off at")
	if _, _, err := Restore(b[:n]); err == nil {
		t.Fatalf("the first %d of %d bytes are a state", n, len(b))
	}
	return again
}

// checkEffect checks that an effect says what changed.
func checkEffect(t *rapid.T, e entry, before, after Snapshot, effect Effect) {
	if effect == (Effect{}) {
		same := before
		same.View = after.View
		if diff := difference(normal(same), normal(after)); diff != "" || e.kind != "view" && !before.Same(after) {
			t.Fatalf("%s had no effect (-before +after):\n%s", e.kind, diff)
		}
		return
	}
	if before.Same(after) && (effect.Ended == nil || effect.Ended.Result != Refused) {
		t.Fatalf("%s had the effect %+v, and the snapshot is the same", e.kind, effect)
	}
	switch {
	case (effect.Epoch != nil) != (after.Epoch > before.Epoch):
		t.Fatalf("%s: epoch %v, it was %d and is %d", e.kind, effect.Epoch, before.Epoch, after.Epoch)
	case effect.Epoch != nil && (after.Epoch != before.Epoch+1 || *effect.Epoch != after.Past[len(after.Past)-1] || effect.Epoch.Reason == ""):
		t.Fatalf("%s: epoch %+v, the newest is %+v", e.kind, effect.Epoch, after.Past[len(after.Past)-1])
	case effect.Members != !slices.Equal(before.Members, after.Members):
		t.Fatalf("%s: members changed %t, they were\n%+v and are\n%+v", e.kind, effect.Members, before.Members, after.Members)
	case (effect.Begun != nil) != (before.Action == nil && after.Action != nil):
		t.Fatalf("%s: begun %+v, open was %+v and is %+v", e.kind, effect.Begun, before.Action, after.Action)
	case effect.Begun != nil && !reflect.DeepEqual(effect.Begun, after.Action):
		t.Fatalf("%s: begun %+v, open is %+v", e.kind, effect.Begun, after.Action)
	case effect.Drained != (before.Action != nil && after.Action != nil && len(after.Action.Pending) < len(before.Action.Pending)):
		t.Fatalf("%s: drained %t, open was %+v and is %+v", e.kind, effect.Drained, before.Action, after.Action)
	case before.Action != nil && after.Action == nil && (effect.Ended == nil || effect.Ended.ID != before.Action.ID):
		t.Fatalf("%s: open was %+v, ended %+v", e.kind, before.Action, effect.Ended)
	}
	if o := effect.Ended; o != nil {
		known, ok := after.Outcome(o.ID)
		if o.Text == "" || o.Result != Refused && (!ok || !reflect.DeepEqual(known, *o)) || o.Again && !reflect.DeepEqual(before.Done, after.Done) {
			t.Fatalf("%s: ended %+v, known is %+v", e.kind, o, known)
		}
	}
}
