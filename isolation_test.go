package concordat_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/concordatdb/concordat"
	"github.com/concordatdb/concordat/gtid"
)

var duty = concordat.Table{Schema: "hospital", Name: "on duty"}

// Two transactions each read what the other writes. Serializable ones do not
// both commit; under snapshot isolation they do, and so does a serializable one
// beside one that certifies no reads, if that comes later.
func TestWriteSkew(t *testing.T) {
	t.Parallel()
	g := openGroup(t, 2)
	for _, c := range []struct {
		first, second concordat.Isolation
		refused       bool
	}{
		{concordat.Snapshot, concordat.Snapshot, false},
		{concordat.Serializable, concordat.Snapshot, false},
		{concordat.Snapshot, concordat.Serializable, true},
		{concordat.Serializable, concordat.Serializable, true},
	} {
		for _, early := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s then %s, early %v", c.first, c.second, early), func(t *testing.T) {
				mustPut(t, g.nodes[0], "a", "1")
				mustPut(t, g.nodes[0], "b", "1")
				mustAgree(t, g.nodes...)
				one := beginWith(t, g.nodes[0], concordat.WithIsolation(c.first))
				two := beginWith(t, g.nodes[1], concordat.WithIsolation(c.second))
				if !early {
					concordat.JudgedByGroup(two)
				}
				for _, tx := range []*concordat.Tx{one, two} {
					mustRead(t, tx, "a", "1")
					mustRead(t, tx, "b", "1")
				}
				mustWrite(t, one.Put(accounts, []byte("a"), []byte("0")))
				mustWrite(t, two.Put(accounts, []byte("b"), []byte("0")))
				won := mustCommit(t, one)
				if early {
					mustSee(t, g.nodes[1], won)
				}
				_, err := two.Commit(testContext(t))
				if refused := errors.Is(err, concordat.ErrConflict); refused != c.refused || (err != nil && !refused) {
					t.Fatalf("second commit: %v, want a conflict: %v", err, c.refused)
				}
				mustAgree(t, g.nodes...)
				if found := contents(t, g.nodes[1]); found["a"] != "0" || (found["b"] == "1") != c.refused {
					t.Errorf("in the end there is %v", found)
				}
			})
		}
	}
}

// What comes into a range that was scanned, goes out of it or changes in it is
// a conflict; what happens beside it is none. A scan that was ended early has
// seen only what lies before its end.
func TestScannedRange(t *testing.T) {
	t.Parallel()
	g := openGroup(t, 2)
	at := func(key string) []byte { return []byte(key) }
	steps := func(n int) func(*concordat.Tx, []byte, []byte, bool) {
		return func(tx *concordat.Tx, from, to []byte, reverse bool) {
			seq := tx.Scan(accounts, from, to)
			if reverse {
				seq = tx.ScanReverse(accounts, from, to)
			}
			left := n
			for range seq {
				if left--; left == 0 {
					break
				}
			}
		}
	}
	all := steps(1000)
	for _, c := range []struct {
		name     string
		scan     func(*concordat.Tx, []byte, []byte, bool)
		from, to []byte
		reverse  bool
		hit      []string // keys whose change is a conflict
		miss     []string
	}{
		// There are the keys b, d, f and h.
		{"between bounds", all, at("c"), at("g"), false, []string{"c", "d", "e", "f", "fzz"}, []string{"b", "bz", "g", "h"}},
		{"between bounds, in reverse", all, at("c"), at("g"), true, []string{"c", "d", "f", "fzz"}, []string{"b", "bz", "g"}},
		{"from a bound on", all, at("d"), nil, false, []string{"d", "z", "\xff\xff"}, []string{"", "czz"}},
		{"to a bound", all, nil, at("d"), false, []string{"", "a", "czz"}, []string{"d", "z"}},
		{"all", all, nil, nil, false, []string{"", "d", "z"}, nil},
		{"an empty range", all, at("c"), at("d"), false, []string{"c", "cc"}, []string{"b", "d"}},
		{"bounds the wrong way round", all, at("g"), at("c"), false, nil, []string{"c", "d", "g"}},
		{"ended after two", steps(2), at("a"), nil, false, []string{"a", "b", "c", "d"}, []string{"d\x00", "e", "f", "z"}},
		{"ended after two, in reverse", steps(2), at("a"), at("z"), true, []string{"f", "g", "h", "y"}, []string{"e", "ezz", "d", "z"}},
		{"ended after the last", steps(4), nil, nil, false, []string{"a", "h"}, []string{"h\x00", "z"}},
		{"ended after the last, in reverse", steps(4), nil, nil, true, []string{"b", "z"}, []string{"a", "azz"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, hit := range []bool{true, false} {
				keys := c.miss
				if hit {
					keys = c.hit
				}
				for _, key := range keys {
					restore(t, g)
					tx := serializable(t, g.nodes[1])
					c.scan(tx, c.from, c.to, c.reverse)
					if err := tx.Err(); err != nil {
						t.Fatal(err)
					}
					mustWrite(t, tx.Put(duty, []byte("who"), nil))
					change(t, g.nodes[0], key)
					_, err := tx.Commit(testContext(t))
					if refused := errors.Is(err, concordat.ErrConflict); refused != hit || (err != nil && !refused) {
						t.Errorf("commit after %q was changed: %v, want a conflict: %v", key, err, hit)
					}
				}
			}
		})
	}
}

