package gcs

import (
	"bytes"
	"slices"
	"testing"
	"testing/cryptotest"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"
)

// claim is what a member can say of its log without showing it.
type claim struct {
	terms []TermRun
	last  uint64
}

func (w *world) claim(m *member) claim {
	terms, err := ExtendTerms(m.group.Terms(), m.group.Delivered(), &m.log)
	if err != nil {
		w.t.Fatal(err)
	}
	last, _ := m.log.LastIndex()
	return claim{terms: terms, last: last}
}

// force ends all members and starts those listed anew, on the donor's log with
// the forced entry at its end. Who cannot be given the rest of that log, because
// the donor has forgotten it, begins with none. It returns the index of the
// entry.
func (w *world) force(donor *member, listed ...Member) uint64 {
	const term = 100
	best := w.claim(donor)
	entry, err := ForcedEntry(term, best.last+1, force(listed...))
	if err != nil {
		w.t.Fatal(err)
	}
	hard := &raftpb.HardState{Term: new(uint64(term)), Vote: new(uint64(0)), Commit: new(best.last + 1)}
	var adoptions []Adoption
	for _, l := range listed {
		mine := w.claim(w.member(l.RaftID))
		a := Adoption{HardState: hard}
		last, known := CommonPrefix(mine.terms, mine.last, best.terms, best.last)
		switch rest, err := donor.log.Entries(last+1, best.last+1, 1<<30); {
		case !known:
			w.t.Fatalf("nobody knows how much %d and %d have in common", l.RaftID, donor.n)
		case err != nil:
			a.HardState = &raftpb.HardState{Term: hard.Term}
		default:
			a.Last, a.Entries = last, append(slices.Clone(rest), entry)
		}
		adoptions = append(adoptions, a)
	}
	for _, m := range w.up() {
		w.crash(m)
	}
	w.wire = nil
	for i, l := range listed {
		m := w.member(l.RaftID)
		m.forced = true
		m.log.adopt(adoptions[i])
		if adoptions[i].Last == 0 && len(adoptions[i].Entries) == 0 {
			m.checkpoint = Checkpoint{}
		}
		w.start(m)
	}
	return best.last + 1
}

// tail leaves entries on some members only, which nobody can commit: the leader
// hears nobody, and they hear the leader only.
func (w *world) tail(leader *member, reached []uint64, what func()) {
	w.settle()
	what()
	w.pump(leader)
	for _, e := range w.wire {
		if e.from == leader.n && slices.Contains(reached, e.to) {
			w.member(e.to).group.Receive(e.from, e.msg)
			w.flush(w.member(e.to))
		}
	}
	w.wire = nil
	for _, n := range reached {
		m := w.member(n)
		if last, _ := m.log.LastIndex(); last == m.group.Delivered() {
			w.t.Fatalf("member %d has nothing that is not committed", n)
		}
	}
}

// flush writes what a member has to write, and loses what it says.
func (w *world) flush(m *member) {
	w.pump(m)
	w.wire = slices.DeleteFunc(w.wire, func(e envelope) bool { return e.from == m.n })
}

type forceCase struct {
	name string
	// before brings a group of five, led by member 1, to where it loses its
	// quorum, and returns who has most of the log.
	before func(w *world) (donor *member)
	listed []Member
	want   string // who is what in the end
}

