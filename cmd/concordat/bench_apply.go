package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/concordatdb/concordat/bench"
)

const benchApplyHelp = `Measure how fast a member comes back that has missed much: three members, each a
process, of which one is killed, misses --transactions, and is started again with
each number of --workers as its apply-workers. What counts is the time until it is
ONLINE, which holds all that comes before a transaction is applied, too: its way
from another member's log into this one's, and certification.

The group has --log-size as its checkpoint-size, so that its log keeps them all.
The report is a table in Markdown. The members' directories are made below --dir,
which has to be on a real disk, and removed at the end.`

func newBenchApplyCommand() *cobra.Command {
	o := bench.ApplyDefaults()
	log := size(o.LogBytes)
	cmd := &cobra.Command{
		Use:   "apply",
		Short: "Measure how fast a restarted member applies what it has missed",
		Long:  benchApplyHelp,
		Example: `  concordat bench apply
  concordat bench apply --workers 1,4 --transactions 100000 --repeats 1`,
		Args: exactArgs(),
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.IntSliceVar(&o.Workers, "workers", o.Workers, "values of apply-workers")
	f.IntVar(&o.Repeats, "repeats", o.Repeats, "how often each is measured, in turn")
	f.IntVar(&o.Transactions, "transactions", o.Transactions, "how many the member misses")
	f.Var(&log, "log-size", "checkpoint-size of the group; three times as much log is kept")
	siteFlags(f, &o.Site)
	reports(cmd, &o.Site, withEachFigure, func(ctx context.Context) (bench.ApplyReport, error) {
		o.LogBytes = int(log)
		return bench.RunApply(ctx, o)
	}, bench.ApplyReport.WriteMarkdown)
	return cmd
}
