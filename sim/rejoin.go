package sim

import (
	"errors"
	"fmt"
	"slices"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/concordatdb/concordat/certifier"
	"github.com/concordatdb/concordat/gcs"
	"github.com/concordatdb/concordat/internal/replica"
)

// errNeedsClone says that a log begins after the end of the data.
var errNeedsClone = errors.New("sim: log begins after the data end")

// exit ends a run that is out of its group, and has to be so for a reason.
func (r *run) exit(e replica.Exit) {
	m, w := r.member, r.world
	kind, departed := r.history.departed[r.raftID]
	if _, in := r.replica.Status().View.Member(r.raftID); in && e != replica.ExitMinority {
		w.reached[markRemovedByWord]++
	}
	switch {
	case e == replica.ExitMinority:
		w.reached[markMinority]++
		w.report.Minorities++
		w.trace.note(w, m.name+" has been in the minority for too long")
		m.stop()
		m.standOut()
	case !departed:
		w.violate("P13", "%s takes itself for removed from incarnation %s, which did no such thing", m.name, r.history.incarnation)
	case e == replica.ExitRemoved && kind != gcs.Removed && kind != gcs.Replaced:
		w.violate("P11", "%s takes itself for ordered out, and was %s", m.name, kind)
	case kind == gcs.Left && !m.asked:
		w.violate("P11", "%s was let go and never asked for it", m.name)
	case kind == gcs.Left:
		w.report.Leaves++
		w.trace.note(w, m.name+" has left")
		r.leave(700)
	case kind == gcs.Removed:
		w.report.Removed++
		w.trace.note(w, m.name+" was removed")
		r.leave(800)
	default:
		w.report.Expelled++
		w.trace.note(w, m.name+" was "+kind.String())
		m.stop()
		m.reidentify(false)
		m.start()
	}
}

// leave ends a member that is out for good, or comes back in so many of a
// thousand cases: as a stranger, or with what it holds.
func (r *run) leave(returns int64) {
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
			m.reidentify(false)
			m.start()
		}
	})
}

// reidentify makes a member that is not running one that has never been in the
// group, under a new raft id, with what it holds for certain: its log up to
// where it is known to be committed, or nothing if everything is to be cloned.
func (m *member) reidentify(empty bool) {
	w := m.world
	hs := m.log.HardState()
	newest, err := m.log.Checkpoint(^uint64(0))
	if err != nil {
		w.violate("log", "%s: %v", m.name, err)
		return
	}
	// A checkpoint is of what was delivered, also where the commit index on disk
	// lags behind.
	last := max(hs.GetCommit(), m.engine.Position().Index, newest.Index)
	if empty {
		last = 0
	}
	m.rename()
	m.returns = true
	n := note{clone: empty}
	err = m.log.Adopt(gcs.Adoption{
		Identity: gcs.Identity{Group: w.group, Member: m.uuid, RaftID: m.raftID, Session: 1}, Last: last, Record: n.encode(),
		HardState: &raftpb.HardState{Term: new(hs.GetTerm()), Vote: new(uint64(0)), Commit: new(last)},
	})
	if err != nil {
		w.violate("log", "%s cannot take a new identity: %v", m.name, err)
	}
}

// replay goes through a log as far as it is committed, from the last checkpoint
// that the engine has reached and that is not after a log index, or the first
// that there is, and changes nothing. Each of its transactions is given to each.
func (m *member) replay(from uint64, each ...func(*replica.Judged)) (*replica.Replica, error) {
	cfg, cloneOnly, err := m.configure()
	switch {
	case err != nil:
		return nil, err
	case cloneOnly:
		return nil, errNeedsClone
	}
	first, err := m.log.FirstIndex()
	if err != nil {
		return nil, err
	}
	if cfg.Group.Checkpoint.Index > from {
		if cfg.Group.Checkpoint, err = m.log.Checkpoint(max(from, first-1)); err != nil {
			return nil, err
		}
	}
	committed := max(cfg.Group.HardState.Commit, cfg.Group.Applied)
	cfg.Group.HardState.Commit = committed
	cfg.Group.Applied = cfg.Group.Checkpoint.Index // as an engine that has to apply it all
	r, err := replica.New(cfg)
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
		if r.Status().Delivered == at && len(written) == 0 {
			return nil, fmt.Errorf("the log cannot be gone through beyond %d, it is committed up to %d", at, committed)
		}
	}
}

