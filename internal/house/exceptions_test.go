package house

import "path"

// exception excuses the findings of one rule in one file, or in one function
// of it.
type exception struct {
	rule   string
	path   string
	fn     string // Func or Type.Method; "" excuses the file
	reason string
}

// exceptions is meant to stay short.
var exceptions = []exception{
	{
		rule: "plain tests", path: "internal/running/running_test.go",
		reason: "the Makefile has them run with the race detector",
	},
	{
		rule: "no exit", path: "gcs/logger.go",
		reason: "raft relies on its logger's Panic not to return; who drives the member recovers, and it goes to ERROR",
	},
	{
		rule: "no exit", path: "gcs/deliver.go", fn: "Group.NextDelivery",
		reason: "raft broke its promise of consecutive entries: as a panic of raft itself",
	},
	{
		rule: "no exit", path: "gcs/sender.go", fn: "sender.delivered",
		reason: "a frame that was never sent came back as this member's own: as a panic of raft itself",
	},
	{
		rule: "no exit", path: "applier/schedule/schedule.go", fn: "Scheduler.misused",
		reason: "who drives it was told otherwise: nothing that was executed can be trusted to be in order",
	},
	{
		rule: "no exit", path: "internal/replica/replica.go", fn: "Replica.step",
		reason: "the events are a closed set: a new one that is not handled must fail every test",
	},
	{
		rule: "no exit", path: "internal/replica/state.go", fn: "Replica.serialiseWith",
		reason: "a state that cannot be written down was never valid: who drives the member recovers, and it goes to ERROR",
	},
	{
		rule: "no exit", path: "internal/outcome/window.go", fn: "Window.broken",
		reason: "a fate that contradicts what the group has decided: who drives the member recovers, and it goes to ERROR",
	},
	{
		rule: "no exit", path: "applier/pebblekv/failure.go", fn: "logger.Fatalf",
		reason: "Pebble relies on its logger's Fatalf not to return: ending the goroutine of Open runs its deferred calls",
	},
}

func (e exception) excuses(rule string, f finding) bool {
	return e.rule == rule && path.Clean(e.path) == f.pos.Filename && (e.fn == "" || e.fn == f.fn)
}

// excuse returns the findings that no exception covers, and the exceptions
// that cover nothing.
func excuse(rule string, found []finding, all []exception) (left []finding, idle []exception) {
	used := make([]bool, len(all))
	for _, f := range found {
		excused := false
		for i, e := range all {
			if e.excuses(rule, f) {
				used[i], excused = true, true
			}
		}
		if !excused {
			left = append(left, f)
		}
	}
	for i, e := range all {
		if e.rule == rule && !used[i] {
			idle = append(idle, e)
		}
	}
	return left, idle
}
