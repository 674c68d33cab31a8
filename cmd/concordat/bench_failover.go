package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/concordatdb/concordat/bench"
)

const benchFailoverHelp = `Measure how long nobody can write when the primary goes: three members, each a
process with the default settings, one of them primary, and a client that knows
nothing but their addresses. Its writers each write one row after the other, and
what counts is the longest time that one of them is without a commit.

  kill    SIGKILL of the primary. It is started again once the group has expelled
          it.
  stop    SIGSTOP of the primary, and SIGCONT a second after another one has taken
          over. Writes that waited at the stopped one meanwhile have to be refused.
  cut     the primary's network goes, to members and clients alike, until the group
          has expelled it.
  switch  a planned change of the primary.

At the end of each repetition every write that was acknowledged has to be on every
member, and none that was refused: what is missing is an error.

The report is a table in Markdown: median and worst, and the same of 3 seconds in
which nothing is done. The members' directories are made below --dir, which has to
be on a real disk, and removed at the end. All of it takes about 25 minutes.`

func newBenchFailoverCommand() *cobra.Command {
	o := bench.FailoverDefaults()
	var events []string
	cmd := &cobra.Command{
		Use:   "failover",
		Short: "Measure how long nobody can write when the primary goes",
		Long:  benchFailoverHelp,
		Example: `  concordat bench failover > figures.md
  concordat bench failover --repeats 5 --only kill,switch
  concordat bench failover --only stop --json`,
		Args: exactArgs(),
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.StringSliceVar(&events, "only", texts(o.Events), "what to measure")
	f.IntVar(&o.Repeats, "repeats", o.Repeats, "how often each is measured")
	f.IntVar(&o.Writers, "writers", o.Writers, "writers of the client, each with one write under way")
	siteFlags(f, &o.Site)
	reports(cmd, &o.Site, withEachFigure, func(ctx context.Context) (bench.FailoverReport, error) {
		o.Events = kinds[bench.Event](events)
		return bench.RunFailover(ctx, o)
	}, bench.FailoverReport.WriteMarkdown)
	return cmd
}
