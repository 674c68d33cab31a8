package replica

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"
	"testing"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/concordatdb/concordat/applier"
	"github.com/concordatdb/concordat/certifier"
	"github.com/concordatdb/concordat/election"
	"github.com/concordatdb/concordat/gcs"
	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/internal/consistency"
	"github.com/concordatdb/concordat/internal/giant"
	"github.com/concordatdb/concordat/internal/statecheck"
)

var (
	groupName   = gtid.UUID{15: 0x0a}
	incarnation = gtid.UUID{15: 0x0f}
)

// settings are what tests set of a member's configuration; zero means ample.
type settings struct {
	applyBytes, historyItems, checkpointBytes int

	sizeLimit, assemblyBytes, window int  // of giants
	prepares                         bool // the engine gets ready for them

	mode   election.Mode // 0 for a group that is founded without one
	prefer bool          // PreferMostUpdated
	self   election.Description
	expel  int // ticks, 0 for never
	elect  int // ElectionTicks, 0 for 10
	check  int // transactions between two state checks, 0 for none
}

// world is members whose disks are at once as durable as asked and whose
// messages arrive at once, in order. Only engines may take their time.
type world struct {
	t       testing.TB
	members []*member
	ids     uint64 // drawn
	// gated are the log indexes of AFTER transactions, by payload. Wherever one is
	// visible, no member may show less to whoever begins there.
	gated   map[string]uint64
	atAfter map[string]bool // payloads that were submitted at AFTER
	// cut says which messages are lost; nil is none.
	cut func(from, to *member, m gcs.Message) bool
}

// nextID returns a transaction id that nobody had before.
func (w *world) nextID() (id TransactionID) {
	w.ids++
	binary.BigEndian.PutUint64(id[:], w.ids)
	return id
}

type member struct {
	world    *world
	settings settings
	identity gcs.Identity
	log      memlog
	hangs    bool        // the disk of the log answers nothing
	unheard  []gcs.Write // what it is asked to do meanwhile
	saved    []gcs.Checkpoint
	flushed  int    // of saved, those for which the engine was made durable
	since    uint64 // the engine's position when the member was restarted
	replica  *Replica
	inbox    []Event

	// The engine. While it is held, tasks wait.
	held     bool
	tasks    []Task
	position applier.Position
	part     uint64 // of the next entry, that the engine holds when the member starts
	durable  uint64
	batches  []batch

	pinned uint64 // log index of a snapshot held open, 0 for none
	paused bool   // neither ticks nor acts; messages wait
	down   bool   // neither ticks nor acts; messages are lost
	floor  consistency.Floor

	reads   []ReadAnswer
	actions []ActionAnswer
	epochs  []election.Epoch
	ended   []election.Outcome
	notices []gcs.Notice

	findings []statecheck.Finding
	exit     Exit
	poison   func(payload string) applier.Class // why the engine cannot apply it; nil for no reason
	stuck    bool                               // the engine waits for the others' word
	skips    []gtid.GTID
	stands   []gtid.GTID
	harm     func(payload string) string // what its disk makes of data, "" for nothing; nil for no harm

	ahead  ahead // of the turn of giants
	wholes int   // giants of which everything was known when they came to it

	answers  []Answer
	outcomes []OutcomeAnswer
	changes  []SettingsAnswer
	joins    []JoinAnswer
	leaves   []LeaveAnswer
	exports  []Export
	states   []State // each new one
	verdicts map[uint64][]string
	executed map[uint64]string
	views    []string

	elections map[uint64]string
}

// batch is one that the engine has applied.
type batch struct {
	to       applier.Position
	payloads []string
}

func newWorld(t testing.TB) *world {
	return &world{t: t, gated: map[string]uint64{}, atAfter: map[string]bool{}}
}

func (w *world) member(n byte, s settings) *member {
	m := &member{
		world: w, settings: s,
		identity: gcs.Identity{
			Group: groupName, Incarnation: incarnation, Member: gtid.UUID{n}, RaftID: uint64(n), Session: 1,
		},
		verdicts: map[uint64][]string{}, executed: map[uint64]string{}, elections: map[uint64]string{},
	}
	w.members = append(w.members, m)
	return m
}

