// Package replica is one member of a group as one state machine.
//
// It owns what holds the parts together: a message is ordered by gcs, judged
// by certifier, handed to the engine, and its caller answered. It feeds the
// election with what the log says, keeps out what the election does not admit,
// and tells the leader's opinions to the log; and it holds back from the engine
// what others could still miss that was promised to all. It promises to
// be a function of its configuration and the events it was given, in their
// order: no goroutine, no clock, no lock, no disk, no randomness. The shell
// around it, in the root package or in the simulator, supplies those.
//
// It must never know how a message travels, what a payload holds, or who waits
// for an answer.
package replica

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/concordatdb/concordat/applier"
	"github.com/concordatdb/concordat/certifier"
	"github.com/concordatdb/concordat/election"
	"github.com/concordatdb/concordat/flowcontrol"
	"github.com/concordatdb/concordat/gcs"
	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/internal/consistency"
	"github.com/concordatdb/concordat/internal/giant"
	"github.com/concordatdb/concordat/internal/outcome"
	"github.com/concordatdb/concordat/internal/queue"
	"github.com/concordatdb/concordat/internal/statecheck"
)

// The rhythm of a member, in ticks.
const (
	// markTicks is how often the leader looks whether history can be forgotten.
	markTicks = 20
	// DefaultFailoverTicks is 1 s in ticks of 50 ms.
	DefaultFailoverTicks = 20
)

// keptCheckpoints is how much log, in units of CheckpointBytes, is kept for a
// member that needs it to catch up. One that is slower than that has to clone.
const keptCheckpoints = 8

// Config says what a member starts from.
type Config struct {
	Group gcs.Config
	// AppliedPart is how many transactions of the entry after Group.Applied the
	// engine holds as well. The entry is committed, by HardState, if there are any.
	AppliedPart uint64
	// ApplyBytes bounds what is delivered and given to the engine but not yet
	// applied. Beyond it delivery waits, and with it raft.
	ApplyBytes int
	// CheckpointBytes is how much log lies between two checkpoints. About
	// three times as much is kept on disk, and about ten times for a member
	// that is being caught up by this one.
	CheckpointBytes int
	// AssemblyBytes bounds how much of giants is held in memory while they come.
	// What is beyond it is read from the log again. 0 stands for 32 MiB.
	AssemblyBytes int
	// Prepares says that the engine gets ready for giants as their fragments come:
	// tasks then tell it of them.
	Prepares bool
	// FragmentWindow is how many fragments of this member's giants may be on their
	// way at a time. 0 stands for 2.
	FragmentWindow int
	// MajorityTicks is how long the member waits for a majority that it does not
	// hear before it takes itself for lost; 0 for ever.
	MajorityTicks int
	// FailoverTicks is how long a primary is not heard when another one is
	// elected, and how long it hears nobody itself when it says so. It should be
	// the same on all members. 0 stands for DefaultFailoverTicks.
	FailoverTicks int
	// Tick is how long a tick lasts. 0 stands for 50 ms.
	Tick time.Duration
	// Self is what the member says of itself to the elections of its group.
	// Without protocols it speaks those of its version.
	Self election.Description
	// Seed is any number that users cannot guess. Only how long something takes
	// depends on it.
	Seed uint64
	// Checks says that the member can hash its data, and so may ask for that.
	Checks bool
	// FlowExempt has the member limit nobody, however far behind it is.
	FlowExempt bool
	// Trace may be nil.
	Trace Trace
}

