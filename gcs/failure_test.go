package gcs

import (
	"errors"
	"testing"
	"testing/cryptotest"

	"go.etcd.io/raft/v3/raftpb"
)

// A member whose disk lost what it had acknowledged hears from the leader that
// it was committed. It fails, says nothing more, and the others go on.
func TestLostLogIsNoticed(t *testing.T) {
	cryptotest.SetGlobalRandom(t, 1)
	w := newWorld(t)
	w.form(3)
	w.load(w.member(1), 10)
	w.run(reportTicks)
	m := w.member(3)
	w.crash(m)
	end := uint64(len(m.log.entries))
	m.log.entries = m.log.entries[:end-5]
	m.log.synced.Commit = end - 5
	w.start(m)
	w.run(2)
	if err := m.group.Failure(); !errors.Is(err, ErrLogLost) {
		t.Fatalf("the failure is %v", err)
	}
	w.wire = nil
	m.group.Submit([]byte("more"))
	for range 100 {
		w.tick(m)
	}
	if len(w.wire) != 0 || m.group.Delivered() > end {
		t.Errorf("a member that failed says %+v", w.wire)
	}
	w.load(w.member(1), 1)
	w.run(2)
	if st := w.member(2).group.Status(); st.Delivered <= end {
		t.Errorf("the others do not go on: %+v", st)
	}
}

// What a member has in its memory and not yet on its disk is not lost: a
// heartbeat may overtake the writes.
func TestWritesUnderWayAreNotLost(t *testing.T) {
	w, leader, follower := pairOf(t)
	w.submit(w.member(1), "x")
	leader.Flush()
	for _, o := range leader.Messages(nil) {
		follower.Receive(1, o.Message)
	}
	beat := &raftpb.Message{
		Type: raftpb.MsgHeartbeat.Enum(), From: new(uint64(1)), To: new(uint64(2)), Term: new(uint64(2)), Commit: new(uint64(5)),
	}
	follower.Receive(1, Message{Kind: MessageRaft, Raft: beat})
	if err := follower.Failure(); err != nil {
		t.Fatal(err)
	}
	beat.Commit = new(uint64(6))
	follower.Receive(1, Message{Kind: MessageRaft, Raft: beat})
	if err := follower.Failure(); !errors.Is(err, ErrLogLost) {
		t.Errorf("the failure is %v, for a commit index after the log", err)
	}
}

// A heartbeat that comes too late, or to a leader, says nothing about the log.
func TestHeartbeatsOfThePastAreHarmless(t *testing.T) {
	_, leader, follower := pairOf(t)
	for _, g := range []*Group{leader, follower} {
		g.Receive(3-g.id.RaftID, Message{Kind: MessageRaft, Raft: &raftpb.Message{
			Type: raftpb.MsgHeartbeat.Enum(), From: new(3 - g.id.RaftID), To: new(g.id.RaftID), Term: new(uint64(1)), Commit: new(uint64(99)),
		}})
		if err := g.Failure(); err != nil {
			t.Error(err)
		}
	}
}

// A leader does not believe that a member has more of its log than there is.
func TestAcknowledgementBeyondTheLog(t *testing.T) {
	w, leader, _ := pairOf(t)
	leader.Receive(2, Message{Kind: MessageRaft, Raft: &raftpb.Message{
		Type: raftpb.MsgAppResp.Enum(), From: new(uint64(2)), To: new(uint64(1)), Term: new(uint64(2)), Index: new(uint64(99)),
	}})
	if got := leader.Status().Dropped; got != 1 {
		t.Errorf("%d messages were dropped", got)
	}
	w.cut[[2]uint64{1, 2}] = true
	w.load(w.member(1), 3)
	w.run(1)
	if got := leader.Delivered(); got != 4 {
		t.Errorf("%d is delivered, and the other member has 4", got)
	}
}
