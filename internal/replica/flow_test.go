package replica

import (
	"errors"
	"testing"
	"testing/cryptotest"
	"time"

	"github.com/concordatdb/concordat/certifier"
	"github.com/concordatdb/concordat/flowcontrol"
	"github.com/concordatdb/concordat/gtid"
)

// chooseFlow gives the group flow control.
func chooseFlow(t *testing.T, w *world, f flowcontrol.Settings) {
	t.Helper()
	s := w.members[0].replica.Status().Settings
	s.Flow = f
	w.members[0].step(SettingsAsked{Ticket: 1, Settings: s})
	w.tick(2)
	for _, m := range w.members {
		if got := m.replica.Status().Settings.Flow; got != f {
			t.Fatalf("member %d has %+v, want %+v", m.identity.RaftID, got, f)
		}
	}
}

// TestFlowNamesTheSlowMember: the member whose engine does nothing limits the others
// once it is behind, and no longer when it has caught up.
func TestFlowNamesTheSlowMember(t *testing.T) {
	cryptotest.SetGlobalRandom(t, 1)
	w := newGroup(t, settings{})
	f := flowcontrol.Defaults()
	f.TargetLag = 500 * time.Millisecond
	chooseFlow(t, w, f)
	first, third := w.members[0], w.members[2]
	third.held = true
	for i := range uint64(20) {
		first.step(first.transaction(i+1, gtid.Set{}, "payload", certifier.Item(i)))
		w.tick(1)
	}
	for _, m := range w.members {
		s := m.replica.Status().Flow
		if !s.Decision.Throttled || s.Decision.Limiting != third.identity.RaftID {
			t.Errorf("member %d: %+v", m.identity.RaftID, s.Decision)
		}
		if len(s.Members) != 3 || s.Members[2].Sample.WaitingApply == 0 || s.Members[2].Sample.Lag == 0 || s.Members[1].Sample.Lag != 0 {
			t.Errorf("member %d knows %+v", m.identity.RaftID, s.Members)
		}
	}
	third.release()
	w.tick(100)
	for _, m := range w.members {
		if d := m.replica.Status().Flow.Decision; d.Throttled {
			t.Errorf("member %d is limited by nobody: %+v", m.identity.RaftID, d)
		}
		if n := m.replica.flow.works.Len(); n != 0 {
			t.Errorf("member %d: %d batches were never given to the engine", m.identity.RaftID, n)
		}
	}
}

// TestFlowExempt: a member that may fall behind says so, and limits nobody.
func TestFlowExempt(t *testing.T) {
	cryptotest.SetGlobalRandom(t, 1)
	w := newGroup(t, settings{})
	chooseFlow(t, w, flowcontrol.Defaults())
	first, third := w.members[0], w.members[2]
	third.replica.cfg.FlowExempt = true
	third.held = true
	first.step(first.transaction(1, gtid.Set{}, "payload", 1))
	w.tick(100)
	if s := first.replica.Status().Flow; s.Decision.Throttled || !s.Members[2].Sample.Exempt {
		t.Errorf("%+v", s)
	}
}

// TestFlowBehindGate: what waits for another member is not held against the engine.
func TestFlowBehindGate(t *testing.T) {
	w, first, _, _ := gated(t, settings{})
	w.tick(20)
	if s := first.replica.flow.meter.Sample(); s.Backlog != 0 || s.Lag != 0 || s.Applied != 1 || s.Certified != 3 {
		t.Errorf("with a gate closed: %+v", s)
	}
	w.cut = nil
	w.tick(6)
	if s := first.replica.flow.meter.Sample(); s.Applied != 3 || s.Remote != 1 || s.Backlog != 0 {
		t.Errorf("with the gate open: %+v", s)
	}
}

func TestFlowSettings(t *testing.T) {
	s := Settings{Version: 3, Certifier: certifier.Settings{BlockSize: 1}, Flow: flowcontrol.Defaults()}
	b := s.append(nil)
	back, rest, err := takeSettings(b)
	if err != nil || back != s || len(rest) != 0 {
		t.Errorf("%+v comes back as %+v, %v", s, back, err)
	}
	for n := range b {
		if _, _, err := takeSettings(b[:n]); !errors.Is(err, ErrSettings) {
			t.Errorf("%d of %d bytes: %v", n, len(b), err)
		}
	}
	s.Flow.Floor = 0
	if _, _, err := takeSettings(s.append(nil)); !errors.Is(err, ErrSettings) {
		t.Errorf("settings that cannot be are read: %v", err)
	}
	if err := s.Check(); !errors.Is(err, flowcontrol.ErrSettings) {
		t.Errorf("settings that cannot be pass: %v", err)
	}
	s.Flow = flowcontrol.Settings{}
	if back, _, err := takeSettings(s.append(nil)); err != nil || back != s {
		t.Errorf("%+v comes back as %+v, %v", s, back, err)
	}
}
