package forced

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"slices"

	"github.com/concordatdb/concordat/gcs"
	"github.com/concordatdb/concordat/gtid"
)

// MaxSupersedes bounds how many earlier plans one plan may supersede.
const MaxSupersedes = 16

// Order is what is fixed about a plan from the moment that it is drawn. It is
// what a survivor freezes for. It is immutable.
type Order struct {
	// Plan is the plan's id, drawn at random.
	Plan  gtid.UUID
	Group gtid.UUID
	// Ends is the incarnation that the plan is for, Begins the one that follows
	// from it: Incarnation(Plan).
	Ends, Begins gtid.UUID
	// Members are the survivors, ascending by raft id, all ONLINE: exactly the
	// new membership.
	Members []gcs.Member
	// Supersedes are earlier plans, ascending, whose frozen members this plan
	// may take over.
	Supersedes []gtid.UUID
}

// Decision is what the members of a plan adopt. It is a function of the order
// and of what each survivor had when it froze. It is immutable.
type Decision struct {
	Order
	Seed uint64 // raft id of the member whose log all take
	// First and Last are the ends of the seed's log: entries before First are
	// not to be had, those up to Last are adopted. The forced view is at Last+1.
	First, Last uint64
	LastTerm    uint64        // of the entry at Last
	Term        uint64        // of the forced view, later than any survivor's
	Runs        []gcs.TermRun // of the seed's log, see [Facts.Runs]
}

// Incarnation is the incarnation of the group that a plan begins.
func Incarnation(plan gtid.UUID) gtid.UUID {
	sum := sha256.Sum256(append([]byte("concordat forced incarnation\x00"), plan[:]...))
	var u gtid.UUID
	copy(u[:], sum[:])
	u[6] = u[6]&0x0f | 0x80 // version 8: made in a way of our own
	u[8] = u[8]&0x3f | 0x80
	return u
}

// Member returns the survivor with a UUID.
func (o *Order) Member(member gtid.UUID) (gcs.Member, bool) {
	i := slices.IndexFunc(o.Members, func(m gcs.Member) bool { return m.UUID == member })
	if i < 0 {
		return gcs.Member{}, false
	}
	return o.Members[i], true
}

func (o *Order) has(member gtid.UUID, raftID uint64) bool {
	m, ok := o.Member(member)
	return ok && m.RaftID == raftID
}

func (o *Order) equal(p *Order) bool {
	return o.Plan == p.Plan && o.Group == p.Group && o.Ends == p.Ends && o.Begins == p.Begins &&
		slices.Equal(o.Members, p.Members) && slices.Equal(o.Supersedes, p.Supersedes)
}

// flaw says what in o no plan can have, "" when nothing.
func (o *Order) flaw() string {
	switch {
	case o.Plan.IsZero() || o.Group.IsZero() || o.Ends.IsZero():
		return "the order lacks a plan id, a group or an incarnation"
	case o.Begins != Incarnation(o.Plan) || o.Begins == o.Ends:
		return "the incarnation that begins does not follow from the plan's id"
	case len(o.Members) == 0 || len(o.Members) > gcs.MaxMembers:
		return fmt.Sprintf("the order has %d survivors", len(o.Members))
	case len(o.Supersedes) > MaxSupersedes:
		return fmt.Sprintf("the order supersedes %d plans, more than %d", len(o.Supersedes), MaxSupersedes)
	case slices.Contains(o.Supersedes, o.Plan):
		return "the plan supersedes itself"
	}
	for i, m := range o.Members {
		if m.State != gcs.Online || i > 0 && o.Members[i-1].RaftID >= m.RaftID {
			return fmt.Sprintf("survivor %s is not ONLINE or out of order", m.UUID)
		}
	}
	for i, p := range o.Supersedes {
		if i > 0 && o.Supersedes[i-1].Compare(p) >= 0 {
			return fmt.Sprintf("the superseded plan %s is out of order", p)
		}
	}
	if _, err := gcs.ForcedEntry(1, 1, o.change()); err != nil {
		return err.Error()
	}
	return ""
}

// change is the change of membership that the group's log shows.
func (o *Order) change() gcs.Change {
	return gcs.Change{
		Kind: gcs.Forced, Incarnation: o.Begins, Members: o.Members,
		Reason: fmt.Sprintf("plan %s, by an operator, after incarnation %s had lost its quorum", o.Plan, o.Ends),
	}
}

func (d *Decision) equal(e *Decision) bool {
	return d.Order.equal(&e.Order) && d.Seed == e.Seed && d.First == e.First && d.Last == e.Last &&
		d.LastTerm == e.LastTerm && d.Term == e.Term && slices.Equal(d.Runs, e.Runs)
}

