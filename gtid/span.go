package gtid

import "slices"

// A span is the numbers first..last of an interval, both included. A list of
// spans here is always normalised: ascending, with at least one number missing
// between two neighbours. Numbers end at MaxNumber, so last+1 never overflows.
type span struct{ first, last uint64 }

func (s span) covers(t span) bool { return s.first <= t.first && t.last <= s.last }

// touches reports whether s and t overlap or are adjacent, so that their union
// is one span.
func (s span) touches(t span) bool { return s.first <= t.last+1 && t.first <= s.last+1 }

// join is the union of two spans that touch.
func (s span) join(t span) span { return span{min(s.first, t.first), max(s.last, t.last)} }

// seek returns the index, not below from, of the first span that ends at n or
// later, or len(spans). It gallops: doubling steps, then a binary search within
// the last step. So a walk over neighbours costs one comparison each, as a merge
// would, and a jump over k spans costs log k.
func seek(spans []span, from int, n uint64) int {
	step := 1
	for from+step <= len(spans) && spans[from+step-1].last < n {
		from += step
		step *= 2
	}
	end := min(from+step-1, len(spans))
	for from < end {
		if mid := int(uint(from+end) / 2); spans[mid].last < n {
			from = mid + 1
		} else {
			end = mid
		}
	}
	return from
}

// find returns the span that holds number n.
func find(spans []span, n uint64) (span, bool) {
	if at := seek(spans, 0, n); at < len(spans) && spans[at].first <= n {
		return spans[at], true
	}
	return span{}, false
}

// coverSpans reports whether every span of b lies within one of a; neither list
// is empty. One must suffice, since the spans of a do not touch. Versions of a
// growing set share the lists of the sources that did not grow; those need no
// look inside.
func coverSpans(a, b []span) bool {
	if len(a) == len(b) && &a[0] == &b[0] {
		return true
	}
	at := 0
	for _, s := range b {
		at = seek(a, at, s.first)
		if at == len(a) || !a[at].covers(s) {
			return false
		}
	}
	return true
}

// appendSpan appends to a list that is still being built a span that starts no
// earlier than the list's last.
func appendSpan(list []span, s span) []span {
	if n := len(list); n > 0 && list[n-1].touches(s) {
		list[n-1] = list[n-1].join(s)
		return list
	}
	return append(list, s)
}

// insertSpan returns the union of spans and s in a new list.
func insertSpan(spans []span, s span) []span {
	from := seek(spans, 0, s.first-1)
	to := from
	for to < len(spans) && spans[to].touches(s) {
		s = s.join(spans[to])
		to++
	}
	return slices.Concat(spans[:from], []span{s}, spans[to:])
}

// The three operations below return a new list.

func unionSpans(a, b []span) []span {
	union := make([]span, 0, len(a)+len(b))
	for len(a)+len(b) > 0 {
		if len(a) == 0 || len(b) > 0 && b[0].first < a[0].first {
			a, b = b, a
		}
		union = appendSpan(union, a[0])
		a = a[1:]
	}
	return union
}

func intersectSpans(a, b []span) []span {
	var common []span
	at := 0
	for _, s := range a {
		for at = seek(b, at, s.first); at < len(b) && b[at].first <= s.last; at++ {
			common = append(common, span{max(s.first, b[at].first), min(s.last, b[at].last)})
			if b[at].last >= s.last {
				break // the rest of b[at] may reach into the next span of a
			}
		}
	}
	return common
}

func subtractSpans(a, b []span) []span {
	var rest []span
	at := 0
	for _, s := range a {
		for at = seek(b, at, s.first); at < len(b) && b[at].first <= s.last; at++ {
			if s.first < b[at].first {
				rest = append(rest, span{s.first, b[at].first - 1})
			}
			s.first = b[at].last + 1
			if s.first > s.last {
				break // the rest of b[at] may reach into the next span of a
			}
		}
		if s.first <= s.last {
			rest = append(rest, s)
		}
	}
	return rest
}
