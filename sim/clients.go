package sim

import (
	"encoding/binary"

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
	c.current = s
	work := &w.plan.work
	if chance(w.rand, work.marks) {
		c.mark(s)
	}
	readOnly := chance(w.rand, work.reads)
	if readOnly {
		c.look(s)
	} else {
		c.work(s)
	}
	w.history.tell(func(k checker) string { return k.read(c.member.name, s) })
	if readOnly {
		w.report.ReadOnly++
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

// look reads every account.
func (c *client) look(s *submission) {
	for n := range c.member.world.plan.work.accounts {
		c.read(s, key{accounts, n})
	}
}

// work chooses what the transaction does.
func (c *client) work(s *submission) {
	w := c.member.world
	work := &w.plan.work
	padding := 0
	if chance(w.rand, work.big) {
		padding = int(work.bigBytes.draw(w.rand))
	}
	switch w.rand.IntN(4) {
	case 0: // move money
		from := w.rand.IntN(work.accounts)
		to := (from + 1 + w.rand.IntN(work.accounts-1)) % work.accounts
		amount := 1 + w.rand.Int64N(50)
		c.write(s, key{accounts, from}, c.read(s, key{accounts, from}).balance()-amount, padding)
		c.write(s, key{accounts, to}, c.read(s, key{accounts, to}).balance()+amount, padding)
	case 1: // count
		k := key{counters, w.rand.IntN(work.hot)}
		c.write(s, k, c.read(s, k).number+1, padding)
	default: // change some registers, one of them perhaps unread
		first := w.rand.IntN(work.cold)
		for i := range 1 + w.rand.IntN(3) {
			k := key{registers, (first + i*7) % work.cold}
			if i > 0 && s.wrote(k) {
				continue
			}
			number := int64(i)
			if w.rand.IntN(4) > 0 {
				number += c.read(s, k).number
			}
			if w.rand.IntN(10) == 0 {
				s.writes = append(s.writes, write{key: k})
			} else {
				c.write(s, k, number, padding)
			}
		}
	}
}

func (c *client) read(s *submission, k key) value {
	b, ok, err := c.snapshot.Get(tables[k.space], k.bytes())
	if err != nil {
		c.member.world.violate("engine", "%s cannot read %s: %v", c.member.name, k, err)
	}
	v := value{}
	if ok {
		if v, ok = decodeValue(b); !ok {
			c.member.world.violate("P6", "%s shows %x in %s, which nobody wrote", c.member.name, b, k)
		}
	}
	s.reads = append(s.reads, read{key: k, value: v})
	return v
}

func (c *client) write(s *submission, k key, number int64, padding int) {
	s.writes = append(s.writes, write{key: k, bytes: value{writer: s.id, number: number}.encode(padding)})
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
	var payload []byte
	for _, wr := range s.writes {
		ws.Write(wr.key.index(), certifier.Bytes(wr.key.bytes()))
		m := applier.Mutation{Op: applier.OpDelete, Table: tables[wr.key.space], Key: wr.key.bytes()}
		if wr.bytes != nil {
			m.Op, m.Value = applier.OpPut, wr.bytes
		}
		payload = applier.AppendMutation(payload, m)
	}
	message, err := replica.AppendTransaction(nil, &replica.Header{ID: s.id, Snapshot: s.snapshot.Executed}, ws, payload)
	if err != nil {
		w.violate("panic", "%s: %v", c.member.name, err)
		return
	}
	c.run.orders++
	s.order = c.run.orders
	w.history.submit(s)
	ticket := w.ticket()
	c.run.calls[ticket] = c
	c.run.tell(replica.Submitted{Ticket: ticket, Message: message})
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
	s.acked = a.Verdict.Outcome == certifier.Certified
	w.trace.answer(w, r.member, a)
	w.history.tell(func(k checker) string { return k.answered(r.member.name, s, a, at) })
	c.release()
	c.think()
}

// mark forgets history in the name of this member, at an index that nobody
// would choose. Any number of marks by anybody must do no harm, and a mark
// between two places where it can fall must fall on the earlier one.
func (c *client) mark(s *submission) {
	message := binary.AppendUvarint([]byte{markKind}, c.member.world.rand.Uint64N(s.snapshot.Index+1))
	c.run.tell(replica.Submitted{Ticket: c.member.world.ticket(), Message: message})
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
