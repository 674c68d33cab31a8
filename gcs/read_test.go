package gcs

import (
	"slices"
	"testing"
	"testing/cryptotest"

	"go.etcd.io/raft/v3/raftpb"
)

// reading is a group of n that 1 leads, with something in its log.
func reading(t *testing.T, n uint64) *world {
	t.Helper()
	cryptotest.SetGlobalRandom(t, 1)
	w := newWorld(t)
	w.form(n)
	w.load(w.member(1), 3)
	w.settle()
	return w
}

// take removes from the wire what it returns.
func (w *world) take(is func(e envelope) bool) []envelope {
	var taken []envelope
	w.wire = slices.DeleteFunc(w.wire, func(e envelope) bool {
		if is(e) {
			taken = append(taken, e)
		}
		return is(e)
	})
	return taken
}

// confirms reports whether a message answers for a round of reading.
func confirms(e envelope) bool {
	return e.msg.Kind == MessageRaft && e.msg.Raft.GetType() == raftpb.MsgHeartbeatResp && len(e.msg.Raft.GetContext()) > 0
}

func isKind(kind MessageKind) func(e envelope) bool {
	return func(e envelope) bool { return e.msg.Kind == kind }
}

// open is the batches that a member has no answer to, ascending.
func (m *member) open() []uint64 {
	var batches []uint64
	for b := range m.asked { // order-free: sorted below
		batches = append(batches, b)
	}
	slices.Sort(batches)
	return batches
}

// Every member, a RECOVERING one too, is answered without a tick, and those who
// ask together in one batch.
func TestRead(t *testing.T) {
	w := reading(t, 2)
	w.start(w.add(3))
	w.join(w.member(3), w.member(1))
	w.settle()
	if got := w.member(1).group.View().online(); got != 2 || !has(w.member(3).group.View(), 3) {
		t.Fatalf("the view is %s", w.member(1).group.View())
	}
	for _, m := range w.members {
		first := w.ask(m)
		if again := w.ask(m); first != 1 || again != first {
			t.Errorf("member %d asks in batches %d and %d", m.n, first, again)
		}
		w.pump(m)
		if next := w.ask(m); next != 2 {
			t.Errorf("member %d asks in batch %d while the first is under way", m.n, next)
		}
	}
	w.settle()
	for _, m := range w.members {
		if got := m.open(); got != nil {
			t.Errorf("member %d has no answer to %v", m.n, got)
		}
	}
}

// Callers wait for an answer, not for its size: the next batch leaves in the same
// step in which the one before comes back.
func TestNextBatchLeavesAtOnce(t *testing.T) {
	w := reading(t, 3)
	m := w.member(2)
	w.ask(m)
	w.pump(m)
	w.ask(m)
	w.pump(m)
	if got := w.take(isKind(MessageRead)); len(got) != 1 || got[0].msg.Read != (ReadID{Session: 1, Batch: 1}) {
		t.Fatalf("it asks %+v", got)
	}
	m.group.Receive(1, Message{Kind: MessageReadIndex, Read: ReadID{Session: 1, Batch: 1}, Index: 1 << 40})
	w.pump(m)
	if got := w.take(isKind(MessageRead)); len(got) != 1 || got[0].msg.Read != (ReadID{Session: 1, Batch: 2}) {
		t.Errorf("then it asks %+v", got)
	}
}

// Who asks while a round is under way is not answered by it: what was committed
// since it began would be missing.
func TestLateRequestWaitsForTheNextRound(t *testing.T) {
	for _, late := range []uint64{1, 2} {
		w := reading(t, 3)
		first, third := w.member(1), w.member(3)
		before := first.group.Delivered()
		w.ask(third)
		w.pump(third)
		for _, e := range w.take(isKind(MessageRead)) {
			w.hand(e) // the round begins
		}
		w.take(func(e envelope) bool { return e.to == 3 })
		for _, e := range w.take(func(envelope) bool { return true }) {
			w.hand(e)
		}
		held := w.take(confirms)
		if len(held) != 1 {
			t.Fatalf("%d members answer for the round", len(held))
		}
		w.load(first, 1)
		w.settle()
		w.ask(w.member(late))
		w.pump(w.member(late))
		for _, e := range w.take(isKind(MessageRead)) {
			w.hand(e)
		}
		w.hand(held[0])
		answers := w.take(isKind(MessageReadIndex))
		if len(answers) != 1 || answers[0].to != 3 || answers[0].msg.Index != before {
			t.Errorf("the first round answers %+v", answers)
		}
		if got := w.member(late).open(); len(got) != 1 {
			t.Errorf("member %d is answered by a round that began before it asked", late)
		}
		w.wire = append(w.wire, answers...)
		w.settle()
		for _, m := range w.members {
			if got := m.open(); got != nil {
				t.Errorf("member %d has no answer to %v", m.n, got)
			}
		}
	}
}

