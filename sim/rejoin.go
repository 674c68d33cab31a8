package sim

import (
	"errors"
	"fmt"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/concordatdb/concordat/certifier"
	"github.com/concordatdb/concordat/gcs"
	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/internal/replica"
)

// errNeedsClone says that a log begins after the end of the data.
var errNeedsClone = errors.New("sim: log begins after the data end")

// exit ends a run that is out of its group, and has to be so for a reason.
func (r *run) exit(e replica.Exit) {
	m, w := r.member, r.world
	kind, departed := r.history.departed[r.raftID]
	if _, in := r.replica.Status().View.Member(r.raftID); in && e != replica.ExitMinority && e != replica.ExitDiffers {
		w.reached[markRemovedByWord]++
	}
	switch {
	case e == replica.ExitDiffers:
		r.differs()
	case e == replica.ExitMinority:
		w.reached[markMinority]++
		w.report.Minorities++
		w.trace.note(w, m.name+" has been in the minority for too long")
		m.stop()
		m.standOut(true, 1+w.rand.IntN(4))
	case !departed:
		w.violate("P13", "%s takes itself for removed from incarnation %s, which did no such thing", m.name, r.history.incarnation)
	case e == replica.ExitRemoved && kind != gcs.Removed && kind != gcs.Replaced:
		w.violate("P11", "%s takes itself for ordered out, and was %s", m.name, kind)
	case kind == gcs.Left && !m.asked:
		w.violate("P11", "%s was let go and never asked for it", m.name)
	case kind == gcs.Left:
		w.report.Leaves++
		w.trace.note(w, m.name+" has left")
		r.leave(700, func() {
			m.reidentify(keepCommitted)
			m.start()
		})
	case kind == gcs.Removed:
		w.report.Removed++
		w.trace.note(w, m.name+" was removed")
		r.leave(800, func() {
			w.byRaft[m.raftID] = m
			m.standOut(false, 0) // an operator decides when it joins anew
		})
	default:
		w.report.Expelled++
		w.trace.note(w, m.name+" was "+kind.String())
		m.stop()
		m.reidentify(keepCommitted)
		m.start()
	}
}

// leave ends a member that is out for good, or comes back in so many of a
// thousand cases: as a stranger, or as itself.
func (r *run) leave(returns int64, itself func()) {
	m, w := r.member, r.world
	m.stop()
	m.gone = true
	delete(w.byRaft, m.raftID)
	if !chance(w.rand, returns) {
		return
	}
	keeps := chance(w.rand, 500)
	w.after(span{100 * millisecond, 3 * second}.draw(w.rand), func() {
		switch {
		case !m.gone: // it was called for in the meantime
		case !keeps:
			m.arrive()
		case w.phase <= healing:
			m.gone = false
			itself()
		}
	})
}

// holding is what a member keeps of what it holds when it becomes another one.
type holding byte

const (
	keepNothing   holding = iota // everything is to be cloned
	keepCommitted                // the log up to where it is known to be committed
	keepAll                      // the log to its end
)

// reidentify makes a member that is not running one that has never been in the
// group, under a new raft id, with what it is to keep. Where the group has only
// taken it out, the tail of its log may go; where the membership was forced
// nobody knows what of the tail was committed by its help.
func (m *member) reidentify(keep holding) {
	w := m.world
	before, err := decodeNote(m.log.Record())
	var last uint64
	if err == nil {
		last, err = m.holds(keep, before.clone)
	}
	if err != nil {
		w.violate("log", "%s: %v", m.name, err)
		return
	}
	next := note{clone: last == 0 && m.engine.Position().Index > 0}
	switch keep {
	case keepAll:
		next.ended = m.log.Identity().Incarnation
	case keepCommitted:
		next.ended = before.ended
	case keepNothing:
	}
	if last > m.log.HardState().GetCommit() && keep == keepAll {
		w.reached[markTailKept]++
	}
	m.rename()
	m.returns = true
	m.cloning = m.cloning && last > 0
	err = m.log.Adopt(gcs.Adoption{
		Identity: gcs.Identity{Group: w.group, Member: m.uuid, RaftID: m.raftID, Session: 1}, Last: last, Record: next.encode(),
		HardState: &raftpb.HardState{Term: new(m.log.HardState().GetTerm()), Vote: new(uint64(0)), Commit: new(last)},
	})
	if err != nil {
		w.violate("log", "%s cannot take a new identity: %v", m.name, err)
	}
}

// holds is the log index up to which a member keeps its log: 0 if there is
// nothing that could be gone on from.
func (m *member) holds(keep holding, clone bool) (last uint64, err error) {
	end, endErr := m.log.LastIndex()
	first, firstErr := m.log.FirstIndex()
	newest, err := m.log.Checkpoint(^uint64(0))
	applied := m.engine.Position().Index
	if err = errors.Join(err, endErr, firstErr); err != nil || keep == keepNothing || clone || applied+1 < first {
		return 0, err
	}
	// A checkpoint is of what was delivered, also where the commit index on disk
	// lags behind.
	last = max(m.log.HardState().GetCommit(), m.engine.Position().Reached(), newest.Index)
	if last > end {
		return 0, fmt.Errorf("its log ends at %d, and it is committed up to %d", end, last)
	}
	if keep == keepAll {
		last = end
	}
	return last, nil
}

