package gcs

import "slices"

// Link is what this member's shell knows of its stream to another member.
type Link byte

// The states of a link.
const (
	// LinkUnknown: nothing has been heard of the stream yet.
	LinkUnknown Link = iota
	// LinkOpen: the stream is open, so messages get away at least.
	LinkOpen
	// LinkLost: the stream broke, or messages on it were lost.
	LinkLost
	// LinkRefused: the member's machine is there and refuses the connection, so
	// nobody listens at the address: the process is gone.
	LinkRefused
)

// String returns the state as a word for people.
func (l Link) String() string {
	switch l {
	case LinkOpen:
		return "open"
	case LinkLost:
		return "lost"
	case LinkRefused:
		return "refused"
	case LinkUnknown:
	}
	return "unknown"
}

// NeverHeard stands in a [Hearing] for a member of which nothing has come in
// this run.
const NeverHeard = 1<<32 - 1

// Hearing is when a member last heard another one.
type Hearing struct {
	RaftID uint64
	Ticks  uint64 // ago, at most NeverHeard
}

// detector is this member's opinion on who can be reached. It is an opinion of
// one observer, never part of the view: what comes of it is proposed, and the
// log decides.
//
// A member that is not heard for suspectTicks is suspected. One that is heard
// again is trusted again: at once the first time, and after further suspicions
// only when it has been heard steadily for suspectTicks, and each time for twice
// as long. So the group does not change its mind with a link that comes and
// goes. Time without suspicion forgets that.
type detector struct {
	suspectTicks int // silence after which a member is suspected, more than one
	longest      int // the longest that a member must be heard steadily
	now          int
	peers        []watched // ascending by id
	others       []linked  // who is in no view yet, or no longer; who was told of last is last
}

// linked is what the shell said of the stream to a member that is not in the
// view. It speaks of streams when they open and break, and that may be before the
// view is known.
type linked struct {
	id   uint64
	link Link
}

// watched is one other member of the view.
type watched struct {
	id        uint64
	began     int  // tick since which it is watched; silence counts from there
	ever      bool // it was heard
	heard     int  // tick of the last message, began before the first
	reached   int  // tick at which it last heard this member, began before it has said so
	link      Link
	suspected bool
	turned    int // tick at which the suspicion began, or ended
	flaps     int // suspicions without quiet time between them
	steady    int // tick since which it has been heard without a gap
}

// verdict is a change of the detector's mind.
type verdict struct {
	id        uint64
	suspected bool
	flaps     int // suspicions without quiet time between them
	hold      int // ticks that it must be heard steadily to be trusted again
}

// quietSuspicions is the time without suspicion that forgets earlier ones, in
// times of suspectTicks: enough to see several more of a link that flaps with
// the longest silence and the longest steadiness there can be.
const quietSuspicions = 10

func newDetector(suspectTicks, longest int) detector {
	return detector{suspectTicks: suspectTicks, longest: longest}
}

// align watches the members of a view, but for this one. Who is new has all the
// time that one has who was heard just now.
func (d *detector) align(self uint64, v View) {
	peers := make([]watched, 0, len(v.Members))
	for _, m := range v.Members {
		if m.RaftID == self {
			continue
		}
		w := watched{id: m.RaftID, began: d.now, heard: d.now, reached: d.now, link: d.forget(m.RaftID)}
		if known := d.find(m.RaftID); known != nil {
			w = *known
		}
		peers = append(peers, w)
	}
	before := d.peers
	d.peers = peers
	for _, w := range before {
		if w.link != LinkUnknown && d.find(w.id) == nil {
			d.remember(w.id, w.link) // a forced view may have it back
		}
	}
}

// remember keeps the state of the stream to somebody outside the view. Of so many
// only as there can be members, for there may be any number of them.
func (d *detector) remember(id uint64, l Link) {
	d.forget(id)
	if len(d.others) == MaxMembers {
		d.others = slices.Delete(d.others, 0, 1)
	}
	d.others = append(d.others, linked{id, l})
}

