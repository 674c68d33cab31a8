package replica

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/cryptotest"

	"pgregory.net/rapid"

	"github.com/concordatdb/concordat/certifier"
	"github.com/concordatdb/concordat/election"
	"github.com/concordatdb/concordat/gcs"
	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/internal/giant"
)

// giant is the event of a caller who commits in fragments of size bytes.
func (m *member) giant(ticket uint64, size int, payload string, items ...certifier.Item) Submitted {
	h := Header{ID: m.world.nextID(), Epoch: m.replica.elect.Epoch(), Snapshot: m.position.Executed}
	return m.giantOf(ticket, h, size, payload, items...)
}

func (m *member) giantOf(ticket uint64, h Header, size int, payload string, items ...certifier.Item) Submitted {
	m.world.t.Helper()
	w, err := NewGiantWriter(touch(&certifier.WriteSet{}, items...), size)
	if err != nil {
		m.world.t.Fatal(err)
	}
	w.Add([]byte(payload))
	e := Submitted{Ticket: ticket}
	if e.Fragments, e.Message, err = w.Finish(&h); err != nil {
		m.world.t.Fatal(err)
	}
	return e
}

// answered returns the answer under a ticket.
func (m *member) answered(ticket uint64) *Answer {
	for i := range m.answers {
		if m.answers[i].Ticket == ticket {
			return &m.answers[i]
		}
	}
	return nil
}

// wantSame checks that all members show the same, and have nothing pending.
func (w *world) wantSame(pending int) {
	w.t.Helper()
	first := w.members[0]
	for _, m := range w.members {
		if !slices.Equal(m.payloads(), first.payloads()) || m.position.Index != first.position.Index {
			w.t.Errorf("member %d shows %.200q, the first one %.200q", m.identity.RaftID, m.payloads(), first.payloads())
		}
		if n := len(m.replica.expected); n > pending {
			w.t.Errorf("%d: room is kept for %d giants, of which %d are pending", m.identity.RaftID, n, pending)
		}
		if s := m.replica.Status().Giants; s.Pending != pending || pending == 0 && s != (giant.Stats{}) {
			w.t.Errorf("member %d has %+v, want %d giants", m.identity.RaftID, s, pending)
		}
	}
}

// TestGiantAmongSmall has two members send giants, while both and the third go on
// with small transactions. Every giant is whole, and the small ones go between the
// fragments: those submitted behind a giant are ordered before its end.
func TestGiantAmongSmall(t *testing.T) {
	for _, assembly := range []int{1, 100, 1 << 20} {
		t.Run(fmt.Sprint(assembly), func(t *testing.T) {
			cryptotest.SetGlobalRandom(t, 1)
			w := newGroup(t, settings{assemblyBytes: assembly, mode: election.MultiPrimary})
			a, b, c := w.members[0], w.members[1], w.members[2]
			var inbox []Event
			inbox = append(inbox, a.giant(1, 20, strings.Repeat("giant of a;", 30), 1, 2, 3))
			for i := range uint64(5) {
				inbox = append(inbox, a.transaction(10+i, gtid.Set{}, fmt.Sprint("a", i), certifier.Item(100+i)))
			}
			a.inbox = append(a.inbox, inbox...)
			b.inbox = append(b.inbox, b.giant(1, 7, strings.Repeat("giant of b;", 20), 4))
			c.step(c.transaction(1, gtid.Set{}, "c", 5))
			w.tick(2)
			w.wantSame(0)
			all := a.payloads()
			if len(all) != 8 {
				t.Fatalf("%d payloads: %.300q", len(all), all)
			}
			giantAt := slices.Index(all, strings.Repeat("giant of a;", 30))
			if slices.Index(all, strings.Repeat("giant of b;", 20)) < 0 || giantAt < slices.Index(all, "a4") {
				t.Errorf("in the order %.300q", all)
			}
			for _, m := range []*member{a, b} {
				if x := m.answered(1); x == nil || x.Verdict.Outcome != certifier.Certified || x.Index == 0 {
					t.Errorf("member %d answers %+v", m.identity.RaftID, x)
				}
			}
		})
	}
}

