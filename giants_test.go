package concordat_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/concordatdb/concordat"
	"github.com/concordatdb/concordat/certifier"
)

// noise is bytes that do not pack.
func noise(seed uint64, n int) []byte {
	random := rand.New(rand.NewPCG(seed, 0))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(random.Uint32())
	}
	return b
}

// giantOf is a transaction of about so many bytes, in rows of 4 KiB, every other of
// which packs.
func giantOf(t testing.TB, n *concordat.Node, name string, bytes int) *concordat.Tx {
	t.Helper()
	tx := begin(t, n)
	for i := range bytes >> 12 {
		value := make([]byte, 4<<10)
		if i%2 == 0 {
			value = noise(uint64(i), 4<<10)
		}
		mustWrite(t, tx.Put(accounts, fmt.Appendf(nil, "%s-%06d", name, i), value))
	}
	return tx
}

// Two members commit giants while all three go on with small transactions; in the
// end all hold the same, and what a giant wrote is all there.
func TestGiantsAmongSmall(t *testing.T) {
	t.Parallel()
	g := openGroup(t, 3, func(c *concordat.Config) { c.FoundingMode = concordat.MultiPrimary })
	load := startLoad(t, g.nodes...)
	load.more(t, 20)
	var committing sync.WaitGroup
	for i, n := range g.nodes[:2] {
		tx := giantOf(t, n, fmt.Sprint("giant", i), 5<<20)
		committing.Go(func() {
			if id, err := tx.Commit(testContext(t)); err != nil || id.Number == 0 {
				t.Errorf("giant of member %d: %v, %v", i, id, err)
			}
		})
	}
	committing.Wait()
	load.more(t, 20)
	load.stop()
	mustAgree(t, g.nodes...)
	held := contents(t, g.nodes[2])
	for i := range 2 {
		for k := range 5 << 20 >> 12 {
			want := string(make([]byte, 4<<10))
			if k%2 == 0 {
				want = string(noise(uint64(k), 4<<10))
			}
			if name := fmt.Sprintf("giant%d-%06d", i, k); held[name] != want {
				t.Fatalf("%s has %d bytes, or others than were written", name, len(held[name]))
			}
		}
	}
}

// What a giant has lost to is certified at its end, and its caller is told.
func TestGiantInConflict(t *testing.T) {
	t.Parallel()
	g := openGroup(t, 2, func(c *concordat.Config) { c.FoundingMode = concordat.MultiPrimary })
	tx := giantOf(t, g.nodes[1], "g", 2<<20)
	mustSee(t, g.nodes[1], mustPut(t, g.nodes[0], "g-000007", "mine"))
	var conflict *concordat.ConflictError
	if _, err := tx.Commit(testContext(t)); !errors.As(err, &conflict) || string(conflict.Key) != "g-000007" || conflict.Incoming != certifier.Write {
		t.Errorf("the giant: %v", err)
	}
	mustAgree(t, g.nodes...)
	if held := contents(t, g.nodes[1]); len(held) != 1 {
		t.Errorf("%d keys are there", len(held))
	}
}

// A member that was away while giants came gets them from the log, and a new one
// with the state.
func TestGiantsAndMembersThatCome(t *testing.T) {
	t.Parallel()
	small := func(c *concordat.Config) { c.CheckpointBytes = 1 << 20 }
	g := openGroup(t, 3, small)
	away := g.nodes[2]
	if err := away.Close(); err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		mustCommit(t, giantOf(t, g.nodes[0], fmt.Sprint("giant", i), 2<<20))
	}
	g.nodes[2] = reopen(t, away, g.cfgs[2])
	mustAgree(t, g.nodes...)
}

// A caller that stops waiting takes a giant back if its end has not gone; and the
// next one of the member goes on.
func TestGiantTakenBack(t *testing.T) {
	t.Parallel()
	g := openGroup(t, 3, func(c *concordat.Config) { c.FoundingMode = concordat.MultiPrimary })
	n := g.nodes[1]
	ctx, cancel := context.WithCancel(testContext(t))
	tx := giantOf(t, n, "first", 24<<20)
	result := make(chan error)
	go func() {
		_, err := tx.Commit(ctx)
		result <- err
	}()
	for n.Status().Counters.GiantsPending == 0 {
		select {
		case err := <-result:
			t.Fatalf("the giant ended before anybody saw it: %v", err)
		default:
		}
		mustPut(t, n, "tick", "1")
	}
	cancel()
	err := <-result
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("the first giant: %v", err)
	}
	unknown := errors.Is(err, concordat.ErrOutcomeUnknown)
	mustCommit(t, giantOf(t, n, "second", 2<<20))
	mustAgree(t, g.nodes...)
	held := contents(t, n)
	if _, there := held["first-000000"]; there && !unknown {
		t.Error("what was taken back is there")
	}
	if _, there := held["second-000001"]; !there {
		t.Error("the second giant is not there")
	}
}

// The limit is the group's, and may be changed.
func TestGiantLimit(t *testing.T) {
	t.Parallel()
	n := openGroup(t, 1).nodes[0]
	if s := n.GroupSettings(); s.TransactionSizeLimit != 150_000_000 {
		t.Fatalf("%+v", s)
	}
	tx := giantOf(t, n, "g", 3<<20)
	s := n.GroupSettings()
	s.TransactionSizeLimit = 2 << 20
	if _, err := n.SetGroupSettings(testContext(t), s); err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Commit(testContext(t)); !errors.Is(err, concordat.ErrTooLarge) {
		t.Errorf("a giant beyond the limit: %v", err)
	}
	tx = begin(t, n)
	if err := tx.Put(accounts, []byte("k"), make([]byte, 3<<20)); !errors.Is(err, concordat.ErrTooLarge) {
		t.Errorf("a value beyond the limit: %v", err)
	}
	mustCommit(t, giantOf(t, n, "h", 1<<20+1<<19))
}
