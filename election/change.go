package election

import (
	"fmt"
	"slices"
	"strings"

	"github.com/concordatdb/concordat/gtid"
)

// Deposal is a leader's message that the primary is silent, or that there is
// none and somebody can be.
type Deposal struct {
	Epoch uint64
	Term  uint64 // of the leader
	// Target is the raft id of the silent primary, 0 when there is none.
	Target uint64
	// Passed are the raft ids of the others that are silent, ascending.
	Passed []uint64
	// Progress is how far members are by their reports, ascending by RaftID. It
	// counts with PreferMostUpdated.
	Progress []Progress
	Evidence string // for people: who was not heard for how long
}

// Lapse is a leader's message that the grace of an action is over.
type Lapse struct {
	Action gtid.UUID
	Term   uint64 // of the leader
}

// Drain is a member's message, behind its last transaction, that it is done with
// a right that it loses.
type Drain struct {
	Action gtid.UUID
	Open   uint64 // transactions that were open when the grace was over
}

// Begin judges an action that a member asks for, and begins it. One that takes a
// right away is open from here on; the others end at once.
func (s *State) Begin(index, origin uint64, a Action) Effect {
	return s.judge(func(e *Effect) {
		asker, _ := s.Member(origin)
		a.Index, a.Asker, a.Pending, a.Cut = index, asker.UUID, nil, 0
		now := s.Snapshot()
		if no := now.objection(a); no != nil {
			s.refuse(e, index, no)
			return
		}
		if why := now.idle(a); why != "" {
			s.end(e, index, a, NoChange, why)
			return
		}
		switch a.Kind {
		case SetPrimary, ToSingle:
			s.drain(e, index, a)
		case ToMulti:
			s.mode = MultiPrimary
			s.begin(e, index, SwitchedMulti, 0, a.words())
			s.end(e, index, a, Done, fmt.Sprintf("in multi-primary mode since epoch %d", s.epoch))
		case SetProtocol:
			was := s.protocol
			s.protocol = a.Protocol
			s.end(e, index, a, Done, fmt.Sprintf("the group speaks protocol %d, it spoke %d", a.Protocol, was))
		}
	})
}

// words says who asked for the action, and why.
func (a Action) words() string { return phrases(fmt.Sprintf("asked for at %s", a.Asker), a.Reason) }

// refuse answers an action that does not begin. It is remembered, unless its id
// stands for an action that did, or it will be asked for again.
func (s *State) refuse(e *Effect, index uint64, no *RefusedError) {
	o := Outcome{Action: no.Action, Result: Refused, Again: no.Again, Ended: index, Text: clip(no.Reason, maxText)}
	if no.Action.misfit() == "" && !no.Again && !s.Snapshot().knows(o.ID) {
		s.remember(o)
	}
	e.Ended = &o
}

// drain opens an action that takes the right to write from everybody but its
// target.
func (s *State) drain(e *Effect, index uint64, a Action) {
	if a.Target == 0 {
		a.Target = s.successor(Ballot{}, false).Winner
	}
	for _, m := range s.members {
		if m.Writes && m.RaftID != a.Target {
			a.Pending = append(a.Pending, m.RaftID)
		}
	}
	s.forget(a.ID)
	s.action = &a
	if len(a.Pending) == 0 {
		s.flip(e, index, "")
		return
	}
	e.Begun = a.clone()
}

// flip does what the open action asks for. Its target is ONLINE: an action whose
// target is not is aborted by the view that says so.
func (s *State) flip(e *Effect, index uint64, late string) {
	a := *s.action
	cause := Planned
	if a.Kind == ToSingle {
		cause = SwitchedSingle
		s.mode = SinglePrimary
	}
	s.begin(e, index, cause, a.Target, a.words())
	target, _ := s.Member(a.Target)
	given := ""
	if a.Cut > 0 {
		given = fmt.Sprintf("%d open transactions were given up", a.Cut)
	}
	s.end(e, index, a, Done, phrases(fmt.Sprintf("%s is primary since epoch %d", target.UUID, s.epoch), late, given))
}

// end ends an action. An open one is no longer.
func (s *State) end(e *Effect, index uint64, a Action, result Result, text string) {
	s.action = nil
	o := Outcome{Action: a, Result: result, Ended: index, Text: clip(text, maxText)}
	s.remember(o)
	e.Ended = &o
}

// abort ends the open action, if there is one, because of something else.
func (s *State) abort(e *Effect, index uint64, why string) {
	if s.action != nil {
		s.end(e, index, *s.action, Aborted, why)
	}
}

func (s *State) remember(o Outcome) {
	s.forget(o.ID)
	s.done = append(s.done, o)
	if len(s.done) > keptOutcomes {
		s.done = slices.Delete(s.done, 0, len(s.done)-keptOutcomes)
	}
}

func (s *State) forget(id gtid.UUID) {
	s.done = slices.DeleteFunc(s.done, func(o Outcome) bool { return o.ID == id })
}

// prune takes out of the open action who is out of the view.
func (s *State) prune(e *Effect, index uint64) {
	a := s.action
	if a == nil {
		return
	}
	if !s.online(a.Target) {
		s.abort(e, index, "the member that was to become primary is out of the view")
		return
	}
	s.discharge(e, index, func(id uint64) bool { return !s.online(id) })
}

// discharge takes members out of those whom the open action waits for. When none
// is left, the action is done.
func (s *State) discharge(e *Effect, index uint64, gone func(uint64) bool) {
	a := s.action.clone()
	a.Pending = slices.DeleteFunc(a.Pending, gone)
	if len(a.Pending) == len(s.action.Pending) {
		return
	}
	s.action = a
	e.Drained = true
	if len(a.Pending) == 0 {
		s.flip(e, index, "")
	}
}

// Drained judges the message of a member that it is done with a right that it
// loses. When it was the last one, the change happens here.
func (s *State) Drained(index, origin uint64, m Drain) Effect {
	return s.judge(func(e *Effect) {
		if s.action == nil || s.action.ID != m.Action || !slices.Contains(s.action.Pending, origin) {
			return
		}
		a := s.action.clone()
		a.Cut += m.Open
		s.action = a
		s.discharge(e, index, func(id uint64) bool { return id == origin })
	})
}

// GraceOver judges a leader's message that the grace of an action is over, at an
// entry of a term. The change happens here, whoever has not drained.
func (s *State) GraceOver(index, term uint64, m Lapse) Effect {
	return s.judge(func(e *Effect) {
		if s.action == nil || s.action.ID != m.Action || m.Term != term {
			return
		}
		var late []string
		for _, id := range s.action.Pending {
			pending, _ := s.Member(id)
			late = append(late, pending.UUID.String())
		}
		s.flip(e, index, "the grace was over before these had drained: "+strings.Join(late, ", "))
	})
}

// Cancel judges a message that an action is no longer wanted. It means nothing
// unless the action is open.
func (s *State) Cancel(index uint64, id gtid.UUID) Effect {
	return s.judge(func(e *Effect) {
		if s.action != nil && s.action.ID == id {
			s.end(e, index, *s.action, Cancelled, "cancelled")
		}
	})
}
