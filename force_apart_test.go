package concordat_test

import (
	"errors"
	"fmt"
	"iter"
	"testing"

	"github.com/concordatdb/concordat"
	"github.com/concordatdb/concordat/gtid"
)

// A majority that has expelled the survivors before their membership was forced
// speaks to them no more. An operator names one of them, and each member of the
// old majority gives way, with the list of what only it has; without a name, or
// with that of somebody else, none does.
func TestForcedAfterExpulsion(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	g := openLinked(t, 3, quick, func(c *concordat.Config) { c.AutoRejoinTries = 1 })
	mustPut(t, g.nodes[0], "shared", "1")
	mustAgree(t, g.nodes...)
	alone, old := g.nodes[2], g.nodes[:2]
	g.isolate(2, true)
	for _, n := range old {
		eventually(t, "the silent member to be expelled", func() bool { return len(members(n)) == 2 })
	}
	mustPut(t, old[0], "theirs", "1")
	noQuorum(t, alone)
	report := mustForce(t, alone, alone)
	mustPut(t, alone, "mine", "1")
	g.isolate(2, false)
	mustPut(t, old[1], "theirs too", "1")
	for _, seeds := range [][]string{nil, {old[1].Address()}, {freeAddress(t)}} {
		_, err := old[0].Rejoin(ctx, concordat.RejoinOptions{Seeds: seeds})
		mustBeRefused(t, err, false, "has not lost its place")
	}
	if _, err := alone.Rejoin(ctx, concordat.RejoinOptions{Seeds: []string{old[0].Address()}}); !errors.Is(err, concordat.ErrRefused) {
		t.Errorf("the forced one goes back to what it came of: %v", err)
	}
	mustPut(t, old[0], "on", "1")
	to := concordat.RejoinOptions{Seeds: []string{alone.Address()}}
	for _, n := range old {
		_, err := n.Rejoin(ctx, to)
		if diverged, ok := errors.AsType[*concordat.DivergedError](err); !ok || diverged.Extra.Count() != 3 {
			t.Fatalf("it has three transactions of its own: %v", err)
		}
		mustBe(t, concordat.Error, n)
		if got := contents(t, n); got["theirs"] != "1" || got["mine"] != "" {
			t.Errorf("it still shows %v", got)
		}
	}
	// Whom the operator has named is on record.
	mustClose(t, old[0])
	g.restart(t, 0)
	old[0] = g.nodes[0]
	eventually(t, "it to be refused", func() bool { return errors.Is(old[0].Status().Err, concordat.ErrDiverged) })
	for _, n := range old {
		discard := to
		discard.DiscardErrant = true
		if saved, err := n.Rejoin(ctx, discard); err != nil || saved.Discarded.Count() != 3 {
			t.Fatalf("%v is saved: %v", saved.Discarded, err)
		}
		if of := concordat.EndedOnRecord(n); of != report.Plan.Ends.String() {
			t.Errorf("it could go back to who is still of incarnation %s: %q", report.Plan.Ends, of)
		}
		mustBe(t, concordat.Online, n)
	}
	mustAgree(t, g.nodes...)
	if got := contents(t, old[0]); got["mine"] != "1" || got["theirs"] != "" || got["shared"] != "1" {
		t.Errorf("at the end there is %v", got)
	}
}

// Two members that do not hear each other are forced by operators who know
// nothing of each other. Neither incarnation came of the other one, so the order
// says which stays; the other one's transactions since their common past are
// listed, also those whose GTIDs were given to others.
func TestForcedBesideEachOther(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	g := openLinked(t, 2, quick, func(c *concordat.Config) { c.AutoRejoinTries = 1 })
	mustPut(t, g.nodes[0], "shared", "1")
	mustAgree(t, g.nodes...)
	stays, goes := g.nodes[0], g.nodes[1]
	g.isolate(1, true)
	for _, n := range g.nodes {
		noQuorum(t, n)
		mustForce(t, n, n)
	}
	mustPut(t, stays, "mine", "1")
	mustPut(t, goes, "theirs", "1")
	mustPut(t, goes, "theirs too", "1")
	g.isolate(1, false)
	to := concordat.RejoinOptions{Seeds: []string{stays.Address()}}
	_, err := goes.Rejoin(ctx, to)
	if diverged, ok := errors.AsType[*concordat.DivergedError](err); !ok || diverged.Extra.Count() != 2 || diverged.Incomplete {
		t.Fatalf("it has two transactions of its own: %v", err)
	}
	to.DiscardErrant = true
	if saved, err := goes.Rejoin(ctx, to); err != nil || saved.Discarded.Count() != 2 {
		t.Fatalf("%v is saved: %v", saved.Discarded, err)
	}
	mustBe(t, concordat.Online, goes)
	mustAgree(t, g.nodes...)
	if got := contents(t, goes); got["mine"] != "1" || got["theirs"] != "" || got["shared"] != "1" {
		t.Errorf("at the end there is %v", got)
	}
}