// restore makes the table hold b, d, f and h, on both members.
func restore(t testing.TB, g *group) {
	t.Helper()
	id, err := g.nodes[0].Update(testContext(t), func(tx *concordat.Tx) error {
		var errs []error
		for k := range tx.Scan(accounts, nil, nil) {
			errs = append(errs, tx.Delete(accounts, k))
		}
		for _, k := range []string{"b", "d", "f", "h"} {
			errs = append(errs, tx.Put(accounts, []byte(k), []byte("1")))
		}
		return errors.Join(errs...)
	})
	if err != nil {
		t.Fatal(err)
	}
	mustSee(t, g.nodes[1], id)
}

// change inserts a key that is missing; of those that are there it deletes b
// and f, and changes the others.
func change(t testing.TB, n *concordat.Node, key string) {
	t.Helper()
	_, err := n.Update(testContext(t), func(tx *concordat.Tx) error {
		if key == "b" || key == "f" {
			return tx.Delete(accounts, []byte(key))
		}
		return tx.Put(accounts, []byte(key), []byte("changed"))
	})
	if err != nil {
		t.Fatal(err)
	}
}

// A serializable scan shows what the transaction itself has written, and is
// certified for what others write.
func TestSerializableScanOfOwnWrites(t *testing.T) {
	t.Parallel()
	g := openGroup(t, 2)
	restore(t, g)
	counterAt(t, g.nodes[0], "e", 5)
	mustAgree(t, g.nodes...)
	write := func(tx *concordat.Tx) {
		mustWrite(t, tx.Put(accounts, []byte("c"), []byte("own")))
		mustWrite(t, tx.Delete(accounts, []byte("d")))
		mustWrite(t, tx.Add(accounts, []byte("e"), 2))
	}
	seven := string(concordat.AppendCounter(nil, 7))
	tx := serializable(t, g.nodes[1])
	write(tx)
	if got, want := pairs(tx.Scan(accounts, nil, []byte("g"))), "b=1 c=own e="+seven+" f=1"; got != want {
		t.Errorf("scan: %q, want %q", got, want)
	}
	if got, want := pairs(tx.ScanReverse(accounts, nil, []byte("g"))), "f=1 e="+seven+" c=own b=1"; got != want {
		t.Errorf("reverse scan: %q, want %q", got, want)
	}
	change(t, g.nodes[0], "h")
	mustCommit(t, tx)
	mustAgree(t, g.nodes...)

	tx = serializable(t, g.nodes[1])
	write(tx)
	pairs(tx.Scan(accounts, nil, []byte("g")))
	change(t, g.nodes[0], "ff")
	_, err := tx.Commit(testContext(t))
	mustLose(t, err, concordat.RefusedByGroup)
}

// Many scans are certified all the same, those of one table together when they
// are too many.
func TestManyScans(t *testing.T) {
	t.Parallel()
	g := openGroup(t, 2)
	for _, c := range []struct {
		key     string
		refused bool
	}{{"0500x", true}, {"2999x", true}, {"a", false}} {
		tx := serializable(t, g.nodes[1])
		for i := range 3000 {
			pairs(tx.Scan(accounts, fmt.Appendf(nil, "%04d", i), fmt.Appendf(nil, "%04dy", i)))
		}
		mustWrite(t, tx.Put(duty, []byte("who"), nil))
		mustPut(t, g.nodes[0], c.key, "1")
		_, err := tx.Commit(testContext(t))
		if refused := errors.Is(err, concordat.ErrConflict); refused != c.refused || (err != nil && !refused) {
			t.Errorf("commit after %s was put: %v, want a conflict: %v", c.key, err, c.refused)
		}
	}
}

