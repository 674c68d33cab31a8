package concordat

import (
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"time"

	"github.com/concordatdb/concordat/applier"
	"github.com/concordatdb/concordat/election"
	"github.com/concordatdb/concordat/gcs"
	"github.com/concordatdb/concordat/gcs/transport"
	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/internal/replica"
	"github.com/concordatdb/concordat/proto/concordat/peer/v1"
)

// Version is the version of this library as members tell it to each other.
const Version = 1 << 8 // 0.1.0

// The defaults of Config.
const (
	DefaultMemberWeight       = 50
	DefaultTickInterval       = 50 * time.Millisecond
	DefaultElectionTicks      = 16
	DefaultMaxPendingCommits  = 4096
	DefaultMaxPendingBytes    = 64 << 20
	DefaultCacheBytes         = 64 << 20
	DefaultCheckpointBytes    = 64 << 20
	DefaultApplyQueueBytes    = 64 << 20
	DefaultApplyWorkers       = 4 // at most; see Config.ApplyWorkers
	DefaultMaxChangeConsumers = 64

	DefaultMemberSuspectTimeout = 2 * time.Second
	DefaultMemberExpelTimeout   = 5 * time.Second
	DefaultAutoRejoinTries      = 3
	DefaultAutoRejoinInterval   = 10 * time.Second
	DefaultLogStallTimeout      = 2 * time.Second
	DefaultFailoverTimeout      = time.Second
)

// Mode says how many members write.
type Mode = election.Mode

// The modes.
const (
	// SinglePrimary: one member writes, and the group elects another one when that
	// one goes or falls silent.
	SinglePrimary = election.SinglePrimary
	// MultiPrimary: all ONLINE members of the lowest version write.
	MultiPrimary = election.MultiPrimary
)

// minFailoverTicks is the shortest silence that tells something: members report
// every second tick.
const minFailoverTicks = 4

// ExitStateAction is what a member does that is out of its group against its
// will and will not come back by itself, in the words of Group Replication.
type ExitStateAction string

// The actions. In each of them the member is in ERROR, and changes nothing.
const (
	// ReadOnly serves what the member holds to readers, as old as it is.
	ReadOnly ExitStateAction = "READ_ONLY"
	// OfflineMode serves nobody.
	OfflineMode ExitStateAction = "OFFLINE_MODE"
	// Abort is OfflineMode, and asks the program to end by Config.OnExit. The
	// library never ends it.
	Abort ExitStateAction = "ABORT"
)

