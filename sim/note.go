package sim

import (
	"errors"

	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/internal/forced"
)

// note is what a member keeps on its disk beside its log: the log's record.
//
//	note := nothing | clone(1) ended(16) plan
type note struct {
	clone bool // whatever it holds is to be replaced by a clone
	// ended is the incarnation that the member was left out of by one that came
	// after: whoever is still of it cannot judge what the member holds.
	ended gtid.UUID
	plan  forced.Record // its part in a plan of force-members
}

var errNote = errors.New("sim: malformed note")

func (n *note) encode() []byte {
	plan := n.plan.Append(nil)
	if !n.clone && n.ended.IsZero() && len(plan) == 0 {
		return nil
	}
	b := []byte{0}
	if n.clone {
		b[0] = 1
	}
	return append(append(b, n.ended[:]...), plan...)
}

func decodeNote(b []byte) (n note, err error) {
	if len(b) == 0 {
		return n, nil
	}
	if len(b) < 1+len(n.ended) || b[0] > 1 {
		return n, errNote
	}
	n.clone = b[0] == 1
	copy(n.ended[:], b[1:])
	n.plan, err = forced.DecodeRecord(b[1+len(n.ended):])
	return n, err
}
