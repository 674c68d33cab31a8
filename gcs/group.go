// Package gcs is the group communication of one member: total order, views,
// and nothing above them.
//
// It owns the raft state machine, the frames in which messages travel, the
// order and exactly-once rule of each origin, and the view, which is a
// function of the log. It promises that every member delivers the same
// messages and the same views in the same order, each origin's messages once
// and in the order it submitted them, whoever leads and whoever restarts.
//
// It must never know what a message means, what time it is, or how bytes reach
// a disk or a peer. A [Group] starts no goroutine and waits for nothing: its
// caller feeds it events (Tick, Receive, Submit, Written) and collects what
// follows (Flush, then Messages, Writes and NextDelivery).
//
// # The way of a message
//
// Submit puts it among those waiting. Flush cuts frames from these, and sends
// them to the leader or, when this member leads, proposes them: many messages
// become one raft entry. When the entry is committed each member takes it from
// NextDelivery, where the origin's number decides whether it is delivered or a
// repetition. What raft calls applied is this: delivered, in memory.
//
// # The way of a read
//
// Read asks how far the log was committed, and Reads has the answer: the leader
// takes its commit index and makes sure, by a round of raft's heartbeats, that a
// majority follows it still. Whoever shows the log up to there misses nothing that
// anybody was told before it asked.
//
// # Bytes
//
// Log entries begin with a byte that names their format; an empty entry is
// raft's own. Formats are drawn where they are written: frames in frame.go,
// members, changes and views in view.go, messages in message.go, and the
// state that goes into a checkpoint in state.go.
package gcs