// Config says what a node is. Zero values stand for the defaults; Group, Dir
// and Listen have none.
type Config struct {
	// Group is the name of the group, a UUID. GTIDs are numbered under it.
	Group string
	// Dir is the directory that holds the member's log and data. It belongs to
	// one running node. Losing it is losing the member, not the group's data.
	Dir string
	// Listen is the address, host:port, on which other members reach this one.
	// With port 0 the system chooses a port.
	Listen string
	// Advertise is the address that is told to the other members, where it
	// differs from Listen. It must be set when Listen is every address of the
	// host.
	Advertise string
	// Seeds are addresses of members to ask when this one has to join. They
	// are not used once the member is in the group.
	Seeds []string
	// Bootstrap makes a new group with this member alone. Once, on one member;
	// a directory that already holds a member refuses it.
	Bootstrap bool
	// Member is the member's UUID. Empty: drawn when the directory is new.
	Member string
	// MemberWeight, 0 to 100, ranks members in primary elections; a negative
	// number means 0. Default 50.
	MemberWeight int

	// Engine, if set, replaces the built-in key-value store. The node closes
	// it.
	Engine applier.Engine
	// CacheBytes is the built-in store's block cache. Default 64 MiB.
	CacheBytes int64

	// ChangeRetentionBytes is how many bytes of changes the built-in store keeps for
	// [Node.Changes]: about the keys and values written. Copies of the member carry
	// them too. Default 0: none. What a member keeps that is opened without is
	// forgotten.
	ChangeRetentionBytes int64
	// ChangeRetentionAge is for how long it keeps them at most, to within two steps
	// of a 64th, also while nothing happens. Default 0: no bound.
	ChangeRetentionAge time.Duration
	// ChangeOldValues keeps with each change the values before it, which costs a
	// read of the store for each row. Default false.
	ChangeOldValues bool
	// MaxChangeConsumers is how many streams of changes there may be at a time.
	// Default 64.
	MaxChangeConsumers int

	// TLS authenticates members to each other. nil: plaintext. [TLSFiles] says
	// what it must hold, and makes one.
	TLS *tls.Config

	// MaxPendingCommits is how many commits may wait for their verdict at a
	// time. Further ones wait for a place. Default 4096.
	MaxPendingCommits int
	// MaxPendingBytes is how many bytes of transactions may wait for their
	// verdict at a time. A single larger one waits until it is alone. Those that
	// travel in fragments do not count: one of them is on its way at a time, and
	// the others wait for it. Default 64 MiB.
	MaxPendingBytes int
	// Founding is the configuration that a new group begins with. Only
	// Bootstrap looks at it; later the group's own counts, see
	// [Node.GroupSettings].
	Founding GroupSettings
	// FoundingMode is the mode that a new group begins with. Only Bootstrap looks at
	// it; later the group switches by [Node.SwitchToSinglePrimary] and
	// [Node.SwitchToMultiPrimary]. Default SinglePrimary.
	FoundingMode Mode
	// Consistency is the level of this member's transactions that choose none.
	// Default: the group's, see [GroupSettings.Consistency].
	Consistency Consistency
	// FailoverTimeout is how long the primary of a single-primary group is silent
	// when the group elects another one, and how long a primary is heard by nobody
	// when it stops taking transactions that write. It should be the same on all
	// members. Default 1 s, at least 4 ticks.
	FailoverTimeout time.Duration
	// ClientAddress is the address, host:port, on which clients reach this member.
	// The group tells it to them; nothing else is done with it.
	ClientAddress string
	// CheckpointBytes is how much log lies between two checkpoints. About three
	// times as much is kept on disk, and up to ten times while a member is
	// brought up to date from it. Default 64 MiB.
	CheckpointBytes int
	// WarmLog writes the log's first segments, about 200 MiB, when the node is
	// opened, which then takes half a second longer or more. From then on the
	// log overwrites files instead of growing them, and an fsync costs less:
	// with it 64 callers commit about a tenth more on the disks measured.
	WarmLog bool
	// ApplyQueueBytes bounds what is delivered and not yet visible. Default
	// 64 MiB.
	ApplyQueueBytes int
	// ApplyWorkers is how many goroutines build what becomes visible: parts of a
	// batch in the built-in store, which beyond 1 also builds the next batch while
	// one is committed; transactions, with an Engine that is [applier.Parallel].
	// They become visible in the order in which they were certified, whatever it
	// is. Default: as many as Go runs at a time, at most 4.
	ApplyWorkers int
	// FlowControlExempt lets this member fall behind: the others are not slowed for its
	// sake. For one that makes backups or reports, say. See [GroupSettings.FlowControl].
	FlowControlExempt bool
	// TickInterval is the unit of the group's clock, and the interval of
	// heartbeats. It should be the same on all members. Default 50 ms.
	TickInterval time.Duration
	// ElectionTicks is how many ticks without a leader start an election; each
	// member waits this long to twice this long. Default 16, that is 0.8 s to
	// 1.6 s.
	ElectionTicks int

	// MemberSuspectTimeout is how long a member is not heard until this one holds
	// it for UNREACHABLE. Default 2 s.
	MemberSuspectTimeout time.Duration
	// MemberExpelTimeout is how long after that the group expels it, if this
	// member leads then; a negative number means at once. It should be the same
	// on all members. Default 5 s.
	MemberExpelTimeout time.Duration
	// UnreachableMajorityTimeout is how long this member waits for a majority
	// that it does not hear before it gives its place in the group up. Default 0:
	// for ever.
	UnreachableMajorityTimeout time.Duration
	// AutoRejoinTries is how often a member that was expelled, or gave up, asks
	// the group to take it back before ExitStateAction; a negative number means
	// never. Default 3.
	AutoRejoinTries int
	// AutoRejoinInterval is the pause between two of these tries. Default 10 s.
	AutoRejoinInterval time.Duration
	// ExitStateAction is what a member does that is out of its group against its
	// will and does not come back. Default ReadOnly.
	ExitStateAction ExitStateAction
	// OnExit, if set, is called once, in a goroutine of its own, when the member
	// has come to its ExitStateAction, with the reason. Nobody waits for it: it may
	// close the node.
	OnExit func(reason error)
	// LogStallTimeout is how long a write of the log may take before a member
	// that leads gives up the lead. Default 2 s.
	LogStallTimeout time.Duration
	// IPAllowlist names the addresses, or networks in CIDR form, from which
	// members may connect. Empty: from everywhere.
	IPAllowlist []string
	// CloneRate bounds, in bytes per second, how fast this member copies another
	// one's state. Default 0: no bound.
	CloneRate int64
	// Donor is the member, by UUID or address, that this one copies the state
	// from if it has to and that one can. Empty: the least busy one.
	Donor string
	// Replaces is the UUID of a dead member whose place a new one takes.
	Replaces string

	// Logger gets what happens. nil: silence.
	Logger *slog.Logger

	// build is what the member says of its build, zero for the one that it is: one
	// process can be members of several.
	build build
}

