package concordat_test

import (
	"context"
	"io"
	"log/slog"
	"net"
	"sync"
	"testing"

	"github.com/concordatdb/concordat"
)

// link is the only way to a member, and can be cut.
type link struct {
	listener net.Listener
	target   string
	piping   sync.WaitGroup

	mu    sync.Mutex
	cut   bool
	conns map[net.Conn]bool
}

// freeAddress is one where nobody listens just now.
func freeAddress(t testing.TB) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
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
	l := &link{listener: listener, target: freeAddress(t), conns: map[net.Conn]bool{}}
	cfg.Listen, cfg.Advertise = l.target, listener.Addr().String()
	l.piping.Go(l.accept)
	t.Cleanup(func() {
		_ = listener.Close()
		l.set(true)
		l.piping.Wait()
	})
	return l
}

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
		l.pipe(in, out)
		l.pipe(out, in)
	}
}

func (l *link) pipe(from, to net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cut {
		_ = from.Close()
		return
	}
	l.conns[from] = true
	l.piping.Go(func() {
		_, _ = io.Copy(to, from)
		_ = to.Close()
		_ = from.Close()
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.conns, from)
	})
}

// set cuts the link or mends it.
func (l *link) set(cut bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut = cut
	for c := range l.conns {
		if cut {
			_ = c.Close()
		}
	}
}

// witness is a slog.Handler that counts what is logged, by message.
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
	return nil
}
