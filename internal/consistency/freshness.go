package consistency

import (
	"slices"
	"time"
)

// kept is how many questions, and how many answers that are not visible yet, are
// remembered. With fewer than these nothing is forgotten; with more, what is kept
// stays evenly spread over the time that it spans.
const kept = 64

// ask is one question for a read index that nobody has answered.
type ask struct {
	id uint64
	at time.Duration
}

// answer says that who shows index shows everything up to a time.
type answer struct {
	index uint64
	at    time.Duration
}

// Freshness knows up to which time what is visible here is complete. Times are
// durations since some moment of the member's own, by a clock that does not run
// back. The zero value knows nothing. It belongs to one goroutine, or to who
// holds its lock, and takes a few kilobytes whatever happens.
type Freshness struct {
	asks    []ask    // ids and times ascend
	answers []answer // indexes and times ascend; none is visible yet
	newest  uint64   // the highest id asked
	known   time.Duration
	ok      bool // known is known
}

// Asked notes that a read index is asked for, under an id that is higher than
// those before. It is called before the question is put; one whose id or time is
// behind another's is not noted, for nobody can say which was put first. Its
// answer still counts, for an earlier one.
func (f *Freshness) Asked(id uint64, now time.Duration) {
	if id <= f.newest {
		return
	}
	f.newest = id
	if n := len(f.asks); n > 0 && now < f.asks[n-1].at || f.stale(now) {
		return
	}
	if len(f.asks) == kept {
		i := closest(len(f.asks), func(i int) time.Duration { return f.asks[i].at })
		f.asks = slices.Delete(f.asks, i, i+1)
	}
	f.asks = append(f.asks, ask{id, now})
}

// stale reports whether an answer tells of a later time than now.
func (f *Freshness) stale(now time.Duration) bool {
	n := len(f.answers)
	return n > 0 && now < f.answers[n-1].at || f.ok && now < f.known
}

// Answered notes that the read index asked for under an id is index. Whoever is
// answered was asked after all those with lower ids, so the answer is theirs too:
// that of many callers at once is never lost because only some of them are
// remembered.
func (f *Freshness) Answered(id, index uint64) {
	n := 0
	for n < len(f.asks) && f.asks[n].id <= id {
		n++
	}
	if n == 0 {
		return
	}
	a := answer{index, f.asks[n-1].at}
	f.asks = slices.Delete(f.asks, 0, n)
	// Who shows a lower index, and is complete up to a later time, needs no
	// higher one.
	for len(f.answers) > 0 && f.answers[len(f.answers)-1].index >= index {
		f.answers = f.answers[:len(f.answers)-1]
	}
	if len(f.answers) == kept {
		i := closest(len(f.answers), func(i int) time.Duration { return f.answers[i].at })
		f.answers = slices.Delete(f.answers, i, i+1)
	}
	f.answers = append(f.answers, a)
}

// Known returns the latest time up to which what is visible is complete: all
// that was acknowledged anywhere before then is at or below visible, the log
// index that the member shows. It is false while nothing is known. What was once
// visible must stay so.
func (f *Freshness) Known(visible uint64) (at time.Duration, ok bool) {
	n := 0
	for n < len(f.answers) && f.answers[n].index <= visible {
		n++
	}
	if n > 0 {
		f.known, f.ok = f.answers[n-1].at, true
		f.answers = slices.Delete(f.answers, 0, n)
	}
	return f.known, f.ok
}

// closest returns which of n ascending times, but for the first and the last, is
// missed least: the one between the closest neighbours.
func closest(n int, at func(int) time.Duration) int {
	best := 1
	for i := 2; i < n-1; i++ {
		if at(i+1)-at(i-1) < at(best+1)-at(best-1) {
			best = i
		}
	}
	return best
}
