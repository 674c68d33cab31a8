package concordat_test

import (
	"testing"

	"github.com/concordatdb/concordat"
)

// A member that is frozen hears nobody, and does not say of the dead that they
// are ONLINE: who looks there decides whether to give up a plan.
func TestFrozenHearsNobody(t *testing.T) {
	t.Parallel()
	g, _ := frozenOfFour(t, neverExpel)
	s := g.nodes[1].Status()
	for _, m := range s.View.Members {
		own := m.UUID == s.Member
		if own != (m.State == concordat.Online) || own == (m.State == concordat.Unreachable) || own == (m.Heard == concordat.NotHeard) {
			t.Errorf("%s is %s, heard %v ago", m.UUID, m.State, m.Heard)
		}
	}
	if s.Outlook.Reachable != 1 || s.Outlook.Tolerance != 0 || s.Waiting != "" || s.Diagnosis.Code != "FROZEN" {
		t.Errorf("%+v, waits for %q, %v", s.Outlook, s.Waiting, s.Diagnosis)
	}
}
