package concordat_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/concordatdb/concordat"
	"github.com/concordatdb/concordat/gtid"
)

// mustNotForce checks that a plan is refused, and why.
func mustNotForce(t *testing.T, n *concordat.Node, text string, members ...gtid.UUID) {
	t.Helper()
	_, err := n.PlanForceMembers(testContext(t), members)
	if !errors.Is(err, concordat.ErrRefused) || !strings.Contains(err.Error(), text) {
		t.Errorf("plan for %v: %v, want a refusal that names %q", members, err, text)
	}
}

// mustForce imposes a membership, and waits until it stands.
func mustForce(t *testing.T, by *concordat.Node, nodes ...*concordat.Node) concordat.ForceReport {
	t.Helper()
	ctx := testContext(t)
	plan, err := by.PlanForceMembers(ctx, uuids(nodes...))
	if err != nil {
		t.Fatal(err)
	}
	report, err := by.ForceMembers(ctx, plan.Plan, uuids(nodes...))
	if err != nil || !report.Complete {
		t.Fatalf("force: %v, complete %v", err, report.Complete)
	}
	mustHaveForced(t, plan.Begins, nodes...)
	return report
}

// mustHaveForced waits until members are the group that a plan makes.
func mustHaveForced(t *testing.T, incarnation gtid.UUID, nodes ...*concordat.Node) {
	t.Helper()
	for _, n := range nodes {
		eventually(t, "the survivors to go on", func() bool {
			s := n.Status()
			return s.State == concordat.Online && s.Incarnation == incarnation && len(s.View.Members) == len(nodes) && s.Frozen.IsZero()
		})
	}
}

// The membership is not forced where that is not needed, or cannot be.
func TestForceRefused(t *testing.T) {
	t.Parallel()
	g := openGroup(t, 4, neverExpel, shortLog, func(c *concordat.Config) {
		c.MemberSuspectTimeout = 5 * time.Second // a busy machine is not to take the quorum from it
	})
	ids := uuids(g.nodes...)
	for _, n := range g.nodes {
		eventually(t, "four voters", func() bool { return n.Status().Outlook.Voters == 4 })
	}
	mustNotForce(t, g.nodes[0], "has quorum", ids[0], ids[1])
	mustClose(t, g.nodes[3])
	eventually(t, "its death to be noticed", func() bool { return g.nodes[0].Status().Outlook.Reachable == 3 })
	mustNotForce(t, g.nodes[0], "has quorum", ids[0])
	mustClose(t, g.nodes[2])
	noQuorum(t, g.nodes[:2]...)
	mustNotForce(t, g.nodes[0], "does not answer", ids[0], ids[2])
	mustNotForce(t, g.nodes[0], "is not in view", ids[0], gtid.UUID{1})
	mustNotForce(t, g.nodes[0], "", ids[1])
	mustNotForce(t, g.nodes[0], "")
	before := g.nodes[0].Status().View.ID
	if _, err := g.nodes[0].ForceMembers(testContext(t), gtid.UUID{7}, nil); !errors.Is(err, concordat.ErrRefused) {
		t.Errorf("a plan that nobody knows is gone on with: %v", err)
	}
	if s := g.nodes[0].Status(); s.View.ID != before || !s.Frozen.IsZero() || s.State != concordat.Online {
		t.Errorf("refusals have changed it: %+v", s)
	}
	// It takes up its work where it was.
	g.nodes[2] = reopen(t, g.nodes[2], g.cfgs[2])
	mustPut(t, g.nodes[0], "on", "1")
	mustAgree(t, g.nodes[:3]...)
}