// Two members are forced beside each other while those that they were cut off
// from go on, with a majority. One gives way to the other; of what it holds the
// old majority, which is asked too, is not the judge: it would have the directory
// put aside, and nobody would be told what was in it.
func TestForcedBesideEachOtherWithoutTheMajority(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	g := openLinked(t, 4, quick, func(c *concordat.Config) { c.AutoRejoinTries = 1 })
	mustPut(t, g.nodes[0], "shared", "1")
	mustAgree(t, g.nodes...)
	old, stays, goes := g.nodes[0], g.nodes[2], g.nodes[3]
	g.isolate(3, true)
	eventually(t, "the first to be expelled", func() bool { return len(members(old)) == 3 })
	g.isolate(2, true)
	eventually(t, "the second to be expelled", func() bool { return len(members(old)) == 2 })
	for _, n := range []*concordat.Node{stays, goes} {
		noQuorum(t, n)
		mustForce(t, n, n)
	}
	mustPut(t, stays, "mine", "1")
	mustPut(t, goes, "theirs", "1")
	mustPut(t, goes, "theirs too", "1")
	g.isolate(2, false)
	g.isolate(3, false)
	to := concordat.RejoinOptions{Seeds: []string{old.Address(), g.nodes[1].Address(), stays.Address()}}
	_, err := goes.Rejoin(ctx, to)
	if diverged, ok := errors.AsType[*concordat.DivergedError](err); !ok || diverged.Extra.Count() != 2 || diverged.Incomplete {
		t.Fatalf("it has two transactions of its own: %v", err)
	}
	mustBe(t, concordat.Error, goes)
	if got := contents(t, goes); got["theirs"] != "1" {
		t.Errorf("it still shows %v", got)
	}
}

// A stream on a member that gives up what only it had, and takes the state of another
// incarnation, does not go on in that: transactions of it may have the GTIDs of those
// that the stream has brought.
func TestChangesOfGivenUp(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	g := openLinked(t, 3, keepsChanges, neverExpel, func(c *concordat.Config) { c.AutoRejoinTries = 1 })
	mustPut(t, g.nodes[0], "shared", "1")
	mustAgree(t, g.nodes...)
	alone, n := g.nodes[2], g.nodes[0]
	g.isolate(2, true)
	mustPut(t, n, "theirs", "1")
	next, stop := iter.Pull2(n.Changes(ctx, gtid.Set{}))
	defer stop()
	var seen gtid.Set
	for !seen.Equal(n.Status().Executed) {
		c, err, _ := next()
		if err != nil {
			t.Fatal(err)
		}
		seen = seen.Add(c.GTID)
	}
	noQuorum(t, alone)
	plan, err := alone.PlanForceMembers(ctx, uuids(alone))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := alone.ForceMembers(ctx, plan.Plan, uuids(alone)); err != nil {
		t.Fatal(err)
	}
	mustBe(t, concordat.Online, alone)
	for i := range seen.Count() {
		mustPut(t, alone, fmt.Sprint("mine", i), "1")
	}
	g.isolate(2, false)
	eventually(t, "who was left out to know it", func() bool { return errors.Is(n.Status().Err, concordat.ErrDiverged) })
	mustRejoin(t, n, concordat.RejoinOptions{DiscardErrant: true})
	mustBe(t, concordat.Online, n)
	mustAgree(t, alone, n)
	if !seen.SubsetOf(n.Status().Executed) {
		t.Fatalf("%v of the other incarnation has not all of %v", n.Status().Executed, seen)
	}
	if c, err, _ := next(); !errors.Is(err, concordat.ErrChangesLost) {
		t.Errorf("the stream goes on with %v, %v", c.GTID, err)
	}
	for c, err := range n.Changes(ctx, seen, concordat.ChangesOf(plan.Ends), concordat.ChangesUntilNow()) {
		if !errors.Is(err, concordat.ErrChangesLost) {
			t.Errorf("one that is begun anew goes on with %v, %v", c.GTID, err)
		}
	}
	k := &taker{t: t}
	for c, err := range n.Changes(ctx, gtid.Set{}, concordat.ChangesOf(plan.Begins), concordat.ChangesUntilNow()) {
		if err != nil {
			t.Fatal(err)
		}
		k.add(c)
	}
	k.must(n)
}

// A member whose data go on when its group's membership is forced has lost nothing that
// it has shown: a stream on it goes on if nobody waits there, and else from its set once
// the member is ONLINE again.
func TestChangesOfSurvivor(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	g := openLinked(t, 3, keepsChanges, neverExpel)
	mustPut(t, g.nodes[0], "shared", "1")
	mustAgree(t, g.nodes...)
	alone, k := g.nodes[2], &taker{t: t}
	next, stop := iter.Pull2(alone.Changes(ctx, gtid.Set{}))
	defer stop()
	take := func() {
		t.Helper()
		c, err, _ := next()
		if err != nil {
			t.Fatal(err)
		}
		k.add(c)
	}
	take()
	waits := make(chan error, 1)
	seen := k.seen
	go func() {
		for c, err := range alone.Changes(ctx, seen) {
			if err == nil {
				err = fmt.Errorf("it brings %v", c.GTID)
			}
			waits <- err
			break
		}
	}()
	g.isolate(2, true)
	noQuorum(t, alone)
	plan, err := alone.PlanForceMembers(ctx, uuids(alone))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := alone.ForceMembers(ctx, plan.Plan, uuids(alone)); err != nil {
		t.Fatal(err)
	}
	mustBe(t, concordat.Online, alone)
	if err := <-waits; !errors.Is(err, concordat.ErrNotOnline) {
		t.Errorf("who waits is told %v", err)
	}
	mustPut(t, alone, "mine", "1")
	take()
	k.must(alone)
	anew := &taker{t: t, seen: seen, taken: k.taken[:1:1]}
	anew.take(alone)
	anew.must(alone)
}
