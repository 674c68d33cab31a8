package client

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"reflect"
	"time"

	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/proto/concordat/kv/v1"
)

// Mode says how many members write.
type Mode byte

// The modes.
const (
	SinglePrimary Mode = 1
	MultiPrimary  Mode = 2
)

// String returns the mode as Group Replication writes it.
func (m Mode) String() string {
	switch m {
	case SinglePrimary:
		return "SINGLE_PRIMARY"
	case MultiPrimary:
		return "MULTI_PRIMARY"
	}
	return fmt.Sprintf("Mode(%d)", byte(m))
}

// View is a group as its members have told last.
type View struct {
	Group       gtid.UUID
	Incarnation gtid.UUID
	// Epoch counts the changes of who writes; Index is the log index where this one
	// began.
	Epoch, Index uint64
	ID           uint64 // of the group's view
	Mode         Mode
	Primary      gtid.UUID // zero in a multi-primary group, and where there is none
	Nodes        []Node
	// Quorum: a member in contact says that it hears a majority.
	Quorum bool
	// ActionOpen: a planned change of who writes is under way.
	ActionOpen bool
}

// Node is a member in a View.
type Node struct {
	UUID    gtid.UUID
	Address string // for clients, as the group has it; may be empty
	State   string // in the words of Group Replication: ONLINE, RECOVERING and so on
	Writes  bool   // it has the right to write
	Applied uint64 // log index up to which its data were visible when it told
	// Fresh is how old its data may have been when it told, NotKnown where nothing is
	// known of that.
	Fresh time.Duration
	// Contact: the client hears it. RoundTrip is how long it takes to answer, 0 if
	// that was not measured yet.
	Contact   bool
	RoundTrip time.Duration
}

const online = "ONLINE"

// sighting is what a member has told of its group, and who it is.
type sighting struct {
	group, incarnation, self  gtid.UUID
	epoch, began, index, view uint64
	mode                      Mode
	primary                   gtid.UUID
	nodes                     []Node
	quorum, writable, action  bool
}

// maxNodes is more than a group can have members.
const maxNodes = 64

// errSighting marks what no member can have told.
var errSighting = errors.New("malformed answer")

// readSighting reads what came over the network. It takes nothing that contradicts
// itself.
func readSighting(r *kvpb.WatchResponse) (*sighting, error) {
	s := &sighting{
		epoch: r.GetEpoch(), began: r.GetEpochIndex(), index: r.GetIndex(), view: r.GetView(),
		quorum: r.GetQuorum(), writable: r.GetWritable(), action: r.GetActionOpen(),
	}
	for _, u := range []struct {
		to       *gtid.UUID
		text     string
		required bool
	}{{&s.group, r.GetGroup(), true}, {&s.self, r.GetSelf(), true}, {&s.incarnation, r.GetIncarnation(), false}, {&s.primary, r.GetPrimary(), false}} {
		if err := readUUID(u.to, u.text, u.required); err != nil {
			return nil, err
		}
	}
	switch r.GetMode() {
	case kvpb.Mode_MODE_UNSPECIFIED, kvpb.Mode_MODE_SINGLE_PRIMARY, kvpb.Mode_MODE_MULTI_PRIMARY:
		s.mode = Mode(r.GetMode())
	default:
		return nil, fmt.Errorf("%w: mode %d", errSighting, r.GetMode())
	}
	if s.began > s.index {
		return nil, fmt.Errorf("%w: epoch %d begins at log index %d, and that of the answer is %d", errSighting, s.epoch, s.began, s.index)
	}
	if n := len(r.GetNodes()); n > maxNodes {
		return nil, fmt.Errorf("%w: %d members", errSighting, n)
	}
	for _, n := range r.GetNodes() {
		node := Node{Address: n.GetClientAddress(), State: n.GetState(), Writes: n.GetWrites(), Applied: n.GetApplied(), Fresh: NotKnown}
		if err := readUUID(&node.UUID, n.GetUuid(), true); err != nil {
			return nil, err
		}
		if s.node(node.UUID) != nil {
			return nil, fmt.Errorf("%w: member %s twice", errSighting, node.UUID)
		}
		if n.FreshNanos != nil {
			if node.Fresh = time.Duration(n.GetFreshNanos()); node.Fresh < 0 {
				return nil, fmt.Errorf("%w: data of age %v", errSighting, node.Fresh)
			}
		}
		s.nodes = append(s.nodes, node)
	}
	return s, nil
}

func readUUID(to *gtid.UUID, text string, required bool) error {
	if text == "" && !required {
		return nil
	}
	u, err := gtid.ParseUUID(text)
	if err != nil {
		return fmt.Errorf("%w: %w", errSighting, err)
	}
	*to = u
	return nil
}

// node returns a member, nil for a stranger.
func (s *sighting) node(member gtid.UUID) *Node {
	for i := range s.nodes {
		if s.nodes[i].UUID == member {
			return &s.nodes[i]
		}
	}
	return nil
}

// newer reports whether s, of the same incarnation, replaces t.
func (s *sighting) newer(t *sighting) bool {
	return s.epoch > t.epoch || s.epoch == t.epoch && s.index >= t.index
}

// View returns the group as its members have told last.
func (c *Client) View() View {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.view()
}

// view is View for who holds the lock.
func (c *Client) view() View {
	h := c.held
	v := View{
		Group: h.group, Incarnation: h.incarnation, Epoch: h.epoch, Index: h.began, ID: h.view,
		Mode: h.mode, Primary: h.primary, Quorum: c.confirmed(h.incarnation), ActionOpen: h.action,
	}
	for _, n := range h.nodes {
		if l := c.linkTo(n.UUID); l != nil {
			n.Contact, n.RoundTrip = true, l.roundTrip
			if own := l.last.node(n.UUID); own != nil {
				n.State, n.Applied, n.Fresh = own.State, own.Applied, own.Fresh
			}
		}
		v.Nodes = append(v.Nodes, n)
	}
	return v
}

// Views yields the group as it is now, and again whenever that has changed: the
// newest only, if much changes at once. How far members are is no change. It ends
// with ctx, and when the client is closed.
func (c *Client) Views(ctx context.Context) iter.Seq[View] {
	return func(yield func(View) bool) {
		var last View
		for first := true; ; first = false {
			c.mu.Lock()
			now, news := c.view(), c.news
			c.mu.Unlock()
			if outline := now.outline(); first || !reflect.DeepEqual(outline, last) {
				last = outline
				if !yield(now) {
					return
				}
			}
			select {
			case <-news:
			case <-ctx.Done():
				return
			case <-c.lifetime.Done():
				return
			}
		}
	}
}

// outline is the view without what changes all the time.
func (v View) outline() View {
	nodes := make([]Node, len(v.Nodes))
	for i, n := range v.Nodes {
		n.Applied, n.Fresh, n.RoundTrip = 0, 0, 0
		nodes[i] = n
	}
	v.Nodes = nodes
	return v
}
