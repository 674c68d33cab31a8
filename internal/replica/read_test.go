package replica

import (
	"slices"
	"strings"
	"testing"
	"testing/cryptotest"

	"github.com/concordatdb/concordat/certifier"
	"github.com/concordatdb/concordat/gcs"
	"github.com/concordatdb/concordat/gtid"
)

// tickets are those of the reads answered.
func (m *member) tickets() (all []uint64) {
	for _, a := range m.reads {
		all = append(all, a.Ticket)
	}
	return all
}

// A read at any member names a place at or above all that was acknowledged, and
// all who ask at once have one answer.
func TestRead(t *testing.T) {
	cryptotest.SetGlobalRandom(t, 1)
	w := newGroup(t, settings{})
	w.tick(4)
	first := w.members[0]
	for i := range uint64(5) {
		first.step(first.transaction(i, gtid.Set{}, "x", certifier.Item(i)))
		acknowledged := first.last().Index
		for _, m := range w.members {
			m.reads = nil
			m.step(ReadAsked{Ticket: 7}, ReadAsked{Ticket: 8}, ReadAsked{Ticket: 9})
			w.tick(1)
			if !slices.Equal(m.tickets(), []uint64{7, 8, 9}) || m.reads[0].Index < acknowledged || m.reads[0].Index != m.reads[2].Index {
				t.Errorf("member %d was answered %+v, acknowledged is %d", m.identity.RaftID, m.reads, acknowledged)
			}
		}
	}
}

// Who asks while a question is under way has an answer of its own, for the first
// may be older than what it wants to see.
func TestReadAfterRead(t *testing.T) {
	cryptotest.SetGlobalRandom(t, 1)
	w := newGroup(t, settings{})
	w.tick(4)
	first, second := w.members[0], w.members[1]
	w.cut = func(from, to *member, m gcs.Message) bool { return m.Kind == gcs.MessageReadIndex }
	second.step(ReadAsked{Ticket: 1})
	first.step(first.transaction(1, gtid.Set{}, "x", 1))
	acknowledged := first.last().Index
	second.step(ReadAsked{Ticket: 2})
	w.tick(1)
	if len(second.reads) > 0 {
		t.Fatalf("answered %+v by nobody", second.reads)
	}
	w.cut = nil
	w.tick(6)
	if !slices.Equal(second.tickets(), []uint64{1, 2}) || second.reads[1].Index < acknowledged {
		t.Errorf("answered %+v, acknowledged is %d", second.reads, acknowledged)
	}
}

// A leader that was left behind answers nobody, and its followers ask the next.
func TestReadAtLeaderChange(t *testing.T) {
	cryptotest.SetGlobalRandom(t, 1)
	w := newGroup(t, settings{})
	w.tick(4)
	first, second, third := w.members[0], w.members[1], w.members[2]
	w.isolate(first)
	first.step(ReadAsked{Ticket: 1})
	second.step(ReadAsked{Ticket: 2})
	w.until(100, "led by another one", func() bool { return second.replica.Status().Leading || third.replica.Status().Leading })
	if len(first.reads) > 0 {
		t.Errorf("a leader by itself answered %+v", first.reads)
	}
	second.answers = nil
	second.step(second.transaction(1, gtid.Set{}, "new", 1))
	w.until(40, "answered", func() bool { return len(second.answers) > 0 && len(second.reads) > 0 })
	acknowledged := second.last().Index
	if !slices.Equal(second.tickets(), []uint64{2}) {
		t.Errorf("a follower of the lost leader was answered %+v", second.reads)
	}
	first.step(ReadAsked{Ticket: 3})
	w.tick(20)
	if len(first.reads) > 0 {
		t.Errorf("cut off, the old leader answered %+v", first.reads)
	}
	w.cut = nil
	w.until(60, "answered", func() bool { return len(first.reads) == 2 })
	if !slices.Equal(first.tickets(), []uint64{1, 3}) || first.reads[1].Index < acknowledged {
		t.Errorf("the old leader was answered %+v, acknowledged is %d", first.reads, acknowledged)
	}
}

