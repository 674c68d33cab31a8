package gcs

import (
	"errors"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
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
	kinds := []ChangeKind{Joined, Joined, Joined, Promoted, Promoted, Left, Bootstrapped}
	return Change{
		Kind:        rapid.SampledFrom(kinds).Draw(t, "kind"),
		Member:      drawMember(t),
		Incarnation: uuid(200),
	}
}

// drawView draws a view that changes could have made.
func drawView(t *rapid.T) View {
	v, err := View{}.Apply(bootstrap(recovering(rapid.Uint64Range(1, MaxMembers).Draw(t, "founder"))), 1)
	if err != nil {
		t.Fatal(err)
	}
	for range rapid.IntRange(0, 30).Draw(t, "changes") {
		v, _ = v.Apply(drawChange(t), v.Index+rapid.Uint64Range(1, 1<<40).Draw(t, "later"))
	}
	return v
}

// configuration is raft's own idea of who votes.
type configuration struct{ changer confchange.Changer }

func newConfiguration() *configuration {
	return &configuration{confchange.Changer{Tracker: tracker.MakeProgressTracker(1, 0), LastIndex: 1}}
}

func (c *configuration) apply(t *rapid.T, change Change) {
	cfg, progress, err := c.changer.Simple(change.confChange().GetChanges()...)
	if err != nil {
		t.Fatalf("raft refuses what the view accepts: %s of %d: %v", change.Kind, change.Member.RaftID, err)
	}
	c.changer.Tracker.Config, c.changer.Tracker.Progress = cfg, progress
}

func (c *configuration) check(t *rapid.T, v View) {
	got, want := v.confState(), c.changer.Tracker.ConfState()
	if !slices.Equal(got.GetVoters(), want.GetVoters()) || !slices.Equal(got.GetLearners(), want.GetLearners()) {
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
			raft.apply(t, next.Cause)
			raft.check(t, next)
			checkMembers(t, next)
			v = next
		}
	})
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
		if diff := cmp.Diff(want, got); diff != "" {
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
		if diff := cmp.Diff(want, got); diff != "" {
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
