package sim

import (
	"context"
	"errors"
	"math/rand/v2"

	"github.com/concordatdb/concordat/applier"
	"github.com/concordatdb/concordat/applier/schedule"
	"github.com/concordatdb/concordat/flowcontrol"
	"github.com/concordatdb/concordat/internal/queue"
)

// workersPlan is how the engines of a world execute transactions. The zero value
// applies batches one after the other.
type workersPlan struct {
	workers int   // of each member; 0 for none
	window  int   // transactions
	execute span  // one of them
	commit  span  // a run
	slow    int64 // in a thousand: a transaction that takes much longer
	fails   int64 // in a thousand: an attempt that the engine wants made again
	late    int64 // in a thousand: an execution that sees what it depends on at its end
}

// crewStream is the stream of a seed that engines draw from which execute side by
// side. It could be any, and this one leaves the worlds of TestMarks as they were
// that are there for other marks.
const crewStream = 1443

func drawWorkers(r *rand.Rand) workersPlan {
	crews := r.IntN(3) == 0
	p := workersPlan{
		workers: pick(r, 1, 2, 3, 4, 8),
		window:  pick(r, 1, 3, 16, 200),
		execute: pick(r, span{5 * microsecond, 50 * microsecond}, span{20 * microsecond, 2 * millisecond}, span{millisecond, 10 * millisecond}),
		commit:  pick(r, span{}, span{5 * microsecond, 100 * microsecond}, span{100 * microsecond, 3 * millisecond}),
		slow:    pick[int64](r, 0, 20, 100),
		fails:   pick[int64](r, 0, 0, 10, 100),
		late:    pick[int64](r, 0, 500, 1000),
	}
	if !crews {
		p.workers = 0
	}
	return p
}

// crewAttempts is how often an execution is tried in a world; the last one does not
// fail, for nothing says then that it is a transaction's fault.
const crewAttempts = 4

// crew executes the transactions of a run side by side: what a real feeder and its
// workers do, in virtual time.
type crew struct {
	given      queue.Queue[applier.Batch] // and not visible whole
	waits      bool                       // for the others' word on the first transaction
	schedule   *schedule.Scheduler
	jobs       queue.Queue[*crewJob] // those that the schedule knows, by number
	first      uint64                // number of the first of them
	adding     []applier.Transaction
	to         applier.Position // of what is being added
	ends       queue.Queue[crewEnd]
	running    int
	committing bool
}

func newCrew(p *workersPlan) *crew {
	return &crew{schedule: schedule.New(schedule.Limits{Running: p.workers, Window: p.window, Attempts: crewAttempts})}
}

type crewJob struct {
	number      uint64
	transaction *applier.Transaction
	execution   applier.Execution // nil while it is not executed
	fault       applier.Class     // why it cannot be executed
	picky       bool              // here alone
}

// crewEnd is where a batch ends: before the transaction of a number.
type crewEnd struct {
	before uint64
	to     applier.Position
}

// works has the crew do what it can, and reports whether it is at it. What is no
// batch waits until it is not.
func (k *engineWorker) works(r *run) bool {
	p := &r.world.plan.workers
	if p.workers == 0 {
		return false
	}
	if k.crew == nil {
		k.crew = newCrew(p)
		if r.member.engine.Position().Part > 0 {
			r.world.reached[markTakenUpInside]++
		}
	}
	c := k.crew
	if c.waits {
		return true
	}
	for !k.busy && len(k.tasks) > 0 && k.tasks[0].Apply != nil && len(c.adding) == 0 && c.ends.Len() < p.window {
		b := k.tasks[0].Apply
		if err := k.tasks[0].Load(r.member.log); err != nil {
			r.world.violate("P6", "%s cannot read what came in fragments: %v", r.member.name, err)
			return false
		}
		k.tasks = k.tasks[1:]
		c.given.Push(*b)
		if c.adding, c.to = b.Transactions, b.To; len(c.adding) == 0 {
			c.ends.Push(crewEnd{c.schedule.Next(), c.to})
		}
		c.add(r)
	}
	c.add(r)
	c.start(k, r)
	c.commit(k, r)
	return len(c.adding) > 0 || c.schedule.Len() > 0 || c.ends.Len() > 0 || c.committing
}

func (c *crew) job(number uint64) *crewJob { return *c.jobs.At(int(number - c.first)) }

