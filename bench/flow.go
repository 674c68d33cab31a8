package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/concordatdb/concordat"
	"github.com/concordatdb/concordat/applier"
	"github.com/concordatdb/concordat/applier/pebblekv"
)

// FlowOptions say what to measure of flow control: three writers, of which one
// member's engine becomes so slow that it can do a part only of what the group does.
type FlowOptions struct {
	Site
	Modes   []concordat.FlowControlMode
	Clients int // in all
	// Factor is by how much the slow member is slower than the group is without it.
	Factor float64
	// WarmUp is how long the group runs before one is slowed, which is when it is
	// measured how much it does, and Duration how long after that.
	WarmUp, Duration time.Duration
	Keys             int // preloaded
}

// FlowDefaults returns what concordat bench flow measures.
func FlowDefaults() FlowOptions {
	return FlowOptions{
		Modes:   []concordat.FlowControlMode{concordat.FlowDisabled, concordat.FlowQuota, concordat.FlowAdaptive},
		Clients: 48, Factor: 3, WarmUp: 4 * time.Second, Duration: 30 * time.Second, Keys: 20_000,
	}
}

func (o *FlowOptions) validate() error {
	var wrong flaws
	wrong.check(len(o.Modes) > 0, "name at least one mode of flow control")
	wrong.check(o.Clients > 0 && o.Keys >= o.Clients, "there must be a client, and a key for each")
	wrong.check(o.Factor >= 1, "a slow member is slower by a factor of 1 or more")
	wrong.check(o.WarmUp >= time.Second && o.Duration >= time.Second, "warm-up and duration must be a second or more")
	return wrong.err()
}

// FlowReport is what was measured of flow control.
type FlowReport struct {
	Machine Machine   `json:"machine"`
	Runs    []FlowRun `json:"runs"`
}

// FlowRun is one mode.
type FlowRun struct {
	Mode string `json:"mode"`
	// Before is how many transactions the group committed a second before one was
	// slowed, and Capacity how many the slow one can do.
	Before   float64      `json:"before"`
	Capacity float64      `json:"capacity"`
	Seconds  []FlowSecond `json:"seconds"`
}

// FlowSecond is one second of a run.
type FlowSecond struct {
	Committed []uint64 `json:"committed"` // by member
	// Behind is for how many milliseconds the oldest transaction has waited that the
	// slow member has ordered and does not show, and Waiting how many do.
	Behind  int64  `json:"behind_ms"`
	Waiting uint64 `json:"waiting"`
	Held    uint64 `json:"held"` // transactions that had to wait to begin
}

func (s *FlowSecond) total() (n uint64) {
	for _, c := range s.Committed {
		n += c
	}
	return n
}

// slowedEngine takes so much time for each transaction, however fast its disk is.
type slowedEngine struct {
	applier.Engine
	each atomic.Int64 // nanoseconds
}

// Apply implements [applier.Engine].
func (e *slowedEngine) Apply(b applier.Batch) error {
	began := time.Now()
	if err := e.Engine.Apply(b); err != nil {
		return err
	}
	left := time.Duration(e.each.Load()*int64(len(b.Transactions))) - time.Since(began)
	if left > 0 {
		<-time.After(left)
	}
	return nil
}

// RunFlow measures and returns the report. It stops early when ctx ends.
func RunFlow(ctx context.Context, o FlowOptions) (r FlowReport, err error) {
	if err := o.validate(); err != nil {
		return r, err
	}
	dir, remove, err := o.prepare(&r.Machine)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, remove()) }()
	for _, mode := range o.Modes {
		runtime.GC() // what the last group has left behind
		run, err := o.run(ctx, mode, filepath.Join(dir, mode.String()))
		if err != nil {
			return r, fmt.Errorf("bench: %v: %w", mode, err)
		}
		r.Runs = append(r.Runs, run)
	}
	return r, nil
}

// start makes a group of three writers, the last with an engine that can be slowed.
func (o *FlowOptions) start(ctx context.Context, mode concordat.FlowControlMode, dir string) (g *nodes, slow *slowedEngine, err error) {
	g, err = startNodes(ctx, dir, concordat.MultiPrimary, func(i int, cfg *concordat.Config) error {
		switch i {
		case 0:
			cfg.Founding.FlowControl = concordat.DefaultFlowControl()
			cfg.Founding.FlowControl.Mode = mode
		case Members - 1:
			e, err := pebblekv.Open(filepath.Join(cfg.Dir, "data"), pebblekv.Options{})
			if err != nil {
				return err
			}
			slow = &slowedEngine{Engine: e}
			cfg.Engine = slow
		}
		return nil
	})
	return g, slow, err
}

