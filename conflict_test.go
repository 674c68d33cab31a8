package concordat_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/concordatdb/concordat"
	"github.com/concordatdb/concordat/certifier"
	"github.com/concordatdb/concordat/gtid"
)

// beginWith begins a transaction that ends with the test at the latest.
func beginWith(t testing.TB, n *concordat.Node, opts ...concordat.TxOption) *concordat.Tx {
	t.Helper()
	tx, err := n.Begin(testContext(t), opts...)
	if err != nil {
		t.Fatalf("begin: %v", err)
	}
	t.Cleanup(func() { _ = tx.Rollback() })
	return tx
}

func serializable(t testing.TB, n *concordat.Node) *concordat.Tx {
	t.Helper()
	return beginWith(t, n, concordat.WithIsolation(concordat.Serializable))
}

func mustCommit(t testing.TB, tx *concordat.Tx) gtid.GTID {
	t.Helper()
	id, err := tx.Commit(testContext(t))
	if err != nil {
		t.Fatalf("commit: %v", err)
	}
	return id
}

// mustSee waits until a member shows a transaction.
func mustSee(t testing.TB, n *concordat.Node, id gtid.GTID) {
	t.Helper()
	eventually(t, "a transaction to be visible", func() bool { return n.Status().Executed.Contains(id) })
}

// mustLose checks that an error is a conflict, lost at a place.
func mustLose(t testing.TB, err error, where concordat.Where) *concordat.ConflictError {
	t.Helper()
	c, ok := errors.AsType[*concordat.ConflictError](err)
	if !ok || !errors.Is(err, concordat.ErrConflict) || !concordat.Retryable(err) {
		t.Fatalf("got %v, want a conflict", err)
	}
	if c.Where != where {
		t.Errorf("lost when %s, want %s: %v", c.Where, where, err)
	}
	return c
}

// neverDelivered checks that the group never heard of a transaction of a
// member: one that came after it was delivered, and it was not.
func neverDelivered(t testing.TB, n *concordat.Node, ids ...gtid.UUID) {
	t.Helper()
	last := begin(t, n)
	mustWrite(t, last.Put(accounts, []byte("last of all"), nil))
	mustCommit(t, last)
	at := mustOutcome(t, n, last.ID(), concordat.OutcomeCommitted).Index
	for _, id := range ids {
		o := mustOutcome(t, n, id, concordat.OutcomeUnknown)
		if o.From != 0 || o.Until < at {
			t.Errorf("the answer covers %d to %d, want all up to %d", o.From, o.Until, at)
		}
	}
}

// doing is what a transaction can do with a key.
type doing struct {
	name string
	kind certifier.Kind
	scan bool // of a range around the key
	do   func(tx *concordat.Tx, key string) error
}

// doings are all of them. Those that write nothing write elsewhere.
var doings = []doing{
	{"put", certifier.Write, false, func(tx *concordat.Tx, key string) error {
		return tx.Put(accounts, []byte(key), concordat.AppendCounter(nil, 7))
	}},
	{"delete", certifier.Write, false, func(tx *concordat.Tx, key string) error { return tx.Delete(accounts, []byte(key)) }},
	{"add", certifier.Delta, false, func(tx *concordat.Tx, key string) error { return tx.Add(accounts, []byte(key), 3) }},
	{"reference", certifier.Reference, false, func(tx *concordat.Tx, key string) error {
		_, err := tx.Reference(accounts, []byte(key))
		return errors.Join(err, tx.Put(elsewhere, []byte(tx.ID().String()), nil))
	}},
	{"get", certifier.Read, false, func(tx *concordat.Tx, key string) error {
		_, _, err := tx.Get(accounts, []byte(key))
		return errors.Join(err, tx.Put(elsewhere, []byte(tx.ID().String()), nil))
	}},
	{"scan", certifier.Read, true, func(tx *concordat.Tx, key string) error {
		pairs(tx.Scan(accounts, []byte(key), []byte(key+"~")))
		return errors.Join(tx.Err(), tx.Put(elsewhere, []byte(tx.ID().String()), nil))
	}},
}

var elsewhere = concordat.Table{Schema: "bank", Name: "elsewhere"}

