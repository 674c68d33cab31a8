package concordat_test

import (
	"context"
	"errors"
	"testing"

	"github.com/concordatdb/concordat"
	"github.com/concordatdb/concordat/gtid"
)

// mustOutcome asks for the fate of a transaction and checks its state.
func mustOutcome(t testing.TB, n *concordat.Node, id gtid.UUID, want concordat.OutcomeState) concordat.Outcome {
	t.Helper()
	o, err := n.Outcome(testContext(t), id)
	if err != nil || o.State != want {
		t.Fatalf("outcome of %s: %+v, %v, want %s", id, o, err, want)
	}
	return o
}

// named begins a transaction under an id, that puts a key.
func named(t testing.TB, n *concordat.Node, id gtid.UUID, key string) *concordat.Tx {
	t.Helper()
	tx := beginWith(t, n, concordat.WithID(id))
	if tx.ID() != id {
		t.Errorf("the id is %s, want %s", tx.ID(), id)
	}
	mustWrite(t, tx.Put(accounts, []byte(key), []byte("1")))
	return tx
}

// Every member knows what became of a transaction, also one that was away, and
// shows what has committed.
func TestOutcomeFromEveryMember(t *testing.T) {
	t.Parallel()
	g := openGroup(t, 2)
	committed := begin(t, g.nodes[0])
	mustWrite(t, committed.Put(accounts, []byte("k"), nil))
	lost := begin(t, g.nodes[1])
	concordat.JudgedByGroup(lost)
	mustWrite(t, lost.Put(accounts, []byte("k"), nil))
	id := mustCommit(t, committed)
	_, err := lost.Commit(testContext(t))
	mustLose(t, err, concordat.RefusedByGroup)
	taken := beginWith(t, g.nodes[1], concordat.WithGTID(id))
	mustWrite(t, taken.Put(accounts, []byte("other"), nil))
	if _, err = taken.Commit(testContext(t)); !errors.Is(err, concordat.ErrGTIDTaken) {
		t.Fatalf("commit under a GTID that is taken: %v", err)
	}

	check := func(n *concordat.Node) {
		t.Helper()
		mustPut(t, n, "own", "1") // so that it has seen all before
		if o := mustOutcome(t, n, committed.ID(), concordat.OutcomeCommitted); o.GTID != id || o.Reason != nil ||
			o.Index == 0 || o.Until < o.Index || !n.Status().Executed.Contains(id) {
			t.Errorf("outcome %+v, want %s", o, id)
		}
		if o := mustOutcome(t, n, lost.ID(), concordat.OutcomeRefused); o.GTID != (gtid.GTID{}) || o.Winner != id ||
			!errors.Is(o.Reason, concordat.ErrConflict) || o.Index == 0 {
			t.Errorf("outcome %+v, want one that lost to %s", o, id)
		}
		if o := mustOutcome(t, n, taken.ID(), concordat.OutcomeRefused); !errors.Is(o.Reason, concordat.ErrGTIDTaken) ||
			concordat.Retryable(o.Reason) || o.Winner != (gtid.GTID{}) {
			t.Errorf("outcome %+v, want ErrGTIDTaken", o)
		}
		if o := mustOutcome(t, n, gtid.UUID{9}, concordat.OutcomeUnknown); o.Index != 0 || o.Until == 0 || o.Reason != nil {
			t.Errorf("outcome of nothing: %+v", o)
		}
	}
	for _, n := range g.nodes {
		check(n)
	}
	check(reopen(t, g.nodes[1], g.cfgs[1]))
	check(mustOpen(t, joiner(t, g.nodes[0])))
}

