package election

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/concordatdb/concordat/gtid"
)

// Mode says how many members write. The values are part of the log format.
type Mode byte

// The modes.
const (
	SinglePrimary Mode = 1
	MultiPrimary  Mode = 2
)

// String returns the mode as a word for people.
func (m Mode) String() string {
	switch m {
	case SinglePrimary:
		return "single-primary"
	case MultiPrimary:
		return "multi-primary"
	}
	return fmt.Sprintf("Mode(%d)", byte(m))
}

// Member is what elections know of a member of the view. Version, Weight and
// what follows Online are those of its last opening; before that, Version and
// Weight are the view's, and nothing is known of its protocols.
type Member struct {
	UUID           gtid.UUID
	RaftID         uint64
	Version        Version
	Weight         uint32 // 0 to MaxWeight
	Online         bool   // by the view
	Oldest, Newest Protocol
	ClientAddress  string // where clients reach it; may be empty
	Writes         bool   // it has the right to write
	Since          uint64 // epoch since which it has it; 0 when it has none
}

// Cause is why an epoch began. The values are part of the log format.
type Cause byte

// The causes.
const (
	Founded        Cause = 1 + iota
	PrimaryGone          // the view lost the primary
	PrimarySilent        // the leader had not heard the primary
	Vacancy              // there was no primary, and somebody can be
	Planned              // an operator named another primary
	SwitchedSingle       // to single-primary mode
	SwitchedMulti        // to multi-primary mode
	ForcedView           // an operator imposed the membership
)

// String returns the cause in a few words.
func (c Cause) String() string {
	switch c {
	case Founded:
		return "founded"
	case PrimaryGone:
		return "primary gone"
	case PrimarySilent:
		return "primary silent"
	case Vacancy:
		return "vacancy"
	case Planned:
		return "planned"
	case SwitchedSingle:
		return "switched to single-primary"
	case SwitchedMulti:
		return "switched to multi-primary"
	case ForcedView:
		return "forced view"
	}
	return fmt.Sprintf("Cause(%d)", byte(c))
}

// Epoch is the time from one change of who may write to the next.
type Epoch struct {
	Number  uint64 // counts from 1
	Index   uint64 // of the log entry that began it
	Mode    Mode
	Primary gtid.UUID // zero in multi-primary mode, or when nobody could be it
	Cause   Cause
	Reason  string // for people
}

// How much of what was is remembered.
const (
	keptEpochs   = 64
	keptOutcomes = 16
)

// State is the group's mode, primary and writers. It is replicated state: a
// function of the log. It belongs to one goroutine.
type State struct {
	mode     Mode
	protocol Protocol
	epoch    uint64
	view     uint64    // id of the view
	primary  uint64    // raft id; 0 in multi-primary mode or when nobody can be it
	members  []Member  // ascending by RaftID, aligned with the view
	action   *Action   // open, nil if none
	done     []Outcome // of the last actions, oldest first, each id once
	past     []Epoch   // the last ones, the present one last

	shown *Snapshot // of this state; nil since it changed
}

// New returns the state of a group before its founding message: in multi-primary
// mode, where every ONLINE member may write.
func New() *State { return &State{mode: MultiPrimary, protocol: FirstProtocol} }

// Epoch returns the number of the present epoch, 0 before the founding message.
func (s *State) Epoch() uint64 { return s.epoch }

// Began returns the index of the log entry that began the epoch, 0 before the
// founding message.
func (s *State) Began() uint64 {
	if s.epoch == 0 {
		return 0
	}
	return s.past[len(s.past)-1].Index
}

// Mode returns the group's mode.
func (s *State) Mode() Mode { return s.mode }

// Protocol returns the protocol that the group speaks.
func (s *State) Protocol() Protocol { return s.protocol }

// Primary returns the primary. It is false in multi-primary mode, and when
// nobody can be it.
func (s *State) Primary() (Member, bool) { return s.Member(s.primary) }

// Members returns the members of the view, ascending by RaftID. They must not be
// changed, and are good until the state is told something.
func (s *State) Members() []Member { return s.members }

// Member returns the member with the given raft id.
func (s *State) Member(raftID uint64) (Member, bool) {
	i, ok := find(s.members, raftID)
	if !ok {
		return Member{}, false
	}
	return s.members[i], true
}

