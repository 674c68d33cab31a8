package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/concordatdb/concordat"
	"github.com/concordatdb/concordat/bench"
)

const benchLevelsHelp = `Measure what each consistency level costs: transactions a second and latency, of
those that only read one row and of those that read and write it, in groups with
one primary and with three.

With one primary, those that read are at one member that is not the primary, and
those that write at the primary; with three, both are evenly at all. While others
only read, one client writes a row every 5 ms, so that there is something to wait
for. The two shapes are those of concordat bench.

The report is a table in Markdown: medians, and each level as a part of EVENTUAL,
measured right before; and whether what the levels aim at was reached. The
members' directories are made below --dir, which has to be on a real disk, and
removed at the end. All of it takes about four minutes.`

func newBenchLevelsCommand() *cobra.Command {
	o := bench.LevelDefaults()
	var shapes, levels, modes []string
	cmd := &cobra.Command{
		Use:   "levels",
		Short: "Measure throughput and latency at each consistency level",
		Long:  benchLevelsHelp,
		Example: `  concordat bench levels
  concordat bench levels --shapes processes --clients 64 --repeats 5
  concordat bench levels --modes single-primary --levels BEFORE,AFTER --json`,
		Args: exactArgs(),
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.StringSliceVar(&shapes, "shapes", texts(o.Shapes), "where the members run: in-process, processes")
	f.StringSliceVar(&modes, "modes", names(o.Modes), "groups: single-primary, multi-primary")
	f.StringSliceVar(&levels, "levels", names(o.Levels), "levels, beside EVENTUAL")
	f.IntSliceVar(&o.Clients, "clients", o.Clients, "how many clients")
	timingFlags(f, &o.Timing, "each row")
	f.IntVar(&o.Repeats, "repeats", o.Repeats, "how often everything is measured, in turn")
	f.IntVar(&o.Keys, "keys", o.Keys, "how many keys are preloaded")
	siteFlags(f, &o.Site)
	reports(cmd, &o.Site, withEachFigure, func(ctx context.Context) (r bench.LevelReport, err error) {
		o.Shapes = kinds[bench.Shape](shapes)
		if o.Modes, err = parseAll(modes, parseMode); err != nil {
			return r, err
		}
		if o.Levels, err = parseAll(levels, parseLevel); err != nil {
			return r, err
		}
		return bench.RunLevels(ctx, o)
	}, bench.LevelReport.WriteMarkdown)
	return cmd
}

func names[T interface{ String() string }](values []T) (out []string) {
	for _, v := range values {
		out = append(out, v.String())
	}
	return out
}

func parseAll[T any](texts []string, parse func(string) (T, error)) (out []T, err error) {
	for _, text := range texts {
		v, err := parse(text)
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	return out, nil
}

func parseMode(text string) (concordat.Mode, error) {
	for _, m := range []concordat.Mode{concordat.SinglePrimary, concordat.MultiPrimary} {
		if text == m.String() {
			return m, nil
		}
	}
	return 0, usagef("%q is no mode; choose single-primary or multi-primary", text)
}

func parseLevel(text string) (concordat.Consistency, error) {
	c, err := concordat.ParseConsistency(text)
	if err != nil {
		return c, &usageError{err}
	}
	return c, nil
}
