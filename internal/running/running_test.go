package running

import (
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/concordatdb/concordat/certifier"
	"github.com/concordatdb/concordat/gtid"
)

// seed spreads the small items of these tests.
const seed = 0x9e3779b97f4a7c15

var winner = gtid.GTID{UUID: group, Tag: "tag", Number: 7}

func kinds(yield func(certifier.Kind) bool) {
	for k := range certifier.Kind(certifier.Kinds) {
		if !yield(k) {
			return
		}
	}
}

// TestMatrix checks every pair of kinds, before and after the delivery, and
// with the delivery in the snapshot.
func TestMatrix(t *testing.T) {
	const index = 10
	for incoming := range kinds {
		for earlier := range kinds {
			for _, snapshot := range []uint64{index - 1, index} {
				for _, before := range []bool{false, true} {
					t.Run(fmt.Sprintf("%v-%v-%d-%v", incoming, earlier, snapshot, before), func(t *testing.T) {
						r := New[string](DefaultWindow, seed)
						tx := r.Begin(snapshot, "tx")
						var want *Doom
						if snapshot < index && incoming.ConflictsWith(earlier) {
							want = &Doom{1, incoming, earlier, winner, other, index}
						}
						if before {
							r.Touch(tx, 1, incoming)
						}
						losers := r.Delivered(index, other, winner, yieldAll([]did{{1, earlier}}))
						if named := slices.Equal(losers, []*Transaction[string]{tx}); named != (before && want != nil) {
							t.Errorf("the delivery names %v", losers)
						}
						if !before {
							r.Touch(tx, 1, incoming)
						}
						if got := tx.Doom(); (got == nil) != (want == nil) || (got != nil && *got != *want) {
							t.Errorf("doom %+v, want %+v", got, want)
						}
						wait, doom := r.Submit(tx)
						if wait != nil || doom != tx.Doom() {
							t.Errorf("to be submitted: wait for %v, doom %+v", wait, doom)
						}
					})
				}
			}
		}
	}
}

// TestHeldBack checks every pair of kinds of two local transactions of which
// one is on its way, and both ends of it.
func TestHeldBack(t *testing.T) {
	for incoming := range kinds {
		for earlier := range kinds {
			for _, certified := range []bool{false, true} {
				t.Run(fmt.Sprintf("%v-%v-%v", incoming, earlier, certified), func(t *testing.T) {
					r := New[string](DefaultWindow, seed)
					first, second := r.Begin(0, "first"), r.Begin(0, "second")
					r.Touch(first, 1, earlier)
					r.Touch(second, 1, incoming)
					if wait, doom := r.Submit(first); wait != nil || doom != nil {
						t.Fatalf("the first is to wait for %v, doom %+v", wait, doom)
					}
					held := incoming.ConflictsWith(earlier)
					if wait, doom := r.Submit(second); (wait == first) != held || doom != nil {
						t.Fatalf("the second is to wait for %v, doom %+v", wait, doom)
					}
					woken := 0
					if certified {
						woken += len(r.Delivered(1, me, winner, yieldAll([]did{{1, earlier}})))
						if first.Doom() != nil {
							t.Errorf("it dooms itself")
						}
					}
					woken += len(r.End(first))
					if (woken == 1) != held || woken > 1 {
						t.Errorf("the second is woken %d times", woken)
					}
					if wait, doom := r.Submit(second); wait != nil || (doom != nil) != (held && certified) {
						t.Errorf("then the second is to wait for %v, doom %+v", wait, doom)
					}
				})
			}
		}
	}
}

// TestFirstRival lets one wait for the first of several on their way, whatever
// the order in which they touched.
func TestFirstRival(t *testing.T) {
	for _, order := range [][]int{{0, 1, 2}, {1, 0, 2}, {2, 1, 0}} {
		r := New[int](DefaultWindow, seed)
		var rivals []*Transaction[int]
		for i := range order {
			rivals = append(rivals, r.Begin(0, i))
			r.Touch(rivals[i], 1, certifier.Delta)
		}
		tx := r.Begin(0, 3)
		r.Touch(tx, 1, certifier.Write)
		for _, i := range order {
			r.Submit(rivals[i])
		}
		for _, i := range order {
			if wait, _ := r.Submit(tx); wait != rivals[i] {
				t.Fatalf("order %v: waits for %v, want %d", order, wait, i)
			}
			r.End(rivals[i])
		}
		if wait, doom := r.Submit(tx); wait != nil || doom != nil {
			t.Errorf("order %v: waits for %v, doom %v", order, wait, doom)
		}
	}
}