// MayWrite reports whether a member has the right to write.
func (s *State) MayWrite(raftID uint64) bool {
	i, ok := find(s.members, raftID)
	return ok && s.members[i].Writes
}

// Admits reports whether a transaction that its origin handed over in an epoch
// may be certified here: the origin has the right to write, and had it then.
func (s *State) Admits(origin, epoch uint64) bool {
	i, ok := find(s.members, origin)
	return ok && s.members[i].Writes && s.members[i].Since <= epoch && epoch <= s.epoch
}

func find(members []Member, raftID uint64) (int, bool) {
	return slices.BinarySearchFunc(members, raftID, func(m Member, id uint64) int { return cmp.Compare(m.RaftID, id) })
}

func (s *State) online(raftID uint64) bool {
	m, ok := s.Member(raftID)
	return ok && m.Online
}

// Effect is what a message or a view changed. The zero Effect is no change.
type Effect struct {
	Epoch   *Epoch   // a new epoch began
	Begun   *Action  // an action that drains began
	Drained bool     // the open action waits for fewer members
	Ended   *Outcome // an action ended, or was refused at once
	Members bool     // there are others, or a description or right changed
}

// judge applies a rule, and gives every member its right by what the rule left.
func (s *State) judge(rule func(*Effect)) Effect {
	before := slices.Clone(s.members)
	var e Effect
	rule(&e)
	s.settle()
	e.Members = !slices.Equal(before, s.members)
	e.Drained = e.Drained && s.action != nil
	if e != (Effect{}) {
		s.shown = nil
	}
	return e
}

// settle makes the rights follow from mode, primary and versions. Who keeps its
// right keeps its Since.
func (s *State) settle() {
	lowest := lowestOnline(s.members)
	// Who gains the right while the others drain would lose it at once, without
	// having drained.
	closed := s.action != nil && s.action.Kind == ToSingle
	for i := range s.members {
		m := &s.members[i]
		writes := m.Online
		switch {
		case s.mode == SinglePrimary:
			writes = m.RaftID == s.primary
		case s.epoch > 0:
			writes = writes && (m.Writes || m.Version == lowest && !closed)
		}
		switch {
		case !writes:
			m.Writes, m.Since = false, 0
		case !m.Writes:
			m.Writes, m.Since = true, s.epoch
		}
	}
}

// View is what elections know of a view of the group.
type View struct {
	ID    uint64
	Index uint64 // of the log entry that began it
	// Members need UUID, RaftID, Version, Weight and Online. Of those that were
	// there before, UUID, RaftID and Online count.
	Members []Member
	Forced  bool   // an operator imposed it
	Reason  string // for people
}

// View tells of a new view. A view never takes the right from a primary that is
// in it and ONLINE. With prefer, see PreferMostUpdated, a primary that is gone
// has no successor as long as more than one member could be it: who leads the log
// asks for one, with everybody's progress.
func (s *State) View(v View, prefer bool) Effect {
	s.shown = nil
	return s.judge(func(e *Effect) {
		s.view = v.ID
		s.align(v.Members)
		if s.epoch == 0 {
			return
		}
		gone, _ := s.Member(s.primary)
		switch {
		case v.Forced:
			s.force(e, v, prefer)
		case s.mode == SinglePrimary && s.primary == 0:
			if s.successor(Ballot{}, prefer).Winner != 0 {
				s.succeed(e, v.Index, Vacancy, v.Reason, Ballot{}, prefer)
			}
		case s.mode == SinglePrimary && !gone.Online:
			s.succeed(e, v.Index, PrimaryGone, v.Reason, Ballot{}, prefer)
		}
		s.prune(e, v.Index)
	})
}

// align makes the members those of a view.
func (s *State) align(members []Member) {
	next := make([]Member, 0, len(members))
	for _, m := range members {
		m = Member{UUID: m.UUID, RaftID: m.RaftID, Version: m.Version, Weight: min(m.Weight, MaxWeight), Online: m.Online}
		if old, ok := s.Member(m.RaftID); ok && old.UUID == m.UUID {
			old.Online = m.Online
			m = old
		}
		next = append(next, m)
	}
	slices.SortFunc(next, func(a, b Member) int { return cmp.Compare(a.RaftID, b.RaftID) })
	s.members = next
}

