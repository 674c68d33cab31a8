package replica

import (
	"strings"
	"testing"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/concordatdb/concordat/certifier"
	"github.com/concordatdb/concordat/gcs"
)

// A primary that is heard and does not come to serve is replaced.
func TestUnreadyPrimary(t *testing.T) {
	w, first, second, _ := elections(t, settings{})
	w.lead(second)
	w.cut = func(_, _ *member, m gcs.Message) bool { // the lead stays
		return m.Kind == gcs.MessageRaft && m.Raft.GetType() == raftpb.MsgTimeoutNow
	}
	w.load(0, 30)
	w.tick(10)
	first.held = true
	first.restart(0)
	w.until(2*DefaultFailoverTicks+10, "another primary", func() bool { return second.replica.Status().Election.Epoch == 2 })
	w.wantPrimary(second, 2)
	if r := second.epochs[len(second.epochs)-1].Reason; !strings.Contains(r, "RECOVERING") || !second.replica.Status().Leading {
		t.Errorf("the reason is %q", r)
	}
	first.release()
	w.tick(20)
	if first.state() != Online {
		t.Errorf("the old primary is %v", first.state())
	}
	w.wantPrimary(second, 2)
}

// A restart that is quick costs the primary nothing.
func TestQuickRestart(t *testing.T) {
	w, first, _, _ := elections(t, settings{checkpointBytes: 4 << 10})
	w.load(0, 60)
	first.restart(first.durable)
	w.tick(3 * DefaultFailoverTicks)
	w.wantPrimary(first, 1)
	if got := first.commit(first.transaction(1, first.position.Executed, "x", 7777)); got != certifier.Certified {
		t.Errorf("after the restart: %v", got)
	}
	sameHistory(t, w.members...)
}

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
