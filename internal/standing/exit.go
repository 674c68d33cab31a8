package standing

import "slices"

// Action is what a member does about its clients when it is out for good.
type Action string

// The actions, as Group Replication names them.
const (
	// ReadOnly: what it holds can still be read.
	ReadOnly Action = "READ_ONLY"
	// OfflineMode: it serves nobody.
	OfflineMode Action = "OFFLINE_MODE"
	// Abort: the process is asked to end.
	Abort Action = "ABORT"
)

// Exit is one line of the table of exits: what follows when a member has lost
// its place.
type Exit struct {
	Cause   Trigger
	Rejoins bool // it tries to come back first
	Acts    bool // the exit action is carried out when it does not, or no longer
}

// exits holds every cause of a stop. A cause that lies in the member itself is
// still there after a rejoin, so trying would only hide it. Who was removed by
// an operator does not undo the order.
var exits = []Exit{
	{Expelled, true, true},
	{Superseded, true, true},
	{MinorityTimeout, true, true},
	{Removed, false, true},
	{RecoveryFailed, false, true},
	{Diverged, false, true},
	{Differs, false, true},
	{StoreFailed, false, true},
	{InvariantBroken, false, true},
	{TriesUsedUp, false, true},
	{JoinRefused, false, false},
	{Left, false, false},
	{Closed, false, false},
}

// Exits returns the table of exits.
func Exits() []Exit { return slices.Clone(exits) }

// Policy is what the operator wants after an exit.
type Policy struct {
	AutoRejoinTries int // how often a member tries to come back; none below 1
	Action          Action
}

// Decision is what a member does after an exit. Without Rejoin and Action it
// stops, and that is all.
type Decision struct {
	Rejoin bool   // try again to come back
	Action Action // carry this out: the member is out for good
}

// AfterExit decides what a member does that is out of the group for a cause and
// has tried so often to come back since. A cause that is no exit asks for
// nothing.
func AfterExit(cause Trigger, tries int, p Policy) Decision {
	for _, e := range exits {
		switch {
		case e.Cause != cause:
		case e.Rejoins && tries < p.AutoRejoinTries:
			return Decision{Rejoin: true}
		case e.Acts:
			return Decision{Action: p.Action}
		}
	}
	return Decision{}
}
