package replica

import (
	"bytes"
	"slices"
	"testing"
	"testing/cryptotest"

	"github.com/concordatdb/concordat/certifier"
	"github.com/concordatdb/concordat/gtid"
)

// write commits n transactions of so many fresh items each, with time between.
func (w *world) write(n, items int) {
	for range n {
		m := w.members[0]
		first := certifier.Item(m.replica.Status().Sequence+1) << 32
		list := make([]certifier.Item, items)
		for i := range list {
			list[i] = first + certifier.Item(i)
		}
		m.step(m.transaction(1, m.position.Executed, "", list...))
		w.tick(2)
	}
}

// TestHistoryFollowsSnapshots checks that the group forgets what no snapshot
// needs, long before any limit, and refuses nobody for it.
func TestHistoryFollowsSnapshots(t *testing.T) {
	cryptotest.SetGlobalRandom(t, 1)
	w := newGroup(t, settings{})
	const n, items = 100, 500
	w.write(n, items)
	for _, m := range w.members {
		if got, most := m.replica.Status().History, n*items/2; got > most {
			t.Errorf("member %d holds a history of %d, more than %d", m.identity.RaftID, got, most)
		}
	}
	for _, a := range w.members[0].answers {
		if a.Verdict.Outcome != certifier.Certified {
			t.Errorf("answer %+v", a)
		}
	}
	sameHistory(t, w.members...)
}

// TestHistoryIsBounded has a member hold a snapshot open. The history is kept
// for it up to the limit and no further; then its transaction is refused, by
// all alike.
func TestHistoryIsBounded(t *testing.T) {
	cryptotest.SetGlobalRandom(t, 1)
	const limit, items = 16_000, 400
	w := newGroup(t, settings{historyItems: limit})
	w.write(1, items)
	m := w.members[2]
	m.pinned = m.position.Index
	snapshot := m.position.Executed
	w.write(limit/items/2, items)
	m.step(m.transaction(1, snapshot, "", 1))
	w.write(3*limit/items, items)
	m.step(m.transaction(2, snapshot, "", 2))
	w.write(40, items)
	var got []certifier.Outcome
	for _, a := range m.answers {
		got = append(got, a.Verdict.Outcome)
	}
	if want := []certifier.Outcome{certifier.Certified, certifier.SnapshotTooOld}; !slices.Equal(got, want) {
		t.Errorf("the old snapshot's transactions: %v, want %v", got, want)
	}
	for _, m := range w.members {
		// Between two marks come markTicks ticks, and half as many transactions.
		if got, most := m.replica.Status().History, limit+2*markTicks*items; got > most {
			t.Errorf("member %d holds a history of %d, more than %d", m.identity.RaftID, got, most)
		}
	}
	sameHistory(t, w.members...)
}

// TestMessagesThatAreNone broadcasts what no member of this version would. All
// pass it over, and what comes behind it is certified.
func TestMessagesThatAreNone(t *testing.T) {
	cryptotest.SetGlobalRandom(t, 1)
	w := newGroup(t, settings{})
	m := w.members[1]
	for _, msg := range [][]byte{{}, {0}, {kindTransaction}, {kindTransaction, 1, 2}, {kindMark}, {kindMark, 0x80}, {255, 1}} {
		m.replica.submit(localMessage{}, msg)
	}
	m.step(m.transaction(3, gtid.Set{}, "after", 1))
	w.tick(4)
	if len(m.answers) != 1 || m.answers[0].Verdict.Outcome != certifier.Certified {
		t.Errorf("answers %+v", m.answers)
	}
	for _, m := range w.members {
		if want := []string{"after"}; !slices.Equal(m.payloads(), want) {
			t.Errorf("member %d applied %v, want %v", m.identity.RaftID, m.payloads(), want)
		}
	}
	sameHistory(t, w.members...)
}

