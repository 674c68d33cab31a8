package gcs

import (
	"fmt"
	"slices"
	"unicode/utf8"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/concordatdb/concordat/gtid"
)

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
	// Expelled: the member was silent for longer than the expel timeout.
	Expelled ChangeKind = 5
	// Removed: an operator ordered the member out.
	Removed ChangeKind = 6
	// Replaced: the member entered, RECOVERING, and the one whose place it
	// takes went, in the same view.
	Replaced ChangeKind = 7
	// Forced: an operator imposed the membership after the group had lost its
	// quorum. A new incarnation begins.
	Forced ChangeKind = 8
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
	case Expelled:
		return "expelled"
	case Removed:
		return "removed"
	case Replaced:
		return "replaced"
	case Forced:
		return "forced"
	}
	return fmt.Sprintf("ChangeKind(%d)", byte(k))
}

// takesOut reports whether a member can be out of the view by a change.
func (k ChangeKind) takesOut() bool { return k >= Left && k <= Removed || k == Replaced || k == Forced }

// MaxReason bounds the reason of a change, in bytes.
const MaxReason = 512

// Change is one change of membership. It is immutable. The fields that its kind
// has no use for are zero.
type Change struct {
	Kind ChangeKind
	// Member is who the change is about: for Replaced the newcomer, for Forced
	// nobody. Of one that is in the view only UUID and RaftID count.
	Member      Member
	Incarnation gtid.UUID // for Bootstrapped and Forced: of the group from here on
	Replaces    uint64    // for Replaced: raft id of the member that goes
	// Members is, for Forced, the new membership, ascending by RaftID: exactly
	// this, in these states, whatever the view was.
	Members []Member
	// Reason says to people why: valid UTF-8 of at most MaxReason bytes.
	Reason string
}

// String returns the change as a few words for people.
func (c Change) String() string {
	switch c.Kind {
	case Replaced:
		return fmt.Sprintf("%s %s %d", c.Member.UUID, c.Kind, c.Replaces)
	case Forced:
		noun := "members"
		if len(c.Members) == 1 {
			noun = "member"
		}
		return fmt.Sprintf("%d %s %s in incarnation %s", len(c.Members), noun, c.Kind, c.Incarnation)
	default:
		return fmt.Sprintf("%s %s", c.Member.UUID, c.Kind)
	}
}

// RefusedChangeError says why a membership change would not be valid.
type RefusedChangeError struct {
	Change Change
	Reason string
}

// Error names the member, the change and the reason.
func (e *RefusedChangeError) Error() string {
	if e.Change.Kind == Forced {
		return "gcs: cannot force the membership: " + e.Reason
	}
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
	case Left, Expelled, Removed:
		c.Member = next.Members[i]
		next.Members = slices.Delete(next.Members, i, i+1)
	case Replaced:
		c.Member.State = Recovering
		next.Members = v.without(c.Replaces).Members
		i, _ = next.find(c.Member.RaftID)
		next.Members = slices.Insert(next.Members, i, c.Member)
	case Forced:
		next.Incarnation = c.Incarnation
		next.Members = slices.Clone(c.Members)
	}
	next.Cause = c
	return next, nil
}

// without is v without a member.
func (v View) without(raftID uint64) View {
	v.Members = slices.DeleteFunc(slices.Clone(v.Members), func(m Member) bool { return m.RaftID == raftID })
	return v
}

// objection says what forbids c, "" when nothing does.
func (v View) objection(c Change) string {
	if reason := c.misfit(); reason != "" {
		return reason
	}
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
	case Left, Expelled, Removed:
		if !known {
			return "it is not in this view"
		}
		return v.objectionToLoss(m)
	case Replaced:
		return v.objectionToReplacement(c)
	case Forced:
		return v.objectionToForce(c)
	default:
		return "the kind of change is unknown"
	}
	return ""
}

// misfit says what in c no kind of change has, or its own has no use for.
func (c Change) misfit() string {
	switch {
	case len(c.Reason) > MaxReason:
		return fmt.Sprintf("its reason is longer than %d bytes", MaxReason)
	case !utf8.ValidString(c.Reason):
		return "its reason is not UTF-8"
	case c.Replaces != 0 && c.Kind != Replaced:
		return "only a member that enters replaces another one"
	case len(c.Members) != 0 && c.Kind != Forced:
		return "only a forced view lists its members"
	}
	return ""
}

// objectionToLoss says why the view cannot do without m, one of its members.
func (v View) objectionToLoss(m Member) string {
	if m.State == Online && v.online() == 1 {
		return "it is the last ONLINE member; stop it instead"
	}
	return ""
}

func (v View) objectionToReplacement(c Change) string {
	old, known := v.Member(c.Replaces)
	if !known {
		return fmt.Sprintf("the member %d that it is to replace is not in this view", c.Replaces)
	}
	if v.objectionToLoss(old) != "" {
		return fmt.Sprintf("member %s, which it is to replace, is the last ONLINE member", old.UUID)
	}
	if c.Member.RaftID == c.Replaces {
		return "its raft id is that of the member it is to replace; draw a new one"
	}
	return v.without(c.Replaces).objectionToJoin(c.Member)
}