// What any two transactions do with one key decides whether the later one
// loses, wherever they ran, and whether it is found out early or by
// certification; and the error says all of it.
func TestConflictsOfAllKinds(t *testing.T) {
	t.Parallel()
	g := openGroup(t, 2)
	for _, loser := range doings {
		for _, winner := range doings {
			for at, n := range g.nodes {
				for _, early := range []bool{true, false} {
					name := fmt.Sprintf("%s after %s on member %d, early %v", loser.name, winner.name, at, early)
					t.Run(name, func(t *testing.T) { checkClash(t, loser, winner, name, n, g.nodes[1], early) })
				}
			}
		}
	}
	mustAgree(t, g.nodes...)
}

// checkClash has winner happen on n while loser runs on its own member.
func checkClash(t *testing.T, loser, winner doing, key string, n, own *concordat.Node, early bool) {
	mustSee(t, n, counterAt(t, own, key, 1))
	tx := serializable(t, own)
	if !early {
		concordat.JudgedByGroup(tx)
	}
	mustWrite(t, loser.do(tx, key))
	rival := serializable(t, n)
	mustWrite(t, winner.do(rival, key))
	won := mustCommit(t, rival)
	if early {
		mustSee(t, own, won)
	}
	_, err := tx.Commit(testContext(t))
	if !loser.kind.ConflictsWith(winner.kind) {
		if err != nil {
			t.Errorf("refused: %v", err)
		}
		return
	}
	where := concordat.RefusedByGroup
	if early && !loser.scan { // ranges are for certification
		where = concordat.DoomedRunning
	}
	c := mustLose(t, err, where)
	want := concordat.ConflictError{
		Table: accounts, Key: []byte(key), Incoming: loser.kind, Earlier: winner.kind,
		Winner: won, Member: n.Status().Member, Age: c.Age, Where: where,
	}
	if loser.scan {
		want.Key, want.Range, want.From, want.To = nil, true, []byte(key), []byte(key+"~")
	}
	if got, want := fmt.Sprintf("%+v", *c), fmt.Sprintf("%+v", want); got != want {
		t.Errorf("conflict %s, want %s", got, want)
	}
	if c.Age < 0 {
		t.Errorf("the winner came %v ago", c.Age)
	}
	for _, text := range []string{key, accounts.Name, won.String(), n.Status().Member.String(), "run it again"} {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("nothing about %q in: %v", text, err)
		}
	}
}

// counterAt puts a counter.
func counterAt(t testing.TB, n *concordat.Node, key string, value int64) gtid.GTID {
	t.Helper()
	return mustPut(t, n, key, string(concordat.AppendCounter(nil, value)))
}

// The words of an error say what both did, and where.
func TestConflictErrorText(t *testing.T) {
	won := gtid.GTID{UUID: gtid.UUID{1}, Number: 5}
	for _, c := range []struct {
		err   concordat.ConflictError
		texts []string
	}{
		{
			concordat.ConflictError{Table: accounts, Key: []byte("k\x00"), Incoming: certifier.Delta, Earlier: certifier.Write},
			[]string{`bank.accounts key "k\x00"`, "this transaction added to it", "wrote it"},
		},
		{
			concordat.ConflictError{Table: accounts, Key: []byte{}, Incoming: certifier.Write, Earlier: certifier.Reference},
			[]string{`key ""`, "this transaction wrote it", "refers to it"},
		},
		{
			concordat.ConflictError{Table: accounts, Range: true, From: []byte("a"), To: []byte("b"), Incoming: certifier.Read, Earlier: certifier.Delta},
			[]string{`keys from "a" to "b"`, "this transaction read it", "added to it"},
		},
		{
			concordat.ConflictError{Table: accounts, Range: true, From: []byte("a"), Incoming: certifier.Read},
			[]string{`keys from "a" on`},
		},
		{
			concordat.ConflictError{Table: accounts, Range: true, To: []byte("b"), Incoming: certifier.Read},
			[]string{`keys before "b"`},
		},
		{concordat.ConflictError{Table: accounts, Range: true, Incoming: certifier.Read}, []string{"bank.accounts all keys"}},
		{concordat.ConflictError{Range: true, Incoming: certifier.Read}, []string{"on a row of the program's own: this"}},
		{concordat.ConflictError{Incoming: certifier.Write}, []string{"on a row of the program's own: this"}},
		{concordat.ConflictError{Incoming: certifier.Read, Earlier: certifier.Delta}, []string{"on a row of the program's own: this"}},
		{
			concordat.ConflictError{Incoming: certifier.Read, Earlier: certifier.Write},
			[]string{"on a row of the program's own, or the winner does not say what it changed: this transaction read it"},
		},
	} {
		c.err.Winner, c.err.Member = won, gtid.UUID{2}
		for _, text := range append(c.texts, won.String(), gtid.UUID{2}.String(), "which it had not seen", "run it again once that one is visible") {
			if !strings.Contains(c.err.Error(), text) {
				t.Errorf("nothing about %q in: %v", text, &c.err)
			}
		}
	}
}

