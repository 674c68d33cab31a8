package main

import (
	"context"
	"encoding/json"
	"errors"

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
	var asJSON, quiet bool
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
	f.DurationVar(&o.Duration, "duration", o.Duration, "how long each is measured")
	f.DurationVar(&o.WarmUp, "warm-up", o.WarmUp, "how long each runs before that")
	f.IntVar(&o.Repeats, "repeats", o.Repeats, "how often everything is measured, in turn")
	f.StringVar(&o.Dir, "dir", "", "directory on a real `disk`; default: the working directory")
	f.BoolVar(&asJSON, "json", false, "print the report as one JSON object, with each single figure")
	f.BoolVar(&quiet, "quiet", false, "do not tell what is being measured")
	cmd.RunE = interruptible(func(ctx context.Context, cmd *cobra.Command, _ []string) error {
		if o.Bytes = int(bytes); !quiet {
			o.Progress = cmd.ErrOrStderr()
		}
		report, err := bench.RunChecks(ctx, o)
		if asJSON {
			return errors.Join(err, json.NewEncoder(cmd.OutOrStdout()).Encode(report))
		}
		return errors.Join(err, report.WriteMarkdown(cmd.OutOrStdout()))
	})
	return cmd
}