// Whoever gave up waiting learns later what became of it.
func TestOutcomeOfUnknown(t *testing.T) {
	t.Parallel()
	g := openGroup(t, 2)
	n, resume := stalled(t, g)
	c := commitLater(t, writing(t, n, "k"), false)
	c.cancel(context.Canceled)
	u, ok := errors.AsType[*concordat.OutcomeUnknownError](<-c.result)
	if !ok || u.ID != c.tx.ID() {
		t.Fatalf("commit that was given up: %+v, want ErrOutcomeUnknown of %s", u, c.tx.ID())
	}
	mustOutcome(t, n, u.ID, concordat.OutcomeUnknown)
	back := resume()
	eventually(t, "the group to decide", func() bool {
		o, err := back.Outcome(testContext(t), u.ID)
		return err == nil && o.State == concordat.OutcomeCommitted
	})
	if got := contents(t, back)["k"]; got != u.ID.String() {
		t.Errorf("what has committed reads %q", got)
	}
}

// Of all that are committed under one id, one commits, and all are told its
// GTID, whatever they wrote.
func TestCommitsOnceUnderOneID(t *testing.T) {
	t.Parallel()
	g := openGroup(t, 2)
	id := gtid.UUID{7}
	results := make(chan gtid.GTID, 2)
	for _, n := range g.nodes {
		tx := named(t, n, id, "of "+n.Status().Member.String())
		go func() {
			id, err := tx.Commit(testContext(t))
			if err != nil {
				t.Error(err)
			}
			results <- id
		}()
	}
	first, second := <-results, <-results
	if first != second || first == (gtid.GTID{}) {
		t.Errorf("committed as %s and as %s", first, second)
	}
	mustAgree(t, g.nodes...)
	found := contents(t, g.nodes[0])
	duplicates := g.nodes[0].Status().Counters.Duplicates + g.nodes[1].Status().Counters.Duplicates
	if len(found) != 1 || duplicates != 1 || g.nodes[0].Status().Executed.Count() != 1 {
		t.Errorf("%v was committed, %d duplicates", found, duplicates)
	}
	// Later, and after a restart, it is still the same.
	back := reopen(t, g.nodes[1], g.cfgs[1])
	if again := mustCommit(t, named(t, back, id, "again")); again != first {
		t.Errorf("committed again as %s", again)
	}
	if got := contents(t, back); len(got) != 1 {
		t.Errorf("committed twice: %v", got)
	}
}

// The same holds for those that want the same keys, and so would lose to each
// other: before they are broadcast, while they run, and in certification.
func TestDuplicateDoesNotLoseToItself(t *testing.T) {
	t.Parallel()
	g := openGroup(t, 2)
	for i, name := range []string{"doomed", "judged"} {
		id := gtid.UUID{1, byte(i)}
		other := named(t, g.nodes[1], id, name)
		if name == "judged" {
			concordat.JudgedByGroup(other)
		}
		first := mustCommit(t, named(t, g.nodes[0], id, name))
		if name == "doomed" {
			mustSee(t, g.nodes[1], first)
		}
		if again := mustCommit(t, other); again != first {
			t.Errorf("%s: committed as %s and as %s", name, first, again)
		}
	}
	n, resume := stalled(t, g)
	one, two := named(t, n, gtid.UUID{8}, "held"), named(t, n, gtid.UUID{8}, "held")
	under, held := commitLater(t, one, false), commitLater(t, two, true)
	back := resume()
	for _, c := range []*committing{under, held} {
		if err := <-c.result; err != nil {
			t.Errorf("commit under one id: %v", err)
		}
	}
	s := n.Status()
	if s.Counters.Duplicates != 1 || s.Counters.Conflicts != 0 {
		t.Errorf("%d duplicates and %d conflicts, want one duplicate", s.Counters.Duplicates, s.Counters.Conflicts)
	}
	mustAgree(t, n, back)
}

