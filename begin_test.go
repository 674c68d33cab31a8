package concordat

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/concordatdb/concordat/applier"
	"github.com/concordatdb/concordat/election"
	"github.com/concordatdb/concordat/gcs"
	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/internal/consistency"
	"github.com/concordatdb/concordat/internal/replica"
)

// shelf is an engine that only has a position.
type shelf struct {
	applier.Engine
	at atomic.Pointer[applier.Position]
}

func (s *shelf) Position() applier.Position { return *s.at.Load() }

// standIn is a member without anything that runs: the test plays its state machine.
type standIn struct {
	*Node
	t     *testing.T
	shelf *shelf
	life  *life
}

const standInPrimary, standInOther = 1, 2

func uuidOf(raftID uint64) gtid.UUID { return gtid.UUID{15: byte(raftID)} }

// newStandIn is an ONLINE primary of a group of two, at log index 10.
func newStandIn(t *testing.T) *standIn {
	n := &Node{cfg: Config{}.withDefaults(), early: newEarly(), conflicts: newConflictLog(), lifetime: t.Context(), flow: newThrottle()}
	n.id = gcs.Identity{Member: uuidOf(standInPrimary), RaftID: standInPrimary}
	n.logger = n.cfg.Logger
	n.drain.news = &n.changed
	n.own.now = Online
	s := &standIn{Node: n, t: t, shelf: &shelf{}}
	n.engine = s.shelf
	n.standing.Store(&known{})
	s.life = newLife(n, nil)
	n.life.Store(s.life)
	s.show(10)
	s.know(func(*known) {})
	return s
}

// know publishes what the state machine would, changed by change.
func (s *standIn) know(change func(*known)) {
	k := known{}
	k.State, k.Quorum = replica.Online, true
	for id := uint64(1); id <= 2; id++ {
		k.View.Members = append(k.View.Members, gcs.Member{UUID: uuidOf(id), RaftID: id, Address: "host:" + string('0'+rune(id)), State: gcs.Online})
	}
	k.Election = election.Snapshot{
		Epoch: 3, Mode: SinglePrimary, Primary: standInPrimary,
		Members: []election.Member{
			{UUID: uuidOf(1), RaftID: 1, Online: true, Writes: true, Since: 3},
			{UUID: uuidOf(2), RaftID: 2, Online: true, ClientAddress: "clients:2"},
		},
	}
	change(&k)
	s.publish(k)
}

// show makes everything up to a log index visible.
func (s *standIn) show(index uint64, executed ...gtid.GTID) {
	set := gtid.Set{}
	for _, g := range executed {
		set = set.Add(g)
	}
	s.shelf.at.Store(&applier.Position{Index: index, Executed: set})
	s.visible.broadcast()
}

// begin begins a transaction in the background.
func (s *standIn) begin(ctx context.Context, write bool, opts ...TxOption) <-chan error {
	o, err := optionsOf(opts)
	if err != nil {
		s.t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.beginAt(ctx, &o, write) }()
	return done
}

// stillWaits lets everybody run until they wait, and checks that a begin does.
func (s *standIn) stillWaits(done <-chan error) {
	s.t.Helper()
	synctest.Wait()
	select {
	case err := <-done:
		s.t.Fatalf("it does not wait: %v", err)
	default:
	}
}

// asked returns the tickets of the next reads that were asked for.
func (s *standIn) asked() (tickets []uint64) {
	s.t.Helper()
	for len(tickets) == 0 {
		<-s.life.inbox.wake
		for _, e := range s.life.inbox.take(nil) {
			if asked, ok := e.(replica.ReadAsked); ok {
				tickets = append(tickets, asked.Ticket)
			}
		}
	}
	return tickets
}

func (s *standIn) answerRead(ticket, index uint64) {
	s.life.reads.answer([]replica.ReadAnswer{{Ticket: ticket, Index: index}})
}

// within is a context, with a deadline if a caller is patient.
func within(t *testing.T, patient bool) (context.Context, context.CancelFunc) {
	if patient {
		return context.WithTimeout(t.Context(), time.Hour)
	}
	return context.WithCancel(t.Context())
}

