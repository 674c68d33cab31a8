package concordat

import (
	"cmp"
	"context"
	crand "crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"

	"github.com/concordatdb/concordat/applier/pebblekv"
	"github.com/concordatdb/concordat/gcs"
	"github.com/concordatdb/concordat/gcs/raftlog"
	"github.com/concordatdb/concordat/gcs/transport"
	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/internal/forced"
	"github.com/concordatdb/concordat/internal/replica"
	"github.com/concordatdb/concordat/internal/standing"
)

// The parts of a member's directory.
const (
	logDir  = "log"
	dataDir = "data"
)

// Open starts the member that cfg describes and returns when it serves
// transactions. A member that was in the group before goes on from its
// directory; a new one founds the group (Bootstrap) or joins it (Seeds).
//
// If ctx ends first, or the member cannot be what cfg says, everything that was
// opened is closed again and the error says why. ctx does not bound the life of
// the node.
func Open(ctx context.Context, cfg Config) (*Node, error) {
	n, err := Start(ctx, cfg)
	if err != nil {
		return nil, err
	}
	if n.firstIdle {
		return nil, errors.Join(fmt.Errorf("%w: %s is new; set Seeds to join the group, or Bootstrap to found it", ErrDirectory, cfg.Dir), n.Close())
	}
	if err := n.waitOnline(ctx); err != nil {
		return nil, errors.Join(err, n.Close())
	}
	return n, nil
}

// Start is Open that does not wait: the member finds its way into the group by
// itself, and Status, Events and WaitState tell how far it is. A new directory
// with neither Bootstrap nor Seeds makes a member that is OFFLINE until Join is
// called.
func Start(ctx context.Context, cfg Config) (*Node, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	n := &Node{cfg: cfg.withDefaults(), ended: make(chan struct{})}
	n.logger = n.cfg.Logger
	n.early, n.conflicts = newEarly(), newConflictLog()
	n.flow = newThrottle()
	n.commits, n.giants = newAdmission(n.cfg.MaxPendingCommits, n.cfg.MaxPendingBytes), newAdmission(1, 0)
	n.standing.Store(&known{})
	n.drain.news = &n.changed
	lifetime, stop := context.WithCancel(context.Background())
	n.lifetime, n.stop = lifetime, stop
	n.entering, n.patience = standing.Opened, defaultPatience
	if err := n.start(ctx, lifetime); err != nil {
		n.stop()
		return nil, err
	}
	return n, nil
}

// closers undoes what was opened, last first.
type closers []func() error

func (c closers) close() error {
	var errs []error
	for _, v := range slices.Backward(c) {
		errs = append(errs, v())
	}
	return errors.Join(errs...)
}

// start opens the parts and sets main going. On an error nothing stays open.
func (n *Node) start(ctx, lifetime context.Context) (err error) {
	var open closers
	defer func() {
		if err != nil {
			err = errors.Join(err, open.close())
		}
	}()
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", n.cfg.Listen)
	if err != nil {
		return fmt.Errorf("concordat: listen on %s for other members: %w", n.cfg.Listen, err)
	}
	handedOver := false
	open = append(open, func() error {
		if handedOver {
			return nil
		}
		return listener.Close()
	})
	n.address = n.cfg.Advertise
	if n.address == "" {
		n.address = listener.Addr().String()
	}
	if err := n.openStores(&open); err != nil {
		return err
	}
	if n.id, err = n.identify(); err != nil {
		return err
	}
	kept, err := decodeRecord(n.log.Record())
	if err != nil {
		return err
	}
	n.onRecord.Store(&kept)
	if kept.Plan != nil {
		part, err := forced.DecodeRecord(kept.Plan)
		if err == nil {
			err = part.CheckIdentity(n.log.Identity())
		}
		if err != nil {
			return fmt.Errorf("%w: its part in a plan of force-members: %w", ErrDirectory, err)
		}
		n.part.Store(&part)
	}
	if err := n.prepare(); err != nil {
		return err
	}
	allowed, err := n.cfg.allowed()
	if err != nil {
		return err
	}
	n.transport, err = transport.New(transport.Config{
		Identity: n.id, Address: n.address, Listener: listener, TLS: n.cfg.TLS, Allow: allowed,
		Handler: (*peerHandler)(n), Logger: n.logger,
	})
	if err != nil {
		return err
	}
	handedOver = true
	open = append(open, n.transport.Close)
	n.close = open.close
	n.firstIdle = n.log.Identity().Incarnation.IsZero() && len(n.seeds()) == 0
	go n.main(lifetime)
	return nil
}

