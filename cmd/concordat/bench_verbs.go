package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/concordatdb/concordat/bench"
)

// What --json says, of a report that has medians only, and of one that keeps what
// they are made of.
const (
	oneObject      = "print the report as one JSON object"
	withEachFigure = oneObject + ", with each single figure"
)

// siteFlags makes the flag for where a benchmark works, and has it start members
// with this executable.
func siteFlags(f *pflag.FlagSet, s *bench.Site) {
	s.Start = startMember
	f.StringVar(&s.Dir, "dir", "", "directory on a real `disk`; default: the working directory")
}

// timingFlags makes those for how long each row, or whatever it is, is measured.
func timingFlags(f *pflag.FlagSet, t *bench.Timing, what string) {
	f.DurationVar(&t.Duration, "duration", t.Duration, "how long "+what+" is measured")
	f.DurationVar(&t.WarmUp, "warm-up", t.WarmUp, "how long "+what+" runs before that")
}

// reports has a command measure, and print the report: what there is of it, also when
// measuring ends with an error, but for wrong usage. It makes the flags for that,
// which are the last ones.
func reports[R any](cmd *cobra.Command, s *bench.Site, jsonUsage string, measure func(context.Context) (R, error), write func(R, io.Writer) error) {
	var asJSON, quiet bool
	f := cmd.Flags()
	f.BoolVar(&asJSON, "json", false, jsonUsage)
	f.BoolVar(&quiet, "quiet", false, "do not tell what is being measured")
	cmd.RunE = interruptible(func(ctx context.Context, cmd *cobra.Command, _ []string) error {
		if !quiet {
			s.Progress = cmd.ErrOrStderr()
		}
		report, err := measure(ctx)
		if _, wrong := errors.AsType[*usageError](err); wrong {
			return err
		}
		if asJSON {
			return errors.Join(err, json.NewEncoder(cmd.OutOrStdout()).Encode(report))
		}
		return errors.Join(err, write(report, cmd.OutOrStdout()))
	})
}