func mustBegin(t *testing.T, done <-chan error) {
	t.Helper()
	if err := <-done; err != nil {
		t.Fatalf("begin: %v", err)
	}
}

// mustWait checks what a wait says that has ended.
func mustWait(t *testing.T, err error, step WaitStep, cause error, texts ...string) *WaitError {
	t.Helper()
	e, ok := errors.AsType[*WaitError](err)
	if !ok || e.Step != step || !errors.Is(err, ErrWait) || !errors.Is(err, cause) {
		t.Fatalf("got %v (%T), want the end of a wait for %v by %v", err, err, step, cause)
	}
	for _, text := range texts {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("nothing about %q in: %v", text, err)
		}
	}
	return e
}

// An After transaction that others may show holds transactions of every level, a
// change of the primary those that ask for that.
func TestFloors(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		floor consistency.Floor
		level Consistency
		step  WaitStep // 0: it does not wait
		text  string
	}{
		{"nothing", consistency.Floor{}, After, 0, ""},
		{"passed", consistency.Floor{Gate: 10, Change: 9}, After, 0, ""},
		{"gate", consistency.Floor{Gate: 12}, Eventual, WaitGate, "up to log index 12; this member shows 10"},
		{"gate and change", consistency.Floor{Gate: 12, Change: 11}, BeforeOnPrimaryFailover, WaitGate, "index 12"},
		{"change", consistency.Floor{Change: 13}, BeforeOnPrimaryFailover, WaitChange, "the backlog of the primary before, up to log index 13"},
		{"change for nobody", consistency.Floor{Change: 13}, Eventual, 0, ""},
		{"change behind a gate", consistency.Floor{Gate: 12, Change: 13}, After, WaitChange, "index 13"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				for _, write := range []bool{false, true} {
					s := newStandIn(t)
					s.know(func(k *known) { k.GateWaits = []uint64{standInOther} })
					s.floor.raise(c.floor)
					ctx, cancel := context.WithCancel(t.Context())
					done := s.begin(ctx, write, WithConsistency(c.level))
					if c.step != 0 {
						s.stillWaits(done)
						cancel()
						e := mustWait(t, <-done, c.step, context.Canceled, c.text, c.level.String())
						if missing := slices.Equal(e.Missing, []gtid.UUID{uuidOf(standInOther)}); missing != (c.step == WaitGate) {
							t.Errorf("missing are %v", e.Missing)
						}
						if open := s.drain.open.Load(); open != 0 {
							t.Errorf("%d in the drain after an error", open)
						}
						done = s.begin(t.Context(), write, WithConsistency(c.level))
						s.stillWaits(done)
						s.show(max(c.floor.Gate, c.floor.Change))
					}
					mustBegin(t, done)
					cancel()
					if open := s.drain.open.Load() == 1; open != write {
						t.Errorf("in the drain: %v, writes: %v", open, write)
					}
				}
			})
		})
	}
}

// A floor does not sink before it is visible, whatever is said later, and begins
// anew with a life.
func TestFloorsRise(t *testing.T) {
	t.Parallel()
	var f floors
	f.raise(consistency.Floor{Gate: 5, Change: 3})
	f.raise(consistency.Floor{})
	f.passed(4)
	if got := f.floor(); got != (consistency.Floor{Gate: 5}) {
		t.Errorf("with 4 visible the floor is %+v", got)
	}
	f.raise(consistency.Floor{Gate: 7})
	f.passed(5)
	if got := f.floor(); got != (consistency.Floor{Gate: 7}) {
		t.Errorf("with 5 visible the floor is %+v", got)
	}
	f.reset()
	if got := f.floor(); got != (consistency.Floor{}) {
		t.Errorf("of a new life: %+v", got)
	}
}

