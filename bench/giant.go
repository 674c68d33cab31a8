package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/concordatdb/concordat"
)

// GiantOptions say how to measure what a giant transaction costs small ones on the
// other members.
type GiantOptions struct {
	// Bytes is the size of the giant, in rows of RowBytes.
	Bytes, RowBytes int
	// Packs has its rows be of bytes that zstd packs.
	Packs bool
	// Rate is how many small transactions a second arrive at each of the two other
	// members, whether those before are done or not. What one waits for its turn
	// counts, so that one second of standstill delays a second's worth of them.
	Rate int
	// Callers is how many callers at each of these members commit one small
	// transaction after the other, as in the other benchmarks. A standstill delays
	// as many as there are callers, however long it is.
	Callers int
	// Before is how long they arrive before the giant is committed.
	Before time.Duration
	// Repeats is how often all of that is done, each time in a new group.
	Repeats int
	// Dir is where the members' directories are made; empty: below the
	// working directory. It should be on a real disk.
	Dir string
	// Progress is told what is being measured. nil is silent.
	Progress io.Writer
}

// GiantDefaults are those of the aims: 100 MB of rows that do not pack.
func GiantDefaults() GiantOptions {
	return GiantOptions{Bytes: 100_000_000, RowBytes: 1000, Rate: 100, Callers: 8, Before: 5 * time.Second, Repeats: 3}
}

// giantAim is how many times the p99 of before small transactions may take while a
// giant passes.
const giantAim = 3

// giantWorkers is how many small transactions of a member may be under way. It is
// far more than come in the time of one.
const giantWorkers = 64

func (o *GiantOptions) validate() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf("bench: "+format, args...))
		}
	}
	check(o.RowBytes > 0 && o.Bytes >= o.RowBytes, "a transaction of %d bytes in rows of %d", o.Bytes, o.RowBytes)
	check(o.Rate > 0 && o.Rate <= 100_000, "%d transactions a second; choose 1 to 100000", o.Rate)
	check(o.Callers > 0 && o.Callers <= giantWorkers, "%d callers; choose 1 to %d", o.Callers, giantWorkers)
	check(o.Before > 0, "nothing is measured in %v", o.Before)
	check(o.Repeats > 0, "%d repeats measure nothing", o.Repeats)
	return errors.Join(errs...)
}

// RunGiant measures and returns the report. It stops early when ctx ends.
func RunGiant(ctx context.Context, o GiantOptions) (r GiantReport, err error) {
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
	r.Machine, r.Bytes, r.RowBytes, r.Rate, r.Callers = inspect(dir), o.Bytes, o.RowBytes, o.Rate, o.Callers
	r.Machine.warn(o.Progress, dir)
	for i := range 2 * o.Repeats {
		steady := i%2 == 1
		before := background(ctx)
		row, err := o.measure(ctx, filepath.Join(dir, strconv.Itoa(i)), steady)
		if err != nil {
			return r, fmt.Errorf("bench: repetition %d: %w", i/2+1, err)
		}
		row.Steady, row.Background = steady, before
		r.Rows = append(r.Rows, row)
		fmt.Fprintf(o.Progress, "%d of %d, %s: %.1f s, p99 %.1f ms before, %.1f ms meanwhile\n",
			i/2+1, o.Repeats, row.load(), row.Seconds, row.Before.P99, row.During.P99)
	}
	return r, nil
}

