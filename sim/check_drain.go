package sim

import (
	"fmt"

	"github.com/concordatdb/concordat/gtid"
)

// drains checks P9's other half: a planned change refuses nothing that had time. A
// transaction that its member handed over before it said that it has drained, with
// nothing left open, is never refused for the want of a right that this change
// took away.
type drains struct {
	indifferent
	history   *history
	primaries *primaries
}

func (*drains) promise() string { return "P9" }

func (c *drains) delivered(by string, e, first *entry) string {
	if first != nil {
		return ""
	}
	for i := range e.judged {
		j := &e.judged[i]
		s := c.history.submits[j.attempt()]
		if s == nil || !fenced(j.verdict) {
			continue
		}
		change, late := c.primaries.group.lostBy(j.origin, s.epoch)
		if change.IsZero() || late {
			continue
		}
		for _, r := range c.history.runs {
			if r.raftID != j.origin || r.session != j.session {
				continue
			}
			for _, d := range r.drains {
				if d.action == change && d.told > 0 && d.idle && s.order <= d.orders {
					return fmt.Sprintf("%s at %d: transaction %s is refused because of planned change %s, but it is number %d of session %x/%d, which said after number %d that it had drained",
						by, e.index, j.id, change, s.order, j.origin, j.session, d.orders)
				}
			}
		}
	}
	return ""
}

// lostBy returns the planned change by which a member lost the right that it had in
// an epoch, the zero id if there is none, and whether the grace was over before all
// had drained.
func (c *electorate) lostBy(id, epoch uint64) (change gtid.UUID, late bool) {
	for n := epoch; n < uint64(len(c.turns)); n++ { // turns count from 1
		if t := &c.turns[n]; !t.writes[id] {
			return t.change, t.late
		}
	}
	return gtid.UUID{}, false
}
