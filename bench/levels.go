package bench

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"github.com/concordatdb/concordat"
)

// LevelOptions say what to measure of the consistency levels. Each combination of
// the lists makes two rows: transactions that read one row, and those that read
// one and write it.
type LevelOptions struct {
	Site
	Timing
	Shapes  []Shape
	Modes   []concordat.Mode
	Levels  []concordat.Consistency // Eventual, which all are compared with, is measured in any case
	Clients []int
	// Repeats measures everything so often, in turn.
	Repeats int
	// Keys is the number of keys preloaded.
	Keys int
}

// LevelDefaults returns the full matrix.
func LevelDefaults() LevelOptions {
	return LevelOptions{
		Shapes: []Shape{InProcess, Processes},
		Modes:  []concordat.Mode{concordat.SinglePrimary, concordat.MultiPrimary},
		Levels: []concordat.Consistency{
			concordat.Eventual, concordat.BeforeOnPrimaryFailover, concordat.Before, concordat.After, concordat.BeforeAndAfter,
		},
		Clients: []int{16, 64},
		Timing:  Timing{Duration: 1500 * time.Millisecond, WarmUp: 500 * time.Millisecond},
		Repeats: 1,
		Keys:    20_000,
	}
}

// While rows are measured that only read, one client writes a row now and then, at
// the same level, so that there is something to wait for.
const levelWriteInterval = 5 * time.Millisecond

func (o *LevelOptions) validate() error {
	all := Options{
		Site: o.Site, Timing: o.Timing,
		Shapes: o.Shapes, Placements: []Placement{AllOver}, Clients: o.Clients, ValueBytes: []int{smallValue},
		Repeats: o.Repeats, Keys: o.Keys,
	}
	errs := []error{all.validate()}
	if len(o.Modes) == 0 || len(o.Levels) == 0 {
		errs = append(errs, errors.New("bench: name at least one mode and one level"))
	}
	return errors.Join(errs...)
}

// RunLevels measures and returns the report. It stops early when ctx ends.
func RunLevels(ctx context.Context, o LevelOptions) (r LevelReport, err error) {
	if err := o.validate(); err != nil {
		return r, err
	}
	dir, remove, err := o.prepare(&r.Machine)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, remove()) }()
	for _, shape := range o.Shapes {
		for _, mode := range o.Modes {
			rows, err := o.runGroup(ctx, shape, mode, filepath.Join(dir, string(shape)+"-"+mode.String()))
			r.Rows = append(r.Rows, rows...)
			if err != nil {
				return r, err
			}
		}
	}
	return r, nil
}

// runGroup starts a group, and measures all rows of one shape and mode on it.
func (o *LevelOptions) runGroup(ctx context.Context, shape Shape, mode concordat.Mode, dir string) (rows []LevelRow, err error) {
	o.tell("%s, %s: starting %d members, preloading %d keys", shape, primaries(mode), Members, o.Keys)
	g, err := startGroup(ctx, shape, dir, MemberOptions{Mode: mode}, o.Start)
	if err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	defer func() { err = errors.Join(err, g.close()) }()
	if err := preload(ctx, g, o.Keys, smallValue); err != nil {
		return nil, fmt.Errorf("bench: preload: %w", err)
	}
	loads := o.loads(shape, mode)
	rows = make([]LevelRow, len(loads))
	for i, l := range loads {
		rows[i] = newLevelRow(l, mode)
	}
	// In turn, so that a noisy minute does not fall on one row, and that levels
	// are compared that were measured one after the other.
	for range o.Repeats {
		for i, l := range loads {
			runtime.GC() // what another row has left behind
			row, err := o.measureLevel(ctx, g, l)
			if err != nil {
				return nil, fmt.Errorf("bench: %s: %w", l, err)
			}
			rows[i].add(&row)
			o.tell("%s, %s: %.0f a second", primaries(mode), l, row.CommitsPerSecond)
		}
	}
	for i := range rows {
		rows[i].compare(rows)
	}
	return rows, nil
}

// loads lists what is measured on one group, Eventual first.
func (o *LevelOptions) loads(shape Shape, mode concordat.Mode) (loads []load) {
	levels := []concordat.Consistency{concordat.Eventual}
	for _, level := range o.Levels {
		if level != concordat.Eventual {
			levels = append(levels, level)
		}
	}
	for _, reads := range []bool{true, false} {
		for _, clients := range o.Clients {
			for _, level := range levels {
				l := load{
					Shape: shape, Placement: AllOver, Clients: clients, ValueBytes: smallValue,
					ReadFirst: true, keys: o.Keys, level: level, reads: reads,
				}
				switch {
				case mode == concordat.SinglePrimary && reads:
					l.Placement = OneFollower
				case mode == concordat.SinglePrimary:
					l.Placement = OneMember
				}
				loads = append(loads, l)
			}
		}
	}
	return loads
}

// measureLevel measures one row once.
func (o *LevelOptions) measureLevel(ctx context.Context, g group, l load) (Row, error) {
	if !l.reads {
		return o.measure(ctx, g, l)
	}
	writer, err := g.leader(ctx)
	if err != nil {
		return Row{}, err
	}
	writing, stop := context.WithTimeout(ctx, o.WarmUp+o.Duration+patience)
	defer stop()
	var trickle sync.WaitGroup
	var failed error
	trickle.Go(func() { failed = writeNowAndThen(writing, g, writer, l) })
	row, err := o.measure(ctx, g, l)
	stop()
	trickle.Wait()
	return row, errors.Join(err, failed)
}

// writeNowAndThen writes one row after the other until ctx ends.
func writeNowAndThen(ctx context.Context, g group, member int, l load) error {
	random := newRandom(0)
	ticker := time.NewTicker(levelWriteInterval)
	defer ticker.Stop()
	for {
		j := job{key: keyOf(random.IntN(l.keys)), value: valueOf(random, smallValue), level: l.level}
		if _, _, err := g.update(ctx, member, j); err != nil && ctx.Err() == nil {
			return err
		}
		select {
		case <-ticker.C:
		case <-ctx.Done(): // the row is measured
			return nil
		}
	}
}
