package gcs

import (
	"fmt"

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
	// Leading is true when it is this member that leads, and could take the
	// newcomer in.
	Leading bool
	// Refused says why the newcomer cannot join as it is. Otherwise, and
	// without being Joined, it has to ask again.
	Refused error
	// View is the view at the time of the answer.
	View View
}

// Join asks for a newcomer to be added to the view, in the place of the member
// with raft id replaces if that is not 0. Asking again is harmless. A newcomer
// that has the UUID of a member is that member, back without its log, and takes
// its place. Whoever is to be replaced must not be heard, and as for expulsion
// there must be a majority that is: what is in the log of a minority may come
// true long after anybody wanted it.
func (g *Group) Join(m Member, replaces uint64) JoinAnswer {
	answer, c := g.answerJoin(m, replaces)
	if answer.Leading && answer.Refused == nil && (c.Kind == Joined || g.trustsQuorum()) {
		answer.Refused = g.proposeChange(c)
	}
	return answer
}

// WouldJoin says what Join would, and proposes nothing.
func (g *Group) WouldJoin(m Member, replaces uint64) JoinAnswer {
	answer, _ := g.answerJoin(m, replaces)
	return answer
}

// answerJoin finds the change by which a newcomer would enter. The answer is
// Leading if it is for this member to propose it.
func (g *Group) answerJoin(m Member, replaces uint64) (answer JoinAnswer, c Change) {
	answer.View = g.view
	if known, ok := g.view.Member(m.RaftID); ok && known.UUID == m.UUID {
		answer.Joined = true
		return answer, c
	}
	answer.Leader, _ = g.view.Member(g.leader)
	if g.role != raft.StateLeader {
		return answer, c
	}
	answer.Leading = true
	if replaces == 0 {
		replaces = g.earlier(m)
	}
	if replaces == 0 {
		c = Change{Kind: Joined, Member: m}
	} else {
		c, answer.Refused = g.replacement(m, replaces)
	}
	if answer.Refused == nil {
		_, answer.Refused = g.applied(c, g.delivered)
	}
	return answer, c
}

// Departed reports whether a raft id is one of those that left last. It is not
// told before the log that this member began with is delivered, nor before the
// view with which its incarnation began: either may have the member back, by
// force.
func (g *Group) Departed(id uint64) bool {
	return g.delivered >= g.known && g.arrived() && g.departed.has(id)
}

// arrived reports whether the log has been delivered as far as the incarnation
// that this member's identity names. Until then the view, and who left it, are
// those of an earlier one: whoever talks to this member may be back by force, and
// have the log that says so.
func (g *Group) arrived() bool {
	return g.id.Incarnation.IsZero() || g.view.Incarnation == g.id.Incarnation
}

// earlier is the raft id of a member with the newcomer's UUID, 0 if none.
func (g *Group) earlier(m Member) uint64 {
	for _, other := range g.view.Members {
		if other.UUID == m.UUID {
			return other.RaftID
		}
	}
	return 0
}

// replacement is the change by which a newcomer takes the place of a member. A
// member that is heard keeps it.
func (g *Group) replacement(m Member, replaces uint64) (Change, error) {
	c := Change{Kind: Replaced, Member: m, Replaces: replaces}
	old, known := g.view.Member(replaces)
	switch {
	case !known:
		return c, nil // the view has something to say to that
	case g.detector.silent(replaces):
		c.Reason = clip(fmt.Sprintf("in the place of %s at %s: %s", old.UUID, old.Address, g.evidence(replaces)))
		return c, nil
	case old.UUID == m.UUID:
		return c, &RefusedChangeError{Change: c, Reason: fmt.Sprintf(
			"its UUID is that of the member at %s, which is heard; stop that one, or give this one a UUID of its own", old.Address)}
	}
	return c, &RefusedChangeError{Change: c, Reason: fmt.Sprintf(
		"member %s at %s, which it is to replace, is heard; stop that one first, or remove it", old.UUID, old.Address)}
}

// ChangeAnswer is what a member says to an operator who wants the membership
// changed.
type ChangeAnswer struct {
	// Done is true once the change is in the view.
	Done bool
	// Leader is the member to ask instead, when it is not this one; a member
	// without raft id when there is no leader to name.
	Leader Member
	// Refused says why the change is not possible: a *RefusedChangeError.
	// Otherwise, and without being Done, it has to be asked for again.
	Refused error
	// View is the view at the time of the answer.
	View View
}

