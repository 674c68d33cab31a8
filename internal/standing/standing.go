// Package standing has the states of a member and all that can happen to them.
//
// It owns one table of transitions and one of exits, which docs/membership.md
// repeats. It promises that a state and a trigger have at most one successor,
// that only ERROR leads out of service without an order, and that what a member
// does after it has lost its place depends on nothing but the cause, the tries
// made and the policy. It must never know how a trigger is found out, who the
// other members are, or what time it is.
package standing

import (
	"fmt"
	"slices"
)

// State is the state of a member, in the words of Group Replication.
type State string

// The states. The first four are those that a member has in its own eyes.
const (
	// Offline: in no group.
	Offline State = "OFFLINE"
	// Recovering: in the group, and catching up; it serves no transaction.
	Recovering State = "RECOVERING"
	// Online: serves transactions.
	Online State = "ONLINE"
	// Error: lost its place in the group, or cannot fill it; it serves reads at
	// most.
	Error State = "ERROR"
	// Unreachable is what others call a member that they do not hear. No member
	// is it in its own eyes.
	Unreachable State = "UNREACHABLE"
)

// States returns the states that a member can have in its own eyes.
func States() []State { return []State{Offline, Recovering, Online, Error} }

// Shown is the state in which an observer shows a member whose state by the
// view is s: a member that the observer does not hear is UNREACHABLE whatever
// its state, except the observer itself.
func Shown(s State, itself, heard bool) State {
	if heard || itself {
		return s
	}
	return Unreachable
}

// Trigger is what can happen to a member.
type Trigger byte

// The triggers. The text of each is in docs/membership.md.
const (
	// Opened: the member took up its log, and that has it in a view.
	Opened Trigger = iota
	// Joined: a view has it as a new member.
	Joined
	// JoinRefused: the group did not take it, and it never was a member.
	JoinRefused
	// CaughtUp: it is ONLINE by the view, and everything before that, and before
	// the opening of its session, is visible to its readers.
	CaughtUp
	// NewSession: it begins to send anew, and cannot know yet what of its
	// earlier session was ordered.
	NewSession
	// CloneNeeded: the log that it needs next is gone everywhere.
	CloneNeeded
	// RecoveryFailed: it found no way to catch up.
	RecoveryFailed
	// Left: it went in order.
	Left
	// Expelled: the others gave it up as silent.
	Expelled
	// Removed: an operator took it out of the group, or gave its place away.
	Removed
	// MinorityTimeout: it heard no majority for as long as it may wait.
	MinorityTimeout
	// Superseded: the group went on without it, by force.
	Superseded
	// Differs: a state check has found that its data are not the group's.
	Differs
	// StoreFailed: its log or its engine failed.
	StoreFailed
	// InvariantBroken: it found that its own state cannot be.
	InvariantBroken
	// RejoinBegan: a try to come back begins.
	RejoinBegan
	// TryFailed: the try found nobody, or nobody who could take it now.
	TryFailed
	// Diverged: it holds what the group does not, so no further try can help.
	Diverged
	// TriesUsedUp: the last try has failed.
	TriesUsedUp
	// Frozen: it gave its word to take no part before a plan of forced
	// membership is carried out or dropped.
	Frozen
	// Thawed: that plan was dropped.
	Thawed
	// Adopted: it took over the forced view, with the log that comes with it.
	Adopted
	// Closed: the node was closed.
	Closed

	triggers = iota
)

var triggerTexts = [triggers]string{
	Opened:          "takes up its log, which has it in a view",
	Joined:          "a view has it as a new member",
	JoinRefused:     "the group does not take it",
	CaughtUp:        "all before its promotion, and before the opening of its session, is visible",
	NewSession:      "begins a new session",
	CloneNeeded:     "the log it needs is gone, it copies another member's state",
	RecoveryFailed:  "finds no way to catch up",
	Left:            "leaves in order",
	Expelled:        "is expelled as silent",
	Removed:         "is removed or replaced by an operator",
	MinorityTimeout: "hears no majority for `UnreachableMajorityTimeout`",
	Superseded:      "a forced view leaves it out",
	Differs:         "a state check finds its data different",
	StoreFailed:     "its log or engine fails",
	InvariantBroken: "finds its own state impossible",
	RejoinBegan:     "begins a try to come back",
	TryFailed:       "the try finds nobody who takes it now",
	Diverged:        "holds transactions that the group does not",
	TriesUsedUp:     "has used up its tries",
	Frozen:          "is frozen for a plan of forced membership",
	Thawed:          "that plan is dropped",
	Adopted:         "adopts the forced view",
	Closed:          "the node is closed",
}