// More tables than there may be ranges are too many to scan, and the commit
// says so.
func TestScansOfTooManyTables(t *testing.T) {
	t.Parallel()
	n := openGroup(t, 1).nodes[0]
	tx := serializable(t, n)
	for i := range 1025 {
		pairs(tx.Scan(concordat.Table{Schema: "many", Name: fmt.Sprint(i)}, nil, nil))
	}
	mustWrite(t, tx.Put(duty, []byte("who"), nil))
	if _, err := tx.Commit(testContext(t)); !errors.Is(err, concordat.ErrInvalid) || concordat.Retryable(err) {
		t.Errorf("commit: %v, want ErrInvalid", err)
	}
}

// A serializable transaction that has written nothing commits without a word to
// the group: its snapshot is its place in the order.
func TestSerializableReadsAreNotBroadcast(t *testing.T) {
	t.Parallel()
	g := openGroup(t, 2)
	n := g.nodes[1]
	mustPut(t, n, "k", "1")
	tx := serializable(t, n)
	mustRead(t, tx, "k", "1")
	mustRead(t, tx, "missing", "")
	pairs(tx.Scan(accounts, nil, nil))
	if id := mustCommit(t, tx); id != (gtid.GTID{}) {
		t.Errorf("a GTID for nothing: %s", id)
	}
	neverDelivered(t, n, tx.ID())
	view := concordat.WithIsolation(concordat.Serializable)
	err := n.View(testContext(t), func(tx *concordat.Tx) error {
		won := mustPut(t, g.nodes[0], "k", "2")
		mustSee(t, n, won)
		mustRead(t, tx, "k", "1") // nobody dooms who only reads
		if id := tx.ID(); !id.IsZero() {
			t.Errorf("a view has the id %s", id)
		}
		return nil
	}, view)
	if err != nil {
		t.Error(err)
	}
}

// What a serializable transaction has read of a counter is certified against
// those who add to it; who only adds is not held up by readers.
func TestCounterIsRead(t *testing.T) {
	t.Parallel()
	g := openGroup(t, 2)
	counterAt(t, g.nodes[0], "stock", 1)
	mustAgree(t, g.nodes...)
	take := func(n *concordat.Node, level concordat.Isolation) *concordat.Tx {
		tx := beginWith(t, n, concordat.WithIsolation(level))
		v, _, err := tx.Get(accounts, []byte("stock"))
		if stock, ok := concordat.DecodeCounter(v); err != nil || !ok || stock != 1 {
			t.Fatalf("stock of %d, %v, %v", stock, ok, err)
		}
		mustWrite(t, tx.Add(accounts, []byte("stock"), -1))
		return tx
	}
	one, two := take(g.nodes[0], concordat.Serializable), take(g.nodes[1], concordat.Serializable)
	mustCommit(t, one)
	_, err := two.Commit(testContext(t))
	if !errors.Is(err, concordat.ErrConflict) {
		t.Errorf("the last one was taken twice: %v", err)
	}
	counterAt(t, g.nodes[0], "stock", 1)
	mustAgree(t, g.nodes...)
	one, two = take(g.nodes[0], concordat.Snapshot), take(g.nodes[1], concordat.Snapshot)
	mustCommit(t, one)
	mustCommit(t, two)
	mustAgree(t, g.nodes...)
	if stock, _ := concordat.DecodeCounter([]byte(contents(t, g.nodes[0])["stock"])); stock != -1 {
		t.Errorf("stock of %d, want -1", stock)
	}
}