// flaw says what in d no decision can have, "" when nothing.
func (d *Decision) flaw() string {
	if reason := d.Order.flaw(); reason != "" {
		return reason
	}
	if !slices.ContainsFunc(d.Members, func(m gcs.Member) bool { return m.RaftID == d.Seed }) {
		return fmt.Sprintf("the seed %d is no survivor", d.Seed)
	}
	if d.First == 0 || d.Last == 0 || d.Last+1 < d.First || d.Last >= maxNumber || d.Term > maxNumber || d.Term <= d.LastTerm {
		return fmt.Sprintf("the seed's log from %d to %d and term %d after %d cannot be", d.First, d.Last, d.Term, d.LastTerm)
	}
	if reason := runsFlaw(d.Runs, max(d.First, 2)-1, d.Last); reason != "" {
		return "the seed " + reason
	}
	if d.Runs[len(d.Runs)-1].Term != d.LastTerm {
		return fmt.Sprintf("the seed's last term is not %d", d.LastTerm)
	}
	return ""
}

// Decide makes the decision of a plan from what its survivors had when they
// froze, which must be complete. The order of the facts does not count. The
// error is a *RefusedError about a survivor with which there is no decision: a
// new plan without it, which supersedes this one, may have one.
func Decide(o Order, frozen []Facts) (Decision, error) {
	facts := slices.Clone(frozen)
	slices.SortFunc(facts, func(a, b Facts) int { return cmp.Compare(a.RaftID, b.RaftID) })
	if err := complete(&o, facts); err != nil {
		return Decision{}, err
	}
	term := uint64(0)
	for i := range facts {
		term = max(term, facts[i].Term, facts[i].LastTerm())
	}
	seed := seedOf(facts)
	d := Decision{
		Order: o, Seed: seed.RaftID, First: seed.First, Last: seed.Last,
		LastTerm: seed.LastTerm(), Term: term + 1, Runs: seed.Runs,
	}
	for i := range facts {
		if _, err := d.work(&facts[i]); err != nil {
			return Decision{}, err
		}
	}
	return d, nil
}

// seedOf returns the survivor whose log all take: the longest, by last term and
// then by last index, of those that have everything which a survivor knows to
// be committed. A longer one without that has a tail that a leader wrote and
// never committed. Of equally long ones, which are the same, it is the lowest
// raft id's.
func seedOf(facts []Facts) *Facts {
	known := &facts[0]
	for i := range facts {
		if facts[i].Commit > known.Commit {
			known = &facts[i]
		}
	}
	seed := known
	for i := range facts {
		f := &facts[i]
		if _, ok := agree(known, f.Runs, f.Last); !ok {
			continue
		}
		c := cmp.Or(cmp.Compare(f.LastTerm(), seed.LastTerm()), cmp.Compare(f.Last, seed.Last))
		if c > 0 || c == 0 && f.RaftID < seed.RaftID {
			seed = f
		}
	}
	return seed
}

// agree compares the log of f with another one, given by its runs and its end.
// It returns up to where they agree, as far as f's log need be looked at, and
// whether that covers all that f knows to be committed.
func agree(f *Facts, runs []gcs.TermRun, last uint64) (keep uint64, ok bool) {
	keep, known := gcs.CommonPrefix(f.Runs, f.Last, runs, last)
	if known {
		return keep, keep >= f.Commit
	}
	// They agree nowhere from where both are known. Before that, what is
	// committed is in both, and no more need be compared.
	return f.Commit, f.Commit <= last && f.Commit < max(f.Runs[0].First, runs[0].First)
}

// complete checks that facts, ascending by raft id, are one of each survivor.
func complete(o *Order, facts []Facts) error {
	if len(facts) != len(o.Members) {
		return refuse(Unreachable, gtid.UUID{}, "%d of %d survivors are frozen; run plan %s again with its id", len(facts), len(o.Members), o.Plan)
	}
	for i := range facts {
		f := &facts[i]
		switch {
		case !o.has(f.Member, f.RaftID) || i > 0 && facts[i-1].RaftID == f.RaftID:
			return refuse(NotMember, f.Member, "with raft id %d is not one of the survivors of plan %s", f.RaftID, o.Plan)
		case f.flaw() != "":
			return refuse(Damaged, f.Member, "%s; leave it out, it has to join anew", f.flaw())
		}
	}
	return nil
}

// Work is what is left to do on a survivor's log until it is the seed's: the
// entries from From to To are fetched from the seed, and what the log has from
// From on goes. It is a value; see [Work.Take].
type Work struct {
	From, To uint64 // nothing is left when From is after To
	Cut      uint64 // how many entries of its own go
}

// Done reports whether the log is the seed's.
func (w Work) Done() bool { return w.From > w.To }

// Fetch is how many entries are to be fetched.
func (w Work) Fetch() uint64 {
	if w.Done() {
		return 0
	}
	return w.To - w.From + 1
}

// work says what to do on a log that is as the facts say.
func (d *Decision) work(f *Facts) (Work, error) {
	keep, ok := agree(f, d.Runs, d.Last)
	if !ok {
		return Work{}, refuse(OtherHistory, f.Member,
			"knows entry %d to be committed, and its log agrees with that of member %d up to %d only: they are of different histories; leave one of the two out",
			f.Commit, d.Seed, keep)
	}
	if d.First > keep+1 {
		return Work{}, refuse(TooFarBehind, f.Member,
			"agrees with the log of member %d up to entry %d, and that one begins at %d; leave it out, it joins again with a clone", d.Seed, keep, d.First)
	}
	return Work{From: keep + 1, To: d.Last, Cut: f.Last - keep}, nil
}
