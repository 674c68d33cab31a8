package transport

import (
	"context"
	"errors"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/concordatdb/concordat/gcs"
	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/proto/concordat/peer/v1"
)

// reborn gives the node another raft id.
func (n node) reborn(id uint64) {
	identity := n.Transport.identity().Identity
	identity.RaftID, identity.Session = id, 1
	if err := n.SetIdentity(identity); err != nil {
		panic(err)
	}
}

// A member that comes back with another raft id is not taken for the earlier
// one, in either direction, and is reached under the new one.
func TestSetIdentityRaftID(t *testing.T) {
	a, b := start(t, 1), start(t, 2)
	a.dials(b)
	b.dials(a)
	a.untilUp(t, 2, 1)
	b.untilUp(t, 1, 1)
	a.reborn(9)
	b.refused(t, 1, peerpb.RefusalReason_REFUSAL_REASON_NOT_THIS_MEMBER)
	a.untilUp(t, 2, 2)
	a.Send(2, frame(4, 0))
	b.until(t, "message of the new member", func() bool { return len(b.got[9]) == 1 })
	b.SetPeers(map[uint64]string{9: a.address})
	b.untilUp(t, 9, 1)
	b.Send(9, frame(5, 0))
	a.until(t, "message to the new member", func() bool { return len(a.got[2]) == 1 })
	if got := b.messages(1); len(got) != 0 {
		t.Errorf("as the earlier member it said %v", got)
	}
}

// A raft id that was a peer's is no peer's any more once it is one's own.
func TestSetIdentityIsNoPeer(t *testing.T) {
	a := start(t, 1)
	a.SetPeers(map[uint64]string{9: deaf(t)})
	a.reborn(9)
	if a.knows(9) || a.Send(9, frame(1, 0)) {
		t.Error("the member is its own peer")
	}
}

// SetIdentity returns when the streams that this member feeds are gone too,
// even one whose receiver takes nothing.
func TestSetIdentityWaitsForStreams(t *testing.T) {
	b := start(t, 2)
	b.gate = make(chan struct{})
	a := start(t, 1)
	a.dials(b)
	a.untilUp(t, 2, 1)
	for i := 0; a.Send(2, frame(i, 1<<20)); i++ {
	}
	a.Transport.mu.Lock()
	p := a.peers[2]
	a.Transport.mu.Unlock()
	p.mu.Lock()
	over := p.over
	p.mu.Unlock()
	a.reborn(9)
	select {
	case <-over:
	default:
		t.Error("the stream of the earlier identity is still there")
	}
	if q := p.queue; !q.empty() {
		t.Error("messages of the earlier identity still count")
	}
	close(b.gate)
}

// The same identity again changes nothing; another group is no identity for
// this member.
func TestSetIdentityAgain(t *testing.T) {
	a, b := start(t, 1), start(t, 2)
	a.dials(b)
	a.untilUp(t, 2, 1)
	if err := a.SetIdentity(a.cfg.Identity); err != nil {
		t.Fatal(err)
	}
	a.Send(2, frame(1, 0))
	b.until(t, "message", func() bool { return len(b.got[1]) == 1 })
	a.recorder.mu.Lock()
	defer a.recorder.mu.Unlock()
	if len(a.downs[2]) != 0 {
		t.Errorf("the stream ended: %v", a.downs[2])
	}
	for _, wrong := range []gcs.Identity{
		{Group: gtid.UUID{1}, Member: gtid.UUID{1}, RaftID: 1},
		{Group: testGroup, RaftID: 1},
		{Group: testGroup, Member: gtid.UUID{1}},
	} {
		if err := a.SetIdentity(wrong); err == nil || a.Transport.identity().Identity != a.cfg.Identity {
			t.Errorf("%+v was accepted, %v", wrong, err)
		}
	}
}

// What is pushed once the stream is to end does not leave on it.
func TestQueueOfEndedStream(t *testing.T) {
	q := newQueue(1<<20, 3)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	q.push(frame(0, 100))
	if taken := q.take(ctx, nil); taken != nil {
		t.Errorf("took %v", taken)
	}
}

// A UUID is one member's. Who comes back from the same address under a new raft
// id ends what is left of the earlier one; anybody else is told who has it.
func TestOneStreamPerUUID(t *testing.T) {
	b := start(t, 2)
	client := rawClient(t, b)
	as := func(address string) func(*peerpb.Hello) {
		return func(h *peerpb.Hello) {
			h.Identity.Member = helloTo(b, 1).GetHello().GetIdentity().GetMember()
			h.Identity.Address = address
		}
	}
	first := connectRaw(t, client, helloTo(b, 1, as("10.0.0.1:7400")))
	welcomed(t, first)
	refusedHello(t, client, helloTo(b, 5, as("10.0.0.2:7400")), peerpb.RefusalReason_REFUSAL_REASON_IDENTITY_TAKEN)
	b.logged(t, "peer refused", `raft id 1 at "10.0.0.1:7400"`, `raft id 5 at "10.0.0.2:7400"`)
	if b.knows(5) || !b.knows(1) {
		t.Error("the copy got in")
	}

	second := connectRaw(t, client, helloTo(b, 5, as("10.0.0.1:7400")))
	welcomed(t, second)
	ends(t, first, codes.Unavailable)
	if b.knows(1) || !b.knows(5) {
		t.Error("the member is still known as the earlier one")
	}
	if err := second.Send(&peerpb.ConnectRequest{Messages: [][]byte{{5}}}); err != nil {
		t.Fatal(err)
	}
	b.until(t, "message of the member that came back", func() bool { return len(b.got[5]) == 1 })

	own := func(h *peerpb.Hello) { h.Identity.Member = b.cfg.Identity.Member[:] }
	refusedHello(t, client, helloTo(b, 7, own), peerpb.RefusalReason_REFUSAL_REASON_IDENTITY_TAKEN)
	b.logged(t, "peer refused", "goes by the UUID of raft id 2")
}

// A stream that is to end is nobody's present one from then on, however long it
// takes to end.
func TestSupersededStreamIsNobodys(t *testing.T) {
	b := start(t, 2)
	hello := helloTo(b, 5).GetHello()
	var member gtid.UUID
	copy(member[:], hello.GetIdentity().GetMember())
	b.Transport.mu.Lock()
	defer b.Transport.mu.Unlock()
	ended := make(chan struct{})
	close(ended)
	nothing := func(error) {}
	earlier := &inbound{member: member, address: hello.GetIdentity().GetAddress(), cancel: nothing, done: ended}
	now := &inbound{member: member, address: earlier.address, cancel: nothing, done: ended}
	b.inbound[1] = earlier
	b.addPeer(1, earlier.address).learned = true
	previous, err := b.admitLocked(hello, now)
	if err != nil || previous != earlier {
		t.Errorf("superseded %v, %v", previous, err)
	}
	if len(b.inbound) != 1 || b.inbound[5] != now || b.peers[1] != nil {
		t.Errorf("streams %v, peers %v", b.inbound, b.peers)
	}
}

// refusedHello fails unless a stream that begins so is refused for that reason.
func refusedHello(t *testing.T, client peerpb.PeerClient, hello *peerpb.ConnectRequest, want peerpb.RefusalReason) {
	t.Helper()
	_, err := connectRaw(t, client, hello).Recv()
	if r, ok := errors.AsType[*RefusedError](fromStatus(err)); !ok || r.Reason != want {
		t.Errorf("got %v, want %v", err, want)
	}
}
