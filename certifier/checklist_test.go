package certifier

import (
	"fmt"
	"slices"
	"testing"

	"github.com/concordatdb/concordat/gtid"
)

// The numbers in the names of these tests are those of the checklist that Group
// Replication's own tests make (spec/certification.md, section 9).

func numbered(n uint64) gtid.GTID { return gtid.GTID{UUID: group, Number: n} }

// TestChecklist1Relations stores T = {1,2,3}, of a transaction that saw 1 and 2
// and became 3, and tries each relation that a snapshot version can have to it.
func TestChecklist1Relations(t *testing.T) {
	all := gtid.Set{}
	for _, test := range []struct {
		name     string
		snapshot gtid.Set
		want     Outcome
	}{
		{"equal", upTo(3), Certified},
		{"superset", upTo(4), Certified},
		{"superset with a foreign one", upTo(3).AddInterval(foreign, "", 1, 9), Certified},
		{"subset", upTo(2), Conflict},
		{"empty", all, Conflict},
		{"incomparable, with the writer", upTo(4).Subtract(upTo(1)), Conflict},
		{"incomparable, without the writer", upTo(2).AddInterval(group, "", 4, 4), Conflict},
		{"incomparable, only foreign ones", all.AddInterval(foreign, "", 1, 9), Conflict},
	} {
		c := New(group, roomy)
		judge(c, all, writes(1))
		judge(c, upTo(1), writes(2))
		judge(c, upTo(2), writes(3))
		judge(c, upTo(3), writes(4))
		if v := judge(c, test.snapshot, writes(3)); v.Outcome != test.want {
			t.Errorf("%s: %+v, want %v", test.name, v, test.want)
		}
		if v := judge(c, test.snapshot, writes(9)); v.Outcome != Certified {
			t.Errorf("%s, an item that nobody wrote: %+v", test.name, v)
		}
	}
}

// TestChecklist2LastOfMany loses on the last of many items and leaves nothing
// behind.
func TestChecklist2LastOfMany(t *testing.T) {
	c := New(group, roomy)
	judge(c, gtid.Set{}, writes(1000))
	before := string(appendState(t, c))
	all := append(itemsOf(999, func(i int) Item { return Item(i) }), 1000)
	if v, want := judge(c, gtid.Set{}, writes(all...)), lost(999, numbered(1)); v != want {
		t.Errorf("%+v, want %+v", v, want)
	}
	if string(appendState(t, c)) != before {
		t.Error("a transaction that lost has changed the state")
	}
}

func TestChecklist3Duplicates(t *testing.T) {
	c := New(group, roomy)
	judge(c, gtid.Set{}, writes(1, 2, 1))
	v := judge(c, upTo(1), compose([]doing{{item: 1}, {item: 1, kind: Delta}, {item: 1, kind: Reference}, {item: 1}}))
	if v.Outcome != Certified || v.LastCommitted != 1 {
		t.Errorf("%+v", v)
	}
	if v, want := judge(c, upTo(1), writes(5, 1, 1)), lost(1, numbered(2)); v != want {
		t.Errorf("%+v, want %+v", v, want)
	}
}

func TestChecklist4Barriers(t *testing.T) {
	c := New(group, roomy)
	judge(c, gtid.Set{}, writes(1))
	barrier := judge(c, gtid.Set{}, Encoded{})
	if barrier.Outcome != Certified || barrier.LastCommitted != 1 {
		t.Errorf("a barrier that has seen nothing: %+v", barrier)
	}
	after := judge(c, gtid.Set{}, writes(2))
	if after.Outcome != Certified || after.LastCommitted != 2 {
		t.Errorf("a write that has not seen it: %+v", after)
	}
	want := Verdict{Outcome: Conflict, Clash: Clash{Item: -1, Range: -1, Incoming: Read, Earlier: Write, Winner: numbered(2), Sequence: 2}}
	for name, ws := range map[string]Encoded{"a read": does(Read, 77), "a scan": compose(nil, scan{1, "", ""})} {
		again := saved(t, c)
		if v := judge(again, upTo(1).AddInterval(group, "", 3, 3), ws); v != want {
			t.Errorf("%s that has not seen it: %+v, want %+v", name, v, want)
		}
		if v := judge(again, again.Executed(), ws); v.Outcome != Certified {
			t.Errorf("%s that has seen it: %+v", name, v)
		}
	}
}

