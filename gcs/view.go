package gcs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/concordatdb/concordat/gtid"
)

// ErrView marks bytes that are not a view, a member or a change of one.
var ErrView = errors.New("gcs: malformed view")

// MaxMembers bounds a group, as in Group Replication.
const MaxMembers = 9

// maxAddressLen bounds a member's address: a DNS name, a colon and a port.
const maxAddressLen = 261

// MemberState is a member's state as the log has it. What a single observer
// believes, that a member cannot be reached, is no part of it.
type MemberState byte

// The states. Their values are part of the log format.
const (
	// Recovering members receive the log but have no vote yet.
	Recovering MemberState = 1
	// Online members vote, and may serve transactions.
	Online MemberState = 2
)

// String returns the state as Group Replication writes it.
func (s MemberState) String() string {
	switch s {
	case Recovering:
		return "RECOVERING"
	case Online:
		return "ONLINE"
	}
	return fmt.Sprintf("MemberState(%d)", byte(s))
}

// Member is what the group knows about one of its members.
type Member struct {
	UUID    gtid.UUID // the lasting identity
	RaftID  uint64    // drawn anew for each join
	Address string    // where other members reach it
	Version uint32    // major<<16 | minor<<8 | patch
	Weight  uint32    // for primary election, 0 to 100
	State   MemberState
}

// View is the membership of the group from one log position to the next
// change. It is immutable: a change makes a new one.
type View struct {
	ID          uint64    // counts the views of a group from 1
	Index       uint64    // log index of the entry that began the view
	Incarnation gtid.UUID // incarnation of the group
	Cause       Change    // what began the view
	Members     []Member  // ascending by RaftID
}

// Member returns the member with the given raft id.
func (v View) Member(raftID uint64) (Member, bool) {
	i, ok := v.find(raftID)
	if !ok {
		return Member{}, false
	}
	return v.Members[i], true
}

func (v View) find(raftID uint64) (int, bool) {
	return slices.BinarySearchFunc(v.Members, raftID, func(m Member, id uint64) int {
		switch {
		case m.RaftID < id:
			return -1
		case m.RaftID > id:
			return 1
		}
		return 0
	})
}

// Quorum is the number of ONLINE members that must have an entry on disk
// before it counts.
func (v View) Quorum() int {
	return v.online()/2 + 1
}

func (v View) online() int {
	n := 0
	for _, m := range v.Members {
		if m.State == Online {
			n++
		}
	}
	return n
}

// confState is the raft configuration that the view stands for. The two are
// never stored apart, so they cannot disagree.
func (v View) confState() *raftpb.ConfState {
	cs := &raftpb.ConfState{}
	for _, m := range v.Members {
		if m.State == Online {
			cs.Voters = append(cs.Voters, m.RaftID)
		} else {
			cs.Learners = append(cs.Learners, m.RaftID)
		}
	}
	return cs
}

// ChangeKind is what happens to a member when a view begins. The values are
// part of the log format.
type ChangeKind byte

// The kinds of change.
const (
	// Bootstrapped: the member founded the group, alone and ONLINE.
	Bootstrapped ChangeKind = 1
	// Joined: the member entered, RECOVERING.
	Joined ChangeKind = 2
	// Promoted: the member had caught up and is ONLINE from here on.
	Promoted ChangeKind = 3
	// Left: the member went in order.
	Left ChangeKind = 4
)

// String returns the kind as a word for people.
func (k ChangeKind) String() string {
	switch k {
	case Bootstrapped:
		return "bootstrapped"
	case Joined:
		return "joined"
	case Promoted:
		return "promoted"
	case Left:
		return "left"
	}
	return fmt.Sprintf("ChangeKind(%d)", byte(k))
}

// Change is one change of membership.
type Change struct {
	Kind        ChangeKind
	Member      Member    // for Promoted and Left only UUID and RaftID count
	Incarnation gtid.UUID // for Bootstrapped: of the group
}

// RefusedChangeError says why a membership change would not be valid.
type RefusedChangeError struct {
	Change Change
	Reason string
}

// Error names the member, the change and the reason.
func (e *RefusedChangeError) Error() string {
	return fmt.Sprintf("gcs: member %s cannot have %s: %s", e.Change.Member.UUID, e.Change.Kind, e.Reason)
}

// Apply returns the view that c makes of v at a log index. It depends on
// nothing else, so every member accepts and refuses the same changes. The
// error is a *RefusedChangeError.
func (v View) Apply(c Change, index uint64) (View, error) {
	if reason := v.objection(c); reason != "" {
		return v, &RefusedChangeError{Change: c, Reason: reason}
	}
	next := View{ID: v.ID + 1, Index: index, Incarnation: v.Incarnation, Members: slices.Clone(v.Members)}
	i, _ := v.find(c.Member.RaftID)
	switch c.Kind {
	case Bootstrapped:
		next.Incarnation = c.Incarnation
		c.Member.State = Online
		next.Members = []Member{c.Member}
	case Joined:
		c.Member.State = Recovering
		next.Members = slices.Insert(next.Members, i, c.Member)
	case Promoted:
		next.Members[i].State = Online
		c.Member = next.Members[i]
	case Left:
		c.Member = next.Members[i]
		next.Members = slices.Delete(next.Members, i, i+1)
	}
	next.Cause = c
	return next, nil
}

