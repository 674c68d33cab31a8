package certifier

import (
	"bytes"
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"github.com/concordatdb/concordat/gtid"
)

var (
	group   = gtid.UUID{15: 0x0a}
	foreign = gtid.UUID{15: 0x0b}
)

// upTo is the GTID set of a member that has executed the group's first n
// transactions.
func upTo(n uint64) gtid.Set { return gtid.Set{}.AddInterval(group, "", 1, n) }

// writes is a write set of the items given.
func writes(list ...Item) Encoded {
	ws, _, err := DecodeWriteSet(encodeWrites(list))
	if err != nil {
		panic(err)
	}
	return ws
}

func repeated(item Item, n int) []Item {
	return itemsOf(n, func(int) Item { return item })
}

func itemsOf(n int, item func(i int) Item) []Item {
	list := make([]Item, n)
	for i := range list {
		list[i] = item(i)
	}
	return list
}

// history is a run of a certifier and the model side by side. The twin comes
// from checkpoints of the certifier, so what the two have swept differs.
type history struct {
	model
	c, twin *Certifier
	index   uint64 // of the log entry being certified
	honest  bool   // no snapshot version has what was not certified
	origins [3]uint64
}

func newHistory(honest bool) *history {
	return &history{model: model{group: group}, c: New(group, roomy), twin: New(group, roomy), index: 1, honest: honest}
}

// snapshot draws a snapshot version: that of one of the origins, which lag, or
// one that no healthy group has.
func (h *history) snapshot(t *rapid.T) gtid.Set {
	n := uint64(len(h.certified))
	o := &h.origins[rapid.IntRange(0, len(h.origins)-1).Draw(t, "origin")]
	*o = rapid.Uint64Range(*o, n).Draw(t, "applied")
	kinds := []string{"own", "own", "own", "latest", "latest", "gaps", "foreign", "future", "none"}
	if h.honest {
		kinds = kinds[:6]
	}
	switch rapid.SampledFrom(kinds).Draw(t, "snapshot") {
	case "latest":
		return upTo(n)
	case "gaps":
		s := upTo(rapid.Uint64Range(0, n).Draw(t, "prefix"))
		for range rapid.IntRange(0, 3).Draw(t, "islands") {
			first := rapid.Uint64Range(1, n+1).Draw(t, "first")
			s = s.AddInterval(group, "", first, min(n, first+rapid.Uint64Range(0, 3).Draw(t, "more")))
		}
		return s
	case "foreign":
		return upTo(*o).AddInterval(foreign, "", 1, rapid.Uint64Range(1, 3).Draw(t, "foreign"))
	case "future":
		return upTo(n + rapid.Uint64Range(1, 3).Draw(t, "beyond"))
	case "none":
		return gtid.Set{}
	}
	return upTo(*o)
}

// writeSet draws items from few, so that they meet, some of them many times
// over, so that marks get places to fall.
func (h *history) writeSet(t *rapid.T) []Item {
	list := rapid.SliceOfN(rapid.Map(rapid.Uint64Range(0, 15), func(v uint64) Item { return Item(v) }), 0, 5).Draw(t, "items")
	if len(list) > 0 && rapid.IntRange(0, 4).Draw(t, "bulk") == 0 {
		list = append(list, repeated(list[len(list)-1], rapid.IntRange(200, 700).Draw(t, "times"))...)
	}
	return list
}

func (h *history) certify(t *rapid.T) {
	snapshot, list := h.snapshot(t), h.writeSet(t)
	unmarked, conflict := h.conflict(gtidsOf(snapshot), list, 0)
	executed := h.c.Executed()
	want := h.model.certify(snapshot, list)
	got, twin := judge(h.c, snapshot, writes(list...)), judge(h.twin, snapshot, writes(list...))
	if got != want || twin != want {
		t.Fatalf("snapshot %v, items %v: verdict %+v, after a restart %+v, want %+v", snapshot, list, got, twin, want)
	}
	if h.honest && got.Outcome != SnapshotTooOld && (conflict != (got.Outcome == Conflict) || conflict && got != unmarked) {
		t.Fatalf("snapshot %v, items %v: verdict %+v, without marks %+v", snapshot, list, got, unmarked)
	}
	if got.Outcome != Certified && !h.c.Executed().Equal(executed) {
		t.Fatalf("%v consumed a number: %v", got.Outcome, h.c.Executed())
	}
}

