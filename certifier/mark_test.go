package certifier

import (
	"testing"
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
// transactions.
func TestMemoryIsGivenBack(t *testing.T) {
	c := New(group, roomy)
	last := fill(t, c, 1, 2000, 5)
	dropped := c.HistoryItems()
	c.Mark(last)
	kept := int(c.sequence-c.mark) * 6
	if c.HistoryItems() != dropped {
		t.Fatalf("the mark itself gave back %d of %d", dropped-c.HistoryItems(), dropped)
	}
	const each = 2 // a small transaction has an item and counts for itself
	n := 0
	for ; c.swept < c.mark; n++ {
		before := c.HistoryItems()
		last = fill(t, c, last+1, 1, 1)
		if gave := before + each - c.HistoryItems(); gave < 1 || gave > 2*each {
			t.Fatalf("transaction %d gave back %d, having added %d", n, gave, each)
		}
	}
	if n > dropped/(2*each)+1 {
		t.Errorf("it took %d transactions of %d to give back %d", n, each, dropped)
	}
	if got, want := c.HistoryItems(), kept+n*each; got != want {
		t.Errorf("history of %d at the end, want %d", got, want)
	}
	if got, want := len(c.history), c.hashes.Len(); got != want {
		t.Errorf("%d items are remembered, want %d", got, want)
	}
	if err := c.check(); err != nil {
		t.Error(err)
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
	if left := n - int(c.mark); left > milestoneEvery {
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
