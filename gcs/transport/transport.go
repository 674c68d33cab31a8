package transport

import (
	"context"
	"fmt"
	"log/slog"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"

	"github.com/concordatdb/concordat/gcs"
	"github.com/concordatdb/concordat/proto/concordat/peer/v1"
)

// Attribute names of what is logged.
const (
	attrPeer    = "peer"    // raft id
	attrAddress = "address" // where the peer answers
	attrReason  = "reason"
)

// Transport sends messages to the other members of a group, and takes theirs.
// Its methods may be called from any goroutine.
type Transport struct {
	cfg    Config
	log    *slog.Logger
	codec  codec
	server *grpc.Server

	ctx    context.Context // ends with Close
	cancel context.CancelCauseFunc
	wg     sync.WaitGroup // the server, senders, and receivers of streams

	mu      sync.RWMutex
	self    self
	tenure  *tenure // of self
	closed  bool
	peers   map[uint64]*peer    // by raft id
	inbound map[uint64]*inbound // the newest stream from each peer
}

// tenure is the time during which the member has one identity.
type tenure struct {
	ctx    context.Context // ends with the tenure
	cancel context.CancelCauseFunc
	calls  sync.WaitGroup // those that were let in for the sake of that identity
}

func newTenure(ctx context.Context) *tenure {
	e := &tenure{}
	e.ctx, e.cancel = context.WithCancelCause(ctx)
	return e
}

// New starts a transport: it serves on cfg.Listener at once, and dials nobody
// before [Transport.SetPeers] or a Hello names a peer. On an error the listener
// is left to the caller.
func New(cfg Config) (*Transport, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg.setDefaults()
	t := &Transport{
		cfg:     cfg,
		log:     cfg.Logger,
		codec:   newCodec(&bufferPool{keep: 2 * cfg.BatchBytes}),
		self:    self{Identity: cfg.Identity, address: cfg.Address},
		peers:   make(map[uint64]*peer),
		inbound: make(map[uint64]*inbound),
	}
	t.ctx, t.cancel = context.WithCancelCause(context.Background())
	t.tenure = newTenure(t.ctx)
	t.server = grpc.NewServer(t.serverOptions()...)
	peerpb.RegisterPeerServer(t.server, service{t: t})
	listener := newAllowList(cfg.Listener, cfg.Allow, cfg.Logger)
	t.wg.Go(func() {
		if err := t.server.Serve(listener); err != nil && t.ctx.Err() == nil {
			t.log.Error("members can no longer connect to this one", attrAddress, cfg.Address, attrReason, err)
		}
	})
	return t, nil
}

// Flow control of gRPC and its buffers. A window of two batches keeps a stream
// busy while one batch is decoded, and is what a peer that is held back can
// still make this member store.
const (
	socketBuffer  = 64 << 10
	windowBatches = 2
	maxStreams    = 64 // at a time on one connection; a member needs one
)

func (t *Transport) window() int32 {
	return int32(windowBatches * max(t.cfg.BatchBytes, minBuffer))
}

// maxRequest is the largest request: one full batch, or one message with what
// surrounds it.
func (t *Transport) maxRequest() int {
	const overhead = 1 << 10
	return max(t.cfg.BatchBytes, t.cfg.MaxMessageBytes) + overhead
}

func (t *Transport) serverOptions() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.Creds(transportCredentials(t.cfg.TLS)),
		grpc.ForceServerCodecV2(t.codec),
		grpc.MaxRecvMsgSize(t.maxRequest()),
		grpc.StaticStreamWindowSize(t.window()),
		grpc.StaticConnWindowSize(t.window()),
		grpc.ReadBufferSize(socketBuffer),
		grpc.WriteBufferSize(socketBuffer),
		grpc.MaxConcurrentStreams(maxStreams),
		grpc.ConnectionTimeout(t.cfg.HandshakeTimeout),
		grpc.WaitForHandlers(true),
		grpc.KeepaliveParams(keepalive.ServerParameters{
			Time: keepaliveTime, Timeout: keepaliveTimeout, MaxConnectionIdle: maxConnectionIdle,
		}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: keepaliveTime / 2, PermitWithoutStream: true}),
	}
}

