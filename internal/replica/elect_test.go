package replica

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/cryptotest"

	"github.com/concordatdb/concordat/certifier"
	"github.com/concordatdb/concordat/election"
	"github.com/concordatdb/concordat/gcs"
	"github.com/concordatdb/concordat/gtid"
)

// elections is a group of three in single-primary mode, whose primary is the
// first.
func elections(t *testing.T, s settings) (w *world, first, second, third *member) {
	t.Helper()
	cryptotest.SetGlobalRandom(t, 1)
	s.mode = election.SinglePrimary
	w = newGroup(t, s)
	w.tick(4)
	w.wantPrimary(w.members[0], 1)
	return w, w.members[0], w.members[1], w.members[2]
}

// until lets time pass until something holds at a member, and returns how many
// ticks that took.
func (w *world) until(limit int, what string, holds func() bool) int {
	w.t.Helper()
	for n := range limit {
		if holds() {
			return n
		}
		w.tick(1)
	}
	if !holds() {
		w.t.Fatalf("after %d ticks: not %s", limit, what)
	}
	return limit
}

// wantPrimary checks that all members that are up agree on the primary.
func (w *world) wantPrimary(want *member, epoch uint64) {
	w.t.Helper()
	for _, m := range w.members {
		if m.down || m.paused {
			continue
		}
		s := m.replica.Status().Election
		if s.Primary != want.identity.RaftID || s.Epoch != epoch || !s.MayWrite(s.Primary) {
			w.t.Errorf("to member %d the primary is %d in epoch %d, want %d in epoch %d",
				m.identity.RaftID, s.Primary, s.Epoch, want.identity.RaftID, epoch)
		}
	}
}

// isolate cuts a member off from all others, both ways.
func (w *world) isolate(m *member) {
	w.cut = func(from, to *member, _ gcs.Message) bool { return from == m || to == m }
}

// lead has a member lead.
func (w *world) lead(m *member) {
	w.t.Helper()
	w.until(400, "led by the one wanted", func() bool {
		for _, other := range w.members {
			if other.replica.Status().Leading && other != m {
				other.replica.group.Prefer(m.identity.RaftID)
			}
		}
		return m.replica.Status().Leading
	})
}

// smuggle broadcasts a message as one that was handed over long ago, and is on
// its way yet.
func (m *member) smuggle(local localMessage, msg []byte) {
	m.replica.submit(local, msg)
	m.step()
}

func (m *member) ask(kind election.ActionKind, target *member, grace uint64) ActionAsked {
	s := m.replica.Status().Election
	a := election.Action{ID: m.world.nextID(), Kind: kind, Epoch: s.Epoch, View: s.View, Grace: grace}
	if target != nil {
		a.Target = target.identity.RaftID
	}
	return ActionAsked{Ticket: m.world.ids, Action: a}
}

// commit submits, waits and returns what became of it.
func (m *member) commit(s Submitted) certifier.Outcome {
	m.world.t.Helper()
	m.answers = nil
	m.step(s)
	m.world.until(60, "answered", func() bool { return len(m.answers) > 0 })
	return m.last().Verdict.Outcome
}

