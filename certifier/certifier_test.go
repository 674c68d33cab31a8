package certifier

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/concordatdb/concordat/gtid"
)

// history is a run of a certifier and the model side by side. The twin comes
// from checkpoints of the certifier, so what the two have given back differs.
type history struct {
	model
	c, twin *Certifier
	index   uint64 // of the log entry being certified
	honest  bool   // no snapshot version has what was not certified
	applied [3]int // by origin
	// expected are transactions for which the certifier makes room, and the twin
	// does not.
	expected []expectation
}

type expectation struct {
	*Expected
	writeSet Encoded
	rest     []byte // that is yet to come
}

// expect begins with a transaction that is to be certified later, or lets more of one
// come.
func (h *history) expect(t *rapid.T) {
	if len(h.expected) < 3 && rapid.Bool().Draw(t, "another") {
		x := expectation{Expected: h.c.Expect(), writeSet: h.writeSet(t)}
		x.rest, _ = x.writeSet.AppendBinary(nil)
		h.expected = append(h.expected, x)
	}
	for i := range h.expected {
		x := &h.expected[i]
		n := rapid.IntRange(0, len(x.rest)).Draw(t, "bytes")
		x.Add(x.rest[:n])
		x.rest = x.rest[n:]
	}
}

// expires gives up what is expected.
func (h *history) expires() {
	for _, x := range h.expected {
		x.Done(GivenUp)
	}
	h.expected = nil
}

func newHistory(honest bool) *history {
	return &history{
		model: model{group: group, settings: roomy, numberings: map[gtid.Tag]*numbering{}},
		c:     New(group, roomy), twin: New(group, roomy), index: 1, honest: honest,
	}
}

func setOf(all gtids) (s gtid.Set) {
	for g := range all {
		s = s.Add(g)
	}
	return s
}

// snapshot draws a snapshot version: that of one of the origins, which lag, or
// one that no healthy group has.
func (h *history) snapshot(t *rapid.T, origin int) gtid.Set {
	n := len(h.certified)
	h.applied[origin] = rapid.IntRange(h.applied[origin], n).Draw(t, "applied")
	own := setOf(h.first(h.applied[origin]))
	kinds := []string{"own", "own", "own", "latest", "latest", "islands", "hole", "foreign", "future", "none"}
	if h.honest {
		kinds = kinds[:7]
	}
	some := func() gtid.Set {
		if n == 0 {
			return gtid.Set{}
		}
		return gtid.Set{}.Add(h.certified[rapid.IntRange(0, n-1).Draw(t, "some")].id)
	}
	switch rapid.SampledFrom(kinds).Draw(t, "snapshot") {
	case "latest":
		return h.executed()
	case "islands":
		return own.Union(some()).Union(some())
	case "hole":
		return own.Subtract(some())
	case "foreign":
		return own.AddInterval(foreign, "", 1, rapid.Uint64Range(1, 3).Draw(t, "foreign"))
	case "future":
		return h.executed().AddInterval(group, "", uint64(n)+1, uint64(n)+rapid.Uint64Range(1, 3).Draw(t, "beyond"))
	case "none":
		return gtid.Set{}
	}
	return own
}

// longKey has more than is kept of it.
var longKey = strings.Repeat("k", MaxPlace+1)

var keys = []string{"", "a", "ab", "b", "k", longKey[:MaxPlace], longKey}

