package concordat_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/concordatdb/concordat"
)

// A transaction that has lost while it runs hears of it with whatever it does
// next, again and again, and the group never hears of it.
func TestRunningTransactionIsDoomed(t *testing.T) {
	t.Parallel()
	g := openGroup(t, 2)
	n := g.nodes[1]
	mustPut(t, n, "other", "1")
	nexts := map[string]func(tx *concordat.Tx) error{
		"get":    func(tx *concordat.Tx) error { _, _, err := tx.Get(accounts, []byte("other")); return err },
		"put":    func(tx *concordat.Tx) error { return tx.Put(accounts, []byte("other"), nil) },
		"delete": func(tx *concordat.Tx) error { return tx.Delete(accounts, []byte("other")) },
		"add":    func(tx *concordat.Tx) error { return tx.Add(accounts, []byte("new"), 1) },
		"reference": func(tx *concordat.Tx) error {
			_, err := tx.Reference(accounts, []byte("other"))
			return err
		},
		"scan": func(tx *concordat.Tx) error {
			if got := pairs(tx.Scan(accounts, nil, nil)); got != "" {
				t.Errorf("scan yields %s", got)
			}
			return tx.Err()
		},
		"reverse scan": func(tx *concordat.Tx) error {
			pairs(tx.ScanReverse(accounts, nil, nil))
			return tx.Err()
		},
		"rows":    func(tx *concordat.Tx) error { _, err := tx.Rows(); return err },
		"payload": func(tx *concordat.Tx) error { return tx.SetPayload(nil) },
		"commit":  func(tx *concordat.Tx) error { _, err := tx.Commit(testContext(t)); return err },
	}
	for name, next := range nexts {
		t.Run(name, func(t *testing.T) {
			before := n.Status().Counters.Conflicts
			tx := begin(t, n)
			mustWrite(t, tx.Put(accounts, []byte("disputed"), []byte("2")))
			won := mustPut(t, g.nodes[0], "disputed", "1")
			mustSee(t, n, won)
			c := mustLose(t, next(tx), concordat.DoomedRunning)
			if c.Winner != won || c.Member != g.nodes[0].Status().Member || c.Table != accounts || string(c.Key) != "disputed" {
				t.Errorf("lost by %+v, want to %s on the key disputed", c, won)
			}
			if name != "commit" {
				mustLose(t, next(tx), concordat.DoomedRunning)
				_, err := tx.Commit(testContext(t))
				mustLose(t, err, concordat.DoomedRunning)
			}
			if _, err := tx.Commit(testContext(t)); !errors.Is(err, concordat.ErrTxDone) {
				t.Errorf("second commit: %v", err)
			}
			if got := n.Status().Counters.Conflicts; got != before+1 {
				t.Errorf("%d conflicts counted for one transaction", got-before)
			}
			neverDelivered(t, n, tx.ID())
		})
	}
}

// What is touched only after the winner was delivered dooms at once, also while
// the engine does not show the winner yet.
func TestTouchAfterDelivery(t *testing.T) {
	t.Parallel()
	g := openGroup(t, 1)
	cfg := joiner(t, g.nodes[0])
	engine := newFaultyEngine(t, cfg.Dir)
	cfg.Engine = engine
	slow := mustOpen(t, cfg)
	old := begin(t, slow)
	applying, goOn := make(chan struct{}), make(chan struct{})
	release := sync.OnceFunc(func() { close(goOn) })
	t.Cleanup(release) // a member closes only when its engine goes on
	engine.fault <- func() error {
		close(applying)
		<-goOn
		return nil
	}
	won := mustPut(t, g.nodes[0], "k", "1")
	<-applying
	young := serializable(t, slow)
	mustRead(t, old, "k", "") // reads of a snapshot are no touch
	mustRead(t, young, "other", "")
	_, _, read := young.Get(accounts, []byte("k"))
	for what, err := range map[string]error{
		"older": old.Put(accounts, []byte("k"), nil), "younger": read,
	} {
		c := mustLose(t, err, concordat.DoomedRunning)
		if c.Winner != won || c.Table != accounts || string(c.Key) != "k" {
			t.Errorf("%s: lost by %+v, want to %s on the key k", what, c, won)
		}
	}
	if slow.Status().Executed.Contains(won) {
		t.Errorf("%s is visible already", won)
	}
	release()
	mustSee(t, slow, won)
	mustCommit(t, writing(t, slow, "k")) // who has seen the winner does not lose to it
	neverDelivered(t, slow, old.ID(), young.ID())
	mustAgree(t, g.nodes[0], slow)
}