// What comes before a change of the primary in the log is the old one's work, and
// what comes behind it is nobody's.
func TestFence(t *testing.T) {
	w, first, second, third := elections(t, settings{})
	before := first.transaction(1, gtid.Set{}, "before", 1)
	late := first.transaction(2, gtid.Set{}, "late", 2)
	again := late.Message[1 : 1+len(TransactionID{})]
	first.step(second.ask(election.SetPrimary, second, 0))
	first.step(before, DrainedAsked{Action: first.replica.Status().Election.Action.ID})
	w.wantPrimary(second, 2)
	first.smuggle(localMessage{kindTransaction, 2}, late.Message)
	w.tick(4)
	if a := first.answers; len(a) != 2 || a[0].Verdict.Outcome != certifier.Certified ||
		a[1].Ticket != 2 || a[1].Verdict != (certifier.Verdict{Outcome: certifier.Fenced}) || a[1].Index == 0 {
		t.Errorf("the old primary was answered %+v", a)
	}
	for _, m := range w.members {
		if got := m.payloads(); !slices.Equal(got, []string{"before"}) {
			t.Errorf("member %d shows %q", m.identity.RaftID, got)
		}
		if a := m.outcome(TransactionID(again)); !a.Known || a.Fate.Committed || certifier.Outcome(a.Fate.Reason) != certifier.Fenced {
			t.Errorf("member %d says of the late one %+v", m.identity.RaftID, a)
		}
	}
	// Under the same id the new primary may commit it.
	retry := second.submission(3, Header{ID: TransactionID(again), Epoch: 2, Snapshot: second.position.Executed}, "again", 2)
	if got := second.commit(retry); got != certifier.Certified {
		t.Errorf("sent again by the new primary: %v", got)
	}
	// The old one, primary once more, has lost what it handed over before.
	old := first.transaction(4, gtid.Set{}, "old", 4)
	stale, err := decodeTransaction(old.Message[1:])
	if err != nil {
		t.Fatal(err)
	}
	stale.Epoch = 1
	if old.Message, err = stale.encode(); err != nil {
		t.Fatal(err)
	}
	third.step(third.ask(election.SetPrimary, first, 0))
	second.step(DrainedAsked{Action: second.replica.Status().Election.Action.ID})
	w.wantPrimary(first, 3)
	if got := first.commit(old); got != certifier.Fenced {
		t.Errorf("handed over in epoch 1, delivered in epoch 3: %v", got)
	}
	if got := first.commit(first.transaction(5, gtid.Set{}, "new", 5)); got != certifier.Certified {
		t.Errorf("handed over in epoch 3: %v", got)
	}
	sameHistory(t, w.members...)
}

// Who may not write is told so at once, and the group hears nothing of it.
func TestFencedBeforeBroadcast(t *testing.T) {
	w, _, second, _ := elections(t, settings{})
	at := second.replica.Status().Delivered
	second.step(second.transaction(7, gtid.Set{}, "x", 1))
	want := Answer{Ticket: 7, Verdict: certifier.Verdict{Outcome: certifier.Fenced}}
	if len(second.answers) != 1 || second.answers[0] != want {
		t.Errorf("answered %+v, want %+v", second.answers, want)
	}
	w.tick(4)
	if now := second.replica.Status().Delivered; now != at {
		t.Errorf("the log went on from %d to %d", at, now)
	}
}

// In multi-primary mode nobody is fenced, whatever mode the group was founded in.
func TestSwitchModes(t *testing.T) {
	w, first, second, third := elections(t, settings{})
	running := first.transaction(1, gtid.Set{}, "running", 1)
	first.step(first.ask(election.ToMulti, nil, 0))
	if a := first.actions; len(a) != 1 || a[0].Outcome == nil || a[0].Outcome.Result != election.Done {
		t.Fatalf("the switch was answered %+v", a)
	}
	if got := first.commit(running); got != certifier.Certified {
		t.Errorf("the old primary's, handed over before the switch: %v", got)
	}
	for _, m := range w.members {
		if got := m.commit(m.transaction(2, m.position.Executed, "multi", certifier.Item(m.identity.RaftID))); got != certifier.Certified {
			t.Errorf("member %d: %v", m.identity.RaftID, got)
		}
	}
	running = second.transaction(3, second.position.Executed, "on", 30)
	first.step(first.ask(election.ToSingle, second, 0))
	id := first.replica.Status().Election.Action.ID
	third.step(DrainedAsked{Action: id})
	if got := third.commit(third.transaction(4, third.position.Executed, "too late to be in time", 40)); got != certifier.Certified {
		t.Errorf("before the change: %v", got)
	}
	first.step(DrainedAsked{Action: id, Open: 2})
	w.wantPrimary(second, 3)
	if o := second.ended[len(second.ended)-1]; o.Result != election.Done || o.Cut != 2 {
		t.Errorf("the switch ended %+v", o)
	}
	if got := second.commit(running); got != certifier.Certified {
		t.Errorf("the chosen one's, handed over before the switch: %v", got)
	}
	sameHistory(t, w.members...)
}

