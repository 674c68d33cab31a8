package gcs

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.etcd.io/raft/v3/raftpb"
)

// The patience of the members of a world.
const (
	suspectTicks = 20
	stallTicks   = 20
)

// world is a group on one table: members with instant disks, and a wire that
// keeps messages in order until somebody delivers them. Nothing happens by
// itself. It writes down what is worth telling, and checks as it goes that
// members agree on every index and that no origin's message comes twice, or
// out of order.
type world struct {
	t       reporter
	members []*member // ascending by n
	wire    []envelope
	cut     map[[2]uint64]bool // between two members, the lower one first
	deaf    map[[2]uint64]bool // from the first one to the second one
	history map[uint64]string  // by log index, what was delivered there
	expel   int                // ExpelTicks of the members, negative at first
	story   story
}

// reporter is what tests, benchmarks and property tests have in common.
type reporter interface {
	Helper()
	Errorf(format string, args ...any)
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

type envelope struct {
	from, to uint64
	msg      Message
}

// member is the nth of the world; its raft id is n.
type member struct {
	n          uint64
	session    uint64
	forced     bool // its identity names the incarnation that [force] makes
	log        memlog
	checkpoint Checkpoint
	group      *Group // nil while it is down
	submitted  []string
	own        int // how many of submitted came back

	outgoing []Outgoing
	writes   []Write
	stalled  bool    // the disk answers nothing
	unheard  []Write // what it is asked to do meanwhile
	noticed  []Notice
	asked    map[uint64]uint64 // by batch of reads, the log index that its answer must reach

	leading, removed bool
	clone            uint64
}

// story is the lines that a command makes. What several members tell is told
// once, with all their names in front.
type story struct {
	lines []string
	who   map[string][]uint64
}

func (s *story) tell(n uint64, format string, args ...any) {
	line := fmt.Sprintf(format, args...)
	if s.who == nil {
		s.who = map[string][]uint64{}
	}
	if s.who[line] == nil {
		s.lines = append(s.lines, line)
	}
	s.who[line] = append(s.who[line], n)
}

// wire tells of a message; those are never put together.
func (s *story) wire(format string, args ...any) {
	s.lines = append(s.lines, fmt.Sprintf(format, args...))
}

func (s *story) end() string {
	var b strings.Builder
	for _, line := range s.lines {
		for i, n := range s.who[line] {
			if i > 0 {
				b.WriteByte(' ')
			}
			fmt.Fprint(&b, n)
		}
		if s.who[line] != nil {
			b.WriteString(": ")
		}
		b.WriteString(line + "\n")
	}
	*s = story{}
	return b.String()
}

func newWorld(t reporter) *world {
	return &world{t: t, cut: map[[2]uint64]bool{}, deaf: map[[2]uint64]bool{}, history: map[uint64]string{}, expel: -1}
}

func (w *world) member(n uint64) *member {
	i := slices.IndexFunc(w.members, func(m *member) bool { return m.n == n })
	if i < 0 {
		w.t.Fatalf("there is no member %d", n)
	}
	return w.members[i]
}

func (w *world) up() []*member {
	return slices.DeleteFunc(slices.Clone(w.members), func(m *member) bool { return m.group == nil })
}

func (m *member) identity() Identity {
	id := Identity{Group: uuid(100), Incarnation: uuid(200), Member: uuid(m.n), RaftID: m.n, Session: m.session}
	if m.forced {
		id.Incarnation = force().Incarnation
	}
	return id
}

// add puts an empty member on the table.
func (w *world) add(n uint64) *member {
	m := &member{n: n}
	w.members = append(w.members, m)
	slices.SortFunc(w.members, func(a, b *member) int { return int(a.n) - int(b.n) })
	return m
}

func (w *world) bootstrap(n uint64) {
	m := w.add(n)
	write, err := Bootstrap(m.identity(), recovering(n))
	if err != nil {
		w.t.Fatal(err)
	}
	m.log.write(write)
	w.start(m)
}

// start runs a member on what its disk holds.
func (w *world) start(m *member) {
	m.session++
	m.log.hard = m.log.synced
	m.submitted, m.own, m.asked = nil, 0, nil
	m.leading, m.removed, m.clone = false, false, 0
	var err error
	if m.group, err = New(w.config(m)); err != nil {
		w.t.Fatal(err)
	}
	w.pump(m)
}

func (w *world) config(m *member) Config {
	return Config{
		Identity: m.identity(), Log: &m.log, HardState: m.log.hard, Checkpoint: m.checkpoint,
		ElectionTicks: 10, SuspectTicks: suspectTicks, ExpelTicks: w.expel, StallTicks: stallTicks, Limits: Limits{
			FrameBytes: 64, WindowFrames: 2,
			UncommittedBytes: 1 << 20, InflightBytes: 1 << 20, DeliveryBytes: 1 << 20,
		},
	}
}

// crash ends a member. Its messages that are on the wire stay there.
func (w *world) crash(m *member) { m.group = nil }

func (w *world) tick(m *member) {
	m.group.Report(Report{Applied: m.group.Delivered(), Snapshot: m.group.Delivered()})
	m.group.Tick()
	w.pump(m)
}

func (w *world) submit(m *member, msg string) {
	m.submitted = append(m.submitted, msg)
	m.group.Submit([]byte(msg))
}

// ask has a member ask how far it must be. It must be answered with no less than
// anybody has delivered by now.
func (w *world) ask(m *member) (batch uint64) {
	batch = m.group.Read()
	if m.asked == nil {
		m.asked = map[uint64]uint64{}
	}
	for index := range w.history { // order-free: the largest
		m.asked[batch] = max(m.asked[batch], index)
	}
	return batch
}

// read takes the answers to that.
func (w *world) read(m *member) {
	for _, a := range m.group.Reads(nil) {
		least, asked := m.asked[a.Batch]
		if !asked || a.Index < least {
			w.t.Errorf("member %d may read batch %d at %d; %d was delivered when it asked: %v", m.n, a.Batch, a.Index, least, asked)
		}
		delete(m.asked, a.Batch)
		w.story.tell(m.n, "read %d at %d", a.Batch, a.Index)
	}
}

// saveCheckpoint takes the member's state at its last delivery.
func (w *world) saveCheckpoint(m *member) {
	index := m.group.Delivered()
	term, err := m.log.Term(index)
	if err != nil {
		w.t.Fatal(err)
	}
	m.checkpoint = Checkpoint{Index: index, Term: term, Data: m.group.AppendState(nil)}
}

// copyFrom gives a member the checkpoint of another one instead of its log.
func (w *world) copyFrom(m, donor *member) {
	w.saveCheckpoint(donor)
	m.checkpoint = donor.checkpoint
	hard := HardState{Term: max(m.log.hard.Term, m.checkpoint.Term), Commit: m.checkpoint.Index}
	if hard.Term == m.log.hard.Term {
		hard.Vote = m.log.hard.Vote
	}
	m.log = memlog{cut: m.checkpoint.Index, cutTerm: m.checkpoint.Term, hard: hard, synced: hard}
	w.start(m)
}

// pump does for a member all that needs nobody else.
func (w *world) pump(m *member) {
	for busy := true; busy; {
		m.group.Flush()
		m.writes = m.group.Writes(m.writes)
		busy = len(m.writes) > 0
		if m.stalled {
			m.unheard, m.writes = append(m.unheard, m.writes...), nil
		}
		for _, write := range m.writes {
			m.log.write(write.LogWrite)
			m.group.Written(write.Responses)
		}
		for index, origin, first := m.group.Upcoming(); index > 0; index, origin, first = m.group.Upcoming() {
			d, ok := m.group.NextDelivery()
			if !ok || d.Index != index || d.Origin != origin || len(d.Messages) > 0 != (first != nil) || len(d.Messages) > 0 && !bytes.Equal(first, d.Messages[0]) {
				w.t.Fatalf("delivered is %+v, %t, where %q of %d at %d was to come", d, ok, first, origin, index)
			}
			w.deliver(m, d)
			busy = true
		}
		if d, ok := m.group.NextDelivery(); ok {
			w.t.Fatalf("delivered is %+v, where nothing was to come", d)
		}
	}
	m.outgoing = m.group.Messages(m.outgoing)
	for _, o := range m.outgoing {
		w.wire = append(w.wire, envelope{from: m.n, to: o.To, msg: o.Message})
	}
	m.noticed = append(m.noticed, m.group.Notices(nil)...)
	w.read(m)
	w.notice(m)
}

// resume has the disk of a member do what it was asked, and go on.
func (w *world) resume(m *member) {
	m.stalled = false
	for _, write := range m.unheard {
		m.log.write(write.LogWrite)
		m.group.Written(write.Responses)
	}
	m.unheard = nil
	w.pump(m)
}

// settle delivers messages until there are none. Members that never fall silent
// without a tick are broken.
func (w *world) settle() {
	for said := 0; len(w.wire) > 0; said++ {
		if said == 100_000 {
			w.t.Fatalf("members do not stop talking: %d messages, the next is %+v", said, w.wire[0])
		}
		e := w.wire[0]
		w.wire = w.wire[1:]
		w.hand(e)
	}
}

// hand delivers a message, or loses it if the wire is cut or nobody is there.
func (w *world) hand(e envelope) {
	i := slices.IndexFunc(w.members, func(m *member) bool { return m.n == e.to && m.group != nil })
	lost := i < 0 || w.cut[[2]uint64{min(e.from, e.to), max(e.from, e.to)}] || w.deaf[[2]uint64{e.from, e.to}]
	if what := describe(e.msg); what != "" {
		if lost {
			what += ", lost"
		}
		w.story.wire("%d->%d %s", e.from, e.to, what)
	}
	if !lost {
		w.members[i].group.Receive(e.from, e.msg)
		w.pump(w.members[i])
	}
}

// describe is what the story tells of a message, nothing of those that tick.
func describe(m Message) string {
	switch m.Kind {
	case MessageFrame:
		h, msgs, err := decodeFrame(m.Frame, nil)
		if err != nil {
			return "malformed frame"
		}
		return fmt.Sprintf("frame %d.%d.%d %q", h.origin, h.session, h.seq, msgs)
	case MessageRefusal:
		r := m.Refusal
		return fmt.Sprintf("refusal of %d.%d, expects %d, leader %d", r.Session, r.Seq, r.Expected, r.Leader)
	case MessageLeave:
		return "leave"
	case MessageRemoved:
		return "removed"
	case MessageRaft:
		if m.Raft.GetType() == raftpb.MsgSnap {
			return fmt.Sprintf("snapshot at %d", m.Raft.GetSnapshot().GetMetadata().GetIndex())
		}
	case MessageRead:
		return fmt.Sprintf("read %d.%d", m.Read.Session, m.Read.Batch)
	case MessageReadIndex:
		return fmt.Sprintf("read %d.%d at %d", m.Read.Session, m.Read.Batch, m.Index)
	case MessageDelivered:
		return fmt.Sprintf("delivered %d", m.Index)
	case MessageReport:
	}
	return ""
}

// notice tells what changed about a member.
func (w *world) notice(m *member) {
	st := m.group.Status()
	if st.Leading && !m.leading {
		w.story.tell(m.n, "leads in term %d", st.Term)
	}
	if m.group.Removed() && !m.removed {
		w.story.tell(m.n, "is removed")
	}
	if from := m.group.CloneFrom(); from != m.clone {
		w.story.tell(m.n, "is to be cloned: %d", from)
	}
	m.leading, m.removed, m.clone = st.Leading, m.group.Removed(), m.group.CloneFrom()
}

func (w *world) deliver(m *member, d Delivery) {
	what := ""
	switch {
	case d.View != nil:
		cause := d.View.Cause
		what = fmt.Sprintf("view %d: %s (%d %s)", d.View.ID, standing(*d.View), cause.Member.RaftID, cause.Kind)
	case d.Messages != nil:
		what = fmt.Sprintf("%q of %d.%d", d.Messages, d.Origin, d.Session)
	case len(m.log.entry(d.Index).GetData()) > 0:
		what = "passed over"
	}
	if what != "" {
		w.story.tell(m.n, "[%d] %s", d.Index, what)
	}
	if before, ok := w.history[d.Index]; ok && before != what {
		w.t.Errorf("member %d has at %d: %s\nsomebody had: %s", m.n, d.Index, what, before)
	}
	w.history[d.Index] = what
	if d.Origin == m.n && d.Session == m.session {
		w.checkOwn(m, d.Messages)
	}
}

// checkOwn holds a member's own deliveries against what it submitted. Since
// all members agree, this is the order of the origin everywhere.
func (w *world) checkOwn(m *member, msgs [][]byte) {
	for _, msg := range msgs {
		if m.own == len(m.submitted) || m.submitted[m.own] != string(msg) {
			w.t.Errorf("member %d delivers its own %q after %d of %q", m.n, msg, m.own, m.submitted)
			return
		}
		m.own++
	}
}

// join asks one member to let another one in.
func (w *world) join(m, asked *member) {
	answer := asked.group.Join(recovering(m.n), 0)
	w.pump(asked)
	refused, isRefused := errors.AsType[*RefusedChangeError](answer.Refused)
	switch {
	case answer.Joined:
		w.story.tell(asked.n, "%d is joined", m.n)
	case isRefused:
		w.story.tell(asked.n, "refused: %s", refused.Reason)
	case answer.Leader.RaftID == asked.n:
		w.story.tell(asked.n, "asks for %d", m.n)
	default:
		w.story.tell(asked.n, "ask %d", answer.Leader.RaftID)
	}
}