func forceCases() []forceCase {
	long := func(w *world) *member { return w.member(2) }
	return []forceCase{
		{"two of five", long, []Member{online(2), online(3)}, "2=ONLINE 3=ONLINE"},
		{"one of five", long, []Member{online(2)}, "2=ONLINE"},
		{"all that there were", long, []Member{online(1), online(2), online(3), online(4), online(5)}, "1=ONLINE 2=ONLINE 3=ONLINE 4=ONLINE 5=ONLINE"},
		{"one that is behind", func(w *world) *member {
			w.cut[[2]uint64{1, 3}] = true
			w.load(w.member(1), 20)
			w.run(1)
			return w.member(2)
		}, []Member{online(2), online(3)}, "2=ONLINE 3=ONLINE"},
		{"frames that nobody can commit", func(w *world) *member {
			w.tail(w.member(1), []uint64{2}, func() { w.submit(w.member(1), "lost") })
			return w.member(2)
		}, []Member{online(2), online(3)}, "2=ONLINE 3=ONLINE"},
		{"a change that nobody can commit, on the donor", func(w *world) *member {
			w.tail(w.member(1), []uint64{2}, func() { w.join(w.add(6), w.member(1)) })
			return w.member(2)
		}, []Member{online(2), online(3)}, "2=ONLINE 3=ONLINE"},
		{"a change that nobody can commit, on the other", func(w *world) *member {
			w.tail(w.member(1), []uint64{3}, func() { w.join(w.add(6), w.member(1)) })
			w.crash(w.member(1))
			w.cut[[2]uint64{2, 3}], w.cut[[2]uint64{3, 4}], w.cut[[2]uint64{3, 5}] = true, true, true
			w.run(80)
			w.load(w.member(2), 3)
			w.run(2)
			return w.longest(2, 4, 5)
		}, []Member{online(2), online(3), online(4)}, "2=ONLINE 3=ONLINE 4=ONLINE"},
		{"checkpoints at different places", func(w *world) *member {
			w.saveCheckpoint(w.member(3))
			w.load(w.member(1), 5)
			w.run(1)
			w.saveCheckpoint(w.member(2))
			w.member(2).log.truncate(w.member(2).checkpoint.Index - 3)
			w.load(w.member(1), 5)
			w.run(1)
			return w.member(2)
		}, []Member{online(2), online(3)}, "2=ONLINE 3=ONLINE"},
		{"a checkpoint at the end", func(w *world) *member {
			w.run(1)
			w.saveCheckpoint(w.member(2))
			w.member(2).log.truncate(w.member(2).checkpoint.Index)
			return w.member(2)
		}, []Member{online(2), online(3)}, "2=ONLINE 3=ONLINE"},
		{"one RECOVERING, made ONLINE", func(w *world) *member {
			w.start(w.add(6))
			w.join(w.member(6), w.member(1))
			w.settle()
			w.tick(w.member(1))
			w.settle()
			w.saveCheckpoint(w.member(6))
			return w.member(6)
		}, []Member{online(2), online(6)}, "2=ONLINE 6=ONLINE"},
		{"one that does not know that it joined", func(w *world) *member {
			w.start(w.add(6))
			w.join(w.member(6), w.member(1))
			for _, m := range w.members {
				w.cut[[2]uint64{min(m.n, 6), 6}] = true
			}
			w.settle()
			w.run(4)
			return w.member(2)
		}, []Member{online(2), online(6)}, "2=ONLINE 6=ONLINE"},
		{"one that was expelled", func(w *world) *member {
			if err := w.member(1).group.proposeChange(expel(online(3))); err != nil {
				w.t.Fatal(err)
			}
			w.pump(w.member(1))
			w.run(8)
			return w.member(2)
		}, []Member{online(2), online(3)}, "2=ONLINE 3=ONLINE"},
		{"one RECOVERING that goes on with the log", long, []Member{online(2), recovering(3)}, "2=ONLINE 3=ONLINE"},
		{"one whose log the donor has forgotten", func(w *world) *member {
			for _, m := range w.members {
				w.cut[[2]uint64{min(m.n, 3), max(m.n, 3)}] = true
			}
			w.load(w.member(1), 5)
			w.run(1)
			w.saveCheckpoint(w.member(2))
			w.member(2).log.truncate(w.member(2).checkpoint.Index)
			return w.member(2)
		}, []Member{online(2), recovering(3)}, "2=ONLINE 3=ONLINE"},
	}
}

// longest is the one of some members whose log is the longest.
func (w *world) longest(ns ...uint64) *member {
	best := w.member(ns[0])
	for _, n := range ns[1:] {
		a, b := w.claim(best), w.claim(w.member(n))
		if b.terms[len(b.terms)-1].Term > a.terms[len(a.terms)-1].Term || b.last > a.last {
			best = w.member(n)
		}
	}
	return best
}

