package concordat

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/concordatdb/concordat/election"
	"github.com/concordatdb/concordat/internal/replica"
)

// noted returns the texts of the events of a kind.
func (s *standIn) noted(kind EventKind) (texts []string) {
	for _, e := range s.Events(0) {
		if e.Kind == kind {
			texts = append(texts, e.Text)
		}
	}
	return texts
}

// That an action has begun is told once, also where its end has come before anybody
// looked; one that was refused has not.
func TestBegunIsNoted(t *testing.T) {
	t.Parallel()
	s := newStandIn(t)
	ended := func(id byte, began, end uint64, r election.Result) {
		a := *openAction(0)
		a.ID, a.Index = uuidOf(uint64(id)), began
		s.noteElections(&replica.Effects{Ended: []election.Outcome{{Action: a, Result: r, Ended: end}}})
	}
	ended(1, 5, 8, election.Done)
	ended(2, 9, 9, election.Done) // nobody had to drain
	ended(3, 10, 10, election.Refused)
	s.know(func(k *known) {
		k.Election.Action = openAction(3_600_000)
		k.Election.Action.Pending = nil
	})
	s.know(func(*known) {})
	ended(7, 11, 12, election.Cancelled)
	got := s.noted(EventActionBegun)
	if len(got) != 2 || !strings.Contains(got[0], uuidOf(1).String()) || !strings.Contains(got[1], uuidOf(7).String()) {
		t.Errorf("begun: %q", got)
	}
	if got := s.noted(EventActionEnded); len(got) != 4 {
		t.Errorf("ended: %q", got)
	}
}

// A member may write when it has the right and serves; one that comes back with its
// right does not before it is ONLINE.
func TestWritableIsNoted(t *testing.T) {
	t.Parallel()
	s := newStandIn(t)
	before := len(s.noted(EventWritable))
	s.know(func(k *known) { k.State = replica.Recovering })
	s.know(func(k *known) { k.State = replica.Recovering })
	if n := len(s.noted(EventWritable)); n != before {
		t.Errorf("noted %d times more while it catches up", n-before)
	}
	s.know(func(*known) {})
	s.know(func(*known) {})
	if n := len(s.noted(EventWritable)); n != before+1 {
		t.Errorf("noted %d times more when it serves again", n-before)
	}
}

// Who waits for a transaction that has not been ordered waits for the order, and not
// for those of whom another one's gate has word to come.
func TestUnknownOutcomeNamesTheMissing(t *testing.T) {
	t.Parallel()
	s := newStandIn(t)
	s.know(func(k *known) { k.GateWaits = []uint64{standInOther} })
	var c call
	tx := &Tx{id: uuidOf(8)}
	for _, index := range []uint64{0, 12} {
		c.commits.Store(index)
		e, ok := errors.AsType[*OutcomeUnknownError](s.outcomeUnknown(tx, &c, context.Canceled))
		if !ok || e.Index != index || (len(e.Missing) > 0) != (index > 0) {
			t.Errorf("at %d: %v", index, e)
		}
	}
}

// The report of an action has the epoch that it led to, also when others came since.
func TestReportOfEarlierAction(t *testing.T) {
	t.Parallel()
	s := newStandIn(t)
	s.know(func(k *known) {
		k.Election.Past = []election.Epoch{{Number: 2, Index: 8}, {Number: 3, Index: 10}}
		for _, end := range []uint64{5, 8, 9, 10} {
			k.Election.Done = append(k.Election.Done, election.Outcome{Action: election.Action{ID: uuidOf(end)}, Result: election.Done, Ended: end})
		}
	})
	var got []uint64
	for _, end := range []uint64{5, 8, 9, 10} {
		r, ok := s.Action(uuidOf(end))
		if !ok || r.Index != end {
			t.Fatalf("action that ended at %d: %+v, %t", end, r, ok)
		}
		got = append(got, r.Epoch)
	}
	if want := []uint64{0, 2, 2, 3}; !slices.Equal(got, want) {
		t.Errorf("epochs %d, want %d", got, want)
	}
}

// A drain that was shut for an action opens when another one is open, whatever their
// places in the log: those of another incarnation may be earlier.
func TestDrainOfAnotherAction(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStandIn(t)
		s.know(func(k *known) { k.Election.Action = openAction(0) })
		synctest.Wait()
		if s.drain.shut.Load() == 0 {
			t.Fatal("the drain is open")
		}
		s.know(func(k *known) {
			k.Election.Action = openAction(0)
			k.Election.Action.ID, k.Election.Action.Index, k.Election.Action.Target = uuidOf(6), 5, standInPrimary
		})
		if s.drain.shut.Load() != 0 {
			t.Error("the drain is shut for an action that has ended")
		}
		s.helpers.wait()
	})
}
