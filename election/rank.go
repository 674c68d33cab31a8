package election

import (
	"cmp"
	"fmt"
	"math/bits"
	"slices"
)

// Ballot is one question to the ranking.
type Ballot struct {
	Members []Member
	// Deposed is the raft id of the primary that is being replaced, 0 if none.
	// It is never chosen, but is ONLINE as far as versions go.
	Deposed uint64
	// Passed are the raft ids of those that are chosen only when nobody else can
	// be: the silent, as the log says.
	Passed []uint64
	// Progress, when there is any, ranks first: how far each member is, as the
	// log says.
	Progress []Progress
	Rules    Rules
}

// Progress is how far a member has applied the log.
type Progress struct {
	RaftID  uint64
	Applied uint64 // log index
}

// Rules are those parts of the ranking that depend on the lowest version among
// the ONLINE members.
type Rules struct {
	// PatchCounts is the lowest version from which on only members of the very
	// same version are candidates. Below, those of the same major version are.
	PatchCounts Version
	// WeightCounts is the lowest version from which on weights rank. Below, only
	// UUIDs do.
	WeightCounts Version
}

// OurRules are those of this group: exact versions, and weights, always.
var OurRules = Rules{}

// Choice is the answer of the ranking.
type Choice struct {
	Winner uint64 // raft id; 0: nobody can be primary
	// Lines has each member of the ballot: the candidates in the order of their
	// ranks, then the others ascending by raft id.
	Lines []Line
}

// Line says how a member came off in an election.
type Line struct {
	Member  Member
	Rank    int // from 1; 0 is no candidate
	Verdict Verdict
	// Behind is how many log entries a candidate is behind the best one; 0 when
	// progress is not known or does not count.
	Behind uint64
	Text   string // the verdict in words
}

// Verdict is why a member was elected, or was not.
type Verdict byte

// The verdicts. That a candidate was outranked means by the elected one.
const (
	Elected Verdict = 1 + iota
	OutrankedByProgress
	OutrankedByWeight
	OutrankedByUUID
	NotOnline
	NewerVersion
	PassedOver // silent, or the primary that is being replaced
)

// String returns the verdict in a few words.
func (v Verdict) String() string {
	switch v {
	case Elected:
		return "elected"
	case OutrankedByProgress:
		return "outranked by progress"
	case OutrankedByWeight:
		return "outranked by weight"
	case OutrankedByUUID:
		return "outranked by UUID"
	case NotOnline:
		return "not ONLINE"
	case NewerVersion:
		return "newer version"
	case PassedOver:
		return "passed over"
	}
	return fmt.Sprintf("Verdict(%d)", byte(v))
}

// progressStep is how many entries behind the best one make a difference. It is
// as many as a member may be behind when it becomes ONLINE: nobody is ever
// exactly up to date, and weights should count among those that nearly are.
const progressStep = 64

// unknownProgress is the bucket of those that are not in Ballot.Progress: behind
// all that are.
const unknownProgress = 65

// candidate is a line in the making.
type candidate struct {
	Member
	passed bool
	bucket int // of progress, 0 is the best
	known  bool
	behind uint64
	weight uint32 // what counts of it
}

func (a candidate) compare(b candidate) int {
	return cmp.Or(
		compareBool(a.passed, b.passed),
		cmp.Compare(a.bucket, b.bucket),
		cmp.Compare(b.weight, a.weight),
		a.UUID.Compare(b.UUID),
	)
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

// Choose ranks the members of a ballot and explains itself, member by member. It
// depends on the ballot alone, and not on the order of what is in it.
func Choose(b Ballot) Choice {
	lowest := lowestOnline(b.Members)
	var in []candidate
	var out []Line
	for _, m := range b.Members {
		switch {
		case !m.Online:
			out = append(out, Line{Member: m, Verdict: NotOnline, Text: "it is not ONLINE"})
		case m.RaftID == b.Deposed:
			out = append(out, Line{Member: m, Verdict: PassedOver, Text: "it is the primary that is replaced"})
		case !b.Rules.eligible(m.Version, lowest):
			out = append(out, Line{
				Member: m, Verdict: NewerVersion,
				Text: fmt.Sprintf("it runs %s, and the oldest ONLINE member %s", m.Version, lowest),
			})
		default:
			c := candidate{Member: m, passed: slices.Contains(b.Passed, m.RaftID)}
			if lowest >= b.Rules.WeightCounts {
				c.weight = m.Weight
			}
			in = append(in, c)
		}
	}
	measure(in, b.Progress)
	slices.SortFunc(in, candidate.compare)
	slices.SortFunc(out, func(a, b Line) int { return cmp.Compare(a.Member.RaftID, b.Member.RaftID) })
	c := Choice{Lines: make([]Line, 0, len(b.Members))}
	for i := range in {
		c.Lines = append(c.Lines, explain(in, i))
	}
	if len(in) > 0 {
		c.Winner = in[0].RaftID
	}
	c.Lines = append(c.Lines, out...)
	return c
}

// measure puts the candidates into buckets of progress.
func measure(in []candidate, progress []Progress) {
	if len(progress) == 0 {
		return
	}
	best := uint64(0)
	applied := func(id uint64) (uint64, bool) {
		i := slices.IndexFunc(progress, func(p Progress) bool { return p.RaftID == id })
		if i < 0 {
			return 0, false
		}
		return progress[i].Applied, true
	}
	for _, c := range in {
		if a, ok := applied(c.RaftID); ok {
			best = max(best, a)
		}
	}
	for i := range in {
		a, ok := applied(in[i].RaftID)
		if !ok {
			in[i].bucket = unknownProgress
			continue
		}
		in[i].known, in[i].behind = true, best-a
		in[i].bucket = bits.Len64(in[i].behind / progressStep)
	}
}

// eligible reports whether a member of a version may be primary while the lowest
// one is another.
func (r Rules) eligible(v, lowest Version) bool {
	if lowest >= r.PatchCounts {
		return v == lowest
	}
	return v.major() == lowest.major()
}

// lowestOnline returns the lowest version among the ONLINE members, 0 when there
// is none.
func lowestOnline(members []Member) (lowest Version) {
	found := false
	for _, m := range members {
		if m.Online && (!found || m.Version < lowest) {
			lowest, found = m.Version, true
		}
	}
	return lowest
}
