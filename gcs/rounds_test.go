package gcs

import (
	"encoding/binary"
	"testing"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"pgregory.net/rapid"
)

// However many ask, one round at a time makes sure of the lead.
func TestRoundsAreShared(t *testing.T) {
	w := reading(t, 3)
	first := w.member(1)
	w.ask(first)
	w.pump(first)
	rounds := first.group.rounds.number
	held := w.take(func(envelope) bool { return true })
	for range 20 {
		w.ask(first)
		for n := uint64(2); n <= 3; n++ {
			first.group.Receive(n, Message{Kind: MessageRead, Read: ReadID{Session: 1, Batch: 7}})
			w.pump(first)
		}
	}
	if got := first.group.rounds; got.number != rounds || len(got.in) != 1 || len(got.waiting) != 2 {
		t.Errorf("after %d rounds there are %+v", rounds, got)
	}
	w.wire = append(w.wire, held...)
	w.settle()
	if got := first.group.rounds.number - rounds; got != 1 {
		t.Errorf("%d more rounds answer them", got)
	}
	if got := first.open(); got != nil {
		t.Errorf("there is no answer to %v", got)
	}
}

// A round that waits for a member which then goes, and leaves nobody behind but
// the leader, is not waited for for ever.
func TestRoundOutlivesItsVoters(t *testing.T) {
	w := reading(t, 2)
	first := w.member(1)
	w.ask(first)
	w.pump(first)
	first.group.Change(Change{Kind: Removed, Member: online(2)})
	w.pump(first)
	for len(w.wire) > 0 {
		w.take(confirms)
		for _, e := range w.take(func(envelope) bool { return true }) {
			w.hand(e)
		}
	}
	if got := len(first.group.View().Members); got != 1 || !first.leading {
		t.Fatalf("%s, leading %v", first.group.View(), first.leading)
	}
	if got := first.open(); got != nil {
		t.Errorf("there is no answer to %v", got)
	}
}

// A round that was given up answers nobody, though raft confirms it: those who
// asked since it began are in the next.
func TestRoundThatWasGivenUp(t *testing.T) {
	w := reading(t, 3)
	first, second := w.member(1), w.member(2)
	w.ask(first)
	w.pump(first)
	w.take(func(e envelope) bool { return e.to == 3 })
	for _, e := range w.take(func(envelope) bool { return true }) {
		w.hand(e)
	}
	held := w.take(confirms)
	w.load(first, 1)
	w.settle()
	first.group.rounds.again()
	w.ask(second)
	w.pump(second)
	for _, e := range w.take(isKind(MessageRead)) {
		w.hand(e)
	}
	if got := first.group.rounds; got.number != 2 || len(got.in) != 2 {
		t.Fatalf("the rounds are %+v", got)
	}
	for _, e := range held {
		w.hand(e)
	}
	if got := first.group.rounds; !got.open || len(got.in) != 2 || first.open() == nil {
		t.Errorf("after the first round is confirmed they are %+v", got)
	}
	w.settle()
	if first.open() != nil || second.open() != nil {
		t.Errorf("there is no answer to %v and %v", first.open(), second.open())
	}
}

// A leader that has given up, and has not looked since, begins no round.
func TestLeaderThatHasJustGivenUpBeginsNoRound(t *testing.T) {
	w := reading(t, 3)
	g := w.member(1).group
	g.Receive(2, Message{Kind: MessageRead, Read: ReadID{Session: 1, Batch: 1}})
	for g.raft.BasicStatus().RaftState == raft.StateLeader {
		g.Tick() // it hears nobody
	}
	if g.beginRound(); g.rounds.open || g.role != raft.StateLeader {
		t.Errorf("the rounds are %+v, its role %v", g.rounds, g.role)
	}
}

// An answer to a heartbeat that speaks of a round which was never begun is not
// for raft, in which two of them are a panic.
func TestRoundsThatWereNeverBegun(t *testing.T) {
	w := reading(t, 3)
	g := w.member(1).group
	dropped := g.Status().Dropped
	w.ask(w.member(1))
	w.pump(w.member(1))
	for _, mark := range []uint64{2, 1 << 40} {
		for from := uint64(2); from <= 3; from++ {
			g.Receive(from, Message{Kind: MessageRaft, Raft: &raftpb.Message{
				Type: raftpb.MsgHeartbeatResp.Enum(), From: new(from), To: new(uint64(1)), Term: new(g.Status().Term),
				Context: binary.LittleEndian.AppendUint64(nil, mark),
			}})
			w.pump(w.member(1))
		}
	}
	if got := g.Status().Dropped - dropped; got != 4 || w.member(1).open() == nil {
		t.Errorf("%d were kept from raft, unanswered are %v", got, w.member(1).open())
	}
	w.settle()
	if w.member(1).open() != nil || g.Status().Dropped != dropped+4 {
		t.Errorf("unanswered are %v, %d were dropped", w.member(1).open(), g.Status().Dropped-dropped)
	}
}

// The requests that a leader holds, against a list of all that came.
func TestRoundsAgreeWithTheObvious(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var r rounds
		newest := map[uint64]ReadID{} // of each member, since it was answered
		inRound := map[request]bool{}
		draw := func(t *rapid.T) request {
			return request{from: rapid.Uint64Range(1, 3).Draw(t, "from"), id: ReadID{
				Session: rapid.Uint64Range(1, 2).Draw(t, "session"), Batch: rapid.Uint64Range(1, 3).Draw(t, "batch"),
			}}
		}
		note := func(q request) {
			if old, ok := newest[q.from]; !ok || old.Session < q.id.Session || old.Session == q.id.Session && old.Batch < q.id.Batch {
				newest[q.from] = q.id
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"ask": func(t *rapid.T) {
				q := draw(t)
				r.add(q)
				if !inRound[q] {
					note(q)
				}
			},
			"begin": func(*rapid.T) {
				if !r.open && len(r.waiting) > 0 {
					r.in, r.waiting, r.open = r.waiting, r.in[:0], true
					for from, id := range newest { // order-free: a set
						inRound[request{from, id}] = true
					}
					clear(newest)
				}
			},
			"end": func(*rapid.T) {
				r.in, r.open = r.in[:0], false
				clear(inRound)
			},
			"again": func(*rapid.T) {
				r.again()
				for q := range inRound { // order-free: the newest of each
					note(q)
				}
				clear(inRound)
			},
			"go": func(t *rapid.T) {
				id := rapid.Uint64Range(1, 3).Draw(t, "gone")
				r.again()
				r.forget([]uint64{id})
				for q := range inRound { // order-free: the newest of each
					note(q)
				}
				clear(inRound)
				delete(newest, id)
			},
			"": func(t *rapid.T) {
				if len(r.waiting) != len(newest) || len(r.in) != len(inRound) {
					t.Fatalf("%+v, want %v in the round and %v after it", r, inRound, newest)
				}
				for _, q := range r.waiting {
					if newest[q.from] != q.id {
						t.Fatalf("%+v waits, want %v", q, newest)
					}
				}
				for _, q := range r.in {
					if !inRound[q] {
						t.Fatalf("%+v is in the round, want %v", q, inRound)
					}
				}
			},
		})
	})
}
