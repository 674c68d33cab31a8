package concordat_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/concordatdb/concordat"
	"github.com/concordatdb/concordat/applier"
	"github.com/concordatdb/concordat/applier/pebblekv"
	"github.com/concordatdb/concordat/gtid"
)

// keepsChanges opens members that keep changes, with the values before them.
func keepsChanges(c *concordat.Config) {
	c.ChangeRetentionBytes, c.ChangeOldValues = 16<<20, true
}

// taker takes changes, from whatever members.
type taker struct {
	t     testing.TB
	seen  gtid.Set
	taken []concordat.Change
}

// take takes what is visible on a member and was not taken yet.
func (k *taker) take(n *concordat.Node) {
	k.t.Helper()
	for c, err := range n.Changes(testContext(k.t), k.seen, concordat.ChangesUntilNow()) {
		if err != nil {
			k.t.Fatalf("changes after %v: %v", k.seen, err)
		}
		k.add(c)
	}
}

func (k *taker) add(c concordat.Change) {
	if k.seen.Contains(c.GTID) {
		k.t.Fatalf("%v comes again", c.GTID)
	}
	k.seen = k.seen.Add(c.GTID)
	k.taken = append(k.taken, c)
}

// fence returns when nothing that was handed to members before can commit any more, and
// all show the same: what a member sends comes in order.
func fence(t testing.TB, nodes ...*concordat.Node) {
	t.Helper()
	for i, n := range nodes {
		mustPut(t, n, fmt.Sprint("fence", i), "closed")
	}
	mustAgree(t, nodes...)
}

// must checks that everything was taken, once, in commit order, and that it leads to
// what the member holds.
func (k *taker) must(n *concordat.Node) {
	k.t.Helper()
	if executed := n.Status().Executed; !k.seen.Equal(executed) {
		k.t.Errorf("taken %v, executed %v", k.seen, executed)
	}
	held := map[string]string{}
	for i, c := range k.taken {
		if i > 0 && c.Index < k.taken[i-1].Index {
			k.t.Errorf("%v of %d comes after one of %d", c.GTID, c.Index, k.taken[i-1].Index)
		}
		for _, r := range c.Rows {
			old, existed := held[string(r.Key)]
			if !r.OldKnown || r.Existed != existed || string(r.Old) != old {
				k.t.Errorf("%v: %q was %q, %v; it says %q, %v (%v)", c.GTID, r.Key, old, existed, r.Old, r.Existed, r.OldKnown)
			}
			if held[string(r.Key)] = string(r.New); r.Op == concordat.ChangeDelete {
				delete(held, string(r.Key))
			}
		}
	}
	if want := contents(k.t, n); fmt.Sprint(held) != fmt.Sprint(want) {
		k.t.Errorf("the changes lead to %v, the member holds %v", held, want)
	}
}

// A consumer takes each transaction once, in commit order, on whatever member it goes
// on: one that was there, one that joins, one that was closed.
func TestChangesAcrossMembers(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	g := openGroup(t, 2, keepsChanges)
	k := &taker{t: t}
	for i := range 10 {
		mustPut(t, g.nodes[i%2], fmt.Sprint("k", i%3), strings.Repeat("v", i))
		k.take(g.nodes[(i/3)%2]) // which may lag
	}
	_, err := g.nodes[0].Update(ctx, func(tx *concordat.Tx) error {
		return errors.Join(tx.Delete(accounts, []byte("k0")), tx.Add(accounts, []byte("n"), 5), tx.Add(accounts, []byte("n"), -7))
	})
	if err != nil {
		t.Fatal(err)
	}
	third := joiner(t, g.nodes[0])
	keepsChanges(&third)
	n := mustOpen(t, third)
	mustPut(t, g.nodes[1], "k0", "back")
	mustAgree(t, g.nodes[0], g.nodes[1], n)
	k.take(n)
	k.must(n)
	if c := k.taken[len(k.taken)-1]; c.Origin != g.nodes[1].Status().Member || c.Time.IsZero() || len(c.Rows) != 1 || c.Rows[0].Table != accounts {
		t.Errorf("the last one is %+v", c)
	}

	mustClose(t, g.nodes[1])
	mustPut(t, n, "k1", "while it is closed")
	again := reopen(t, g.nodes[1], g.cfgs[1])
	mustAgree(t, g.nodes[0], again, n)
	k.take(again)
	k.must(again)
}