// build is a version, and the protocols that it speaks. Without them they are
// those of the version.
type build struct {
	version        election.Version
	oldest, newest election.Protocol
}

// TLSFiles names the PEM files from which its Load makes a Config.TLS.
type TLSFiles = transport.TLSFiles

// Validate reports everything that is wrong with c at once. The errors match
// ErrInvalid.
func (c Config) Validate() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf("%w: "+format, append([]any{ErrInvalid}, args...)...))
		}
	}
	_, err := gtid.ParseUUID(c.Group)
	check(err == nil, "Group %q is not a UUID; choose one for the group and use it on every member", c.Group)
	if c.Member != "" {
		_, err = gtid.ParseUUID(c.Member)
		check(err == nil, "Member %q is not a UUID; leave it empty to have one drawn", c.Member)
	}
	check(c.Dir != "", "Dir is empty; name a directory for log and data")
	host, _, err := net.SplitHostPort(c.Listen)
	check(err == nil, "Listen %q is not host:port", c.Listen)
	everywhere := err == nil && (host == "" || net.ParseIP(host).IsUnspecified())
	check(!everywhere || c.Advertise != "",
		"Listen %q is every address of this host; set Advertise to one that the other members can reach", c.Listen)
	if c.Advertise != "" {
		_, _, err = net.SplitHostPort(c.Advertise)
		check(err == nil, "Advertise %q is not host:port", c.Advertise)
	}
	for _, seed := range c.Seeds {
		_, _, err = net.SplitHostPort(seed)
		check(err == nil, "seed %q is not host:port", seed)
	}
	check(c.TLS == nil || c.TLS.ClientAuth == tls.RequireAndVerifyClientCert,
		"TLS.ClientAuth is not RequireAndVerifyClientCert; without it anybody may speak as a member")
	check(!c.Bootstrap || len(c.Seeds) == 0, "Bootstrap makes a new group, Seeds join one; choose")
	check(c.MemberWeight <= 100, "MemberWeight %d exceeds 100", c.MemberWeight)
	c.checkNotNegative(check)
	founding := c.Founding.withDefaults().replicated()
	err = founding.Check()
	check(err == nil, "Founding: %v", err)
	check(c.ElectionTicks != 1, "ElectionTicks is 1, as long as a heartbeat; choose at least 2, or 0 for the default")
	c.checkMembership(check)
	c.checkPrimaries(check)
	return errors.Join(errs...)
}

