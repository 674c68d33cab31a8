package concordat_test

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/concordatdb/concordat"
	"github.com/concordatdb/concordat/gcs"
	"github.com/concordatdb/concordat/gcs/transport"
	"github.com/concordatdb/concordat/internal/forced"
)

// mustFreeze has a member freeze for a plan that goes no further.
func mustFreeze(t *testing.T, n *concordat.Node, plan concordat.ForcePlan) {
	t.Helper()
	s := n.Status()
	asker := transport.IdentityOf(gcs.Identity{
		Group: s.Group, Member: s.Member, RaftID: 77, Session: 1, Incarnation: s.Incarnation,
	}, n.Address())
	r := forced.Request{Step: forced.StepFreeze, Order: plan.Order}
	b, err := transport.Order(testContext(t), n.Address(), asker, r.Append(nil), nil)
	if err != nil {
		t.Fatal(err)
	}
	if a, err := forced.DecodeAnswer(b); err != nil || a.Refused != nil || a.Record.Phase != forced.Frozen {
		t.Fatalf("asked to freeze: %v, %v", a, err)
	}
	eventually(t, "it to be frozen", func() bool { return n.Status().Frozen == plan.Plan })
}

// frozenOfFour is a group of four of which two are closed and the second is
// frozen for a plan whose coordinator is gone.
func frozenOfFour(t *testing.T, patience func(*concordat.Config)) (*group, concordat.ForcePlan) {
	t.Helper()
	g := openGroup(t, 4, patience)
	mustPut(t, g.nodes[0], "before", "1")
	mustAgree(t, g.nodes...)
	mustClose(t, g.nodes[2])
	mustClose(t, g.nodes[3])
	noQuorum(t, g.nodes[:2]...)
	plan, err := g.nodes[0].PlanForceMembers(testContext(t), uuids(g.nodes[:2]...))
	if err != nil {
		t.Fatal(err)
	}
	mustFreeze(t, g.nodes[1], plan)
	return g, plan
}

// backToThree brings the closed members back, which with the first are a quorum.
func (g *group) backToThree(t *testing.T) {
	t.Helper()
	for i := 2; i < 4; i++ {
		g.nodes[i] = mustStart(t, again(g.nodes[i], g.cfgs[i]))
	}
	mustBe(t, concordat.Online, g.nodes[2:]...)
	mustPut(t, g.nodes[2], "healed", "1")
}

// A member that is frozen while its group comes back by itself is freed by order:
// in its place if it has that still, and as a new one if not.
func TestFrozenAndGroupBack(t *testing.T) {
	t.Parallel()
	for name, patience := range map[string]func(*concordat.Config){"still a member": neverExpel, "expelled": quick} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := testContext(t)
			g, _ := frozenOfFour(t, patience)
			n := g.nodes[1]
			before := raftID(t, n)
			// Nobody can tell yet.
			if _, err := n.Rejoin(ctx, concordat.RejoinOptions{}); !errors.Is(err, concordat.ErrNoQuorum) || n.Status().Diagnosis.Code != "FROZEN" {
				t.Errorf("rejoin of a frozen member: %v, it is %v", err, n.Status().Diagnosis)
			}
			g.backToThree(t)
			if name == "expelled" {
				eventually(t, "it to be expelled", func() bool { return len(members(g.nodes[2])) == 3 })
			}
			eventually(t, "an order to free it", func() bool {
				_, err := n.Rejoin(ctx, concordat.RejoinOptions{})
				return err == nil
			})
			mustBe(t, concordat.Online, n)
			if now := raftID(t, n); (now == before) != (name == "still a member") || !n.Status().Frozen.IsZero() {
				t.Errorf("it had raft id %d, now %d, frozen for %v", before, now, n.Status().Frozen)
			}
			mustPut(t, n, "back", "1")
			mustAgree(t, g.nodes...)
			n = reopen(t, n, g.cfgs[1])
			mustPut(t, n, "again", "1")
		})
	}
}

