package sim

import "fmt"

// Report is what a sweep did and found. Numbers are sums over its worlds.
type Report struct {
	First   uint64 `json:"first"`
	Seeds   int    `json:"seeds"`  // asked for
	Worlds  int    `json:"worlds"` // run
	Events  uint64 `json:"events"`
	Virtual int64  `json:"virtual_us"` // time, in microseconds

	Faults Faults `json:"faults"`

	Committed    int     `json:"committed"`    // transactions that the group certified
	Acknowledged int     `json:"acknowledged"` // of these, those whose callers were told
	Refused      Refused `json:"refused"`
	Unknown      int     `json:"unknown"` // calls that ended with their member
	ReadOnly     int     `json:"read_only"`
	Denied       int     `json:"denied"`  // begins refused for want of a right, a quorum or time
	Epochs       int     `json:"epochs"`  // changes of who may write
	Actions      int     `json:"actions"` // planned changes asked for

	Joins    int `json:"joins"`
	Leaves   int `json:"leaves"`
	Restarts int `json:"restarts"`
	Clones   int `json:"clones"`

	Expelled     int `json:"expelled"`     // and replaced
	Removed      int `json:"removed"`      // by an operator
	Minorities   int `json:"minorities"`   // members that waited for a majority for too long
	Rejoins      int `json:"rejoins"`      // of these and of those left out, back under another raft id
	Incarnations int `json:"incarnations"` // one for each world and each forced view
	Discarded    int `json:"discarded"`    // members that gave up a history of their own

	// Marks counts how often rare branches were reached.
	Marks map[string]int `json:"marks"`

	Violations []Violation `json:"violations"`
}

// Faults counts what was done to the members.
type Faults struct {
	Lost        int `json:"lost"`         // messages
	Repeated    int `json:"repeated"`     // messages
	Overtaken   int `json:"overtaken"`    // messages that arrived before an earlier one
	Crashes     int `json:"crashes"`      // of one member
	Blackouts   int `json:"blackouts"`    // of all members at once
	Partitions  int `json:"partitions"`   // two-way
	OneWay      int `json:"one_way"`      // links cut in one direction
	Storms      int `json:"storms"`       // times of heavy loss
	PartialCuts int `json:"partial_cuts"` // links cut in both directions
	Flaps       int `json:"flaps"`        // links that come and go
	Stalls      int `json:"stalls"`       // of a disk that is slow for a while
	Hangs       int `json:"hangs"`        // of a disk that does not answer for a while
	DiskLosses  int `json:"disk_losses"`  // members that lost all they had
	DataLosses  int `json:"data_losses"`  // members that lost their data and kept their log
	Disasters   int `json:"disasters"`    // times when a majority was gone at once
	Pauses      int `json:"pauses"`       // of a process that stood still for a while
	Slowdowns   int `json:"slowdowns"`    // of an engine that applies slowly for a while
	Skews       int `json:"skews"`        // of a clock that jumps ahead
	Harms       int `json:"harms"`        // of a disk that keeps something else than it was given
	TornTails   int `json:"torn_tails"`   // crashes that left a part of what was not synced
	LostTails   int `json:"lost_tails"`   // crashes that lost something not synced
}

// Refused counts the transactions that the group did not certify, by reason.
type Refused struct {
	Conflict       int `json:"conflict"`
	SnapshotTooOld int `json:"snapshot_too_old"`
	Exhausted      int `json:"exhausted"`
	Duplicate      int `json:"duplicate"` // it had committed before, under its id
	Fenced         int `json:"fenced"`    // its origin had lost the right to write
	Early          int `json:"early"`     // and knew that before it was broadcast
}

// Violation is a promise that was not kept. A world ends with its first one.
type Violation struct {
	Seed    uint64  `json:"seed"`
	Promise string  `json:"promise"` // "P1" to "P14" of docs/DESIGN.md §6, or "panic"
	Seconds float64 `json:"seconds"` // virtual time
	Text    string  `json:"text"`
}

// String returns the violation on one line, but for the stack of a panic.
func (v Violation) String() string {
	return fmt.Sprintf("seed %d, %.6f s: %s: %s", v.Seed, v.Seconds, v.Promise, v.Text)
}

// NewReport returns the report of a sweep that has run none of its worlds yet.
func NewReport(first uint64, seeds int) Report {
	return Report{First: first, Seeds: seeds, Marks: (&marked{}).named(), Violations: []Violation{}}
}

// Add puts the worlds of another sweep to those of r, as if one sweep had run them
// all. What r was asked for stays as it is.
func (r *Report) Add(w *Report) {
	r.Worlds += w.Worlds
	r.Events += w.Events
	r.Virtual += w.Virtual
	r.Faults.add(w.Faults)
	r.Committed += w.Committed
	r.Acknowledged += w.Acknowledged
	r.Refused.add(w.Refused)
	r.Unknown += w.Unknown
	r.ReadOnly += w.ReadOnly
	r.Denied += w.Denied
	r.Epochs += w.Epochs
	r.Actions += w.Actions
	r.Joins += w.Joins
	r.Leaves += w.Leaves
	r.Restarts += w.Restarts
	r.Clones += w.Clones
	r.Expelled += w.Expelled
	r.Removed += w.Removed
	r.Minorities += w.Minorities
	r.Rejoins += w.Rejoins
	r.Incarnations += w.Incarnations
	r.Discarded += w.Discarded
	// order-free: sums
	for name, n := range w.Marks {
		r.Marks[name] += n
	}
	r.Violations = append(r.Violations, w.Violations...)
}

func (r *Refused) add(q Refused) {
	r.Conflict += q.Conflict
	r.SnapshotTooOld += q.SnapshotTooOld
	r.Exhausted += q.Exhausted
	r.Duplicate += q.Duplicate
	r.Fenced += q.Fenced
	r.Early += q.Early
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
	f.PartialCuts += g.PartialCuts
	f.Flaps += g.Flaps
	f.Stalls += g.Stalls
	f.Hangs += g.Hangs
	f.DiskLosses += g.DiskLosses
	f.DataLosses += g.DataLosses
	f.Disasters += g.Disasters
	f.Pauses += g.Pauses
	f.Slowdowns += g.Slowdowns
	f.Skews += g.Skews
	f.Harms += g.Harms
	f.TornTails += g.TornTails
	f.LostTails += g.LostTails
}
