package replica

import (
	"github.com/concordatdb/concordat/election"
	"github.com/concordatdb/concordat/gcs"
)

// prefer is the group's setting of that name.
func (r *Replica) prefer() bool { return r.settings.PreferMostUpdated }

// membersOf is what elections know of the members of a view.
func membersOf(v gcs.View) []election.Member {
	members := make([]election.Member, 0, len(v.Members))
	for _, m := range v.Members {
		members = append(members, election.Member{
			UUID: m.UUID, RaftID: m.RaftID, Version: election.Version(m.Version), Weight: m.Weight, Online: m.State == gcs.Online,
		})
	}
	return members
}

// electView tells the election of a view, last in the entry that brought it.
func (r *Replica) electView(v gcs.View) {
	r.changed = true
	r.noteElection(v.Index, r.elect.View(electionView(v), r.prefer()))
}

// electionView is what elections know of a view.
func electionView(v gcs.View) election.View {
	return election.View{
		ID: v.ID, Index: v.Index, Members: membersOf(v), Forced: v.Cause.Kind == gcs.Forced, Reason: v.Cause.String(),
	}
}

// What cannot be decoded is passed over, here as elsewhere.

func (r *Replica) electOpen(d *gcs.Delivery, body []byte) {
	if m, err := election.DecodeDescription(body); err == nil {
		r.noteElection(d.Index, r.elect.Open(d.Origin, m))
	}
}

func (r *Replica) electFounding(d *gcs.Delivery, body []byte) {
	if mode, p, err := election.DecodeFounding(body); err == nil {
		r.noteElection(d.Index, r.elect.Found(d.Index, mode, p))
	}
}

func (r *Replica) electDeposal(d *gcs.Delivery, body []byte, local localMessage) {
	r.opinions.noteOpinion(local)
	if m, err := election.DecodeDeposal(body); err == nil {
		r.noteElection(d.Index, r.elect.Depose(d.Index, d.Term, m, r.prefer()))
	}
}

func (r *Replica) electDrain(d *gcs.Delivery, body []byte) {
	if m, err := election.DecodeDrain(body); err == nil {
		r.noteElection(d.Index, r.elect.Drained(d.Index, d.Origin, m))
	}
}

func (r *Replica) electLapse(d *gcs.Delivery, body []byte, local localMessage) {
	r.opinions.noteOpinion(local)
	if m, err := election.DecodeLapse(body); err == nil {
		r.noteElection(d.Index, r.elect.GraceOver(d.Index, d.Term, m))
	}
}

// electAction begins what an operator asked for, or refuses it. What cannot be
// decoded must be answered all the same, or its caller would wait for ever.
func (r *Replica) electAction(d *gcs.Delivery, body []byte, local localMessage) {
	var effect election.Effect
	a, err := election.DecodeAction(body)
	if err == nil {
		effect = r.elect.Begin(d.Index, d.Origin, a)
		r.noteElection(d.Index, effect)
	} else {
		effect.Ended = &election.Outcome{Action: a, Result: election.Refused, Ended: d.Index, Text: err.Error()}
	}
	if local.kind == kindAction {
		r.effects.Actions = append(r.effects.Actions, ActionAnswer{Ticket: local.ticket, Action: effect.Begun, Outcome: effect.Ended})
	}
}

// electCancel takes back what is open, and answers with what became of the
// action, whether by this or before.
func (r *Replica) electCancel(d *gcs.Delivery, body []byte, local localMessage) {
	id, err := election.DecodeCancel(body)
	if err == nil {
		r.noteElection(d.Index, r.elect.Cancel(d.Index, id))
	}
	if local.kind != kindCancel {
		return
	}
	answer := ActionAnswer{Ticket: local.ticket}
	if o, known := r.elect.Snapshot().Outcome(id); known {
		answer.Outcome = &o
	}
	r.effects.Actions = append(r.effects.Actions, answer)
}

// noteElection tells the shell what an entry changed, and has the lead follow the
// primary.
func (r *Replica) noteElection(index uint64, e election.Effect) {
	before := r.primary
	r.changed = r.changed || e != (election.Effect{})
	r.follow()
	if index <= r.engine {
		return
	}
	if e.Epoch != nil {
		r.effects.Epochs = append(r.effects.Epochs, *e.Epoch)
		if e.Epoch.Cause == election.PrimarySilent {
			r.opinions.deposed = append(r.opinions.deposed, deposed{id: before, at: r.ticks})
		}
	}
	if e.Ended != nil {
		r.effects.Ended = append(r.effects.Ended, *e.Ended)
	}
}

// follow has the lead go where the primary is, or will be: then the first commit
// of a new one needs no other member to be asked.
func (r *Replica) follow() {
	s := r.elect.Snapshot()
	r.primary = s.Primary
	preferred := s.Primary
	if s.Action != nil {
		preferred = s.Action.Target
	}
	r.group.Prefer(preferred)
}

// traceElection tells the trace once for an entry.
func (r *Replica) traceElection(index uint64) {
	if r.changed && r.cfg.Trace != nil {
		r.cfg.Trace.Election(index, r.elect.Snapshot())
	}
	r.changed = false
}
