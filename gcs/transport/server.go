package transport

import (
	"context"
	"errors"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/concordatdb/concordat/gcs"
	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/proto/concordat/peer/v1"
)

// service is what the transport offers to its peers.
type service struct {
	peerpb.UnimplementedPeerServer
	t *Transport
}

type serverStream = grpc.BidiStreamingServer[peerpb.ConnectRequest, peerpb.ConnectResponse]

// inbound is a stream that a peer has opened.
type inbound struct {
	member  gtid.UUID
	address string
	session uint64
	cancel  context.CancelCauseFunc
	done    chan struct{} // closed when nothing of the stream reaches the handler any more
}

// Connect takes the messages of one peer until the stream ends. A goroutine of
// its own reads them, so that this one can end the stream while the other is
// held up in gRPC or in the handler: only returning from here does that.
func (s service) Connect(stream serverStream) error {
	t := s.t
	ctx, cancel := context.WithCancelCause(stream.Context())
	defer cancel(nil)
	defer context.AfterFunc(t.ctx, func() { cancel(ErrClosed) })()
	result := make(chan error, 1)
	t.wg.Go(func() { result <- t.receive(ctx, cancel, stream) })
	select {
	case err := <-result:
		return t.statusOf(err)
	case <-ctx.Done():
		return t.statusOf(context.Cause(ctx))
	}
}

// statusOf is the form in which a peer gets an error.
func (t *Transport) statusOf(err error) error {
	if err == nil {
		return nil
	}
	if r, ok := errors.AsType[*RefusedError](err); ok {
		return refusalStatus(r, t.identity().proto())
	}
	if _, ok := status.FromError(err); ok {
		return err
	}
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return status.FromContextError(err).Err()
	case errors.Is(err, ErrClosed), errors.Is(err, errIdentity), errors.Is(err, errSuperseded):
		return status.Error(codes.Unavailable, err.Error())
	case errors.Is(err, errSilent):
		return status.Error(codes.DeadlineExceeded, err.Error())
	case errors.Is(err, errMalformed), errors.Is(err, gcs.ErrMessage):
		return status.Error(codes.InvalidArgument, err.Error())
	}
	return status.Error(codes.Unknown, err.Error())
}