// Replica is a member. It belongs to one goroutine.
type Replica struct {
	cfg   Config
	group *gcs.Group
	cert  *certifier.Certifier
	// settings is the group's configuration, version 0 before the founder's.
	settings   Settings
	outcomes   *outcome.Window
	forks      []Fork           // never changed in place
	views      []gcs.ViewRecord // the group's last, never changed in place
	origin     gtid.UUID        // member whose messages are being delivered
	elect      *election.State
	changed    bool   // by the entry that is being delivered, the election
	primary    uint64 // raft id, by what is delivered; 0 for none
	opinions   opinions
	lease      lease
	isAlone    bool   // as of the last tick
	wasUnheard bool   // at the last tick
	rumour     uint64 // the newest epoch that another member has reported, as of the last tick
	reads      reads
	checks     checks
	faults     faults

	// after, gates and held keep from the engine what others might not show yet.
	after gates
	gates queue.Queue[gate]
	held  queue.Queue[heldTask]
	// heldBytes is how much of inApplyBytes is held back.
	heldBytes int
	// incarnation is the group's as of the last view delivered.
	incarnation gtid.UUID

	// engine is the log index that the engine held when the member started.
	// What lies before it is certified again but not applied again.
	engine  uint64
	part    uint64 // transactions of the entry after it that the engine held, too, and that are yet to be delivered
	applied uint64
	durable uint64

	// local holds what this session submitted, in order, until delivered.
	local queue.Queue[localMessage]
	// certified holds answers that wait for the engine.
	certified queue.Queue[Answer]
	// inApply holds the batches that the engine has not acknowledged.
	inApply      queue.Queue[applyWork]
	inApplyBytes int

	batch      *applier.Batch // being filled by the deliveries of this step
	batchBytes int
	batchBulks []PlacedBulk

	giants   *giant.Assembly       // replicated, but for what it holds in memory
	pace     pace                  // of those
	expected []expectation         // giants for which the certifier makes room; not replicated
	paused   uint64                // log index of the last end before which a step was over
	message  int                   // number in its entry of the message that is being delivered
	bulks    queue.Queue[bulkWork] // whose memory the engine still needs
	out      queue.Queue[outgoing] // this session's, of which the end was not sent yet
	drained  []byte                // the message that stands behind those, nil for none
	broken   error                 // why this member must not go on

	sinceCheckpoint int          // bytes of log
	sinceStart      uint64       // bytes of log
	checkpoints     []checkpoint // those saved and not yet cut away
	truncated       uint64

	leaving  bool   // somebody wants the member to leave
	snapshot uint64 // log index of the oldest snapshot in use here
	ticks    int
	opened   uint64       // log index where this session began, 0 before
	promoted uint64       // log index where this member became ONLINE, if since the checkpoint
	last     gcs.Delivery // index and term of the last delivery
	marked   uint64       // log index of the last mark proposed

	flow flow

	effects Effects
}

// localMessage is who waits for a message of this session.
type localMessage struct {
	kind   byte // of the message; 0 if nobody waits
	ticket uint64
}

type checkpoint struct {
	index uint64
	bytes uint64 // of log up to there since the start
	floor uint64 // log index of the first fragment that is waited for there, 0 for none
}

// cut is up to where the log may be forgotten for one who starts from there.
func (c *checkpoint) cut() uint64 {
	if c.floor != 0 {
		return min(c.index, c.floor-1)
	}
	return c.index
}

type applyWork struct {
	index uint64
	bytes int
}

// New makes a member. An error says what in cfg does not fit together.
func New(cfg Config) (*Replica, error) {
	if cfg.Self.Oldest == 0 && cfg.Self.Newest == 0 {
		cfg.Self.Oldest, cfg.Self.Newest = election.ProtocolOf(cfg.Self.Version)
	}
	if err := cfg.Self.Check(); err != nil {
		return nil, fmt.Errorf("replica: this member cannot describe itself so: %w", err)
	}
	cfg.FailoverTicks = cmp.Or(cfg.FailoverTicks, DefaultFailoverTicks)
	cfg.Tick = cmp.Or(cfg.Tick, 50*time.Millisecond)
	cfg.AssemblyBytes = cmp.Or(cfg.AssemblyBytes, defaultAssemblyBytes)
	cfg.FragmentWindow = cmp.Or(cfg.FragmentWindow, defaultFragmentWindow)
	r := &Replica{cfg: cfg, engine: cfg.Group.Applied, part: cfg.AppliedPart, applied: cfg.Group.Applied, snapshot: cfg.Group.Applied}
	saved := cfg.Group.Checkpoint
	giants, groupState, own, err := splitState(saved)
	if err != nil {
		return nil, err
	}
	r.giants = giant.NewAssembly(cfg.AssemblyBytes)
	cfg.Group.Checkpoint.Data = groupState
	if r.group, err = gcs.New(cfg.Group); err != nil {
		return nil, err
	}
	r.lease = newLease(cfg.FailoverTicks)
	r.flow.control = flowcontrol.NewController()
	r.outcomes = outcome.New(0, cfg.Seed)
	r.cert = certifier.New(cfg.Group.Identity.Group, certifier.Settings{})
	r.elect = election.New()
	r.checks.state, r.faults.state = statecheck.New(), statecheck.NewFaults()
	if saved.Index > 0 {
		if err := r.restore(own); err != nil {
			return nil, err
		}
		if err := r.restoreGiants(giants, saved.Index); err != nil {
			return nil, err
		}
		r.checkpoints = []checkpoint{{index: saved.Index, floor: r.giants.Oldest()}}
		r.last = gcs.Delivery{Index: saved.Index, Term: saved.Term}
		r.incarnation, r.views = r.group.View().Incarnation, r.group.History()
		r.follow()
	}
	if err := r.checkProtocol(); err != nil {
		return nil, err
	}
	r.submit(localMessage{}, election.AppendDescription([]byte{kindOpen}, r.cfg.Self))
	return r, nil
}

