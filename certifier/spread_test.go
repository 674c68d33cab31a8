package certifier

import (
	"bytes"
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"github.com/concordatdb/concordat/gtid"
)

// asked is the n-th of GTIDs that never touch.
func asked(n uint64) gtid.GTID { return gtid.GTID{UUID: foreign, Number: 10 * n} }

// spread certifies so many transactions that each ask for a GTID apart from
// all others.
func spread(t testing.TB, s Settings, n uint64) *Certifier {
	t.Helper()
	c := New(group, s)
	for i := uint64(1); i <= n; i++ {
		v := c.Certify(&Request{Snapshot: c.Executed(), WriteSet: writes(Item(i)), GTID: asked(i)})
		if v.Outcome != Certified {
			t.Fatalf("wish %d: %+v", i, v)
		}
		c.EntryDone(i)
	}
	return c
}

// TestGTIDSpread asks for GTIDs when there is room for none apart.
func TestGTIDSpread(t *testing.T) {
	for _, block := range []uint64{1, 1000} {
		s := roomy
		s.BlockSize = block
		full := spread(t, s, MaxGTIDIntervals-1)
		judge(full, full.Executed(), writes(1)) // 1 of the group
		for _, test := range []struct {
			name  string
			first []gtid.GTID // what is certified before
			wish  gtid.GTID
			item  Item
			want  Outcome
		}{
			{"apart", nil, asked(MaxGTIDIntervals), 9999, GTIDSpread},
			{"of another UUID", nil, gtid.GTID{UUID: gtid.UUID{1}, Number: 1}, 9999, GTIDSpread},
			{"of the group, apart", nil, numbered(5), 9999, GTIDSpread},
			{"the first under a tag", nil, gtid.GTID{Tag: "t"}, 9999, GTIDSpread},
			{"the last there can be", nil, gtid.GTID{UUID: foreign, Number: gtid.MaxNumber}, 9999, GTIDSpread},
			{"apart and in conflict", nil, asked(MaxGTIDIntervals), 7, Conflict},
			{"taken", nil, asked(3), 9999, GTIDTaken},
			{"below another", nil, gtid.GTID{UUID: foreign, Number: 9}, 9999, Certified},
			{"above another", nil, gtid.GTID{UUID: foreign, Number: 11}, 9999, Certified},
			{"automatic", nil, gtid.GTID{}, 9999, Certified},
			{"in a gap, then apart", []gtid.GTID{numbered(3), numbered(2)}, numbered(3), 9999, Certified},
		} {
			c := saved(t, full)
			for _, wish := range test.first {
				c.Certify(&Request{Snapshot: c.Executed(), WriteSet: writes(5000), GTID: wish})
			}
			state := appendState(t, c)
			for name, c := range map[string]*Certifier{"": c, ", restored": saved(t, c)} {
				snapshot := c.Executed()
				if test.want == Conflict {
					snapshot = gtid.Set{}
				}
				v := c.Certify(&Request{Snapshot: snapshot, WriteSet: writes(test.item), GTID: test.wish})
				if v.Outcome != test.want {
					t.Errorf("blocks of %d, %s%s: %+v, want %v", block, test.name, name, v, test.want)
				}
				if v.Outcome != Certified && (v.GTID != gtid.GTID{} || !bytes.Equal(appendState(t, c), state)) {
					t.Errorf("blocks of %d, %s%s: refused with %v, and the state is another", block, test.name, name, v.GTID)
				}
			}
		}
	}
}

// TestGTIDSpreadUnderTags fills the set with tags. Those that have numbers
// already go on, in blocks as well, unless a block begins apart.
func TestGTIDSpreadUnderTags(t *testing.T) {
	for _, block := range []uint64{1, 4} {
		s := roomy
		s.BlockSize = block
		c := New(group, s)
		for i := range MaxGTIDIntervals {
			v := c.Certify(&Request{Snapshot: c.Executed(), GTID: gtid.GTID{Tag: gtid.Tag(fmt.Sprintf("t%d", i))}})
			if v.Outcome != Certified {
				t.Fatalf("tag %d: %+v", i, v)
			}
		}
		other := Request{Origin: gtid.UUID{1}, Snapshot: c.Executed(), GTID: gtid.GTID{Tag: "t5"}}
		want := Certified
		if block > 1 {
			want = GTIDSpread // number 5, where 1 is the last
		}
		state := appendState(t, c)
		if v := c.Certify(&other); v.Outcome != want || want == GTIDSpread && !bytes.Equal(appendState(t, c), state) {
			t.Errorf("blocks of %d, another member under a tag: %+v, want %v", block, v, want)
		}
		for range 3 {
			if v := c.Certify(&Request{Snapshot: c.Executed(), GTID: gtid.GTID{Tag: "t7"}}); v.Outcome != Certified {
				t.Errorf("blocks of %d, under a tag that goes on: %+v", block, v)
			}
		}
		if v := c.Certify(&Request{Snapshot: c.Executed(), GTID: gtid.GTID{Tag: "more"}}); v.Outcome != GTIDSpread {
			t.Errorf("blocks of %d, another tag: %+v", block, v)
		}
		if v := c.Certify(&Request{Snapshot: c.Executed()}); v.Outcome != Certified {
			t.Errorf("blocks of %d, under no tag: %+v", block, v)
		}
		for _, n := range c.numberings {
			for in := range n.base.Intervals() {
				if in.UUID != group || in.Tag != n.tag {
					t.Fatalf("the numbering of %q keeps %+v", string(n.tag), in)
				}
			}
		}
		if want := MaxGTIDIntervals; block > 1 && len(c.numberings) != want+1 {
			t.Errorf("%d numberings, want those of %d tags and the one of none", len(c.numberings), want)
		}
	}
}

// TestGTIDSpreadIsCounted compares verdicts on wishes with the intervals that
// the executed set would have.
func TestGTIDSpreadIsCounted(t *testing.T) {
	state := appendState(t, spread(t, roomy, MaxGTIDIntervals-3))
	rapid.Check(t, func(t *rapid.T) {
		c, err := Restore(state, roomy)
		if err != nil {
			t.Fatal(err)
		}
		for range rapid.IntRange(1, 30).Draw(t, "wishes") {
			wish := gtid.GTID{UUID: foreign, Number: rapid.Uint64Range(1, 60).Draw(t, "number")}
			if rapid.Bool().Draw(t, "tagged") {
				wish = gtid.GTID{UUID: group, Tag: gtid.Tag(rapid.SampledFrom([]string{"a", "b", "c", "d"}).Draw(t, "tag"))}
			}
			id := wish
			for id.Number == 0 || wish.Number == 0 && c.Executed().Contains(id) {
				id.Number++
			}
			want := Certified
			before, after := intervals(c.Executed()), intervals(c.Executed().Add(id))
			switch {
			case c.Executed().Contains(id):
				want = GTIDTaken
			case after > before && after > MaxGTIDIntervals:
				want = GTIDSpread
			}
			v := c.Certify(&Request{Snapshot: c.Executed(), WriteSet: writes(1), GTID: wish})
			if v.Outcome != want || want == Certified && v.GTID != id {
				t.Fatalf("%v of %d intervals, %d with %v: %+v, want %v", wish, before, after, id, v, want)
			}
		}
	})
}
