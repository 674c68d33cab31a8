package replica

import (
	"slices"
	"strings"
	"testing"
	"testing/cryptotest"

	"github.com/concordatdb/concordat/applier"
	"github.com/concordatdb/concordat/certifier"
	"github.com/concordatdb/concordat/gtid"
)

// cannot is the first transaction of a batch that the engine cannot apply.
func (m *member) cannot(b *applier.Batch) (gtid.GTID, applier.Class) {
	if b == nil || m.poison == nil {
		return gtid.GTID{}, applier.ClassNone
	}
	for _, tx := range b.Transactions {
		if class := m.poison(string(tx.Payload)); class != applier.ClassNone && !slices.Contains(m.skips, tx.GTID) {
			return tx.GTID, class
		}
	}
	return gtid.GTID{}, applier.ClassNone
}

func poisoned(payload string) applier.Class {
	if strings.HasPrefix(payload, "bad") {
		return applier.ClassPayload
	}
	return applier.ClassNone
}

// TestFaultOfAll has a transaction that nobody can apply: it is applied nowhere,
// its caller is told, and everything goes on behind it, also with a member that
// restarts, and with one that comes later.
func TestFaultOfAll(t *testing.T) {
	cryptotest.SetGlobalRandom(t, 1)
	w := newGroup(t, settings{})
	for _, m := range w.members {
		m.poison = poisoned
	}
	m := w.members[1]
	w.commits(m, 2)
	bad := m.transaction(77, gtid.Set{}, "bad one")
	id := TransactionID{}
	copy(id[:], bad.Message[1:])
	m.step(bad)
	w.commits(m, 2)
	w.tick(5)
	for _, m := range w.members {
		if got := strings.Join(m.payloads(), " "); strings.Contains(got, "bad") || len(m.payloads()) != 4 || m.stuck || m.exit != ExitNone || len(m.stands) > 0 {
			t.Errorf("member %d shows %q, stuck %t, alone with %v", m.identity.RaftID, got, m.stuck, m.stands)
		}
		m.step(OutcomeAsked{Ticket: 5, ID: id})
		if o := m.outcomes[len(m.outcomes)-1]; !o.Known || o.Fate.Committed || certifier.Outcome(o.Fate.Reason) != certifier.Unapplied {
			t.Errorf("member %d says of it %+v", m.identity.RaftID, o)
		}
		if !m.position.Executed.Contains(m.skips[0]) {
			t.Errorf("its GTID is not used up")
		}
	}
	i := slices.IndexFunc(m.answers, func(a Answer) bool { return a.Ticket == 77 })
	if i < 0 || m.answers[i].Verdict.Outcome != certifier.Unapplied {
		t.Errorf("its caller is told %+v", m.answers)
	}
	m.skips = nil
	m.restart(0)
	w.tick(60)
	late := w.member(4, settings{})
	late.poison = poisoned
	w.join(late)
	for _, m := range []*member{m, late} {
		if got := strings.Join(m.payloads(), " "); strings.Contains(got, "bad") || len(m.payloads()) != 4 || m.state() != Online {
			t.Errorf("member %d shows %q, and is %v", m.identity.RaftID, got, m.state())
		}
	}
}

// TestFaultOfOne has one member that cannot apply what the others can: it fails
// alone, and they go on.
func TestFaultOfOne(t *testing.T) {
	cryptotest.SetGlobalRandom(t, 1)
	w := newGroup(t, settings{})
	odd := w.members[2]
	odd.poison = poisoned
	by := w.members[0]
	by.step(by.transaction(77, gtid.Set{}, "bad for one"))
	w.commits(by, 3)
	w.tick(5)
	if len(odd.stands) != 1 || len(odd.skips) > 0 || !odd.stuck {
		t.Errorf("the odd one stands with %v, and skips %v", odd.stands, odd.skips)
	}
	for _, m := range w.members[:2] {
		if len(m.payloads()) != 4 || m.exit != ExitNone || len(m.stands) > 0 {
			t.Errorf("member %d shows %v", m.identity.RaftID, m.payloads())
		}
	}
	odd.poison = nil // mended
	odd.restart(0)
	w.tick(60)
	if len(odd.payloads()) != 4 || odd.state() != Online {
		t.Errorf("it comes back %v with %v", odd.state(), odd.payloads())
	}
}

// TestFaultOfOthers has one member that can apply what nobody else can: its data
// are not the group's, after a restart neither.
func TestFaultOfOthers(t *testing.T) {
	cryptotest.SetGlobalRandom(t, 1)
	w := newGroup(t, settings{})
	odd := w.members[2]
	for _, m := range w.members[:2] {
		m.poison = poisoned
	}
	by := w.members[0]
	late := w.members[1]
	late.held = true // until the odd one has said that it has applied it
	by.step(by.transaction(77, gtid.Set{}, "bad for two"))
	w.tick(3)
	late.release()
	w.commits(by, 3)
	w.tick(5)
	for _, m := range w.members[:2] {
		if len(m.payloads()) != 3 || m.exit != ExitNone {
			t.Errorf("member %d shows %v, exit %d", m.identity.RaftID, m.payloads(), m.exit)
		}
	}
	if odd.exit != ExitDiffers {
		t.Errorf("the odd one is out: %d", odd.exit)
	}
	odd.exit = ExitNone
	odd.restart(odd.position.Index)
	w.tick(3)
	if odd.exit != ExitDiffers {
		t.Error("it goes on after a restart")
	}
}

// TestFaultWhileRecovering has a member say that it cannot apply a transaction before
// it is ONLINE. That does not count; once it is, it is asked too, and says it again.
func TestFaultWhileRecovering(t *testing.T) {
	cryptotest.SetGlobalRandom(t, 1)
	w := newGroup(t, settings{})
	by, second, silent := w.members[0], w.members[1], w.members[2]
	for _, m := range w.members {
		m.poison = poisoned
	}
	second.held, silent.held = true, true
	by.step(by.transaction(77, gtid.Set{}, "bad one"))
	w.tick(3)
	late := w.member(4, settings{})
	late.poison = poisoned
	w.join(late)
	if late.state() != Online && !late.stuck {
		t.Fatalf("it is %v, and its engine goes on", late.state())
	}
	second.release()
	w.tick(5)
	for _, m := range []*member{by, second, late} {
		if len(m.skips) != 1 || m.stuck || len(m.stands) > 0 {
			t.Errorf("member %d waits %t, was told to leave out %v, and stands with %v", m.identity.RaftID, m.stuck, m.skips, m.stands)
		}
	}
}
