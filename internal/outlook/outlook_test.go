package outlook_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/concordatdb/concordat/gcs"
	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/internal/outlook"
)

func uuid(n uint64) gtid.UUID { return gtid.UUID{9: 0xc0, 15: byte(n)} }

// member is the nth member of a test, with n for its raft id.
func member(n uint64, state gcs.MemberState) gcs.Member {
	return gcs.Member{
		UUID: uuid(n), RaftID: n, Address: fmt.Sprintf("m%d:7400", n),
		Version: 1 << 16, Weight: 50, State: state,
	}
}

// group is a view of so many ONLINE members, and then so many RECOVERING ones.
func group(online, recovering int) gcs.View {
	v := gcs.View{ID: 7, Index: 40, Incarnation: uuid(200)}
	for n := range online + recovering {
		state := gcs.Online
		if n >= online {
			state = gcs.Recovering
		}
		v.Members = append(v.Members, member(uint64(n+1), state))
	}
	return v
}

// The table of docs/membership.md is the one that decides.
func TestExplainedVotes(t *testing.T) {
	text, err := os.ReadFile("../../docs/membership.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, found := strings.Cut(string(text), "\n| voters | quorum | may fail |\n| --- | --- | --- |\n")
	if !found {
		t.Fatal("there is no table of votes")
	}
	table, _, _ = strings.Cut(table, "\n\n")
	var want []string
	for n := 1; n <= gcs.MaxMembers; n++ {
		o := outlook.Of(group(n, 0), nil)
		want = append(want, fmt.Sprintf("| %d | %d | %d |", o.Voters, o.Quorum, o.Tolerance))
	}
	if got := strings.Split(table, "\n"); !slices.Equal(got, want) {
		t.Errorf("explained is\n%s\nand it is\n%s", table, strings.Join(want, "\n"))
	}
}

// TestVotes has MySQL's table of quorums, and what RECOVERING and silent members
// make of it here: who is RECOVERING has no vote.
func TestVotes(t *testing.T) {
	for _, c := range []struct {
		online, recovering int
		silent             []uint64
		want               outlook.Outlook
	}{
		{1, 0, nil, outlook.Outlook{Members: 1, Voters: 1, Reachable: 1, Quorum: 1}},
		{2, 0, nil, outlook.Outlook{Members: 2, Voters: 2, Reachable: 2, Quorum: 2}},
		{3, 0, nil, outlook.Outlook{Members: 3, Voters: 3, Reachable: 3, Quorum: 2, Tolerance: 1}},
		{4, 0, nil, outlook.Outlook{Members: 4, Voters: 4, Reachable: 4, Quorum: 3, Tolerance: 1}},
		{5, 0, nil, outlook.Outlook{Members: 5, Voters: 5, Reachable: 5, Quorum: 3, Tolerance: 2}},
		{6, 0, nil, outlook.Outlook{Members: 6, Voters: 6, Reachable: 6, Quorum: 4, Tolerance: 2}},
		{7, 0, nil, outlook.Outlook{Members: 7, Voters: 7, Reachable: 7, Quorum: 4, Tolerance: 3}},
		{8, 0, nil, outlook.Outlook{Members: 8, Voters: 8, Reachable: 8, Quorum: 5, Tolerance: 3}},
		{9, 0, nil, outlook.Outlook{Members: 9, Voters: 9, Reachable: 9, Quorum: 5, Tolerance: 4}},
		// Where MySQL would count a third voter.
		{2, 1, nil, outlook.Outlook{Members: 3, Voters: 2, Recovering: 1, Reachable: 2, Quorum: 2}},
		{3, 1, []uint64{4}, outlook.Outlook{Members: 4, Voters: 3, Recovering: 1, Reachable: 3, Quorum: 2, Tolerance: 1}},
		{3, 0, []uint64{3}, outlook.Outlook{Members: 3, Voters: 3, Reachable: 2, Quorum: 2}},
		{3, 0, []uint64{2, 3}, outlook.Outlook{Members: 3, Voters: 3, Reachable: 1, Quorum: 2}},
		{4, 0, []uint64{3, 4}, outlook.Outlook{Members: 4, Voters: 4, Reachable: 2, Quorum: 3}},
		{3, 0, []uint64{77, 77}, outlook.Outlook{Members: 3, Voters: 3, Reachable: 3, Quorum: 2, Tolerance: 1}},
	} {
		got := outlook.Of(group(c.online, c.recovering), c.silent)
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%d ONLINE, %d RECOVERING, %d silent (-want +got):\n%s", c.online, c.recovering, c.silent, diff)
		}
		if want := c.want.Reachable >= c.want.Quorum; got.HasQuorum() != want {
			t.Errorf("%d ONLINE, %d silent: quorum %t", c.online, c.silent, got.HasQuorum())
		}
	}
	if got := outlook.Of(gcs.View{}, nil); got.HasQuorum() {
		t.Errorf("an empty view has a quorum: %+v", got)
	}
}

