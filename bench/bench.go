package bench

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"runtime"
	"time"

	"github.com/concordatdb/concordat"
)

// Shape is where the members run.
type Shape string

// The shapes.
const (
	InProcess Shape = "in-process"
	Processes Shape = "processes"
)

// Placement is where the clients are.
type Placement string

// The placements.
const (
	OneMember Placement = "one"    // all at the member that leads
	AllOver   Placement = "spread" // evenly over the three
	// OneFollower is for reading in a group with one primary: all are at a member
	// that is not it.
	OneFollower Placement = "follower"
)

// Options say what to measure. Each combination of the lists makes one row.
type Options struct {
	Site
	Shapes     []Shape
	Placements []Placement
	Clients    []int
	ValueBytes []int
	// Conflicts adds rows in which clients write the same few keys, add to the
	// same counter, and scan, serializably, what others write into.
	Conflicts bool
	Timing
	// Repeats measures everything so often, in turn.
	Repeats int
	// Keys is the number of keys preloaded.
	Keys int
	// Profiles, if not empty, is a directory for a CPU and an allocation
	// profile of each in-process row.
	Profiles string
	// WarmLog opens the members with Config.WarmLog.
	WarmLog bool
	// Procs, if positive, is GOMAXPROCS of this process while it measures. An
	// fsync keeps one of them for some time, and in process three members sync
	// at once; programs that hold one member each have no need of it.
	Procs int
}

// MemberOptions say which member is started.
type MemberOptions struct {
	Dir string
	// Seed is a member to join through; empty: it founds a group, or goes on
	// from its directory.
	Seed string
	// Mode is that of a group that is founded.
	Mode concordat.Mode
	// Earlier is the member that ran in this directory before, whose addresses
	// it has to have again; nil for a new one.
	Earlier NodeProcess
	// CheckpointBytes as in the node's configuration, 0 for the default.
	CheckpointBytes int
	// WarmLog as in the node's configuration.
	WarmLog bool
	// ApplyWorkers as in the node's configuration, 0 for the default.
	ApplyWorkers int
	// Place is where it is, for those that proxies are in front of.
	Place *Place
}

// Place is who a member is and where it is, when both are given to it.
type Place struct {
	Member       string // its UUID
	Listen       string // where it listens for other members
	Advertise    string // where they reach it
	ClientListen string
	// ClientAddress is where clients reach it.
	ClientAddress string
}

// StartMember starts a member process and returns when it serves transactions.
type StartMember func(ctx context.Context, o MemberOptions) (NodeProcess, error)

// NodeProcess is a member running as a process.
type NodeProcess interface {
	PID() int
	MemberAddress() string // for other members
	ClientAddress() string // for gRPC
	Stop() error           // kills the process and waits for its end
}

// Members is the size of the groups measured.
const Members = 3

// Defaults returns the full matrix.
func Defaults() Options {
	return Options{
		Shapes:     []Shape{InProcess, Processes},
		Placements: []Placement{OneMember, AllOver},
		Clients:    []int{1, 16, 64, 256},
		ValueBytes: []int{100, 1024},
		Conflicts:  true,
		Timing:     Timing{Duration: 2500 * time.Millisecond, WarmUp: time.Second},
		Repeats:    1,
		Keys:       60_000,
	}
}

func (o *Options) validate() error {
	var wrong flaws
	wrong.check(len(o.Shapes) > 0 && len(o.Placements) > 0 && len(o.Clients) > 0 && len(o.ValueBytes) > 0,
		"shapes, placements, clients and value sizes must each name at least one")
	for _, n := range o.Clients {
		wrong.check(n > 0, "%d clients cannot do anything", n)
		wrong.check(n <= o.Keys, "%d clients need a key each, there are %d", n, o.Keys)
	}
	for _, n := range o.ValueBytes {
		wrong.check(n > 0 && n <= 1<<20, "values of %d bytes; choose 1 to %d", n, 1<<20)
	}
	for _, s := range o.Shapes {
		wrong.check(s == InProcess || s == Processes, "unknown shape %q; choose %q or %q", s, InProcess, Processes)
		if s == Processes {
			wrong.checkStart(o.Start)
		}
	}
	for _, p := range o.Placements {
		wrong.check(p == OneMember || p == AllOver, "unknown placement %q; choose %q or %q", p, OneMember, AllOver)
	}
	wrong.check(o.Duration > 0 && o.WarmUp >= 0, "a duration of %v after a warm-up of %v measures nothing", o.Duration, o.WarmUp)
	wrong.check(o.Procs >= 0, "%d processors cannot run anything; 0 is Go's own choice", o.Procs)
	wrong.checkRepeats(o.Repeats)
	return wrong.err()
}