func (m *member) info() gcs.Member {
	return gcs.Member{
		UUID: m.identity.Member, RaftID: m.identity.RaftID, Address: fmt.Sprintf("member-%d", m.identity.RaftID),
		Version: uint32(m.settings.self.Version), Weight: m.settings.self.Weight,
	}
}

// newFounder is the one member of a new group, which has not run yet.
func newFounder(t testing.TB, s settings) *member {
	m := newWorld(t).member(1, s)
	founding := Settings{PreferMostUpdated: s.prefer, Certifier: certifier.Settings{HistoryItems: s.historyItems, HistoryBytes: 1 << 40, RangeWrites: 100, BlockSize: 1}, Outcomes: 100, TransactionSizeLimit: s.sizeLimit}
	if s.check > 0 {
		founding.CheckInterval, founding.CheckBytes = s.check, 200
	}
	if s.historyItems == 0 {
		founding.Certifier.HistoryItems = MaxHistoryItems
	}
	messages := [][]byte{FoundingMessage(founding)}
	if s.mode != 0 {
		messages = append(messages, FoundingMode(s.mode, election.FirstProtocol))
	}
	write, err := gcs.Bootstrap(m.identity, m.info(), messages...)
	m.identity.Session++
	if err != nil {
		t.Fatal(err)
	}
	m.log.write(write)
	m.start()
	return m
}

// newGroup is three ONLINE members, led by the first.
func newGroup(t testing.TB, s settings) *world {
	founder := newFounder(t, s)
	w := founder.world
	founder.tick(40)
	for n := byte(2); n <= 3; n++ {
		w.join(w.member(n, s))
	}
	for _, m := range w.members {
		if m.state() != Online {
			t.Fatalf("member %d is %v: %v", m.identity.RaftID, m.state(), m.replica.Status())
		}
	}
	return w
}

// join starts an empty member and has the first member let it in.
func (w *world) join(m *member) {
	m.start()
	for try := uint64(1); try <= 40 && (m.replica == nil || m.state() != Online); try++ {
		w.members[0].step(JoinAsked{Ticket: try, Member: m.info()})
		w.tick(2)
	}
}

func (m *member) config() Config {
	s := m.settings
	ample := func(v int) int {
		if v == 0 {
			return 64 << 20
		}
		return v
	}
	cfg := Config{
		Group: gcs.Config{
			Identity: m.identity, Log: &m.log, HardState: m.log.hard, Applied: m.position.Index,
			ElectionTicks: cmp.Or(s.elect, 10), Limits: gcs.DefaultLimits(), ExpelTicks: -1,
		},
		AppliedPart: m.part,
		Self:        s.self,
		ApplyBytes:  ample(s.applyBytes), CheckpointBytes: ample(s.checkpointBytes),
		AssemblyBytes: s.assemblyBytes, FragmentWindow: s.window,
		Trace: m, Checks: s.check > 0, Prepares: s.prepares,
	}
	if s.expel > 0 {
		cfg.Group.ExpelTicks = s.expel
	}
	for _, c := range m.saved {
		if c.Index <= m.position.Index {
			cfg.Group.Checkpoint = c
		}
	}
	return cfg
}

func (m *member) start() {
	r, err := New(m.config())
	if err != nil {
		m.world.t.Fatalf("member %d: %v", m.identity.RaftID, err)
	}
	m.replica, m.floor = r, r.floor()
}

// restart takes the member back to what its disks hold, of which the engine
// loses what lies above a log index, and forgets what it told.
func (m *member) restart(engine uint64) {
	m.identity.Session++
	m.inbox, m.tasks, m.answers, m.states, m.down, m.stuck = nil, nil, nil, nil, false, false
	m.ahead = ahead{}
	m.flushed = len(m.saved)
	m.batches = slices.DeleteFunc(m.batches, func(b batch) bool { return b.to.Index > engine })
	m.position = applier.Position{}
	if n := len(m.batches); n > 0 {
		m.position = m.batches[n-1].to
	}
	m.since = m.position.Index
	m.verdicts, m.executed, m.elections = map[uint64][]string{}, map[uint64]string{}, map[uint64]string{}
	m.start()
}

