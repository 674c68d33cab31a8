package replica

import (
	"errors"
	"testing"
	"testing/cryptotest"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/concordatdb/concordat/certifier"
	"github.com/concordatdb/concordat/gcs"
	"github.com/concordatdb/concordat/gtid"
)

// TestLogIsNotCutUnderRaft restarts a member with a long log and a queue for
// its engine that holds one entry: all of the log is one portion of raft's, of
// which the engine makes checkpoint after checkpoint durable. An election
// comes in the middle, for which raft looks through the portion.
func TestLogIsNotCutUnderRaft(t *testing.T) {
	cryptotest.SetGlobalRandom(t, 1)
	m := newFounder(t, settings{})
	m.tick(40)
	const n = 200
	for i := range uint64(n) {
		m.step(m.transaction(i, gtid.Set{}, "payload", certifier.Item(i)))
	}
	end := m.position.Index
	m.settings = settings{applyBytes: 1, checkpointBytes: 1 << 10}
	m.held = true
	m.restart(0)
	m.tick(1)
	for m.position.Index < end/2 && len(m.tasks) > 0 {
		m.work(len(m.tasks))
		m.step()
	}
	if m.position.Index < end/2 || m.replica.durable == 0 || m.log.cut != 0 {
		t.Fatalf("the engine is at %d, durable at %d, the log is cut at %d", m.position.Index, m.replica.durable, m.log.cut)
	}
	m.tick(40)
	m.release()
	m.tick(40)
	if m.state() != Online || m.log.cut < end/2 {
		t.Errorf("%v with the log cut at %d of %d", m.state(), m.log.cut, end)
	}
}

// TestFailure has a member hear that its log lost something.
func TestFailure(t *testing.T) {
	cryptotest.SetGlobalRandom(t, 1)
	w := newGroup(t, settings{})
	m := w.members[2]
	if e := m.replica.Step(); e.Failure != nil {
		t.Fatal(e.Failure)
	}
	st := m.replica.Status()
	e := m.replica.Step(Received{From: 1, Message: gcs.Message{Kind: gcs.MessageRaft, Raft: &raftpb.Message{
		Type: raftpb.MsgHeartbeat.Enum(), From: new(uint64(1)), To: new(m.identity.RaftID),
		Term: new(st.Term), Commit: new(st.Delivered + 1),
	}}}, m.transaction(1, gtid.Set{}, "", 1))
	if !errors.Is(e.Failure, gcs.ErrLogLost) || len(e.Messages) != 0 {
		t.Errorf("the failure is %v, with %d messages", e.Failure, len(e.Messages))
	}
}

// TestLogIsKeptForThoseWhoNeedIt has a member fall behind under load. While it
// is heard, or clones, the leader keeps the log that it needs, up to a limit;
// the other members keep nothing for it.
func TestLogIsKeptForThoseWhoNeedIt(t *testing.T) {
	const checkpointBytes = 4 << 10
	for name, silent := range map[string]bool{"heard": false, "silent": true} {
		t.Run(name, func(t *testing.T) {
			cryptotest.SetGlobalRandom(t, 1)
			w := newGroup(t, settings{checkpointBytes: checkpointBytes})
			leader, other, behind := w.members[0], w.members[1], w.members[2]
			at := behind.replica.Status().Delivered
			w.members = w.members[:2] // the third one hears nothing
			size := 0
			for i := range uint64(2000) {
				before := leader.replica.sinceStart
				leader.step(leader.transaction(i, leader.position.Executed, "payload", certifier.Item(i)))
				size += int(leader.replica.sinceStart - before)
				if !silent {
					report := gcs.Message{Kind: gcs.MessageReport, Report: &gcs.Report{Delivered: at, Applied: at, Snapshot: at}}
					leader.step(Received{From: behind.identity.RaftID, Message: report})
				}
				w.tick(1)
				if size > keptCheckpoints/2*checkpointBytes && size < (keptCheckpoints-1)*checkpointBytes {
					if kept := leader.log.cut <= at; kept == silent {
						t.Fatalf("%d bytes after %d the log is cut at %d", size, at, leader.log.cut)
					}
					if other.log.cut <= at {
						t.Fatalf("a follower has cut its log at %d", other.log.cut)
					}
				}
			}
			most := uint64(keptCheckpoints+3) * checkpointBytes
			kept := uint64(0)
			for _, e := range leader.log.entries {
				kept += uint64(len(e.GetData()))
			}
			if leader.log.cut <= at || kept > most {
				t.Errorf("the log is cut at %d, %d bytes of it are kept, more than %d", leader.log.cut, kept, most)
			}
		})
	}
}
