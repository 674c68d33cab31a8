package replica

import (
	"github.com/concordatdb/concordat/certifier"
	"github.com/concordatdb/concordat/gcs"
	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/internal/statecheck"
)

// heldBytes is how much more than ApplyBytes is delivered while the engine waits
// for the others' word on a transaction: that word is ordered behind what comes
// meanwhile. A member that is too far behind to wait fails alone.
const heldBytes = 64 << 20

// faults is this member's part in what the group says of transactions that engines
// could not apply. Only state is replicated.
type faults struct {
	state *statecheck.Faults

	holds   gtid.GTID // at which the engine waits; zero if it does not
	opinion []byte    // the message that says why
	said    bool      // and was delivered
	asked   uint64    // counts what it has said: of an earlier one it may be delivered later
	told    gtid.GTID // of which it has said last that it applied it
}

// fault is an engine that could not apply a transaction. Where the others' word is
// known already it goes on, or fails, at once.
func (r *Replica) fault(e Faulted) {
	f := &r.faults
	if f.state.Refused(e.GTID) {
		r.effects.Skips = append(r.effects.Skips, e.GTID)
		return
	}
	msg, err := statecheck.AppendOpinion([]byte{kindFault}, statecheck.Opinion{GTID: e.GTID, Class: e.Class})
	if err != nil { // it names no transaction that there could be
		r.effects.Stands = append(r.effects.Stands, e.GTID)
		return
	}
	f.holds, f.opinion = e.GTID, msg
	r.sayFault()
}

// sayFault says why the engine waits.
func (r *Replica) sayFault() {
	f := &r.faults
	f.said = false
	f.asked++
	r.submit(localMessage{kind: kindFault, ticket: f.asked}, f.opinion)
}

// deliverFault is what a member says of a transaction.
func (r *Replica) deliverFault(d *gcs.Delivery, body []byte, local localMessage) {
	f := &r.faults
	if local.kind == kindFault && local.ticket == f.asked {
		f.said = true
	}
	o, err := statecheck.DecodeOpinion(body)
	if err != nil {
		return
	}
	j := f.state.Heard(d.Index, d.Origin, o, r.online(), r.cert.Executed(), r.inView)
	r.judgeFault(d.Index, &j)
}

// judgeFault does what follows from what the group has come to.
func (r *Replica) judgeFault(index uint64, j *statecheck.Judgement) {
	if j.Refused {
		r.revoke(j.Of)
	}
	if index > r.engine {
		r.effects.Faults = append(r.effects.Faults, j.Blamed...)
		if j.Refused {
			r.effects.Unapplied = append(r.effects.Unapplied, j.Of)
		}
	}
}

// revoke takes back that a transaction has committed. Whoever waits for it here has
// not been told yet, since it is visible nowhere that counts.
func (r *Replica) revoke(g gtid.GTID) {
	r.outcomes.Revoke(g, byte(certifier.Unapplied))
	for i := range r.certified.Len() {
		if a := r.certified.At(i); a.Verdict.GTID == g {
			a.Verdict = certifier.Verdict{Outcome: certifier.Unapplied, GTID: g}
		}
	}
}

// tendFaults lets the engine go on, or not, that waits for the others' word, and
// says what this member has applied of what others could not: not before it has
// taken up its log, which may say that it has left the transaction out.
func (r *Replica) tendFaults() {
	f := &r.faults
	if g, wanted := f.state.Wanted(r.cfg.Group.Identity.RaftID, r.applied); wanted && g != f.told && r.opened != 0 {
		f.told = g
		if msg, err := statecheck.AppendOpinion([]byte{kindFault}, statecheck.Opinion{GTID: g}); err == nil {
			r.submit(localMessage{}, msg)
		}
	}
	switch {
	case f.holds.IsZero():
	case f.state.Refused(f.holds):
		r.effects.Skips = append(r.effects.Skips, f.holds)
		f.holds = gtid.GTID{}
	case f.said && f.state.Alone(f.holds), r.inApplyBytes-r.heldBytes >= r.applyLimit():
		r.effects.Stands = append(r.effects.Stands, f.holds)
		f.holds = gtid.GTID{}
	case f.said && f.state.Asks(r.cfg.Group.Identity.RaftID, f.holds):
		r.sayFault() // it was not ONLINE when it said so, and did not count
	}
}

// applyLimit is how much may be delivered and not yet applied.
func (r *Replica) applyLimit() int {
	if r.faults.holds.IsZero() {
		return r.cfg.ApplyBytes
	}
	return r.cfg.ApplyBytes + heldBytes
}