// complain notes that something is wrong unless ok.
type complain func(ok bool, format string, args ...any)

func (c Config) checkNotNegative(check complain) {
	for _, n := range []struct {
		name  string
		value int64
	}{
		{"MaxPendingCommits", int64(c.MaxPendingCommits)},
		{"MaxPendingBytes", int64(c.MaxPendingBytes)},
		{"CheckpointBytes", int64(c.CheckpointBytes)},
		{"ApplyQueueBytes", int64(c.ApplyQueueBytes)},
		{"ApplyWorkers", int64(c.ApplyWorkers)},
		{"TickInterval", int64(c.TickInterval)},
		{"ElectionTicks", int64(c.ElectionTicks)},
		{"CacheBytes", c.CacheBytes},
		{"MemberSuspectTimeout", int64(c.MemberSuspectTimeout)},
		{"UnreachableMajorityTimeout", int64(c.UnreachableMajorityTimeout)},
		{"AutoRejoinInterval", int64(c.AutoRejoinInterval)},
		{"LogStallTimeout", int64(c.LogStallTimeout)},
		{"FailoverTimeout", int64(c.FailoverTimeout)},
		{"CloneRate", c.CloneRate},
		{"ChangeRetentionBytes", c.ChangeRetentionBytes},
		{"ChangeRetentionAge", int64(c.ChangeRetentionAge)},
		{"MaxChangeConsumers", int64(c.MaxChangeConsumers)},
	} {
		check(n.value >= 0, "%s is negative; 0 means the default", n.name)
	}
}

// checkMembership looks at what decides how the member gets into its group,
// stays there and gets out.
func (c Config) checkMembership(check complain) {
	if d := c.withDefaults(); d.TickInterval > 0 && d.MemberSuspectTimeout > 0 {
		check(d.ticks(d.MemberSuspectTimeout) >= gcs.MinSuspectTicks,
			"MemberSuspectTimeout %v is shorter than %d ticks of %v; members report every second tick", d.MemberSuspectTimeout, gcs.MinSuspectTicks, d.TickInterval)
	}
	_, err := c.allowed()
	check(err == nil, "IPAllowlist: %v", err)
	switch c.ExitStateAction {
	case "", ReadOnly, OfflineMode, Abort:
	default:
		check(false, "ExitStateAction %q is not READ_ONLY, OFFLINE_MODE or ABORT", c.ExitStateAction)
	}
	if c.Replaces != "" {
		_, err = gtid.ParseUUID(c.Replaces)
		check(err == nil, "Replaces %q is not a member's UUID", c.Replaces)
		check(!c.Bootstrap, "Bootstrap makes a new group, in which there is nobody to replace")
	}
}

// checkPrimaries looks at what decides who writes, and what readers see.
func (c Config) checkPrimaries(check complain) {
	switch c.FoundingMode {
	case 0, SinglePrimary, MultiPrimary:
	default:
		check(false, "FoundingMode %d is not SinglePrimary or MultiPrimary", c.FoundingMode)
	}
	check(c.Consistency.Valid(), "Consistency %d is no level", c.Consistency)
	if d := c.withDefaults(); d.TickInterval > 0 && d.FailoverTimeout > 0 {
		check(d.ticks(d.FailoverTimeout) >= minFailoverTicks,
			"FailoverTimeout %v is shorter than %d ticks of %v; members report every second tick", d.FailoverTimeout, minFailoverTicks, d.TickInterval)
	}
	if c.ClientAddress != "" {
		_, _, err := net.SplitHostPort(c.ClientAddress)
		check(err == nil && len(c.ClientAddress) <= election.MaxClientAddress, "ClientAddress %q is not host:port", c.ClientAddress)
	}
}