// The level is the transaction's, else the member's, else the group's.
func TestDefaultLevel(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStandIn(t)
		s.floor.raise(consistency.Floor{Change: 11})
		for _, c := range []struct {
			tx, node, group Consistency
			waits           bool
		}{
			{},
			{group: BeforeOnPrimaryFailover, waits: true},
			{node: Eventual, group: BeforeOnPrimaryFailover},
			{node: After, waits: true},
			{tx: Eventual, node: After, group: After},
			{tx: After, node: Eventual, waits: true},
		} {
			s.cfg.Consistency = c.node
			s.know(func(k *known) { k.Settings.Consistency = c.group })
			ctx, cancel := context.WithCancel(t.Context())
			done := s.begin(ctx, false, WithConsistency(c.tx))
			if c.waits {
				s.stillWaits(done)
				cancel()
				mustWait(t, <-done, WaitChange, context.Canceled)
			} else {
				mustBegin(t, done)
			}
			cancel()
		}
	})
}

// A transaction at Before asks, and then waits for the answer to be visible.
func TestBefore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for _, level := range []Consistency{Before, BeforeAndAfter} {
			s := newStandIn(t)
			done := s.begin(t.Context(), false, WithConsistency(level))
			s.answerRead(s.asked()[0], 12)
			s.stillWaits(done)
			s.show(11)
			s.stillWaits(done)
			s.show(12)
			mustBegin(t, done)
			if n := len(s.life.reads.waiting); n != 0 {
				t.Errorf("%d questions are remembered", n)
			}
		}
	})
}

// A wait at Before says which of its two steps it was in, and who did not wait for
// ever is told that the quorum is gone.
func TestBeforeEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStandIn(t)
		ctx, cancel := context.WithCancel(t.Context())
		done := s.begin(ctx, true, WithConsistency(Before))
		s.asked()
		cancel()
		mustWait(t, <-done, WaitReadIndex, context.Canceled, "BEFORE", "up to which everything was acknowledged")

		ctx, cancel = context.WithCancel(t.Context())
		done = s.begin(ctx, true, WithConsistency(Before))
		s.answerRead(s.asked()[0], 15)
		s.stillWaits(done)
		cancel()
		mustWait(t, <-done, WaitApplied, context.Canceled, "up to log index 15; this member shows 10")

		done = s.begin(t.Context(), false, WithConsistency(Before))
		s.asked()
		s.know(func(k *known) { k.Quorum = false })
		mustWait(t, <-done, WaitReadIndex, ErrNoQuorum)

		s.know(func(*known) {})
		done = s.begin(t.Context(), false, WithConsistency(Before))
		s.answerRead(s.asked()[0], 15)
		s.stillWaits(done)
		s.know(func(k *known) { k.Quorum = false })
		mustWait(t, <-done, WaitApplied, ErrNoQuorum)

		patient, end := context.WithTimeout(t.Context(), time.Hour)
		defer end()
		s.know(func(*known) {})
		done = s.begin(patient, false, WithConsistency(Before))
		ticket := s.asked()[0]
		s.know(func(k *known) { k.Quorum = false })
		s.answerRead(ticket, 10)
		mustBegin(t, done)

		done = s.begin(patient, false, WithConsistency(Before))
		s.asked()
		s.closed.Store(true)
		close(s.life.done)
		mustWait(t, <-done, WaitReadIndex, ErrClosed)
	})
}

// Data that are known to be young enough are served at once; else a question dates
// them anew.
func TestAtMost(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStandIn(t)
		ctx, cancel := context.WithCancel(t.Context())
		done := s.begin(ctx, false, AtMost(time.Hour))
		first := s.asked()[0]
		s.know(func(k *known) {
			k.Peers = []gcs.Peer{{RaftID: standInOther, Heard: 1, Report: gcs.Report{Fresh: 2}}}
		})
		cancel()
		e := mustWait(t, <-done, WaitReadIndex, context.Canceled, "is not known", uuidOf(standInOther).String())
		if e.Stale != NotKnown {
			t.Errorf("the data are %v old", e.Stale)
		}
		s.answerRead(first, 10) // it dates what is visible, though nobody waits
		mustBegin(t, s.begin(t.Context(), false, AtMost(time.Hour)))

		// Nothing is younger than what has been asked for before it began.
		<-time.After(time.Millisecond)
		done = s.begin(t.Context(), false, AtMost(0))
		s.answerRead(s.asked()[0], 11)
		s.stillWaits(done)
		s.show(11)
		mustBegin(t, done)

		// A level that asks anyway asks whatever the age.
		done = s.begin(t.Context(), false, AtMost(time.Hour), WithConsistency(Before))
		s.answerRead(s.asked()[0], 11)
		mustBegin(t, done)

		ticket, due := s.life.reads.refresh()
		if !due {
			t.Error("nobody dates the data while there are those who ask for that")
		}
		s.answerRead(ticket, 11)
		if age := s.life.reads.age(11); age < 0 || age > time.Hour {
			t.Errorf("the data are %v old", age)
		}
		var idle reads
		if _, due := idle.refresh(); due {
			t.Error("the data are dated though nobody asks for that")
		}
	})
}

