package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"runtime"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/concordatdb/concordat"
)

// ChangeOptions say what to measure of the change stream.
type ChangeOptions struct {
	Site
	Timing
	// Consumers is how many follow one member that is not the primary. A row with
	// none is measured with changes kept, and one without.
	Consumers []int
	// Clients write at the primary, each row of ValueBytes.
	Clients    int
	ValueBytes int
	// Repeats measures everything so often, in turn.
	Repeats int
	// Keys is the number of keys preloaded.
	Keys int
	// OldValues has the members keep old values too.
	OldValues bool
}

// ChangeDefaults returns what is measured without further word.
func ChangeDefaults() ChangeOptions {
	return ChangeOptions{
		Consumers: []int{0, 1, 8}, Clients: 64, ValueBytes: 100,
		Timing: Timing{Duration: 3 * time.Second, WarmUp: 500 * time.Millisecond}, Repeats: 3, Keys: 20_000,
	}
}

// changeRetention is more than a row writes.
const changeRetention = 1 << 30

// ChangeReport is what the change stream costs, and how far behind consumers are.
type ChangeReport struct {
	Machine Machine     `json:"machine"`
	Rows    []ChangeRow `json:"rows"`
}

// ChangeRow is one row of it. Its lists have an entry for each repeat.
type ChangeRow struct {
	Kept             bool      `json:"kept"` // members keep changes
	Consumers        int       `json:"consumers"`
	CommitsPerSecond []float64 `json:"commits_per_second"`
	// ChangesPerSecond is what each consumer got, on average. DelayP50 and DelayP99
	// are milliseconds from the commit of a transaction, before it was ordered, until
	// a consumer on the other member had it.
	ChangesPerSecond []float64 `json:"changes_per_second,omitempty"`
	DelayP50         []float64 `json:"delay_p50,omitempty"`
	DelayP99         []float64 `json:"delay_p99,omitempty"`
	// CPUMicros are those of a commit, of members, clients and consumers together.
	CPUMicros []float64 `json:"cpu_us"`
}

func (o *ChangeOptions) validate() error {
	var wrong flaws
	wrong.check(len(o.Consumers) > 0 && o.Clients > 0 && o.Repeats > 0 && o.Keys >= o.Clients && o.Duration > 0,
		"name consumers, clients, keys for each, repeats and a duration")
	return wrong.err()
}

// RunChanges measures and returns the report. It stops early when ctx ends.
func RunChanges(ctx context.Context, o ChangeOptions) (r ChangeReport, err error) {
	if err := o.validate(); err != nil {
		return r, err
	}
	dir, remove, err := o.prepare(&r.Machine)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, remove()) }()
	r.Rows = []ChangeRow{{}}
	for _, n := range o.Consumers {
		r.Rows = append(r.Rows, ChangeRow{Kept: true, Consumers: n})
	}
	// In turn, so that a noisy minute does not fall on one row.
	for i := range o.Repeats {
		for _, kept := range []bool{false, true} {
			if err := o.runGroup(ctx, filepath.Join(dir, fmt.Sprint(i, kept)), kept, r.Rows); err != nil {
				return r, err
			}
		}
	}
	return r, nil
}