// describe is what the member says of itself to the elections of its group.
func (c Config) describe() election.Description {
	d := election.Description{Version: cmp.Or(c.build.version, Version), Weight: uint32(c.MemberWeight), ClientAddress: c.ClientAddress}
	if d.Oldest, d.Newest = c.build.oldest, c.build.newest; d.Newest == 0 {
		d.Oldest, d.Newest = election.ProtocolOf(d.Version)
	}
	return d
}

// joinRequest asks for a place for a member that holds what it claims.
func (c Config) joinRequest(id *peerpb.Identity, claim replica.Claim) *peerpb.JoinRequest {
	d := c.describe()
	req := &peerpb.JoinRequest{
		Identity: id, Version: uint32(d.Version), Weight: d.Weight,
		OldestProtocol: uint32(d.Oldest), NewestProtocol: uint32(d.Newest),
	}
	if claim.Index > 0 {
		req.Claim = claiming(claim)
	}
	return req
}

// foundingMessages is what a founder gives its group to begin with.
func (c Config) foundingMessages() [][]byte {
	return [][]byte{replica.FoundingMessage(c.Founding.replicated()), replica.FoundingMode(c.FoundingMode, c.describe().Newest)}
}

// allowed returns the networks of IPAllowlist.
func (c Config) allowed() (networks []netip.Prefix, err error) {
	for _, text := range c.IPAllowlist {
		network, err := netip.ParsePrefix(text)
		if err != nil {
			address, err := netip.ParseAddr(text)
			if err != nil {
				return nil, fmt.Errorf("%q is neither an address nor a network such as 10.0.0.0/8", text)
			}
			network = netip.PrefixFrom(address.Unmap(), address.Unmap().BitLen())
		}
		networks = append(networks, network.Masked())
	}
	return networks, nil
}

// ticks returns d in ticks of the group's clock, rounded up.
func (c Config) ticks(d time.Duration) int {
	return int((d + c.TickInterval - 1) / c.TickInterval)
}

func (c Config) withDefaults() Config {
	c.MemberWeight = max(0, cmp.Or(c.MemberWeight, DefaultMemberWeight))
	c.MaxPendingCommits = cmp.Or(c.MaxPendingCommits, DefaultMaxPendingCommits)
	c.MaxPendingBytes = cmp.Or(c.MaxPendingBytes, DefaultMaxPendingBytes)
	c.Founding = c.Founding.withDefaults()
	c.CheckpointBytes = cmp.Or(c.CheckpointBytes, DefaultCheckpointBytes)
	c.ApplyQueueBytes = cmp.Or(c.ApplyQueueBytes, DefaultApplyQueueBytes)
	c.ApplyWorkers = cmp.Or(c.ApplyWorkers, min(runtime.GOMAXPROCS(0), DefaultApplyWorkers))
	c.MaxChangeConsumers = cmp.Or(c.MaxChangeConsumers, DefaultMaxChangeConsumers)
	c.TickInterval = cmp.Or(c.TickInterval, DefaultTickInterval)
	c.ElectionTicks = cmp.Or(c.ElectionTicks, DefaultElectionTicks)
	c.CacheBytes = cmp.Or(c.CacheBytes, DefaultCacheBytes)
	c.MemberSuspectTimeout = cmp.Or(c.MemberSuspectTimeout, DefaultMemberSuspectTimeout)
	c.MemberExpelTimeout = max(0, cmp.Or(c.MemberExpelTimeout, DefaultMemberExpelTimeout))
	c.AutoRejoinTries = max(0, cmp.Or(c.AutoRejoinTries, DefaultAutoRejoinTries))
	c.AutoRejoinInterval = cmp.Or(c.AutoRejoinInterval, DefaultAutoRejoinInterval)
	c.LogStallTimeout = cmp.Or(c.LogStallTimeout, DefaultLogStallTimeout)
	c.FailoverTimeout = cmp.Or(c.FailoverTimeout, DefaultFailoverTimeout)
	c.FoundingMode = cmp.Or(c.FoundingMode, SinglePrimary)
	c.ExitStateAction = cmp.Or(c.ExitStateAction, ReadOnly)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}
