package sim

import (
	"encoding/binary"

	"github.com/concordatdb/concordat/applier"
	"github.com/concordatdb/concordat/internal/replica"
)

// look reads every account, or a few keys that others write.
func (c *client) look(s *submission) {
	w := c.member.world
	if !w.plain && w.more.IntN(3) > 0 {
		first := w.more.IntN(w.plan.work.cold)
		for i := range 1 + w.more.IntN(3) {
			c.read(s, key{registers, (first + i*7) % w.plan.work.cold})
		}
		c.read(s, key{counters, w.more.IntN(w.plan.work.hot)})
		c.read(s, key{registers, w.more.IntN(w.plan.work.hot)})
		return
	}
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
	kinds := 4
	if work.mixed {
		kinds = 9
	}
	switch w.rand.IntN(kinds) {
	case 0: // move money
		from := w.rand.IntN(work.accounts)
		to := (from + 1 + w.rand.IntN(work.accounts-1)) % work.accounts
		amount := 1 + w.rand.Int64N(50)
		c.write(s, key{accounts, from}, c.read(s, key{accounts, from}).balance()-amount, padding)
		c.write(s, key{accounts, to}, c.read(s, key{accounts, to}).balance()+amount, padding)
	case 1: // count
		k := key{counters, w.rand.IntN(work.hot)}
		c.write(s, k, c.read(s, k).number+1, padding)
	case 4, 5:
		c.add(s)
	case 6:
		c.scanAndWrite(s, padding)
	case 7: // write one of two that were read: write skew, if nobody minds
		a := key{registers, w.rand.IntN(work.hot)}
		b := key{registers, w.rand.IntN(work.hot)}
		c.write(s, a, c.read(s, a).number+c.read(s, b).number+1, padding)
	case 8: // a child of a parent that must not vanish
		parent := key{registers, w.rand.IntN(work.hot)}
		child := key{registers, work.hot + w.rand.IntN(work.cold)}
		s.refs = append(s.refs, parent)
		c.write(s, child, 1, padding)
	default:
		c.registers(s, padding)
	}
}

