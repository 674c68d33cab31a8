package client_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/concordatdb/concordat"
	"github.com/concordatdb/concordat/client"
	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/internal/server"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	accounts = client.Table{Schema: "bank", Name: "accounts"}
	stored   = concordat.Table{Schema: "bank", Name: "accounts"}
)

// testContext bounds a test that would otherwise hang.
func testContext(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// eventually waits until cond holds.
func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	ctx := testContext(t)
	for tick := time.NewTicker(5 * time.Millisecond); !cond(); {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("never: %s", what)
		}
	}
}

// inTheEnd makes a call with a deadline until it is told before it what it should be. A
// member answers half a second before, for which a busy machine may need longer.
func inTheEnd(t testing.TB, what string, told func(ctx context.Context) bool) {
	t.Helper()
	for ctx := testContext(t); ; {
		short, cancel := context.WithTimeout(ctx, 2500*time.Millisecond)
		answered := told(short)
		cancel()
		if answered {
			return
		}
		if ctx.Err() != nil {
			t.Fatalf("never: %s", what)
		}
	}
}

// group is some members that serve clients, each behind proxies.
type group struct {
	t         testing.TB
	network   *network
	nodes     []*concordat.Node
	servers   []*server.Server
	addresses []string // for clients
}

// openGroup opens a group with one primary, its first member.
func openGroup(t testing.TB, size int, change ...func(*concordat.Config)) *group {
	t.Helper()
	g := &group{t: t, network: newNetwork(t)}
	for i := range size {
		g.network.members = append(g.network.members, gtid.UUID{0: 0xc0, 6: 0x40, 8: 0x80, 15: byte(i + 1)})
	}
	var seeds []string
	for i := range size {
		l := listen(t)
		behind := l.Addr().String()
		_ = l.Close()
		serving := listen(t)
		cfg := concordat.Config{
			Group: "5f0c6b8a-3d1e-4c43-9a53-0d1c2b3a4f51", Member: g.network.members[i].String(), Dir: t.TempDir(),
			Listen: behind, Advertise: g.network.entrance(i, behind, false), Seeds: seeds, Bootstrap: i == 0,
			ClientAddress: g.network.entrance(i, serving.Addr().String(), true),
			FoundingMode:  concordat.SinglePrimary,
			// A busy machine is not to depose who is well.
			TickInterval: 20 * time.Millisecond, ElectionTicks: 20, FailoverTimeout: 1500 * time.Millisecond,
		}
		for _, c := range change {
			c(&cfg)
		}
		s := server.Start(server.Config{Listener: serving})
		g.servers = append(g.servers, s)
		t.Cleanup(func() { s.Stop(t.Context()) })
		n, err := concordat.Open(testContext(t), cfg)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = n.Close() })
		s.SetNode(n)
		g.nodes, g.addresses = append(g.nodes, n), append(g.addresses, cfg.ClientAddress)
		seeds = append(seeds, cfg.Advertise)
	}
	eventually(t, "all are ONLINE", func() bool {
		return !slices.ContainsFunc(g.nodes, func(n *concordat.Node) bool {
			s := n.Status()
			return len(s.View.Members) != size || slices.ContainsFunc(s.View.Members, func(m concordat.Member) bool { return m.State != concordat.Online })
		})
	})
	return g
}

// dial opens a client that knows the addresses of all members.
func (g *group) dial(change ...func(*client.Config)) *client.Client {
	g.t.Helper()
	cfg := client.Config{Addresses: g.addresses, Table: accounts}
	for _, c := range change {
		c(&cfg)
	}
	c, err := client.Open(testContext(g.t), cfg)
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { _ = c.Close() })
	return c
}

func (g *group) uuid(member int) gtid.UUID { return g.network.members[member] }

// contact waits until a client hears so many members.
func contact(t testing.TB, c *client.Client, members int) {
	t.Helper()
	eventually(t, "members are in contact", func() bool {
		count := 0
		for _, n := range c.View().Nodes {
			if n.Contact && n.State == "ONLINE" {
				count++
			}
		}
		return count == members
	})
}

// kill ends a member without a word.
func (g *group) kill(member int) {
	now, cancel := context.WithCancel(g.t.Context())
	cancel()
	g.servers[member].Stop(now)
	if err := g.nodes[member].Close(); err != nil {
		g.t.Error(err)
	}
}

// primary is the index of the primary, by what the member at index who says.
func (g *group) primary(who int) int {
	p, ok := g.nodes[who].Primary()
	if !ok {
		return -1
	}
	return slices.Index(g.network.members, p.Member)
}

// value is what a member holds under a key, as a number.
func (g *group) value(member int, key string) (value int64) {
	g.t.Helper()
	err := g.nodes[member].View(testContext(g.t), func(tx *concordat.Tx) error {
		v, ok, err := tx.Get(stored, []byte(key))
		if ok {
			value, ok = concordat.DecodeCounter(v)
		}
		if err == nil && !ok && v != nil {
			return fmt.Errorf("%s holds %q", key, v)
		}
		return err
	}, concordat.WithConsistency(concordat.Before))
	if err != nil {
		g.t.Fatal(err)
	}
	return value
}