// TestGiantIsCertifiedAtItsEnd has a small transaction take a key of a giant that
// is under way: the giant loses. One that reaches its end first wins.
func TestGiantIsCertifiedAtItsEnd(t *testing.T) {
	cryptotest.SetGlobalRandom(t, 1)
	w := newGroup(t, settings{window: 1, mode: election.MultiPrimary})
	a, b := w.members[0], w.members[1]
	snapshot := b.position.Executed
	b.inbox = append(b.inbox, b.transaction(1, snapshot, "small", 7))
	a.step(a.giant(1, 10, strings.Repeat("x", 300), 6, 7))
	w.tick(2) // the small one has made it wait
	if x := a.answered(1); x == nil || x.Verdict.Outcome != certifier.Conflict || x.Verdict.Clash.Item != 1 {
		t.Errorf("the giant is answered with %+v", x)
	}
	a.step(a.giant(2, 10, strings.Repeat("y", 300), 8))
	b.step(b.transaction(2, snapshot, "late", 8))
	if x := b.answered(2); x == nil || x.Verdict.Outcome != certifier.Conflict {
		t.Errorf("who comes after a giant is answered with %+v", x)
	}
	w.wantSame(0)
}

// halfway has the first member send half of a giant, by cutting it off from the
// others, and has the others deliver what came.
func halfway(t *testing.T, s settings) (w *world, a *member, e Submitted) {
	t.Helper()
	s.mode, s.window = election.MultiPrimary, 1
	w = newGroup(t, s)
	a = w.members[2] // it does not lead
	frames := 0
	w.cut = func(from, _ *member, m gcs.Message) bool {
		if from == a && m.Kind == gcs.MessageFrame {
			frames++
		}
		return from == a && frames > 10
	}
	e = a.giant(1, 16, strings.Repeat("payload ", 60), 1)
	a.step(e)
	for _, m := range w.members[:2] {
		if s := m.replica.Status().Giants; s.Pending != 1 || s.Fragments == 0 || s.Fragments >= len(e.Fragments) {
			t.Fatalf("member %d has %+v of %d fragments", m.identity.RaftID, s, len(e.Fragments))
		}
	}
	return w, a, e
}

// TestOriginIsLost has the origin of a giant restart, be expelled, or be out of
// reach for so long that the log grows far beyond: nobody keeps anything of it.
func TestOriginIsLost(t *testing.T) {
	t.Run("restart", func(t *testing.T) {
		cryptotest.SetGlobalRandom(t, 1)
		w, a, _ := halfway(t, settings{})
		w.cut = nil
		a.restart(a.position.Index)
		w.tick(40)
		w.wantSame(0)
		a.step(a.giant(2, 16, "another giant, from end to end", 2))
		if got := w.members[1].payloads(); got[len(got)-1] != "another giant, from end to end" {
			t.Errorf("%q", got)
		}
	})
	t.Run("expelled", func(t *testing.T) {
		cryptotest.SetGlobalRandom(t, 1)
		w, a, _ := halfway(t, settings{expel: 20})
		a.down = true
		w.tick(200)
		w.members = w.members[:2]
		if n := len(w.members[0].replica.Status().View.Members); n != 2 {
			t.Fatalf("%d members are left", n)
		}
		w.wantSame(0)
	})
	t.Run("out of reach", func(t *testing.T) {
		cryptotest.SetGlobalRandom(t, 1)
		w, a, _ := halfway(t, settings{sizeLimit: 2000})
		b := w.members[0]
		for i := range uint64(40) {
			b.step(b.transaction(i+1, gtid.Set{}, strings.Repeat("z", 400), certifier.Item(1000+i)))
		}
		for _, m := range w.members[:2] {
			if s := m.replica.Status().Giants; s != (giant.Stats{}) {
				t.Errorf("member %d has %+v", m.identity.RaftID, s)
			}
		}
		w.cut = nil
		w.tick(60)
		w.wantSame(0)
		if x := a.answered(1); x == nil || x.Verdict.Outcome != certifier.GivenUp || x.Index == 0 {
			t.Errorf("its caller is answered with %+v", x)
		}
	})
}

