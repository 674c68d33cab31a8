package bench

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/concordatdb/concordat"
)

// LevelRow is what transactions of one kind came to at one level.
type LevelRow struct {
	Shape     Shape     `json:"shape"`
	Mode      string    `json:"mode"`
	Placement Placement `json:"placement"`
	Clients   int       `json:"clients"`
	ReadOnly  bool      `json:"read_only"`
	Level     string    `json:"level"`
	// PerSecond, P50 and P99, the latter in milliseconds, are one for each
	// repetition.
	PerSecond []float64 `json:"per_second"`
	P50       []float64 `json:"p50_ms"`
	P99       []float64 `json:"p99_ms"`
	// OfEventual is throughput as a part of that at EVENTUAL: of the repetitions'
	// quotients the median.
	OfEventual float64 `json:"of_eventual"`
	Errors     int     `json:"errors"`
	Noisy      bool    `json:"noisy"` // other work disturbed one of the repetitions
}

func newLevelRow(l load, mode concordat.Mode) LevelRow {
	return LevelRow{
		Shape: l.Shape, Mode: mode.String(), Placement: l.Placement, Clients: l.Clients, ReadOnly: l.reads, Level: l.level.String(),
	}
}

// add enters one more repetition.
func (r *LevelRow) add(row *Row) {
	r.PerSecond = append(r.PerSecond, row.CommitsPerSecond)
	r.P50, r.P99 = append(r.P50, row.P50), append(r.P99, row.P99)
	r.Errors += row.Errors
	r.Noisy = r.Noisy || row.Noisy()
}

// compare compares a row with that of EVENTUAL that is its like.
func (r *LevelRow) compare(all []LevelRow) {
	for i := range all {
		e := &all[i]
		if e.Level != concordat.Eventual.String() || e.ReadOnly != r.ReadOnly || e.Clients != r.Clients {
			continue
		}
		var quotients []float64
		for n, own := range r.PerSecond {
			quotients = append(quotients, own/max(e.PerSecond[n], 1))
		}
		r.OfEventual = median(quotients)
	}
}

// LevelReport is what RunLevels measured.
type LevelReport struct {
	Machine Machine    `json:"machine"`
	Rows    []LevelRow `json:"rows"`
}

// levelAim is what a level should keep of the throughput at EVENTUAL.
type levelAim struct {
	text     string
	readOnly bool
	mode     concordat.Mode // 0: each
	level    concordat.Consistency
	clients  int // 0: any number
	least    float64
}

var levelAims = []levelAim{
	{"BEFORE reads on a follower, 64 clients", true, concordat.SinglePrimary, concordat.Before, 64, 0.6},
	{"AFTER writes", false, 0, concordat.After, 0, 0.5},
}

func (a *levelAim) concerns(r *LevelRow) bool {
	return r.ReadOnly == a.readOnly && r.Level == a.level.String() && (a.mode == 0 || r.Mode == a.mode.String()) &&
		(a.clients == 0 || r.Clients == a.clients)
}

// WriteMarkdown writes the report as a table of a document, and how it compares
// with what was aimed at.
func (r LevelReport) WriteMarkdown(w io.Writer) error {
	p := &page{w: w}
	p.head(r.Machine)
	p.printf("Transactions a second, medians; they read one row, or read and write it. While others only read, one client writes every %v.\n\n", levelWriteInterval)
	p.printf("| shape | group | transactions | clients | level | a second | of EVENTUAL | p50 | p99 | |\n")
	p.printf("| --- | --- | --- | ---: | --- | ---: | ---: | ---: | ---: | --- |\n")
	for i := range r.Rows {
		row := &r.Rows[i]
		p.printf("| %s | %s | %s | %d | %s | %.0f | %.0f %% | %s | %s | %s |\n",
			row.Shape, primariesText[row.Mode], row.kind(), row.Clients, row.Level,
			median(row.PerSecond), 100*row.OfEventual, shortTime(median(row.P50)), shortTime(median(row.P99)), row.remarks())
	}
	p.printf("\n")
	for i := range levelAims {
		if line := r.aim(&levelAims[i]); line != "" {
			p.printf("%s\n", line)
		}
	}
	return p.err
}

// aim tells how the rows that an aim is about come off, "" if there are none.
func (r *LevelReport) aim(a *levelAim) string {
	var parts []string
	for i := range r.Rows {
		row := &r.Rows[i]
		if !a.concerns(row) {
			continue
		}
		verdict := "reached"
		if row.OfEventual < a.least {
			verdict = "MISSED"
		}
		parts = append(parts, fmt.Sprintf("%s, %s, %d clients: %.0f %%, %s",
			row.Shape, primariesText[row.Mode], row.Clients, 100*row.OfEventual, verdict))
	}
	if len(parts) == 0 {
		return ""
	}
	return fmt.Sprintf("Aim: %s, at least %.0f %% of EVENTUAL. %s.", a.text, 100*a.least, strings.Join(parts, "; "))
}

func (r *LevelRow) kind() string {
	switch {
	case !r.ReadOnly:
		return "read and write"
	case r.Placement == OneFollower:
		return "read, at a follower"
	}
	return "read"
}

func (r *LevelRow) remarks() (said remarks) {
	if r.Errors > 0 {
		said.add("%d ERRORS", r.Errors)
	}
	if r.Noisy {
		said.add("NOISY")
	}
	if len(r.PerSecond) > 1 {
		said.add("%.0f to %.0f", slices.Min(r.PerSecond), slices.Max(r.PerSecond))
	}
	return said
}

var primariesText = map[string]string{
	concordat.SinglePrimary.String(): "one primary", concordat.MultiPrimary.String(): "three primaries",
}

func primaries(m concordat.Mode) string { return primariesText[m.String()] }
