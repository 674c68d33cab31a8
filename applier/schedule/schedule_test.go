package schedule

import (
	"errors"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// crew runs what a scheduler says, in an order of rapid's choice, and holds it
// against the rules as they are written, looking at every transaction each time.
type crew struct {
	s         *Scheduler
	limits    Limits
	intervals []interval // by number
	states    []state
	attempts  []int // that were not recalled
	failures  []int // attempts that fail, before one succeeds
	visible   int
}

type interval struct{ lastCommitted, sequence uint64 }

func (c *crew) count(of state) (n int) {
	for _, x := range c.states {
		if x == of {
			n++
		}
	}
	return n
}

func (c *crew) add(t *rapid.T) {
	if !c.s.Room() {
		if len(c.states)-c.visible < c.limits.Window {
			t.Fatalf("no room beside %d of %d", len(c.states)-c.visible, c.limits.Window)
		}
		return
	}
	last := uint64(rapid.SampledFrom([]int{0, 7}).Draw(t, "before the first"))
	if n := len(c.intervals); n > 0 {
		last = c.intervals[n-1].sequence
	}
	sequence := last + rapid.SampledFrom([]uint64{1, 1, 1, 3}).Draw(t, "step")
	i := interval{rapid.Uint64Range(max(last, 6)-6, last).Draw(t, "last committed"), sequence}
	n, err := c.s.Add(i.lastCommitted, i.sequence)
	if err != nil || n != uint64(len(c.states)) {
		t.Fatalf("added as %d, %v, want %d", n, err, len(c.states))
	}
	c.intervals, c.states, c.attempts = append(c.intervals, i), append(c.states, waiting), append(c.attempts, 0)
	c.failures = append(c.failures, rapid.SampledFrom([]int{0, 0, 0, 1, 2}).Draw(t, "failures"))
}

func (c *crew) start(t *rapid.T) {
	for n, ok := c.s.Recall(); ok; n, ok = c.s.Recall() {
		if c.states[n] != executed || c.states[c.visible] != retrying || int(n) <= c.visible {
			t.Fatalf("%d is recalled in state %d, the head in state %d", n, c.states[n], c.states[c.visible])
		}
		c.states[n] = waiting
		c.attempts[n]--
	}
	n, attempt, ok := c.s.Start()
	if !ok {
		c.mustWait(t)
		return
	}
	alone := c.states[n] == retrying
	if c.states[c.visible] == running && c.attempts[c.visible] > 1 {
		t.Fatalf("%d starts beside the head, which is tried again", n)
	}
	for i := c.visible; i < len(c.states); i++ {
		x := c.intervals[i]
		switch {
		case x.sequence <= c.intervals[n].lastCommitted:
			t.Fatalf("%d starts before %d, on which it depends", n, i)
		case alone && i != int(n) && (c.states[i] == running || c.states[i] == executed):
			t.Fatalf("%d is tried again beside %d in state %d", n, i, c.states[i])
		}
	}
	if alone && int(n) != c.visible || !alone && c.states[n] != waiting || c.count(running) >= c.limits.Running {
		t.Fatalf("%d starts in state %d with %d running", n, c.states[n], c.count(running))
	}
	c.states[n] = running
	if c.attempts[n]++; attempt != c.attempts[n] {
		t.Fatalf("%d starts for the time %d, it is %d", n, attempt, c.attempts[n])
	}
}

// mustWait checks that nothing could start.
func (c *crew) mustWait(t *rapid.T) {
	if c.visible == len(c.states) || c.count(running) >= c.limits.Running {
		return
	}
	head := c.states[c.visible]
	switch {
	case head == broken, head == running && c.attempts[c.visible] > 1:
		return
	case head == retrying && c.count(running) > 0:
		return
	case head == retrying:
		t.Fatal("the head is not tried again")
	}
	for i := c.visible; i < len(c.states); i++ {
		if c.states[i] == waiting && c.intervals[i].lastCommitted < c.intervals[c.visible].sequence {
			t.Fatalf("%d does not start", i)
		}
	}
}

func (c *crew) finish(t *rapid.T) {
	var all []int
	for i, x := range c.states {
		if x == running {
			all = append(all, i)
		}
	}
	if len(all) == 0 {
		return
	}
	n := rapid.SampledFrom(all).Draw(t, "who")
	if c.attempts[n] <= c.failures[n] {
		c.states[n] = retrying
		if c.attempts[n] >= c.limits.Attempts {
			c.states[n] = broken
		}
		c.s.Failed(uint64(n), true)
		return
	}
	c.states[n] = executed
	c.s.Executed(uint64(n))
}

func (c *crew) commit(t *rapid.T) {
	first, n := c.s.Commit()
	if int(first) != c.visible {
		t.Fatalf("a run from %d on, %d are visible", first, c.visible)
	}
	for i := range n {
		if c.states[c.visible+i] != executed {
			t.Fatalf("%d becomes visible in state %d", c.visible+i, c.states[c.visible+i])
		}
	}
	if end := c.visible + n; end < len(c.states) && c.states[end] == executed {
		t.Fatalf("the run ends before %d", end)
	}
	if _, more := c.s.Commit(); more != 0 && n > 0 {
		t.Fatal("two runs at a time")
	}
	c.s.Committed()
	c.visible += n
}

// TestModel holds random schedules against the rules, and then lets everything
// come to its end.
func TestModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := &crew{limits: Limits{
			Running: rapid.IntRange(1, 4).Draw(t, "running"), Window: rapid.IntRange(1, 12).Draw(t, "window"),
			Attempts: rapid.IntRange(1, 4).Draw(t, "attempts"),
		}}
		c.s = New(c.limits)
		t.Repeat(map[string]func(*rapid.T){"add": c.add, "start": c.start, "finish": c.finish, "commit": c.commit, "": c.invariants})
		for range 10 * len(c.states) {
			c.start(t)
			c.finish(t)
			c.commit(t)
		}
		n, stuck := c.s.Broken()
		if stuck && (int(n) != c.visible || c.failures[n] < c.limits.Attempts) || !stuck && c.visible < len(c.states) {
			t.Fatalf("%d of %d are visible at the end, broken: %d %v", c.visible, len(c.states), n, stuck)
		}
	})
}