// Who is RECOVERING has no vote that could be counted on.
func TestForceWithoutRecovering(t *testing.T) {
	t.Parallel()
	g := openLinked(t, 3, neverExpel)
	cfg := joiner(t)
	neverExpel(&cfg)
	cfg.Seeds = []string{g.links[0].address()}
	// Nothing reaches it after the group has taken it in.
	l := newLink(t, &cfg)
	l.set(true)
	n := mustStart(t, cfg)
	eventually(t, "it to be in the view", func() bool { return len(members(g.nodes[0])) == 4 })
	recovering := n.Status().Member
	mustClose(t, g.nodes[1])
	mustClose(t, g.nodes[2])
	noQuorum(t, g.nodes[0])
	mustNotForce(t, g.nodes[0], "RECOVERING", uuids(g.nodes[0])[0], recovering)
	report := mustForce(t, g.nodes[0], g.nodes[0])
	for _, x := range report.Plan.Excluded {
		if x.Member.UUID == recovering {
			return
		}
	}
	t.Errorf("the report does not tell of it: %+v", report.Plan.Excluded)
}

// Twice in a row the group loses its majority.
func TestForcedTwice(t *testing.T) {
	t.Parallel()
	g := openGroup(t, 5, neverExpel)
	for _, n := range g.nodes {
		mustPut(t, n, "by "+n.Address(), "1")
	}
	mustAgree(t, g.nodes...)
	for _, n := range g.nodes[2:] {
		mustClose(t, n)
	}
	noQuorum(t, g.nodes[:2]...)
	first := mustForce(t, g.nodes[0], g.nodes[:2]...)
	mustPut(t, g.nodes[1], "between", "1")
	mustAgree(t, g.nodes[:2]...)
	mustClose(t, g.nodes[0])
	noQuorum(t, g.nodes[1])
	second := mustForce(t, g.nodes[1], g.nodes[1])
	if second.Plan.Begins == first.Plan.Begins || second.Plan.Ends != first.Plan.Begins {
		t.Errorf("incarnation %s follows on %s, which followed on %s", second.Plan.Begins, second.Plan.Ends, first.Plan.Ends)
	}
	mustPut(t, g.nodes[1], "alone", "1")
	// All come back by themselves: from the incarnation before and from the one
	// before that.
	for i, n := range g.nodes {
		if i != 1 {
			cfg := again(n, g.cfgs[i])
			tireless(&cfg)
			g.nodes[i] = mustOpen(t, cfg)
		}
	}
	mustAgree(t, g.nodes...)
	forced := 0
	for _, v := range g.nodes[4].Views() {
		if strings.Contains(v.Cause, "forced in incarnation") {
			forced++
		}
	}
	if forced != 2 {
		t.Errorf("%d forced views in the history, want 2", forced)
	}
}

// Who was excluded and lives, behind links that are cut, learns of it, and comes
// back by itself if it has nothing of its own.
func TestForcedOutAlive(t *testing.T) {
	t.Parallel()
	g := openLinked(t, 3, neverExpel, tireless)
	mustPut(t, g.nodes[0], "before", "1")
	mustAgree(t, g.nodes...)
	before := raftID(t, g.nodes[1])
	g.isolate(0, true)
	g.isolate(1, true)
	g.links[2].set(true)
	noQuorum(t, g.nodes...)
	mustForce(t, g.nodes[2], g.nodes[2])
	mustPut(t, g.nodes[2], "alone", "1")
	g.links[2].set(false)
	g.isolate(0, false)
	g.isolate(1, false)
	for _, n := range g.nodes {
		eventually(t, "all to be back", func() bool {
			s := n.Status()
			return s.State == concordat.Online && s.Outlook.Voters == 3 && s.Incarnation == g.nodes[2].Status().Incarnation
		})
	}
	mustPut(t, g.nodes[0], "back", "1")
	mustAgree(t, g.nodes...)
	if raftID(t, g.nodes[1]) == before {
		t.Error("it is back under the raft id that was left out")
	}
}

