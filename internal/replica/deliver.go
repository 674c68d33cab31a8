package replica

import (
	"github.com/concordatdb/concordat/applier"
	"github.com/concordatdb/concordat/certifier"
	"github.com/concordatdb/concordat/gcs"
	"github.com/concordatdb/concordat/internal/giant"
	"github.com/concordatdb/concordat/internal/outcome"
)

const (
	// batchBytes is how much goes to the engine as one batch.
	batchBytes = 1 << 20
	// entryOverhead is what a log entry counts for beside its messages, so that
	// empty ones cannot pile up without bound.
	entryOverhead = 64
)

// deliverSome takes what raft has committed, as far as the engine's queue has
// room, and reports whether there was anything.
func (r *Replica) deliverSome() bool {
	some := false
	for r.inApplyBytes-r.heldBytes+r.batchBytes < r.applyLimit() && !r.pauses() {
		d, ok := r.group.NextDelivery()
		if !ok {
			break
		}
		some = true
		r.deliver(d)
		if r.batchBytes >= batchBytes {
			r.closeBatch()
		}
	}
	r.closeBatch()
	return some
}

func (r *Replica) deliver(d gcs.Delivery) {
	bytes, small := entryOverhead, false
	if len(d.Messages) > 0 {
		m, _ := r.group.View().Member(d.Origin) // it is one, or the frame were passed over
		r.origin = m.UUID
	}
	if wantsGate(&d) || endsGiant(&d) || r.cfg.Prepares && beginsGiant(&d) {
		r.closeBatch() // what comes before is not held back
	}
	for i, msg := range d.Messages {
		bytes += len(msg)
		small = small || len(msg) > 0 && msg[0] == kindTransaction
		r.message = i
		r.deliverMessage(&d, msg)
	}
	if small {
		r.smallPassed()
	}
	r.giants.Passed(bytes, r.settings.TransactionSizeLimit)
	r.closeGate(d.Index)
	if d.View != nil {
		r.deliverView(*d.View)
	}
	for _, number := range r.giants.Gone() {
		r.expectNoMore(number, certifier.GivenUp)
		r.tellAhead(Ahead{Part: giant.Part{Giant: number}, Gone: true})
	}
	r.cert.EntryDone(d.Index)
	r.traceElection(d.Index)
	if r.cfg.Trace != nil {
		r.cfg.Trace.Executed(d.Index, r.cert.Executed())
	}
	if d.Index > r.engine {
		r.extendBatch(nil)
		r.batch.To = applier.Position{Index: d.Index, Executed: r.cert.Executed()}
		r.batchBytes += bytes
		if len(r.batchBulks) > 0 {
			r.closeBatch() // or what comes later would wait for their bytes
		}
	}
	r.pinChecks()
	r.last = gcs.Delivery{Index: d.Index, Term: d.Term}
	r.sinceCheckpoint += bytes
	r.sinceStart += uint64(bytes)
	if r.sinceCheckpoint >= r.cfg.CheckpointBytes {
		r.checkpoint()
	}
}

func (r *Replica) deliverView(v gcs.View) {
	self := r.cfg.Group.Identity.RaftID
	if v.Cause.Member.RaftID == self && v.Cause.Member.State == gcs.Online {
		r.promoted = v.Index
	}
	if v.Cause.Kind == gcs.Forced {
		r.noteFork(v)
	}
	r.incarnation, r.views = v.Incarnation, r.group.History()
	r.giants.Keep(func(origin uint64) bool { _, in := v.Member(origin); return in })
	r.cert.View()
	r.checks.state.View(r.inView)
	for _, j := range r.faults.state.View(v.Index, r.online(), r.inView) {
		r.judgeFault(v.Index, &j)
	}
	r.effects.Views = append(r.effects.Views, v)
	if r.cfg.Trace != nil {
		r.cfg.Trace.View(v)
	}
	r.electView(v)
}

