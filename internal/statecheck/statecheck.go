// Package statecheck finds the member of a group whose data are not what the
// others have, or whose engine cannot apply what the others can.
//
// It owns the checks: at one position of the log every member hashes the same
// slice of its data, and says in the log what came of it; and the votes on what an
// engine could not apply. It promises that what it finds is a function of the log,
// so that every member finds the same at the same position, that only a member is
// blamed whose answer differs from that of more than half of those that were ONLINE
// at the check, and that its state stays small. It must never know how a slice is hashed, when a check is due by the
// clock, or what becomes of a member that is blamed.
package statecheck

import (
	"cmp"
	"slices"

	"github.com/concordatdb/concordat/applier"
	"github.com/concordatdb/concordat/gtid"
)

const (
	// Window is how many of the last checks are still answered. A member that
	// applies later than that is not compared.
	Window = 16
	// MaxFindings is how many of the last findings are remembered.
	MaxFindings = 8
	// MaxKeys is how many keys a finding names.
	MaxKeys = 16
	// MaxDetail bounds the pairs that one member tells of, in bytes.
	MaxDetail = 32 << 10
	// MaxParties bounds those who are asked. No group has so many members.
	MaxParties = 64
	// patience is how many intervals go by before a check is followed by the next
	// though not all have answered it.
	patience = 4
)

// Member is one of the group.
type Member struct {
	RaftID uint64
	UUID   gtid.UUID
}

func byRaftID(a, b Member) int { return cmp.Compare(a.RaftID, b.RaftID) }

// Check asks all that are ONLINE at its position for a slice of their data.
type Check struct {
	Number uint64 // counts the group's checks from 1
	From   applier.Place
	Budget uint64 // as [applier.HashSlice] takes it
}

// Answer is what a member says of its slice.
type Answer struct {
	Number uint64
	Next   applier.Place
	Sums   [applier.SliceSums]uint64
}

// equal reports whether two members have the same data in their slices.
func (a *Answer) equal(b *Answer) bool { return a.Sums == b.Sums && a.Next.Compare(b.Next) == 0 }

// mask says which sums of two answers differ. Where the slices end at other places
// some do: each ends where its own pairs have used up the budget.
func (a *Answer) mask(b *Answer) (m uint64) {
	for i := range a.Sums {
		if a.Sums[i] != b.Sums[i] {
			m |= 1 << i
		}
	}
	return m
}

// Detail is the pairs of a member's slice that are counted in some of its sums, so
// that the keys can be named which differ.
type Detail struct {
	Number uint64
	Mask   uint64 // of the sums
	Cut    bool   // there were more, behind the last
	Pairs  []applier.PairSum
}

// NewDetail makes a detail out of a slice, as much of it as there is room for.
func NewDetail(number, mask uint64, s *applier.Slice) Detail {
	d := Detail{Number: number, Mask: mask}
	size := 0
	for _, p := range s.Pairs {
		if mask>>applier.SumOf(p.Place.Key)&1 == 0 {
			continue
		}
		if size += placeSize(p.Place) + 8; size > MaxDetail {
			d.Cut = true
			break
		}
		d.Pairs = append(d.Pairs, p)
	}
	return d
}

// Difference is how a pair of the member that is blamed differs.
type Difference byte

// The differences.
const (
	Differs Difference = 1 // it has the key with another value
	Missing Difference = 2 // it lacks the key
	Extra   Difference = 3 // it has a key that the others have not
)

// String returns the difference as a word for people.
func (d Difference) String() string {
	switch d {
	case Differs:
		return "has another value"
	case Missing:
		return "is missing"
	case Extra:
		return "should not be there"
	}
	return "is unknown"
}

// Key is a pair that differs.
type Key struct {
	Place applier.Place
	How   Difference
}

// Finding is that two members do not have the same data.
type Finding struct {
	Check uint64 // its number
	Index uint64 // log index of the check, at which the data are compared
	// Member is the one that is blamed. Where no answer is that of more than half,
	// Split says so: then nobody is blamed, Member and Reference only differ.
	Member    Member
	Reference Member // the first with the answer that Member's is compared with
	Split     bool
	Agreed    int // members with the reference's answer, when the finding was made
	Parties   int // members that were asked
	// From and To are the slice, To zero where the data end.
	From, To applier.Place
	// Named says that Keys are known, the first of them that differ; More that
	// there are others. A member that has gone since can be asked no more.
	Named bool
	More  bool
	Keys  []Key
}

