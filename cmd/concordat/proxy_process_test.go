package main

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// proxies are a loopback network in which each member tells the others the
// address of a proxy of its own. Who dials shows in the greeting: it has the
// member's UUID. What is cut is not lost but kept until it is mended, which to
// those who wait for it is the same.
type proxies struct {
	loopbackNetwork

	entrances map[int]string // address of each member's proxy
	working   sync.WaitGroup
	ended     chan struct{}

	mu      sync.Mutex
	cuts    map[[2]int]bool
	changed chan struct{} // closed when cuts change
	conns   []net.Conn
}

func newProxies(t *testing.T) *proxies {
	p := &proxies{
		loopbackNetwork: loopbackNetwork{t: t, addressOf: map[int][2]string{}},
		entrances:       map[int]string{}, ended: make(chan struct{}),
		cuts: map[[2]int]bool{}, changed: make(chan struct{}),
	}
	t.Cleanup(func() {
		close(p.ended)
		p.mu.Lock()
		for _, c := range p.conns {
			_ = c.Close()
		}
		p.mu.Unlock()
		p.working.Wait()
	})
	return p
}

// addresses returns the proxy as the address for members.
func (p *proxies) addresses(member int) (members, clients string) {
	behind, clients := p.loopbackNetwork.addresses(member)
	if _, ok := p.entrances[member]; !ok {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			p.t.Fatal(err)
		}
		p.t.Cleanup(func() { _ = l.Close() })
		p.entrances[member] = l.Addr().String()
		p.working.Go(func() { p.serve(l, member, behind) })
	}
	return p.entrances[member], clients
}

func (p *proxies) flags(member int) []string {
	entrance, _ := p.addresses(member)
	return append(p.loopbackNetwork.flags(member), "--advertise", entrance)
}

func (p *proxies) cut(from, to int) { p.set(func() { p.cuts[[2]int{from, to}] = true }) }

func (p *proxies) mend() { p.set(func() { clear(p.cuts) }) }

func (p *proxies) set(change func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change()
	close(p.changed)
	p.changed = make(chan struct{})
}

func (p *proxies) serve(l net.Listener, member int, behind string) {
	for {
		dialer, err := l.Accept()
		if err != nil {
			return // the test ends
		}
		listener, err := net.Dial("tcp", behind)
		if err != nil {
			_ = dialer.Close() // as when nobody listens there
			continue
		}
		c := &proxied{dialer: dialer, listener: listener, to: member}
		p.mu.Lock()
		p.conns = append(p.conns, dialer, listener)
		p.mu.Unlock()
		select {
		case <-p.ended:
			dialer.Close()
			listener.Close()
		default:
		}
		p.working.Go(func() { p.carry(c, dialer, listener) })
		p.working.Go(func() { p.carry(c, listener, dialer) })
	}
}

// proxied is a connection that a member has dialed.
type proxied struct {
	dialer, listener net.Conn
	from             atomic.Int32 // 0 as long as that is not known
	to               int
}

// carry carries what comes out of one end to the other, where nothing is cut.
func (p *proxies) carry(c *proxied, from, to net.Conn) {
	defer c.dialer.Close()
	defer c.listener.Close()
	b := make([]byte, 64<<10)
	for {
		n, err := from.Read(b)
		if n > 0 {
			if from == c.dialer && c.from.Load() == 0 {
				c.from.Store(int32(whoseGreeting(b[:n])))
			}
			if !p.pass(c, from == c.dialer) {
				return
			}
			if _, err := to.Write(b[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// whoseGreeting returns the member whose UUID comes first in b, 0 for none.
func whoseGreeting(b []byte) (member int) {
	first := len(b)
	for m := 1; m <= 9; m++ {
		uuid, err := hex.DecodeString(strings.ReplaceAll(fleetUUID(m), "-", ""))
		if err != nil {
			panic(fmt.Sprintf("member %d has no UUID: %v", m, err))
		}
		if i := bytes.Index(b, uuid); i >= 0 && i < first {
			first, member = i, m
		}
	}
	return member
}

// pass waits until something may go from the dialer to the listener, or the
// other way. It returns false at the end of the test.
func (p *proxies) pass(c *proxied, onward bool) bool {
	for {
		way := [2]int{int(c.from.Load()), c.to}
		if !onward {
			way = [2]int{way[1], way[0]}
		}
		p.mu.Lock()
		closed, changed := p.cuts[way], p.changed
		p.mu.Unlock()
		if !closed {
			return true
		}
		select {
		case <-changed:
		case <-p.ended:
			return false
		}
	}
}
