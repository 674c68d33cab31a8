package outlook

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/concordatdb/concordat/gcs"
	"github.com/concordatdb/concordat/gtid"
)

// Verb is what an operator can do to the membership.
type Verb string

// The verbs.
const (
	// Leave: the member goes in order, by its own doing.
	Leave Verb = "leave"
	// Remove: the others go on without the member.
	Remove Verb = "remove"
	// Replace: a new member comes in the place of a dead one, in one view.
	Replace Verb = "replace"
	// Join: a new member comes, or one that was lost comes back in its own place.
	Join Verb = "join"
)

// Ask is a change of membership that somebody thinks of.
type Ask struct {
	Verb   Verb
	Member gtid.UUID  // whom it is about: who goes, or who joins
	New    gcs.Member // for Replace the newcomer, for Join more about it; what is zero is not known yet
}

// Plan is what a change would lead to.
type Plan struct {
	Now   Outlook
	Then  Outlook // when the change is in the log
	Later Outlook // when those RECOVERING members of that view that can catch up are ONLINE too: they are heard and their disks answer

	// Members is the view that the change makes, ascending by raft id. It is the
	// present one if no change can be made of it. A newcomer is in it as it was
	// asked, with zero for what is not known yet.
	Members   []gcs.Member
	Primaries []gtid.UUID // who may write then
	Primary   gtid.UUID   // of a single-primary group then, zero if nobody can be it

	Objection string // why the change is refused, "" if it is not
	Forceable bool   // it is done all the same if force is asked for
	Warnings  []string
}

// Refusal is why the change is refused to somebody who does, or does not, ask
// for force; "" if it is not.
func (p Plan) Refusal(force bool) string {
	if force && p.Forceable {
		return ""
	}
	return p.Objection
}

// Make works out what a change would lead to in the eyes of an observer.
func Make(s Sight, ask Ask) Plan {
	m := maker{
		sight: s, view: s.View, then: s.View, unreachable: s.Unreachable, stalled: s.Stalled, ask: ask,
		plan: Plan{Now: Of(s.View, s.Unreachable, s.Stalled...)},
	}
	m.make()
	m.plan.Members = m.then.Members
	m.plan.Then = Of(m.then, s.Unreachable, s.Stalled...)
	m.plan.Later = Of(m.promoted(), s.Unreachable, s.Stalled...)
	m.writers = s.Writers(m.then)
	m.plan.Primaries, m.plan.Primary = m.writers.All, m.writers.Primary
	if m.plan.Objection == "" {
		m.judge()
	}
	m.warn()
	return m.plan
}

// maker works out one plan.
type maker struct {
	sight       Sight
	writers     Writers // then
	view, then  gcs.View
	unreachable []uint64
	stalled     []uint64
	ask         Ask
	about       gcs.Member // whom it is about, if that one is in the view
	known       bool
	plan        Plan
}

func (m *maker) object(format string, args ...any) {
	m.plan.Objection = fmt.Sprintf(format, args...)
}

func (m *maker) heard(member gcs.Member) bool {
	return !slices.Contains(m.unreachable, member.RaftID)
}

// make finds the view that the change makes, or why there is none.
func (m *maker) make() {
	i := slices.IndexFunc(m.view.Members, func(o gcs.Member) bool { return o.UUID == m.ask.Member })
	if m.known = i >= 0; m.known {
		m.about = m.view.Members[i]
	}
	switch {
	case len(m.view.Members) == 0:
		m.object("there is no group yet; bootstrap it first")
	case m.ask.Verb == Join:
		m.join()
	case !m.known:
		m.object("%s is no member of the group", m.ask.Member)
	case m.ask.Verb == Leave:
		m.apply(gcs.Change{Kind: gcs.Left, Member: m.about})
	case m.ask.Verb == Remove:
		m.apply(gcs.Change{Kind: gcs.Removed, Member: m.about})
	case m.ask.Verb == Replace:
		m.replace(m.ask.New)
	default:
		m.object("there is no change of membership called %q", string(m.ask.Verb))
	}
}

func (m *maker) join() {
	newcomer := m.ask.New
	newcomer.UUID = m.ask.Member
	switch {
	case !m.known:
		m.enter(gcs.Change{Kind: gcs.Joined, Member: newcomer})
	case m.heard(m.about):
		m.object("%s is a member already, at %s", m.about.UUID, m.about.Address)
	default:
		m.replace(newcomer)
	}
}

func (m *maker) replace(newcomer gcs.Member) {
	if m.heard(m.about) {
		m.object("%s is heard, and only a dead member can be replaced; stop it, or let it leave", name(m.about))
		return
	}
	m.enter(gcs.Change{Kind: gcs.Replaced, Member: newcomer, Replaces: m.about.RaftID})
}

// What a newcomer's address and UUID are taken for while they are not known:
// nobody's.
const unknownAddress = "?"

var unknownUUID = gtid.UUID{
	0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
	0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
}

