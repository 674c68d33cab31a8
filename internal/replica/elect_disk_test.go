package replica

import (
	"strings"
	"testing"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/concordatdb/concordat/gcs"
)

// A primary whose disk hangs is heard, and acknowledges nothing: another member
// takes its place, whether the old one led or not.
func TestPrimaryWithHungDisk(t *testing.T) {
	for _, leads := range []bool{true, false} {
		w, first, second, third := elections(t, settings{})
		if !leads {
			w.lead(third)
			w.cut = func(_, _ *member, m gcs.Message) bool { // the lead stays
				return m.Kind == gcs.MessageRaft && m.Raft.GetType() == raftpb.MsgTimeoutNow
			}
		}
		first.hangs = true
		first.step(first.transaction(1, first.position.Executed, "x", 7))
		w.until(gcs.DefaultStallTicks+4*DefaultFailoverTicks, "another primary", func() bool { return second.replica.Status().Election.Epoch == 2 })
		if r := second.epochs[len(second.epochs)-1].Reason; !strings.Contains(r, "disk") {
			t.Errorf("the reason is %q", r)
		}
		w.cut, first.hangs = nil, false
		first.write()
		w.tick(2 * DefaultFailoverTicks)
		w.wantPrimary(second, 2)
		sameHistory(t, w.members...)
	}
}
