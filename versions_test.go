package concordat_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/concordatdb/concordat"
	"github.com/concordatdb/concordat/election"
)

// as has members be of a build.
func as(version string, newest election.Protocol) func(*concordat.Config) {
	return func(c *concordat.Config) { concordat.AsBuild(c, version, newest) }
}

// The group takes in nobody who is older than all its members, or does not speak its
// protocol, and who is refused is told why.
func TestJoinByBuild(t *testing.T) {
	t.Parallel()
	g := openGroup(t, 2, as("0.2.0", 2)) // founded with the protocol 2
	for _, c := range []struct {
		version string
		newest  election.Protocol
		text    string // "" if it may join
	}{
		{"0.1.255", 2, "this build is 0.1.255, the group's oldest member runs 0.2.0; start it with 0.2.0 or newer"},
		{"0.2.0", 1, "this build speaks protocols 1 to 1, the group speaks 2; start it with a newer build"},
		{"0.2.0", 2, ""},
		{"0.3.0", 3, ""},
	} {
		cfg := joiner(t, g.nodes[0])
		as(c.version, c.newest)(&cfg)
		r, err := concordat.Check(testContext(t), cfg)
		if err != nil || r.Accepted != (c.text == "") || c.text != "" && !strings.Contains(strings.Join(r.Reasons, "; "), c.text) {
			t.Errorf("%s, up to protocol %d, is checked as %+v, %v", c.version, c.newest, r, err)
		}
		n, err := concordat.Open(testContext(t), cfg)
		if c.text == "" {
			if err != nil {
				t.Errorf("%s, up to protocol %d, is refused: %v", c.version, c.newest, err)
				continue
			}
			t.Cleanup(func() { _ = n.Close() })
			continue
		}
		if !errors.Is(err, concordat.ErrJoinRefused) || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s, up to protocol %d: %v", c.version, c.newest, err)
		}
	}
}

// A newer build than the others' is a member like any, but writes nothing before the
// older ones are gone.
func TestNewerBuildWaits(t *testing.T) {
	t.Parallel()
	for _, mode := range []concordat.Mode{concordat.SinglePrimary, concordat.MultiPrimary} {
		t.Run(mode.String(), func(t *testing.T) {
			t.Parallel()
			ctx := testContext(t)
			inMode := func(c *concordat.Config) { c.FoundingMode = mode }
			g := openGroup(t, 1, as("0.2.0", 1), inMode)
			cfg := joiner(t, g.nodes[0])
			as("0.3.0", 2)(&cfg)
			cfg.MemberWeight = 100
			newer := mustOpen(t, cfg)
			_, err := newer.Begin(ctx)
			if refused, ok := errors.AsType[*concordat.ReadOnlyError](err); !ok || newer.Status().Writable {
				t.Fatalf("the newer one begins: %v", err)
			} else if mode == concordat.MultiPrimary && !strings.Contains(refused.Error(), "it runs 0.3.0 and the oldest ONLINE member 0.2.0") {
				t.Errorf("the newer one says %v", err)
			}
			if mode == concordat.SinglePrimary {
				if _, err := g.nodes[0].SetPrimary(ctx, uuid(newer)); !errors.Is(err, concordat.ErrRefused) || !strings.Contains(err.Error(), "upgrade the older ones first") {
					t.Errorf("the newer one is made primary: %v", err)
				}
			}
			for _, l := range newer.Why().Lines {
				if want := l.Member.UUID == uuid(newer); want != (l.Verdict == election.NewerVersion) {
					t.Errorf("%s: %s", l.Member.Version, l.Text)
				}
			}
			old := reopen(t, g.nodes[0], func() concordat.Config { c := g.cfgs[0]; as("0.3.0", 2)(&c); return c }())
			mustPut(t, old, "k", "v")
			if mode == concordat.MultiPrimary {
				eventually(t, "the newer one writes, too", func() bool { return newer.Status().Writable })
				mustPut(t, newer, "k", "w")
				return
			}
			if _, err := old.SetPrimary(ctx, uuid(newer)); err != nil {
				t.Fatal(err)
			}
			mustPut(t, newer, "k", "w")
		})
	}
}