// TestWithdrawn has callers think better of it: of one that waits, of one in the
// middle, and of one whose end is on its way.
func TestWithdrawn(t *testing.T) {
	cryptotest.SetGlobalRandom(t, 1)
	w, a, _ := halfway(t, settings{})
	var done []WithdrawAnswer
	tell := func(e Event) {
		effects := a.replica.Step(e)
		done = append(done, effects.Withdrawals...)
		a.act(effects)
	}
	waiting := a.giant(2, 16, strings.Repeat("w", 99), 2)
	third := a.giant(3, 16, strings.Repeat("3", 99), 3)
	tell(waiting)
	tell(third)
	tell(Withdrawn{Ticket: 2, Asked: 20})
	tell(Withdrawn{Ticket: 1, Asked: 10})
	tell(Withdrawn{Ticket: 1, Asked: 11})
	if want := []WithdrawAnswer{{20, true}, {10, true}, {11, false}}; !slices.Equal(done, want) {
		t.Fatalf("answered with %+v, want %+v", done, want)
	}
	w.cut = nil
	w.tick(60)
	tell(Withdrawn{Ticket: 3, Asked: 30})
	a.step()
	if done[3].Done {
		t.Error("what has committed was withdrawn")
	}
	w.wantSame(0)
	for ticket, want := range map[uint64]certifier.Outcome{1: certifier.GivenUp, 2: certifier.GivenUp, 3: certifier.Certified} {
		if x := a.answered(ticket); x == nil || x.Verdict.Outcome != want || (x.Index == 0) != (want == certifier.GivenUp) {
			t.Errorf("ticket %d is answered with %+v", ticket, x)
		}
	}
	if got := a.payloads(); !slices.Equal(got, []string{strings.Repeat("3", 99)}) {
		t.Errorf("%.200q", got)
	}
}

// TestTooLarge has a group whose limit is small: nothing larger commits, in one
// piece or in many, whatever its origin believes.
func TestTooLarge(t *testing.T) {
	cryptotest.SetGlobalRandom(t, 1)
	w := newGroup(t, settings{sizeLimit: 200, mode: election.MultiPrimary})
	a := w.members[1]
	a.step(a.giant(1, 16, strings.Repeat("g", 300), 1), a.transaction(2, gtid.Set{}, strings.Repeat("s", 300), 2),
		a.transaction(3, gtid.Set{}, "small", 3))
	w.tick(2)
	w.wantSame(0)
	for ticket, want := range map[uint64]certifier.Outcome{1: certifier.TooLarge, 2: certifier.TooLarge, 3: certifier.Certified} {
		if x := a.answered(ticket); x == nil || x.Verdict.Outcome != want || x.Index == 0 {
			t.Errorf("ticket %d is answered with %+v", ticket, x)
		}
	}
}

// TestGiantOfAFencedMember has the primary change while the old one sends a giant:
// it gives that up, and says so to its caller before anything else.
func TestGiantOfAFencedMember(t *testing.T) {
	cryptotest.SetGlobalRandom(t, 1)
	w := newGroup(t, settings{mode: election.SinglePrimary, window: 1})
	a := w.members[0]
	a.step(a.giant(1, 8, strings.Repeat("first ", 9), 1)) // all of it
	a.paused = true
	w.tick(200)
	if p, _ := w.members[1].replica.elect.Primary(); p.RaftID == a.identity.RaftID {
		t.Fatal("the primary is the same")
	}
	a.inbox = append([]Event{a.giant(2, 8, strings.Repeat("second ", 90), 2)}, a.inbox...)
	a.paused = false
	w.tick(60)
	w.wantSame(0)
	if x := a.answered(2); x == nil || x.Verdict.Outcome != certifier.Fenced {
		t.Errorf("its caller is answered with %+v", x)
	}
	if x := a.answered(1); x == nil || x.Verdict.Outcome != certifier.Certified {
		t.Errorf("the first one is answered with %+v", x)
	}
}