// TestForcedMembership takes its quorum from a group, and goes on with some of
// its members: they deliver the one log from where each of them is, elect among
// themselves, and commit.
func TestForcedMembership(t *testing.T) {
	for _, c := range forceCases() {
		t.Run(c.name, func(t *testing.T) {
			cryptotest.SetGlobalRandom(t, 1)
			w := newWorld(t)
			w.form(5)
			w.load(w.member(1), 5)
			w.run(2)
			donor := c.before(w)
			clear(w.cut)
			index := w.force(donor, c.listed...)
			for round := range 40 {
				w.run(5)
				for _, m := range w.up() {
					if m.clone != 0 {
						w.copyFrom(m, w.member(m.clone))
					}
					w.submit(m, string(rune('a'+round)))
				}
			}
			w.run(5)
			w.checkForced(c, index)
			// From a checkpoint behind the forced entry it goes on as well.
			for _, m := range w.up() {
				w.saveCheckpoint(m)
				w.crash(m)
				w.start(m)
			}
			w.run(60)
			w.checkForced(c, index)
		})
	}
}

func (w *world) checkForced(c forceCase, index uint64) {
	w.t.Helper()
	leaders := 0
	first := w.up()[0].group
	for _, m := range w.up() {
		g := m.group
		if err := g.Failure(); err != nil || g.Removed() {
			w.t.Fatalf("member %d failed, %v, or is removed: %v", m.n, err, g.Removed())
		}
		if got := standing(g.View()); got != c.want || g.View().Incarnation != force().Incarnation {
			w.t.Errorf("member %d is in %s of %s, want %s", m.n, got, g.View().Incarnation, c.want)
		}
		if !slices.ContainsFunc(g.History(), func(r ViewRecord) bool { return r.Index == index && r.Cause.Kind == Forced }) {
			w.t.Errorf("member %d remembers nothing of the forced view at %d: %+v", m.n, index, g.History())
		}
		if !bytes.Equal(g.AppendState(nil), first.AppendState(nil)) {
			w.t.Errorf("the states of members %d and %d differ at %d and %d", m.n, w.up()[0].n, g.Delivered(), first.Delivered())
		}
		if m.own != len(m.submitted) {
			w.t.Errorf("member %d delivered %d of %d messages of its own", m.n, m.own, len(m.submitted))
		}
		if g.Status().Leading {
			leaders++
		}
	}
	if leaders != 1 || len(w.up()) != len(c.listed) {
		w.t.Errorf("%d of %d members lead", leaders, len(w.up()))
	}
}

// survivor is member n of three, started on a log that ends with a forced entry
// by which it is one of two. It is told to deliver one entry at a time.
func survivor(t *testing.T, n uint64, checkpointed bool) (*member, *Group, uint64) {
	t.Helper()
	cryptotest.SetGlobalRandom(t, 1)
	w := newWorld(t)
	w.form(3)
	m := w.member(n)
	if checkpointed {
		w.saveCheckpoint(m)
	}
	w.load(w.member(1), 3)
	w.run(2)
	last, _ := m.log.LastIndex()
	m.log.write(LogWrite{
		HardState: &raftpb.HardState{Term: new(uint64(9)), Commit: new(last + 1)},
		Entries:   []*raftpb.Entry{forced(t, 9, last+1, online(2), online(3))},
		Sync:      true,
	})
	m.forced, m.session = true, m.session+1
	limits := DefaultLimits()
	limits.DeliveryBytes = 1
	g, err := New(Config{
		Identity: m.identity(), Log: &m.log, HardState: m.log.hard, Checkpoint: m.checkpoint,
		ElectionTicks: 10, Limits: limits,
	})
	if err != nil {
		t.Fatal(err)
	}
	return m, g, last + 1
}

