package client

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"google.golang.org/grpc"

	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/proto/concordat/kv/v1"
)

// cutAfter is how long calls go on at a member that has lost the right to write.
// One that still answers has said by then that it does not write.
const cutAfter = 100 * time.Millisecond

// errDemoted ends the calls of a member that has lost the right to write.
var errDemoted = &callError{kind: ErrReadOnly, text: ErrReadOnly.Error() + ": another one has begun to write, and this one did not answer"}

// lane is the use of one member in one epoch for what has to be done where writes
// are taken. It takes calls as long as that epoch is the newest.
type lane struct {
	member, incarnation gtid.UUID
	epoch               uint64
	open                context.Context // ended when the member is to be left at once
	cut                 context.CancelCauseFunc
	users               int // under the client's lock
}

// route is one call's way to a member.
type route struct {
	c      *Client
	link   *link
	kv     kvpb.KVClient
	conn   *grpc.ClientConn // that of kv
	member gtid.UUID
	lane   *lane // nil for a read that needs none
	// What was known when the call was made: the log had come so far, in this
	// incarnation.
	seen        uint64
	incarnation gtid.UUID
}

// route takes a link for a call. The caller holds the lock, and calls done in the
// end.
func (c *Client) route(l *link, wantLane bool) *route {
	r := &route{c: c, link: l, kv: l.kv, conn: l.conn, member: l.last.self, seen: c.seen, incarnation: c.held.incarnation}
	l.users++
	if wantLane {
		r.lane = c.laneOf(r.member)
		r.lane.users++
	}
	return r
}

func (r *route) done() {
	r.c.mu.Lock()
	defer r.c.mu.Unlock()
	r.link.users--
	r.c.dismiss(r.link)
	if r.lane != nil {
		r.lane.users--
		r.c.closeLanes()
	}
}

