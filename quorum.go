package concordat

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// gate lets calls know at once when the quorum is lost.
type gate struct {
	mu   sync.Mutex
	open bool
	shut chan struct{} // closed while there is no quorum; nil before the first set
}

// errQuorumLost is why nobody waits for an answer any more. It is not
// [ErrNoQuorum], which says that nothing has happened.
var errQuorumLost = errors.New("the quorum was lost meanwhile")

// set tells whether there is a quorum.
func (g *gate) set(quorum bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case quorum == g.open && g.shut != nil:
		return
	case g.shut == nil:
		g.shut = make(chan struct{})
	case quorum:
		g.shut = make(chan struct{})
	}
	if g.open = quorum; !quorum {
		close(g.shut)
	}
}

// lost returns what is closed when the quorum is lost, for a call that does not
// say itself how long it waits. One whose context has a deadline waits until
// then for the quorum to come back, and gets a channel that never closes.
func (g *gate) lost(ctx context.Context) <-chan struct{} {
	if _, patient := ctx.Deadline(); patient {
		return nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.shut
}

// quorate returns nil if this member hears a majority of its group. If it does
// not, a call with a deadline waits for that until then, and one without fails
// as soon as that is known: in a minority nobody waits without end.
func (n *Node) quorate(ctx context.Context) error {
	s := n.known()
	if s.Quorum {
		return nil
	}
	if _, patient := ctx.Deadline(); patient || s.QuorumUnknown {
		err := n.changed.until(ctx, func() bool {
			s = n.known()
			return s.Quorum || !patient && !s.QuorumUnknown || n.serving() != nil
		})
		switch {
		case err != nil:
			return fmt.Errorf("%w; nothing happened: %s: %w", ErrNoQuorum, n.Status().Diagnosis.Text, err)
		case s.Quorum || n.serving() != nil:
			return n.serving()
		}
	}
	return fmt.Errorf("%w; nothing happened: %s", ErrNoQuorum, n.Status().Diagnosis.Text)
}
