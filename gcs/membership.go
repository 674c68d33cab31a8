package gcs

import (
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/tracker"
)

// JoinAnswer is what a member says to somebody who wants to join.
type JoinAnswer struct {
	// Joined is true once the newcomer is in the view.
	Joined bool
	// Leader is the member to ask instead, when it is not this one; a member
	// without raft id when there is no leader to name.
	Leader Member
	// Refused says why the newcomer cannot join as it is. Otherwise, and
	// without being Joined, it has to ask again.
	Refused error
	// View is the view at the time of the answer.
	View View
}

// Join asks for a newcomer to be added to the view. Asking again is harmless.
func (g *Group) Join(m Member) JoinAnswer {
	answer := JoinAnswer{View: g.view}
	if known, ok := g.view.Member(m.RaftID); ok && known.UUID == m.UUID {
		answer.Joined = true
		return answer
	}
	if g.role != raft.StateLeader {
		answer.Leader, _ = g.view.Member(g.leader)
		return answer
	}
	answer.Leader, _ = g.view.Member(g.id.RaftID)
	answer.Refused = g.proposeChange(Change{Kind: Joined, Member: m})
	return answer
}

// Leave asks the group to take this member out of the view; [Group.Removed]
// tells when that is done. The last ONLINE member cannot leave, only stop: the
// error is a *RefusedChangeError.
func (g *Group) Leave() error {
	self := Member{UUID: g.id.Member, RaftID: g.id.RaftID}
	out := g.removed || g.departed.has(self.RaftID)
	if _, err := g.view.Apply(Change{Kind: Left, Member: self}, g.delivered); err != nil && !out {
		return err
	}
	g.leaving = true
	g.sendLeave()
	return nil
}

// Stay takes Leave back: the member no longer asks. Whoever was asked may have
// proposed the change already, and then it goes all the same; [Group.Removed]
// still tells.
func (g *Group) Stay() { g.leaving = false }

// Removed reports whether the group has this member no longer.
func (g *Group) Removed() bool { return g.removed }

// CloneFrom returns the member that says that its log begins after the end of
// this one's, 0 while the log can catch up by itself.
func (g *Group) CloneFrom() uint64 {
	if g.delivered >= g.clone.index {
		return 0
	}
	return g.clone.from
}

// clone is what the last leader that offered a snapshot instead of its log
// said.
type clone struct {
	from  uint64 // raft id of that leader
	index uint64 // before its log; once that is delivered here, nothing is missing
}

// sendLeave makes one step towards being out: first give up the lead, then ask
// whoever has it. Ticks repeat it, so nothing depends on any single message.
func (g *Group) sendLeave() {
	switch {
	case g.removed:
	case g.departed.has(g.id.RaftID):
		g.askForRelease()
	case !g.leaving || g.leader == 0:
	case g.leader != g.id.RaftID:
		g.send(g.leader, Message{Kind: MessageLeave})
	case g.view.online() > 1:
		if heir := g.heir(); heir != 0 {
			g.raft.TransferLeader(heir)
		}
	}
}

// askForRelease asks the members of the new view whether this one may go. Its
// own log is not enough: a member that knows of the change, but not for certain
// that it is committed, counts this one's vote after a restart. Of a group of
// two, the one that stays would wait for the other forever. So a member is out
// when somebody who stays has it on disk that it is.
func (g *Group) askForRelease() {
	for _, m := range g.view.Members {
		g.send(m.RaftID, Message{Kind: MessageLeave})
	}
}

// heir is the ONLINE member, other than this one, that has most of the log
// among those that have reported to this leader and do not want to leave
// themselves: two that both left would hand the lead to each other forever,
// and neither would have the time to let the other go.
func (g *Group) heir() uint64 {
	var best, match uint64
	g.raft.WithProgress(func(id uint64, typ raft.ProgressType, pr tracker.Progress) {
		if id != g.id.RaftID && typ == raft.ProgressTypePeer && pr.RecentActive && g.wouldStay(id) && pr.Match > match {
			best, match = id, pr.Match
		}
	})
	return best
}

// wouldStay reports whether a member has reported to this leader without asking
// to leave. It asks in every round of reports, until it has thought better of
// it.
func (g *Group) wouldStay(id uint64) bool {
	_, reported := g.reports[id]
	asked, leaver := g.leavers[id]
	return reported && (!leaver || g.ticks-asked > silentTicks)
}

func (g *Group) receiveLeave(from uint64) {
	m, ok := g.view.Member(from)
	if g.role != raft.StateLeader || !ok {
		return
	}
	g.leavers[from] = g.ticks
	// A refusal is only possible while the view is changing; the member asks
	// again.
	_ = g.proposeChange(Change{Kind: Left, Member: m})
}

// proposeChange proposes a membership change if it would be valid now and none
// was proposed just before. The error is a *RefusedChangeError.
func (g *Group) proposeChange(c Change) error {
	if _, err := g.applied(c, g.delivered); err != nil {
		return err
	}
	if g.changeAt != 0 && g.ticks < g.changeAt+changeTicks {
		return nil
	}
	g.changeAt = g.ticks
	// raft refuses while another change is under way or the lead is being
	// handed over. Whoever wanted the change asks again.
	_ = g.raft.ProposeConfChange(c.confChange())
	return nil
}

// tend is the leader's housekeeping, once a round of reports.
func (g *Group) tend() {
	if g.ticks%reportTicks != 0 {
		return
	}
	g.promote()
	g.endSnapshots()
	g.commits = [2]uint64{g.commits[1], g.raft.BasicStatus().GetCommit()}
}

