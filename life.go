package concordat

import (
	"context"
	"fmt"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/concordatdb/concordat/applier"
	"github.com/concordatdb/concordat/certifier"
	"github.com/concordatdb/concordat/gcs"
	"github.com/concordatdb/concordat/internal/replica"
)

// peerInboxBytes is how much of peers' messages may wait for the state machine
// before their streams are held back.
const peerInboxBytes = 16 << 20

// life is one run of the member's state machine, from a state on disk to the
// end of the node or to a clone that replaces that state. It has five
// goroutines: one owns the state machine, one writes the log, one feeds the
// engine, one makes the engine durable, one hashes slices of what it holds. The first gives the others work and
// never waits for them; their completions come back to it as events.
type life struct {
	node     *Node
	replica  *replica.Replica
	inbox    *inbox
	log      *mailbox[logWork]
	engine   *mailbox[replica.Task]
	flushes  *mailbox[struct{}]
	pins     *mailbox[pinned]
	words    *mailbox[word]
	calls    callTable
	joins    waiters[replica.JoinAnswer]
	leaves   waiters[error]
	removals waiters[gcs.ChangeAnswer]
	exports  waiters[exported]

	outcomes    waiters[replica.OutcomeAnswer]
	changes     waiters[replica.SettingsAnswer]
	actions     waiters[replica.ActionAnswer]
	withdrawals waiters[bool]
	reads       reads
	looks       chan func()   // to be done by the state machine's goroutine
	done        chan struct{} // closed when the life has ended

	leaderless int // ticks since a leader was known
	ticked     uint64
	clock      clock
	elapsed    uint64 // ticks that have passed by it

	aging aging
	trims atomic.Bool // the feeder of the engine is to look at the age of the changes
}

// logWork is one thing for the log's writer to do. One field is set.
type logWork struct {
	write      *gcs.Write
	checkpoint *gcs.Checkpoint
	truncate   uint64
}

// exported is a pinned copy of the whole state, or why there is none.
type exported struct {
	checkpoint gcs.Checkpoint
	export     applier.Export
	digest     applier.Digest
	err        error
}

// close gives back what is pinned, if anything is.
func (x exported) close() {
	if x.export != nil {
		_ = x.export.Close() // nothing depends on it any more
	}
}

func newLife(n *Node, r *replica.Replica) *life {
	return &life{
		node: n, replica: r,
		inbox:  newInbox(peerInboxBytes),
		log:    newMailbox[logWork](),
		engine: newMailbox[replica.Task](), flushes: newMailbox[struct{}](), pins: newMailbox[pinned](), words: newMailbox[word](),
		calls: callTable{calls: map[uint64]*call{}},
		looks: make(chan func()),
		done:  make(chan struct{}),
		aging: newAging(n.cfg.ChangeRetentionAge, n.cfg.TickInterval),
	}
}

// look has the state machine's goroutine do something short between two steps,
// and reports whether that was done.
func (l *life) look(ctx context.Context, what func()) bool {
	finished := make(chan struct{})
	select {
	case l.looks <- func() { defer close(finished); what() }:
		<-finished
		return true
	case <-l.done:
	case <-ctx.Done():
	}
	return false
}

// run drives the member until ctx ends, the member fails or is out of the
// group, or its state must be replaced by a clone of another member's.
func (l *life) run(ctx context.Context) (end ending) {
	var workers sync.WaitGroup
	workers.Go(l.guarded("log writer", l.writeLog))
	workers.Go(l.guarded("engine feeder", l.feedEngine))
	ctx, cancel := context.WithCancel(ctx)
	workers.Go(l.guarded("engine flusher", func() { l.flushEngine(ctx) }))
	workers.Go(l.guarded("state check", func() { l.hashSlices(ctx) }))
	defer func() {
		cancel()
		l.inbox.close()
		l.log.close()
		l.engine.close()
		l.flushes.close()
		l.pins.close()
		l.words.close()
		workers.Wait()
		l.exports.fail(exported{err: ErrNotOnline})
		close(l.done)
	}()
	l.guarded("state machine", func() { end = l.loop(ctx) })()
	return end
}

// guarded runs one of the life's goroutines. The core asserts its invariants by
// panicking, and an engine may be the host program's own: neither must end the
// program, so a panic takes the member to ERROR.
func (l *life) guarded(name string, run func()) func() {
	return func() {
		defer func() {
			if p := recover(); p != nil {
				l.node.fail(fmt.Errorf("%s: panic: %v\n%s", name, p, debug.Stack()))
			}
		}()
		run()
	}
}

func (l *life) loop(ctx context.Context) ending {
	l.clock.now() // or the first ticks would be counted twice
	ticker := time.NewTicker(l.node.cfg.TickInterval)
	defer ticker.Stop()
	var events []replica.Event
	if end, over := l.step(&events); over {
		return end
	}
	l.publish()
	for {
		select {
		case <-ctx.Done():
			return ending{}
		case <-ticker.C:
			l.tick()
			l.publish()
			l.missLeader()
		case <-l.inbox.wake:
		case what := <-l.looks:
			what()
		}
		if events = l.inbox.take(events); len(events) == 0 {
			continue
		}
		if end, over := l.step(&events); over {
			return end
		}
	}
}

