package sim

import (
	"github.com/concordatdb/concordat/applier"
	"github.com/concordatdb/concordat/certifier"
	"github.com/concordatdb/concordat/internal/replica"
)

// client runs transactions on one member, one after the other, for as long as
// the world lasts. It outlives the member's runs.
type client struct {
	member   *member
	slot     int
	run      *run // the run that it works with
	snapshot applier.Snapshot
	current  *submission
}

func newClient(m *member, slot int) *client { return &client{member: m, slot: slot} }

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
	c.run.after(delay, func() {
		if c.run.state == replica.Online && w.phase < closing {
			c.transact()
		} else {
			c.think()
		}
	})
}

// transact takes a snapshot, reads, and some time later commits.
func (c *client) transact() {
	w := c.member.world
	snapshot, err := c.member.engine.Begin()
	if err != nil {
		w.violate("engine", "%s cannot begin: %v", c.member.name, err)
		return
	}
	c.snapshot = snapshot
	s := &submission{id: w.uuid(), origin: c.run.raftID, session: c.run.session, snapshot: snapshot.Position()}
	s.seen = s.snapshot.Executed.Count()
	c.run.history.number(s)
	work := &w.plan.work
	s.serializable = chance(w.rand, work.serializable)
	c.current = s
	c.meddle(s)
	if chance(w.rand, work.again) && c.again() {
		return
	}
	readOnly := chance(w.rand, work.reads)
	if readOnly {
		c.look(s)
	} else {
		c.work(s)
	}
	c.run.history.tell(func(k checker) string { return k.read(c.member.name, s) })
	if readOnly {
		w.report.ReadOnly++
		c.run.history.looks = append(c.run.history.looks, s)
		c.release()
		c.think()
		return
	}
	took := work.run
	if chance(w.rand, work.long) {
		took = work.longRun
	}
	c.run.after(took.draw(w.rand), c.commit)
}

// commit hands the transaction to the member.
func (c *client) commit() {
	w, s := c.member.world, c.current
	if c.run.state != replica.Online {
		c.release() // not to be committed any more
		c.think()
		return
	}
	ws := &certifier.WriteSet{}
	for _, it := range s.items() {
		ws.Add(it.kind, it.key.index(), certifier.Bytes(it.key.bytes()))
	}
	for _, sc := range s.ranges() {
		from, to := key{n: sc.from}.bytes(), key{n: sc.to}.bytes()
		ws.Range(sc.space.index(), []certifier.Part{certifier.Bytes(from)}, []certifier.Part{certifier.Bytes(to)})
	}
	var payload []byte
	for i := range s.writes {
		payload = applier.AppendMutation(payload, s.writes[i].mutation())
	}
	message, err := replica.AppendTransaction(nil, &replica.Header{ID: s.id, Snapshot: s.snapshot.Executed}, ws, payload)
	if err != nil {
		w.violate("panic", "%s: %v", c.member.name, err)
		return
	}
	s.message = message
	c.submit()
}

// submit broadcasts the current submission.
func (c *client) submit() {
	w, s := c.member.world, c.current
	c.run.orders++
	s.order = c.run.orders
	c.run.history.submit(s)
	ticket := w.ticket()
	c.run.calls[ticket] = c
	c.run.tell(replica.Submitted{Ticket: ticket, Message: s.message})
}

// answer hands an answer to the client that waits for it.
func (r *run) answer(a replica.Answer) {
	w := r.world
	c := r.calls[a.Ticket]
	if c == nil {
		w.violate("P2", "%s answers ticket %d, for which nobody waits", r.member.name, a.Ticket)
		return
	}
	delete(r.calls, a.Ticket)
	s, at := c.current, r.member.engine.Position()
	s.acked = a.Verdict.Outcome == certifier.Certified || a.Verdict.Outcome == certifier.Duplicate
	w.trace.answer(w, r.member, a)
	c.run.history.tell(func(k checker) string { return k.answered(r.member.name, s, a, at) })
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
	c.snapshot, c.current = nil, nil
}

// abandon tells the client that its member has gone. What it had submitted has
// an unknown outcome.
func (c *client) abandon() {
	if c.current != nil && c.current.order > 0 {
		c.current.lost = true
	}
	c.release()
}
