package replica

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/cryptotest"

	"github.com/concordatdb/concordat/certifier"
	"github.com/concordatdb/concordat/gcs"
	"github.com/concordatdb/concordat/gtid"
)

// sameHistory checks P4 over members: at each position that two of them have
// certified, they said the same.
func sameHistory(t *testing.T, members ...*member) {
	t.Helper()
	first := members[0]
	for _, m := range members[1:] {
		common := 0
		for _, index := range slices.Sorted(maps.Keys(m.executed)) {
			want, ok := first.executed[index]
			if !ok {
				continue
			}
			common++
			if m.elections[index] != first.elections[index] {
				t.Errorf("at %d the election is, to members %d and %d:\n%s\n%s", index,
					first.identity.RaftID, m.identity.RaftID, first.elections[index], m.elections[index])
			}
			if m.executed[index] != want || !slices.Equal(m.verdicts[index], first.verdicts[index]) {
				t.Errorf("at %d members %d and %d differ:\n%v %v\n%v %v", index, first.identity.RaftID, m.identity.RaftID,
					want, first.verdicts[index], m.executed[index], m.verdicts[index])
			}
		}
		if common == 0 {
			t.Errorf("members %d and %d have no position in common", first.identity.RaftID, m.identity.RaftID)
		}
	}
}

func TestBootstrap(t *testing.T) {
	cryptotest.SetGlobalRandom(t, 1)
	m := newFounder(t, settings{})
	m.held = true
	m.tick(40)
	if s := m.replica.Status(); !s.Leading || m.replica.opened == 0 || s.State != Recovering {
		t.Fatalf("with an idle engine: leading %v, session open at %d, %v", s.Leading, m.replica.opened, s.State)
	}
	for len(m.tasks) > 0 && m.state() != Online {
		if m.position.Index >= m.replica.opened {
			t.Errorf("%v although the opening at %d is applied", m.state(), m.replica.opened)
		}
		m.work(1)
		m.step()
	}
	if m.state() != Online || m.position.Index < m.replica.opened {
		t.Errorf("%v with the engine at %d, the session opened at %d", m.state(), m.position.Index, m.replica.opened)
	}
	if want := []State{Recovering, Online}; !slices.Equal(m.states, want) {
		t.Errorf("states %v, want %v", m.states, want)
	}
	if len(m.views) != 1 {
		t.Errorf("views %v", m.views)
	}
}

func TestJoin(t *testing.T) {
	cryptotest.SetGlobalRandom(t, 1)
	w := newGroup(t, settings{})
	for i, m := range w.members {
		if !slices.Equal(m.views, w.members[0].views) || len(m.views) != 5 {
			t.Errorf("member %d saw\n%s\nthe founder saw\n%s", m.identity.RaftID,
				strings.Join(m.views, "\n"), strings.Join(w.members[0].views, "\n"))
		}
		want := []State{Offline, Recovering, Online}
		if i == 0 {
			want = want[1:] // its own view is in its log
		}
		if !slices.Equal(m.states, want) {
			t.Errorf("member %d: states %v, want %v", m.identity.RaftID, m.states, want)
		}
	}
	follower := w.members[1]
	follower.step(JoinAsked{Ticket: 77, Member: gcs.Member{UUID: gtid.UUID{9}, RaftID: 9, Address: "member-9"}})
	if n := len(follower.joins); n != 1 || follower.joins[0].Ticket != 77 || follower.joins[0].Answer.Leader.RaftID != 1 {
		t.Errorf("a follower answers a newcomer %+v", follower.joins)
	}
}

// TestOnlineIsAPosition joins a member whose engine lags: the group has it
// ONLINE, it does not serve yet.
func TestOnlineIsAPosition(t *testing.T) {
	cryptotest.SetGlobalRandom(t, 1)
	founder := newFounder(t, settings{})
	founder.tick(40)
	w := founder.world
	m := w.member(2, settings{})
	m.held = true
	w.join(m)
	if view := m.replica.Status().View; len(view.Members) != 2 || view.Members[1].State != gcs.Online {
		t.Fatalf("after forty tries: %v", view)
	}
	from := max(m.replica.opened, m.replica.promoted)
	if m.state() != Recovering || m.replica.promoted == 0 {
		t.Fatalf("%v with an idle engine, promoted at %d", m.state(), m.replica.promoted)
	}
	for len(m.tasks) > 0 {
		m.work(1)
		m.step()
		if want := m.position.Index >= from; (m.state() == Online) != want {
			t.Errorf("%v at %d, ONLINE from %d", m.state(), m.position.Index, from)
		}
	}
	if m.state() != Online {
		t.Errorf("%v with nothing left to apply", m.state())
	}
}