func (m *member) state() State { return m.replica.Status().State }

// tick lets time pass for one member, and for the world.
func (m *member) tick(n int) {
	for range n {
		if m.down || m.paused {
			return
		}
		oldest := m.position.Index
		if m.pinned != 0 {
			oldest = m.pinned
		}
		m.step(Ticked{OldestSnapshot: oldest, Elapsed: 1, Fresh: gcs.NeverHeard})
	}
}

func (w *world) tick(n int) {
	for range n {
		for _, m := range w.members {
			m.tick(1)
		}
	}
}

// step lets something happen to a member, and all that follows from it.
func (m *member) step(events ...Event) {
	m.inbox = append(m.inbox, events...)
	for again := true; again; {
		again = false
		for _, other := range m.world.members {
			if len(other.inbox) > 0 && other.replica != nil && !other.paused && !other.down {
				again = true
				events, other.inbox = other.inbox, nil
				for more := true; more; events = nil {
					effects := other.replica.Step(events...)
					more = effects.More
					other.act(effects)
				}
			}
		}
	}
}

func (m *member) act(e *Effects) {
	m.floor = e.Floor // before anything is sent
	m.reads = append(m.reads, e.Reads...)
	m.actions = append(m.actions, e.Actions...)
	m.epochs = append(m.epochs, e.Epochs...)
	m.ended = append(m.ended, e.Ended...)
	m.notices = append(m.notices, e.Notices...)
	m.findings = append(m.findings, e.Findings...)
	if e.Exit != ExitNone {
		m.exit = e.Exit
	}
	m.skips, m.stands = append(m.skips, e.Skips...), append(m.stands, e.Stands...)
	m.stuck = m.stuck && len(e.Skips) == 0
	m.unheard = append(m.unheard, e.Writes...)
	m.write()
	for _, out := range e.Messages {
		m.send(out)
	}
	for _, j := range e.Judged {
		if m.world.atAfter[string(j.Payload)] && j.Verdict.Outcome == certifier.Certified {
			m.world.gated[string(j.Payload)] = j.Index
		}
	}
	m.saved = append(m.saved, e.Checkpoints...)
	m.answers = append(m.answers, e.Answers...)
	m.outcomes = append(m.outcomes, e.Outcomes...)
	m.changes = append(m.changes, e.Settings...)
	m.joins = append(m.joins, e.Joins...)
	m.leaves = append(m.leaves, e.Leaves...)
	if e.Truncate > 0 {
		m.truncate(e.Truncate)
	}
	if n := len(m.states); n == 0 || m.states[n-1] != e.State {
		m.states = append(m.states, e.State)
	}
	m.tasks = append(m.tasks, e.Tasks...)
	if !m.held {
		m.work(len(m.tasks))
	}
}

// truncate forgets the log up to a checkpoint. A newer one must be there from
// which the member could start, whatever its engine loses, and raft must be done
// with what goes.
func (m *member) truncate(index uint64) {
	var usable []uint64
	for _, c := range m.saved {
		if c.Index <= m.durable {
			usable = append(usable, c.Index)
		}
	}
	i := slices.IndexFunc(usable, func(at uint64) bool { return at >= index })
	if i < 0 || i == len(usable)-1 || index > m.replica.group.Consumed() {
		m.world.t.Errorf("member %d: log cut at %d, its checkpoints below %d are %v", m.identity.RaftID, index, m.durable, usable)
	}
	for _, c := range m.saved { // older ones nobody starts from any more
		if len(usable) < 2 || c.Index < usable[len(usable)-2] {
			continue
		}
		giants, _, _, err := splitState(c)
		if err != nil {
			m.world.t.Fatal(err)
		}
		a, _, err := giant.Restore(giants, 0)
		if err == nil {
			err = a.Check(index+1, c.Index)
		}
		if err != nil {
			m.world.t.Errorf("member %d: log cut at %d, and the checkpoint at %d has %v", m.identity.RaftID, index, c.Index, err)
		}
	}
	m.log.truncate(index)
}

