package gcs

import "fmt"

// NoticeKind is what a [Notice] is about.
type NoticeKind byte

// The kinds of notice.
const (
	// Suspected: this member holds another one for UNREACHABLE from now on.
	Suspected NoticeKind = iota + 1
	// Trusted: it no longer does.
	Trusted
	// Flapping: the member just suspected has been so several times, and will be
	// trusted again only when it has been heard steadily for a while.
	Flapping
	// QuorumLost: this member does not hear a majority of its view. RaftID is 0.
	QuorumLost
	// QuorumBack: it does again. RaftID is 0.
	QuorumBack
	// LeaderChanged: RaftID leads, nobody when it is 0.
	LeaderChanged
	// DiskStalled: a write of this member's log is overdue. RaftID is its own.
	DiskStalled
	// DiskBack: it is done. RaftID is this member's own.
	DiskBack
	// HandedOver: this leader asks RaftID to take the lead.
	HandedOver
)

// String returns the kind as a few words for people.
func (k NoticeKind) String() string {
	switch k {
	case Suspected:
		return "suspected"
	case Trusted:
		return "trusted"
	case Flapping:
		return "flapping"
	case QuorumLost:
		return "quorum lost"
	case QuorumBack:
		return "quorum back"
	case LeaderChanged:
		return "leader changed"
	case DiskStalled:
		return "disk stalled"
	case DiskBack:
		return "disk back"
	case HandedOver:
		return "lead handed over"
	}
	return fmt.Sprintf("NoticeKind(%d)", byte(k))
}

// Notice is something about the group that this member has noticed, for people:
// nothing follows from it by itself.
type Notice struct {
	Kind   NoticeKind
	RaftID uint64 // of the member that it is about
	Text   string // what happened and why, in a sentence; durations are in ticks
}

// keptNotices bounds what is kept for a caller that does not collect it.
const keptNotices = 256

func (g *Group) notice(kind NoticeKind, id uint64, format string, args ...any) {
	if len(g.notices) == keptNotices {
		g.notices = append(g.notices[:0], g.notices[1:]...)
	}
	g.notices = append(g.notices, Notice{Kind: kind, RaftID: id, Text: fmt.Sprintf(format, args...)})
}

// Notices returns what was noticed since the last call, in order, and appends
// to into[:0]. Of very many only the last are kept.
func (g *Group) Notices(into []Notice) []Notice {
	into = append(into[:0], g.notices...)
	clear(g.notices)
	g.notices = g.notices[:0]
	return into
}

// named is what people call a member.
func (g *Group) named(id uint64) string {
	if m, ok := g.view.Member(id); ok {
		return m.Address
	}
	return fmt.Sprintf("the member with raft id %d", id)
}
