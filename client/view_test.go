package client

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/proto/concordat/kv/v1"
)

func member(i byte) gtid.UUID { return gtid.UUID{8: 0x80, 15: i} }

var (
	aGroup           = gtid.UUID{8: 0x80, 14: 1}
	oneLine, another = gtid.UUID{8: 0x80, 13: 1}, gtid.UUID{8: 0x80, 13: 2} // incarnations
)

// seen is what member self tells of a group of three in which the given ones write.
func seen(self byte, epoch, index uint64, writers ...byte) *sighting {
	s := &sighting{
		group: aGroup, incarnation: oneLine, self: member(self), epoch: epoch, began: epoch * 10, index: index,
		mode: MultiPrimary, quorum: true,
	}
	if len(writers) < 2 {
		s.mode = SinglePrimary
	}
	if len(writers) == 1 {
		s.primary = member(writers[0])
	}
	s.writable = slices.Contains(writers, self)
	for i := byte(1); i <= 3; i++ {
		s.nodes = append(s.nodes, Node{UUID: member(i), State: online, Writes: slices.Contains(writers, i), Fresh: NotKnown})
	}
	return s
}

func elsewhereIn(incarnation gtid.UUID, s *sighting) *sighting {
	s.incarnation = incarnation
	return s
}

// standIn is a client that nobody has told anything, without anything that runs.
func standIn(t *testing.T) *Client {
	c := &Client{cfg: Config{}.withDefaults(), news: make(chan struct{}), links: map[string]*link{}}
	c.lifetime, c.stop = context.WithCancel(t.Context())
	t.Cleanup(c.stop)
	return c
}

// says has a member in contact tell something.
func (c *Client) says(s *sighting) *link {
	address := s.self.String()
	l := c.links[address]
	if l == nil {
		l = &link{address: address, end: func() {}}
		c.links[address] = l
	}
	l.up, l.last = true, s
	c.adopt(s)
	return l
}

func TestNewestIsHeld(t *testing.T) {
	for _, c := range []struct {
		name  string
		first []*sighting
		then  *sighting
		taken bool
	}{
		{"the first", nil, seen(1, 1, 10, 1), true},
		{"one of no group yet", nil, elsewhereIn(gtid.UUID{}, seen(1, 0, 0)), false},
		{"a later index", []*sighting{seen(1, 1, 10, 1)}, seen(2, 1, 11, 1), true},
		{"an earlier index", []*sighting{seen(1, 1, 10, 1)}, seen(2, 1, 9, 1), false},
		{"a later epoch", []*sighting{seen(1, 1, 50, 1)}, seen(2, 2, 40, 2), true},
		{"an earlier epoch", []*sighting{seen(1, 2, 50, 1)}, seen(2, 1, 60, 2), false},
		{"another group", []*sighting{seen(1, 1, 10, 1)}, func() *sighting {
			s := seen(2, 9, 90, 2)
			s.group = member(9)
			return s
		}(), false},
		{"a forced view", []*sighting{seen(1, 1, 50, 1)}, elsewhereIn(another, seen(2, 2, 40, 2)), true},
		{"one without a quorum in another incarnation", []*sighting{seen(1, 1, 50, 1)}, func() *sighting {
			s := elsewhereIn(another, seen(2, 2, 40, 2))
			s.quorum = false
			return s
		}(), false},
		{"one that was left out", []*sighting{elsewhereIn(another, seen(1, 2, 50, 1))}, seen(2, 2, 60, 2), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			client := standIn(t)
			for _, s := range c.first {
				client.says(s)
			}
			if client.says(c.then); (client.held == c.then) != c.taken {
				t.Errorf("holds %+v", client.held)
			}
		})
	}
}

// An incarnation whose members have all gone does not keep the client from the one
// that the operator forced, though its epochs were more.
func TestIncarnationIsOver(t *testing.T) {
	c := standIn(t)
	l := c.says(seen(1, 7, 100, 1))
	forced := elsewhereIn(another, seen(2, 6, 80, 2))
	if c.says(forced); c.held == forced {
		t.Error("an incarnation was left that says that it works")
	}
	l.up = false
	if c.says(forced); c.held != forced || c.seen != 80 {
		t.Errorf("it holds %+v, at %d", c.held, c.seen)
	}
}

