package gcs

import (
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
)

// owing is the answers that the log's writer owes, oldest first. It may give
// those of several writes at once, but in order, so counting them is enough.
type owing struct{ writes []owed }

type owed struct {
	since     int // tick
	responses int
}

// add notes a write. One that nobody waits for owes nothing.
func (o *owing) add(now, responses int) {
	switch n := len(o.writes); {
	case responses == 0:
	case n > 0 && o.writes[n-1].since == now:
		o.writes[n-1].responses += responses
	default:
		o.writes = append(o.writes, owed{since: now, responses: responses})
	}
}

// answered notes that the oldest responses have come.
func (o *owing) answered(responses int) {
	for responses > 0 && len(o.writes) > 0 {
		n := min(responses, o.writes[0].responses)
		responses -= n
		if o.writes[0].responses -= n; o.writes[0].responses == 0 {
			o.writes = o.writes[1:]
		}
	}
}

// age is how long the oldest answer has been owed.
func (o *owing) age(now int) int {
	if len(o.writes) == 0 {
		return 0
	}
	return now - o.writes[0].since
}

// write puts a write among those for the log's writer.
func (g *Group) write(w Write) {
	g.writes = append(g.writes, w)
	g.owing.add(g.ticks, len(w.Responses))
}

// noteWritten counts the answers of the log's writer. What comes from raft's
// other helper, which applies, is no such answer.
func (g *Group) noteWritten(responses []*raftpb.Message) {
	n := 0
	for _, m := range responses {
		if m.GetType() != raftpb.MsgStorageApplyResp {
			n++
		}
	}
	g.owing.answered(n)
}

// tickRaft moves raft's time on. While the disk stalls, that of a member that
// does not lead stands still: it would campaign for a lead in which it can
// deliver nothing. Nobody waits for it, since its vote and its answer to a
// pre-vote are to be on the disk before they leave.
func (g *Group) tickRaft() {
	if g.report.Stalled && g.role != raft.StateLeader {
		return
	}
	g.raft.Tick()
}

// watchDisk notices that the log's writer is late, and that it is back.
func (g *Group) watchDisk() {
	age := g.owing.age(g.ticks)
	stalled := age >= g.patience.stall
	switch {
	case stalled && !g.report.Stalled:
		g.notice(DiskStalled, g.id.RaftID, "a write of the log has taken %d ticks and is not done", age)
	case !stalled && g.report.Stalled:
		g.notice(DiskBack, g.id.RaftID, "the writes of the log are done again")
	}
	g.report.Stalled = stalled
}

// relieve gives the lead to a member whose disk works, while this one's does
// not: the group could go on without this member's disk, but not this member's
// own callers, nor whoever needs that the leader itself delivers. The others
// must be able to elect somebody without it. A transfer stops all proposals for
// up to an election, so it is not tried all the time.
func (g *Group) relieve() {
	if !g.report.Stalled || g.relieved != 0 && g.ticks-g.relieved < 2*g.patience.stall {
		return
	}
	sound := 0
	for _, m := range g.view.Members {
		if m.State == Online && m.RaftID != g.id.RaftID && g.fit(m.RaftID) {
			sound++
		}
	}
	if heir := g.heir(); heir != 0 && sound >= g.view.Quorum() {
		g.relieved = g.ticks
		g.handOver(heir, "the disk of the log does not answer here")
	}
}