// TestGiantIsRecalled cuts a primary off in the middle of a giant, and lets it hear
// that another one has been elected: its caller learns at once that no end was sent,
// and nobody keeps what had come.
func TestGiantIsRecalled(t *testing.T) {
	cryptotest.SetGlobalRandom(t, 1)
	w := newGroup(t, settings{mode: election.SinglePrimary, window: 1})
	a := w.members[0]
	sent := 0
	w.cut = func(from, to *member, _ gcs.Message) bool {
		if from == a {
			sent++
		}
		return sent > 40 && (from == a || to == a)
	}
	e := a.giant(1, 8, strings.Repeat("cut off ", 90), 1)
	fragments := len(e.Fragments)
	a.step(e)
	if s := w.members[1].replica.Status().Giants; s.Pending != 1 || s.Fragments >= fragments {
		t.Fatalf("of %d fragments there is %+v", fragments, s)
	}
	w.tick(200)
	if p, _ := w.members[1].replica.elect.Primary(); p.RaftID == a.identity.RaftID {
		t.Fatal("the primary is the same")
	}
	w.cut = nil
	w.tick(60)
	w.wantSame(0)
	if x := a.answered(1); x == nil || x.Verdict.Outcome != certifier.Fenced || x.Index != 0 {
		t.Errorf("its caller is answered with %+v", x)
	}
}

// TestDrainedWaitsForGiants asks for a planned change while a giant is under way:
// what says that nothing comes any more stands behind its end.
func TestDrainedWaitsForGiants(t *testing.T) {
	cryptotest.SetGlobalRandom(t, 1)
	w := newGroup(t, settings{mode: election.SinglePrimary, window: 1})
	a, heir := w.members[0], w.members[1]
	id := gtid.UUID{9}
	action := election.Action{ID: id, Kind: election.SetPrimary, Target: heir.identity.RaftID, Grace: 10_000}
	action.Epoch, action.View = a.replica.elect.Epoch(), a.replica.Status().View.ID
	a.inbox = append(a.inbox, ActionAsked{Ticket: 1, Action: action})
	a.step(a.giant(2, 8, strings.Repeat("slowly ", 90), 2), DrainedAsked{Action: id})
	w.tick(60)
	w.wantSame(0)
	if x := a.answered(2); x == nil || x.Verdict.Outcome != certifier.Certified {
		t.Errorf("the giant is answered with %+v", x)
	}
	if p, _ := heir.replica.elect.Primary(); p.RaftID != heir.identity.RaftID {
		t.Errorf("the primary is %d", p.RaftID)
	}
}

// TestGiantAcrossCheckpoints has checkpoints fall between the fragments: the log is
// kept from the first fragment on, members restart from any of them, and a copy
// has all that it needs.
func TestGiantAcrossCheckpoints(t *testing.T) {
	cryptotest.SetGlobalRandom(t, 1)
	w, a, e := halfway(t, settings{checkpointBytes: 300, assemblyBytes: 20})
	b, c := w.members[0], w.members[1]
	for i := range uint64(30) {
		b.step(b.transaction(i+1, gtid.Set{}, strings.Repeat("z", 50), certifier.Item(1000+i)))
		w.tick(1)
	}
	oldest := b.replica.giants.Oldest()
	if len(b.saved) < 5 || b.log.cut+1 > oldest || b.log.cut == 0 {
		t.Fatalf("%d checkpoints, the log is cut at %d, the first fragment is at %d", len(b.saved), b.log.cut, oldest)
	}
	c.restart(c.position.Index)
	w.tick(20)
	b.step(ExportAsked{Ticket: 5})
	copied := b.exports[len(b.exports)-1].Checkpoint
	if !bytes.Contains(copied.Data, []byte("payload payl")) {
		t.Error("the copy has no bytes of the giant")
	}
	// A joiner that has the copy, and none of the log before it.
	d := w.member(4, c.settings)
	d.log = memlog{cut: copied.Index, cutTerm: copied.Term, hard: gcs.HardState{Term: copied.Term, Commit: copied.Index}}
	d.saved = []gcs.Checkpoint{copied}
	d.position, d.batches = b.position, slices.Clone(b.batches)
	d.flushed = 1
	w.join(d)
	if s := d.replica.Status().Giants; s.Pending != 1 || s.Copied == 0 {
		t.Fatalf("the joiner has %+v", s)
	}
	d.restart(d.position.Index)
	w.cut = nil
	w.tick(60)
	w.wantSame(0)
	got := d.payloads()
	if got[len(got)-1] != strings.Repeat("payload ", 60) {
		t.Errorf("the joiner shows %.300q", got)
	}
	if x := a.answered(1); x == nil || x.Verdict.Outcome != certifier.Certified || len(e.Fragments) < 10 {
		t.Errorf("the giant of %d fragments is answered with %+v", len(e.Fragments), x)
	}
	for i := range uint64(30) { // now the log goes on being cut
		b.step(b.transaction(100+i, gtid.Set{}, strings.Repeat("z", 50), certifier.Item(2000+i)))
		w.tick(1)
	}
	if b.log.cut < oldest {
		t.Errorf("the log is cut at %d still", b.log.cut)
	}
}

