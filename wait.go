package concordat

import "context"

// WaitState waits until cond holds for the member's state, and returns that
// state, or the cause of ctx. cond is called at once and again after changes;
// a state that lasts a moment only may be missed. After Close, or once the
// group has removed the member, the state is Offline for good; after Error
// only Offline can come.
func (n *Node) WaitState(ctx context.Context, cond func(State) bool) (State, error) {
	var s State
	err := n.changed.until(ctx, func() bool {
		s = n.state()
		return cond(s)
	})
	return s, err
}
