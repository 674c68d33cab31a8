package consistency

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// question is a read index asked for by a caller in the model.
type question struct {
	id       uint64
	at       time.Duration // by the caller's look at the clock
	commit   uint64        // committed when it was put
	index    uint64        // what was answered, 0 for nothing yet
	answered bool
	// overtaken: somebody who asked later was answered first.
	overtaken bool
}

// world is a group whose commits are counted by a clock that never stands
// still, and a member that asks, is answered late or not at all, in any order,
// and shows what it has in its own time.
type world struct {
	now      time.Duration
	nextID   uint64
	commits  []time.Duration // when each index was committed
	early    []question      // who has drawn an id and looked at the clock, and not asked yet
	asked    []question      // in the order of the calls of Asked
	visible  uint64
	inOrder  bool // whoever draws an id asks at once
	known    time.Duration
	mistakes func(string, ...any)
	f        Freshness
}

func (w *world) step(t *rapid.T) {
	w.now += time.Duration(rapid.IntRange(1, 10).Draw(t, "later"))
	switch rapid.SampledFrom([]string{"commit", "draw", "draw", "ask", "ask", "answer", "answer", "show"}).Draw(t, "what") {
	case "commit":
		for range rapid.IntRange(1, 3).Draw(t, "commits") {
			w.commits = append(w.commits, w.now)
		}
	case "draw":
		w.nextID += rapid.Uint64Range(1, 2).Draw(t, "ids")
		w.early = append(w.early, question{id: w.nextID, at: w.now})
		if w.inOrder {
			w.ask(0, false)
		}
	case "ask":
		if len(w.early) > 0 {
			w.ask(rapid.IntRange(0, len(w.early)-1).Draw(t, "who asks"), rapid.Bool().Draw(t, "draws its id late"))
		}
	case "answer":
		if len(w.asked) == 0 {
			return
		}
		i := rapid.IntRange(0, len(w.asked)-1).Draw(t, "who is answered")
		if q := &w.asked[i]; !q.answered {
			q.answered = true
			q.overtaken = slices.ContainsFunc(w.asked[i:], func(later question) bool { return later.answered && later.id > q.id })
			q.index = rapid.Uint64Range(q.commit, uint64(len(w.commits))).Draw(t, "index")
			w.f.Answered(q.id, q.index)
		}
	case "show":
		w.visible = rapid.Uint64Range(w.visible, uint64(len(w.commits))).Draw(t, "visible")
	}
	w.check()
}

func (w *world) ask(i int, late bool) {
	q := w.early[i]
	w.early = slices.Delete(w.early, i, i+1)
	if late {
		w.nextID++
		q.id = w.nextID // it looked at the clock first, and drew its id just now
	}
	q.commit = uint64(len(w.commits))
	w.asked = append(w.asked, q)
	w.f.Asked(q.id, q.at)
}

// check holds what is known against what was committed by then.
func (w *world) check() {
	at, ok := w.f.Known(w.visible)
	if !ok {
		return
	}
	if at < w.known {
		w.mistakes("complete up to %d, it was up to %d", at, w.known)
	}
	w.known = at
	before := uint64(0)
	for _, c := range w.commits {
		if c < at {
			before++
		}
	}
	if before > w.visible {
		w.mistakes("complete up to %d, when %d entries were there; %d are visible", at, before, w.visible)
	}
}

// best is what the member could know if it remembered all answers but those that
// come too late to say anything new: the ones that were overtaken.
func (w *world) best() (at time.Duration, ok bool) {
	for _, q := range w.asked {
		if q.answered && !q.overtaken && q.index <= w.visible {
			at, ok = max(at, q.at), true
		}
	}
	return at, ok
}

// TestFreshnessIsTrue checks that nothing is claimed that is not there, whoever
// asks in whatever order.
func TestFreshnessIsTrue(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &world{mistakes: t.Fatalf}
		for range rapid.IntRange(1, 400).Draw(t, "steps") {
			w.step(t)
		}
	})
}

