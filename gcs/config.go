package gcs

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"

	"go.etcd.io/raft/v3"
)

// Limits bound what one member holds in memory on behalf of the group.
type Limits struct {
	// FrameBytes is the size at which a frame is cut although more is waiting.
	// A single larger message still makes a frame of its own.
	FrameBytes int
	// WindowFrames is how many frames may be broadcast and not yet delivered.
	WindowFrames int
	// EagerFrames is how many frames may be under way when another one is cut
	// that is far from full. Beyond it a frame waits for an eighth of
	// FrameBytes: under load fewer, larger frames share the cost of a log
	// entry and its fsyncs, and nobody waits longer than for the frames before.
	// 0 stands for 2.
	EagerFrames int
	// WindowBytes is how large those frames may be together; one is let
	// through whatever its size. 0 stands for 16 MiB.
	WindowBytes int
	// UncommittedBytes is how much the leader accepts before a majority has it.
	UncommittedBytes uint64
	// InflightBytes is how much the leader sends to a member ahead of its
	// acknowledgements. It bounds what a follower has to hold, too.
	InflightBytes uint64
	// DeliveryBytes is how much raft hands out for delivery at a time.
	DeliveryBytes uint64
}

// maxMessageBytes is how much log the leader sends in one message, one entry
// being sent whatever its size.
const maxMessageBytes = 1 << 20

// defaultEagerFrames lets one frame be written while the next one is sent.
const defaultEagerFrames = 2

// defaultWindowBytes leaves room for several members in what the leader accepts.
const defaultWindowBytes = 16 << 20

// DefaultLimits returns the limits that Open uses.
func DefaultLimits() Limits {
	return Limits{
		FrameBytes:       256 << 10,
		WindowFrames:     8,
		EagerFrames:      defaultEagerFrames,
		WindowBytes:      defaultWindowBytes,
		UncommittedBytes: 64 << 20,
		InflightBytes:    32 << 20,
		DeliveryBytes:    16 << 20,
	}
}

// The rhythm of the group, in ticks.
const (
	heartbeatTicks = 1
	// resendTicks is how long a frame may stay undelivered under one leader
	// before it is sent again. It only costs log space when it is too short.
	resendTicks = 20
	// reportTicks is how often a member tells all others how far it is.
	reportTicks = 2
	// readTicks is how long a read may stay unanswered before it is asked again.
	readTicks = 2
	// freshTicks is how old a member's last report may be for it to get the lead
	// that this one gives up.
	freshTicks = 3 * reportTicks
	// askTicks is how long ago a member last asked to leave when it is taken to
	// have thought better of it.
	askTicks = 10 * reportTicks
	// changeTicks is how long the leader gives a membership change before it
	// proposes the next, or the same one again.
	changeTicks = 4
	// snapshotRounds is how many rounds of reports the leader hears a member
	// that should clone before it offers the clone again.
	snapshotRounds = 20
)

// The patience of the group, in ticks, when Config does not say otherwise. They
// are meant for ticks of 50 ms.
const (
	// DefaultSuspectTicks is 2 s: twenty reports in a row, and more than the
	// longest election, so nobody is suspected whom a change of leader alone has
	// kept busy.
	DefaultSuspectTicks = 40
	// DefaultExpelTicks is 5 s more, as in Group Replication: a process that is
	// started again at once, or a switch that restarts a port, is back in time.
	DefaultExpelTicks = 100
	// DefaultStallTicks is 2 s: no disk that works takes so long, however busy,
	// and the lead is elsewhere before anybody would be expelled for it.
	DefaultStallTicks = 40
)

// MinSuspectTicks is the least that Config.SuspectTicks can be: one report more
// than two may get lost before a member is suspected.
const MinSuspectTicks = 2*reportTicks + 1

// PromoteLag is how many log entries a RECOVERING member may be behind the
// leader's commit index of two rounds of reports ago, and its engine behind
// what it had delivered a round ago, for the leader to make it ONLINE. With
// the rounds it can keep up at any load; with the entries, as one that is
// slowed down for a moment.
const PromoteLag = 64

