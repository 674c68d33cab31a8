package concordat_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/concordatdb/concordat"
	"github.com/concordatdb/concordat/applier"
	"github.com/concordatdb/concordat/applier/pebblekv"
)

// readyEngine counts what becomes of its preparations, and can have them fail.
type readyEngine struct {
	*pebblekv.Engine
	begun, visible, discarded atomic.Int32
	completed                 atomic.Int32
	prepare, add, apply       func() error // before the call; nil for nothing
	complete                  func() error // likewise
}

type watchedPreparation struct {
	applier.Preparation
	engine *readyEngine
	over   bool
}

func first(do func() error) error {
	if do == nil {
		return nil
	}
	return do()
}

func (e *readyEngine) Prepare() (applier.Preparation, error) {
	if err := first(e.prepare); err != nil {
		return nil, err
	}
	p, err := e.Engine.Prepare()
	if err != nil {
		return nil, err
	}
	e.begun.Add(1)
	return &watchedPreparation{Preparation: p, engine: e}, nil
}

func (p *watchedPreparation) Add(payload []byte) error {
	if err := first(p.engine.add); err != nil {
		return err
	}
	return p.Preparation.Add(payload)
}

func (p *watchedPreparation) Complete() error {
	if err := first(p.engine.complete); err != nil {
		return err
	}
	p.engine.completed.Add(1)
	return p.Preparation.Complete()
}

func (p *watchedPreparation) Apply(b applier.Batch) error {
	if err := first(p.engine.apply); err != nil {
		return err
	}
	err := p.Preparation.Apply(b)
	if err == nil {
		p.engine.visible.Add(1)
	}
	return err
}

func (p *watchedPreparation) Discard() {
	p.Preparation.Discard()
	if !p.over {
		p.over = true
		p.engine.discarded.Add(1)
	}
}

// openReady opens members on engines that are watched.
func openReady(t *testing.T, n int, change func(*readyEngine)) (*group, []*readyEngine) {
	t.Helper()
	var engines []*readyEngine
	g := openGroup(t, n, func(c *concordat.Config) {
		c.FoundingMode = concordat.MultiPrimary
		e, err := pebblekv.Open(filepath.Join(c.Dir, "rows"), pebblekv.Options{})
		if err != nil {
			t.Fatal(err)
		}
		w := &readyEngine{Engine: e}
		change(w)
		engines = append(engines, w)
		c.Engine = w
	})
	return g, engines
}

// A giant is got ready for on every member while its fragments come, among small
// transactions, and one that is taken back is given up.
func TestEngineGetsReady(t *testing.T) {
	t.Parallel()
	g, engines := openReady(t, 3, func(*readyEngine) {})
	load := startLoad(t, g.nodes...)
	for i := range 3 {
		mustCommit(t, giantOf(t, g.nodes[i], fmt.Sprint("giant", i), 3<<20))
	}
	load.more(t, 20)
	load.stop()
	for i, e := range engines {
		if begun, completed, visible := e.begun.Load(), e.completed.Load(), e.visible.Load(); begun != 3 || completed != 3 || visible != 3 {
			t.Errorf("member %d has begun %d, completed %d and shown %d giants, want 3", i, begun, completed, visible)
		}
	}
	takeBack(t, g.nodes[1])
	mustAgree(t, g.nodes...)
	for _, e := range engines {
		eventually(t, "the engine has given up what was taken back", func() bool { return e.discarded.Load() == 4 })
	}
	held := contents(t, g.nodes[2])
	for i := range 3 {
		if name := fmt.Sprintf("giant%d-%06d", i, 1); held[name] != string(make([]byte, 4<<10)) {
			t.Errorf("%s has %d bytes", name, len(held[name]))
		}
	}
}

// takeBack gives a giant up while its fragments pass, or as soon as it has ended.
func takeBack(t *testing.T, n *concordat.Node) {
	t.Helper()
	ctx, cancel := context.WithCancel(testContext(t))
	defer cancel()
	tx := giantOf(t, n, "back", 24<<20)
	result := make(chan error)
	go func() {
		_, err := tx.Commit(ctx)
		result <- err
	}()
	for n.Status().Counters.GiantsPending == 0 {
		mustPut(t, n, "tick", "1")
	}
	cancel()
	if err := <-result; err != nil && !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
}

// An engine that cannot get ready, at whatever moment that turns out, applies giants
// in their turn.
func TestEngineIsNotReady(t *testing.T) {
	t.Parallel()
	unprepared := func() error { return fmt.Errorf("%w: by wish", applier.ErrUnprepared) }
	later := func(n int32) func() error {
		var calls atomic.Int32
		return func() error {
			if calls.Add(1) > n {
				return errors.New("cannot take more")
			}
			return nil
		}
	}
	for name, change := range map[string]func(*readyEngine){
		"at the beginning": func(e *readyEngine) { e.prepare = unprepared },
		"at once":          func(e *readyEngine) { e.add = later(0) },
		"in the middle":    func(e *readyEngine) { e.add = later(5) },
		"by a panic":       func(e *readyEngine) { e.add = func() error { panic("by wish") } },
		"when it is whole": func(e *readyEngine) { e.complete = unprepared },
		"in its turn":      func(e *readyEngine) { e.apply = unprepared },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g, engines := openReady(t, 1, change)
			mustCommit(t, giantOf(t, g.nodes[0], "giant", 2<<20))
			mustCommit(t, giantOf(t, g.nodes[0], "another", 2<<20))
			if held := contents(t, g.nodes[0]); len(held) != 2*(2<<20>>12) {
				t.Errorf("%d keys are there", len(held))
			}
			if e := engines[0]; e.visible.Load() != 0 || e.discarded.Load() != e.begun.Load() {
				t.Errorf("of %d preparations %d were visible and %d discarded", e.begun.Load(), e.visible.Load(), e.discarded.Load())
			}
		})
	}
}

// An engine whose disk fails as it takes in what it has got ready fails the member.
func TestReadyEngineFails(t *testing.T) {
	t.Parallel()
	g, _ := openReady(t, 1, func(e *readyEngine) { e.apply = func() error { return errFaulty } })
	_, err := giantOf(t, g.nodes[0], "giant", 2<<20).Commit(testContext(t))
	if err == nil {
		t.Error("a giant is committed that nobody shows")
	}
	if s, err := g.nodes[0].WaitState(testContext(t), func(s concordat.State) bool { return s == concordat.Error }); err != nil {
		t.Errorf("the member is %v, %v", s, err)
	}
}
