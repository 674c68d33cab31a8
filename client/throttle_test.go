package client_test

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/concordatdb/concordat"
	"github.com/concordatdb/concordat/applier"
	"github.com/concordatdb/concordat/applier/pebblekv"
	"github.com/concordatdb/concordat/client"
)

// stuckEngine stands still with its transactions until it is released.
type stuckEngine struct {
	applier.Engine
	released <-chan struct{}
}

func (e stuckEngine) Apply(b applier.Batch) error {
	if len(b.Transactions) > 0 {
		<-e.released
	}
	return e.Engine.Apply(b)
}

// TestThrottled: while one member's engine stands still, what is not let begin in time
// says for whom, in whatever way it was sent, and is counted by its tag.
func TestThrottled(t *testing.T) {
	t.Parallel()
	released := make(chan struct{})
	i := 0
	g := openGroup(t, 3, func(cfg *concordat.Config) {
		cfg.Founding.FlowControl = concordat.DefaultFlowControl()
		cfg.Founding.FlowControl.TargetLag, cfg.Founding.FlowControl.Floor = 100*time.Millisecond, 1
		if i++; i == 3 {
			e, err := pebblekv.Open(filepath.Join(cfg.Dir, "data"), pebblekv.Options{})
			if err != nil {
				t.Fatal(err)
			}
			cfg.Engine = stuckEngine{e, released}
		}
	})
	t.Cleanup(sync.OnceFunc(func() { close(released) }))
	c := g.dial()
	mustPut(t, c, "k", "1")
	for _, begin := range []struct {
		tag  string
		call func(ctx context.Context, opt client.Option) error
	}{
		{"put", func(ctx context.Context, opt client.Option) error {
			_, err := c.Put(ctx, []byte("k"), []byte("2"), opt)
			return err
		}},
		{"txn", func(ctx context.Context, opt client.Option) error {
			_, err := c.Txn(ctx, []client.Op{client.OpPut([]byte("k"), nil)}, opt)
			return err
		}},
		{"run", func(ctx context.Context, opt client.Option) error {
			_, err := c.Run(ctx, func(tx *client.Tx) error { return tx.Put(ctx, []byte("k"), nil) }, opt)
			return err
		}},
	} {
		t.Run(begin.tag, func(t *testing.T) {
			ctx := testContext(t)
			for {
				brief, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
				err := begin.call(brief, client.WithTag(begin.tag, 3))
				cancel()
				if ctx.Err() != nil {
					t.Fatalf("nobody had to wait for %s: %v", g.uuid(2), err)
				}
				e, ok := errors.AsType[*client.ThrottledError](err)
				if !ok || e.Limiting != g.uuid(2) { // a busy machine may have others limit before that
					continue
				}
				if e.Lag == 0 || e.Quota == 0 || e.Waited == 0 {
					t.Errorf("%+v", e)
				}
				if !errors.Is(err, client.ErrThrottled) || !errors.Is(err, context.DeadlineExceeded) || client.Retryable(err) {
					t.Errorf("%v matches not what it is", err)
				}
				break
			}
			counted := g.nodes[0].Status().Flow.Tags
			if !slices.ContainsFunc(counted, func(f concordat.TagFlow) bool { return f.Tag == begin.tag && f.Weight == 3 && f.Waited > 0 }) {
				t.Errorf("counted: %+v", counted)
			}
		})
	}
}
