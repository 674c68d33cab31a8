package concordat

import (
	"time"

	"github.com/concordatdb/concordat/applier"
	"github.com/concordatdb/concordat/gtid"
)

// State is a member's state as the member sees it itself, in the words of
// Group Replication.
type State string

// The states.
const (
	Offline    State = "OFFLINE"    // in no view
	Recovering State = "RECOVERING" // in the group, and catching up
	Online     State = "ONLINE"     // serves transactions
	Error      State = "ERROR"      // failed; see Status.Err
)

// Digest identifies the contents of a store: members at the same position have
// the same one.
type Digest = applier.Digest

// Member is a member of a view.
type Member struct {
	UUID    gtid.UUID
	RaftID  uint64 // of its present life in the group
	Address string
	Version uint32 // major<<16 | minor<<8 | patch
	Weight  uint32
	State   State
}

// View is the membership of the group as the log has it.
type View struct {
	ID      uint64 // counts the group's views
	Index   uint64 // log index where it began
	Cause   string // what began it
	Members []Member
}

// Status is what a node knows about itself and the group at one moment.
type Status struct {
	Group       gtid.UUID
	Incarnation gtid.UUID // of the group
	Member      gtid.UUID
	State       State
	Err         error     // why the state is ERROR, else nil
	Leader      gtid.UUID // member that leads raft, zero if none is known
	View        View

	Delivered uint64   // log index up to which the log was certified here
	Applied   uint64   // log index up to which it is visible here
	Durable   uint64   // log index below which the store cannot fall back
	Executed  gtid.Set // GTIDs visible here
	Counters  Counters
}

// Counters count since the node was opened.
type Counters struct {
	Committed       uint64 // local transactions that committed
	Duplicates      uint64 // local transactions that had committed before, by their id
	Conflicts       uint64 // local transactions that conflicted
	SnapshotsTooOld uint64 // local transactions that began before the history mark
	Applied         uint64 // transactions applied, of all members
	LogWrites       uint64 // group commits of the log, each with one fsync at most
	LogWriteTime    time.Duration
	HistoryItems    uint64 // items and transactions in the certification history now
	HistoryBytes    uint64 // about what that takes, as GroupSettings.HistoryBytes limits it
	Sequence        uint64 // transactions certified since the group began
}
