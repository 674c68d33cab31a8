package election

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/concordatdb/concordat/gtid"
)

// ErrState marks bytes that are not a state of elections.
var ErrState = errors.New("election: malformed state")

// stateFormat is the first byte of a serialised state.
const stateFormat = 1

// AppendState appends the state, in the one form that it has.
//
//	state   := 1  view mode protocol  count member*  epoch record*  count outcome*  0 | 1 action
//	member  := uuid(16) id version weight oldest newest flags  [since]  text
//	record  := index mode cause uuid(16) text        of the last 64 epochs, oldest first
//	action  := as in its message  index cut uuid(16)  count id*
//	outcome := action  result ended text
//
// All numbers are uvarints. Flags are 1 for ONLINE and 2 for the right to write,
// which alone has a since.
func (s *State) AppendState(b []byte) []byte {
	b = append(b, stateFormat)
	b = appendUvarints(b, s.view, uint64(s.mode), uint64(s.protocol), uint64(len(s.members)))
	for _, m := range s.members {
		b = append(b, m.UUID[:]...)
		b = appendUvarints(b, m.RaftID, uint64(m.Version), uint64(m.Weight), uint64(m.Oldest), uint64(m.Newest), bit(m.Online)+2*bit(m.Writes))
		if m.Writes {
			b = appendUvarints(b, m.Since)
		}
		b = appendText(b, m.ClientAddress)
	}
	b = appendUvarints(b, s.epoch)
	for _, e := range s.past {
		b = appendUvarints(b, e.Index, uint64(e.Mode), uint64(e.Cause))
		b = appendText(append(b, e.Primary[:]...), e.Reason)
	}
	b = appendUvarints(b, uint64(len(s.done)))
	for _, o := range s.done {
		b = appendUvarints(appendOpen(b, o.Action), uint64(o.Result), o.Ended)
		b = appendText(b, o.Text)
	}
	if s.action == nil {
		return append(b, 0)
	}
	return appendOpen(append(b, 1), *s.action)
}

func appendOpen(b []byte, a Action) []byte {
	b = appendUvarints(AppendAction(b, a), a.Index, a.Cut)
	b = append(b, a.Asker[:]...)
	b = appendUvarints(b, uint64(len(a.Pending)))
	return appendUvarints(b, a.Pending...)
}

// Restore takes a state off the front of b, and returns the rest. It refuses what
// no log can have led to. The error wraps [ErrState].
func Restore(b []byte) (*State, []byte, error) {
	d := decode(b, ErrState)
	if format := d.Bytes(1); d.Err == nil && format[0] != stateFormat {
		d.Fail("format %d is not known to this version", format[0])
	}
	s := &State{view: d.Uvarint(), mode: d.mode(), protocol: d.protocol()}
	last := uint64(0)
	for range d.count(23) {
		s.members = append(s.members, d.member(&last))
	}
	s.epoch = d.uvarintMax(math.MaxInt64)
	for i := range min(s.epoch, keptEpochs) {
		if d.Err != nil {
			break
		}
		s.past = append(s.past, d.epoch(max(s.epoch, keptEpochs)-keptEpochs+i+1))
	}
	for range d.uvarintMax(keptOutcomes) {
		s.done = append(s.done, d.outcome())
	}
	if d.bool() {
		a := d.open()
		s.action = &a
	}
	if d.Err == nil && s.mode == SinglePrimary && len(s.past) > 0 {
		s.primary = s.raftIDOf(s.past[len(s.past)-1].Primary)
	}
	if why := s.flaw(); d.Err == nil && why != "" {
		d.Fail("%s", why)
	}
	if d.Err != nil {
		return nil, nil, d.Err
	}
	return s, d.Rest, nil
}

func (s *State) raftIDOf(u gtid.UUID) uint64 {
	for _, m := range s.members {
		if m.UUID == u {
			return m.RaftID
		}
	}
	return 0
}

func (d *decoder) member(last *uint64) (m Member) {
	m.UUID = d.uuid()
	*last = d.ascending(*last)
	m.RaftID = *last
	m.Version, m.Weight = Version(d.uvarintMax(math.MaxUint32)), uint32(d.uvarintMax(MaxWeight))
	m.Oldest, m.Newest = Protocol(d.uvarintMax(math.MaxUint32)), Protocol(d.uvarintMax(math.MaxUint32))
	flags := d.uvarintMax(3)
	m.Online, m.Writes = flags&1 != 0, flags&2 != 0
	if m.Writes {
		m.Since = d.Uvarint()
	}
	m.ClientAddress = d.text(MaxClientAddress)
	return m
}

func (d *decoder) epoch(number uint64) Epoch {
	return Epoch{
		Number: number, Index: d.Uvarint(), Mode: d.mode(), Cause: Cause(d.uvarintMax(uint64(ForcedView))),
		Primary: d.uuid(), Reason: d.text(maxText),
	}
}

func (d *decoder) open() Action {
	a := d.action()
	a.Index, a.Cut, a.Asker = d.Uvarint(), d.Uvarint(), d.uuid()
	last := uint64(0)
	for range d.count(1) {
		last = d.ascending(last)
		a.Pending = append(a.Pending, last)
	}
	return a
}

func (d *decoder) outcome() Outcome {
	return Outcome{
		Action: d.open(), Result: Result(d.uvarintMax(uint64(NoChange))), Ended: d.Uvarint(), Text: d.text(maxText),
	}
}

// flaw says why no log can have led to this state, "" when one can.
func (s *State) flaw() string {
	for _, why := range []string{s.flawOfMembers(), s.flawOfPast(), s.flawOfRights(), s.flawOfAction(), s.flawOfDone()} {
		if why != "" {
			return why
		}
	}
	return ""
}

