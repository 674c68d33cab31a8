package concordat_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/concordatdb/concordat"
	"github.com/concordatdb/concordat/gtid"
)

// mustBeRefused checks that a change of the membership is refused, and whether
// force would help.
func mustBeRefused(t *testing.T, err error, forceable bool, text string) {
	t.Helper()
	refused, ok := errors.AsType[*concordat.RefusedError](err)
	if !ok || !errors.Is(err, concordat.ErrRefused) || refused.Forceable != forceable || !strings.Contains(err.Error(), text) {
		t.Errorf("got %v, want a refusal (force helps: %t) that names %q", err, forceable, text)
	}
}

// A plan says what would be, and changes nothing.
func TestPlan(t *testing.T) {
	t.Parallel()
	g := openGroup(t, 3, neverExpel)
	n := g.nodes[0]
	eventually(t, "three voters", func() bool { return n.Status().Outlook.Voters == 3 })
	ids := uuids(g.nodes...)
	newcomer, stranger := gtid.UUID{1}, gtid.UUID{2}
	before := n.Status().View.ID
	check := func(verb concordat.Verb, member gtid.UUID, members, tolerance int, objection string, forceable bool) {
		t.Helper()
		p := n.Plan(concordat.Operation{Verb: verb, Member: member})
		if len(p.Members) != members || p.Then.Tolerance != tolerance || p.Forceable != forceable {
			t.Errorf("%s: %d members that tolerate %d, force helps: %t; want %d, %d, %t",
				verb, len(p.Members), p.Then.Tolerance, p.Forceable, members, tolerance, forceable)
		}
		if (p.Objection == "") != (objection == "") || !strings.Contains(p.Objection, objection) {
			t.Errorf("%s: objection %q, want %q", verb, p.Objection, objection)
		}
	}
	check(concordat.VerbLeave, ids[0], 2, 0, "no member could fail then", true)
	check(concordat.VerbRemove, ids[1], 2, 0, "let it leave by itself", true)
	check(concordat.VerbRemove, stranger, 3, 1, "is no member of the group", false)
	check(concordat.VerbReplace, ids[1], 3, 1, "only a dead member can be replaced", false)
	check(concordat.VerbJoin, newcomer, 4, 1, "", false)
	check(concordat.VerbJoin, ids[1], 3, 1, "is a member already", false)

	mustClose(t, g.nodes[2])
	eventually(t, "its death to be noticed", func() bool { return n.Status().Outlook.Reachable == 2 })
	check(concordat.VerbRemove, ids[2], 2, 0, "", false)
	check(concordat.VerbReplace, ids[2], 3, 0, "", false)
	check(concordat.VerbLeave, ids[0], 2, 0, "the group would have no quorum", false)
	if now := n.Status().View.ID; now != before {
		t.Errorf("plans have changed the view from %d to %d", before, now)
	}
}

// mustRejoin brings a member back by order. While the others elect a leader that
// is refused for the time being.
func mustRejoin(t *testing.T, n *concordat.Node, how concordat.RejoinOptions) (report concordat.RejoinReport) {
	t.Helper()
	var err error
	eventually(t, "the order to find a leader", func() bool {
		report, err = n.Rejoin(testContext(t), how)
		return !errors.Is(err, concordat.ErrNoQuorum)
	})
	if err != nil {
		t.Fatal(err)
	}
	return report
}

// Dead members are removed without force, and from any member.
func TestRemoveDead(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	g := openGroup(t, 3, neverExpel)
	mustPut(t, g.nodes[0], "before", "1")
	mustAgree(t, g.nodes...)
	at := leader(t, g.nodes)
	dead := g.nodes[(at+1)%3]
	rest := others(g.nodes, (at+1)%3)
	asked := g.nodes[(at+2)%3] // does not lead
	before, uuid := raftID(t, dead), dead.Status().Member
	mustClose(t, dead)
	eventually(t, "its death to be noticed", func() bool { return asked.Status().Outlook.Reachable == 2 })
	mustBeRefused(t, asked.Remove(ctx, gtid.UUID{9}), false, "is no member")
	if err := asked.Remove(ctx, asked.Status().Member); !errors.Is(err, concordat.ErrInvalid) {
		t.Errorf("a member removes itself: %v", err)
	}
	if err := asked.Remove(ctx, uuid); err != nil {
		t.Fatal(err)
	}
	if slices.Contains(members(asked), uuid) {
		t.Error("the member that was asked still has it in its view")
	}
	mustBeRefused(t, asked.Remove(ctx, uuid), false, "is no member")
	mustPut(t, asked, "two", "1")
	if cause := asked.Status().View.Cause; !strings.Contains(cause, "removed: by order of an operator") {
		t.Errorf("the cause of the view is %q", cause)
	}

	// It learns of it when it is started again, and waits for an operator.
	dead = mustStart(t, again(dead, g.cfgs[(at+1)%3]))
	mustBe(t, concordat.Error, dead)
	eventually(t, "it to be out", func() bool { return len(eventsOf(dead, concordat.EventExitStateAction)) == 1 })
	mustBeRefused(t, dead.Join(ctx, concordat.JoinOptions{}), false, "others rejoin")
	mustRejoin(t, dead, concordat.RejoinOptions{})
	mustBe(t, concordat.Online, dead)
	if raftID(t, dead) == before {
		t.Error("it is back under the raft id that was removed")
	}
	_, err := dead.Rejoin(ctx, concordat.RejoinOptions{})
	mustBeRefused(t, err, false, "has not lost its place")
	mustPut(t, dead, "back", "1")
	mustAgree(t, append(rest, dead)...)
}

