package concordat

import (
	"errors"
	"fmt"
	"time"

	"github.com/concordatdb/concordat/applier"
	"github.com/concordatdb/concordat/gcs"
	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/internal/outlook"
	"github.com/concordatdb/concordat/internal/standing"
)

// State is a member's state, in the words of Group Replication. What leads from
// one to another is in docs/membership.md.
type State = standing.State

// The states. Unreachable is what a member calls another one that it does not
// hear; no member is it in its own eyes.
const (
	Offline     = standing.Offline     // in no group
	Recovering  = standing.Recovering  // in the group, and catching up
	Online      = standing.Online      // serves transactions
	Error       = standing.Error       // lost its place, or failed; see Status.Err
	Unreachable = standing.Unreachable // not heard by the member that was asked
)

// Diagnosis says in a word and in a few sentences how the group stands in the
// eyes of a member, and what to do about it.
type Diagnosis = outlook.Diagnosis

// Outlook is the arithmetic behind it: members, votes, quorum, tolerance.
type Outlook = outlook.Outlook

// Digest identifies the contents of a store: members at the same position have
// the same one.
type Digest = applier.Digest

// NotHeard stands in [Member.Heard] for a member of which nothing is heard.
const NotHeard time.Duration = -1

// Member is a member of a view.
type Member struct {
	UUID    gtid.UUID
	RaftID  uint64 // of its present life in the group
	Address string
	Version uint32 // major<<16 | minor<<8 | patch
	Weight  uint32
	State   State
	// Heard is how long ago the member that was asked last heard this one, and
	// Delivered and Applied how far it said it was; zero for that member itself.
	// Heard is NotHeard where that member has heard nothing of this one since it
	// began to listen, and where it hears nobody now.
	Heard              time.Duration
	Delivered, Applied uint64
	// Primary and Writes are its part in the group by what the member that was
	// asked has delivered. ClientAddress is where clients reach it, if it has said.
	Primary, Writes bool
	ClientAddress   string
	// Fresh is how old its data may be, NotKnown where nothing is known of that.
	Fresh time.Duration
}

// View is the membership of the group as the log has it.
type View struct {
	ID      uint64 // counts the group's views
	Index   uint64 // log index where it began
	Cause   string // what began it, and why
	Members []Member
}

// Status is what a node knows about itself and the group at one moment.
type Status struct {
	Group       gtid.UUID
	Incarnation gtid.UUID // of the group
	Member      gtid.UUID
	State       State
	Err         error     // why the state is ERROR, or why the group did not take the member; else nil
	Leader      gtid.UUID // member that leads raft, zero if none is known
	View        View

	Delivered uint64   // log index up to which the log was certified here
	Applied   uint64   // log index up to which it is visible here
	Durable   uint64   // log index below which the store cannot fall back
	Executed  gtid.Set // GTIDs visible here
	Counters  Counters

	// Quorum: the member hears, itself included, a majority of the voters. One
	// that has just started hears nobody yet, and waits before it calls that a
	// loss.
	Quorum     bool
	Outlook    Outlook
	Diagnosis  Diagnosis
	Waiting    string    // for whom the member waits that hears no quorum
	Recovery   *Recovery // of a member that catches up, else nil
	LogStalled bool      // a write of this member's log takes longer than LogStallTimeout; Outlook counts the others'
	Frozen     gtid.UUID // the plan of force-members that the member is frozen for, else zero
	RejoinTry  int       // the try to come back that is under way, else 0

	Mode     Mode
	Epoch    uint64    // counts the changes of who may write, 0 before the group's first
	Primary  gtid.UUID // zero in a multi-primary group, and where none can be elected
	Writable bool      // transactions that write can begin here
	// Alone: this member is the primary, and too few of the others have told lately
	// that they hear it. Another one may have been elected.
	Alone bool
	// Outdated is a newer epoch than Epoch of which others have told, 0 for none.
	Outdated uint64
	Action   *ActionReport // the planned change that is under way, nil for none
	Protocol uint32        // that the group speaks
	Gate     *Gate         // of what is held back here, nil for nothing
	Fresh    time.Duration // how old what is visible here may be; NotKnown where nothing is known of that
	// Running are the transactions that may write, have begun here, and were not
	// handed to the group yet: a planned change that takes this member's right to
	// write waits for them.
	Running int
	// StateCheck is how the members' data compare.
	StateCheck StateCheck
	// ApplyFaults are the transactions that engines could not apply.
	ApplyFaults ApplyFaults
	// Flow says who slows whom.
	Flow FlowStatus
}

// Gate is an After transaction that others may not know of yet. What is ordered
// from there on is not visible before they do.
type Gate struct {
	Index uint64 // up to which transactions that begin here wait
	// Waits are the members that have not told that they know of the oldest such
	// transaction.
	Waits []gtid.UUID
}

