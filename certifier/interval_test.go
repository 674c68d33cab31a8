package certifier

import (
	"testing"

	"pgregory.net/rapid"
)

// TestIntervals walks through the shapes of a schedule. Every transaction has
// seen all before it, so each is certified and only the intervals speak.
func TestIntervals(t *testing.T) {
	type step struct {
		items         []Item
		lastCommitted uint64
	}
	for name, steps := range map[string][]step{
		"independent": {{[]Item{1}, 0}, {[]Item{2}, 0}, {[]Item{3, 4}, 0}},
		"chain":       {{[]Item{1}, 0}, {[]Item{1}, 1}, {[]Item{1}, 2}},
		"diamond":     {{[]Item{1, 2}, 0}, {[]Item{1}, 1}, {[]Item{2}, 1}, {[]Item{1, 2}, 3}},
		"last of many": {
			{[]Item{1}, 0}, {[]Item{2}, 0}, {[]Item{3}, 0}, {[]Item{3, 1, 2}, 3}, {[]Item{2}, 4}, {[]Item{4}, 0},
		},
		"an item twice":           {{[]Item{1, 1}, 0}, {[]Item{2, 2, 2}, 0}, {[]Item{2, 1, 2}, 2}},
		"barrier on both sides":   {{[]Item{1}, 0}, {[]Item{2}, 0}, {nil, 2}, {[]Item{3}, 3}, {[]Item{1}, 3}, {[]Item{3}, 4}},
		"barriers in a row":       {{nil, 0}, {nil, 1}, {nil, 2}, {[]Item{1}, 3}},
		"barrier before a chain":  {{[]Item{1}, 0}, {nil, 1}, {[]Item{1}, 2}, {[]Item{1}, 3}, {[]Item{2}, 2}},
		"barrier after a barrier": {{nil, 0}, {[]Item{1}, 1}, {nil, 2}, {[]Item{1}, 3}},
	} {
		c := New(group, roomy)
		for i, s := range steps {
			v := judge(c, c.Executed(), writes(s.items...))
			if v.Outcome != Certified || v.Sequence != uint64(i)+1 || v.LastCommitted != s.lastCommitted {
				t.Errorf("%s: transaction %d has %d %d, %v; want %d %d",
					name, i+1, v.LastCommitted, v.Sequence, v.Outcome, s.lastCommitted, i+1)
			}
		}
	}
}

// TestIntervalAcrossMark checks that what was forgotten counts as touching
// everything, without a hole in the sequences.
func TestIntervalAcrossMark(t *testing.T) {
	c := New(group, roomy)
	last := fill(t, c, 1, milestoneEvery/2+3, 1)
	fill(t, c, last+1, 5, 1)
	sequence := c.Sequence()
	c.Mark(last)
	for i, want := range []uint64{milestoneEvery / 2, milestoneEvery / 2, sequence + 1} {
		list := []Item{Item(i)}
		if i == 2 {
			list[0] = 0
		}
		v := judge(c, c.Executed(), writes(list...))
		if v.LastCommitted != want || v.Sequence != sequence+uint64(i)+1 {
			t.Errorf("transaction %d after the mark has %d %d, want %d %d",
				i, v.LastCommitted, v.Sequence, want, sequence+uint64(i)+1)
		}
	}
}

// TestIntervalsByKind checks who waits for whom on one item.
func TestIntervalsByKind(t *testing.T) {
	for _, test := range []struct {
		kinds []Kind
		want  []uint64
	}{
		{[]Kind{Write, Write, Write}, []uint64{0, 1, 2}},
		{[]Kind{Write, Delta, Delta, Delta}, []uint64{0, 1, 2, 3}},
		{[]Kind{Write, Reference, Reference, Reference}, []uint64{0, 1, 1, 1}},
		{[]Kind{Reference, Reference, Write, Reference, Reference}, []uint64{0, 0, 2, 3, 3}},
		{[]Kind{Delta, Reference, Reference, Delta, Reference}, []uint64{0, 1, 1, 3, 4}},
		{[]Kind{Reference, Delta, Write, Write}, []uint64{0, 1, 2, 3}},
	} {
		c := New(group, roomy)
		for i, kind := range test.kinds {
			v := judge(c, c.Executed(), compose([]doing{{item: 1, kind: kind}, {item: Item(100 + i), kind: Write}}))
			if v.LastCommitted != test.want[i] {
				t.Errorf("%v: the one at %d waits for %d, want %d", test.kinds, i+1, v.LastCommitted, test.want[i])
			}
		}
	}
}

// TestSharingIsDependence checks, whatever was marked or restored between,
// that of two transactions that share an item the later one depends on the
// earlier, unless both refer to it, and that a barrier depends on all and all
// on it.
func TestSharingIsDependence(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := newHistory(true)
		var verdicts []Verdict
		for range rapid.IntRange(2, 80).Draw(t, "steps") {
			switch rapid.SampledFrom([]string{"certify", "certify", "certify", "entry", "mark", "restart"}).Draw(t, "step") {
			case "certify":
				v := h.try(t, &Request{Snapshot: h.c.Executed(), WriteSet: h.writeSet(t)})
				if v.Outcome != Certified {
					t.Fatalf("who has seen everything gets %+v", v)
				}
				verdicts = append(verdicts, v)
			case "entry":
				h.entryDone(t)
			case "mark":
				h.markSomewhere(t)
			case "restart":
				h.restart(t)
			}
		}
		for j, v := range verdicts {
			if v.Sequence != uint64(j)+1 || v.LastCommitted >= v.Sequence {
				t.Fatalf("transaction %d has %d %d", j, v.LastCommitted, v.Sequence)
			}
			later := &h.certified[j]
			for i := range h.certified[:j] {
				earlier := &h.certified[i]
				if (later.barrier || earlier.barrier || earlier.shares(later)) && v.LastCommitted < verdicts[i].Sequence {
					t.Fatalf("transaction %d with %d %d runs beside %d, of which it depends",
						j, v.LastCommitted, v.Sequence, verdicts[i].Sequence)
				}
			}
		}
	})
}