// A directory of a group that has come to a protocol is of no use to a build that does
// not speak it, which says so and spoils nothing.
func TestOlderBuildOnNewerDirectory(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		more bool // than a checkpoint of log is behind the change
		want error
	}{
		{"in the log", false, concordat.ErrFailed},
		{"in the checkpoint", true, concordat.ErrDirectory},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			ctx := testContext(t)
			g := openGroup(t, 1, as("0.2.0", 1), func(c *concordat.Config) { c.CheckpointBytes = 32 << 10 })
			mustPut(t, g.nodes[0], "k", "before")
			next := g.cfgs[0]
			as("0.3.0", 2)(&next)
			n := reopen(t, g.nodes[0], next)
			r, err := n.SetProtocol(ctx, 2)
			if err != nil || n.Status().Protocol != 2 {
				t.Fatalf("raise the protocol: %+v, %v", r, err)
			}
			if got := happened(n, concordat.EventProtocolChanged); len(got) != 1 {
				t.Errorf("told: %q", got)
			}
			for i := 0; c.more && concordat.LogFirst(n) <= r.Index; i++ {
				mustPut(t, n, "k", strings.Repeat(strconv.Itoa(i%10), 8<<10))
			}
			mustPut(t, n, "k", "after")
			at := n.Status().Applied
			mustClose(t, n)
			_, err = concordat.Open(ctx, again(n, g.cfgs[0]))
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), "it is 2, and 0.2.0 speaks 1 to 1; start the version that this member ran, or a newer one") {
				t.Fatalf("an older build opens it: %v", err)
			}
			n = mustOpen(t, again(n, next))
			if got := contents(t, n)["k"]; got != "after" || n.Status().Applied < at {
				t.Errorf("it holds %q at %d, and had come to %d", got, n.Status().Applied, at)
			}
		})
	}
}

// travellers write one key after the other, at whatever member takes it.
type travellers struct {
	nodes   []atomic.Pointer[concordat.Node]
	cancel  context.CancelFunc
	clients sync.WaitGroup
	mu      sync.Mutex
	written []string // acknowledged
}

func startTravellers(t testing.TB, clients int, nodes ...*concordat.Node) *travellers {
	ctx, cancel := context.WithCancel(testContext(t))
	w := &travellers{nodes: make([]atomic.Pointer[concordat.Node], len(nodes)), cancel: cancel}
	for i, n := range nodes {
		w.nodes[i].Store(n)
	}
	for c := range clients {
		w.clients.Go(func() {
			at := c
			for i := 0; ctx.Err() == nil; i++ {
				key := fmt.Sprintf("%d-%d", c, i)
				_, err := writeAt(ctx, w.nodes[at%len(nodes)].Load(), key, "1")
				if err != nil {
					at++
					continue
				}
				w.mu.Lock()
				w.written = append(w.written, key)
				w.mu.Unlock()
			}
		})
	}
	t.Cleanup(w.stop)
	return w
}

func (w *travellers) stop() {
	w.cancel()
	w.clients.Wait()
}

func (w *travellers) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.written)
}

func (w *travellers) more(t testing.TB, n int) {
	t.Helper()
	want := w.count() + n
	eventually(t, "clients go on", func() bool { return w.count() >= want })
}

// Members are upgraded one after the other while clients write, the primary last. The
// protocol rises once all of them speak the next one, and nothing is lost.
func TestRollingUpgrade(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	g := openGroup(t, 3, single, prompt, as("0.2.0", 1))
	w := startTravellers(t, 2, g.nodes...)
	for _, i := range []int{1, 2, 0} {
		w.more(t, 20)
		mustBePrimary(t, g.nodes[0], g.nodes...)
		if _, err := g.nodes[2].SetProtocol(ctx, 2); !errors.Is(err, concordat.ErrRefused) || !strings.Contains(err.Error(), "upgrade it first") {
			t.Errorf("before all are upgraded the protocol is raised: %v", err)
		}
		as("0.3.0", 2)(&g.cfgs[i])
		g.nodes[i] = reopen(t, g.nodes[i], g.cfgs[i])
		w.nodes[i].Store(g.nodes[i])
	}
	w.more(t, 20)
	r, err := g.nodes[2].SetProtocol(ctx, 2)
	if err != nil || r.Result != election.Done {
		t.Fatalf("raise the protocol: %+v, %v", r, err)
	}
	if _, err := g.nodes[2].SetProtocol(ctx, 1); !errors.Is(err, concordat.ErrRefused) {
		t.Errorf("lower the protocol: %v", err)
	}
	w.more(t, 20)
	w.stop()
	mustAgree(t, g.nodes...)
	for _, n := range g.nodes {
		s, found := n.Status(), contents(t, n)
		if s.Protocol != 2 || s.View.Members[0].Version != 3<<8 {
			t.Errorf("protocol %d, members %+v", s.Protocol, s.View.Members)
		}
		for _, key := range w.written {
			if found[key] == "" {
				t.Errorf("%s was acknowledged and is lost", key)
			}
		}
	}
}
