package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
)

// Failure is something that happens to a member, and is measured.
type Failure string

// The failures. Each group has three members, each a process, with the default
// settings.
const (
	// FollowerKilled ends a member with SIGKILL that does not lead raft.
	FollowerKilled Failure = "follower"
	// LeaderKilled ends the one that does.
	LeaderKilled Failure = "leader"
	// BehindInLog starts a member again that has missed many transactions, which
	// the others' logs still have.
	BehindInLog Failure = "log"
	// Copied starts a new member that copies a large store.
	Copied Failure = "clone"
)

// FailureOptions say what to measure.
type FailureOptions struct {
	Failures []Failure
	// Repeats is how often each is measured.
	Repeats int
	// Transactions is how many a member has missed that comes back.
	Transactions int
	// LogBytes is the CheckpointBytes of that group, 0 for the default: three
	// times as much log is kept.
	LogBytes int
	// StoreBytes is about how large the store is that a new member copies.
	StoreBytes int
	// Dir is where the members' directories are made; empty: below the working
	// directory. It should be on a real disk.
	Dir string
	// Start starts a member as a process of its own.
	Start StartMember
	// Progress is told what is being measured. nil is silent.
	Progress io.Writer
}

// FailureDefaults returns what docs/operations.md has figures of.
func FailureDefaults() FailureOptions {
	return FailureOptions{
		Failures: []Failure{FollowerKilled, LeaderKilled, BehindInLog, Copied},
		Repeats:  20, Transactions: 1_000_000, LogBytes: 256 << 20, StoreBytes: 1 << 30,
	}
}

func (o *FailureOptions) validate() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf("bench: "+format, args...))
		}
	}
	check(len(o.Failures) > 0, "name at least one failure")
	for _, f := range o.Failures {
		check(slices.Contains(FailureDefaults().Failures, f), "unknown failure %q; choose follower, leader, log or clone", f)
	}
	check(o.Repeats > 0, "%d repeats measure nothing", o.Repeats)
	check(o.Transactions > 0, "%d transactions are nothing to miss", o.Transactions)
	check(o.LogBytes >= 0, "a log of %d bytes cannot be", o.LogBytes)
	check(o.StoreBytes >= 1<<20, "a store of %d bytes is in no need of a copy; choose 1 MiB or more", o.StoreBytes)
	check(o.Start != nil, "no way to start member processes")
	return errors.Join(errs...)
}

// RunFailures measures and returns the report. It stops early when ctx ends.
func RunFailures(ctx context.Context, o FailureOptions) (r FailureReport, err error) {
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
	r.Machine = inspect(dir)
	r.Machine.warn(o.Progress, dir)
	measures := map[Failure]func(context.Context, string) (FailureRow, error){
		FollowerKilled: func(ctx context.Context, dir string) (FailureRow, error) { return o.kills(ctx, dir, false) },
		LeaderKilled:   func(ctx context.Context, dir string) (FailureRow, error) { return o.kills(ctx, dir, true) },
		BehindInLog:    o.behind, Copied: o.copies,
	}
	for _, f := range o.Failures {
		before := background(ctx)
		row, err := measures[f](ctx, filepath.Join(dir, string(f)))
		if err != nil {
			return r, fmt.Errorf("bench: %s: %w", f, err)
		}
		row.Failure, row.Background = f, max(before, background(ctx))
		r.Rows = append(r.Rows, row)
	}
	return r, nil
}

// FailureRow is what one failure led to, once for each repetition.
type FailureRow struct {
	Failure Failure `json:"failure"`
	// Seconds are what was measured: the longest time without a commit on a
	// survivor, or the time from the start of the process until it was ONLINE.
	Seconds []float64 `json:"seconds"`
	// Quiet are, for members that were killed, the longest times without a
	// commit for as long before.
	Quiet []float64 `json:"quiet_seconds,omitempty"`
	// Bytes is what was copied.
	Bytes float64 `json:"bytes,omitempty"`
	// CPU is how many processors the members kept busy, at most.
	CPU float64 `json:"cpus,omitempty"`
	// DiskBytesPerSecond is what the disk writes in one stream, with an fsync at
	// the end, where that was measured.
	DiskBytesPerSecond float64 `json:"disk_bytes_per_second,omitempty"`
	// Note says what else there is to know.
	Note string `json:"note,omitempty"`
	// Background is how busy the machine was before and after, in percent of
	// all cores, from other causes.
	Background float64 `json:"background_pct"`
}

// FailureReport is what RunFailures measured.
type FailureReport struct {
	Machine Machine      `json:"machine"`
	Rows    []FailureRow `json:"rows"`
}

var failureTexts = map[Failure]string{
	FollowerKilled: "SIGKILL of a follower: longest time without a commit on a survivor",
	LeaderKilled:   "SIGKILL of the raft leader: longest time without a commit on a survivor",
	BehindInLog:    "restart, until ONLINE from the log",
	Copied:         "new member, until ONLINE with a copy",
}

// WriteMarkdown writes the report as a table of a document.
func (r FailureReport) WriteMarkdown(w io.Writer) error {
	r.Machine.head(w)
	fmt.Fprintln(w, "| what | times | median | worst | |")
	fmt.Fprintln(w, "| --- | ---: | ---: | ---: | --- |")
	for _, row := range r.Rows {
		fmt.Fprintf(w, "| %s | %d | %s | %s | %s |\n", failureTexts[row.Failure], len(row.Seconds),
			timeText(median(row.Seconds)), timeText(slices.Max(row.Seconds)), row.remarks())
	}
	return nil
}

func (r *FailureRow) remarks() string {
	var parts []string
	add := func(format string, args ...any) { parts = append(parts, fmt.Sprintf(format, args...)) }
	if r.Note != "" {
		add("%s", r.Note)
	}
	if len(r.Quiet) > 0 {
		add("with nothing killed, as long: %s and %s", timeText(median(r.Quiet)), timeText(slices.Max(r.Quiet)))
	}
	if r.Bytes > 0 {
		add("%.0f MiB, %.0f MiB/s at the median", r.Bytes/(1<<20), r.Bytes/(1<<20)/median(r.Seconds))
	}
	if r.CPU > 0 {
		add("all members together keep up to %.1f processors busy", r.CPU)
	}
	if r.DiskBytesPerSecond > 0 {
		add("the disk takes one stream at %.0f MiB/s", r.DiskBytesPerSecond/(1<<20))
	}
	if r.Background >= noisyFrom {
		add("NOISY: the machine was %.0f %% busy with something else", r.Background)
	}
	return strings.Join(parts, "; ")
}

// median returns the middle value, the lower one of two.
func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[(len(sorted)-1)/2]
}

func timeText(seconds float64) string {
	if seconds < 1 {
		return fmt.Sprintf("%.0f ms", 1000*seconds)
	}
	return fmt.Sprintf("%.2f s", seconds)
}