// enter applies a change by which a member enters. What is not known of it yet
// is made up for the time, so that it clashes with nobody.
func (m *maker) enter(c gcs.Change) {
	asked := c.Member
	asked.State = gcs.Recovering
	if c.Member.RaftID == 0 {
		c.Member.RaftID = m.freeID()
	}
	if c.Member.Address == "" {
		c.Member.Address = unknownAddress
	}
	if c.Member.UUID.IsZero() {
		c.Member.UUID = unknownUUID
	}
	m.apply(c)
	if m.plan.Objection != "" {
		return
	}
	for i := range m.then.Members {
		if m.then.Members[i].RaftID == c.Member.RaftID {
			m.then.Members[i] = asked
		}
	}
	slices.SortStableFunc(m.then.Members, func(a, b gcs.Member) int { return cmp.Compare(a.RaftID, b.RaftID) })
}

// freeID returns a raft id that nobody in the view has.
func (m *maker) freeID() uint64 {
	for id := uint64(1); ; id++ {
		if _, taken := m.view.Member(id); !taken {
			return id
		}
	}
}

func (m *maker) apply(c gcs.Change) {
	then, err := m.view.Apply(c, m.view.Index+1)
	if refused, ok := errors.AsType[*gcs.RefusedChangeError](err); ok {
		m.object("%s", refused.Reason)
		return
	}
	m.then = then
}

// judge finds what speaks against a change that could be made.
func (m *maker) judge() {
	p := &m.plan
	if !p.Now.HasQuorum() {
		m.object("the group has no quorum, %d of %s are heard and %d are needed: bring members back, or force the membership",
			p.Now.Reachable, count(p.Now.Voters, "voter"), p.Now.Quorum)
		return
	}
	if !p.Then.HasQuorum() {
		m.object("the group would have no quorum, %d of %s are heard and %d would be needed: bring back or remove %s first",
			p.Then.Reachable, count(p.Then.Voters, "voter"), p.Then.Quorum, list(m.silent()))
		return
	}
	if !p.Now.Commits() {
		m.object("nothing commits in the group: the %s, %d of the %s can acknowledge a write, and %d must",
			stall(m.slow(m.view)), p.Now.sound(), count(p.Now.Voters, "voter"), p.Now.Quorum)
		return
	}
	if !p.Then.Commits() {
		m.object("nothing would commit then: the %s, %d of the %s could acknowledge a write, and %d would have to; look after the %s first",
			stall(m.slow(m.then)), p.Then.sound(), count(p.Then.Voters, "voter"), p.Then.Quorum, plural(p.Then.Stalled, "disk"))
		return
	}
	var reasons []string
	if m.ask.Verb == Remove && m.about.State == gcs.Online && m.heard(m.about) {
		reasons = append(reasons, fmt.Sprintf("%s is ONLINE and heard: let it leave by itself", name(m.about)))
	}
	if p.Then.Tolerance == 0 && p.Now.Tolerance > 0 {
		reasons = append(reasons, fmt.Sprintf("no member could fail then, and %d can now: join another one first", p.Now.Tolerance))
	}
	p.Objection, p.Forceable = strings.Join(reasons, "; "), len(reasons) > 0
}

// silent names the voters that would be in the view and are not heard.
func (m *maker) silent() []string {
	var names []string
	for _, member := range m.then.Members {
		if member.State == gcs.Online && !m.heard(member) {
			names = append(names, name(member))
		}
	}
	return names
}

// slow names the voters of a view that are heard and whose disks do not answer.
func (m *maker) slow(v gcs.View) []string {
	return Facts{View: v, Unreachable: m.unreachable, Stalled: m.stalled}.stalled()
}

// warn notes what an operator should know who goes on.
func (m *maker) warn() {
	p := &m.plan
	if p.Objection != "" && !p.Forceable {
		return
	}
	warn := func(format string, args ...any) { p.Warnings = append(p.Warnings, fmt.Sprintf(format, args...)) }
	enters := m.ask.Verb == Join || m.ask.Verb == Replace
	if gone := m.known && m.ask.Verb != Leave; gone && !m.heard(m.about) {
		warn("%s is not heard: if it still runs, its clients wait until it learns that it is out", name(m.about))
	}
	m.warnOfPrimary(warn)
	if p.Later.Tolerance == 0 && p.Later.Voters > 1 {
		warn("no member may fail then: the group stops with the next failure")
	}
	if enters && p.Later.Voters%2 == 0 && p.Later.Voters > 2 {
		warn("%d voters bear no more failures than %d do", p.Later.Voters, p.Later.Voters-1)
	}
	for _, name := range m.silent() {
		warn("%s is not heard and stays", name)
	}
	if slow := m.slow(m.then); len(slow) > 0 {
		warn("the %s", stall(slow))
	}
}

// promoted is the view when all have caught up that can.
func (m *maker) promoted() gcs.View {
	v := m.then
	v.Members = slices.Clone(v.Members)
	for i, member := range v.Members {
		if m.heard(member) && !slices.Contains(m.stalled, member.RaftID) {
			v.Members[i].State = gcs.Online
		}
	}
	return v
}
