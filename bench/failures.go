package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
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
	Site
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
}

// FailureDefaults returns what docs/operations.md has figures of.
func FailureDefaults() FailureOptions {
	return FailureOptions{
		Failures: []Failure{FollowerKilled, LeaderKilled, BehindInLog, Copied},
		Repeats:  20, Transactions: 1_000_000, LogBytes: 256 << 20, StoreBytes: 1 << 30,
	}
}

func (o *FailureOptions) validate() error {
	var wrong flaws
	wrong.check(len(o.Failures) > 0, "name at least one failure")
	for _, f := range o.Failures {
		wrong.check(slices.Contains(FailureDefaults().Failures, f), "unknown failure %q; choose follower, leader, log or clone", f)
	}
	wrong.checkRepeats(o.Repeats)
	wrong.check(o.Transactions > 0, "%d transactions are nothing to miss", o.Transactions)
	wrong.check(o.LogBytes >= 0, "a log of %d bytes cannot be", o.LogBytes)
	wrong.check(o.StoreBytes >= 1<<20, "a store of %d bytes is in no need of a copy; choose 1 MiB or more", o.StoreBytes)
	wrong.checkStart(o.Start)
	return wrong.err()
}

// RunFailures measures and returns the report. It stops early when ctx ends.
func RunFailures(ctx context.Context, o FailureOptions) (r FailureReport, err error) {
	if err := o.validate(); err != nil {
		return r, err
	}
	dir, remove, err := o.prepare(&r.Machine)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, remove()) }()
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
	p := &page{w: w}
	p.head(r.Machine)
	p.printf("| what | times | median | worst | |\n")
	p.printf("| --- | ---: | ---: | ---: | --- |\n")
	for _, row := range r.Rows {
		p.printf("| %s | %d | %s | %s | %s |\n", failureTexts[row.Failure], len(row.Seconds),
			timeText(median(row.Seconds)), timeText(slices.Max(row.Seconds)), row.remarks())
	}
	return p.err
}

func (r *FailureRow) remarks() (said remarks) {
	if r.Note != "" {
		said.add("%s", r.Note)
	}
	if len(r.Quiet) > 0 {
		said.add("with nothing killed, as long: %s and %s", timeText(median(r.Quiet)), timeText(slices.Max(r.Quiet)))
	}
	if r.Bytes > 0 {
		said.add("%.0f MiB, %.0f MiB/s at the median", r.Bytes/(1<<20), r.Bytes/(1<<20)/median(r.Seconds))
	}
	if r.CPU > 0 {
		said.add("all members together keep up to %.1f processors busy", r.CPU)
	}
	if r.DiskBytesPerSecond > 0 {
		said.add("the disk takes one stream at %.0f MiB/s", r.DiskBytesPerSecond/(1<<20))
	}
	said.noise(r.Background)
	return said
}
