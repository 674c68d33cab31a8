package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"runtime"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/concordatdb/concordat/sim"
)

func newSimCommand() *cobra.Command {
	var first uint64
	var seeds, jobs int
	var trace string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "sim",
		Short: "Run simulated groups under faults, and check their promises",
		Long: `Run worlds of the simulator: several members in one goroutine on a virtual clock,
a network that loses, repeats, reorders and cuts, disks that forget what was not
synced, members that crash and come back, clients that conflict. Checkers compare
what the members do with what docs/DESIGN.md §6 promises.

Everything about a world follows from its seed. When a promise is broken, the
command names seed and promise and fails; run that one seed again with --trace to
see what happened.`,
		Example: `  concordat sim --seeds 500
  concordat sim --first 77 --seeds 1 --trace world77.txt`,
		Args: exactArgs(),
	}
	cmd.Flags().Uint64Var(&first, "first", 1, "seed of the first world; the others follow one by one")
	cmd.Flags().IntVar(&seeds, "seeds", 100, "how many worlds to run")
	cmd.Flags().IntVar(&jobs, "jobs", runtime.GOMAXPROCS(0), "how many worlds to run at a time, each in a process of its own; 1 with --trace")
	cmd.Flags().StringVar(&trace, "trace", "", "`file` that gets a line for each event; 100 worlds write gigabytes")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the report as one JSON object")
	cmd.RunE = interruptible(func(ctx context.Context, cmd *cobra.Command, _ []string) error {
		if seeds < 1 {
			return usagef("--seeds is %d; at least one world has to be run", seeds)
		}
		if jobs < 1 {
			return usagef("--jobs is %d; one world at a time is the least", jobs)
		}
		if trace != "" && jobs > 1 && cmd.Flags().Changed("jobs") {
			return usagef("a trace is of one world after the other; leave --jobs or --trace out")
		}
		began := time.Now()
		report, err := runSim(ctx, sim.Options{First: first, Seeds: seeds}, jobs, trace)
		if asJSON {
			err = errors.Join(err, json.NewEncoder(cmd.OutOrStdout()).Encode(report))
		} else {
			err = errors.Join(err, printReport(cmd.OutOrStdout(), &report, time.Since(began)))
		}
		return errors.Join(err, broken(&report))
	})
	return cmd
}

// runSim runs the worlds with their trace in a file, if it has a name; so many at a
// time otherwise.
func runSim(ctx context.Context, o sim.Options, jobs int, trace string) (report sim.Report, err error) {
	switch {
	case trace == "" && jobs > 1 && o.Seeds > 1:
		return simJobs(ctx, o.First, o.Seeds, jobs)
	case trace == "":
		return sim.Run(ctx, o)
	}
	file, err := os.Create(trace)
	if err != nil {
		return report, err
	}
	lines := bufio.NewWriterSize(file, 1<<20)
	o.Trace = lines
	report, err = sim.Run(ctx, o)
	return report, errors.Join(err, lines.Flush(), file.Close())
}

// broken is the error of a sweep that found broken promises.
func broken(r *sim.Report) error {
	var errs []error
	for _, v := range r.Violations {
		errs = append(errs, fmt.Errorf("%s (again: concordat sim --first %d --seeds 1 --trace FILE)", v, v.Seed))
	}
	return errors.Join(errs...)
}

func printReport(w io.Writer, r *sim.Report, took time.Duration) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	line := func(name, format string, args ...any) { say(t, name+"\t"+format+"\n", args...) }
	last := r.First + uint64(max(r.Worlds, 1)) - 1
	line("worlds", "%d of %d, seeds %d to %d, in %v", r.Worlds, r.Seeds, r.First, last, took.Round(time.Millisecond))
	line("events", "%d in %.0f s of virtual time", r.Events, (time.Duration(r.Virtual) * time.Microsecond).Seconds())
	line("committed", "%d, of which %d were acknowledged", r.Committed, r.Acknowledged)
	line("refused", "%d conflicts, %d snapshots too old, %d exhausted", r.Refused.Conflict, r.Refused.SnapshotTooOld, r.Refused.Exhausted)
	line("other calls", "%d of unknown outcome, %d read-only", r.Unknown, r.ReadOnly)
	line("without a right", "%d begins denied, %d commits refused before they were ordered, %d after", r.Denied, r.Refused.Early, r.Refused.Fenced)
	line("primaries", "%d epochs, %d planned changes asked for", r.Epochs, r.Actions)
	f := &r.Faults
	line("messages", "%d lost, %d repeated, %d overtaken", f.Lost, f.Repeated, f.Overtaken)
	line("network", "%d partitions, %d one-way cuts, %d cuts between two, %d links that flap, %d storms of loss",
		f.Partitions, f.OneWay, f.PartialCuts, f.Flaps, f.Storms)
	line("crashes", "%d of one member, %d of all at once, %d left a torn log, %d a shorter one", f.Crashes, f.Blackouts, f.TornTails, f.LostTails)
	line("disks", "%d stalls, %d hangs, %d lost, %d data directories lost", f.Stalls, f.Hangs, f.DiskLosses, f.DataLosses)
	line("processes", "%d stood still, %d applied slowly, %d had their clocks set ahead", f.Pauses, f.Slowdowns, f.Skews)
	line("members", "%d joins, %d leaves, %d restarts, %d clones", r.Joins, r.Leaves, r.Restarts, r.Clones)
	line("out of the group", "%d expelled or replaced, %d removed, %d too long in a minority, %d times back", r.Expelled, r.Removed, r.Minorities, r.Rejoins)
	line("forced", "%d disasters, %d incarnations, %d histories discarded", f.Disasters, r.Incarnations, r.Discarded)
	var missed []string
	for _, name := range slices.Sorted(maps.Keys(r.Marks)) {
		if r.Marks[name] == 0 {
			missed = append(missed, name)
		} else {
			line("reached", "%d × %s", r.Marks[name], name)
		}
	}
	for _, name := range missed {
		line("not reached", "%s", name)
	}
	line("broken promises", "%d", len(r.Violations))
	return t.Flush()
}
