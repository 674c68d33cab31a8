package sim

import (
	"encoding/binary"
	"slices"
	"strings"
	"testing"

	"go.etcd.io/raft/v3/raftpb"
	"pgregory.net/rapid"

	"github.com/concordatdb/concordat/certifier"
	"github.com/concordatdb/concordat/election"
	"github.com/concordatdb/concordat/gcs"
	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/internal/replica"
)

// politics is a record of a group whose members elect, as members do it, and
// broadcast what members broadcast.
type politics struct {
	*record
	state  *election.State
	term   uint64
	seqs   map[uint64]uint64
	views  uint64
	orders map[uint64]int
	done   uint64 // transactions certified
	// tamper spoils what is shown after the next entry.
	tamper func(s *election.Snapshot)
}

func newPolitics(r *record) *politics {
	return &politics{record: r, state: election.New(), term: 1, seqs: map[uint64]uint64{}, orders: map[uint64]int{}}
}

func voterID(n byte) gtid.UUID { return gtid.UUID{15: n} }

// person is a member with raft id and UUID n.
func person(n byte, weight uint32, online bool) gcs.Member {
	m := gcs.Member{UUID: voterID(n), RaftID: uint64(n), Version: 1 << 16, Weight: weight, State: gcs.Recovering}
	if online {
		m.State = gcs.Online
	}
	return m
}

// entry delivers an entry, after which s is shown.
func (p *politics) entry(e *entry) {
	e.index = uint64(len(p.entries)) + 1
	e.executed = p.set(p.done)
	if e.raw == nil {
		e.raw = &raftpb.Entry{Type: raftpb.EntryConfChangeV2.Enum(), Data: []byte{byte(e.index)}}
	}
	e.raw.Index, e.raw.Term = new(e.index), new(p.term)
	s := p.state.Snapshot()
	if p.tamper != nil {
		s.Members = slices.Clone(s.Members)
		p.tamper(&s)
		p.tamper = nil
	}
	e.election = &s
	p.deliver("m0", e)
}

// sees delivers a view.
func (p *politics) sees(forced bool, members ...gcs.Member) {
	p.views++
	v := gcs.View{ID: p.views, Index: uint64(len(p.entries)) + 1, Members: members}
	if forced {
		v.Cause.Kind = gcs.Forced
	}
	var known []election.Member
	for _, m := range members {
		known = append(known, election.Member{
			UUID: m.UUID, RaftID: m.RaftID, Version: election.Version(m.Version), Weight: m.Weight, Online: m.State == gcs.Online,
		})
	}
	p.state.View(election.View{ID: v.ID, Index: v.Index, Members: known, Forced: forced}, p.prefers())
	p.entry(&entry{view: &v})
}

func (p *politics) prefers() bool { return p.oracle.settings.PreferMostUpdated }

// says delivers a frame with one message of a member.
func (p *politics) says(origin uint64, message []byte, js ...judged) {
	p.seqs[origin]++
	b := []byte{frameFormat}
	for _, v := range []uint64{origin, 1, p.seqs[origin], 1, uint64(len(message))} {
		b = binary.AppendUvarint(b, v)
	}
	p.entry(&entry{raw: &raftpb.Entry{Type: raftpb.EntryNormal.Enum(), Data: append(b, message...)}, judged: js})
}

func (p *politics) next() uint64 { return uint64(len(p.entries)) + 1 }

func (p *politics) found(mode election.Mode) {
	p.state.Found(p.next(), mode, 1)
	p.says(1, replica.FoundingMode(mode, 1))
}

func (p *politics) opens(origin uint64, d election.Description) {
	p.state.Open(origin, d)
	p.says(origin, election.AppendDescription([]byte{openKind}, d))
}

func (p *politics) deposes(origin uint64, d election.Deposal) {
	p.state.Depose(p.next(), p.term, d, p.prefers())
	p.says(origin, election.AppendDeposal([]byte{deposeKind}, d))
}

