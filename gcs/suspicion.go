package gcs

import (
	"fmt"
	"strings"
)

// patience is the durations of a [Config], in ticks, with the defaults in.
type patience struct {
	suspect int
	expel   int // negative: never
	stall   int
}

// longestHold is the longest that a member must be heard steadily before it is
// trusted: whoever comes and goes more slowly than it takes to expel a member is
// better judged each time anew.
func (p patience) longestHold() int {
	if p.expel < 0 {
		return DefaultExpelTicks
	}
	return p.expel
}

// Unreachable tells that messages to a member were lost; refused, that its
// address refuses connections. The member need not be in the view yet.
func (g *Group) Unreachable(id uint64, refused bool) {
	link := LinkLost
	if refused {
		link = LinkRefused
	}
	g.detector.connected(id, link)
	g.raft.ReportUnreachable(id)
}

// Reachable tells that a stream to a member has opened. Whether the member is
// there only its messages can tell. The member need not be in the view yet.
func (g *Group) Reachable(id uint64) { g.detector.connected(id, LinkOpen) }

// watch forms this member's opinion anew, once a tick.
func (g *Group) watch() {
	g.verdicts = g.detector.tick(g.ticks, g.verdicts)
	for _, v := range g.verdicts {
		who := g.named(v.id)
		if !v.suspected {
			g.notice(Trusted, v.id, "%s is heard again", who)
			continue
		}
		g.notice(Suspected, v.id, "%s has not been heard for %d ticks; %s", who, g.patience.suspect, g.linkTo(v.id))
		if v.hold > 0 {
			g.notice(Flapping, v.id, "%s has been suspected %d times without a long pause; to be trusted it must be heard for %d ticks", who, v.flaps, v.hold)
		}
	}
	g.watchQuorum()
	g.watchDisk()
}

// countQuorum looks whether this member hears a majority. To have time left is
// not to be heard: a member that starts alone would take itself for a majority.
func (g *Group) countQuorum() {
	heard := g.count(g.detector.heard)
	hoped := g.count(func(id uint64) bool { return !g.detector.silent(id) })
	g.quorum = g.view.ID != 0 && heard >= g.view.Quorum()
	g.unknown = g.view.ID != 0 && !g.quorum && hoped >= g.view.Quorum()
}

// watchQuorum counts the time for which this member does not hear a majority.
// One that is in no view, or out of it, has none to lose. And one that a leader
// speaks to hears by it that there is a majority, although the view that is known
// here may be long past, and most of its members gone.
func (g *Group) watchQuorum() {
	_, member := g.view.Member(g.id.RaftID)
	had := g.quorum
	g.countQuorum()
	switch {
	case !member || g.removed:
		g.noQuorum = 0
	case g.unknown:
	case !g.quorum && g.follows():
	case !g.quorum:
		if g.noQuorum++; g.noQuorum == 1 {
			g.notice(QuorumLost, 0, "fewer than %d of the %d ONLINE members are heard: nothing commits here", g.view.Quorum(), g.view.online())
		}
	default:
		if g.noQuorum > 0 {
			g.notice(QuorumBack, 0, "a majority of the ONLINE members is heard again, after %d ticks", g.noQuorum)
		}
		g.noQuorum = 0
	}
	if g.quorum && !had {
		g.quorumAt = g.ticks
	}
}

// follows reports whether a leader other than this member speaks to it. One that
// has lost its own majority falls silent within two election timeouts.
func (g *Group) follows() bool {
	return g.leader != 0 && g.leader != g.id.RaftID && g.ticks-g.led <= freshTicks
}

// count is how many ONLINE members of the view have a property. What is asked
// about others always holds for this one.
func (g *Group) count(has func(id uint64) bool) int {
	n := 0
	for _, m := range g.view.Members {
		if m.State == Online && (m.RaftID == g.id.RaftID || has(m.RaftID)) {
			n++
		}
	}
	return n
}

// trustsQuorum reports whether the members that are not suspected can decide.
func (g *Group) trustsQuorum() bool {
	return g.count(func(id uint64) bool { return !g.detector.suspected(id) }) >= g.view.Quorum()
}

// expel proposes that the first member which has been suspected for too long,
// and is silent now, goes. Without a quorum nobody is expelled: which side of a
// cut goes on is for the majority to say.
func (g *Group) expel() {
	if g.patience.expel < 0 || !g.trustsQuorum() {
		return
	}
	for _, m := range g.view.Members {
		if !g.overdue(m.RaftID) || g.spare(m.RaftID) {
			continue
		}
		// A refusal is only possible for the last ONLINE member, and that is
		// not a silent one; a proposal that gets lost is repeated.
		_ = g.proposeChange(Change{Kind: Expelled, Member: m, Reason: clip(g.evidence(m.RaftID))})
		return
	}
}

