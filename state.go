package concordat

import (
	"fmt"
	"sync"

	"github.com/concordatdb/concordat/internal/standing"
)

// stateOfMember is the member's own state. It changes by the table in
// internal/standing and in no other way.
type stateOfMember struct {
	mu  sync.Mutex
	now State // "" before the first, which is OFFLINE
	end bool  // the node is closed; nothing more can happen to it
}

func (s *stateOfMember) get() State {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.now == "" {
		return Offline
	}
	return s.now
}

func (s *stateOfMember) move(t standing.Trigger) (from, to State, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	from = s.now
	if from == "" {
		from = Offline
	}
	if s.end {
		return from, from, true
	}
	s.now, ok = standing.Next(from, t)
	s.end = t == standing.Closed
	return from, s.now, ok
}

// move takes the member to the state that a trigger leads to. A trigger that
// has no meaning in the present state means that this program is wrong, and
// takes the member to ERROR.
func (n *Node) move(t standing.Trigger) {
	from, to, ok := n.own.move(t)
	if !ok {
		n.fail(fmt.Errorf("%q cannot happen to a member that is %s", t, from))
		return
	}
	if from != to {
		n.note(EventState, n.id.Member, "%s, before that %s: %s", to, from, t)
	}
	n.changed.broadcast()
}

func (n *Node) state() State { return n.own.get() }