// A write that was refused for its size is no touch: nobody dooms the
// transaction for it.
func TestRefusedWriteIsNoTouch(t *testing.T) {
	t.Parallel()
	g := openGroup(t, 2, func(c *concordat.Config) { c.Founding.TransactionSizeLimit = 4096 })
	tx := begin(t, g.nodes[1])
	if err := tx.Put(accounts, []byte("k"), make([]byte, 5000)); !errors.Is(err, concordat.ErrTooLarge) {
		t.Fatalf("put: %v, want ErrTooLarge", err)
	}
	mustSee(t, g.nodes[1], mustPut(t, g.nodes[0], "k", "1"))
	mustWrite(t, tx.Put(accounts, []byte("small"), nil))
	mustCommit(t, tx)

	// The largest single write that is accepted commits.
	size, err := 4096, error(nil)
	for ; size > 0; size-- {
		tx = begin(t, g.nodes[1])
		if err = tx.Put(accounts, []byte("k"), make([]byte, size)); err == nil {
			break
		}
	}
	mustCommit(t, tx)
	if size < 3500 {
		t.Errorf("only %d bytes were accepted: %v", size, err)
	}
}

// writing is a transaction that has put keys.
func writing(t testing.TB, n *concordat.Node, keys ...string) *concordat.Tx {
	t.Helper()
	tx := begin(t, n)
	for _, k := range keys {
		mustWrite(t, tx.Put(accounts, []byte(k), []byte(tx.ID().String())))
	}
	return tx
}

// stalled is a member that has no quorum until resume.
func stalled(t testing.TB, g *group) (n *concordat.Node, resume func() *concordat.Node) {
	t.Helper()
	mustClose(t, g.nodes[1])
	return g.nodes[0], func() *concordat.Node { return reopen(t, g.nodes[1], g.cfgs[1]) }
}

// committing is a Commit beside the test.
type committing struct {
	tx     *concordat.Tx
	cancel context.CancelCauseFunc
	result chan error
}

// commitLater calls Commit, and returns when the transaction is on its way, or
// held back.
func commitLater(t testing.TB, tx *concordat.Tx, held bool) *committing {
	t.Helper()
	ctx, cancel := context.WithCancelCause(testContext(t))
	c := &committing{tx, cancel, make(chan error, 1)}
	go func() {
		_, err := tx.Commit(ctx)
		c.result <- err
	}()
	eventually(t, "a commit to ask", func() bool { asked, _ := concordat.AskedToGo(tx); return asked })
	if _, gone := concordat.AskedToGo(tx); gone == held {
		t.Errorf("on its way: %v, want held back: %v", gone, held)
	}
	return c
}

// A transaction that would lose to one of its own member that is on its way
// waits for what becomes of that one.
func TestHeldBack(t *testing.T) {
	t.Parallel()
	g := openGroup(t, 2)
	counterAt(t, g.nodes[0], "sum", 0)
	mustPut(t, g.nodes[0], "taken", "0")
	mustAgree(t, g.nodes...)
	n, resume := stalled(t, g)
	add := func(k string, by int64) *concordat.Tx {
		tx := begin(t, n)
		mustWrite(t, tx.Add(accounts, []byte(k), by))
		return tx
	}

	first, second := writing(t, n, "a"), writing(t, n, "x", "a", "y")
	over, fourth, patient := writing(t, n, "a"), add("a", 1), writing(t, n, "a")
	one, two, three := add("sum", 1), add("sum", 2), writing(t, n, "sum")
	// The scan loses to what is on its way before it, and so does not stay in
	// the way of the next.
	scan := serializable(t, n)
	pairs(scan.Scan(accounts, []byte("w"), nil))
	mustWrite(t, scan.Put(accounts, []byte("b"), nil))
	early, after := writing(t, n, "w"), writing(t, n, "b")

	going := []*committing{commitLater(t, first, false), commitLater(t, one, false), commitLater(t, two, false), commitLater(t, early, false)}
	refused := commitLater(t, scan, false)
	goesOn := commitLater(t, after, true)
	held := []*committing{commitLater(t, second, true), commitLater(t, fourth, true), commitLater(t, patient, true), commitLater(t, three, true)}

	givesUp := commitLater(t, over, true)
	why := errors.New("enough")
	givesUp.cancel(why)
	if err := <-givesUp.result; !errors.Is(err, why) || errors.Is(err, concordat.ErrOutcomeUnknown) || errors.Is(err, concordat.ErrConflict) {
		t.Errorf("one that gave up while it was held back: %v, want a known outcome", err)
	}

	back := resume()
	for _, c := range append(going, goesOn) {
		if err := <-c.result; err != nil {
			t.Errorf("commit of one that was not in conflict: %v", err)
		}
	}
	mustLose(t, <-refused.result, concordat.RefusedByGroup)
	for i, c := range held {
		e := mustLose(t, <-c.result, concordat.HeldBack)
		if want := []string{"a", "a", "a", "sum"}[i]; string(e.Key) != want || e.Table != accounts || e.Member != n.Status().Member {
			t.Errorf("lost by %+v, want the key %s", e, want)
		}
		neverDelivered(t, n, c.tx.ID())
	}
	neverDelivered(t, n, over.ID())
	mustAgree(t, n, back)
	found := contents(t, n)
	if found["a"] != first.ID().String() || found["b"] != after.ID().String() || found["x"] != "" ||
		found["sum"] != string(concordat.AppendCounter(nil, 3)) {
		t.Errorf("in the end there is %q", found)
	}
	if got := concordat.PendingCommits(n); got != 0 {
		t.Errorf("%d places are still taken", got)
	}
}