// answer is one that was given.
type answer struct {
	by     uint64 // raft id
	answer Answer
}

// told is a detail that was given.
type told struct {
	by     uint64
	detail Detail
}

// round is one check with what was said to it.
type round struct {
	check   Check
	index   uint64
	parties []Member // ONLINE at its position, by raft id
	answers []answer // in the order of the log
	details []told   // in the order of the log, one of each member
	truth   int      // which of the answers is that of more than half, counted from 1; 0 for none
	split   bool     // there never will be one
}

// State is what the group knows of its checks. It belongs to one goroutine.
//
// Invariants: rounds are consecutive and end with number; a truth is never
// revoked; whoever is in blamed is in the view.
type State struct {
	number   uint64        // of the last check
	sequence uint64        // transactions certified when that was delivered
	cursor   applier.Place // where the next slice begins
	passes   uint64        // how often the whole of the data was gone through
	rounds   []round       // the last, oldest first
	findings []Finding     // the last, oldest first
	blamed   []uint64      // raft ids of those in the view, ascending
}

// New returns the state of a new group.
func New() *State { return &State{} }

// Effect is what an event changed.
type Effect struct {
	// Found are findings that are new, or that now have their keys.
	Found []Finding
	// Blame is true where somebody else was blamed than before, or the keys of
	// more members are wanted: those of whom Wanted says so are to tell theirs.
	Blame bool
}

// Due returns the check that whoever leads should ask for, when so many
// transactions have been certified. An interval of 0 is to ask for none.
func (s *State) Due(sequence, interval, budget uint64) (Check, bool) {
	if interval == 0 || sequence < s.sequence+interval {
		return Check{}, false
	}
	if n := len(s.rounds); n > 0 && len(s.rounds[n-1].answers) < len(s.rounds[n-1].parties) && sequence < s.sequence+patience*interval {
		return Check{}, false
	}
	return Check{Number: s.number + 1, From: s.cursor, Budget: budget}, true
}

func (r *round) decided() bool { return r.truth > 0 || r.split }

// Begin is the delivery of a check, with those that are ONLINE there. It returns
// false for one that is void: another one was faster.
func (s *State) Begin(index, sequence uint64, online []Member, c Check) bool {
	if c.Number != s.number+1 || len(online) == 0 || len(online) > MaxParties {
		return false
	}
	parties := slices.Clone(online)
	slices.SortFunc(parties, byRaftID)
	s.number, s.sequence = c.Number, sequence
	if len(s.rounds) == Window {
		s.rounds = slices.Delete(s.rounds, 0, 1)
	}
	s.rounds = append(s.rounds, round{check: c, index: index, parties: parties})
	return true
}

// Asked reports whether a member is to answer a check, and has not.
func (s *State) Asked(number, id uint64) bool {
	r := s.round(number)
	return r != nil && r.isParty(id) && r.answerOf(id) == nil
}

func (s *State) round(number uint64) *round {
	if n := len(s.rounds); n > 0 && number <= s.number && s.number-number < uint64(n) {
		return &s.rounds[uint64(n)-1-(s.number-number)]
	}
	return nil
}

func (r *round) isParty(id uint64) bool {
	return slices.ContainsFunc(r.parties, func(m Member) bool { return m.RaftID == id })
}

func (r *round) party(id uint64) Member {
	for _, m := range r.parties {
		if m.RaftID == id {
			return m
		}
	}
	return Member{}
}

func (r *round) answerOf(id uint64) *Answer {
	for i := range r.answers {
		if r.answers[i].by == id {
			return &r.answers[i].answer
		}
	}
	return nil
}

// Answered is the delivery of a member's answer. One that was not asked for, that
// comes too late, or a second time, is passed over.
func (s *State) Answered(id uint64, a Answer, inView func(id uint64) bool) (e Effect) {
	r := s.round(a.Number)
	if r == nil || !s.Asked(a.Number, id) {
		return e
	}
	r.answers = append(r.answers, answer{by: id, answer: a})
	if r.split {
		return e // what was said of it stands
	}
	if r.truth > 0 {
		s.blame(r, len(r.answers)-1, inView, &e)
		return e
	}
	most := 0
	for i := range r.answers {
		if n := r.agreed(i); 2*n > len(r.parties) {
			r.truth = i + 1
			break
		} else if n > most {
			most = n
		}
	}
	switch open := len(r.parties) - len(r.answers); {
	case r.truth > 0:
		s.advance(r)
		for i := range r.answers {
			s.blame(r, i, inView, &e)
		}
	case 2*(most+open) <= len(r.parties):
		r.split = true
		s.advance(r)
		s.disagree(r, &e)
	}
	return e
}