func (s *State) flawOfMembers() string {
	for i, m := range s.members {
		self := Description{m.Version, m.Weight, m.Oldest, m.Newest, m.ClientAddress}
		unopened := self == Description{Version: m.Version, Weight: m.Weight}
		switch {
		case m.UUID.IsZero() || slices.ContainsFunc(s.members[:i], func(o Member) bool { return o.UUID == m.UUID }):
			return fmt.Sprintf("member %d has no UUID of its own", m.RaftID)
		case !unopened && self.Check() != nil:
			return fmt.Sprintf("member %d: %v", m.RaftID, self.Check())
		case m.Writes && (!m.Online || m.Since > s.epoch):
			return fmt.Sprintf("member %d has the right to write since epoch %d, ONLINE %t, in epoch %d", m.RaftID, m.Since, m.Online, s.epoch)
		}
	}
	return ""
}

func (s *State) flawOfPast() string {
	if s.epoch == 0 {
		if s.mode != MultiPrimary || s.protocol != FirstProtocol {
			return "a group has a mode or a protocol, and was not founded"
		}
		return ""
	}
	for i, e := range s.past {
		named := !e.Primary.IsZero()
		switch {
		case (e.Number == 1) != (e.Cause == Founded) || e.Cause == 0:
			return fmt.Sprintf("epoch %d began by cause %q", e.Number, e.Cause)
		case named && e.Mode == MultiPrimary:
			return fmt.Sprintf("epoch %d has a primary in %s mode", e.Number, e.Mode)
		case e.Cause == SwitchedMulti && e.Mode != MultiPrimary,
			e.Cause != SwitchedMulti && e.Cause != Founded && e.Cause != ForcedView && e.Mode != SinglePrimary:
			return fmt.Sprintf("epoch %d began by cause %q in %s mode", e.Number, e.Cause, e.Mode)
		case !named && (e.Cause == PrimarySilent || e.Cause == Vacancy || e.Cause == Planned || e.Cause == SwitchedSingle):
			return fmt.Sprintf("epoch %d began by cause %q without a primary", e.Number, e.Cause)
		case i > 0 && !e.follows(s.past[i-1]):
			return fmt.Sprintf("epoch %d cannot follow %d", e.Number, e.Number-1)
		}
	}
	last := s.past[len(s.past)-1]
	if last.Mode != s.mode || !last.Primary.IsZero() && !s.online(s.primary) {
		return fmt.Sprintf("it is in %s mode, its epoch in %s mode, with a primary that is not ONLINE", s.mode, last.Mode)
	}
	return ""
}

// follows reports whether e can come after another epoch.
func (e Epoch) follows(before Epoch) bool {
	if e.Index < before.Index {
		return false
	}
	switch e.Cause {
	case SwitchedSingle:
		return before.Mode == MultiPrimary
	case SwitchedMulti:
		return before.Mode == SinglePrimary
	case PrimaryGone:
		return e.Mode == before.Mode && !before.Primary.IsZero()
	case PrimarySilent:
		return e.Mode == before.Mode && !before.Primary.IsZero() && before.Primary != e.Primary
	case Vacancy:
		return e.Mode == before.Mode && before.Primary.IsZero()
	case Planned:
		return e.Mode == before.Mode && before.Primary != e.Primary
	default:
		return e.Mode == before.Mode
	}
}

// flawOfRights settles a copy: a state that was told something has been settled.
func (s *State) flawOfRights() string {
	settled := *s
	settled.members = slices.Clone(s.members)
	settled.settle()
	for i, m := range s.members {
		if settled.members[i] != m {
			return fmt.Sprintf("member %d cannot have the right to write: %t, since epoch %d", m.RaftID, m.Writes, m.Since)
		}
	}
	return ""
}

func (s *State) flawOfAction() string {
	a := s.action
	if a == nil {
		return ""
	}
	mode := SinglePrimary
	if a.Kind == ToSingle {
		mode = MultiPrimary
	}
	loses := func(id uint64) bool { return s.MayWrite(id) && id != a.Target }
	switch {
	case a.misfit() != "":
		return "an action is open, but " + a.misfit()
	case !a.Kind.drains() || s.epoch == 0 || a.Epoch != s.epoch || a.View > s.view || a.Index < s.Began() || a.Grace > MaxGrace || s.mode != mode:
		return fmt.Sprintf("%s of epoch %d and view %d is open in epoch %d and view %d", a.Kind, a.Epoch, a.View, s.epoch, s.view)
	case !s.online(a.Target) || a.Asker.IsZero():
		return fmt.Sprintf("an action is open whose target %d is not ONLINE, or that nobody asked for", a.Target)
	case len(a.Pending) == 0 || slices.ContainsFunc(a.Pending, func(id uint64) bool { return !loses(id) }):
		return fmt.Sprintf("an action waits for %v, who are not those that lose a right by it", a.Pending)
	}
	return ""
}

func (s *State) flawOfDone() string {
	for i, o := range s.done {
		same := func(other Outcome) bool { return other.ID == o.ID }
		switch {
		case o.misfit() != "":
			return "an action has ended, but " + o.misfit()
		case o.Result == 0 || o.Result == DoneByFailover && o.Kind != SetPrimary || len(o.Pending) > 0 && !o.Kind.drains():
			return fmt.Sprintf("%s has the result %q", o.Kind, o.Result)
		case o.Ended < o.Index || i > 0 && o.Ended < s.done[i-1].Ended:
			return fmt.Sprintf("an action of entry %d ended at entry %d", o.Index, o.Ended)
		case slices.ContainsFunc(s.done[:i], same) || s.action != nil && s.action.ID == o.ID:
			return fmt.Sprintf("action %s has ended, and is there twice", o.ID)
		}
	}
	return ""
}
