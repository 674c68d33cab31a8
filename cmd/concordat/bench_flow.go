package main

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"github.com/concordatdb/concordat"
	"github.com/concordatdb/concordat/bench"
)

const benchFlowHelp = `Measure what flow control does when one of three writers' stores becomes slow: a
third, say, of what the group does without that is all it can. Clients write at
all three members as fast as they are let.

The report is a table in Markdown: what was committed each second, how far the
slow member is behind, and how many had to wait. DISABLED shows what happens
without flow control, and QUOTA the formula of Group Replication. The members'
directories are made below --dir, which has to be on a real disk, and removed at
the end. All of it takes about two minutes.`

func newBenchFlowCommand() *cobra.Command {
	o := bench.FlowDefaults()
	var modes []string
	cmd := &cobra.Command{
		Use:   "flow",
		Short: "Measure flow control while one of three members is slow",
		Long:  benchFlowHelp,
		Example: `  concordat bench flow
  concordat bench flow --modes ADAPTIVE --duration 60s --json`,
		Args: exactArgs(),
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.StringSliceVar(&modes, "modes", names(o.Modes), "modes of flow control: ADAPTIVE, QUOTA, DISABLED")
	f.IntVar(&o.Clients, "clients", o.Clients, "how many clients, over all members")
	f.Float64Var(&o.Factor, "factor", o.Factor, "by how much the slow member is slower than the group was")
	f.DurationVar(&o.WarmUp, "warm-up", o.WarmUp, "how long the group runs before one is slowed")
	f.DurationVar(&o.Duration, "duration", o.Duration, "how long each mode is measured after that")
	f.IntVar(&o.Keys, "keys", o.Keys, "how many keys are preloaded")
	siteFlags(f, &o.Site)
	reports(cmd, &o.Site, oneObject, func(ctx context.Context) (r bench.FlowReport, err error) {
		if o.Modes, err = parseAll(modes, parseFlowMode); err != nil {
			return r, err
		}
		return bench.RunFlow(ctx, o)
	}, bench.FlowReport.WriteMarkdown)
	return cmd
}

func parseFlowMode(text string) (concordat.FlowControlMode, error) {
	m, err := concordat.ParseFlowControlMode(strings.ToUpper(text))
	if err != nil {
		return m, &usageError{err}
	}
	return m, nil
}
