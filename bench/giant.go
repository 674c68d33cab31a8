package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/concordatdb/concordat"
)

// GiantOptions say how to measure what a giant transaction costs small ones on the
// other members.
type GiantOptions struct {
	Site
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
	var wrong flaws
	wrong.check(o.RowBytes > 0 && o.Bytes >= o.RowBytes, "a transaction of %d bytes in rows of %d", o.Bytes, o.RowBytes)
	wrong.check(o.Rate > 0 && o.Rate <= 100_000, "%d transactions a second; choose 1 to 100000", o.Rate)
	wrong.check(o.Callers > 0 && o.Callers <= giantWorkers, "%d callers; choose 1 to %d", o.Callers, giantWorkers)
	wrong.check(o.Before > 0, "nothing is measured in %v", o.Before)
	wrong.checkRepeats(o.Repeats)
	return wrong.err()
}

// RunGiant measures and returns the report. It stops early when ctx ends.
func RunGiant(ctx context.Context, o GiantOptions) (r GiantReport, err error) {
	if err := o.validate(); err != nil {
		return r, err
	}
	dir, remove, err := o.prepare(&r.Machine)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, remove()) }()
	r.Bytes, r.RowBytes, r.Rate, r.Callers = o.Bytes, o.RowBytes, o.Rate, o.Callers
	for i := range 2 * o.Repeats {
		steady := i%2 == 1
		before := background(ctx)
		row, err := o.measure(ctx, filepath.Join(dir, strconv.Itoa(i)), steady)
		if err != nil {
			return r, fmt.Errorf("bench: repetition %d: %w", i/2+1, err)
		}
		row.Steady, row.Background = steady, before
		r.Rows = append(r.Rows, row)
		o.tell("%d of %d, %s: %.1f s, p99 %.1f ms before, %.1f ms meanwhile",
			i/2+1, o.Repeats, row.load(), row.Seconds, row.Before.P99, row.During.P99)
	}
	return r, nil
}

// measure measures once, in a group of its own.
func (o *GiantOptions) measure(ctx context.Context, dir string, steady bool) (row GiantRow, err error) {
	g, err := startNodes(ctx, dir, concordat.MultiPrimary, nil)
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
	a := newArrivals(g)
	for i := range g.members {
		switch {
		case i == origin:
		case steady:
			a.begin(arriving, i, o.Rate)
		default:
			a.call(arriving, i, o.Callers)
		}
	}
	watching := watchLead(arriving, g.members[leader])
	row.Seconds, err = o.commitAmong(ctx, a, tx)
	stop()
	a.wg.Wait()
	row.LeadChanges = <-watching
	row.Before, row.During = latencyOf(a.before), latencyOf(a.during)
	return row, errors.Join(err, a.err)
}

// commitAmong commits the giant once small ones have arrived for a while, and returns
// how long that took.
func (o *GiantOptions) commitAmong(ctx context.Context, a *arrivals, giant *concordat.Tx) (seconds float64, err error) {
	if err := pause(ctx, o.Before); err != nil {
		return 0, err
	}
	close(a.committing)
	began := time.Now()
	_, err = giant.Commit(ctx)
	seconds = time.Since(began).Seconds()
	// What arrives behind it waits for it still.
	return seconds, errors.Join(err, pause(ctx, 100*time.Millisecond))
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

// arrivals are the small transactions on the other members.
type arrivals struct {
	g          *nodes
	committing chan struct{} // closed when the giant begins to be committed
	wg         sync.WaitGroup

	mu             sync.Mutex
	before, during *times
	err            error
}

func newArrivals(g *nodes) *arrivals {
	return &arrivals{g: g, committing: make(chan struct{}), before: newTimes(), during: newTimes()}
}

// begin lets transactions arrive at a member until ctx ends.
func (a *arrivals) begin(ctx context.Context, member, rate int) {
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
			w := newArrivalWorker(member, worker)
			for at := range due {
				a.serve(ctx, w, at)
			}
		})
	}
}

// call has callers commit one transaction after the other at a member until ctx
// ends.
func (a *arrivals) call(ctx context.Context, member, callers int) {
	for number := range callers {
		a.wg.Go(func() {
			w := newArrivalWorker(member, number)
			for ctx.Err() == nil {
				a.serve(ctx, w, time.Now())
			}
		})
	}
}

// arrivalWorker commits small transactions at a member, all to a key of its own.
type arrivalWorker struct {
	member int
	key    []byte
	random *rand.Rand
}

func newArrivalWorker(member, number int) *arrivalWorker {
	own := member*giantWorkers + number
	return &arrivalWorker{member, keyOf(own), newRandom(uint64(own))}
}

// serve commits the one that has arrived at that moment, also when no more come.
func (a *arrivals) serve(ctx context.Context, w *arrivalWorker, at time.Time) {
	j := job{key: w.key, value: valueOf(w.random, smallValue)}
	_, _, err := a.g.update(context.WithoutCancel(ctx), w.member, j)
	took := time.Since(at)
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case err != nil:
		a.err = err
	case done(a.committing):
		a.during.note(took)
	default:
		a.before.note(took)
	}
}

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

func latencyOf(t *times) Latency {
	return Latency{t.count(), t.percentile(50), t.percentile(99), t.worst()}
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
	p := &page{w: w}
	p.head(r.Machine)
	p.printf("A transaction of %d bytes in rows of %d, while at each of the two other members %d callers commit one small one after the other, "+
		"or %d of those arrive a second, whether others are done or not.\n\n", r.Bytes, r.RowBytes, r.Callers, r.Rate)
	p.printf("| small ones | commit of the giant | small before: p50 | p99 | worst | meanwhile: p50 | p99 | worst | p99 rises | changes of lead | |\n")
	p.printf("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- |\n")
	rises := map[bool][]float64{} // by Steady
	for _, x := range r.Rows {
		rise := x.During.P99 / max(x.Before.P99, 0.001)
		rises[x.Steady] = append(rises[x.Steady], rise)
		p.printf("| %s | %.1f s | %.1f ms | %.1f ms | %.1f ms | %.1f ms | %.1f ms | %.1f ms | %.1f × | %d | %s |\n", x.load(), x.Seconds,
			x.Before.P50, x.Before.P99, x.Before.Max, x.During.P50, x.During.P99, x.During.Max, rise, x.LeadChanges, noise(x.Background))
	}
	if callers, arrivals := rises[false], rises[true]; len(callers) > 0 && len(arrivals) > 0 {
		p.printf("\nIn the median the p99 rises %.1f-fold for callers and %.1f-fold for arrivals; the aim is less than %d.\n",
			median(callers), median(arrivals), giantAim)
	}
	return p.err
}
