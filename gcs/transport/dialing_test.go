package transport

import (
	"context"
	"errors"
	"net"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

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
	patient := start(t, 1)
	hasty := start(t, 6, func(c *Config) { c.HandshakeTimeout = 10 * time.Millisecond })
	stranger := start(t, 4)
	patient.SetPeers(map[uint64]string{2: nobody(t), 5: stranger.address})
	hasty.SetPeers(map[uint64]string{3: deaf(t)})
	for _, test := range []struct {
		name    string
		at      node
		id      uint64
		refused bool
	}{{"nobody", patient, 2, true}, {"deaf", hasty, 3, false}, {"stranger", patient, 5, false}} {
		test.at.until(t, "attempts in vain", func() bool { return len(test.at.downs[test.id]) >= 2 })
		test.at.recorder.mu.Lock()
		for _, err := range test.at.downs[test.id] {
			if Refused(err) != test.refused {
				t.Errorf("%s: Refused is %v of %v", test.name, !test.refused, err)
			}
		}
		test.at.recorder.mu.Unlock()
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

// What went wrong with an earlier dial does not explain what went wrong after a
// later one.
func TestDialErrorIsTheLast(t *testing.T) {
	var d dialing
	if _, err := d.dial(t.Context(), nobody(t)); !Refused(err) {
		t.Fatalf("dialing nobody gives %v", err)
	}
	broken := status.Error(codes.Unavailable, "broken")
	if err := d.explain(broken); !Refused(err) {
		t.Errorf("explained by %v", err)
	}
	if err := d.explain(status.Error(codes.Unknown, "the answer")); Refused(err) {
		t.Errorf("an answer is explained by %v", err)
	}
	conn, err := d.dial(t.Context(), deaf(t))
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	if err := d.explain(broken); Refused(err) {
		t.Errorf("explained by the dial before, %v", err)
	}
}
