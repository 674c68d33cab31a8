package sim

import (
	"github.com/concordatdb/concordat/applier"
	"github.com/concordatdb/concordat/certifier"
	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/internal/replica"
)

// client runs transactions on one member, one after the other, for as long as
// the world lasts. It outlives the member's runs.
type client struct {
	member    *member
	slot      int
	run       *run // the run that it works with
	trail     *trail
	reader    bool       // it never writes
	beginning *beginning // its transaction until that has a snapshot
	begun     *beginning // from then on
	snapshot  applier.Snapshot
	current   *submission
}

// trail is what some clients have committed in one incarnation, on whatever
// members. They pass it on to each other.
type trail struct {
	history *history
	set     gtid.Set
}

func (t *trail) executed(h *history) gtid.Set {
	if t.history != h {
		return gtid.Set{}
	}
	return t.set
}

func (t *trail) add(h *history, g gtid.GTID) {
	if t.history != h {
		t.history, t.set = h, gtid.Set{}
	}
	t.set = t.set.Add(g)
}

func newClient(m *member, slot int) *client {
	w := m.world
	return &client{member: m, slot: slot, trail: &w.trails[(m.slot+slot)%len(w.trails)], reader: chance(w.more, w.plan.rights.readers)}
}

// begin starts the client on the present run of its member.
func (c *client) begin() {
	c.run = c.member.run
	c.think()
}

// think waits for the next transaction.
func (c *client) think() {
	w := c.member.world
	if w.phase >= closing {
		return
	}
	delay := w.plan.work.think.draw(w.rand)
	if c.run.state != replica.Online {
		delay += 20 * millisecond
	}
	if w.brake != nil {
		delay += w.brake.pause
	}
	c.run.after(delay, func() {
		if c.run.state == replica.Online && w.phase < closing && !c.member.misled() {
			c.ask()
		} else {
			c.think()
		}
	})
}

// transact takes a snapshot, reads, and some time later commits.
func (c *client) transact(b *beginning) {
	w, h := c.member.world, c.run.history
	snapshot, err := c.member.engine.Begin()
	if err != nil {
		w.violate("engine", "%s cannot begin: %v", c.member.name, err)
		return
	}
	c.snapshot, c.begun = snapshot, b
	s := &submission{id: w.uuid(), origin: c.run.raftID, session: c.run.session, snapshot: snapshot.Position(), begun: b.begun}
	s.seen = s.snapshot.Executed.Count()
	h.number(s)
	work := &w.plan.work
	s.serializable = chance(w.rand, work.serializable)
	c.current = s
	b.work, b.began = s, w.now
	h.begins = append(h.begins, b.begun)
	w.trace.begun(c, b)
	h.tell(func(k checker) string { return k.began(b.begun) })
	if b.write {
		c.meddle(s) // readers are many, and what they broadcast would have no bound
	}
	if chance(w.rand, work.again) && b.write && c.again() {
		return
	}
	poisoned := !w.plain && b.write && c.poison(s)
	readOnly := chance(w.rand, work.reads)
	if w.plain {
		b.write = !readOnly
	}
	switch {
	case poisoned:
		s.serializable = false
	case b.write:
		c.work(s)
		c.big(s)
	default:
		c.look(s)
	}
	b.read = w.now
	h.tell(func(k checker) string { return k.read(c.member.name, s) })
	if !b.write {
		w.report.ReadOnly++
		h.looks = append(h.looks, s)
		b.ended = w.now
		h.tell(func(k checker) string { return k.finished(b.begun) })
		c.release()
		c.think()
		return
	}
	took := work.run
	if w.brake == nil && chance(w.rand, work.long) {
		took = work.longRun
	}
	c.run.after(took.draw(w.rand), c.commit)
}

// commit hands the transaction to the member.
func (c *client) commit() {
	if c.run.state != replica.Online {
		c.release() // not to be committed any more
		c.think()
		return
	}
	c.submit()
}

// header is what the submission says of itself.
func (s *submission) header() replica.Header {
	return replica.Header{ID: s.id, Snapshot: s.snapshot.Executed, Epoch: s.epoch, After: s.after, Time: s.handed}
}