// The age of data counts by whichever clock goes further.
func TestClock(t *testing.T) {
	t.Parallel()
	var c clock
	start := time.Now()
	at := func(mono, wall int) time.Duration {
		return c.at(start.Add(seconds(mono)), start.Round(0).Add(seconds(wall)))
	}
	for _, step := range []struct{ mono, wall, want int }{
		{0, 0, 0}, {1, 1, 1}, {2, 0, 2}, // set back by 2
		{3, 10, 12}, // it slept, by the wall clock, which went from 0
		{3, 10, 12},
	} {
		if got := at(step.mono, step.wall).Round(time.Second); got != seconds(step.want) {
			t.Errorf("at %d and %d: %v, want %d s", step.mono, step.wall, got, step.want)
		}
	}
}

func seconds(n int) time.Duration { return time.Duration(n) * time.Second }

// A member that is out of its group serves what it has, as old as that is, and
// nothing that is more than that.
func TestBeginInError(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStandIn(t)
		s.floor.raise(consistency.Floor{Gate: 12})
		s.Node.life.Store(nil)
		s.own.now = Error
		s.exit.Store(&exit{err: errExpelled})
		mustBegin(t, s.begin(t.Context(), false))
		for _, o := range []TxOption{WithConsistency(BeforeOnPrimaryFailover), WithConsistency(Before), AtMost(time.Hour)} {
			if err := <-s.begin(t.Context(), false, o); !errors.Is(err, ErrNotOnline) {
				t.Errorf("got %v, want ErrNotOnline", err)
			}
		}
		mustWait(t, <-s.begin(t.Context(), false, AfterGTIDs(gtid.Set{}.Add(gtid.GTID{UUID: uuidOf(9), Number: 1}))), WaitSession, ErrNotOnline)
		if err := <-s.begin(t.Context(), true); !errors.Is(err, ErrNotOnline) {
			t.Errorf("got %v, want ErrNotOnline", err)
		}
	})
}