// String returns the trigger as docs/membership.md has it.
func (t Trigger) String() string {
	if t < triggers {
		return triggerTexts[t]
	}
	return fmt.Sprintf("Trigger(%d)", byte(t))
}

// Triggers returns all triggers.
func Triggers() []Trigger {
	all := make([]Trigger, triggers)
	for i := range all {
		all[i] = Trigger(i)
	}
	return all
}

// Observer is who learns of a transition when it happens.
type Observer byte

// The observers.
const (
	// Itself: the others know nothing, or learn it by what the member sends.
	Itself Observer = iota
	// Everybody: it is an entry of the log, so each member sees it at the same
	// position.
	Everybody
	// TheOthers: it is an entry of the log that the member itself does not get;
	// it learns it from the first one of them that it reaches.
	TheOthers
)

// String returns the observer as docs/membership.md has it.
func (o Observer) String() string {
	switch o {
	case Itself:
		return "itself"
	case Everybody:
		return "everybody, at one position of the log"
	case TheOthers:
		return "the others, at one position of the log; itself when it reaches one of them"
	}
	return fmt.Sprintf("Observer(%d)", byte(o))
}

// Transition is one line of the table: the trigger takes a member from any of
// the states From to the state To.
type Transition struct {
	From    []State
	To      State
	Trigger Trigger
	SeenBy  Observer
}

// table is ordered as a member's life is.
var table = []Transition{
	{[]State{Offline}, Offline, JoinRefused, Itself},
	{[]State{Offline, Error}, Recovering, Joined, Everybody},
	{[]State{Offline, Error}, Recovering, Opened, Itself},
	{[]State{Recovering}, Online, CaughtUp, Itself},
	{[]State{Recovering, Online}, Recovering, NewSession, Itself},
	{[]State{Recovering, Online}, Recovering, CloneNeeded, Itself},
	{[]State{Recovering, Online}, Offline, Left, Everybody},
	{[]State{Recovering, Online}, Error, Expelled, TheOthers},
	{[]State{Recovering, Online}, Error, Removed, TheOthers},
	{[]State{Recovering, Online, Error}, Error, Superseded, TheOthers},
	{[]State{Recovering, Online}, Error, MinorityTimeout, Itself},
	{[]State{Recovering}, Error, RecoveryFailed, Itself},
	{[]State{Recovering, Online}, Error, Differs, Everybody},
	{[]State{Offline, Recovering, Online, Error}, Error, StoreFailed, Itself},
	{[]State{Offline, Recovering, Online, Error}, Error, InvariantBroken, Itself},
	{[]State{Error}, Error, RejoinBegan, Itself},
	{[]State{Error}, Error, TryFailed, Itself},
	{[]State{Recovering, Error}, Error, Diverged, Itself},
	{[]State{Error}, Error, TriesUsedUp, Itself},
	{[]State{Recovering, Online}, Recovering, Frozen, Itself},
	{[]State{Error}, Error, Frozen, Itself},
	{[]State{Recovering}, Recovering, Thawed, Itself},
	{[]State{Error}, Error, Thawed, Itself},
	{[]State{Recovering, Error}, Recovering, Adopted, Itself},
	{[]State{Offline, Recovering, Online, Error}, Offline, Closed, Itself},
}

// Transitions returns the whole table. What it has no line for cannot happen.
func Transitions() []Transition {
	all := make([]Transition, len(table))
	for i, t := range table {
		t.From = slices.Clone(t.From)
		all[i] = t
	}
	return all
}

// Next returns the state in which a trigger leaves a member. ok is false if the
// trigger has no meaning in that state; the state is then what it was.
func Next(s State, t Trigger) (next State, ok bool) {
	for i := range table {
		if line := &table[i]; line.Trigger == t && slices.Contains(line.From, s) {
			return line.To, true
		}
	}
	return s, false
}
