package replica

import (
	"go.etcd.io/raft/v3/raftpb"

	"github.com/concordatdb/concordat/applier"
	"github.com/concordatdb/concordat/certifier"
	"github.com/concordatdb/concordat/election"
	"github.com/concordatdb/concordat/flowcontrol"
	"github.com/concordatdb/concordat/gcs"
	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/internal/consistency"
	"github.com/concordatdb/concordat/internal/outcome"
	"github.com/concordatdb/concordat/internal/statecheck"
)

// Event is something that happened to a member. It is a closed set.
type Event interface{ event() }

type (
	// Ticked: one tick of the member's clock has passed.
	Ticked struct {
		// OldestSnapshot is the log index of the oldest engine snapshot that a
		// transaction may still commit from, the applied index if none is open.
		OldestSnapshot uint64
		// Exports is how many copies of its state the member gives now.
		Exports int
		// Elapsed is how many ticks have passed, more than one when the clock
		// was late, and 0 where it then was early.
		Elapsed uint64
		// Fresh is how many ticks ago what is visible here was complete, as far
		// as the member knows; gcs.NeverHeard if it knows nothing of that.
		Fresh uint64
		// Flow is what the member's callers were let do, and what they wait for.
		Flow flowcontrol.Counts
	}
	// Received: a message came from another member.
	Received struct {
		From    uint64 // raft id
		Message gcs.Message
	}
	// Unreachable: a message to a member was lost. Refused says that nobody
	// listens at its address: its process is gone.
	Unreachable struct {
		RaftID  uint64
		Refused bool
	}
	// Reachable: a stream to a member is open.
	Reachable struct{ RaftID uint64 }
	// Written: the log's writer has done a write and all before it.
	Written struct{ Responses []*raftpb.Message }
	// Submitted: a local caller wants to commit. Message was made by
	// AppendTransaction and belongs to the replica from here on; if there are
	// fragments, both were made by a GiantWriter.
	Submitted struct {
		Ticket    uint64 // the caller's own number, comes back in the Answer
		Message   []byte
		Fragments [][]byte
	}
	// Withdrawn: a local caller no longer wants to commit what it submitted in
	// fragments.
	Withdrawn struct {
		Ticket uint64 // of the Submitted
		Asked  uint64 // comes back in the WithdrawAnswer
	}
	// Applied: the engine shows everything up to a log index.
	Applied struct{ Index uint64 }
	// Durable: no crash takes the engine back below a log index.
	Durable struct{ Index uint64 }
	// JoinAsked: somebody wants to be a member.
	JoinAsked struct {
		Ticket   uint64
		Member   gcs.Member
		Replaces uint64 // raft id of a dead member whose place it takes, 0 for none
		Claim    Claim  // what it holds
		DryRun   bool   // only say what would become of it
		// Oldest and Newest are the protocols that it speaks. 0 stands for those
		// of its version.
		Oldest, Newest election.Protocol
	}
	// ChangeAsked: an operator wants a member out of the view.
	ChangeAsked struct {
		Ticket uint64
		Change gcs.Change
	}
	// LeaveAsked: this member is to leave the group.
	LeaveAsked struct{ Ticket uint64 }
	// LeaveWithdrawn: this member is to stay after all, if it is not too late.
	// Nothing answers; the state tells.
	LeaveWithdrawn struct{}
	// ExportAsked: somebody wants a copy of the whole state.
	ExportAsked struct{ Ticket uint64 }
	// SettingsAsked: an operator wants other settings for the group. Version is
	// that of the settings that they were made from.
	SettingsAsked struct {
		Ticket   uint64
		Settings Settings
	}
	// OutcomeAsked: somebody wants to know the fate of a transaction.
	OutcomeAsked struct {
		Ticket uint64
		ID     TransactionID
	}
	// ReadAsked: somebody wants to know what must be visible here for nothing to
	// be missing that was acknowledged anywhere by now.
	ReadAsked struct{ Ticket uint64 }
	// ReadWithdrawn: whoever asked under a ticket waits no longer. It may have been
	// answered.
	ReadWithdrawn struct{ Ticket uint64 }
	// ActionAsked: an operator wants the primary, the mode or the protocol
	// changed. What its message does not hold is set at delivery.
	ActionAsked struct {
		Ticket uint64
		Action election.Action
	}
	// CancelAsked: an operator no longer wants an action.
	CancelAsked struct {
		Ticket uint64
		ID     gtid.UUID
	}
	// DrainedAsked: no transaction of this member is to come any more before the
	// open action takes its right to write, and so many were given up. It stands
	// behind the member's last Submitted. Nothing answers; the election tells.
	DrainedAsked struct {
		Action gtid.UUID
		Open   int
	}
)

