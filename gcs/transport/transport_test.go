package transport

import (
	"bytes"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/concordatdb/concordat/gcs"
	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/proto/concordat/peer/v1"
)

func TestEveryKindArrives(t *testing.T) {
	a, b := start(t, 1), start(t, 2)
	a.dials(b)
	a.untilUp(t, 2, 1)
	want := []gcs.Message{
		{Kind: gcs.MessageRaft, Raft: &raftpb.Message{
			Type: raftpb.MsgApp.Enum(), To: new(uint64(2)), From: new(uint64(1)), Term: new(uint64(7)),
			Entries: []*raftpb.Entry{{Index: new(uint64(9)), Term: new(uint64(7)), Data: []byte("entry")}},
		}},
		{Kind: gcs.MessageFrame, Frame: []byte("frame")},
		{Kind: gcs.MessageRefusal, Refusal: gcs.Refusal{Session: 1, Seq: 2, Expected: 3, Leader: 4}},
		{Kind: gcs.MessageReport, Report: &gcs.Report{Delivered: 5, Applied: 6, Snapshot: 7}},
		{Kind: gcs.MessageLeave},
	}
	for i := range want {
		if !a.Send(2, &want[i]) {
			t.Fatalf("message %d was dropped", i)
		}
	}
	b.until(t, "all kinds", func() bool { return len(b.got[1]) == len(want) })
	for i, got := range b.messages(1) {
		gotBytes, err := gcs.AppendMessage(nil, &got)
		wantBytes, wantErr := gcs.AppendMessage(nil, &want[i])
		if err != nil || wantErr != nil || !bytes.Equal(gotBytes, wantBytes) {
			t.Errorf("message %d: got %+v, %v, want %+v, %v", i, got, err, want[i], wantErr)
		}
	}
}

// A burst of messages of all sizes arrives whole and in order, in both
// directions at once, in many batches.
func TestBurstKeepsOrder(t *testing.T) {
	const count = 20_000
	small := func(c *Config) { c.BatchBytes = 64 << 10 }
	a, b := start(t, 1, small), start(t, 2, small)
	a.dials(b)
	b.dials(a)
	a.untilUp(t, 2, 1)
	b.untilUp(t, 1, 1)
	for i := range count {
		size := []int{8, 60, 64, 130, 1000, 5000, 200_000}[min(i%7, 5+i%500/499)]
		if !a.Send(2, frame(i, size)) || !b.Send(1, frame(i, 20)) {
			t.Fatalf("message %d was dropped", i)
		}
	}
	a.until(t, "burst to a", func() bool { return len(a.got[2]) >= count })
	b.until(t, "burst to b", func() bool { return len(b.got[1]) >= count })
	if len(a.messages(2)) != count || len(b.messages(1)) != count {
		t.Fatalf("got %d and %d messages, want %d", len(a.messages(2)), len(b.messages(1)), count)
	}
	checkFrames(t, a.messages(2), 0)
	checkFrames(t, b.messages(1), 0)
}

func TestReconnectsAfterRestart(t *testing.T) {
	a, b := start(t, 1), start(t, 2)
	a.dials(b)
	a.untilUp(t, 2, 1)
	a.Send(2, frame(1, 0))
	b.until(t, "message before the restart", func() bool { return len(b.got[1]) == 1 })

	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	a.until(t, "end of the stream", func() bool { return len(a.downs[2]) > 0 })
	l, err := net.Listen("tcp", b.address)
	if err != nil {
		t.Fatal(err)
	}
	restarted := startOn(t, 2, l, func(c *Config) { c.Identity.Session = 2 })
	a.untilUp(t, 2, 2)
	a.Send(2, frame(2, 0))
	restarted.until(t, "message after the restart", func() bool { return len(restarted.got[1]) > 0 })
	checkFrames(t, restarted.messages(1), 2)
}

