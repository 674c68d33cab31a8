package transport

import (
	"context"
	"errors"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/concordatdb/concordat/proto/concordat/peer/v1"
)

// nobody returns an address at which nobody listens.
func nobody(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// The reason of PeerDown tells a process that is gone from one that is silent,
// and from one that does not want to talk.
func TestPeerDownTellsWhy(t *testing.T) {
	a := start(t, 1, func(c *Config) { c.HandshakeTimeout = 10 * time.Millisecond })
	stranger := start(t, 4)
	a.SetPeers(map[uint64]string{2: nobody(t), 3: deaf(t), 5: stranger.address})
	for id, refused := range map[uint64]bool{2: true, 3: false, 5: false} {
		a.until(t, "attempts in vain", func() bool { return len(a.downs[id]) >= 2 })
		a.recorder.mu.Lock()
		for _, err := range a.downs[id] {
			if Refused(err) != refused {
				t.Errorf("peer %d: Refused is %v of %v", id, !refused, err)
			}
		}
		a.recorder.mu.Unlock()
	}
}

// The stream to a process that ends breaks, and then its address refuses.
func TestEndedProcessRefuses(t *testing.T) {
	a, b := start(t, 1), start(t, 2)
	a.dials(b)
	a.untilUp(t, 2, 1)
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	a.until(t, "refused connection", func() bool { return slices.ContainsFunc(a.downs[2], Refused) })
	a.recorder.mu.Lock()
	defer a.recorder.mu.Unlock()
	if first := a.downs[2][0]; Refused(first) {
		t.Errorf("the broken stream tells %v", first)
	}
}

func TestCallsTellRefused(t *testing.T) {
	_, err := Join(t.Context(), nobody(t), &peerpb.JoinRequest{}, nil)
	if !Refused(err) {
		t.Errorf("a join where nobody listens gives %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if _, err := Join(ctx, deaf(t), &peerpb.JoinRequest{}, nil); err == nil || Refused(err) {
		t.Errorf("a join where nobody answers gives %v", err)
	}
	if Refused(nil) || Refused(errors.New("connection refused")) || Refused(&RefusedError{}) {
		t.Error("Refused is true of something else")
	}
}
