package sim

import (
	"bytes"
	"context"
	"errors"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/concordatdb/concordat/gcs"
	"github.com/concordatdb/concordat/internal/replica"
)

// cloner brings a member the state of another one when no log can.
//
// The order of its steps is what keeps a crash from leaving a half:
//
//	log.Reset(checkpoint)  ── crash here ──  engine.Import(state)
//
// In between the log begins after everything that the engine holds, which a
// start sees, and asks for another clone. The other order would leave an
// engine ahead of a log whose tail may be of another history, and a start,
// which takes what the engine holds for committed, would commit that tail.
//
// Where the log holds the entry at the copy's position, what comes after it stays:
// this member may have answered for that.
type cloner struct {
	asked    bool
	imported bool // the log was reset and the engine is not there yet
	attempt  int
}

// cloneTimeout is how long a member waits for a donor before it asks again.
const cloneTimeout = 2 * second

// copied is a copy of a member's whole state.
type copied struct {
	checkpoint gcs.Checkpoint
	state      []byte
}

// ask asks for a clone. donor is a raft id, 0 for anybody. Whether the donor is
// ONLINE does not matter: it may wait for this member's vote to become so.
func (c *cloner) ask(r *run, donor uint64) {
	if c.asked {
		return
	}
	w := r.world
	c.asked = true
	c.attempt++
	attempt := c.attempt
	r.after(cloneTimeout, func() {
		if c.asked && c.attempt == attempt {
			c.again(r)
		}
	})
	from := w.byRaft[donor]
	if from == nil {
		from = w.members[w.rand.IntN(len(w.members))]
	}
	if from == r.member {
		return
	}
	w.trace.note(w, r.member.name+" asks "+from.name+" for a clone")
	w.network.carry(r.member, from, 0, func() {
		switch {
		case from.run == nil || from.run.replica == nil || r.ended:
		case from.run.history != r.history:
			r.lookAt(from)
		default:
			ticket := w.ticket()
			from.run.exports[ticket] = r
			from.run.tell(replica.ExportAsked{Ticket: ticket})
		}
	})
}

// again gives the request up, for the next one.
func (c *cloner) again(r *run) {
	c.asked = false
	c.ask(r, 0)
}

// export copies the engine's state, which at this place in its queue is that
// of the checkpoint, and sends it off.
func (r *run) export(x replica.Export) {
	w := r.world
	to := r.exports[x.Ticket]
	delete(r.exports, x.Ticket)
	if x.Checkpoint.Index == 0 {
		w.reached[markCloneRefused]++
		return
	}
	if r.member.harm != nil {
		return // a copy would be wrong as well, and who has it from whom no check can say
	}
	checkpoint, err := x.Complete(r.member.log)
	if err != nil {
		w.violate("P6", "%s cannot copy what came in fragments: %v", r.member.name, err)
		return
	}
	export, err := r.member.engine.NewExport()
	if err != nil {
		w.violate("engine", "%s: %v", r.member.name, err)
		return
	}
	if at := export.Position().Index; at != x.Checkpoint.Index {
		w.violate("P4", "%s exports its engine at %d with a checkpoint at %d", r.member.name, at, x.Checkpoint.Index)
		return
	}
	var b bytes.Buffer
	if err := export.WriteTo(context.Background(), &b, 0); err != nil {
		w.violate("engine", "%s: %v", r.member.name, err)
		return
	}
	// What changes take on the way is left out, so that who follows them is no part of
	// a world's course.
	took := int64(b.Len()-r.member.engine.ExportedChanges()) / w.plan.network.bandwidth * millisecond
	w.network.carry(r.member, to.member, min(took, second), func() {
		switch {
		case r.ended:
			w.reached[markExportInterrupted]++
		case !to.ended && to.cloner.asked && to.history == r.history:
			to.install(copied{checkpoint: checkpoint, state: b.Bytes()})
		}
	})
}

// cloneInstead ends the member's state machine, which no log can bring any further.
// There is none until a copy has come: it would take the member for one that
// serves, and others would wait for what it cannot deliver.
func (r *run) cloneInstead(donor uint64) {
	m := r.member
	m.stop()
	cloning, err := m.awake() // what is asked of it meanwhile, it reads from its log
	if err != nil {
		r.world.violate("start", "%s: %v", m.name, err)
		return
	}
	cloning.cloner.ask(cloning, donor)
	cloning.reportAlive()
}