// discard gives up what only this member has. The operator who orders that is
// told what it is.
func (r *run) discard(d *replica.DivergedError) {
	m, w := r.member, r.world
	w.reached[markDiscarded]++
	w.report.Discarded++
	w.trace.note(w, m.name+" discards: "+d.Error())
	w.told.gtids = w.told.gtids.Union(d.Extra)
	_, err := m.replay(d.Common, func(j *replica.Judged) {
		if j.Index > d.Common && j.Verdict.Outcome == certifier.Certified {
			w.told.ids[j.ID] = true
		}
	})
	if err != nil {
		w.violate("start", "%s: %v", m.name, err)
		return
	}
	if first, err := m.log.FirstIndex(); err != nil || first > d.Common+1 {
		// The log no longer has all that is given up. Of what was in it before,
		// nobody can name what the group has given the numbers of to others.
		w.reached[markUnnameable]++
		w.incarnation(r.claim.Incarnation).blind = true
	}
	m.stop()
	m.reidentify(true)
	m.start()
}

// standOut is a member that heard no majority for so long that it takes itself
// for lost. It asks whether it is still a member; when nobody has told it after
// some tries, its operator starts it again.
func (m *member) standOut() {
	r, err := m.awake()
	if err != nil {
		m.world.violate("start", "%s: %v", m.name, err)
		return
	}
	r.out = 3 + m.world.rand.IntN(8)
	r.after(askAgain, r.stillMember)
}

func (r *run) stillMember() {
	if r.out--; r.out == 0 {
		r.restart()
		return
	}
	r.ask(r.world.someone(), true)
	r.after(askAgain, r.stillMember)
}

// doubt asks whether a member is in the group that has heard nothing of it: it
// may have been taken in and out again before its log said anything.
func (r *run) doubt() {
	if r.state == replica.Offline {
		r.ask(r.world.someone(), true)
		r.after(askAgain, r.doubt)
	}
}

// standingAnswered is told whether the group has this member.
func (r *run) standingAnswered(a replica.JoinAnswer) {
	m, w := r.member, r.world
	switch {
	case !a.Quorum:
	case a.Answer.Joined && r.replica == nil:
		r.restart()
	case a.Departed, a.Answer.Leading && !a.Answer.Joined:
		w.trace.note(w, m.name+" finds that the group goes on without it")
		m.stop()
		m.reidentify(r.note.clone)
		m.start()
	}
}

// lookAt looks whether a member that does not talk to this one any more has gone
// over to an incarnation that came from this one's. One look at a time.
func (r *run) lookAt(whom *member) {
	w := r.world
	if r.history == nil || r.looked > w.now-askAgain {
		return
	}
	r.looked = w.now
	w.network.carry(r.member, whom, 0, func() {
		to := whom.run
		if to == nil || to.replica == nil {
			return
		}
		forks := to.replica.Status().Forks
		w.network.carry(whom, r.member, 0, func() {
			left := slices.ContainsFunc(forks, func(f replica.Fork) bool { return f.Incarnation == r.history.incarnation })
			if left && !r.ended && r.note.plan.MayRun() {
				r.superseded()
			}
		})
	})
}

// superseded is a member that was left out when an operator forced the
// membership. What it holds is compared by the group before it is taken back.
func (r *run) superseded() {
	m, w := r.member, r.world
	w.reached[markSuperseded]++
	w.trace.note(w, m.name+" was left out of a forced view")
	m.stop()
	m.reidentify(r.note.clone)
	m.start()
}
