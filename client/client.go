package client

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"google.golang.org/grpc/credentials"

	"github.com/concordatdb/concordat/gtid"
)

// Client is a program's way to a group. All methods are safe for concurrent use.
type Client struct {
	cfg   Config
	creds credentials.TransportCredentials

	lifetime context.Context
	stop     context.CancelFunc
	work     sync.WaitGroup

	mu    sync.Mutex
	news  chan struct{}    // closed when anything below changes
	links map[string]*link // by address
	held  *sighting        // the newest of all members, nil before the first
	seen  uint64           // the highest log index that is known in its incarnation
	lanes []*lane
}

// Open returns a client of the group to which the members at cfg.Addresses belong.
// It waits until one of them has told of the group, or for ctx.
func Open(ctx context.Context, cfg Config) (*Client, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	c := &Client{
		cfg: cfg.withDefaults(), creds: cfg.credentials(),
		news: make(chan struct{}), links: map[string]*link{},
	}
	c.lifetime, c.stop = context.WithCancel(context.WithoutCancel(ctx))
	c.mu.Lock()
	c.manage() //nolint:contextcheck // what it begins ends with the client, not with the call
	c.mu.Unlock()
	ctx, cancel := c.patience(ctx)
	defer cancel()
	err := c.until(ctx, func() bool { return c.held != nil })
	if err != nil {
		err = c.noContact(err)
		_ = c.Close()
		return nil, err
	}
	return c, nil
}

// Close ends all calls under way, and the connections, and returns when nothing of
// the client runs any more.
func (c *Client) Close() error {
	if c.lifetime.Err() != nil {
		return ErrClosed
	}
	c.stop()
	c.work.Wait()
	return nil
}

// patience gives a call without a deadline the one of the configuration.
func (c *Client) patience(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, c.cfg.Timeout)
}

// ring lets all who wait look again. The caller holds the lock.
func (c *Client) ring() {
	close(c.news)
	c.news = make(chan struct{})
}

// until returns once cond holds, which is called with the lock held, or why it did
// not.
func (c *Client) until(ctx context.Context, cond func() bool) error {
	for {
		c.mu.Lock()
		ok, news := cond(), c.news
		c.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-news:
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-c.lifetime.Done():
			return ErrClosed
		}
	}
}

// noContact is why nobody has told of the group.
func (c *Client) noContact(end error) error {
	if errors.Is(end, ErrClosed) {
		return end
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	var errs []error
	for _, address := range c.cfg.Addresses {
		if l := c.links[address]; l != nil && l.err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", address, l.err))
		}
	}
	why := errors.Join(errs...)
	if why == nil {
		why = errors.New("nobody has answered")
	}
	return &callError{kind: ErrUnavailable, end: end, text: fmt.Sprintf("%v: %v: %v", ErrUnavailable, end, why)}
}

// adopt takes what a member has told if that is the newest. The caller holds the
// lock.
func (c *Client) adopt(s *sighting) {
	h := c.held
	switch {
	case s.epoch == 0 || s.incarnation.IsZero(): // the member is in no group yet
		return
	case h == nil:
	case s.group != h.group:
		return
	case s.incarnation == h.incarnation:
		if !s.newer(h) {
			return
		}
	case !s.quorum || s.epoch <= h.epoch && c.confirmed(h.incarnation):
		// Membership was forced, or this member was left out. An incarnation of
		// which nobody says any more that it works is over.
		return
	}
	if h == nil || s.incarnation != h.incarnation {
		c.seen = 0
	}
	c.held, c.seen = s, max(c.seen, s.index)
	c.closeLanes()
}

// confirmed reports whether a member in contact says that an incarnation has a
// quorum. The caller holds the lock.
func (c *Client) confirmed(incarnation gtid.UUID) bool {
	for _, l := range c.links {
		if l.up && l.last.quorum && l.last.incarnation == incarnation {
			return true
		}
	}
	return false
}

// linkTo returns the way to a member, nil if there is none: that at the address which
// it tells, if somebody answers there. The caller holds the lock.
func (c *Client) linkTo(member gtid.UUID) (found *link) {
	told := ""
	if c.held != nil {
		if n := c.held.node(member); n != nil {
			told = n.Address
		}
	}
	for _, l := range c.links {
		if l.up && l.last.self == member && (found == nil || found.retired && !l.retired || l.address == told) {
			found = l
		}
	}
	return found
}

// manage sees to it that there is a link to each member, and to those addresses that
// were named in the beginning while some member is in no contact: it may tell no
// address, or one that is of no use here. The caller holds the lock.
func (c *Client) manage() {
	wanted := map[string]bool{}
	complete := c.held != nil
	if h := c.held; h != nil {
		for _, n := range h.nodes {
			if n.Address != "" {
				wanted[n.Address] = true
			}
			l := c.linkTo(n.UUID)
			if l == nil || l.last.incarnation != h.incarnation {
				complete = false
				continue
			}
			wanted[l.address] = true
		}
	}
	if !complete {
		for _, address := range c.cfg.Addresses {
			wanted[address] = true
		}
	}
	for address := range wanted {
		if l := c.links[address]; l != nil {
			l.retired = false
		} else if c.lifetime.Err() == nil {
			c.connect(address)
		}
	}
	for address, l := range c.links {
		if !wanted[address] {
			l.retired = true
			c.dismiss(l)
		}
	}
}

// dismiss ends a link that nobody needs or uses any more. The caller holds the lock.
func (c *Client) dismiss(l *link) {
	if l.retired && l.users == 0 {
		l.end()
		if c.links[l.address] == l {
			delete(c.links, l.address)
		}
	}
}
