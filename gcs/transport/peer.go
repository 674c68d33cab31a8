package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/keepalive"

	"github.com/concordatdb/concordat/gcs"
	"github.com/concordatdb/concordat/proto/concordat/peer/v1"
)

// Why a stream ends that nothing is wrong with.
var (
	errRemoved    = errors.New("transport: the peer is no longer a member")
	errRedial     = errors.New("transport: the address of the peer or the identity of this member changed")
	errIdentity   = errors.New("transport: the identity of the member changed")
	errSuperseded = errors.New("transport: the peer opened a newer stream")
	errSilent     = errors.New("transport: no answer in time")
)

// peer is the sending side towards one member: a queue, and one goroutine that
// keeps a stream open and empties the queue into it.
type peer struct {
	t     *Transport
	id    uint64
	queue *queue

	ctx    context.Context // ends when the peer is removed, or the transport closed
	cancel context.CancelCauseFunc
	retry  chan struct{} // holds a token when it is worth dialing at once

	learned bool // not in the set of SetPeers; guarded by t.mu

	mu         sync.Mutex
	address    string
	breakCause context.CancelCauseFunc // ends the present stream
	over       chan struct{}           // closed when that has ended
}

func newPeer(t *Transport, id uint64, address string) *peer {
	p := &peer{
		t:       t,
		id:      id,
		address: address,
		queue:   newQueue(t.cfg.QueueBytes, t.cfg.QueueMessages),
		retry:   make(chan struct{}, 1),
	}
	p.ctx, p.cancel = context.WithCancelCause(t.ctx)
	return p
}

// setAddress dials the peer anew if its address changed.
func (p *peer) setAddress(address string) {
	p.mu.Lock()
	changed := p.address != address
	p.address = address
	p.mu.Unlock()
	if changed {
		p.redial()
	}
}

// redial ends the present stream, if any, and dials without delay. Nothing that
// was pushed before goes out afterwards, and nothing that is pushed afterwards
// on that stream. It returns what is closed once the stream is no more, nil if
// there never was one.
func (p *peer) redial() <-chan struct{} {
	p.mu.Lock()
	if p.breakCause != nil {
		p.breakCause(errRedial)
	}
	over := p.over
	p.mu.Unlock()
	p.queue.drop()
	p.hurry()
	return over
}

// hurry cuts short the pause before the next attempt to connect.
func (p *peer) hurry() {
	select {
	case p.retry <- struct{}{}:
	default:
	}
}

// run keeps a stream to the peer open until the peer is removed.
func (p *peer) run() {
	defer p.cancel(nil)
	pauses := pauses{shortest: p.t.cfg.MinBackoff, longest: p.t.cfg.MaxBackoff}
	var logged string // the last reason, so that a dead peer does not fill the log
	for {
		began := time.Now()
		up, err := p.connect()
		p.queue.drop()
		if p.ctx.Err() != nil {
			return
		}
		if up {
			logged = ""
		}
		if text := err.Error(); text != logged {
			logged = text
			p.t.log.Warn("no stream to peer", attrPeer, p.id, attrAddress, p.addr(), attrReason, err)
		}
		p.t.cfg.Handler.PeerDown(p.id, err)
		if up && time.Since(began) >= p.t.cfg.MaxBackoff {
			pauses.reset()
		}
		if hurried := p.wait(pauses.next(p.t.cfg.Jitter())); hurried {
			pauses.reset()
		}
	}
}

// wait pauses before the next attempt and reports whether it was cut short.
func (p *peer) wait(pause time.Duration) bool {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-p.ctx.Done():
	case <-p.retry:
		return true
	}
	return false
}

// pauses are those between attempts to connect.
type pauses struct {
	shortest, longest time.Duration
	last              time.Duration // without jitter, 0 at the beginning
}

// next returns the next pause: twice the last one, within the bounds, less up
// to half of it by jitter in [0, 1). So members that lost the same peer at the
// same time do not come back all at once.
func (p *pauses) next(jitter float64) time.Duration {
	p.last = min(max(2*p.last, p.shortest), p.longest)
	return p.last - time.Duration(jitter*float64(p.last)/2)
}

func (p *pauses) reset() { p.last = 0 }

func (p *peer) addr() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.address
}

// connect opens a stream, feeds it until it breaks, and returns why it did and
// whether the peer had welcomed this member. It leaves nothing running.
func (p *peer) connect() (up bool, _ error) {
	over := make(chan struct{})
	defer close(over)
	ctx, cancel := context.WithCancelCause(p.ctx)
	defer cancel(nil)
	p.mu.Lock()
	p.breakCause, p.over = cancel, over
	address := p.address
	p.mu.Unlock()

	var d dialing
	conn, err := grpc.NewClient("passthrough:///"+address, append(p.t.dialOptions(), d.option())...)
	if err != nil {
		return false, fmt.Errorf("transport: dial %s: %w", address, err)
	}
	defer conn.Close()
	stream, err := p.greet(ctx, cancel, conn)
	if err != nil {
		return false, ofPeer(ctx, address, d.explain(err))
	}

	var watch sync.WaitGroup
	defer watch.Wait() // after cancel, which ends it
	defer cancel(nil)
	watch.Go(func() { // a member says nothing after its Welcome, until the end
		_, err := stream.Recv()
		if err == nil {
			err = errors.New("transport: unexpected answer on a stream of messages")
		}
		cancel(err)
	})
	p.t.log.Info("stream to peer is open", attrPeer, p.id, attrAddress, address)
	p.t.cfg.Handler.PeerUp(p.id)
	p.feed(ctx, cancel, stream)
	return true, ofPeer(ctx, address, context.Cause(ctx))
}