// writeSet draws items from few, so that they meet, and some of them many times
// over, so that marks get places to fall.
func (h *history) writeSet(t *rapid.T) Encoded {
	var doings []doing
	most := rapid.SampledFrom([]Kind{Write, Delta, Reference, Read}).Draw(t, "most")
	for range rapid.IntRange(0, 4).Draw(t, "items") {
		doings = append(doings, doing{
			item:  Item(rapid.Uint64Range(0, 7).Draw(t, "item")),
			kind:  rapid.SampledFrom([]Kind{most, most, most, Write, Delta, Reference, Read}).Draw(t, "kind"),
			space: Space(rapid.Uint64Range(1, 2).Draw(t, "space")), key: rapid.SampledFrom(keys).Draw(t, "key"),
		})
	}
	if len(doings) > 0 && rapid.IntRange(0, 4).Draw(t, "bulk") == 0 {
		apart := Item(rapid.SampledFrom([]uint64{0, 0, 1, unmixer}).Draw(t, "apart"))
		for range rapid.IntRange(200, 700).Draw(t, "times") {
			next := doings[len(doings)-1]
			next.item += apart
			doings = append(doings, next)
		}
	}
	var scans []scan
	if rapid.IntRange(0, 4).Draw(t, "scans") == 0 {
		scans = append(scans, scan{
			Space(rapid.Uint64Range(1, 3).Draw(t, "scanned")),
			rapid.SampledFrom(keys).Draw(t, "from"), rapid.SampledFrom(keys).Draw(t, "to"),
		})
	}
	return compose(doings, scans...)
}

// wish draws what GTID is asked for.
func (h *history) wish(t *rapid.T) gtid.GTID {
	switch rapid.SampledFrom([]string{"", "", "", "", "", "", "tag", "number", "tagged", "foreign", "large"}).Draw(t, "wish") {
	case "tag":
		return gtid.GTID{Tag: gtid.Tag(rapid.SampledFrom([]string{"a", "b"}).Draw(t, "tag"))}
	case "number":
		return gtid.GTID{UUID: group, Number: rapid.Uint64Range(1, uint64(len(h.certified))+5).Draw(t, "number")}
	case "tagged":
		return gtid.GTID{UUID: group, Tag: "a", Number: rapid.Uint64Range(1, 5).Draw(t, "number")}
	case "foreign":
		return gtid.GTID{UUID: foreign, Number: rapid.Uint64Range(1, 5).Draw(t, "number")}
	case "large":
		return gtid.GTID{UUID: group, Number: maxPlain + rapid.Uint64Range(0, 2).Draw(t, "number")}
	}
	return gtid.GTID{}
}

func (h *history) certify(t *rapid.T) {
	origin := rapid.IntRange(0, len(h.applied)-1).Draw(t, "origin")
	r := &Request{Origin: gtid.UUID{0: 1, 15: byte(origin)}, Snapshot: h.snapshot(t, origin), GTID: h.wish(t)}
	if len(h.expected) == 0 || rapid.Bool().Draw(t, "unexpected") {
		r.WriteSet = h.writeSet(t)
		h.try(t, r)
		return
	}
	x := h.expected[0]
	h.expected = h.expected[1:]
	r.WriteSet = x.writeSet
	x.Add(x.rest)
	x.Done(h.try(t, r).Outcome)
}

