package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime/pprof"
	"sync"
	"time"

	"github.com/concordatdb/concordat"
	"github.com/concordatdb/concordat/gtid"
)

// load is what one row measures.
type load struct {
	Shape      Shape     `json:"shape"`
	Placement  Placement `json:"placement"`
	Clients    int       `json:"clients"`
	ValueBytes int       `json:"value_bytes"`
	HotKeys    int       `json:"hot_keys,omitempty"`   // shared by all clients; 0: each client has its own keys
	ReadFirst  bool      `json:"read_first,omitempty"` // the transaction reads the key before it writes it
	Adds       bool      `json:"adds,omitempty"`       // the transaction adds to a hot counter
	// ScanShare makes the transactions serializable: each scans this share of
	// all keys, somewhere, and writes one of them.
	ScanShare float64 `json:"scan_share,omitempty"`

	keys  int // preloaded, to be divided among the clients
	level concordat.Consistency
	reads bool // the transaction writes nothing

	profiles string // directory for those of the row, "" for none
}

func (l load) String() string {
	s := fmt.Sprintf("%s, %s, %d clients, %d B", l.Shape, l.Placement, l.Clients, l.ValueBytes)
	if l.HotKeys > 0 {
		s += fmt.Sprintf(", %d hot keys", l.HotKeys)
	}
	if l.ReadFirst {
		s += ", read first"
	}
	if l.Adds {
		s += ", added to"
	}
	if l.reads {
		s += ", read only"
	}
	if l.level != 0 {
		s += ", " + l.level.String()
	}
	if l.ScanShare > 0 {
		s += fmt.Sprintf(", serializable scans of %g %%", 100*l.ScanShare)
	}
	return s
}

// job is one transaction.
type job struct {
	key, value []byte
	readFirst  bool
	reads      bool // it only reads the key
	add        bool
	level      concordat.Consistency // 0: the default
	from, to   []byte                // scanned, if not nil
}

// job chooses what a client does next.
func (l load) job(client int, random *rand.Rand) job {
	j := job{readFirst: l.ReadFirst, reads: l.reads, add: l.Adds, level: l.level}
	switch {
	case l.ScanShare > 0:
		n := max(1, int(l.ScanShare*float64(l.keys)))
		from := random.IntN(l.keys - n + 1)
		j.from, j.to = keyOf(from), keyOf(from+n)
		j.key = keyOf(from + random.IntN(n))
	case l.Adds:
		j.key = fmt.Appendf(nil, "sum-%d", random.IntN(l.HotKeys))
	case l.HotKeys > 0:
		j.key = keyOf(random.IntN(l.HotKeys))
	default:
		own := l.keys / l.Clients
		j.key = keyOf(client*own + random.IntN(own))
	}
	if !l.reads {
		j.value = valueOf(random, l.ValueBytes)
	}
	return j
}

