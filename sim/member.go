package sim

import (
	"errors"
	"fmt"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/concordatdb/concordat/certifier"
	"github.com/concordatdb/concordat/gcs"
	"github.com/concordatdb/concordat/gtid"
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
	joined  bool  // it has been in a view under this raft id
	leaving bool
	asked   bool // to leave, since it has this raft id
	cloning bool // its log was reset and its engine is not there yet
	gone    bool // it is not there, and its disks are empty
}

// run is one run of a member, from its start to its stop or crash.
type run struct {
	member  *member
	world   *world
	raftID  uint64
	session uint64
	replica *replica.Replica // nil when only a clone can help
	ended   bool

	inbox  []replica.Event
	waking bool
	state  replica.State

	writer logWriter
	worker engineWorker
	cloner cloner

	orders  int // transactions submitted
	calls   map[uint64]*client
	asks    map[uint64]replica.TransactionID // outcomes asked for
	joins   map[uint64]*run                  // who asked, by ticket
	exports map[uint64]*run
	pending entry // of the log entry being delivered
	leader  uint64
}

func newMember(w *world, slot int) *member {
	m := &member{
		world: w, slot: slot, name: fmt.Sprintf("m%d", slot), uuid: w.uuid(), gone: true,
		drift: w.plan.drift.draw(w.rand),
	}
	for i := range w.plan.clients {
		m.clients = append(m.clients, newClient(m, i))
	}
	return m
}

// arrive puts a member without a past on empty disks.
func (m *member) arrive() {
	if m.world.phase > healing {
		return
	}
	m.settle()
	m.start()
}

// settle prepares empty disks for a member under a new raft id.
func (m *member) settle() {
	w := m.world
	m.raftID = w.raftID()
	w.byRaft[m.raftID] = m
	m.log, m.engine = simdisk.NewLog(), simdisk.NewEngine()
	m.gone, m.leaving, m.asked, m.joined, m.cloning = false, false, false, false, false
	id := gcs.Identity{Group: w.group, Incarnation: w.group, Member: m.uuid, RaftID: m.raftID}
	if err := m.log.SetIdentity(id); err != nil {
		w.violate("start", "%s: %v", m.name, err)
	}
}

// found makes a member the first of a new group.
func (m *member) found() {
	m.settle()
	id := m.log.Identity()
	id.Session = 1 // the founding
	first, err := gcs.Bootstrap(id, m.described(), replica.FoundingMessage(m.world.plan.settings))
	if err == nil {
		err = errors.Join(m.log.SetIdentity(id), m.log.Write([]gcs.LogWrite{first}))
	}
	if err != nil {
		m.world.violate("start", "%s: %v", m.name, err)
		return
	}
	m.start()
}

func (m *member) described() gcs.Member {
	return gcs.Member{UUID: m.uuid, RaftID: m.raftID, Address: m.name, Version: 1 << 16, Weight: 50}
}

// start runs a member from what is on its disks. The new session is on the
// disk before anything is sent under it: were a number used twice, frames of
// two runs would pass for each other.
func (m *member) start() {
	w := m.world
	id := m.log.Identity()
	id.Session++
	if err := m.log.SetIdentity(id); err != nil {
		w.violate("start", "%s: %v", m.name, err)
		return
	}
	r := &run{
		member: m, world: w, raftID: id.RaftID, session: id.Session,
		calls: map[uint64]*client{}, asks: map[uint64]replica.TransactionID{}, joins: map[uint64]*run{}, exports: map[uint64]*run{},
	}
	m.run = r
	w.trace.start(w, m, id.Session)
	if id.Session > 1 {
		w.report.Restarts++
	}
	m.checkDigest()
	cfg, cloneOnly, err := m.configure(r, id)
	if err == nil && !cloneOnly {
		r.replica, err = replica.New(cfg)
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
		r.cloner.ask(r, 0)
		return
	}
	r.after(w.rand.Int64N(w.plan.tick), r.tick)
	r.after(0, r.join)
	for _, c := range m.clients {
		c.begin()
	}
}

// configure reads the disks as any shell must. The checkpoint is the newest
// that the engine has reached. When the log begins after it, a clone was cut
// short, and only another clone helps; the member takes no part until then.
func (m *member) configure(r *run, id gcs.Identity) (cfg replica.Config, cloneOnly bool, err error) {
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
			Identity:      id,
			Log:           m.log,
			HardState:     gcs.HardState{Term: hs.GetTerm(), Vote: hs.GetVote(), Commit: hs.GetCommit()},
			Checkpoint:    checkpoint,
			Applied:       applied,
			ElectionTicks: w.plan.electionTicks, ExpelTicks: -1,
			Limits:        w.plan.limits,
		},
		Seed:            w.seed,
		ApplyBytes:      w.plan.applyBytes,
		CheckpointBytes: w.plan.checkpointBytes,
		Trace:           (*delivery)(r),
	}, false, nil
}