import (
	"fmt"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// Outgoing is a message on its way to another member.
type Outgoing struct {
	To      uint64 // raft id
	Message Message
}

// Write is work for the log's writer. Once it is as durable as asked, and the
// writes before it, Responses go back to [Group.Written], in order.
type Write struct {
	LogWrite
	Responses []*raftpb.Message
}

// Delivery is one committed log entry, in the order that all members share.
type Delivery struct {
	Index uint64
	Term  uint64
	// Messages are an origin's, in the order it submitted them. They alias
	// the log entry and must not be changed.
	Messages [][]byte
	Origin   uint64 // raft id
	Session  uint64 // of the origin
	// View is the new view when the entry changed it.
	View *View
}

// Group is one member's side of the group. It belongs to one goroutine.
type Group struct {
	id      Identity
	raft    *raft.RawNode
	storage *storage
	hard    *raftpb.HardState // that the log has after all writes

	view      View
	fifo      fifo
	departed  departed
	past      past
	delivered uint64 // index of the last entry taken by NextDelivery
	left      uint64 // index of the last entry by which a member left
	settled   uint64 // up to where the disk says that the log is committed
	last      uint64 // index of the last log entry, as of the last write
	known     uint64 // index up to which the log was known to be committed at the start
	failure   error  // why this member must not go on
	dropped   uint64 // messages that raft must not see

	sender sender
	leader uint64 // raft id, 0 when none is known
	led    int    // tick at which that one last spoke as a leader
	role   raft.StateType

	asking  asking       // this member's reads
	rounds  rounds       // those that this leader answers
	answers []ReadAnswer // for Reads

	proposals []proposal // frames to propose at the next Flush

	messages []Outgoing
	writes   []Write
	applying []*raftpb.Message // MsgStorageApply, the first partly consumed
	cursor   int               // entries consumed of applying[0]
	scratch  [][]byte          // reused for a frame's messages

	patience patience
	detector detector
	verdicts []verdict // reused
	quorum   bool      // this member hears a majority of its view
	unknown  bool      // it does not, but it is too early to say so
	quorumAt int       // tick since which it does
	noQuorum int       // ticks for which it does not
	spared   int       // tick at which the lead was last handed over for a suspect's sake
	owing    owing     // by the log's writer
	relieved int       // tick at which the lead was last handed over for the disk's sake
	transfer transfer  // of the lead, the last one
	handed   int       // tick of that, or of its last repetition
	notices  []Notice
	peers    []Peer    // for Status
	peersAt  [2]uint64 // tick and view that they are of

	preferred   preference
	shown       uint64            // log index up to which some member shows the log, as reported in this run
	deliveredBy map[uint64]uint64 // by raft id, the log index that a member is known to have delivered

	report  Report // of this member
	reports map[uint64]heard
	since   int       // tick at which this member learned who leads
	commits [2]uint64 // this leader's commit index, two rounds of reports ago and one ago
	ticks   int
	leaving bool
	leavers map[uint64]int // tick at which a member last asked this leader to let it go
	removed bool           // a member that stays says that this one is out of the view
	// removedBy is the kind of change that took this one out, as far as known.
	removedBy ChangeKind
	clone     clone
	stalled   map[uint64]int // rounds that a member has been in raft's snapshot state
	changeAt  int            // tick of the last membership change proposed
}

// Bootstrap returns what the log of a new group holds, committed: an entry that
// makes its founder the only member, and, if there are messages, a frame with
// them. The frame takes up id.Session, so the founder's first run is in the
// next one. The error is a *RefusedChangeError when the founder is not fit to
// be one.
func Bootstrap(id Identity, founder Member, messages ...[]byte) (LogWrite, error) {
	founder.RaftID, founder.UUID = id.RaftID, id.Member
	change := Change{Kind: Bootstrapped, Member: founder, Incarnation: id.Incarnation}
	if _, err := (View{}).Apply(change, 1); err != nil {
		return LogWrite{}, err
	}
	data, err := proto.Marshal(change.confChange())
	if err != nil {
		return LogWrite{}, fmt.Errorf("gcs: bootstrap entry: %w", err)
	}
	entries := []*raftpb.Entry{{
		Term: new(uint64(1)), Index: new(uint64(1)),
		Type: raftpb.EntryConfChangeV2.Enum(), Data: data,
	}}
	if len(messages) > 0 {
		entries = append(entries, &raftpb.Entry{
			Term: new(uint64(1)), Index: new(uint64(2)), Type: raftpb.EntryNormal.Enum(),
			Data: appendFrame(nil, frameHeader{origin: id.RaftID, session: id.Session, seq: 1}, messages),
		})
	}
	commit := uint64(len(entries))
	return LogWrite{
		HardState: &raftpb.HardState{Term: new(uint64(1)), Vote: new(uint64(0)), Commit: &commit},
		Entries:   entries,
		Sync:      true,
	}, nil
}

// New makes a member from what its log and its engine hold. An error says
// that the two cannot belong together, or what in cfg is wrong.
func New(cfg Config) (*Group, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	g := &Group{
		id:        cfg.Identity,
		delivered: cfg.Checkpoint.Index,
		settled:   cfg.Checkpoint.Index,
		sender:    newSender(cfg.Identity.RaftID, cfg.Identity.Session, cfg.Limits),
		patience:  cfg.patience(),
		reports:   map[uint64]heard{},
		report:    Report{Fresh: NeverHeard},
		stalled:   map[uint64]int{},
		leavers:   map[uint64]int{},

		deliveredBy: map[uint64]uint64{},
	}
	if err := g.restore(cfg.Checkpoint); err != nil {
		return nil, err
	}
	g.detector = newDetector(g.patience.suspect, g.patience.longestHold())
	g.detector.align(g.id.RaftID, g.view)
	s, err := newStorage(g, cfg)
	if err != nil {
		return nil, err
	}
	g.storage, g.hard, g.last = s, s.hard, s.last
	g.known = max(s.hard.GetCommit(), g.delivered)
	if g.raft, err = raft.NewRawNode(cfg.raftConfig(s)); err != nil {
		return nil, fmt.Errorf("gcs: raft refuses the configuration: %w", err)
	}
	g.countQuorum()
	return g, nil
}

// Tick moves the member's time on by one.
func (g *Group) Tick() {
	if g.failure != nil {
		return
	}
	g.ticks++
	g.tickRaft()
	g.forgetLeader()
	if from := g.sender.tick(); from != 0 {
		g.resend(from)
	}
	g.watch()
	g.tickRead()
	if g.ticks%reportTicks == 0 {
		g.sendReport()
	}
	if g.role == raft.StateLeader {
		g.tend()
	}
}

// Submit broadcasts a message to the group. It is delivered at most once; not
// at all only when this member stops or leaves before that. The slice belongs
// to the group from here on.
func (g *Group) Submit(msg []byte) { g.sender.submit(msg) }

// SubmitAlone is Submit for a message that shares its log entry with no other one.
func (g *Group) SubmitAlone(msg []byte) { g.sender.submitAlone(msg) }

// Outstanding is the number of messages submitted and not yet cut into a
// frame: what the member cannot get rid of.
func (g *Group) Outstanding() int { return len(g.sender.waiting) }

// Receive takes a message from another member. What makes no sense at this
// point is ignored: peers may be ahead, behind, or repeat themselves.
func (g *Group) Receive(from uint64, m Message) {
	if g.failure != nil {
		return
	}
	if g.departed.has(from) && g.arrived() {
		// Two that both left would tell each other forever. And who is not done
		// with the log that it began with does not know: a forced view in it may
		// have the member back.
		if m.Kind != MessageRemoved && g.settled >= g.left && g.Departed(from) {
			g.send(from, Message{Kind: MessageRemoved, Removed: g.past.tookOut(from)})
		}
		return
	}
	g.detector.hear(from)
	switch m.Kind {
	case MessageRaft:
		g.receiveRaft(from, m.Raft)
	case MessageFrame:
		g.receiveFrame(from, m.Frame)
	case MessageRefusal:
		g.receiveRefusal(from, m.Refusal)
	case MessageReport:
		g.noteShown(m.Report)
		if _, ok := g.view.Member(from); ok && m.Report != nil {
			g.receiveReport(from, m.Report)
		}
	case MessageLeave:
		g.receiveLeave(from)
	case MessageRemoved:
		if g.mayRelease(from) {
			g.removed, g.removedBy = true, m.Removed
		}
	case MessageRead:
		g.receiveRead(from, m.Read)
	case MessageReadIndex:
		g.receiveReadIndex(m.Read, m.Index)
	case MessageDelivered:
		g.noteDelivered(from, m.Index)
	}
}

// mayRelease reports whether a member is one of those who can say that this one
// is out: of its view, for it asks nobody else. One that knows no view yet asks
// who leads.
func (g *Group) mayRelease(from uint64) bool {
	_, in := g.view.Member(from)
	return in || g.view.ID == 0 && from == g.leader
}

func (g *Group) receiveRaft(from uint64, m *raftpb.Message) {
	if m.GetFrom() != from || m.GetTo() != g.id.RaftID || !plausible(m) {
		g.dropped++
		return
	}
	if at := m.GetSnapshot().GetMetadata(); m.GetType() == raftpb.MsgSnap && !g.holds(at) {
		// The log up to the snapshot is gone, and raft must not believe that
		// it has what only a clone can bring. After the clone the leader goes
		// on, or offers the snapshot again, and raft answers that it is not
		// needed.
		g.clone = clone{from: from, index: at.GetIndex()}
		return
	}
	if m = g.believed(m); !g.reaches(m) {
		g.dropped++
		return
	}
	if m.GetType() == raftpb.MsgHeartbeatResp && m.GetTerm() == g.raft.BasicStatus().GetTerm() {
		g.detector.answered(from, 0)
	}
	// What raft objects to, a response to nothing or from nobody, is a
	// message that came too late.
	_ = g.raft.Step(m)
	switch m.GetType() {
	case raftpb.MsgHeartbeat, raftpb.MsgApp, raftpb.MsgSnap:
		if from == g.leader {
			g.led = g.ticks
		}
	default:
	}
}

// believed is m as far as this member takes its sender's word. What is committed
// only that leader knows whose lead this member acknowledges. From anybody else
// a heartbeat may still tell of a new lead; then the next one is believed.
func (g *Group) believed(m *raftpb.Message) *raftpb.Message {
	st := g.raft.BasicStatus()
	if m.GetType() != raftpb.MsgHeartbeat || m.GetCommit() <= st.GetCommit() ||
		m.GetTerm() < st.GetTerm() || m.GetTerm() == st.GetTerm() && m.GetFrom() == st.Lead {
		return m
	}
	m = proto.CloneOf(m) // it may be its sender's still
	m.Commit = new(st.GetCommit())
	return m
}

// reaches reports whether the log reaches as far as m has it, for raft panics
// when it does not. A leader's heartbeat speaks of nothing that this member has
// not answered for: if that is gone, its disk lost what it had promised to keep,
// and it must not vote with what is left. In answers to a leader it is the
// sender that is wrong. Appends need no look: raft refuses those that do not
// follow on its log, and takes no more for committed than they bring.
func (g *Group) reaches(m *raftpb.Message) bool {
	switch m.GetType() {
	case raftpb.MsgHeartbeat:
		st := g.raft.BasicStatus()
		if m.GetTerm() == st.GetTerm() && st.Lead != raft.None && m.GetFrom() != st.Lead {
			return false // a term has one leader
		}
		if m.GetTerm() < st.GetTerm() || m.GetCommit() <= st.GetCommit() {
			return true
		}
		g.collect() // only then is the end of the log what raft has it for
		if m.GetCommit() > g.last {
			g.fail(fmt.Errorf("%w: it ends at %d, and %d is committed; remove this member's directory and join it anew",
				ErrLogLost, g.last, m.GetCommit()))
			return false
		}
	case raftpb.MsgAppResp:
		return g.role != raft.StateLeader || m.GetIndex() <= g.last
	case raftpb.MsgHeartbeatResp:
		return g.began(m.GetContext())
	default:
	}
	return true
}

// fail ends the member: from here on it does nothing, and says nothing.
func (g *Group) fail(err error) {
	if g.failure == nil {
		g.failure = err
	}
}

// Failure says why this member must not go on, nil while it may: [ErrLogLost]
// or [ErrOtherGroup]. It is final, and the group does nothing any more.
func (g *Group) Failure() error { return g.failure }

// holds reports whether the log reaches a snapshot, with the same entry: an
// offer that comes late may find that the log was brought after all. raft takes
// the entries up to there for committed then, and the leader goes on. A clone
// could take entries away that this member has answered for.
func (g *Group) holds(at *raftpb.SnapshotMetadata) bool {
	if at.GetIndex() <= g.delivered {
		return true
	}
	term, err := g.storage.Term(at.GetIndex())
	return err == nil && term == at.GetTerm()
}

// Written tells that writes are as durable as they asked to be. It takes their
// responses, in the order of the writes.
func (g *Group) Written(responses []*raftpb.Message) {
	if g.failure != nil {
		return
	}
	g.noteWritten(responses)
	for _, m := range responses {
		if index := m.GetCommit(); m.GetType() == raftpb.MsgStorageAppendResp && index > 0 {
			g.settled = max(g.settled, index)
		} else if m.GetTo() == g.id.RaftID {
			_ = g.raft.Step(m) // stale responses are dropped by design
		} else {
			g.send(m.GetTo(), Message{Kind: MessageRaft, Raft: m})
		}
	}
}

// Flush cuts frames, proposes, and collects what raft wants done. Call it
// after a run of events, and again after deliveries were taken.
func (g *Group) Flush() {
	for g.failure == nil {
		g.cutFrames()
		g.propose()
		g.sendRead()
		g.beginRound()
		if !g.collect() {
			return
		}
	}
}

// collect takes from raft what it wants done, and reports whether there was
// anything.
func (g *Group) collect() bool {
	if !g.raft.HasReady() {
		return false
	}
	rd := g.raft.Ready()
	for _, m := range rd.Messages {
		g.dispatch(m)
	}
	for _, s := range rd.ReadStates { // who led when they came about may lead no more
		g.endRound(s)
	}
	if rd.SoftState != nil {
		g.noteLeader(*rd.SoftState)
	}
	return true
}

func (g *Group) dispatch(m *raftpb.Message) {
	switch m.GetTo() {
	case raft.LocalAppendThread:
		w := Write{Responses: m.GetResponses()}
		if w.Entries = m.GetEntries(); len(w.Entries) > 0 {
			g.last = w.Entries[len(w.Entries)-1].GetIndex()
		}
		if m.Term != nil {
			w.HardState = &raftpb.HardState{Term: m.Term, Vote: m.Vote, Commit: m.Commit}
			g.hard = w.HardState
		}
		// By contract a write that nobody waits for need not be synced, but
		// new entries always have somebody.
		w.Sync = len(w.Responses) > 0
		g.write(w)
	case raft.LocalApplyThread:
		g.applying = append(g.applying, m)
	default:
		g.send(m.GetTo(), Message{Kind: MessageRaft, Raft: m})
	}
}

// settle puts it on this member's disk that the log is committed up to index,
// and has Written tell when that is done.
func (g *Group) settle(index uint64) {
	g.write(Write{
		LogWrite: LogWrite{Sync: true, HardState: &raftpb.HardState{
			Term: g.hard.Term, Vote: g.hard.Vote, Commit: new(max(g.hard.GetCommit(), index)),
		}},
		Responses: []*raftpb.Message{{
			Type: raftpb.MsgStorageAppendResp.Enum(), To: new(g.id.RaftID), Commit: new(index),
		}},
	})
}

func (g *Group) send(to uint64, m Message) {
	g.messages = append(g.messages, Outgoing{To: to, Message: m})
}

// Messages returns what is to be sent, and appends to into[:0].
func (g *Group) Messages(into []Outgoing) []Outgoing {
	into = append(into[:0], g.messages...)
	clear(g.messages)
	g.messages = g.messages[:0]
	return into
}

// Writes returns what is to be written, in order, and appends to into[:0].
func (g *Group) Writes(into []Write) []Write {
	into = append(into[:0], g.writes...)
	clear(g.writes)
	g.writes = g.writes[:0]
	return into
}

// noteLeader notices a change of leader and sends what is outstanding to the
// new one: the old one may have dropped it.
func (g *Group) noteLeader(st raft.SoftState) {
	changed := st.Lead != g.leader
	g.leader, g.role = st.Lead, st.RaftState
	if !changed {
		return
	}
	g.led = g.ticks
	g.rounds = rounds{} // whoever asked asks the next leader
	switch g.leader {
	case 0:
		g.notice(LeaderChanged, 0, "nobody is known to lead")
	default:
		g.notice(LeaderChanged, g.leader, "%s leads in term %d", g.named(g.leader), g.raft.BasicStatus().GetTerm())
	}
	if g.leader != 0 {
		commit := g.raft.BasicStatus().GetCommit()
		g.commits, g.since = [2]uint64{commit, commit}, g.ticks
		clear(g.stalled)
		clear(g.leavers)
		g.sender.pause = 1
		g.resend(g.sender.first())
		g.resendRead()
	}
}

// forgetLeader has raft forget a leader that does not speak as one any more. One with a
// vote stands for election then; who has none would hold the one that led last
// for the leader for ever, and nobody would look whether it still has a place.
func (g *Group) forgetLeader() {
	self, _ := g.view.Member(g.id.RaftID)
	if self.State != Online && g.role == raft.StateFollower && g.leader != 0 && g.ticks-g.led >= g.patience.suspect {
		_ = g.raft.ForgetLeader() // only a leader would object
	}
}
