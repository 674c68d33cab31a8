package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"

	"golang.org/x/sync/errgroup"

	"github.com/concordatdb/concordat/sim"
)

// jobSeeds bounds how many worlds a job runs before the next one is handed out:
// some worlds take much longer than others.
const jobSeeds = 50

// simJobs runs worlds in several processes at a time: within one they take turns,
// since a world has the process's source of randomness for its own. The report is
// the same as that of one process. When a job fails, it is that of the worlds before
// it.
func simJobs(ctx context.Context, first uint64, seeds, jobs int) (sim.Report, error) {
	report := sim.NewReport(first, seeds)
	self, err := os.Executable()
	if err != nil {
		return report, err
	}
	size := min(jobSeeds, (seeds+jobs-1)/jobs)
	parts := make([]*sim.Report, (seeds+size-1)/size)
	running, ctx := errgroup.WithContext(ctx)
	running.SetLimit(jobs)
	for i := range parts {
		from := i * size
		running.Go(func() (err error) {
			parts[i], err = simJob(ctx, self, first+uint64(from), min(size, seeds-from))
			return err
		})
	}
	err = running.Wait()
	for _, part := range parts {
		if part == nil {
			break
		}
		report.Add(part)
	}
	return report, err
}

// simJob runs worlds in a process of its own.
func simJob(ctx context.Context, program string, first uint64, seeds int) (*sim.Report, error) {
	cmd := exec.CommandContext(ctx, program, "sim", "--jobs", "1", "--json",
		"--first", strconv.FormatUint(first, 10), "--seeds", strconv.Itoa(seeds))
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err := cmd.Run()
	var report sim.Report
	if bad := json.Unmarshal(out.Bytes(), &report); bad != nil || report.Worlds < seeds {
		return nil, errors.Join(context.Cause(ctx), fmt.Errorf("the worlds from seed %d on were not all run: %w: %s", first, errors.Join(err, bad), bytes.TrimSpace(errOut.Bytes())))
	}
	return &report, nil // broken promises are in it
}
