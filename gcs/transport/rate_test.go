package transport

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestBucket(t *testing.T) {
	type take struct {
		at   time.Duration
		n    int
		wait time.Duration
	}
	const s = time.Second
	for name, test := range map[string]struct {
		rate  uint64
		burst int
		takes []take
	}{
		"a full bucket is there at once": {10, 10, []take{{0, 10, 0}, {0, 10, s}, {0, 5, s + s/2}}},
		"it fills in again":              {10, 10, []take{{0, 10, 0}, {s, 10, 0}, {3 * s / 2, 10, s / 2}}},
		"it does not overflow":           {10, 10, []take{{0, 10, 0}, {100 * s, 10, 0}, {100 * s, 10, s}}},
		"late callers pay once":          {10, 10, []take{{0, 10, 0}, {0, 10, s}, {s, 10, s}, {2 * s, 10, s}}},
		"a slow one":                     {1, 1, []take{{0, 1, 0}, {0, 1, s}, {0, 1, 2 * s}}},
		"rounded up":                     {3, 1, []take{{0, 1, 0}, {0, 1, 333333334}}},
		"a mebibyte at a time":           {1 << 20, 1 << 20, []take{{0, 1 << 20, 0}, {s / 2, 1 << 20, s / 2}}},
		"fast beyond measure":            {1 << 63, 1 << 20, []take{{0, 1 << 20, 0}, {0, 1 << 20, 1}}},
	} {
		b := newBucket(test.rate, test.burst)
		for i, x := range test.takes {
			if wait := b.take(x.at, x.n); wait != x.wait {
				t.Errorf("%s: take %d: wait %v, want %v", name, i, wait, x.wait)
			}
		}
	}
}

// TestBucketBound checks that never, between any two moments, more is used than
// a bucket and what comes in between, and that nobody waits without need.
func TestBucketBound(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rate := rapid.Uint64Range(1, 1<<32).Draw(t, "rate")
		burst := rapid.IntRange(1, 1<<20).Draw(t, "burst")
		b := newBucket(rate, burst)
		type use struct {
			at time.Duration
			n  int
		}
		var uses []use
		now := time.Duration(0)
		for range rapid.IntRange(1, 30).Draw(t, "takes") {
			now += time.Duration(rapid.Int64Range(0, int64(time.Minute)).Draw(t, "pause"))
			n := rapid.IntRange(1, burst).Draw(t, "n")
			wait := b.take(now, n)
			uses = append(uses, use{now + wait, n})
			if wait == 0 {
				continue
			}
			// Used a hair earlier, it would be too much since some use before.
			hair := time.Duration(len(uses)) + 1
			needed := false
			sum := 0.0
			for _, u := range slices.Backward(uses) {
				sum += float64(u.n)
				span := uses[len(uses)-1].at - hair - u.at
				if sum > float64(burst)+float64(rate)*span.Seconds()-1e-3*sum {
					needed = true
				}
			}
			if !needed {
				t.Fatalf("wait of %v for %d bytes at %v without need", wait, n, now)
			}
		}
		for i := range uses {
			sum := 0.0
			for _, u := range uses[i:] {
				sum += float64(u.n)
				span := (u.at - uses[i].at + 1).Seconds() // times are rounded up to a nanosecond
				if limit := float64(burst) + float64(rate)*span; sum > limit*(1+1e-9) {
					t.Fatalf("%v bytes in %v s, at most %v are allowed", sum, span, limit)
				}
			}
		}
	})
}

// TestThrottle sends through a throttle by a clock that only sleeping moves.
func TestThrottle(t *testing.T) {
	var clock time.Duration
	gone := errors.New("gone")
	th := throttle{
		bucket: newBucket(1000, 500),
		now:    func() time.Duration { return clock },
		sleep: func(ctx context.Context, d time.Duration) error {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			clock += d
			return nil
		},
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	for range 21 {
		if err := th.wait(ctx, 500); err != nil {
			t.Fatal(err)
		}
	}
	if clock != 10*time.Second {
		t.Errorf("10,500 bytes at 1,000 a second, 500 of them in advance, took %v", clock)
	}
	cancel(gone)
	if err := th.wait(ctx, 500); !errors.Is(err, gone) {
		t.Errorf("wait without a reader: %v", err)
	}
	if err := newThrottle(0, 1).wait(ctx, 1<<30); err != nil {
		t.Errorf("no limit, and yet: %v", err)
	}
	if err := newThrottle(1, 1).wait(ctx, 1); err != nil {
		t.Errorf("the first piece: %v", err)
	}
	slow := newThrottle(1, 1)
	if err := errors.Join(slow.wait(ctx, 1), slow.wait(ctx, 1)); !errors.Is(err, gone) {
		t.Errorf("the second piece: %v", err)
	}
}