func (c *crew) invariants(t *rapid.T) {
	if c.s.Len() != len(c.states)-c.visible || c.s.Len() > c.limits.Window || c.s.Next() != uint64(len(c.states)) {
		t.Fatalf("%d are known, %d of them not visible, the window is %d", c.s.Next(), c.s.Len(), c.limits.Window)
	}
}

// TestSideBySide checks how many run at a time in streams of different kinds.
func TestSideBySide(t *testing.T) {
	for _, c := range []struct {
		what  string
		after func(sequence uint64) uint64 // last committed
		want  []int                        // how many start, round by round, as all of them end
	}{
		{"independent", func(uint64) uint64 { return 0 }, []int{4, 4, 1}},
		{"a chain", func(s uint64) uint64 { return s - 1 }, []int{1, 1, 1, 1, 1, 1, 1, 1, 1}},
		{"pairs", func(s uint64) uint64 { return (s - 1) / 2 * 2 }, []int{2, 2, 2, 2, 1}},
		{"a barrier", func(s uint64) uint64 {
			switch {
			case s < 3:
				return 0
			case s == 3:
				return 2
			}
			return 3
		}, []int{2, 1, 4, 2}},
		{"one that waits, and others that need not", func(s uint64) uint64 {
			if s == 2 {
				return 1
			}
			return 0
		}, []int{4, 4, 1}},
	} {
		t.Run(c.what, func(t *testing.T) {
			s := New(Limits{Running: 4, Window: 100, Attempts: 1})
			for sequence := uint64(1); sequence <= 9; sequence++ {
				if _, err := s.Add(c.after(sequence), sequence); err != nil {
					t.Fatal(err)
				}
			}
			var got []int
			for s.Len() > 0 && len(got) < 20 {
				var started []uint64
				for n, _, ok := s.Start(); ok; n, _, ok = s.Start() {
					started = append(started, n)
				}
				for _, n := range slices.Backward(started) {
					s.Executed(n)
				}
				s.Commit()
				s.Committed()
				got = append(got, len(started))
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("%v start, want %v", got, c.want)
			}
		})
	}
}

func TestIntervals(t *testing.T) {
	s := New(Limits{})
	for _, c := range []struct {
		lastCommitted, sequence uint64
		ok                      bool
	}{{5, 5, false}, {6, 5, false}, {0, 0, false}, {4, 5, true}, {0, 5, false}, {0, 4, false}, {6, 6, false}} {
		if _, err := s.Add(c.lastCommitted, c.sequence); errors.Is(err, ErrInterval) == c.ok {
			t.Errorf("interval %d, %d: %v", c.lastCommitted, c.sequence, err)
		}
	}
}

// TestMisuse checks that who is told of what does not run fails loudly.
func TestMisuse(t *testing.T) {
	for what, do := range map[string]func(*Scheduler){
		"executed before it starts": func(s *Scheduler) { s.Executed(0) },
		"unknown":                   func(s *Scheduler) { s.Failed(1, true) },
		"executed twice":            func(s *Scheduler) { s.Start(); s.Executed(0); s.Executed(0) },
	} {
		t.Run(what, func(t *testing.T) {
			s := New(Limits{})
			if _, err := s.Add(0, 1); err != nil {
				t.Fatal(err)
			}
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			do(s)
		})
	}
}

// BenchmarkScheduler takes transactions through, four at a time, of which one in
// eight depends on the one before.
func BenchmarkScheduler(b *testing.B) {
	s := New(Limits{Running: 4, Window: 256, Attempts: 1})
	b.ReportAllocs()
	sequence := uint64(0)
	for b.Loop() {
		sequence++
		after := max(sequence, 64) - 64
		if sequence%8 == 0 {
			after = sequence - 1
		}
		if _, err := s.Add(after, sequence); err != nil {
			b.Fatal(err)
		}
		for !s.Room() {
			n, _, ok := s.Start()
			if ok {
				s.Executed(n)
				continue
			}
			s.Commit()
			s.Committed()
		}
	}
}