// agreed is how many answers are like one.
func (r *round) agreed(i int) (n int) {
	for j := range r.answers {
		if r.answers[j].answer.equal(&r.answers[i].answer) {
			n++
		}
	}
	return n
}

// reference is the answer that others are compared with, once a check is decided.
func (r *round) reference() *answer { return &r.answers[max(r.truth, 1)-1] }

// advance has the next slice begin where a decided one ends.
func (s *State) advance(r *round) {
	if r.check.From.Compare(s.cursor) != 0 {
		return // the same slice was compared before
	}
	if s.cursor = r.reference().answer.Next; s.cursor.IsZero() {
		s.passes++
	}
}

// blame makes a finding of an answer that is not the truth.
func (s *State) blame(r *round, i int, inView func(id uint64) bool, e *Effect) {
	a := &r.answers[i]
	if a.answer.equal(&r.reference().answer) {
		return
	}
	if at, known := slices.BinarySearch(s.blamed, a.by); !known && inView(a.by) {
		s.blamed = slices.Insert(s.blamed, at, a.by)
	}
	s.find(r, a, e)
}

// disagree makes a finding of a check to which no answer is that of more than half.
func (s *State) disagree(r *round, e *Effect) {
	for i := range r.answers {
		if a := &r.answers[i]; !a.answer.equal(&r.reference().answer) {
			s.find(r, a, e)
			return
		}
	}
}

func (s *State) find(r *round, a *answer, e *Effect) {
	first := r.reference()
	f := Finding{
		Check: r.check.Number, Index: r.index, Member: r.party(a.by), Reference: r.party(first.by),
		Split: r.split, Agreed: r.agreed(max(r.truth, 1) - 1), Parties: len(r.parties), From: r.check.From, To: first.answer.Next,
	}
	if len(s.findings) == MaxFindings {
		s.findings = slices.Delete(s.findings, 0, 1)
	}
	s.findings = append(s.findings, f)
	e.Found, e.Blame = append(e.Found, f), true
}

// Wanted returns of which sums of a check the pairs are wanted of a member, 0 for
// none: those that differ, of the one that is blamed and of the first two whose
// answer its was compared with.
func (s *State) Wanted(number, id uint64) (mask uint64) {
	r := s.round(number)
	if r == nil || !r.decided() || r.answerOf(id) == nil {
		return 0
	}
	first := r.reference()
	for i := range s.findings {
		f := &s.findings[i]
		if f.Check != number || f.Named || r.answerOf(f.Member.RaftID) == nil {
			continue
		}
		if id == f.Member.RaftID || slices.Contains(r.witnesses(), id) {
			mask |= first.answer.mask(r.answerOf(f.Member.RaftID))
		}
	}
	if given := r.detailOf(id); given != nil && mask&^given.Mask == 0 {
		return 0
	}
	return mask
}

// witnesses are the first two with the answer that others are compared with.
func (r *round) witnesses() (ids []uint64) {
	for i := range r.answers {
		if len(ids) < 2 && r.answers[i].answer.equal(&r.reference().answer) {
			ids = append(ids, r.answers[i].by)
		}
	}
	return ids
}

func (r *round) detailOf(id uint64) *Detail {
	for i := range r.details {
		if r.details[i].by == id {
			return &r.details[i].detail
		}
	}
	return nil
}

// Told is the delivery of a member's detail, after which the keys of a finding may
// be known. One that is not wanted is passed over.
func (s *State) Told(id uint64, d Detail) (e Effect) {
	if mask := s.Wanted(d.Number, id); mask == 0 || mask&^d.Mask != 0 {
		return e
	}
	r := s.round(d.Number)
	if known := r.detailOf(id); known != nil {
		*known = d
	} else {
		r.details = append(r.details, told{by: id, detail: d})
	}
	for i := range s.findings {
		f := &s.findings[i]
		if f.Check != d.Number || f.Named {
			continue
		}
		for _, w := range r.witnesses() {
			if s.name(f, r, w) {
				e.Found = append(e.Found, *f)
				break
			}
		}
	}
	s.forget(r)
	return e
}