// step gives the state machine some events, and does what follows from them; then
// those that have come, for as long as it has more to do.
func (l *life) step(events *[]replica.Event) (end ending, over bool) {
	for {
		effects := l.replica.Step(*events...)
		more := effects.More
		if end, over = l.follow(effects); over || !more {
			return end, over
		}
		*events = l.inbox.take(*events)
	}
}

// follow does what follows from a step, and reports whether the life ends with it.
// Of one that has failed nothing follows: what it has judged since may be wrong,
// as where the group has gone over to a protocol that this build does not speak.
func (l *life) follow(effects *replica.Effects) (end ending, over bool) {
	if effects.Failure != nil {
		l.node.fail(effects.Failure)
		return ending{}, true
	}
	l.perform(effects)
	if effects.Exit != replica.ExitNone { // nothing that waits here will ever be decided for this member
		return ending{exit: effects.Exit}, true
	}
	return ending{cloneFrom: effects.CloneFrom}, effects.CloneFrom != 0
}

// tick tells the state machine that time has passed, and what it has to know then.
func (l *life) tick() {
	n := l.node
	visible := n.engine.Position().Index
	l.ticked++
	elapsed := uint64(l.clock.now()/n.cfg.TickInterval) - l.elapsed
	l.elapsed += elapsed
	l.inbox.put(replica.Ticked{
		OldestSnapshot: n.snapshots.oldest(visible),
		Exports:        int(n.donations.given()),
		Elapsed:        elapsed,
		Fresh:          n.inTicks(l.reads.age(visible)),
		Flow:           n.flow.counts(),
	})
	if l.ticked%refreshTicks == 0 {
		if ticket, due := l.reads.refresh(); due {
			l.inbox.put(replica.ReadAsked{Ticket: ticket})
		}
	}
	if l.aging.due(l.elapsed, visible) {
		l.trim()
	}
}

// perform sets going what the state machine wants done. It waits for nothing. The
// order of the first three is law: views say where a message to a new member goes,
// and a message may tell others that this member shows no less than its floor, so
// whoever begins here must find that first.
func (l *life) perform(e *replica.Effects) {
	for _, v := range e.Views {
		l.node.viewChanged(v)
	}
	l.node.floor.raise(e.Floor)
	for i := range e.Messages {
		if m := &e.Messages[i]; !l.node.transport.Send(m.To, &m.Message) {
			l.inbox.put(replica.Unreachable{RaftID: m.To})
		}
	}
	for i := range e.Writes {
		w := e.Writes[i]
		l.log.put(logWork{write: &w})
	}
	for i := range e.Checkpoints {
		c := e.Checkpoints[i]
		l.log.put(logWork{checkpoint: &c})
	}
	if e.Truncate != 0 {
		l.log.put(logWork{truncate: e.Truncate})
	}
	l.engine.put(e.Tasks...)
	l.judged(e.Judged)
	l.noticed(e.Notices)
	l.node.noteFindings(e.Findings)
	l.told(e)
	if l.tells(e) {
		l.publish()
	}
	l.node.noteElections(e)
	l.answer(e)
}

// tells reports whether effects change what others wait for. What changes slowly,
// they find after the next tick.
func (l *life) tells(e *replica.Effects) bool {
	known := l.node.standing.Load()
	return len(e.Views) > 0 || len(e.Notices) > 0 || e.Reconfigured || len(e.Epochs) > 0 || len(e.Ended) > 0 || len(e.Actions) > 0 || len(e.Findings) > 0 ||
		e.State != known.State || e.Alone != known.Alone || e.Outdated != known.Outdated
}

// answer tells those who asked, who find published what they are told.
func (l *life) answer(e *replica.Effects) {
	l.reads.answer(e.Reads)
	for _, a := range e.Outcomes {
		l.outcomes.answer(a.Ticket, a)
	}
	for _, a := range e.Answers {
		l.calls.answer(a, l.node.commits)
	}
	for _, j := range e.Joins {
		l.joins.answer(j.Ticket, j)
	}
	for _, r := range e.Leaves {
		l.leaves.answer(r.Ticket, r.Err)
	}
	for _, c := range e.Changes {
		l.removals.answer(c.Ticket, c.Answer)
	}
	for _, a := range e.Settings {
		l.changes.answer(a.Ticket, a)
	}
	for _, a := range e.Withdrawals {
		l.withdrawals.answer(a.Asked, a.Done)
	}
	for _, a := range e.Actions {
		l.actions.answer(a.Ticket, a)
	}
}

// noticed puts what the member has noticed into its history.
func (l *life) noticed(notices []gcs.Notice) {
	if len(notices) == 0 {
		return
	}
	view := l.replica.Status().View
	for _, x := range notices {
		m, _ := view.Member(x.RaftID)
		l.node.note(noticeKinds[x.Kind], m.UUID, "%s", x.Text)
	}
}

