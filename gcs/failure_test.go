package gcs

import (
	"errors"
	"testing"
	"testing/cryptotest"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/concordatdb/concordat/gtid"
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

// forced is the entry by which a test forces a membership.
func forced(t *testing.T, term, index uint64, members ...Member) *raftpb.Entry {
	t.Helper()
	e, err := ForcedEntry(term, index, force(members...))
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// A log that goes on after the incarnation that the identity names is not
// served. One that begins before it is, and so is one that has yet to get there.
func TestLogOfAnotherIncarnation(t *testing.T) {
	cryptotest.SetGlobalRandom(t, 1)
	w := newWorld(t)
	w.form(1)
	m := w.member(1)
	w.load(m, 1)
	end := uint64(len(m.log.entries))
	m.log.write(LogWrite{
		HardState: &raftpb.HardState{Term: new(uint64(9)), Commit: new(end + 1)},
		Entries:   []*raftpb.Entry{forced(t, 9, end+1, online(1))},
		Sync:      true,
	})
	run := func(incarnation gtid.UUID, c Checkpoint, commit uint64) (*Group, error) {
		id := m.identity()
		id.Session, id.Incarnation = id.Session+1, incarnation
		hard := HardState{Term: 9, Commit: commit}
		g, err := New(Config{Identity: id, Log: &m.log, HardState: hard, Checkpoint: c, ElectionTicks: 10, Limits: DefaultLimits()})
		if err != nil {
			return nil, err
		}
		g.Flush()
		for _, ok := g.NextDelivery(); ok; _, ok = g.NextDelivery() {
		}
		return g, g.Failure()
	}
	if g, err := run(uuid(200), Checkpoint{}, end+1); !errors.Is(err, ErrOtherGroup) || g.View().ID != 1 {
		t.Errorf("the group went on without the member: %v in %s", err, g.View())
	}
	for _, incarnation := range []gtid.UUID{uuid(201), uuid(202), {}} {
		for _, commit := range []uint64{end, end + 1} {
			g, err := run(incarnation, Checkpoint{}, commit)
			if want := 1 + commit - end; err != nil || g.View().ID != want {
				t.Errorf("incarnation %s: %v in %s, want view %d", incarnation, err, g.View(), want)
			}
		}
	}
}

// What is committed only the leader knows that is acknowledged here. One
// heartbeat of anybody else neither ends a member nor commits anything.
func TestHeartbeatsOfOthersCommitNothing(t *testing.T) {
	w, leader, follower := pairOf(t)
	w.submit(w.member(1), "x")
	leader.Flush()
	for _, o := range leader.Messages(nil) {
		follower.Receive(1, o.Message)
	}
	w.pump(w.member(2)) // it has entry 5, and does not know it to be committed
	for _, c := range []struct{ from, term, commit uint64 }{{7, 2, 5}, {7, 2, 99}, {7, 9, 5}, {8, 10, 99}} {
		m := &raftpb.Message{
			Type: raftpb.MsgHeartbeat.Enum(), From: new(c.from), To: new(uint64(2)), Term: new(c.term), Commit: new(c.commit),
		}
		follower.Receive(c.from, Message{Kind: MessageRaft, Raft: m})
		w.pump(w.member(2))
		if err := follower.Failure(); err != nil || follower.Delivered() != 4 {
			t.Fatalf("%+v: delivered up to %d, the failure is %v", c, follower.Delivered(), err)
		}
		if m.GetCommit() != c.commit {
			t.Fatal("the sender's message was changed")
		}
	}
	if got := follower.Status(); got.Term != 10 || got.Leader != 8 {
		t.Errorf("a new leader is not known by its heartbeat: %+v", got)
	}
}

// That a member is out it believes of those whom it asks.
func TestStrangersTakeNobodyOut(t *testing.T) {
	_, _, follower := pairOf(t)
	follower.Receive(7, Message{Kind: MessageRemoved, Removed: Expelled})
	if follower.Removed() {
		t.Error("a member that is not in the view took this one out")
	}
	follower.Receive(1, Message{Kind: MessageRemoved, Removed: Expelled})
	if !follower.Removed() || follower.RemovedBy() != Expelled {
		t.Error("it does not hear that it is out")
	}

	// One that has delivered nothing yet asks who leads.
	w := newWorld(t)
	w.form(2)
	m := w.add(3)
	w.start(m)
	m.group.Receive(2, Message{Kind: MessageRemoved, Removed: Expelled})
	if m.group.Removed() {
		t.Error("somebody who does not lead took out a newcomer")
	}
	m.group.Receive(1, Message{Kind: MessageRaft, Raft: &raftpb.Message{
		Type: raftpb.MsgHeartbeat.Enum(), From: new(uint64(1)), To: new(uint64(3)), Term: new(uint64(2)),
	}})
	w.pump(m)
	m.group.Receive(1, Message{Kind: MessageRemoved, Removed: Expelled})
	if !m.group.Removed() {
		t.Error("a newcomer does not hear from the leader that it is out")
	}
}
