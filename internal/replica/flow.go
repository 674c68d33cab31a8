package replica

import (
	"time"

	"github.com/concordatdb/concordat/applier"
	"github.com/concordatdb/concordat/flowcontrol"
	"github.com/concordatdb/concordat/gcs"
	"github.com/concordatdb/concordat/internal/queue"
)

// flowTicks is how often a member decides how much it may write: as often as it is
// told what the others do.
const flowTicks = 2

// flow is a member's part in flow control. What a member may write it decides by
// itself; nothing in it is replicated but the settings.
type flow struct {
	meter   flowcontrol.Meter
	control *flowcontrol.Controller
	batch   flowcontrol.Work              // what the batch that is being filled will be
	works   queue.Queue[flowcontrol.Work] // of the batches that wait behind a gate, and of those between
	elapsed time.Duration                 // since the last decision
	last    FlowStatus
}

// FlowStatus is what a member knows of who slows whom. Its slices must not be
// changed.
type FlowStatus struct {
	Decision flowcontrol.Decision
	// Members are those of the view by their newest samples, ascending by raft id.
	Members []flowcontrol.Member
	// Rates are what was measured of those that count.
	Rates []flowcontrol.Rates
}

// noteDelivered counts a transaction that goes to the engine, whatever became of it:
// whoever sent it was charged for it.
func (r *Replica) noteDelivered(bytes int) {
	w := &r.flow.batch
	w.Transactions++
	w.Bytes += bytes
	if r.origin != r.cfg.Group.Identity.Member {
		w.Remote++
	}
	r.flow.meter.Judged()
}

// closeWork ends the work of a batch.
func (r *Replica) closeWork(b *applier.Batch) {
	w := r.flow.batch
	w.Index = b.To.Index
	r.flow.works.Push(w)
	r.flow.batch = flowcontrol.Work{}
}

// given notes that the engine has a task. What waits behind a gate is not held
// against the engine. A batch without a transaction is no work.
func (r *Replica) given(t *Task) {
	if t.Apply == nil {
		return
	}
	if w := r.flow.works.Pop(); w.Transactions > 0 {
		r.flow.meter.Given(w)
	}
}

// sample is what this member tells of its work.
func (r *Replica) sample(g *flowcontrol.Counts) flowcontrol.Sample {
	s := r.flow.meter.Sample()
	s.Local, s.Offered, s.Held, s.Waited, s.Queue = g.Local, g.Offered, g.Held, g.Waited, g.Queue
	s.WaitingCertify = r.group.Undelivered()
	s.Exempt, s.Recovering = r.cfg.FlowExempt, r.state() != Online
	return s
}

// tendFlow decides anew what this member may write.
func (r *Replica) tendFlow(own flowcontrol.Sample, used uint64) {
	f := &r.flow
	if r.ticks%flowTicks != 0 {
		return
	}
	in := flowcontrol.Input{
		Elapsed: f.elapsed, Self: r.cfg.Group.Identity.RaftID, Settings: r.settings.Flow, Used: used,
		Members: r.flowMembers(own),
	}
	f.elapsed = 0
	f.last = FlowStatus{Decision: f.control.Step(&in), Members: in.Members, Rates: f.control.Rates()}
}

// flowMembers are the members of the view by what they have told last. Nothing of
// what does not decode counts: a member of another version may tell it.
func (r *Replica) flowMembers(own flowcontrol.Sample) []flowcontrol.Member {
	st := r.group.Status()
	members := make([]flowcontrol.Member, 0, len(st.View.Members))
	for _, m := range st.View.Members {
		if m.RaftID == r.cfg.Group.Identity.RaftID {
			members = append(members, flowcontrol.Member{ID: m.RaftID, Sample: own, Out: m.State != gcs.Online})
			continue
		}
		x := flowcontrol.Member{ID: m.RaftID, Out: true}
		for i := range st.Peers {
			p := &st.Peers[i]
			if p.RaftID != m.RaftID {
				continue
			}
			s, err := flowcontrol.DecodeSample(p.Report.Stats)
			x.Sample = s
			x.Heard = flowcontrol.MaxSilence + 1
			if p.Heard < gcs.NeverHeard {
				x.Heard = time.Duration(p.Heard) * r.cfg.Tick
			}
			x.Out = err != nil || p.Unreachable || p.Report.Recovering || m.State != gcs.Online
		}
		members = append(members, x)
	}
	return members
}