// A new member takes the place of a dead one in one view, so the group is never
// smaller.
func TestReplace(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	g := openGroup(t, 3, neverExpel)
	mustPut(t, g.nodes[0], "before", "1")
	mustAgree(t, g.nodes...)
	dead := g.nodes[2]
	uuid := dead.Status().Member
	cfg := joiner(t, g.nodes[0], g.nodes[1])
	cfg.Replaces = uuid.String()
	mustRefuse(t, cfg, concordat.ErrJoinRefused, uuid.String(), "is heard")
	mustClose(t, dead)
	for _, n := range g.nodes[:2] {
		eventually(t, "its death to be noticed", func() bool { return n.Status().Outlook.Reachable == 2 })
	}
	nobody := joiner(t, g.nodes[0])
	nobody.Replaces = otherUUID
	mustRefuse(t, nobody, concordat.ErrJoinRefused, otherUUID, "no member")

	third := mustOpen(t, cfg)
	mustPut(t, third, "replaced", "1")
	mustAgree(t, g.nodes[0], g.nodes[1], third)
	if ids := members(g.nodes[0]); len(ids) != 3 || slices.Contains(ids, uuid) {
		t.Errorf("the members are %v", ids)
	}
	replaced := 0
	for _, v := range g.nodes[0].Views() {
		if strings.Contains(v.Cause, "removed") || strings.Contains(v.Cause, "expelled") {
			t.Errorf("view %d: %s", v.ID, v.Cause)
		}
		if strings.Contains(v.Cause, " replaced ") && strings.Contains(v.Reason, "in the place of "+uuid.String()) {
			replaced++
		}
	}
	if replaced != 1 {
		t.Errorf("%d views tell of the replacement, want 1: %v", replaced, g.nodes[0].Views())
	}
	// Its configuration still names whom it replaced; that is over.
	third = reopen(t, third, cfg)
	mustPut(t, third, "again", "1")
	if err := third.Clone(ctx, ""); err != nil {
		t.Errorf("it joins anew: %v", err)
	}

	dead = mustStart(t, again(dead, g.cfgs[2]))
	mustBe(t, concordat.Error, dead)
	mustRejoin(t, dead, concordat.RejoinOptions{})
	mustBe(t, concordat.Online, dead)
	mustAgree(t, g.nodes[0], g.nodes[1], third, dead)
}

// A member that has lost its disk comes back under its UUID, when the one that
// had it is gone; until then the group names who has it.
func TestTakeOverUUID(t *testing.T) {
	t.Parallel()
	g := openGroup(t, 3, neverExpel)
	mustPut(t, g.nodes[0], "before", "1")
	mustAgree(t, g.nodes...)
	lost := g.nodes[2]
	before, uuid := raftID(t, lost), lost.Status().Member
	cfg := joiner(t, g.nodes[0], g.nodes[1])
	cfg.Member = uuid.String()
	mustRefuse(t, cfg, concordat.ErrJoinRefused, lost.Address(), "is heard")
	mustClose(t, lost)
	for _, n := range g.nodes[:2] {
		eventually(t, "its death to be noticed", func() bool { return n.Status().Outlook.Reachable == 2 })
	}
	cfg.Dir, cfg.Listen = t.TempDir(), lost.Address()
	back := mustOpen(t, cfg)
	if now := raftID(t, back); back.Status().Member != uuid || now == before || len(members(back)) != 3 {
		t.Errorf("it is %s with raft id %d of %d members, was %s with %d", back.Status().Member, now, len(members(back)), uuid, before)
	}
	mustPut(t, back, "back", "1")
	mustAgree(t, g.nodes[0], g.nodes[1], back)
}

