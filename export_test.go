package concordat

import (
	"github.com/concordatdb/concordat/applier"
	"github.com/concordatdb/concordat/election"
	"github.com/concordatdb/concordat/gtid"
)

// PendingCommits is how many places for commits are taken.
func PendingCommits(n *Node) int { return n.cfg.MaxPendingCommits - n.commits.free() }

func (a *admission) free() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.calls
}

// GivenAgain is what an engine is given anew of what it was given, without one
// transaction.
func GivenAgain(e applier.Engine, given []applier.Batch, without gtid.GTID) []applier.Batch {
	f := &feeding{life: &life{node: &Node{engine: e}}, under: given}
	return f.again(without)
}

// LogFirst is the first log index that a member keeps.
func LogFirst(n *Node) uint64 {
	first, _ := n.log.FirstIndex()
	return first
}

// AsBuild makes of c the configuration of a member of another build, which speaks
// the protocols up to newest.
func AsBuild(c *Config, version string, newest election.Protocol) {
	v, err := election.ParseVersion(version)
	if err != nil {
		panic(err)
	}
	c.build = build{version: v, oldest: election.FirstProtocol, newest: newest}
}