// work has the engine do the next n tasks.
func (m *member) work(n int) {
	for i, task := range m.tasks[:n] {
		if m.stuck {
			m.tasks = slices.Delete(m.tasks, 0, i)
			return
		}
		if g, class := m.cannot(task.Apply); class != applier.ClassNone {
			m.stuck = true
			m.inbox = append(m.inbox, Faulted{GTID: g, Class: class})
			m.tasks = slices.Delete(m.tasks, 0, i)
			return
		}
		switch {
		case task.Ahead != nil:
			m.getReady(task.Ahead)
		case task.Apply != nil:
			if err := task.Apply.CheckAfter(m.position); err != nil {
				m.world.t.Fatalf("member %d: %v", m.identity.RaftID, err)
			}
			if err := task.Load(&m.log); err != nil {
				m.world.t.Fatalf("member %d: %v", m.identity.RaftID, err)
			}
			m.turn(&task)
			b := batch{to: task.Apply.To}
			for _, tx := range task.Apply.Transactions {
				if slices.Contains(m.skips, tx.GTID) {
					continue
				}
				b.payloads = append(b.payloads, string(tx.Payload))
				m.checkVisible(string(tx.Payload))
			}
			m.batches = append(m.batches, b)
			m.position = b.to
			m.inbox = append(m.inbox, Applied{m.position.Index})
		case task.Flush:
			m.durable = m.position.Index
			// What is certified again after a restart has checkpoints behind the engine.
			if want := m.saved[m.flushed].Index; m.durable != max(want, m.since) {
				m.world.t.Errorf("member %d: made durable at %d, for a checkpoint at %d", m.identity.RaftID, m.durable, want)
			}
			m.flushed++
			m.inbox = append(m.inbox, Durable{m.durable})
		case task.Export != nil:
			x := *task.Export
			var err error
			if x.Checkpoint, err = x.Complete(&m.log); err != nil {
				m.world.t.Fatalf("member %d: %v", m.identity.RaftID, err)
			}
			m.exports = append(m.exports, x)
		case task.Check != nil:
			if m.position.Index != task.Check.Index {
				m.world.t.Errorf("member %d: a check of %d comes at %d", m.identity.RaftID, task.Check.Index, m.position.Index)
			}
			m.inbox = append(m.inbox, Checked{Number: task.Check.Number, Slice: m.slice(task.Check)})
		}
	}
	m.tasks = slices.Delete(m.tasks, 0, n)
}

// checkVisible checks, as a transaction becomes visible at m, that it is so at all
// others that serve in m's newest view.
func (m *member) checkVisible(payload string) {
	index, gated := m.world.gated[payload]
	if !gated {
		return
	}
	for _, v := range m.replica.Status().View.Members {
		for _, other := range m.world.members {
			if other == m || other.identity.RaftID != v.RaftID || v.State != gcs.Online || other.down || other.state() != Online {
				continue
			}
			if other.position.Index < index && other.floor.For(consistency.Eventual) < index {
				m.world.t.Errorf("member %d shows %q at %d, member %d shows %d and lets begin from %+v",
					m.identity.RaftID, payload, index, v.RaftID, other.position.Index, other.floor)
			}
		}
	}
}

// payloads are those that the engine shows, in order.
func (m *member) payloads() []string {
	var all []string
	for _, b := range m.batches {
		all = append(all, b.payloads...)
	}
	return all
}

// write has the disk do what the log asks of it, unless it hangs.
func (m *member) write() {
	if m.hangs {
		return
	}
	for _, w := range m.unheard {
		m.log.write(w.LogWrite)
		m.inbox = append(m.inbox, Written{w.Responses})
	}
	m.unheard = nil
}

// release has the engine do what waits, and go on by itself.
func (m *member) release() {
	m.held = false
	m.work(len(m.tasks))
	m.step()
}

// send encodes as the wire does: members share no memory.
func (m *member) send(out gcs.Outgoing) {
	b, err := gcs.AppendMessage(nil, &out.Message)
	if err != nil {
		m.world.t.Fatal(err)
	}
	msg, err := gcs.DecodeMessage(b)
	if err != nil {
		m.world.t.Fatal(err)
	}
	for _, to := range m.world.members {
		if to.identity.RaftID == out.To && !to.down && (m.world.cut == nil || !m.world.cut(m, to, msg)) {
			to.inbox = append(to.inbox, Received{From: m.identity.RaftID, Message: msg})
		}
	}
}