// Change asks for a change that an operator orders. It must be Removed, of the
// member that c.Member.RaftID names, heard or not; c.Reason says why. Asking
// again is harmless. As for [Group.Join] there must be a majority that is heard.
// A leader that is to remove itself gives up the lead first.
func (g *Group) Change(c Change) ChangeAnswer {
	answer := ChangeAnswer{View: g.view}
	if c.Kind != Removed {
		answer.Refused = &RefusedChangeError{Change: c, Reason: "an operator can order a member out, and nothing else in this way"}
		return answer
	}
	if g.Departed(c.Member.RaftID) {
		answer.Done = true
		return answer
	}
	if g.role != raft.StateLeader {
		answer.Leader, _ = g.view.Member(g.leader)
		return answer
	}
	answer.Leader, _ = g.view.Member(g.id.RaftID)
	if m, ok := g.view.Member(c.Member.RaftID); ok {
		c.Member = m
	}
	switch _, answer.Refused = g.applied(c, g.delivered); {
	case answer.Refused != nil:
	case c.Member.RaftID == g.id.RaftID:
		g.stepAside("it is to be removed")
	case g.trustsQuorum():
		answer.Refused = g.proposeChange(c)
	}
	return answer
}

// Leave asks the group to take this member out of the view; [Group.Removed]
// tells when that is done. The last ONLINE member cannot leave, only stop: the
// error is a *RefusedChangeError.
func (g *Group) Leave() error {
	self := Member{UUID: g.id.Member, RaftID: g.id.RaftID}
	out := g.removed || g.Departed(self.RaftID)
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

// RemovedBy returns the kind of change by which this member came to be out of
// the group: Left, Expelled, Removed, Replaced or Forced; 0 while it is not out,
// or if those who stay do not remember.
func (g *Group) RemovedBy() ChangeKind { return g.removedBy }

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
	case g.Departed(g.id.RaftID):
		g.askForRelease()
	case !g.leaving || g.leader == 0:
	case g.leader != g.id.RaftID:
		g.send(g.leader, Message{Kind: MessageLeave})
	case g.view.online() > 1:
		g.stepAside("it wants to leave")
	}
}

