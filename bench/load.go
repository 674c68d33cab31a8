package bench

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime/pprof"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/concordatdb/concordat"
)

// load is what one row measures.
type load struct {
	Shape      Shape     `json:"shape"`
	Placement  Placement `json:"placement"`
	Clients    int       `json:"clients"`
	ValueBytes int       `json:"value_bytes"`
	HotKeys    int       `json:"hot_keys,omitempty"`   // shared by all clients; 0: each client has its own keys
	ReadFirst  bool      `json:"read_first,omitempty"` // the transaction reads the key before it writes it

	keys int // preloaded, to be divided among the clients
}

func (l load) String() string {
	s := fmt.Sprintf("%s, %s, %d clients, %d B", l.Shape, l.Placement, l.Clients, l.ValueBytes)
	if l.HotKeys > 0 {
		s += fmt.Sprintf(", %d hot keys", l.HotKeys)
	}
	if l.ReadFirst {
		s += ", read first"
	}
	return s
}

// key chooses what a client writes next.
func (l load) key(client int, random *rand.Rand) []byte {
	if l.HotKeys > 0 {
		return keyOf(random.IntN(l.HotKeys))
	}
	own := l.keys / l.Clients
	return keyOf(client*own + random.IntN(own))
}

// group is three members under load.
type group interface {
	// update commits one transaction at a member and does not repeat it.
	update(ctx context.Context, member int, key, value []byte, readFirst bool) error
	// load commits many writes as one transaction.
	load(ctx context.Context, pairs []pair) error
	// leader is the member that leads.
	leader(ctx context.Context) (int, error)
	// usage returns what the members and this process have used so far.
	usage(ctx context.Context) (usage, error)
	close() error
}

// usage is what has been used since some beginning.
type usage struct {
	cpu       time.Duration
	logWrites uint64 // group commits of the members' logs
}

// client is one loop's tally.
type client struct {
	latency   *hdrhistogram.Histogram // microseconds
	conflicts int
	errors    int
	last      error
}

// Latencies are recorded from a microsecond to ten minutes with three digits.
const latencyDigits = 3

var latencyMost = (10 * time.Minute).Microseconds()

// phase is what the clients are doing. It only moves on.
type phase struct {
	measuring chan struct{} // closed when the warm-up ends
	over      chan struct{} // closed when the measuring ends
}

func newPhase() phase {
	return phase{measuring: make(chan struct{}), over: make(chan struct{})}
}

func done(c chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func (o *Options) measure(ctx context.Context, g group, l load) (row Row, err error) {
	first := 0
	if l.Placement == OneMember {
		if first, err = g.leader(ctx); err != nil {
			return Row{}, err
		}
	}
	row = Row{load: l}
	row.BackgroundBefore = background(ctx)
	p := newPhase()
	clients := make([]*client, l.Clients)
	var loops sync.WaitGroup
	for i := range clients {
		member := first
		if l.Placement == AllOver {
			member = i % Members
		}
		clients[i] = &client{latency: hdrhistogram.New(1, latencyMost, latencyDigits)}
		loops.Go(func() { clients[i].loop(ctx, g, l, p, i, member) })
	}
	defer func() {
		if !done(p.over) {
			close(p.over)
		}
		loops.Wait()
	}()
	if err := pause(ctx, o.WarmUp); err != nil {
		return Row{}, err
	}
	if err := o.measurePhase(ctx, g, p, &row); err != nil {
		return Row{}, err
	}
	loops.Wait()
	row.tally(clients)
	row.BackgroundAfter = background(ctx)
	return row, lastError(clients)
}

// measurePhase runs the measured time and takes the readings on both sides of
// it.
func (o *Options) measurePhase(ctx context.Context, g group, p phase, row *Row) error {
	stop, err := o.profile(*row)
	if err != nil {
		return err
	}
	before, err := g.usage(ctx)
	if err != nil {
		return errors.Join(err, stop())
	}
	flushes := row.diskFlushes()
	began := time.Now()
	close(p.measuring)
	err = pause(ctx, o.Duration)
	close(p.over)
	took := time.Since(began)
	after, usageErr := g.usage(ctx)
	row.Seconds = took.Seconds()
	row.cpu = after.cpu - before.cpu
	row.logWrites = after.logWrites - before.logWrites
	row.flushes = row.diskFlushes() - flushes
	return errors.Join(err, usageErr, stop())
}

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

// loop is one client: one transaction after the other until the time is over.
func (c *client) loop(ctx context.Context, g group, l load, p phase, number, member int) {
	random := newRandom(uint64(number) + 1)
	for !done(p.over) && ctx.Err() == nil {
		key, value := l.key(number, random), valueOf(random, l.ValueBytes)
		counted := done(p.measuring)
		began := time.Now()
		err := g.update(ctx, member, key, value, l.ReadFirst)
		took := time.Since(began)
		if !counted || done(p.over) {
			continue
		}
		switch {
		case err == nil:
			_ = c.latency.RecordValue(min(took.Microseconds(), latencyMost))
		case concordat.Retryable(err):
			c.conflicts++
		default:
			c.errors++
			c.last = err
		}
	}
}

// lastError makes a row fail in which nothing but errors happened.
func lastError(clients []*client) error {
	for _, c := range clients {
		if c.errors > 0 && c.latency.TotalCount() == 0 {
			return c.last
		}
	}
	return nil
}

// profile begins the profiles of a row, if they are wanted and it runs here.
func (o *Options) profile(row Row) (stop func() error, err error) {
	if o.Profiles == "" || row.Shape != InProcess {
		return func() error { return nil }, nil
	}
	name := fmt.Sprintf("%s-%d-clients-%d-bytes", row.Placement, row.Clients, row.ValueBytes)
	if row.HotKeys > 0 {
		name += fmt.Sprintf("-%d-hot", row.HotKeys)
	}
	if err := os.MkdirAll(o.Profiles, 0o755); err != nil {
		return nil, err
	}
	cpu, err := os.Create(filepath.Join(o.Profiles, name+".cpu.pprof"))
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(cpu); err != nil {
		return nil, errors.Join(err, cpu.Close())
	}
	return func() error {
		pprof.StopCPUProfile()
		allocs, err := os.Create(filepath.Join(o.Profiles, name+".allocs.pprof"))
		if err != nil {
			return errors.Join(err, cpu.Close())
		}
		return errors.Join(pprof.Lookup("allocs").WriteTo(allocs, 0), allocs.Close(), cpu.Close())
	}, nil
}
