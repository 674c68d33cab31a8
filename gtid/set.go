package gtid

import (
	"cmp"
	"iter"
	"math"
	"slices"
	"strings"
)

// Interval is a run of GTIDs of one UUID and tag: the numbers First..Last, both
// included.
type Interval struct {
	UUID        UUID
	Tag         Tag
	First, Last uint64
}

// Set is a set of GTIDs. It is a value: every method that seems to change a set
// returns another one and leaves its operands as they were, so sets may be
// copied, kept and read by any number of goroutines. The zero Set is empty.
// Sets are compared with [Set.Equal]; the == operator does not apply.
//
// A set holds valid GTIDs only (see [GTID.Valid]). [Set.Add] and
// [Set.AddInterval] leave out what is not: numbers outside 1..[MaxNumber], and
// everything under an invalid tag.
//
// Invariants:
//
//  1. Without groups, the set is the one interval (id, only), or empty if only
//     is zero, and then id is zero too.
//  2. With groups, id and only are zero, and there are two intervals or more.
//  3. Groups ascend by UUID, then tag; none repeats and none is without spans.
//  4. The spans of a group are normalised (see span) and within 1..MaxNumber.
//  5. Once a Set has been returned, nothing reachable from its groups is ever
//     written again. Sets therefore share groups and spans freely.
//
// By 1 to 4 a set has one representation, which is what makes Equal a comparison
// and the text and binary forms canonical.
type Set struct {
	id     tsid
	only   span
	groups []group
}

// tsid is a transaction source identifier, MySQL's name for what a series of
// numbers belongs to.
type tsid struct {
	uuid UUID
	tag  Tag
}

func (id tsid) compare(other tsid) int {
	if id.uuid != other.uuid { // compares words, where Compare calls for bytes
		return id.uuid.Compare(other.uuid)
	}
	return strings.Compare(string(id.tag), string(other.tag))
}

// group is all that a set holds of one source.
type group struct {
	id    tsid
	spans []span
}

func (g group) interval(s span) Interval {
	return Interval{UUID: g.id.uuid, Tag: g.id.tag, First: s.first, Last: s.last}
}

// seal makes a Set of groups that satisfy invariants 3 and 4, and owns them from
// here on.
func seal(groups []group) Set {
	switch {
	case len(groups) == 0:
		return Set{}
	case len(groups) == 1 && len(groups[0].spans) == 1:
		return Set{id: groups[0].id, only: groups[0].spans[0]}
	}
	return Set{groups: groups}
}

// gather makes a Set of intervals that are valid each, in any order. It sorts
// the list it is given.
func gather(intervals []Interval) Set {
	slices.SortFunc(intervals, func(a, b Interval) int {
		return cmp.Or(
			tsid{a.UUID, a.Tag}.compare(tsid{b.UUID, b.Tag}),
			cmp.Compare(a.First, b.First),
		)
	})
	var groups []group
	for _, in := range intervals {
		id := tsid{in.UUID, in.Tag}
		if n := len(groups); n == 0 || groups[n-1].id != id {
			groups = append(groups, group{id: id})
		}
		last := &groups[len(groups)-1]
		last.spans = appendSpan(last.spans, span{in.First, in.Last})
	}
	return seal(groups)
}

// spread returns the set as a list of groups, which the caller must not write.
func (s Set) spread() []group {
	if s.groups != nil || s.IsEmpty() {
		return s.groups
	}
	return []group{{s.id, []span{s.only}}}
}

// search returns the place of a source among groups.
func search(groups []group, id tsid) (at int, found bool) {
	return slices.BinarySearchFunc(groups, id, func(g group, id tsid) int {
		return g.id.compare(id)
	})
}

// find returns the interval of a source that holds number n.
func (s Set) find(id tsid, n uint64) (span, bool) {
	if s.groups == nil {
		return s.only, s.id == id && s.only.covers(span{n, n})
	}
	if at, found := search(s.groups, id); found {
		return find(s.groups[at].spans, n)
	}
	return span{}, false
}

// IsEmpty reports whether the set has no GTID.
func (s Set) IsEmpty() bool { return s.groups == nil && s.only.last == 0 }

// Count returns the number of GTIDs in the set, or [math.MaxUint64] if there are
// more: a UUID with a tag can account for nearly half of that.
func (s Set) Count() uint64 {
	count := uint64(0)
	for in := range s.Intervals() {
		size := in.Last - in.First + 1
		if size > math.MaxUint64-count {
			return math.MaxUint64
		}
		count += size
	}
	return count
}

// Contains reports whether g is in the set.
func (s Set) Contains(g GTID) bool {
	if g.Number == 0 {
		return false
	}
	_, found := s.find(tsid{g.UUID, g.Tag}, g.Number)
	return found
}

// Last returns the highest number the set has of a UUID and tag, 0 if none.
func (s Set) Last(uuid UUID, tag Tag) uint64 {
	id := tsid{uuid, tag}
	if s.groups == nil {
		if s.id == id {
			return s.only.last
		}
		return 0
	}
	at, found := search(s.groups, id)
	if !found {
		return 0
	}
	spans := s.groups[at].spans
	return spans[len(spans)-1].last
}

// FirstMissing returns the smallest number, not below from and not below 1, that
// the set does not have of a UUID and tag; 0 if there is none up to [MaxNumber].
func (s Set) FirstMissing(uuid UUID, tag Tag, from uint64) uint64 {
	n := max(from, 1)
	if taken, found := s.find(tsid{uuid, tag}, n); found {
		n = taken.last + 1
	}
	if n > MaxNumber {
		return 0
	}
	return n
}