// A member that is frozen for one plan, and left out by another one that found it
// gone, learns of it and comes back by itself.
func TestFrozenAndLeftOut(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	g, _ := frozenOfFour(t, neverExpel)
	n := g.nodes[1]
	before := raftID(t, n)
	mustClose(t, n)
	p, err := g.nodes[0].PlanForceMembers(ctx, uuids(g.nodes[0]))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := g.nodes[0].ForceMembers(ctx, p.Plan, uuids(g.nodes[0])); err != nil {
		t.Fatal(err)
	}
	n = mustStart(t, again(n, g.cfgs[1]))
	mustBe(t, concordat.Online, n)
	if now := raftID(t, n); now == before || !n.Status().Frozen.IsZero() {
		t.Errorf("it had raft id %d, now %d, frozen for %v", before, now, n.Status().Frozen)
	}
	mustPut(t, n, "back", "1")
	mustAgree(t, g.nodes[0], n)
}

// A member that has given up in a minority can be told to go on alone, with all
// that it holds.
func TestForceAfterGivingUp(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	g := openLinked(t, 3, neverExpel, func(c *concordat.Config) {
		c.UnreachableMajorityTimeout, c.AutoRejoinTries, c.AutoRejoinInterval = 300*time.Millisecond, 1, 20*time.Millisecond
	})
	mustPut(t, g.nodes[0], "before", "1")
	mustAgree(t, g.nodes...)
	for i := range g.nodes {
		g.isolate(i, true)
	}
	n := g.nodes[1]
	eventually(t, "it to give up for good", func() bool { return len(eventsOf(n, concordat.EventExitStateAction)) == 1 })
	plan, err := n.PlanForceMembers(ctx, uuids(n))
	if err != nil {
		t.Fatal(err)
	}
	report, err := n.ForceMembers(ctx, plan.Plan, uuids(n))
	if err != nil || !report.Complete {
		t.Fatalf("force: %v, complete %t", err, report.Complete)
	}
	mustHaveForced(t, plan.Begins, n)
	if s := n.Status(); s.Err != nil {
		t.Errorf("it goes on, and says %v", s.Err)
	}
	mustPut(t, n, "after", "1")
	if got := contents(t, n); got["before"] != "1" || got["after"] != "1" {
		t.Errorf("there is %v", got)
	}
}

// What only the tail of a log has, which nobody knows to be committed, is not
// lost silently when the membership is forced without that member: it may have
// helped to commit it.
func TestForcedOutWithTail(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	g := openLinked(t, 3, neverExpel, tireless)
	mustPut(t, g.nodes[0], "before", "1")
	mustAgree(t, g.nodes...)
	at := -1
	for at < 0 {
		eventually(t, "a quorum", func() bool { return g.nodes[0].Status().Quorum })
		at = leader(t, g.nodes)
		for i := range g.nodes {
			g.isolate(i, true)
		}
		if err := <-submit(endless(t), g.nodes[at], "tail"); errors.Is(err, concordat.ErrOutcomeUnknown) {
			break
		}
		for i := range g.nodes {
			g.isolate(i, false)
		}
		at = -1
	}
	old, other := g.nodes[at], g.nodes[(at+1)%3]
	mustClose(t, g.nodes[(at+2)%3]) // nobody else ever has the tail
	noQuorum(t, old, other)
	plan, err := other.PlanForceMembers(ctx, uuids(other))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.ForceMembers(ctx, plan.Plan, uuids(other)); err != nil {
		t.Fatal(err)
	}
	mustBe(t, concordat.Online, other)
	for i := range g.nodes {
		g.isolate(i, false)
	}
	eventually(t, "it to be out for what it has", func() bool { return errors.Is(old.Status().Err, concordat.ErrDiverged) })
	diverged, ok := errors.AsType[*concordat.DivergedError](old.Status().Err)
	if !ok || diverged.Extra.Count() != 1 {
		t.Errorf("it has what the group has not: %v", old.Status().Err)
	}
	report := mustRejoin(t, old, concordat.RejoinOptions{DiscardErrant: true})
	if report.Discarded.Count() != 1 {
		t.Fatalf("discarded %v", report.Discarded)
	}
	saved, err := os.ReadFile(report.SavedTo)
	if err != nil || !strings.Contains(string(saved), `"key":"tail"`) {
		t.Errorf("saved is %s, %v", saved, err)
	}
	mustBe(t, concordat.Online, old, other)
	mustAgree(t, old, other)
	if got := contents(t, old); got["before"] != "1" || got["tail"] != "" {
		t.Errorf("there is %v", got)
	}
}
