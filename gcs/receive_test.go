package gcs

import (
	"testing"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
)

// pairOf returns a world of two members, the first of which leads. Their logs
// end at index 4, in term 2.
func pairOf(t *testing.T) (w *world, leader, follower *Group) {
	t.Helper()
	w = newWorld(t)
	w.form(2)
	return w, w.member(1).group, w.member(2).group
}

// entriesAt are entries of some terms, from an index on.
func entriesAt(index uint64, terms ...uint64) []*raftpb.Entry {
	var es []*raftpb.Entry
	for i, term := range terms {
		es = append(es, &raftpb.Entry{Index: new(index + uint64(i)), Term: new(term)})
	}
	return es
}

// raft trusts what it is told, so what no member says must not reach it. Each
// of these either makes raft panic or changes what it does.
func TestReceiveIgnoresWhatRaftMustNotHear(t *testing.T) {
	appends := func(entries []*raftpb.Entry) *raftpb.Message {
		return &raftpb.Message{Type: raftpb.MsgApp.Enum(), Index: new(uint64(4)), LogTerm: new(uint64(2)), Entries: entries}
	}
	for name, m := range map[string]*raftpb.Message{
		"a gap":                   appends(entriesAt(6, 2)),
		"a step back":             appends(entriesAt(1, 2)),
		"a gap inside":            appends(append(entriesAt(5, 2), entriesAt(7, 2)...)),
		"terms that fall":         appends(entriesAt(5, 3, 2)),
		"terms before the log":    appends(entriesAt(5, 1)),
		"terms of the future":     appends(entriesAt(5, 9)),
		"no entry":                appends([]*raftpb.Entry{nil}),
		"a request to read":       {Type: raftpb.MsgReadIndex.Enum()},
		"an answer to read":       {Type: raftpb.MsgReadIndexResp.Enum(), Entries: entriesAt(4, 2)},
		"a request to forget":     {Type: raftpb.MsgForgetLeader.Enum()},
		"a request for the lead":  {Type: raftpb.MsgTransferLeader.Enum()},
		"a proposal":              {Type: raftpb.MsgProp.Enum(), Entries: entriesAt(0, 0)},
		"a short acknowledgement": {Type: raftpb.MsgHeartbeatResp.Enum(), Context: []byte("short")},
		"a local message":         {Type: raftpb.MsgHup.Enum()},
		"an unknown message":      {Type: new(raftpb.MessageType(99))},
	} {
		t.Run(name, func(t *testing.T) {
			w, leader, follower := pairOf(t)
			for _, c := range []struct {
				to   *Group
				from uint64
			}{{leader, 2}, {follower, 1}} {
				before := c.to.Status()
				m.From, m.To = new(c.from), new(c.to.id.RaftID)
				for _, term := range []uint64{3, 2, 0} {
					m.Term = new(term)
					c.to.Receive(c.from, Message{Kind: MessageRaft, Raft: m})
				}
				c.to.Flush()
				after := c.to.Status()
				if before.Term != after.Term || before.Leader != after.Leader {
					t.Errorf("member %d was in term %d under %d, is in term %d under %d",
						c.to.id.RaftID, before.Term, before.Leader, after.Term, after.Leader)
				}
			}
			w.run(3)
			if got := w.history[5]; got != "" {
				t.Errorf("delivered at 5: %s", got)
			}
			if st := leader.Status(); !st.Leading || st.Term != 2 {
				t.Errorf("the leader's status is %+v", st)
			}
		})
	}
}

// A raft message is for the member it names, and from the member that sends it.
func TestReceiveIgnoresWhatIsNotForItself(t *testing.T) {
	_, _, follower := pairOf(t)
	for _, c := range []struct{ says, from, to uint64 }{{3, 1, 2}, {1, 3, 2}, {1, 1, 3}, {1, raft.None, 2}} {
		follower.Receive(c.says, Message{Kind: MessageRaft, Raft: &raftpb.Message{
			Type: raftpb.MsgHeartbeat.Enum(), From: new(c.from), To: new(c.to), Term: new(uint64(9)),
		}})
		if got := follower.Status().Term; got != 2 {
			t.Fatalf("%d, from %d to %d, moved the term to %d", c.says, c.from, c.to, got)
		}
	}
	follower.Receive(1, Message{Kind: MessageRaft})
	follower.Receive(1, Message{Kind: 99})
	follower.Receive(1, Message{Kind: MessageReport, Report: &Report{Delivered: 3}})
	follower.Receive(1, Message{Kind: MessageReport})
	if got := follower.reports[1].Delivered; got != 3 {
		t.Errorf("a report that is not there took the place of one that was, with %d", got)
	}
	if got := follower.Status().Term; got != 2 {
		t.Fatalf("nothing moved the term to %d", got)
	}
}

// Reports are kept of members alone, for there may be any number of others.
func TestReportsOfStrangersAreNotKept(t *testing.T) {
	_, leader, _ := pairOf(t)
	for from := range uint64(1000) {
		leader.Receive(from+10, Message{Kind: MessageReport, Report: &Report{Delivered: 1}})
	}
	if len(leader.reports) > 2 {
		t.Errorf("%d reports are kept in a view of two", len(leader.reports))
	}
}

// Two members that both left do not tell each other so forever.
func TestRemovedIsNotAnswered(t *testing.T) {
	_, leader, _ := pairOf(t)
	leader.departed.add(7)
	leader.Receive(7, Message{Kind: MessageRemoved})
	if got := leader.Messages(nil); len(got) != 0 {
		t.Errorf("the answer is %+v", got)
	}
	leader.Receive(7, Message{Kind: MessageReport})
	if got := leader.Messages(nil); len(got) != 1 || got[0].To != 7 || got[0].Message.Kind != MessageRemoved {
		t.Errorf("the answer is %+v", got)
	}
}