// A member that knows nobody can answer whoever dials it, for as long as that
// stream lasts.
func TestLearnsWhoDials(t *testing.T) {
	leader, joiner := start(t, 1), start(t, 2)
	if joiner.Send(1, frame(1, 0)) {
		t.Fatal("a message to an unknown peer was not dropped")
	}
	leader.dials(joiner)
	joiner.untilUp(t, 1, 1)
	if !joiner.Send(1, frame(7, 0)) {
		t.Fatal("the answer was dropped")
	}
	leader.until(t, "answer", func() bool { return len(leader.got[2]) == 1 })
	checkFrames(t, leader.messages(2), 7)

	if err := leader.Close(); err != nil {
		t.Fatal(err)
	}
	joiner.until(t, "end of the leader", func() bool { return joiner.knows(1) == false })
}

func (t *Transport) knows(id uint64) bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.peers[id] != nil
}

func TestLearnedPeersAreBounded(t *testing.T) {
	a := start(t, 1, func(c *Config) { c.MaxLearnedPeers = 1 })
	b, c := start(t, 2), start(t, 3)
	b.dials(a)
	b.untilUp(t, 1, 1)
	c.dials(a)
	c.refused(t, 1, peerpb.RefusalReason_REFUSAL_REASON_GROUP_FULL)
	a.dials(b, c)
	c.untilUp(t, 1, 1)
}

