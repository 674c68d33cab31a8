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
	markToldStranger
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
	markPrimaryGone
	markPrimarySilent
	markHeirLeads
	markVacancy
	markNoPrimary
	markLeadFollowed
	markDeposedWrite
	markSleeperRefused
	markRefusedAtOnce
	markActionDone
	markActionAborted
	markActionCancelled
	markDoneByFailover
	markGraceOver
	markActionRefused
	markActionAgain
	markToSingle
	markToMulti
	markProtocolRaised
	markStaleDeposal
	markGateClosed
	markGateByView
	markGateRebuilt
	markGateWithJoiner
	markReadAsked
	markReadReasked
	markHeldOnFailover
	markHeldByGate
	markBoundKnown
	markBoundAsked
	markSessionWaited
	markWaitEnded
	markHeldByDrain
	markDrainedOpen
	markDrainedIdle
	markDrainedAgain
	markAlone
	markOutdated
	markForcedAction
	markForcedGate
	markNewerPassedOver
	markUpgraded
	markLeftInOrder
	markHeldUp
	markSideBySide
	markInsideEntry
	markTakenUpInside
	markTriedAgain
	markRecalled
	markBeforeTurn
	markGiantWhole
	markGiantsAtOnce
	markGiantSpilled
	markGiantCopied
	markGiantGivenUp
	markGiantWithdrawn
	markGiantRecalled
	markGiantOriginDied
	markGiantOriginGone
	markGiantSessionOver
	markTooLarge
	markStaleReadEventual
	markStaleReadFailover
	markBackwardsEventual
	markBackwardsFailover
	markOwnWriteEventual
	markOwnWriteFailover
	markLostEventual
	markSkewEventual
	markSkewFailover
	markSkewBefore
	markSkewAfter
	markSkewBoth
	markCheckPassed
	markCheckBlamed
	markCheckNamed
	markCheckOut
	markCheckSplit
	markFlowThrottled
	markFlowHeld
	markFlowReleased
	markFlowOpened
	markFlowStopped
	markFlowQuota
	markFlowBounded
	markConsumerMoved
	markConsumerMovedPlace
	markConsumerRestart
	markConsumerAhead
	markConsumerGone
	markConsumerDump
	markConsumerForced
	markConsumerInside
	markFault
	markFaultBeside
	markUnapplied
	markFaultAlone
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
	markToldStranger:        "member of a later view told by one that clones",
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

	markPrimaryGone:     "primary gone, another one elected",
	markPrimarySilent:   "silent primary deposed",
	markHeirLeads:       "lead and primary met on one member",
	markVacancy:         "vacancy filled",
	markNoPrimary:       "epoch without a primary",
	markLeadFollowed:    "lead handed over to the primary",
	markDeposedWrite:    "write of a deposed primary refused",
	markSleeperRefused:  "primary that slept through its deposition refused",
	markRefusedAtOnce:   "write refused before it was broadcast",
	markActionDone:      "planned change done",
	markActionAborted:   "planned change aborted",
	markActionCancelled: "planned change cancelled",
	markDoneByFailover:  "planned change done by a failover",
	markGraceOver:       "grace of a planned change over",
	markActionRefused:   "planned change refused",
	markActionAgain:     "planned change asked for again in another epoch or view",
	markToSingle:        "switched to single-primary",
	markToMulti:         "switched to multi-primary",
	markProtocolRaised:  "protocol raised",
	markStaleDeposal:    "deposal of an earlier term void",
	markGateClosed:      "AFTER transaction held back",
	markGateByView:      "gate opened by a change of the view",
	markGateRebuilt:     "gate made again after a restart",
	markGateWithJoiner:  "member promoted while a gate was closed",
	markReadAsked:       "read index waited for",
	markReadReasked:     "leader changed while a read index was asked for",
	markHeldOnFailover:  "begin held for the backlog of a primary before",
	markHeldByGate:      "begin held by a gate",
	markBoundKnown:      "bounded age known without a question",
	markBoundAsked:      "bounded age asked for",
	markSessionWaited:   "session waited for its own writes",
	markWaitEnded:       "wait of a begin given up",
	markHeldByDrain:     "begin held by a drain",
	markDrainedOpen:     "drain ended with transactions open",
	markDrainedIdle:     "drain ended with nothing open",
	markDrainedAgain:    "member drained again after a restart",
	markAlone:           "primary found itself alone",
	markOutdated:        "newer epoch heard of before it was delivered",
	markForcedAction:    "membership forced with an action open",
	markForcedGate:      "member frozen with a gate closed",
	markNewerPassedOver: "newer version passed over",
	markUpgraded:        "member upgraded",
	markLeftInOrder:     "primary handed over before it left",
	markHeldUp:          "member held up between two effects",
	markSideBySide:      "transactions executed side by side",
	markInsideEntry:     "crash with an entry visible in part",
	markTakenUpInside:   "restart inside of an entry",
	markTriedAgain:      "transaction tried again, alone",
	markRecalled:        "executed transaction given up for one before it",
	markBeforeTurn:      "crash between execution and commit",

	markFlowThrottled: "writer slowed",
	markFlowHeld:      "begin held by flow control",
	markFlowReleased:  "writer not slowed any more",
	markFlowOpened:    "right to write lost with transactions held by flow control",
	markFlowStopped:   "writer stopped for a member too far behind",
	markFlowQuota:     "writer slowed by the formula of Group Replication",
	markFlowBounded:   "member that became slow kept near the target",

	markGiantWhole:       "transaction in fragments whole at its end",
	markGiantsAtOnce:     "two members' transactions in fragments at once",
	markGiantSpilled:     "fragments beyond the memory for them",
	markGiantCopied:      "fragments came with a copied state",
	markGiantGivenUp:     "transaction in fragments given up for silence",
	markGiantWithdrawn:   "transaction in fragments taken back",
	markGiantRecalled:    "transaction in fragments recalled by a member that lost its right",
	markGiantOriginDied:  "member lost power while it sent fragments",
	markGiantOriginGone:  "origin left the view between fragments",
	markGiantSessionOver: "new session of an origin between fragments",
	markTooLarge:         "transaction larger than the group allows",

	markStaleReadEventual: "stale read at EVENTUAL",
	markStaleReadFailover: "stale read at BEFORE_ON_PRIMARY_FAILOVER",
	markBackwardsEventual: "non-monotonic read across members at EVENTUAL",
	markBackwardsFailover: "non-monotonic read across members at BEFORE_ON_PRIMARY_FAILOVER",
	markOwnWriteEventual:  "own write missed on another member at EVENTUAL",
	markOwnWriteFailover:  "own write missed on another member at BEFORE_ON_PRIMARY_FAILOVER",
	markLostEventual:      "visibility lost at a failover at EVENTUAL",
	markSkewEventual:      "write skew at EVENTUAL",
	markSkewFailover:      "write skew at BEFORE_ON_PRIMARY_FAILOVER",
	markSkewBefore:        "write skew at BEFORE",
	markSkewAfter:         "write skew at AFTER",
	markSkewBoth:          "write skew at BEFORE_AND_AFTER",

	markCheckPassed:        "all data compared",
	markCheckBlamed:        "wrong data found, and their member blamed",
	markCheckNamed:         "wrong key named",
	markCheckOut:           "member out for wrong data",
	markCheckSplit:         "wrong data found, and nobody blamed",
	markFault:              "engine cannot apply a transaction",
	markFaultBeside:        "engine cannot apply one of several transactions under way",
	markUnapplied:          "transaction applied nowhere",
	markFaultAlone:         "engine failed alone",
	markConsumerMoved:      "consumer went on with another member",
	markConsumerMovedPlace: "consumer's place gone with a clone or its age",
	markConsumerRestart:    "consumer went on with a member that was started again",
	markConsumerAhead:      "consumer ahead of the member that it went on with",
	markConsumerGone:       "consumer overtaken by what is kept",
	markConsumerDump:       "consumer began with a dump",
	markConsumerForced:     "consumer began anew after a forced view",
	markConsumerInside:     "consumer took a part of a log entry",
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
