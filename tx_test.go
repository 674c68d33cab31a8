package concordat_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"testing"

	"github.com/concordatdb/concordat"
	"github.com/concordatdb/concordat/applier"
	"github.com/concordatdb/concordat/gtid"
)

// begin begins a transaction that ends with the test at the latest.
func begin(t testing.TB, n *concordat.Node) *concordat.Tx {
	t.Helper()
	tx, err := n.Begin(testContext(t))
	if err != nil {
		t.Fatalf("begin: %v", err)
	}
	t.Cleanup(func() { _ = tx.Rollback() })
	return tx
}

func pairs(seq iter.Seq2[[]byte, []byte]) string {
	var found []string
	for k, v := range seq {
		found = append(found, fmt.Sprintf("%s=%s", k, v))
	}
	return strings.Join(found, " ")
}

func mustWrite(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("write: %v", err)
	}
}

// mustRead checks what a transaction sees under a key; "" is no value.
func mustRead(t testing.TB, tx *concordat.Tx, key, want string) {
	t.Helper()
	v, ok, err := tx.Get(accounts, []byte(key))
	if err != nil || ok != (want != "") || string(v) != want {
		t.Errorf("%s reads %q, %v, %v, want %q", key, v, ok, err, want)
	}
}

func TestTxReadsItsOwnWrites(t *testing.T) {
	t.Parallel()
	n := openGroup(t, 1).nodes[0]
	for _, k := range []string{"a", "c", "e"} {
		mustPut(t, n, k, k)
	}
	tx := begin(t, n)
	key, value := []byte("b"), []byte("own")
	mustWrite(t, tx.Put(accounts, key, value))
	key[0], value[0] = 'z', 'z' // both were copied
	mustWrite(t, tx.Put(accounts, []byte("c"), []byte("new")))
	mustWrite(t, tx.Delete(accounts, []byte("e")))
	mustWrite(t, tx.Delete(accounts, []byte("never there")))
	mustWrite(t, tx.Put(concordat.Table{Schema: "bank", Name: "other"}, []byte("bb"), []byte("elsewhere")))
	mustRead(t, tx, "a", "a")
	mustRead(t, tx, "b", "own")
	mustRead(t, tx, "c", "new")
	mustRead(t, tx, "e", "")
	if got, want := pairs(tx.Scan(accounts, nil, nil)), "a=a b=own c=new"; got != want {
		t.Errorf("scan: %s, want %s", got, want)
	}
	if got, want := pairs(tx.ScanReverse(accounts, []byte("b"), []byte("c"))), "b=own"; got != want {
		t.Errorf("reverse scan: %s, want %s", got, want)
	}
	if err := tx.Err(); err != nil {
		t.Error(err)
	}
	id, err := tx.Commit(testContext(t))
	if err != nil || id == (gtid.GTID{}) {
		t.Fatalf("commit: %v, %v", id, err)
	}
	if got := fmt.Sprint(contents(t, n)); got != "map[a:a b:own c:new]" {
		t.Errorf("after the commit: %s", got)
	}
	if !n.Status().Executed.Contains(id) {
		t.Errorf("%s is not among the executed %s", id, n.Status().Executed)
	}
}

func TestTxScanSeesWritesFromBeforeTheLoop(t *testing.T) {
	t.Parallel()
	n := openGroup(t, 1).nodes[0]
	tx := begin(t, n)
	mustWrite(t, tx.Put(accounts, []byte("a"), []byte("1")))
	mustWrite(t, tx.Put(accounts, []byte("b"), []byte("1")))
	var seen []string
	for k, v := range tx.Scan(accounts, nil, nil) {
		seen = append(seen, string(k)+string(v))
		mustWrite(t, tx.Put(accounts, []byte("b"), []byte("2")))
		mustWrite(t, tx.Put(accounts, []byte("c"), []byte("2")))
	}
	if want := []string{"a1", "b1"}; !slices.Equal(seen, want) {
		t.Errorf("scan saw %v, want %v", seen, want)
	}
}

func TestTxEmptyValueIsAValue(t *testing.T) {
	t.Parallel()
	n := openGroup(t, 1).nodes[0]
	check := func(tx *concordat.Tx) error {
		for _, k := range []string{"empty", "nil"} {
			if v, ok, err := tx.Get(accounts, []byte(k)); !ok || len(v) != 0 || err != nil {
				t.Errorf("%s reads %q, %v, %v", k, v, ok, err)
			}
		}
		if v, ok, err := tx.Get(accounts, []byte("missing")); ok || len(v) != 0 || err != nil {
			t.Errorf("missing reads %q, %v, %v", v, ok, err)
		}
		if v, ok, err := tx.Get(accounts, nil); !ok || string(v) != "of the empty key" || err != nil {
			t.Errorf("the empty key reads %q, %v, %v", v, ok, err)
		}
		return nil
	}
	_, err := n.Update(testContext(t), func(tx *concordat.Tx) error {
		err := errors.Join(tx.Put(accounts, []byte("empty"), []byte{}), tx.Put(accounts, []byte("nil"), nil),
			tx.Put(accounts, nil, []byte("of the empty key")))
		return errors.Join(err, check(tx))
	})
	if err := errors.Join(err, n.View(testContext(t), check)); err != nil {
		t.Fatal(err)
	}
}