func (o *FlowOptions) run(ctx context.Context, mode concordat.FlowControlMode, dir string) (run FlowRun, err error) {
	o.tell("%v: starting %d members, preloading %d keys", mode, Members, o.Keys)
	run.Mode = mode.String()
	g, slow, err := o.start(ctx, mode, dir)
	if err != nil {
		return run, err
	}
	defer func() { err = errors.Join(err, g.close()) }()
	defer slow.each.Store(0) // or closing would wait for what has gathered
	if err := preload(ctx, g, o.Keys, smallValue); err != nil {
		return run, err
	}
	failures, stop := o.write(ctx, g)
	defer stop()
	warm, err := o.watch(ctx, g, o.WarmUp, failures)
	if err != nil {
		return run, err
	}
	for i := range warm[1:] { // the first second has the start in it
		run.Before += float64(warm[i+1].total()) / float64(max(1, len(warm)-1))
	}
	run.Before = max(run.Before, 1)
	run.Capacity = run.Before / o.Factor
	slow.each.Store(int64(float64(time.Second) / run.Capacity))
	o.tell("%v: %.0f a second; member %d can do %.0f from now on", mode, run.Before, Members, run.Capacity)
	run.Seconds, err = o.watch(ctx, g, o.Duration, failures)
	return run, err
}

// write has the clients write until stop is called, which waits for them. One that
// gets an error tells it, and writes no more.
func (o *FlowOptions) write(ctx context.Context, g *nodes) (failures <-chan error, stop func()) {
	writing, cancel := context.WithCancel(ctx)
	l := load{Shape: InProcess, Placement: AllOver, Clients: o.Clients, ValueBytes: smallValue, keys: o.Keys}
	failed := make(chan error, o.Clients)
	var clients sync.WaitGroup
	for i := range o.Clients {
		clients.Go(func() {
			random := newRandom(uint64(i))
			for writing.Err() == nil {
				if _, _, err := g.update(writing, i%Members, l.job(i, random)); err != nil && writing.Err() == nil {
					failed <- err
					return
				}
			}
		})
	}
	return failed, func() {
		cancel()
		clients.Wait()
	}
}

// watch counts what happens in each second.
func (o *FlowOptions) watch(ctx context.Context, g *nodes, d time.Duration, failures <-chan error) (seconds []FlowSecond, err error) {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	counts := func() (c []uint64, held uint64) {
		for _, n := range g.members {
			s := n.Status()
			c = append(c, s.Counters.Committed)
			held += s.Flow.Held
		}
		return c, held
	}
	before, heldBefore := counts()
	for range int(d / time.Second) {
		select {
		case <-ticker.C:
		case err := <-failures:
			return nil, err
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
		now, held := counts()
		s := FlowSecond{Held: held - heldBefore}
		for i := range now {
			s.Committed = append(s.Committed, now[i]-before[i])
		}
		s.Behind, s.Waiting = behind(g.members[Members-1])
		seconds, before, heldBefore = append(seconds, s), now, held
	}
	return seconds, nil
}

// behind is for how many milliseconds a member has had the oldest transaction that
// it does not show, and how many it has.
func behind(n *concordat.Node) (oldest int64, waiting uint64) {
	status := n.Status()
	for i := range status.Flow.Members {
		if m := &status.Flow.Members[i]; m.Member == status.Member {
			return m.Age.Milliseconds(), m.Waiting + m.Backlog
		}
	}
	return 0, 0
}

// WriteMarkdown writes a table of the runs, and one of their seconds.
func (r FlowReport) WriteMarkdown(w io.Writer) error {
	p := &page{w: w}
	p.printf("| mode | before | slow member can do | mean | of that | least | most | behind at most | behind in the end |\n|---|---|---|---|---|---|---|---|---|\n")
	for i := range r.Runs {
		x := &r.Runs[i]
		sum, least, most, behind := uint64(0), ^uint64(0), uint64(0), int64(0)
		for j := range x.Seconds {
			n := x.Seconds[j].total()
			sum, least, most, behind = sum+n, min(least, n), max(most, n), max(behind, x.Seconds[j].Behind)
		}
		mean := float64(sum) / float64(max(1, len(x.Seconds)))
		p.printf("| %s | %.0f/s | %.0f/s | %.0f/s | %.0f %% | %d | %d | %.1f s | %.1f s |\n", x.Mode, x.Before, x.Capacity, mean,
			100*mean/x.Capacity, least, most, float64(behind)/1000, float64(x.Seconds[len(x.Seconds)-1].Behind)/1000)
	}
	for i := range r.Runs {
		x := &r.Runs[i]
		p.printf("\n%s\n\n| second | committed | by member | behind | waiting | held |\n|---|---|---|---|---|---|\n", x.Mode)
		for j := range x.Seconds {
			s := &x.Seconds[j]
			p.printf("| %d | %d | %v | %.1f s | %d | %d |\n", j+1, s.total(), s.Committed, float64(s.Behind)/1000, s.Waiting, s.Held)
		}
	}
	return p.err
}
