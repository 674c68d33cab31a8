package concordat

// PendingCommits is how many places for commits are taken.
func PendingCommits(n *Node) int { return len(n.commits) }