// TestOnItsWayIsNotDoomed leaves the verdict to the group.
func TestOnItsWayIsNotDoomed(t *testing.T) {
	r := New[string](DefaultWindow, seed)
	tx := r.Begin(0, "tx")
	r.Touch(tx, 1, certifier.Write)
	r.Submit(tx)
	if losers := r.Delivered(1, other, winner, yieldAll([]did{{1, certifier.Write}})); losers != nil {
		t.Errorf("the delivery names %v", losers)
	}
	if doom := r.Touch(tx, 1, certifier.Write); doom != nil {
		t.Errorf("doom %+v", *doom)
	}
}

// TestWindow checks how long a delivery is remembered.
func TestWindow(t *testing.T) {
	const window = 4
	r := New[string](window, seed)
	r.Delivered(1, other, winner, yieldAll([]did{{1, certifier.Write}, {1, certifier.Write}, {1, certifier.Read}}))
	for i := range certifier.Item(window - 1) {
		r.Delivered(2, other, gtid.GTID{}, yieldAll([]did{{2 + i, certifier.Delta}}))
	}
	if doom := r.Touch(r.Begin(0, "in time"), 1, certifier.Write); doom == nil || doom.Winner != winner {
		t.Errorf("the last but %d is forgotten: %+v", window, doom)
	}
	r.Delivered(2, other, gtid.GTID{}, yieldAll([]did{{9, certifier.Delta}}))
	if doom := r.Touch(r.Begin(0, "late"), 1, certifier.Write); doom != nil {
		t.Errorf("what has left the window is remembered: %+v", *doom)
	}
	if r.stamps.Len() != window || r.deliveries.Len() != window || r.entries.used != window+1 {
		t.Errorf("%d stamps, %d deliveries, %d entries", r.stamps.Len(), r.deliveries.Len(), r.entries.used)
	}
}

// TestMaxTouches checks that a huge transaction is followed so far and no
// further, and is still doomed for what it touched before.
func TestMaxTouches(t *testing.T) {
	r := New[string](1, seed)
	tx := r.Begin(0, "huge")
	for i := range certifier.Item(MaxTouches + 100) {
		r.Touch(tx, i, certifier.Write)
	}
	if r.entries.used != MaxTouches {
		t.Errorf("%d items are followed", r.entries.used)
	}
	r.Touch(tx, 0, certifier.Reference) // has its place already
	r.Delivered(1, other, winner, yieldAll([]did{{MaxTouches, certifier.Write}}))
	if tx.Doom() != nil {
		t.Errorf("doomed for what is not followed: %+v", *tx.Doom())
	}
	r.Delivered(2, other, winner, yieldAll([]did{{MaxTouches - 1, certifier.Write}}))
	if tx.Doom() == nil {
		t.Error("not doomed for the last that is followed")
	}
	if err := r.check(); err != nil {
		t.Error(err)
	}
}

// TestMemoryIsGivenBack lets many transactions run at once, then a few at a
// time.
func TestMemoryIsGivenBack(t *testing.T) {
	r := New[string](64, seed)
	for round := range uint64(3) {
		var all []*Transaction[string]
		for i := range certifier.Item(64) {
			tx := r.Begin(round, "one of many")
			for j := range certifier.Item(1000) {
				r.Touch(tx, i<<32|j, certifier.Write)
			}
			all = append(all, tx)
		}
		if r.entries.used != 64_000 {
			t.Fatalf("%d entries", r.entries.used)
		}
		for i, tx := range all {
			if i%2 == 0 {
				r.Delivered(round+1, other, winner, yieldAll([]did{{certifier.Item(i) << 32, certifier.Write}}))
			}
			r.End(tx)
		}
		if r.entries.used > 64 || len(r.entries.slots) > 512 {
			t.Errorf("%d entries in %d slots", r.entries.used, len(r.entries.slots))
		}
		if r.spares.entryCount > spareEntries || r.spares.blockCount > spareBlocks {
			t.Errorf("%d entries and %d blocks to spare", r.spares.entryCount, r.spares.blockCount)
		}
		for b := r.spares.blocks; b != nil; b = b.older {
			if b.n != 0 || b.touches != [len(b.touches)]touch[string]{} {
				t.Fatal("a spare block holds on to what was in it")
			}
		}
		if err := r.check(); err != nil {
			t.Error(err)
		}
	}
}

