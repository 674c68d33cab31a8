package certifier

import (
	"bytes"
	"testing"

	"pgregory.net/rapid"

	"github.com/concordatdb/concordat/gtid"
)

// TestContinue checks that a group which goes on with the data of another one takes
// what those executed for seen by everybody who may commit, and counts on from it.
func TestContinue(t *testing.T) {
	group := gtid.UUID{5}
	rapid.Check(t, func(t *rapid.T) {
		var executed gtid.Set
		for range rapid.IntRange(0, 4).Draw(t, "intervals") {
			first := rapid.Uint64Range(1, 50).Draw(t, "first")
			uuid := rapid.SampledFrom([]gtid.UUID{group, {6}}).Draw(t, "uuid")
			executed = executed.AddInterval(uuid, "", first, first+rapid.Uint64Range(0, 20).Draw(t, "more"))
		}
		c, err := Continue(group, executed)
		if err != nil {
			t.Fatal(err)
		}
		c.Configure(Settings{HistoryItems: 100, HistoryBytes: 1 << 20, RangeWrites: 10, BlockSize: 1})
		if err := c.check(); err != nil {
			t.Fatal(err)
		}
		state, err := c.AppendState(nil)
		if err != nil {
			t.Fatal(err)
		}
		again, err := Restore(state, c.settings)
		if err != nil {
			t.Fatal(err)
		}
		if other, err := again.AppendState(nil); err != nil || !bytes.Equal(other, state) {
			t.Fatalf("state %x comes back as %x, %v", state, other, err)
		}
		n := executed.Count()
		for i, c := range []*Certifier{c, again} {
			ws := &WriteSet{}
			ws.Write(Index{Name: PrimaryIndex, Schema: "s", Table: "t"}, Uint(1, 8))
			encoded, err := ws.AppendBinary(nil)
			if err != nil {
				t.Fatal(err)
			}
			set, _, err := DecodeWriteSet(encoded)
			if err != nil {
				t.Fatal(err)
			}
			if n > 0 {
				if v := c.Certify(&Request{WriteSet: set}); v.Outcome != SnapshotTooOld {
					t.Fatalf("%d: one that has seen nothing is %v", i, v.Outcome)
				}
			}
			v := c.Certify(&Request{WriteSet: set, Snapshot: executed})
			if v.Outcome != Certified || v.Sequence != n+1 || executed.Contains(v.GTID) || v.GTID.UUID != group {
				t.Fatalf("%d: the first is %+v behind %v", i, v, executed)
			}
			if !c.Executed().Equal(executed.Add(v.GTID)) {
				t.Fatalf("%d: executed %v", i, c.Executed())
			}
		}
	})
	if _, err := Continue(group, gtid.Set{}.AddInterval(group, "", 1, gtid.MaxNumber)); err == nil {
		t.Error("more than can be counted goes on")
	}
}
