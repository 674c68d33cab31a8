package sim

import (
	"errors"
	"fmt"
	"strings"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/concordatdb/concordat/certifier"
	"github.com/concordatdb/concordat/election"
	"github.com/concordatdb/concordat/gcs"
	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/internal/consistency"
	"github.com/concordatdb/concordat/internal/replica"
	"github.com/concordatdb/concordat/sim/simdisk"
)

// member is a place where a member of the group runs: what outlives it there,
// its disks and its clients, and the run of it, if it is up.
type member struct {
	world   *world
	slot    int
	name    string
	uuid    gtid.UUID
	raftID  uint64
	log     *simdisk.Log
	engine  *simdisk.Engine
	run     *run
	clients []*client

	drift   int64 // of its clock, in thousandths
	stalled bool  // its disks are slow
	exempt  bool  // it may fall behind
	labour  int64 // that each transaction is to its engine, a large one more
	hung    int64 // until then its disks do not answer
	leaving bool
	asked   bool  // to leave, since it has this raft id
	cloning bool  // its engine lacks what its log no longer has
	gone    bool  // it is not there, and its disks are empty
	boots   int   // how often the power was cut
	halted  int64 // when it was stopped so that a plan could leave it out, 0 while it is not

	view     gcs.View // the last that its process knew
	named    gcs.View // of whom the group said last who is in it
	replaces uint64   // raft id of the dead member in whose place it is to come
	alien    *history // of who did not take it in, since that does not come from what it holds
	patient  bool     // its next run gives the others the time to be there too
	returns  bool     // it was in the group before, under another raft id

	version election.Version
	weight  uint32
	paused  bool     // its process stands still
	parked  []func() // what is due there when it goes on
	slowed  int64    // until then its engine is slow
	skew    int64    // by how much its clock has jumped ahead
	harm    *harm    // what its disk keeps wrong, nil for nothing
}

// run is one run of a member, from its start to its stop or crash.
type run struct {
	member  *member
	world   *world
	history *history // of its incarnation; nil while it is in none
	note    note
	raftID  uint64
	session uint64
	replica *replica.Replica // nil while it takes no part in the group
	ended   bool

	inbox      []replica.Event
	waking     bool
	more       bool // the state machine has more to do
	performing bool // effects, so that the next events wait
	state      replica.State

	record   *runRecord
	began    int64
	skew     int64          // its member's, when it began
	standing replica.Status // as published last
	mayNow   bool           // by that it may write, and nothing that it has heard is against it
	floor    consistency.Floor
	reads    questions
	drain    drain
	gateway  *gateway
	waiting  []*client // that wait to begin
	retrying bool
	stirred  bool   // something has changed for them
	ticks    uint64 // of its member's clock, as it was called
	elapsed  uint64 // that have passed by it
	actions  map[uint64]*planned

	writer logWriter
	worker engineWorker
	cloner cloner

	orders  int // transactions submitted
	places  places
	calls   map[uint64]*client
	asks    map[uint64]replica.TransactionID // outcomes asked for
	marks   map[uint64]bool                  // tickets of history marks
	giants  map[uint64]bool                  // tickets of transactions that the member sends in fragments
	joins   map[uint64]ask                   // who asked, by ticket
	changes map[uint64]*removal              // by ticket
	exports map[uint64]*run
	claim   replica.Claim // of a run that joins
	errant  bool          // it was refused for what only it has, and waits for its operator
	replay  *replica.Replica
	job     *alignment
	picky   bool  // its engine has refused what the others' applied
	pending entry // of the log entry being delivered
	leader  uint64

	out        bool     // of the group
	kept       bool     // it gave up by itself: as far as it knows it has its place still
	tries      int      // to be in the group again that are left
	final      bool     // nothing is tried any more before an operator's order
	leaderless int      // ticks
	looking    bool     // for its place
	looked     int64    // when it last looked whether it was left out
	rounds     int      // in which it told others that it lives
	heard      []uint64 // raft ids of those that speak to it, which has no state machine
}

func newMember(w *world, slot int) *member {
	m := &member{
		world: w, slot: slot, name: fmt.Sprintf("m%d", slot), uuid: w.uuid(), gone: true,
		drift: w.plan.drift.draw(w.rand), version: olderVersion, weight: 50,
	}
	if p := &w.plan.rights; !w.plain {
		if slot > 0 && chance(w.more, p.newer) {
			m.version = newerVersion
		}
		if p.weights {
			m.weight = uint32(w.more.IntN(101))
		}
	}
	m.exempt = chance(w.flow, w.plan.flow.exempt)
	if chance(w.flow, w.plan.flow.heavy) {
		m.labour = w.plan.flow.labour.draw(w.flow)
	}
	for i := range w.plan.clients {
		m.clients = append(m.clients, newClient(m, i))
	}
	return m
}

