package concordat_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/concordatdb/concordat"
	"github.com/concordatdb/concordat/gcs"
	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/internal/forced"
)

// orderFor is a plan for one member alone, as somebody could draw who was told
// wrong things of it.
func orderFor(t *testing.T, teller, n *concordat.Node) forced.Order {
	t.Helper()
	s, plan := teller.Status(), gtid.UUID{15: 9}
	for _, m := range s.View.Members {
		if m.UUID == n.Status().Member {
			member := gcs.Member{
				UUID: m.UUID, RaftID: m.RaftID, Address: m.Address, Version: m.Version, Weight: m.Weight, State: gcs.Online,
			}
			return forced.Order{
				Plan: plan, Group: s.Group, Ends: s.Incarnation, Begins: forced.Incarnation(plan), Members: []gcs.Member{member},
			}
		}
	}
	t.Fatalf("%v does not have %s", s.View, n.Status().Member)
	return forced.Order{}
}

// mustNotFreeze checks that a member does not freeze, and is left as it was.
func mustNotFreeze(t *testing.T, n *concordat.Node, o forced.Order) {
	t.Helper()
	ctx, before := testContext(t), n.Status().State
	a, err := step(ctx, n.Address(), asker(n), forced.Request{Step: forced.StepFreeze, Order: o})
	if err == nil && a.Refused == nil {
		t.Errorf("a member that is %s is %s", before, a.Record.Phase)
	}
	if s := n.Status(); s.State != before || !s.Frozen.IsZero() {
		t.Errorf("it was %s, and is %s, frozen for %v", before, s.State, s.Frozen)
	}
}

// A member that copies another one's state has nothing to give its word for. It
// is not held up by the order.
func TestFreezeCloning(t *testing.T) {
	t.Parallel()
	g := openGroup(t, 2, neverExpel, shortLog)
	outgrowLog(t, "much", g.nodes...)
	n, cfg := cloningPhase(t, g)
	eventually(t, "a view that has it", func() bool { return len(members(g.nodes[0])) == 3 })
	since := n.Status().Recovery.Since
	mustNotFreeze(t, n, orderFor(t, g.nodes[0], n))
	if _, err := n.PlanForceMembers(testContext(t), uuids(n)); !errors.Is(err, concordat.ErrNotOnline) {
		t.Errorf("a plan: %v, want ErrNotOnline", err)
	}
	if r := n.Status().Recovery; r == nil || r.Since != since {
		t.Errorf("it copies since %v, and says %+v", since, r)
	}
	n = reopen(t, n, cfg)
	mustPut(t, n, "joined", "1")
	mustAgree(t, append(g.nodes, n)...)
}