// runGroup starts a group, and measures the rows of those whose members keep changes,
// or do not.
func (o *ChangeOptions) runGroup(ctx context.Context, dir string, kept bool, rows []ChangeRow) (err error) {
	g, err := startNodes(ctx, dir, concordat.SinglePrimary, func(_ int, cfg *concordat.Config) error {
		if kept {
			cfg.ChangeRetentionBytes, cfg.ChangeOldValues = changeRetention, o.OldValues
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	defer func() { err = errors.Join(err, g.close()) }()
	if err := preload(ctx, g, o.Keys, o.ValueBytes); err != nil {
		return fmt.Errorf("bench: preload: %w", err)
	}
	for i := range rows {
		if rows[i].Kept != kept {
			continue
		}
		runtime.GC() // what another row has left behind
		if err := o.measureRow(ctx, g, &rows[i]); err != nil {
			return fmt.Errorf("bench: %d consumers: %w", rows[i].Consumers, err)
		}
		last := len(rows[i].CommitsPerSecond) - 1
		o.tell("changes kept: %t, %d consumers: %.0f commits a second", kept, rows[i].Consumers, rows[i].CommitsPerSecond[last])
	}
	return nil
}

// follower is one consumer's tally.
type follower struct {
	delay *times
	err   error
}

// follow takes changes until ctx ends, and counts them while the row is measured.
func (f *follower) follow(ctx context.Context, n *concordat.Node, p *phase) {
	for c, err := range n.Changes(ctx, n.Status().Executed) {
		if err != nil {
			if ctx.Err() == nil {
				f.err = err
			}
			return
		}
		if done(p.measuring) && !done(p.over) {
			f.delay.note(time.Since(c.Time))
		}
	}
}

func (o *ChangeOptions) measureRow(ctx context.Context, g *nodes, row *ChangeRow) error {
	leader, err := g.leader(ctx)
	if err != nil {
		return err
	}
	p := newPhase()
	following, stop := context.WithCancel(ctx)
	defer stop()
	followers := make([]*follower, row.Consumers)
	var working sync.WaitGroup
	for i := range followers {
		followers[i] = &follower{delay: newTimes()}
		working.Go(func() { followers[i].follow(following, g.members[(leader+1)%Members], &p) })
	}
	l := load{Shape: InProcess, Placement: OneMember, Clients: o.Clients, ValueBytes: o.ValueBytes, keys: o.Keys}
	measured, err := o.measureIn(ctx, g, l, p)
	stop()
	working.Wait()
	if err != nil {
		return err
	}
	delays := newTimes()
	for _, f := range followers {
		if f.err != nil {
			return f.err
		}
		delays.add(f.delay)
	}
	row.CommitsPerSecond = append(row.CommitsPerSecond, measured.CommitsPerSecond)
	row.CPUMicros = append(row.CPUMicros, measured.CPUMicros)
	if len(followers) == 0 {
		return nil
	}
	row.ChangesPerSecond = append(row.ChangesPerSecond, float64(delays.count())/float64(len(followers))/measured.Seconds)
	row.DelayP50 = append(row.DelayP50, delays.percentile(50))
	row.DelayP99 = append(row.DelayP99, delays.percentile(99))
	return nil
}

// WriteMarkdown writes the report as a table: medians.
func (r ChangeReport) WriteMarkdown(w io.Writer) error {
	if len(r.Rows) == 0 || len(r.Rows[0].CommitsPerSecond) == 0 {
		return nil // the first row is what the others are compared with
	}
	p := &page{w: w}
	p.head(r.Machine)
	t := tabwriter.NewWriter(p, 0, 0, 1, ' ', 0)
	fmt.Fprintf(t, "\n| changes\t| consumers\t| commits/s\t| of none kept\t| changes/s each\t| delay p50\t| p99\t| CPU/commit\t|\n")
	fmt.Fprintf(t, "| ---\t| ---:\t| ---:\t| ---:\t| ---:\t| ---:\t| ---:\t| ---:\t|\n")
	base := median(r.Rows[0].CommitsPerSecond)
	for i := range r.Rows {
		row := &r.Rows[i]
		if len(row.CommitsPerSecond) == 0 {
			continue // it was not measured
		}
		kept, changes, p50, p99 := "not kept", "", "", ""
		if row.Kept {
			kept = "kept"
		}
		if row.Consumers > 0 {
			changes = fmt.Sprintf("%.0f", median(row.ChangesPerSecond))
			p50, p99 = shortTime(median(row.DelayP50)), shortTime(median(row.DelayP99))
		}
		commits := median(row.CommitsPerSecond)
		fmt.Fprintf(t, "| %s\t| %d\t| %.0f\t| %.0f %%\t| %s\t| %s\t| %s\t| %.0f µs\t|\n",
			kept, row.Consumers, commits, 100*commits/max(base, 1), changes, p50, p99, median(row.CPUMicros))
	}
	return t.Flush()
}
