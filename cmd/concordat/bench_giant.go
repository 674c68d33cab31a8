package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/concordatdb/concordat/bench"
)

const benchGiantHelp = `Measure what a transaction of 100 MB costs the small ones on the other members:
three members in this process, one of which commits it. At the other two, callers
commit one small transaction after the other; then the same again with small ones
that arrive at a steady rate, of which also counts what they wait for their turn:
there a standstill shows in full.

The report is a table in Markdown. The members' directories are made below --dir,
which has to be on a real disk, and removed at the end.`

func newBenchGiantCommand() *cobra.Command {
	o := bench.GiantDefaults()
	cmd := &cobra.Command{
		Use:   "giant",
		Short: "Measure small transactions while a giant one passes",
		Long:  benchGiantHelp,
		Example: `  concordat bench giant > figures.md
  concordat bench giant --bytes 20000000 --packs --repeats 1`,
		Args: exactArgs(),
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.IntVar(&o.Bytes, "bytes", o.Bytes, "size of the giant transaction")
	f.IntVar(&o.RowBytes, "row", o.RowBytes, "size of its rows")
	f.BoolVar(&o.Packs, "packs", o.Packs, "rows that zstd packs")
	f.IntVar(&o.Rate, "rate", o.Rate, "small transactions a second at each of the other members")
	f.IntVar(&o.Callers, "callers", o.Callers, "callers at each of the other members")
	f.DurationVar(&o.Before, "before", o.Before, "how long they arrive before the giant is committed")
	f.IntVar(&o.Repeats, "repeats", o.Repeats, "how often everything is measured")
	siteFlags(f, &o.Site)
	reports(cmd, &o.Site, oneObject, func(ctx context.Context) (bench.GiantReport, error) {
		return bench.RunGiant(ctx, o)
	}, bench.GiantReport.WriteMarkdown)
	return cmd
}