// overdue reports whether a member has been suspected for too long. The time
// counts from when this leader began, and from when it last came to hear a
// majority: before that its own silence may have been the reason.
func (g *Group) overdue(id uint64) bool {
	w := g.detector.find(id)
	return w != nil && w.suspected && g.detector.silent(id) &&
		g.ticks-max(w.turned, g.since, g.quorumAt) >= g.patience.expel
}

// spare tries to keep a member that somebody else hears, by handing the lead to
// a member that hears all that this leader hears, and the suspect as well: so a
// cut between two members costs neither its place. When the lead stays here all
// the same, for so long as a suspect is given, there is no more to be done.
func (g *Group) spare(id uint64) bool {
	heir := g.successor(func(heir uint64) bool { return g.hearsMore(heir, id) })
	switch {
	case heir == 0:
		return false
	case g.spared != 0 && g.spared >= g.since:
		return g.ticks-g.spared < g.patience.expel
	}
	g.spared = g.ticks
	g.handOver(heir, fmt.Sprintf("it hears %s, which is not heard here", g.named(id)))
	return true
}

// hearsMore reports whether a member hears, by its last report, one that this
// leader does not, or 0, and everybody that this leader does.
func (g *Group) hearsMore(id, suspect uint64) bool {
	for _, m := range g.view.Members {
		if m.RaftID == id || m.RaftID != suspect && g.detector.silent(m.RaftID) {
			continue
		}
		if ago, ok := g.heardBy(id, m.RaftID); !ok || ago >= uint64(g.patience.suspect) {
			return false
		}
	}
	return true
}

// heardBy is how many ticks ago a member last heard another one, as far as its
// last report tells.
func (g *Group) heardBy(id, other uint64) (ago uint64, ok bool) {
	r, reported := g.reported(id)
	ago = ticksAgo(r.Hears, other)
	if !reported || ago == NeverHeard {
		return 0, false
	}
	return ago + uint64(g.ticks-r.at), true
}

// handOver asks another member to take the lead. Whoever repeats that says it
// once to people.
func (g *Group) handOver(heir uint64, why string) {
	if now := (transfer{heir: heir, since: g.since, why: why}); now != g.transfer {
		g.transfer = now
		g.notice(HandedOver, heir, "%s is asked to take the lead from %s: %s", g.named(heir), g.named(g.id.RaftID), why)
	}
	g.handed = g.ticks
	g.raft.TransferLeader(heir)
}

// transfer is the last attempt to give up the lead.
type transfer struct {
	heir  uint64
	since int // when that lead began
	why   string
}

// evidence is what this member, and by their reports the others, know about one
// that is silent.
func (g *Group) evidence(id uint64) string {
	var b strings.Builder
	w := g.detector.find(id)
	fmt.Fprintf(&b, "%s, which leads, has not heard it for %d ticks; %s", g.named(g.id.RaftID), g.ticks-w.heard, g.linkTo(id))
	for _, m := range g.view.Members {
		if m.RaftID == id || m.RaftID == g.id.RaftID || g.detector.silent(m.RaftID) {
			continue
		}
		ago, ok := g.heardBy(m.RaftID, id)
		switch {
		case !ok:
			fmt.Fprintf(&b, "; %s does not know when it heard it", m.Address)
		case ago < uint64(g.patience.suspect):
			fmt.Fprintf(&b, "; %s heard it %d ticks ago, so the way from it to %s is cut", m.Address, ago, g.named(g.id.RaftID))
		default:
			fmt.Fprintf(&b, "; %s has not heard it for %d ticks", m.Address, ago)
		}
	}
	return b.String()
}

// linkTo says what the state of the stream to a silent member lets one guess.
func (g *Group) linkTo(id uint64) string {
	switch g.detector.find(id).link {
	case LinkRefused:
		return "its address refuses connections, so its process is gone"
	case LinkOpen:
		return "the stream to it is open, so its process has stalled or the way from it is cut"
	case LinkLost:
		return "the stream to it is broken, so its machine is gone or the network is cut"
	case LinkUnknown:
	}
	return "nothing is known of the stream to it"
}

// clip makes a text fit for a change. Addresses come from outside.
func clip(text string) string {
	return strings.ToValidUTF8(text[:min(len(text), MaxReason)], "?")
}

// Peer is another member of the view, as this one sees it.
type Peer struct {
	RaftID      uint64
	Heard       uint64 // how many ticks ago, NeverHeard when not in this run
	Unreachable bool   // it is suspected
	Link        Link
	Report      Report // its last one, if any
}

// seen is the other members as of the last tick.
func (g *Group) seen() []Peer {
	if g.peersAt == [2]uint64{uint64(g.ticks), g.view.ID} {
		return g.peers
	}
	g.peersAt = [2]uint64{uint64(g.ticks), g.view.ID}
	g.peers = make([]Peer, len(g.detector.peers)) // callers may hold the old one
	for i, w := range g.detector.peers {
		g.peers[i] = Peer{
			RaftID: w.id, Heard: g.detector.ago(w), Unreachable: w.suspected, Link: w.link, Report: g.reports[w.id].Report,
		}
	}
	return g.peers
}