// measure measures once, in a group of its own.
func (o *GiantOptions) measure(ctx context.Context, dir string, steady bool) (row GiantRow, err error) {
	g, err := startNodes(ctx, dir, concordat.MultiPrimary, false)
	if err != nil {
		return row, err
	}
	defer func() { err = errors.Join(err, g.close()) }()
	leader, err := g.leader(ctx)
	if err != nil {
		return row, err
	}
	// The origin is one that does not lead, so that what it sends goes the whole way.
	origin := (leader + 1) % Members
	tx, err := o.fill(ctx, g.members[origin])
	if err != nil {
		return row, err
	}
	defer func() { _ = tx.Rollback() }()
	ctx, cancel := context.WithTimeout(ctx, o.Before+10*patience)
	defer cancel()
	arriving, stop := context.WithCancel(ctx)
	defer stop()
	a := &arrivals{gate: newPhase()}
	for i := range g.members {
		switch {
		case i == origin:
		case steady:
			a.begin(arriving, g, i, o.Rate)
		default:
			a.call(arriving, g, i, o.Callers)
		}
	}
	watching := watchLead(arriving, g.members[leader])
	err = pause(ctx, o.Before)
	if err == nil {
		close(a.gate.measuring)
		began := time.Now()
		_, err = tx.Commit(ctx)
		row.Seconds = time.Since(began).Seconds()
		// What arrives behind it waits for it still.
		err = errors.Join(err, pause(ctx, 100*time.Millisecond))
	}
	close(a.gate.over)
	stop()
	a.wait()
	row.LeadChanges = <-watching
	row.Before, row.During = latencyOf(a.before), latencyOf(a.during)
	return row, errors.Join(err, a.err)
}

// fill makes the giant.
func (o *GiantOptions) fill(ctx context.Context, n *concordat.Node) (*concordat.Tx, error) {
	tx, err := n.Begin(ctx)
	if err != nil {
		return nil, err
	}
	random := newRandom(7)
	value := valueOf(random, o.RowBytes)
	for i := range o.Bytes / o.RowBytes {
		if o.Packs {
			value[i%len(value)]++
		} else {
			value = valueOf(random, o.RowBytes)
		}
		if err := tx.Put(table, fmt.Appendf(nil, "giant-%08d", i), value); err != nil {
			return nil, errors.Join(err, tx.Rollback())
		}
	}
	return tx, nil
}

// arrivals are small transactions that come at a steady rate.
type arrivals struct {
	gate phase // measuring: the giant is being committed
	wg   sync.WaitGroup

	mu             sync.Mutex
	before, during *hdrhistogram.Histogram // microseconds
	err            error
}

// begin lets transactions arrive at a member until ctx ends.
func (a *arrivals) begin(ctx context.Context, g *nodes, member, rate int) {
	due := make(chan time.Time, 1<<20)
	a.wg.Go(func() {
		defer close(due)
		every := time.Second / time.Duration(rate)
		for at := time.Now(); pause(ctx, time.Until(at)) == nil; at = at.Add(every) {
			due <- at
		}
	})
	for worker := range giantWorkers {
		a.wg.Go(func() {
			random := newRandom(uint64(member*giantWorkers + worker))
			for at := range due {
				// Who has arrived is served, also when no more come.
				j := job{key: keyOf(member*giantWorkers + worker), value: valueOf(random, 100)}
				_, _, err := g.update(context.WithoutCancel(ctx), member, j)
				a.note(at, err)
			}
		})
	}
}

// call has callers commit one transaction after the other at a member until ctx
// ends.
func (a *arrivals) call(ctx context.Context, g *nodes, member, callers int) {
	for number := range callers {
		a.wg.Go(func() {
			random := newRandom(uint64(member*giantWorkers + number))
			for ctx.Err() == nil {
				at := time.Now()
				j := job{key: keyOf(member*giantWorkers + number), value: valueOf(random, 100)}
				_, _, err := g.update(context.WithoutCancel(ctx), member, j)
				a.note(at, err)
			}
		})
	}
}

func (a *arrivals) note(at time.Time, err error) {
	took := min(time.Since(at).Microseconds(), latencyMost)
	a.mu.Lock()
	defer a.mu.Unlock()
	if err != nil {
		a.err = err
		return
	}
	if a.before == nil {
		a.before, a.during = hdrhistogram.New(1, latencyMost, latencyDigits), hdrhistogram.New(1, latencyMost, latencyDigits)
	}
	h := a.before
	if done(a.gate.measuring) {
		h = a.during
	}
	_ = h.RecordValue(took)
}

func (a *arrivals) wait() { a.wg.Wait() }

