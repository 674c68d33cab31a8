package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/concordatdb/concordat/bench"
)

const benchCheckHelp = `Measure what the state check costs: three members in this process, one of which
writes, with the check switched on and off in turn. Commits a second compare
poorly on a machine that does other things; the processor time that a commit
takes compares better, and the time that members spend hashing is what it is.

The members' directories are made below --dir, which has to be on a real disk, and
removed at the end. All of it takes about a minute.`

func newBenchCheckCommand() *cobra.Command {
	o := bench.CheckDefaults()
	bytes := size(o.Bytes)
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Measure what comparing the members' data costs",
		Long:  benchCheckHelp,
		Example: `  concordat bench check
  concordat bench check --intervals 500,100 --size 1MiB --json`,
		Args: exactArgs(),
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.IntSliceVar(&o.Intervals, "intervals", o.Intervals, "transactions between two checks")
	f.Var(&bytes, "size", "how much data a member hashes for one")
	f.IntVar(&o.Clients, "clients", o.Clients, "how many clients")
	f.IntVar(&o.Keys, "keys", o.Keys, "how many keys are preloaded")
	timingFlags(f, &o.Timing, "each")
	f.IntVar(&o.Repeats, "repeats", o.Repeats, "how often everything is measured, in turn")
	siteFlags(f, &o.Site)
	reports(cmd, &o.Site, withEachFigure, func(ctx context.Context) (bench.CheckReport, error) {
		o.Bytes = int(bytes)
		return bench.RunChecks(ctx, o)
	}, bench.CheckReport.WriteMarkdown)
	return cmd
}
