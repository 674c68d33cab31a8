package concordat_test

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/concordatdb/concordat"
	"github.com/concordatdb/concordat/applier"
	"github.com/concordatdb/concordat/gcs"
)

// rottenEngine writes something else than it is told to under one key.
type rottenEngine struct{ *faultyEngine }

func (e rottenEngine) Apply(b applier.Batch) error {
	b.Transactions = slices.Clone(b.Transactions)
	for i := range b.Transactions {
		tx := &b.Transactions[i]
		tx.Payload = bytes.Replace(tx.Payload, []byte("sound"), []byte("rotten")[:5], 1)
	}
	return e.faultyEngine.Apply(b)
}

// checkOften has the group compare its data every few transactions.
func checkOften(t testing.TB, n *concordat.Node) {
	t.Helper()
	s := n.GroupSettings()
	s.StateCheckInterval, s.StateCheckBytes = 3, 200
	if _, err := n.SetGroupSettings(testContext(t), s); err != nil {
		t.Fatal(err)
	}
}

// differing are the events of a node about data that differ.
func differing(n *concordat.Node) (found []concordat.Event) {
	for _, e := range n.Events(0) {
		if e.Kind == concordat.EventStateDiffers {
			found = append(found, e)
		}
	}
	return found
}

// A member whose engine has kept something else than the others' is found out,
// serves nobody, not after a restart either, and comes back with another member's
// data.
func TestStateCheckFindsOddOne(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	g := openGroup(t, 2)
	cfg := joiner(t, g.nodes[0])
	cfg.Engine = rottenEngine{newFaultyEngine(t, cfg.Dir)}
	bad := mustOpen(t, cfg)
	mustPut(t, g.nodes[0], "before", "sound")
	checkOften(t, g.nodes[0])
	for i := range 200 {
		mustPut(t, g.nodes[0], fmt.Sprint("other", i%20), fmt.Sprint(i))
		if bad.Status().State == concordat.Error {
			break
		}
	}
	if _, err := bad.WaitState(ctx, func(s concordat.State) bool { return s == concordat.Error }); err != nil {
		t.Fatalf("the odd one is %s: %+v", bad.Status().State, bad.Status().StateCheck)
	}
	for i, n := range append(slices.Clone(g.nodes), bad) {
		eventually(t, "the keys are named", func() bool {
			found := n.Status().StateCheck.Findings
			return len(found) > 0 && found[0].Named
		})
		f := n.Status().StateCheck.Findings[0]
		if f.Member != bad.Status().Member || f.Split || len(f.Keys) != 1 || string(f.Keys[0].Key) != "before" || f.Keys[0].Table != accounts {
			t.Errorf("node %d has found %+v", i, f)
		}
		eventually(t, "the keys are noted", func() bool {
			return slices.ContainsFunc(differing(n), func(e concordat.Event) bool { // a second check may have found it before the keys were told
				return e.Member == f.Member && strings.Contains(e.Text, `"before" has another value`)
			})
		})
	}
	mustShowNothing(t, bad)
	mustPut(t, g.nodes[0], "after", "1")
	mustClose(t, bad)

	cfg = again(bad, cfg)
	cfg.Engine = newFaultyEngine(t, cfg.Dir)
	if _, err := concordat.Open(ctx, cfg); !errors.Is(err, concordat.ErrDiffers) {
		t.Fatalf("opened again: %v, want ErrDiffers", err)
	}
	cfg.Engine = newFaultyEngine(t, cfg.Dir)
	cfg.MemberSuspectTimeout = gcs.MinSuspectTicks * cmp.Or(cfg.TickInterval, concordat.DefaultTickInterval) // it takes itself for forgotten before it is
	back, err := concordat.Start(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = back.Close() })
	if _, err := back.WaitState(ctx, func(s concordat.State) bool { return s == concordat.Error }); err != nil {
		t.Fatal(err)
	}
	mustShowNothing(t, back)
	if _, err := back.Rejoin(ctx, concordat.RejoinOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := back.WaitState(ctx, func(s concordat.State) bool { return s == concordat.Online }); err != nil {
		t.Fatal(err)
	}
	mustAgree(t, g.nodes[0], g.nodes[1], back)
	if got := contents(t, back)["before"]; got != "sound" {
		t.Errorf("it is back with %q", got)
	}
	if s := g.nodes[0].Status(); s.Counters.StateChecks == 0 || s.Counters.CheckedPairs == 0 {
		t.Errorf("it has counted %+v and %+v", s.Counters, s.StateCheck)
	}
}

// mustShowNothing checks that a member shows nobody what it knows to be wrong.
func mustShowNothing(t *testing.T, n *concordat.Node) {
	t.Helper()
	if err := n.Status().Err; !errors.Is(err, concordat.ErrDiffers) {
		t.Errorf("it is in ERROR for %v, want ErrDiffers", err)
	}
	err := n.View(testContext(t), func(*concordat.Tx) error { return nil })
	if !errors.Is(err, concordat.ErrDiffers) || !errors.Is(err, concordat.ErrNotOnline) {
		t.Errorf("it shows its data: %v", err)
	}
}

// TestStateFindingString checks what is said of a finding, as its keys become known.
func TestStateFindingString(t *testing.T) {
	key := concordat.StateKey{Table: accounts, Key: []byte("k"), How: "is missing"}
	for _, c := range []struct {
		f    concordat.StateFinding
		want string
	}{
		{concordat.StateFinding{Check: 3, Agreed: 2, Parties: 3}, "and 2 of 3 members"},
		{concordat.StateFinding{Split: true, Parties: 2}, "nobody can say who is right"},
		{concordat.StateFinding{Named: true, Keys: []concordat.StateKey{key}}, `: bank.accounts key "k" is missing there`},
		{concordat.StateFinding{Named: true, More: true, Keys: []concordat.StateKey{key}}, `"k" is missing there, and others`},
		{concordat.StateFinding{Named: true}, ": none of their pairs differs any more"},
	} {
		if got := c.f.String(); !strings.HasSuffix(got, c.want) {
			t.Errorf("%q, want it to end with %q", got, c.want)
		}
	}
}
