package concordat

import (
	"testing"
	"time"
)

// TestAging: a store that is given nothing is looked at as often as it forgets in
// steps, and one that is given something is not.
func TestAging(t *testing.T) {
	const tick = 100 * time.Millisecond
	for _, c := range []struct {
		age   time.Duration
		every uint64
	}{{0, 0}, {-1, 0}, {1, 1}, {64 * tick, 1}, {640 * tick, 10}, {64 * time.Hour, 36000}} {
		if got := newAging(c.age, tick).every; got != c.every {
			t.Errorf("with an age of %v a look comes every %d ticks, want %d", c.age, got, c.every)
		}
	}
	a := newAging(640*tick, tick)
	for _, c := range []struct {
		tick, visible uint64
		due           bool
	}{
		{1, 5, false},  // nobody has looked before
		{10, 5, false}, // too soon
		{11, 5, true},
		{20, 5, false},
		{21, 6, false}, // something has happened
		{31, 6, true},
		{90, 6, true}, // it was held up
		{99, 6, false},
		{100, 6, true},
	} {
		if got := a.due(c.tick, c.visible); got != c.due {
			t.Errorf("at tick %d: due %t", c.tick, got)
		}
	}
	never := newAging(0, tick)
	for tick := range uint64(3) {
		if never.due(tick*1000, 5) {
			t.Errorf("at tick %d without an age", tick)
		}
	}
}

// TestTrimsDoNotGather: a store that hangs is asked once.
func TestTrimsDoNotGather(t *testing.T) {
	s := newStandIn(t)
	for range 3 {
		s.life.trim()
	}
	tasks, ok := s.life.engine.take(nil)
	if !ok || len(tasks) != 1 {
		t.Fatalf("%d tasks wait", len(tasks))
	}
	for range 2 { // the engine of a program's own forgets by itself
		if err := s.life.engineTask(tasks[0]); err != nil {
			t.Fatal(err)
		}
	}
	if s.life.trim(); !s.life.engine.waiting() {
		t.Error("it is not asked again")
	}
}
