package transport

import (
	"context"
	"math/bits"
	"time"
)

// bucket is a token bucket, of bytes. It knows no clock: the caller says what
// time it is, as a duration since some moment.
type bucket struct {
	rate  uint64        // bytes per second, at least 1
	burst time.Duration // how long filling the whole bucket takes
	empty time.Duration // when all that was taken will have been filled in again
}

// newBucket returns a full bucket that holds burst bytes.
func newBucket(rate uint64, burst int) *bucket {
	b := &bucket{rate: rate}
	b.burst = b.cost(burst)
	return b
}

// cost returns how long n bytes take to come in, rounded up.
func (b *bucket) cost(n int) time.Duration {
	const second = uint64(time.Second)
	hi, lo := bits.Mul64(uint64(n), second)
	if hi >= b.rate {
		return 1<<63 - 1
	}
	ns, rest := bits.Div64(hi, lo, b.rate)
	if rest > 0 {
		ns++
	}
	return time.Duration(min(ns, 1<<63-1))
}

// take takes n bytes, at most what the bucket holds when it is full, and returns
// how long to wait before they may be used. In any time, no more may be used
// than one full bucket and what comes in meanwhile.
func (b *bucket) take(now time.Duration, n int) (wait time.Duration) {
	b.empty = max(b.empty, now) + b.cost(n)
	return max(0, b.empty-b.burst-now)
}

// throttle holds a writer back to a rate.
type throttle struct {
	bucket *bucket // nil: at any rate
	now    func() time.Duration
	sleep  func(context.Context, time.Duration) error
}

// newThrottle returns a throttle to rate bytes per second, for pieces of at most
// burst bytes; 0 is no limit.
func newThrottle(rate uint64, burst int) throttle {
	if rate == 0 {
		return throttle{}
	}
	began := time.Now()
	return throttle{
		bucket: newBucket(rate, burst),
		now:    func() time.Duration { return time.Since(began) },
		sleep:  sleep,
	}
}

// wait returns when n more bytes may be sent, or the cause when ctx ends.
func (t throttle) wait(ctx context.Context, n int) error {
	if t.bucket == nil {
		return nil
	}
	if d := t.bucket.take(t.now(), n); d > 0 {
		return t.sleep(ctx, d)
	}
	return nil
}

// sleep waits for d, or returns the cause when ctx ends before.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
