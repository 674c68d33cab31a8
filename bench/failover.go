package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
)

// Event is what happens to the primary of a group, and is measured.
type Event string

// The events. Each group has three members, each a process, with the default
// settings, and one primary.
const (
	// PrimaryKilled ends it with SIGKILL.
	PrimaryKilled Event = "kill"
	// PrimaryStopped stops it with SIGSTOP, and has it go on with SIGCONT when
	// another one is primary.
	PrimaryStopped Event = "stop"
	// PrimaryCut cuts it off from members and clients alike.
	PrimaryCut Event = "cut"
	// PrimarySwitched makes another member primary, as planned.
	PrimarySwitched Event = "switch"
)

// FailoverOptions say what to measure.
type FailoverOptions struct {
	Site
	Events []Event
	// Repeats is how often each is measured.
	Repeats int
	// Writers is how many writers the client has, each with one write under way.
	Writers int
}

// FailoverDefaults returns what docs/operations.md has figures of.
func FailoverDefaults() FailoverOptions {
	return FailoverOptions{
		Events:  []Event{PrimaryKilled, PrimaryStopped, PrimaryCut, PrimarySwitched},
		Repeats: 20, Writers: 4,
	}
}

func (o *FailoverOptions) validate() error {
	var wrong flaws
	wrong.check(len(o.Events) > 0, "name at least one event")
	for _, e := range o.Events {
		wrong.check(slices.Contains(FailoverDefaults().Events, e), "unknown event %q; choose kill, stop, cut or switch", e)
	}
	wrong.checkRepeats(o.Repeats)
	wrong.check(o.Writers > 0, "%d writers notice nothing", o.Writers)
	wrong.checkStart(o.Start)
	return wrong.err()
}

// RunFailover measures and returns the report. It stops early when ctx ends, and
// fails when a promise is broken: when an acknowledged write is missing, or one
// that was refused is there.
func RunFailover(ctx context.Context, o FailoverOptions) (r FailoverReport, err error) {
	if err := o.validate(); err != nil {
		return r, err
	}
	dir, remove, err := o.prepare(&r.Machine)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, remove()) }()
	for _, e := range o.Events {
		before := background(ctx)
		row, err := o.measure(ctx, e, filepath.Join(dir, string(e)))
		row.Background = max(before, background(ctx))
		if len(row.Seconds) > 0 {
			r.Rows = append(r.Rows, row)
		}
		if err != nil {
			return r, fmt.Errorf("bench: %s: %w", e, err)
		}
	}
	return r, nil
}

// measure measures one event on a group of its own.
func (o *FailoverOptions) measure(ctx context.Context, e Event, dir string) (row FailoverRow, err error) {
	row.Event = e
	s, err := o.stage(ctx, dir)
	if err != nil {
		return row, err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	for i := range o.Repeats {
		gap, quiet, err := s.act(ctx, e, i, &row)
		if err != nil {
			return row, fmt.Errorf("repetition %d: %w", i+1, err)
		}
		row.Seconds, row.Quiet = append(row.Seconds, gap.Seconds()), append(row.Quiet, quiet.Seconds())
		o.tell("%s %d of %d: %s without a commit, %s before",
			e, i+1, o.Repeats, timeText(gap.Seconds()), timeText(quiet.Seconds()))
	}
	return row, nil
}

// FailoverRow is what one event led to, once for each repetition.
type FailoverRow struct {
	Event Event `json:"event"`
	// Seconds are the longest times that a writer was without a commit, as the
	// client told it.
	Seconds []float64 `json:"seconds"`
	// Quiet are the longest times without one before, in a time in which nothing
	// was done.
	Quiet []float64 `json:"quiet_seconds"`
	// Acknowledged are the writes of which the client said that they are
	// committed. All of them were there at the end, on each member.
	Acknowledged int `json:"acknowledged"`
	// Unknown are those of which it could not say what became of them, and Refused
	// those of which it said that nothing happened.
	Unknown int `json:"unknown"`
	Refused int `json:"refused"`
	// Stale are writes that waited at a stopped primary until it went on, all of
	// which were refused.
	Stale int `json:"stale,omitempty"`
	// Background is how busy the machine was before and after, in percent of
	// all cores, from other causes.
	Background float64 `json:"background_pct"`
}

// FailoverReport is what RunFailover measured.
type FailoverReport struct {
	Machine Machine       `json:"machine"`
	Rows    []FailoverRow `json:"rows"`
}

var eventTexts = map[Event]string{
	PrimaryKilled:   "SIGKILL of the primary",
	PrimaryStopped:  "SIGSTOP of the primary",
	PrimaryCut:      "network of the primary cut",
	PrimarySwitched: "planned switch",
}

// eventAims are what an outage should stay below, in seconds.
var eventAims = map[Event]float64{PrimaryKilled: 2, PrimaryStopped: 2, PrimaryCut: 2, PrimarySwitched: 0.1}

// WriteMarkdown writes the report as a table of a document.
func (r FailoverReport) WriteMarkdown(w io.Writer) error {
	p := &page{w: w}
	p.head(r.Machine)
	p.printf("Write outage: the longest time that a writer of the Go client is without an acknowledged commit.\n")
	p.printf("\n")
	p.printf("| what | times | median | worst | aim | before: median | worst | |\n")
	p.printf("| --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |\n")
	for i := range r.Rows {
		row := &r.Rows[i]
		p.printf("| %s | %d | %s | %s | %s | %s | %s | %s |\n", eventTexts[row.Event], len(row.Seconds),
			timeText(median(row.Seconds)), timeText(slices.Max(row.Seconds)), timeText(eventAims[row.Event]),
			timeText(median(row.Quiet)), timeText(slices.Max(row.Quiet)), row.remarks())
	}
	return p.err
}

func (r *FailoverRow) remarks() (said remarks) {
	if slices.Max(r.Seconds) >= eventAims[r.Event] {
		said.add("AIM MISSED")
	}
	said.add("%d writes acknowledged, none lost", r.Acknowledged)
	if r.Unknown > 0 {
		said.add("%d with unknown outcome", r.Unknown)
	}
	if r.Refused > 0 {
		said.add("%d refused", r.Refused)
	}
	if r.Stale > 0 {
		said.add("%d writes waited at the stopped one, all refused", r.Stale)
	}
	said.noise(r.Background)
	return said
}