func (c *crew) add(r *run) {
	for len(c.adding) > 0 && c.schedule.Room() {
		t := &c.adding[0]
		number, err := c.schedule.Add(t.LastCommitted, t.Sequence)
		if err != nil {
			r.world.violate("P4", "%s cannot follow the intervals: %v", r.member.name, err)
			return
		}
		c.jobs.Push(&crewJob{number: number, transaction: t})
		if c.adding = c.adding[1:]; len(c.adding) == 0 {
			c.ends.Push(crewEnd{c.schedule.Next(), c.to})
		}
	}
	if p := &r.world.plan.workers; c.jobs.Len() > p.window || c.running > p.workers {
		r.world.violate("P12", "%s has %d transactions under way, %d of them running; %d and %d are allowed",
			r.member.name, c.jobs.Len(), c.running, p.window, p.workers)
	}
}

func (c *crew) start(k *engineWorker, r *run) {
	w := r.world
	p := &w.plan.workers
	for number, ok := c.schedule.Recall(); ok; number, ok = c.schedule.Recall() {
		j := c.job(number)
		j.execution.Discard()
		j.execution = nil
		w.reached[markRecalled]++
	}
	for number, attempt, ok := c.schedule.Start(); ok; number, attempt, ok = c.schedule.Start() {
		j := c.job(number)
		if c.running++; c.running > 1 {
			w.reached[markSideBySide]++
		}
		if attempt > 1 {
			w.reached[markTriedAgain]++
		}
		late, fails := chance(w.crews, p.late), attempt < crewAttempts && chance(w.crews, p.fails)
		if !late && !fails {
			c.execute(r, j, attempt)
		}
		took := p.execute.draw(w.crews)
		if chance(w.crews, p.slow) {
			took = 20 * took
		}
		if r.member.slowed > w.now {
			took = min(took*slowness, slowest)
		}
		took += r.member.labour * int64(flowcontrol.Cost(len(j.transaction.Payload))) / flowcontrol.TransactionCost
		r.after(took, func() {
			c.running--
			if late && !fails {
				c.execute(r, j, attempt)
			}
			if fails || j.fault != applier.ClassNone {
				c.schedule.Failed(number, fails)
			} else {
				c.schedule.Executed(number)
			}
			k.pump(r)
		})
	}
}

func (c *crew) execute(r *run, j *crewJob, attempt int) {
	if j.picky = r.refuses(1); j.picky {
		j.fault = applier.ClassProgram
		return
	}
	x, err := r.member.engine.Execute(context.Background(), j.transaction, attempt)
	fault, named := errors.AsType[*applier.TransactionError](err)
	switch {
	case err == nil:
		j.execution = x
	case named && fault.GTID == j.transaction.GTID && applier.ClassOf(err) != applier.ClassNone:
		j.fault = applier.ClassOf(err)
	default:
		r.world.violate("P5", "%s cannot execute %v: %v", r.member.name, j.transaction.GTID, err)
	}
}

// commit makes visible what has come to its turn, a moment later.
func (c *crew) commit(k *engineWorker, r *run) {
	if c.committing {
		return
	}
	if _, broken := c.schedule.Broken(); broken {
		c.fails(r)
		return
	}
	first, n := c.schedule.Commit()
	at := r.member.engine.Position()
	to := at
	c.pass(first, &to)
	var run []applier.Execution
	for i := range n {
		j := c.job(first + uint64(i))
		run = append(run, j.execution)
		to = to.After(j.transaction)
		c.pass(j.number+1, &to)
	}
	if n == 0 && to.Index == at.Index {
		return
	}
	c.committing = true
	r.after(r.world.plan.workers.commit.draw(r.world.crews), func() {
		c.committing = false
		if err := r.member.engine.Commit(run, to); err != nil {
			r.world.violate("P5", "%s: %v", r.member.name, err)
			return
		}
		for range n {
			c.jobs.Pop()
		}
		c.first += uint64(n)
		c.schedule.Committed()
		for c.given.Len() > 0 && c.given.At(0).To.Index <= to.Index {
			c.given.Pop()
		}
		r.member.checkDigest()
		k.shown(r, to.Index)
		k.pump(r)
	})
}

func (c *crew) pass(number uint64, to *applier.Position) {
	for c.ends.Len() > 0 && c.ends.At(0).before == number {
		*to = c.ends.Pop().to
	}
}

// crashed notes what the power was cut in the middle of.
func (k *engineWorker) crashed(r *run) {
	if k.crew == nil {
		return
	}
	for i := range k.crew.jobs.Len() {
		if (*k.crew.jobs.At(i)).execution != nil {
			r.world.reached[markBeforeTurn]++
			return
		}
	}
}
