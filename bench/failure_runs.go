package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/concordatdb/concordat"
)

// found founds a group with that CheckpointBytes, 0 for the default.
func (o *FailureOptions) found(ctx context.Context, dir string, log int) (*processes, error) {
	return startProcesses(ctx, dir, MemberOptions{Mode: concordat.MultiPrimary, CheckpointBytes: log}, o.Start)
}

// kills measures what the survivors notice of a member that is killed. Each has
// a client that writes one row after the other; they go on until the group has
// expelled the member.
func (o *FailureOptions) kills(ctx context.Context, dir string, leads bool) (row FailureRow, err error) {
	g, err := o.found(ctx, dir, 0)
	if err != nil {
		return row, err
	}
	defer func() { err = errors.Join(err, g.close()) }()
	for i := range o.Repeats {
		leader, follower, err := g.leads(ctx)
		if err != nil {
			return row, err
		}
		victim := follower
		if leads {
			victim = leader
		}
		gap, quiet, err := g.kill(ctx, victim)
		if err != nil {
			return row, err
		}
		row.Seconds, row.Quiet = append(row.Seconds, gap.Seconds()), append(row.Quiet, quiet.Seconds())
		o.tell("kill %d of %d: %v without a commit, %v before", i+1, o.Repeats, gap.Round(time.Millisecond), quiet.Round(time.Millisecond))
		if err := g.again(ctx, victim, 0); err != nil {
			return row, err
		}
	}
	return row, nil
}

// kill ends a member, and returns the longest time without a commit on another
// one, after that and before. It looks for as long before as it takes after, so
// that what the machine does by itself is in both.
func (g *processes) kill(ctx context.Context, victim *member) (gap, quiet time.Duration, err error) {
	const (
		after  = time.Second // once the member is expelled
		before = concordat.DefaultMemberSuspectTimeout + concordat.DefaultMemberExpelTimeout + after
	)
	writing, stop := context.WithCancel(ctx)
	defer stop()
	var writers sync.WaitGroup
	var pulses []*pulse
	for i, m := range g.members {
		if m != victim {
			p := &pulse{}
			pulses = append(pulses, p)
			writers.Go(func() { p.write(writing, m.client, keyOf(i)) })
		}
	}
	began := time.Now()
	err = pause(ctx, before)
	killed := time.Now()
	if err == nil {
		err = victim.kill()
	}
	if err == nil {
		err = g.gone(ctx, victim)
	}
	if err == nil {
		err = pause(ctx, after)
	}
	stop()
	writers.Wait()
	gap, quiet, silent := stilled(pulses, began, killed, time.Now(), after)
	return gap, quiet, errors.Join(err, silent)
}

// behind measures the return of a member that was killed, and has missed
// transactions that are all in the others' logs.
func (o *FailureOptions) behind(ctx context.Context, dir string) (row FailureRow, err error) {
	g, err := o.found(ctx, dir, o.LogBytes)
	if err != nil {
		return row, err
	}
	defer func() { err = errors.Join(err, g.close()) }()
	o.tell("log: writing %d transactions", o.Transactions)
	victim, err := g.leaveBehind(ctx, o.Transactions)
	if err != nil {
		return row, err
	}
	row.Note = fmt.Sprintf("%d transactions of one row missed; checkpoint-size %d MiB", o.Transactions, o.LogBytes>>20)
	for i := range o.Repeats {
		took, _, err := victim.comeBack(ctx, 0)
		if err != nil {
			return row, err
		}
		row.Seconds = append(row.Seconds, took.Seconds())
		o.tell("log %d of %d: ONLINE after %s", i+1, o.Repeats, timeText(took.Seconds()))
	}
	return row, nil
}

// copies measures how long a new member takes that copies a large store. It
// leaves afterwards, for the next one.
func (o *FailureOptions) copies(ctx context.Context, dir string) (row FailureRow, err error) {
	g, err := o.found(ctx, dir, 0)
	if err != nil {
		return row, err
	}
	defer func() { err = errors.Join(err, g.close()) }()
	o.tell("clone: filling a store with %d MiB", o.StoreBytes>>20)
	const rowBytes = 1 << 10
	if err := preload(ctx, g, o.StoreBytes/rowBytes, rowBytes); err != nil {
		return row, err
	}
	if row.DiskBytesPerSecond, err = diskRate(dir, o.StoreBytes); err != nil {
		return row, err
	}
	for i := range o.Repeats {
		if err := g.copyOnce(ctx, fmt.Sprint("new", i+1), &row); err != nil {
			return row, err
		}
		o.tell("clone %d of %d: ONLINE after %s", i+1, o.Repeats, timeText(row.Seconds[i]))
	}
	return row, nil
}

// copyOnce has a new member come and leave.
func (g *processes) copyOnce(ctx context.Context, name string, row *FailureRow) error {
	before, err := g.cpu()
	if err != nil {
		return err
	}
	began := time.Now()
	m, err := g.add(ctx, name)
	if err != nil {
		return err
	}
	took := time.Since(began).Seconds()
	after, err := g.cpu()
	if err != nil {
		return err
	}
	size, err := copiedBytes(ctx, m.client)
	if err == nil && size == 0 {
		err = errors.New("it came from the log without a copy: the store is smaller than the log that is kept")
	}
	if err != nil {
		return err
	}
	row.Seconds = append(row.Seconds, took)
	row.Bytes, row.CPU = float64(size), max(row.CPU, (after-before).Seconds()/took)
	return g.leave(ctx, m)
}

// diskRate measures how many bytes a second the disk takes in one stream.
func diskRate(dir string, bytes int) (perSecond float64, err error) {
	f, err := os.CreateTemp(dir, "stream")
	if err != nil {
		return 0, err
	}
	defer func() { _ = errors.Join(f.Close(), os.Remove(f.Name())) }() // the directory goes anyway
	block := valueOf(newRandom(0), 1<<20)
	began := time.Now()
	written := 0
	for ; written < bytes; written += len(block) {
		if _, err := f.Write(block); err != nil {
			return 0, err
		}
	}
	if err := f.Sync(); err != nil {
		return 0, err
	}
	return float64(written) / time.Since(began).Seconds(), nil
}