func TestPick(t *testing.T) {
	c := standIn(t)
	first, second, third := c.says(seen(1, 1, 10, 1)), c.says(seen(2, 1, 10, 1)), c.says(seen(3, 1, 10, 1))
	second.roundTrip, third.roundTrip = 5*time.Millisecond, 50*time.Millisecond
	first.roundTrip = 20 * time.Millisecond
	reads := func(from ReadFrom, passed ...gtid.UUID) *link { return c.pickReader(from, passed) }
	writes := func(passed ...gtid.UUID) *link { return c.pick(passed, c.writes) }
	expect := func(what string, got, want *link) {
		t.Helper()
		if got != want {
			t.Errorf("%s: %+v, want %+v", what, got, want)
		}
	}
	expect("writes", writes(), first)
	expect("writes where it failed before, but for nobody else", writes(member(1)), first)
	expect("primary", reads(Primary()), first)
	expect("secondary", reads(Secondary()), second)
	expect("secondary, but not that one", reads(Secondary(), member(2)), third)
	expect("nearest", reads(Nearest()), second)
	expect("nearest, but not that one", reads(Nearest(), member(2)), first)
	expect("fresh, of which nobody knows", reads(FreshWithin(time.Second)), second)
	third.last.nodes[2].Fresh = time.Millisecond
	expect("fresh", reads(FreshWithin(time.Second)), third)
	expect("fresher", reads(FreshWithin(time.Microsecond)), second)

	second.last.quorum = false
	expect("nearest with a quorum", reads(Nearest()), first)
	second.last.quorum, second.up = true, false
	expect("nearest in contact", reads(Secondary()), third)
	third.last.nodes[2].State = "RECOVERING"
	expect("secondary, where only the primary is left", reads(Secondary()), first)

	first.last.writable = false
	expect("writes of one that says that it does not", writes(), nil)
	c.says(seen(3, 2, 20, 1))
	first.last.writable = true
	expect("writes of one that has not come to the epoch", writes(), nil)
	expect("writes in the next epoch", func() *link { c.says(seen(1, 2, 20, 1)); return writes() }(), first)
	c.says(seen(3, 3, 30, 3))
	expect("writes after the next", writes(), third)
	expect("reads there", reads(Primary()), third)
}

// A lane ends with its epoch: at once for new calls, and soon for those on their way
// if the member does not write any more.
func TestLanes(t *testing.T) {
	c := standIn(t)
	l := c.says(seen(1, 1, 10, 1))
	r := c.route(l, true)
	if r.lane.epoch != 1 || r.seen != 10 || c.laneOf(member(1)) != r.lane {
		t.Fatalf("%+v", r.lane)
	}
	ctx, unbind := r.bind(t.Context())
	defer unbind()
	c.says(seen(1, 2, 20, 1, 2)) // it writes on
	if next := c.laneOf(member(1)); next == r.lane || next.epoch != 2 || ctx.Err() != nil {
		t.Errorf("in the next epoch %+v, %v", next, ctx.Err())
	}
	c.says(seen(2, 3, 30, 2))
	<-ctx.Done()
	if err := context.Cause(ctx); !errors.Is(err, ErrReadOnly) {
		t.Errorf("the call ends with %v", err)
	}
	r.done()
	if len(c.lanes) != 0 || l.users != 0 {
		t.Errorf("left are %v, %d", c.lanes, l.users)
	}
}

// What is unknown never happened only where the log up to the next epoch is known,
// and the member has lost its right with that.
func TestFenced(t *testing.T) {
	a := attempt{member: member(1), incarnation: oneLine, epoch: 2, seen: 25}
	covered := Outcome{From: 20, Until: 30, incarnation: oneLine}
	for _, c := range []struct {
		name string
		held *sighting
		a    func(*attempt)
		o    func(*Outcome)
		want bool
	}{
		{"another primary", seen(2, 3, 40, 2), nil, nil, true},
		{"nobody writes", seen(2, 3, 40), nil, nil, true},
		{"the same epoch", seen(2, 2, 40, 2), nil, nil, false},
		{"the same primary", seen(2, 3, 40, 1), nil, nil, false},
		{"the log does not reach the epoch", seen(2, 3, 40, 2), nil, func(o *Outcome) { o.Until = 29 }, false},
		{"forgotten since it was sent", seen(2, 3, 40, 2), nil, func(o *Outcome) { o.From = 26 }, false},
		{"another incarnation now", elsewhereIn(another, seen(2, 3, 40, 2)), nil, nil, false},
		{"sent in another incarnation", seen(2, 3, 40, 2), func(a *attempt) { a.incarnation = another }, nil, false},
		{"told of another incarnation", seen(2, 3, 40, 2), nil, func(o *Outcome) { o.incarnation = another }, false},
		{"one of several, which writes on", seen(2, 3, 40, 1, 2), nil, nil, false},
		{"one of several, and it writes no more", seen(2, 3, 40, 2, 3), nil, func(o *Outcome) { o.Until = 40 }, true},
		{"and that is not in the log that is told of", seen(2, 3, 40, 2, 3), nil, nil, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			client := standIn(t)
			client.says(c.held)
			a, o := a, covered
			if c.a != nil {
				c.a(&a)
			}
			if c.o != nil {
				c.o(&o)
			}
			if got := client.fenced(&a, &o); got != c.want {
				t.Errorf("fenced: %v", got)
			}
		})
	}
}

