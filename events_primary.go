package concordat

import (
	"cmp"

	"github.com/concordatdb/concordat/election"
	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/internal/replica"
)

// noteElections puts into the history what the group has decided of its primary.
func (n *Node) noteElections(e *replica.Effects) {
	for i := range e.Epochs {
		n.noteEpoch(&e.Epochs[i])
	}
	for i := range e.Ended {
		o := &e.Ended[i]
		n.note(EventActionEnded, o.Asker, "%s %s: %s: %s", o.Kind, o.ID, o.Result, o.Text)
	}
}

func (n *Node) noteEpoch(e *election.Epoch) {
	if e.Cause == election.SwitchedSingle || e.Cause == election.SwitchedMulti {
		n.note(EventModeChanged, e.Primary, "%s mode at log index %d", e.Mode, e.Index)
	}
	switch {
	case e.Mode == MultiPrimary:
		n.note(EventPrimaryChanged, gtid.UUID{}, "epoch %d at log index %d: all ONLINE members of the lowest version write: %s: %s",
			e.Number, e.Index, e.Cause, e.Reason)
	case e.Primary.IsZero():
		n.note(EventNoPrimary, gtid.UUID{}, "epoch %d at log index %d: nobody writes: %s: %s", e.Number, e.Index, e.Cause, e.Reason)
	default:
		n.note(EventPrimaryChanged, e.Primary, "epoch %d at log index %d: %s is primary: %s: %s", e.Number, e.Index, e.Primary, e.Cause, e.Reason)
	}
}

// noteRights puts into the history what has become different for this member.
func (n *Node) noteRights(before, now *known) {
	was, is := &before.Election, &now.Election
	if was.Epoch != 0 && was.Protocol != is.Protocol && is.Protocol != 0 {
		n.note(EventProtocolChanged, gtid.UUID{}, "the group speaks protocol %d, before that %d", is.Protocol, was.Protocol)
	}
	if a := is.Action; a != nil && (was.Action == nil || was.Action.ID != a.ID) {
		m, _ := is.Member(a.Target)
		n.note(EventActionBegun, a.Asker, "%s %s: primary is to be %s: %s", a.Kind, a.ID, m.UUID, cmp.Or(a.Reason, "no reason given"))
	}
	old, _ := n.selfIn(before)
	self, _ := n.selfIn(now)
	switch {
	case now.Alone && !before.Alone:
		n.note(EventPrimaryAlone, n.id.Member,
			"too few of the others have told lately that they hear this primary: nothing that writes begins here, and nothing is acknowledged")
	case before.Alone && !now.Alone && self.Writes:
		n.note(EventPrimaryBack, n.id.Member, "the others hear this primary again")
	}
	if self.Writes && !old.Writes {
		n.note(EventWritable, n.id.Member, "since epoch %d this member may write", self.Since)
	}
}