// prepare looks at what the directory holds before anything else begins: the
// state machine must be able to start from it, and the group must know the
// member at its address.
func (n *Node) prepare() error {
	if n.id.Incarnation.IsZero() || n.partNow().Phase == forced.Frozen {
		return nil
	}
	cfg, err := n.replicaConfig()
	if errors.Is(err, errNeedsClone) {
		return nil
	}
	if err != nil {
		return err
	}
	r, err := replica.New(cfg)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrDirectory, err)
	}
	if s := r.Status(); s.View.ID > 0 {
		if err := n.checkAddress(s.View); err != nil {
			return err
		}
		n.standing.Store(&s)
	}
	return nil
}

func (n *Node) openStores(open *closers) error {
	if err := os.MkdirAll(n.cfg.Dir, 0o750); err != nil {
		return fmt.Errorf("%w: %w", ErrDirectory, err)
	}
	log, err := raftlog.Open(filepath.Join(n.cfg.Dir, logDir), raftlog.Options{
		WarmSegments: n.cfg.WarmLog, Logger: n.logger, OnFatal: n.storeFailed,
	})
	if err != nil {
		return fmt.Errorf("%w: %w", ErrDirectory, err)
	}
	n.log = log
	*open = append(*open, log.Close)
	if n.cfg.Engine != nil {
		n.engine = guard(n.cfg.Engine)
	} else {
		n.engine, err = pebblekv.Open(filepath.Join(n.cfg.Dir, dataDir), pebblekv.Options{
			CacheBytes: n.cfg.CacheBytes, Workers: n.cfg.ApplyWorkers, Logger: n.logger, OnFatal: n.storeFailed,
			ChangeBytes: n.cfg.ChangeRetentionBytes, ChangeAge: n.cfg.ChangeRetentionAge, ChangeOldValues: n.cfg.ChangeOldValues,
		})
		if err != nil {
			return fmt.Errorf("%w: %w", ErrDirectory, err)
		}
	}
	*open = append(*open, n.engine.Close)
	if n.compared, err = canCompare(n.engine); err != nil {
		return fmt.Errorf("%w: %w", ErrDirectory, err)
	}
	return nil
}

// storeFailed is told by a store that its disk cannot be trusted any more. It
// may run with the store's locks held, so it leaves the work to another
// goroutine, which ends by itself.
func (n *Node) storeFailed(err error) { go n.fail(err) }

// identify returns who this member is, from its directory or, when that is
// new, as the configuration says. Either way a new session begins, and is
// durable before anything is sent in it.
func (n *Node) identify() (gcs.Identity, error) {
	id := n.log.Identity()
	group, _ := gtid.ParseUUID(n.cfg.Group) // Validate has seen it
	member, _ := gtid.ParseUUID(n.cfg.Member)
	asConfigured := id.Group == group && (n.cfg.Member == "" || id.Member == member) && !n.cfg.Bootstrap
	// Without an incarnation the directory has only asked to be a member.
	if id.RaftID == 0 || (id.Incarnation.IsZero() && !asConfigured) {
		return n.newIdentity(group)
	}
	switch {
	case id.Group != group:
		return id, fmt.Errorf("%w: %s belongs to group %s, not %s; use another directory", ErrDirectory, n.cfg.Dir, id.Group, group)
	case n.cfg.Member != "" && id.Member != member:
		return id, fmt.Errorf("%w: %s belongs to member %s, not %s; use another directory", ErrDirectory, n.cfg.Dir, id.Member, member)
	case n.cfg.Bootstrap:
		return id, fmt.Errorf("%w: %s already holds member %s of the group; open it without Bootstrap", ErrDirectory, n.cfg.Dir, id.Member)
	}
	return n.nextSession(id)
}

func (n *Node) nextSession(id gcs.Identity) (gcs.Identity, error) {
	id.Session++
	return id, n.log.SetIdentity(id)
}