// A primary that falls silent is replaced after FailoverTicks, and what it still
// had to say is refused everywhere.
func TestFailover(t *testing.T) {
	for _, leads := range []bool{true, false} {
		w, first, second, third := elections(t, settings{})
		if !leads {
			w.lead(third)
			for _, m := range w.members {
				m.replica.primary = 0 // of which the tests know nothing
			}
		}
		w.isolate(first)
		first.step(first.transaction(1, gtid.Set{}, "lost", 1))
		took := w.until(60, "another primary", func() bool { return second.replica.Status().Election.Epoch == 2 })
		if first.replica.Status().Election.Epoch != 1 {
			t.Error("the one that was cut off knows")
		}
		if took < DefaultFailoverTicks-1 || took > DefaultFailoverTicks+1 {
			t.Errorf("the primary, which leads: %t, was replaced after %d ticks", leads, took)
		}
		e := second.epochs[len(second.epochs)-1]
		if e.Cause != election.PrimarySilent || e.Primary != second.identity.Member || !strings.Contains(e.Reason, first.identity.Member.String()) {
			t.Errorf("the epoch is %+v", e)
		}
		if got := second.commit(second.transaction(2, second.position.Executed, "new", 1)); got != certifier.Certified {
			t.Errorf("the new primary: %v", got)
		}
		w.until(100, "led by the new primary", func() bool { return second.replica.Status().Leading })
		w.cut = nil
		w.until(100, "answered", func() bool { return len(first.answers) > 0 })
		if a := first.last(); a.Verdict.Outcome != certifier.Fenced {
			t.Errorf("the old primary was answered %+v", a)
		}
		w.tick(20)
		w.wantPrimary(second, 2)
		sameHistory(t, w.members...)
	}
}

// The heir of a leader that falls silent does not wait for the chances of an
// election: it has lead and primary at once.
func TestHeirCampaigns(t *testing.T) {
	for seed := range uint64(20) {
		w, first, second, third := elections(t, settings{elect: 2*DefaultFailoverTicks - 5})
		cryptotest.SetGlobalRandom(t, seed)
		w.lead(first)
		w.tick(20)
		first.down = true
		took := w.until(100, "another primary", func() bool { return third.replica.Status().Election.Epoch == 2 })
		if took > 2*DefaultFailoverTicks || !second.replica.Status().Leading {
			t.Errorf("seed %d: replaced after %d ticks, led by its heir: %t", seed, took, second.replica.Status().Leading)
		}
	}
}

// A leader that nobody hears may not have heard the primary for its own fault.
func TestLeaderCutOff(t *testing.T) {
	w, first, _, third := elections(t, settings{elect: 3 * DefaultFailoverTicks})
	w.until(400, "led by a third one", func() bool {
		first.replica.group.Prefer(3)
		return third.replica.Status().Leading
	})
	for _, m := range w.members {
		m.replica.group.Prefer(0)
	}
	w.tick(10)
	w.isolate(third)
	w.tick(DefaultFailoverTicks + 5)
	w.cut = nil
	w.tick(20)
	if !third.replica.Status().Leading {
		t.Error("it lost the lead")
	}
	w.wantPrimary(first, 1)
}

// A member that was deposed for its silence is elected again only when there is
// nobody else, for some time.
func TestDeposedIsPassed(t *testing.T) {
	w, first, second, third := elections(t, settings{self: election.Description{Weight: 50}})
	w.isolate(first)
	w.until(60, "another primary", func() bool { return second.replica.Status().Election.Epoch == 2 })
	w.cut = nil
	w.tick(10)
	w.isolate(second)
	w.until(60, "a third primary", func() bool { return third.replica.Status().Election.Epoch == 3 })
	w.cut = nil
	w.tick(20)
	w.wantPrimary(third, 3)
}

// Without somebody to take over, a silent primary stays, and nobody fills the log
// with wishes.
func TestNobodyElse(t *testing.T) {
	cryptotest.SetGlobalRandom(t, 1)
	founder := newFounder(t, settings{mode: election.SinglePrimary})
	founder.tick(40)
	w := founder.world
	for n := byte(2); n <= 3; n++ {
		w.join(w.member(n, settings{self: election.Description{Version: 0x100}}))
	}
	w.tick(4)
	w.wantPrimary(founder, 1)
	founder.down = true
	w.tick(100)
	at := w.members[1].replica.Status().Delivered
	w.tick(100)
	w.wantPrimary(founder, 1)
	if now := w.members[1].replica.Status().Delivered; now > at+2 {
		t.Errorf("the log went from %d to %d for nothing", at, now)
	}
}