// saved returns a certifier restored from what c saves.
func saved(t *testing.T, c *Certifier) *Certifier {
	t.Helper()
	again, err := Restore(appendState(t, c), c.settings)
	if err != nil {
		t.Fatal(err)
	}
	return again
}

// TestChecklist4OldBarrier does not see the older of two barriers.
func TestChecklist4OldBarrier(t *testing.T) {
	c := New(group, roomy)
	judge(c, gtid.Set{}, Encoded{})
	judge(c, gtid.Set{}, Encoded{})
	v := judge(c, gtid.Set{}.Add(numbered(2)), does(Read, 1))
	if v.Outcome != Conflict || v.Clash.Winner != numbered(1) {
		t.Errorf("%+v", v)
	}
}

func TestChecklist5SameOriginAndSnapshot(t *testing.T) {
	c := New(group, roomy)
	r := &Request{Origin: foreign, WriteSet: writes(1)}
	if v := c.Certify(r); v.Outcome != Certified {
		t.Fatalf("%+v", v)
	}
	want := lost(0, numbered(1))
	want.Clash.Member = foreign
	if v := c.Certify(r); v != want {
		t.Errorf("%+v, want %+v", v, want)
	}
}

func TestChecklist6NothingOfTheGroup(t *testing.T) {
	c := New(group, roomy)
	snapshot := gtid.Set{}.AddInterval(foreign, "", 1, 5)
	if v := judge(c, snapshot, writes(1)); v.Outcome != Certified || v.GTID != numbered(1) {
		t.Errorf("%+v", v)
	}
	if v, want := judge(c, snapshot, writes(1)), lost(0, numbered(1)); v != want {
		t.Errorf("%+v, want %+v", v, want)
	}
}

func TestChecklist7SpecifiedGTIDs(t *testing.T) {
	c := New(group, roomy)
	for i, test := range []struct {
		name    string
		wish    gtid.GTID
		items   []Item
		outcome Outcome
		got     gtid.GTID
	}{
		{"automatic", gtid.GTID{}, []Item{1}, Certified, numbered(1)},
		{"of the group, free", numbered(3), []Item{2}, Certified, numbered(3)},
		{"automatic, in the hole", gtid.GTID{}, []Item{3}, Certified, numbered(2)},
		{"automatic, past it", gtid.GTID{}, []Item{4}, Certified, numbered(4)},
		{"taken", numbered(3), []Item{5}, GTIDTaken, gtid.GTID{}},
		{"taken and in conflict", numbered(3), []Item{1}, Conflict, gtid.GTID{}},
		{"free and in conflict", numbered(9), []Item{1}, Conflict, gtid.GTID{}},
		{"foreign", gtid.GTID{UUID: foreign, Number: 7}, []Item{6}, Certified, gtid.GTID{UUID: foreign, Number: 7}},
		{"foreign, taken", gtid.GTID{UUID: foreign, Number: 7}, nil, GTIDTaken, gtid.GTID{}},
		{"tagged", gtid.GTID{UUID: group, Tag: "t", Number: 1}, nil, Certified, gtid.GTID{UUID: group, Tag: "t", Number: 1}},
		{"automatic, tagged", gtid.GTID{Tag: "t"}, []Item{7}, Certified, gtid.GTID{UUID: group, Tag: "t", Number: 2}},
		{"automatic, of another UUID", gtid.GTID{UUID: foreign}, []Item{8}, Certified, numbered(5)},
		{"the last there can be", numbered(gtid.MaxNumber), []Item{9}, Certified, numbered(gtid.MaxNumber)},
		{"beyond the last", numbered(gtid.MaxNumber + 1), []Item{10}, GTIDTaken, gtid.GTID{}},
		{"of an impossible tag", gtid.GTID{Tag: "!"}, []Item{10}, GTIDTaken, gtid.GTID{}},
	} {
		executed := c.Executed()
		v := c.Certify(&Request{Snapshot: gtid.Set{}, WriteSet: writes(test.items...), GTID: test.wish})
		if v.Outcome != test.outcome || v.GTID != test.got {
			t.Errorf("%d, %s: %+v, want %v %v", i, test.name, v, test.outcome, test.got)
		}
		if v.Outcome != Certified && !c.Executed().Equal(executed) {
			t.Errorf("%s: a refused transaction took a GTID: %v", test.name, c.Executed())
		}
	}
}

