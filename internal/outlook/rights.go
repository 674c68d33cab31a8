package outlook

import (
	"fmt"
	"slices"

	"github.com/concordatdb/concordat/election"
	"github.com/concordatdb/concordat/gcs"
	"github.com/concordatdb/concordat/gtid"
)

// Sight is a group as one observer sees it.
type Sight struct {
	View     gcs.View
	Election election.Snapshot // who may write, by what the observer has delivered
	// Progress is how far members are, where the group elects by that.
	Progress    []election.Progress
	Unreachable []uint64 // raft ids of those whom the observer does not hear
	Stalled     []uint64 // and of those who say that their disks do not answer
}

// Writers is who writes in a view.
type Writers struct {
	All     []gtid.UUID // ascending by raft id
	Primary gtid.UUID   // zero in a multi-primary group, and where nobody can be it
	// Why says why the primary is elected that another one was before, or nobody;
	// "" if there is nothing to elect.
	Why string
}

// Writers returns who would write in a view that followed on the present one. Of
// those that are not heard none is elected while there are others: the group would
// have to elect again.
func (s *Sight) Writers(then gcs.View) Writers {
	e := &s.Election
	members := make([]election.Member, 0, len(then.Members))
	for _, m := range then.Members {
		known, ok := e.Member(m.RaftID)
		if !ok || known.UUID != m.UUID {
			known = election.Member{UUID: m.UUID, RaftID: m.RaftID, Version: election.Version(m.Version), Weight: m.Weight}
		}
		known.Online = m.State == gcs.Online
		members = append(members, known)
	}
	if e.Mode != election.SinglePrimary {
		return Writers{All: manyWriters(members)}
	}
	online := func(id uint64) (election.Member, bool) {
		i := slices.IndexFunc(members, func(m election.Member) bool { return m.RaftID == id && m.Online })
		if i < 0 {
			return election.Member{}, false
		}
		return members[i], true
	}
	if m, stays := online(e.Primary); stays {
		return onlyWriter(m, "")
	}
	if a := e.Action; a != nil {
		if m, ok := online(a.Target); ok {
			return onlyWriter(m, "it was to become primary anyway")
		}
	}
	choice := election.Choose(election.Ballot{Members: members, Passed: s.Unreachable, Progress: s.Progress, Rules: election.OurRules})
	if m, ok := online(choice.Winner); ok {
		return onlyWriter(m, choice.Lines[0].Text)
	}
	return Writers{}
}

func onlyWriter(m election.Member, why string) Writers {
	return Writers{All: []gtid.UUID{m.UUID}, Primary: m.UUID, Why: why}
}

// manyWriters are the writers of a multi-primary group: who writes goes on, and of
// the others who runs the lowest version.
func manyWriters(members []election.Member) (all []gtid.UUID) {
	lowest := election.Snapshot{Members: members}.Lowest()
	for _, m := range members {
		if m.Online && (m.Writes || m.Version == lowest) {
			all = append(all, m.UUID)
		}
	}
	return all
}

// warnOfPrimary says what becomes of the primary that goes, or comes.
func (m *maker) warnOfPrimary(warn func(format string, args ...any)) {
	e, w := &m.sight.Election, m.writers
	if e.Mode != election.SinglePrimary {
		return
	}
	goes := "there is no primary now"
	if p, ok := e.PrimaryMember(); ok {
		if p.UUID == w.Primary {
			return
		}
		goes = "the primary goes"
		if m.ask.Verb == Leave {
			goes = "the primary leaves"
		}
	}
	i := slices.IndexFunc(m.then.Members, func(o gcs.Member) bool { return o.UUID == w.Primary && o.State == gcs.Online })
	switch {
	case i < 0:
		warn("%s, and no other member can be it: nobody writes before one is ONLINE", goes)
	case !m.heard(m.then.Members[i]):
		warn("%s: %s is elected, which is not heard", goes, name(m.then.Members[i]))
	default:
		warn("%s: %s is elected: %s", goes, name(m.then.Members[i]), w.Why)
	}
}

// rights says what an operator should know of who writes, and what to do about it;
// "" if there is nothing. The code says how grave that is, "" for not at all.
func (f Facts) rights() Diagnosis {
	e := &f.Election
	primary, ok := f.View.Member(e.Primary)
	switch {
	case f.Alone:
		return Diagnosis{PrimaryAlone, "This member is the primary, and too few of the others have told lately that they hear it: nothing that writes begins here, " +
			"and what is on its way is answered when a majority has it. Another primary may have been elected. Look at the network between the members."}
	case e.Mode != election.SinglePrimary || e.Epoch == 0:
	case !ok:
		return Diagnosis{NoPrimary, "The group has no primary, and nobody writes. It elects one as soon as a member can be it; concordat primary --why tells how every member comes off."}
	case f.silent(primary):
		return Diagnosis{PrimarySilent, fmt.Sprintf("The primary %s is UNREACHABLE, and nobody writes before it is back or the group has elected another one. "+
			"If that lasts, no member that is heard can be it; concordat primary --why tells how every member comes off.", name(primary))}
	}
	a := e.Action
	if a == nil {
		return Diagnosis{}
	}
	var pending []string
	for _, id := range a.Pending {
		if m, ok := f.View.Member(id); ok {
			pending = append(pending, name(m))
		}
	}
	target, _ := f.View.Member(a.Target)
	text := fmt.Sprintf("A planned change is under way, %s to %s, action %s", a.Kind, name(target), a.ID)
	if len(pending) > 0 {
		text += ": it waits for what runs on " + list(pending)
	}
	return Diagnosis{Text: text + "; concordat primary cancel takes it back."}
}