// arrive puts a member without a past on empty disks.
func (m *member) arrive() {
	if m.world.phase > healing || !m.gone {
		return
	}
	m.settle()
	m.start()
}

// settle prepares empty disks for a member under a new raft id.
func (m *member) settle() {
	w := m.world
	m.rename()
	m.log, m.engine = simdisk.NewLog(), w.newEngine()
	m.harm = nil
	m.gone, m.cloning, m.returns = false, false, false
	id := gcs.Identity{Group: w.group, Member: m.uuid, RaftID: m.raftID}
	if err := m.log.SetIdentity(id); err != nil {
		w.violate("start", "%s: %v", m.name, err)
	}
}

// rename gives the member a raft id that nobody had before.
func (m *member) rename() {
	w := m.world
	delete(w.byRaft, m.raftID)
	m.raftID = w.raftID()
	w.byRaft[m.raftID] = m
	m.leaving, m.asked, m.alien, m.view, m.named = false, false, nil, gcs.View{}, gcs.View{}
}

// found makes a member the first of a new group.
func (m *member) found() {
	w := m.world
	m.settle()
	id := m.log.Identity()
	id.Session, id.Incarnation = 1, w.group // the founding
	w.histories[0].begin(id.RaftID, id.Session)
	mode := election.MultiPrimary
	if w.plan.rights.single {
		mode = election.SinglePrimary
	}
	first, err := gcs.Bootstrap(id, m.described(), replica.FoundingMessage(w.plan.settings), replica.FoundingMode(mode, election.FirstProtocol))
	if err == nil {
		err = errors.Join(m.log.SetIdentity(id), m.log.Write([]gcs.LogWrite{first}))
	}
	if err != nil {
		w.violate("start", "%s: %v", m.name, err)
		return
	}
	m.start()
}

func (m *member) described() gcs.Member {
	return gcs.Member{UUID: m.uuid, RaftID: m.raftID, Address: m.name, Version: uint32(m.version), Weight: m.weight}
}

// start runs a member from what is on its disks. The new session is on the
// disk before anything is sent under it: were a number used twice, frames of
// two runs would pass for each other.
func (m *member) start() {
	w := m.world
	r, err := m.awake()
	if err != nil {
		w.violate("start", "%s: %v", m.name, err)
		return
	}
	switch {
	case !r.note.plan.MayRun(): // it waits for the next step of the plan
		w.trace.note(w, m.name+" is frozen")
		r.after(askAgain, r.greet)
	case r.history == nil:
		r.beginJoining()
	case r.note.clone:
		r.beginCloning()
	default:
		r.live()
	}
}

// awake begins a run that does nothing yet.
func (m *member) awake() (*run, error) {
	w := m.world
	id := m.log.Identity()
	id.Session++
	if err := m.log.SetIdentity(id); err != nil {
		return nil, err
	}
	r := &run{
		member: m, world: w, raftID: id.RaftID, session: id.Session,
		calls: map[uint64]*client{}, asks: map[uint64]replica.TransactionID{}, joins: map[uint64]ask{},
		changes: map[uint64]*removal{}, exports: map[uint64]*run{}, actions: map[uint64]*planned{}, marks: map[uint64]bool{}, giants: map[uint64]bool{},
		began: w.now, skew: m.skew, gateway: newGateway(),
	}
	r.record = &runRecord{member: m.name, raftID: r.raftID, session: r.session, began: w.now}
	var err error
	if r.note, err = decodeNote(m.log.Record()); err == nil {
		err = r.note.plan.CheckIdentity(id)
	}
	if err != nil {
		return nil, err
	}
	if !id.Incarnation.IsZero() {
		if r.history = w.incarnation(id.Incarnation); r.history == nil {
			return nil, fmt.Errorf("it is of incarnation %s, which never began", id.Incarnation)
		}
		r.history.begin(id.RaftID, id.Session)
		r.history.runs = append(r.history.runs, r.record)
	}
	if id.Session > 1 && m.version < newerVersion && w.plan.rights.newer > 0 && chance(w.more, w.plan.rights.upgrade) {
		m.upgrade()
	}
	m.run = r
	w.trace.start(w, m, id.Session)
	if id.Session > 1 {
		w.report.Restarts++
	}
	return r, nil
}