func (p *politics) asks(origin uint64, a election.Action) {
	p.state.Begin(p.next(), origin, a)
	p.says(origin, election.AppendAction([]byte{actionKind}, a))
}

func (p *politics) drains(origin uint64, d election.Drain) {
	p.state.Drained(p.next(), origin, d)
	p.says(origin, election.AppendDrain([]byte{drainedKind}, d))
}

func (p *politics) lapses(origin uint64, l election.Lapse) {
	p.state.GraceOver(p.next(), p.term, l)
	p.says(origin, election.AppendLapse([]byte{graceOverKind}, l))
}

func (p *politics) cancels(origin uint64, id gtid.UUID) {
	p.state.Cancel(p.next(), id)
	p.says(origin, election.AppendCancel([]byte{cancelKind}, id))
}

func (p *politics) prefersMostUpdated(s replica.Settings) {
	message := replica.FoundingMessage(s)
	p.says(1, message)
}

// hands has a member hand a transaction over.
func (p *politics) hands(origin, epoch uint64) *submission {
	p.last++
	p.orders[origin]++
	s := &submission{
		id: replica.TransactionID{byte(p.last)}, origin: origin, session: 1, order: p.orders[origin], place: p.orders[origin], seen: p.done, epoch: epoch,
	}
	p.submit(s)
	return s
}

// writes delivers a transaction that was handed over in an epoch.
func (p *politics) writes(origin, epoch uint64, certify bool) {
	p.ordered(p.hands(origin, epoch), certify)
}

