package client_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/concordatdb/concordat"
	"github.com/concordatdb/concordat/client"
)

// The primary dies under load. Nothing that was answered is lost, nothing happens
// twice, and what was on its way is found out about.
func TestKilledPrimary(t *testing.T) {
	t.Parallel()
	g := openGroup(t, 3)
	c := g.dial()
	contact(t, c, 3)
	l := startLoad(t, c, 2, time.Minute)
	l.more(5)
	g.kill(0)
	l.more(10)
	if unknown := l.mustCount(g, 1); unknown != 0 {
		t.Errorf("%d stayed unknown, though the next epoch tells of all", unknown)
	}
	t.Logf("longest time without an answer: %v", l.outage())
}

// The primary stops, and all connections to it stay open. It is left when the others
// say that they have another one; and what it was asked before comes to nothing when
// it goes on.
func TestStoppedPrimary(t *testing.T) {
	t.Parallel()
	g := openGroup(t, 3)
	c := g.dial()
	contact(t, c, 3)
	l := startLoad(t, c, 2, time.Minute)
	l.more(5)
	g.network.stop(0)
	l.more(10)
	g.network.resume(0)
	contact(t, c, 3)
	l.more(10)
	if unknown := l.mustCount(g, g.primary(1)); unknown != 0 {
		t.Errorf("%d stayed unknown, though the next epoch tells of all", unknown)
	}
	t.Logf("longest time without an answer: %v", l.outage())
}

// The group changes its primary in order, again and again. Nobody notices.
func TestSwitchedPrimary(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	g := openGroup(t, 3)
	c := g.dial()
	contact(t, c, 3)
	l := startLoad(t, c, 2, time.Minute)
	for _, next := range []int{1, 2, 0, 1} {
		l.more(5)
		if _, err := g.nodes[0].SetPrimary(ctx, g.uuid(next)); err != nil {
			t.Fatal(err)
		}
	}
	l.more(5)
	if _, err := g.nodes[0].SwitchToMultiPrimary(ctx); err != nil {
		t.Fatal(err)
	}
	l.more(5)
	if _, err := g.nodes[0].SwitchToSinglePrimary(ctx, g.uuid(2)); err != nil {
		t.Fatal(err)
	}
	l.more(5)
	if unknown := l.mustCount(g, 2); unknown != 0 {
		t.Errorf("%d are unknown, though nothing went wrong", unknown)
	}
	t.Logf("longest time without an answer: %v", l.outage())
}

// The connections break under load, and the primary stays. What was sent whole is
// sent again; of what was read before, some may stay unknown.
func TestCutConnections(t *testing.T) {
	t.Parallel()
	g := openGroup(t, 3)
	c := g.dial()
	contact(t, c, 3)
	l := startLoad(t, c, 2, 5*time.Second)
	for range 5 {
		for _, n := range l.counts {
			if n.key[:3] == "add" {
				want := n.acked.Load() + 3
				eventually(t, n.key+" goes on", func() bool { return n.acked.Load() >= want || t.Failed() })
			}
		}
		g.network.cut(0, 1, 2)
	}
	for _, n := range l.counts {
		if n.key[:3] == "add" && len(n.unknown) != 0 {
			t.Errorf("%s does not know of %v", n.key, n.unknown)
		}
	}
	unknown := l.mustCount(g, 0)
	t.Logf("%d stayed unknown; longest time without an answer: %v", unknown, l.outage())
}

// A client that reaches only some members reads and hears there, and writes when the
// primary comes to where it reaches it.
func TestPrimaryOutOfReach(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	g := openGroup(t, 3)
	c := g.dial()
	contact(t, c, 3)
	g.network.part(0)
	contact(t, c, 2)
	l := startLoad(t, c, 1, time.Minute)
	if _, err := g.nodes[0].SetPrimary(ctx, g.uuid(2)); err != nil {
		t.Fatal(err)
	}
	l.more(5)
	g.network.join(0)
	contact(t, c, 3)
	if _, err := g.nodes[0].SetPrimary(ctx, g.uuid(0)); err != nil {
		t.Fatal(err)
	}
	l.more(5)
	l.mustCount(g, 1)
}

// A primary in a minority takes no writes of clients that reach nobody else, and
// tells them so.
func TestMinority(t *testing.T) {
	t.Parallel()
	g := openGroup(t, 3, func(c *concordat.Config) { c.AutoRejoinTries = -1 })
	c := g.dial()
	contact(t, c, 3)
	g.network.stop(1)
	g.network.stop(2)
	eventually(t, "the loss is known", func() bool { return !c.View().Quorum })
	inTheEnd(t, "a write in a minority is told so", func(ctx context.Context) bool {
		_, err := c.Put(ctx, []byte("k"), nil)
		<-ctx.Done()
		if _, _, late := c.Get(ctx, []byte("k")); !errors.Is(late, context.DeadlineExceeded) {
			t.Errorf("a read after its time: %v", late)
		}
		return errors.Is(err, client.ErrNoQuorum) && errors.Is(err, context.DeadlineExceeded)
	})
	if _, _, err := c.Get(testContext(t), []byte("k")); err != nil {
		t.Errorf("a read of what the primary shows: %v", err)
	}
	g.network.resume(1)
	g.network.resume(2)
	l := startLoad(t, c, 1, time.Minute)
	l.more(3)
	l.mustCount(g, 0)
}
