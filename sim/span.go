package sim

import "math/rand/v2"

// Units of virtual time.
const (
	microsecond int64 = 1
	millisecond       = 1000 * microsecond
	second            = 1000 * millisecond
)

// span is a range of durations or amounts, both ends included.
type span struct{ lo, hi int64 }

func (s span) draw(r *rand.Rand) int64 {
	if s.hi <= s.lo {
		return s.lo
	}
	return s.lo + r.Int64N(s.hi-s.lo+1)
}

// chance is true n times in a thousand.
func chance(r *rand.Rand, n int64) bool { return n > 0 && r.Int64N(1000) < n }

// pick returns one of the choices.
func pick[T any](r *rand.Rand, choices ...T) T { return choices[r.IntN(len(choices))] }
