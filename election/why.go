package election

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// Why answers what an election would give if it were held now, among all ONLINE
// members, the present primary too. Passed and progress are the asker's own
// opinions, as they would go into a message; see [Ballot]. What was decided, and
// why, stands in [Snapshot.Past].
func (s Snapshot) Why(passed []uint64, progress []Progress) Choice {
	return Choose(Ballot{Members: s.Members, Passed: passed, Progress: progress, Rules: OurRules})
}

// Why is [Snapshot.Why] of the present state.
func (s *State) Why(passed []uint64, progress []Progress) Choice {
	return s.Snapshot().Why(passed, progress)
}

// explain returns the line of candidate i of those in the order of their ranks.
func explain(in []candidate, i int) Line {
	c := in[i]
	l := Line{Member: c.Member, Rank: i + 1, Behind: c.behind}
	if i == 0 {
		l.Verdict = Elected
		l.Text = triumph(in)
		return l
	}
	switch best := in[0]; {
	case c.passed && !best.passed:
		l.Verdict, l.Text = PassedOver, "it is silent"
	case c.bucket != best.bucket && !c.known:
		l.Verdict, l.Text = OutrankedByProgress, "it is not known how far it is"
	case c.bucket != best.bucket:
		l.Verdict, l.Text = OutrankedByProgress, fmt.Sprintf("it is %d entries behind", c.behind)
	case c.weight != best.weight:
		l.Verdict, l.Text = OutrankedByWeight, fmt.Sprintf("its weight is %d, that of the first %d", c.weight, best.weight)
	default:
		l.Verdict, l.Text = OutrankedByUUID, "its UUID is greater than that of the first"
	}
	return l
}

// triumph says what put the first candidate before the second.
func triumph(in []candidate) string {
	c := in[0]
	if len(in) == 1 {
		return "it is the only candidate"
	}
	switch next := in[1]; {
	case c.passed != next.passed:
		return "it is the only candidate that is not silent"
	case c.bucket != next.bucket:
		return "it is the most up to date"
	case c.weight != next.weight:
		return fmt.Sprintf("it has the highest weight, %d", c.weight)
	}
	return "it has the lowest UUID among equals"
}

// summary says in one sentence who was elected. A choice that is left to whoever
// knows how far the members are has no lines.
func (c Choice) summary() string {
	switch {
	case c.Lines == nil:
		return "who is most up to date is elected next"
	case c.Winner == 0:
		return "no member can be primary"
	}
	return fmt.Sprintf("%s is elected: %s", c.Lines[0].Member.UUID, c.Lines[0].Text)
}

// MaxReason bounds what people or members give as a reason, in bytes.
const MaxReason = 512

// maxText bounds the texts of the state, in bytes: reasons, and what is said
// about them.
const maxText = 1024

// isText reports whether s is what people can read on one line.
func isText(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f })
}

// clip makes text of s, of at most n bytes.
func clip(s string, n int) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "\uFFFD"))
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// phrases joins those parts of a sentence that are there.
func phrases(parts ...string) string {
	var there []string
	for _, p := range parts {
		if p != "" {
			there = append(there, p)
		}
	}
	return clip(strings.Join(there, "; "), maxText)
}
