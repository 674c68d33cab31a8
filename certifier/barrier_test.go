package certifier

import (
	"testing"

	"github.com/concordatdb/concordat/gtid"
)

// TestReferencesSayNothing certifies transactions that refer and read, and do
// not say what they change.
func TestReferencesSayNothing(t *testing.T) {
	for _, test := range []struct {
		kinds []Kind
		want  bool
	}{
		{nil, true},
		{[]Kind{Reference}, true},
		{[]Kind{Reference, Read}, true},
		{[]Kind{Read}, true},
		{[]Kind{Reference, Write}, false},
		{[]Kind{Delta}, false},
	} {
		var doings []doing
		for i, kind := range test.kinds {
			doings = append(doings, doing{item: Item(10 + i), kind: kind, space: 1})
		}
		ws := compose(doings)
		if ws.Barrier() != test.want {
			t.Errorf("%v: barrier %v", test.kinds, ws.Barrier())
		}
		c := New(group, roomy)
		judge(c, c.Executed(), writes(1))
		judge(c, c.Executed(), ws)
		for name, c := range map[string]*Certifier{"": c, ", restored": saved(t, c)} {
			read := judge(c, upTo(1), compose([]doing{{item: 50, kind: Read}, {item: 51, kind: Write}}))
			want := Verdict{Outcome: Conflict, Clash: Clash{Item: -1, Range: -1, Incoming: Read, Winner: numbered(2), Sequence: 2}}
			if test.want && read != want || !test.want && read.Outcome != Certified {
				t.Errorf("%v%s: who has read and not seen it gets %+v", test.kinds, name, read)
			}
		}
		c = saved(t, c)
		last := uint64(0)
		if test.want {
			last = 2
		}
		if v := judge(c, c.Executed(), writes(77)); v.LastCommitted != last {
			t.Errorf("%v: another one depends on %d, want %d", test.kinds, v.LastCommitted, last)
		}
	}
	c := New(group, roomy)
	judge(c, c.Executed(), does(Reference, 1))
	if v := judge(c, gtid.Set{}, writes(1)); v.Outcome != Conflict || v.Clash.Earlier != Reference {
		t.Errorf("a write of what a barrier refers to: %+v", v)
	}
}