// Checked: the slice that a check asked for is hashed.
type Checked struct {
	Number uint64
	Slice  applier.Slice // belongs to the replica from here on
}

// Faulted: the engine could not apply a transaction, for a reason that other
// members can compare with theirs, and waits at it. The answer is one of Skips or
// of Stands; it may never come.
type Faulted struct {
	GTID  gtid.GTID
	Class applier.Class // not ClassNone
}

func (Faulted) event()        {}
func (Checked) event()        {}
func (Ticked) event()         {}
func (Received) event()       {}
func (Unreachable) event()    {}
func (Reachable) event()      {}
func (ChangeAsked) event()    {}
func (Written) event()        {}
func (Submitted) event()      {}
func (Applied) event()        {}
func (Durable) event()        {}
func (JoinAsked) event()      {}
func (LeaveAsked) event()     {}
func (LeaveWithdrawn) event() {}
func (ExportAsked) event()    {}
func (SettingsAsked) event()  {}
func (OutcomeAsked) event()   {}
func (ReadAsked) event()      {}
func (ReadWithdrawn) event()  {}
func (ActionAsked) event()    {}
func (CancelAsked) event()    {}
func (DrainedAsked) event()   {}
func (Withdrawn) event()      {}

// Effects is what a member wants done after some events. The lists are
// independent of each other, but for what Floor says; within one, order counts.
type Effects struct {
	// More says that there is more to do without another event: the next step is to
	// follow when what these effects ask for has been set going.
	More bool
	// Floor is what a transaction must find visible that begins here from now
	// on. It must be known to all that begin one before any of Messages goes:
	// they tell others that this member shows nothing less.
	Floor consistency.Floor
	// Messages go to other members; any of them may be lost.
	Messages []gcs.Outgoing
	// Writes go to the log, whose writer answers each with Written.
	Writes []gcs.Write
	// Tasks go to the engine, which answers with Applied and Durable.
	Tasks []Task
	// Checkpoints are to be saved in the log, in the background.
	Checkpoints []gcs.Checkpoint
	// Truncate is the log index up to which the log may be forgotten, 0 for
	// nothing new.
	Truncate uint64
	// Answers tell local callers the fate of their transactions.
	Answers []Answer
	// Judged are the transactions delivered, of all members, in order. Those
	// that the engine held when the member started are left out.
	Judged []Judged
	// Settings answer SettingsAsked.
	Settings []SettingsAnswer
	// Reconfigured says that the group's settings have changed.
	Reconfigured bool
	// Outcomes answer OutcomeAsked.
	Outcomes []OutcomeAnswer
	// Reads answer ReadAsked. The answer may never come.
	Reads []ReadAnswer
	// Actions answer ActionAsked and CancelAsked.
	Actions []ActionAnswer
	// Epochs are those that began, Ended the actions that ended or were refused.
	// Those that the member knew when it started are left out.
	Epochs []election.Epoch
	Ended  []election.Outcome
	// Alone and Outdated are what Status says of them.
	Alone    bool
	Outdated uint64
	// Findings are those of state checks that are new, or have become more exact.
	// Those that the member knew when it started are left out.
	Findings []statecheck.Finding
	// Withdrawals answer Withdrawn.
	Withdrawals []WithdrawAnswer
	// Skips answer Faulted: the engine is to go on without the transaction, as all
	// others do. Stands answer it, too: the fault is the member's own.
	Skips  []gtid.GTID
	Stands []gtid.GTID
	// Faults are the members that did with a transaction what the others did not,
	// and Unapplied the transactions that no engine could apply. Those that the
	// member knew when it started are left out.
	Faults    []statecheck.Fault
	Unapplied []gtid.GTID
	// Joins answer JoinAsked.
	Joins []JoinAnswer
	// Leaves answer LeaveAsked that were refused.
	Leaves []LeaveAnswer
	// Changes answer ChangeAsked.
	Changes []ChangeAnswer
	// Notices are what the member has noticed of itself and the others.
	Notices []gcs.Notice
	// Views are the views delivered.
	Views []gcs.View
	// State is the member's state after the events.
	State State
	// CloneFrom is the raft id of the member that has what the log of this
	// one lacks and no log can bring any more; 0 for none.
	CloneFrom uint64
	// Exit says that the member is out of the group, or has to be taken for
	// that; ExitNone while it is not. It is final.
	Exit Exit
	// Failure says why the member must not go on, nil while it may. It is
	// final: nothing else comes from the member after it.
	Failure error
}