// ofPeer makes the reason why a stream ended readable: what cancelled ctx wins
// over what gRPC says of that, and a refusal becomes a *RefusedError.
func ofPeer(ctx context.Context, address string, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	if errors.Is(err, io.EOF) {
		err = errors.New("closed by the peer")
	}
	return fmt.Errorf("transport: stream to %s: %w", address, fromStatus(err))
}

// greet opens the stream and says who this member is.
func (p *peer) greet(ctx context.Context, cancel context.CancelCauseFunc, conn *grpc.ClientConn) (clientStream, error) {
	timer := p.t.cfg.afterFunc(p.t.cfg.HandshakeTimeout, func() { cancel(errSilent) })
	defer timer.Stop()
	stream, err := peerpb.NewPeerClient(conn).Connect(ctx, grpc.ForceCodecV2(p.t.codec))
	if err != nil {
		return nil, err
	}
	self := p.t.identity()
	hello := &peerpb.ConnectRequest{Hello: &peerpb.Hello{Identity: self.proto(), TargetRaftId: p.id}}
	if err := stream.Send(hello); err != nil && !errors.Is(err, io.EOF) { // EOF: Recv knows why
		return nil, err
	}
	response, err := stream.Recv()
	if err != nil {
		return nil, err
	}
	id := response.GetWelcome().GetIdentity()
	if r := self.checkMember(id); r != nil {
		return nil, r
	}
	if id.GetRaftId() != p.id {
		return nil, refuse(peerpb.RefusalReason_REFUSAL_REASON_NOT_THIS_MEMBER,
			"raft id %d was looked for at %q, where %d answers", p.id, id.GetAddress(), id.GetRaftId())
	}
	return stream, nil
}

type clientStream = grpc.BidiStreamingClient[peerpb.ConnectRequest, peerpb.ConnectResponse]

// feed empties the queue into the stream until ctx ends.
func (p *peer) feed(ctx context.Context, cancel context.CancelCauseFunc, stream clientStream) {
	// A burst may grow the two slices that trade places; one that is larger
	// than this is not kept.
	const keep = 4096
	var spare []gcs.Message
	for {
		msgs := p.queue.take(ctx, spare)
		if msgs == nil {
			return
		}
		err := p.sendAll(stream, msgs)
		if errors.Is(err, io.EOF) { // the stream is over, and the watcher gets the reason
			<-ctx.Done()
			return
		}
		if err != nil {
			cancel(err)
			return
		}
		clear(msgs)
		if spare = msgs; cap(spare) > keep {
			spare = nil
		}
	}
}

// sendAll sends msgs, which were taken from the queue, in as many batches as
// it takes. It is done with them also when it fails.
func (p *peer) sendAll(stream clientStream, msgs []gcs.Message) error {
	for len(msgs) > 0 {
		n, err := p.sendBatch(stream, msgs)
		if err != nil {
			p.queue.done(msgs)
			return err
		}
		p.queue.done(msgs[:n])
		msgs = msgs[n:]
	}
	return nil
}

// sendBatch sends as many of msgs as make a batch and returns their number.
func (p *peer) sendBatch(stream clientStream, msgs []gcs.Message) (int, error) {
	size := 0
	for i := range msgs {
		if size += msgs[i].Size(); size >= p.t.cfg.BatchBytes {
			break
		}
	}
	buf := p.t.codec.pool.Get(size)
	batch, n, err := appendBatch((*buf)[:0], msgs, p.t.cfg.BatchBytes, p.t.cfg.MaxMessageBytes)
	if err != nil {
		p.t.log.Error("message dropped", attrPeer, p.id, attrReason, err)
	}
	*buf = batch
	if len(batch) == 0 {
		p.t.codec.pool.Put(buf)
		return n, nil
	}
	return n, stream.SendMsg(&outgoing{buf: buf})
}

// dialOptions are those of a connection that carries a stream of messages.
// Each attempt makes a connection of its own, so gRPC neither retries nor
// backs off by itself.
func (t *Transport) dialOptions() []grpc.DialOption {
	return append(clientOptions(t.cfg.TLS),
		grpc.WithStaticStreamWindowSize(t.window()),
		grpc.WithStaticConnWindowSize(t.window()),
		grpc.WithReadBufferSize(minBuffer), // nothing but a Welcome and acknowledgements come back
		grpc.WithWriteBufferSize(socketBuffer),
		grpc.WithDefaultCallOptions(grpc.MaxCallSendMsgSize(math.MaxInt32)),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoff.DefaultConfig, MinConnectTimeout: t.cfg.HandshakeTimeout}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{
			Time: keepaliveTime, Timeout: keepaliveTimeout, PermitWithoutStream: true,
		}),
	)
}