func (h *history) entryDone(t *rapid.T) {
	h.model.entryDone(h.index)
	h.c.EntryDone(h.index)
	h.twin.EntryDone(h.index)
	h.index += rapid.Uint64Range(1, 3).Draw(t, "entries")
}

// markSomewhere marks at a place, between places, at one that was passed or at
// one that nobody knows yet.
func (h *history) markSomewhere(t *rapid.T) {
	index := rapid.Uint64Range(0, h.index+3).Draw(t, "mark")
	h.mark(index)
	h.c.Mark(index)
	h.twin.Mark(index)
}

func (h *history) restart(t *rapid.T) {
	state := appendState(t, h.c)
	if again := appendState(t, h.twin); !bytes.Equal(again, state) {
		t.Fatalf("state depends on what was swept:\n%x\n%x", state, again)
	}
	twin, err := Restore(state, roomy)
	if err != nil {
		t.Fatalf("state %x: %v", state, err)
	}
	if again := appendState(t, twin); !bytes.Equal(again, state) {
		t.Fatalf("state %x comes back as %x", state, again)
	}
	h.twin = twin
}

type fataler interface {
	Fatalf(format string, args ...any)
}

func appendState(t fataler, c *Certifier) []byte {
	const before = "before"
	state, err := c.AppendState([]byte(before))
	if err != nil {
		t.Fatalf("state: %v", err)
	}
	return bytes.TrimPrefix(state, []byte(before))
}

func (h *history) check(t *rapid.T) {
	oldest := rapid.Uint64Range(0, h.index+2).Draw(t, "oldest")
	weight := h.weight(h.marked)
	limit := rapid.IntRange(-1, weight+1).Draw(t, "limit")
	for _, c := range []*Certifier{h.c, h.twin} {
		if err := c.check(); err != nil {
			t.Fatal(err)
		}
		if got, want := c.Sequence(), uint64(len(h.certified)); got != want || !c.Executed().Equal(upTo(want)) {
			t.Fatalf("sequence %d and %v, want %d", got, c.Executed(), want)
		}
		if got, want := c.Markable(oldest), h.markable(oldest); got != want {
			t.Fatalf("markable up to %d at %d, want %d", oldest, got, want)
		}
		if got, want := markableItems(c, limit), h.markableItems(limit); got != want {
			t.Fatalf("a history of at most %d of %d needs a mark at %d, want %d", limit, weight, got, want)
		}
		if got := c.HistoryItems(); got < weight {
			t.Fatalf("history of %d, less than the %d that count", got, weight)
		}
	}
}

// TestModel runs random histories through the certifier, one that is restored
// from its checkpoints, and the model.
func TestModel(t *testing.T) {
	for _, honest := range []bool{true, false} {
		t.Run(fmt.Sprintf("honest=%v", honest), func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				h := newHistory(honest)
				for range rapid.IntRange(1, 120).Draw(t, "steps") {
					switch rapid.SampledFrom([]string{"certify", "certify", "certify", "entry", "entry", "mark", "restart"}).Draw(t, "step") {
					case "certify":
						h.certify(t)
					case "entry":
						h.entryDone(t)
					case "mark":
						h.markSomewhere(t)
					case "restart":
						h.restart(t)
					}
					h.check(t)
				}
				h.restart(t)
			})
		})
	}
}

// TestLargeWriteSet passes what 16 bits count, and what scratch memory is kept
// for, and finds the last of many items.
func TestLargeWriteSet(t *testing.T) {
	const n = 1<<16 + 1
	c := New(group, roomy)
	all := itemsOf(n, func(i int) Item { return Item(i) })
	if v := judge(c, gtid.Set{}, writes(all...)); v.Outcome != Certified {
		t.Fatalf("verdict %+v", v)
	}
	for i := range all[:n-1] {
		all[i] += n
	}
	want := lost(n-1, gtid.GTID{UUID: group, Number: 1})
	if v := judge(c, gtid.Set{}, writes(all...)); v != want {
		t.Errorf("verdict %+v, want %+v", v, want)
	}
}

// TestCertifyAllocates holds the hot path to its budget: a transaction of an
// origin that lags, with items found in the history.
func TestCertifyAllocates(t *testing.T) {
	w := newWorkload(20_000, 8)
	allocs := testing.AllocsPerRun(2000, func() { w.certify(w.next()) })
	if allocs > 16 {
		t.Errorf("%v allocations for each transaction", allocs)
	}
}
