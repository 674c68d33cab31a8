package sim

import (
	"context"
	"errors"
	"io"
	"runtime/debug"
	"sync"
)

// Options says what to simulate.
type Options struct {
	// First is the seed of the first world; the others follow it one by one.
	First uint64
	// Seeds is how many worlds to run, at least 1.
	Seeds int
	// Trace gets a line for each event of each world; nil for none.
	Trace io.Writer
	// Progress, if not nil, is told after each world how many were run and
	// how many of them broke a promise.
	Progress func(worlds, violations int)
	// plain has all members of the worlds write, and asks nothing of what
	// transactions begin with.
	plain bool
}

// ErrNoSeeds is returned by Run when there is nothing to run.
var ErrNoSeeds = errors.New("sim: the number of seeds must be at least 1")

// running makes worlds take turns: a world puts a source of its own in
// crypto/rand.Reader.
var running sync.Mutex

// gcPercent is for the garbage collector while worlds run. They allocate much and
// keep little, so it would run most of the time.
const gcPercent = 400

// Run runs one world after the other. Broken promises are in the report, they
// are no error; an error means that the sweep could not be finished, and the
// report tells how far it came. While Run runs, crypto/rand.Reader is not
// random: nothing else in the process may rely on it. Concurrent calls wait
// for each other.
func Run(ctx context.Context, o Options) (Report, error) {
	report := NewReport(o.First, o.Seeds)
	if o.Seeds < 1 {
		return report, ErrNoSeeds
	}
	running.Lock()
	defer running.Unlock()
	defer debug.SetGCPercent(debug.SetGCPercent(gcPercent))
	for i := range o.Seeds {
		one, err := runWorld(ctx, o.First+uint64(i), o.plain, newTracer(o.Trace))
		if err != nil {
			return report, err
		}
		report.Add(&one)
		if o.Progress != nil {
			o.Progress(report.Worlds, len(report.Violations))
		}
	}
	return report, nil
}
