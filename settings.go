package concordat

import (
	"cmp"

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
}

func (s GroupSettings) withDefaults() GroupSettings {
	s.HistoryItems = cmp.Or(s.HistoryItems, DefaultHistoryItems)
	s.HistoryBytes = cmp.Or(s.HistoryBytes, DefaultHistoryBytes)
	s.RangeWrites = cmp.Or(s.RangeWrites, DefaultRangeWrites)
	s.OutcomeTransactions = cmp.Or(s.OutcomeTransactions, DefaultOutcomeTransactions)
	s.GTIDAssignmentBlockSize = cmp.Or(s.GTIDAssignmentBlockSize, DefaultGTIDAssignmentBlockSize)
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
		Outcomes: s.OutcomeTransactions,
	}
}

func groupSettings(s replica.Settings) GroupSettings {
	return GroupSettings{
		Version:      s.Version,
		HistoryItems: s.Certifier.HistoryItems, HistoryBytes: s.Certifier.HistoryBytes,
		RangeWrites: s.Certifier.RangeWrites, OutcomeTransactions: s.Outcomes,
		GTIDAssignmentBlockSize: s.Certifier.BlockSize,
	}
}