// A leader that is cut off does not answer, itself included, though nothing has
// told it that another one leads.
func TestDeposedLeaderDoesNotAnswer(t *testing.T) {
	w := reading(t, 3)
	first := w.member(1)
	w.cut[[2]uint64{1, 2}], w.cut[[2]uint64{1, 3}] = true, true
	for range 40 {
		w.tick(w.member(2))
		w.tick(w.member(3))
		w.settle()
	}
	second := w.member(2)
	if !second.leading {
		second = w.member(3)
	}
	w.load(second, 3)
	w.settle()
	if !first.leading || !second.leading || second.group.Delivered() <= first.group.Delivered() {
		t.Fatalf("no leader has been deposed: %+v, %+v", first.group.Status(), second.group.Status())
	}
	w.ask(first)
	w.pump(first)
	first.group.Receive(5-second.n, Message{Kind: MessageRead, Read: ReadID{Session: 1, Batch: 1}})
	w.pump(first)
	if got := w.take(isKind(MessageReadIndex)); got != nil || first.open() == nil {
		t.Fatalf("the deposed leader answers others with %+v, itself %v", got, first.open() == nil)
	}
	w.settle()
	clear(w.cut)
	w.run(2)
	if first.leading || first.open() != nil || first.group.rounds.waiting != nil || first.group.rounds.in != nil {
		t.Errorf("after it was told: leads %v, unanswered %v, %+v", first.leading, first.open(), first.group.rounds)
	}
}

// A leader that has been told of another one and has not looked since forwards
// nothing, and answers nobody.
func TestLeaderThatHasJustBeenToldAsksNobody(t *testing.T) {
	w := reading(t, 3)
	first := w.member(1)
	first.group.Receive(2, Message{Kind: MessageRaft, Raft: &raftpb.Message{
		Type: raftpb.MsgHeartbeat.Enum(), From: new(uint64(2)), To: new(uint64(1)), Term: new(uint64(9)),
	}})
	w.ask(first)
	first.group.Receive(3, Message{Kind: MessageRead, Read: ReadID{Session: 1, Batch: 1}})
	w.pump(first)
	for _, e := range w.wire {
		if e.msg.Kind == MessageReadIndex || e.msg.Kind == MessageRaft && e.msg.Raft.GetType() == raftpb.MsgReadIndex {
			t.Errorf("it says %+v", e)
		}
	}
	if got := w.take(isKind(MessageRead)); len(got) != 1 || got[0].to != 2 {
		t.Errorf("it asks %+v", got)
	}
}

// What is lost is asked again after a few ticks.
func TestLostReadsAreAskedAgain(t *testing.T) {
	for name, lost := range map[string]func(e envelope) bool{
		"question": isKind(MessageRead),
		"answer":   isKind(MessageReadIndex),
		"round":    confirms,
		"anything": func(envelope) bool { return true },
	} {
		t.Run(name, func(t *testing.T) {
			w := reading(t, 3)
			m := w.member(2)
			w.ask(m)
			w.pump(m)
			for range 3 {
				w.take(lost)
				for _, e := range w.take(func(envelope) bool { return true }) {
					w.hand(e)
				}
			}
			w.wire = nil
			if m.open() == nil {
				t.Fatal("nothing was lost")
			}
			w.run(readTicks)
			if got := m.open(); got != nil {
				t.Errorf("there is no answer to %v after %d ticks", got, readTicks)
			}
		})
	}
}

// Under a new leader what has no answer is asked at once, and under nobody
// callers still join.
func TestNewLeaderIsAskedAtOnce(t *testing.T) {
	w := reading(t, 3)
	second := w.member(2)
	w.ask(second)
	w.pump(second)
	w.wire = nil
	w.crash(w.member(1))
	second.group.since = second.group.ticks
	lead := func(id, term uint64) {
		second.group.Receive(id, Message{Kind: MessageRaft, Raft: &raftpb.Message{
			Type: raftpb.MsgHeartbeat.Enum(), From: new(id), To: new(uint64(2)), Term: new(term),
		}})
		w.pump(second)
	}
	lead(3, 8)
	if got := w.take(isKind(MessageRead)); len(got) != 1 || got[0].to != 3 || got[0].msg.Read.Batch != 1 {
		t.Errorf("the new leader is asked %+v", got)
	}
	second.group.Receive(3, Message{Kind: MessageReadIndex, Read: ReadID{Session: 1, Batch: 1}, Index: 1 << 40})
	w.pump(second)
	for second.group.leader != 0 {
		w.tick(second)
	}
	w.wire = nil
	a := w.ask(second)
	w.pump(second)
	if b := w.ask(second); a != b {
		t.Errorf("without a leader batch %d was sent", a)
	}
	lead(3, 20)
	if got := w.take(isKind(MessageRead)); len(got) != 1 || got[0].msg.Read.Batch != a {
		t.Errorf("the leader is asked %+v", got)
	}
}

