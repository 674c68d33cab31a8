package gcs

import (
	"math"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/tracker"
)

// The rhythm in which a leader offers the lead to the member that is preferred,
// in ticks.
const (
	// preferTicks is how long a lead lasts, and how long another attempt to give
	// it up is left to come true, before it is offered. A transfer stops all
	// proposals for up to an election.
	preferTicks = 16
	// maxPreferTicks is the longest pause between two offers.
	maxPreferTicks = 256
)

// preference is whom the lead should follow.
type preference struct {
	id    uint64 // raft id, 0 for nobody
	tried int    // tick at which this member last offered it the lead, 0 for never
	pause int    // ticks until the next offer
}

// Prefer says which member should lead, 0 for none. Whoever leads offers it the
// lead as long as the member can be expected to take it and to keep it. It should
// be said to all members alike. Nothing but time depends on it.
func (g *Group) Prefer(id uint64) {
	if id != g.preferred.id {
		g.preferred = preference{id: id}
	}
}

// followPreferred gives the lead to the member that is preferred. One offer that
// closely follows another one has to wait twice as long, whether the first came
// to nothing or the lead came back: so no other reason to move the lead can make
// a circle with this one.
func (g *Group) followPreferred() {
	p := &g.preferred
	if p.id == 0 || p.id == g.id.RaftID ||
		g.ticks-max(g.since, g.handed) < preferTicks || p.tried != 0 && g.ticks-p.tried < p.pause || !g.keepsLead(p.id) {
		return
	}
	if p.tried != 0 && g.ticks-p.tried <= 2*maxPreferTicks {
		p.pause = min(2*p.pause, maxPreferTicks)
	} else {
		p.pause = preferTicks
	}
	p.tried = g.ticks
	g.handOver(p.id, "it is the one that should lead")
}

// keepsLead reports whether a member would take the lead at once, and would give
// it up no sooner than this one: it has what was committed two rounds of reports
// ago, and hears everybody whom this leader hears, and the leader just now.
func (g *Group) keepsLead(id uint64) bool {
	has := false
	g.raft.WithProgress(func(other uint64, typ raft.ProgressType, pr tracker.Progress) {
		if other == id {
			has = typ == raft.ProgressTypePeer && pr.Match >= g.commits[0]
		}
	})
	return has && g.fit(id) && g.ticks-g.reports[id].at <= freshTicks && g.Contact(id) <= freshTicks && g.hearsMore(id, 0)
}

// Campaign asks for the lead without waiting for the election timeout. The others
// grant it only when they have not heard their leader for so long, and have no
// more of the log; so this costs nobody the lead who has it. A member whose disk
// has stalled does not ask, see tickRaft.
func (g *Group) Campaign() {
	if g.failure == nil && !g.report.Stalled {
		_ = g.raft.Campaign() // it never objects
	}
}

// neverTicks is the time since what has never been, in ticks.
const neverTicks = math.MaxInt32

// Silent is for how many ticks a member has not been heard, counted from when
// this one began to listen if it never was. It is 0 for this member itself, and
// longer than anything for who is not in the view.
func (g *Group) Silent(id uint64) int {
	if id == g.id.RaftID {
		return 0
	}
	if w := g.detector.find(id); w != nil {
		return g.detector.now - w.heard
	}
	return neverTicks
}

// Contact is how many ticks ago a member last heard this one, by what it has
// reported of that or, to a leader, by its answers; counted from when this member
// began to listen if there were none. So it grows when the way to that member is
// cut as well as when the way back is. It is 0 for this member itself, and longer
// than anything for who is not in the view.
func (g *Group) Contact(id uint64) int {
	if id == g.id.RaftID {
		return 0
	}
	if w := g.detector.find(id); w != nil {
		return g.detector.now - w.reached
	}
	return neverTicks
}