// Intervals yields the intervals of the set in canonical order: by UUID, then
// tag (untagged first), then number. No two of them touch.
func (s Set) Intervals() iter.Seq[Interval] {
	return func(yield func(Interval) bool) {
		if s.groups == nil {
			if !s.IsEmpty() {
				yield(group{id: s.id}.interval(s.only))
			}
			return
		}
		for _, g := range s.groups {
			for _, sp := range g.spans {
				if !yield(g.interval(sp)) {
					return
				}
			}
		}
	}
}

// IntervalCount returns how many intervals the set has: what its text, its
// binary form and most of what is done with it grow with. It takes time linear
// in the sources.
func (s Set) IntervalCount() int {
	if s.groups == nil && !s.IsEmpty() {
		return 1
	}
	count := 0
	for i := range s.groups {
		count += len(s.groups[i].spans)
	}
	return count
}

// Equal reports whether both sets have the same GTIDs.
func (s Set) Equal(t Set) bool {
	return s.id == t.id && s.only == t.only && slices.EqualFunc(s.groups, t.groups, func(g, h group) bool {
		return g.id == h.id && slices.Equal(g.spans, h.spans)
	})
}

// SubsetOf reports whether every GTID of s is in t. Every set is a subset of
// itself, and the empty set of any. It never allocates, and takes time linear in
// the intervals of s, with at most a logarithm of those of t for each.
func (s Set) SubsetOf(t Set) bool {
	switch {
	case s.groups == nil:
		if s.IsEmpty() {
			return true
		}
		found, ok := t.find(s.id, s.only.first)
		return ok && found.covers(s.only)
	case t.groups == nil:
		spans := s.groups[0].spans
		whole := span{spans[0].first, spans[len(spans)-1].last}
		return len(s.groups) == 1 && s.groups[0].id == t.id && t.only.covers(whole)
	}
	return coverGroups(t.groups, s.groups)
}

// coverGroups reports whether a holds everything of b.
func coverGroups(a, b []group) bool {
	for len(b) > 0 {
		if len(a) < len(b) {
			return false
		}
		switch order := a[0].id.compare(b[0].id); {
		case order > 0 || order == 0 && !coverSpans(a[0].spans, b[0].spans):
			return false
		case order == 0:
			b = b[1:]
		}
		a = a[1:]
	}
	return true
}

// Add returns s with g, or s itself if g is not valid.
func (s Set) Add(g GTID) Set {
	if !g.Valid() {
		return s
	}
	return s.add(tsid{g.UUID, g.Tag}, span{g.Number, g.Number})
}

// AddInterval returns s with the numbers first..last of a UUID and tag, both
// included. The part outside 1..[MaxNumber] is left out; an invalid tag, or a
// last below first, adds nothing.
func (s Set) AddInterval(uuid UUID, tag Tag, first, last uint64) Set {
	added := span{max(first, 1), min(last, MaxNumber)}
	if added.first > added.last || !tag.Valid() {
		return s
	}
	return s.add(tsid{uuid, tag}, added)
}

// add returns s with a span of numbers that is within 1..MaxNumber.
func (s Set) add(id tsid, added span) Set {
	if s.groups == nil {
		switch {
		case s.IsEmpty():
			return Set{id: id, only: added}
		case s.id == id && s.only.touches(added):
			return Set{id: id, only: s.only.join(added)}
		}
	}
	groups := s.spread()
	at, found := search(groups, id)
	if !found {
		return seal(slices.Concat(groups[:at], []group{{id, []span{added}}}, groups[at:]))
	}
	spans := groups[at].spans
	if present, found := find(spans, added.first); found && present.covers(added) {
		return s
	}
	groups = slices.Clone(groups)
	groups[at].spans = insertSpan(spans, added)
	return seal(groups)
}

// Union returns the GTIDs that are in s or in t.
func (s Set) Union(t Set) Set {
	switch {
	case t.SubsetOf(s):
		return s
	case s.SubsetOf(t):
		return t
	case t.groups == nil:
		return s.add(t.id, t.only)
	case s.groups == nil:
		return t.add(s.id, s.only)
	}
	return merge(s.groups, t.groups, rule{left: true, both: unionSpans, right: true})
}

// Intersect returns the GTIDs that are in s and in t.
func (s Set) Intersect(t Set) Set {
	switch {
	case s.SubsetOf(t):
		return s
	case t.SubsetOf(s):
		return t
	}
	return merge(s.spread(), t.spread(), rule{both: intersectSpans})
}

// Subtract returns the GTIDs that are in s and not in t.
func (s Set) Subtract(t Set) Set {
	if s.SubsetOf(t) {
		return Set{}
	}
	return merge(s.spread(), t.spread(), rule{left: true, both: subtractSpans})
}

// rule says what an operation on two sets keeps of a source that only the left
// or only the right one has, and how it combines the spans of a source that both
// have.
type rule struct {
	left, right bool
	both        func(left, right []span) []span
}

// merge applies an operation source by source. Groups that it keeps whole are
// shared with the operands.
func merge(left, right []group, keep rule) Set {
	var result []group
	for len(left) > 0 && len(right) > 0 {
		switch order := left[0].id.compare(right[0].id); {
		case order < 0:
			if keep.left {
				result = append(result, left[0])
			}
			left = left[1:]
		case order > 0:
			if keep.right {
				result = append(result, right[0])
			}
			right = right[1:]
		default:
			if spans := keep.both(left[0].spans, right[0].spans); len(spans) > 0 {
				result = append(result, group{left[0].id, spans})
			}
			left, right = left[1:], right[1:]
		}
	}
	if keep.left {
		result = append(result, left...)
	}
	if keep.right {
		result = append(result, right...)
	}
	return seal(result)
}
