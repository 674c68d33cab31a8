package sim

import (
	"fmt"
	"slices"

	"github.com/concordatdb/concordat/certifier"
	"github.com/concordatdb/concordat/election"
)

// primaries holds what a member decided about who may write, entry by entry,
// against what an electorate of the checkers' own decides.
type primaries struct {
	intake intake
	group  electorate
	shown  *election.Snapshot // after the last entry; nil as long as nobody says

	elected, written string // what is wrong with the last entry, "" if nothing is
}

func newPrimaries() *primaries { return &primaries{intake: newIntake(), group: newElectorate()} }

// follow goes on by an entry, as by has delivered it first.
func (c *primaries) follow(by string, e *entry) {
	c.elected, c.written = "", ""
	before := c.group.epoch
	f, ok := readFrame(e.raw)
	if ok && c.intake.accepts(&f) {
		judged := e.judged
		for i := range f.parts {
			p := &f.parts[i]
			if !p.transaction {
				c.group.tell(e.index, e.raw.GetTerm(), f.origin, p)
			} else if len(judged) > 0 {
				c.judge(by, e, p, &judged[0])
				judged = judged[1:]
			}
		}
	}
	if e.view != nil {
		c.intake.view = *e.view
		c.group.see(e.view)
	}
	if e.election != nil {
		c.shown = e.election
	}
	if c.shown != nil {
		c.compare(by, e, before)
	}
}

// judge checks P9 for one transaction: it is fenced if and only if its origin has
// no right to write at this place, or had none when it was handed over. One that
// has committed already stays so.
func (c *primaries) judge(by string, e *entry, p *part, j *judged) {
	if j.verdict.Outcome == certifier.Duplicate || j.verdict.Outcome == certifier.Unreadable || c.written != "" {
		return
	}
	if may := c.group.admits(j.origin, p.epoch); may == fenced(j.verdict) {
		c.written = fmt.Sprintf("%s at %d, epoch %d: transaction %s, which %x handed over in epoch %d, is %s; by the log that member %s",
			by, e.index, c.group.epoch, j.id, j.origin, p.epoch, verdictText(j.verdict), c.group.rightText(j.origin))
	}
}

func (c *electorate) rightText(id uint64) string {
	if since, may := c.rights[id]; may {
		return fmt.Sprintf("may write since epoch %d", since)
	}
	return "may not write"
}

// compare checks what is shown after an entry. before is the epoch before it.
func (c *primaries) compare(by string, e *entry, before uint64) {
	g, s := &c.group, c.shown
	wrong := func(format string, args ...any) {
		if c.written == "" {
			c.written = fmt.Sprintf("%s after %d: ", by, e.index) + fmt.Sprintf(format, args...)
		}
	}
	if g.epoch != s.Epoch {
		wrong("it is in epoch %d; by the log this is epoch %d", s.Epoch, g.epoch)
		return
	}
	if g.primary != s.Primary {
		text := fmt.Sprintf("the primary of epoch %d is %x; by the ranking it is %x", s.Epoch, s.Primary, g.primary)
		if g.epoch > before {
			c.elected = fmt.Sprintf("%s after %d: %s", by, e.index, text)
		} else {
			wrong("%s", text)
		}
		return
	}
	if single := s.Mode == election.SinglePrimary; single != g.single || uint64(s.Protocol) != g.protocol {
		wrong("the group is in %s mode and speaks protocol %d; by the log single-primary is %t, and the protocol %d", s.Mode, s.Protocol, g.single, g.protocol)
		return
	}
	writers := 0
	for _, m := range s.Members {
		since, may := g.rights[m.RaftID]
		if m.Writes {
			writers++
		}
		if m.Writes != may || m.Since != since {
			wrong("%x writes: %t, since epoch %d; by the log it %s", m.RaftID, m.Writes, m.Since, g.rightText(m.RaftID))
		}
	}
	if writers != len(g.rights) || g.single && writers > 1 {
		wrong("%d members may write in %s mode; by the log %d may", writers, s.Mode, len(g.rights))
	}
	switch {
	case (s.Action == nil) != (g.change == nil):
		wrong("a planned change is open: %t; by the log: %t", s.Action != nil, g.change != nil)
	case g.change != nil && s.Action.ID == g.change.id && g.change.ranked && s.Action.Target != g.change.target:
		c.elected = fmt.Sprintf("%s after %d: change %s makes %x primary; by the ranking it is %x", by, e.index, g.change.id, s.Action.Target, g.change.target)
	case g.change != nil && (s.Action.ID != g.change.id || s.Action.Target != g.change.target || !slices.Equal(s.Action.Pending, g.change.pending)):
		wrong("the open change %s waits for %x and makes %x primary; by the log %s waits for %x and makes %x primary",
			s.Action.ID, s.Action.Pending, s.Action.Target, g.change.id, g.change.pending, g.change.target)
	}
}

// succession checks P10: the primary elected is the one that the ranking names.
// That every member elects the same one is P4's matter. It is told of an entry
// before rights is.
type succession struct {
	indifferent
	primaries *primaries
}

func (*succession) promise() string { return "P10" }

func (c *succession) delivered(by string, e, first *entry) string {
	if first != nil {
		return ""
	}
	c.primaries.follow(by, e)
	return c.primaries.elected
}

// rights checks P9: who may write follows from the log, in single-primary mode
// nobody but the primary, and what comes from others is certified nowhere. Nothing
// else is refused for that.
type rights struct {
	indifferent
	primaries *primaries
}

func (*rights) promise() string { return "P9" }

func (c *rights) delivered(_ string, _, first *entry) string {
	if first != nil {
		return ""
	}
	return c.primaries.written
}