// Of many that want one key, one after the other is on its way, and all are
// answered.
func TestManyHeldBack(t *testing.T) {
	t.Parallel()
	const callers = 40
	n := openGroup(t, 1).nodes[0]
	results := make(chan error, callers)
	var all []*concordat.Tx
	for i := range callers {
		all = append(all, writing(t, n, "hot", fmt.Sprint("own", i)))
	}
	for _, tx := range all {
		go func() {
			_, err := tx.Commit(testContext(t))
			results <- err
		}()
	}
	won := 0
	for range callers {
		err := <-results
		if err == nil {
			won++
		} else if !errors.Is(err, concordat.ErrConflict) {
			t.Error(err)
		}
	}
	if won != 1 || len(contents(t, n)) != 2 {
		t.Errorf("%d of %d committed on one snapshot: %v", won, callers, contents(t, n))
	}
}

// Closing the member ends all waits: of one that the group may have, its fate
// is open; one that was held back did not happen.
func TestCloseEndsHeldBack(t *testing.T) {
	t.Parallel()
	g := openGroup(t, 2)
	n, _ := stalled(t, g)
	under := commitLater(t, writing(t, n, "k"), false)
	var held []*committing
	for range 3 {
		held = append(held, commitLater(t, writing(t, n, "k"), true))
	}
	mustClose(t, n)
	if err := <-under.result; !errors.Is(err, concordat.ErrOutcomeUnknown) || errors.Is(err, concordat.ErrClosed) {
		t.Errorf("commit under way: %v, want ErrOutcomeUnknown alone", err)
	}
	for _, c := range held {
		if err := <-c.result; !errors.Is(err, concordat.ErrClosed) || errors.Is(err, concordat.ErrOutcomeUnknown) {
			t.Errorf("commit held back: %v, want ErrClosed", err)
		}
	}
	if got := concordat.PendingCommits(n); got != 0 {
		t.Errorf("%d places are still taken", got)
	}
	if _, err := held[0].tx.Commit(testContext(t)); !errors.Is(err, concordat.ErrTxDone) {
		t.Errorf("a second commit: %v", err)
	}
}

// However transactions end, nothing of them stays.
func TestNothingStays(t *testing.T) {
	t.Parallel()
	g := openGroup(t, 2)
	ctx := testContext(t)
	var clients sync.WaitGroup
	for c := range 8 {
		clients.Go(func() {
			n := g.nodes[c%2]
			for i := range 20 {
				tx, err := n.Begin(ctx, concordat.WithIsolation(concordat.Isolation(i%2)))
				if err != nil {
					t.Error(err)
					return
				}
				_, _, _ = tx.Get(accounts, []byte{byte(i % 3)})
				_ = tx.Put(accounts, []byte{byte(i % 3)}, nil)
				commit := ctx
				if i%5 == 0 {
					hasty, cancel := context.WithCancel(ctx)
					time.AfterFunc(time.Millisecond, cancel)
					commit = hasty
				}
				if i%4 == 0 {
					_ = tx.Rollback()
				} else {
					_, _ = tx.Commit(commit)
				}
			}
		})
	}
	clients.Wait()
	for _, n := range g.nodes {
		eventually(t, "all transactions have ended", func() bool {
			transactions, held := concordat.Unended(n)
			return transactions == 0 && held == 0
		})
	}
}
