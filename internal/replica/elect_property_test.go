package replica

import (
	"slices"
	"testing"
	"testing/cryptotest"

	"pgregory.net/rapid"

	"github.com/concordatdb/concordat/certifier"
	"github.com/concordatdb/concordat/election"
	"github.com/concordatdb/concordat/gcs"
)

// drain has every member say that it is done that is asked to be.
func (w *world) drain() {
	for _, m := range w.members {
		a := m.replica.Status().Election.Action
		if a != nil && slices.Contains(a.Pending, m.identity.RaftID) && !m.paused && m.state() == Online {
			m.step(DrainedAsked{Action: a.ID})
		}
	}
}

// TestElectionProperty does whatever may happen to a group that elects. All its
// members see the same elections and verdicts, and when all is well again there
// is somebody to write.
func TestElectionProperty(t *testing.T) {
	kinds := []election.ActionKind{election.SetPrimary, election.SetPrimary, election.ToSingle, election.ToMulti}
	rapid.Check(t, func(rt *rapid.T) {
		cryptotest.SetGlobalRandom(t, 1)
		s := settings{mode: election.SinglePrimary, checkpointBytes: 4 << 10, prefer: rapid.Bool().Draw(rt, "prefer")}
		w := newGroup(t, s)
		w.tick(4)
		lost := map[[2]uint64]bool{}
		w.cut = func(from, to *member, _ gcs.Message) bool {
			return lost[[2]uint64{from.identity.RaftID, to.identity.RaftID}]
		}
		tickets := uint64(0)
		for range rapid.IntRange(1, 50).Draw(rt, "steps") {
			m := w.members[rapid.IntRange(0, 2).Draw(rt, "member")]
			other := w.members[rapid.IntRange(0, 2).Draw(rt, "other")]
			tickets++
			what := rapid.SampledFrom([]string{"commit", "commit", "tick", "tick", "tick", "cut", "silence", "heal", "pause", "wake", "restart", "action", "action", "cancel", "drain", "smuggle"}).Draw(rt, "what")
			switch what {
			case "commit":
				m.step(m.transaction(tickets, m.position.Executed, "x", certifier.Item(tickets)))
			case "smuggle":
				h := Header{ID: w.nextID(), Epoch: rapid.Uint64Range(0, 5).Draw(rt, "epoch")}
				m.smuggle(localMessage{kindTransaction, tickets}, m.submission(tickets, h, "x").Message)
			case "tick":
				w.tick(rapid.IntRange(1, 40).Draw(rt, "ticks"))
			case "cut":
				lost[[2]uint64{m.identity.RaftID, other.identity.RaftID}] = true
			case "silence":
				for id := range uint64(4) {
					lost[[2]uint64{m.identity.RaftID, id}], lost[[2]uint64{id, m.identity.RaftID}] = true, true
				}
			case "heal":
				clear(lost)
			case "pause", "wake":
				m.paused = what == "pause"
				m.step()
			case "restart":
				m.paused = false
				m.restart(max(m.durable, m.position.Index-min(m.position.Index, rapid.Uint64Range(0, 5).Draw(rt, "lost"))))
			case "action":
				ask := m.ask(rapid.SampledFrom(kinds).Draw(rt, "kind"), other, 1000)
				if ask.Action.Kind == election.ToMulti {
					ask.Action.Target, ask.Action.Grace = 0, 0
				}
				m.step(ask)
			case "cancel":
				if a := m.replica.Status().Election.Action; a != nil {
					m.step(CancelAsked{Ticket: tickets, ID: a.ID})
				}
			case "drain":
				w.drain()
			}
		}
		clear(lost)
		for _, m := range w.members {
			m.paused = false
			m.step()
		}
		w.tick(200)
		w.drain()
		w.tick(20)
		first := w.members[0].replica.Status().Election
		for _, m := range w.members {
			s := m.replica.Status()
			if m.state() != Online || s.Alone || s.Outdated != 0 || s.Election.Action != nil || electionText(s.Election) != electionText(first) {
				rt.Fatalf("member %d is %v, alone %t, outdated %d:\n%s\n%s", m.identity.RaftID, m.state(), s.Alone, s.Outdated, electionText(s.Election), electionText(first))
			}
			if first.MayWrite(m.identity.RaftID) {
				m.answers = nil
				if got := m.commit(m.transaction(9999, m.position.Executed, "at last", certifier.Item(1_000_000+m.identity.RaftID))); got != certifier.Certified {
					rt.Fatalf("member %d: %v", m.identity.RaftID, got)
				}
			}
		}
		if p, ok := first.PrimaryMember(); first.Mode == election.SinglePrimary && (!ok || !p.Writes) {
			rt.Fatalf("nobody is primary: %s", electionText(first))
		}
		sameHistory(t, w.members...)
		if t.Failed() {
			rt.Fatal("a promise was broken")
		}
	})
}