// noticeKinds are the kinds of event that notices become.
var noticeKinds = map[gcs.NoticeKind]EventKind{
	gcs.Suspected: EventSuspected, gcs.Trusted: EventTrusted, gcs.Flapping: EventFlapping,
	gcs.QuorumLost: EventQuorumLost, gcs.QuorumBack: EventQuorumBack, gcs.LeaderChanged: EventLeader,
	gcs.DiskStalled: EventDiskStalled, gcs.DiskBack: EventDiskBack, gcs.HandedOver: EventLeadHandedOver,
}

// judged lets local transactions know what was delivered.
func (l *life) judged(judged []replica.Judged) {
	if len(judged) == 0 {
		return
	}
	n := l.node
	index, sequence := uint64(0), uint64(0)
	for i := range judged {
		switch j := &judged[i]; j.Verdict.Outcome {
		case certifier.Certified:
			index, sequence = j.Index, j.Verdict.Sequence
		case certifier.Conflict:
			if !j.Local {
				n.noteRemote(j)
			}
		default:
		}
	}
	if index != 0 {
		n.conflicts.delivered(index, sequence)
	}
	n.early.delivered(judged, &l.calls)
}

// publish makes the member's standing known to Status and to those who wait
// for a state.
func (l *life) publish() { l.node.publish(l.replica.Status()) }

// missLeader has the node look for its group when no leader is known for long.
func (l *life) missLeader() {
	if l.node.known().Leader != 0 {
		l.leaderless = 0
		return
	}
	if l.leaderless++; l.leaderless%max(1, l.node.lookTicks()) == 0 {
		l.node.lookForPlace()
	}
}

// writeLog is the log's writer: it takes all that has gathered while the last
// fsync ran, and makes it durable with the next one.
func (l *life) writeLog() {
	var work []logWork
	var writes []gcs.LogWrite
	for ok := true; ok; {
		if work, ok = l.log.take(work); !ok {
			return
		}
		for rest := work; len(rest) > 0; {
			n := 0
			for n < len(rest) && rest[n].write != nil {
				n++
			}
			var err error
			if n > 0 {
				writes, err = l.writeGroup(rest[:n], writes)
			} else {
				n = 1
				err = l.tendLog(rest[0])
			}
			if err != nil {
				l.node.fail(fmt.Errorf("log: %w", err))
				return
			}
			rest = rest[n:]
		}
	}
}

func (l *life) writeGroup(group []logWork, writes []gcs.LogWrite) ([]gcs.LogWrite, error) {
	writes = writes[:0]
	count := 0
	for _, w := range group {
		writes = append(writes, w.write.LogWrite)
		count += len(w.write.Responses)
	}
	began := time.Now()
	if err := l.node.log.Write(writes); err != nil {
		return writes, err
	}
	l.node.counters.logWrites.Add(1)
	l.node.counters.logNanos.Add(int64(time.Since(began)))
	clear(writes)
	responses := make([]*raftpb.Message, 0, count)
	for _, w := range group {
		responses = append(responses, w.write.Responses...)
	}
	if count > 0 {
		l.inbox.put(replica.Written{Responses: responses})
	}
	return writes, nil
}

func (l *life) tendLog(w logWork) error {
	if w.checkpoint != nil {
		return l.node.log.SaveCheckpoint(*w.checkpoint)
	}
	return l.node.log.Truncate(w.truncate)
}

// flushEngine makes the engine durable beside the batches that go on. Flushes
// asked for meanwhile are done by one.
func (l *life) flushEngine(ctx context.Context) {
	var asked []struct{}
	for ok := true; ok; {
		if asked, ok = l.flushes.take(asked); !ok {
			return
		}
		index, err := l.flushOnce(ctx)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			l.node.fail(fmt.Errorf("engine: %w", err))
			return
		}
		l.inbox.put(replica.Durable{Index: index})
	}
}

func (l *life) flushOnce(ctx context.Context) (durable uint64, err error) {
	if err := l.node.engine.Flush(ctx); err != nil {
		return 0, err
	}
	return l.node.engine.Durable()
}

// pinExport pins the engine's state at the very place in the order where the
// checkpoint was taken, and leaves the copying to whoever asked.
func (l *life) pinExport(e *replica.Export) {
	x := exported{}
	if x.checkpoint, x.err = e.Complete(l.node.log); x.err != nil {
		x.checkpoint = gcs.Checkpoint{}
	} else if x.checkpoint.Index == 0 {
		x.err = ErrNotOnline
	} else if x.export, x.err = l.node.engine.NewExport(); x.err == nil {
		if at := x.export.Position().Index; at != x.checkpoint.Index {
			_ = x.export.Close()
			x = exported{err: fmt.Errorf("engine exports its state at %d, the checkpoint is at %d", at, e.Checkpoint.Index)}
		} else if x.digest, _, x.err = l.node.engine.Digest(); x.err != nil {
			_ = x.export.Close()
			x.export = nil
		}
	}
	if !l.exports.answer(e.Ticket, x) {
		x.close()
	}
}