// live runs the member's state machine.
func (r *run) live() {
	m, w := r.member, r.world
	m.checkDigest()
	cfg, cloneOnly, err := m.configure()
	if m.patient && cfg.MajorityTicks > 0 {
		cfg.MajorityTicks = max(cfg.MajorityTicks, int(tryPatience/w.plan.tick))
	}
	m.patient = false
	if err == nil && !cloneOnly {
		cfg.Trace = (*delivery)(r)
		r.replica, err = m.newReplica(cfg)
	}
	if err != nil {
		w.violate("start", "%s cannot start: %v", m.name, err)
		return
	}
	if cloneOnly {
		if !m.cloning {
			w.violate("P6", "%s starts with a log that was cut above what its engine, at %d, holds", m.name, m.engine.Position().Index)
			return
		}
		r.beginCloning()
		return
	}
	r.publish()
	r.after(w.rand.Int64N(w.plan.tick), r.tick)
	for _, c := range m.clients {
		c.begin()
	}
}

// newReplica makes a state machine of the version that the member runs. What it
// holds may be of a group that has gone on to a protocol of the newer one, which is
// installed then.
func (m *member) newReplica(cfg replica.Config) (*replica.Replica, error) {
	r, err := replica.New(cfg)
	if err != nil && tooOld(err) {
		m.upgrade()
		cfg.Self = m.self()
		r, err = replica.New(cfg)
	}
	return r, err
}

// tryPatience is how long a member that takes up its log hears no majority
// before it gives up again.
const tryPatience = 3 * second

// configure reads the disks as any shell must. The checkpoint is the newest
// that the engine has reached. When the log begins after it, a clone was cut
// short, and only another clone helps; the member takes no part until then.
func (m *member) configure() (cfg replica.Config, cloneOnly bool, err error) {
	w := m.world
	applied := m.engine.Position().Index
	checkpoint, err := m.log.Checkpoint(applied)
	if err != nil {
		return cfg, false, err
	}
	first, err := m.log.FirstIndex()
	if err != nil {
		return cfg, false, err
	}
	if first > checkpoint.Index+1 && checkpoint.Index == 0 {
		return cfg, true, nil
	}
	if checkpoint.Index > 0 {
		w.reached[markCheckpointRestart]++
	}
	hs := m.log.HardState()
	if applied < hs.GetCommit() {
		w.reached[markEngineBehindLog]++
	}
	return replica.Config{
		Group: gcs.Config{
			Identity:      m.log.Identity(),
			Log:           m.log,
			HardState:     gcs.HardState{Term: hs.GetTerm(), Vote: hs.GetVote(), Commit: max(hs.GetCommit(), m.engine.Position().Reached())},
			Checkpoint:    checkpoint,
			Applied:       applied,
			ElectionTicks: w.plan.electionTicks,
			SuspectTicks:  w.plan.members.suspectTicks,
			ExpelTicks:    w.plan.members.expelTicks,
			StallTicks:    w.plan.members.stallTicks,
			Limits:        w.plan.limits,
		},
		AppliedPart:     m.engine.Position().Part,
		MajorityTicks:   w.plan.members.majorityTicks,
		FailoverTicks:   w.plan.rights.failoverTicks,
		Tick:            w.tickTime(),
		Self:            m.self(),
		Seed:            w.seed,
		FlowExempt:      m.exempt,
		ApplyBytes:      w.plan.applyBytes,
		CheckpointBytes: w.plan.checkpointBytes,
		Checks:          w.plan.checks.interval > 0,
		AssemblyBytes:   w.plan.giants.assembly,
		FragmentWindow:  w.plan.giants.window,
	}, false, nil
}

// stop ends the run as a shell's Close does: what was begun on the disks is
// finished, what was queued is dropped.
func (m *member) stop() {
	r := m.run
	if r == nil {
		return
	}
	m.resume()
	r.record.end(m.world.now)
	m.run, r.ended = nil, true
	if r.replica != nil {
		m.view = r.replica.Status().View
	}
	m.log.Sync()
	for _, c := range m.clients {
		c.abandon()
	}
}

// crash cuts the power of one member. Of what its disks had not synced, a part
// survives.
func (m *member) crash() {
	w, r := m.world, m.run
	if r == nil {
		return
	}
	m.endPause()
	r.record.end(w.now)
	m.run, r.ended, m.parked = nil, true, nil
	m.boots++
	m.view, m.named = gcs.View{}, gcs.View{}
	lost := false
	survivors := func(unsynced int) int {
		n := 0
		if unsynced > 0 {
			n = w.rand.IntN(unsynced + 1)
			lost = lost || n < unsynced
			if 0 < n && n < unsynced {
				w.report.Faults.TornTails++
			}
		}
		return n
	}
	m.log = m.log.Crash(survivors)
	m.engine.Crash(survivors)
	if lost {
		w.report.Faults.LostTails++
	}
	if r.cloner.imported {
		w.reached[markCloneInterrupted]++
	}
	if m.engine.Position().Part > 0 {
		w.reached[markInsideEntry]++
	}
	r.worker.crashed(r)
	w.trace.crash(w, m)
	for _, c := range m.clients {
		c.abandon()
	}
}

