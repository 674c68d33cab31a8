package sim

import "fmt"

// Report is what a sweep did and found. Numbers are sums over its worlds.
type Report struct {
	First          uint64  `json:"first"`
	Seeds          int     `json:"seeds"`  // asked for
	Worlds         int     `json:"worlds"` // run
	Events         uint64  `json:"events"`
	VirtualSeconds float64 `json:"virtual_seconds"`

	Faults Faults `json:"faults"`

	Committed    int     `json:"committed"`    // transactions that the group certified
	Acknowledged int     `json:"acknowledged"` // of these, those whose callers were told
	Refused      Refused `json:"refused"`
	Unknown      int     `json:"unknown"` // calls that ended with their member
	ReadOnly     int     `json:"read_only"`

	Joins    int `json:"joins"`
	Leaves   int `json:"leaves"`
	Restarts int `json:"restarts"`
	Clones   int `json:"clones"`

	// Marks counts how often rare branches were reached.
	Marks map[string]int `json:"marks"`

	Violations []Violation `json:"violations"`
}

// Faults counts what was done to the members.
type Faults struct {
	Lost       int `json:"lost"`       // messages
	Repeated   int `json:"repeated"`   // messages
	Overtaken  int `json:"overtaken"`  // messages that arrived before an earlier one
	Crashes    int `json:"crashes"`    // of one member
	Blackouts  int `json:"blackouts"`  // of all members at once
	Partitions int `json:"partitions"` // two-way
	OneWay     int `json:"one_way"`    // links cut in one direction
	Storms     int `json:"storms"`     // times of heavy loss
	Stalls     int `json:"stalls"`     // of a disk
	TornTails  int `json:"torn_tails"` // crashes that left a part of what was not synced
	LostTails  int `json:"lost_tails"` // crashes that lost something not synced
}

// Refused counts the transactions that the group did not certify, by reason.
type Refused struct {
	Conflict       int `json:"conflict"`
	SnapshotTooOld int `json:"snapshot_too_old"`
	Exhausted      int `json:"exhausted"`
	Duplicate      int `json:"duplicate"` // it had committed before, under its id
}

// Violation is a promise that was not kept. A world ends with its first one.
type Violation struct {
	Seed    uint64  `json:"seed"`
	Promise string  `json:"promise"` // "P1" to "P13" of docs/DESIGN.md §6, or "panic"
	Seconds float64 `json:"seconds"` // virtual time
	Text    string  `json:"text"`
}

// String returns the violation on one line, but for the stack of a panic.
func (v Violation) String() string {
	return fmt.Sprintf("seed %d, %.6f s: %s: %s", v.Seed, v.Seconds, v.Promise, v.Text)
}

func (r *Report) add(w *Report) {
	r.Worlds += w.Worlds
	r.Events += w.Events
	r.VirtualSeconds += w.VirtualSeconds
	r.Faults.add(w.Faults)
	r.Committed += w.Committed
	r.Acknowledged += w.Acknowledged
	r.Refused.Conflict += w.Refused.Conflict
	r.Refused.SnapshotTooOld += w.Refused.SnapshotTooOld
	r.Refused.Exhausted += w.Refused.Exhausted
	r.Refused.Duplicate += w.Refused.Duplicate
	r.Unknown += w.Unknown
	r.ReadOnly += w.ReadOnly
	r.Joins += w.Joins
	r.Leaves += w.Leaves
	r.Restarts += w.Restarts
	r.Clones += w.Clones
	// order-free: sums
	for name, n := range w.Marks {
		r.Marks[name] += n
	}
	r.Violations = append(r.Violations, w.Violations...)
}

func (f *Faults) add(g Faults) {
	f.Lost += g.Lost
	f.Repeated += g.Repeated
	f.Overtaken += g.Overtaken
	f.Crashes += g.Crashes
	f.Blackouts += g.Blackouts
	f.Partitions += g.Partitions
	f.OneWay += g.OneWay
	f.Storms += g.Storms
	f.Stalls += g.Stalls
	f.TornTails += g.TornTails
	f.LostTails += g.LostTails
}
