package concordat

// PendingCommits is how many places for commits are taken.
func PendingCommits(n *Node) int { return n.cfg.MaxPendingCommits - n.commits.free() }

func (a *admission) free() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.calls
}