// An id whose transaction was refused may be used again; then its last fate
// counts.
func TestIDIsUsedAgainAfterRefusal(t *testing.T) {
	t.Parallel()
	g := openGroup(t, 2)
	id := gtid.UUID{6}
	tx := beginWith(t, g.nodes[1], concordat.WithID(id))
	concordat.JudgedByGroup(tx)
	mustWrite(t, tx.Put(accounts, []byte("k"), nil))
	won := mustPut(t, g.nodes[0], "k", "1")
	_, err := tx.Commit(testContext(t))
	mustLose(t, err, concordat.RefusedByGroup)
	mustOutcome(t, g.nodes[1], id, concordat.OutcomeRefused)
	mustSee(t, g.nodes[1], won)
	committed := mustCommit(t, named(t, g.nodes[1], id, "k"))
	mustAgree(t, g.nodes...)
	for _, n := range g.nodes {
		if o := mustOutcome(t, n, id, concordat.OutcomeCommitted); o.GTID != committed {
			t.Errorf("outcome %+v, want %s", o, committed)
		}
	}
	// Update does that by itself.
	runs := 0
	_, err = g.nodes[1].Update(testContext(t), func(tx *concordat.Tx) error {
		if runs++; runs == 1 {
			mustPut(t, g.nodes[0], "k", "2")
		}
		return tx.Put(accounts, []byte("k"), []byte("3"))
	}, concordat.WithID(gtid.UUID{5}))
	if err != nil || runs != 2 || contents(t, g.nodes[1])["k"] != "3" {
		t.Errorf("update: %v after %d runs, with %v", err, runs, contents(t, g.nodes[1]))
	}
}

// The group's settings bound how many transactions are remembered, and the
// answer says how far the memory reaches.
func TestOutcomeWindow(t *testing.T) {
	t.Parallel()
	const limit = 4
	g := openGroup(t, 2, func(c *concordat.Config) { c.Founding.OutcomeTransactions = limit })
	var all []gtid.UUID
	for range limit + 2 {
		tx := writing(t, g.nodes[0], "k")
		all = append(all, tx.ID())
		mustCommit(t, tx)
	}
	mustAgree(t, g.nodes...)
	for _, n := range g.nodes {
		for i, id := range all {
			if i >= 2 {
				if o := mustOutcome(t, n, id, concordat.OutcomeCommitted); o.Index <= o.From {
					t.Errorf("decided at %d, which is not after %d", o.Index, o.From)
				}
			} else if o := mustOutcome(t, n, id, concordat.OutcomeUnknown); o.From == 0 || o.From >= o.Until {
				t.Errorf("the memory reaches from %d to %d", o.From, o.Until)
			}
		}
	}
}

// An answer waits until the member shows what has committed, and no longer than
// its context, or than there is hope.
func TestOutcomeWaitsForTheEngine(t *testing.T) {
	t.Parallel()
	g := openGroup(t, 1)
	cfg := joiner(t, g.nodes[0])
	engine := newFaultyEngine(t, cfg.Dir)
	cfg.Engine = engine
	slow := mustOpen(t, cfg)
	goOn := make(chan struct{})
	engine.fault <- func() error {
		<-goOn
		return errFaulty
	}
	tx := writing(t, g.nodes[0], "k")
	mustCommit(t, tx)
	at := mustOutcome(t, g.nodes[0], tx.ID(), concordat.OutcomeCommitted).Index
	eventually(t, "the delivery", func() bool { return slow.Status().Delivered >= at })
	ask := func(ctx context.Context) <-chan error {
		result := make(chan error, 1)
		go func() {
			_, err := slow.Outcome(ctx, tx.ID())
			result <- err
		}()
		eventually(t, "the question to wait", func() bool { return concordat.WaitingToSee(slow) == 1 })
		return result
	}
	ctx, cancel := context.WithCancelCause(testContext(t))
	result := ask(ctx)
	why := errors.New("enough")
	cancel(why)
	if err := <-result; !errors.Is(err, why) {
		t.Errorf("got %v, want the cause of the context", err)
	}
	eventually(t, "the question to end", func() bool { return concordat.WaitingToSee(slow) == 0 })
	result = ask(testContext(t))
	close(goOn)
	if err := <-result; !errors.Is(err, concordat.ErrFailed) {
		t.Errorf("got %v, want ErrFailed from a member that will never show it", err)
	}
	mustClose(t, slow)
	if _, err := slow.Outcome(testContext(t), tx.ID()); !errors.Is(err, concordat.ErrClosed) {
		t.Errorf("after close: %v", err)
	}
}