// TestChecklist8KeyChange updates a key, with one who wrote the old key and one
// who wrote the new one in its way.
func TestChecklist8KeyChange(t *testing.T) {
	x := Index{Name: PrimaryIndex, Schema: "s", Table: "t"}
	update, old, fresh := WriteSet{}, WriteSet{}, WriteSet{}
	update.Update(x, []Part{Int(1, 4)}, []Part{Int(2, 4)})
	old.Write(x, Int(1, 4))
	fresh.Write(x, Int(2, 4))
	for i, first := range []*WriteSet{&old, &fresh} {
		c := New(group, roomy)
		judge(c, gtid.Set{}, encoded(t, first))
		if v, want := judge(c, gtid.Set{}, encoded(t, &update)), lost(i, numbered(1)); v != want {
			t.Errorf("%+v, want %+v", v, want)
		}
		if v := judge(c, upTo(1), encoded(t, &update)); v.Outcome != Certified {
			t.Errorf("%+v", v)
		}
		if v, want := judge(c, upTo(1), encoded(t, first)), lost(0, numbered(2)); v != want {
			t.Errorf("%+v, want %+v", v, want)
		}
	}
}

func encoded(t *testing.T, ws *WriteSet) Encoded {
	t.Helper()
	b, err := ws.AppendBinary(nil)
	if err != nil {
		t.Fatal(err)
	}
	e, _, err := DecodeWriteSet(b)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// TestChecklist9UniqueIndexes inserts rows with different primary keys.
func TestChecklist9UniqueIndexes(t *testing.T) {
	primary := Index{Name: PrimaryIndex, Schema: "s", Table: "t"}
	unique := Index{Name: "u", Schema: "s", Table: "t", Columns: 2}
	for _, test := range []struct {
		name string
		a, b []Part
		want Outcome
	}{
		{"equal", []Part{Int(1, 4), Bytes([]byte("x"))}, []Part{Int(1, 4), Bytes([]byte("x"))}, Conflict},
		{"different", []Part{Int(1, 4), Bytes([]byte("x"))}, []Part{Int(2, 4), Bytes([]byte("x"))}, Certified},
		{"NULL", []Part{Int(1, 4), Null()}, []Part{Int(1, 4), Null()}, Certified},
		{"bytes moved between parts", []Part{Bytes([]byte("a")), Bytes([]byte("bc"))}, []Part{Bytes([]byte("ab")), Bytes([]byte("c"))}, Certified},
		{"a zero byte", []Part{Bytes([]byte("a\x00")), Bytes(nil)}, []Part{Bytes([]byte("a")), Bytes(nil)}, Certified},
	} {
		c := New(group, roomy)
		for i, parts := range [][]Part{test.a, test.b} {
			ws := WriteSet{}
			ws.Write(primary, Int(int64(i), 4))
			ws.Write(unique, parts...)
			v := judge(c, gtid.Set{}, encoded(t, &ws))
			if i == 1 && v.Outcome != test.want {
				t.Errorf("%s: %+v, want %v", test.name, v, test.want)
			}
		}
	}
}

// TestChecklist10ForeignKeys lets children of a parent row meet each other and
// changes of the parent.
func TestChecklist10ForeignKeys(t *testing.T) {
	parent := Index{Name: PrimaryIndex, Schema: "s", Table: "parent"}
	child := Index{Name: PrimaryIndex, Schema: "s", Table: "child"}
	insert := func(id int64, of Part) Encoded {
		ws := WriteSet{}
		ws.Write(child, Int(id, 4))
		ws.Reference(parent, of)
		return encoded(t, &ws)
	}
	change := func(id int64) Encoded {
		ws := WriteSet{}
		ws.Write(parent, Int(id, 4))
		return encoded(t, &ws)
	}
	for name, test := range map[string]struct {
		first, second Encoded
		want          Outcome
	}{
		"two children of one parent":          {insert(1, Int(7, 4)), insert(2, Int(7, 4)), Certified},
		"a child of a parent that changes":    {change(7), insert(1, Int(7, 4)), Conflict},
		"a change of a parent with a child":   {insert(1, Int(7, 4)), change(7), Conflict},
		"a child of another parent":           {change(8), insert(1, Int(7, 4)), Certified},
		"children of none":                    {insert(1, Null()), insert(2, Null()), Certified},
		"one child twice, of two parents":     {insert(1, Int(7, 4)), insert(1, Int(8, 4)), Conflict},
		"a parent that changes, and no child": {change(7), insert(1, Null()), Certified},
	} {
		c := New(group, roomy)
		judge(c, gtid.Set{}, test.first)
		if v := judge(c, gtid.Set{}, test.second); v.Outcome != test.want {
			t.Errorf("%s: %+v, want %v", name, v, test.want)
		}
	}
}

// TestChecklist15And16Blocks numbers in blocks, by member, and hands them back at
// a view.
func TestChecklist15And16Blocks(t *testing.T) {
	s := roomy
	s.BlockSize = 10
	c := New(group, s)
	a, b := gtid.UUID{1}, gtid.UUID{2}
	take := func(member gtid.UUID, wish, want uint64) {
		t.Helper()
		r := &Request{Origin: member, Snapshot: c.Executed(), WriteSet: writes(Item(c.Sequence()))}
		if wish > 0 {
			r.GTID = numbered(wish)
		}
		if v := c.Certify(r); v.GTID != numbered(want) {
			t.Errorf("%+v, want number %d", v, want)
		}
	}
	take(a, 0, 1)
	take(b, 0, 11)
	take(a, 0, 2)
	take(b, 13, 13)
	take(b, 0, 12)
	take(b, 0, 14)
	c.View()
	take(b, 0, 3)
	take(a, 0, 15)
	s.BlockSize = 1
	c.Configure(s)
	take(a, 0, 4)
	take(b, 0, 5)
	if want := "00000000-0000-0000-0000-00000000000a:1-5:11-15"; c.Executed().String() != want {
		t.Errorf("executed %v, want %s", c.Executed(), want)
	}
}

// TestChecklist18And20Marks judges at a mark: by entries that are just before
// and after it, by snapshot versions that just reach it, do not, or are
// incomparable.
func TestChecklist18And20Marks(t *testing.T) {
	c := New(group, roomy)
	last := fill(t, c, 1, milestoneEvery/2, 1)
	c.Mark(last)
	mark := c.mark.sequence
	fill(t, c, last+1, 2, 1)
	for _, test := range []struct {
		name     string
		snapshot gtid.Set
		item     Item
		want     Verdict
	}{
		{"up to the mark, an entry from before", upTo(mark), Item(mark) << 32, Verdict{Outcome: Certified}},
		{"up to the mark, one from after", upTo(mark), Item(mark+1) << 32, lost(0, numbered(mark+1))},
		{"below the mark", upTo(mark - 1), 1, Verdict{Outcome: SnapshotTooOld}},
		{"below the mark, more after it", upTo(mark-1).AddInterval(group, "", mark+1, mark+2), 1, Verdict{Outcome: SnapshotTooOld}},
		{"nothing", gtid.Set{}, 1, Verdict{Outcome: SnapshotTooOld}},
		{"a hole after the mark", upTo(mark).AddInterval(group, "", mark+2, mark+2), Item(mark+1) << 32, lost(0, numbered(mark+1))},
	} {
		v := judge(c, test.snapshot, writes(test.item))
		if test.want.Outcome == Certified && v.Outcome == Certified {
			continue
		}
		if v != test.want {
			t.Errorf("%s: %+v, want %+v", test.name, v, test.want)
		}
	}
}

// TestChecklist21MarkAfterEach marks after every transaction: sequences have no
// holes, and no dependence is lost.
func TestChecklist21MarkAfterEach(t *testing.T) {
	c := New(group, roomy)
	writers := map[Item]uint64{}
	for i := range uint64(40) {
		list := itemsOf(milestoneEvery, func(j int) Item { return Item(i*7+uint64(j)) % 1500 })
		v := judge(c, c.Executed(), writes(list...))
		if v.Sequence != i+1 || v.LastCommitted >= v.Sequence {
			t.Fatalf("transaction %d: %+v", i+1, v)
		}
		for _, item := range list {
			if v.LastCommitted < writers[item] {
				t.Fatalf("transaction %d with %d %d runs beside %d", i+1, v.LastCommitted, v.Sequence, writers[item])
			}
			writers[item] = v.Sequence
		}
		c.EntryDone(i + 1)
		if c.Mark(i + 1); c.mark.sequence != i+1 {
			t.Fatalf("mark at %d after %d", c.mark.sequence, i+1)
		}
	}
}

// TestConflictMatrix tries every pair of kinds, with an earlier transaction
// that was seen and one that was not, of the same origin and another, by
// snapshot versions that are E(n) and that are not.
func TestConflictMatrix(t *testing.T) {
	loses := map[Kind][]Kind{
		Write:     {Write, Delta, Reference},
		Delta:     {Write, Reference},
		Reference: {Write, Delta},
		Read:      {Write, Delta},
	}
	origins := []gtid.UUID{group, foreign}
	for incoming := range Kind(Kinds) {
		for earlier := range Kind(Kinds) {
			for _, origin := range origins {
				for _, unseen := range []bool{false, true} {
					for _, odd := range []bool{false, true} {
						name := fmt.Sprintf("%v after %v of %v, unseen %v, odd %v", incoming, earlier, origin, unseen, odd)
						c := New(group, roomy)
						c.Certify(&Request{Origin: group, WriteSet: writes(1)})
						c.Certify(&Request{Origin: group, Snapshot: upTo(1), WriteSet: compose([]doing{{item: 2, kind: earlier}, {item: 3}})})
						snapshot := upTo(2)
						if unseen {
							snapshot = upTo(1)
						}
						if odd {
							snapshot = snapshot.AddInterval(foreign, "", 5, 6)
						}
						v := c.Certify(&Request{Origin: origin, Snapshot: snapshot, WriteSet: does(incoming, 2)})
						want := Verdict{
							Outcome: Conflict,
							Clash:   Clash{Item: 0, Range: -1, Incoming: incoming, Earlier: earlier, Winner: numbered(2), Member: group, Sequence: 2},
						}
						if conflict := unseen && slices.Contains(loses[incoming], earlier); conflict && v != want || !conflict && v.Outcome != Certified {
							t.Errorf("%s: %+v, conflict %v", name, v, conflict)
						}
					}
				}
			}
		}
	}
}

// TestRunsOnOneItem checks who wins when an item was touched many times.
func TestRunsOnOneItem(t *testing.T) {
	c := New(group, roomy)
	for _, kind := range []Kind{Write, Delta, Delta, Delta} { // 1 to 4
		judge(c, c.Executed(), does(kind, 1))
	}
	judge(c, upTo(1), does(Delta, 1)) // 5 has not seen the other deltas
	one := func(n uint64) gtid.Set { return gtid.Set{}.Add(numbered(n)) }
	for _, test := range []struct {
		name     string
		kind     Kind
		snapshot gtid.Set
		winner   uint64
	}{
		{"a delta that saw the write", Delta, upTo(1), 0},
		{"a delta that did not", Delta, gtid.Set{}, 1},
		{"a delta that saw other deltas only", Delta, upTo(5).Subtract(one(1)), 1},
		{"a reference that saw some", Reference, upTo(3), 5},
		{"a reference that lacks one in the middle", Reference, upTo(5).Subtract(one(3)), 4},
		{"a read that lacks the first", Read, upTo(5).Subtract(one(1)), 5},
		{"a write that saw all but one", Write, upTo(5).Subtract(one(2)), 4},
	} {
		v := judge(saved(t, c), test.snapshot, does(test.kind, 1))
		if got := v.Clash.Sequence; got != test.winner || (v.Outcome == Certified) != (test.winner == 0) {
			t.Errorf("%s: %+v, want to lose to %d", test.name, v, test.winner)
		}
	}
}

// TestGTIDsOutOfOrder certifies 1, 3, 2 and 4. After the third they look as if
// they had come in order. Who has 1 and 2 has not seen all that 2 saw.
func TestGTIDsOutOfOrder(t *testing.T) {
	c := New(group, roomy)
	for i, wish := range []gtid.GTID{{}, numbered(3), {}, {}} {
		c.Certify(&Request{Snapshot: c.Executed(), WriteSet: writes(Item(i)), GTID: wish})
		c.EntryDone(uint64(i) + 1)
	}
	for item, seen := range []bool{true, false, false, false} {
		v := judge(saved(t, c), upTo(2), writes(Item(item)))
		if got := judge(c, upTo(2), compose([]doing{{item: Item(item), kind: Read}, {item: Item(100 + item)}})); got.Outcome != v.Outcome {
			t.Errorf("item %d: %+v, after a restart %+v", item, got, v)
		}
		if (v.Outcome == Conflict) == seen {
			t.Errorf("item %d: %+v, seen %v", item, v, seen)
		}
	}
}

// TestRanges scans for written keys.
func TestRanges(t *testing.T) {
	c := New(group, roomy)
	judge(c, gtid.Set{}, compose([]doing{{1, Write, 1, "b"}, {2, Delta, 2, longKey}}))
	for _, test := range []struct {
		scan scan
		kind Kind
		want Outcome
	}{
		{scan{1, "", ""}, Write, Conflict},
		{scan{1, "b", "c"}, Write, Conflict},
		{scan{1, "a", "b"}, Write, Certified},
		{scan{1, "ba", ""}, Write, Certified},
		{scan{3, "", ""}, Write, Certified},
		{scan{2, longKey[:MaxPlace], ""}, Delta, Conflict},
		{scan{2, longKey + "z", ""}, Delta, Conflict}, // may be
		{scan{2, "", longKey[:MaxPlace]}, Delta, Certified},
	} {
		v := judge(saved(t, c), gtid.Set{}, compose([]doing{{item: 9}}, scan{4, "", ""}, test.scan))
		want := Verdict{Outcome: Conflict, Clash: Clash{Item: -1, Range: 1, Incoming: Read, Earlier: test.kind, Winner: numbered(1), Sequence: 1}}
		if test.want == Certified && v.Outcome != Certified || test.want == Conflict && v != want {
			t.Errorf("%+v: %+v, want %v", test.scan, v, test.want)
		}
		if v := judge(saved(t, c), upTo(1), compose(nil, test.scan)); v.Outcome != Certified {
			t.Errorf("%+v, seen: %+v", test.scan, v)
		}
	}
}

// TestForgottenKeys scans with snapshot versions older than what is remembered
// of written keys.
func TestForgottenKeys(t *testing.T) {
	s := roomy
	s.RangeWrites = 2
	c := New(group, s)
	for i := range Item(4) {
		judge(c, c.Executed(), writes(i))
	}
	for seen, want := range []Outcome{SnapshotTooOld, SnapshotTooOld, Certified, Certified, Certified} {
		if v := judge(saved(t, c), upTo(uint64(seen)), compose(nil, scan{5, "", ""})); v.Outcome != want {
			t.Errorf("%d of 4 writes seen, 2 are remembered: %+v, want %v", seen, v, want)
		}
		if v := judge(saved(t, c), upTo(uint64(seen)), does(Read, 100)); v.Outcome != Certified {
			t.Errorf("without a scan: %+v", v)
		}
	}
}
