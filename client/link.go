package client

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/concordatdb/concordat/proto/concordat/kv/v1"
)

// Times of a link.
const (
	// silence is how long a member says nothing when it is taken for gone. It tells
	// something every second.
	silence = 3 * time.Second
	// A broken connection is made again after a pause between the two, which grows
	// while nobody answers.
	firstPause = 100 * time.Millisecond
	lastPause  = time.Second
	// measureEvery is how often the round trip is measured.
	measureEvery = 10 * time.Second
)

// maxResultBytes is the largest answer: what members bring back at most, twice.
const maxResultBytes = 64 << 20

// link is the way to what listens at one address. Its goroutine keeps a connection
// there, and takes what the member pushes.
type link struct {
	address string
	end     context.CancelFunc

	// Under the client's lock:
	up        bool // the member is heard
	last      *sighting
	kv        kvpb.KVClient
	conn      *grpc.ClientConn // that of kv
	roundTrip time.Duration    // 0: not measured
	err       error            // why it is not up
	users     int              // calls on the connection
	retired   bool             // it takes no more calls
}

// connect begins a link. The caller holds the lock.
func (c *Client) connect(address string) {
	ctx, cancel := context.WithCancel(c.lifetime)
	l := &link{address: address, end: cancel}
	c.links[address] = l
	c.work.Go(func() {
		defer cancel()
		c.follow(ctx, l)
	})
}

// follow keeps a link until ctx ends.
func (c *Client) follow(ctx context.Context, l *link) {
	pause := firstPause
	for ctx.Err() == nil {
		heard, err := c.attend(ctx, l)
		c.lose(l, err) //nolint:contextcheck // other links that it begins do not end with this one
		if heard {
			pause = firstPause
		}
		timer := time.NewTimer(pause/2 + rand.N(pause/2))
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
		pause = min(2*pause, lastPause)
	}
}

var errSilent = errors.New("the member says nothing any more")

// attend makes a connection, and takes what the member tells until that breaks. The
// connection ends with it, and with that all calls on it: what a member does not
// say in time, it is not waited for.
func (c *Client) attend(ctx context.Context, l *link) (heard bool, err error) {
	conn, err := grpc.NewClient("passthrough:///"+l.address,
		grpc.WithTransportCredentials(c.creds.Clone()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxResultBytes)),
		grpc.WithDisableServiceConfig(),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoff.DefaultConfig, MinConnectTimeout: silence}))
	if err != nil {
		return false, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	defer conn.Close()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	quiet := time.AfterFunc(silence, func() { cancel(errSilent) })
	defer quiet.Stop()
	kv := kvpb.NewKVClient(conn)
	stream, err := kv.Watch(ctx, &kvpb.WatchRequest{})
	for err == nil {
		var r *kvpb.WatchResponse
		if r, err = stream.Recv(); err != nil {
			break
		}
		quiet.Reset(silence)
		var s *sighting
		if s, err = readSighting(r); err != nil {
			return heard, err
		}
		c.hear(l, conn, kv, s) //nolint:contextcheck // other links that it begins do not end with this one
		if !heard {
			heard = true
			c.work.Go(func() { c.measure(ctx, l, conn) })
		}
	}
	if cause := context.Cause(ctx); cause != nil {
		return heard, cause
	}
	return heard, judge(err, true).err
}

// hear notes what a member has told.
func (c *Client) hear(l *link, conn *grpc.ClientConn, kv kvpb.KVClient, s *sighting) {
	c.mu.Lock()
	defer c.mu.Unlock()
	l.up, l.last, l.conn, l.kv, l.err = true, s, conn, kv, nil
	c.adopt(s)
	c.manage()
	c.ring()
}

// lose notes that a member is not heard any more.
func (c *Client) lose(l *link, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	l.up, l.conn, l.kv, l.err = false, nil, nil, err
	c.manage()
	c.ring()
}

// measure finds out how long the member takes to answer, again and again.
func (c *Client) measure(ctx context.Context, l *link, conn *grpc.ClientConn) {
	health := grpc_health_v1.NewHealthClient(conn)
	again := time.NewTicker(measureEvery)
	defer again.Stop()
	for {
		began := time.Now()
		_, err := health.Check(ctx, &grpc_health_v1.HealthCheckRequest{})
		took := max(time.Since(began), 1)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			c.mu.Lock()
			if l.roundTrip != 0 { // one slow answer is no slow member
				took = (3*l.roundTrip + took) / 4
			}
			l.roundTrip = took
			c.mu.Unlock()
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return
		}
	}
}