// beginCloning is a member that has no state machine before it has cloned. It
// tells the others that it lives.
func (r *run) beginCloning() {
	r.cloner.ask(r, 0)
	r.reportAlive()
}

// reportAlive tells the others that this one lives, as far as it knows who they are.
func (r *run) reportAlive() {
	m, w := r.member, r.world
	if m.view.ID == 0 {
		// Only the checkpoint knows who else is in the group.
		c, err := m.log.Checkpoint(^uint64(0))
		if err == nil && c.Index > 0 {
			m.view, err = replica.CheckpointView(c)
		}
		if err != nil {
			w.violate("start", "%s: %v", m.name, err)
			return
		}
	}
	report := &gcs.Report{Recovering: true, Session: r.session, Applied: m.engine.Position().Index}
	others := gcs.Hearers(m.log.Identity(), m.view, m.named.Members, r.heard)
	for _, to := range others {
		w.network.send(r, to, gcs.Message{Kind: gcs.MessageReport, Report: report})
		if _, known := m.view.Member(to); !known && m.view.ID > 0 && w.byRaft[to] != nil {
			w.reached[markToldStranger]++
		}
	}
	if r.rounds++; len(others) == 0 || r.rounds%max(1, w.lookTicks()/2) == 0 {
		r.lookForPlace()
	}
	r.after(2*w.plan.tick, r.reportAlive)
}

// install puts a copy in place of what the member has.
func (r *run) install(c copied) {
	m, w := r.member, r.world
	if !m.wants(&r.note, c.checkpoint) {
		w.reached[markCloneStale]++
		r.cloner.again(r)
		return
	}
	m.stop()
	m.cloning = true
	if err := m.installLog(c.checkpoint); err != nil {
		w.violate("log", "%s: %v", m.name, err)
		return
	}
	// The import takes its time, and the power may fail meanwhile.
	importing := &run{member: m, world: w, history: r.history, note: r.note, raftID: r.raftID, session: r.session}
	importing.cloner = cloner{asked: true, imported: true}
	m.run = importing
	importing.reportAlive()
	importing.after(importing.diskTime(w.plan.disk.install), func() {
		at, err := m.engine.Import(context.Background(), bytes.NewReader(c.state))
		if err != nil || at.Index != c.checkpoint.Index {
			w.violate("engine", "%s imports a state at %d for a checkpoint at %d: %v", m.name, at.Index, c.checkpoint.Index, err)
			return
		}
		if importing.note.clone {
			importing.note.clone = false
			if err := m.log.SetRecord(importing.note.encode()); err != nil {
				w.violate("log", "%s: %v", m.name, err)
				return
			}
		}
		m.cloning = false
		w.reached[markClone]++
		w.report.Clones++
		importing.restart()
	})
}

// restart stops the member and starts it from its disks.
func (r *run) restart() {
	r.member.stop()
	r.member.start()
}

// wants tells whether a checkpoint brings a member on that has no state machine.
// Where its log holds the checkpoint's entry, only the data are missing.
func (m *member) wants(n *note, c gcs.Checkpoint) bool {
	first, err := m.log.FirstIndex()
	if err != nil || c.Index+1 < first {
		return false
	}
	engine := m.engine.Position().Index
	return n.clone || engine+1 < first || c.Index > engine
}

// installLog makes the log go on from a checkpoint of another member. What this
// one has answered for must stay: when its log has the checkpoint's entry, only
// the data are missing. Else every entry here either is in the checkpoint or
// never was committed, and the log begins anew. The term and the vote stay, for
// they were promised to others.
func (m *member) installLog(c gcs.Checkpoint) error {
	last, err := m.log.LastIndex()
	if err != nil {
		return err
	}
	if term, err := m.log.Term(c.Index); c.Index <= last && err == nil && term == c.Term {
		return errors.Join(m.log.SaveCheckpoint(c), m.log.Truncate(c.Index))
	}
	old := m.log.HardState()
	hard := &raftpb.HardState{Term: new(old.GetTerm()), Vote: new(old.GetVote()), Commit: new(c.Index)}
	if c.Term > old.GetTerm() {
		hard.Term, hard.Vote = new(c.Term), new(uint64(0))
	}
	return m.log.Reset(c, hard)
}