// idle lets much time pass for a member that hears nobody, and returns what it
// says of elections.
func idle(m *member, g *Group) (said []*raftpb.Message) {
	for range 50 {
		g.Tick()
		g.Flush()
		for _, write := range g.Writes(nil) {
			m.log.write(write.LogWrite)
			g.Written(write.Responses)
		}
		for _, o := range g.Messages(nil) {
			switch o.Message.Raft.GetType() {
			case raftpb.MsgPreVote, raftpb.MsgVote, raftpb.MsgPreVoteResp, raftpb.MsgVoteResp:
				if o.Message.Kind == MessageRaft {
					said = append(said, o.Message.Raft)
				}
			default:
			}
		}
	}
	return said
}

// Until it has delivered the forced entry, a member has its votes counted by an
// older list. It must not stand for election by that: raft does not as long as
// a committed change is not applied. From then on it asks the new members only.
func TestNobodyStandsForElectionBeforeTheForcedView(t *testing.T) {
	for _, n := range []uint64{1, 2, 3} {
		for _, checkpointed := range []bool{false, true} {
			m, g, index := survivor(t, n, checkpointed)
			for g.Delivered() < index {
				if said := idle(m, g); len(said) > 0 || g.Status().Leading {
					t.Fatalf("member %d at %d in %s says %v", n, g.Delivered(), g.View(), said)
				}
				hup := &raftpb.Message{Type: raftpb.MsgTimeoutNow.Enum(), From: new(uint64(1)), To: new(n), Term: new(uint64(9))}
				g.Receive(1, Message{Kind: MessageRaft, Raft: hup})
				if _, ok := g.NextDelivery(); !ok {
					t.Fatalf("member %d delivers nothing after %d", n, g.Delivered())
				}
			}
			said := idle(m, g)
			for _, s := range said {
				if s.GetTo() != 5-n {
					t.Errorf("member %d asks %d for a vote", n, s.GetTo())
				}
			}
			if stands := len(said) > 0; stands != (n != 1) || g.Status().Leading {
				t.Errorf("member %d of %s stands for election: %v, leads: %v", n, g.View(), stands, g.Status().Leading)
			}
		}
	}
}

// Nobody who lacks the forced entry gets a vote of a member that has it,
// delivered or not: its log is older in term.
func TestNobodyVotesForTheOldMembership(t *testing.T) {
	_, g, index := survivor(t, 2, false)
	for delivered := range index + 1 {
		if delivered > 0 {
			g.Flush()
			g.NextDelivery()
		}
		for _, typ := range []raftpb.MessageType{raftpb.MsgPreVote, raftpb.MsgVote} {
			g.Receive(1, Message{Kind: MessageRaft, Raft: &raftpb.Message{
				Type: typ.Enum(), From: new(uint64(1)), To: new(uint64(2)), Term: new(100 + delivered),
				Index: new(index + 1000), LogTerm: new(uint64(8)), Context: []byte("CampaignTransfer"),
			}})
		}
		g.Flush()
		for _, write := range g.Writes(nil) {
			g.Written(write.Responses)
		}
		refusals := 0
		for _, o := range g.Messages(nil) {
			switch r := o.Message.Raft; r.GetType() {
			case raftpb.MsgPreVoteResp, raftpb.MsgVoteResp:
				if !r.GetReject() {
					t.Fatalf("at %d the old membership gets a vote: %v", delivered, r)
				}
				refusals++
			default:
			}
		}
		if delivered < index && refusals != 2 {
			t.Errorf("at %d %d of 2 requests were answered", delivered, refusals)
		}
	}
	if g.Delivered() != index {
		t.Errorf("delivered are %d, want %d", g.Delivered(), index)
	}
}

