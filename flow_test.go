package concordat_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/concordatdb/concordat"
	"github.com/concordatdb/concordat/gtid"
)

// hold has the engine stand still with its next transaction until the returned
// function is called.
func (e *faultyEngine) hold() (release func()) {
	held := make(chan struct{})
	e.fault <- func() error { <-held; return nil }
	return func() { close(held) }
}

// waitEvent waits for an event of a kind about any of members on a node, or about
// whom it likes if there are none.
func waitEvent(t *testing.T, n *concordat.Node, kind concordat.EventKind, members ...gtid.UUID) concordat.Event {
	t.Helper()
	ctx := testContext(t)
	for seq := uint64(0); ; {
		events, err := n.WaitEvents(ctx, seq)
		if err != nil {
			t.Fatalf("no event %s: %v", kind, err)
		}
		for _, e := range events {
			if e.Kind == kind && (len(members) == 0 || slices.Contains(members, e.Member)) {
				return e
			}
			seq = e.Seq
		}
	}
}

// throttled commits transactions until flow control lets one wait for too long for
// the sake of a member. A busy machine may have others limit before that.
func throttled(t *testing.T, n *concordat.Node, limiting gtid.UUID) *concordat.ThrottledError {
	t.Helper()
	for ctx := testContext(t); ctx.Err() == nil; {
		brief, cancel := context.WithTimeout(ctx, 30*time.Millisecond)
		tx, err := n.Begin(brief, concordat.WithTag("bulk", 2))
		cancel()
		if err == nil {
			if err = tx.Put(accounts, []byte("more"), []byte("1")); err == nil {
				_, err = tx.Commit(ctx)
			}
		}
		if e, ok := errors.AsType[*concordat.ThrottledError](err); ok {
			if !errors.Is(err, concordat.ErrThrottled) || !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%v matches not what it is", err)
			}
			if e.Limiting == limiting {
				return e
			}
		}
	}
	t.Fatalf("nobody had to wait for %s", limiting)
	return nil
}

// TestFlowControl: while one member's engine stands still, the others write at a
// limited pace, and say for whom; when it goes on, they do not any more.
func TestFlowControl(t *testing.T) {
	t.Parallel()
	g := openGroup(t, 2, func(c *concordat.Config) {
		c.Founding.FlowControl = concordat.DefaultFlowControl()
		c.Founding.FlowControl.TargetLag, c.Founding.FlowControl.Floor = 100*time.Millisecond, 1
	})
	writer := g.nodes[0]
	cfg := joiner(t, writer)
	engine := newFaultyEngine(t, cfg.Dir)
	cfg.Engine = engine
	slow := mustOpen(t, cfg)
	release := sync.OnceFunc(engine.hold())
	t.Cleanup(release)
	mustPut(t, writer, "key", "1")
	e := throttled(t, writer, slow.Status().Member)
	if e.Lag == 0 || e.Quota == 0 || !strings.Contains(e.Error(), e.Limiting.String()) {
		t.Errorf("%v names not who limits", e)
	}
	s := writer.Status().Flow
	if !s.Throttled || s.Mode != concordat.FlowAdaptive || s.Limiting != e.Limiting || s.Since.IsZero() || s.Held == 0 || s.Waited == 0 {
		t.Errorf("status: %+v", s)
	}
	if len(s.Members) != 3 || len(s.Tags) == 0 || s.Tags[0].Tag != "bulk" || s.Tags[0].Weight != 2 || s.Tags[0].Held == 0 {
		t.Errorf("counted: %+v", s)
	}
	if ev := waitEvent(t, writer, concordat.EventFlowThrottled, e.Limiting); !strings.Contains(ev.Text, "ADAPTIVE") {
		t.Errorf("event %+v", ev)
	}
	release()
	waitEvent(t, writer, concordat.EventFlowReleased)
	mustPut(t, writer, "key", "2")
	eventually(t, "no limit", func() bool { return !writer.Status().Flow.Throttled })
	mustAgree(t, writer, g.nodes[1], slow)
}

// TestFlowControlOff: a member that may fall behind slows nobody; nor does anybody
// in a group that chose so.
func TestFlowControlOff(t *testing.T) {
	t.Parallel()
	const target = 2 * time.Second                                                 // which members that may slow the others keep on a busy machine too
	for name, exempt := range map[string]bool{"exempt": true, "disabled": false} { // order-free: each is a test of its own
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := openGroup(t, 2, func(c *concordat.Config) {
				c.Founding.FlowControl = concordat.DefaultFlowControl()
				c.Founding.FlowControl.TargetLag, c.Founding.FlowControl.Floor = target, 1
				if !exempt {
					c.Founding.FlowControl.Mode = concordat.FlowDisabled
				}
			})
			writer := g.nodes[0]
			cfg := joiner(t, writer)
			cfg.FlowControlExempt = exempt
			engine := newFaultyEngine(t, cfg.Dir)
			cfg.Engine = engine
			slow := mustOpen(t, cfg)
			release := sync.OnceFunc(engine.hold())
			t.Cleanup(release)
			mustPut(t, writer, "key", "1")
			eventually(t, "a member that is behind", func() bool {
				for _, m := range writer.Status().Flow.Members {
					if m.Member == slow.Status().Member && m.Age > target+time.Second {
						return true
					}
				}
				return false
			})
			mustPut(t, writer, "key", "2")
			if s := writer.Status().Flow; s.Throttled || s.Held != 0 {
				t.Errorf("it was slowed: %+v", s)
			}
			release()
			mustAgree(t, writer, g.nodes[1], slow)
		})
	}
}

func TestTagsAreChecked(t *testing.T) {
	t.Parallel()
	n := openGroup(t, 1).nodes[0]
	for _, o := range []concordat.TxOption{
		concordat.WithTag(strings.Repeat("x", concordat.MaxTag+1), 1), concordat.WithTag("x", -1), concordat.WithTag("x", 1001),
		concordat.WithTag("", 1), concordat.WithTag("a\tb", 1), concordat.WithTag("\xff", 1), concordat.WithTag("a\u2028b", 1),
	} {
		if _, err := n.Begin(testContext(t), o); !errors.Is(err, concordat.ErrInvalid) {
			t.Errorf("%v, want ErrInvalid", err)
		}
	}
	for _, o := range []concordat.TxOption{concordat.WithTag("", 0), concordat.WithTag("größe 2", 0), concordat.WithTag("x", 1000)} {
		tx, err := n.Begin(testContext(t), o)
		if err != nil {
			t.Fatal(err)
		}
		_ = tx.Rollback()
	}
}
