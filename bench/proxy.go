package bench

import (
	"bytes"
	"context"
	"net"
	"sync"
	"sync/atomic"

	"github.com/concordatdb/concordat/gtid"
)

// network is what lies between members on loopback, and between them and
// clients: each has a proxy for those and one for these, and tells its address for
// its own. A member can be cut off: then nothing goes to it or comes from it, on
// old connections or new ones, and nobody is told, as when a cable is pulled. What
// was under way then goes on when it is mended, as TCP would send it again.
//
// Who dials a member shows in the greeting, which has the dialer's UUID. Clients
// need not be known.
type network struct {
	life    context.Context // for what it listens and dials
	uuids   []gtid.UUID     // of the members
	working sync.WaitGroup
	ended   chan struct{}
	listens []net.Listener

	mu      sync.Mutex
	off     int           // the member that is cut off, -1 for none
	changed chan struct{} // closed when off changes
	conns   map[net.Conn]bool
}

func newNetwork(ctx context.Context, uuids []gtid.UUID) *network {
	return &network{
		life: ctx, uuids: uuids, ended: make(chan struct{}), off: nobody, changed: make(chan struct{}), conns: map[net.Conn]bool{},
	}
}

// nobody is no member.
const nobody = -1

// front begins a proxy in front of an address of a member, and returns its own
// address.
func (n *network) front(member int, behind string) (string, error) {
	l, err := new(net.ListenConfig).Listen(n.life, "tcp", loopback)
	if err != nil {
		return "", err
	}
	n.listens = append(n.listens, l)
	n.working.Go(func() { n.serve(l, member, behind) })
	return l.Addr().String(), nil
}

// loopback has the system choose a port.
const loopback = "127.0.0.1:0"

// cut cuts a member off; nobody mends it.
func (n *network) cut(member int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.off = member
	close(n.changed)
	n.changed = make(chan struct{})
}

// close ends all proxies and their connections.
func (n *network) close() {
	close(n.ended)
	for _, l := range n.listens {
		_ = l.Close() // nothing is lost by it
	}
	n.mu.Lock()
	for c := range n.conns {
		_ = c.Close() // as above
	}
	n.mu.Unlock()
	n.working.Wait()
}

func (n *network) serve(l net.Listener, member int, behind string) {
	for {
		dialer, err := l.Accept()
		if err != nil {
			return // the end
		}
		listener, err := new(net.Dialer).DialContext(n.life, "tcp", behind)
		if err != nil {
			_ = dialer.Close() // as when nobody listens there
			continue
		}
		if !n.take(dialer, listener) {
			return
		}
		w := &wire{dialer: dialer, listener: listener, to: member}
		w.from.Store(nobody)
		n.working.Go(func() { n.carry(w, dialer, listener) })
		n.working.Go(func() { n.carry(w, listener, dialer) })
	}
}

// take notes connections, which the end of the network ends. It returns false, and
// closes them, when that has come.
func (n *network) take(conns ...net.Conn) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, c := range conns {
		n.conns[c] = true
	}
	select {
	case <-n.ended:
		for _, c := range conns {
			_ = c.Close() // nothing has used it
		}
		return false
	default:
		return true
	}
}

// wire is a connection that somebody has dialed to a member.
type wire struct {
	dialer, listener net.Conn
	from             atomic.Int64 // the member that has dialed, nobody as long as that is not known
	to               int
}

// end closes both ends.
func (n *network) end(w *wire) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, c := range []net.Conn{w.dialer, w.listener} {
		_ = c.Close() // the other way does it again
		delete(n.conns, c)
	}
}

// carry carries what comes out of one end to the other, while nothing is cut. An
// end that closes its connection shows at the other end only then.
func (n *network) carry(w *wire, from, to net.Conn) {
	defer n.end(w)
	b := make([]byte, 64<<10)
	for {
		count, err := from.Read(b)
		if from == w.dialer && w.from.Load() == nobody {
			w.from.Store(int64(n.greets(b[:count])))
		}
		if !n.pass(w) {
			return
		}
		if count > 0 {
			if _, err := to.Write(b[:count]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// greets returns the member whose UUID comes first in b.
func (n *network) greets(b []byte) int {
	who, first := nobody, len(b)
	for i, uuid := range n.uuids {
		if at := bytes.Index(b, uuid[:]); at >= 0 && at < first {
			who, first = i, at
		}
	}
	return who
}

// pass waits until something may go over a wire. It returns false at the end.
func (n *network) pass(w *wire) bool {
	for {
		n.mu.Lock()
		off, changed := n.off, n.changed
		n.mu.Unlock()
		if off == nobody || off != w.to && int64(off) != w.from.Load() {
			return true
		}
		select {
		case <-changed:
		case <-n.ended:
			return false
		}
	}
}
