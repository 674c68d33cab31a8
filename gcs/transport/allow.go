package transport

import (
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"
)

// refusedLogPause is the least time between two lines on connections from
// addresses that are not allowed, so that a scanner does not fill the log.
const refusedLogPause = 10 * time.Second

// allowList is a listener that closes connections from elsewhere before
// anything is read from them or written to them.
type allowList struct {
	net.Listener
	prefixes []netip.Prefix // none is of IPv4 in IPv6; empty: everybody
	log      *slog.Logger
	now      func() time.Time

	mu     sync.Mutex
	logged time.Time // of the last line
	silent int       // closed since without one
}

func newAllowList(l net.Listener, allow []netip.Prefix, log *slog.Logger) *allowList {
	a := &allowList{Listener: l, log: log, now: time.Now}
	for _, p := range allow {
		a.prefixes = append(a.prefixes, unmapped(p))
	}
	return a
}

// Accept implements [net.Listener]. It returns only connections from addresses
// that are allowed.
func (a *allowList) Accept() (net.Conn, error) {
	for {
		conn, err := a.Listener.Accept()
		if err != nil || a.allows(conn.RemoteAddr()) {
			return conn, err
		}
		conn.Close()
		a.refused(conn.RemoteAddr())
	}
}

// allows reports whether members may connect from that address. One that is
// not an IP address and a port is not allowed, unless everything is.
func (a *allowList) allows(from net.Addr) bool {
	if len(a.prefixes) == 0 {
		return true
	}
	at, err := netip.ParseAddrPort(from.String())
	if err != nil {
		return false
	}
	// A socket for both families gives an IPv4 address as one of IPv6. A zone
	// names an interface of this machine, and no prefix has one.
	ip := at.Addr().Unmap().WithZone("")
	for _, p := range a.prefixes {
		if p.Contains(ip) {
			return true
		}
	}
	return false
}

func (a *allowList) refused(from net.Addr) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.now()
	if !a.logged.IsZero() && now.Sub(a.logged) < refusedLogPause {
		a.silent++
		return
	}
	a.log.Warn("connection closed: its address is not in the allow list",
		attrAddress, from.String(), "unreported", a.silent)
	a.logged, a.silent = now, 0
}

// unmapped returns p as a prefix of IPv4 if it is one of IPv4 in IPv6.
func unmapped(p netip.Prefix) netip.Prefix {
	if p.Addr().Is4In6() && p.Bits() >= 96 {
		return netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	return p
}

// checkAllow says what is wrong with a prefix of an allow list.
func checkAllow(p netip.Prefix) error {
	if !p.IsValid() {
		return fmt.Errorf("transport: Allow has an invalid prefix, %v", p)
	}
	if p.Addr().Is4In6() && p.Bits() < 96 {
		return fmt.Errorf("transport: Allow has %v, which mixes IPv4 with IPv6; write one prefix for each", p)
	}
	return nil
}
