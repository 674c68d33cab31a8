package replica

import (
	"slices"

	"github.com/concordatdb/concordat/certifier"
	"github.com/concordatdb/concordat/gcs"
	"github.com/concordatdb/concordat/internal/consistency"
)

// A gate keeps the engine from what was ordered from an AFTER transaction on,
// until nobody can begin a transaction elsewhere that misses it: every member
// that was ONLINE at its place has delivered it, and so lets nobody begin below
// it, or is out of the view. One that has no state machine, for it clones, serves
// nobody before it shows everything up to the opening of a session that is yet to
// come, and must not be waited for: the copy that it needs may stand behind the
// gate.
//
// Gates are no part of the replicated state. A member that starts anew makes
// them again from what it has to apply again, and serves nobody before it shows
// everything up to the opening of its session, which is behind all that it had
// told others that it delivered.
type gate struct {
	index uint64   // of the log entry with the transaction
	waits []uint64 // raft ids of those whose delivery is missing, ascending
}

// heldTask is a task that waits for a gate.
type heldTask struct {
	gate  uint64 // log index
	task  Task
	bytes int
}

// gates holds tasks back. The engine must be at no entry of which another member
// could still show less to whoever begins there.
type gates struct {
	newest uint64 // index of the last AFTER transaction that the engine had yet to show when it was delivered
	told   uint64 // the same, of the last of which all others were told
}

// wantsGate reports whether an entry may need a gate: one that nobody waits for
// here has none.
func wantsGate(d *gcs.Delivery) bool {
	return slices.ContainsFunc(d.Messages, isAfter)
}

// isAfter reports whether a message is a transaction with the flag for AFTER.
func isAfter(msg []byte) bool {
	if len(msg) == 0 || msg[0] != kindTransaction && msg[0] != kindEnd {
		return false
	}
	var h Header
	_, err := h.decodeTerms(msg[1:])
	return err == nil && h.After
}

// noteAfter has the present entry gated if a transaction in it, committed here or
// before, is to be visible everywhere.
func (r *Replica) noteAfter(index uint64, t *Transaction, o certifier.Outcome) {
	if t.After && index > r.engine && (o == certifier.Certified || o == certifier.Duplicate) {
		r.after.newest = index
	}
}

// closeGate ends what may be shown before an entry, which is the last one
// delivered, if it is to be gated.
func (r *Replica) closeGate(index uint64) {
	if r.after.newest != index {
		return
	}
	if waits := r.required(index); len(waits) > 0 {
		r.gates.Push(gate{index: index, waits: waits})
	}
}

// required are those whose delivery of an entry is missing, by the view before
// it. An entry that somebody shows already had all that it needed.
func (r *Replica) required(index uint64) (missing []uint64) {
	self := r.cfg.Group.Identity.RaftID
	for _, m := range r.group.View().Members {
		if m.State == gcs.Online && m.RaftID != self && r.misses(m.RaftID, index) {
			missing = append(missing, m.RaftID)
		}
	}
	if len(missing) > 0 && r.shownBy() >= index {
		return nil
	}
	return missing
}

// misses reports whether somebody could begin at a member below an entry that is
// delivered here, as far as is known.
func (r *Replica) misses(id, index uint64) bool {
	return r.group.DeliveredBy(id) < index && !r.group.Absent(id)
}

// shownBy is the log index up to which some member shows the log, as far as is
// known.
func (r *Replica) shownBy() uint64 { return max(r.applied, r.group.Shown()) }

// emit hands a task of so many bytes to the engine, behind the last gate. What is
// held back does not count for ApplyBytes: the view that opens a gate may be
// ordered behind anything, and must be delivered. It is bounded by what members
// let their callers commit without an answer.
func (r *Replica) emit(t Task, bytes int) {
	if n := r.gates.Len(); n > 0 {
		r.held.Push(heldTask{gate: r.gates.At(n - 1).index, task: t, bytes: bytes})
		r.heldBytes += bytes
		return
	}
	r.given(&t)
	r.effects.Tasks = append(r.effects.Tasks, t)
}

// openGates hands to the engine what need not wait any longer, in order.
func (r *Replica) openGates() {
	opened := uint64(0)
	for r.gates.Len() > 0 && r.opens(r.gates.At(0)) {
		opened = r.gates.Pop().index
	}
	for r.held.Len() > 0 && r.held.At(0).gate <= opened {
		h := r.held.Pop()
		r.heldBytes -= h.bytes
		r.given(&h.task)
		r.effects.Tasks = append(r.effects.Tasks, h.task)
	}
}

// opens reports whether a gate need not stay closed. A member that is out of the
// view is not waited for; one that shows the entry has found that nobody was
// missing, at whatever time that was.
func (r *Replica) opens(g *gate) bool {
	view := r.group.View()
	g.waits = slices.DeleteFunc(g.waits, func(id uint64) bool {
		_, in := view.Member(id)
		return !in || !r.misses(id, g.index)
	})
	return len(g.waits) == 0 || r.shownBy() >= g.index
}

// tellDelivered tells the others of AFTER transactions that were delivered here:
// their gates wait for that.
func (r *Replica) tellDelivered() {
	if r.after.newest > r.after.told {
		r.after.told = r.after.newest
		r.group.TellDelivered()
	}
}

// floor is what a transaction must find visible that begins now. An AFTER
// transaction counts from its delivery, gate or not: the others take this member
// for one that shows it.
func (r *Replica) floor() (f consistency.Floor) {
	if r.after.newest > r.applied {
		f.Gate = r.after.newest
	}
	if began := r.elect.Began(); began > r.applied {
		f.Change = began
	}
	return f
}

// gateWaits are those whom the first gate waits for.
func (r *Replica) gateWaits() []uint64 {
	if r.gates.Len() == 0 {
		return nil
	}
	return slices.Clone(r.gates.At(0).waits)
}
