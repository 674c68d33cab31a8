package bench

import (
	"fmt"
	"io"
	"text/tabwriter"
	"time"
)

// Row is one measurement.
type Row struct {
	load
	Seconds          float64 `json:"seconds"`
	Commits          int64   `json:"commits"`
	CommitsPerSecond float64 `json:"commits_per_second"`
	Conflicts        int     `json:"conflicts"`
	// FalselyRefused counts, of the conflicts on scanned ranges, those with a
	// write outside of the range.
	FalselyRefused int     `json:"falsely_refused"`
	Errors         int     `json:"errors"`
	P50            float64 `json:"p50_ms"`
	P99            float64 `json:"p99_ms"`
	P999           float64 `json:"p999_ms"`
	Max            float64 `json:"max_ms"`
	// CPUMicros is CPU time per commit over all members and the load.
	CPUMicros float64 `json:"cpu_us_per_commit"`
	// LogWrites is group commits of the members' logs per commit: each has one
	// fsync.
	LogWrites float64 `json:"log_fsyncs_per_commit"`
	// DiskFlushes is what the disks report, of everything on the machine.
	// Negative if they report nothing.
	DiskFlushes float64 `json:"disk_flushes_per_commit"`
	// BackgroundBefore and BackgroundAfter are how busy the machine was just
	// before and after, in percent of all cores, from other causes.
	BackgroundBefore float64 `json:"background_before_pct"`
	BackgroundAfter  float64 `json:"background_after_pct"`

	cpu       time.Duration
	logWrites uint64
	flushes   uint64
	noFlushes bool
}

// Noisy reports whether other work disturbed the row.
func (r Row) Noisy() bool { return max(r.BackgroundBefore, r.BackgroundAfter) >= noisyFrom }

func (r *Row) diskFlushes() uint64 {
	n, ok := deviceFlushes()
	r.noFlushes = !ok
	return n
}

// tally sums the clients up.
func (r *Row) tally(clients []*caller) {
	all := newTimes()
	for _, c := range clients {
		all.add(c.latency)
		r.Conflicts += c.conflicts
		r.Errors += c.errors
	}
	r.FalselyRefused = falselyRefused(clients)
	r.Commits = all.count()
	r.CommitsPerSecond = float64(r.Commits) / r.Seconds
	r.P50, r.P99 = all.percentile(50), all.percentile(99)
	r.P999, r.Max = all.percentile(99.9), all.worst()
	per := max(1, float64(r.Commits))
	r.CPUMicros = float64(r.cpu.Microseconds()) / per
	r.LogWrites = float64(r.logWrites) / per
	r.DiskFlushes = float64(r.flushes) / per
	if r.noFlushes {
		r.DiskFlushes = -1
	}
}

// Report is what Run measured.
type Report struct {
	Machine Machine `json:"machine"`
	Rows    []Row   `json:"rows"`
}

// WriteTable writes the report for people.
func (r Report) WriteTable(w io.Writer) error {
	p := &page{w: w}
	p.printf("%s\n", r.Machine)
	if r.Machine.Volatile {
		p.printf("NOT DURABLE: the members' directories are in memory\n")
	}
	p.printf("%d members, commits on the disks of a majority; CPU and fsyncs over everything; * = noisy machine\n\n", Members)
	t := tabwriter.NewWriter(p, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "shape\tclients\tat\tvalue\tcommits/s\tp50 ms\tp99 ms\tp99.9 ms\tmax ms\tCPU µs/commit\tlog fsyncs/commit\tdisk flushes/commit\tconflicts\terrors\t\t")
	for _, row := range r.Rows {
		mark := ""
		if row.Noisy() {
			mark = "*"
		}
		fmt.Fprintf(t, "%s\t%d\t%s\t%d\t%.0f\t%.2f\t%.2f\t%.2f\t%.1f\t%.1f\t%.3f\t%.3f\t%s\t%d\t%s\t\n",
			row.Shape, row.Clients, row.at(), row.ValueBytes, row.CommitsPerSecond,
			row.P50, row.P99, row.P999, row.Max, row.CPUMicros, row.LogWrites, row.DiskFlushes,
			row.conflictShare(), row.Errors, mark)
	}
	return t.Flush()
}

func (r Row) at() string {
	switch {
	case r.ScanShare > 0:
		return fmt.Sprintf("scans %g %%", 100*r.ScanShare)
	case r.Adds:
		return fmt.Sprintf("%d added to", r.HotKeys)
	case r.HotKeys > 0 && r.ReadFirst:
		return fmt.Sprintf("%d hot, read", r.HotKeys)
	case r.HotKeys > 0:
		return fmt.Sprintf("%d hot", r.HotKeys)
	}
	return string(r.Placement)
}

func (r Row) conflictShare() string {
	if r.Conflicts == 0 {
		return "0"
	}
	share := fmt.Sprintf("%d (%.1f %%)", r.Conflicts, 100*float64(r.Conflicts)/float64(int64(r.Conflicts)+r.Commits))
	if r.ScanShare > 0 {
		share += fmt.Sprintf(", %d falsely", r.FalselyRefused)
	}
	return share
}
