package concordat_test

import (
	"testing"

	"github.com/concordatdb/concordat"
	"github.com/concordatdb/concordat/gtid"
)

// mustOutcome asks for the fate of a transaction and checks its state.
func mustOutcome(t testing.TB, n *concordat.Node, id gtid.UUID, want concordat.OutcomeState) concordat.Outcome {
	t.Helper()
	o, err := n.Outcome(testContext(t), id)
	if err != nil || o.State != want {
		t.Fatalf("outcome of %s: %+v, %v, want %s", id, o, err, want)
	}
	return o
}