// Strangers do not get in: whoever has another one's address, belongs to another
// group, or comes from where nobody is let in.
func TestStrangers(t *testing.T) {
	t.Parallel()
	w := newWitness()
	g := openGroup(t, 2, func(c *concordat.Config) { c.Logger = w.logger() })
	twin := joiner(t, g.nodes[0])
	twin.Advertise = g.nodes[1].Address()
	mustRefuse(t, twin, concordat.ErrJoinRefused, "its address is that of member "+g.nodes[1].Status().Member.String())
	foreign := joiner(t, g.nodes[0])
	foreign.Group = otherUUID
	mustRefuse(t, foreign, concordat.ErrJoinRefused, "group "+testGroup)
	if n := len(members(g.nodes[0])); n != 2 {
		t.Errorf("%d members", n)
	}

	closed := founder(t)
	closed.IPAllowlist, closed.Logger = []string{"10.0.0.0/8", "192.168.1.1"}, w.logger()
	far := mustOpen(t, closed)
	n := mustStart(t, joiner(t, far))
	eventually(t, "a connection to be turned away", func() bool {
		return w.count("connection closed: its address is not in the allow list") > 0
	})
	eventually(t, "the joiner to say whom it asks", func() bool {
		return strings.Contains(n.Status().Diagnosis.Text, far.Address())
	})
	if s := n.Status(); s.State != concordat.Offline || len(members(far)) != 1 {
		t.Errorf("it is %s, the view is %v", s.State, members(far))
	}
	mustClose(t, n)
	open := founder(t)
	open.IPAllowlist = []string{"127.0.0.0/8"}
	near := mustOpen(t, open)
	mustOpen(t, joiner(t, near))
}

// A member that is OFFLINE joins when it is told to, and not before.
func TestJoinByOrder(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	g := openGroup(t, 2)
	mustPut(t, g.nodes[0], "before", "1")
	cfg := joiner(t)
	n := mustStart(t, cfg)
	eventually(t, "it to be idle", func() bool { return n.Status().Diagnosis.Code == "OFFLINE" })
	mustBeRefused(t, func() error { _, err := n.Rejoin(ctx, concordat.RejoinOptions{}); return err }(), false, "has not lost its place")
	for name, err := range map[string]error{"leave": n.Leave(ctx), "clone": n.Clone(ctx, ""), "remove": n.Remove(ctx, gtid.UUID{1})} {
		if !errors.Is(err, concordat.ErrNotOnline) {
			t.Errorf("%s: %v, want ErrNotOnline", name, err)
		}
	}
	nowhere := concordat.JoinOptions{Seeds: []string{freeAddress(t)}}
	failing, cancel := context.WithCancel(ctx)
	eventual := make(chan error)
	go func() { eventual <- n.Join(failing, nowhere) }()
	eventually(t, "it to ask", func() bool { return strings.Contains(n.Status().Diagnosis.Text, nowhere.Seeds[0]) })
	if err := n.Join(ctx, nowhere); err == nil || !strings.Contains(err.Error(), "another order") {
		t.Errorf("two orders at once: %v", err)
	}
	cancel()
	if err := <-eventual; err == nil {
		t.Error("it joined nobody")
	}
	if s := n.Status(); s.State != concordat.Offline || strings.Contains(s.Diagnosis.Text, nowhere.Seeds[0]) {
		t.Errorf("it is %s: %s", s.State, s.Diagnosis.Text)
	}
	if err := n.Join(ctx, concordat.JoinOptions{Seeds: []string{g.nodes[1].Address()}}); err != nil {
		t.Fatal(err)
	}
	mustBe(t, concordat.Online, n)
	mustBeRefused(t, n.Join(ctx, concordat.JoinOptions{}), false, "ONLINE")
	mustPut(t, n, "joined", "1")
	n = reopen(t, n, cfg)
	mustAgree(t, append(g.nodes, n)...)
}

// A member can be provisioned anew, from the donor that is named. In a group of
// two it leaves the other one alone for that.
func TestCloneByOrder(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	g := openGroup(t, 1)
	if err := g.nodes[0].Clone(ctx, ""); !errors.Is(err, concordat.ErrLeave) {
		t.Errorf("the last member: %v, want ErrLeave", err)
	}
	for size := 2; size <= 3; size++ {
		cfg := joiner(t, g.nodes[0])
		g.cfgs, g.nodes = append(g.cfgs, cfg), append(g.nodes, mustOpen(t, cfg))
		mustPut(t, g.nodes[0], "k", "v")
		mustAgree(t, g.nodes...)
		n := g.nodes[size-1]
		before := raftID(t, n)
		donor := g.nodes[size-2]
		old := len(eventsOf(n, concordat.EventCloneFinished))
		if err := n.Clone(ctx, donor.Status().Member.String()); err != nil {
			t.Fatal(err)
		}
		done := eventsOf(n, concordat.EventCloneFinished)
		if len(done) != old+1 || done[old].Member != donor.Status().Member || raftID(t, n) == before {
			t.Errorf("of %d: copied %v as %d, was %d, asked %s", size, done, raftID(t, n), before, donor.Status().Member)
		}
		mustPut(t, n, "cloned", "1")
		mustAgree(t, g.nodes...)
	}
}
