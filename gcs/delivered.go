package gcs

// TellDelivered tells all members of the view at once how far this one has
// delivered the log. Its reports say the same a little later, so nothing depends
// on these messages but time.
func (g *Group) TellDelivered() {
	for _, m := range g.view.Members {
		if m.RaftID != g.id.RaftID {
			g.send(m.RaftID, Message{Kind: MessageDelivered, Index: g.delivered})
		}
	}
}

// DeliveredBy is the log index up to which a member of the view is known to have
// delivered the log, in this run or an earlier one; 0 if nothing is known of it.
// What it has delivered it has on disk, whatever it forgets of it when it starts
// anew. So the index never falls, and is forgotten with the member.
func (g *Group) DeliveredBy(id uint64) uint64 {
	if id == g.id.RaftID {
		return g.delivered
	}
	return g.deliveredBy[id]
}

func (g *Group) noteDelivered(from, index uint64) {
	if _, in := g.view.find(from); in {
		g.deliveredBy[from] = max(g.deliveredBy[from], index)
	}
}

// Absent reports whether a member of the view has no state machine, and will have
// none before it has delivered what is delivered here: by its last report it
// clones, and nothing has come of a later session of it in the log so far. So the
// messages of the next one are ordered behind.
func (g *Group) Absent(id uint64) bool {
	r, o := g.reports[id], g.fifo.find(id)
	return r.Recovering && o != nil && o.session <= r.Session
}

// Shown is the log index up to which the engine of some other member has applied
// the log, by what was reported in this run; 0 if nobody has said so. Members
// count that are not in the view yet: to one that catches up with its log, those
// in the view may be long gone. Who has no state machine does not count: the data
// that it is to replace may be of a history that this log does not go on from.
func (g *Group) Shown() uint64 { return g.shown }

func (g *Group) noteShown(r *Report) {
	if r != nil && !r.Recovering {
		g.shown = max(g.shown, r.Applied)
	}
}
