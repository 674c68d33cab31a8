package sim

import (
	"errors"
	"slices"

	"github.com/concordatdb/concordat/applier"
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

// try has the engine apply a batch, or says that it waits for the others' word.
func (k *engineWorker) try(r *run, b applier.Batch) (waits bool, err error) {
	w := r.world
	if n := len(b.Transactions); n > 0 && w.plan.checks.picky > 0 && r.mayBePicky() && chance(w.wrongs, w.plan.checks.picky) {
		tx := b.Transactions[w.wrongs.IntN(n)]
		r.picky = true
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
	w.reached[markFault]++
	r.tell(replica.Faulted{GTID: fault.GTID, Class: class})
	return true, nil
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
		if k.waits == nil {
			w.violate("P5", "%s is to leave out %v, and its engine does not wait", r.member.name, g)
			return
		}
		b := *k.waits
		left := slices.Clone(b.Transactions)
		at := slices.IndexFunc(left, func(t applier.Transaction) bool { return t.GTID == g })
		if at < 0 {
			w.violate("P5", "%s is to leave out %v, at which its engine does not wait", r.member.name, g)
			return
		}
		w.reached[markUnapplied]++
		left[at].Payload = nil // its GTID stays used
		b.Transactions, k.waits = left, nil
		k.finish(r, b)
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

// finish applies what is left of a batch, and goes on.
func (k *engineWorker) finish(r *run, b applier.Batch) {
	k.apply(r, b)
	if k.waits == nil {
		k.busy = false
		k.pump(r)
	}
}
