package concordat_test

import (
	"testing"

	"github.com/concordatdb/concordat"
)

// A member that comes back at another address would be found by nobody. It is
// told so, and nothing is lost by it.
func TestMemberMoves(t *testing.T) {
	t.Parallel()
	for size := 1; size <= 3; size += 2 {
		g := openGroup(t, size)
		mustPut(t, g.nodes[0], "k", "v")
		moved := g.nodes[size-1]
		mustClose(t, moved)
		cfg := again(moved, g.cfgs[size-1])
		cfg.Listen = testConfig(t).Listen
		mustRefuse(t, cfg, concordat.ErrDirectory, moved.Address())
		g.nodes[size-1] = reopen(t, moved, g.cfgs[size-1])
		mustAgree(t, g.nodes...)
	}
}
