package concordat

// PendingCommits is how many places for commits are taken.
func PendingCommits(n *Node) int { return n.cfg.MaxPendingCommits - n.commits.free() }

func (a *admission) free() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.calls
}

// LogFirst is the first log index that a member keeps.
func LogFirst(n *Node) uint64 {
	first, _ := n.log.FirstIndex()
	return first
}