// force begins an epoch, whatever the view changed: what is still on its way
// from the earlier membership is judged by what this one knows of rights.
func (s *State) force(e *Effect, v View, prefer bool) {
	s.abort(e, v.Index, "the membership was forced")
	primary, words := s.primary, ""
	if s.mode == SinglePrimary && !s.online(primary) {
		choice := s.successor(Ballot{}, prefer)
		primary, words = choice.Winner, choice.summary()
	}
	s.begin(e, v.Index, ForcedView, primary, phrases("the membership was forced", v.Reason, words))
}

// successor is who becomes primary by rank.
func (s *State) successor(b Ballot, prefer bool) Choice {
	b.Members, b.Rules = s.members, OurRules
	choice := Choose(b)
	if prefer && len(b.Progress) == 0 && len(choice.Lines) > 1 && choice.Lines[1].Rank > 0 {
		return Choice{}
	}
	return choice
}

// succeed elects, and ends the planned change that this overtakes.
func (s *State) succeed(e *Effect, index uint64, cause Cause, reason string, b Ballot, prefer bool) {
	a := s.action
	if a != nil && s.online(a.Target) && !slices.Contains(b.Passed, a.Target) {
		target, _ := s.Member(a.Target)
		s.begin(e, index, cause, a.Target, phrases(reason, fmt.Sprintf("%s was to become primary anyway", target.UUID)))
	} else {
		choice := s.successor(b, prefer)
		s.begin(e, index, cause, choice.Winner, phrases(reason, choice.summary()))
	}
	switch {
	case a == nil:
	case a.Target == s.primary:
		s.end(e, index, *a, DoneByFailover, fmt.Sprintf("%s before the old primary had drained", cause))
	default:
		s.end(e, index, *a, Aborted, fmt.Sprintf("%s, and the member that was to take over could not", cause))
	}
}

// Open tells what a member says of itself at the begin of a session. It may give
// members the right to write, and takes it from nobody.
func (s *State) Open(raftID uint64, d Description) Effect {
	return s.judge(func(*Effect) {
		if i, ok := find(s.members, raftID); ok {
			m := &s.members[i]
			m.Version, m.Weight, m.Oldest, m.Newest, m.ClientAddress = d.Version, d.Weight, d.Oldest, d.Newest, d.ClientAddress
		}
	})
}

// Found begins the first epoch. In single-primary mode the founder is primary.
// Later it means nothing.
func (s *State) Found(index uint64, mode Mode, p Protocol) Effect {
	return s.judge(func(e *Effect) {
		if s.epoch > 0 {
			return
		}
		s.mode, s.protocol = mode, p
		primary := uint64(0)
		if mode == SinglePrimary {
			primary = s.successor(Ballot{}, false).Winner
		}
		s.begin(e, index, Founded, primary, "the group was founded")
	})
}

// Depose judges a leader's message that the primary is silent, or that there is
// none, at an entry of a term. With prefer the progress in it counts. Who is
// elected is computed here and stands in no message. When nobody else can be
// primary a silent one stays: it may come back.
func (s *State) Depose(index, term uint64, m Deposal, prefer bool) Effect {
	return s.judge(func(e *Effect) {
		if s.mode != SinglePrimary || m.Epoch != s.epoch || m.Term != term || m.Target != s.primary {
			return
		}
		b := Ballot{Deposed: m.Target, Passed: m.Passed}
		if prefer {
			b.Progress = m.Progress
		}
		if s.successor(b, false).Winner == 0 {
			return
		}
		cause := PrimarySilent
		if m.Target == 0 {
			cause = Vacancy
		}
		s.succeed(e, index, cause, m.Evidence, b, false)
	})
}

// begin begins an epoch of the present mode.
func (s *State) begin(e *Effect, index uint64, cause Cause, primary uint64, reason string) {
	s.epoch++
	s.primary = primary
	m, _ := s.Member(primary)
	next := Epoch{Number: s.epoch, Index: index, Mode: s.mode, Primary: m.UUID, Cause: cause, Reason: clip(reason, maxText)}
	s.past = append(s.past, next)
	if len(s.past) > keptEpochs {
		s.past = slices.Delete(s.past, 0, len(s.past)-keptEpochs)
	}
	e.Epoch = &next
}
