package gcs

import (
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
)

// proposal is a frame on its way into the leader's log.
type proposal struct {
	entry  []byte
	header frameHeader
}

// cutFrames turns what is waiting into frames, as far as the window allows,
// and sends them off. Without a leader nothing is cut: what waits then becomes
// fewer, larger frames later.
func (g *Group) cutFrames() {
	if g.leader == 0 {
		return
	}
	for {
		entry := g.sender.cut()
		if entry == nil {
			return
		}
		g.broadcast(g.sender.header, entry)
	}
}

func (g *Group) broadcast(h frameHeader, entry []byte) {
	if g.leader == g.id.RaftID {
		g.proposals = append(g.proposals, proposal{entry: entry, header: h})
	} else {
		g.send(g.leader, Message{Kind: MessageFrame, Frame: entry})
	}
}

// resend sends the outstanding frames from one on again, in order. Those that
// were not lost are delivered once all the same.
func (g *Group) resend(from uint64) {
	if g.leader == 0 {
		return
	}
	h := g.sender.header
	for _, o := range g.sender.from(from) {
		h.seq = o.seq
		g.broadcast(h, o.entry)
	}
}

// propose hands the frames gathered since the last Flush to raft in one piece,
// so that they leave in one message to each follower.
func (g *Group) propose() {
	if len(g.proposals) == 0 {
		return
	}
	entries := make([]*raftpb.Entry, len(g.proposals))
	for i, p := range g.proposals {
		entries[i] = &raftpb.Entry{Data: p.entry}
	}
	err := g.raft.Step(&raftpb.Message{
		Type: raftpb.MsgProp.Enum(), From: new(g.id.RaftID), Entries: entries,
	})
	if err != nil {
		for _, p := range g.proposals {
			g.refuse(p.header)
		}
	}
	clear(g.proposals)
	g.proposals = g.proposals[:0]
}

func (g *Group) refuse(h frameHeader) {
	r := Refusal{Session: h.session, Seq: h.seq, Expected: g.fifo.expected(h), Leader: g.leader}
	if h.origin == g.id.RaftID {
		g.receiveRefusal(g.id.RaftID, r)
	} else {
		g.send(h.origin, Message{Kind: MessageRefusal, Refusal: r})
	}
}

// receiveFrame proposes another member's frame. The whole frame is checked
// here, because once it is in the log every member has to live with it.
func (g *Group) receiveFrame(from uint64, entry []byte) {
	h, msgs, err := decodeFrame(entry, g.scratch)
	g.scratch = msgs
	if err != nil || h.origin != from {
		return
	}
	expected := g.fifo.expected(h)
	if g.role != raft.StateLeader || expected == 0 {
		g.refuse(h)
		return
	}
	if expected > h.seq {
		return // a repetition of what was delivered; the origin will see it
	}
	g.proposals = append(g.proposals, proposal{entry: entry, header: h})
}

// receiveRefusal makes a later tick send again. Not at once: a leader that
// refuses for lack of room, or a member that has just lost the lead, would get
// the same frames back in a tight circle. What an earlier leader refuses has
// gone to the present one.
func (g *Group) receiveRefusal(from uint64, r Refusal) {
	if r.Session == g.sender.header.session && from == g.leader {
		g.sender.refuse(r.Seq)
	}
}
