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
	markExpelled
	markRejoined
	markTakenInAndOut
	markHandedOverForCut
	markHandedOverForDisk
	markFlapping
	markTakenOver
	markReplaced
	markRemovedByOrder
	markMinority
	markForced
	markForcedTwice
	markPlanResumed
	markPlanRefused
	markPlanSuperseded
	markPlansAtOnce
	markPlanAbandoned
	markAligned
	markFrozenCrash
	markCoordinatorCrash
	markFenced
	markSuperseded
	markDiscarded
	markTwoHeirs
	markOutageHealed
	markDataLost
	markUnnameable
	markApart
	markBeside
	markTailKept
	markLeftBehind
	markUnsettled
	markTakenUp
	markLookedInVain
	markStranger
	markThawed
	markPlanDropped
	markNothingOwn
	markRivalStopped
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
	markExpelled:            "member expelled",
	markRejoined:            "member rejoined by itself",
	markTakenInAndOut:       "joiner taken in and out before it knew",
	markHandedOverForCut:    "lead handed over for a partial cut",
	markHandedOverForDisk:   "lead handed over for a stalled disk",
	markFlapping:            "flapping member held for unreachable",
	markTakenOver:           "place taken over under the same UUID",
	markReplaced:            "dead member replaced by a newcomer",
	markRemovedByOrder:      "member removed by an operator",
	markMinority:            "member in the minority for too long",
	markForced:              "membership forced",
	markForcedTwice:         "membership forced in a forced incarnation",
	markPlanResumed:         "plan resumed",
	markPlanRefused:         "plan refused because of a quorum",
	markPlanSuperseded:      "plan superseded by another one",
	markPlansAtOnce:         "two plans at once",
	markPlanAbandoned:       "frozen member given up by its operator",
	markAligned:             "survivor fetched entries of the seed",
	markFrozenCrash:         "survivor crashed in the middle of a plan",
	markCoordinatorCrash:    "coordinator crashed in the middle of a plan",
	markFenced:              "message between incarnations refused",
	markSuperseded:          "member found that it was left out",
	markDiscarded:           "diverged history discarded",
	markTwoHeirs:            "two incarnations from one, one given up",
	markOutageHealed:        "total outage healed",
	markApart:               "side of a split told to rejoin by its operator",
	markBeside:              "group forced beside another one told to give way",
	markTailKept:            "member left out kept the tail of its log",
	markLeftBehind:          "answer of an incarnation that has ended not counted",
	markUnsettled:           "member that does not know its incarnation's view asked",
	markTakenUp:             "log taken up again since nobody could tell",
	markLookedInVain:        "place looked for and lost",
	markStranger:            "stranger of a later incarnation not believed",
	markThawed:              "frozen member freed by a later incarnation",
	markPlanDropped:         "frozen member back in its incarnation by order",
	markNothingOwn:          "diverged history without transactions given up",
	markRivalStopped:        "member of a rival plan stopped by its operator",
	markUnnameable:          "discarded history no longer in the log",
	markDataLost:            "data lost and the log kept",
}

// marked counts how often each mark was reached.
type marked [marks]int

// named returns the counts by name, those that were not reached too.
func (m *marked) named() map[string]int {
	counts := make(map[string]int, marks)
	for i, name := range &markNames {
		counts[name] = m[i]
	}
	return counts
}
