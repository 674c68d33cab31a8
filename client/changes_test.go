package client_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/concordatdb/concordat"
	"github.com/concordatdb/concordat/client"
	"github.com/concordatdb/concordat/gtid"
)

func keepsChanges(c *concordat.Config) { c.ChangeRetentionBytes = 16 << 20 }

// A consumer goes on with other members when the primary dies, and the one that it
// follows cannot be reached any more. It gets each transaction once, in commit order.
func TestChangesAcrossFailover(t *testing.T) {
	t.Parallel()
	g := openGroup(t, 3, keepsChanges)
	c := g.dial()
	contact(t, c, 3)
	l := startLoad(t, c, 2, time.Minute)
	ctx, cancel := context.WithCancel(testContext(t))
	defer cancel()
	var seen gtid.Set
	last, count := uint64(0), 0
	for change, err := range c.Changes(ctx, gtid.Set{}) {
		if err != nil {
			t.Fatal(err)
		}
		if seen.Contains(change.GTID) || change.Index < last || len(change.Rows) == 0 {
			t.Fatalf("%v of %d comes after %v up to %d", change.GTID, change.Index, seen, last)
		}
		seen, last = seen.Add(change.GTID), change.Index
		switch count++; count {
		case 10:
			g.kill(0)
		case 20:
			g.network.part(3 - g.primary(1))
		case 30:
			l.stop()
			cancel()
		}
		if count == 30 {
			break
		}
	}
	for change, err := range c.Changes(testContext(t), seen, client.ChangesFrom(client.Primary()), client.ChangesUntilNow(), client.ChangesIn(client.Table{Schema: "no", Name: "where"})) {
		if err != nil {
			t.Fatal(err)
		}
		if seen.Contains(change.GTID) || len(change.Rows) != 0 {
			t.Errorf("%v again, or with rows of another table: %v", change.GTID, change.Rows)
		}
		seen = seen.Add(change.GTID)
	}
	if executed := g.nodes[g.primary(1)].Status().Executed; !executed.SubsetOf(seen) {
		t.Errorf("taken %v, executed %v", seen, executed)
	}
}

// What no member keeps is said once all have been asked.
func TestChangesRefused(t *testing.T) {
	t.Parallel()
	g := openGroup(t, 2)
	c := g.dial()
	contact(t, c, 2)
	for _, err := range c.Changes(testContext(t), gtid.Set{}) {
		if !errors.Is(err, client.ErrChangesOff) {
			t.Errorf("of members that keep none: %v", err)
		}
	}
	h := openGroup(t, 2, func(c *concordat.Config) { c.ChangeRetentionBytes = 1 })
	d := h.dial()
	contact(t, d, 2)
	for range 3 {
		if _, err := d.Put(testContext(t), []byte("k"), []byte("v")); err != nil {
			t.Fatal(err)
		}
	}
	for _, err := range d.Changes(testContext(t), gtid.Set{}, client.ChangesFrom(client.Primary())) {
		gone, ok := errors.AsType[*client.ChangesGoneError](err)
		if !ok || !errors.Is(err, client.ErrChangesGone) || gone.Missing.Count() != 3 {
			t.Errorf("what is not kept: %v", err)
		}
	}
	for range 2 { // a stream can be begun again
		other := d.Changes(testContext(t), gtid.Set{}, client.ChangesOf(gtid.UUID{15: 1}))
		for _, err := range other {
			if !errors.Is(err, client.ErrChangesLost) {
				t.Errorf("behind another incarnation: %v", err)
			}
		}
	}
	for _, err := range d.Changes(testContext(t), gtid.Set{}, client.ChangesFrom(client.Primary()), client.ChangesOf(d.View().Incarnation)) {
		if !errors.Is(err, client.ErrChangesGone) {
			t.Errorf("behind the same incarnation: %v", err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, err := range d.Changes(ctx, gtid.Set{}) {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("a stream that is given up: %v", err)
		}
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	for _, err := range d.Changes(testContext(t), gtid.Set{}) {
		if !errors.Is(err, client.ErrClosed) {
			t.Errorf("of a client that is closed: %v", err)
		}
	}
}