// A consumer that follows is told of what becomes visible, and of the end of its
// member.
func TestChangesFollowed(t *testing.T) {
	t.Parallel()
	g := openGroup(t, 2, keepsChanges)
	k := &taker{t: t}
	load := startLoad(t, g.nodes...)
	for c, err := range g.nodes[1].Changes(testContext(t), gtid.Set{}) {
		if err != nil {
			t.Fatal(err)
		}
		if at := g.nodes[1].Status().Applied; at < c.Index {
			t.Errorf("%v of %d was brought, and %d was visible", c.GTID, c.Index, at)
		}
		if k.add(c); len(k.taken) == 50 {
			break
		}
	}
	load.mustCount(t, g.nodes...)
	fence(t, g.nodes...)
	k.take(g.nodes[0])
	k.must(g.nodes[0])

	ended := make(chan error, 1)
	go func() {
		var last error
		for _, err := range g.nodes[1].Changes(testContext(t), k.seen) {
			last = err
		}
		ended <- last
	}()
	mustClose(t, g.nodes[1])
	if err := <-ended; !errors.Is(err, concordat.ErrClosed) {
		t.Errorf("a stream of a member that is closed ends with %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, err := range g.nodes[0].Changes(ctx, k.seen) {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("a stream that is given up ends with %v", err)
		}
	}
}

// The ends of a stream say what to do.
func TestChangesRefused(t *testing.T) {
	t.Parallel()
	cfg := founder(t)
	cfg.ChangeRetentionBytes, cfg.MaxChangeConsumers = 4<<10, 2
	n := mustOpen(t, cfg)
	for i := range 30 {
		mustPut(t, n, fmt.Sprint("k", i), strings.Repeat("v", 500))
	}
	end := func(after gtid.Set) (count int, last error) {
		for _, err := range n.Changes(testContext(t), after, concordat.ChangesUntilNow()) {
			if last = err; err == nil {
				count++
			}
		}
		return count, last
	}
	_, err := end(gtid.Set{})
	gone, ok := errors.AsType[*concordat.ChangesGoneError](err)
	if !ok || !errors.Is(err, concordat.ErrChangesGone) || !strings.Contains(err.Error(), "dump") {
		t.Fatalf("what is not kept: %v", err)
	}
	missing := int(gone.Missing.Count())
	if count, err := end(gone.Missing); err != nil || count != 30-missing || missing == 0 || count == 0 {
		t.Errorf("%d are missing, then %d come, %v", missing, count, err)
	}

	// A slow consumer is overtaken, and holds up nobody.
	taken, overtaken := 0, false
	for _, err := range n.Changes(testContext(t), gone.Missing) {
		if err != nil {
			overtaken = errors.Is(err, concordat.ErrChangesGone)
			break
		}
		if taken++; taken == 1 {
			for i := range 30 {
				mustPut(t, n, fmt.Sprint("k", i), strings.Repeat("w", 500))
			}
		}
	}
	if !overtaken || taken != 30-missing {
		t.Errorf("overtaken: %t, after %d changes", overtaken, taken)
	}
	_, err = end(gtid.Set{})
	if gone, ok = errors.AsType[*concordat.ChangesGoneError](err); !ok {
		t.Fatal(err)
	}

	// There are so many and no more.
	busy := slices.Collect(func(yield func(error) bool) {
		for range n.ChangeRuns(testContext(t), gone.Missing) {
			for range n.ChangeRuns(testContext(t), gone.Missing) {
				for _, err := range n.ChangeRuns(testContext(t), gone.Missing) {
					yield(err)
				}
				break
			}
			break
		}
	})
	if len(busy) != 1 || !errors.Is(busy[0], concordat.ErrChangesBusy) {
		t.Errorf("a consumer too many: %v", busy)
	}
	if _, err := end(gone.Missing); err != nil {
		t.Errorf("after they have gone: %v", err)
	}

	off := mustOpen(t, founder(t))
	for _, err := range off.Changes(testContext(t), gtid.Set{}) {
		if !errors.Is(err, concordat.ErrChangesOff) {
			t.Errorf("of a member that keeps none: %v", err)
		}
	}
}

