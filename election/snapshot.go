package election

import (
	"slices"

	"github.com/concordatdb/concordat/gtid"
)

// Snapshot is the state at one position of the log. It is immutable, shares its
// contents with its copies, and may be used by any goroutine.
type Snapshot struct {
	Epoch    uint64 // counts from 1; 0 before the founding message
	Began    uint64 // index of the log entry that began it
	View     uint64 // id of the view
	Mode     Mode
	Protocol Protocol
	Primary  uint64    // raft id; 0 in multi-primary mode or when nobody can be it
	Members  []Member  // of the view, ascending by RaftID
	Action   *Action   // open, nil if none
	Done     []Outcome // of the last 16 actions, oldest first; refused ones too
	Past     []Epoch   // the last 64, the present one last
}

// Snapshot returns the present state. As long as it does not change, every call
// returns the same one and costs nothing.
func (s *State) Snapshot() Snapshot {
	if s.shown == nil {
		s.shown = &Snapshot{
			Epoch: s.epoch, Began: s.Began(), View: s.view, Mode: s.mode, Protocol: s.protocol, Primary: s.primary,
			Members: slices.Clone(s.members), Action: s.action.clone(),
			Done: slices.Clone(s.done), Past: slices.Clone(s.past),
		}
	}
	return *s.shown
}

// Same reports whether nothing changed between two snapshots of one member. It
// compares no texts, and may call two the same state that was restored meanwhile
// a change; a change it never misses.
func (s Snapshot) Same(o Snapshot) bool {
	return s.Epoch == o.Epoch && s.View == o.View && s.Protocol == o.Protocol && s.Action == o.Action &&
		sameArray(s.Members, o.Members) && sameArray(s.Done, o.Done) && sameArray(s.Past, o.Past)
}

func sameArray[T any](a, b []T) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}

// Member returns the member with the given raft id.
func (s Snapshot) Member(raftID uint64) (Member, bool) {
	i, ok := find(s.Members, raftID)
	if !ok {
		return Member{}, false
	}
	return s.Members[i], true
}

// MayWrite reports whether a member has the right to write.
func (s Snapshot) MayWrite(raftID uint64) bool {
	m, _ := s.Member(raftID)
	return m.Writes
}

// PrimaryMember returns the primary. It is false in multi-primary mode, and when
// nobody can be it.
func (s Snapshot) PrimaryMember() (Member, bool) { return s.Member(s.Primary) }

// Lowest returns the lowest version among the ONLINE members, 0 when there is
// none.
func (s Snapshot) Lowest() Version {
	return lowestOnline(s.Members)
}

// Outcome returns what became of the action with an id. It is false when it is
// open, unknown, or forgotten.
func (s Snapshot) Outcome(id gtid.UUID) (Outcome, bool) {
	i := slices.IndexFunc(s.Done, func(o Outcome) bool { return o.ID == id })
	if i < 0 {
		return Outcome{}, false
	}
	return s.Done[i], true
}
