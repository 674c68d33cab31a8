package concordat_test

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/concordatdb/concordat"
	"github.com/concordatdb/concordat/gtid"
)

// quick makes a member lose patience soon, and yet not because a loaded machine
// leaves it without a processor for a while.
func quick(c *concordat.Config) {
	c.MemberSuspectTimeout, c.MemberExpelTimeout = time.Second, 1500*time.Millisecond
	c.AutoRejoinInterval = 200 * time.Millisecond
}

// neverExpel keeps the view as it is whoever is silent.
func neverExpel(c *concordat.Config) {
	c.MemberSuspectTimeout, c.MemberExpelTimeout = time.Second, time.Hour
	c.AutoRejoinInterval = 200 * time.Millisecond
}

func uuids(nodes ...*concordat.Node) (out []gtid.UUID) {
	for _, n := range nodes {
		out = append(out, n.Status().Member)
	}
	return out
}

// noQuorum waits until members know that they are too few.
func noQuorum(t testing.TB, nodes ...*concordat.Node) {
	t.Helper()
	for _, n := range nodes {
		eventually(t, "the loss of the quorum to be noticed", func() bool {
			s := n.Status()
			return !s.Quorum && s.Diagnosis.Code == "NO_QUORUM"
		})
	}
}

// Five members lose three for good. The two that are left are told to go on, and
// the three come back by themselves.
func TestForceMembers(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	g := openGroup(t, 5, neverExpel)
	for i, n := range g.nodes {
		mustPut(t, n, fmt.Sprint("key", i), "before")
	}
	mustAgree(t, g.nodes...)
	for _, n := range g.nodes[2:] {
		mustClose(t, n)
	}
	left := g.nodes[:2]
	noQuorum(t, left...)

	if _, err := left[0].PlanForceMembers(ctx, uuids(g.nodes[1:2]...)); !errors.Is(err, concordat.ErrRefused) {
		t.Errorf("a plan without its coordinator: %v", err)
	}
	plan, err := left[0].PlanForceMembers(ctx, uuids(left...))
	if err != nil {
		t.Fatal(err)
	}
	if len(plan.Survivors) != 2 || len(plan.Excluded) != 3 {
		t.Errorf("plan of %d survivors without %d", len(plan.Survivors), len(plan.Excluded))
	}
	report, err := left[0].ForceMembers(ctx, plan.Plan, uuids(left...))
	if err != nil || !report.Complete {
		t.Fatalf("force: %v, complete %v", err, report.Complete)
	}
	for _, n := range left {
		eventually(t, "the survivors to be ONLINE", func() bool { return n.Status().State == concordat.Online })
		mustPut(t, n, "after "+n.Address(), "1")
		if s := n.Status(); s.Incarnation != plan.Begins || len(s.View.Members) != 2 {
			t.Errorf("incarnation %s with %d members, want %s with 2", s.Incarnation, len(s.View.Members), plan.Begins)
		}
	}
	// The same plan again changes nothing.
	again2, err := left[1].ForceMembers(ctx, plan.Plan, nil)
	if err != nil || !again2.Complete {
		t.Errorf("the same plan again: %v, complete %v", err, again2.Complete)
	}
	mustPut(t, left[0], "still", "1")

	var back []*concordat.Node
	for i, n := range g.nodes[2:] {
		back = append(back, mustOpen(t, again(n, g.cfgs[i+2])))
	}
	mustAgree(t, append(back, left...)...)
	if s := back[0].Status(); len(s.View.Members) != 5 {
		t.Errorf("%d members at the end: %v", len(s.View.Members), s.View)
	}
}