// reset empties e and keeps its memory.
func (e *Effects) reset() {
	clear(e.Tasks)
	clear(e.Answers)
	clear(e.Checkpoints)
	clear(e.Views)
	clear(e.Judged)
	clear(e.Withdrawals)
	clear(e.Settings)
	clear(e.Outcomes)
	clear(e.Actions)
	clear(e.Epochs)
	clear(e.Ended)
	clear(e.Findings)
	clear(e.Joins)
	clear(e.Leaves)
	clear(e.Changes)
	clear(e.Notices)
	*e = Effects{
		Messages: e.Messages[:0], Writes: e.Writes[:0], Tasks: e.Tasks[:0],
		Checkpoints: e.Checkpoints[:0], Answers: e.Answers[:0],
		Withdrawals: e.Withdrawals[:0],
		Judged:      e.Judged[:0], Settings: e.Settings[:0], Outcomes: e.Outcomes[:0],
		Joins: e.Joins[:0], Leaves: e.Leaves[:0], Views: e.Views[:0],
		Changes: e.Changes[:0], Notices: e.Notices[:0],
		Reads: e.Reads[:0], Actions: e.Actions[:0], Epochs: e.Epochs[:0], Ended: e.Ended[:0],
		Findings: e.Findings[:0], Skips: e.Skips[:0], Stands: e.Stands[:0], Faults: e.Faults[:0], Unapplied: e.Unapplied[:0],
	}
}

// Task is work for the engine. Exactly one field is set, beside Bulks.
type Task struct {
	// Ahead tells of a giant that has not come to its turn, if Config.Prepares says
	// so. It may be passed over.
	Ahead *Ahead
	// Apply makes a batch visible. Answer with Applied.
	Apply *applier.Batch
	// Bulks are the payloads that Apply lacks. Load puts them in their places.
	Bulks []PlacedBulk
	// Flush makes everything applied durable. Answer with Durable.
	Flush bool
	// Export pins the engine's state, which at this place in the order of the
	// tasks is exactly at the checkpoint's index.
	Export *Export
	// Check has a slice of the data hashed as they are at this place in the order
	// of the tasks; later ones need not wait for that. Answer with Checked, or not
	// at all.
	Check *CheckTask
}

// Export is the replica's half of a copy of the whole state.
type Export struct {
	Ticket uint64
	// Checkpoint has index 0 when this member cannot give a copy now: after a
	// restart its engine may still be ahead of what it has certified again, or too
	// much is coming in pieces. It names fragments in this member's log: what goes
	// to another one is what Complete makes of it.
	Checkpoint gcs.Checkpoint
}

// Answer is the fate of a local transaction. A certified one is visible here
// by the time it is answered.
type Answer struct {
	Ticket  uint64
	Verdict certifier.Verdict
	Index   uint64 // log index, 0 of one that was fenced or given up before it was broadcast, or its end was
}

// Judged is a transaction delivered, or one that was fenced before it was
// broadcast, of which there is only the ticket. It aliases the log entry.
type Judged struct {
	Index    uint64 // log index, 0 of one that was not broadcast
	Origin   gtid.UUID
	Local    bool   // this run of the member submitted it
	Ticket   uint64 // if Local
	ID       TransactionID
	Verdict  certifier.Verdict
	WriteSet certifier.Encoded
	Payload  []byte
	Bulk     *Bulk // holds the payload of one that came in pieces
}