// A leader's opinion counts in its term and its epoch only.
func TestDeposalVoid(t *testing.T) {
	w, _, second, _ := elections(t, settings{})
	deposal := func(epoch, term uint64) []byte {
		return election.AppendDeposal([]byte{kindDepose}, election.Deposal{Epoch: epoch, Term: term, Target: 1, Evidence: "it is said"})
	}
	for _, void := range []struct {
		what string
		make func(term uint64) []byte
	}{
		{"an earlier term", func(term uint64) []byte { return deposal(1, term-1) }},
		{"a later term", func(term uint64) []byte { return deposal(1, term+1) }},
		{"an earlier epoch", func(term uint64) []byte { return deposal(0, term) }},
		{"a later epoch", func(term uint64) []byte { return deposal(2, term) }},
		{"cut off", func(term uint64) []byte { return deposal(1, term)[:5] }},
		{"with a byte too many", func(term uint64) []byte { return append(deposal(1, term), 0) }},
	} {
		second.smuggle(localMessage{}, void.make(second.replica.Status().Term))
		w.tick(2)
		if e := second.replica.Status().Election; e.Epoch != 1 {
			t.Fatalf("%s: %+v", void.what, e)
		}
	}
	second.smuggle(localMessage{}, deposal(1, second.replica.Status().Term))
	w.tick(2)
	w.wantPrimary(second, 2)
	sameHistory(t, w.members...)
}

// What a leader thought of the primary and could tell nobody is void when it is
// ordered under the next leader, to whom the primary may be well.
func TestDeposalOfALeaderThatWasDeposed(t *testing.T) {
	w, first, second, third := elections(t, settings{elect: 2*DefaultFailoverTicks - 5})
	w.lead(third)
	w.tick(10)
	var deposals int
	w.cut = func(from, to *member, m gcs.Message) bool {
		if to == third && from == first {
			return true
		}
		if from == third && m.Kind == gcs.MessageRaft {
			for _, e := range m.Raft.GetEntries() {
				deposals += bytes.Count(e.GetData(), []byte("has not heard"))
			}
		}
		return from == third
	}
	w.until(2*DefaultFailoverTicks, "deposed by its leader", func() bool { return deposals > 0 })
	w.until(400, "led by another one", func() bool { return first.replica.Status().Leading || second.replica.Status().Leading })
	w.wantPrimary(first, 1)
	w.cut = nil
	at := first.replica.Status().Delivered
	w.tick(3 * DefaultFailoverTicks)
	if got := third.replica.local.Len(); got != 0 || first.replica.Status().Delivered == at {
		t.Fatalf("%d messages of the old leader are on their way still", got)
	}
	w.wantPrimary(first, 1)
	sameHistory(t, w.members...)
}

// A cut of one direction is as good as one of both: a primary that hears nobody
// learns of nothing, and one that nobody hears commits nothing.
func TestOneWayCut(t *testing.T) {
	for _, heard := range []bool{true, false} {
		w, first, second, third := elections(t, settings{})
		w.lead(third)
		w.tick(10)
		w.cut = func(from, to *member, _ gcs.Message) bool { return heard && to == first || !heard && from == first }
		took := w.until(60, "another primary", func() bool { return third.replica.Status().Election.Epoch == 2 })
		if took > DefaultFailoverTicks+10 {
			t.Errorf("replaced after %d ticks, heard: %t", took, heard)
		}
		w.tick(4)
		s := first.replica.Status()
		switch {
		case heard && (!s.Alone || s.Election.Epoch != 1):
			t.Errorf("one that hears nobody: alone %t in epoch %d", s.Alone, s.Election.Epoch)
		case !heard && s.Election.Epoch == 1 && (!s.Alone || s.Outdated != 2):
			t.Errorf("one that nobody hears: alone %t, outdated %d in epoch %d", s.Alone, s.Outdated, s.Election.Epoch)
		}
		w.cut = nil
		w.tick(20)
		w.wantPrimary(second, 2)
		if s := first.replica.Status(); s.Alone || s.Outdated != 0 {
			t.Errorf("after the cut: alone %t, outdated %d", s.Alone, s.Outdated)
		}
	}
}