// A member that an operator has taken out has no place that it could freeze in.
func TestFreezeRemoved(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	g := openGroup(t, 3, neverExpel)
	mustPut(t, g.nodes[0], "before", "1")
	mustAgree(t, g.nodes...)
	n := g.nodes[2]
	o := orderFor(t, g.nodes[0], n)
	if err := g.nodes[0].Remove(ctx, n.Status().Member, concordat.Force()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it to be out", func() bool { return len(eventsOf(n, concordat.EventExitStateAction)) == 1 })
	mustNotFreeze(t, n, o)
	if _, err := n.Rejoin(ctx, concordat.RejoinOptions{}); err != nil {
		t.Fatal(err)
	}
	mustBe(t, concordat.Online, n)
	mustAgree(t, g.nodes...)
}

// A member that has given up in a minority is asked between two of its tries. It
// freezes with all that it holds, tries no more, and stays frozen over a restart.
func TestFreezeBetweenTries(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	g := openLinked(t, 3, neverExpel, func(c *concordat.Config) {
		c.UnreachableMajorityTimeout, c.AutoRejoinTries, c.AutoRejoinInterval = 200*time.Millisecond, 1000, 20*time.Millisecond
	})
	mustPut(t, g.nodes[0], "before", "1")
	mustAgree(t, g.nodes...)
	for i := range g.nodes {
		g.isolate(i, true)
	}
	n, listen := g.nodes[1], g.cfgs[1].Listen
	eventually(t, "a try to come back", func() bool { return n.Status().State == concordat.Error && n.Status().RejoinTry > 1 })
	plan, err := n.PlanForceMembers(ctx, uuids(n))
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range plan.Excluded {
		if !x.Seen || x.Answers || x.Ticks == 0 || x.Delivered == 0 {
			t.Errorf("of who is left out it knows %+v", x)
		}
	}
	a, err := step(ctx, listen, asker(n), forced.Request{Step: forced.StepFreeze, Order: plan.Order})
	if err != nil || a.Refused != nil || a.Record.Facts.Last != plan.Last {
		t.Fatalf("it froze with a log up to %d, the plan has %d: %v, %v", a.Record.Facts.Last, plan.Last, a.Refused, err)
	}
	eventually(t, "it to be frozen", func() bool { return n.Status().Frozen == plan.Plan })
	for i := range g.nodes {
		g.isolate(i, false)
	}
	// The others are a majority again. It waits for the plan all the same.
	mustBe(t, concordat.Online, g.nodes[0], g.nodes[2])
	mustPut(t, g.nodes[0], "after", "1")
	mustClose(t, n)
	g.restart(t, 1)
	n = g.nodes[1]
	if s := n.Status(); s.Frozen != plan.Plan && s.State == concordat.Online {
		t.Errorf("started again, it is %s and frozen for %v", s.State, s.Frozen)
	}
	eventually(t, "it to be frozen", func() bool { return n.Status().Frozen == plan.Plan })
	// That majority refuses the plan, and takes the member back by order.
	if _, err := n.ForceMembers(ctx, plan.Plan, nil); !errors.Is(err, concordat.ErrRefused) || !strings.Contains(err.Error(), "has quorum") {
		t.Errorf("beside a majority: %v", err)
	}
	eventually(t, "an order to free it", func() bool {
		_, err := n.Rejoin(ctx, concordat.RejoinOptions{})
		return err == nil
	})
	mustBe(t, concordat.Online, n)
	mustAgree(t, g.nodes...)
}

// A plan that is under way is for the members that it was drawn for.
func TestForceWithOtherMembers(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	g, plan := frozenOfFour(t, neverExpel)
	left := g.nodes[:2]
	for what, members := range map[string][]gtid.UUID{
		"fewer": uuids(left[0]), "more": uuids(g.nodes[:3]...), "others": uuids(left[0], g.nodes[2]),
	} {
		if _, err := left[0].ForceMembers(ctx, plan.Plan, members); !errors.Is(err, concordat.ErrRefused) {
			t.Errorf("%s: %v, want ErrRefused", what, err)
		}
	}
	if s := left[0].Status(); !s.Frozen.IsZero() || s.Incarnation != plan.Ends {
		t.Errorf("it is of incarnation %s, frozen for %v", s.Incarnation, s.Frozen)
	}
	turned := uuids(left[1], left[0])
	if report, err := left[0].ForceMembers(ctx, plan.Plan, turned); err != nil || !report.Complete {
		t.Errorf("the same ones: %v", err)
	}
	mustHaveForced(t, plan.Begins, left...)
}

// One plan can be carried out from two members at once: one membership comes of
// it, whoever gets there first.
func TestForceSamePlanTwice(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	g := openGroup(t, 4, neverExpel)
	mustPut(t, g.nodes[0], "before", "1")
	mustAgree(t, g.nodes...)
	mustClose(t, g.nodes[2])
	mustClose(t, g.nodes[3])
	left := g.nodes[:2]
	noQuorum(t, left...)
	plan, err := left[0].PlanForceMembers(ctx, uuids(left...))
	if err != nil {
		t.Fatal(err)
	}
	errs := make(chan error, 2)
	for _, n := range left {
		go func() {
			_, err := n.ForceMembers(ctx, plan.Plan, uuids(left...))
			errs <- err
		}()
	}
	for range left {
		if err := <-errs; err != nil && !errors.Is(err, concordat.ErrRefused) {
			t.Errorf("force: %v", err)
		}
	}
	if report, err := resumed(ctx, t, left[1], plan.Plan, uuids(left...)); !report.Complete {
		t.Errorf("gone on with: %v", err)
	}
	mustHaveForced(t, plan.Begins, left...)
	mustPut(t, left[1], "after", "1")
	mustAgree(t, left...)
}