// TestChangesGrowOld: a member on which nothing happens forgets what has grown too old,
// and goes on.
func TestChangesGrowOld(t *testing.T) {
	t.Parallel()
	n := openGroup(t, 1, keepsChanges, func(c *concordat.Config) { c.ChangeRetentionAge = 100 * time.Millisecond }).nodes[0]
	gone := func() (missing gtid.Set) {
		for _, err := range n.Changes(testContext(t), gtid.Set{}, concordat.ChangesUntilNow()) {
			if e, ok := errors.AsType[*concordat.ChangesGoneError](err); ok {
				missing = e.Missing
			} else if err != nil {
				t.Fatal(err)
			}
		}
		return missing
	}
	for range 2 {
		mustPut(t, n, "a", "1")
		eventually(t, "it is gone", func() bool { return gone().Equal(n.Status().Executed) })
	}
}

// partialEngine may say that it shows the last entry in part.
type partialEngine struct {
	*pebblekv.Engine
	inside atomic.Bool
}

func (e *partialEngine) Position() applier.Position {
	p := e.Engine.Position()
	if e.inside.Load() {
		p.Index, p.Part = p.Index-1, 1
	}
	return p
}

// What is visible of an entry of which more is to come belongs to what a stream was
// asked for that ends with what is visible.
func TestChangesUntilNowInsideEntry(t *testing.T) {
	t.Parallel()
	var e *partialEngine
	g := openGroup(t, 1, func(c *concordat.Config) {
		kv, err := pebblekv.Open(filepath.Join(c.Dir, "data"), pebblekv.Options{ChangeBytes: 16 << 20, ChangeOldValues: true})
		if err != nil {
			t.Fatal(err)
		}
		e = &partialEngine{Engine: kv}
		c.Engine = e
	})
	for i := range 3 {
		mustPut(t, g.nodes[0], fmt.Sprint("k", i), "v")
	}
	e.inside.Store(true)
	k := &taker{t: t}
	k.take(g.nodes[0])
	e.inside.Store(false)
	k.must(g.nodes[0])
}

// forgetfulEngine has fewer old values than its records have mutations.
type forgetfulEngine struct{ *pebblekv.Engine }

func (e *forgetfulEngine) ReadChanges(from applier.ChangePlace, most int) ([]applier.ChangeRecord, applier.ChangePlace, error) {
	records, next, err := e.Engine.ReadChanges(from, most)
	for i := range records {
		records[i].Old = records[i].Old[:0]
	}
	return records, next, err
}

// What a program's own engine remembers wrongly ends a stream, not the program.
func TestChangesOfForgetfulEngine(t *testing.T) {
	t.Parallel()
	g := openGroup(t, 1, func(c *concordat.Config) {
		kv, err := pebblekv.Open(filepath.Join(c.Dir, "data"), pebblekv.Options{ChangeBytes: 16 << 20, ChangeOldValues: true})
		if err != nil {
			t.Fatal(err)
		}
		c.Engine = &forgetfulEngine{kv}
	})
	mustPut(t, g.nodes[0], "k", "v")
	for change, err := range g.nodes[0].Changes(testContext(t), gtid.Set{}) {
		if !errors.Is(err, concordat.ErrFailed) {
			t.Errorf("%+v, %v", change, err)
		}
		return
	}
	t.Error("the stream ended without a word")
}
