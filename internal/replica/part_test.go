package replica

import (
	"slices"
	"testing"
	"testing/cryptotest"

	"github.com/concordatdb/concordat/gtid"
)

// TestPartOfAnEntry starts a member whose engine was interrupted inside of an
// entry: it applies the rest of that, and judges all of it as before.
func TestPartOfAnEntry(t *testing.T) {
	cryptotest.SetGlobalRandom(t, 1)
	for part := range uint64(4) {
		m := newFounder(t, settings{})
		m.tick(40)
		before := m.position.Index
		// The second one loses to the first: what is not certified does not count.
		m.step(m.transaction(1, gtid.Set{}, "a", 1), m.transaction(2, gtid.Set{}, "lost", 1),
			m.transaction(3, gtid.Set{}, "b", 2), m.transaction(4, gtid.Set{}, "c", 3))
		entry := m.position.Index
		if got := m.payloads(); entry != before+1 || !slices.Equal(got, []string{"a", "b", "c"}) {
			t.Fatalf("%q after %d entries", got, entry-before)
		}
		m.step(m.transaction(5, gtid.Set{}, "d", 4))
		verdicts, executed := m.verdicts, m.executed
		m.part = part
		m.restart(before)
		m.tick(40)
		if got, want := m.payloads(), []string{"a", "b", "c", "d"}[part:]; !slices.Equal(got, want) {
			t.Errorf("with %d of the entry: %q is applied, want %q", part, got, want)
		}
		if !slices.Equal(m.verdicts[entry], verdicts[entry]) || m.executed[entry] != executed[entry] {
			t.Errorf("with %d of the entry: %v %v, want %v %v", part, m.verdicts[entry], m.executed[entry], verdicts[entry], executed[entry])
		}
		if b := m.batches[len(m.batches)-1]; m.state() != Online || b.to.Part != 0 || !b.to.Executed.Equal(m.replica.cert.Executed()) {
			t.Errorf("with %d of the entry: %v at %v", part, m.state(), b.to)
		}
	}
}