// Counters count since the node was opened.
type Counters struct {
	Committed       uint64 // local transactions that committed
	Duplicates      uint64 // local transactions that had committed before, by their id
	Conflicts       uint64 // local transactions that conflicted
	SnapshotsTooOld uint64 // local transactions that began before the history mark
	Applied         uint64 // transactions applied, of all members
	LogWrites       uint64 // group commits of the log, each with one fsync at most
	LogWriteTime    time.Duration
	HistoryItems    uint64 // items and transactions in the certification history now
	HistoryBytes    uint64 // about what that takes, as GroupSettings.HistoryBytes limits it
	Sequence        uint64 // transactions certified since the group began
	StateChecks     uint64 // slices that were hashed here for state checks
	CheckedPairs    uint64 // pairs in them
	StateCheckTime  time.Duration

	GiantsPending  uint64 // transactions that come in fragments now, of all members
	GiantBytes     uint64 // that have come of them
	GiantBytesHeld uint64 // of those, how many are in memory
}

// Status returns what the node knows now. It never blocks for long, and works
// in every state but after Close, when it tells what was last known.
func (n *Node) Status() Status {
	s := n.sight()
	status := Status{
		Group: n.id.Group, Incarnation: s.View.Incarnation, Member: n.id.Member,
		State: n.state(), Err: n.trouble(),
		View:      n.shown(&s),
		Delivered: s.Delivered, Applied: s.Applied, Durable: s.Durable,
		Counters: Counters{
			Committed:       n.counters.committed.Load(),
			Duplicates:      n.counters.duplicates.Load(),
			Conflicts:       n.counters.conflicts.Load(),
			SnapshotsTooOld: n.counters.snapshotsTooOld.Load(),
			Applied:         n.counters.applied.Load(),
			LogWrites:       n.counters.logWrites.Load(),
			LogWriteTime:    time.Duration(n.counters.logNanos.Load()),
			HistoryItems:    uint64(s.History),
			HistoryBytes:    uint64(s.HistoryBytes),
			Sequence:        s.Sequence,
			StateChecks:     n.counters.checks.Load(),
			CheckedPairs:    n.counters.checkedPairs.Load(),
			StateCheckTime:  time.Duration(n.counters.checkNanos.Load()),
			GiantsPending:   uint64(s.Giants.Pending),
			GiantBytes:      uint64(s.Giants.Bytes),
			GiantBytesHeld:  uint64(s.Giants.Held + s.Giants.Copied),
		},
		Quorum: s.Quorum, LogStalled: s.Stalled, RejoinTry: int(n.rejoinTry.Load()),
		StateCheck: stateCheck(&s.Checks), ApplyFaults: applyFaults(&s.Faults),
	}
	n.statusOfRights(&s, &status)
	status.Flow = n.flowStatus(&s)
	if leader, ok := s.View.Member(s.Leader); ok {
		status.Leader = leader.UUID
	}
	if !n.closed.Load() {
		at := n.engine.Position()
		status.Applied, status.Executed = at.Index, at.Executed
	}
	if r, ok := n.recovery.report(); ok {
		status.Recovery = &r
	}
	if p := n.frozenFor.Load(); p != nil {
		status.Frozen = *p
	}
	facts := n.facts(&s, &status)
	status.Outlook, status.Diagnosis, status.Waiting = outlook.Of(facts.View, facts.Unreachable, facts.Stalled...), outlook.Diagnose(facts), facts.Waiting()
	if w := n.waits.Load(); w != nil && status.State == Offline {
		status.Diagnosis.Text = fmt.Sprintf("This member asks %v to take it into the group, and goes on until somebody does: %v", w.asked, w.err)
	}
	return status
}

// statusOfRights tells who writes, and what is held back.
func (n *Node) statusOfRights(s *known, status *Status) {
	e := &s.Election
	status.Mode, status.Epoch, status.Protocol = e.Mode, e.Epoch, uint32(e.Protocol)
	if p, ok := e.PrimaryMember(); ok {
		status.Primary = p.UUID
	}
	status.Writable = n.writer.Load() && n.drain.shut.Load() == 0 && n.serving() == nil
	status.Alone, status.Outdated, status.Running = s.Alone, s.Outdated, int(n.drain.open.Load())
	if a := e.Action; a != nil {
		r := reportAction(s, a)
		status.Action = &r
	}
	if s.Floor.Gate != 0 && len(s.GateWaits) > 0 {
		status.Gate = &Gate{Index: s.Floor.Gate, Waits: n.named(s.GateWaits)}
	}
	status.Fresh = NotKnown
	if l := n.life.Load(); l != nil && !n.closed.Load() {
		status.Fresh = l.reads.age(n.engine.Position().Index)
	}
}

// trouble is why the member is in ERROR, or why the group did not take it.
func (n *Node) trouble() error {
	if err := n.failed(); err != nil {
		return err
	}
	if e := n.lost(); e != nil {
		return e.err
	}
	return nil
}

// sight is what is known, with those whom the member hears now: one without a
// state machine hears nobody, whatever it last heard. Who copies another member's
// state, or takes up its log, has had no time to miss anybody.
func (n *Node) sight() known {
	s := n.known()
	if n.life.Load() != nil || n.closed.Load() {
		return s
	}
	begins := n.state() == Recovering && n.frozenFor.Load() == nil
	s.Peers = nil
	for _, m := range s.View.Members {
		if m.UUID != n.id.Member {
			s.Peers = append(s.Peers, gcs.Peer{RaftID: m.RaftID, Heard: gcs.NeverHeard, Unreachable: !begins})
		}
	}
	return s
}

