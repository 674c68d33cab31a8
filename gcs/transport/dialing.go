package transport

import (
	"context"
	"errors"
	"net"
	"sync"
	"syscall"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Refused reports whether err says that the dialed address refused the
// connection: the machine answers, and no process listens there. A member whose
// process is gone is told from one that is cut off or stalled by this. It is
// true of reasons of [Handler.PeerDown] and of errors of the calls of this
// package; a *RefusedError is something else.
func Refused(err error) bool { return errors.Is(err, syscall.ECONNREFUSED) }

// dialing dials for one connection of gRPC, and remembers how that went: gRPC
// makes text of the error, in which nobody can look for its cause.
type dialing struct {
	dialer net.Dialer

	mu  sync.Mutex
	err error // of the last dial that came to an end
}

// option makes a connection dial by d.
func (d *dialing) option() grpc.DialOption { return grpc.WithContextDialer(d.dial) }

func (d *dialing) dial(ctx context.Context, address string) (net.Conn, error) {
	conn, err := d.dialer.DialContext(ctx, "tcp", address)
	d.mu.Lock()
	d.err = err
	d.mu.Unlock()
	return conn, err
}

// explain returns the error of a call as one that tells its cause: a failed
// dial, or a *RefusedError.
func (d *dialing) explain(err error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.err != nil && status.Code(err) == codes.Unavailable {
		return d.err
	}
	return fromStatus(err)
}
