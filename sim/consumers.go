package sim

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"

	"github.com/concordatdb/concordat/applier"
	"github.com/concordatdb/concordat/certifier"
	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/internal/replica"
	"github.com/concordatdb/concordat/sim/simdisk"
)

// consumersPlan is who follows the group's changes, and how far back they are kept.
// The zero value is of a world in which nobody does.
type consumersPlan struct {
	count int
	keep  int   // changes
	every span  // between two looks of a consumer
	leave int64 // in a thousand: it goes on with another member, for no reason
	dump  int64 // in a thousand: it begins with a dump
	most  int   // bytes read at a time
}

// consumersRand is the source of what concerns consumers, so that a world without
// them is the same as ever.
func consumersRand(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 6)) }

func drawConsumers(r *rand.Rand) consumersPlan {
	if r.IntN(2) == 0 {
		return consumersPlan{}
	}
	return consumersPlan{
		count: 1 + r.IntN(3),
		keep:  pick(r, 20, 300, 1<<20, 1<<20),
		every: pick(r, span{millisecond, 20 * millisecond}, span{10 * millisecond, 300 * millisecond}, span{100 * millisecond, 2 * second}),
		leave: pick[int64](r, 0, 20, 200),
		dump:  pick[int64](r, 0, 300),
		most:  pick(r, 1, 600, 1<<20),
	}
}

// consumer follows the changes of a group by what it has seen, on whatever member
// serves, and makes a copy of the data out of them.
type consumer struct {
	world   *world
	history *history // nil before it has begun
	seen    gtid.Set
	count   uint64 // transactions seen
	member  *member
	run     *run // that it reads from
	place   applier.ChangePlace
	placed  bool
	copy    *simdisk.Engine
	pending []applier.ChangeRecord // of one log entry that may not be whole yet
}

// newEngine is an empty engine, that keeps changes where somebody follows them.
func (w *world) newEngine() *simdisk.Engine {
	e := simdisk.NewEngine()
	e.KeepChanges(w.plan.consumers.keep)
	return e
}

// beginConsumers has the world's consumers come.
func (w *world) beginConsumers() {
	for range w.plan.consumers.count {
		c := &consumer{world: w}
		w.consumers = append(w.consumers, c)
		w.after(w.plan.consumers.every.draw(w.listening), c.look)
	}
}

// look takes what there is, and looks again later.
func (c *consumer) look() {
	w := c.world
	if w.phase == over {
		return
	}
	w.protect("consumer", c.take)
	w.after(w.plan.consumers.every.draw(w.listening), c.look)
}

// serves reports whether a member gives a stream of its changes. One whose disk keeps
// something wrong would give that to whoever copies it, and no stream could mend it.
func (m *member) serves() bool {
	r := m.run
	return m.harm == nil && r != nil && !m.paused && !m.cloning && !r.out && r.replica != nil && r.state == replica.Online
}

// stays reports whether the consumer can go on with the member that it has: one that
// serves, and still does so in the incarnation of what the consumer has seen.
func (c *consumer) stays() bool {
	return c.member != nil && c.member.serves() && c.member.run.history == c.history
}

// take reads once from a member.
func (c *consumer) take() {
	w := c.world
	if !c.stays() || chance(w.listening, w.plan.consumers.leave) {
		if !c.choose() {
			return
		}
	}
	if c.member.run != c.run {
		w.reached[markConsumerRestart]++
		c.run, c.placed = c.member.run, false
	}
	c.read()
}

// choose finds a member to go on with. What a consumer has seen in an incarnation
// that nobody goes on with may be lost: then it begins anew, and so it does at first.
func (c *consumer) choose() bool {
	w := c.world
	var fit, others []*member
	for _, m := range w.members {
		switch {
		case !m.serves():
		case m.run.history == c.history:
			fit = append(fit, m)
		case m.run.history == w.newest():
			others = append(others, m)
		}
	}
	if c.history != nil && c.history == w.newest() || len(others) == 0 {
		others = nil
	}
	switch {
	case len(fit) == 0 && len(others) == 0:
		return false
	case len(fit) == 0 || c.history == nil:
		m := others[w.listening.IntN(len(others))]
		if c.history != nil {
			w.reached[markConsumerForced]++
		}
		c.settle(m)
		if chance(w.listening, w.plan.consumers.dump) {
			c.dump()
		}
		return true
	}
	m := fit[w.listening.IntN(len(fit))]
	if m != c.member {
		w.reached[markConsumerMoved]++
		c.member, c.run, c.placed = m, m.run, false
	}
	if !c.seen.SubsetOf(m.engine.Position().Executed) {
		w.reached[markConsumerAhead]++
	}
	return true
}

// settle begins with nothing, at a member.
func (c *consumer) settle(m *member) {
	c.member, c.run, c.history = m, m.run, m.run.history
	c.placed, c.seen, c.count, c.pending = false, gtid.Set{}, 0, nil
	c.copy = simdisk.NewEngine()
}

// dump begins with the state of the member, which a real one pins where everything
// before it is visible: while an entry is so in part, none is given.
func (c *consumer) dump() {
	w, m := c.world, c.member
	if m.engine.Position().Part > 0 {
		return
	}
	w.reached[markConsumerDump]++
	var b bytes.Buffer
	x, err := m.engine.NewExport()
	if err == nil {
		err = x.WriteTo(context.Background(), &b, 0)
	}
	if err == nil {
		_, err = c.copy.Import(context.Background(), &b)
	}
	if err != nil {
		w.violate("engine", "%s cannot be dumped: %v", m.name, err)
		return
	}
	c.seen = c.copy.Position().Executed
	c.count, c.placed, c.pending = c.seen.Count(), false, nil
}

