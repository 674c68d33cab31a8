package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/concordatdb/concordat/gcs"
	"github.com/concordatdb/concordat/proto/concordat/peer/v1"
)

// ProtocolVersion is the version of everything that members exchange. Members
// of different versions refuse each other.
const ProtocolVersion = 2

// The defaults of Config.
const (
	DefaultQueueBytes       = 64 << 20
	DefaultQueueMessages    = 1 << 16
	DefaultBatchBytes       = 1 << 20
	DefaultMaxMessageBytes  = 32 << 20
	DefaultMaxLearnedPeers  = 32
	DefaultHandshakeTimeout = 5 * time.Second
	DefaultMinBackoff       = 25 * time.Millisecond
	DefaultMaxBackoff       = 2 * time.Second
)

// Liveness of an idle connection. Either side pings the other one after
// keepaliveTime without traffic, and gives the connection up after
// keepaliveTimeout without an answer: a machine that vanished is noticed within
// 15 s. Raft notices much sooner that a peer is silent; this only frees what
// the dead connection holds, so that dialing can begin again.
const (
	keepaliveTime    = 10 * time.Second // the shortest that gRPC lets a client ask for
	keepaliveTimeout = 5 * time.Second
)

// maxConnectionIdle is how long a connection without any call is served.
const maxConnectionIdle = time.Minute

// Handler takes what comes from the network. Its methods are called from
// several goroutines at a time; what is said of the order for each holds among
// the calls for one peer. None may call, or wait for, [Transport.Close] or
// [Transport.SetIdentity], which wait for them.
type Handler interface {
	// Receive takes messages from the peer with raft id from, in order and one
	// call at a time. The slice and everything in it belong to the handler. As
	// long as Receive does not return, the peer is held back; it must return
	// when ctx ends, and what it has not taken by then counts as lost.
	Receive(ctx context.Context, from uint64, msgs []gcs.Message)

	// Join answers a member that wants to join, or, for a dry run, only asks
	// whether it could. The transport has checked the group, the protocol
	// version and the form of the identity, and not the incarnation; of a claim,
	// that [ParseClaim] reads it. A *RefusedError reaches the asking member as
	// such.
	Join(ctx context.Context, req *peerpb.JoinRequest) (*peerpb.JoinResponse, error)

	// Clone writes the state that a joiner needs. The transport has checked
	// that the asking member belongs to this incarnation of the group; ctx ends
	// with that, or with the link. An error cuts the stream off so that the
	// reader notices. A *RefusedError reaches the asking member as such.
	Clone(ctx context.Context, req *peerpb.CloneRequest, w io.Writer) error

	// Change answers a call for a change of the membership. The transport has
	// checked that the asking member belongs to this incarnation of the group,
	// that exactly one member is named, and the length of the reason. A
	// *RefusedError reaches the asking member as such. It must return when ctx
	// ends, which it does with the incarnation.
	Change(ctx context.Context, req *peerpb.ChangeRequest) (*peerpb.ChangeResponse, error)

	// Survey returns what this member knows of the group and holds of its log.
	// Order takes a step of forcing the membership, and returns what came of
	// it. What the bytes mean is not known here; there are at most
	// [MaxPayloadBytes] of them, in either direction. The transport has checked
	// the group and the protocol version of the asking member, and not its
	// incarnation: these calls are made between two of them. A *RefusedError
	// reaches the asking member as such.
	Survey(ctx context.Context, asker *peerpb.Identity) ([]byte, error)
	Order(ctx context.Context, asker *peerpb.Identity, order []byte) ([]byte, error)

	// Entries hands the entries of this member's log from req.First to req.Last
	// to send, in order and without a gap. The transport has checked the group
	// and the protocol version of the asking member, and that the request is
	// complete, and not the incarnation: the plan that the request names says
	// who may ask. An error, of send or another, cuts the stream off so that
	// the reader notices. A *RefusedError reaches the asking member as such.
	Entries(ctx context.Context, req *peerpb.EntriesRequest, send func(*raftpb.Entry) error) error

	// Lineage says of which incarnation this member is, and of which ones that
	// came. The transport has checked the group and the protocol version of the
	// asking member, and not its incarnation. A *RefusedError reaches the asking
	// member as such.
	Lineage(ctx context.Context, asker *peerpb.Identity) (Ancestry, error)

	// PeerUp says that a stream to the peer is open: it answers, and takes this
	// member for one of its group. PeerDown says that it broke, or that another
	// attempt to open one came to nothing, and why: messages sent before may be
	// lost. What the reason tells of the peer:
	//
	//   - it wraps a *RefusedError: the peer lives, and did not want to talk to
	//     this member, or this member not to it;
	//   - [Refused] of it is true: its machine lives and nobody listens at its
	//     address, so its process is gone, or not there yet;
	//   - anything else, as a timeout or a stream that broke, tells nothing: the
	//     process, the machine or the network may be at fault. Of a process that
	//     ended, the first PeerDown tells of the broken stream, and the next
	//     one, after Config.MinBackoff or so, that the address refuses.
	//
	// They come in order, one call at a time, and end when SetPeers drops the
	// peer. Both must return soon: they hold up the messages to that peer.
	PeerUp(raftID uint64)
	PeerDown(raftID uint64, reason error)
}