func (v View) objectionToForce(c Change) string {
	switch {
	case v.ID == 0:
		return "there is no group yet; bootstrap it first"
	case c.Incarnation.IsZero() || c.Incarnation == v.Incarnation:
		return "it needs an incarnation of its own"
	case c.Member != (Member{}):
		return "it is about no single member"
	case len(c.Members) > MaxMembers:
		return fmt.Sprintf("it lists %d members, the most there can be are %d", len(c.Members), MaxMembers)
	}
	return flawOf(c.Members)
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

// confChange is what stands in the log for c, which rides in its context. Of
// the rest raft looks only whether it is there: what it is to do when the entry
// is delivered follows from the views, see [View.steps].
func (c Change) confChange() *raftpb.ConfChangeV2 {
	typ, id := raftpb.ConfChangeAddNode, c.Member.RaftID
	switch c.Kind {
	case Bootstrapped, Promoted:
	case Joined, Replaced:
		typ = raftpb.ConfChangeAddLearnerNode
	case Left, Expelled, Removed:
		typ = raftpb.ConfChangeRemoveNode
	case Forced:
		id = c.Members[0].RaftID
	}
	return &raftpb.ConfChangeV2{
		Changes: []*raftpb.ConfChangeSingle{single(typ, id)},
		Context: appendChange(nil, c),
	}
}

// ForcedEntry returns the log entry that makes a Forced change happen. Nobody
// votes on it: it is written into the log of every member that it lists, after
// the same entries and as committed, see [Log.Adopt]. The term must be later
// than any in which a member of the group has voted or led. The error is a
// *RefusedChangeError when no view could have this change.
func ForcedEntry(term, index uint64, change Change) (*raftpb.Entry, error) {
	if change.Kind != Forced {
		return nil, &RefusedChangeError{Change: change, Reason: "only a forced view is written into the log like this"}
	}
	// The view in which it will be applied is there, and of another incarnation.
	if reason := (View{ID: 1}).objection(change); reason != "" {
		return nil, &RefusedChangeError{Change: change, Reason: reason}
	}
	return change.entry(term, index)
}

// entry is the log entry for c.
func (c Change) entry(term, index uint64) (*raftpb.Entry, error) {
	data, err := proto.Marshal(c.confChange())
	if err != nil {
		return nil, fmt.Errorf("gcs: entry for %s: %w", c, err)
	}
	return &raftpb.Entry{
		Term: new(term), Index: new(index), Type: raftpb.EntryConfChangeV2.Enum(), Data: data,
	}, nil
}

func single(typ raftpb.ConfChangeType, id uint64) *raftpb.ConfChangeSingle {
	return &raftpb.ConfChangeSingle{Type: typ.Enum(), NodeId: new(id)}
}

// steps are the changes of one node each that take raft from the configuration
// of v to that of next. Who votes in next comes first, so that there is always
// somebody who votes.
func (v View) steps(next View) []*raftpb.ConfChangeSingle {
	var voters, learners, gone []*raftpb.ConfChangeSingle
	for _, m := range next.Members {
		before, known := v.Member(m.RaftID)
		switch {
		case known && before.State == m.State:
		case m.State == Online:
			voters = append(voters, single(raftpb.ConfChangeAddNode, m.RaftID))
		default:
			learners = append(learners, single(raftpb.ConfChangeAddLearnerNode, m.RaftID))
		}
	}
	for _, id := range v.gone(next) {
		gone = append(gone, single(raftpb.ConfChangeRemoveNode, id))
	}
	return slices.Concat(voters, learners, gone)
}

// gone is the raft ids of the members of v that next has no longer, ascending.
func (v View) gone(next View) []uint64 {
	var ids []uint64
	for _, m := range v.Members {
		if _, stays := next.find(m.RaftID); !stays {
			ids = append(ids, m.RaftID)
		}
	}
	return ids
}

//	change := kind(1) incarnation(16) member  uvarint replaces
//	          uvarint count  member*  uvarint len  reason

func appendChange(b []byte, c Change) []byte {
	b = append(b, byte(c.Kind))
	b = append(b, c.Incarnation[:]...)
	b = appendMember(b, c.Member)
	b = appendUvarints(b, c.Replaces)
	b = appendMembers(b, c.Members)
	b = appendUvarints(b, uint64(len(c.Reason)))
	return append(b, c.Reason...)
}

func decodeChange(b []byte) (Change, error) {
	d := decoder{rest: b}
	c := d.change()
	return c, d.finish(ErrView)
}

func (d *decoder) change() Change {
	c := Change{Kind: ChangeKind(d.byte()), Incarnation: d.uuid(), Member: d.member()}
	c.Replaces, c.Members = d.uvarint(), d.members()
	c.Reason = string(d.bytes(d.uvarintMax(MaxReason)))
	return c
}
