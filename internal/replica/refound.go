package replica

import (
	"github.com/concordatdb/concordat/certifier"
	"github.com/concordatdb/concordat/election"
	"github.com/concordatdb/concordat/gcs"
	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/internal/giant"
	"github.com/concordatdb/concordat/internal/outcome"
	"github.com/concordatdb/concordat/internal/statecheck"
)

// Refound returns the checkpoint with which a group begins whose data are those of
// another one, at a log index: nobody is in it but the founder, everything executed
// counts as seen by all snapshots, and nothing is known of earlier transactions by
// their ids. Settings and mode are yet to come, in the messages of the first entry
// behind it; see [gcs.RefoundEntry].
func Refound(id gcs.Identity, founder gcs.Member, index uint64, executed gtid.Set) (gcs.Checkpoint, error) {
	state, view, err := gcs.Refound(id, founder, index)
	if err != nil {
		return gcs.Checkpoint{}, err
	}
	r := &Replica{elect: election.New(), outcomes: outcome.NewAfter(index, 0), giants: giant.NewAssembly(0)}
	r.checks.state, r.faults.state = statecheck.New(), statecheck.NewFaults()
	if r.cert, err = certifier.Continue(id.Group, executed); err != nil {
		return gcs.Checkpoint{}, err
	}
	r.elect.View(electionView(view), false)
	// The founding was the first term.
	r.last = gcs.Delivery{Index: index, Term: gcs.RefoundHardState(index).GetTerm()}
	return r.serialiseWith(state), nil
}
