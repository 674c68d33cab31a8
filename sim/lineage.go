package sim

import (
	"bytes"
	"fmt"
	"slices"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/concordatdb/concordat/gcs"
	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/internal/forced"
	"github.com/concordatdb/concordat/internal/replica"
)

// lineage is where a history comes from, and what came of it.
type lineage struct {
	incarnation gtid.UUID
	parent      *history // nil for the first
	shared      uint64   // log index up to which it is the parent's
	children    []*history
	heir        *history // of the children, the one that the operator goes on with
	// blind: a disk was lost that may have held what nobody else did, and so
	// nobody can name it.
	blind    bool
	view     gcs.View
	departed map[uint64]gcs.ChangeKind // how members went, by raft id
	sessions map[[2]uint64]bool        // by raft id and number
	siblings func() []*history         // all incarnations of the world
}

func newLineage() lineage {
	return lineage{departed: map[uint64]gcs.ChangeKind{}, sessions: map[[2]uint64]bool{}}
}

// begin notes that a session of a member has begun in this incarnation.
func (h *history) begin(raftID, session uint64) { h.sessions[[2]uint64{raftID, session}] = true }

// enterView notes who has gone, and how.
func (h *history) enterView(v *gcs.View) {
	h.reached[markViewChange]++
	for _, m := range h.view.Members {
		if _, stays := v.Member(m.RaftID); !stays {
			h.departed[m.RaftID] = v.Cause.Kind
		}
	}
	switch c := v.Cause; c.Kind {
	case gcs.Expelled:
		h.reached[markExpelled]++
	case gcs.Removed:
		h.reached[markRemovedByOrder]++
	case gcs.Replaced:
		old, _ := h.view.Member(c.Replaces)
		if old.UUID == c.Member.UUID {
			h.reached[markTakenOver]++
		} else {
			h.reached[markReplaced]++
		}
	case gcs.Forced:
		h.reached[markForced]++
		if h.parent != nil && h.parent.parent != nil {
			h.reached[markForcedTwice]++
		}
	case gcs.Bootstrapped, gcs.Joined, gcs.Promoted, gcs.Left:
	}
	h.view = *v
}

// fork makes the history of the incarnation that a decision begins. log is that
// of the first member to adopt it. Up to where it agrees with what the parent
// has delivered the two are one; what comes after that up to the decision's end
// nobody has delivered yet in this incarnation.
func (h *history) fork(d *forced.Decision, log gcs.LogReader) (*history, error) {
	shared, err := h.sharedWith(d, log)
	if err != nil {
		return nil, err
	}
	child := newHistory(h.group, &marked{}, h.violate)
	child.now, child.markTime, child.siblings = h.now, h.markTime, h.siblings
	child.incarnation, child.parent, child.shared = d.Begins, h, shared
	child.inherit(h)
	for _, e := range h.entries[:shared] {
		child.deliver("the fork", e)
	}
	child.reached, child.refused = h.reached, Refused{}
	child.growth = h.growth
	child.growth.recent = slices.Clone(h.growth.recent)
	h.children = append(h.children, child)
	return child, nil
}

// sharedWith is the log index up to which a log is what has been delivered. What
// the log has forgotten was.
func (h *history) sharedWith(d *forced.Decision, log gcs.LogReader) (uint64, error) {
	first, err := log.FirstIndex()
	if err != nil {
		return 0, err
	}
	end := min(d.Last, uint64(len(h.entries)))
	for index := first; index <= end; index++ {
		entries, err := log.Entries(index, index+1, 0)
		if err != nil {
			return 0, err
		}
		if !sameEntry(entries[0], h.entries[index-1].raw) {
			return index - 1, nil
		}
	}
	return end, nil
}

func sameEntry(a, b *raftpb.Entry) bool {
	return a.GetTerm() == b.GetTerm() && a.GetType() == b.GetType() && bytes.Equal(a.GetData(), b.GetData())
}