func toldOf() *kvpb.WatchResponse {
	return &kvpb.WatchResponse{
		Group: aMember, Incarnation: aMember, Self: aMember, Epoch: 2, EpochIndex: 5, Index: 9, View: 3,
		Mode: kvpb.Mode_MODE_SINGLE_PRIMARY, Primary: aMember, Quorum: true, Writable: true,
		Nodes: []*kvpb.Node{{Uuid: aMember, ClientAddress: "a:1", State: online, Writes: true, Applied: 9, FreshNanos: new(int64(5))}},
	}
}

func TestReadSighting(t *testing.T) {
	s, err := readSighting(toldOf())
	if err != nil || s.epoch != 2 || s.began != 5 || s.index != 9 || s.node(s.self) == nil || s.nodes[0].Fresh != 5 || s.primary != s.self {
		t.Errorf("%+v, %v", s, err)
	}
	for name, change := range map[string]func(*kvpb.WatchResponse){
		"no group":                func(r *kvpb.WatchResponse) { r.Group = "" },
		"no self":                 func(r *kvpb.WatchResponse) { r.Self = "x" },
		"no incarnation":          func(r *kvpb.WatchResponse) { r.Incarnation = "x" },
		"no primary":              func(r *kvpb.WatchResponse) { r.Primary = "x" },
		"no mode":                 func(r *kvpb.WatchResponse) { r.Mode = 3 },
		"an epoch of the future":  func(r *kvpb.WatchResponse) { r.EpochIndex = 10 },
		"a member twice":          func(r *kvpb.WatchResponse) { r.Nodes = append(r.Nodes, r.Nodes[0]) },
		"a member without a name": func(r *kvpb.WatchResponse) { r.Nodes[0].Uuid = "" },
		"data of the future":      func(r *kvpb.WatchResponse) { r.Nodes[0].FreshNanos = new(int64(-1)) },
		"too many members":        func(r *kvpb.WatchResponse) { r.Nodes = slices.Repeat(r.Nodes, maxNodes+1) },
	} {
		r := toldOf()
		change(r)
		if _, err := readSighting(r); !errors.Is(err, errSighting) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzWatchResponse takes in whatever a member may push.
func FuzzWatchResponse(f *testing.F) {
	b, err := proto.Marshal(toldOf())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		r := &kvpb.WatchResponse{}
		if proto.Unmarshal(b, r) != nil {
			return
		}
		s, err := readSighting(r)
		if err != nil {
			if !errors.Is(err, errSighting) {
				t.Errorf("%v", err)
			}
			return
		}
		if s.began > s.index || len(s.nodes) > maxNodes || len(s.nodes) != len(r.GetNodes()) {
			t.Errorf("took %v", r)
		}
		c := &Client{links: map[string]*link{}, lifetime: t.Context(), news: make(chan struct{})}
		if c.says(s); c.held != nil {
			_ = c.view()
			_ = c.pickReader(FreshWithin(time.Second), nil)
		}
	})
}

// FuzzOutcomeResponse reads whatever a member may tell of a transaction.
func FuzzOutcomeResponse(f *testing.F) {
	for _, a := range []*kvpb.OutcomeResponse{
		{State: kvpb.OutcomeResponse_STATE_UNKNOWN, From: 1, Until: 9, Incarnation: aMember},
		{State: kvpb.OutcomeResponse_STATE_COMMITTED, Gtid: aMember + ":1", Index: 4},
		{State: kvpb.OutcomeResponse_STATE_REFUSED, Reason: kvpb.ErrorInfo_CODE_CONFLICT, Winner: aMember + ":1"},
	} {
		b, err := proto.Marshal(a)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		a := &kvpb.OutcomeResponse{}
		if proto.Unmarshal(b, a) != nil {
			return
		}
		o, err := readOutcome(a)
		switch {
		case err != nil && !errors.Is(err, errSighting):
			t.Errorf("%v", err)
		case err == nil && o.State == OutcomeCommitted && o.GTID.IsZero():
			t.Errorf("%v has committed as nothing", a)
		case err == nil && (o.State == OutcomeRefused) != (o.Reason != nil):
			t.Errorf("%v is %+v", a, o)
		}
	})
}
