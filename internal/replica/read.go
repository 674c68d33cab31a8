package replica

import (
	"slices"

	"github.com/concordatdb/concordat/gcs"
)

// readCall is somebody who waits for a read index.
type readCall struct{ batch, ticket uint64 }

// reads holds those who wait, in the order in which they came. All that come in
// one Step, or while an earlier batch is under way, share a batch.
type reads struct {
	calls   []readCall
	answers []gcs.ReadAnswer // reused
}

func (r *Replica) askRead(ticket uint64) {
	r.reads.calls = append(r.reads.calls, readCall{batch: r.group.Read(), ticket: ticket})
}

// withdrawRead forgets somebody who waits no longer: while no leader is proven
// there may be any number of them.
func (r *Replica) withdrawRead(ticket uint64) {
	calls := r.reads.calls
	if i := slices.IndexFunc(calls, func(c readCall) bool { return c.ticket == ticket }); i >= 0 {
		r.reads.calls = slices.Delete(calls, i, i+1)
	}
}

// answerReads answers those whose batch has been answered. The answer to a batch
// is one to all before it.
func (r *Replica) answerReads() {
	q := &r.reads
	q.answers = r.group.Reads(q.answers)
	n := 0
	for _, a := range q.answers {
		for n < len(q.calls) && q.calls[n].batch <= a.Batch {
			r.effects.Reads = append(r.effects.Reads, ReadAnswer{Ticket: q.calls[n].ticket, Index: a.Index})
			n++
		}
	}
	q.calls = slices.Delete(q.calls, 0, n)
}