func TestSetPeersForgets(t *testing.T) {
	a, b := start(t, 1), start(t, 2)
	a.SetPeers(map[uint64]string{1: a.address, 2: b.address})
	if a.Send(1, frame(0, 0)) {
		t.Error("a message to oneself was not dropped")
	}
	a.untilUp(t, 2, 1)
	b.untilUp(t, 1, 1)
	a.SetPeers(nil) // b's stream is open, so it is still known
	if !a.Send(2, frame(1, 0)) {
		t.Error("a message to a peer whose stream is open was dropped")
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	a.until(t, "b forgotten", func() bool { return !a.knows(2) })
	if a.Send(2, frame(2, 0)) {
		t.Error("a message to a forgotten peer was not dropped")
	}
}

func TestPeerMoves(t *testing.T) {
	a, b := start(t, 1), start(t, 2)
	elsewhere := start(t, 2)
	a.dials(b)
	a.untilUp(t, 2, 1)
	a.dials(elsewhere)
	a.untilUp(t, 2, 2)
	a.Send(2, frame(3, 0))
	elsewhere.until(t, "message at the new address", func() bool { return len(elsewhere.got[1]) == 1 })
}

// deaf listens, and never answers.
func deaf(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.Addr().String()
}

func TestQueueIsBoundedByMessages(t *testing.T) {
	a := start(t, 1, func(c *Config) { c.QueueMessages, c.HandshakeTimeout = 10, time.Hour })
	a.SetPeers(map[uint64]string{2: deaf(t)})
	for i := range 10 {
		if !a.Send(2, frame(i, 0)) {
			t.Fatalf("message %d was dropped", i)
		}
	}
	if a.Send(2, frame(10, 0)) {
		t.Error("a message above the bound was not dropped")
	}
}

func TestQueueIsBoundedByBytes(t *testing.T) {
	a := start(t, 1, func(c *Config) { c.QueueBytes, c.MaxMessageBytes, c.HandshakeTimeout = 10_000, 10_000, time.Hour })
	a.SetPeers(map[uint64]string{2: deaf(t)})
	sent := 0
	for a.Send(2, frame(sent, 900)) {
		sent++
	}
	if want := 10_000 / (&gcs.Message{Frame: make([]byte, 900)}).Size(); sent != want {
		t.Errorf("the queue took %d messages, want %d", sent, want)
	}
}

func TestUnansweredDialGivesUp(t *testing.T) {
	a := start(t, 1, func(c *Config) { c.HandshakeTimeout = 10 * time.Millisecond })
	a.SetPeers(map[uint64]string{2: deaf(t)})
	a.until(t, "several attempts", func() bool { return len(a.downs[2]) >= 3 })
	a.Send(2, frame(0, 0))
	a.until(t, "another attempt", func() bool { return len(a.downs[2]) >= 5 })
	if q := a.peers[2].queue; !q.empty() {
		t.Error("a message outlived the attempt to connect")
	}
}

// A receiver that takes nothing holds the sender's messages in the sender's
// queue, until that is full; then everything that was accepted arrives.
func TestBackPressure(t *testing.T) {
	gate := make(chan struct{})
	a := start(t, 1, func(c *Config) { c.QueueBytes, c.BatchBytes, c.MaxMessageBytes = 1<<20, 16<<10, 64<<10 })
	b := start(t, 2, func(c *Config) { c.BatchBytes, c.MaxMessageBytes = 16<<10, 64<<10 })
	b.gate = gate
	a.dials(b)
	a.untilUp(t, 2, 1)
	sent := 0
	for a.Send(2, frame(sent, 1000)) {
		sent++
	}
	if len(b.messages(1)) != 0 {
		t.Fatal("the gate leaks")
	}
	close(gate)
	b.until(t, "all that was accepted", func() bool { return len(b.got[1]) == sent })
	checkFrames(t, b.messages(1), 0)
	if least := 1 << 20 / frame(0, 1000).Size(); sent < least {
		t.Errorf("only %d messages were accepted, the queue alone holds %d", sent, least)
	}
}

func TestOversizedMessageIsNotSent(t *testing.T) {
	a, b := start(t, 1, func(c *Config) { c.MaxMessageBytes = 1000 }), start(t, 2)
	a.dials(b)
	a.untilUp(t, 2, 1)
	if a.Send(2, frame(0, 1001)) {
		t.Error("an oversized frame was accepted")
	}
	a.logged(t, "message dropped", "above the limit of 1000")
	// The context is not part of Size, so this one is found when it is encoded.
	a.Send(2, &gcs.Message{Kind: gcs.MessageRaft, Raft: &raftpb.Message{Context: make([]byte, 5000)}})
	a.logged(t, "message dropped", "5004 bytes")
	a.Send(2, &gcs.Message{Kind: 99})
	a.logged(t, "message dropped", "kind 99")
	a.Send(2, frame(5, 900))
	b.until(t, "what came after", func() bool { return len(b.got[1]) == 1 })
	checkFrames(t, b.messages(1), 5)
}

func TestOversizedMessageIsRefused(t *testing.T) {
	a := start(t, 1)
	b := start(t, 2, func(c *Config) { c.MaxMessageBytes, c.BatchBytes = 10_000, 10_000 })
	a.dials(b)
	a.untilUp(t, 2, 1)
	a.Send(2, frame(0, 100_000))
	a.until(t, "refusal of the message", func() bool {
		return slices.ContainsFunc(a.downs[2], func(err error) bool {
			return strings.Contains(err.Error(), "larger than max")
		})
	})
	a.untilUp(t, 2, 2)
}

// Members of two incarnations do not talk; once both have changed, they do.
func TestSetIncarnation(t *testing.T) {
	a, b := start(t, 1), start(t, 2)
	a.dials(b)
	b.dials(a)
	a.untilUp(t, 2, 1)
	b.untilUp(t, 1, 1)
	next := gtid.UUID{0: 0x1c, 15: 2}
	a.setIncarnation(next)
	a.refused(t, 2, peerpb.RefusalReason_REFUSAL_REASON_WRONG_INCARNATION)
	b.refused(t, 1, peerpb.RefusalReason_REFUSAL_REASON_WRONG_INCARNATION)
	b.setIncarnation(next)
	a.untilUp(t, 2, 2)
	b.untilUp(t, 1, 2)
	a.Send(2, frame(4, 0))
	b.until(t, "message of the new incarnation", func() bool { return len(b.got[1]) == 1 })
}

// SetIncarnation waits for the handler to be rid of the old one.
func TestSetIncarnationWaitsForTheHandler(t *testing.T) {
	a, b := start(t, 1), start(t, 2)
	b.gate = make(chan struct{}) // never opened: Receive ends by its context
	a.dials(b)
	a.untilUp(t, 2, 1)
	a.Send(2, frame(1, 0))
	b.setIncarnation(gtid.UUID{0: 0x1c, 15: 2})
	if len(b.messages(1)) != 0 {
		t.Error("a message of the old incarnation was taken")
	}
	a.refused(t, 2, peerpb.RefusalReason_REFUSAL_REASON_WRONG_INCARNATION)
}

// Nothing that was queued under the old incarnation leaves under the new one.
func TestSetIncarnationEmptiesQueues(t *testing.T) {
	a := start(t, 1, func(c *Config) { c.HandshakeTimeout = time.Hour })
	a.SetPeers(map[uint64]string{2: deaf(t)})
	a.Send(2, frame(1, 0))
	a.setIncarnation(gtid.UUID{0: 0x1c, 15: 2})
	if q := a.peers[2].queue; !q.empty() {
		t.Error("a message of the old incarnation is still queued")
	}
}

func (q *queue) empty() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.msgs) == 0 && q.bytes == 0 && q.count == 0
}