// Step takes a run of events and returns what follows from them. The effects
// are valid until the next call.
func (r *Replica) Step(events ...Event) *Effects {
	r.effects.reset()
	for _, e := range events {
		r.step(e)
	}
	r.group.Flush()
	for r.deliverSome() {
		r.recallGiants()
		r.group.Flush()
	}
	r.tendFaults()
	r.openGates()
	r.tellDelivered()
	r.answerReads()
	r.release()
	r.effects.Floor, r.effects.Alone, r.effects.Outdated = r.floor(), r.isAlone, r.outdated()
	r.effects.Messages = r.group.Messages(r.effects.Messages)
	r.effects.Writes = r.group.Writes(r.effects.Writes)
	r.effects.Notices = r.group.Notices(r.effects.Notices)
	r.effects.State = r.state()
	r.effects.Exit = r.exit()
	r.effects.CloneFrom = r.group.CloneFrom()
	if r.effects.Failure = r.group.Failure(); r.effects.Failure == nil {
		r.effects.Failure = cmp.Or(r.broken, r.checkProtocol())
	}
	return &r.effects
}

func (r *Replica) step(e Event) {
	switch e := e.(type) {
	case Ticked:
		r.tick(e)
	case Received:
		r.group.Receive(e.From, e.Message)
	case Unreachable:
		r.group.Unreachable(e.RaftID, e.Refused)
	case Reachable:
		r.group.Reachable(e.RaftID)
	case Written:
		r.group.Written(e.Responses)
	case Submitted:
		r.broadcast(e)
	case Applied:
		r.noteApplied(e.Index)
	case Checked:
		r.hashed(e)
	case Faulted:
		r.fault(e)
	case Durable:
		r.durable = max(r.durable, e.Index)
		r.cutLog()
	case JoinAsked:
		r.join(e)
	case ChangeAsked:
		answer := ChangeAnswer{Ticket: e.Ticket, Answer: r.group.Change(e.Change)}
		r.effects.Changes = append(r.effects.Changes, answer)
	case LeaveAsked:
		r.leaving = true
		if err := r.group.Leave(); err != nil {
			r.effects.Leaves = append(r.effects.Leaves, LeaveAnswer{Ticket: e.Ticket, Err: err})
		}
	case LeaveWithdrawn:
		r.leaving = false
		r.group.Stay()
	case ExportAsked:
		r.export(e.Ticket)
	case SettingsAsked:
		s := e.Settings
		s.Version++
		r.submit(localMessage{kindSettings, e.Ticket}, appendSettings(nil, s))
	case OutcomeAsked:
		fate, known := r.outcomes.Find(e.ID)
		r.effects.Outcomes = append(r.effects.Outcomes, OutcomeAnswer{e.Ticket, fate, known, r.outcomes.From(), r.last.Index})
	case ReadAsked:
		r.askRead(e.Ticket)
	case ReadWithdrawn:
		r.withdrawRead(e.Ticket)
	case ActionAsked:
		r.submit(localMessage{kindAction, e.Ticket}, election.AppendAction([]byte{kindAction}, e.Action))
	case CancelAsked:
		r.submit(localMessage{kindCancel, e.Ticket}, election.AppendCancel([]byte{kindCancel}, e.ID))
	case DrainedAsked:
		drain := election.Drain{Action: e.Action, Open: uint64(e.Open)}
		r.drained = election.AppendDrain([]byte{kindDrained}, drain)
		r.sendDrained()
	case Withdrawn:
		r.withdraw(e)
	default:
		panic(fmt.Sprintf("replica: unknown event %T", e))
	}
}

