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

// agrees reports whether raft's configuration is the one that v stands for.
func (v View) agrees(has *raftpb.ConfState) bool {
	want := v.confState()
	return slices.Equal(has.GetVoters(), want.GetVoters()) && slices.Equal(has.GetLearners(), want.GetLearners()) &&
		len(has.GetVotersOutgoing())+len(has.GetLearnersNext()) == 0
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
	if v.ID == 0 {
		return "the view has no ONLINE member"
	}
	return flawOf(v.Members)
}

// flawOf says why members cannot be those of a view, "" when they can.
func flawOf(members []Member) string {
	if (View{Members: members}).online() == 0 {
		return "the view has no ONLINE member"
	}
	for i, m := range members {
		if reason := m.incomplete(); reason != "" {
			return fmt.Sprintf("member %s: %s", m.UUID, reason)
		}
		if m.State != Recovering && m.State != Online {
			return fmt.Sprintf("member %s is in the unknown state %d", m.UUID, byte(m.State))
		}
		if i > 0 && members[i-1].RaftID >= m.RaftID {
			return fmt.Sprintf("member %s is out of order", m.UUID)
		}
		for _, other := range members[:i] {
			if other.UUID == m.UUID || other.Address == m.Address {
				return fmt.Sprintf("members %d and %d have the same UUID or address", other.RaftID, m.RaftID)
			}
		}
	}
	return ""
}

// String returns the view on one line.
func (v View) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "view %d at %d (%s):", v.ID, v.Index, v.Cause)
	for _, m := range v.Members {
		fmt.Fprintf(&b, " %s=%s", m.UUID, m.State)
	}
	return b.String()
}

//	member := uuid(16) uvarint raftID, version, weight, state  uvarint len  address
//	view   := record  uvarint count  member*

func appendMember(b []byte, m Member) []byte {
	b = append(b, m.UUID[:]...)
	b = appendUvarints(b, m.RaftID, uint64(m.Version), uint64(m.Weight), uint64(m.State), uint64(len(m.Address)))
	return append(b, m.Address...)
}

func appendMembers(b []byte, ms []Member) []byte {
	b = binary.AppendUvarint(b, uint64(len(ms)))
	for _, m := range ms {
		b = appendMember(b, m)
	}
	return b
}

func appendView(b []byte, v View) []byte {
	return appendMembers(appendRecord(b, v.record()), v.Members)
}

func (d *decoder) member() Member {
	m := Member{UUID: d.uuid(), RaftID: d.uvarint()}
	m.Version = uint32(d.uvarintMax(1<<32 - 1))
	m.Weight = uint32(d.uvarintMax(1<<32 - 1))
	m.State = MemberState(d.uvarintMax(255))
	m.Address = string(d.bytes(d.uvarintMax(maxAddressLen)))
	return m
}

func (d *decoder) members() []Member {
	var ms []Member
	for range d.uvarintMax(MaxMembers) {
		ms = append(ms, d.member())
	}
	return ms
}

func (d *decoder) view() View {
	r := d.record()
	return View{ID: r.ID, Index: r.Index, Incarnation: r.Incarnation, Cause: r.Cause, Members: d.members()}
}