// Whoever brings a GTID gets it, or hears that it is taken.
func TestWithGTID(t *testing.T) {
	t.Parallel()
	g := openGroup(t, 2)
	group := g.nodes[0].Status().Group
	foreign := gtid.UUID{0xf}
	commit := func(n *concordat.Node, wish gtid.GTID, keys ...string) (gtid.GTID, error) {
		tx := beginWith(t, n, concordat.WithGTID(wish))
		for _, k := range keys {
			mustWrite(t, tx.Put(accounts, []byte(k), []byte(wish.String())))
		}
		return tx.Commit(testContext(t))
	}
	for i, c := range []struct {
		wish, want gtid.GTID
		keys       []string
		err        error
	}{
		{gtid.GTID{UUID: foreign, Number: 5}, gtid.GTID{UUID: foreign, Number: 5}, []string{"a"}, nil},
		{gtid.GTID{UUID: foreign, Number: 5}, gtid.GTID{}, []string{"b"}, concordat.ErrGTIDTaken},
		{gtid.GTID{UUID: foreign, Number: 5}, gtid.GTID{}, nil, concordat.ErrGTIDTaken},
		{gtid.GTID{UUID: foreign, Tag: "blue", Number: 5}, gtid.GTID{UUID: foreign, Tag: "blue", Number: 5}, []string{"a"}, nil},
		{gtid.GTID{UUID: foreign, Number: 4}, gtid.GTID{UUID: foreign, Number: 4}, nil, nil},
		{gtid.GTID{UUID: group, Number: 2}, gtid.GTID{UUID: group, Number: 2}, []string{"c"}, nil},
		{gtid.GTID{}, gtid.GTID{UUID: group, Number: 1}, []string{"d"}, nil},
		{gtid.GTID{}, gtid.GTID{UUID: group, Number: 3}, []string{"e"}, nil},
		{gtid.GTID{Tag: "blue"}, gtid.GTID{UUID: group, Tag: "blue", Number: 1}, []string{"f"}, nil},
		{gtid.GTID{Tag: "blue"}, gtid.GTID{UUID: group, Tag: "blue", Number: 2}, nil, nil},
		{gtid.GTID{Tag: "red"}, gtid.GTID{UUID: group, Tag: "red", Number: 1}, []string{"f"}, nil},
	} {
		n := g.nodes[i%2]
		id, err := commit(n, c.wish, c.keys...)
		if id != c.want || !errors.Is(err, c.err) || (c.err == nil && err != nil) || concordat.Retryable(err) {
			t.Errorf("asked for %v with %q: %v, %v, want %v, %v", c.wish, c.keys, id, err, c.want, c.err)
		}
		if err == nil && !n.Status().Executed.Contains(id) {
			t.Errorf("%v is not among the executed %s", id, n.Status().Executed)
		}
		mustAgree(t, g.nodes...)
	}
	if got, want := g.nodes[1].Status().Executed.Count(), uint64(9); got != want {
		t.Errorf("%d transactions in %s, want %d", got, g.nodes[1].Status().Executed, want)
	}
	if got := contents(t, g.nodes[0]); len(got) != 5 || got["b"] != "" {
		t.Errorf("in the end there is %v", got)
	}
	for _, wish := range []gtid.GTID{
		{UUID: foreign}, {UUID: foreign, Number: gtid.MaxNumber + 1}, {Tag: "Not a tag"}, {UUID: foreign, Tag: "-", Number: 1},
	} {
		if _, err := g.nodes[0].Begin(testContext(t), concordat.WithGTID(wish)); !errors.Is(err, concordat.ErrInvalid) {
			t.Errorf("begin with %+v: %v, want ErrInvalid", wish, err)
		}
	}
}

func TestOutcomeStateString(t *testing.T) {
	for s, want := range map[concordat.OutcomeState]string{
		concordat.OutcomeUnknown: "unknown", concordat.OutcomeCommitted: "committed", concordat.OutcomeRefused: "refused",
	} {
		if s.String() != want {
			t.Errorf("state %d is called %s, want %s", s, s, want)
		}
	}
}