// What a sender has taken counts until it is done, whatever is dropped
// meanwhile.
func TestQueueAccounts(t *testing.T) {
	q := newQueue(1<<20, 3)
	m := frame(0, 100)
	for range 2 {
		q.push(m)
	}
	taken := q.take(t.Context(), nil)
	q.push(m)
	if q.push(m) {
		t.Error("messages under way do not count")
	}
	q.drop()
	if q.count != 2 || q.bytes != 2*m.Size() {
		t.Errorf("%d messages of %d bytes count while 2 are under way", q.count, q.bytes)
	}
	q.done(taken)
	if !q.empty() {
		t.Errorf("%d messages of %d bytes count in an empty queue", q.count, q.bytes)
	}
}

// A peer that shows up is dialed at once, however long the pause.
func TestWhoDialsIsDialed(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	patient := start(t, 1, func(c *Config) { c.MinBackoff, c.MaxBackoff = time.Hour, time.Hour })
	patient.SetPeers(map[uint64]string{2: address})
	patient.until(t, "an attempt in vain", func() bool { return len(patient.downs[2]) == 1 })
	if l, err = net.Listen("tcp", address); err != nil {
		t.Fatal(err)
	}
	late := startOn(t, 2, l)
	late.dials(patient)
	patient.untilUp(t, 2, 1)
}

func TestCloseIsFinal(t *testing.T) {
	a, b := start(t, 1), start(t, 2)
	b.gate = make(chan struct{})
	a.dials(b)
	a.untilUp(t, 2, 1)
	a.Send(2, frame(1, 0))
	for range 2 {
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
	}
	b.dials(a)
	if b.Send(1, frame(1, 0)) {
		t.Error("a closed transport accepted a message")
	}
}

func TestPauses(t *testing.T) {
	p := pauses{shortest: 10, longest: 100}
	var got []time.Duration
	for _, jitter := range []float64{0, 0, 0.5, 0, 0, 0.999999} {
		got = append(got, p.next(jitter))
	}
	if want := []time.Duration{10, 20, 30, 80, 100, 51}; !slices.Equal(got, want) {
		t.Errorf("pauses are %v, want %v", got, want)
	}
	p.reset()
	if got := p.next(0); got != 10 {
		t.Errorf("the pause after a reset is %d", got)
	}
}

func TestValidate(t *testing.T) {
	_, err := New(Config{QueueBytes: 10, MaxMessageBytes: 20, MinBackoff: time.Hour})
	for _, want := range []string{
		"Identity.Group", "Identity.Member", "Identity.RaftID", "Listener", "Handler", "Address", "MaxMessageBytes is 20", "MinBackoff",
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not name %s: %v", want, err)
		}
	}
}