// WithdrawAnswer answers Withdrawn.
type WithdrawAnswer struct {
	Asked uint64
	// Done says that no end of it will be. Else that is on its way, or has come.
	Done bool
}

// SettingsAnswer answers SettingsAsked. Settings are the group's after the
// request came to its turn; they are the ones asked for if Changed.
type SettingsAnswer struct {
	Ticket   uint64
	Settings Settings
	Changed  bool
}

// OutcomeAnswer answers OutcomeAsked. Without a fate, the transaction is not
// among those delivered in (From, Until]; it may have been delivered before, or
// still be.
type OutcomeAnswer struct {
	Ticket      uint64
	Fate        outcome.Fate
	Known       bool
	From, Until uint64 // log indexes
}

// ReadAnswer answers ReadAsked: once Index is visible here, so is everything that
// was acknowledged, or shown, anywhere before it was asked.
type ReadAnswer struct {
	Ticket uint64
	Index  uint64 // log index
}

// ActionAnswer answers ActionAsked and CancelAsked at the place where the request
// stands in the log.
type ActionAnswer struct {
	Ticket uint64
	// Action is the one that has begun, and whose end Effects.Ended will tell;
	// nil if none has.
	Action *election.Action
	// Outcome is the end of the action, if it has come; a refusal is one. To a
	// CancelAsked both are nil if the action is unknown.
	Outcome *election.Outcome
}

// JoinAnswer answers JoinAsked. Answer.Refused may be a *DivergedError.
type JoinAnswer struct {
	Ticket uint64
	Answer gcs.JoinAnswer
	// Departed says that the group has taken the asker's raft id out.
	Departed bool
	// Foreign says that it was refused for what it claims to hold.
	Foreign bool
	// Quorum says whether the member that answers hears a majority of its view,
	// and who leads it: one that lags may hear that of a view long past.
	Quorum bool
}

// ChangeAnswer answers ChangeAsked.
type ChangeAnswer struct {
	Ticket uint64
	Answer gcs.ChangeAnswer
}

// Exit is how a member comes to be out of its group.
type Exit byte

// The ways out.
const (
	// ExitNone: the member is not out.
	ExitNone Exit = iota
	// ExitLeft: the member had asked to leave, and the group let it go.
	ExitLeft
	// ExitExpelled: the group took the member out unasked.
	ExitExpelled
	// ExitRemoved: an operator ordered it out, or gave its place to another one.
	ExitRemoved
	// ExitMinority: the member heard no majority for Config.MajorityTicks. The
	// group may have it still.
	ExitMinority
	// ExitDiffers: a state check has found that the member's data are not what
	// the others have, or it has applied what no other engine could. The group has
	// it still, and it must serve nobody.
	ExitDiffers
)

// LeaveAnswer says why the member cannot leave.
type LeaveAnswer struct {
	Ticket uint64
	Err    error
}

// State is a member's state as it sees it itself.
type State byte

// The states, in the order in which a member passes through them.
const (
	// Offline: the member is in no view.
	Offline State = iota
	// Recovering: the member is in a view but has not applied everything up to
	// the place in the log where its present session began.
	Recovering
	// Online: the member serves transactions.
	Online
	// Removed: the group no longer has the member.
	Removed
)

// String returns the state as Group Replication writes it.
func (s State) String() string {
	switch s {
	case Recovering:
		return "RECOVERING"
	case Online:
		return "ONLINE"
	case Offline, Removed:
	}
	return "OFFLINE"
}

// Trace is told what a member decides, as it decides it, for checkers that
// stand outside.
type Trace interface {
	// Verdict is called for each transaction delivered.
	Verdict(index uint64, origin, session uint64, id TransactionID, v certifier.Verdict)
	// View is called for each view delivered.
	View(v gcs.View)
	// Election is called when a log entry has changed who may write, or what is
	// known of that, before Executed is for the entry.
	Election(index uint64, s election.Snapshot)
	// Executed is called after each log entry.
	Executed(index uint64, executed gtid.Set)
}
