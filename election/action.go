package election

import (
	"fmt"
	"slices"

	"github.com/concordatdb/concordat/gtid"
)

// ActionKind is what an operator asks of the group. The values are part of the
// log format.
type ActionKind byte

// The kinds of action.
const (
	// SetPrimary makes a named member the primary of a single-primary group.
	SetPrimary ActionKind = 1 + iota
	// ToSingle switches to single-primary mode, with a named primary or the first
	// by rank.
	ToSingle
	// ToMulti switches to multi-primary mode.
	ToMulti
	// SetProtocol raises the protocol that the group speaks.
	SetProtocol
)

// String returns the kind as a word for people.
func (k ActionKind) String() string {
	switch k {
	case SetPrimary:
		return "set-primary"
	case ToSingle:
		return "switch to single-primary"
	case ToMulti:
		return "switch to multi-primary"
	case SetProtocol:
		return "set-protocol"
	}
	return fmt.Sprintf("ActionKind(%d)", byte(k))
}

// drains reports whether such an action takes the right to write from somebody,
// who gets time to finish.
func (k ActionKind) drains() bool { return k == SetPrimary || k == ToSingle }

// MaxGrace bounds the time that running transactions get, in milliseconds.
const MaxGrace = 3_600_000

// Action is what an operator asks of the group, and how far it is. The fields
// that its kind has no use for are zero.
type Action struct {
	ID   gtid.UUID // drawn by who asks
	Kind ActionKind
	// Epoch and View are those that the asker knew. In others the action is
	// refused: it was judged by what is no longer true.
	Epoch, View uint64
	// Target is the raft id of the primary to be. For ToSingle it may be 0: then
	// it is fixed, by rank, when the action begins.
	Target   uint64
	Protocol Protocol // for SetProtocol
	Grace    uint64   // what running transactions get, in milliseconds
	Force    bool     // members may be RECOVERING
	Reason   string   // for people: valid UTF-8 on one line, of at most MaxReason bytes

	// What follows is set at delivery, and is no part of the message.
	Index   uint64    // of the log entry that asked for it
	Asker   gtid.UUID // member
	Pending []uint64  // raft ids of those who have not drained, ascending
	Cut     uint64    // transactions that were open when the grace was over
}

func (a *Action) clone() *Action {
	if a == nil {
		return nil
	}
	c := *a
	c.Pending = slices.Clone(a.Pending)
	return &c
}

// Result is how an action ended. The values are part of the state format.
type Result byte

// The results.
const (
	// Done: what was asked for is so.
	Done Result = 1 + iota
	// DoneByFailover: the named member is primary, because the old one went or
	// fell silent before it had drained.
	DoneByFailover
	// Aborted: the action had begun, and could not go on. Nothing changed by it.
	Aborted
	// Cancelled: somebody asked for that before it was done. Nothing changed.
	Cancelled
	// Refused: it did not begin.
	Refused
	// NoChange: what was asked for was so already.
	NoChange
)

// String returns the result as a word for people.
func (r Result) String() string {
	switch r {
	case Done:
		return "done"
	case DoneByFailover:
		return "done by failover"
	case Aborted:
		return "aborted"
	case Cancelled:
		return "cancelled"
	case Refused:
		return "refused"
	case NoChange:
		return "no change"
	}
	return fmt.Sprintf("Result(%d)", byte(r))
}

// Outcome is an action that has ended, with what was pending then.
type Outcome struct {
	Action
	Result Result
	// Again: it was refused only because its epoch or view had passed. Asked for
	// with the present ones it may begin. Such a refusal is not remembered.
	Again bool
	Ended uint64 // index of the log entry that ended it
	Text  string // the result in words
}

// RefusedError says why an action cannot begin.
type RefusedError struct {
	Action Action
	Again  bool // only its epoch or view has passed; see Outcome
	Reason string
}

// Error names the action and the reason.
func (e *RefusedError) Error() string {
	return fmt.Sprintf("election: %s refused: %s", e.Action.Kind, e.Reason)
}

// Check reports why an action would be refused if it came now, and nil when it
// would begin, or change nothing. Asker must be set. Every member comes to the
// same answer at delivery; before that it is a forecast. The error is a
// *RefusedError.
func (s Snapshot) Check(a Action) error {
	if e := s.objection(a); e != nil {
		return e
	}
	return nil
}

// Check is [Snapshot.Check] of the present state.
func (s *State) Check(a Action) error { return s.Snapshot().Check(a) }

