package concordat

import (
	"cmp"
	"context"
	"fmt"

	"github.com/concordatdb/concordat/certifier"
	"github.com/concordatdb/concordat/internal/replica"
)

// The defaults of GroupSettings.
const (
	DefaultHistoryItems            = 4 << 20
	DefaultHistoryBytes            = 512 << 20
	DefaultRangeWrites             = 1 << 16
	DefaultOutcomeTransactions     = 1 << 16
	DefaultGTIDAssignmentBlockSize = 1
	DefaultStateCheckInterval      = 2000
	DefaultStateCheckBytes         = 64 << 10
	DefaultTransactionSizeLimit    = 150_000_000
)

// GroupSettings is the group's configuration: what all members must agree on.
// It is kept in the group's log, and a change takes effect at one place in the
// order of all transactions. Zero values stand for the defaults.
type GroupSettings struct {
	// Version counts the changes. It is 1 in a new group.
	Version uint64
	// HistoryItems bounds the certification history: the items of write sets,
	// and one more for each transaction. Beyond it the group forgets what a
	// slow transaction might still need; that one then fails with
	// [ErrSnapshotTooOld]. Default 4,194,304.
	HistoryItems int
	// HistoryBytes bounds the same by about the memory it takes. Default
	// 512 MiB.
	HistoryBytes int
	// RangeWrites is how many of the last written keys are remembered to judge
	// the scans of serializable transactions. One that began longer ago than
	// that fails with [ErrSnapshotTooOld]. Default 65,536.
	RangeWrites int
	// OutcomeTransactions is how many of the last transactions are remembered
	// by their ids, for [Node.Outcome] and for committing once what is sent
	// twice. Default 65,536.
	OutcomeTransactions int
	// GTIDAssignmentBlockSize is how many consecutive GTIDs are reserved for a
	// member at a time. With 1, the default, GTIDs follow the order of commits.
	GTIDAssignmentBlockSize uint64
	// Consistency is the level of transactions for which neither they nor their
	// member choose one. Default Eventual.
	Consistency Consistency
	// PreferMostUpdated elects, of the members that can be primary, one that has
	// applied most of the log, before weights count. Default false.
	PreferMostUpdated bool
	// StateCheckInterval is how many transactions lie between two state checks, at
	// each of which all members hash a slice of their data at one position of the
	// log, to find the one that has come to hold something else. Default 2,000;
	// negative for no checks.
	StateCheckInterval int
	// StateCheckBytes is about how long such a slice is: keys, values, and 32 bytes
	// for each. All data are gone through slice by slice, and then again. Default
	// 64 KiB.
	StateCheckBytes int
	// TransactionSizeLimit is the largest transaction, in bytes of write set and
	// payload. A larger one fails with [ErrTooLarge]. Default 150,000,000, at most
	// 2,147,483,647.
	TransactionSizeLimit int
	// FlowControl says how the group keeps its members from falling behind. Without a
	// Mode, all of it is [DefaultFlowControl].
	FlowControl FlowControl
}

func (s GroupSettings) withDefaults() GroupSettings {
	s.HistoryItems = cmp.Or(s.HistoryItems, DefaultHistoryItems)
	s.HistoryBytes = cmp.Or(s.HistoryBytes, DefaultHistoryBytes)
	s.RangeWrites = cmp.Or(s.RangeWrites, DefaultRangeWrites)
	s.OutcomeTransactions = cmp.Or(s.OutcomeTransactions, DefaultOutcomeTransactions)
	s.GTIDAssignmentBlockSize = cmp.Or(s.GTIDAssignmentBlockSize, DefaultGTIDAssignmentBlockSize)
	s.StateCheckInterval = cmp.Or(s.StateCheckInterval, DefaultStateCheckInterval)
	s.StateCheckBytes = cmp.Or(s.StateCheckBytes, DefaultStateCheckBytes)
	s.TransactionSizeLimit = cmp.Or(s.TransactionSizeLimit, DefaultTransactionSizeLimit)
	if s.FlowControl.Mode == 0 {
		s.FlowControl = DefaultFlowControl()
	}
	return s
}

// replicated is s as the log holds it.
func (s GroupSettings) replicated() replica.Settings {
	return replica.Settings{
		Version: s.Version,
		Certifier: certifier.Settings{
			HistoryItems: s.HistoryItems, HistoryBytes: s.HistoryBytes,
			RangeWrites: s.RangeWrites, BlockSize: s.GTIDAssignmentBlockSize,
		},
		Outcomes:    s.OutcomeTransactions,
		Consistency: s.Consistency, PreferMostUpdated: s.PreferMostUpdated, TransactionSizeLimit: s.TransactionSizeLimit,
		CheckInterval: max(s.StateCheckInterval, 0), CheckBytes: s.StateCheckBytes,
		Flow: s.FlowControl,
	}
}

func groupSettings(s replica.Settings) GroupSettings {
	interval := s.CheckInterval
	if interval == 0 {
		interval = -1
	}
	return GroupSettings{
		Version:      s.Version,
		HistoryItems: s.Certifier.HistoryItems, HistoryBytes: s.Certifier.HistoryBytes,
		RangeWrites: s.Certifier.RangeWrites, OutcomeTransactions: s.Outcomes,
		GTIDAssignmentBlockSize: s.Certifier.BlockSize,
		Consistency:             s.Consistency, PreferMostUpdated: s.PreferMostUpdated, TransactionSizeLimit: s.TransactionSizeLimit,
		StateCheckInterval: interval, StateCheckBytes: s.CheckBytes,
		FlowControl: s.Flow,
	}
}

// GroupSettings returns the group's configuration as this member knows it.
func (n *Node) GroupSettings() GroupSettings { return groupSettings(n.known().Settings) }

// SetGroupSettings changes the group's configuration, on all members at the
// same place in the order of transactions, and returns the new one. s must have
// been made from what [Node.GroupSettings] returned, with its Version: if
// somebody else changed the settings since then, the error matches
// [ErrSettings], and nothing happens. Settings that cannot be are an error that
// matches [ErrInvalid].
func (n *Node) SetGroupSettings(ctx context.Context, s GroupSettings) (GroupSettings, error) {
	wish := s.withDefaults().replicated()
	if err := wish.Check(); err != nil {
		return GroupSettings{}, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if err := n.serving(); err != nil {
		return GroupSettings{}, err
	}
	if err := n.quorate(ctx); err != nil {
		return GroupSettings{}, err
	}
	l := n.life.Load()
	if l == nil {
		return GroupSettings{}, n.notServing()
	}
	ticket, answer := l.changes.add()
	defer l.changes.drop(ticket)
	l.inbox.put(replica.SettingsAsked{Ticket: ticket, Settings: wish})
	select {
	case a := <-answer:
		if !a.Changed {
			return GroupSettings{}, fmt.Errorf("%w: they are at version %d, the change was made from %d", ErrSettings, a.Settings.Version, s.Version)
		}
		return groupSettings(a.Settings), nil
	case <-ctx.Done():
		return GroupSettings{}, unansweredChange(context.Cause(ctx))
	case <-n.quorum.lost(ctx):
		return GroupSettings{}, unansweredChange(errQuorumLost)
	case <-l.done:
		return GroupSettings{}, unansweredChange(n.notServing())
	}
}

func unansweredChange(cause error) error {
	return fmt.Errorf("concordat: no word from the group; the settings may change yet: %w", cause)
}
