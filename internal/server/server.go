package server

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"

	"github.com/concordatdb/concordat"
	"github.com/concordatdb/concordat/proto/concordat/admin/v1"
	"github.com/concordatdb/concordat/proto/concordat/changes/v1"
	"github.com/concordatdb/concordat/proto/concordat/kv/v1"
)

// DefaultMaxMessageBytes holds the largest transaction that a node can be
// configured to take, with room for the names of its tables.
const DefaultMaxMessageBytes = 32 << 20

// Limits of one connection. A client that vanished without a word is noticed
// within the sum of the two times; until then a scan of its holds a snapshot.
const (
	maxStreams       = 4096
	keepaliveTime    = 30 * time.Second
	keepaliveTimeout = 10 * time.Second
)

// Config is what a Server needs.
type Config struct {
	// Listener takes the connections of clients. The server closes it.
	Listener net.Listener
	// TLS, if set, is the server's configuration; nil means plaintext.
	TLS *tls.Config
	// Logger is told of the server's end, when that is an error. nil: silence.
	Logger *slog.Logger
	// MaxMessageBytes is the largest request. Default 32 MiB.
	MaxMessageBytes int

	idle time.Duration // after which Transact gives up its client; 0 for idleTimeout
}

// Server serves one node. It can be reached before there is a node, so that an
// operator can ask a member that still waits for its group: until SetNode,
// calls end with NOT_ONLINE, Status says OFFLINE, and the health service
// NOT_SERVING.
type Server struct {
	logger     *slog.Logger
	grpc       *grpc.Server
	health     *health.Server
	node       atomic.Pointer[concordat.Node]
	board      board
	idle       time.Duration
	leaveAsked atomic.Bool

	lifetime context.Context
	stop     context.CancelFunc
	workers  sync.WaitGroup
}

// Start begins to serve. The server must be ended by Stop.
func Start(cfg Config) *Server {
	options := []grpc.ServerOption{
		grpc.MaxRecvMsgSize(cmp.Or(cfg.MaxMessageBytes, DefaultMaxMessageBytes)),
		grpc.MaxConcurrentStreams(maxStreams),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: keepaliveTime, Timeout: keepaliveTimeout}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: keepaliveTime / 2, PermitWithoutStream: true}),
		grpc.UnaryInterceptor(inTime),
	}
	if cfg.TLS != nil {
		options = append(options, grpc.Creds(credentials.NewTLS(cfg.TLS)))
	}
	s := &Server{
		logger: cfg.Logger, grpc: grpc.NewServer(options...), health: health.NewServer(),
		idle: cmp.Or(cfg.idle, idleTimeout),
	}
	if s.logger == nil {
		s.logger = slog.New(slog.DiscardHandler)
	}
	s.lifetime, s.stop = context.WithCancel(context.Background())
	s.serving(false)
	s.writable(false)
	kvpb.RegisterKVServer(s.grpc, &kv{server: s})
	adminpb.RegisterAdminServer(s.grpc, &admin{server: s})
	changespb.RegisterChangesServer(s.grpc, &changes{server: s})
	grpc_health_v1.RegisterHealthServer(s.grpc, s.health)
	s.workers.Go(func() {
		if err := s.grpc.Serve(cfg.Listener); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			s.logger.Error("clients cannot be served any more", "address", cfg.Listener.Addr().String(), "err", err)
		}
	})
	return s
}

// What a call's own time is shortened by, so that its answer arrives before its
// caller gives up: a part of it, and no more than the most.
const (
	answerPart = 5
	answerMost = 500 * time.Millisecond
)

// inTime ends a call a little before its caller's deadline. At the deadline
// itself the caller would hear nothing, and would have to take what the member
// knows not to have happened, in a minority say, for unknown.
func inTime(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	deadline, ok := ctx.Deadline()
	if !ok {
		return handle(ctx, req)
	}
	early := min(time.Until(deadline)/answerPart, answerMost)
	ctx, cancel := context.WithDeadline(ctx, deadline.Add(-early))
	defer cancel()
	return handle(ctx, req)
}

// SetNode gives the server the node to serve. It is called once. The node
// stays the caller's, who closes it after Stop.
func (s *Server) SetNode(n *concordat.Node) {
	s.node.Store(n)
	s.workers.Go(func() { s.watch(n) })
}

// watch follows the node, for the health service and for those who watch. One
// that is OFFLINE, or in ERROR, may come back.
func (s *Server) watch(n *concordat.Node) {
	var last concordat.State
	var wrote bool
	for {
		var writes bool
		state, err := n.WaitState(s.lifetime, func(now concordat.State) bool {
			seen := sight(n)
			s.board.show(seen)
			writes = seen.GetWritable()
			return now != last || writes != wrote
		})
		if err != nil {
			return
		}
		s.serving(state == concordat.Online)
		s.writable(writes)
		last, wrote = state, writes
	}
}

func (s *Server) serving(yes bool) { s.tell(yes, "", kvpb.KV_ServiceDesc.ServiceName) }

// Writable is the name under which the health service tells whether transactions
// that write can begin on the member.
const Writable = "concordat.Writable"

func (s *Server) writable(yes bool) { s.tell(yes, Writable) }

func (s *Server) tell(yes bool, services ...string) {
	status := grpc_health_v1.HealthCheckResponse_NOT_SERVING
	if yes {
		status = grpc_health_v1.HealthCheckResponse_SERVING
	}
	for _, service := range services {
		s.health.SetServingStatus(service, status)
	}
}

// LeaveAsked reports whether a client has asked the member to leave the group.
func (s *Server) LeaveAsked() bool { return s.leaveAsked.Load() }

// Stop takes no more calls, waits for those under way until ctx ends, cuts off
// what is left, and returns when everything has ended. It may be called again.
func (s *Server) Stop(ctx context.Context) {
	s.health.Shutdown()
	s.stop()
	graceful := make(chan struct{})
	go func() {
		defer close(graceful)
		s.grpc.GracefulStop()
	}()
	select {
	case <-graceful:
	case <-ctx.Done():
		s.grpc.Stop()
		<-graceful
	}
	s.workers.Wait()
}

// errStarting is the answer of a server that has no node yet.
var errStarting = fmt.Errorf("%w: it is starting, and waits for its group", concordat.ErrNotOnline)

// current returns the node, or errStarting.
func (s *Server) current() (*concordat.Node, error) {
	if n := s.node.Load(); n != nil {
		return n, nil
	}
	return nil, errStarting
}
