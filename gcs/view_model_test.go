package gcs

import (
	"cmp"
	"errors"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"go.etcd.io/raft/v3/confchange"
	"go.etcd.io/raft/v3/tracker"
	"pgregory.net/rapid"
)

// drawMember draws from few ids, so that collisions are common.
func drawMember(t *rapid.T) Member {
	small := rapid.Uint64Range(0, MaxMembers+3)
	m := recovering(small.Draw(t, "id"))
	if rapid.IntRange(0, 9).Draw(t, "mixed") == 0 {
		m.UUID = uuid(small.Draw(t, "other UUID"))
		m.Address = recovering(small.Draw(t, "other address")).Address
	}
	m.Version = rapid.Uint32().Draw(t, "version")
	m.Weight = rapid.Uint32Range(0, 100).Draw(t, "weight")
	m.State = rapid.SampledFrom([]MemberState{Recovering, Online}).Draw(t, "state")
	return m
}

func drawChange(t *rapid.T) Change {
	kinds := []ChangeKind{
		Joined, Joined, Joined, Joined, Promoted, Promoted, Promoted,
		Left, Expelled, Removed, Replaced, Forced, Bootstrapped,
	}
	c := Change{Kind: rapid.SampledFrom(kinds).Draw(t, "kind"), Incarnation: uuid(200)}
	c.Reason = rapid.SampledFrom([]string{"", "because", strings.Repeat("w", MaxReason)}).Draw(t, "reason")
	if c.Kind == Forced {
		c.Incarnation = uuid(rapid.Uint64Range(201, 205).Draw(t, "incarnation"))
		for range rapid.IntRange(1, MaxMembers).Draw(t, "members") {
			c.Members = append(c.Members, drawMember(t))
		}
		slices.SortFunc(c.Members, func(a, b Member) int { return cmp.Compare(a.RaftID, b.RaftID) })
		c.Members = slices.CompactFunc(c.Members, func(a, b Member) bool { return a.RaftID == b.RaftID })
		return c
	}
	c.Member = drawMember(t)
	if c.Kind == Replaced {
		c.Replaces = rapid.Uint64Range(0, MaxMembers+3).Draw(t, "replaces")
	}
	return c
}

// drawGroup draws a view that changes could have made, with its history.
func drawGroup(t *rapid.T) *Group {
	v, err := View{}.Apply(bootstrap(recovering(rapid.Uint64Range(1, MaxMembers).Draw(t, "founder"))), 1)
	if err != nil {
		t.Fatal(err)
	}
	g := &Group{view: v}
	g.past.add(v)
	for range rapid.IntRange(0, 30).Draw(t, "changes") {
		index := v.Index + rapid.Uint64Range(1, 1<<40).Draw(t, "later")
		if v, err = g.view.Apply(drawChange(t), index); err == nil {
			g.view = v
			g.past.add(v)
		}
	}
	return g
}

func drawView(t *rapid.T) View { return drawGroup(t).view }

// configuration is raft's own idea of who votes.
type configuration struct{ changer confchange.Changer }

func newConfiguration() *configuration {
	return &configuration{confchange.Changer{Tracker: tracker.MakeProgressTracker(1, 0), LastIndex: 1}}
}

func (c *configuration) apply(t *rapid.T, v, next View) {
	for _, step := range v.steps(next) {
		cfg, progress, err := c.changer.Simple(step)
		if err != nil {
			t.Fatalf("raft refuses what the view accepts: %s of %s: %v", step, next, err)
		}
		c.changer.Tracker.Config, c.changer.Tracker.Progress = cfg, progress
	}
}

func (c *configuration) check(t *rapid.T, v View) {
	got, want := v.confState(), c.changer.Tracker.ConfState()
	if !slices.Equal(got.GetVoters(), want.GetVoters()) || !slices.Equal(got.GetLearners(), want.GetLearners()) || !v.agrees(want) {
		t.Fatalf("%s stands for %v, raft has %v", standing(v), got, want)
	}
	if len(want.GetVotersOutgoing())+len(want.GetLearnersNext()) != 0 {
		t.Fatalf("raft has a joint configuration: %v", want)
	}
}

// TestViewFollowsRaft holds any history of changes against raft's own
// arithmetic and against what must be true of every view.
func TestViewFollowsRaft(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var v View
		raft := newConfiguration()
		for index := range rapid.Uint64Range(1, 60).Draw(t, "changes") {
			next, err := v.Apply(drawChange(t), index+1)
			if err != nil {
				if _, ok := errors.AsType[*RefusedChangeError](err); !ok {
					t.Fatalf("refusal of another type: %v", err)
				}
				continue
			}
			raft.apply(t, v, next)
			checkVoters(t, v, next)
			raft.check(t, next)
			checkMembers(t, next)
			v = next
		}
	})
}

// checkVoters counts who votes in one of two views only. Were it more than one
// in a view that the group votes on, two majorities could know nothing of each
// other.
func checkVoters(t *rapid.T, v, next View) {
	differ := 0
	for _, pair := range [][2]View{{v, next}, {next, v}} {
		for _, m := range pair[0].Members {
			if other, _ := pair[1].Member(m.RaftID); m.State == Online && other.State != Online {
				differ++
			}
		}
	}
	if differ > 1 && next.Cause.Kind != Forced {
		t.Fatalf("%d voters differ between %s and %s", differ, v, next)
	}
}

func checkMembers(t *rapid.T, v View) {
	if len(v.Members) > MaxMembers || v.online() == 0 {
		t.Fatalf("%d members, %d of them ONLINE", len(v.Members), v.online())
	}
	seen := map[any]bool{}
	for i, m := range v.Members {
		if i > 0 && v.Members[i-1].RaftID >= m.RaftID {
			t.Fatalf("not ascending: %s", standing(v))
		}
		if seen[m.UUID] || seen[m.Address] {
			t.Fatalf("UUID or address of %d is there twice", m.RaftID)
		}
		seen[m.UUID], seen[m.Address] = true, true
		if found, ok := v.Member(m.RaftID); !ok || found != m {
			t.Fatalf("Member(%d) is %+v, %v", m.RaftID, found, ok)
		}
	}
}

func TestViewRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := drawView(t)
		b := appendView(nil, want)
		d := decoder{rest: b}
		got := d.view()
		if err := d.finish(ErrView); err != nil {
			t.Fatal(err)
		}
		if diff := gocmp.Diff(want, got); diff != "" {
			t.Fatalf("(-want +got):\n%s", diff)
		}
		for n := range b {
			d := decoder{rest: b[:n]}
			d.view()
			if err := d.finish(ErrView); !errors.Is(err, ErrView) {
				t.Fatalf("the first %d of %d bytes: %v", n, len(b), err)
			}
		}
	})
}

func TestChangeRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := drawChange(t)
		b := appendChange(nil, want)
		got, err := decodeChange(b)
		if err != nil {
			t.Fatal(err)
		}
		if diff := gocmp.Diff(want, got); diff != "" {
			t.Fatalf("(-want +got):\n%s", diff)
		}
		for n := range b {
			if _, err := decodeChange(b[:n]); !errors.Is(err, ErrView) {
				t.Fatalf("the first %d of %d bytes: %v", n, len(b), err)
			}
		}
		if _, err := decodeChange(append(b, 0)); !errors.Is(err, ErrView) {
			t.Fatalf("a byte too many: %v", err)
		}
	})
}
