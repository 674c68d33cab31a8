package main

import (
	"context"
	"encoding/json"
	"errors"
	"os"

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
	var asJSON, quiet bool
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
	f.StringVar(&o.Dir, "dir", "", "directory on a real `disk`; default: the working directory")
	f.BoolVar(&asJSON, "json", false, "print the report as one JSON object, with each single figure")
	f.BoolVar(&quiet, "quiet", false, "do not tell what is being measured")
	cmd.RunE = interruptible(func(ctx context.Context, cmd *cobra.Command, _ []string) error {
		o.LogBytes = int(log)
		if !quiet {
			o.Progress = cmd.ErrOrStderr()
		}
		executable, err := os.Executable()
		if err != nil {
			return err
		}
		o.Start = memberStarter(executable)
		report, err := bench.RunApply(ctx, o)
		if asJSON {
			return errors.Join(err, json.NewEncoder(cmd.OutOrStdout()).Encode(report))
		}
		return errors.Join(err, report.WriteMarkdown(cmd.OutOrStdout()))
	})
	return cmd
}