func TestTxReadOnly(t *testing.T) {
	t.Parallel()
	n := openGroup(t, 1).nodes[0]
	err := n.View(testContext(t), func(tx *concordat.Tx) error {
		if err := tx.Put(accounts, []byte("k"), nil); !errors.Is(err, concordat.ErrTxReadOnly) {
			t.Errorf("put: %v", err)
		}
		if err := tx.Delete(accounts, []byte("k")); !errors.Is(err, concordat.ErrTxReadOnly) {
			t.Errorf("delete: %v", err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := contents(t, n); len(got) != 0 {
		t.Errorf("a read-only transaction wrote %v", got)
	}
}

// Whatever ended a transaction, it refuses everything after that.
func TestTxAfterItsEnd(t *testing.T) {
	t.Parallel()
	n := openGroup(t, 1).nodes[0]
	ctx := testContext(t)
	for name, end := range map[string]func(*concordat.Tx) error{
		"commit":   func(tx *concordat.Tx) error { _, err := tx.Commit(ctx); return err },
		"rollback": (*concordat.Tx).Rollback,
	} {
		tx := begin(t, n)
		mustWrite(t, tx.Put(accounts, []byte(name), []byte("1")))
		if err := end(tx); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		_, _, get := tx.Get(accounts, []byte(name))
		_, commit := tx.Commit(ctx)
		for what, err := range map[string]error{
			"get": get, "commit": commit, "put": tx.Put(accounts, nil, nil), "delete": tx.Delete(accounts, nil), "err": tx.Err(),
		} {
			if !errors.Is(err, concordat.ErrTxDone) {
				t.Errorf("%s after %s: %v, want ErrTxDone", what, name, err)
			}
		}
		if got := pairs(tx.Scan(accounts, nil, nil)); got != "" {
			t.Errorf("scan after %s yields %s", name, got)
		}
		if err := tx.Rollback(); err != nil {
			t.Errorf("rollback after %s: %v", name, err)
		}
	}
	if got := fmt.Sprint(contents(t, n)); got != "map[commit:1]" {
		t.Errorf("in the end there is %s", got)
	}
}

func TestTxWithoutWritesHasNoGTID(t *testing.T) {
	t.Parallel()
	n := openGroup(t, 1).nodes[0]
	id, err := begin(t, n).Commit(testContext(t))
	if err != nil || id != (gtid.GTID{}) {
		t.Errorf("commit of nothing: %v, %v", id, err)
	}
}

func TestTxLimits(t *testing.T) {
	t.Parallel()
	const limit = 4096
	n := openGroup(t, 1, func(c *concordat.Config) { c.Founding.TransactionSizeLimit = limit }).nodes[0]
	tx := begin(t, n)
	long := strings.Repeat("n", applier.MaxNameLen+1)
	for _, c := range []struct {
		name  string
		table concordat.Table
		key   []byte
		value []byte
		want  error
	}{
		{"key", accounts, make([]byte, applier.MaxKeyLen+1), nil, concordat.ErrTooLarge},
		{"transaction", accounts, []byte("k"), make([]byte, limit+1), concordat.ErrTooLarge},
		{"no table", concordat.Table{}, nil, nil, concordat.ErrInvalid},
		{"long name", concordat.Table{Schema: "s", Name: long}, nil, nil, concordat.ErrInvalid},
		{"NUL in name", concordat.Table{Schema: "s\x00", Name: "n"}, nil, nil, concordat.ErrInvalid},
	} {
		if err := tx.Put(c.table, c.key, c.value); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
	mustWrite(t, tx.Put(accounts, []byte("small"), []byte("1")))
	if _, err := tx.Commit(testContext(t)); err != nil {
		t.Fatalf("what was refused is still in the way: %v", err)
	}
	if got := fmt.Sprint(contents(t, n)); got != "map[small:1]" {
		t.Errorf("in the end there is %s", got)
	}
}

func TestTxValueLimit(t *testing.T) {
	t.Parallel()
	n := openGroup(t, 1).nodes[0]
	err := begin(t, n).Put(accounts, []byte("k"), make([]byte, applier.MaxValueLen+1))
	if !errors.Is(err, concordat.ErrTooLarge) || !strings.Contains(err.Error(), "value") {
		t.Errorf("got %v, want ErrTooLarge that names the value", err)
	}
}

// Many small writes reach the limit together, and the largest transaction that
// Put accepts is one that commits.
func TestTxLimitOfManyWrites(t *testing.T) {
	t.Parallel()
	n := openGroup(t, 1, func(c *concordat.Config) { c.Founding.TransactionSizeLimit = 1 << 14 }).nodes[0]
	tx := begin(t, n)
	var err error
	count := 0
	for ; err == nil; count++ {
		err = tx.Put(accounts, fmt.Appendf(nil, "%06d", count), []byte("v"))
	}
	if !errors.Is(err, concordat.ErrTooLarge) {
		t.Fatal(err)
	}
	if _, err := tx.Commit(testContext(t)); err != nil {
		t.Fatalf("commit of all that was accepted: %v", err)
	}
	if got := len(contents(t, n)); got != count-1 {
		t.Errorf("%d keys, want the %d that were accepted", got, count-1)
	}
}

func TestTxContextEndedBefore(t *testing.T) {
	t.Parallel()
	n := openGroup(t, 1).nodes[0]
	ended, cancel := context.WithCancel(t.Context())
	tx := begin(t, n)
	mustWrite(t, tx.Put(accounts, []byte("k"), nil))
	cancel()
	if _, err := n.Begin(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("begin: %v", err)
	}
	if err := n.View(ended, func(*concordat.Tx) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("view: %v", err)
	}
	_, err := tx.Commit(ended)
	if !errors.Is(err, context.Canceled) || errors.Is(err, concordat.ErrOutcomeUnknown) {
		t.Errorf("commit: %v, want a cancelled context and a known outcome", err)
	}
	if got := contents(t, n); len(got) != 0 {
		t.Errorf("written all the same: %v", got)
	}
}

func TestTxSnapshot(t *testing.T) {
	t.Parallel()
	g := openGroup(t, 2)
	mustPut(t, g.nodes[0], "k", "old")
	mustAgree(t, g.nodes...)
	tx := begin(t, g.nodes[1])
	id := mustPut(t, g.nodes[0], "k", "new")
	mustPut(t, g.nodes[1], "l", "new")
	mustAgree(t, g.nodes...)
	mustRead(t, tx, "k", "old")
	mustRead(t, tx, "l", "")
	if tx.Snapshot().Contains(id) {
		t.Errorf("snapshot %s contains %s, which it does not show", tx.Snapshot(), id)
	}
}

// Of two that wrote the same key without having seen each other, the one that
// is ordered first commits, and the other one is told what it lost to.
func TestConflictNamesWhatWon(t *testing.T) {
	t.Parallel()
	g := openGroup(t, 2)
	ctx := testContext(t)
	one, two := begin(t, g.nodes[0]), begin(t, g.nodes[1])
	for _, k := range []string{"alone", "disputed"} {
		mustWrite(t, two.Put(accounts, []byte(k), []byte("two")))
	}
	mustWrite(t, one.Put(accounts, []byte("disputed"), []byte("one")))
	winner, err := one.Commit(ctx)
	if err != nil {
		t.Fatal(err)
	}
	_, err = two.Commit(ctx)
	c, ok := errors.AsType[*concordat.ConflictError](err)
	if !ok || !errors.Is(err, concordat.ErrConflict) || !concordat.Retryable(err) {
		t.Fatalf("commit: %v, want a conflict", err)
	}
	if c.Table != accounts || !bytes.Equal(c.Key, []byte("disputed")) || c.Winner != winner {
		t.Errorf("conflict %+v, want the key disputed and %s", c, winner)
	}
	mustAgree(t, g.nodes...)
	if got := fmt.Sprint(contents(t, g.nodes[1])); got != "map[disputed:one]" {
		t.Errorf("in the end there is %s", got)
	}
}

func TestUpdateRetries(t *testing.T) {
	t.Parallel()
	g := openGroup(t, 2)
	ctx := testContext(t)
	for _, c := range []struct {
		rivals, most int
		conflict     bool
	}{{4, 0, false}, {1, 2, false}, {2, 2, true}, {1, 1, true}} {
		runs := 0
		var opts []concordat.TxOption
		if c.most > 0 {
			opts = append(opts, concordat.WithMaxAttempts(c.most))
		}
		_, err := g.nodes[1].Update(ctx, func(tx *concordat.Tx) error {
			if runs++; runs <= c.rivals {
				if err := add(ctx, g.nodes[0], "k", 1); err != nil {
					return err
				}
			}
			return tx.Put(accounts, []byte("k"), []byte("100"))
		}, opts...)
		if got := errors.Is(err, concordat.ErrConflict); got != c.conflict || (err != nil && !got) {
			t.Errorf("%d rivals, %d attempts: %v", c.rivals, c.most, err)
		}
		if want := c.rivals + 1; c.most == 0 && runs != want {
			t.Errorf("%d rivals: %d runs, want %d", c.rivals, runs, want)
		}
		if c.most > 0 && runs > c.most {
			t.Errorf("%d runs of at most %d", runs, c.most)
		}
	}
}

func TestUpdateEndsWithErrorOfItsFunction(t *testing.T) {
	t.Parallel()
	n := openGroup(t, 1).nodes[0]
	why := errors.New("changed my mind")
	runs := 0
	_, err := n.Update(testContext(t), func(tx *concordat.Tx) error {
		runs++
		return errors.Join(tx.Put(accounts, []byte("k"), nil), why)
	})
	if !errors.Is(err, why) || runs != 1 || len(contents(t, n)) != 0 {
		t.Errorf("%v after %d runs, with %v", err, runs, contents(t, n))
	}
}
