package concordat_test

import (
	"errors"
	"fmt"
	"math"
	"sync"
	"testing"

	"github.com/concordatdb/concordat"
)

// counter reads a counter in a transaction; ok is false if there is none.
func counter(t testing.TB, tx *concordat.Tx, key string) (n int64, ok bool) {
	t.Helper()
	v, there, err := tx.Get(accounts, []byte(key))
	if err != nil {
		t.Fatal(err)
	}
	n, ok = concordat.DecodeCounter(v)
	if there != ok {
		t.Fatalf("%s reads %q, %v, which is no counter", key, v, there)
	}
	return n, ok
}

func mustCount(t testing.TB, tx *concordat.Tx, key string, want int64) {
	t.Helper()
	if n, ok := counter(t, tx, key); !ok || n != want {
		t.Errorf("%s stands at %d, %v, want %d", key, n, ok, want)
	}
}

// Adds to one counter from everywhere lose nothing, and never conflict.
func TestCounterUnderLoad(t *testing.T) {
	t.Parallel()
	const goroutines, each = 64, 8
	ctx := testContext(t)
	g := openGroup(t, 3)
	var adding sync.WaitGroup
	want := int64(0)
	for w := range goroutines {
		by := int64(w - 20)
		want += each * by
		adding.Go(func() {
			for range each {
				_, err := g.nodes[w%3].Update(ctx, func(tx *concordat.Tx) error {
					return tx.Add(accounts, []byte("hot"), by)
				}, concordat.WithMaxAttempts(1))
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	adding.Wait()
	mustAgree(t, g.nodes...)
	for at, n := range g.nodes {
		tx := begin(t, n)
		mustCount(t, tx, "hot", want)
		s := n.Status()
		if s.Counters.Conflicts != 0 || s.Executed.Count() != goroutines*each {
			t.Errorf("member %d: %d conflicts, executed %s", at, s.Counters.Conflicts, s.Executed)
		}
		if r := n.Conflicts(0); r.Total != 0 {
			t.Errorf("member %d reports %+v", at, r)
		}
	}
}

// A transaction sees its own adds over its snapshot, in every way of reading,
// and what it leaves behind is what it saw.
func TestCounterWithinTransaction(t *testing.T) {
	t.Parallel()
	n := openGroup(t, 1).nodes[0]
	put := func(v int64) func(*concordat.Tx) error {
		return func(tx *concordat.Tx) error { return tx.Put(accounts, []byte("k"), concordat.AppendCounter(nil, v)) }
	}
	add := func(v int64) func(*concordat.Tx) error {
		return func(tx *concordat.Tx) error { return tx.Add(accounts, []byte("k"), v) }
	}
	drop := func(tx *concordat.Tx) error { return tx.Delete(accounts, []byte("k")) }
	for _, c := range []struct {
		name   string
		before int64 // what the snapshot holds, 0 for nothing
		do     []func(*concordat.Tx) error
		want   int64
	}{
		{"add to nothing", 0, []func(*concordat.Tx) error{add(3)}, 3},
		{"add nothing to nothing", 0, []func(*concordat.Tx) error{add(0)}, 0},
		{"adds that cancel out", 0, []func(*concordat.Tx) error{add(3), add(-3)}, 0},
		{"add to a snapshot's", 5, []func(*concordat.Tx) error{add(3), add(-1)}, 7},
		{"add over put", 5, []func(*concordat.Tx) error{put(100), add(1)}, 101},
		{"put over add", 5, []func(*concordat.Tx) error{add(1), put(100)}, 100},
		{"add, put, add", 5, []func(*concordat.Tx) error{add(1), put(100), add(2), add(3)}, 105},
		{"add after delete", 5, []func(*concordat.Tx) error{drop, add(2)}, 2},
		{"add after delete after add", 5, []func(*concordat.Tx) error{add(1), drop, add(2)}, 2},
		{"around the upper end", math.MaxInt64, []func(*concordat.Tx) error{add(2)}, math.MinInt64 + 1},
		{"around the lower end", math.MinInt64, []func(*concordat.Tx) error{add(-1)}, math.MaxInt64},
		{"of deltas", 1, []func(*concordat.Tx) error{add(math.MaxInt64), add(math.MaxInt64)}, -1},
		{"of a put", 1, []func(*concordat.Tx) error{put(math.MaxInt64), add(1)}, math.MinInt64},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := n.Update(testContext(t), func(tx *concordat.Tx) error {
				if c.before == 0 {
					return drop(tx)
				}
				return put(c.before)(tx)
			})
			mustWrite(t, err)
			tx := begin(t, n)
			for _, do := range c.do {
				mustWrite(t, do(tx))
			}
			check := func(tx *concordat.Tx) {
				mustCount(t, tx, "k", c.want)
				want := "k=" + string(concordat.AppendCounter(nil, c.want))
				if got := pairs(tx.Scan(accounts, nil, nil)); got != want {
					t.Errorf("scan: %q, want %q", got, want)
				}
				if got := pairs(tx.ScanReverse(accounts, nil, nil)); got != want {
					t.Errorf("reverse scan: %q, want %q", got, want)
				}
			}
			check(tx)
			mustCommit(t, tx)
			check(begin(t, n))
		})
	}
}

// Own adds stand in their places of a scan, among what the snapshot holds.
func TestCountersInScan(t *testing.T) {
	t.Parallel()
	n := openGroup(t, 1).nodes[0]
	for i, k := range []string{"b", "d"} {
		counterAt(t, n, k, int64(i+1))
	}
	tx := begin(t, n)
	for _, k := range []string{"a", "b", "c", "e"} {
		mustWrite(t, tx.Add(accounts, []byte(k), 10))
	}
	list := func(reverse bool) (found []string) {
		seq := tx.Scan(accounts, []byte("a"), []byte("e"))
		if reverse {
			seq = tx.ScanReverse(accounts, []byte("a"), []byte("e"))
		}
		for k, v := range seq {
			sum, ok := concordat.DecodeCounter(v)
			found = append(found, fmt.Sprint(string(k), sum, ok))
		}
		return found
	}
	if got, want := fmt.Sprint(list(false)), "[a10 true b11 true c10 true d2 true]"; got != want {
		t.Errorf("scan: %s, want %s", got, want)
	}
	if got, want := fmt.Sprint(list(true)), "[d2 true c10 true b11 true a10 true]"; got != want {
		t.Errorf("reverse scan: %s, want %s", got, want)
	}
}

// What is no counter is not added to, wherever it stands, and the transaction
// goes on as if nobody had tried.
func TestAddToWhatIsNoCounter(t *testing.T) {
	t.Parallel()
	g := openGroup(t, 2)
	n := g.nodes[0]
	mustPut(t, n, "text", "seven")
	mustPut(t, n, "empty", "")
	tx := begin(t, n)
	mustWrite(t, tx.Put(accounts, []byte("own"), []byte("own")))
	for _, k := range []string{"text", "empty", "own"} {
		if err := tx.Add(accounts, []byte(k), 1); !errors.Is(err, concordat.ErrInvalid) {
			t.Errorf("add to %s: %v, want ErrInvalid", k, err)
		}
	}
	if err := tx.Add(concordat.Table{}, []byte("k"), 1); !errors.Is(err, concordat.ErrInvalid) {
		t.Errorf("add in no table: %v, want ErrInvalid", err)
	}
	mustRead(t, tx, "text", "seven")
	mustRead(t, tx, "own", "own")
	mustWrite(t, tx.Add(accounts, []byte("sum"), 4))
	// Who has been refused has not touched the key.
	mustSee(t, n, mustPut(t, g.nodes[1], "text", "eight"))
	mustCommit(t, tx)
	mustAgree(t, g.nodes...)
	read := begin(t, n)
	mustCount(t, read, "sum", 4)
	mustRead(t, read, "text", "eight")
	err := n.View(testContext(t), func(tx *concordat.Tx) error { return tx.Add(accounts, []byte("sum"), 1) })
	if !errors.Is(err, concordat.ErrTxReadOnly) {
		t.Errorf("add in a view: %v, want ErrTxReadOnly", err)
	}
}

// Puts and adds to several tables are one transaction, in whatever order they
// were made.
func TestAddsAmongPuts(t *testing.T) {
	t.Parallel()
	g := openGroup(t, 2)
	table := func(name string) concordat.Table { return concordat.Table{Schema: "mixed", Name: name} }
	ops := []func(tx *concordat.Tx) error{
		func(tx *concordat.Tx) error { return tx.Put(table("a"), []byte("k"), []byte("1")) },
		func(tx *concordat.Tx) error { return tx.Add(table("b"), []byte("k"), 1) },
		func(tx *concordat.Tx) error { return tx.Put(table("c"), []byte("k"), []byte("1")) },
		func(tx *concordat.Tx) error { return tx.Add(table("d"), []byte("k"), 1) },
	}
	for first := range ops {
		for second := range ops {
			_, err := g.nodes[0].Update(testContext(t), func(tx *concordat.Tx) error {
				pairs(tx.Scan(table("e"), nil, nil))
				return errors.Join(ops[first](tx), ops[second](tx), ops[(first+second+1)%4](tx), tx.Err())
			}, concordat.WithIsolation(concordat.Serializable))
			if err != nil {
				t.Errorf("%d, %d: %v", first, second, err)
			}
		}
	}
	mustAgree(t, g.nodes...)
}

// A parent that children refer to is not deleted under them, and none comes to
// one that is being deleted; children do not exclude each other.
func TestReferences(t *testing.T) {
	t.Parallel()
	g := openGroup(t, 2)
	child := func(n *concordat.Node, name string) *concordat.Tx {
		tx := begin(t, n)
		if ok, err := tx.Reference(accounts, []byte("parent")); !ok || err != nil {
			t.Fatalf("reference: %v, %v", ok, err)
		}
		mustWrite(t, tx.Put(elsewhere, []byte(name), nil))
		return tx
	}
	orphan := func(n *concordat.Node) *concordat.Tx {
		tx := begin(t, n)
		mustWrite(t, tx.Delete(accounts, []byte("parent")))
		return tx
	}
	mustPut(t, g.nodes[0], "parent", "1")
	mustAgree(t, g.nodes...)
	one, two, three := child(g.nodes[0], "one"), child(g.nodes[1], "two"), child(g.nodes[1], "three")
	deletion := orphan(g.nodes[1])
	for _, tx := range []*concordat.Tx{one, two, three} {
		mustCommit(t, tx)
	}
	if _, err := deletion.Commit(testContext(t)); !errors.Is(err, concordat.ErrConflict) {
		t.Errorf("delete of a parent with new children: %v", err)
	}
	mustAgree(t, g.nodes...)
	late := child(g.nodes[1], "late")
	mustCommit(t, orphan(g.nodes[0]))
	if _, err := late.Commit(testContext(t)); !errors.Is(err, concordat.ErrConflict) {
		t.Errorf("child of a deleted parent: %v", err)
	}
	mustAgree(t, g.nodes...)
	if got := contents(t, g.nodes[0]); len(got) != 0 {
		t.Errorf("in the end there is %v", got)
	}
}

// A reference tells whether the key is there as the transaction sees it.
func TestReferenceTellsWhatIsThere(t *testing.T) {
	t.Parallel()
	n := openGroup(t, 1).nodes[0]
	mustPut(t, n, "there", "1")
	mustPut(t, n, "dropped", "1")
	tx := begin(t, n)
	mustWrite(t, tx.Put(accounts, []byte("own"), nil))
	mustWrite(t, tx.Add(accounts, []byte("sum"), 1))
	mustWrite(t, tx.Delete(accounts, []byte("dropped")))
	for key, want := range map[string]bool{"there": true, "missing": false, "own": true, "sum": true, "dropped": false} {
		if ok, err := tx.Reference(accounts, []byte(key)); ok != want || err != nil {
			t.Errorf("reference to %s: %v, %v, want %v", key, ok, err, want)
		}
	}
	if _, err := tx.Reference(concordat.Table{}, nil); !errors.Is(err, concordat.ErrInvalid) {
		t.Errorf("reference to no table: %v", err)
	}
	mustCommit(t, tx)
	err := n.View(testContext(t), func(tx *concordat.Tx) error {
		_, err := tx.Reference(accounts, []byte("there"))
		return err
	})
	if !errors.Is(err, concordat.ErrTxReadOnly) {
		t.Errorf("reference in a view: %v, want ErrTxReadOnly", err)
	}
}
