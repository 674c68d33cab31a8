package sim

import (
	"go.etcd.io/raft/v3/raftpb"

	"github.com/concordatdb/concordat/gcs"
	"github.com/concordatdb/concordat/internal/replica"
)

// network carries messages between members. What it does to a link it does to
// everything on it: messages, questions, and copies of the state.
type network struct {
	world *world
	links map[[2]int]*link
	storm int64 // loss during a storm, in a thousand
}

// link is one direction between two members.
type link struct {
	cuts    int   // partitions that it is cut by
	latest  int64 // when the message sent last arrives
	arrived int64 // when the message that arrived last was sent
}

// lateness is how much later a message comes that comes very late.
var lateness = span{50 * millisecond, 3 * second}

func newNetwork(w *world) network {
	return network{world: w, links: map[[2]int]*link{}}
}

func (n *network) link(from, to *member) *link {
	name := [2]int{from.slot, to.slot}
	l := n.links[name]
	if l == nil {
		l = &link{}
		n.links[name] = l
	}
	return l
}

func (n *network) heal() {
	n.storm = 0
	for _, from := range n.world.members {
		for _, to := range n.world.members {
			n.link(from, to).cuts = 0
		}
	}
}

func (n *network) loss() int64 {
	if n.world.phase != faulty {
		return 0
	}
	return n.world.plan.network.loss + n.storm
}

// carry brings something over a link, if it arrives at all. What takes its time
// has a stream of its own, and holds up nothing else; while there are faults it
// takes the bandwidth of the others all the same.
func (n *network) carry(from, to *member, delay int64, what func()) (sent bool) {
	w := n.world
	l := n.link(from, to)
	if l.cuts > 0 || chance(w.rand, n.loss()) {
		w.report.Faults.Lost++
		return false
	}
	at := w.now + delay + w.plan.network.delay.draw(w.rand)
	if w.phase == faulty && w.plan.network.reorder && chance(w.rand, w.plan.network.late) {
		at += lateness.draw(w.rand)
	}
	if delay == 0 || w.phase == faulty {
		if !w.plan.network.reorder {
			at = max(at, l.latest)
		}
		l.latest = max(l.latest, at)
	}
	sentAt := w.now
	w.after(at-w.now, func() {
		if l.cuts > 0 {
			w.report.Faults.Lost++
			return
		}
		if sentAt < l.arrived {
			w.report.Faults.Overtaken++
		}
		l.arrived = max(l.arrived, sentAt)
		to.running(what)
	})
	return true
}

// send sends a message of a running member. It goes through the codec.
func (n *network) send(from *run, to uint64, m gcs.Message) {
	w := n.world
	if m.Kind == gcs.MessageRefusal {
		w.reached[markRefusal]++
	}
	target := w.byRaft[to]
	if target == nil || target.raftID != to {
		return // it has left; nobody answers under that id any more
	}
	b, err := gcs.AppendMessage(nil, &m)
	if err != nil {
		w.violate("panic", "%s cannot encode a message: %v", from.member.name, err)
		return
	}
	w.trace.send(w, from.member, target, &m, len(b))
	if m.Raft != nil && m.Raft.GetType() == raftpb.MsgVoteResp && !m.Raft.GetReject() {
		w.voted(from)
	}
	arrive := func() { n.arrive(from, target, to, b) }
	if !n.carry(from.member, target, 0, arrive) {
		n.unreachable(from, to, false)
		return
	}
	if w.phase == faulty && chance(w.rand, w.plan.network.repeat) {
		w.report.Faults.Repeated++
		n.carry(from.member, target, 0, arrive)
	}
}

func (n *network) arrive(from *run, target *member, to uint64, b []byte) {
	w := n.world
	switch {
	case target.run == nil || target.raftID != to:
		n.unreachable(from, to, true)
		return
	case target.run.replica == nil:
		if target.run.history == from.history {
			target.run.heard = gcs.Hear(target.run.heard, from.raftID)
		}
		n.unreachable(from, to, false)
		return
	case target.run.history != from.history: // no greeting between two incarnations
		w.reached[markFenced]++
		n.unreachable(from, to, false)
		from.lookAt(target)
		return
	}
	m, err := gcs.DecodeMessage(b)
	if err != nil {
		w.violate("panic", "%s cannot decode a message from %s: %v", target.name, from.member.name, err)
		return
	}
	target.run.tell(replica.Received{From: from.raftID, Message: m})
}

// unreachable may tell the sender of a lost message, and whether nobody listens
// there.
func (n *network) unreachable(from *run, to uint64, refused bool) {
	if !chance(n.world.rand, n.world.plan.network.unnoticed) {
		from.after(n.world.plan.network.delay.draw(n.world.rand), func() {
			from.tell(replica.Unreachable{RaftID: to, Refused: refused})
		})
	}
}
