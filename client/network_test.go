package client_test

import (
	"bytes"
	"net"
	"slices"
	"sync"
	"testing"

	"github.com/concordatdb/concordat/gtid"
)

// network is a loopback network in which members and clients reach each member
// through a proxy. What is held is not lost but kept, as if who should read or
// write it were stopped.
type network struct {
	t       testing.TB
	members []gtid.UUID
	working sync.WaitGroup
	ended   chan struct{}

	mu      sync.Mutex
	changed chan struct{} // closed when what follows changes
	stopped map[int]bool  // members of which nothing goes in or out
	apart   map[int]bool  // members that no client reaches
	conns   map[*pipe]int // to which member
}

// pipe is a connection through a proxy.
type pipe struct {
	client         bool // who dialed is one
	from, to       int  // members; from is -1 while it is not known
	dialer, behind net.Conn
}

func newNetwork(t testing.TB) *network {
	n := &network{
		t: t, ended: make(chan struct{}), changed: make(chan struct{}),
		stopped: map[int]bool{}, apart: map[int]bool{}, conns: map[*pipe]int{},
	}
	t.Cleanup(func() {
		close(n.ended)
		n.mu.Lock()
		for p := range n.conns {
			p.close()
		}
		n.mu.Unlock()
		n.working.Wait()
	})
	return n
}

func (p *pipe) close() {
	_ = p.dialer.Close()
	_ = p.behind.Close()
}

func listen(t testing.TB) net.Listener {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// entrance makes a proxy in front of what a member has at an address.
func (n *network) entrance(member int, behind string, client bool) string {
	l := listen(n.t)
	n.t.Cleanup(func() { _ = l.Close() })
	n.working.Go(func() {
		for {
			dialer, err := l.Accept()
			if err != nil {
				return // the test ends
			}
			n.accept(&pipe{client: client, from: -1, to: member, dialer: dialer}, behind)
		}
	})
	return l.Addr().String()
}

func (n *network) accept(p *pipe, behind string) {
	n.mu.Lock()
	refused := p.client && n.apart[p.to]
	n.mu.Unlock()
	var err error
	if p.behind, err = new(net.Dialer).DialContext(n.t.Context(), "tcp", behind); err != nil || refused {
		_ = p.dialer.Close() // as when nobody listens there
		if err == nil {
			_ = p.behind.Close()
		}
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	select {
	case <-n.ended:
		p.close()
		return
	default:
	}
	n.conns[p] = p.to
	n.working.Go(func() { n.carry(p, p.dialer, p.behind) })
	n.working.Go(func() { n.carry(p, p.behind, p.dialer) })
}

// carry carries what comes out of one end to the other.
func (n *network) carry(p *pipe, from, to net.Conn) {
	defer func() {
		p.close()
		n.mu.Lock()
		delete(n.conns, p)
		n.mu.Unlock()
	}()
	b := make([]byte, 64<<10)
	for {
		read, err := from.Read(b)
		if read > 0 {
			if from == p.dialer && !p.client {
				n.recognise(p, b[:read])
			}
			if !n.pass(p) {
				return
			}
			if _, err := to.Write(b[:read]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// recognise finds out which member has dialed: its greeting has its UUID.
func (n *network) recognise(p *pipe, greeting []byte) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if p.from >= 0 {
		return
	}
	first := len(greeting)
	for m, uuid := range n.members {
		if i := bytes.Index(greeting, uuid[:]); i >= 0 && i < first {
			first, p.from = i, m
		}
	}
}

// pass waits until a pipe is held by nothing. It returns false at the end of the
// test.
func (n *network) pass(p *pipe) bool {
	for {
		n.mu.Lock()
		held := n.stopped[p.to] || n.stopped[p.from]
		changed := n.changed
		n.mu.Unlock()
		if !held {
			return true
		}
		select {
		case <-changed:
		case <-n.ended:
			return false
		}
	}
}

func (n *network) set(change func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	change()
	close(n.changed)
	n.changed = make(chan struct{})
}

// stop holds all that a member says and hears; resume lets it go on.
func (n *network) stop(member int)   { n.set(func() { n.stopped[member] = true }) }
func (n *network) resume(member int) { n.set(func() { delete(n.stopped, member) }) }

// cut breaks the connections of clients to some members.
func (n *network) cut(members ...int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for p, to := range n.conns {
		if p.client && slices.Contains(members, to) {
			p.close()
		}
	}
}

// part keeps clients from a member until join.
func (n *network) part(member int) {
	n.set(func() { n.apart[member] = true })
	n.cut(member)
}

func (n *network) join(member int) { n.set(func() { delete(n.apart, member) }) }