// objection says why a cannot begin, nil when nothing forbids it.
func (s Snapshot) objection(a Action) *RefusedError {
	e := &RefusedError{Action: a}
	switch {
	case a.misfit() != "":
		e.Reason = a.misfit()
	case s.Epoch == 0:
		e.Reason = "the group has not been founded yet; ask again"
	case s.knows(a.ID):
		e.Reason = fmt.Sprintf("action %s is known already; draw another id for another action", a.ID)
	case s.Action != nil:
		e.Reason = fmt.Sprintf("action %s (%s) is open; wait for its end, or cancel it", s.Action.ID, s.Action.Kind)
	case a.Epoch != s.Epoch:
		e.Again, e.Reason = true, fmt.Sprintf("it was asked for in epoch %d, this is epoch %d; ask again", a.Epoch, s.Epoch)
	case a.View != s.View:
		e.Again, e.Reason = true, fmt.Sprintf("it was asked for in view %d, this is view %d; ask again", a.View, s.View)
	case !slices.ContainsFunc(s.Members, func(m Member) bool { return m.UUID == a.Asker && m.Online }):
		e.Reason = "the member that asks is not ONLINE; ask another one"
	default:
		e.Reason = s.objectionToKind(a)
		if e.Reason == "" && s.idle(a) == "" {
			e.Reason = s.objectionToRecovering(a)
		}
	}
	if e.Reason == "" {
		return nil
	}
	return e
}

// misfit says what in a no action has, or its kind has no use for.
func (a Action) misfit() string {
	switch {
	case a.ID.IsZero():
		return "it needs an id"
	case a.Kind < SetPrimary || a.Kind > SetProtocol:
		return "the kind of action is unknown"
	case a.Target != 0 && !a.Kind.drains():
		return "only set-primary and a switch to single-primary name a member"
	case a.Target == 0 && a.Kind == SetPrimary:
		return "it must name a member"
	case a.Grace != 0 && !a.Kind.drains():
		return "only set-primary and a switch to single-primary have a grace"
	case a.Protocol != 0 && a.Kind != SetProtocol:
		return "only set-protocol has a protocol"
	case len(a.Reason) > MaxReason || !isText(a.Reason):
		return fmt.Sprintf("its reason is not text on one line of at most %d bytes", MaxReason)
	}
	return ""
}

// knows reports whether an action of this id is open, or began and ended.
func (s Snapshot) knows(id gtid.UUID) bool {
	if s.Action != nil && s.Action.ID == id {
		return true
	}
	o, ok := s.Outcome(id)
	return ok && o.Result != Refused
}

func (s Snapshot) objectionToKind(a Action) string {
	switch a.Kind {
	case SetPrimary:
		if s.Mode != SinglePrimary {
			return "the group is in multi-primary mode; switch it to single-primary mode"
		}
		return s.objectionToTarget(a)
	case ToSingle:
		if s.Mode == SinglePrimary && a.Target != 0 {
			return "the group is in single-primary mode already; use set-primary to name another primary"
		}
		return s.objectionToTarget(a)
	case SetProtocol:
		return s.objectionToProtocol(a.Protocol)
	default:
		return ""
	}
}

func (s Snapshot) objectionToTarget(a Action) string {
	if a.Grace > MaxGrace {
		return fmt.Sprintf("a grace of %d ms exceeds %d ms", a.Grace, MaxGrace)
	}
	if a.Target == 0 || a.Target == s.Primary {
		return ""
	}
	m, ok := s.Member(a.Target)
	switch lowest := s.Lowest(); {
	case !ok:
		return fmt.Sprintf("no member of the view has the raft id %d", a.Target)
	case !m.Online:
		return fmt.Sprintf("member %s is RECOVERING; wait until it is ONLINE", m.UUID)
	case !OurRules.eligible(m.Version, lowest):
		return fmt.Sprintf("member %s runs %s, and the oldest ONLINE member %s; name one of that version, or upgrade the older ones first",
			m.UUID, m.Version, lowest)
	}
	return ""
}

func (s Snapshot) objectionToProtocol(p Protocol) string {
	if p < s.Protocol {
		return fmt.Sprintf("protocol %d is below the present one, %d; it can only rise", p, s.Protocol)
	}
	for _, m := range s.Members {
		switch {
		case p == s.Protocol:
		case m.Newest == 0:
			return fmt.Sprintf("member %s has not said yet which protocols it speaks; ask again when it is ONLINE", m.UUID)
		case p > m.Newest || p < m.Oldest:
			return fmt.Sprintf("member %s (%s) speaks protocols %d to %d, not %d; upgrade it first", m.UUID, m.Version, m.Oldest, m.Newest, p)
		}
	}
	return ""
}

func (s Snapshot) objectionToRecovering(a Action) string {
	for _, m := range s.Members {
		if !m.Online && !a.Force {
			return fmt.Sprintf("member %s is RECOVERING; wait until it is ONLINE, or insist", m.UUID)
		}
	}
	return ""
}

// idle says why an action to which nobody objects has nothing to do, "" when it
// has.
func (s Snapshot) idle(a Action) string {
	switch {
	case a.Kind == SetPrimary && a.Target == s.Primary:
		return "the member is the primary already"
	case a.Kind == ToSingle && s.Mode == SinglePrimary, a.Kind == ToMulti && s.Mode == MultiPrimary:
		return fmt.Sprintf("the group is in %s mode already", s.Mode)
	case a.Kind == SetProtocol && a.Protocol == s.Protocol:
		return fmt.Sprintf("the group speaks protocol %d already", s.Protocol)
	}
	return ""
}