// TestConflict commits on two members at once what only one can.
func TestConflict(t *testing.T) {
	cryptotest.SetGlobalRandom(t, 1)
	w := newGroup(t, settings{})
	first, second := w.members[1], w.members[2]
	for _, m := range w.members {
		m.held = true
	}
	winner := gtid.GTID{UUID: groupName, Number: 1}
	first.step(first.transaction(11, gtid.Set{}, "first", 100, 7))
	second.step(second.transaction(22, gtid.Set{}, "second", 200, 201, 7))
	if len(first.answers) != 0 {
		t.Errorf("answered before it is visible: %+v", first.answers)
	}
	want := certifier.Verdict{Outcome: certifier.Conflict, Clash: certifier.Clash{
		Item: 2, Range: -1, Winner: winner, Member: first.identity.Member, Sequence: 1,
	}}
	if len(second.answers) != 1 || second.answers[0].Ticket != 22 || second.answers[0].Verdict != want {
		t.Errorf("the second was answered %+v, want %+v", second.answers, want)
	}
	for _, m := range w.members {
		m.release()
	}
	want = certifier.Verdict{Outcome: certifier.Certified, GTID: winner, Sequence: 1}
	if len(first.answers) != 1 || first.answers[0].Ticket != 11 || first.answers[0].Verdict != want {
		t.Errorf("the first was answered %+v, want %+v", first.answers, want)
	}
	second.step(second.transaction(33, gtid.Set{}.Add(winner), "third", 7))
	w.tick(4)
	want = certifier.Verdict{
		Outcome: certifier.Certified, GTID: gtid.GTID{UUID: groupName, Number: 2}, LastCommitted: 1, Sequence: 2,
	}
	if n := len(second.answers); n != 2 || second.answers[1].Verdict != want {
		t.Errorf("the third was answered %+v, want %+v", second.answers, want)
	}
	for _, m := range w.members {
		if want := []string{"first", "third"}; !slices.Equal(m.payloads(), want) {
			t.Errorf("member %d applied %v, want %v", m.identity.RaftID, m.payloads(), want)
		}
		if len(m.answers) > 0 && m == w.members[0] {
			t.Errorf("a member that asked nothing was answered %+v", m.answers)
		}
	}
	sameHistory(t, w.members...)
}

// TestAnswersWaitForTheEngine releases an engine batch by batch: a caller is
// answered when its transaction is visible and not before, in commit order.
func TestAnswersWaitForTheEngine(t *testing.T) {
	cryptotest.SetGlobalRandom(t, 1)
	w := newGroup(t, settings{})
	m := w.members[0]
	m.held = true
	const n = 5
	for i := range uint64(n) {
		m.step(m.transaction(i, gtid.Set{}, "x", certifier.Item(i)))
	}
	for len(m.tasks) > 0 {
		m.work(1)
		m.step()
		for i, a := range m.answers {
			if a.Index > m.position.Index || a.Ticket != uint64(i) {
				t.Errorf("answer %d is %+v with the engine at %d", i, a, m.position.Index)
			}
		}
		if len(m.answers) != len(m.payloads()) {
			t.Errorf("%d answers with %d transactions visible", len(m.answers), len(m.payloads()))
		}
	}
	if len(m.answers) != n {
		t.Errorf("%d answers to %d transactions", len(m.answers), n)
	}
}

// TestBackPressure has an engine that does nothing: delivery stops at the
// bound, and goes on with each batch that is applied.
func TestBackPressure(t *testing.T) {
	cryptotest.SetGlobalRandom(t, 1)
	const bound, size, n = 300 << 10, 100 << 10, 60
	w := newGroup(t, settings{applyBytes: bound})
	m, slow := w.members[0], w.members[1]
	slow.held = true
	payload := strings.Repeat("p", size)
	for i := range uint64(n) {
		m.step(m.transaction(i, gtid.Set{}, payload, certifier.Item(i)))
	}
	if len(m.answers) != n {
		t.Fatalf("%d of %d answers: one slow member of three stops the group", len(m.answers), n)
	}
	limit := bound + batchBytes + gcs.DefaultLimits().FrameBytes + size
	for rounds := 0; len(slow.payloads()) < n; rounds++ {
		waiting := 0
		for _, task := range slow.tasks {
			for _, tx := range task.Apply.Transactions {
				waiting += len(tx.Payload)
			}
		}
		if waiting == 0 || waiting > limit || rounds > n {
			t.Fatalf("round %d: %d bytes wait for the engine, which has %d of %d transactions", rounds, waiting, len(slow.payloads()), n)
		}
		at := slow.replica.Status().Delivered
		if waiting >= bound {
			w.tick(10)
			if now := slow.replica.Status().Delivered; now != at {
				t.Fatalf("%d delivered after %d with %d bytes waiting", now, at, waiting)
			}
		}
		slow.work(1)
		slow.step()
	}
	slow.release()
	w.tick(4)
	sameHistory(t, w.members...)
}