func (r *Replica) tick(e Ticked) {
	r.ticks++
	r.snapshot = min(e.OldestSnapshot, r.applied)
	elapsed := time.Duration(e.Elapsed) * r.cfg.Tick
	r.flow.meter.Tick(elapsed)
	r.flow.elapsed += elapsed
	own := r.sample(&e.Flow)
	r.group.Report(gcs.Report{
		Applied: r.applied, Snapshot: r.snapshot, Exports: uint64(e.Exports), Executed: r.cert.Executed(),
		Unready: r.state() != Online, Epoch: r.elect.Epoch(), Fresh: e.Fresh,
		Stats: own.Append(nil),
	})
	r.group.Tick()
	r.tendFlow(own, e.Flow.Used)
	r.observeLease(e.Elapsed)
	r.tendElection()
	r.cutLog()
	r.proposeCheck()
	r.sendGiants()
	if r.ticks%markTicks == 0 {
		r.proposeMark()
	}
}

// broadcast hands a transaction to the group. One whose origin has no right to
// write any more would be refused by all; its caller need not wait for that.
func (r *Replica) broadcast(e Submitted) {
	if !r.elect.MayWrite(r.cfg.Group.Identity.RaftID) {
		r.refuse(e.Ticket, certifier.Fenced)
		return
	}
	if len(e.Fragments) > 0 {
		r.out.Push(outgoing{ticket: e.Ticket, fragments: e.Fragments, end: e.Message})
		r.sendGiants()
		return
	}
	r.submit(localMessage{kindTransaction, e.Ticket}, e.Message)
}

// refuse answers a caller whose transaction was not handed to the group, or of
// which no end will be.
func (r *Replica) refuse(ticket uint64, why certifier.Outcome) {
	v := certifier.Verdict{Outcome: why}
	r.effects.Answers = append(r.effects.Answers, Answer{Ticket: ticket, Verdict: v})
	r.effects.Judged = append(r.effects.Judged, Judged{
		Origin: r.cfg.Group.Identity.Member, Local: true, Ticket: ticket, Verdict: v,
	})
}

func (r *Replica) submit(m localMessage, msg []byte) {
	r.local.Push(m)
	r.group.Submit(msg)
}

// submitAlone is submit for what shares a log entry with nothing else.
func (r *Replica) submitAlone(m localMessage, msg []byte) {
	r.local.Push(m)
	r.group.SubmitAlone(msg)
}

// proposeMark asks for history to be forgotten: what no snapshot needs, and at
// the limit even more. Only the leader does, but any number of marks by
// anybody do no harm.
func (r *Replica) proposeMark() {
	if !r.group.Status().Leading {
		return
	}
	index := r.cert.MarkableLimit()
	if oldest, ok := r.group.OldestSnapshot(); ok {
		index = max(index, r.cert.Markable(oldest))
	}
	if index > r.marked {
		r.marked = index
		r.submit(localMessage{}, appendMark(nil, index))
	}
}

func (r *Replica) noteApplied(index uint64) {
	r.applied = max(r.applied, index)
	r.flow.meter.Shown(r.applied)
	for r.inApply.Len() > 0 && r.inApply.At(0).index <= r.applied {
		r.inApplyBytes -= r.inApply.Pop().bytes
	}
	for r.bulks.Len() > 0 && r.bulks.At(0).index <= r.applied {
		r.giants.Release(r.bulks.Pop().whole)
	}
}

// release answers the callers whose transactions have become visible.
func (r *Replica) release() {
	for r.certified.Len() > 0 && r.certified.At(0).Index <= r.applied {
		r.effects.Answers = append(r.effects.Answers, r.certified.Pop())
	}
}

// cutLog cuts the log up to the newest checkpoint but one that the engine can
// never fall behind. The one before it is kept so that a member that was away
// for a while finds the log it needs. What raft has not consumed here stays, and
// goes later, and so does what a member needs that this leader is catching up:
// without it a clone would be too old by the time that it is installed; and the
// fragments of giants that were pending at the checkpoint.
func (r *Replica) cutLog() {
	usable := 0
	for usable < len(r.checkpoints) && r.checkpoints[usable].index <= r.durable {
		usable++
	}
	if usable < 2 || r.checkpoints[usable-2].cut() <= r.truncated {
		return
	}
	consumed := r.group.Consumed()
	needed, pinned := r.group.Needed()
	for i, c := range slices.Backward(r.checkpoints[:usable-1]) {
		if c.cut() <= r.truncated {
			return
		}
		wanted := pinned && c.index > needed && r.sinceStart-c.bytes <= keptCheckpoints*uint64(r.cfg.CheckpointBytes)
		if c.index <= consumed && !wanted {
			r.checkpoints = r.checkpoints[i:]
			r.truncated = c.cut()
			r.effects.Truncate = r.truncated
			return
		}
	}
}