// Update runs its function again when it shows what won, and not before.
func TestUpdateSeesWhatWon(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	g := openGroup(t, 2)
	var won gtid.GTID
	runs := 0
	_, err := g.nodes[1].Update(ctx, func(tx *concordat.Tx) error {
		if runs++; runs == 1 {
			concordat.JudgedByGroup(tx)
			won = mustPut(t, g.nodes[0], "k", "1")
		} else if !tx.Snapshot().Contains(won) {
			t.Errorf("run %d on %s, which does not show %s", runs, tx.Snapshot(), won)
		}
		return tx.Put(accounts, []byte("k"), nil)
	})
	if err != nil || runs < 2 {
		t.Errorf("update: %v after %d runs", err, runs)
	}
}

// The wait for what won ends with the context, and the error is both.
func TestUpdateEndsWhileItWaits(t *testing.T) {
	t.Parallel()
	g := openGroup(t, 1)
	cfg := joiner(t, g.nodes[0])
	engine := newFaultyEngine(t, cfg.Dir)
	cfg.Engine = engine
	slow := mustOpen(t, cfg)
	applying, goOn := make(chan struct{}), make(chan struct{})
	engine.fault <- func() error {
		close(applying)
		<-goOn
		return nil
	}
	why := errors.New("enough")
	ctx, cancel := context.WithCancelCause(testContext(t))
	runs := 0
	result := make(chan error, 1)
	go func() {
		_, err := slow.Update(ctx, func(tx *concordat.Tx) error {
			runs++
			if err := add(ctx, g.nodes[0], "k", 1); err != nil {
				return err
			}
			<-applying
			return tx.Put(accounts, []byte("k"), nil)
		})
		result <- err
	}()
	eventually(t, "the conflict", func() bool { return slow.Status().Counters.Conflicts > 0 })
	cancel(why)
	if err := <-result; !errors.Is(err, why) || !errors.Is(err, concordat.ErrConflict) || runs != 1 {
		t.Errorf("update: %v after %d runs, want the cause of the context and the conflict", err, runs)
	}
	close(goOn)
	mustAgree(t, g.nodes[0], slow)
}

// Each member counts conflicts: its own by table and key, and those of others
// as far as the log tells.
func TestConflictsAreReported(t *testing.T) {
	t.Parallel()
	g := openGroup(t, 2)
	tx := beginWith(t, g.nodes[1])
	concordat.JudgedByGroup(tx)
	mustWrite(t, tx.Put(accounts, []byte("hot"), nil))
	won := mustPut(t, g.nodes[0], "hot", "1")
	_, err := tx.Commit(testContext(t))
	mustLose(t, err, concordat.RefusedByGroup)
	for at, n := range g.nodes {
		mustSee(t, n, won)
		var r concordat.ConflictReport
		eventually(t, "a conflict in the report", func() bool {
			r = n.Conflicts(0)
			return r.Total == 1
		})
		if len(r.Keys) != 1 || r.Keys[0].Key != "hot" || r.Keys[0].Table != accounts.String() ||
			r.Where[concordat.RefusedByGroup] != 1 || r.Kinds[certifier.Write][certifier.Write] != 1 {
			t.Errorf("member %d reports %+v", at, r)
		}
		if len(r.Pairs) != 1 || r.Pairs[0].Loser != g.nodes[1].Status().Member || r.Pairs[0].Winner != g.nodes[0].Status().Member {
			t.Errorf("member %d reports %+v", at, r.Pairs)
		}
	}
	if got := g.nodes[1].Status().Counters.Conflicts; got != 1 {
		t.Errorf("%d conflicts counted, want 1", got)
	}
}