// checkpointBefore returns the newest checkpoint at after or before that the log
// goes on from, newest if there is none.
func (m *member) checkpointBefore(after uint64, newest gcs.Checkpoint) (gcs.Checkpoint, error) {
	if after >= newest.Index {
		return newest, nil
	}
	first, err := m.log.FirstIndex()
	if err != nil {
		return newest, err
	}
	earlier, err := m.log.Checkpoint(after)
	if err != nil || earlier.Index+1 < first || !replica.CheckpointServes(earlier, first) {
		return newest, err
	}
	return earlier, nil
}

// replay goes through a log as far as it is committed, and changes nothing. It
// begins at the last checkpoint that the engine has reached, or, if the log still
// can, before the entry at after. Each of its transactions is given to each.
func (m *member) replay(after uint64, each ...func(*replica.Judged)) (*replica.Replica, error) {
	cfg, cloneOnly, err := m.configure()
	switch {
	case err != nil:
		return nil, err
	case cloneOnly:
		return nil, errNeedsClone
	}
	if cfg.Group.Checkpoint, err = m.checkpointBefore(after, cfg.Group.Checkpoint); err != nil {
		return nil, err
	}
	committed := max(cfg.Group.HardState.Commit, cfg.Group.Applied)
	cfg.Group.HardState.Commit = committed
	cfg.Group.Applied, cfg.AppliedPart = cfg.Group.Checkpoint.Index, 0 // as an engine that has to apply it all
	r, err := m.newReplica(cfg)
	if err != nil {
		return nil, err
	}
	for effects := r.Step(); ; {
		for i := range effects.Judged {
			for _, f := range each {
				f(&effects.Judged[i])
			}
		}
		at := r.Status().Delivered
		if at >= committed {
			return r, nil
		}
		var written []*raftpb.Message
		for i := range effects.Writes {
			written = append(written, effects.Writes[i].Responses...)
		}
		effects = r.Step(replica.Applied{Index: at}, replica.Written{Responses: written})
		if r.Status().Delivered == at && len(written) == 0 && !effects.More {
			return nil, fmt.Errorf("the log cannot be gone through beyond %d, it is committed up to %d", at, committed)
		}
	}
}

// diverges is a member that the group refuses for a history of its own. Where all
// of its log shows that there is no transaction in that, nothing is lost by giving
// it up. Else an operator has to order it.
func (r *run) diverges(d *replica.DivergedError) {
	m, w := r.member, r.world
	extra, incomplete, err := m.extra(d, func(*replica.Judged) {})
	switch {
	case err != nil:
		w.violate("start", "%s: %v", m.name, err)
	case extra.IsEmpty() && !incomplete && d.Common > 0:
		w.reached[markNothingOwn]++
		m.stop()
		m.reidentify(keepNothing)
		m.start()
	default:
		r.errant = true
		r.after(span{50 * millisecond, 2 * second}.draw(w.rand), func() { r.discard(d) })
	}
}

// extra finds the transactions that only a member has. Each that the log holds is
// given to each. Where that does not go back to the fork there may be others.
func (m *member) extra(d *replica.DivergedError, each func(*replica.Judged)) (extra gtid.Set, incomplete bool, err error) {
	cfg, _, err := m.configure()
	if err == nil {
		cfg.Group.Checkpoint, err = m.checkpointBefore(d.Common, cfg.Group.Checkpoint)
	}
	if err != nil {
		return extra, false, err
	}
	extra, incomplete = d.Extra, cfg.Group.Checkpoint.Index > d.Common
	_, err = m.replay(d.Common, func(j *replica.Judged) {
		if j.Index > d.Common && j.Verdict.Outcome == certifier.Certified {
			extra = extra.Add(j.Verdict.GTID)
			each(j)
		}
	})
	return extra, incomplete, err
}

// discard gives up what only this member has. The operator who orders that is
// told what it is.
func (r *run) discard(d *replica.DivergedError) {
	m, w := r.member, r.world
	w.reached[markDiscarded]++
	w.report.Discarded++
	w.trace.note(w, m.name+" discards: "+d.Error())
	extra, incomplete, err := m.extra(d, func(j *replica.Judged) { w.told.ids[j.ID] = true })
	if err != nil {
		w.violate("start", "%s: %v", m.name, err)
		return
	}
	w.told.gtids = w.told.gtids.Union(extra)
	if incomplete {
		// Of what was in the log before nobody can name what the group has given
		// the numbers of to others.
		w.reached[markUnnameable]++
		w.incarnation(r.claim.Incarnation).blind = true
	}
	m.stop()
	m.reidentify(keepNothing)
	m.start()
}