// Invariants over several rows hold under load from all members: of two on
// duty one stays, and of the places in a ward no more are taken than there are.
func TestInvariantsUnderLoad(t *testing.T) {
	t.Parallel()
	const workers, each, places = 2, 12, 3
	ctx := testContext(t)
	g := openGroup(t, 3)
	ward := concordat.Table{Schema: "hospital", Name: "ward"}
	level := concordat.WithIsolation(concordat.Serializable)
	swap := func(own, other string) func(*concordat.Tx) error {
		return func(tx *concordat.Tx) error {
			_, on, err1 := tx.Get(duty, []byte(own))
			_, also, err2 := tx.Get(duty, []byte(other))
			switch {
			case err1 != nil || err2 != nil:
				return errors.Join(err1, err2)
			case !on:
				return tx.Put(duty, []byte(own), nil)
			case also:
				return tx.Delete(duty, []byte(own))
			}
			return nil
		}
	}
	visit := func(own string) func(*concordat.Tx) error {
		return func(tx *concordat.Tx) error {
			taken, here := 0, false
			for k := range tx.Scan(ward, nil, nil) {
				taken, here = taken+1, here || string(k) == own
			}
			switch {
			case tx.Err() != nil:
				return tx.Err()
			case here:
				return tx.Delete(ward, []byte(own))
			case taken < places:
				return tx.Put(ward, []byte(own), nil)
			}
			return nil
		}
	}
	_, err := g.nodes[0].Update(ctx, func(tx *concordat.Tx) error { return tx.Put(duty, []byte("a"), nil) })
	if err != nil {
		t.Fatal(err)
	}
	mustAgree(t, g.nodes...)
	var working sync.WaitGroup
	for at, n := range g.nodes {
		for w := range workers {
			working.Go(func() {
				name := []string{"a", "b"}
				for i := range each {
					_, err1 := n.Update(ctx, swap(name[(at+w+i)%2], name[(at+w+i+1)%2]), level)
					_, err2 := n.Update(ctx, visit(fmt.Sprint(at, w)), level)
					err := errors.Join(err1, err2, n.View(ctx, func(tx *concordat.Tx) error {
						return checkWards(tx, ward, places)
					}))
					if err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
	}
	working.Wait()
	mustAgree(t, g.nodes...)
}

func checkWards(tx *concordat.Tx, ward concordat.Table, places int) error {
	count := func(table concordat.Table) (n int) {
		for range tx.Scan(table, nil, nil) {
			n++
		}
		return n
	}
	if n := count(duty); n < 1 || n > 2 {
		return fmt.Errorf("%d on duty", n)
	}
	if n := count(ward); n > places {
		return fmt.Errorf("%d of %d places taken", n, places)
	}
	return nil
}

// An isolation level that there is not is refused.
func TestIsolationLevels(t *testing.T) {
	t.Parallel()
	n := openGroup(t, 1).nodes[0]
	level := concordat.WithIsolation(concordat.Serializable + 1)
	nothing := func(*concordat.Tx) error { return nil }
	_, begun := n.Begin(testContext(t), level)
	_, read := n.BeginReadOnly(testContext(t), level)
	_, updated := n.Update(testContext(t), nothing, level)
	for what, err := range map[string]error{
		"begin": begun, "read-only": read, "update": updated, "view": n.View(context.Background(), nothing, level),
	} {
		if !errors.Is(err, concordat.ErrInvalid) {
			t.Errorf("%s: %v, want ErrInvalid", what, err)
		}
	}
	if concordat.Snapshot.String() != "SNAPSHOT" || concordat.Serializable.String() != "SERIALIZABLE" {
		t.Errorf("levels are called %s and %s", concordat.Snapshot, concordat.Serializable)
	}
}

// Who commits inside of the loop of a scan has scanned all of it.
func TestCommitWithinScan(t *testing.T) {
	t.Parallel()
	g := openGroup(t, 2)
	mustPut(t, g.nodes[0], "a", "1")
	mustPut(t, g.nodes[0], "b", "1")
	mustAgree(t, g.nodes...)
	txs := []*concordat.Tx{serializable(t, g.nodes[0]), serializable(t, g.nodes[1])}
	errs := make([]error, len(txs))
	for at, key := range []string{"a", "b"} {
		concordat.JudgedByGroup(txs[at])
		for range txs[at].Scan(accounts, nil, nil) {
			mustWrite(t, txs[at].Put(accounts, []byte(key), []byte("0")))
			_, errs[at] = txs[at].Commit(testContext(t))
			break
		}
	}
	if errs[0] != nil || !errors.Is(errs[1], concordat.ErrConflict) {
		t.Errorf("commits: %v, and %v, want a conflict", errs[0], errs[1])
	}
}

// What a refused Add has told is a read.
func TestRefusedAddIsARead(t *testing.T) {
	t.Parallel()
	g := openGroup(t, 1)
	mustPut(t, g.nodes[0], "c", "text")
	one, two := serializable(t, g.nodes[0]), serializable(t, g.nodes[0])
	concordat.JudgedByGroup(one)
	if err := one.Add(accounts, []byte("c"), 1); !errors.Is(err, concordat.ErrInvalid) {
		t.Fatalf("add to text: %v", err)
	}
	mustWrite(t, one.Put(accounts, []byte("x"), nil))
	mustWrite(t, two.Put(accounts, []byte("c"), concordat.AppendCounter(nil, 1)))
	mustCommit(t, two)
	if _, err := one.Commit(testContext(t)); !errors.Is(err, concordat.ErrConflict) {
		t.Errorf("commit: %v, want a conflict", err)
	}
}
