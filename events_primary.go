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
		if o.Result != election.Refused && o.Index < o.Ended {
			n.noteBegun(&n.standing.Load().Election, &o.Action) // unless that was seen
		}
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

// noteBegun puts into the history once that an action has begun that waits for
// others.
func (n *Node) noteBegun(e *election.Snapshot, a *election.Action) {
	if n.begun != a.ID {
		n.begun = a.ID
		m, _ := e.Member(a.Target)
		n.note(EventActionBegun, a.Asker, "%s %s: primary is to be %s: %s", a.Kind, a.ID, m.UUID, cmp.Or(a.Reason, "no reason given"))
	}
}

// noteRights puts into the history what has become different for this member.
func (n *Node) noteRights(before, now *known) {
	was, is := &before.Election, &now.Election
	if was.Epoch != 0 && was.Protocol != is.Protocol && is.Protocol != 0 {
		n.note(EventProtocolChanged, gtid.UUID{}, "the group speaks protocol %d, before that %d", is.Protocol, was.Protocol)
	}
	if is.Action != nil {
		n.noteBegun(is, is.Action)
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
	if self.Writes && now.State == replica.Online && !(old.Writes && before.State == replica.Online) {
		n.note(EventWritable, n.id.Member, "since epoch %d this member may write", self.Since)
	}
}
