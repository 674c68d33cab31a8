package outlook_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/concordatdb/concordat/election"
	"github.com/concordatdb/concordat/gcs"
	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/internal/outlook"
)

type planCase struct {
	name      string
	view      gcs.View
	silent    []uint64
	stalled   []uint64
	election  election.Snapshot
	progress  []election.Progress
	ask       outlook.Ask
	objection string // part of it, "" for none
	forceable bool
	warns     []string // parts of the warnings, in their order
}

func verb(v outlook.Verb, n uint64) outlook.Ask { return outlook.Ask{Verb: v, Member: uuid(n)} }

var planCases = []planCase{
	{name: "leave of five", view: group(5, 0), ask: verb(outlook.Leave, 5)},
	{name: "leave of four", view: group(4, 0), ask: verb(outlook.Leave, 4)},
	{
		name: "leave of three", view: group(3, 0), ask: verb(outlook.Leave, 3),
		objection: "no member could fail then, and 1 can now", forceable: true,
		warns: []string{"no member may fail then"},
	},
	{name: "leave of two", view: group(2, 0), ask: verb(outlook.Leave, 2)},
	{name: "leave of the last", view: group(1, 2), ask: verb(outlook.Leave, 1), objection: "the last ONLINE member"},
	{name: "leave of a RECOVERING one", view: group(3, 1), ask: verb(outlook.Leave, 4)},
	{
		name: "leave of one heard beside one silent", view: group(3, 0), silent: []uint64{3}, ask: verb(outlook.Leave, 2),
		objection: "would have no quorum, 1 of 2 voters are heard and 2 would be needed: bring back or remove " + uuid(3).String() + " (m3:7400) first",
	},
	{
		name: "leave in a minority", view: group(3, 0), silent: []uint64{2, 3}, ask: verb(outlook.Leave, 1),
		objection: "has no quorum, 1 of 3 voters are heard and 2 are needed",
	},
	{
		name: "leave of one beside a slow disk", view: group(3, 0), stalled: []uint64{3}, ask: verb(outlook.Leave, 2),
		objection: "nothing would commit then: the disk of " + uuid(3).String() + " (m3:7400) stalls, 1 of the 2 voters could acknowledge a write, and 2 would have to; look after the disk first",
	},
	{
		name: "leave of one with a slow disk", view: group(3, 0), stalled: []uint64{3}, ask: verb(outlook.Leave, 3),
		warns: []string{"no member may fail then"},
	},
	{
		name: "leave of five beside a slow disk", view: group(5, 0), stalled: []uint64{3}, ask: verb(outlook.Leave, 2),
		objection: "no member could fail then, and 1 can now", forceable: true,
		warns: []string{"no member may fail then", "the disk of " + uuid(3).String() + " (m3:7400) stalls"},
	},
	{
		name: "leave while nothing commits", view: group(3, 0), stalled: []uint64{1, 3}, ask: verb(outlook.Leave, 3),
		objection: "nothing commits in the group: the disks of ",
	},
	{name: "leave of nobody", view: group(3, 0), ask: verb(outlook.Leave, 9), objection: "is no member"},

	{
		name: "remove one dead of three", view: group(3, 0), silent: []uint64{3}, ask: verb(outlook.Remove, 3),
		warns: []string{"(m3:7400) is not heard: if it still runs", "no member may fail then"},
	},
	{
		name: "remove one dead of five", view: group(5, 0), silent: []uint64{3}, ask: verb(outlook.Remove, 3),
		warns: []string{"(m3:7400) is not heard: if it still runs"},
	},
	{
		name: "remove one of two dead of five", view: group(5, 0), silent: []uint64{3, 4}, ask: verb(outlook.Remove, 3),
		warns: []string{"(m3:7400) is not heard: if", "no member may fail then", "(m4:7400) is not heard and stays"},
	},
	{
		name: "remove the dead one of two", view: group(2, 0), silent: []uint64{2}, ask: verb(outlook.Remove, 2),
		objection: "has no quorum",
	},
	{
		name: "remove one heard of four", view: group(4, 0), ask: verb(outlook.Remove, 4),
		objection: "is ONLINE and heard: let it leave by itself", forceable: true,
	},
	{
		name: "remove one heard of three", view: group(3, 0), ask: verb(outlook.Remove, 3),
		objection: "let it leave by itself; no member could fail then", forceable: true,
		warns: []string{"no member may fail then"},
	},
	{name: "remove the last", view: group(1, 2), ask: verb(outlook.Remove, 1), objection: "the last ONLINE member"},
	{name: "remove one that is RECOVERING", view: group(3, 1), ask: verb(outlook.Remove, 4)},

	{
		name: "replace one dead of three", view: group(3, 0), silent: []uint64{3}, ask: verb(outlook.Replace, 3),
		warns: []string{"(m3:7400) is not heard: if it still runs"},
	},
	{name: "replace one heard", view: group(3, 0), ask: verb(outlook.Replace, 3), objection: "is heard, and only a dead member"},
	{
		name: "replace without a quorum", view: group(3, 0), silent: []uint64{2, 3}, ask: verb(outlook.Replace, 3),
		objection: "has no quorum",
	},
	{name: "replace nobody", view: group(3, 0), ask: verb(outlook.Replace, 9), objection: "is no member"},
	{
		name: "replace by one that is there", view: group(3, 0), silent: []uint64{3},
		ask:       outlook.Ask{Verb: outlook.Replace, Member: uuid(3), New: member(2, gcs.Recovering)},
		objection: "its raft id is in the view already",
	},

	{name: "join one", view: group(1, 0), ask: verb(outlook.Join, 9), warns: []string{"no member may fail then"}},
	{name: "join two", view: group(2, 0), ask: verb(outlook.Join, 9)},
	{name: "join three", view: group(3, 0), ask: verb(outlook.Join, 9), warns: []string{"4 voters bear no more failures than 3 do"}},
	{name: "join nine", view: group(9, 0), ask: verb(outlook.Join, 10), objection: "the most there can be"},
	{name: "join again", view: group(3, 0), ask: verb(outlook.Join, 2), objection: "is a member already, at m2:7400"},
	{
		name: "come back", view: group(3, 0), silent: []uint64{2}, ask: verb(outlook.Join, 2),
		warns: []string{"(m2:7400) is not heard: if it still runs"},
	},
	{
		name: "join at an address that is taken", view: group(3, 0),
		ask:       outlook.Ask{Verb: outlook.Join, Member: uuid(9), New: gcs.Member{Address: "m2:7400"}},
		objection: "its address is that of member " + uuid(2).String(),
	},
	{name: "join nothing", view: gcs.View{}, ask: verb(outlook.Join, 9), objection: "there is no group"},
	{name: "no verb", view: group(3, 0), ask: verb("promote", 3), objection: `called "promote"`},
}