// Run measures and returns the report. It stops early when ctx ends.
func Run(ctx context.Context, o Options) (r Report, err error) {
	if err := o.validate(); err != nil {
		return r, err
	}
	if o.Procs > 0 {
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(o.Procs))
	}
	dir, remove, err := o.prepare(&r.Machine)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, remove()) }()
	for _, shape := range o.Shapes {
		rows, err := o.runShape(ctx, shape, filepath.Join(dir, string(shape)))
		r.Rows = append(r.Rows, rows...)
		if err != nil {
			return r, err
		}
	}
	return r, nil
}

// runShape starts a group, and measures all rows of one shape on it.
func (o *Options) runShape(ctx context.Context, shape Shape, dir string) (rows []Row, err error) {
	o.tell("%s: starting %d members, preloading %d keys", shape, Members, o.Keys)
	g, err := startGroup(ctx, shape, dir, MemberOptions{Mode: concordat.MultiPrimary, WarmLog: o.WarmLog}, o.Start)
	if err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	defer func() { err = errors.Join(err, g.close()) }()
	for _, size := range o.ValueBytes {
		if err := preload(ctx, g, o.Keys, size); err != nil {
			return rows, fmt.Errorf("bench: preload: %w", err)
		}
		for _, l := range o.loads(shape, size) {
			if err := ctx.Err(); err != nil {
				return rows, err
			}
			row, err := o.measure(ctx, g, l)
			if err != nil {
				return rows, fmt.Errorf("bench: %s: %w", l, err)
			}
			rows = append(rows, row)
			o.tell("%s: %.0f commits/s", l, row.CommitsPerSecond)
		}
	}
	return rows, nil
}

// loads lists what is measured with one value size on one group. Repeats are
// spread over the whole time, so that a noisy minute does not fall on one row.
func (o *Options) loads(shape Shape, size int) []load {
	var loads []load
	for range o.Repeats {
		for _, placement := range o.Placements {
			for _, clients := range o.Clients {
				loads = append(loads, load{Shape: shape, Placement: placement, Clients: clients, ValueBytes: size, keys: o.Keys})
			}
		}
		if o.Conflicts && shape == InProcess && size == o.ValueBytes[0] {
			loads = append(loads, conflictLoads(shape, size)...)
			loads = append(loads,
				load{Shape: shape, Placement: AllOver, Clients: 64, ValueBytes: size, HotKeys: 1, Adds: true},
				load{Shape: shape, Placement: AllOver, Clients: 16, ValueBytes: size, ScanShare: 0.01, keys: o.Keys})
		}
	}
	for i := range loads {
		loads[i].profiles = o.Profiles
	}
	return loads
}

// conflictLoads are the shapes of contention: clients of all members write the
// same few keys, blindly or after reading them.
func conflictLoads(shape Shape, size int) []load {
	hot := func(clients, keys int, read bool) load {
		return load{Shape: shape, Placement: AllOver, Clients: clients, ValueBytes: size, HotKeys: keys, ReadFirst: read}
	}
	return []load{hot(3, 1, false), hot(16, 100, false), hot(16, 10, true), hot(16, 1000, true)}
}

// preload fills the keys through the leader, many in one transaction.
func preload(ctx context.Context, g group, keys, size int) error {
	const batch = 500
	random := newRandom(0)
	for from := 0; from < keys; from += batch {
		pairs := make([]pair, 0, batch)
		for k := from; k < min(from+batch, keys); k++ {
			pairs = append(pairs, pair{keyOf(k), valueOf(random, size)})
		}
		if err := g.load(ctx, pairs); err != nil {
			return err
		}
	}
	return nil
}

// smallValue is the size of a value, in bytes, where it is not what is measured.
const smallValue = 100

type pair struct{ key, value []byte }

func keyOf(i int) []byte { return fmt.Appendf(nil, "key-%08d", i) }

// valueOf returns bytes that do not compress.
func valueOf(random *rand.Rand, size int) []byte {
	v := make([]byte, size)
	for i := range v {
		v[i] = byte(random.Uint32())
	}
	return v
}

func newRandom(stream uint64) *rand.Rand { return rand.New(rand.NewPCG(1, stream)) }