// name fills in the keys of a finding, if both sides have told theirs.
func (s *State) name(f *Finding, r *round, witness uint64) bool {
	good, bad := r.detailOf(witness), r.detailOf(f.Member.RaftID)
	wanted := r.reference().answer.mask(r.answerOf(f.Member.RaftID))
	if good == nil || bad == nil || wanted&^(good.Mask&bad.Mask) != 0 {
		return false
	}
	f.Keys, f.More = compare(good, bad, wanted, []applier.Place{r.answerOf(witness).Next, r.answerOf(f.Member.RaftID).Next})
	f.Named = true
	return true
}

// forget drops what was told of a check once all its findings have their keys.
func (s *State) forget(r *round) {
	open := slices.ContainsFunc(s.findings, func(f Finding) bool { return f.Check == r.check.Number && !f.Named })
	if !open && len(r.answers) == len(r.parties) {
		r.details = nil
	}
}

// compare merges two details, as far as both reach, and names what differs.
func compare(good, bad *Detail, mask uint64, ends []applier.Place) (keys []Key, more bool) {
	for _, d := range []*Detail{good, bad} {
		if n := len(d.Pairs); d.Cut && n > 0 {
			ends = append(ends, d.Pairs[n-1].Place.After())
		} else if d.Cut {
			return nil, true
		}
		more = more || d.Cut
	}
	within := func(p applier.Place) bool {
		return !slices.ContainsFunc(ends, func(end applier.Place) bool { return !end.IsZero() && p.Compare(end) >= 0 })
	}
	counted := func(all []applier.PairSum) []applier.PairSum {
		return slices.DeleteFunc(slices.Clone(all), func(p applier.PairSum) bool {
			return mask>>applier.SumOf(p.Place.Key)&1 == 0 || !within(p.Place)
		})
	}
	a, b := counted(good.Pairs), counted(bad.Pairs)
	note := func(p applier.Place, how Difference) {
		if len(keys) == MaxKeys {
			more = true
			return
		}
		keys = append(keys, Key{Place: p, How: how})
	}
	for len(a) > 0 || len(b) > 0 {
		switch {
		case len(b) == 0 || len(a) > 0 && a[0].Place.Compare(b[0].Place) < 0:
			note(a[0].Place, Missing)
			a = a[1:]
		case len(a) == 0 || b[0].Place.Compare(a[0].Place) < 0:
			note(b[0].Place, Extra)
			b = b[1:]
		default:
			if a[0].Sum != b[0].Sum {
				note(a[0].Place, Differs)
			}
			a, b = a[1:], b[1:]
		}
	}
	return keys, more
}

// View tells of those who are in the view now. Who has gone is blamed no more: it
// comes back as another one, with what it then holds.
func (s *State) View(inView func(id uint64) bool) {
	s.blamed = slices.DeleteFunc(s.blamed, func(id uint64) bool { return !inView(id) })
}

// Blamed reports whether a member of the view is one whose data differ.
func (s *State) Blamed(id uint64) bool {
	_, is := slices.BinarySearch(s.blamed, id)
	return is
}

// Snapshot is what a member shows of its group's checks.
type Snapshot struct {
	Checks uint64 // that were asked for since the group began
	Passes uint64 // how often the whole of the data was gone through
	// Index is the log index of the last check, 0 before the first, and Agreed how
	// many of Parties have given the same answer to it.
	Index           uint64
	Agreed, Parties int
	Next            applier.Place // where the next slice begins
	// Blamed are the raft ids of those in the view whose data differ, ascending,
	// and Findings the last of what was found, oldest first. They must not be
	// changed.
	Blamed   []uint64
	Findings []Finding
}

// Snapshot returns what is known now.
func (s *State) Snapshot() Snapshot {
	out := Snapshot{
		Checks: s.number, Passes: s.passes, Next: s.cursor,
		Blamed: slices.Clone(s.blamed), Findings: slices.Clone(s.findings),
	}
	if n := len(s.rounds); n > 0 {
		last := &s.rounds[n-1]
		out.Index, out.Parties = last.index, len(last.parties)
		for i := range last.answers {
			out.Agreed = max(out.Agreed, last.agreed(i))
		}
	}
	return out
}
