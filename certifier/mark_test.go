package certifier

import (
	"testing"

	"github.com/concordatdb/concordat/gtid"
)

// fill certifies n transactions of so many items each, one for each log entry
// from first on, and returns the index of the last. All items differ.
func fill(t testing.TB, c *Certifier, first uint64, n, size int) (last uint64) {
	t.Helper()
	for i := range n {
		base := Item(c.Sequence()+1) << 32
		v := judge(c, c.Executed(), writes(itemsOf(size, func(i int) Item { return base + Item(i) })...))
		if v.Outcome != Certified {
			t.Fatalf("transaction %d of %d: %+v", i, n, v)
		}
		last = first + uint64(i)
		c.EntryDone(last)
	}
	return last
}

// TestMemoryIsGivenBack marks a large history and goes on with small
// transactions. Each gives back more than it adds, and no more than a few times
// that.
func TestMemoryIsGivenBack(t *testing.T) {
	for _, kind := range []Kind{Write, Delta, Reference} {
		c := New(group, roomy)
		const n, size = 4000, 20
		index := uint64(0)
		for i := range Item(n) {
			ws := does(kind, itemsOf(size, func(j int) Item { return i<<32 + Item(j) })...)
			c.Certify(&Request{Snapshot: c.Executed(), WriteSet: ws, GTID: gtid.GTID{Tag: "t"}})
			index++
			c.EntryDone(index)
		}
		c.Mark(index)
		held := func() int { return c.table.used + c.records.Len() + c.links.Len() + len(c.asides) }
		before, links := held(), c.links.Len()
		for steps := 0; c.swept < c.mark.sequence || c.unlinked < c.mark.links || c.table.unswept > 0 || c.table.sparse(); steps++ {
			last := held()
			judge(c, c.Executed(), writes(1))
			if gave := last + 2 - held(); gave > 4*fullest {
				t.Fatalf("%v: a transaction gave back %d", kind, gave)
			}
			if steps > before {
				t.Fatalf("%v: %d transactions have given back %d of %d", kind, steps, before-held(), before)
			}
		}
		kept := int(c.now.sequence - c.mark.sequence)
		if got := c.table.used; got > (kept+1)*size {
			t.Errorf("%v: %d items are left", kind, got)
		}
		if c.table.count > 64 || c.records.Len() != kept || c.links.Len() > size*kept || links > 0 && c.unlinked == 0 {
			t.Errorf("%v: %d segments, %d records, %d links are left", kind, c.table.count, c.records.Len(), c.links.Len())
		}
		if err := c.check(); err != nil {
			t.Error(err)
		}
	}
}

// TestMarkIsEnough checks that one mark at the limit is followed by another
// only when that much new history has come.
func TestMarkIsEnough(t *testing.T) {
	const limit = 4 * milestoneEvery
	c := New(group, roomy)
	last := fill(t, c, 1, 5000, 1)
	index := markableItems(c, limit)
	if index == 0 {
		t.Fatalf("history of %d needs no mark to come to %d", c.HistoryItems(), limit)
	}
	c.Mark(index)
	if again := markableItems(c, limit); again != 0 {
		t.Errorf("a mark at %d is to follow the one at %d; history that no longer counts waits to be given back", again, index)
	}
	fill(t, c, last+1, milestoneEvery, 1)
	if again := markableItems(c, limit); again <= index {
		t.Errorf("next mark at %d after one at %d", again, index)
	}
}

// TestBarriersAreHistory checks that transactions without items do not pile up
// unseen: each holds a snapshot version in memory.
func TestBarriersAreHistory(t *testing.T) {
	c := New(group, roomy)
	const n = 3 * milestoneEvery
	fill(t, c, 1, n, 0)
	if got := c.HistoryItems(); got != n {
		t.Errorf("history of %d, want %d", got, n)
	}
	index := markableItems(c, milestoneEvery)
	if index == 0 {
		t.Fatalf("history of %d barriers needs no mark", n)
	}
	c.Mark(index)
	if left := n - int(c.mark.sequence); left > milestoneEvery {
		t.Errorf("%d barriers are left, want at most %d", left, milestoneEvery)
	}
}

// TestLargeTransactionsHavePlaces checks that the history can be cut close to
// its limit when few transactions write much.
func TestLargeTransactionsHavePlaces(t *testing.T) {
	c := New(group, roomy)
	const size, limit = 2 * milestoneEvery, 10 * milestoneEvery
	fill(t, c, 1, 20, size)
	index := markableItems(c, limit)
	if want := uint64(20 - limit/(size+1)); index != want {
		t.Errorf("mark at %d, want %d", index, want)
	}
}

func TestMarksThatChangeNothing(t *testing.T) {
	c := New(group, roomy)
	c.Mark(1 << 40)
	last := fill(t, c, 1, milestoneEvery, 1)
	first := c.Markable(last)
	c.Mark(first - 1)
	if again := c.Markable(last); again != first {
		t.Fatalf("a mark below %d moved the place to %d", first, again)
	}
	before := string(appendState(t, c))
	c.Mark(0)
	c.Mark(first / 2)
	if string(appendState(t, c)) != before {
		t.Error("a mark between two places changed the state")
	}
	c.Mark(first)
	marked := string(appendState(t, c))
	if marked == before {
		t.Error("a mark at a place changed nothing")
	}
	c.Mark(first)
	c.Mark(1)
	if string(appendState(t, c)) != marked {
		t.Error("a mark that was passed changed the state")
	}
}
