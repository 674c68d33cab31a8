package concordat_test

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/concordatdb/concordat"
	"github.com/concordatdb/concordat/applier"
	"github.com/concordatdb/concordat/applier/pebblekv"
)

// faultyEngine is a program's own engine that can be told to fail.
type faultyEngine struct {
	applier.Engine
	fault chan func() error // what the next Apply does instead; closed: nothing
}

var errFaulty = errors.New("engine out of order")

func newFaultyEngine(t testing.TB, dir string) *faultyEngine {
	t.Helper()
	e, err := pebblekv.Open(filepath.Join(dir, "data"), pebblekv.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return &faultyEngine{Engine: e, fault: make(chan func() error, 1)}
}

func (e *faultyEngine) Apply(b applier.Batch) error {
	if len(b.Transactions) > 0 {
		select {
		case f := <-e.fault:
			if err := f(); err != nil {
				return err
			}
		default:
		}
	}
	return e.Engine.Apply(b)
}

// mustBeFailed checks what a member in ERROR still does, and what it refuses.
func mustBeFailed(t *testing.T, n *concordat.Node, text string) {
	t.Helper()
	ctx := testContext(t)
	if _, err := n.WaitState(ctx, func(s concordat.State) bool { return s == concordat.Error }); err != nil {
		t.Fatalf("member is %s, want ERROR: %v", n.Status().State, err)
	}
	if err := n.Status().Err; !errors.Is(err, concordat.ErrFailed) || !strings.Contains(err.Error(), text) {
		t.Errorf("cause %v, want ErrFailed that names %q", err, text)
	}
	if _, err := n.Begin(ctx); !errors.Is(err, concordat.ErrFailed) {
		t.Errorf("begin: %v, want ErrFailed", err)
	}
	if err := n.Leave(ctx); !errors.Is(err, concordat.ErrFailed) {
		t.Errorf("leave: %v, want ErrFailed", err)
	}
	if got := contents(t, n)["before"]; got != "1" {
		t.Errorf("what was there before reads %q", got)
	}
}

func TestEngineThatFails(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, text string
		fault      func() error
	}{
		{"with an error", errFaulty.Error(), func() error { return errFaulty }},
		{"with a panic", "index out of range", func() error { return []error{}[len(t.Name())] }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			ctx := testContext(t)
			g := openGroup(t, 2)
			cfg := joiner(t, g.nodes[0])
			engine := newFaultyEngine(t, cfg.Dir)
			cfg.Engine = engine
			bad := mustOpen(t, cfg)
			mustPut(t, bad, "before", "1")
			engine.fault <- c.fault
			_, err := bad.Update(ctx, func(tx *concordat.Tx) error {
				return tx.Put(accounts, []byte("at"), []byte("2"))
			})
			if !errors.Is(err, concordat.ErrOutcomeUnknown) || errors.Is(err, concordat.ErrFailed) {
				t.Errorf("commit on a member that fails: %v, want ErrOutcomeUnknown alone", err)
			}
			mustBeFailed(t, bad, c.text)
			mustPut(t, g.nodes[0], "after", "3")
			mustPut(t, g.nodes[1], "after that", "4")
			mustAgree(t, g.nodes...)
			mustClose(t, bad)

			// With an engine in order again, the member is whole again.
			cfg = again(bad, cfg)
			cfg.Engine = newFaultyEngine(t, cfg.Dir)
			mustAgree(t, g.nodes[0], g.nodes[1], mustOpen(t, cfg))
			if got := contents(t, g.nodes[0])["at"]; got != "2" {
				t.Errorf("the transaction that was certified reads %q", got)
			}
		})
	}
}