func (h *history) try(t *rapid.T, r *Request) Verdict {
	unmarked, conflict := h.conflict(gtidsOf(r.Snapshot), &r.WriteSet, 0)
	executed := h.c.Executed()
	want := h.model.certify(r)
	got, twin := h.c.Certify(r), h.twin.Certify(r)
	if got != want || twin != want {
		t.Fatalf("snapshot %v, %v: verdict %+v, after a restart %+v, want %+v", r.Snapshot, r.WriteSet, got, twin, want)
	}
	onItem := got.Outcome == Conflict && got.Clash.Item >= 0
	if h.honest && got.Outcome != SnapshotTooOld && (conflict != onItem || conflict && got != unmarked) {
		t.Fatalf("snapshot %v, %v: verdict %+v, without marks %+v", r.Snapshot, r.WriteSet, got, unmarked)
	}
	if got.Outcome != Certified && !h.c.Executed().Equal(executed) {
		t.Fatalf("%v consumed a number: %v", got.Outcome, h.c.Executed())
	}
	return got
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

func (h *history) reconfigure(t *rapid.T) {
	s := roomy
	s.RangeWrites = rapid.SampledFrom([]int{0, 1, 5, 300, 1024}).Draw(t, "range writes")
	s.BlockSize = rapid.SampledFrom([]uint64{0, 1, 2, 5}).Draw(t, "block size")
	h.configure(s)
	h.c.Configure(s)
	h.twin.Configure(s)
}

func (h *history) restart(t *rapid.T) {
	state := appendState(t, h.c)
	if again := appendState(t, h.twin); !bytes.Equal(again, state) {
		t.Fatalf("state depends on what was given back:\n%x\n%x", state, again)
	}
	twin, err := Restore(state, h.settings)
	if err != nil {
		t.Fatalf("state %x: %v", state, err)
	}
	if again := appendState(t, twin); !bytes.Equal(again, state) {
		t.Fatalf("state %x comes back as %x", state, again)
	}
	h.twin = twin
}

func (h *history) check(t *rapid.T) {
	oldest := rapid.Uint64Range(0, h.index+2).Draw(t, "oldest")
	weight, size := h.weight(h.marked), h.bytes(h.marked)
	items, limit := rapid.IntRange(-1, weight+1).Draw(t, "items"), rapid.IntRange(-1, size+1).Draw(t, "bytes")
	for _, c := range []*Certifier{h.c, h.twin} {
		if err := c.check(); err != nil {
			t.Fatal(err)
		}
		if got, want := c.Sequence(), uint64(len(h.certified)); got != want || !c.Executed().Equal(h.executed()) {
			t.Fatalf("sequence %d and %v, want %d", got, c.Executed(), want)
		}
		if got, want := c.Markable(oldest), h.markable(oldest); got != want {
			t.Fatalf("markable up to %d at %d, want %d", oldest, got, want)
		}
		if got, want := markableWithin(c, items, limit), h.markableWithin(items, limit); got != want {
			t.Fatalf("a history of at most %d of %d, %d of %d bytes, needs a mark at %d, want %d", items, weight, limit, size, got, want)
		}
		if c.HistoryItems() != weight || c.HistoryBytes() != size {
			t.Fatalf("history of %d and %d bytes, want %d and %d", c.HistoryItems(), c.HistoryBytes(), weight, size)
		}
	}
}

func (h *history) run(t *rapid.T) {
	steps := []string{"certify", "certify", "certify", "certify", "entry", "entry", "mark", "restart", "configure", "view", "expect", "expect", "expire"}
	for range rapid.IntRange(1, 80).Draw(t, "steps") {
		switch rapid.SampledFrom(steps).Draw(t, "step") {
		case "certify":
			h.certify(t)
		case "entry":
			h.entryDone(t)
		case "mark":
			h.markSomewhere(t)
		case "restart":
			h.restart(t)
		case "configure":
			h.reconfigure(t)
		case "view":
			h.view()
			h.c.View()
			h.twin.View()
		case "expect":
			h.expect(t)
		case "expire":
			h.expires()
		}
		h.check(t)
	}
	h.expires()
	if h.c.expected != 0 {
		t.Fatalf("%d items are expected, and nobody expects any", h.c.expected)
	}
	h.restart(t)
}

// TestModel runs random histories through the certifier, one that is restored
// from its checkpoints, and the model.
func TestModel(t *testing.T) {
	for _, honest := range []bool{true, false} {
		t.Run(fmt.Sprintf("honest=%v", honest), func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) { newHistory(honest).run(t) })
		})
	}
}

// FuzzCertify does the same with what the fuzzer finds.
func FuzzCertify(f *testing.F) {
	f.Add([]byte{})
	f.Add(bytes.Repeat([]byte{0x5a, 3, 0xff, 0}, 200))
	f.Fuzz(rapid.MakeFuzz(func(t *rapid.T) { newHistory(false).run(t) }))
}

// TestLargeWriteSet passes what 16 bits count and finds the last of many items.
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
	if allocs > 1 {
		t.Errorf("%v allocations for each transaction", allocs)
	}
}
