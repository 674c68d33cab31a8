package bench

import (
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/concordatdb/concordat/gtid"
)

// echo answers with what it is sent.
func echo(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", loopback)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.Copy(c, c)
				_ = c.Close()
			}()
		}
	}()
	return l.Addr().String()
}

// speak sends something, and waits for it to come back.
func speak(t *testing.T, c net.Conn, text string, within time.Duration) error {
	t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
	return hear(t, c, text, within)
}

// What comes at all comes within ever; what does not come within a while shows in
// what comes later.
const (
	ever  = time.Minute
	while = 100 * time.Millisecond
)

func hear(t *testing.T, c net.Conn, text string, within time.Duration) error {
	t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(within)); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, len(text))
	_, err := io.ReadFull(c, b)
	if err == nil && string(b) != text {
		t.Fatalf("%q came back, of %q", b, text)
	}
	return err
}

// A member that is cut off is heard by nobody, whoever has dialed, and what was
// sent meanwhile comes when it is mended.
func TestNetworkCut(t *testing.T) {
	n := newNetwork(t.Context(), []gtid.UUID{{1}, {2}, {3}})
	defer n.close()
	dial := func(to int, greeting string) net.Conn {
		front, err := n.front(to, echo(t))
		if err != nil {
			t.Fatal(err)
		}
		c, err := net.Dial("tcp", front)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		if err := speak(t, c, greeting, ever); err != nil {
			t.Fatalf("nothing is cut: %v", err)
		}
		return c
	}
	uuid := func(member int) string { return string(n.uuids[member][:]) }
	into, outOf, past, client := dial(1, uuid(0)+uuid(1)), dial(0, uuid(1)+uuid(0)), dial(2, uuid(0)+uuid(2)), dial(1, "a client")
	n.cut(1)
	for what, c := range map[string]net.Conn{"to it": into, "from it": outOf, "from a client": client} {
		if err := speak(t, c, "hello", while); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := speak(t, past, "hello", ever); err != nil {
		t.Errorf("between the others: %v", err)
	}
	n.cut(nobody)
	for what, c := range map[string]net.Conn{"to it": into, "from it": outOf, "from a client": client} {
		if err := hear(t, c, "hello", ever); err != nil {
			t.Errorf("%s, mended: %v", what, err)
		}
	}
}

// Where nobody listens, and when the network ends, connections end.
func TestNetworkEnds(t *testing.T) {
	n := newNetwork(t.Context(), []gtid.UUID{{1}})
	closed, err := net.Listen("tcp", loopback)
	if err != nil {
		t.Fatal(err)
	}
	_ = closed.Close()
	for _, behind := range []string{closed.Addr().String(), echo(t)} {
		front, err := n.front(0, behind)
		if err != nil {
			t.Fatal(err)
		}
		c, err := net.Dial("tcp", front)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		if behind != closed.Addr().String() {
			if err := speak(t, c, "hello", ever); err != nil {
				t.Fatal(err)
			}
			n.cut(0)
			n.close()
		}
		if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("the connection to %s goes on: %v", behind, err)
		}
	}
}