// inherit takes over what members of the parent have submitted: any of it may be
// in the log that goes on. What had seen more than the log holds is listed only
// if it turns up there all the same.
func (h *history) inherit(parent *history) {
	twins := map[*submission]*submission{}
	twin := func(s *submission) *submission {
		if t := twins[s]; t != nil {
			return t
		}
		t := *s
		t.inherited, t.unlisted = true, true
		t.acked = s.acked && s.index <= h.shared
		t.index, t.commit = 0, 0
		twins[s] = &t
		return &t
	}
	for _, s := range parent.numbered {
		h.numbered = append(h.numbered, twin(s))
	}
	for _, s := range parent.sent {
		t := twin(s)
		h.submits[t.attempt()] = t
		h.sent = append(h.sent, t)
		if s.snapshot.Index <= h.shared && !s.unlisted {
			t.unlisted = false
			h.ordered = append(h.ordered, t)
		}
	}
	for _, s := range parent.looks {
		if s.snapshot.Index <= h.shared {
			h.looks = append(h.looks, twin(s))
		}
	}
	for _, b := range parent.begins {
		if b.work.snapshot.Index <= h.shared {
			h.begins = append(h.begins, b.in(h, twin(b.work)))
		}
	}
	h.runs = slices.Clone(parent.runs)
	h.levels.inherit(parent.levels, h.shared)
	h.visibility.inherit(parent.visibility, h.shared)
	// order-free: a copy
	for id := range parent.poisons {
		h.poisons[id] = true
	}
	// order-free: a copy
	for name := range parent.sessions {
		h.sessions[name] = true
	}
}

// descends reports whether this incarnation is an ancestor of h, or h itself.
func (h *history) descends(ancestor *history) bool {
	for ; h != nil; h = h.parent {
		if h == ancestor {
			return true
		}
	}
	return false
}

// forsaken checks P6 where an incarnation ends: what was acknowledged in it and
// came about with the help of a survivor goes on. held is, for each survivor,
// what it had in its log when it froze.
func (h *history) forsaken(d *forced.Decision, child *history, held []forced.Facts) string {
	for _, s := range h.sent {
		if !s.acked || s.index <= child.shared {
			continue
		}
		e := h.at(s.index)
		if s.index <= d.Last && child.holds(d, e) {
			continue // it is in the seed's log, and nobody has delivered it yet
		}
		for i := range held {
			f := &held[i]
			if f.Last >= s.index && f.LastTerm() >= e.term && termAt(f.Runs, s.index) == e.raw.GetTerm() {
				return fmt.Sprintf("plan %s ends incarnation %s without transaction %s, which was acknowledged, and was at %d of term %d in the log of member %s",
					d.Plan, h.incarnation, s.id, s.index, e.raw.GetTerm(), f.Member)
			}
		}
	}
	return ""
}

// holds reports whether the log that a decision adopts has an entry.
func (h *history) holds(d *forced.Decision, e *entry) bool {
	return e.index <= d.Last && termAt(d.Runs, e.index) == e.raw.GetTerm()
}

// termAt is the term of a log entry, 0 if the runs do not reach back to it.
func termAt(runs []gcs.TermRun, index uint64) uint64 {
	for _, r := range slices.Backward(runs) {
		if r.First <= index {
			return r.Term
		}
	}
	return 0
}

// disclosure is what operators were told to be lost.
type disclosure struct {
	gtids gtid.Set
	ids   map[replica.TransactionID]bool
}

// unnamed checks P6 when all is quiet: what was acknowledged in any incarnation,
// one that this one comes from or one forced beside it, is here, or somebody was
// told that it is not.
func (h *history) unnamed(told *disclosure) string {
	committed := map[replica.TransactionID]bool{}
	for _, s := range h.sent {
		if s.commit > 0 {
			committed[s.id] = true
		}
	}
	for _, p := range h.siblings() {
		for _, s := range p.sent {
			if p.blind || !s.acked || committed[s.id] || told.ids[s.id] {
				continue
			}
			if g := p.gtidOf(s); !told.gtids.Contains(g) {
				return fmt.Sprintf("transaction %s, %s, at %d of incarnation %s was acknowledged and is lost, and nobody was told", s.id, g, s.index, p.incarnation)
			}
		}
	}
	return ""
}

func (h *history) gtidOf(s *submission) gtid.GTID {
	for _, j := range h.at(s.index).judged {
		if j.attempt() == s.attempt() {
			return j.verdict.GTID
		}
	}
	return gtid.GTID{}
}

// separation checks P13: an incarnation delivers frames of its own sessions, and
// of those that its parent had when it ended.
type separation struct {
	indifferent
	history *history
}

func (*separation) promise() string { return "P13" }

func (c *separation) delivered(by string, e, first *entry) string {
	f, ok := readFrame(e.raw)
	if first != nil || !ok || c.history.siblings == nil || c.history.sessions[[2]uint64{f.origin, f.session}] {
		return ""
	}
	for _, other := range c.history.siblings() {
		if other.sessions[[2]uint64{f.origin, f.session}] {
			return fmt.Sprintf("%s delivers at %d of incarnation %s a frame of session %x/%d, which is of incarnation %s",
				by, e.index, c.history.incarnation, f.origin, f.session, other.incarnation)
		}
	}
	return fmt.Sprintf("%s delivers at %d of incarnation %s a frame of session %x/%d, which there never was",
		by, e.index, c.history.incarnation, f.origin, f.session)
}
