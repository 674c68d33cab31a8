package gtid

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// drawSpans draws a normalised list of up to some hundreds of spans.
func drawSpans(t *rapid.T, label string) []span {
	step := rapid.Uint64Range(0, 3)
	steps := rapid.SliceOfN(step, 0, 600).Draw(t, label)
	var spans []span
	next := uint64(1)
	for i := 0; i+1 < len(steps); i += 2 {
		first := next + steps[i]
		spans = append(spans, span{first, first + steps[i+1]})
		next = first + steps[i+1] + 2
	}
	return spans
}

// numbers lists what a span list holds, one by one.
func numbers(spans []span) map[uint64]bool {
	all := map[uint64]bool{}
	for _, s := range spans {
		for n := s.first; n <= s.last; n++ {
			all[n] = true
		}
	}
	return all
}

func TestSeekAgreesWithWalk(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		spans := drawSpans(t, "spans")
		from := rapid.IntRange(0, len(spans)).Draw(t, "from")
		n := rapid.Uint64Range(0, 2000).Draw(t, "n")
		want := from
		for want < len(spans) && spans[want].last < n {
			want++
		}
		if got := seek(spans, from, n); got != want {
			t.Fatalf("seek from %d for %d is %d, want %d", from, n, got, want)
		}
	})
}

// Long lists, which the small universe of the model does not have.
func TestSpanOperationsAgreeWithNumbers(t *testing.T) {
	id := tsid{uuid: UUID{1}}
	rapid.Check(t, func(t *rapid.T) {
		a, b := drawSpans(t, "a"), drawSpans(t, "b")
		inA, inB := numbers(a), numbers(b)
		union, common, rest := numbers(unionSpans(a, b)), numbers(intersectSpans(a, b)), numbers(subtractSpans(a, b))
		subset := true
		for n := range uint64(2500) {
			if union[n] != (inA[n] || inB[n]) || common[n] != (inA[n] && inB[n]) || rest[n] != (inA[n] && !inB[n]) {
				t.Fatalf("%d: in a %v, in b %v; union %v, intersection %v, difference %v",
					n, inA[n], inB[n], union[n], common[n], rest[n])
			}
			subset = subset && (inA[n] || !inB[n])
		}
		for _, list := range [][]span{unionSpans(a, b), intersectSpans(a, b), subtractSpans(a, b)} {
			if len(list) > 0 && !(group{id, list}).normalised() {
				t.Fatalf("not normalised: %v", list)
			}
		}
		if len(a) > 0 && len(b) > 0 && (coverSpans(a, b) != subset || !coverSpans(a, slices.Clone(a))) {
			t.Fatalf("a covers b: %v, a covers itself: %v", !subset, coverSpans(a, slices.Clone(a)))
		}
	})
}