func TestPlan(t *testing.T) {
	for _, c := range planCases {
		t.Run(c.name, func(t *testing.T) {
			p := outlook.Make(outlook.Sight{View: c.view, Election: c.election, Progress: c.progress, Unreachable: c.silent, Stalled: c.stalled}, c.ask)
			if (p.Objection == "") != (c.objection == "") || !strings.Contains(p.Objection, c.objection) {
				t.Errorf("objection %q, want %q", p.Objection, c.objection)
			}
			if p.Forceable != c.forceable {
				t.Errorf("forceable %t, want %t", p.Forceable, c.forceable)
			}
			if p.Refusal(false) != p.Objection || (p.Refusal(true) == "") != (c.objection == "" || c.forceable) {
				t.Errorf("refused as %q, with force as %q", p.Refusal(false), p.Refusal(true))
			}
			if !slices.EqualFunc(p.Warnings, c.warns, strings.Contains) {
				t.Errorf("warnings %q, want %q", p.Warnings, c.warns)
			}
		})
	}
}

// What is not known of a newcomer is zero in the plan, and what is known stays.
func TestPlanOfNewcomer(t *testing.T) {
	v := group(3, 0)
	p := outlook.Make(outlook.Sight{View: v, Unreachable: []uint64{2}}, outlook.Ask{Verb: outlook.Replace, Member: uuid(2)})
	unknown := gcs.Member{State: gcs.Recovering}
	if diff := cmp.Diff([]gcs.Member{unknown, v.Members[0], v.Members[2]}, p.Members); diff != "" {
		t.Errorf("members after the replacement (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]gtid.UUID{uuid(1), uuid(3)}, p.Primaries); diff != "" {
		t.Errorf("primaries after the replacement (-want +got):\n%s", diff)
	}
	want := outlook.Plan{
		Now:   outlook.Outlook{Members: 3, Voters: 3, Reachable: 2, Quorum: 2},
		Then:  outlook.Outlook{Members: 3, Voters: 2, Recovering: 1, Reachable: 2, Quorum: 2},
		Later: outlook.Outlook{Members: 3, Voters: 3, Reachable: 3, Quorum: 2, Tolerance: 1},
	}
	if p.Now != want.Now || p.Then != want.Then || p.Later != want.Later {
		t.Errorf("now %+v, then %+v, later %+v", p.Now, p.Then, p.Later)
	}

	known := member(9, gcs.Recovering)
	p = outlook.Make(outlook.Sight{View: v}, outlook.Ask{Verb: outlook.Join, Member: uuid(9), New: gcs.Member{
		RaftID: known.RaftID, Address: known.Address, Version: known.Version, Weight: known.Weight,
	}})
	if diff := cmp.Diff(append(slices.Clone(v.Members), known), p.Members); diff != "" {
		t.Errorf("members after the join (-want +got):\n%s", diff)
	}
}

// A plan leaves its arguments alone, and what it does not refuse even to the one
// who forces it leaves a group that goes on; to the one who does not, one that
// bears no less than before, or as little.
func TestPlanKeepsTheGroup(t *testing.T) {
	verbs := []outlook.Verb{outlook.Leave, outlook.Remove, outlook.Replace, outlook.Join}
	rapid.Check(t, func(t *rapid.T) {
		v := anyView(t)
		silent, stalled := anySilent(t, v), some(t, v, "stalled")
		before := slices.Clone(v.Members)
		ask := outlook.Ask{
			Verb:   rapid.SampledFrom(verbs).Draw(t, "verb"),
			Member: uuid(uint64(rapid.IntRange(1, gcs.MaxMembers+1).Draw(t, "member"))),
		}
		p := outlook.Make(outlook.Sight{View: v, Unreachable: silent, Stalled: stalled}, ask)
		if !slices.Equal(v.Members, before) {
			t.Fatal("the view was changed")
		}
		if p.Forceable && p.Objection == "" {
			t.Fatal("there is nothing to force")
		}
		if p.Refusal(true) != "" {
			return
		}
		if !p.Now.Commits() || !p.Then.Commits() || !p.Later.Commits() {
			t.Fatalf("now %+v, then %+v, later %+v", p.Now, p.Then, p.Later)
		}
		if worse := p.Then.Tolerance == 0 && p.Now.Tolerance > 0; worse != (p.Objection != "" && strings.Contains(p.Objection, "no member could fail")) {
			t.Fatalf("tolerance %d, then %d: objection %q", p.Now.Tolerance, p.Then.Tolerance, p.Objection)
		}
		had := slices.ContainsFunc(before, func(m gcs.Member) bool { return m.UUID == ask.Member })
		has := slices.ContainsFunc(p.Members, func(m gcs.Member) bool { return m.UUID == ask.Member })
		if has != (ask.Verb == outlook.Join) || (!had && ask.Verb != outlook.Join) {
			t.Fatalf("%s: the member was in the view %t, and is then %t", ask.Verb, had, has)
		}
		if !slices.IsSortedFunc(p.Members, func(a, b gcs.Member) int { return int(a.RaftID) - int(b.RaftID) }) {
			t.Fatalf("members out of order: %v", p.Members)
		}
	})
}