// unrest says what of a member is not quiet yet.
func (m *member) unrest() string {
	switch r := m.run; {
	case r == nil:
		return m.name + " is down"
	case !r.note.plan.MayRun():
		return m.name + " is frozen"
	case r.out:
		return m.name + " is out of the group"
	case r.history == nil:
		return m.name + " is not in the group"
	case r.history != m.world.newest():
		return m.name + " is of an incarnation that was left behind"
	case m.leaving && m.mayLeave():
		return m.name + " has not left"
	case r.replica == nil:
		return m.name + " waits for a clone"
	case r.state != replica.Online:
		return m.name + " is " + r.state.String()
	case len(r.calls) > 0:
		return fmt.Sprintf("%s has %d calls pending", m.name, len(r.calls))
	case r.cloner.asked:
		return m.name + " clones"
	default:
		return r.unsettled()
	}
}

// mayLeave reports whether anybody else could go on without this member. The
// last ONLINE one cannot leave, whatever it was promised when it was not.
func (m *member) mayLeave() bool {
	if m.run.replica == nil {
		return false
	}
	view := m.run.replica.Status().View
	online := 0
	for _, v := range view.Members {
		if v.State == gcs.Online {
			online++
		}
	}
	_, member := view.Member(m.raftID)
	return online > 1 || !member
}

func (m *member) checkDigest() {
	if m.misled() {
		return // what it counts up and down is of pairs that it has not
	}
	digest, at, err := m.engine.Digest()
	if err != nil {
		m.world.violate("P5", "%s: %v", m.name, err)
		return
	}
	m.run.history.tell(func(c checker) string { return c.applied(m.name, at, digest) })
}

// after schedules what this run will do, unless it has ended by then.
func (r *run) after(delay int64, what func()) {
	r.world.after(delay, func() { r.do(what) })
}

// do does something in a run, unless that has ended.
func (r *run) do(what func()) {
	switch {
	case r.ended:
	case r.member.paused:
		r.member.running(func() { r.do(what) })
	default:
		what()
	}
}

// tell gives the member an event. It acts on all that have come together a
// moment later, as the goroutine that owns a real one does.
func (r *run) tell(e replica.Event) {
	if r.ended || r.replica == nil {
		return
	}
	r.inbox = append(r.inbox, e)
	if !r.waking {
		r.waking = true
		r.after(span{1, 30}.draw(r.world.rand)*microsecond, r.wake)
	}
}

// notice counts what members notice and the reports of worlds tell.
func (r *run) notice(n *gcs.Notice) {
	w := r.world
	switch {
	case n.Kind == gcs.HandedOver && strings.Contains(n.Text, "the disk of the log"):
		w.reached[markHandedOverForDisk]++
	case n.Kind == gcs.HandedOver && strings.Contains(n.Text, "which is not heard here"):
		w.reached[markHandedOverForCut]++
	case n.Kind == gcs.HandedOver && strings.Contains(n.Text, "the one that should lead"):
		w.reached[markLeadFollowed]++
	case n.Kind == gcs.Flapping:
		w.reached[markFlapping]++
	}
}

// delivery is a run in its role as the listener to what its member decides.
type delivery run

// Verdict implements [replica.Trace].
func (d *delivery) Verdict(_, origin, session uint64, id replica.TransactionID, v certifier.Verdict) {
	d.pending.judged = append(d.pending.judged, judged{origin: origin, session: session, id: id, verdict: v})
}

// View implements [replica.Trace].
func (d *delivery) View(v gcs.View) { d.pending.view = &v }

// Election implements [replica.Trace].
func (d *delivery) Election(_ uint64, s election.Snapshot) { d.pending.election = &s }

// Executed implements [replica.Trace].
func (d *delivery) Executed(index uint64, executed gtid.Set) {
	e := d.pending
	d.pending = entry{}
	e.index, e.executed = index, executed
	raw, err := d.raw(index)
	if err != nil {
		d.world.violate("P1", "%s delivers %d, which its log does not hold: %v", d.member.name, index, err)
		return
	}
	e.raw = raw
	if index <= d.member.engine.Position().Index {
		d.world.reached[markRedelivery]++
	}
	if d.history.at(index) == nil {
		e.term = d.replica.Status().Term
	}
	d.world.trace.delivered(d.world, d.member, &e)
	d.history.deliver(d.member.name, &e)
}

func (d *delivery) raw(index uint64) (*raftpb.Entry, error) {
	entries, err := d.member.log.Entries(index, index+1, 0)
	if err != nil {
		return nil, err
	}
	return entries[0], nil
}