// closeAfter closes a member as soon as it has told of a step.
func closeAfter(t *testing.T, n *concordat.Node, text string) {
	t.Helper()
	for seq := uint64(0); ; {
		events, err := n.WaitEvents(testContext(t), seq)
		if err != nil {
			t.Fatal(err)
		}
		for _, ev := range events {
			seq = ev.Seq
			if ev.Kind == concordat.EventForce && strings.Contains(ev.Text, text) {
				mustClose(t, n)
				return
			}
		}
	}
}

// The coordinator goes in the middle of a plan. Who is frozen stays so over a
// restart, and any survivor goes on with the plan by its id.
func TestForceCoordinatorLost(t *testing.T) {
	t.Parallel()
	for _, step := range []string{"frozen for plan", "freeze: it is frozen", "adopted plan"} {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			ctx := testContext(t)
			g := openGroup(t, 4, neverExpel)
			mustPut(t, g.nodes[1], "before", "1")
			mustAgree(t, g.nodes...)
			mustClose(t, g.nodes[2])
			mustClose(t, g.nodes[3])
			noQuorum(t, g.nodes[:2]...)
			ids := uuids(g.nodes[:2]...)
			plan, err := g.nodes[0].PlanForceMembers(ctx, ids)
			if err != nil {
				t.Fatal(err)
			}
			ended := make(chan error, 1)
			go func() {
				_, err := g.nodes[0].ForceMembers(ctx, plan.Plan, ids)
				ended <- err
			}()
			closeAfter(t, g.nodes[0], step)
			if err := <-ended; err == nil && step == "frozen for plan" {
				t.Error("the coordinator was closed, and carried the plan out")
			}
			if _, err := g.nodes[0].ForceMembers(ctx, plan.Plan, nil); !errors.Is(err, concordat.ErrClosed) {
				t.Errorf("on a closed member: %v, want ErrClosed", err)
			}
			// The other one, too, is stopped and started again.
			mustClose(t, g.nodes[1])
			for i := range 2 {
				g.nodes[i] = mustStart(t, again(g.nodes[i], g.cfgs[i]))
			}
			frozen := 0
			for _, n := range g.nodes[:2] {
				if s := n.Status(); s.Frozen == plan.Plan {
					frozen++
					if s.State != concordat.Recovering || s.Diagnosis.Code != "FROZEN" || s.Quorum {
						t.Errorf("frozen, it is %s: %v", s.State, s.Diagnosis)
					}
					mustNotServe(t, n)
				}
			}
			if step == "frozen for plan" && frozen == 0 {
				t.Error("nobody is frozen any more")
			}
			report, err := resumed(ctx, t, g.nodes[1], plan.Plan, ids)
			if err != nil || !report.Complete {
				t.Fatalf("the plan again, by the other survivor: %v, complete %v", err, report.Complete)
			}
			mustHaveForced(t, plan.Begins, g.nodes[:2]...)
			mustPut(t, g.nodes[0], "after", "1")
			mustAgree(t, g.nodes[:2]...)
			if got := contents(t, g.nodes[1]); got["before"] != "1" || got["after"] != "1" {
				t.Errorf("there is %v", got)
			}
		})
	}
}

// resumed goes on with a plan once everybody can answer.
func resumed(ctx context.Context, t *testing.T, n *concordat.Node, plan gtid.UUID, ids []gtid.UUID) (report concordat.ForceReport, err error) {
	t.Helper()
	eventually(t, "the plan to be gone on with", func() bool {
		report, err = n.ForceMembers(ctx, plan, ids)
		return err == nil
	})
	return report, err
}

// mustNotServe checks that a member takes no part in anything.
func mustNotServe(t *testing.T, n *concordat.Node) {
	t.Helper()
	ctx := testContext(t)
	_, begun := n.Begin(ctx)
	_, settings := n.SetGroupSettings(ctx, n.GroupSettings())
	for what, err := range map[string]error{
		"begin": begun, "settings": settings, "leave": n.Leave(ctx), "remove": n.Remove(ctx, gtid.UUID{1}), "clone": n.Clone(ctx, ""),
		"read": n.View(ctx, func(*concordat.Tx) error { return nil }),
	} {
		if !errors.Is(err, concordat.ErrNotOnline) {
			t.Errorf("%s: %v, want ErrNotOnline", what, err)
		}
	}
}

