package concordat_test

import (
	"bytes"
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/concordatdb/concordat"
	"github.com/concordatdb/concordat/applier"
	"github.com/concordatdb/concordat/gtid"
)

// pickyEngine cannot apply what holds a word, for a reason of its program's own.
type pickyEngine struct {
	*faultyEngine
	word string
}

var errPicky = errors.New("not this one")

func (e pickyEngine) Apply(b applier.Batch) error {
	for _, tx := range b.Transactions {
		if bytes.Contains(tx.Payload, []byte(e.word)) {
			return &applier.TransactionError{GTID: tx.GTID, Err: &applier.ClassedError{Class: applier.ClassProgram + 7, Err: errPicky}}
		}
	}
	return e.faultyEngine.Apply(b)
}

// pickyGroup is three members of which some cannot apply a word.
func pickyGroup(t testing.TB, word string, picky ...bool) *group {
	t.Helper()
	i := 0
	return openGroup(t, len(picky), func(c *concordat.Config) {
		e := pickyEngine{newFaultyEngine(t, c.Dir), "\x00none"}
		if picky[i] {
			e.word = word
		}
		c.Engine = e
		i++
	})
}

func kindsOf(n *concordat.Node) (kinds map[concordat.EventKind]int) {
	kinds = map[concordat.EventKind]int{}
	for _, e := range n.Events(0) {
		kinds[e.Kind]++
	}
	return kinds
}

// What no engine can apply is refused everywhere, and its caller told; everything
// goes on, on all members, behind it.
func TestFaultCommonToAll(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	g := pickyGroup(t, "poison", true, true, true)
	mustPut(t, g.nodes[0], "before", "1")
	id := gtid.UUID{1, 2, 3}
	_, err := g.nodes[0].Update(ctx, func(tx *concordat.Tx) error {
		return tx.Put(accounts, []byte("bad"), []byte("poison"))
	}, concordat.WithID(id))
	if e, ok := errors.AsType[*concordat.UnappliedError](err); !ok || e.GTID.IsZero() || !errors.Is(err, concordat.ErrUnapplied) || !errors.Is(err, concordat.ErrInvalid) {
		t.Fatalf("its caller is told %v", err)
	}
	mustPut(t, g.nodes[0], "after", "2")
	mustAgree(t, g.nodes...)
	for i, n := range g.nodes {
		if got := contents(t, n); got["bad"] != "" || got["after"] != "2" {
			t.Errorf("node %d shows %v", i, got)
		}
		o, err := n.Outcome(ctx, id)
		if err != nil || o.State != concordat.OutcomeRefused || !errors.Is(o.Reason, concordat.ErrUnapplied) {
			t.Errorf("node %d says of it %+v, %v", i, o, err)
		}
		if k := kindsOf(n); k[concordat.EventUnapplied] != 1 || k[concordat.EventApplyFault] == 0 {
			t.Errorf("node %d has noted %v", i, k)
		}
		eventually(t, "it is shown", func() bool { return n.Status().ApplyFaults.Refused == 1 })
		f := n.Status().ApplyFaults
		if len(f.Votes) != 1 || len(f.Odd) != 0 {
			t.Fatalf("node %d shows %+v", i, f)
		}
		v := f.Votes[0]
		if v.Verdict != concordat.ApplyRefused || v.Class != applier.ClassProgram+7 || v.Index == 0 || len(v.Said) < 2 || !strings.Contains(v.String(), "applied nowhere") {
			t.Errorf("node %d shows %+v: %v", i, v, v)
		}
	}
}

// One member that cannot apply what the others can goes to ERROR, and they go on.
func TestFaultOfOneMember(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	g := pickyGroup(t, "sour", false, false, true)
	mustPut(t, g.nodes[0], "taste", "sour")
	mustPut(t, g.nodes[0], "after", "2")
	odd := g.nodes[2]
	if _, err := odd.WaitState(ctx, func(s concordat.State) bool { return s == concordat.Error }); err != nil {
		t.Fatalf("the odd one is %s", odd.Status().State)
	}
	if err := odd.Status().Err; !errors.Is(err, concordat.ErrFailed) || !errors.Is(err, errPicky) {
		t.Errorf("it has failed for %v", err)
	}
	mustAgree(t, g.nodes[:2]...)
	eventually(t, "the others note it", func() bool { return kindsOf(g.nodes[1])[concordat.EventApplyFault] > 0 })
	eventually(t, "the others show it", func() bool { return len(g.nodes[1].Status().ApplyFaults.Odd) > 0 })
	f := g.nodes[1].Status().ApplyFaults
	if f.Refused != 0 || len(f.Votes) != 1 || f.Votes[0].Verdict != concordat.ApplyStands || f.Votes[0].Said[0] != (concordat.ApplyOpinion{Member: odd.Status().Member, Class: applier.ClassProgram + 7}) {
		t.Errorf("it is shown as %+v", f)
	}
	if x := f.Odd[0]; x.Member != odd.Status().Member || x.GTID != f.Votes[0].GTID || x.Class != applier.ClassProgram+7 || x.Others != applier.ClassNone {
		t.Errorf("it is shown as %+v: %v", x, x)
	}
	mustClose(t, odd)
	cfg := again(odd, g.cfgs[2])
	cfg.Engine = newFaultyEngine(t, cfg.Dir)
	mustAgree(t, g.nodes[0], g.nodes[1], mustOpen(t, cfg))
}

// Whatever road an engine takes, the others' word reaches it in the midst of what it
// has under way: what cannot be applied is left out, and nothing else.
func TestFaultOnEveryRoad(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	i := 0
	g := openGroup(t, 3, func(c *concordat.Config) {
		if i++; i == 3 {
			c.Engine = newInterruptedEngine(t, c.Dir)
		}
		c.ApplyWorkers = 4
	})
	sum := concordat.Table{Schema: "bank", Name: "sums"}
	var callers sync.WaitGroup
	for range 6 {
		callers.Go(func() {
			for range 30 {
				if _, err := g.nodes[0].Update(ctx, func(tx *concordat.Tx) error { return tx.Add(sum, []byte("n"), 1) }); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for range 5 {
		_, err := g.nodes[1].Update(ctx, func(tx *concordat.Tx) error { return tx.SetPayload([]byte{0xff}) })
		if !errors.Is(err, concordat.ErrUnapplied) {
			t.Errorf("its caller is told %v", err)
		}
	}
	callers.Wait()
	mustAgree(t, g.nodes...)
	for i, n := range g.nodes {
		err := n.View(ctx, func(tx *concordat.Tx) error {
			value, _, err := tx.Get(sum, []byte("n"))
			if got, ok := applier.DecodeCounter(value); !ok || got != 180 {
				t.Errorf("node %d has a sum of %d, want 180", i, got)
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
		if k := kindsOf(n); k[concordat.EventUnapplied] != 5 {
			t.Errorf("node %d has noted %v", i, k)
		}
	}
}