// load commits n transactions here and there, with a few items, so that some
// conflict.
func (w *world) load(from, n uint64) {
	for i := from; i < from+n; i++ {
		m := w.members[i%uint64(len(w.members))]
		snapshot := m.position.Executed
		item := certifier.Item(i % 7)
		other := w.members[(i+1)%uint64(len(w.members))]
		m.inbox = append(m.inbox, m.transaction(i, snapshot, fmt.Sprintf("payload %d", i), item, 1000+certifier.Item(i)))
		other.step(other.transaction(10_000+i, snapshot, "other", item))
		w.tick(1)
	}
}

// TestRestart crashes a member at many places, with an engine that lost all it
// may, or some, or nothing. From its checkpoint the member says the same of
// every transaction as it did before, and as the others do; its engine gets
// what it lacks, and nothing twice.
func TestRestart(t *testing.T) {
	cryptotest.SetGlobalRandom(t, 1)
	w := newGroup(t, settings{checkpointBytes: 4 << 10, historyItems: 3000})
	m := w.members[2]
	refused, replayed := 0, 0
	for round := range uint64(9) {
		w.load(100*round, 100)
		for _, a := range m.answers {
			if a.Verdict.Outcome != certifier.Certified {
				refused++
			}
		}
		before := *m
		lost := m.position.Index - m.durable
		m.restart(m.durable + lost*(round%3)/2)
		checkpoint, engine := m.config().Group.Checkpoint.Index, m.position.Index
		if checkpoint == 0 {
			t.Fatalf("round %d: no checkpoint after %d entries", round, len(before.executed))
		}
		w.tick(40)
		if m.state() != Online {
			t.Fatalf("round %d: %v", round, m.state())
		}
		for index := range m.verdicts {
			if index <= checkpoint {
				t.Fatalf("certified again at %d, the checkpoint is at %d", index, checkpoint)
			}
			if index <= engine {
				replayed++
			}
		}
		if before.position.Index > checkpoint {
			sameHistory(t, &before, m)
		}
		if !slices.Equal(m.payloads(), w.members[0].payloads()) {
			t.Fatalf("round %d: after a restart at %d the engine shows\n%v\nthe founder's\n%v",
				round, engine, m.payloads(), w.members[0].payloads())
		}
	}
	if refused == 0 || replayed == 0 {
		t.Errorf("%d transactions refused, %d certified again for an engine that had them; the test needs both", refused, replayed)
	}
	if m.log.cut == 0 {
		t.Error("the log was never cut")
	}
	sameHistory(t, w.members...)
	want := w.members[0].replica.serialise()
	for _, other := range w.members[1:] {
		if got := other.replica.serialise(); got.Index != want.Index || !bytes.Equal(got.Data, want.Data) {
			t.Errorf("the state of member %d at %d is not that of the founder at %d", other.identity.RaftID, got.Index, want.Index)
		}
	}
}

// TestExport copies a state in the middle of work: at the place that the
// engine has when it comes to the task.
func TestExport(t *testing.T) {
	cryptotest.SetGlobalRandom(t, 1)
	w := newGroup(t, settings{})
	w.load(0, 20)
	m := w.members[1]
	m.held = true
	w.load(20, 5)
	m.step(ExportAsked{Ticket: 5})
	w.load(25, 5)
	for len(m.exports) == 0 {
		m.work(1)
	}
	export := m.exports[0]
	if export.Ticket != 5 || export.Checkpoint.Index == 0 || export.Checkpoint.Index != m.position.Index {
		t.Errorf("export %d is of %d, the engine is at %d", export.Ticket, export.Checkpoint.Index, m.position.Index)
	}
	m.release()
	if _, err := CheckpointView(export.Checkpoint); err != nil {
		t.Error(err)
	}
}

// TestOneSeedOneTrace runs a group twice.
func TestOneSeedOneTrace(t *testing.T) {
	run := func() string {
		cryptotest.SetGlobalRandom(t, 7)
		w := newGroup(t, settings{checkpointBytes: 4 << 10})
		w.load(0, 50)
		w.members[1].restart(w.members[1].durable)
		w.tick(40)
		var b strings.Builder
		for _, m := range w.members {
			fmt.Fprintf(&b, "%v %v %v %+v %q %v\n", m.views, m.verdicts, m.executed, m.answers, m.payloads(), m.states)
		}
		return b.String()
	}
	if first, second := run(), run(); first != second {
		t.Errorf("two runs of one seed:\n%s\n%s", first, second)
	}
}
