package sim

import (
	"errors"
	"slices"

	"github.com/concordatdb/concordat/applier"
	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/internal/replica"
)

// errPicky is an engine's that cannot do what the others can.
var errPicky = errors.New("sim: an engine out of order")

// poisonKeys is behind all keys that clients use.
const poisonKeys = 1 << 24

// poison has the transaction be one that no engine can apply. It says that it
// writes a key that nobody else does, and leaves nothing.
func (c *client) poison(s *submission) bool {
	w := c.member.world
	if w.plan.checks.poison == 0 || w.phase != faulty || !chance(w.wrongs, w.plan.checks.poison) {
		return false
	}
	s.poison = true
	c.run.history.poisons[s.id] = true
	return true
}

// refuses reports whether the engine refuses one of so many transactions, alone.
func (r *run) refuses(transactions int) bool {
	w := r.world
	if transactions == 0 || w.plan.checks.picky == 0 || !r.mayBePicky() || !chance(w.wrongs, w.plan.checks.picky) {
		return false
	}
	r.picky = true
	return true
}

// try has the engine apply a batch, or says that it waits for the others' word.
func (k *engineWorker) try(r *run, b applier.Batch) (waits bool, err error) {
	if n := len(b.Transactions); r.refuses(n) {
		tx := b.Transactions[r.world.wrongs.IntN(n)]
		err = &applier.TransactionError{GTID: tx.GTID, Err: &applier.ClassedError{Class: applier.ClassProgram, Err: errPicky}}
	} else {
		err = r.member.engine.Apply(b)
	}
	fault, named := errors.AsType[*applier.TransactionError](err)
	class := applier.ClassOf(err)
	if !named || class == applier.ClassNone {
		return false, err
	}
	k.waits = &b
	r.asksOf(fault.GTID, class)
	return true, nil
}

// asksOf tells the others of what the engine cannot apply.
func (r *run) asksOf(g gtid.GTID, class applier.Class) {
	r.world.reached[markFault]++
	r.tell(replica.Faulted{GTID: g, Class: class})
}

// fails waits, once nothing is running any more, for the others' word on the
// transaction whose turn it is. What was executed behind it is given up.
func (c *crew) fails(r *run) {
	if c.running > 0 {
		return
	}
	j := *c.jobs.At(0)
	if c.jobs.Len() > 1 || c.given.Len() > 1 {
		r.world.reached[markFaultBeside]++
	}
	for i := range c.jobs.Len() {
		if x := (*c.jobs.At(i)).execution; x != nil {
			x.Discard()
		}
	}
	r.picky = j.picky // others have given up what they refused
	c.waits = true
	r.asksOf(j.transaction.GTID, j.fault)
}

// again are the tasks of what the crew was given and is not visible, as a real feeder
// gives it anew, with nothing left of one transaction but its GTID.
func (c *crew) again(p applier.Position, without gtid.GTID) (tasks []replica.Task) {
	for c.given.Len() > 0 {
		b := c.given.Pop()
		b.Transactions = slices.DeleteFunc(slices.Clone(b.Transactions), func(t applier.Transaction) bool { return p.Executed.Contains(t.GTID) })
		for i := range b.Transactions {
			if t := &b.Transactions[i]; t.GTID == without {
				t.Payload = nil
			}
		}
		tasks = append(tasks, replica.Task{Apply: &b})
	}
	return tasks
}

// mayBePicky reports whether one engine may refuse what the others apply: where
// these are more than half whatever happens, and no other one does.
func (r *run) mayBePicky() bool {
	w := r.world
	for _, m := range w.members {
		if m.run != nil && m.run.picky {
			return false
		}
	}
	return w.phase == faulty && r.voters() >= 3 && w.plan.members.disasters == 0 && w.plan.faults.force == 0
}

// told gives the engine the others' word.
func (k *engineWorker) told(r *run, e *replica.Effects) {
	w := r.world
	for _, g := range e.Skips {
		if !k.leaveOut(r, g) {
			w.violate("P5", "%s is to leave out %v, at which its engine does not wait", r.member.name, g)
			return
		}
		w.reached[markUnapplied]++
		k.pump(r)
	}
	if len(e.Stands) == 0 {
		return
	}
	// Its fault is its own: its operator starts it again, with the engine in order.
	if !r.picky {
		w.violate("P5", "%s stands alone with %v, which no engine can apply", r.member.name, e.Stands)
		return
	}
	w.reached[markFaultAlone]++
	r.after(0, func() {
		r.member.stop()
		w.comeBack(r.member)
	})
}

// leaveOut goes on without a transaction, whose GTID stays used. It reports whether the
// engine waits at that one.
func (k *engineWorker) leaveOut(r *run, g gtid.GTID) bool {
	if c := k.crew; c != nil && c.waits {
		if (*c.jobs.At(0)).transaction.GTID != g {
			return false
		}
		k.tasks = slices.Concat(c.again(r.member.engine.Position(), g), k.tasks)
		k.crew = newCrew(&r.world.plan.workers)
		return true
	}
	if k.waits == nil {
		return false
	}
	b := *k.waits
	left := slices.Clone(b.Transactions)
	at := slices.IndexFunc(left, func(t applier.Transaction) bool { return t.GTID == g })
	if at < 0 {
		return false
	}
	left[at].Payload = nil
	b.Transactions, k.waits = left, nil
	if k.apply(r, b); k.waits == nil {
		k.busy = false
	}
	return true
}
