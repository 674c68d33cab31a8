package certifier

import (
	"sort"

	"github.com/concordatdb/concordat/gtid"
)

// seen is what a snapshot version, S, has of the history.
type seen struct {
	set gtid.Set
	// prefix is the greatest n for which S has all of E(n). It is not below the
	// mark.
	prefix uint64
	// exact: S is E(prefix). This is so unless a member's store has transactions
	// that the group did not certify, or lacks some in the middle.
	exact bool
}

// version is E(sequence).
type version struct {
	sequence uint64
	executed gtid.Set
}

const (
	// recentVersions is how many are kept beside the milestones, for the
	// snapshot versions of those who lag little.
	recentVersions = 1024
	// recentIntervals bounds the memory of all of them, of which an interval
	// takes at most 56 bytes: versions share what did not change.
	recentIntervals = 1 << 18
)

// straight is a stretch of the history in which GTIDs followed each other: for
// each n in from..to, E(n) is first..first+n-1 of one UUID and tag.
type straight struct {
	from, to uint64
	uuid     gtid.UUID
	tag      gtid.Tag
	first    uint64
}

// extend takes a GTID that was certified at a sequence.
func (s *straight) extend(sequence uint64, id gtid.GTID) {
	switch {
	case sequence == 1:
		*s = straight{from: 0, to: 1, uuid: id.UUID, tag: id.Tag, first: id.Number}
	case s.to+1 == sequence && id == gtid.GTID{UUID: s.uuid, Tag: s.tag, Number: s.first + s.to}:
		s.to = sequence
	}
}

// begin begins a stretch with what is executed at a sequence, if it is one
// interval.
func (s *straight) begin(sequence uint64, executed gtid.Set) {
	for in := range executed.Intervals() {
		if in.Last-in.First+1 == sequence {
			*s = straight{from: sequence, to: sequence, uuid: in.UUID, tag: in.Tag, first: in.First}
		}
		return
	}
}

// see measures a snapshot version, which must not be older than the mark.
func (c *Certifier) see(s gtid.Set) seen {
	count := s.Count()
	if count <= c.now.sequence {
		if n, ok := c.straightPrefix(s); ok {
			return seen{set: s, prefix: n, exact: n == count}
		}
	}
	if count >= c.now.sequence && c.executed.SubsetOf(s) {
		return seen{set: s, prefix: c.now.sequence, exact: count == c.now.sequence}
	}
	n := c.known(s, count)
	for n < c.now.sequence {
		if id, _ := c.author(n + 1); !s.Contains(id) {
			break
		}
		n++
	}
	return seen{set: s, prefix: n, exact: n == count}
}

// known returns the greatest n for which it is known without a look at records
// that s, of so many GTIDs, has all of E(n).
func (c *Certifier) known(s gtid.Set, count uint64) uint64 {
	n, _ := c.straightPrefix(s)
	milestones := func(i int) *version { return &c.milestones.At(i).version }
	return max(n, c.mark.sequence,
		newest(s, count, c.milestones.Len(), milestones), newest(s, count, c.recent.Len(), c.recent.At))
}

// straightPrefix returns the greatest n in the straight stretch for which s has
// all of E(n), 0 if there is none; ok if it has not all of E(n+1).
func (c *Certifier) straightPrefix(s gtid.Set) (n uint64, ok bool) {
	run := &c.straight
	if run.to == 0 {
		return 0, false
	}
	n = s.FirstMissing(run.uuid, run.tag, run.first) - run.first
	switch {
	case n < run.from:
		return 0, false
	case n < run.to:
		return n, true
	}
	return run.to, run.to == c.now.sequence
}

// newest returns the sequence of the newest of n versions, in their order, that
// s, of so many GTIDs, has all of; 0 if there is none. Mostly it is the newest
// with no more GTIDs than s.
func newest(s gtid.Set, count uint64, n int, at func(i int) *version) uint64 {
	n = sort.Search(n, func(i int) bool { return at(i).sequence > count })
	if n > 0 && !at(n-1).executed.SubsetOf(s) {
		n = sort.Search(n, func(i int) bool { return !at(i).executed.SubsetOf(s) })
	}
	if n == 0 {
		return 0
	}
	return at(n - 1).sequence
}

// sees reports whether T of a certified transaction after the mark is a subset
// of a snapshot version S.
//
// Take a transaction at q whose own snapshot version had nothing but E(q-1). If
// q <= prefix, T is a subset of E(q) and so of S. If q > prefix and S is
// E(prefix), S lacks the GTID, for none is certified twice. So one comparison
// decides, unless somebody strayed: had what was not certified before it. If S
// is no E(n), it may have the GTID though q > prefix; then, if the transaction's
// own snapshot version is E(m), S has that if and only if m <= prefix.
func (c *Certifier) sees(v *seen, sequence uint64) bool {
	before := sequence <= v.prefix
	if v.exact && !before || before && c.stray == 0 {
		return before
	}
	r := c.record(sequence)
	if r.origin != apart {
		return before || v.set.Contains(c.plain(r)) && sequence-1-uint64(r.back) <= v.prefix
	}
	a := c.asides[sequence]
	switch {
	case before && !a.stray:
		return true
	case !v.set.Contains(a.gtid):
		return false
	case a.irregular:
		return a.snapshot.SubsetOf(v.set)
	}
	return a.prefix <= v.prefix
}