// watchLead counts how often another member leads, until ctx ends.
func watchLead(ctx context.Context, n *concordat.Node) <-chan int {
	changes := make(chan int, 1)
	go func() {
		ticker := time.NewTicker(10 * time.Millisecond)
		defer ticker.Stop()
		count, last := 0, n.Status().Leader
		for {
			select {
			case <-ctx.Done():
				changes <- count
				return
			case <-ticker.C:
				if now := n.Status().Leader; now != last {
					count, last = count+1, now
				}
			}
		}
	}()
	return changes
}

// Latency is how long transactions took, in milliseconds.
type Latency struct {
	Count int64   `json:"count"`
	P50   float64 `json:"p50_ms"`
	P99   float64 `json:"p99_ms"`
	Max   float64 `json:"max_ms"`
}

func latencyOf(h *hdrhistogram.Histogram) Latency {
	if h == nil {
		return Latency{}
	}
	ms := func(micros int64) float64 { return float64(micros) / 1000 }
	return Latency{h.TotalCount(), ms(h.ValueAtQuantile(50)), ms(h.ValueAtQuantile(99)), ms(h.Max())}
}

// GiantRow is one repetition.
type GiantRow struct {
	// Steady: the small transactions arrive at a steady rate; else callers commit
	// one after the other.
	Steady bool `json:"steady"`
	// Seconds is how long the commit of the giant took.
	Seconds float64 `json:"seconds"`
	// Before and During are the small transactions on the other two members, from
	// their arrival: those that were done before the giant was committed, and those
	// after that.
	Before Latency `json:"before"`
	During Latency `json:"during"`
	// LeadChanges is how often the member that led saw another one lead, or none.
	LeadChanges int `json:"lead_changes"`
	// Background is how busy the machine was before, in percent of all cores, from
	// other causes.
	Background float64 `json:"background_pct"`
}

func (r *GiantRow) load() string {
	if r.Steady {
		return "arrivals"
	}
	return "callers"
}

// GiantReport is what RunGiant measured.
type GiantReport struct {
	Machine  Machine    `json:"machine"`
	Bytes    int        `json:"bytes"`
	RowBytes int        `json:"row_bytes"`
	Rate     int        `json:"rate"`
	Callers  int        `json:"callers"`
	Rows     []GiantRow `json:"rows"`
}

// WriteMarkdown writes the report as a table of a document.
func (r GiantReport) WriteMarkdown(w io.Writer) error {
	r.Machine.head(w)
	fmt.Fprintf(w, "A transaction of %d bytes in rows of %d, while at each of the two other members %d callers commit one small one after the other, "+
		"or %d of those arrive a second, whether others are done or not.\n\n", r.Bytes, r.RowBytes, r.Callers, r.Rate)
	fmt.Fprintln(w, "| small ones | commit of the giant | small before: p50 | p99 | worst | meanwhile: p50 | p99 | worst | p99 rises | changes of lead | |")
	fmt.Fprintln(w, "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- |")
	var rises [2][]float64
	for _, x := range r.Rows {
		rise := x.During.P99 / max(x.Before.P99, 0.001)
		kind := 0
		if x.Steady {
			kind = 1
		}
		rises[kind] = append(rises[kind], rise)
		note := ""
		if x.Background >= noisyFrom {
			note = fmt.Sprintf("NOISY: the machine was %.0f %% busy with something else", x.Background)
		}
		fmt.Fprintf(w, "| %s | %.1f s | %.1f ms | %.1f ms | %.1f ms | %.1f ms | %.1f ms | %.1f ms | %.1f × | %d | %s |\n", x.load(), x.Seconds,
			x.Before.P50, x.Before.P99, x.Before.Max, x.During.P50, x.During.P99, x.During.Max, rise, x.LeadChanges, note)
	}
	if len(rises[0]) > 0 && len(rises[1]) > 0 {
		fmt.Fprintf(w, "\nIn the median the p99 rises %.1f-fold for callers and %.1f-fold for arrivals; the aim is less than %d.\n",
			median(rises[0]), median(rises[1]), giantAim)
	}
	return nil
}