// load is clients that count, each under a key of its own and in a way of its own.
type load struct {
	t        *testing.T
	c        *client.Client
	cancel   context.CancelFunc
	working  sync.WaitGroup
	counts   []*count
	patience time.Duration // of each call
}

// count is what one of them knows.
type count struct {
	key      string
	step     func(ctx context.Context, key []byte) (client.Commit, error)
	patience time.Duration
	acked    atomic.Int64
	last     atomic.Int64 // when it was answered, in nanoseconds since the epoch
	worst    atomic.Int64 // longest time between two answers

	mu      sync.Mutex
	unknown []gtid.UUID
	epochs  []uint64
}

// startLoad begins so many of each kind: those that add, in one request, and those
// that read and then write, in an interactive transaction and in one that is sent
// whole.
func startLoad(t *testing.T, c *client.Client, each int, patience time.Duration) *load {
	ctx, cancel := context.WithCancel(testContext(t))
	l := &load{t: t, c: c, cancel: cancel, patience: patience}
	for i := range each {
		l.begin(ctx, fmt.Sprint("add", i), func(ctx context.Context, key []byte) (client.Commit, error) {
			return c.Add(ctx, key, 1)
		})
		l.begin(ctx, fmt.Sprint("run", i), func(ctx context.Context, key []byte) (client.Commit, error) {
			return c.Run(ctx, func(tx *client.Tx) error {
				if _, _, err := tx.Get(ctx, key); err != nil {
					return err
				}
				return tx.Add(ctx, key, 1)
			})
		})
		l.begin(ctx, fmt.Sprint("txn", i), func(ctx context.Context, key []byte) (client.Commit, error) {
			r, err := c.Txn(ctx, []client.Op{client.OpGet(key), client.OpAdd(key, 1)})
			return r.Commit, err
		})
	}
	t.Cleanup(l.stop)
	return l
}

func (l *load) begin(ctx context.Context, key string, step func(context.Context, []byte) (client.Commit, error)) {
	n := &count{key: key, step: step, patience: l.patience}
	l.counts = append(l.counts, n)
	l.working.Go(func() {
		for ctx.Err() == nil && n.once(ctx, l.t) {
		}
	})
}

// once counts up by one, and reports whether the client can go on.
func (n *count) once(ctx context.Context, t *testing.T) bool {
	call, cancel := context.WithTimeout(context.WithoutCancel(ctx), n.patience)
	defer cancel()
	commit, err := n.step(call, []byte(n.key))
	if unknown, ok := errors.AsType[*client.OutcomeUnknownError](err); ok {
		n.mu.Lock()
		n.unknown = append(n.unknown, unknown.ID)
		n.mu.Unlock()
		return true
	}
	if err != nil {
		t.Errorf("%s: %v", n.key, err)
		return false
	}
	now := time.Now().UnixNano()
	if last := n.last.Swap(now); last != 0 && now-last > n.worst.Load() {
		n.worst.Store(now - last)
	}
	n.acked.Add(1)
	n.mu.Lock()
	n.epochs = append(n.epochs, commit.Epoch)
	n.mu.Unlock()
	return true
}

// more waits until each of the clients has counted on.
func (l *load) more(n int64) {
	l.t.Helper()
	for _, c := range l.counts {
		want := c.acked.Load() + n
		eventually(l.t, c.key+" goes on", func() bool { return c.acked.Load() >= want || l.t.Failed() })
	}
}

func (l *load) stop() {
	l.cancel()
	l.working.Wait()
}

// mustCount ends the load and checks that what was answered happened, once each, and
// so did of the unknown what the group says so of. It returns how many were unknown.
func (l *load) mustCount(g *group, member int) (unknown int) {
	l.t.Helper()
	l.stop()
	ctx := testContext(l.t)
	for _, c := range l.counts {
		want := c.acked.Load()
		for _, id := range c.unknown {
			unknown++
			o, err := l.c.Outcome(ctx, id)
			if err != nil {
				l.t.Errorf("%s: what became of %v: %v", c.key, id, err)
			}
			if o.State == client.OutcomeCommitted {
				want++
			}
		}
		if got := g.value(member, c.key); got != want {
			l.t.Errorf("%s counts %d, want %d, of which %d were answered", c.key, got, want, c.acked.Load())
		}
		if !slices.IsSorted(c.epochs) {
			l.t.Errorf("%s was answered in an earlier epoch after a later one: %v", c.key, c.epochs)
		}
	}
	return unknown
}

// outage is the longest time in which one of the clients had no answer.
func (l *load) outage() (worst time.Duration) {
	for _, c := range l.counts {
		worst = max(worst, time.Duration(c.worst.Load()))
	}
	return worst
}