// A member that starts anew is not answered with what was asked before: its
// batches count from 1 again.
func TestAnswerToAnEarlierRun(t *testing.T) {
	w := reading(t, 3)
	third := w.member(3)
	w.ask(third)
	w.pump(third)
	for len(w.wire) > 0 && w.wire[0].msg.Kind != MessageReadIndex {
		e := w.wire[0]
		w.wire = w.wire[1:]
		w.hand(e)
	}
	stale := w.take(isKind(MessageReadIndex))
	if len(stale) != 1 {
		t.Fatalf("the answer is %+v", stale)
	}
	w.crash(third)
	w.load(w.member(1), 3)
	w.settle()
	w.start(third)
	w.ask(third)
	w.run(1)
	w.take(isKind(MessageReadIndex))
	third.group.asking.asked = 1
	third.group.answers = nil
	w.hand(stale[0])
	if got := third.group.Reads(nil); got != nil || third.group.asking.asked != 1 {
		t.Errorf("an answer to an earlier run counts: %+v", got)
	}
}

// Only what is under way is answered, and once.
func TestAnswersNobodyWaitsFor(t *testing.T) {
	w := reading(t, 2)
	m := w.member(2)
	say := func(batch uint64) []ReadAnswer {
		m.group.Receive(1, Message{Kind: MessageReadIndex, Read: ReadID{Session: 1, Batch: batch}, Index: 9})
		return m.group.Reads(nil)
	}
	if got := say(0); got != nil {
		t.Errorf("without a question: %+v", got)
	}
	m.group.Read()
	if got := say(1); got != nil {
		t.Errorf("before it was sent: %+v", got)
	}
	m.group.Flush()
	if got := say(2); got != nil {
		t.Errorf("for a later one: %+v", got)
	}
	if got := say(1); !slices.Equal(got, []ReadAnswer{{1, 9}}) {
		t.Errorf("for this one: %+v", got)
	}
	if got := say(1); got != nil {
		t.Errorf("again: %+v", got)
	}
}

// Strangers, and members that do not lead, are not listened to.
func TestReadsOfStrangers(t *testing.T) {
	w := reading(t, 3)
	for _, c := range []struct{ to, from uint64 }{{1, 7}, {2, 3}} {
		m := w.member(c.to)
		m.group.Receive(c.from, Message{Kind: MessageRead, Read: ReadID{Session: 1, Batch: 1}})
		w.pump(m)
		if r := m.group.rounds; r.open || r.waiting != nil || len(w.wire) != 0 {
			t.Errorf("member %d asked by %d: %+v, %+v", c.to, c.from, r, w.wire)
		}
	}
}

// Who goes while a round is under way, or waits for the next, is not answered.
func TestReadsOfAMemberThatGoes(t *testing.T) {
	for _, behind := range []bool{false, true} {
		w := reading(t, 4)
		first, fourth := w.member(1), w.member(4)
		if behind {
			w.ask(first)
			w.pump(first)
		}
		w.ask(fourth)
		w.pump(fourth)
		for _, e := range w.take(isKind(MessageRead)) {
			w.hand(e)
		}
		first.group.Change(Change{Kind: Removed, Member: online(4)})
		w.pump(first)
		w.take(func(e envelope) bool { return e.to == 4 })
		for len(w.wire) > 0 {
			w.take(confirms)
			for _, e := range w.take(func(envelope) bool { return true }) {
				w.hand(e)
			}
		}
		if r := first.group.rounds; has(first.group.View(), 4) || slices.ContainsFunc(append(r.in, r.waiting...), func(q request) bool { return q.from == 4 }) {
			t.Fatalf("%s, and there are %+v", first.group.View(), r)
		}
		for range 2 {
			w.tick(first)
			for _, e := range w.take(func(envelope) bool { return true }) {
				if e.to == 4 && e.msg.Kind == MessageReadIndex {
					t.Errorf("member 4 is out and told %+v", e.msg)
				}
				w.hand(e)
			}
		}
		w.settle()
		if got := first.open(); got != nil {
			t.Errorf("the leader has no answer to %v", got)
		}
	}
}

// A member that is alone has acknowledged more than it remembers to be committed.
// It answers only when it knows.
func TestReadOfOneVoter(t *testing.T) {
	w := reading(t, 1)
	m := w.member(1)
	end := m.group.Delivered()
	w.crash(m)
	m.log.synced.Commit = end - 2
	w.start(m)
	for !m.group.Status().Leading {
		m.group.Tick()
		m.group.Flush()
		for _, write := range m.group.Writes(nil) {
			if m.log.write(write.LogWrite); !m.group.Status().Leading {
				m.group.Written(write.Responses)
			}
			m.group.Flush()
		}
	}
	m.stalled = true // so that its first entry is not committed
	w.ask(m)
	w.pump(m)
	if m.open() == nil || m.group.rounds.open || m.group.Status().Delivered != end-2 {
		t.Fatalf("answered at %d: %+v", m.group.Delivered(), m.group.rounds)
	}
	w.resume(m)
	w.run(2 * resendTicks)
	if got := m.open(); got != nil || m.group.Delivered() < end {
		t.Errorf("there is no answer to %v at %d, the log ends after %d", got, m.group.Delivered(), end)
	}
	if r := m.group.rounds; r.number == 0 || r.begun != 0 {
		t.Errorf("the rounds of one voter are %+v", r)
	}
}