// TestFreshnessForgetsNothing checks that with few questions at a time all that
// can be known is known.
func TestFreshnessForgetsNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &world{mistakes: t.Fatalf, inOrder: true}
		for range rapid.IntRange(1, 150).Draw(t, "steps") {
			w.step(t)
			at, ok := w.f.Known(w.visible)
			want, wantOK := w.best()
			if len(w.asked) <= kept && (at != want || ok != wantOK) {
				t.Fatalf("complete up to %d (%t), it could be known up to %d (%t)", at, ok, want, wantOK)
			}
		}
	})
}

// TestFreshnessOfSlowMember has a member that shows everything with a lag of many
// questions: it must know its lag with a small error.
func TestFreshnessOfSlowMember(t *testing.T) {
	for _, lag := range []int{1, 10, kept, 3 * kept, 20 * kept} {
		var f Freshness
		worst := 0
		for now := range 100 * kept {
			f.Asked(uint64(now+1), time.Duration(now))
			f.Answered(uint64(now+1), uint64(now+1))
			if now < 2*lag {
				f.Known(uint64(max(0, now-lag)))
				continue
			}
			at, ok := f.Known(uint64(now - lag))
			if !ok || int(at) > now-lag-1 {
				t.Fatalf("lag %d, at %d: complete up to %d (%t)", lag, now, at, ok)
			}
			worst = max(worst, now-lag-1-int(at))
		}
		if most := 8 * lag / kept; worst > most {
			t.Errorf("lag %d: known with an error of up to %d, want %d at most", lag, worst, most)
		}
	}
}

// TestFreshnessOfManyCallers has more callers at once than are remembered: one
// answer each round, to any of them, must keep the member informed.
func TestFreshnessOfManyCallers(t *testing.T) {
	var f Freshness
	const callers = 20 * kept
	for round := range 20 {
		for i := range callers {
			f.Asked(uint64(round*callers+i+1), time.Duration(round*callers+i))
		}
		if len(f.asks) > kept {
			t.Fatalf("%d questions are remembered", len(f.asks))
		}
		// The first of the round before is answered, and so late that all of this
		// round have asked.
		f.Answered(uint64(max(0, round-1)*callers+1), uint64(round))
		at, ok := f.Known(uint64(round))
		if round > 0 && (!ok || int(at) < (round-2)*callers) {
			t.Fatalf("round %d: complete up to %d (%t)", round, at, ok)
		}
	}
}

func TestFreshnessCorners(t *testing.T) {
	var f Freshness
	if at, ok := f.Known(1 << 63); ok || at != 0 {
		t.Errorf("nothing was asked: complete up to %d (%t)", at, ok)
	}
	f.Answered(7, 0) // nobody asked
	if at, ok := f.Known(1 << 63); ok || at != 0 {
		t.Errorf("nobody was answered: complete up to %d (%t)", at, ok)
	}
	f.Asked(8, 100)
	f.Asked(9, 50)  // looked at the clock before 8 did, and asked after it
	f.Asked(7, 200) // drew its id before 8 did, and asked after it
	f.Answered(7, 3)
	if at, ok := f.Known(3); ok {
		t.Errorf("8 was not answered: complete up to %d", at)
	}
	f.Answered(9, 4)
	if at, ok := f.Known(3); ok {
		t.Errorf("3 of 4 are visible: complete up to %d", at)
	}
	if at, ok := f.Known(4); !ok || at != 100 {
		t.Errorf("complete up to %d (%t), want 100", at, ok)
	}
	if at, ok := f.Known(0); !ok || at != 100 {
		t.Errorf("it is forgotten: complete up to %d (%t), want 100", at, ok)
	}
}

// BenchmarkFreshness is what a transaction that asks costs.
func BenchmarkFreshness(b *testing.B) {
	var f Freshness
	id := uint64(0)
	b.ReportAllocs()
	for b.Loop() {
		id++
		f.Asked(id, time.Duration(id))
		if id%100 == 0 {
			f.Answered(id-50, id)
		}
		f.Known(id / 2)
	}
}
