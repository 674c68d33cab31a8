package concordat

// JudgedByGroup keeps a transaction that has touched nothing yet from losing
// early: only certification can refuse it.
func JudgedByGroup(tx *Tx) { tx.node.early.end(tx.running) }

// AskedToGo reports whether Commit has asked to broadcast the transaction, and
// whether that was done: one that has asked in vain is held back.
func AskedToGo(tx *Tx) (asked, gone bool) {
	e := tx.node.early
	e.mu.Lock()
	defer e.mu.Unlock()
	return tx.wake != nil, tx.submitted
}

// Unended is how many transactions that may write the member knows of, and how
// many log indexes they hold.
func Unended(n *Node) (transactions, held int) {
	n.early.mu.Lock()
	transactions = n.early.registry.Len()
	n.early.mu.Unlock()
	n.snapshots.mu.Lock()
	defer n.snapshots.mu.Unlock()
	return transactions, len(n.snapshots.open)
}

// WaitingToSee is how many calls wait until this member shows something.
func WaitingToSee(n *Node) int { return int(n.visible.waiting.Load()) }