// objection says what forbids c, "" when nothing does.
func (v View) objection(c Change) string {
	m, known := v.Member(c.Member.RaftID)
	known = known && m.UUID == c.Member.UUID
	switch c.Kind {
	case Bootstrapped:
		if v.ID != 0 {
			return "the group exists already"
		}
		return c.Member.incomplete()
	case Joined:
		return v.objectionToJoin(c.Member)
	case Promoted:
		if !known || m.State != Recovering {
			return "it is not RECOVERING in this view"
		}
	case Left:
		if !known {
			return "it is not in this view"
		}
		if m.State == Online && v.online() == 1 {
			return "it is the last ONLINE member; stop it instead"
		}
	default:
		return "the kind of change is unknown"
	}
	return ""
}

func (v View) objectionToJoin(m Member) string {
	if len(v.Members) == 0 {
		return "there is no group yet; bootstrap it first"
	}
	if len(v.Members) >= MaxMembers {
		return fmt.Sprintf("the group has %d members, the most there can be", len(v.Members))
	}
	if reason := m.incomplete(); reason != "" {
		return reason
	}
	for _, other := range v.Members {
		switch {
		case other.RaftID == m.RaftID:
			return "its raft id is in the view already"
		case other.UUID == m.UUID:
			return fmt.Sprintf("its UUID is in the view already, at %s; remove that member first", other.Address)
		case other.Address == m.Address:
			return fmt.Sprintf("its address is that of member %s; remove that member or choose another address", other.UUID)
		}
	}
	return ""
}

// incomplete says what keeps m from being a member of any group.
func (m Member) incomplete() string {
	switch {
	case m.RaftID == 0 || m.UUID.IsZero() || m.Address == "":
		return "it lacks a UUID, a raft id or an address"
	case raft.IsLocalMsgTarget(m.RaftID):
		return "its raft id is reserved; draw another one"
	case len(m.Address) > maxAddressLen:
		return fmt.Sprintf("its address is longer than %d bytes", maxAddressLen)
	}
	return ""
}

// flaw says why no sequence of changes can have made v, "" when one can. raft
// trusts the configuration that it starts with, so it is asked before that.
func (v View) flaw() string {
	if v.ID == 0 || v.online() == 0 {
		return "the view has no ONLINE member"
	}
	for i, m := range v.Members {
		if reason := m.incomplete(); reason != "" {
			return fmt.Sprintf("member %s: %s", m.UUID, reason)
		}
		if m.State != Recovering && m.State != Online {
			return fmt.Sprintf("member %s is in the unknown state %d", m.UUID, byte(m.State))
		}
		if i > 0 && v.Members[i-1].RaftID >= m.RaftID {
			return fmt.Sprintf("member %s is out of order", m.UUID)
		}
	}
	return ""
}

// confChange is the raft change that makes c happen. c rides in its context.
func (c Change) confChange() *raftpb.ConfChangeV2 {
	typ := raftpb.ConfChangeAddNode
	switch c.Kind {
	case Bootstrapped, Promoted:
	case Joined:
		typ = raftpb.ConfChangeAddLearnerNode
	case Left:
		typ = raftpb.ConfChangeRemoveNode
	}
	return &raftpb.ConfChangeV2{
		Changes: []*raftpb.ConfChangeSingle{{Type: typ.Enum(), NodeId: new(c.Member.RaftID)}},
		Context: appendChange(nil, c),
	}
}

// String returns the view on one line.
func (v View) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "view %d at %d (%s %s):", v.ID, v.Index, v.Cause.Member.UUID, v.Cause.Kind)
	for _, m := range v.Members {
		fmt.Fprintf(&b, " %s=%s", m.UUID, m.State)
	}
	return b.String()
}

//	member := uuid(16) uvarint raftID, version, weight, state  uvarint len  address
//	change := kind(1) incarnation(16) member
//	view   := uvarint id, index  incarnation(16) change  uvarint count  member*

func appendMember(b []byte, m Member) []byte {
	b = append(b, m.UUID[:]...)
	b = appendUvarints(b, m.RaftID, uint64(m.Version), uint64(m.Weight), uint64(m.State), uint64(len(m.Address)))
	return append(b, m.Address...)
}

func appendChange(b []byte, c Change) []byte {
	b = append(b, byte(c.Kind))
	b = append(b, c.Incarnation[:]...)
	return appendMember(b, c.Member)
}

func appendView(b []byte, v View) []byte {
	b = appendUvarints(b, v.ID, v.Index)
	b = append(b, v.Incarnation[:]...)
	b = appendChange(b, v.Cause)
	b = binary.AppendUvarint(b, uint64(len(v.Members)))
	for _, m := range v.Members {
		b = appendMember(b, m)
	}
	return b
}

func decodeChange(b []byte) (Change, error) {
	d := decoder{rest: b}
	c := d.change()
	return c, d.finish(ErrView)
}

func (d *decoder) member() Member {
	m := Member{UUID: d.uuid(), RaftID: d.uvarint()}
	m.Version = uint32(d.uvarintMax(1<<32 - 1))
	m.Weight = uint32(d.uvarintMax(1<<32 - 1))
	m.State = MemberState(d.uvarintMax(255))
	m.Address = string(d.bytes(d.uvarintMax(maxAddressLen)))
	return m
}

func (d *decoder) change() Change {
	c := Change{Kind: ChangeKind(d.byte()), Incarnation: d.uuid()}
	c.Member = d.member()
	return c
}

func (d *decoder) view() View {
	v := View{ID: d.uvarint(), Index: d.uvarint(), Incarnation: d.uuid(), Cause: d.change()}
	for range d.uvarintMax(MaxMembers) {
		v.Members = append(v.Members, d.member())
	}
	return v
}