// Config says who a member is and what it starts from.
type Config struct {
	Identity Identity
	Log      LogReader
	// HardState is what the log holds. It may be empty.
	HardState HardState
	// Checkpoint is where the member's state begins; the zero value for a log
	// that is whole.
	Checkpoint Checkpoint
	// Applied is a log index that is known to be committed because the engine
	// holds it. The stored commit index may lag behind it, for it is not
	// synced by itself.
	Applied uint64
	// ElectionTicks is how many ticks without a leader start an election.
	// Each member waits this long to twice this long.
	ElectionTicks int
	// SuspectTicks is how long another member is not heard when this one holds it
	// for UNREACHABLE. 0 stands for DefaultSuspectTicks.
	SuspectTicks int
	// ExpelTicks is how long a member is suspected when the leader proposes to
	// expel it. It should be the same on all members, for any of them may lead. 0
	// stands for DefaultExpelTicks; negative is never.
	ExpelTicks int
	// StallTicks is how long a write of the log may take before this member gives
	// up the lead, if it has it. 0 stands for DefaultStallTicks.
	StallTicks int
	Limits     Limits
	// Logger gets what raft says. nil is silent.
	Logger *slog.Logger
}

// HardState is what raft must never forget. It mirrors the stored form, which
// is all pointers.
type HardState struct{ Term, Vote, Commit uint64 }

func (c *Config) validate() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf("gcs: "+format, args...))
		}
	}
	id := c.Identity
	check(!id.Group.IsZero(), "the group has no name")
	check(!id.Member.IsZero(), "the member has no UUID")
	check(id.RaftID != 0 && !raft.IsLocalMsgTarget(id.RaftID), "raft id %d is reserved", id.RaftID)
	check(id.Session != 0, "the session is 0; the first run of a member is session 1")
	check(c.ElectionTicks > heartbeatTicks, "%d election ticks are too few, the least is %d", c.ElectionTicks, heartbeatTicks+1)
	check(c.SuspectTicks == 0 || c.SuspectTicks >= MinSuspectTicks, "%d ticks until suspicion are too few, the least is %d", c.SuspectTicks, MinSuspectTicks)
	check(c.StallTicks >= 0, "%d ticks for a write of the log are too few, the least is 1", c.StallTicks)
	check(c.Limits.InflightBytes >= maxMessageBytes, "%d bytes in flight are less than one message of raft's, %d", c.Limits.InflightBytes, maxMessageBytes)
	check(c.Limits.WindowFrames > 0, "the window of %d frames lets nothing through", c.Limits.WindowFrames)
	return errors.Join(errs...)
}

// patience is what these durations stand for.
func (c *Config) patience() patience {
	return patience{
		suspect: cmp.Or(c.SuspectTicks, DefaultSuspectTicks),
		expel:   cmp.Or(c.ExpelTicks, DefaultExpelTicks),
		stall:   cmp.Or(c.StallTicks, DefaultStallTicks),
	}
}

func (c *Config) raftConfig(s raft.Storage) *raft.Config {
	return &raft.Config{
		ID:                        c.Identity.RaftID,
		ElectionTick:              c.ElectionTicks,
		HeartbeatTick:             heartbeatTicks,
		Storage:                   s,
		Applied:                   c.Checkpoint.Index,
		AsyncStorageWrites:        true,
		MaxSizePerMsg:             maxMessageBytes,
		MaxCommittedSizePerReady:  c.Limits.DeliveryBytes,
		MaxUncommittedEntriesSize: c.Limits.UncommittedBytes,
		MaxInflightMsgs:           512,
		MaxInflightBytes:          c.Limits.InflightBytes,
		CheckQuorum:               true,
		PreVote:                   true,
		StepDownOnRemoval:         true,
		DisableProposalForwarding: true,
		Logger:                    raftLogger{c.Logger},
	}
}

// NewRaftID turns 64 random bits into an id that raft can use. ok is false
// for the few values that raft keeps for itself; draw again.
func NewRaftID(random uint64) (id uint64, ok bool) {
	return random, random != 0 && !raft.IsLocalMsgTarget(random)
}
