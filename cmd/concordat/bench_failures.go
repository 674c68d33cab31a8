package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/concordatdb/concordat/bench"
)

const benchFailuresHelp = `Measure what failures cost: three members, each a process with the default
settings, on this machine.

  follower  SIGKILL of a member that does not lead raft. A client on each of the
            others writes one row after the other; what counts is the longest
            time without a commit on either, until the group has expelled the
            member.
  leader    the same for the one that leads.
  log       a member is killed, misses --transactions, and is started again; what
            counts is the time until it is ONLINE. The group has --log-size as
            its checkpoint-size, so that its log keeps them all.
  clone     a new member joins a group with --store-size of data, which it has to
            copy; what counts is the time until it is ONLINE.

The report is a table in Markdown: median and worst. The members' directories are
made below --dir, which has to be on a real disk with room for five stores, and
removed at the end. All of it takes most of an hour.`

func newBenchFailuresCommand() *cobra.Command {
	o := bench.FailureDefaults()
	var failures []string
	store, log := size(o.StoreBytes), size(o.LogBytes)
	cmd := &cobra.Command{
		Use:   "failures",
		Short: "Measure what killed members cost, and how fast they come back",
		Long:  benchFailuresHelp,
		Example: `  concordat bench failures > figures.md
  concordat bench failures --only follower,leader --repeats 5
  concordat bench failures --only log,clone --repeats 2 --transactions 10000 --store-size 256MiB`,
		Args: exactArgs(),
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.StringSliceVar(&failures, "only", texts(o.Failures), "what to measure")
	f.IntVar(&o.Repeats, "repeats", o.Repeats, "how often each is measured")
	f.IntVar(&o.Transactions, "transactions", o.Transactions, "how many the member misses that comes back from the log")
	f.Var(&log, "log-size", "checkpoint-size of that group; three times as much log is kept")
	f.Var(&store, "store-size", "how much a new member has to copy")
	siteFlags(f, &o.Site)
	reports(cmd, &o.Site, withEachFigure, func(ctx context.Context) (bench.FailureReport, error) {
		o.Failures, o.StoreBytes, o.LogBytes = kinds[bench.Failure](failures), int(store), int(log)
		return bench.RunFailures(ctx, o)
	}, bench.FailureReport.WriteMarkdown)
	return cmd
}
