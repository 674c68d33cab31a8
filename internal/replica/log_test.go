package replica

import (
	"testing"
	"testing/cryptotest"

	"github.com/concordatdb/concordat/certifier"
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