// A primary that has much to apply may not have come to the view that has the
// leader. It answers it all the same, and goes on.
func TestPrimaryThatDoesNotKnowItsLeader(t *testing.T) {
	w, first, second, _ := elections(t, settings{applyBytes: 4 << 10})
	first.step(first.ask(election.SetPrimary, second, 0))
	first.step(DrainedAsked{Action: first.replica.Status().Election.Action.ID})
	w.wantPrimary(second, 2)
	second.held = true
	for i := range uint64(20) {
		second.step(second.transaction(i, gtid.Set{}, strings.Repeat("p", 1<<10), certifier.Item(i)))
	}
	newcomer := w.member(4, settings{applyBytes: 4 << 10, mode: election.SinglePrimary})
	w.join(newcomer)
	first.down = true
	w.until(100, "led by the newcomer", func() bool {
		newcomer.replica.group.Campaign()
		newcomer.step()
		return newcomer.replica.Status().Leading
	})
	w.tick(3 * DefaultFailoverTicks)
	s := newcomer.replica.Status()
	if _, knows := second.replica.Status().View.Member(4); knows || s.Election.Epoch != 2 || !s.Leading {
		t.Fatalf("the primary knows its leader: %t; it leads: %t; its last epoch is %+v", knows, s.Leading, s.Election.Past[len(s.Election.Past)-1])
	}
	second.release()
	w.tick(10)
	w.wantPrimary(second, 2)
}

// With PreferMostUpdated a vacancy ends with the word of the leader.
func TestPreferMostUpdated(t *testing.T) {
	w, first, second, third := elections(t, settings{prefer: true, expel: 20})
	w.lead(third)
	w.tick(10)
	second.held = true
	for i := range uint64(200) {
		first.step(first.transaction(i, gtid.Set{}, "x", certifier.Item(i)))
	}
	w.tick(4)
	first.step(LeaveAsked{Ticket: 1})
	w.until(40, "another primary", func() bool { return third.replica.Status().Election.Primary != first.identity.RaftID })
	first.down = true
	w.tick(10)
	w.wantPrimary(third, 3)
	if n := len(third.epochs); third.epochs[n-2].Cause != election.PrimaryGone || third.epochs[n-1].Cause != election.Vacancy {
		t.Errorf("the last epochs are %+v", third.epochs[n-2:])
	}
}

// A state that is taken up says who may write, and one that does not fit its view
// is refused.
func TestElectionInState(t *testing.T) {
	w, first, second, third := elections(t, settings{checkpointBytes: 4 << 10})
	first.step(first.ask(election.SetPrimary, second, 60_000))
	w.load(0, 60)
	before := electionText(third.replica.Status().Election)
	third.restart(third.durable)
	if at := third.replica.last.Index; at == 0 {
		t.Fatal("no checkpoint was taken")
	}
	w.tick(10)
	if after := electionText(third.replica.Status().Election); after != before {
		t.Errorf("the election was\n%s\nand is after a restart\n%s", before, after)
	}
	saved := third.saved[len(third.saved)-1]
	s, err := CheckpointElection(saved)
	if err != nil || s.Action == nil || s.Action.Target != second.identity.RaftID {
		t.Errorf("the checkpoint says %+v, error %v", s, err)
	}
	third.replica.elect = election.New()
	cfg := third.config()
	cfg.Group.Checkpoint = gcs.Checkpoint{Index: saved.Index, Term: saved.Term, Data: third.replica.serialise().Data}
	if _, err := New(cfg); !errors.Is(err, ErrState) {
		t.Errorf("an election without members: %v", err)
	}
	if _, err := CheckpointElection(gcs.Checkpoint{Index: 1, Data: []byte("\x05")}); !errors.Is(err, ErrFormat) {
		t.Errorf("a state without a format: %v", err)
	}
}