// TestRestartBetweenEndAndEngine has engines lose a giant that was certified: what
// it brought is read from the log again.
func TestRestartBetweenEndAndEngine(t *testing.T) {
	cryptotest.SetGlobalRandom(t, 1)
	w := newGroup(t, settings{assemblyBytes: 1, mode: election.MultiPrimary})
	m := w.members[1]
	before := m.position.Index
	m.held = true
	payload := strings.Repeat("again and ", 40)
	w.members[0].step(w.members[0].giant(1, 9, payload, 1))
	m.held = false
	m.restart(before)
	w.tick(40)
	w.wantSame(0)
	if got := m.payloads(); !slices.Equal(got, []string{payload}) {
		t.Errorf("%.200q", got)
	}
}

// TestLogWithoutFragments has a log that lost what was delivered: the member must
// not go on.
func TestLogWithoutFragments(t *testing.T) {
	cryptotest.SetGlobalRandom(t, 1)
	w, _, _ := halfway(t, settings{assemblyBytes: 1})
	b := w.members[1]
	for i, e := range b.log.entries {
		if bytes.Contains(e.Data, []byte("payload")) || bytes.Contains(e.Data, []byte{kindFragment, 0, 0}) {
			b.log.entries[i].Data = nil
		}
	}
	x := Export{Checkpoint: b.replica.serialise()}
	if _, err := x.Complete(&b.log); !errors.Is(err, ErrBulk) {
		t.Errorf("a copy was made: %v", err)
	}
	w.cut = nil
	w.tick(60)
	if failure := b.replica.Step().Failure; !errors.Is(failure, ErrBulk) {
		t.Errorf("the member goes on, failure %v", failure)
	}
	c := w.members[0]
	x = Export{Checkpoint: c.replica.serialise()}
	if _, err := x.Complete(&memlog{}); err != nil || c.replica.Step().Failure != nil {
		t.Errorf("without giants a copy needs no log: %v", err)
	}
}