// Whatever changes of membership a log holds, refused ones among them, raft's
// configuration is the one that the view stands for.
func TestRaftFollowsTheLog(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var log memlog
		changes := append([]Change{bootstrap(recovering(1))}, rapid.SliceOfN(rapid.Custom(drawChange), 1, 60).Draw(t, "changes")...)
		for i, c := range changes {
			e, err := c.entry(1, uint64(i)+1)
			if err != nil {
				t.Fatal(err)
			}
			log.entries = append(log.entries, e)
		}
		id := Identity{Group: uuid(100), Member: uuid(2), RaftID: 2, Session: 1}
		hard := HardState{Term: 1, Commit: uint64(len(changes))}
		g, err := New(Config{Identity: id, Log: &log, HardState: hard, ElectionTicks: 10, Limits: DefaultLimits()})
		if err != nil {
			t.Fatal(err)
		}
		g.Flush()
		views := uint64(0)
		for d, ok := g.NextDelivery(); ok; d, ok = g.NextDelivery() {
			if d.View != nil {
				views++
			}
			has := g.raft.Status().Config
			for _, m := range g.View().Members {
				if _, votes := has.Voters[0][m.RaftID]; votes != (m.State == Online) {
					t.Fatalf("raft has %s for %s", has, g.View())
				}
				if _, learns := has.Learners[m.RaftID]; learns != (m.State == Recovering) {
					t.Fatalf("raft has %s for %s", has, g.View())
				}
			}
			if n := len(has.Voters[0]) + len(has.Learners); n != len(g.View().Members) || len(has.Voters[1])+len(has.LearnersNext) > 0 {
				t.Fatalf("raft has %s for %s", has, g.View())
			}
		}
		if g.Delivered() != hard.Commit || g.View().ID != views {
			t.Fatalf("%d of %d are delivered, in view %d after %d", g.Delivered(), hard.Commit, g.View().ID, views)
		}
	})
}

func TestForcedEntryRefuses(t *testing.T) {
	for name, c := range map[string]Change{
		"another kind":   join(online(1)),
		"nobody":         force(),
		"nobody ONLINE":  force(recovering(1)),
		"no incarnation": {Kind: Forced, Members: []Member{online(1)}},
		"out of order":   force(online(2), online(1)),
	} {
		if e, err := ForcedEntry(2, 9, c); err == nil {
			t.Errorf("%s: entry %v", name, e)
		}
	}
	e, err := ForcedEntry(2, 9, force(online(1), recovering(2)))
	if err != nil {
		t.Fatal(err)
	}
	cc := &raftpb.ConfChangeV2{}
	if err := proto.Unmarshal(e.GetData(), cc); err != nil || e.GetTerm() != 2 || e.GetIndex() != 9 {
		t.Fatalf("entry %v, error %v", e, err)
	}
}

// A member whose log ends before the view with which its incarnation began does
// not know who is out: a member that left before is back by force. It is listened
// to, for it may lead, and not told to go.
func TestBackByForceBeyondTheLog(t *testing.T) {
	cryptotest.SetGlobalRandom(t, 1)
	w := newWorld(t)
	w.form(3)
	if err := w.member(1).group.proposeChange(expel(online(3))); err != nil {
		t.Fatal(err)
	}
	w.pump(w.member(1))
	w.run(8)
	m := w.member(2)
	if !m.group.Departed(3) {
		t.Fatalf("3 is not out of %s", m.group.View())
	}
	w.crash(m)
	m.forced = true
	w.start(m)
	w.run(reportTicks)
	w.wire = nil
	if m.group.Departed(3) {
		t.Error("a member of an earlier view says who is out of the present one")
	}

	last, _ := m.log.LastIndex()
	term, _ := m.log.Term(last)
	append9 := &raftpb.Message{
		Type: raftpb.MsgApp.Enum(), From: new(uint64(3)), To: new(uint64(2)), Term: new(uint64(9)),
		Index: new(last), LogTerm: new(term), Commit: new(last + 1),
		Entries: []*raftpb.Entry{forced(t, 9, last+1, recovering(2), online(3))},
	}
	m.group.Receive(3, Message{Kind: MessageRaft, Raft: append9})
	w.pump(m)
	for _, e := range w.wire {
		if e.msg.Kind == MessageRemoved {
			t.Errorf("%d is told that it is out", e.to)
		}
	}
	if got := standing(m.group.View()); got != "2=RECOVERING 3=ONLINE" {
		t.Errorf("the leader is not listened to: the view is %s", got)
	}
}