// transaction is the event of a caller who commits.
func (m *member) transaction(ticket uint64, snapshot gtid.Set, payload string, items ...certifier.Item) Submitted {
	header := Header{ID: m.world.nextID(), Epoch: m.replica.elect.Epoch(), Snapshot: snapshot}
	return m.submission(ticket, header, payload, items...)
}

// after is the event of a caller who commits at AFTER.
func (m *member) after(ticket uint64, payload string) Submitted {
	header := Header{ID: m.world.nextID(), Epoch: m.replica.elect.Epoch(), After: true}
	return m.submission(ticket, header, payload)
}

func (m *member) submission(ticket uint64, h Header, payload string, items ...certifier.Item) Submitted {
	if h.After {
		m.world.atAfter[payload] = true
	}
	msg, err := AppendTransaction(nil, &h,
		touch(&certifier.WriteSet{}, items...), []byte(payload))
	if err != nil {
		m.world.t.Fatal(err)
	}
	return Submitted{Ticket: ticket, Message: msg}
}

// Verdict implements [Trace].
func (m *member) Verdict(index, origin, session uint64, id TransactionID, v certifier.Verdict) {
	m.verdicts[index] = append(m.verdicts[index], fmt.Sprintf("%d/%d %v %+v", origin, session, id, v))
}

// View implements [Trace].
func (m *member) View(v gcs.View) { m.views = append(m.views, v.String()) }

// Election implements [Trace].
func (m *member) Election(index uint64, s election.Snapshot) {
	m.elections[index] = electionText(s)
}

// electionText is all that there is to a snapshot.
func electionText(s election.Snapshot) string {
	action := "none"
	if s.Action != nil {
		action = fmt.Sprintf("%+v", *s.Action)
	}
	s.Action = nil
	return fmt.Sprintf("%+v open %s", s, action)
}

// Executed implements [Trace].
func (m *member) Executed(index uint64, executed gtid.Set) { m.executed[index] = executed.String() }

// memlog is a log in memory.
type memlog struct {
	cut, cutTerm uint64
	entries      []*raftpb.Entry // those after cut
	hard         gcs.HardState
}

func (l *memlog) FirstIndex() (uint64, error) { return l.cut + 1, nil }
func (l *memlog) LastIndex() (uint64, error)  { return l.cut + uint64(len(l.entries)), nil }

func (l *memlog) Term(index uint64) (uint64, error) {
	switch {
	case index < l.cut:
		return 0, raft.ErrCompacted
	case index == l.cut:
		return l.cutTerm, nil
	case index > l.cut+uint64(len(l.entries)):
		return 0, raft.ErrUnavailable
	}
	return l.entries[index-l.cut-1].GetTerm(), nil
}

func (l *memlog) Entries(lo, hi, maxSize uint64) ([]*raftpb.Entry, error) {
	if lo <= l.cut {
		return nil, raft.ErrCompacted
	}
	found := l.entries[lo-l.cut-1 : hi-l.cut-1]
	size := uint64(0)
	for i, e := range found {
		size += uint64(len(e.GetData()))
		if i > 0 && size > maxSize {
			return found[:i:i], nil
		}
	}
	return slices.Clip(found), nil
}

func (l *memlog) write(w gcs.LogWrite) {
	if len(w.Entries) > 0 {
		keep := w.Entries[0].GetIndex() - l.cut - 1
		l.entries = append(l.entries[:keep:keep], w.Entries...)
	}
	if h := w.HardState; h != nil {
		l.hard = gcs.HardState{Term: h.GetTerm(), Vote: h.GetVote(), Commit: h.GetCommit()}
	}
}

func (l *memlog) truncate(index uint64) {
	l.cutTerm, _ = l.Term(index)
	l.entries = l.entries[index-l.cut:]
	l.cut = index
}

// logless loses what makes up the log, and lets the rest through.
func logless(_, _ *member, m gcs.Message) bool { return m.Kind == gcs.MessageRaft }