func (s *submission) writeSet() *certifier.WriteSet {
	ws := &certifier.WriteSet{}
	for _, it := range s.items() {
		ws.Add(it.kind, it.key.index(), certifier.Bytes(it.key.bytes()))
	}
	for _, sc := range s.ranges() {
		from, to := key{n: sc.from}.bytes(), key{n: sc.to}.bytes()
		ws.Range(sc.space.index(), []certifier.Part{certifier.Bytes(from)}, []certifier.Part{certifier.Bytes(to)})
	}
	return ws
}

// encode is the submission as it is broadcast in one piece.
func (s *submission) encode() ([]byte, error) {
	var payload []byte
	for i := range s.writes {
		payload = applier.AppendMutation(payload, s.writes[i].mutation())
	}
	if s.poison {
		payload = []byte{0xff}
	}
	h := s.header()
	return replica.AppendTransaction(nil, &h, s.writeSet(), payload)
}

// submit broadcasts the current submission. What the member knows of the election
// counts, however old that is.
func (c *client) submit() {
	w, s := c.member.world, c.current
	s.epoch, s.after, s.handed = c.run.standing.Election.Epoch, c.begun.level.WaitsAfter(), w.now
	var event replica.Submitted
	var err error
	if s.giant {
		event.Fragments, event.Message, err = s.fragments(w.plan.giants.fragment)
	} else {
		event.Message, err = s.encode()
	}
	if err != nil {
		w.violate("panic", "%s: %v", c.member.name, err)
		return
	}
	size := len(event.Message)
	for _, f := range event.Fragments {
		size += len(f)
	}
	c.run.orders++
	s.order = c.run.orders
	s.place = c.run.places.next(s.giant)
	c.run.history.submit(s)
	event.Ticket = w.ticket()
	c.run.calls[event.Ticket] = c
	c.run.tell(event)
	c.run.chargeFlow(c.begun, size)
	if s.giant {
		c.accompany(event.Ticket)
	}
	c.run.leaveDrain(c.begun)
}

// answer hands an answer to the client that waits for it.
func (r *run) answer(a replica.Answer) {
	w := r.world
	c := r.calls[a.Ticket]
	if r.marks[a.Ticket] && fenced(a.Verdict) {
		return // who has no right to write is not heard with a mark either
	}
	if c == nil {
		w.violate("P2", "%s answers ticket %d, for which nobody waits", r.member.name, a.Ticket)
		return
	}
	delete(r.calls, a.Ticket)
	defer delete(r.giants, a.Ticket)
	s, at := c.current, r.member.engine.Position()
	s.acked = a.Verdict.Outcome == certifier.Certified || a.Verdict.Outcome == certifier.Duplicate
	switch {
	case a.Index != 0:
	case r.giants[a.Ticket]:
		r.recalled(s, a)
	default:
		if !fenced(a.Verdict) {
			w.violate("P2", "%s answers transaction %s, which was not ordered: %s", r.member.name, s.id, verdictText(a.Verdict))
			return
		}
		r.orders--
		r.places.back(s.giant)
		r.history.refusedEarly(s)
	}
	if s.acked {
		c.trail.add(r.history, a.Verdict.GTID)
	}
	w.trace.answer(w, r.member, a)
	r.history.tell(func(k checker) string { return k.answered(r.member.name, s, a, at) })
	b := c.begun.begun
	if s.again {
		// What was sent again is another one's: it began nothing here.
		b = &begun{history: b.history, run: b.run, work: s, asked: b.asked, write: true, level: b.level}
	}
	b.ended, b.answered, b.verdict, b.index = w.now, true, a.Verdict, a.Index
	r.history.tell(func(k checker) string { return k.finished(b) })
	c.release()
	c.think()
}

// release ends the transaction.
func (c *client) release() {
	if c.snapshot != nil {
		// A snapshot that an import or a crash has ended says so; it is gone
		// either way.
		_ = c.snapshot.Close()
	}
	if c.begun != nil {
		c.run.leaveDrain(c.begun)
		c.run.leaveFlow(c.begun)
	}
	c.snapshot, c.current, c.begun = nil, nil, nil
}

// abandon tells the client that its member has gone. What it had submitted has
// an unknown outcome.
func (c *client) abandon() {
	if c.current != nil && c.current.order > 0 {
		c.current.lost = true
		if c.current.begun != nil {
			c.current.begun.lost = true
		}
	}
	if c.beginning != nil {
		c.run.leaveFlow(c.beginning)
	}
	c.beginning = nil
	c.release()
}
