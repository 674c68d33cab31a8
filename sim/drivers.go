package sim

import (
	"context"

	"github.com/concordatdb/concordat/applier"
	"github.com/concordatdb/concordat/flowcontrol"
	"github.com/concordatdb/concordat/gcs"
	"github.com/concordatdb/concordat/internal/replica"
)

// logWriter is what writes a member's log: one thing at a time, in the order
// given. Writes that wait together are one group commit.
type logWriter struct {
	work []logWork
	busy bool
}

// logWork is one thing to do. Exactly one field is set.
type logWork struct {
	write      *gcs.Write
	checkpoint *gcs.Checkpoint
	truncate   uint64
}

// queue takes the effects that concern the log. The writes come first: what is
// delivered, and so may be in a checkpoint or before a cut, has been written.
func (l *logWriter) queue(r *run, e *replica.Effects) {
	for _, w := range e.Writes {
		l.work = append(l.work, logWork{write: &w})
	}
	for _, c := range e.Checkpoints {
		l.work = append(l.work, logWork{checkpoint: &c})
	}
	if e.Truncate != 0 {
		l.work = append(l.work, logWork{truncate: e.Truncate})
	}
	l.pump(r)
}

func (l *logWriter) pump(r *run) {
	if l.busy || len(l.work) == 0 {
		return
	}
	l.busy = true
	if l.work[0].write != nil {
		l.commit(r)
		return
	}
	first := l.work[0]
	l.work = l.work[1:]
	r.after(r.diskTime(r.world.plan.disk.sync), func() {
		l.busy = false
		l.keep(r, first)
		l.pump(r)
	})
}

// commit begins one group commit of all the writes at the head.
func (l *logWriter) commit(r *run) {
	var writes []gcs.LogWrite
	var done replica.Written
	sync := false
	for len(l.work) > 0 && l.work[0].write != nil {
		w := l.work[0].write
		writes = append(writes, w.LogWrite)
		done.Responses = append(done.Responses, w.Responses...)
		sync = sync || w.Sync
		l.work = l.work[1:]
	}
	log := r.member.log
	if err := log.Stage(writes); err != nil {
		r.world.violate("log", "%s: %v", r.member.name, err)
		return
	}
	latency := r.world.plan.disk.unsync
	if sync {
		latency = r.world.plan.disk.sync
	}
	r.after(r.diskTime(latency), func() {
		if sync {
			log.Sync()
		} else {
			log.Publish()
		}
		l.busy = false
		r.tell(done)
		l.pump(r)
	})
}

// keep saves a checkpoint or cuts the log.
func (l *logWriter) keep(r *run, w logWork) {
	var err error
	if w.checkpoint != nil {
		err = r.member.log.SaveCheckpoint(*w.checkpoint)
		r.world.reached[markCheckpoint]++
	} else {
		err = r.member.log.Truncate(w.truncate)
		r.world.reached[markTruncation]++
	}
	if err != nil {
		r.world.violate("log", "%s: %v", r.member.name, err)
	}
}

// engineWorker is what drives a member's engine: one task at a time, in the
// order given.
type engineWorker struct {
	tasks []replica.Task
	waits *applier.Batch // for the others' word on a transaction in it, nil if not
	busy  bool
	crew  *crew // nil where batches are applied one after the other
}

func (k *engineWorker) queue(r *run, tasks []replica.Task) {
	k.tasks = append(k.tasks, tasks...)
	if len(k.tasks) > 8 {
		r.world.reached[markEngineBehind]++
	}
	k.pump(r)
}

func (k *engineWorker) pump(r *run) {
	if k.works(r) || k.busy || len(k.tasks) == 0 {
		return
	}
	k.busy = true
	t := k.tasks[0]
	k.tasks = k.tasks[1:]
	latency := r.world.plan.disk.apply
	if t.Flush {
		latency = r.world.plan.disk.flush
	}
	took := r.diskTime(latency)
	if r.member.slowed > r.world.now && t.Apply != nil {
		took = min(took*slowness, slowest)
	}
	if t.Apply != nil {
		took += r.member.toil(&t)
	}
	r.after(took, func() {
		if k.do(r, t); k.waits == nil {
			k.busy = false
			k.pump(r)
		}
	})
}

// toil is how long a batch is labour to the engine, beside what every batch takes.
func (m *member) toil(t *replica.Task) int64 {
	cost := uint64(0)
	for i := range t.Apply.Transactions {
		cost += flowcontrol.Cost(len(t.Apply.Transactions[i].Payload))
	}
	for _, b := range t.Bulks {
		cost += uint64(b.Bulk.Size())
	}
	return m.labour * int64(cost) / flowcontrol.TransactionCost
}

func (k *engineWorker) do(r *run, t replica.Task) {
	switch {
	case t.Apply != nil:
		if err := t.Load(r.member.log); err != nil {
			r.world.violate("P6", "%s cannot read what came in fragments: %v", r.member.name, err)
			return
		}
		k.apply(r, *t.Apply)
	case t.Flush:
		if err := r.member.engine.Flush(context.Background()); err != nil {
			r.world.violate("engine", "%s: %v", r.member.name, err)
			return
		}
		k.tellDurable(r)
	case t.Export != nil:
		r.export(*t.Export)
	case t.Check != nil:
		r.hash(t.Check)
	}
}

func (k *engineWorker) apply(r *run, b applier.Batch) {
	waits, err := k.try(r, b)
	switch {
	case err != nil:
		r.world.violate("P5", "%s: %v", r.member.name, err)
		return
	case waits:
		return
	}
	r.member.checkDigest()
	k.shown(r, b.To.Index)
}

// shown follows when the engine has come to a log index. It may write out a part of
// what it has, by itself.
func (k *engineWorker) shown(r *run, at uint64) {
	w, engine := r.world, r.member.engine
	r.tell(replica.Applied{Index: at})
	r.retry()
	if n := engine.Unsynced(); n > 1 && chance(w.rand, w.plan.disk.flushes) {
		engine.SyncTo(at - w.rand.Uint64N(min(at, uint64(n))))
		k.tellDurable(r)
	}
}

func (k *engineWorker) tellDurable(r *run) {
	index, err := r.member.engine.Durable()
	if err != nil {
		r.world.violate("engine", "%s: %v", r.member.name, err)
		return
	}
	r.tell(replica.Durable{Index: index})
}

// diskTime draws how long something takes on this member's disks.
func (r *run) diskTime(s span) int64 {
	d := s.draw(r.world.rand)
	if r.member.stalled {
		d = d*20 + 10*millisecond
	}
	if m := r.member; m.hung > r.world.now {
		d += m.hung - r.world.now
	}
	return d
}