// Where the log of who was left out does not go back to the fork any more, nothing
// is given up by itself, and the list says that it may lack some.
func TestForcedApartWithShortLog(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	g := openLinked(t, 3, neverExpel, func(c *concordat.Config) { c.AutoRejoinTries, c.CheckpointBytes = 1, 2<<10 })
	mustPut(t, g.nodes[0], "shared", "1")
	mustAgree(t, g.nodes...)
	alone, n := g.nodes[2], g.nodes[0]
	g.isolate(2, true)
	fork := n.Status().Delivered + 20 // beyond what member 2 can have
	for i := 0; concordat.LogFirst(n) <= fork; i++ {
		mustPut(t, n, fmt.Sprint("theirs", i), strings.Repeat("x", 200))
	}
	noQuorum(t, alone)
	plan, err := alone.PlanForceMembers(ctx, uuids(alone))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := alone.ForceMembers(ctx, plan.Plan, uuids(alone)); err != nil {
		t.Fatal(err)
	}
	g.isolate(2, false)
	eventually(t, "who was left out to know it", func() bool { return errors.Is(n.Status().Err, concordat.ErrDiverged) })
	diverged, ok := errors.AsType[*concordat.DivergedError](n.Status().Err)
	if !ok || !diverged.Incomplete || diverged.Extra.IsEmpty() {
		t.Fatalf("member whose log is cut above the fork: %v", n.Status().Err)
	}
	report := mustRejoin(t, n, concordat.RejoinOptions{DiscardErrant: true})
	saved, err := os.ReadFile(report.SavedTo)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"gtids_without_contents", "incomplete_after_log_index"} {
		if !strings.Contains(string(saved), want) {
			t.Errorf("%s is not in the saved transactions", want)
		}
	}
	mustBe(t, concordat.Online, n)
	mustAgree(t, alone, n)
}

// Who was left out and lived on has transactions of its own. It is refused with
// their list, saves them when it is told to, and takes the group's state.
func TestForcedApart(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	g := &group{}
	var links []*link
	for i := range 3 {
		cfg := founder(t)
		if i > 0 {
			cfg = joiner(t, g.nodes[0])
		}
		neverExpel(&cfg)
		cfg.AutoRejoinTries = 1
		links = append(links, newLink(t, &cfg))
		g.cfgs = append(g.cfgs, cfg)
		g.nodes = append(g.nodes, mustOpen(t, cfg))
	}
	mustPut(t, g.nodes[0], "shared", "1")
	mustAgree(t, g.nodes...)
	// Nothing reaches member 2 any more; the others go on, until nobody reaches
	// anybody.
	alone := g.nodes[2]
	links[2].set(true)
	mustPut(t, g.nodes[0], "theirs", "1")
	mustPut(t, g.nodes[1], "theirs too", "1")
	for _, l := range links {
		l.set(true)
	}
	noQuorum(t, g.nodes...)

	plan, err := alone.PlanForceMembers(ctx, uuids(alone))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := alone.ForceMembers(ctx, plan.Plan, uuids(alone)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the forced member to be ONLINE", func() bool { return alone.Status().State == concordat.Online })
	mustPut(t, alone, "mine", "1")
	for _, l := range links {
		l.set(false)
	}

	for _, n := range g.nodes[:2] {
		eventually(t, "who was left out to know it", func() bool { return errors.Is(n.Status().Err, concordat.ErrDiverged) })
		diverged, ok := errors.AsType[*concordat.DivergedError](n.Status().Err)
		if !ok || diverged.Extra.Count() != 2 {
			t.Fatalf("member with transactions of its own: %v", n.Status().Err)
		}
		if got := contents(t, n); got["theirs"] != "1" || got["mine"] != "" {
			t.Errorf("it still shows %v", got)
		}
		report := mustRejoin(t, n, concordat.RejoinOptions{DiscardErrant: true})
		if !report.Discarded.Equal(diverged.Extra) {
			t.Errorf("discarded %v, refused for %v", report.Discarded, diverged.Extra)
		}
		saved, err := os.ReadFile(report.SavedTo)
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{`"key":"theirs"`, `"key":"theirs too"`, `"value":"1"`, `"op":"put"`} {
			if !strings.Contains(string(saved), want) {
				t.Errorf("%s is not in the saved transactions: %s", want, saved)
			}
		}
		eventually(t, "it to be ONLINE", func() bool { return n.Status().State == concordat.Online })
	}
	mustAgree(t, g.nodes...)
	if got := contents(t, g.nodes[0]); got["mine"] != "1" || got["theirs"] != "" || got["shared"] != "1" {
		t.Errorf("at the end there is %v", got)
	}
}
