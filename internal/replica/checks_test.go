package replica

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/cryptotest"

	"github.com/concordatdb/concordat/applier"
	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/internal/statecheck"
)

// slice hashes the payloads that the engine shows, each as a pair of ten bytes.
func (m *member) slice(t *CheckTask) (s applier.Slice) {
	held := m.payloads()
	slices.Sort(held)
	budget := t.Budget
	for _, payload := range held {
		at := applier.Place{Table: applier.Table{Schema: "test", Name: "payloads"}, Key: []byte(payload)}
		if m.harm != nil {
			payload = m.harm(payload)
		}
		if payload == "" || at.Compare(t.From) < 0 {
			continue
		}
		sum := uint64(len(payload))<<32 + uint64(payload[len(payload)-1])
		s.Sums[applier.SumOf(at.Key)] += sum
		s.Pairs = append(s.Pairs, applier.PairSum{Place: at, Sum: sum})
		if budget -= 10; budget <= 0 {
			s.Next = at.After()
			break
		}
	}
	return s
}

// commits has a member commit so many transactions, and time pass between them.
func (w *world) commits(by *member, n int) {
	for range n {
		w.ids++
		by.step(by.transaction(w.ids, gtid.Set{}, fmt.Sprintf("p%05d", w.ids)))
		w.tick(1)
	}
}

func checkedGroup(t *testing.T) *world {
	t.Helper()
	cryptotest.SetGlobalRandom(t, 1)
	return newGroup(t, settings{check: 5})
}

// TestCheckFindsNothing goes through all data again and again.
func TestCheckFindsNothing(t *testing.T) {
	w := checkedGroup(t)
	w.commits(w.members[1], 200)
	for _, m := range w.members {
		s := m.replica.Status().Checks
		if len(m.findings) > 0 || s.Checks < 30 || s.Passes < 2 || s.Agreed < 2 {
			t.Errorf("member %d has found %+v by %+v", m.identity.RaftID, m.findings, s)
		}
	}
}

// TestCheckNames has one member's disk lose a pair, change it, and make one up.
func TestCheckNames(t *testing.T) {
	for _, odd := range []int{0, 2} { // the leader, and another one
		for name, harm := range map[string]func(string) string{
			"lost":    func(string) string { return "" },
			"changed": func(p string) string { return p + "x" },
		} {
			t.Run(fmt.Sprintf("%s %d", name, odd), func(t *testing.T) {
				w := checkedGroup(t)
				w.commits(w.members[1], 20)
				victim := w.members[1].payloads()[7]
				blamed := w.members[odd]
				blamed.harm = func(p string) string {
					if p == victim {
						return harm(p)
					}
					return p
				}
				w.commits(w.members[1], 30)
				for _, m := range w.members {
					if len(m.findings) < 2 {
						t.Fatalf("member %d has found %+v", m.identity.RaftID, m.findings)
					}
					first, f := m.findings[0], m.findings[1]
					if f.Member.RaftID != blamed.identity.RaftID || first.Member != f.Member || first.Named || !f.Named ||
						len(f.Keys) != 1 || string(f.Keys[0].Place.Key) != victim {
						t.Errorf("member %d has found %+v", m.identity.RaftID, f)
					}
					if want := m == blamed; (m.exit == ExitDiffers) != want || !want && m.exit != ExitNone {
						t.Errorf("member %d is out: %d", m.identity.RaftID, m.exit)
					}
				}
				blamed.exit = ExitNone
				blamed.restart(blamed.position.Index)
				w.tick(2)
				if blamed.exit != ExitDiffers {
					t.Error("who is blamed goes on after a restart")
				}
			})
		}
	}
}

// TestCheckAfterRestart has a member fall back behind a check that the others have
// answered: it comes to the same position again, and answers there.
func TestCheckAfterRestart(t *testing.T) {
	w := checkedGroup(t)
	m := w.members[2]
	w.commits(w.members[0], 4)
	m.held = true
	before := w.members[0].replica.Status().Checks.Checks
	w.commits(w.members[0], 3)
	if now := w.members[0].replica.Status().Checks; now.Checks != before+1 || now.Agreed != 2 {
		t.Fatalf("the check is %+v", now)
	}
	m.held = false
	m.restart(0)
	w.tick(40)
	for _, m := range w.members {
		if s := m.replica.Status().Checks; s.Agreed != 3 || len(m.findings) > 0 {
			t.Errorf("member %d knows %+v", m.identity.RaftID, s)
		}
	}
}

// TestCheckState has the state of checks survive in a checkpoint, and a blamed
// member know from it that it is.
func TestCheckState(t *testing.T) {
	w := checkedGroup(t)
	blamed := w.members[2]
	w.commits(w.members[0], 3)
	blamed.harm = func(p string) string { return strings.ToUpper(p) + "!" }
	w.commits(w.members[0], 10)
	r := w.members[0].replica
	c := r.serialise()
	cfg := w.members[0].config()
	cfg.Group.Checkpoint, cfg.Group.Applied = c, c.Index
	again, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if !again.checks.state.Blamed(blamed.identity.RaftID) || len(again.Status().Checks.Findings) == 0 {
		t.Errorf("restored: %+v", again.Status().Checks)
	}
}

// TestChecksOff has none where the settings say so, or the member cannot hash.
func TestChecksOff(t *testing.T) {
	cryptotest.SetGlobalRandom(t, 1)
	w := newGroup(t, settings{})
	w.commits(w.members[0], 50)
	if s := w.members[0].replica.Status().Checks; s.Checks != 0 {
		t.Errorf("there were checks: %+v", s)
	}
}

// TestForeignChecks passes over what is none.
func TestForeignChecks(t *testing.T) {
	w := checkedGroup(t)
	m := w.members[0]
	for _, msg := range [][]byte{
		{kindCheck},
		{kindCheck, 9, 9},
		{kindChecked},
		{kindChecked, checkedAnswer},
		{kindChecked, checkedDetail, 1},
		{kindChecked, 7},
		statecheck.AppendAnswer([]byte{kindChecked, checkedAnswer}, statecheck.Answer{Number: 77}),
	} {
		m.replica.submit(localMessage{}, msg)
		m.step()
	}
	w.commits(m, 12)
	if s := m.replica.Status().Checks; s.Checks == 0 || len(s.Findings) > 0 {
		t.Errorf("checks are %+v", s)
	}
}