// ordered delivers a transaction.
func (p *politics) ordered(s *submission, certify bool) {
	v := certifier.Verdict{Outcome: certifier.Fenced}
	if certify {
		p.done++
		v = p.certified(p.done, 0)
	}
	message, err := replica.AppendTransaction(nil, &replica.Header{ID: s.id, Epoch: s.epoch}, &certifier.WriteSet{}, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	p.says(s.origin, message, judge(s, v))
}

// single is a group of three with member 1 as primary, in epoch 1.
func (p *politics) single() {
	p.sees(false, person(1, 50, true))
	p.found(election.SinglePrimary)
	p.sees(false, person(1, 50, true), person(2, 50, true), person(3, 60, true))
}

func (p *politics) action(kind election.ActionKind, target uint64) election.Action {
	now := p.state.Snapshot()
	return election.Action{ID: gtid.UUID{byte(kind), byte(p.next())}, Kind: kind, Epoch: now.Epoch, View: now.View, Target: target}
}

// coups break P9 or P10, in histories that are sound otherwise.
var coups = []struct {
	promise, what string
	play          func(p *politics)
}{
	{"", "a failover, and what the old primary had under way", func(p *politics) {
		p.single()
		p.writes(1, 1, true)
		p.deposes(2, election.Deposal{Epoch: 1, Term: 1, Target: 1, Passed: []uint64{3}})
		p.writes(1, 1, false)
		p.writes(2, 2, true)
		p.writes(2, 1, false)
		p.writes(2, 3, false)
	}},
	{"", "a planned change", func(p *politics) {
		p.single()
		a := p.action(election.SetPrimary, 2)
		p.asks(3, a)
		p.writes(1, 1, true)
		p.drains(1, election.Drain{Action: a.ID})
		p.writes(1, 1, false)
		p.writes(2, 2, true)
	}},
	{"", "to several writers and back", func(p *politics) {
		p.single()
		p.asks(3, p.action(election.ToMulti, 0))
		p.writes(1, 1, true)
		p.writes(2, 2, true)
		p.writes(3, 1, false)
		a := p.action(election.ToSingle, 0)
		p.asks(2, a)
		p.drains(1, election.Drain{Action: a.ID})
		p.writes(2, 2, true)
		p.drains(2, election.Drain{Action: a.ID, Open: 1})
		p.writes(2, 2, false)
		p.writes(3, 2, true)
	}},
	{"P9", "the write of a deposed primary certified", func(p *politics) {
		p.single()
		p.deposes(2, election.Deposal{Epoch: 1, Term: 1, Target: 1})
		p.writes(1, 1, true)
	}},
	{"P9", "a write of an epoch before the right certified", func(p *politics) {
		p.single()
		p.deposes(2, election.Deposal{Epoch: 1, Term: 1, Target: 1})
		p.writes(3, 1, true)
	}},
	{"P9", "a write of an epoch to come certified", func(p *politics) {
		p.single()
		p.writes(1, 2, true)
	}},
	{"P9", "the write of a secondary certified", func(p *politics) {
		p.single()
		p.writes(2, 1, true)
	}},
	{"P9", "the write of the primary refused", func(p *politics) {
		p.single()
		p.writes(1, 1, false)
	}},
	{"P9", "the write of one of many refused", func(p *politics) {
		p.single()
		p.asks(3, p.action(election.ToMulti, 0))
		p.writes(3, 2, false)
	}},
	{"P9", "two who write", func(p *politics) {
		p.single()
		p.tamper = func(s *election.Snapshot) { s.Members[1].Writes = true }
		p.opens(1, election.Description{Version: 1 << 16, Oldest: 1, Newest: 1})
	}},
	{"P9", "a right that is older than it is", func(p *politics) {
		p.single()
		p.tamper = func(s *election.Snapshot) { s.Members[2].Since = 1 }
		p.deposes(2, election.Deposal{Epoch: 1, Term: 1, Target: 1})
	}},
	{"P9", "a deposal of an earlier term that counts", func(p *politics) {
		p.single()
		p.term = 2
		p.state.Depose(p.next(), 1, election.Deposal{Epoch: 1, Term: 1, Target: 1}, false)
		p.says(2, election.AppendDeposal([]byte{deposeKind}, election.Deposal{Epoch: 1, Term: 1, Target: 1}))
	}},
	{"P9", "a deposal of an earlier epoch that counts", func(p *politics) {
		p.single()
		p.deposes(2, election.Deposal{Epoch: 1, Term: 1, Target: 1})
		p.state.Depose(p.next(), 1, election.Deposal{Epoch: 2, Term: 1, Target: 3}, false)
		p.says(2, election.AppendDeposal([]byte{deposeKind}, election.Deposal{Epoch: 1, Term: 1, Target: 3}))
	}},
	{"P9", "a deposal that does not count", func(p *politics) {
		p.single()
		p.says(2, election.AppendDeposal([]byte{deposeKind}, election.Deposal{Epoch: 1, Term: 1, Target: 1}))
	}},
	{"P9", "a change that does not wait for who drains", func(p *politics) {
		p.single()
		a := p.action(election.SetPrimary, 2)
		p.state.Begin(p.next(), 3, a)
		p.state.Drained(p.next(), 1, election.Drain{Action: a.ID})
		p.says(3, election.AppendAction([]byte{actionKind}, a))
	}},
	{"P9", "a change that is open no more", func(p *politics) {
		p.single()
		p.tamper = func(s *election.Snapshot) { s.Action = nil }
		p.asks(3, p.action(election.SetPrimary, 2))
	}},
	{"P9", "a mode that nobody asked for", func(p *politics) {
		p.single()
		p.tamper = func(s *election.Snapshot) { s.Mode = election.MultiPrimary }
		p.opens(1, election.Description{Version: 1 << 16, Oldest: 1, Newest: 1})
	}},
	{"P10", "a primary of a lower weight", func(p *politics) {
		p.single()
		p.state = replaying(p, 2)
		p.says(2, election.AppendDeposal([]byte{deposeKind}, election.Deposal{Epoch: 1, Term: 1, Target: 1}))
	}},
	{"P10", "nobody when there is somebody", func(p *politics) {
		p.single()
		p.tamper = func(s *election.Snapshot) { s.Primary = 0 }
		p.sees(false, person(2, 50, true), person(3, 60, true))
	}},
	{"P10", "another primary to be than the one that ranks first", func(p *politics) {
		p.single()
		p.asks(3, p.action(election.ToMulti, 0))
		p.tamper = func(s *election.Snapshot) {
			a := *s.Action
			a.Target = 2
			s.Action = &a
		}
		p.asks(2, p.action(election.ToSingle, 0))
	}},
	{"P9", "another primary than the one that was asked for", func(p *politics) {
		p.single()
		a := p.action(election.SetPrimary, 2)
		p.asks(3, a)
		p.tamper = func(s *election.Snapshot) { s.Action = &election.Action{ID: a.ID, Target: 3, Pending: []uint64{1}} }
		p.opens(1, election.Description{Version: 1 << 16, Oldest: 1, Newest: 1})
	}},
}

// replaying is the state after a deposal in which another member was elected than
// the one that ranks first.
func replaying(p *politics, elected uint64) *election.State {
	now := p.state
	var passed []uint64
	for _, m := range now.Snapshot().Members {
		if m.RaftID != elected {
			passed = append(passed, m.RaftID)
		}
	}
	now.Depose(p.next(), p.term, election.Deposal{Epoch: now.Epoch(), Term: p.term, Target: now.Snapshot().Primary, Passed: passed}, false)
	return now
}

// TestPrimaryCheckers checks that P9 and P10 are noticed when they are broken, and
// only then.
func TestPrimaryCheckers(t *testing.T) {
	for _, c := range coups {
		t.Run(c.promise+" "+c.what, func(t *testing.T) {
			p := newPolitics(newRecord(t))
			c.play(p)
			switch {
			case c.promise == "":
				if len(p.broken) > 0 {
					t.Errorf("noticed %q", p.broken)
				}
			case len(p.broken) == 0 || !strings.HasPrefix(p.broken[0], c.promise+":"):
				t.Errorf("noticed %q", p.broken)
			}
		})
	}
}

// TestElectorate checks that the checkers' own judgement of who may write and that
// of package election agree, whatever members broadcast.
func TestElectorate(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		p := newPolitics(newRecord(t))
		p.sees(false, person(1, 50, true))
		p.prefersMostUpdated(replica.Settings{PreferMostUpdated: rapid.Bool().Draw(rt, "prefer"), Outcomes: 10, Certifier: certifier.Settings{BlockSize: 1}})
		p.found(rapid.SampledFrom([]election.Mode{election.SinglePrimary, election.MultiPrimary}).Draw(rt, "mode"))
		var ids []gtid.UUID
		for range rapid.IntRange(1, 40).Draw(rt, "steps") {
			p.chance(rt, &ids)
		}
		if len(p.broken) > 0 {
			rt.Fatalf("%q", p.broken)
		}
	})
}