// receive reads a stream from its Hello to its end.
func (t *Transport) receive(ctx context.Context, cancel context.CancelCauseFunc, stream serverStream) error {
	id, in, err := t.meet(cancel, stream)
	if err != nil {
		return err
	}
	defer t.forget(id.GetRaftId(), in)
	log := t.log.With(attrPeer, id.GetRaftId(), attrAddress, id.GetAddress())
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err := stream.Send(&peerpb.ConnectResponse{Welcome: &peerpb.Welcome{Identity: t.identity().proto()}}); err != nil {
		return err
	}
	log.Info("stream from peer is open")
	for {
		var request incoming
		if err := stream.RecvMsg(&request); err != nil {
			if cause := context.Cause(ctx); cause != nil {
				err = cause
			}
			log.Info("stream from peer ended", attrReason, err)
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		if request.err == nil && request.hello != nil {
			request.err = malformed("a second hello on one stream")
		}
		if request.err != nil {
			log.Error("stream from peer closed", attrReason, request.err)
			return request.err
		}
		if len(request.msgs) > 0 {
			t.cfg.Handler.Receive(ctx, id.GetRaftId(), request.msgs)
		}
	}
}

// meet reads the Hello of a stream and makes the stream the peer's present one.
func (t *Transport) meet(cancel context.CancelCauseFunc, stream serverStream) (*peerpb.Identity, *inbound, error) {
	timer := t.cfg.afterFunc(t.cfg.HandshakeTimeout, func() { cancel(errSilent) })
	var request incoming
	err := stream.RecvMsg(&request)
	timer.Stop()
	switch {
	case err != nil:
		return nil, nil, err
	case request.err != nil:
		t.log.Warn("stream closed", attrReason, request.err)
		return nil, nil, request.err
	case request.hello == nil || len(request.msgs) > 0:
		err := malformed("a stream has to begin with a hello and nothing else")
		t.log.Warn("stream closed", attrReason, err)
		return nil, nil, err
	}
	id := request.hello.GetIdentity()
	in := &inbound{
		address: id.GetAddress(),
		session: id.GetSession(),
		cancel:  cancel,
		done:    make(chan struct{}),
	}
	copy(in.member[:], id.GetMember())
	if err := t.admit(request.hello, in); err != nil {
		t.logRefused(id, err)
		return nil, nil, err
	}
	return id, in, nil
}

func (t *Transport) logRefused(id *peerpb.Identity, err error) {
	t.log.Warn("peer refused", attrPeer, id.GetRaftId(), attrAddress, id.GetAddress(), attrReason, err)
}

// admit checks a Hello, makes in the present stream of its peer, and returns
// once the one before it is over. From then on the peer is known.
func (t *Transport) admit(hello *peerpb.Hello, in *inbound) error {
	id := hello.GetIdentity()
	t.mu.Lock()
	previous, err := t.admitLocked(hello, in)
	t.mu.Unlock()
	if err != nil {
		return err
	}
	if previous != nil {
		previous.cancel(errSuperseded)
		<-previous.done
	}
	t.log.Debug("peer admitted", attrPeer, id.GetRaftId(), attrAddress, id.GetAddress())
	return nil
}

func (t *Transport) admitLocked(hello *peerpb.Hello, in *inbound) (previous *inbound, _ error) {
	if t.closed {
		return nil, ErrClosed
	}
	if r := t.self.checkHello(hello); r != nil {
		return nil, r
	}
	id := hello.GetIdentity()
	previous = t.inbound[id.GetRaftId()]
	switch {
	case previous == nil:
		var r *RefusedError
		if previous, r = t.supersede(id, in.member); r != nil {
			return nil, r
		}
	case previous.member != in.member:
		return nil, refuse(peerpb.RefusalReason_REFUSAL_REASON_IDENTITY_TAKEN,
			"raft id %d is that of member %s; is member %s a copy of its data?", id.GetRaftId(), previous.member, in.member)
	case previous.session > in.session:
		return nil, refuse(peerpb.RefusalReason_REFUSAL_REASON_OLD_SESSION,
			"run %d of member %s was heard already, this is %d; stop the older process", previous.session, in.member, in.session)
	}
	p := t.peers[id.GetRaftId()]
	if p == nil && t.learnedPeers() >= t.cfg.MaxLearnedPeers {
		return nil, refuse(peerpb.RefusalReason_REFUSAL_REASON_GROUP_FULL,
			"member at %q talks to %d members outside its view already; try again later", t.self.address, t.cfg.MaxLearnedPeers)
	}
	if p == nil || p.learned {
		p = t.addPeerLearned(id)
	}
	p.hurry() // whoever dials can be dialed
	t.inbound[id.GetRaftId()] = in
	return previous, nil
}

// supersede looks for a stream of the same member under another raft id than
// that of id; there is at most one. If it came from the same address, the
// member has come back as a new one, and the stream is no longer the present
// one of anybody. Otherwise two processes go by one UUID. The caller holds t.mu.
func (t *Transport) supersede(id *peerpb.Identity, member gtid.UUID) (*inbound, *RefusedError) {
	for raftID, in := range t.inbound {
		if in.member != member {
			continue
		}
		if in.address != id.GetAddress() {
			return nil, refuse(peerpb.RefusalReason_REFUSAL_REASON_IDENTITY_TAKEN,
				"member %s is raft id %d at %q, and raft id %d at %q claims to be it; give one of them a UUID of its own",
				member, raftID, in.address, id.GetRaftId(), id.GetAddress())
		}
		t.leave(raftID)
		return in, nil
	}
	return nil, nil
}

// addPeerLearned makes the speaker of a Hello a peer. The caller holds t.mu.
func (t *Transport) addPeerLearned(id *peerpb.Identity) *peer {
	p := t.addPeer(id.GetRaftId(), id.GetAddress())
	p.learned = true
	return p
}

// learnedPeers counts the peers that are known by a Hello only. The caller
// holds t.mu.
func (t *Transport) learnedPeers() int {
	n := 0
	for _, p := range t.peers {
		if p.learned {
			n++
		}
	}
	return n
}

// forget ends what admit began.
func (t *Transport) forget(id uint64, in *inbound) {
	t.mu.Lock()
	if t.inbound[id] == in {
		t.leave(id)
	}
	t.mu.Unlock()
	close(in.done)
}

// leave makes the present stream of a peer nobody's. The caller holds t.mu.
func (t *Transport) leave(id uint64) {
	delete(t.inbound, id)
	if p := t.peers[id]; p != nil && p.learned {
		t.removePeer(p)
	}
}