// Send queues m for the peer with raft id to. It never blocks. It returns
// false when the message is dropped: the peer is not known, its queue is full,
// or the message is too large. True is no promise of delivery. Nothing in m may
// change afterwards.
func (t *Transport) Send(to uint64, m *gcs.Message) bool {
	t.mu.RLock()
	p := t.peers[to]
	t.mu.RUnlock()
	if p == nil {
		return false
	}
	if size := m.Size(); size > t.cfg.MaxMessageBytes {
		t.log.Error("message dropped", attrPeer, to, attrReason, tooLarge(size, t.cfg.MaxMessageBytes))
		return false
	}
	return p.queue.push(m)
}

// SetPeers says who the other members are: their addresses by raft id. Members
// that are new are dialed, members that moved are dialed anew, and those that
// are missing are left alone, once no stream from them is open. This member's
// own raft id is skipped, and an address given here goes before the one in a
// peer's Hello. The map is not kept.
func (t *Transport) SetPeers(addresses map[uint64]string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return
	}
	for id, address := range addresses {
		if id != t.self.RaftID {
			t.addPeer(id, address).learned = false
		}
	}
	for id, p := range t.peers {
		if _, ok := addresses[id]; ok {
			continue
		}
		p.learned = true
		if t.inbound[id] == nil {
			t.removePeer(p)
		}
	}
}

// addPeer makes sure that the peer is known and dialed at that address. The
// caller holds t.mu.
func (t *Transport) addPeer(id uint64, address string) *peer {
	p := t.peers[id]
	if p == nil {
		p = newPeer(t, id, address)
		t.peers[id] = p
		t.wg.Go(p.run)
		return p
	}
	p.setAddress(address)
	return p
}

// removePeer forgets a peer and ends its sender. The caller holds t.mu.
func (t *Transport) removePeer(p *peer) {
	delete(t.peers, p.id)
	p.cancel(errRemoved)
}

// SetIdentity tells the transport who its member is from now on: another
// incarnation, another run, or a new raft id. It ends all streams, and returns
// when nothing that a peer said to the earlier identity in the belief to speak
// to it can reach the handler any more, by [Handler.Receive],
// [Handler.Change] or [Handler.Clone], and nothing that was queued under it can leave, nor
// anything queued later under it. A PeerDown of a stream that it ended may come
// afterwards. It must not be called by the handler. An identity of another
// group, or one that lacks a part, is an error and changes nothing; only a bug
// of the caller makes one.
func (t *Transport) SetIdentity(id gcs.Identity) error {
	t.mu.RLock()
	now := t.self.Identity
	t.mu.RUnlock()
	if id.Group != now.Group || id.Member.IsZero() || id.RaftID == 0 {
		return fmt.Errorf("transport: identity %+v cannot follow on %+v", id, now)
	}
	ending, earlier := t.changeIdentity(id)
	for _, over := range ending {
		<-over
	}
	if earlier != nil {
		earlier.calls.Wait()
	}
	return nil
}

// changeIdentity returns what ends for the sake of the new identity: streams,
// each of which closes its channel then, and the earlier tenure.
func (t *Transport) changeIdentity(id gcs.Identity) (ending []<-chan struct{}, earlier *tenure) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.self.Identity == id {
		return nil, nil
	}
	t.self.Identity = id
	earlier = t.tenure
	earlier.cancel(errIdentity)
	t.tenure = newTenure(t.ctx)
	for _, in := range t.inbound {
		in.cancel(errIdentity)
		ending = append(ending, in.done)
	}
	if p := t.peers[id.RaftID]; p != nil { // nobody talks to himself
		t.removePeer(p)
	}
	for _, p := range t.peers {
		if over := p.redial(); over != nil {
			ending = append(ending, over)
		}
	}
	return ending, earlier
}

// enter lets in a call that id makes as a member of this incarnation. ctx ends
// with that one; leave has to be called when the call is over.
func (t *Transport) enter(ctx context.Context, id *peerpb.Identity) (_ context.Context, leave func(), _ *RefusedError) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if r := t.self.checkMember(id); r != nil {
		return nil, nil, r
	}
	e := t.tenure
	e.calls.Add(1)
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(e.ctx, func() { cancel(context.Cause(e.ctx)) })
	return ctx, func() {
		stop()
		cancel(nil)
		e.calls.Done()
	}, nil
}

// identity returns who this member is at the moment.
func (t *Transport) identity() self {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.self
}

// Close ends all streams, in both directions, and waits until no goroutine of
// the transport and no call of the handler is left. What is queued is lost.
// Closing twice is harmless.
func (t *Transport) Close() error {
	t.mu.Lock()
	t.closed = true
	t.mu.Unlock()
	t.cancel(ErrClosed)
	t.server.Stop()
	t.wg.Wait()
	return nil
}
