package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"time"

	"github.com/concordatdb/concordat"
)

// CheckOptions say how to measure what the state check costs.
type CheckOptions struct {
	Site
	Timing
	// Intervals are the distances of two checks in transactions, each measured in
	// turn with none; Bytes is what a member hashes for one.
	Intervals []int
	Bytes     int
	Clients   int
	Keys      int // preloaded
	Repeats   int
}

// CheckDefaults returns what is measured if nothing else is asked for.
func CheckDefaults() CheckOptions {
	return CheckOptions{
		Intervals: []int{concordat.DefaultStateCheckInterval, 200}, Bytes: concordat.DefaultStateCheckBytes,
		Clients: 64, Keys: 60_000, Timing: Timing{Duration: 2 * time.Second, WarmUp: 300 * time.Millisecond}, Repeats: 5,
	}
}

// CheckRow is one interval.
type CheckRow struct {
	Interval int `json:"interval"`
	Bytes    int `json:"bytes"`
	// PerSecond are the commits with checks and Without those measured right
	// before each, without.
	PerSecond []float64 `json:"per_second"`
	Without   []float64 `json:"without"`
	// CPUMicros and CPUWithout are what a commit takes of all members and the load.
	CPUMicros  []float64 `json:"cpu_us"`
	CPUWithout []float64 `json:"cpu_us_without"`
	// HashShare is the time for which members hashed, of the time of all
	// processors; Checks the slices hashed, and Pairs how many pairs each has.
	HashShare float64 `json:"hash_share"`
	Checks    uint64  `json:"checks"`
	Pairs     float64 `json:"pairs"`
}

// CheckReport is what was measured.
type CheckReport struct {
	Machine Machine    `json:"machine"`
	Rows    []CheckRow `json:"rows"`
}

func (o *CheckOptions) validate() error {
	var wrong flaws
	wrong.check(o.Repeats > 0 && o.Clients > 0 && o.Keys >= o.Clients && len(o.Intervals) > 0 && o.Duration > 0,
		"name an interval, a client, as many keys, a duration and a repeat at least")
	return wrong.err()
}

// RunChecks measures three members in this process, with the state check switched
// on and off in turn. It stops early when ctx ends.
func RunChecks(ctx context.Context, o CheckOptions) (r CheckReport, err error) {
	if err := o.validate(); err != nil {
		return r, err
	}
	dir, remove, err := o.prepare(&r.Machine)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, remove()) }()
	o.tell("starting %d members, preloading %d keys", Members, o.Keys)
	g, err := startNodes(ctx, dir, concordat.SinglePrimary, nil)
	if err != nil {
		return r, fmt.Errorf("bench: %w", err)
	}
	defer func() { err = errors.Join(err, g.close()) }()
	if err := preload(ctx, g, o.Keys, smallValue); err != nil {
		return r, fmt.Errorf("bench: preload: %w", err)
	}
	r.Rows = make([]CheckRow, len(o.Intervals))
	for n := range o.Repeats {
		order := []bool{false, true}
		if n%2 == 1 {
			order = []bool{true, false} // whatever comes second finds a larger store
		}
		for i, interval := range o.Intervals {
			if err := o.measurePair(ctx, g, interval, order, &r.Rows[i]); err != nil {
				return r, fmt.Errorf("bench: interval %d: %w", interval, err)
			}
		}
	}
	return r, nil
}

// measurePair measures once with checks and once without, in the order given.
func (o *CheckOptions) measurePair(ctx context.Context, g *nodes, interval int, order []bool, r *CheckRow) error {
	r.Interval, r.Bytes = interval, o.Bytes
	l := load{Shape: InProcess, Placement: OneMember, Clients: o.Clients, ValueBytes: smallValue, keys: o.Keys}
	for _, with := range order {
		s := g.members[0].GroupSettings()
		s.StateCheckInterval, s.StateCheckBytes = -1, o.Bytes
		if with {
			s.StateCheckInterval = interval
		}
		if _, err := g.members[0].SetGroupSettings(ctx, s); err != nil {
			return err
		}
		runtime.GC() // what another row has left behind
		before, began := g.hashed(), time.Now()
		row, err := o.measure(ctx, g, l)
		if err != nil {
			return err
		}
		if !with {
			r.Without, r.CPUWithout = append(r.Without, row.CommitsPerSecond), append(r.CPUWithout, row.CPUMicros)
			continue
		}
		r.PerSecond, r.CPUMicros = append(r.PerSecond, row.CommitsPerSecond), append(r.CPUMicros, row.CPUMicros)
		r.note(before, g.hashed(), time.Since(began)*time.Duration(runtime.GOMAXPROCS(0)), o.Repeats)
	}
	o.tell("every %d: %.0f a second, without %.0f", interval, r.PerSecond[len(r.PerSecond)-1], r.Without[len(r.Without)-1])
	return nil
}

// note adds what was hashed in one of so many measurements.
func (r *CheckRow) note(before, after concordat.Counters, processors time.Duration, repeats int) {
	pairs := r.Pairs*float64(r.Checks) + float64(after.CheckedPairs-before.CheckedPairs)
	r.Checks += after.StateChecks - before.StateChecks
	r.Pairs = pairs / float64(max(r.Checks, 1))
	r.HashShare += (after.StateCheckTime - before.StateCheckTime).Seconds() / processors.Seconds() / float64(repeats)
}

// hashed adds up what the members have hashed.
func (g *nodes) hashed() (sum concordat.Counters) {
	for _, n := range g.members {
		c := n.Status().Counters
		sum.StateChecks += c.StateChecks
		sum.CheckedPairs += c.CheckedPairs
		sum.StateCheckTime += c.StateCheckTime
	}
	return sum
}

// WriteMarkdown writes the report as a table: medians, and what the checks cost.
func (r CheckReport) WriteMarkdown(w io.Writer) error {
	p := &page{w: w}
	p.head(r.Machine)
	p.printf("| checks every | bytes | pairs | commits/s | without | cost | CPU/commit | without | cost | hashing |\n| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n")
	for _, row := range r.Rows {
		if len(row.PerSecond) == 0 {
			continue // it was not measured
		}
		with, without := median(row.PerSecond), median(row.Without)
		cpu, cpuWithout := median(row.CPUMicros), median(row.CPUWithout)
		p.printf("| %d | %d | %.0f | %.0f | %.0f | %.2f %% | %.1f µs | %.1f µs | %.2f %% | %.3f %% |\n",
			row.Interval, row.Bytes, row.Pairs, with, without, 100*(1-with/without), cpu, cpuWithout, 100*(cpu/cpuWithout-1), 100*row.HashShare)
	}
	return p.err
}