// stepAside gives up the lead, if there is somebody to have it. It is for ticks
// to repeat; raft ignores what it is doing already.
func (g *Group) stepAside(why string) {
	if heir := g.heir(); heir != 0 {
		g.handOver(heir, why)
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

// heir is the member to have the lead next, 0 if nobody is fit for it. It has
// reported just now, for one that has died meanwhile would cost an election.
func (g *Group) heir() uint64 {
	return g.successor(func(id uint64) bool { return g.ticks-g.reports[id].at <= freshTicks })
}

// successor is the ONLINE member, other than this one, that has most of the log
// among those that are fit to lead and have a property.
func (g *Group) successor(has func(id uint64) bool) uint64 {
	var best, match uint64
	g.raft.WithProgress(func(id uint64, typ raft.ProgressType, pr tracker.Progress) {
		if id != g.id.RaftID && typ == raft.ProgressTypePeer && pr.Match > match && g.fit(id) && has(id) {
			best, match = id, pr.Match
		}
	})
	return best
}

// fit reports whether a member has reported to this leader and can lead: it is
// trusted, its disk works, and it does not want to leave itself. Two that both
// left would hand the lead to each other forever, and neither would have the
// time to let the other go. A member asks to leave in every round of reports,
// until it has thought better of it.
func (g *Group) fit(id uint64) bool {
	r, reported := g.reported(id)
	asked, leaver := g.leavers[id]
	return reported && !r.Stalled && !r.Recovering && !g.detector.suspected(id) && (!leaver || g.ticks-asked > askTicks)
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
	g.relieve()
	g.expel()
	g.followPreferred()
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

// heard is what a member last reported.
type heard struct {
	Report
	before uint64 // what the report before this one had delivered
	at     int    // tick
}

// reported is what a member last reported, if that was since the present leader
// began. What was said before may be long past: who leads anew may have been cut
// off.
func (g *Group) reported(id uint64) (heard, bool) {
	r, ok := g.reports[id]
	if !ok || r.at <= g.since {
		return heard{}, false
	}
	return r, true
}

// caughtUp compares a report with what there was to have when it was made, or
// rather somewhat before: a report is up to a round old, and under load the
// log grows by more than any fixed number of entries in that time. The same
// goes for the engine behind the delivery.
func (g *Group) caughtUp(id uint64) bool {
	r, _ := g.reported(id)
	return r.before > 0 && r.Delivered+PromoteLag >= g.commits[0] && r.Applied+PromoteLag >= r.before
}

// Needed is the log index after which some member of the view needs this
// leader's log to catch up. ok is false when this member does not lead. A member
// that clones comes back with what raft offered it. Who is suspected counts as
// little as it does for [Group.OldestSnapshot].
func (g *Group) Needed() (index uint64, ok bool) {
	if g.role != raft.StateLeader {
		return 0, false
	}
	index = g.delivered
	g.raft.WithProgress(func(id uint64, _ raft.ProgressType, pr tracker.Progress) {
		switch {
		case id == g.id.RaftID || g.detector.suspected(id):
		case pr.State == tracker.StateSnapshot:
			index = min(index, pr.PendingSnapshot)
		default:
			index = min(index, pr.Match)
		}
	})
	return index, true
}

// endSnapshots tells raft of the members that need no snapshot any more, since
// they report that they have cloned what is in it, and has it offer another
// one to those that are back for long and still lack it. While it clones, a
// member reports that it does; the log that it needs then is kept for it.
func (g *Group) endSnapshots() {
	var finished, failed []uint64
	g.raft.WithProgress(func(id uint64, _ raft.ProgressType, pr tracker.Progress) {
		if pr.State != tracker.StateSnapshot {
			delete(g.stalled, id)
			return
		}
		r, _ := g.reported(id)
		if !g.detector.suspected(id) && !r.Recovering {
			g.stalled[id]++
		}
		switch {
		case r.Delivered >= pr.PendingSnapshot:
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

// Report sets what this member tells the others about itself. Delivered, Stalled,
// Session and Hears are known here, and need not be set.
func (g *Group) Report(r Report) {
	r.Delivered, r.Stalled, r.Hears = 0, g.report.Stalled, nil
	r.Fresh = min(r.Fresh, NeverHeard)
	g.report = r
}

// sendReport tells everybody, whoever leads: being heard must not depend on
// there being a leader. One whose log has yet to name the view can only answer
// who leads.
func (g *Group) sendReport() {
	if g.removed || g.Departed(g.id.RaftID) {
		g.sendLeave()
		return
	}
	r := g.report
	r.Delivered, r.Session, r.Hears = g.delivered, g.id.Session, g.detector.hearings()
	for _, m := range g.view.Members {
		if m.RaftID != g.id.RaftID {
			g.send(m.RaftID, Message{Kind: MessageReport, Report: &r})
		}
	}
	if _, known := g.view.Member(g.leader); !known && g.leader != 0 {
		g.send(g.leader, Message{Kind: MessageReport, Report: &r})
	}
	g.sendLeave()
}

func (g *Group) receiveReport(from uint64, r *Report) {
	g.reports[from] = heard{Report: *r, before: g.reports[from].Delivered, at: g.ticks}
	g.noteDelivered(from, r.Delivered)
	if ago := ticksAgo(r.Hears, g.id.RaftID); ago != NeverHeard && ago < uint64(g.ticks) {
		g.detector.answered(from, int(ago))
	}
}

// OldestSnapshot is the log index of the oldest snapshot in use on any member
// of the view that is not suspected. ok is false when this member does not lead
// or somebody has not had the time to report yet. Who is suspected does not
// count: it may be down for good, and nobody must keep anything for it. Nor does
// who clones, for what it is to begin with is no older than its copy.
func (g *Group) OldestSnapshot() (index uint64, ok bool) {
	if g.role != raft.StateLeader {
		return 0, false
	}
	index = g.report.Snapshot
	for _, m := range g.view.Members {
		if m.RaftID == g.id.RaftID || g.detector.suspected(m.RaftID) {
			continue
		}
		r, reported := g.reported(m.RaftID)
		if !reported {
			return 0, false
		}
		if !r.Recovering {
			index = min(index, r.Snapshot)
		}
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
	// Quorum: this member hears, itself included, a majority of the ONLINE
	// members of its view. Who was not heard in this run is not heard.
	Quorum bool
	// QuorumUnknown: it does not yet, and those who have not had the time to be
	// heard would make a majority. Then nobody can say that it has none, either.
	QuorumUnknown bool
	// NoQuorumTicks is for how long it has known of no quorum, 0 for one that is
	// in no view.
	NoQuorumTicks int
	// Stalled: a write of this member's log is overdue.
	Stalled bool
	// Peers are the other members of the view, ascending by raft id, as of the
	// last tick. They must not be changed.
	Peers []Peer
}

// Status returns the member's standing now.
func (g *Group) Status() Status {
	return Status{
		View: g.view, Leader: g.leader, Leading: g.role == raft.StateLeader,
		Delivered: g.delivered, Term: g.raft.BasicStatus().GetTerm(), Dropped: g.dropped,
		Quorum: g.quorum, QuorumUnknown: g.unknown, NoQuorumTicks: g.noQuorum, Stalled: g.report.Stalled, Peers: g.seen(),
	}
}

// View returns the current view.
func (g *Group) View() View { return g.view }

// Consumed returns the log index up to which raft is done with the log here. It
// must not be cut above that: raft looks for membership changes in what it
// believes is not yet applied, and that moves by whole portions only.
func (g *Group) Consumed() uint64 { return g.raft.BasicStatus().Applied }

// Undelivered is how many log entries are known here to be committed, and have not
// been delivered.
func (g *Group) Undelivered() uint64 {
	return max(g.raft.BasicStatus().GetCommit(), g.delivered) - g.delivered
}

// Delivered returns the log index of the last delivery.
func (g *Group) Delivered() uint64 { return g.delivered }