// read takes what the member has next. The reading is done when nothing came, and
// the consumer is level with the member.
func (c *consumer) read() (level bool) {
	w, m := c.world, c.member
	var err error
	if !c.placed {
		if c.place, err = m.engine.FindChanges(c.seen); errors.Is(err, applier.ErrChangesGone) {
			w.reached[markConsumerGone]++
			c.settle(m)
			c.dump()
			return false
		}
	}
	var records []applier.ChangeRecord
	if err == nil {
		c.placed = true
		records, c.place, err = m.engine.ReadChanges(c.place, w.plan.consumers.most)
	}
	switch {
	case errors.Is(err, applier.ErrChangesMoved):
		w.reached[markConsumerMovedPlace]++
		c.placed = false
		return false
	case err != nil:
		w.violate("P14", "%s gives no changes: %v", m.name, err)
		return true
	}
	for i := range records {
		if r := &records[i]; !c.seen.Contains(r.GTID) {
			c.accept(r)
			if r.Index > m.engine.Position().Index {
				w.reached[markConsumerInside]++
			}
		}
	}
	c.apply(c.place.Index)
	return len(records) == 0
}

// accept checks P14 for one change: it is the next one.
func (c *consumer) accept(r *applier.ChangeRecord) {
	w := c.world
	if text := c.history.change(r, c.count); text != "" {
		w.violate("P14", "%s brings %s", c.member.name, text)
		return
	}
	if n := len(c.pending); n > 0 && c.pending[n-1].Index < r.Index {
		c.apply(r.Index)
	}
	c.seen = c.seen.Add(r.GTID)
	c.count++
	c.pending = append(c.pending, *r)
}

// change says what is wrong with a change that comes after so many others, "" if it
// is the next transaction that was certified.
func (h *history) change(r *applier.ChangeRecord, before uint64) string {
	e := h.at(r.Index)
	if e == nil {
		return fmt.Sprintf("%v at %d, which nobody has delivered", r.GTID, r.Index)
	}
	number := uint32(0)
	for i := range e.judged {
		j := &e.judged[i]
		if j.verdict.Outcome != certifier.Certified {
			continue
		}
		if number++; number <= r.Number {
			continue
		}
		s := h.submits[j.attempt()]
		switch {
		case j.verdict.GTID != r.GTID:
			return fmt.Sprintf("%v as number %d of %d, where %v is", r.GTID, r.Number, r.Index, j.verdict.GTID)
		case j.verdict.Sequence != before+1:
			return fmt.Sprintf("%v, the transaction %d, behind %d transactions", r.GTID, j.verdict.Sequence, before)
		case s == nil:
			return fmt.Sprintf("%v, which nobody has submitted", r.GTID)
		case r.Time != s.handed:
			return fmt.Sprintf("%v with time %d, it was handed over at %d", r.GTID, r.Time, s.handed)
		}
		var payload []byte
		for k := range s.writes {
			payload = applier.AppendMutation(payload, s.writes[k].mutation())
		}
		if !bytes.Equal(payload, r.Payload) {
			return fmt.Sprintf("%v with %d bytes that its client did not write", r.GTID, len(r.Payload))
		}
		return ""
	}
	return fmt.Sprintf("%v as number %d of %d, where %d were certified", r.GTID, r.Number, r.Index, number)
}

// apply makes the copy go on by a log entry of which everything has come: what comes
// next is of the given one or later.
func (c *consumer) apply(next uint64) {
	n := len(c.pending)
	if n == 0 || c.pending[n-1].Index >= next {
		return
	}
	w := c.world
	e := c.history.at(c.pending[n-1].Index)
	b := applier.Batch{To: applier.Position{Index: e.index, Executed: e.executed}}
	for _, r := range c.pending {
		b.Transactions = append(b.Transactions, applier.Transaction{
			GTID: r.GTID, Index: r.Index, Origin: r.Origin, Time: r.Time, Payload: r.Payload,
		})
	}
	c.pending = nil
	if err := c.copy.Apply(b); err != nil {
		w.violate("P14", "changes up to %d cannot be applied: %v", e.index, err)
		return
	}
	c.copy.SyncTo(e.index)
	digest, _, err := c.copy.Digest()
	if want := c.history.state.digest(e.index); err != nil || digest != want || !c.seen.Equal(e.executed) {
		w.violate("P14", "changes up to %d lead to digest %v with %v (error %v), it must be %v with %v", e.index, digest, c.seen, err, want, e.executed)
	}
}

// finishConsumers has every consumer come to the end: no stream ends before the data.
func (w *world) finishConsumers() {
	for _, c := range w.consumers {
		w.protect("consumer", func() {
			if !c.stays() || c.history != w.newest() {
				if !c.choose() {
					w.violate("P14", "no member serves a consumer that has seen %v", c.seen)
					return
				}
			}
			if c.member.run != c.run {
				c.run, c.placed = c.member.run, false
			}
			for !w.failed && !c.read() {
				continue
			}
			if at := c.member.engine.Position(); !w.failed && !c.seen.Equal(at.Executed) {
				w.violate("P14", "a consumer of %s ends with %v, it has executed %v", c.member.name, c.seen, at.Executed)
			}
		})
	}
}
