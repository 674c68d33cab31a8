package bench

import (
	"context"
	"time"
)

// patience is for one write, far beyond any outage.
const patience = 20 * time.Second

// pause waits, and tells when ctx ends before.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// until asks again and again, and gives up far beyond any time that it could
// take.
func until(ctx context.Context, holds func() (bool, error)) error {
	const interval, patience = 20 * time.Millisecond, time.Minute
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		ok, err := holds()
		if ok || err != nil {
			return err
		}
		if err := pause(ctx, interval); err != nil {
			return err
		}
	}
}

// done reports whether a channel is closed.
func done(c chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
