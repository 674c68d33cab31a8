package gcs

import (
	"fmt"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// NextDelivery takes the next committed log entry. ok is false when there is
// none for now. The messages stay valid, the slice of them only until the next
// call of NextDelivery or Receive.
func (g *Group) NextDelivery() (d Delivery, ok bool) {
	if len(g.applying) == 0 || g.failure != nil {
		return Delivery{}, false
	}
	m := g.applying[0]
	e := m.GetEntries()[g.cursor]
	g.cursor++
	if g.delivered+1 != e.GetIndex() {
		panic(fmt.Sprintf("gcs: entry %d delivered after %d", e.GetIndex(), g.delivered))
	}
	g.delivered = e.GetIndex()
	g.past.terms = noteTerm(g.past.terms, e.GetTerm(), e.GetIndex())
	d = g.deliver(e)
	if g.cursor == len(m.GetEntries()) {
		// A membership change has been applied to raft by now, as it must be
		// before raft hears that the entry was.
		g.applying[0] = nil
		g.applying, g.cursor = g.applying[1:], 0
		g.Written(m.GetResponses())
	}
	return d, true
}

// Upcoming returns the index of the entry that NextDelivery takes next, 0 for none,
// and the origin and the first message of what that delivers, nil for none.
func (g *Group) Upcoming() (index, origin uint64, first []byte) {
	if len(g.applying) == 0 || g.failure != nil {
		return 0, 0, nil
	}
	e := g.applying[0].GetEntries()[g.cursor]
	if e.GetType() != raftpb.EntryNormal || len(e.GetData()) == 0 {
		return e.GetIndex(), 0, nil
	}
	h, first := frameHead(e.GetData())
	if first == nil || g.fifo.expected(h) != h.seq {
		return e.GetIndex(), 0, nil
	}
	return e.GetIndex(), h.origin, first
}

func (g *Group) deliver(e *raftpb.Entry) Delivery {
	d := Delivery{Index: e.GetIndex(), Term: e.GetTerm()}
	switch {
	case e.GetType() == raftpb.EntryConfChangeV2:
		d.View = g.deliverChange(e)
	case len(e.GetData()) > 0:
		g.deliverFrame(e.GetData(), &d)
	}
	return d
}

// deliverFrame fills d with the messages of a frame that is its origin's next.
// Any other one is passed over, by every member alike: a repetition, one that came
// before another that it follows, or one that no leader should have let through.
func (g *Group) deliverFrame(entry []byte, d *Delivery) {
	h, msgs, err := decodeFrame(entry, g.scratch)
	g.scratch = msgs
	if err != nil {
		return
	}
	own := h.origin == g.id.RaftID && h.session == g.id.Session
	if !g.fifo.accept(h) {
		if own {
			g.sender.passOver(h.seq)
		}
		return
	}
	if own {
		g.sender.delivered(h.seq)
	}
	d.Messages, d.Origin, d.Session = msgs, h.origin, h.session
}

// deliverChange applies a membership change, or refuses it as every member
// does. It returns the new view, nil when it stays as it is.
func (g *Group) deliverChange(e *raftpb.Entry) *View {
	cc := &raftpb.ConfChangeV2{}
	if err := proto.Unmarshal(e.GetData(), cc); err != nil {
		return nil
	}
	change, err := decodeChange(cc.GetContext())
	if err != nil {
		return nil
	}
	view, err := g.applied(change, e.GetIndex())
	if err != nil {
		return nil
	}
	if change.Kind == Forced && g.id.outlived(g.view.Incarnation) {
		g.fail(fmt.Errorf("%w: it goes on in incarnation %s, this member is of %s; remove its directory and join it anew",
			ErrOtherGroup, view.Incarnation, g.id.Incarnation))
		return nil
	}
	gone := g.view.gone(view)
	g.configure(view)
	g.view = view
	g.past.add(view)
	g.fifo.align(view)
	g.detector.align(g.id.RaftID, view)
	g.countQuorum()
	g.changeAt = 0
	g.departed.remove(view)
	for _, id := range gone {
		g.departed.add(id)
		delete(g.reports, id)
		delete(g.stalled, id)
		delete(g.leavers, id)
		delete(g.deliveredBy, id)
	}
	g.rounds.again() // it may wait for somebody who is gone, or votes no more
	g.rounds.forget(gone)
	if len(gone) > 0 {
		g.left = e.GetIndex()
		g.settle(g.left)
	}
	return &view
}

// configure tells raft what the next view says, not what the entry says: were
// the two ever to disagree, the member would vote by another list than it shows.
// raft is told of one node at a time, for several at once would make it hold
// votes of its own about the change. That is safe for all kinds: in one entry
// of the log at most one voter differs, but for a Forced view, which nobody
// votes on.
func (g *Group) configure(next View) {
	has := g.view.confState()
	for _, step := range g.view.steps(next) {
		has = g.raft.ApplyConfChange(&raftpb.ConfChangeV2{Changes: []*raftpb.ConfChangeSingle{step}})
	}
	if !next.agrees(has) {
		g.fail(fmt.Errorf("%w: raft has the configuration %v, %s stands for %v", ErrState, has, next, next.confState()))
	}
}

// applied is the view that c makes of the present one. A raft id that left
// does not come back: what is still on its way from and to it would be taken
// for the new member's, and nobody listens to it.
func (g *Group) applied(c Change, index uint64) (View, error) {
	if (c.Kind == Joined || c.Kind == Replaced) && g.departed.has(c.Member.RaftID) {
		return View{}, &RefusedChangeError{Change: c, Reason: "its raft id has left the group; draw a new one"}
	}
	return g.view.Apply(c, index)
}