// TestLeave takes a member out of the group; the last one cannot go.
func TestLeave(t *testing.T) {
	cryptotest.SetGlobalRandom(t, 1)
	w := newGroup(t, settings{})
	for _, m := range w.members[1:] {
		m.step(LeaveAsked{Ticket: 1})
		w.tick(10)
		if m.state() != Removed {
			t.Fatalf("member %d is %v", m.identity.RaftID, m.state())
		}
	}
	last := w.members[0]
	last.step(LeaveAsked{Ticket: 2})
	last.tick(10)
	if len(last.leaves) != 1 || last.leaves[0].Ticket != 2 || last.leaves[0].Err == nil || last.state() != Online {
		t.Errorf("the last member is %v, and was answered %+v", last.state(), last.leaves)
	}
}

// TestLeaveWithdrawn takes a leave back while nobody has heard of it.
func TestLeaveWithdrawn(t *testing.T) {
	cryptotest.SetGlobalRandom(t, 1)
	w := newGroup(t, settings{})
	m := w.members[2]
	if e := m.replica.Step(LeaveAsked{Ticket: 1}); len(e.Messages) == 0 || len(e.Writes) != 0 {
		t.Fatalf("%d messages ask for the leave, with %d writes", len(e.Messages), len(e.Writes))
	}
	m.step(LeaveWithdrawn{}) // the messages are lost
	w.tick(20)
	if m.state() != Online {
		t.Errorf("the member is %v after it took its leave back", m.state())
	}
}

// TestLogIsCutBehindTheEngine has an engine that falls behind by several
// checkpoints: the log is cut as the engine becomes durable, not before. That
// it is cut at the right place is checked wherever a log is cut.
func TestLogIsCutBehindTheEngine(t *testing.T) {
	cryptotest.SetGlobalRandom(t, 1)
	w := newGroup(t, settings{checkpointBytes: 4 << 10})
	m := w.members[2]
	m.held = true
	w.load(0, 200)
	if n := len(m.saved) - m.flushed; n < 3 || m.log.cut != 0 {
		t.Fatalf("%d checkpoints before the engine is durable, log cut at %d", n, m.log.cut)
	}
	cuts := 0
	for len(m.tasks) > 0 {
		before := m.log.cut
		m.work(1)
		m.step()
		if m.log.cut > before {
			cuts++
		}
	}
	if want := len(m.saved) - 1; cuts != want {
		t.Errorf("log cut %d times over %d checkpoints, want %d", cuts, len(m.saved), want)
	}
	checkpoint := m.saved[len(m.saved)-1].Index
	m.release()
	m.restart(m.position.Index)
	for n := len(m.saved); len(m.saved) == n; {
		w.load(1000, 10)
	}
	if m.log.cut != checkpoint {
		t.Errorf("after a restart from %d the log is cut at %d with the next checkpoint", checkpoint, m.log.cut)
	}
}

// TestExportAfterRestart asks for a copy before the member has certified
// anything again. It can give one exactly when its engine is no further than
// its checkpoint.
func TestExportAfterRestart(t *testing.T) {
	cryptotest.SetGlobalRandom(t, 1)
	w := newGroup(t, settings{checkpointBytes: 4 << 10})
	w.load(0, 100)
	m := w.members[2]
	for m.position.Index == m.durable {
		w.load(100, 1)
	}
	checkpoint := m.saved[len(m.saved)-1]
	m.restart(m.position.Index)
	m.step(ExportAsked{Ticket: 1})
	m.restart(checkpoint.Index)
	m.step(ExportAsked{Ticket: 2})
	if len(m.exports) != 2 || m.exports[0].Checkpoint.Index != 0 {
		t.Fatalf("exports %+v, of which the first is of an engine ahead", m.exports)
	}
	if got := m.exports[1].Checkpoint; got.Index != checkpoint.Index || !bytes.Equal(got.Data, checkpoint.Data) {
		t.Errorf("export at %d is not the checkpoint at %d", got.Index, checkpoint.Index)
	}
}