// Config is what a Transport needs. The zero value of a limit stands for its
// default.
type Config struct {
	// Identity of this member. Its Incarnation is zero for a joiner that has
	// not been told; see [Transport.SetIncarnation].
	Identity gcs.Identity
	// Address, host:port, is where peers reach this member.
	Address string
	// Listener takes the connections of peers. The transport closes it.
	Listener net.Listener
	// TLS authenticates members to each other, in both directions; nil means
	// plaintext. The same configuration serves as server and as client, so it
	// has to hold a certificate that is good for both, RootCAs, ClientCAs and
	// ClientAuth = tls.RequireAndVerifyClientCert. [TLSFiles.Load] makes one.
	// A certificate admits its holder as some member, not as a certain one.
	TLS *tls.Config
	// Allow lists from where members may connect; empty means from anywhere. A
	// connection from another address is closed before anything is said on it.
	// An IPv4 address counts as such, also on a socket for both families.
	//
	// Unlike group_replication_ip_allowlist of MySQL, which always allows the
	// loopback addresses because a member connects to itself there, nothing is
	// allowed that is not in the list: a member of Concordat never dials itself.
	// Members on one machine need its address, or loopback, in the list.
	Allow []netip.Prefix
	// Handler takes what comes in.
	Handler Handler
	// Logger is told of peers that come, go and are refused. Nil is silent.
	Logger *slog.Logger
	// Jitter returns a number in [0, 1) that spreads the attempts to
	// reconnect. It is called from several goroutines; nil draws from
	// math/rand/v2.
	Jitter func() float64

	// QueueBytes and QueueMessages bound what waits for one peer, by
	// [gcs.Message.Size] and by number. A larger queue rides out a longer
	// stall of the peer, at the price of memory. Defaults: 64 MiB, 65,536.
	QueueBytes    int
	QueueMessages int
	// BatchBytes is about how many bytes of messages share one gRPC message.
	// A single message may be larger. Default: 1 MiB.
	BatchBytes int
	// MaxMessageBytes is the largest message sent or received. It has to be
	// the same on all members, and not above QueueBytes. Default: 32 MiB.
	MaxMessageBytes int
	// MaxLearnedPeers bounds how many members outside the set of SetPeers are
	// talked to at a time. Default: 32.
	MaxLearnedPeers int
	// HandshakeTimeout bounds an attempt to connect, from the dial to the
	// Welcome, and how long one that was dialed waits for the Hello.
	// Default: 5 s.
	HandshakeTimeout time.Duration
	// MinBackoff and MaxBackoff bound the pause between two attempts to
	// connect to a peer. It doubles with each attempt, less up to a half by
	// Jitter, and starts anew after a stream that lasted MaxBackoff or when
	// the peer itself shows up. Defaults: 25 ms, 2 s.
	MinBackoff, MaxBackoff time.Duration

	// afterFunc is time.AfterFunc, but for tests that decide themselves when a
	// handshake has taken too long.
	afterFunc func(time.Duration, func()) *time.Timer
}

// Validate reports everything that is wrong with c at once.
func (c Config) Validate() error {
	c.setDefaults()
	var errs []error
	need := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf("transport: "+format, args...))
		}
	}
	need(!c.Identity.Group.IsZero(), "Identity.Group is zero; give the name of the group")
	need(!c.Identity.Member.IsZero(), "Identity.Member is zero; give the member's UUID")
	need(c.Identity.RaftID != 0, "Identity.RaftID is 0; draw one for the member")
	need(c.Listener != nil, "Listener is nil; listen on the address where peers shall connect")
	need(c.Handler != nil, "Handler is nil; somebody has to take the messages")
	_, _, err := net.SplitHostPort(c.Address)
	need(err == nil, "Address %q is not host:port", c.Address)
	need(c.QueueBytes > 0 && c.QueueMessages > 0, "QueueBytes and QueueMessages must be positive")
	need(c.BatchBytes > 0, "BatchBytes must be positive")
	need(c.MaxMessageBytes > 0 && c.MaxMessageBytes <= c.QueueBytes,
		"MaxMessageBytes is %d; it must be positive and at most QueueBytes, %d", c.MaxMessageBytes, c.QueueBytes)
	need(c.MaxMessageBytes <= maxMessageLimit && c.BatchBytes <= maxMessageLimit,
		"MaxMessageBytes and BatchBytes must be at most %d", maxMessageLimit)
	need(c.MaxLearnedPeers > 0, "MaxLearnedPeers must be positive")
	need(c.HandshakeTimeout > 0, "HandshakeTimeout must be positive")
	need(0 < c.MinBackoff && c.MinBackoff <= c.MaxBackoff, "MinBackoff must be positive and at most MaxBackoff")
	for _, p := range c.Allow {
		if err := checkAllow(p); err != nil {
			errs = append(errs, err)
		}
	}
	need(c.TLS == nil || c.TLS.ClientAuth == tls.RequireAndVerifyClientCert,
		"TLS.ClientAuth is not RequireAndVerifyClientCert; without it anybody may speak as a member")
	return errors.Join(errs...)
}

// maxMessageLimit keeps the sizes of batches well inside the 4 GiB of gRPC's
// length field.
const maxMessageLimit = 1 << 30

func (c *Config) setDefaults() {
	or := func(v *int, def int) {
		if *v == 0 {
			*v = def
		}
	}
	or(&c.QueueBytes, DefaultQueueBytes)
	or(&c.QueueMessages, DefaultQueueMessages)
	or(&c.BatchBytes, DefaultBatchBytes)
	or(&c.MaxMessageBytes, DefaultMaxMessageBytes)
	or(&c.MaxLearnedPeers, DefaultMaxLearnedPeers)
	orDuration := func(v *time.Duration, def time.Duration) {
		if *v == 0 {
			*v = def
		}
	}
	orDuration(&c.HandshakeTimeout, DefaultHandshakeTimeout)
	orDuration(&c.MinBackoff, DefaultMinBackoff)
	orDuration(&c.MaxBackoff, DefaultMaxBackoff)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Jitter == nil {
		c.Jitter = rand.Float64
	}
	if c.afterFunc == nil {
		c.afterFunc = time.AfterFunc
	}
}
