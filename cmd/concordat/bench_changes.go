package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/concordatdb/concordat/bench"
)

const benchChangesHelp = `Measure what the change stream costs: commits a second at the primary of a group of
three in this process, with changes not kept, kept, and kept and followed by consumers
of one other member; and how long after its commit began a transaction came to a
consumer there.

The report is a table in Markdown, of medians. The members' directories are made below
--dir, which has to be on a real disk, and removed at the end.`

func newBenchChangesCommand() *cobra.Command {
	o := bench.ChangeDefaults()
	cmd := &cobra.Command{
		Use:   "changes",
		Short: "Measure what consumers of the change stream cost",
		Long:  benchChangesHelp,
		Example: `  concordat bench changes
  concordat bench changes --consumers 0,1,8 --old-values --repeats 5`,
		Args: exactArgs(),
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.IntSliceVar(&o.Consumers, "consumers", o.Consumers, "how many consumers")
	f.IntVar(&o.Clients, "clients", o.Clients, "how many clients write")
	f.IntVar(&o.ValueBytes, "value", o.ValueBytes, "size of a value in bytes")
	f.BoolVar(&o.OldValues, "old-values", o.OldValues, "keep old values too")
	timingFlags(f, &o.Timing, "each row")
	f.IntVar(&o.Repeats, "repeats", o.Repeats, "how often everything is measured, in turn")
	f.IntVar(&o.Keys, "keys", o.Keys, "how many keys are preloaded")
	siteFlags(f, &o.Site)
	reports(cmd, &o.Site, withEachFigure, func(ctx context.Context) (bench.ChangeReport, error) {
		return bench.RunChanges(ctx, o)
	}, bench.ChangeReport.WriteMarkdown)
	return cmd
}
