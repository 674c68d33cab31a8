package replica

import (
	"bytes"
	"testing"

	"github.com/concordatdb/concordat/certifier"
	"github.com/concordatdb/concordat/gcs"
	"github.com/concordatdb/concordat/gtid"
)

// attempt is the event of a caller who commits under an id of its own.
func (m *member) attempt(ticket uint64, id TransactionID, snapshot gtid.Set, item certifier.Item) Submitted {
	msg, err := AppendTransaction(nil, &Header{ID: id, Snapshot: snapshot}, touch(&certifier.WriteSet{}, item), []byte("payload"))
	if err != nil {
		m.world.t.Fatal(err)
	}
	return Submitted{Ticket: ticket, Message: msg}
}

// last returns the newest answer and forgets all.
func (m *member) last() Answer {
	m.world.t.Helper()
	if len(m.answers) == 0 {
		m.world.t.Fatal("nobody was answered")
	}
	a := m.answers[len(m.answers)-1]
	m.answers = nil
	return a
}

func (m *member) outcome(id TransactionID) OutcomeAnswer {
	m.world.t.Helper()
	m.outcomes = nil
	m.step(OutcomeAsked{Ticket: 99, ID: id})
	if len(m.outcomes) != 1 || m.outcomes[0].Ticket != 99 {
		m.world.t.Fatalf("asked for an outcome: %+v", m.outcomes)
	}
	return m.outcomes[0]
}

// An id commits once, wherever and how often it is sent, and every member can
// say what became of it, also after a restart.
func TestCommittedOnce(t *testing.T) {
	w := newGroup(t, settings{})
	first, second, third := w.members[0], w.members[1], w.members[2]
	id, loser := TransactionID{1}, TransactionID{2}
	if a := first.outcome(id); a.Known || a.Until != first.replica.last.Index {
		t.Errorf("before it was sent: %+v", a)
	}
	first.step(first.attempt(1, id, gtid.Set{}, 7))
	committed := first.last()
	if committed.Verdict.Outcome != certifier.Certified {
		t.Fatalf("sent: %+v", committed)
	}
	for n, m := range w.members {
		m.step(m.attempt(2, id, gtid.Set{}, certifier.Item(8+n)))
		a := m.last()
		if a.Verdict.Outcome != certifier.Duplicate || a.Verdict.GTID != committed.Verdict.GTID {
			t.Errorf("sent again by member %d: %+v, it had %v", n, a.Verdict, committed.Verdict.GTID)
		}
	}
	second.step(second.attempt(3, loser, gtid.Set{}, 7))
	if a := second.last(); a.Verdict.Outcome != certifier.Conflict {
		t.Fatalf("a second writer: %+v", a.Verdict)
	}
	third.restart(0)
	w.tick(5)
	for n, m := range w.members {
		a := m.outcome(id)
		if !a.Known || !a.Fate.Committed || a.Fate.GTID != committed.Verdict.GTID || a.Fate.Index != committed.Index {
			t.Errorf("member %d says of the committed one: %+v", n, a)
		}
		a = m.outcome(loser)
		if !a.Known || a.Fate.Committed || a.Fate.Reason != byte(certifier.Conflict) || a.Fate.Winner != committed.Verdict.GTID {
			t.Errorf("member %d says of the refused one: %+v", n, a)
		}
	}
	// A refused one may be tried again under its id.
	second.step(second.attempt(4, loser, second.position.Executed, 7))
	if a := second.last(); a.Verdict.Outcome != certifier.Certified {
		t.Errorf("tried again: %+v", a.Verdict)
	}
	if a := first.outcome(loser); !a.Fate.Committed {
		t.Errorf("after the second try: %+v", a)
	}
}

// Settings change for all at one place, and of two changes at the same time
// one fails.
func TestSettingsChange(t *testing.T) {
	w := newGroup(t, settings{})
	first, second := w.members[0], w.members[1]
	wish := first.replica.Status().Settings
	if wish.Version != 1 {
		t.Fatalf("the founder's settings are %+v", wish)
	}
	wish.Outcomes, wish.Certifier.RangeWrites = 2, 5
	first.step(SettingsAsked{Ticket: 5, Settings: wish})
	second.step(SettingsAsked{Ticket: 6, Settings: wish})
	if len(first.changes) != 1 || !first.changes[0].Changed || first.changes[0].Ticket != 5 {
		t.Errorf("the first was answered %+v", first.changes)
	}
	if len(second.changes) != 1 || second.changes[0].Changed || second.changes[0].Settings.Version != 2 {
		t.Errorf("the second, too late, was answered %+v", second.changes)
	}
	wish.Version = 2
	for n := range byte(4) {
		first.step(first.attempt(uint64(n), TransactionID{n}, gtid.Set{}, certifier.Item(n)))
	}
	w.members[2].restart(0)
	w.tick(5)
	for n, m := range w.members {
		if got := m.replica.Status().Settings; got != wish {
			t.Errorf("member %d has settings %+v, want %+v", n, got, wish)
		}
		if a := m.outcome(TransactionID{1}); a.Known || a.From == 0 {
			t.Errorf("member %d remembers more than it should: %+v", n, a)
		}
		if a := m.outcome(TransactionID{3}); !a.Known {
			t.Errorf("member %d remembers less than it should: %+v", n, a)
		}
	}
}

// Settings that cannot be change nothing anywhere.
func TestSettingsRefused(t *testing.T) {
	m := newFounder(t, settings{})
	m.tick(40)
	before := m.replica.Status().Settings
	for name, change := range map[string]func(*Settings){
		"negative history": func(s *Settings) { s.Certifier.HistoryItems = -1 },
		"too many":         func(s *Settings) { s.Outcomes = MaxOutcomes + 1 },
		"no block":         func(s *Settings) { s.Certifier.BlockSize = 0 },
	} {
		wish := before
		change(&wish)
		m.changes = nil
		m.step(SettingsAsked{Ticket: 1, Settings: wish})
		if len(m.changes) != 1 || m.changes[0].Changed || m.replica.Status().Settings != before {
			t.Errorf("%s: %+v", name, m.changes)
		}
	}
}

// What cannot be read is passed over by all, and its caller hears of it.
func TestUnreadableTransaction(t *testing.T) {
	w := newGroup(t, settings{})
	first := w.members[0]
	for n, msg := range [][]byte{{kindTransaction}, append([]byte{kindTransaction}, bytes.Repeat([]byte{0xff}, 40)...)} {
		first.step(Submitted{Ticket: uint64(n), Message: msg})
		if a := first.last(); a.Ticket != uint64(n) || a.Verdict.Outcome != certifier.Unreadable {
			t.Errorf("answered %+v", a)
		}
	}
	first.step(first.attempt(9, TransactionID{9}, gtid.Set{}, 1))
	if a := first.last(); a.Verdict.GTID.Number != 1 {
		t.Errorf("the next one: %+v", a)
	}
}

// A state from before the founder's settings can be taken up again.
func TestRestoreBeforeSettings(t *testing.T) {
	m := newWorld(t).member(1, settings{})
	r, err := New(m.config())
	if err != nil {
		t.Fatal(err)
	}
	_, _, own, err := splitState(gcs.Checkpoint{Index: 1, Data: r.serialise().Data})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.restore(own); err != nil || r.settings != (Settings{}) {
		t.Errorf("restored settings %+v, error %v", r.settings, err)
	}
}
