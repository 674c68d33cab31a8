package concordat_test

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"sync"
	"testing"

	"github.com/concordatdb/concordat"
)

// link is the only way to a member, and can be cut: for everybody, or for what
// one other member sends.
type link struct {
	listener net.Listener
	target   string
	callers  func() []string // addresses of those who may call
	piping   sync.WaitGroup

	mu    sync.Mutex
	cut   bool
	deaf  map[string]bool // addresses of those who do not get through
	conns map[*connection]bool
}

// connection is what one member has opened to another one.
type connection struct {
	in, out net.Conn
	from    string // address of who opened it, empty until it has said so
}

func (c *connection) close() {
	_ = c.in.Close()
	_ = c.out.Close()
}

// freeAddress is one where nobody listens just now.
func freeAddress(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(ownHost(t), "0"))
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return l.Addr().String()
}

// newLink puts a link before the member that cfg describes.
func newLink(t testing.TB, cfg *concordat.Config) *link {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &link{
		listener: listener, target: freeAddress(t), callers: func() []string { return nil },
		deaf: map[string]bool{}, conns: map[*connection]bool{},
	}
	cfg.Listen, cfg.Advertise = l.target, l.address()
	l.piping.Go(l.accept)
	t.Cleanup(func() {
		_ = listener.Close()
		l.set(true)
		l.piping.Wait()
	})
	return l
}

func (l *link) address() string { return l.listener.Addr().String() }

func (l *link) accept() {
	for {
		in, err := l.listener.Accept()
		if err != nil {
			return
		}
		out, err := net.Dial("tcp", l.target)
		if err != nil {
			_ = in.Close()
			continue
		}
		l.pipe(&connection{in: in, out: out})
	}
}

func (l *link) pipe(c *connection) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cut {
		c.close()
		return
	}
	l.conns[c] = true
	end := func() {
		c.close()
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.conns, c)
	}
	l.piping.Go(func() {
		defer end()
		l.forward(c)
	})
	l.piping.Go(func() {
		defer end()
		_, _ = io.Copy(c.in, c.out)
	})
}

// forward copies what the caller sends. The first thing that a member says is
// who it is, with its address.
func (l *link) forward(c *connection) {
	var said []byte
	for b := make([]byte, 16<<10); ; {
		n, err := c.in.Read(b)
		if err != nil {
			return
		}
		said = append(said, b[:n]...)
		for _, address := range l.callers() {
			if address == l.address() || !bytes.Contains(said, []byte(address)) {
				continue
			}
			if !l.admit(c, address) {
				return
			}
			if _, err := c.out.Write(b[:n]); err == nil {
				_, _ = io.Copy(c.out, c.in)
			}
			return
		}
		if _, err := c.out.Write(b[:n]); err != nil {
			return
		}
		said = said[max(0, len(said)-len(b)):]
	}
}

// admit notes who a caller is, and reports whether it gets through.
func (l *link) admit(c *connection, from string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	c.from = from
	return !l.deaf[from]
}

// set cuts the link or mends it.
func (l *link) set(cut bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut = cut
	for c := range l.conns {
		if cut {
			c.close()
		}
	}
}

// setFrom cuts the link, or mends it, for what one other member sends.
func (l *link) setFrom(address string, cut bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.deaf[address] = cut
	for c := range l.conns {
		if cut && c.from == address {
			c.close()
		}
	}
}

// linked is a group of members behind links.
type linked struct {
	group
	links []*link
}

// openLinked opens n members of a new group, changed by change.
func openLinked(t testing.TB, n int, change ...func(*concordat.Config)) *linked {
	t.Helper()
	g := &linked{}
	var addresses []string
	for i := range n {
		cfg := founder(t)
		cfg.Bootstrap = i == 0
		for _, f := range change {
			f(&cfg)
		}
		l := newLink(t, &cfg)
		g.links, addresses = append(g.links, l), append(addresses, l.address())
		g.cfgs = append(g.cfgs, cfg)
	}
	for i, l := range g.links {
		l.callers = func() []string { return addresses }
		if i > 0 {
			g.cfgs[i].Seeds = addresses[:1]
		}
	}
	for _, cfg := range g.cfgs {
		g.nodes = append(g.nodes, mustOpen(t, cfg))
	}
	for _, n := range g.nodes {
		eventually(t, "everybody to know everybody", func() bool { return n.Status().Outlook.Voters == len(g.nodes) })
	}
	return g
}

// isolate cuts a member off in both directions, or ends that.
func (g *linked) isolate(at int, cut bool) {
	for i, l := range g.links {
		if i != at {
			l.setFrom(g.links[at].address(), cut)
		}
	}
	g.links[at].set(cut)
}

// restart starts a member again that was closed. It does not wait.
func (g *linked) restart(t testing.TB, at int) {
	t.Helper()
	cfg := g.cfgs[at]
	cfg.Bootstrap, cfg.Seeds = false, nil
	g.nodes[at] = mustStart(t, cfg)
}

// mustBe waits until members are in a state.
func mustBe(t testing.TB, state concordat.State, nodes ...*concordat.Node) {
	t.Helper()
	for _, n := range nodes {
		eventually(t, "a member to be "+string(state), func() bool { return n.Status().State == state })
	}
}

// witness is a slog.Handler that counts what is logged, by message, and events
// by their kind.
type witness struct {
	mu   sync.Mutex
	seen map[string]int
}

func newWitness() *witness { return &witness{seen: map[string]int{}} }

func (w *witness) logger() *slog.Logger { return slog.New(w) }

func (w *witness) count(message string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.seen[message]
}

func (w *witness) Enabled(context.Context, slog.Level) bool { return true }
func (w *witness) WithAttrs([]slog.Attr) slog.Handler       { return w }
func (w *witness) WithGroup(string) slog.Handler            { return w }

func (w *witness) Handle(_ context.Context, r slog.Record) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seen[r.Message]++
	r.Attrs(func(a slog.Attr) bool {
		if r.Message == "event" && a.Key == "kind" {
			w.seen[a.Value.String()]++
		}
		return true
	})
	return nil
}