// stop ends the run as a shell's Close does: what was begun on the disks is
// finished, what was queued is dropped.
func (m *member) stop() {
	r := m.run
	if r == nil {
		return
	}
	m.run, r.ended = nil, true
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
	m.run, r.ended = nil, true
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
	}
	return ""
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
	digest, at, err := m.engine.Digest()
	if err != nil {
		m.world.violate("P5", "%s: %v", m.name, err)
		return
	}
	m.world.history.tell(func(c checker) string { return c.applied(m.name, at, digest) })
}

// after schedules what this run will do, unless it has ended by then.
func (r *run) after(delay int64, what func()) {
	r.world.after(delay, func() {
		if !r.ended {
			what()
		}
	})
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

func (r *run) wake() {
	r.waking = false
	events := r.inbox
	r.inbox = nil
	r.world.protect(r.member.name, func() {
		effects := r.replica.Step(events...)
		r.world.trace.step(r, len(events), effects)
		r.carryOut(effects)
	})
}

func (r *run) tick() {
	oldest := r.member.engine.Position().Index
	for _, c := range r.member.clients {
		if c.snapshot != nil {
			oldest = min(oldest, c.snapshot.Position().Index)
		}
	}
	if r.replica != nil {
		s := r.replica.Status()
		if text := r.world.history.growth.check(s.History, s.HistoryBytes); text != "" {
			r.world.violate("P12", "%s %s", r.member.name, text)
		}
	}
	r.tell(replica.Ticked{OldestSnapshot: oldest})
	interval := r.world.plan.tick
	r.after(interval+interval*r.member.drift/1000, r.tick)
}

// carryOut does what the member wants done.
func (r *run) carryOut(e *replica.Effects) {
	w := r.world
	for _, out := range e.Messages {
		w.network.send(r, out.To, out.Message)
	}
	r.writer.queue(r, e)
	r.worker.queue(r, e.Tasks)
	for _, a := range e.Answers {
		r.answer(a)
	}
	for _, a := range e.Outcomes {
		w.reached[markOutcomeAsked]++
		if text := w.history.oracle.outcome(r.asks[a.Ticket], a); text != "" {
			w.violate("P4", "%s is asked for an outcome: %s", r.member.name, text)
		}
		delete(r.asks, a.Ticket)
	}
	r.answerJoins(e.Joins)
	for range e.Leaves {
		w.reached[markLeaveRefused]++
		r.member.leaving = false
	}
	r.noteLeader()
	if r.member.leaving && e.State == replica.Online && r.state != replica.Online {
		r.tell(replica.LeaveAsked{Ticket: w.ticket()}) // a crash forgets that it was asked
	}
	r.state = e.State
	if r.state != replica.Offline && !r.member.joined {
		r.member.joined = true
		w.report.Joins++
	}
	switch {
	case r.state == replica.Removed:
		r.removed()
	case e.CloneFrom != 0:
		r.cloner.ask(r, e.CloneFrom)
	}
}

// noteLeader notices a new leader while somebody waits for an answer.
func (r *run) noteLeader() {
	leader := r.replica.Status().Leader
	if leader != r.leader && leader != 0 {
		if r.leader != 0 && len(r.calls) > 0 {
			r.world.reached[markLeaderChangePending]++
		}
		r.leader = leader
	}
}

// removed ends a member that the group has no longer, and with it what its
// disks held. It may come again, as a stranger.
func (r *run) removed() {
	m, w := r.member, r.world
	if !m.asked {
		w.violate("P11", "%s was removed and never asked for it", m.name)
		return
	}
	if _, member := r.replica.Status().View.Member(r.raftID); member {
		w.reached[markRemovedByWord]++
	}
	w.report.Leaves++
	w.trace.note(w, m.name+" has left")
	m.stop()
	m.gone = true
	delete(w.byRaft, m.raftID)
	if chance(w.rand, 700) {
		w.after(span{100 * millisecond, 3 * second}.draw(w.rand), m.arrive)
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
	d.world.trace.delivered(d.world, d.member, &e)
	d.world.history.deliver(d.member.name, &e)
}

func (d *delivery) raw(index uint64) (*raftpb.Entry, error) {
	entries, err := d.member.log.Entries(index, index+1, 0)
	if err != nil {
		return nil, err
	}
	return entries[0], nil
}
