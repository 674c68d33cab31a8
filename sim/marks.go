package sim

// mark names a rare branch that a sweep should reach.
type mark int

const (
	markConflict mark = iota
	markSnapshotTooOld
	markHistoryMark
	markRefusal
	markRepeatedFrame
	markClosedSession
	markLeaderChangePending
	markViewChange
	markJoinRedirected
	markRemovedByWord
	markLeaveRefused
	markClone
	markCloneRefused
	markCloneStale
	markCloneInterrupted
	markExportInterrupted
	markCheckpoint
	markTruncation
	markCheckpointRestart
	markEngineBehindLog
	markRedelivery
	markEngineBehind
	markUnknownDelivered
	markUnknownLost
	markDuplicate
	markPhantom
	markSettings
	markOutcomeAsked
	markScanTooOld
	marks // how many there are
)

var markNames = [marks]string{
	markConflict:            "conflict",
	markSnapshotTooOld:      "snapshot too old",
	markHistoryMark:         "history mark delivered",
	markRefusal:             "frame refused",
	markRepeatedFrame:       "repeated frame dropped",
	markClosedSession:       "frame of a closed session dropped",
	markLeaderChangePending: "leader changed with calls pending",
	markViewChange:          "view changed",
	markJoinRedirected:      "join redirected to the leader",
	markRemovedByWord:       "removal learned from a peer",
	markLeaveRefused:        "leave refused",
	markClone:               "clone installed",
	markCloneRefused:        "donor could not export",
	markCloneStale:          "clone no longer needed or too old",
	markCloneInterrupted:    "crash between log reset and engine import",
	markExportInterrupted:   "donor lost during a transfer",
	markCheckpoint:          "checkpoint saved",
	markTruncation:          "log truncated",
	markCheckpointRestart:   "restart from a checkpoint",
	markEngineBehindLog:     "restart with the engine behind the log",
	markRedelivery:          "entry delivered again after a restart",
	markEngineBehind:        "engine fell behind delivery",
	markUnknownDelivered:    "unknown outcome was delivered all the same",
	markUnknownLost:         "unknown outcome was never delivered",
	markDuplicate:           "transaction sent again after it had committed",
	markPhantom:             "write into a scanned range refused",
	markSettings:            "group settings changed",
	markOutcomeAsked:        "outcome of a transaction asked for",
	markScanTooOld:          "scan older than the remembered writes",
}

// marked counts how often each mark was reached.
type marked [marks]int

// named returns the counts by name, those that were not reached too.
func (m *marked) named() map[string]int {
	counts := make(map[string]int, marks)
	for i, name := range markNames {
		counts[name] = m[i]
	}
	return counts
}