// deliverMessage acts on one message. What cannot be decoded is passed over by
// every member alike; an origin of this version never sends it.
func (r *Replica) deliverMessage(d *gcs.Delivery, msg []byte) {
	local := localMessage{}
	own := d.Origin == r.cfg.Group.Identity.RaftID && d.Session == r.cfg.Group.Identity.Session
	if own {
		local = r.local.Pop()
	}
	if len(msg) == 0 {
		return
	}
	switch body := msg[1:]; msg[0] {
	case kindTransaction:
		r.deliverTransaction(d, body, local)
	case kindOpen:
		if own {
			r.opened = d.Index
		}
		r.giants.GiveUp(d.Origin) // what an earlier session began
		r.electOpen(d, body)
	case kindMark:
		if index, err := decodeMark(body); err == nil {
			r.cert.Mark(index)
		}
	case kindSettings:
		r.deliverSettings(body, local)
	case kindFounding:
		r.electFounding(d, body)
	case kindDepose:
		r.electDeposal(d, body, local)
	case kindAction:
		r.electAction(d, body, local)
	case kindDrained:
		r.electDrain(d, body)
	case kindGraceOver:
		r.electLapse(d, body, local)
	case kindCancel:
		r.electCancel(d, body, local)
	case kindFragment:
		r.deliverFragment(d, body, local)
	case kindEnd:
		r.deliverEnd(d, body, local)
	case kindGiveUp:
		if len(body) == 0 {
			r.giants.GiveUp(d.Origin)
		}
	case kindCheck:
		r.deliverCheck(d, body)
	case kindChecked:
		r.deliverChecked(d, body)
	case kindFault:
		r.deliverFault(d, body, local)
	}
}

// deliverSettings changes the group's configuration, unless somebody else was
// faster.
func (r *Replica) deliverSettings(body []byte, local localMessage) {
	s, err := decodeSettings(body)
	changed := err == nil && s.Version == r.settings.Version+1
	if changed {
		r.settings = s
		r.cert.Configure(s.Certifier)
		r.outcomes.SetLimit(s.Outcomes)
		r.effects.Reconfigured = true
	}
	if local.kind == kindSettings {
		r.effects.Settings = append(r.effects.Settings, SettingsAnswer{local.ticket, r.settings, changed})
	}
}

func (r *Replica) deliverTransaction(d *gcs.Delivery, body []byte, local localMessage) {
	t, err := decodeTransaction(body)
	if err != nil {
		r.deliverUnreadable(d, local)
		return
	}
	refused := certifier.Outcome(0)
	if len(body)+1 > giant.Limit(r.settings.TransactionSizeLimit) {
		refused = certifier.TooLarge
	}
	r.settle(d, &t, refused, len(body)+1, local)
}

// deliverUnreadable is the end of what was sent as a transaction and is none.
func (r *Replica) deliverUnreadable(d *gcs.Delivery, local localMessage) {
	if local.kind == kindTransaction { // or its caller would wait for ever
		v := certifier.Verdict{Outcome: certifier.Unreadable}
		r.effects.Answers = append(r.effects.Answers, Answer{Ticket: local.ticket, Verdict: v, Index: d.Index})
		r.effects.Judged = append(r.effects.Judged, Judged{
			Index: d.Index, Origin: r.origin, Local: true, Ticket: local.ticket, Verdict: v,
		})
	}
}

// settle decides on a transaction of size bytes, which cannot be certified if
// refused says why, has what follows from that done, and returns what was decided.
func (r *Replica) settle(d *gcs.Delivery, t *Transaction, refused certifier.Outcome, size int, local localMessage) certifier.Outcome {
	v := r.judge(d, t, refused)
	defer r.letGo(d, t, v.Outcome)
	r.noteAfter(d.Index, t, v.Outcome)
	if r.cfg.Trace != nil {
		r.cfg.Trace.Verdict(d.Index, d.Origin, d.Session, t.ID, v)
	}
	if local.kind == kindTransaction {
		answer := Answer{Ticket: local.ticket, Verdict: v, Index: d.Index}
		if v.Outcome == certifier.Certified || v.Outcome == certifier.Duplicate {
			r.certified.Push(answer)
		} else {
			r.effects.Answers = append(r.effects.Answers, answer)
		}
	}
	if d.Index <= r.engine || v.Outcome == certifier.Certified && r.hasApplied(d.Index) {
		return v.Outcome
	}
	r.noteDelivered(size)
	r.effects.Judged = append(r.effects.Judged, Judged{
		Index: d.Index, Origin: r.origin, Local: local.kind == kindTransaction, Ticket: local.ticket,
		ID: t.ID, Verdict: v, WriteSet: t.WriteSet, Payload: t.Payload, Bulk: t.bulk,
	})
	if v.Outcome == certifier.Certified {
		r.extendBatch(&applier.Transaction{
			GTID: v.GTID, LastCommitted: v.LastCommitted, Sequence: v.Sequence,
			Index: d.Index, Origin: r.origin, Time: t.Time, Payload: t.Payload,
		})
		if t.bulk != nil {
			r.batchBulks = append(r.batchBulks, PlacedBulk{At: len(r.batch.Transactions) - 1, Bulk: t.bulk})
		}
	}
	return v.Outcome
}