// TickInterval returns how long one of the ticks takes in which a [ForcePlan]
// counts (Config.TickInterval).
func (n *Node) TickInterval() time.Duration { return n.cfg.TickInterval }

func (n *Node) facts(s *known, status *Status) outlook.Facts {
	f := outlook.Facts{
		State: status.State, View: s.View, Unreachable: unreachable(s), Stalled: n.stalled(s), Quorum: s.Quorum || s.QuorumUnknown, Leader: s.Leader != 0,
		LogStalled: s.Stalled, Frozen: status.Frozen, RejoinTry: status.RejoinTry, RejoinTries: n.cfg.AutoRejoinTries,
		Diverged: errors.Is(status.Err, ErrDiverged),
		Election: s.Election, Alone: s.Alone,
	}
	if status.Err != nil {
		f.Err = status.Err.Error()
	}
	if r := status.Recovery; r != nil {
		f.Recovery = progress(r)
		// Who copies another member's state has no state machine that hears the
		// others, and does not wait for them.
		f.Quorum = f.Quorum || r.Method == RecoveryClone
	}
	return f
}

// unreachable are the raft ids of those whom the member does not hear.
func unreachable(s *known) (ids []uint64) {
	for _, p := range s.Peers {
		if p.Unreachable {
			ids = append(ids, p.RaftID)
		}
	}
	return ids
}

// stalled are the raft ids of those who say that their disks do not answer, this
// member among them.
func (n *Node) stalled(s *known) (ids []uint64) {
	for _, p := range s.Peers {
		if p.Report.Stalled {
			ids = append(ids, p.RaftID)
		}
	}
	for _, m := range s.View.Members {
		if s.Stalled && m.UUID == n.id.Member {
			ids = append(ids, m.RaftID)
		}
	}
	return ids
}

// shown is the view as the member sees it: with those UNREACHABLE whom it does
// not hear.
func (n *Node) shown(s *known) View {
	view := viewOf(s.View)
	for i := range view.Members {
		m := &view.Members[i]
		if e, ok := s.Election.Member(m.RaftID); ok {
			// By its last opening, where the view has what it joined with.
			m.Version, m.Weight, m.ClientAddress = uint32(e.Version), e.Weight, e.ClientAddress
			m.Writes, m.Primary = e.Writes, e.RaftID == s.Election.Primary
		}
		m.Fresh = NotKnown
		for _, p := range s.Peers {
			if p.RaftID != m.RaftID {
				continue
			}
			m.State = standing.Shown(m.State, false, !p.Unreachable)
			if m.Heard = NotHeard; p.Heard != gcs.NeverHeard {
				m.Heard = time.Duration(p.Heard) * n.cfg.TickInterval
			}
			m.Delivered, m.Applied, m.Fresh = p.Report.Delivered, p.Report.Applied, n.ageOf(p)
		}
	}
	return view
}

func viewOf(v gcs.View) View {
	view := View{ID: v.ID, Index: v.Index, Members: make([]Member, 0, len(v.Members))}
	if v.ID > 0 {
		view.Cause = causeOf(v.Cause)
	}
	for _, m := range v.Members {
		view.Members = append(view.Members, Member{
			UUID: m.UUID, RaftID: m.RaftID, Address: m.Address,
			Version: m.Version, Weight: m.Weight, State: State(m.State.String()),
		})
	}
	return view
}

// causeOf says what began a view, and why.
func causeOf(c gcs.Change) string {
	if c.Reason == "" {
		return c.String()
	}
	return fmt.Sprintf("%s: %s", c, c.Reason)
}

// ViewRecord is one of the group's last views.
type ViewRecord struct {
	ID          uint64
	Index       uint64 // log index where it began
	Incarnation gtid.UUID
	Cause       string // what began it
	Reason      string // why, as whoever changed it recorded it; may be empty
}

// Views returns the group's last 64 views as this member knows them, oldest
// first. They are part of what the group replicates: a member that joined or
// restarted since knows them too.
func (n *Node) Views() []ViewRecord {
	history := n.known().Views
	out := make([]ViewRecord, 0, len(history))
	for _, v := range history {
		out = append(out, ViewRecord{ID: v.ID, Index: v.Index, Incarnation: v.Incarnation, Cause: v.Cause.String(), Reason: v.Cause.Reason})
	}
	return out
}

// progress says how a member catches up, as the predicate of a sentence.
func progress(r *Recovery) string {
	text := fmt.Sprintf("has applied the log up to %d of %d", r.Position, r.Target)
	unit := "entries/s"
	if r.Method == RecoveryClone {
		text, unit = fmt.Sprintf("copies the state of %s, %d of %d bytes", r.Address, r.Done, r.Total), "B/s"
	}
	if r.Rate > 0 {
		text += fmt.Sprintf(", at %.0f %s, about %s left", r.Rate, unit, r.Left.Round(time.Second))
	}
	return text
}