// bind gives a call the end of its lane too. The returned function must be called.
func (r *route) bind(ctx context.Context) (context.Context, context.CancelFunc) {
	if r.lane == nil {
		return context.WithCancel(ctx)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(r.lane.open, func() { cancel(context.Cause(r.lane.open)) })
	return ctx, func() {
		stop()
		cancel(nil)
	}
}

// laneOf returns the lane of a member in the present epoch. The caller holds the
// lock.
func (c *Client) laneOf(member gtid.UUID) *lane {
	for _, l := range c.lanes {
		if l.member == member && c.present(l) {
			return l
		}
	}
	l := &lane{member: member, incarnation: c.held.incarnation, epoch: c.held.epoch}
	l.open, l.cut = context.WithCancelCause(c.lifetime)
	c.lanes = append(c.lanes, l)
	return l
}

// present reports whether a lane takes calls. The caller holds the lock.
func (c *Client) present(l *lane) bool {
	return l.epoch == c.held.epoch && l.incarnation == c.held.incarnation
}

// closeLanes ends the lanes of former epochs: at once if nobody uses them, and soon
// if their members have lost the right to write. The caller holds the lock.
func (c *Client) closeLanes() {
	c.lanes = slices.DeleteFunc(c.lanes, func(l *lane) bool {
		if c.present(l) {
			return false
		}
		if l.users == 0 {
			l.cut(nil)
			return true
		}
		m := c.held.node(l.member)
		if m != nil && m.Writes && l.incarnation == c.held.incarnation {
			return false // it goes on in the new epoch
		}
		time.AfterFunc(cutAfter, func() { l.cut(errDemoted) })
		return true
	})
}

// toWriter waits for a member that takes writes, and is not among those to be passed
// over if there is another.
func (c *Client) toWriter(ctx context.Context, passed []gtid.UUID) (r *route, err error) {
	err = c.until(ctx, func() bool {
		if l := c.pick(passed, c.writes); l != nil {
			r = c.route(l, true)
		}
		return r != nil
	})
	if err != nil {
		return nil, c.nowhere(ErrNoPrimary, err)
	}
	return r, nil
}

// toReader waits for a member to read from. A short call to the primary ends when
// another one has taken its place; what may take long goes on there.
func (c *Client) toReader(ctx context.Context, from ReadFrom, passed []gtid.UUID, short bool) (r *route, err error) {
	err = c.until(ctx, func() bool {
		if l := c.pickReader(from, passed); l != nil {
			r = c.route(l, short && from.place == primary)
		}
		return r != nil
	})
	if err != nil && from.place == primary {
		return nil, c.nowhere(ErrNoPrimary, err)
	}
	if err != nil {
		return nil, c.nowhere(ErrUnavailable, err)
	}
	return r, nil
}

// writes reports whether a member says itself that it takes writes, in the newest
// epoch.
func (c *Client) writes(n *Node, l *link) bool {
	return n.Writes && l.last.writable && l.last.epoch == c.held.epoch && l.last.incarnation == c.held.incarnation
}

// pickReader returns whom to read from, nil if that is nobody now. The caller holds
// the lock.
func (c *Client) pickReader(from ReadFrom, passed []gtid.UUID) *link {
	serves := func(n *Node, l *link) bool {
		own := l.last.node(n.UUID)
		return own != nil && own.State == online && l.last.incarnation == c.held.incarnation
	}
	also := func(more func(*Node, *link) bool) func(*Node, *link) bool {
		return func(n *Node, l *link) bool { return serves(n, l) && more(n, l) }
	}
	quorate := also(func(_ *Node, l *link) bool { return l.last.quorum })
	var orders []func(*Node, *link) bool // the first that anybody meets
	switch {
	case from.place == primary:
		orders = append(orders, also(func(n *Node, _ *link) bool { return n.Writes }))
	case from.place == secondary:
		orders = append(orders, also(func(n *Node, l *link) bool { return !n.Writes && l.last.quorum }), quorate, serves)
	case from.bounded:
		orders = append(orders, also(func(n *Node, l *link) bool {
			fresh := l.last.node(n.UUID).Fresh
			return l.last.quorum && fresh != NotKnown && fresh <= from.within
		}), quorate, serves)
	default:
		orders = append(orders, quorate, serves)
	}
	for _, meets := range orders {
		if l := c.pick(passed, meets); l != nil {
			return l
		}
	}
	return nil
}

// pick returns the link to the nearest member that meets a condition, or to any of
// several that are about as near; nil if there is none. The caller holds the lock.
func (c *Client) pick(passed []gtid.UUID, meets func(*Node, *link) bool) *link {
	if c.held == nil {
		return nil
	}
	var fit, rest []*link
	for i := range c.held.nodes {
		n := &c.held.nodes[i]
		l := c.linkTo(n.UUID)
		switch {
		case l == nil || !meets(n, l):
		case slices.Contains(passed, n.UUID):
			rest = append(rest, l)
		default:
			fit = append(fit, l)
		}
	}
	if len(fit) == 0 {
		fit = rest
	}
	if len(fit) == 0 {
		return nil
	}
	return nearby(fit)
}

// nearby draws one of the links that are about as short as the shortest.
func nearby(links []*link) *link {
	const slack = time.Millisecond
	shortest := time.Duration(0)
	for _, l := range links {
		if l.roundTrip != 0 && (shortest == 0 || l.roundTrip < shortest) {
			shortest = l.roundTrip
		}
	}
	if shortest != 0 {
		links = slices.DeleteFunc(links, func(l *link) bool {
			return l.roundTrip == 0 || l.roundTrip > max(2*shortest, shortest+slack)
		})
	}
	return links[rand.N(len(links))]
}

// nowhere is the error of a call that has found no member in its time.
func (c *Client) nowhere(kind, end error) error {
	if errors.Is(end, ErrClosed) {
		return end
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	contact, quorum := false, false
	for _, l := range c.links {
		contact, quorum = contact || l.up, quorum || l.up && l.last.quorum
	}
	text := "none of them says that it takes writes"
	switch {
	case !contact:
		kind, text = ErrUnavailable, "no member is in contact"
	case !quorum:
		kind, text = ErrNoQuorum, "no member in contact hears a majority"
	case errors.Is(kind, ErrUnavailable):
		text = "none of those in contact is ONLINE"
	}
	return &callError{kind: kind, end: end, text: fmt.Sprintf("%v: %s; nothing happened: %v", kind, text, end)}
}

// pause lets something change before the next try, the longer the more there were.
func (c *Client) pause(ctx context.Context, tries int) error {
	const step, most = 5 * time.Millisecond, 250 * time.Millisecond
	d := min(step<<min(tries, 10), most)
	timer := time.NewTimer(d/2 + rand.N(d/2))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-c.lifetime.Done():
		return ErrClosed
	}
}