// registers changes some registers, one of them perhaps unread.
func (c *client) registers(s *submission, padding int) {
	w := c.member.world
	work := &w.plan.work
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

// add adds to one or two sums. Now and then one is read, put or deleted.
func (c *client) add(s *submission) {
	w := c.member.world
	first := w.rand.IntN(w.plan.work.hot)
	for i := range 1 + w.rand.IntN(2) {
		k := key{sums, first + i}
		if w.rand.IntN(6) == 0 {
			c.read(s, k)
		}
		switch w.rand.IntN(24) {
		case 0:
			s.writes = append(s.writes, write{key: k, bytes: applier.AppendCounter(nil, int64(s.number)<<resetBits)})
		case 1:
			s.writes = append(s.writes, write{key: k})
		default:
			s.writes = append(s.writes, write{key: k, delta: true, add: w.rand.Int64N(200) - 100})
		}
	}
}

// scanAndWrite scans a part of a table and writes into it, or elsewhere.
func (c *client) scanAndWrite(s *submission, padding int) {
	w := c.member.world
	work := &w.plan.work
	if w.rand.IntN(4) == 0 {
		from := w.rand.IntN(work.hot)
		c.scan(s, scan{space: sums, from: from, to: from + 1 + w.rand.IntN(work.hot)})
	}
	from := w.rand.IntN(work.cold)
	to := from + 1 + w.rand.IntN(20)
	c.scan(s, scan{space: registers, from: from, to: to})
	inside := key{registers, from + w.rand.IntN(to-from)}
	if w.rand.IntN(3) == 0 {
		s.writes = append(s.writes, write{key: inside})
	} else {
		c.write(s, inside, int64(len(s.scans[len(s.scans)-1].found)), padding)
	}
	if elsewhere := (key{registers, w.rand.IntN(work.cold)}); elsewhere != inside {
		c.write(s, elsewhere, 1, padding)
	}
}

func (c *client) read(s *submission, k key) value {
	b, ok, err := c.snapshot.Get(tables[k.space], k.bytes())
	if err != nil {
		c.member.world.violate("engine", "%s cannot read %s: %v", c.member.name, k, err)
	}
	r := read{key: k, found: ok}
	if ok {
		r.value = c.decode(k, b)
	}
	s.reads = append(s.reads, r)
	return r.value
}

func (c *client) scan(s *submission, sc scan) {
	for b, v := range c.snapshot.Scan(tables[sc.space], key{n: sc.from}.bytes(), key{n: sc.to}.bytes(), false) {
		k := key{sc.space, keyNumber(b)}
		sc.found = append(sc.found, read{key: k, value: c.decode(k, v), found: true})
	}
	if err := c.snapshot.Err(); err != nil {
		c.member.world.violate("engine", "%s cannot scan %s: %v", c.member.name, tables[sc.space], err)
	}
	s.scans = append(s.scans, sc)
}

func (c *client) decode(k key, b []byte) value {
	v, ok := k.decode(b)
	if !ok {
		c.member.world.violate("P6", "%s shows %x in %s, which nobody wrote", c.member.name, b, k)
	}
	return v
}

func keyNumber(b []byte) int { return int(binary.BigEndian.Uint32(b)) }

func (c *client) write(s *submission, k key, number int64, padding int) {
	s.writes = append(s.writes, write{key: k, bytes: value{writer: s.id, number: number}.encode(padding)})
}

// again sends a transaction once more that somebody else has submitted lately,
// under its id, as a caller does who was not answered. It reports whether it
// found one.
func (c *client) again() bool {
	w := c.member.world
	h := c.run.history
	if len(h.ordered) == 0 {
		return false
	}
	earlier := h.ordered[len(h.ordered)-1-w.rand.IntN(min(len(h.ordered), 40))]
	mine := attempt{earlier.id, c.run.raftID, c.run.session}
	if h.submits[mine] != nil || earlier.poison { // whether that has committed changes
		return false
	}
	s := *earlier
	s.origin, s.session, s.again, s.begun = mine.origin, mine.session, true, nil
	s.index, s.commit, s.order, s.acked, s.lost, s.early = 0, 0, 0, false, false, false
	s.giant, s.place, s.recalled = false, 0, false
	c.current = &s
	c.submit()
	return true
}

// meddle does what has nothing to do with the transaction: history marks,
// questions, other settings.
func (c *client) meddle(s *submission) {
	w := c.member.world
	work := &w.plan.work
	if chance(w.rand, work.marks) {
		c.mark(s)
	}
	if chance(w.rand, work.asks) {
		id := w.uuid()
		if h := c.run.history; len(h.ordered) > 0 && w.rand.IntN(8) > 0 {
			id = h.ordered[w.rand.IntN(len(h.ordered))].id
		}
		ticket := w.ticket()
		c.run.asks[ticket] = id
		c.run.tell(replica.OutcomeAsked{Ticket: ticket, ID: id})
	}
	if chance(w.rand, work.settings) {
		settings := c.run.replica.Status().Settings
		change := drawSettings(w.rand, &w.plan.work)
		change.Version, change.Consistency, change.PreferMostUpdated = settings.Version, settings.Consistency, settings.PreferMostUpdated
		change.CheckInterval, change.CheckBytes = settings.CheckInterval, settings.CheckBytes
		if change.Flow = settings.Flow; w.brake == nil && chance(w.flow, w.plan.flow.change) {
			change.Flow = drawFlowSettings(w.flow)
		}
		change.TransactionSizeLimit = settings.TransactionSizeLimit
		if !w.plain && w.more.IntN(2) == 0 {
			change.PreferMostUpdated = !change.PreferMostUpdated
			change.Consistency = w.plan.rights.levels.draw(w.more)
		}
		c.run.tell(replica.SettingsAsked{Ticket: w.ticket(), Settings: change})
	}
}

// mark forgets history in the name of this member, at an index that nobody
// would choose. Any number of marks by anybody must do no harm, and a mark
// between two places where it can fall must fall on the earlier one.
func (c *client) mark(s *submission) {
	message := binary.AppendUvarint([]byte{markKind}, c.member.world.rand.Uint64N(s.snapshot.Index+1))
	ticket := c.member.world.ticket()
	c.run.marks[ticket] = true
	c.run.tell(replica.Submitted{Ticket: ticket, Message: message})
}
