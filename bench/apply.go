package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"

	"github.com/concordatdb/concordat"
)

// ApplyOptions say how the return of a member that has missed much is measured.
type ApplyOptions struct {
	Site
	// Workers are the values of ApplyWorkers to compare.
	Workers []int
	// Repeats measures each so often, in turn.
	Repeats int
	// Transactions is how many the member has missed, of one row each.
	Transactions int
	// LogBytes is the CheckpointBytes of the group: three times as much log is kept.
	LogBytes int
}

// ApplyDefaults returns what docs/applying.md speaks of.
func ApplyDefaults() ApplyOptions {
	return ApplyOptions{Workers: []int{1, 2, 3, 4}, Repeats: 3, Transactions: 1_000_000, LogBytes: 256 << 20}
}

func (o *ApplyOptions) validate() error {
	var wrong flaws
	wrong.check(len(o.Workers) > 0, "name at least one number of workers")
	for _, n := range o.Workers {
		wrong.check(n > 0, "%d workers apply nothing", n)
	}
	wrong.checkRepeats(o.Repeats)
	wrong.check(o.Transactions > 0, "%d transactions are nothing to miss", o.Transactions)
	wrong.check(o.LogBytes > 0, "a log of %d bytes cannot be", o.LogBytes)
	wrong.checkStart(o.Start)
	return wrong.err()
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
	dir, remove, err := o.prepare(&r.Machine)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, remove()) }()
	r.Transactions = o.Transactions
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
	g, err := startProcesses(ctx, dir, MemberOptions{Mode: concordat.MultiPrimary, CheckpointBytes: o.LogBytes}, o.Start)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, g.close()) }()
	o.tell("writing %d transactions", o.Transactions)
	victim, err := g.leaveBehind(ctx, o.Transactions)
	if err != nil {
		return err
	}
	for range o.Repeats {
		for i := range rows {
			row := &rows[i]
			took, cpu, err := victim.comeBack(ctx, row.Workers)
			if err != nil {
				return err
			}
			row.Seconds, row.CPU = append(row.Seconds, took.Seconds()), append(row.CPU, cpu.Seconds())
			o.tell("%d workers: ONLINE after %s, %s of CPU", row.Workers, timeText(took.Seconds()), timeText(cpu.Seconds()))
		}
	}
	return nil
}

// WriteMarkdown writes the report as a table of a document.
func (r ApplyReport) WriteMarkdown(w io.Writer) error {
	p := &page{w: w}
	p.head(r.Machine)
	p.printf("A member that was killed and has missed %d transactions, from its start until it is ONLINE.\n\n", r.Transactions)
	p.printf("| workers | times | median | worst | transactions a second | its CPU |\n")
	p.printf("| ---: | ---: | ---: | ---: | ---: | ---: |\n")
	for _, row := range r.Rows {
		if len(row.Seconds) == 0 {
			continue
		}
		m := median(row.Seconds)
		p.printf("| %d | %d | %s | %s | %.0f | %s |\n", row.Workers, len(row.Seconds), timeText(m),
			timeText(slices.Max(row.Seconds)), float64(r.Transactions)/m, timeText(median(row.CPU)))
	}
	if text := noise(r.Background); text != "" {
		p.printf("\n%s.\n", text)
	}
	return p.err
}