// promote makes the first member that has caught up ONLINE. It must also be
// taking the log from this leader: one whose end of the log is gone here, or
// that still clones, would have a vote and nothing to vote with.
func (g *Group) promote() {
	var ready uint64
	g.raft.WithProgress(func(id uint64, typ raft.ProgressType, pr tracker.Progress) {
		if ready == 0 && typ == raft.ProgressTypeLearner && pr.State == tracker.StateReplicate && g.caughtUp(id) {
			ready = id
		}
	})
	if m, ok := g.view.Member(ready); ok {
		_ = g.proposeChange(Change{Kind: Promoted, Member: m})
	}
}

// heard is what the leader last heard from a member.
type heard struct {
	Report
	before uint64 // what the report before this one had delivered
	at     int    // tick
}

// caughtUp compares a report with what there was to have when it was made, or
// rather somewhat before: a report is up to a round old, and under load the
// log grows by more than any fixed number of entries in that time. The same
// goes for the engine behind the delivery.
func (g *Group) caughtUp(id uint64) bool {
	r := g.reports[id]
	return r.before > 0 && r.Delivered+PromoteLag >= g.commits[0] && r.Applied+PromoteLag >= r.before
}

// Needed is the log index after which some member of the view needs this
// leader's log to catch up. ok is false when this member does not lead. A member
// that clones comes back with what raft offered it, and one that is RECOVERING
// is on its way whether it is heard or not; of the others only those count that
// are not silent.
func (g *Group) Needed() (index uint64, ok bool) {
	if g.role != raft.StateLeader {
		return 0, false
	}
	index = g.delivered
	g.raft.WithProgress(func(id uint64, typ raft.ProgressType, pr tracker.Progress) {
		switch {
		case id == g.id.RaftID:
		case pr.State == tracker.StateSnapshot:
			index = min(index, pr.PendingSnapshot)
		case typ == raft.ProgressTypeLearner || !g.silent(id):
			index = min(index, pr.Match)
		}
	})
	return index, true
}

// endSnapshots tells raft of the members that need no snapshot any more, since
// they report that they have cloned what is in it, and has it offer another
// one to those that are back for long and still lack it. A member may be silent
// while it clones; the log that it needs then is kept for it.
func (g *Group) endSnapshots() {
	var finished, failed []uint64
	g.raft.WithProgress(func(id uint64, _ raft.ProgressType, pr tracker.Progress) {
		if pr.State != tracker.StateSnapshot {
			delete(g.stalled, id)
			return
		}
		if !g.silent(id) {
			g.stalled[id]++
		}
		switch {
		case g.reports[id].Delivered >= pr.PendingSnapshot:
			finished = append(finished, id)
		case g.stalled[id] >= snapshotRounds:
			failed = append(failed, id)
		default:
			return
		}
		delete(g.stalled, id)
	})
	for _, id := range finished {
		g.raft.ReportSnapshot(id, raft.SnapshotFinish)
	}
	for _, id := range failed {
		g.raft.ReportSnapshot(id, raft.SnapshotFailure)
	}
}

// Report sets what this member tells the leader about itself.
func (g *Group) Report(applied, snapshot uint64) {
	g.report.Applied, g.report.Snapshot = applied, snapshot
}

func (g *Group) sendReport() {
	g.report.Delivered = g.delivered
	if g.leader != 0 && g.leader != g.id.RaftID {
		g.send(g.leader, Message{Kind: MessageReport, Report: g.report})
	}
	g.sendLeave()
}

// silent reports whether nothing has come from a member for long, or nothing
// at all since this leader began.
func (g *Group) silent(id uint64) bool {
	return g.ticks-max(g.reports[id].at, g.since) > silentTicks
}

// OldestSnapshot is the log index of the oldest snapshot in use on any member
// of the view that can be heard. ok is false when this member does not lead or
// somebody has not had the time to report yet. Who is silent does not count:
// it may be down for good, and nobody must keep anything for it.
func (g *Group) OldestSnapshot() (index uint64, ok bool) {
	if g.role != raft.StateLeader {
		return 0, false
	}
	index = g.report.Snapshot
	for _, m := range g.view.Members {
		if m.RaftID == g.id.RaftID {
			continue
		}
		if g.silent(m.RaftID) {
			continue
		}
		r, heard := g.reports[m.RaftID]
		if !heard {
			return 0, false
		}
		index = min(index, r.Snapshot)
	}
	return index, true
}

// Status is a member's standing in the group.
type Status struct {
	View      View
	Leader    uint64 // raft id, 0 when none is known
	Leading   bool   // this member leads
	Delivered uint64 // log index
	Term      uint64
	Dropped   uint64 // messages that no member should have sent, kept from raft
}

// Status returns the member's standing now.
func (g *Group) Status() Status {
	return Status{
		View: g.view, Leader: g.leader, Leading: g.role == raft.StateLeader,
		Delivered: g.delivered, Term: g.raft.BasicStatus().GetTerm(), Dropped: g.dropped,
	}
}

// View returns the current view.
func (g *Group) View() View { return g.view }

// Consumed returns the log index up to which raft is done with the log here. It
// must not be cut above that: raft looks for membership changes in what it
// believes is not yet applied, and that moves by whole portions only.
func (g *Group) Consumed() uint64 { return g.raft.BasicStatus().Applied }

// Delivered returns the log index of the last delivery.
func (g *Group) Delivered() uint64 { return g.delivered }