func (n *Node) newIdentity(group gtid.UUID) (id gcs.Identity, err error) {
	if last, err := n.log.LastIndex(); err != nil || (last != 0 && !n.cfg.Bootstrap) {
		return id, errors.Join(err, fmt.Errorf(
			"%w: %s holds the beginning of a group whose founding was cut off; open it with Bootstrap, or empty it to join another",
			ErrDirectory, n.cfg.Dir))
	}
	at := n.engine.Position()
	continues := false
	if at.Index != 0 && n.cfg.Bootstrap {
		if continues, err = restored(n.cfg.Dir, n.engine); err != nil {
			return id, err
		}
	}
	if at.Index != 0 && !continues {
		return id, fmt.Errorf("%w: %s has data up to log index %d and no log; empty it to join anew", ErrDirectory, n.cfg.Dir, at.Index)
	}
	id = gcs.Identity{Group: group, RaftID: newRaftID(), Session: 1}
	if n.cfg.Member != "" {
		id.Member, err = gtid.ParseUUID(n.cfg.Member)
	} else {
		id.Member, err = gtid.NewUUID(crand.Reader)
	}
	if err != nil || !n.cfg.Bootstrap {
		return id, errors.Join(err, n.log.SetIdentity(id))
	}
	if id.Incarnation, err = gtid.NewUUID(crand.Reader); err != nil {
		return id, err
	}
	if continues {
		return n.refound(id)
	}
	// The identity makes the directory a member's. It comes last, so that a
	// crash before it leaves a directory that can be bootstrapped again.
	w, err := gcs.Bootstrap(id, n.describe(id), n.cfg.foundingMessages()...)
	if err != nil {
		return id, err
	}
	id.Session++ // the founding was the first
	return id, errors.Join(n.log.Write([]gcs.LogWrite{w}), n.log.SetIdentity(id))
}

func newRaftID() uint64 {
	var b [8]byte
	for {
		_, _ = crand.Read(b[:]) // never fails, by its contract
		if id, ok := gcs.NewRaftID(binary.LittleEndian.Uint64(b[:])); ok {
			return id
		}
	}
}

// describe is what the group knows about this member.
func (n *Node) describe(id gcs.Identity) gcs.Member {
	return gcs.Member{
		UUID: id.Member, RaftID: id.RaftID, Address: n.address,
		Version: uint32(n.cfg.describe().Version), Weight: uint32(n.cfg.MemberWeight),
	}
}

// errNeedsClone says that what the directory lacks can only come from another
// member.
var errNeedsClone = errors.New("concordat: log begins after the data end")

// replicaConfig returns what the state machine starts from: what the disk holds.
func (n *Node) replicaConfig() (cfg replica.Config, err error) {
	if needs, err := n.needsClone(); err != nil || needs {
		return cfg, cmp.Or(err, errNeedsClone)
	}
	at := n.engine.Position()
	checkpoint, err := n.log.Checkpoint(at.Index)
	if err != nil {
		return cfg, err
	}
	hs := n.log.HardState()
	c := &n.cfg
	return replica.Config{
		Group: gcs.Config{
			Identity: n.log.Identity(), // with the session of this life
			Log:      n.log,
			// What the engine holds was committed, though the log may not say so.
			HardState:     gcs.HardState{Term: hs.GetTerm(), Vote: hs.GetVote(), Commit: max(hs.GetCommit(), at.Reached())},
			Checkpoint:    checkpoint,
			Applied:       at.Index,
			ElectionTicks: c.ElectionTicks,
			SuspectTicks:  c.ticks(c.MemberSuspectTimeout),
			ExpelTicks:    max(1, c.ticks(c.MemberExpelTimeout)),
			StallTicks:    c.ticks(c.LogStallTimeout),
			Limits:        gcs.DefaultLimits(),
			Logger:        n.logger,
		},
		AppliedPart:     at.Part,
		MajorityTicks:   c.ticks(c.UnreachableMajorityTimeout),
		FailoverTicks:   c.ticks(c.FailoverTimeout),
		Tick:            c.TickInterval,
		Self:            c.describe(),
		Seed:            rand.Uint64(),
		ApplyBytes:      c.ApplyQueueBytes,
		CheckpointBytes: c.CheckpointBytes,
		Checks:          n.compared,
		FlowExempt:      c.FlowControlExempt,
		Prepares:        preparer(n.engine) != nil,
	}, nil
}

// revive makes a life from what the disk holds.
func (n *Node) revive() (*life, error) {
	cfg, err := n.replicaConfig()
	if err != nil {
		return nil, err
	}
	if n.patient && cfg.MajorityTicks > 0 {
		cfg.MajorityTicks = max(cfg.MajorityTicks, n.cfg.ticks(n.tryPatience()))
	}
	n.patient = false
	r, err := replica.New(cfg)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDirectory, err)
	}
	if v := r.Status().View; v.ID > 0 {
		if err := n.checkAddress(v); err != nil {
			return nil, err
		}
		n.setPeers(v.Members...)
	}
	return newLife(n, r), nil
}