// Who has a disk that does not answer is heard, and promises nothing.
func TestStalledDisks(t *testing.T) {
	for _, c := range []struct {
		online, recovering int
		silent, stalled    []uint64
		want               outlook.Outlook
		commits            bool
	}{
		{3, 0, nil, []uint64{2}, outlook.Outlook{Members: 3, Voters: 3, Reachable: 3, Stalled: 1, Quorum: 2}, true},
		{5, 0, nil, []uint64{2}, outlook.Outlook{Members: 5, Voters: 5, Reachable: 5, Stalled: 1, Quorum: 3, Tolerance: 1}, true},
		{3, 0, nil, []uint64{2, 3}, outlook.Outlook{Members: 3, Voters: 3, Reachable: 3, Stalled: 2, Quorum: 2}, false},
		{3, 0, []uint64{3}, []uint64{2}, outlook.Outlook{Members: 3, Voters: 3, Reachable: 2, Stalled: 1, Quorum: 2}, false},
		// What is said of those who are not heard, not there or have no vote does
		// not count.
		{3, 0, []uint64{3}, []uint64{3}, outlook.Outlook{Members: 3, Voters: 3, Reachable: 2, Quorum: 2}, true},
		{3, 1, nil, []uint64{4, 77}, outlook.Outlook{Members: 4, Voters: 3, Recovering: 1, Reachable: 3, Quorum: 2, Tolerance: 1}, true},
		{3, 0, []uint64{2, 3}, nil, outlook.Outlook{Members: 3, Voters: 3, Reachable: 1, Quorum: 2}, false},
	} {
		got := outlook.Of(group(c.online, c.recovering), c.silent, c.stalled...)
		if diff := cmp.Diff(c.want, got); diff != "" || got.Commits() != c.commits {
			t.Errorf("%d ONLINE, silent %d, stalled %d: commits %t (-want +got):\n%s", c.online, c.silent, c.stalled, got.Commits(), diff)
		}
	}
}

// stories are MySQL's: who leaves in order or crashes, and whether the survivors
// can go on.
func TestStories(t *testing.T) {
	v := group(5, 0)
	for n := uint64(5); n > 1; n-- { // four orderly leaves
		v = without(t, v, n)
		if o := outlook.Of(v, nil); !o.HasQuorum() {
			t.Fatalf("after the leave of %d: %+v", n, o)
		}
	}
	v = group(5, 0)
	for n := uint64(5); n > 2; n-- { // crashes with an expulsion in between
		if o := outlook.Of(v, []uint64{n}); !o.HasQuorum() {
			t.Fatalf("after the crash of %d: %+v", n, o)
		}
		v = without(t, v, n)
	}
	if o := outlook.Of(v, []uint64{2}); o.HasQuorum() {
		t.Errorf("one of two goes on: %+v", o)
	}
}

func without(t *testing.T, v gcs.View, n uint64) gcs.View {
	t.Helper()
	m, _ := v.Member(n)
	next, err := v.Apply(gcs.Change{Kind: gcs.Left, Member: m}, v.Index+1)
	if err != nil {
		t.Fatal(err)
	}
	return next
}

// anyView draws a view with at least one ONLINE member.
func anyView(t *rapid.T) gcs.View {
	online := rapid.IntRange(1, gcs.MaxMembers).Draw(t, "online")
	v := group(online, rapid.IntRange(0, gcs.MaxMembers-online).Draw(t, "recovering"))
	// Raft ids are drawn, so RECOVERING members are anywhere.
	states := rapid.Permutation(v.Members).Draw(t, "order")
	for i, m := range states {
		m.RaftID = uint64(10 * (i + 1))
		states[i] = m
	}
	v.Members = states
	return v
}

func anySilent(t *rapid.T, v gcs.View) []uint64 { return some(t, v, "silent") }

// some draws raft ids of members of a view.
func some(t *rapid.T, v gcs.View, what string) []uint64 {
	var ids []uint64
	for _, m := range v.Members {
		if rapid.Bool().Draw(t, what) {
			ids = append(ids, m.RaftID)
		}
	}
	return ids
}

// survives reports whether a majority of the voters is left when the members at
// the set bits of silent are not.
func survives(v gcs.View, silent int) bool {
	voters, left := 0, 0
	for i, m := range v.Members {
		if m.State != gcs.Online {
			continue
		}
		voters++
		if silent>>i&1 == 0 {
			left++
		}
	}
	return 2*left > voters
}

// The tolerance is the largest number of reachable voters with working disks
// whose failure the group survives whoever they are, found by trying all.
func TestToleranceIsWhatSurvives(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := anyView(t)
		unreachable, stalled := anySilent(t, v), some(t, v, "stalled")
		silent, lost, voters := 0, 0, 0 // bits of v.Members
		for i, m := range v.Members {
			if slices.Contains(unreachable, m.RaftID) {
				silent |= 1 << i
			}
			if slices.Contains(stalled, m.RaftID) {
				lost |= 1 << i
			}
			if m.State == gcs.Online {
				voters |= 1 << i
			}
		}
		lost |= silent
		worst := gcs.MaxMembers
		for more := range 1 << len(v.Members) {
			if more&^(voters&^lost) != 0 || survives(v, lost|more) {
				continue
			}
			worst = min(worst, ones(more))
		}
		o := outlook.Of(v, unreachable, stalled...)
		if o.HasQuorum() != survives(v, silent) || o.Commits() != survives(v, lost) || o.Tolerance != max(0, worst-1) {
			t.Fatalf("%s, silent %d, stalled %d: %+v; but the group survives: %t, and %d failures break it",
				v, unreachable, stalled, o, survives(v, silent), worst)
		}
	})
}

func ones(bits int) (n int) {
	for ; bits != 0; bits &= bits - 1 {
		n++
	}
	return n
}