// group is three members under load.
type group interface {
	// update commits one transaction at a member, and returns how often it had
	// to be run again for a conflict. One that scans is not run again.
	update(ctx context.Context, member int, j job) (id gtid.GTID, conflicts int, err error)
	// load commits many writes as one transaction.
	load(ctx context.Context, pairs []pair) error
	// leader is the primary, or the member that leads where all write.
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

// caller is one loop's tally.
type caller struct {
	latency   *times
	conflicts int
	errors    int
	last      error
	wrote     map[gtid.GTID][]byte       // of scanning loads
	refused   []*concordat.ConflictError // for a write into a scanned range
}

// phase is what the clients are doing. It only moves on.
type phase struct {
	measuring chan struct{} // closed when the warm-up ends
	over      chan struct{} // closed when the measuring ends
}

func newPhase() phase {
	return phase{measuring: make(chan struct{}), over: make(chan struct{})}
}

// measure measures one row. Its clients wait for a group that is busy with itself,
// as those of an application do: whose context never ends is refused at once.
func (t Timing) measure(ctx context.Context, g group, l load) (row Row, err error) {
	return t.measureIn(ctx, g, l, newPhase())
}

// measureIn is measure for who does something beside it, and looks at the phase.
func (t Timing) measureIn(ctx context.Context, g group, l load, p phase) (row Row, err error) {
	ctx, cancel := context.WithTimeout(ctx, t.WarmUp+t.Duration+patience)
	defer cancel()
	first := 0
	if l.Placement != AllOver {
		if first, err = g.leader(ctx); err != nil {
			return Row{}, err
		}
	}
	if l.Placement == OneFollower {
		first = (first + 1) % Members
	}
	row = Row{load: l}
	row.BackgroundBefore = background(ctx)
	clients := make([]*caller, l.Clients)
	var loops sync.WaitGroup
	for i := range clients {
		member := first
		if l.Placement == AllOver {
			member = i % Members
		}
		clients[i] = &caller{latency: newTimes()}
		loops.Go(func() { clients[i].loop(ctx, g, l, p, i, member) })
	}
	defer func() {
		if !done(p.over) {
			close(p.over)
		}
		loops.Wait()
	}()
	if err := pause(ctx, t.WarmUp); err != nil {
		return Row{}, err
	}
	if err := t.measurePhase(ctx, g, p, &row); err != nil {
		return Row{}, err
	}
	loops.Wait()
	row.tally(clients)
	row.BackgroundAfter = background(ctx)
	return row, lastError(clients)
}

// measurePhase runs the measured time and takes the readings on both sides of
// it.
func (t Timing) measurePhase(ctx context.Context, g group, p phase, row *Row) error {
	stop, err := row.profile()
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
	err = pause(ctx, t.Duration)
	close(p.over)
	took := time.Since(began)
	after, usageErr := g.usage(ctx)
	row.Seconds = took.Seconds()
	row.cpu = after.cpu - before.cpu
	row.logWrites = after.logWrites - before.logWrites
	row.flushes = row.diskFlushes() - flushes
	return errors.Join(err, usageErr, stop())
}

// loop is one caller: one transaction after the other until the time is over.
func (c *caller) loop(ctx context.Context, g group, l load, p phase, number, member int) {
	random := newRandom(uint64(number) + 1)
	for !done(p.over) && ctx.Err() == nil {
		j := l.job(number, random)
		counted := done(p.measuring)
		began := time.Now()
		id, conflicts, err := g.update(ctx, member, j)
		took := time.Since(began)
		if j.from != nil {
			c.noteScan(id, j.key, err)
		}
		if !counted || done(p.over) {
			continue
		}
		c.conflicts += conflicts
		switch {
		case err == nil:
			c.latency.note(took)
		case concordat.Retryable(err):
			c.conflicts++
		default:
			c.errors++
			c.last = err
		}
	}
}

// noteScan keeps what tells afterwards whether a refusal was due.
func (c *caller) noteScan(id gtid.GTID, key []byte, err error) {
	if c.wrote == nil {
		c.wrote = map[gtid.GTID][]byte{}
	}
	if err == nil {
		c.wrote[id] = key
	}
	if e, ok := errors.AsType[*concordat.ConflictError](err); ok && e.Range {
		c.refused = append(c.refused, e)
	}
}

// falselyRefused counts the transactions that were refused for a write outside
// of what they had scanned.
func falselyRefused(clients []*caller) (n int) {
	for _, c := range clients {
		for _, e := range c.refused {
			for _, winner := range clients {
				key, found := winner.wrote[e.Winner]
				if found && (bytes.Compare(key, e.From) < 0 || bytes.Compare(key, e.To) >= 0) {
					n++
				}
			}
		}
	}
	return n
}

// lastError makes a row fail in which nothing but errors happened.
func lastError(clients []*caller) error {
	for _, c := range clients {
		if c.errors > 0 && c.latency.count() == 0 {
			return c.last
		}
	}
	return nil
}

// profile begins the profiles of a row, if they are wanted and it runs here.
func (l load) profile() (stop func() error, err error) {
	if l.profiles == "" || l.Shape != InProcess {
		return func() error { return nil }, nil
	}
	name := fmt.Sprintf("%s-%d-clients-%d-bytes", l.Placement, l.Clients, l.ValueBytes)
	if l.HotKeys > 0 {
		name += fmt.Sprintf("-%d-hot", l.HotKeys)
	}
	if l.ScanShare > 0 {
		name += "-scans"
	}
	if err := os.MkdirAll(l.profiles, 0o755); err != nil {
		return nil, err
	}
	cpu, err := os.Create(filepath.Join(l.profiles, name+".cpu.pprof"))
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(cpu); err != nil {
		return nil, errors.Join(err, cpu.Close())
	}
	return func() error {
		pprof.StopCPUProfile()
		allocs, err := os.Create(filepath.Join(l.profiles, name+".allocs.pprof"))
		if err != nil {
			return errors.Join(err, cpu.Close())
		}
		return errors.Join(pprof.Lookup("allocs").WriteTo(allocs, 0), allocs.Close(), cpu.Close())
	}, nil
}