// forget returns what is remembered of the stream to somebody, for the last time.
func (d *detector) forget(id uint64) Link {
	i := slices.IndexFunc(d.others, func(o linked) bool { return o.id == id })
	if i < 0 {
		return LinkUnknown
	}
	l := d.others[i].link
	d.others = slices.Delete(d.others, i, i+1)
	return l
}

func (d *detector) find(id uint64) *watched {
	for i := range d.peers {
		if d.peers[i].id == id {
			return &d.peers[i]
		}
	}
	return nil
}

// hear notes that something has come from a member.
func (d *detector) hear(id uint64) {
	w := d.find(id)
	if w == nil {
		return
	}
	if d.now-w.heard > d.gapTicks() {
		w.steady = d.now
	}
	w.ever, w.heard = true, d.now
}

// connected notes what the shell says of the stream to a member.
func (d *detector) connected(id uint64, l Link) {
	if w := d.find(id); w != nil {
		w.link = l
		return
	}
	d.remember(id, l)
}

// answered notes that a member has heard this one in this run, so many ticks ago:
// it has reported that, or has answered this one's heartbeat. A report may be
// silent about a member that its sender's view does not have yet. So the stream to
// it has been open; if the shell has told nothing, it was from before there was a
// detector to tell, and it still is. Who starts anew has heard nobody yet, and its
// report does not undo what the earlier ones said.
func (d *detector) answered(id uint64, ago int) {
	w := d.find(id)
	if w == nil {
		return
	}
	w.reached = max(w.reached, d.now-ago)
	if w.link == LinkUnknown {
		w.link = LinkOpen
	}
}

// gapTicks is the silence that ends steadiness.
func (d *detector) gapTicks() int { return d.suspectTicks / 2 }

// hold is how long a member must be heard steadily after so many suspicions.
func (d *detector) hold(flaps int) int {
	if flaps <= 1 {
		return 0
	}
	hold := d.suspectTicks
	for ; flaps > 2 && hold < d.longest; flaps-- {
		hold *= 2
	}
	return min(hold, d.longest)
}

// tick moves time on to now, and appends to into[:0] what that changes.
func (d *detector) tick(now int, into []verdict) []verdict {
	d.now = now
	into = into[:0]
	for i := range d.peers {
		w := &d.peers[i]
		silence := now - w.heard
		switch {
		case !w.suspected && silence >= d.suspectTicks:
			if w.flaps > 0 && now-w.turned > quietSuspicions*d.suspectTicks {
				w.flaps = 0
			}
			w.suspected, w.turned, w.flaps = true, now, w.flaps+1
		case w.suspected && silence <= d.gapTicks() && now-w.steady >= d.hold(w.flaps):
			w.suspected, w.turned = false, now
		default:
			continue
		}
		into = append(into, verdict{id: w.id, suspected: w.suspected, flaps: w.flaps, hold: d.hold(w.flaps)})
	}
	return into
}

// suspected reports whether a member is held for UNREACHABLE. Who is not
// watched is not.
func (d *detector) suspected(id uint64) bool {
	w := d.find(id)
	return w != nil && w.suspected
}

// silent reports whether a member is not heard now. One that is heard again may
// be suspected still, but nothing must be done against it.
func (d *detector) silent(id uint64) bool {
	w := d.find(id)
	return w != nil && d.now-w.heard >= d.suspectTicks
}

// heard reports whether a member is heard now, and was in this run.
func (d *detector) heard(id uint64) bool {
	w := d.find(id)
	return w != nil && w.ever && !d.silent(id)
}

// hearings is when each of the others was last heard, ascending by raft id.
func (d *detector) hearings() []Hearing {
	all := make([]Hearing, len(d.peers))
	for i, w := range d.peers {
		all[i] = Hearing{RaftID: w.id, Ticks: d.ago(w)}
	}
	return all
}

func (d *detector) ago(w watched) uint64 {
	if !w.ever {
		return NeverHeard
	}
	return min(uint64(d.now-w.heard), NeverHeard-1)
}

// ticksAgo is when, by these hearings, a member was last heard.
func ticksAgo(hearings []Hearing, id uint64) uint64 {
	i := slices.IndexFunc(hearings, func(h Hearing) bool { return h.RaftID == id })
	if i < 0 {
		return NeverHeard
	}
	return hearings[i].Ticks
}