// Who runs an older version than anybody, or speaks none of the group's
// protocols, is not taken in; who is newer is, and is not elected.
func TestJoinByVersion(t *testing.T) {
	cryptotest.SetGlobalRandom(t, 1)
	founder := newFounder(t, settings{mode: election.SinglePrimary, self: election.Description{Version: 0x200, Weight: 3}})
	founder.tick(40)
	joiner := gcs.Member{UUID: gtid.UUID{9}, RaftID: 9, Address: "member-9", Version: 0x100}
	ask := JoinAsked{Ticket: 1, Member: joiner}
	founder.step(ask)
	ask.DryRun = true
	founder.step(ask)
	ask.Member.Version, ask.Oldest, ask.Newest = 0x200, 7, 8
	founder.step(ask)
	for i, a := range founder.joins {
		if _, ok := errors.AsType[*election.IncompatibleError](a.Answer.Refused); !ok || a.Foreign || a.Answer.Joined {
			t.Errorf("attempt %d was answered %+v", i, a)
		}
	}
	w := founder.world
	w.join(w.member(2, settings{self: election.Description{Version: 0x300, Weight: 100}}))
	w.tick(4)
	m, _ := founder.replica.Status().Election.Member(2)
	if m.Version != 0x300 || m.Weight != 100 || m.Newest != election.FirstProtocol {
		t.Errorf("the newer one is known as %+v", m)
	}
	if why := founder.replica.Status().Election.Why(nil, nil); why.Winner != 1 {
		t.Errorf("it would be elected: %+v", why)
	}
}

// A member that does not speak the protocol of its group does not start, and
// stops where the log raises it.
func TestProtocol(t *testing.T) {
	cryptotest.SetGlobalRandom(t, 1)
	s := settings{mode: election.SinglePrimary, checkpointBytes: 1 << 10}
	s.self = election.Description{Oldest: 1, Newest: 3}
	w := newGroup(t, s)
	m := w.members[1]
	ask := m.ask(election.SetProtocol, nil, 0)
	ask.Action.Protocol = 2
	m.step(ask)
	w.tick(2)
	if p := m.replica.Status().Election.Protocol; p != 2 {
		t.Fatalf("the protocol is %d: %+v", p, m.actions)
	}
	m.settings.self = election.Description{Oldest: 1, Newest: 1}
	m.identity.Session++
	early, err := New(m.config()) // from before the change
	if err != nil {
		t.Fatal(err)
	}
	effects := early.Step()
	failure := effects.Failure
	for failure == nil && len(effects.Writes) > 0 {
		var responses []Event
		for _, write := range effects.Writes {
			responses = append(responses, Written{Responses: write.Responses})
		}
		effects = early.Step(responses...)
		failure = effects.Failure
	}
	if !errors.Is(failure, ErrProtocol) {
		t.Errorf("in the log: %v", failure)
	}
	w.load(0, 60)
	if _, err := New(m.config()); !errors.Is(err, ErrProtocol) {
		t.Errorf("in the checkpoint: %v", err)
	}
	m.settings.self = election.Description{Oldest: 3, Newest: 2}
	if _, err := New(m.config()); err == nil {
		t.Error("a member that speaks nothing starts")
	}
}

// What a member showed before it started anew it has told its shell already; what
// its engine has lost since it tells again.
func TestEpochsAfterARestart(t *testing.T) {
	w, first, _, third, a := begun(t, settings{})
	first.step(DrainedAsked{Action: a.ID})
	w.until(40, "another primary", func() bool { return third.replica.Status().Election.Epoch == 2 })
	w.tick(10)
	began := third.replica.Status().Election.Began
	for engine, want := range map[uint64]int{third.position.Index: 0, began - 1: 1} { // order-free: each starts anew
		third.epochs, third.ended = nil, nil
		third.restart(engine)
		w.until(60, "ONLINE", func() bool { return third.state() == Online })
		if len(third.epochs) != want || len(third.ended) != want {
			t.Errorf("started at %d, the change at %d: told of %+v and %+v", engine, began, third.epochs, third.ended)
		}
	}
}
