package concordat

import (
	"sync"
	"sync/atomic"
	"testing"

	"github.com/concordatdb/concordat/election"
	"github.com/concordatdb/concordat/gtid"
)

// Once a drain is shut and found empty, nobody is in it before it opens, however
// many try.
func TestDrain(t *testing.T) {
	t.Parallel()
	var news bell
	d := drain{news: &news}
	var inside atomic.Int64
	var stop atomic.Bool
	var entered atomic.Int64
	var trying sync.WaitGroup
	for range 4 {
		trying.Go(func() {
			for !stop.Load() {
				if d.enter() {
					inside.Add(1)
					entered.Add(1)
					inside.Add(-1)
					d.leave()
				}
			}
		})
	}
	for action := uint64(1); action <= 200; action++ {
		d.close(action)
		if err := news.until(t.Context(), func() bool { return d.open.Load() == 0 }); err != nil {
			t.Fatal(err)
		}
		before := entered.Load()
		for range 100 {
			if inside.Load() != 0 || entered.Load() != before {
				t.Fatal("somebody is in a drain that was shut and empty")
			}
		}
		d.reopen(action)
		for entered.Load() == before { // who waits outside comes in again
			select {
			case <-t.Context().Done():
				t.Fatal("nobody enters a drain that is open")
			default:
			}
		}
	}
	stop.Store(true)
	trying.Wait()
	if n := d.open.Load(); n != 0 {
		t.Errorf("%d are in the drain in the end", n)
	}
}

// What an action does too late does nothing to the drain of a later one.
func TestDrainOfLaterAction(t *testing.T) {
	t.Parallel()
	d := drain{news: new(bell)}
	d.close(7)
	d.close(5)
	d.reopen(5)
	if d.enter() {
		t.Error("an earlier action has opened the drain of a later one")
	}
	d.reopen(7)
	if !d.enter() {
		t.Error("the drain is shut after its action")
	}
	d.leave()
	if n := d.open.Load(); n != 0 {
		t.Errorf("%d are in the drain in the end", n)
	}
}

// A member that was started again while it drained shuts its drain when the group
// hears what it said in the session before: nobody waits for it any more.
func TestDrainedInSessionBefore(t *testing.T) {
	t.Parallel()
	var news bell
	self := election.Member{UUID: gtid.UUID{1}, RaftID: 7, Writes: true}
	s := known{Election: election.Snapshot{Members: []election.Member{self}}}
	n := &Node{drain: drain{news: &news}}
	n.id.Member = self.UUID
	l := &life{}
	n.life.Store(l)
	a := &election.Action{ID: gtid.UUID{2}, Index: 5, Target: 8, Pending: []uint64{7}}
	n.draining = draining{a.ID, l} // it drains already
	s.Election.Action = a
	if n.followAction(&s); !n.drain.enter() {
		t.Fatal("the drain is shut while the group waits for the member")
	}
	n.drain.leave()
	a.Pending = nil
	if n.followAction(&s); n.drain.enter() {
		t.Error("a transaction begins that the group does not wait for")
	}
	s.Election.Action = nil
	if n.followAction(&s); !n.drain.enter() {
		t.Error("no transaction begins after the change")
	}
}
