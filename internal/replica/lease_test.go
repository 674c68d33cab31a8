package replica

import (
	"testing"

	"pgregory.net/rapid"
)

// What a lease says is what one finds who writes down every tick.
func TestLeaseModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		kept := rapid.IntRange(1, 8).Draw(t, "kept")
		l := newLease(kept)
		var passed []uint64 // at each tick, the newest last
		for _, elapsed := range rapid.SliceOfN(rapid.Uint64Range(0, 5), 0, 30).Draw(t, "ticks") {
			l.tick(elapsed)
			passed = append(passed, elapsed)
			for ago := range kept + 3 {
				sum := uint64(0)
				for i := range min(ago, len(passed)) {
					sum += passed[len(passed)-1-i]
				}
				for limit := range uint64(12) {
					want := ago <= kept && sum <= limit
					if got := l.within(ago, limit); got != want {
						t.Fatalf("after %v: %d ticks ago is within %d: %t, want %t", passed, ago, limit, got, want)
					}
				}
			}
		}
	})
	l := newLease(4)
	l.tick(1 << 60)
	if l.within(-1, 100) || l.now != maxElapsed {
		t.Errorf("after one endless tick it is %d", l.now)
	}
}

// A primary that slept is alone unless the others have told it that they hear it by
// its second tick, and easy again when they have.
func TestAloneAfterSleep(t *testing.T) {
	w, first, second, _ := elections(t, settings{})
	w.tick(4)
	if s := first.replica.Status(); s.Alone {
		t.Error("in the midst of its group it is alone")
	}
	first.step(Ticked{Elapsed: DefaultFailoverTicks + 1})
	if s := first.replica.Status(); s.Alone {
		t.Error("it has not read what it was told while it slept, and is alone")
	}
	w.tick(6)
	if s := first.replica.Status(); s.Alone {
		t.Error("it was told that it is heard, and is alone")
	}
	for range 2 {
		first.step(Ticked{Elapsed: DefaultFailoverTicks + 1})
		second.step(Ticked{Elapsed: DefaultFailoverTicks + 1})
	}
	if s := first.replica.Status(); !s.Alone {
		t.Error("after a long sleep it is not alone")
	}
	if s := second.replica.Status(); s.Alone {
		t.Error("one that may not write is alone")
	}
	w.tick(6)
	if s := first.replica.Status(); s.Alone {
		t.Error("it is heard and goes on being alone")
	}
	w.wantPrimary(first, 1)
}

// A primary that sleeps through its own deposition is told of the newer epoch
// before it has the log.
func TestOutdated(t *testing.T) {
	w, first, second, _ := elections(t, settings{})
	first.paused = true
	w.until(60, "another primary", func() bool { return second.replica.Status().Election.Epoch == 2 })
	first.inbox = nil
	first.paused = false
	w.cut = logless
	first.step(first.transaction(1, first.position.Executed, "late", 1))
	w.tick(4)
	s := first.replica.Status()
	if s.Election.Epoch != 1 || s.Outdated != 2 {
		t.Errorf("in epoch %d it has heard of %d", s.Election.Epoch, s.Outdated)
	}
	w.cut = nil
	w.until(100, "answered", func() bool { return len(first.answers) > 0 })
	if s := first.replica.Status(); s.Election.Epoch != 2 || s.Outdated != 0 || first.last().Index == 0 {
		t.Errorf("with the log: epoch %d, outdated %d", s.Election.Epoch, s.Outdated)
	}
}