// TestGivingUp lets many wait for one whose verdict does not come, and give up:
// nothing of them stays.
func TestGivingUp(t *testing.T) {
	r := New[int](1, seed)
	begin := func(i int) *Transaction[int] {
		tx := r.Begin(0, i)
		r.Touch(tx, 1, certifier.Write)
		return tx
	}
	first := begin(0)
	r.Submit(first)
	var waiting []*Transaction[int]
	for i := range 5 {
		tx := begin(i)
		if wait, _ := r.Submit(tx); wait != first {
			t.Fatalf("%d waits for %v", i, wait)
		}
		waiting = append(waiting, tx)
	}
	for _, i := range []int{0, 2, 4} {
		r.End(waiting[i])
		r.End(waiting[i])
	}
	if r.entries.find(1).touches != 3 || first.first != waiting[1] || first.last != waiting[3] {
		t.Errorf("what is left: %d touches, first %v, last %v", r.entries.find(1).touches, first.first, first.last)
	}
	if got, want := r.End(first), []*Transaction[int]{waiting[1], waiting[3]}; !slices.Equal(got, want) {
		t.Errorf("the end names %v, want %v", got, want)
	}
}

// shell is what a caller does: a lock around the registry, and a channel for
// each transaction that must wait.
type shell struct {
	mu   sync.Mutex
	r    *Registry[*client]
	way  chan *client // in the order of submission
	next uint64
}

type client struct {
	tx    *Transaction[*client]
	item  certifier.Item
	wake  chan struct{}
	ended chan bool // certified or not
}

// commit returns whether the client's transaction was broadcast, and how that
// went.
func (s *shell) commit(c *client) (sent, certified bool) {
	for {
		s.mu.Lock()
		wait, doom := s.r.Submit(c.tx)
		switch {
		case doom != nil:
			s.r.End(c.tx)
			s.mu.Unlock()
			return false, false
		case wait == nil:
			s.way <- c // under the lock: the order of submission is that of the log
			s.mu.Unlock()
			return true, <-c.ended
		}
		woken := make(chan struct{})
		c.wake = woken // the waker clears the field
		s.mu.Unlock()
		<-woken
	}
}

func wake(all []*Transaction[*client]) {
	for _, x := range all {
		if x.Owner.wake != nil {
			close(x.Owner.wake)
			x.Owner.wake = nil
		}
	}
}

// deliver plays the group: each third transaction that is broadcast loses for
// a reason of its own.
func (s *shell) deliver(done chan<- struct{}) {
	defer close(done)
	for c := range s.way {
		s.mu.Lock()
		s.next++
		certified := s.next%3 != 0
		if certified {
			id := gtid.GTID{UUID: group, Number: s.next}
			wake(s.r.Delivered(s.next, me, id, yieldAll([]did{{c.item, certifier.Write}})))
		}
		wake(s.r.End(c.tx))
		s.mu.Unlock()
		c.ended <- certified
	}
}

// TestNoLostWakeUps commits from many goroutines at once, all to two items.
// It ends only if everyone that waits is woken.
func TestNoLostWakeUps(t *testing.T) {
	const clients, each = 16, 200
	s := &shell{r: New[*client](DefaultWindow, seed), way: make(chan *client, clients)}
	delivered := make(chan struct{})
	go s.deliver(delivered)
	var wg sync.WaitGroup
	var sent, held [clients]int
	for n := range clients {
		wg.Go(func() {
			for i := range each {
				c := &client{item: certifier.Item(i % 2), ended: make(chan bool, 1)}
				s.mu.Lock()
				c.tx = s.r.Begin(s.next, c)
				s.r.Touch(c.tx, c.item, certifier.Write)
				s.mu.Unlock()
				if ok, _ := s.commit(c); ok {
					sent[n]++
				} else {
					held[n]++
				}
			}
		})
	}
	wg.Wait()
	close(s.way)
	<-delivered
	total := 0
	for n := range clients {
		total += sent[n] + held[n]
	}
	if total != clients*each {
		t.Errorf("%d answers to %d commits", total, clients*each)
	}
	for item := range certifier.Item(2) {
		if e := s.r.entries.find(item); e != nil && e.touches != 0 {
			t.Errorf("%d touches of item %d are left", e.touches, item)
		}
	}
}