// Two operators at once: what one has begun the other one does not undo, and one
// membership comes of it.
func TestTwoOperatorsForce(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	g := openGroup(t, 5, neverExpel)
	mustPut(t, g.nodes[0], "before", "1")
	mustAgree(t, g.nodes...)
	for _, n := range g.nodes[2:] {
		mustClose(t, n)
	}
	noQuorum(t, g.nodes[:2]...)
	ids := uuids(g.nodes[:2]...)
	results := make(chan error, 2)
	plans := make([]gtid.UUID, 2)
	for i, n := range g.nodes[:2] {
		p, err := n.PlanForceMembers(ctx, ids)
		if err != nil {
			t.Fatal(err)
		}
		plans[i] = p.Plan
	}
	for i, n := range g.nodes[:2] {
		go func() {
			_, err := n.ForceMembers(ctx, plans[i], ids)
			results <- err
		}()
	}
	first, second := <-results, <-results
	if first != nil && second != nil {
		// Each has frozen one for its own plan. A third one takes over, when an
		// operator says so.
		if _, err := g.nodes[0].PlanForceMembers(ctx, ids); !errors.Is(err, concordat.ErrRefused) {
			t.Fatalf("beside %v and %v: %v, want ErrRefused", first, second, err)
		}
		supersede(t, g.nodes[0], ids, plans...)
	}
	eventually(t, "one group of two", func() bool {
		a, b := g.nodes[0].Status(), g.nodes[1].Status()
		return a.State == concordat.Online && b.State == concordat.Online && a.Incarnation == b.Incarnation && a.Outlook.Voters == 2
	})
	mustPut(t, g.nodes[0], "after", "1")
	mustPut(t, g.nodes[1], "after too", "1")
	mustAgree(t, g.nodes[:2]...)
}

// supersede forces a membership in the place of other plans.
func supersede(t *testing.T, n *concordat.Node, ids []gtid.UUID, plans ...gtid.UUID) {
	t.Helper()
	ctx, option := testContext(t), concordat.Supersede(plans...)
	p, err := n.PlanForceMembers(ctx, ids, option)
	if err != nil {
		t.Fatalf("in the place of %v: %v", plans, err)
	}
	if _, err := n.ForceMembers(ctx, p.Plan, ids, option); err != nil {
		t.Fatalf("in the place of %v: %v", plans, err)
	}
}

// Two operators at once who each force one of two survivors: the group does not
// fall apart. Where they have stopped each other a third plan takes over both.
func TestOperatorsForceApart(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	g := openGroup(t, 4, neverExpel)
	for _, n := range g.nodes[2:] {
		mustClose(t, n)
	}
	left := g.nodes[:2]
	noQuorum(t, left...)
	errs := make([]error, 2)
	plans := make([]gtid.UUID, 2)
	for i, n := range left {
		p, err := n.PlanForceMembers(ctx, uuids(n))
		if err != nil {
			t.Fatal(err)
		}
		plans[i] = p.Plan
	}
	var ended sync.WaitGroup
	for i, n := range left {
		ended.Go(func() { _, errs[i] = n.ForceMembers(ctx, plans[i], uuids(n)) })
	}
	ended.Wait()
	for i, err := range errs {
		if err != nil && !errors.Is(err, concordat.ErrRefused) {
			t.Fatalf("operator %d: %v", i, err)
		}
	}
	switch {
	case errs[0] == nil && errs[1] == nil:
		t.Fatal("each of the two is a group of its own")
	case errs[0] != nil && errs[1] != nil:
		supersede(t, left[0], uuids(left...), plans...)
		mustBe(t, concordat.Online, left...)
		mustPut(t, left[0], "after", "1")
		mustAgree(t, left...)
	}
}