// exit says whether and how the member is out of its group.
func (r *Replica) exit() Exit {
	limit := r.cfg.MajorityTicks
	switch {
	case r.group.Removed() && r.leaving:
		return ExitLeft
	case r.group.Removed() && (r.group.RemovedBy() == gcs.Removed || r.group.RemovedBy() == gcs.Replaced):
		return ExitRemoved
	case r.group.Removed():
		return ExitExpelled
	case r.differs() || r.faults.state.Blamed(r.cfg.Group.Identity.RaftID):
		return ExitDiffers
	case limit > 0 && r.group.Status().NoQuorumTicks > limit:
		return ExitMinority
	}
	return ExitNone
}

func (r *Replica) state() State {
	m, member := r.group.View().Member(r.cfg.Group.Identity.RaftID)
	switch {
	case r.group.Removed():
		return Removed
	case !member:
		return Offline
	case m.State == gcs.Online && r.opened != 0 && r.applied >= max(r.opened, r.promoted):
		return Online
	}
	return Recovering
}

// Status is a member's standing.
type Status struct {
	gcs.Status
	State    State
	Applied  uint64
	Durable  uint64
	Sequence uint64 // transactions certified since the group began
	History  int    // items in the certification history
	// HistoryBytes is what that takes, as its limit reckons it.
	HistoryBytes int
	Settings     Settings
	// Giants are the transactions that come in pieces.
	Giants giant.Stats
	// Views are the group's last views, and Forks the incarnations that it came
	// from, both oldest first. They must not be changed.
	Views []gcs.ViewRecord
	Forks []Fork
	// Election is who may write, by what the member has delivered.
	Election election.Snapshot
	// Alone says that the member is the primary, and that too few of the others
	// have told it lately that they hear it: it may have been deposed, and cannot
	// commit before it is heard again.
	Alone bool
	// Outdated is the newest epoch that another member has told of, if it is newer
	// than the one delivered here; 0 if none is.
	Outdated uint64
	// Floor is what a transaction must find visible that begins here.
	Floor consistency.Floor
	// Queues is what waits in the member.
	Queues Queues
	// GateWaits are the raft ids of those whose delivery the oldest AFTER
	// transaction held back here waits for, ascending. It must not be changed.
	GateWaits []uint64
	// Checks is what is known of the group's state checks.
	Checks statecheck.Snapshot
	// Faults is what is known of the transactions that engines could not apply.
	Faults statecheck.FaultsSnapshot
	// Flow is who slows whom.
	Flow FlowStatus
}

// Queues says how much waits in a member for what. In one that is ONLINE in a
// group in which nothing happens, all of it is 0.
type Queues struct {
	// Engine is how many bytes of log the engine was given and does not show yet,
	// and Held how many more are kept from it by Gates.
	Engine, Held int
	// Gates are the log entries that the others may not show yet, with an AFTER
	// transaction each.
	Gates int
	// Answers are the member's own transactions that are certified and not visible.
	Answers int
	// Reads are those who wait for a read index.
	Reads int
}

// Status returns the member's standing now.
func (r *Replica) Status() Status {
	return Status{
		Status: r.group.Status(), State: r.state(), Applied: r.applied, Durable: r.durable,
		Sequence: r.cert.Sequence(), History: r.cert.HistoryItems(), HistoryBytes: r.cert.HistoryBytes(), Settings: r.settings, Giants: r.giants.Stats(),
		Views: r.views, Forks: r.forks, Election: r.elect.Snapshot(),
		Alone: r.isAlone, Outdated: r.outdated(), Floor: r.floor(), GateWaits: r.gateWaits(),
		Queues: Queues{
			Engine: r.inApplyBytes - r.heldBytes, Held: r.heldBytes, Gates: r.gates.Len(),
			Answers: r.certified.Len(), Reads: len(r.reads.calls),
		},
		Checks: r.checks.state.Snapshot(), Faults: r.faults.state.Snapshot(),
		Flow: r.flow.last,
	}
}