// hasApplied reports whether the engine held the certified transaction that is
// being delivered when the member started: it may have been interrupted inside of
// an entry.
func (r *Replica) hasApplied(index uint64) bool {
	if r.part == 0 || index != r.engine+1 {
		return false
	}
	r.part--
	return true
}

// judge certifies a transaction, and remembers its fate by its id. One that has
// committed is not certified again: whoever sends it twice gets the first GTID.
// One whose origin had no right to write is not looked at, whatever it did. What
// else refuses it comes after that.
func (r *Replica) judge(d *gcs.Delivery, t *Transaction, refused certifier.Outcome) certifier.Verdict {
	if fate, known := r.outcomes.Find(t.ID); known && fate.Committed {
		return certifier.Verdict{Outcome: certifier.Duplicate, GTID: fate.GTID}
	}
	v := certifier.Verdict{Outcome: certifier.Fenced}
	switch {
	case !r.elect.Admits(d.Origin, t.Epoch):
	case refused != 0:
		v.Outcome = refused
	default:
		v = r.cert.Certify(&certifier.Request{Origin: r.origin, Snapshot: t.Snapshot, WriteSet: t.WriteSet, GTID: t.GTID})
	}
	fate := outcome.Fate{Index: d.Index}
	if v.Outcome == certifier.Certified {
		fate.Committed, fate.GTID = true, v.GTID
	} else {
		fate.Reason, fate.Winner = byte(v.Outcome), v.Clash.Winner
	}
	r.outcomes.Note(t.ID, fate)
	return v
}

func (r *Replica) extendBatch(t *applier.Transaction) {
	if r.batch == nil {
		r.batch = &applier.Batch{}
	}
	if t != nil {
		r.batch.Transactions = append(r.batch.Transactions, *t)
	}
}

// closeBatch hands the batch to the engine. Batches hold whole log entries, so
// the engine's position is always one from which delivery can go on.
func (r *Replica) closeBatch() {
	if r.batch == nil {
		return
	}
	r.closeWork(r.batch)
	r.emit(Task{Apply: r.batch, Bulks: r.batchBulks}, r.batchBytes)
	r.inApply.Push(applyWork{index: r.batch.To.Index, bytes: r.batchBytes})
	r.inApplyBytes += r.batchBytes
	r.batch, r.batchBytes, r.batchBulks = nil, 0, nil
}

// checkpoint saves the member's state after the last delivery and has the
// engine made durable, so that the log before an older checkpoint can go.
func (r *Replica) checkpoint() {
	r.sinceCheckpoint = 0
	c := r.serialise()
	r.closeBatch()
	r.checkpoints = append(r.checkpoints, checkpoint{index: c.Index, bytes: r.sinceStart, floor: r.giants.Oldest()})
	r.effects.Checkpoints = append(r.effects.Checkpoints, c)
	r.emit(Task{Flush: true}, 0)
}

// export pairs the member's state with the engine's: the task stands in the
// engine's queue where the engine is exactly at the last delivery.
func (r *Replica) export(ticket uint64) {
	r.closeBatch()
	export := &Export{Ticket: ticket}
	if r.last.Index >= r.engine && r.giants.Stats().Bytes <= maxCopied {
		export.Checkpoint = r.serialise()
	}
	r.emit(Task{Export: export}, 0)
}