// Who waits no longer takes no room.
func TestReadWithdrawn(t *testing.T) {
	cryptotest.SetGlobalRandom(t, 1)
	w := newGroup(t, settings{})
	w.tick(4)
	second := w.members[1]
	w.isolate(second)
	for ticket := uint64(1); ticket <= 100; ticket++ {
		second.step(ReadAsked{Ticket: ticket})
		if ticket%10 != 0 {
			second.step(ReadWithdrawn{Ticket: ticket})
		}
	}
	second.step(ReadWithdrawn{Ticket: 1000})
	if n := len(second.replica.reads.calls); n != 10 {
		t.Errorf("%d reads are kept", n)
	}
	w.cut = nil
	w.until(60, "answered", func() bool { return len(second.reads) == 10 })
	if got := second.tickets(); !slices.IsSorted(got) || got[0] != 10 || len(second.replica.reads.calls) != 0 {
		t.Errorf("answered were %v", got)
	}
}

// A member that is the whole group answers itself, also when it has just started
// and does not know yet what it had acknowledged.
func TestReadOfOne(t *testing.T) {
	m := newFounder(t, settings{})
	m.step(ReadAsked{Ticket: 1})
	m.tick(40)
	m.step(m.transaction(1, gtid.Set{}, "x", 1))
	acknowledged := m.last().Index
	m.log.hard.Commit = 1 // what is committed need not be on the disk
	m.restart(0)
	m.step(ReadAsked{Ticket: 2})
	m.world.until(60, "answered", func() bool { return len(m.reads) == 2 })
	if a := m.reads[1]; a.Ticket != 2 || a.Index < acknowledged {
		t.Errorf("answered %+v, acknowledged is %d", a, acknowledged)
	}
}

// A leader that has much to apply delivers its first entry late. That is nothing
// to those who show more than it does.
func TestReadUnderALeaderWithABacklog(t *testing.T) {
	cryptotest.SetGlobalRandom(t, 1)
	w := newGroup(t, settings{applyBytes: 4 << 10})
	w.tick(4)
	second, third := w.members[1], w.members[2]
	second.held = true
	for i := range uint64(20) {
		third.step(third.transaction(i, gtid.Set{}, strings.Repeat("p", 1<<10), certifier.Item(i)))
	}
	w.lead(second)
	third.step(third.transaction(99, gtid.Set{}, "last", 99))
	acknowledged := third.last().Index
	if at := second.replica.Status().Delivered; at >= acknowledged-10 {
		t.Fatalf("the leader has delivered %d of %d", at, acknowledged)
	}
	third.step(ReadAsked{Ticket: 1})
	w.tick(4)
	if len(third.reads) != 1 || third.reads[0].Index < acknowledged {
		t.Errorf("answered %+v, acknowledged is %d", third.reads, acknowledged)
	}
	second.release()
	w.tick(4)
	sameHistory(t, w.members...)
}

// An answer that comes late is one to those who asked before it was given, and not
// to those who have asked since.
func TestLateAnswer(t *testing.T) {
	cryptotest.SetGlobalRandom(t, 1)
	w := newGroup(t, settings{})
	w.tick(4)
	first, second := w.members[0], w.members[1]
	var late []gcs.Message
	w.cut = func(_, _ *member, m gcs.Message) bool {
		if m.Kind == gcs.MessageReadIndex {
			late = append(late, m)
		}
		return m.Kind == gcs.MessageReadIndex
	}
	second.step(ReadAsked{Ticket: 1})
	first.step(first.transaction(1, gtid.Set{}, "x", 1))
	acknowledged := first.last().Index
	second.step(ReadAsked{Ticket: 2})
	if len(late) != 1 || late[0].Index >= acknowledged {
		t.Fatalf("late are %+v, acknowledged is %d", late, acknowledged)
	}
	second.step(Received{From: first.identity.RaftID, Message: late[0]})
	if !slices.Equal(second.tickets(), []uint64{1}) {
		t.Errorf("answered %+v", second.reads)
	}
}
