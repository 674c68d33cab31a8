package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// ApplyOptions say how the return of a member that has missed much is measured.
type ApplyOptions struct {
	// Workers are the values of ApplyWorkers to compare.
	Workers []int
	// Repeats measures each so often, in turn.
	Repeats int
	// Transactions is how many the member has missed, of one row each.
	Transactions int
	// LogBytes is the CheckpointBytes of the group: three times as much log is kept.
	LogBytes int
	// Dir is where the members' directories are made; empty: below the working
	// directory. It should be on a real disk.
	Dir string
	// Start starts a member as a process of its own.
	Start StartMember
	// Progress is told what is being measured. nil is silent.
	Progress io.Writer
}

// ApplyDefaults returns what docs/applying.md speaks of.
func ApplyDefaults() ApplyOptions {
	return ApplyOptions{Workers: []int{1, 2, 3, 4}, Repeats: 3, Transactions: 1_000_000, LogBytes: 256 << 20}
}

func (o *ApplyOptions) validate() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf("bench: "+format, args...))
		}
	}
	check(len(o.Workers) > 0, "name at least one number of workers")
	for _, n := range o.Workers {
		check(n > 0, "%d workers apply nothing", n)
	}
	check(o.Repeats > 0, "%d repeats measure nothing", o.Repeats)
	check(o.Transactions > 0, "%d transactions are nothing to miss", o.Transactions)
	check(o.LogBytes > 0, "a log of %d bytes cannot be", o.LogBytes)
	check(o.Start != nil, "no way to start member processes")
	return errors.Join(errs...)
}

// ApplyRow is how a member came back with so many workers.
type ApplyRow struct {
	Workers int `json:"workers"`
	// Seconds are the times from the start of the process until it was ONLINE.
	Seconds []float64 `json:"seconds"`
	// CPU is the processor time that it used for that, in seconds.
	CPU []float64 `json:"cpu_seconds"`
}

// ApplyReport is what RunApply measured.
type ApplyReport struct {
	Machine      Machine    `json:"machine"`
	Transactions int        `json:"transactions"`
	Rows         []ApplyRow `json:"rows"`
	// Background is how busy the machine was before and after, in percent of all
	// cores, from other causes.
	Background float64 `json:"background_pct"`
}

// RunApply measures how fast a member comes back that was killed, and has missed
// transactions that are all in the others' logs. They are written once; for each
// run the member's directory is put back to what it was, once the group has
// expelled it.
func RunApply(ctx context.Context, o ApplyOptions) (r ApplyReport, err error) {
	if err := o.validate(); err != nil {
		return r, err
	}
	if o.Progress == nil {
		o.Progress = io.Discard
	}
	dir, remove, err := scratch(o.Dir)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, remove()) }()
	r.Machine, r.Transactions = inspect(dir), o.Transactions
	r.Machine.warn(o.Progress, dir)
	for _, n := range o.Workers {
		r.Rows = append(r.Rows, ApplyRow{Workers: n})
	}
	before := background(ctx)
	if err := o.measure(ctx, filepath.Join(dir, "apply"), r.Rows); err != nil {
		return r, fmt.Errorf("bench: apply: %w", err)
	}
	r.Background = max(before, background(ctx))
	return r, nil
}

func (o *ApplyOptions) measure(ctx context.Context, dir string, rows []ApplyRow) (err error) {
	failures := FailureOptions{Start: o.Start, Progress: o.Progress}
	g, err := failures.found(ctx, dir, o.LogBytes)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, g.close()) }()
	_, victim, err := g.leads(ctx)
	if err != nil {
		return err
	}
	if err := victim.kill(); err != nil {
		return err
	}
	kept := victim.dir + ".kept"
	if err := os.CopyFS(kept, os.DirFS(victim.dir)); err != nil {
		return err
	}
	fmt.Fprintf(o.Progress, "writing %d transactions\n", o.Transactions)
	if err := g.produce(ctx, victim, o.Transactions); err != nil {
		return err
	}
	for range o.Repeats {
		for i := range rows {
			if err := g.gone(ctx, victim); err != nil {
				return err
			}
			if err := errors.Join(os.RemoveAll(victim.dir), os.CopyFS(victim.dir, os.DirFS(kept))); err != nil {
				return err
			}
			if err := o.comeBack(ctx, g, victim, &rows[i]); err != nil {
				return err
			}
		}
	}
	return nil
}

// comeBack starts the member, waits until it is ONLINE, and kills it again.
func (o *ApplyOptions) comeBack(ctx context.Context, g *trio, victim *trioMember, row *ApplyRow) error {
	began := time.Now()
	err := victim.start(ctx, o.Start, MemberOptions{
		Dir: victim.dir, Earlier: victim.process, CheckpointBytes: g.log, ApplyWorkers: row.Workers,
	})
	if err != nil {
		return err
	}
	took := time.Since(began).Seconds()
	cpu, err := processCPU(victim.process.PID())
	if err != nil {
		return err
	}
	if size, err := copiedBytes(ctx, victim.client); err != nil || size > 0 {
		return errors.Join(err, fmt.Errorf("it came back with a copy of %d bytes: the log did not reach so far, give a larger one", size))
	}
	row.Seconds, row.CPU = append(row.Seconds, took), append(row.CPU, cpu.Seconds())
	fmt.Fprintf(o.Progress, "%d workers: ONLINE after %s, %s of CPU\n", row.Workers, timeText(took), timeText(cpu.Seconds()))
	return victim.kill()
}

// WriteMarkdown writes the report as a table of a document.
func (r ApplyReport) WriteMarkdown(w io.Writer) error {
	r.Machine.head(w)
	fmt.Fprintf(w, "A member that was killed and has missed %d transactions, from its start until it is ONLINE.\n\n", r.Transactions)
	fmt.Fprintln(w, "| workers | times | median | worst | transactions a second | its CPU |")
	fmt.Fprintln(w, "| ---: | ---: | ---: | ---: | ---: | ---: |")
	for _, row := range r.Rows {
		if len(row.Seconds) == 0 {
			continue
		}
		m := median(row.Seconds)
		fmt.Fprintf(w, "| %d | %d | %s | %s | %.0f | %s |\n", row.Workers, len(row.Seconds), timeText(m),
			timeText(slices.Max(row.Seconds)), float64(r.Transactions)/m, timeText(median(row.CPU)))
	}
	if r.Background >= noisyFrom {
		fmt.Fprintf(w, "\nNOISY: the machine was %.0f %% busy with something else.\n", r.Background)
	}
	return nil
}