// TestGiantsProperty runs random groups: giants and small transactions from all
// members, withdrawals, restarts, engines that lose what is not durable, joins by
// copies. All members show the same, each giant whole or not at all, and what was
// acknowledged.
func TestGiantsProperty(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		cryptotest.SetGlobalRandom(t, rapid.Uint64Range(1, 1000).Draw(rt, "seed"))
		w := newGroup(t, settings{
			mode: election.MultiPrimary, window: rapid.IntRange(1, 3).Draw(rt, "window"),
			assemblyBytes: rapid.SampledFrom([]int{1, 60, 1 << 20}).Draw(rt, "assembly"),
			sizeLimit:     rapid.SampledFrom([]int{0, 300, 5000}).Draw(rt, "limit"),
			prepares:      rapid.Bool().Draw(rt, "prepares"),
		})
		checkpoints := rapid.SampledFrom([]int{200, 1000, 1 << 20}).Draw(rt, "checkpoints")
		for _, m := range w.members {
			m.settings.checkpointBytes, m.replica.cfg.CheckpointBytes = checkpoints, checkpoints
		}
		sent := map[string]bool{}
		ticket := uint64(0)
		lossy := false
		w.cut = func(_, _ *member, m gcs.Message) bool { return lossy && m.Kind == gcs.MessageFrame }
		for range rapid.IntRange(1, 25).Draw(rt, "steps") {
			m := w.members[rapid.IntRange(0, 2).Draw(rt, "member")]
			ticket++
			switch rapid.IntRange(0, 7).Draw(rt, "what") {
			case 0, 1, 2:
				payload := fmt.Sprintf("giant %d %s", ticket, strings.Repeat("#", rapid.IntRange(0, 400).Draw(rt, "length")))
				sent[payload] = true
				m.step(m.giant(ticket, rapid.IntRange(1, 90).Draw(rt, "size"), payload, certifier.Item(ticket%5)))
			case 3, 4:
				payload := fmt.Sprint("small ", ticket)
				sent[payload] = true
				m.step(m.transaction(ticket, m.position.Executed, payload, certifier.Item(ticket%5)))
			case 5:
				m.step(Withdrawn{Ticket: rapid.Uint64Range(1, ticket).Draw(rt, "ticket"), Asked: ticket})
			case 6:
				m.restart(max(m.durable, m.position.Index-rapid.Uint64Range(0, min(10, m.position.Index)).Draw(rt, "lost")))
				w.tick(3)
			case 7:
				lossy = !lossy
				w.tick(rapid.IntRange(1, 30).Draw(rt, "ticks"))
			}
			for _, m := range w.members {
				if s := m.replica.Status().Giants; s.Held > m.settings.assemblyBytes {
					t.Fatalf("member %d holds %+v", m.identity.RaftID, s)
				}
			}
		}
		lossy = false
		w.tick(120)
		w.wantSame(0)
		for _, m := range w.members {
			if m.ahead.number != 0 {
				rt.Fatalf("member %d is still ready for giant %d", m.identity.RaftID, m.ahead.number)
			}
			for _, p := range m.payloads() {
				if !sent[p] {
					rt.Fatalf("member %d shows %q, which nobody sent", m.identity.RaftID, p)
				}
			}
		}
		if t.Failed() {
			rt.Fatal("see above")
		}
	})
}

// TestEndRoundTrip encodes the end of a giant, and decodes all beginnings of it.
func TestEndRoundTrip(t *testing.T) {
	w, err := NewGiantWriter(touch(&certifier.WriteSet{}, 1, 2), 4)
	if err != nil {
		t.Fatal(err)
	}
	w.Add([]byte("payload"))
	size := w.Size()
	fragments, msg, err := w.Finish(&Header{ID: TransactionID{1}, Epoch: 300, After: true, GTID: gtid.GTID{Tag: "tag"}})
	if err != nil || msg[0] != kindEnd || fragments[0][0] != kindFragment || !isAfter(msg) {
		t.Fatalf("%x, %x, error %v", fragments, msg, err)
	}
	e, err := decodeEnd(msg[1:])
	if err != nil || e.ID != (TransactionID{1}) || e.total.Fragments != len(fragments) || e.total.Bytes != size || e.writeSet != size-len("payload") || e.Epoch != 300 {
		t.Fatalf("%+v, error %v", e, err)
	}
	for n := range len(msg) - 1 {
		if _, err := decodeEnd(msg[1 : 1+n]); !errors.Is(err, ErrMessage) {
			t.Errorf("%d bytes: error %v", n, err)
		}
	}
	if _, err := decodeEnd(append(slices.Clone(msg[1:]), 0)); !errors.Is(err, ErrMessage) {
		t.Errorf("a byte more: error %v", err)
	}
}

// FuzzEnd takes any bytes for the end of a giant: what is taken has one form.
func FuzzEnd(f *testing.F) {
	w, err := NewGiantWriter(touch(&certifier.WriteSet{}, 1, 2), 4)
	if err != nil {
		f.Fatal(err)
	}
	_, msg, err := w.Finish(&Header{ID: TransactionID{1}, Epoch: 3})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(msg[1:])
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := decodeEnd(b)
		if err != nil {
			if !errors.Is(err, ErrMessage) {
				t.Fatalf("error %v", err)
			}
			return
		}
		if e.writeSet > e.total.Bytes || e.total.Fragments == 0 {
			t.Fatalf("%+v", e)
		}
	})
}
