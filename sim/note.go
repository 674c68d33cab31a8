package sim

import (
	"errors"

	"github.com/concordatdb/concordat/internal/forced"
)

// note is what a member keeps on its disk beside its log: the log's record.
//
//	note := nothing | clone(1) plan
type note struct {
	clone bool          // whatever it holds is to be replaced by a clone
	plan  forced.Record // its part in a plan of force-members
}

var errNote = errors.New("sim: malformed note")

func (n *note) encode() []byte {
	plan := n.plan.Append(nil)
	switch {
	case n.clone:
		return append([]byte{1}, plan...)
	case len(plan) > 0:
		return append([]byte{0}, plan...)
	}
	return nil
}

func decodeNote(b []byte) (n note, err error) {
	if len(b) == 0 {
		return n, nil
	}
	if b[0] > 1 {
		return n, errNote
	}
	n.clone = b[0] == 1
	n.plan, err = forced.DecodeRecord(b[1:])
	return n, err
}
