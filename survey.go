package concordat

import (
	"context"
	"fmt"
	"time"

	"github.com/concordatdb/concordat/gcs"
	"github.com/concordatdb/concordat/internal/forced"
	"github.com/concordatdb/concordat/internal/replica"
)

// ownSurvey is what this member says of itself.
func (n *Node) ownSurvey(ctx context.Context) (s forced.Survey, err error) {
	if n.closed.Load() {
		return s, ErrClosed
	}
	err = ErrNotOnline
	if l := n.life.Load(); l != nil {
		asked := l.look(ctx, func() { s, err = n.survey(l.replica) })
		if asked {
			return s, err
		}
	}
	if p := n.part.Load(); p != nil && p.Phase == forced.Frozen {
		return n.frozenSurvey(*p)
	}
	if n.keepsPlace() {
		err = n.order(ctx, func(ctx context.Context) (_ phase, err error) {
			s, err = n.stoppedSurvey(ctx)
			return n.interrupted, err
		})
		return s, err
	}
	return s, fmt.Errorf("%w: it runs no state machine now, it is %s", err, n.state())
}

// frozenSurvey is what a frozen member says of itself. While its log is being
// aligned, it says what it had when it froze.
func (n *Node) frozenSurvey(p forced.Record) (forced.Survey, error) {
	s := forced.Survey{Facts: p.Facts, Record: p}
	if !n.aligning.TryLock() {
		return s, nil
	}
	defer n.aligning.Unlock()
	if n.partNow().Phase != forced.Frozen { // it has adopted meanwhile, and the log grows
		return s, nil
	}
	err := s.ReadLog(n.log)
	return s, err
}

// stoppedSurvey is what this member says of itself between two phases. One that
// gave up in a minority, and has its place still, finds it in its log.
func (n *Node) stoppedSurvey(ctx context.Context) (forced.Survey, error) {
	part := n.partNow()
	switch {
	case n.last != nil:
		return n.survey(n.last.replica)
	case part.Phase == forced.Frozen:
		return n.frozenSurvey(part)
	case n.failed() != nil || !n.keepsPlace():
		return forced.Survey{}, fmt.Errorf("%w: it runs no state machine that could be frozen", ErrNotOnline)
	}
	r, err := n.replay(ctx, ^uint64(0), nil)
	if err != nil {
		return forced.Survey{}, err
	}
	s, err := n.survey(r)
	s.Quorum, s.Unsure = false, false // it hears nobody
	return s, err
}

// lastReport is what another member said of itself last, and when.
type lastReport struct {
	gcs.Report
	at time.Time
}

// heard is what the others said of themselves last: in this life, or before it.
// Who gave up, or began anew, still knows what may be lost with them.
func (n *Node) heard(peers []gcs.Peer) (all []forced.Heard) {
	for _, p := range peers {
		h := forced.Heard{RaftID: p.RaftID, Delivered: p.Report.Delivered, Executed: p.Report.Executed, Ticks: p.Heard}
		if p.Heard == gcs.NeverHeard {
			before, ok := n.reports[p.RaftID]
			if !ok {
				continue
			}
			h.Delivered, h.Executed, h.Ticks = before.Delivered, before.Executed, uint64(n.cfg.ticks(time.Since(before.at)))
		}
		all = append(all, h)
	}
	return all
}

// keepReports notes, at the end of a life, what was heard in it or before.
func (n *Node) keepReports(peers []gcs.Peer) {
	kept := map[uint64]lastReport{}
	for _, p := range peers {
		if p.Heard != gcs.NeverHeard {
			kept[p.RaftID] = lastReport{p.Report, time.Now().Add(-time.Duration(p.Heard) * n.cfg.TickInterval)}
		} else if before, ok := n.reports[p.RaftID]; ok {
			kept[p.RaftID] = before
		}
	}
	n.reports = kept
}

// survey is what a member says of itself that runs, or has just ended, its state
// machine. It is called where nothing else uses that.
func (n *Node) survey(r *replica.Replica) (s forced.Survey, err error) {
	st := r.Status()
	id := n.log.Identity()
	hs := n.log.HardState()
	s.Facts = forced.Facts{
		Group: id.Group, Incarnation: id.Incarnation, Member: id.Member, RaftID: id.RaftID, Address: n.address,
		View: st.View, Term: max(st.Term, hs.GetTerm()), Commit: max(st.Delivered, hs.GetCommit()),
		Delivered: st.Delivered, Executed: r.Claim().Executed,
	}
	s.Heard = n.heard(st.Peers)
	// One that lags behind may hear a majority of a view that is long past; then
	// nobody leads it.
	s.Quorum, s.Unsure = st.Quorum && st.Leader != 0, st.QuorumUnknown
	if p := n.part.Load(); p != nil {
		s.Record = *p
	}
	err = s.ReadLog(n.log)
	return s, err
}