// Who has no right to write says so, and who has; where that is about to be
// settled, a caller with a deadline waits.
func TestRightToWrite(t *testing.T) {
	t.Parallel()
	demoted := func(k *known) {
		k.Election.Primary, k.Election.Epoch = standInOther, 4
		k.Election.Members[0].Writes, k.Election.Members[1].Writes = false, true
	}
	vacant := func(k *known) { demoted(k); k.Election.Primary, k.Election.Members[1].Writes = 0, false }
	for _, c := range []struct {
		name    string
		change  func(*known)
		err     error // nil: it writes
		patient bool  // with a deadline it waits
		waits   bool  // it waits in any case
		text    string
	}{
		{"primary", func(*known) {}, nil, false, false, ""},
		{"secondary", demoted, ErrReadOnly, false, false, "it is not the primary; the primary is 00000000-0000-0000-0000-000000000002 at clients:2 (epoch 4)"},
		{"vacancy", vacant, ErrReadOnly, true, false, "the group has no primary"},
		{"primary to be", func(k *known) { demoted(k); k.Election.Action = &election.Action{Target: standInPrimary} }, ErrReadOnly, true, false, "clients:2"},
		{"alone", func(k *known) { k.Alone = true }, ErrNoQuorum, true, false, "nothing happened"},
		{"outdated", func(k *known) { k.Outdated = 9 }, ErrReadOnly, true, true, "epoch 9 has begun elsewhere"},
		{"outdated and alone", func(k *known) { k.Outdated, k.Alone = 9, true }, ErrReadOnly, false, false, "delivered up to epoch 3"},
		{"newer version", func(k *known) {
			k.Election.Mode, k.Election.Primary = MultiPrimary, 0
			k.Election.Members[0].Version, k.Election.Members[0].Writes = 3<<8, false
		}, ErrReadOnly, false, false, "it runs 0.3.0 and the oldest ONLINE member 0.0.0"},
		{"no member", func(k *known) { k.Election.Members = nil }, ErrReadOnly, false, false, "epoch 3"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := newStandIn(t)
				s.know(c.change)
				mustBegin(t, s.begin(t.Context(), false)) // readers have nothing to do with it
				for _, patient := range []bool{false, true} {
					ctx, cancel := within(t, patient)
					done := s.begin(ctx, true)
					if c.waits || patient && c.patient {
						s.stillWaits(done)
						cancel()
						mustWait(t, <-done, WaitPrimary, context.Canceled)
						ctx, cancel = within(t, patient)
						done = s.begin(ctx, true)
						s.stillWaits(done)
						s.know(func(*known) {})
						mustBegin(t, done)
						s.drain.leave()
						s.know(c.change)
						cancel()
						continue
					}
					err := <-done
					cancel()
					if c.err == nil {
						if err != nil {
							t.Fatal(err)
						}
						s.drain.leave()
						continue
					}
					if !errors.Is(err, c.err) || !strings.Contains(err.Error(), c.text) || Retryable(err) {
						t.Errorf("got %v, want %v with %q", err, c.err, c.text)
					}
					if open := s.drain.open.Load(); open != 0 {
						t.Errorf("%d in the drain after an error", open)
					}
				}
			})
		})
	}
}

// What begins while the group takes the right from this member waits for the end of
// that, and is then told who has it.
func TestBeginWhileDraining(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStandIn(t)
		mustBegin(t, s.begin(t.Context(), true))
		action := func(k *known) {
			k.Election.Action = &election.Action{
				ID: uuidOf(7), Kind: election.SetPrimary, Index: 11, Target: standInOther, Grace: 3_600_000, Pending: []uint64{standInPrimary},
			}
		}
		s.know(action)
		synctest.Wait()
		kept := s.begin(t.Context(), true)
		s.stillWaits(kept) // the drain waits for the one inside, and this one for its end
		s.drain.leave()
		<-s.life.inbox.wake
		want := []replica.Event{replica.DrainedAsked{Action: uuidOf(7)}}
		if got := s.life.inbox.take(nil); !slices.Equal(got, want) {
			t.Errorf("told the group %v, want %v", got, want)
		}
		s.know(func(*known) {}) // cancelled
		mustBegin(t, kept)
		s.drain.leave()

		s.know(action)
		<-s.life.inbox.wake
		lost := s.begin(t.Context(), true)
		s.stillWaits(lost)
		s.know(func(k *known) {
			k.Election.Primary, k.Election.Epoch = standInOther, 4
			k.Election.Members[0].Writes, k.Election.Members[1].Writes = false, true
		})
		e, ok := errors.AsType[*ReadOnlyError](<-lost)
		if !ok || e.Primary != uuidOf(standInOther) || e.Epoch != 4 {
			t.Errorf("got %v", e)
		}
		s.helpers.wait()
	})
}

// Grace that is over ends the wait for what still runs, and the group is told how
// much that is.
func TestGraceOver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStandIn(t)
		mustBegin(t, s.begin(t.Context(), true))
		mustBegin(t, s.begin(t.Context(), true))
		s.know(func(k *known) {
			k.Election.Action = &election.Action{
				ID: uuidOf(7), Kind: election.SetPrimary, Index: 11, Target: standInOther, Pending: []uint64{standInPrimary},
			}
		})
		<-s.life.inbox.wake
		want := []replica.Event{replica.DrainedAsked{Action: uuidOf(7), Open: 2}}
		if got := s.life.inbox.take(nil); !slices.Equal(got, want) {
			t.Errorf("told the group %v, want %v", got, want)
		}
		s.helpers.wait()
	})
}
