package concordat

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/concordatdb/concordat/gtid"
)

// EventKind says what an [Event] is about. The values are what the commands
// print, and stay.
type EventKind string

// The kinds of event.
const (
	EventView            EventKind = "VIEW"             // a view began; Event.View is its number
	EventState           EventKind = "STATE"            // this member's state changed
	EventLeader          EventKind = "LEADER"           // another member orders transactions now
	EventSuspected       EventKind = "SUSPECTED"        // a member is not heard any more: UNREACHABLE from here
	EventTrusted         EventKind = "TRUSTED"          // a suspected member is heard again
	EventFlapping        EventKind = "FLAPPING"         // a member comes and goes, and is trusted later each time
	EventQuorumLost      EventKind = "QUORUM_LOST"      // this member does not hear a majority any more
	EventQuorumBack      EventKind = "QUORUM_BACK"      // it hears a majority again
	EventDiskStalled     EventKind = "DISK_STALLED"     // this member's log takes too long to write
	EventDiskBack        EventKind = "DISK_BACK"        // it writes again
	EventLeadHandedOver  EventKind = "LEAD_HANDED_OVER" // this member gave the lead to another one
	EventCloneStarted    EventKind = "CLONE_STARTED"    // this member copies another one's state
	EventCloneResumed    EventKind = "CLONE_RESUMED"    // the copying goes on after a broken link
	EventCloneFinished   EventKind = "CLONE_FINISHED"   // the copy is installed
	EventCloneFailed     EventKind = "CLONE_FAILED"     // the copy came to nothing; another donor is asked
	EventDonor           EventKind = "DONOR"            // another member copies this one's state
	EventDump            EventKind = "DUMP"             // somebody takes a dump of this member
	EventJoining         EventKind = "JOINING"          // this member asks the group to take it in
	EventRefused         EventKind = "REFUSED"          // the group does not take this member
	EventLost            EventKind = "LOST"             // this member is out of the group, or cannot reach it for too long
	EventExitStateAction EventKind = "EXIT_STATE_ACTION"
	EventForce           EventKind = "FORCE_MEMBERS"  // a step of an imposed membership
	EventDiscarded       EventKind = "DISCARDED"      // transactions that only this member had were saved and given up
	EventSettings        EventKind = "GROUP_SETTINGS" // the group's settings changed

	EventPrimaryChanged  EventKind = "PRIMARY_CHANGED"  // an epoch began, with the primary that it is about
	EventNoPrimary       EventKind = "NO_PRIMARY"       // an epoch began in which nobody can be primary yet
	EventModeChanged     EventKind = "MODE_CHANGED"     // the group switched to one primary, or to many
	EventPrimaryAlone    EventKind = "PRIMARY_ALONE"    // too few hear this primary: it begins nothing that writes
	EventPrimaryBack     EventKind = "PRIMARY_BACK"     // it is heard again
	EventWritable        EventKind = "WRITABLE"         // this member may write from here on
	EventProtocolChanged EventKind = "PROTOCOL_CHANGED" // the group speaks a newer protocol
	EventActionBegun     EventKind = "ACTION_BEGUN"     // a planned change that takes somebody's right to write
	EventActionDraining  EventKind = "ACTION_DRAINING"  // nothing more begins here for it
	EventStateDiffers    EventKind = "STATE_DIFFERS"    // a state check has found that the member's data are not the group's
	EventApplyFault      EventKind = "APPLY_FAULT"      // a member's engine cannot apply a transaction, or did otherwise than the others
	EventUnapplied       EventKind = "UNAPPLIED"        // no engine can apply a transaction: it is refused everywhere
	EventActionEnded     EventKind = "ACTION_ENDED"     // a planned change was made, refused or given up

	EventFlowThrottled EventKind = "FLOW_THROTTLED" // this member writes at a limited pace, for the member that the event is about
	EventFlowReleased  EventKind = "FLOW_RELEASED"  // it does not any more
)

// Event is something that happened to the group or to this member, as this
// member saw it.
type Event struct {
	Seq    uint64    // counts the events of this node from 1
	Time   time.Time // by this member's clock
	Kind   EventKind
	Member gtid.UUID // whom it is about; zero if nobody in particular
	View   uint64    // number of the view that the member was in
	Text   string    // what happened and why, for a reader
}

// keptEvents bounds what a node remembers.
const keptEvents = 1024

// events is the bounded history of a node. Its methods may be called from any
// goroutine.
type events struct {
	mu   sync.Mutex
	last uint64  // Seq of the newest
	ring []Event // the newest at (last-1) % keptEvents
	news bell
}

func (e *events) add(ev Event) {
	e.mu.Lock()
	e.last++
	ev.Seq = e.last
	if len(e.ring) < keptEvents {
		e.ring = append(e.ring, ev)
	} else {
		e.ring[(e.last-1)%keptEvents] = ev
	}
	e.mu.Unlock()
	e.news.broadcast()
}

// after returns the events with a higher Seq, oldest first.
func (e *events) after(seq uint64) []Event {
	e.mu.Lock()
	defer e.mu.Unlock()
	oldest := e.last - uint64(len(e.ring))
	var out []Event
	for s := max(seq, oldest); s < e.last; s++ {
		out = append(out, e.ring[s%keptEvents])
	}
	return out
}

// Events returns what the node remembers of what happened since the event with
// number after, oldest first; all of it for 0. The newest 1,024 are kept, from
// the moment the node was opened: numbers that are missing were forgotten. Views
// from before that are in [Node.Views].
func (n *Node) Events(after uint64) []Event { return n.events.after(after) }

// WaitEvents is Events that waits until there is one, or ctx ends.
func (n *Node) WaitEvents(ctx context.Context, after uint64) ([]Event, error) {
	var out []Event
	err := n.events.news.until(ctx, func() bool {
		out = n.events.after(after)
		return len(out) > 0 || n.closed.Load()
	})
	if err == nil && len(out) == 0 {
		err = ErrClosed
	}
	return out, err
}

// note adds an event to the node's history and to its log.
func (n *Node) note(kind EventKind, member gtid.UUID, format string, args ...any) {
	ev := Event{Time: time.Now(), Kind: kind, Member: member, View: n.known().View.ID, Text: fmt.Sprintf(format, args...)}
	n.events.add(ev)
	n.logger.Info("event", "kind", string(kind), "member", n.id.Member, "about", member, "view", ev.View, "text", ev.Text)
}
