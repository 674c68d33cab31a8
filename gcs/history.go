package gcs

import (
	"slices"

	"github.com/concordatdb/concordat/gtid"
)

// ViewRecord is what is remembered of a view: when it began, and why.
type ViewRecord struct {
	ID          uint64
	Index       uint64 // log index of the entry that began it
	Incarnation gtid.UUID
	Cause       Change
}

// viewRecords bounds how many views are remembered, the present one among them.
const viewRecords = 64

// past is what is remembered of how the log came to where it is. It is part of
// the replicated state, so that it survives a restart and comes with a clone.
type past struct {
	views []ViewRecord // oldest first, the present one last
	terms []TermRun    // oldest first
}

func (p *past) add(v View) {
	p.views = append(p.views, v.record())
	if len(p.views) > viewRecords {
		p.views = slices.Delete(p.views, 0, len(p.views)-viewRecords)
	}
}

// History returns the last views of the group, oldest first, the present one
// last. The slice is the caller's.
func (g *Group) History() []ViewRecord { return slices.Clone(g.past.views) }

// tookOut returns the kind of the change that took out a member that is not in
// the view; 0 if that is not remembered.
func (p *past) tookOut(id uint64) (kind ChangeKind) {
	for _, v := range slices.Backward(p.views) {
		c := &v.Cause
		switch {
		case c.Kind == Forced && kind == 0:
			kind = Forced // unless it was out before
		case c.Kind == Replaced && c.Replaces == id, c.Kind.takesOut() && c.Member.RaftID == id && c.Kind != Replaced:
			return c.Kind
		case c.Member.RaftID == id:
			return kind // it came in or was promoted here, and an earlier exit was not its last
		}
	}
	return kind
}

func (v View) record() ViewRecord {
	return ViewRecord{ID: v.ID, Index: v.Index, Incarnation: v.Incarnation, Cause: v.Cause}
}

// flawOfHistory says why no group can have had these views, "" when one can.
func flawOfHistory(views []ViewRecord) string {
	switch {
	case len(views) == 0 || views[0].ID == 0:
		return "the group has no history"
	case len(views) < viewRecords && views[0].ID != 1:
		return "the first view of the history is missing"
	}
	for i, v := range views {
		switch {
		case v.Cause.Kind < Bootstrapped || v.Cause.Kind > Forced:
			return "a view began for no known reason"
		case (v.Cause.Kind == Bootstrapped) != (v.ID == 1):
			return "only the first view founds the group"
		case v.Cause.misfit() != "":
			return "the cause of a view: " + v.Cause.misfit()
		case i == 0:
			continue
		}
		before := views[i-1]
		switch {
		case v.ID != before.ID+1 || v.Index <= before.Index:
			return "the views do not follow on each other"
		case (v.Cause.Kind == Forced) == (v.Incarnation == before.Incarnation):
			return "only a forced view begins an incarnation"
		}
	}
	return ""
}

// outlived reports whether a view of the history ended an incarnation.
func (p *past) outlived(id Identity) bool {
	for i, v := range p.views[:max(len(p.views), 1)-1] {
		if p.views[i+1].Incarnation != v.Incarnation && id.outlived(v.Incarnation) {
			return true
		}
	}
	return false
}

//	record := uvarint id, index  incarnation(16) change

func appendRecord(b []byte, r ViewRecord) []byte {
	b = appendUvarints(b, r.ID, r.Index)
	b = append(b, r.Incarnation[:]...)
	return appendChange(b, r.Cause)
}

func (d *decoder) record() ViewRecord {
	return ViewRecord{ID: d.uvarint(), Index: d.uvarint(), Incarnation: d.uuid(), Cause: d.change()}
}
