package concordat

import (
	"context"
	"time"
)

// SetPatience sets how long a member that is asked for a step of force-members
// is given by this one.
func SetPatience(n *Node, d time.Duration) { n.patience = patience{survey: d, step: d} }

// LetGo has the group let a member go, and leaves its node open.
func LetGo(ctx context.Context, n *Node) error { return n.letGo(ctx, n.life.Load()) }

// EndedOnRecord is the incarnation that a member was left out of, empty for none.
func EndedOnRecord(n *Node) string { return n.recordNow().Ended }