// chance delivers something.
func (p *politics) chance(rt *rapid.T, ids *[]gtid.UUID) {
	now := p.state.Snapshot()
	somebody := func(label string) uint64 { return uint64(rapid.IntRange(1, 5).Draw(rt, label)) }
	some := func(label string) (all []uint64) {
		for id := uint64(1); id <= 5; id++ {
			if rapid.Bool().Draw(rt, label) {
				all = append(all, id)
			}
		}
		return all
	}
	near := func(n uint64, label string) uint64 { return n + uint64(rapid.IntRange(0, 4).Draw(rt, label)/4) }
	id := gtid.UUID{1: byte(len(*ids) + 1)}
	if len(*ids) > 0 && rapid.Bool().Draw(rt, "known") {
		id = rapid.SampledFrom(*ids).Draw(rt, "id")
	}
	if now.Action != nil && rapid.IntRange(0, 3).Draw(rt, "open") > 0 {
		id = now.Action.ID
	}
	if len(now.Members) == 0 { // nobody says anything
		p.sees(false, person(1, 50, true))
		return
	}
	origin := rapid.SampledFrom(now.Members).Draw(rt, "origin").RaftID
	p.term += uint64(rapid.IntRange(0, 5).Draw(rt, "election") / 5)
	switch rapid.IntRange(0, 9).Draw(rt, "what") {
	case 0:
		var members []gcs.Member
		for n := byte(1); n <= 5; n++ {
			if rapid.IntRange(0, 3).Draw(rt, "there") > 0 {
				members = append(members, person(n, uint32(50+n%2), rapid.IntRange(0, 3).Draw(rt, "online") > 0))
			}
		}
		p.sees(rapid.IntRange(0, 4).Draw(rt, "forced") == 0, members...)
	case 1, 2:
		p.opens(origin, election.Description{
			Version: election.Version(1<<16 + rapid.IntRange(0, 1).Draw(rt, "version")), Weight: uint32(rapid.IntRange(0, 2).Draw(rt, "weight")),
			Oldest: 1, Newest: election.Protocol(rapid.IntRange(1, 2).Draw(rt, "protocol")),
		})
	case 3, 4:
		d := election.Deposal{Epoch: near(now.Epoch, "epoch"), Term: near(p.term, "term"), Target: now.Primary, Passed: some("passed")}
		for _, who := range some("progress") {
			d.Progress = append(d.Progress, election.Progress{RaftID: who, Applied: uint64(rapid.SampledFrom([]int{0, 63, 64, 127, 128, 1000}).Draw(rt, "applied"))})
		}
		p.deposes(origin, d)
	case 5, 6:
		p.wants(rt, origin, election.Action{
			ID: id, Kind: election.ActionKind(rapid.IntRange(1, 4).Draw(rt, "kind")), Epoch: near(now.Epoch, "epoch"), View: near(now.View, "view"),
			Force: rapid.Bool().Draw(rt, "force"),
		}, somebody("target"))
		*ids = append(*ids, id)
	case 7:
		p.drains(origin, election.Drain{Action: id})
	case 8:
		p.lapses(origin, election.Lapse{Action: id, Term: near(p.term, "term")})
	case 9:
		p.cancels(origin, id)
	}
}

// wants asks for an action, with what its kind has a use for.
func (p *politics) wants(rt *rapid.T, origin uint64, a election.Action, target uint64) {
	switch a.Kind {
	case election.SetPrimary:
		a.Target = target
	case election.ToSingle:
		a.Target = target * uint64(rapid.IntRange(0, 1).Draw(rt, "named"))
	case election.SetProtocol:
		a.Protocol = election.Protocol(rapid.IntRange(1, 2).Draw(rt, "to"))
	case election.ToMulti:
	}
	p.asks(origin, a)
}

// TestElectorateForks checks that an incarnation goes on with who may write where
// its log leaves the one before, and not where that one is by then.
func TestElectorateForks(t *testing.T) {
	for _, shared := range []int{3, 4} {
		p := newPolitics(newRecord(t))
		p.single()
		p.deposes(2, election.Deposal{Epoch: 1, Term: 1, Target: 1})
		parent := p.history
		child := newHistory(p.group, &marked{}, parent.violate)
		child.parent, child.shared = parent, uint64(shared)
		child.inherit(parent)
		for _, e := range parent.entries[:shared] {
			child.deliver("the fork", e)
		}
		p.history = child
		// The first primary is one still, unless the deposal is in the log.
		deposed := shared == 4
		if !deposed {
			again := newPolitics(newRecord(t))
			again.single()
			p.state, p.seqs = again.state, again.seqs
		}
		p.writes(1, 1, true)
		if noticed := len(p.broken) > 0; noticed != deposed {
			t.Errorf("with %d entries of the log before: noticed %q", shared, p.broken)
		}
	}
}
