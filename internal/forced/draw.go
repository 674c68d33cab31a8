package forced

import (
	"cmp"
	"slices"

	"github.com/concordatdb/concordat/gcs"
	"github.com/concordatdb/concordat/gtid"
)

// New draws a plan. id is a random UUID, own what the coordinating member says
// of itself, listed the UUIDs of the survivors, answers the surveys of all
// members of the view that answered, in any order, the coordinator's or not.
// supersedes are earlier plans whose frozen members this one may take over: those
// that the operator has named, for somebody may be carrying them out. The error
// is a *RefusedError.
func New(id gtid.UUID, own Survey, listed []gtid.UUID, answers []Survey, supersedes []gtid.UUID) (Plan, error) {
	if len(listed) == 0 {
		return Plan{}, refuse(EmptyList, gtid.UUID{}, "no survivor is listed; list every member that is to stay, this one too")
	}
	if !contains(listed, own.Member) {
		return Plan{}, refuse(CoordinatorNotListed, own.Member, "is not listed and would be left out; give the order on a survivor, or list this one")
	}
	if err := own.settled(); err != nil {
		return Plan{}, err
	}
	s := situation{
		plan: id, group: own.Group, ends: own.Incarnation, supersedes: sortedUUIDs(supersedes), listed: listed,
		answers: append([]Survey{own}, answers...),
	}
	s.settle()
	if err := s.check(); err != nil {
		return Plan{}, err
	}
	o, err := s.order()
	if err != nil {
		return Plan{}, err
	}
	var facts []Facts
	for _, m := range o.Members {
		facts = append(facts, s.answer(m.UUID).Facts)
	}
	d, err := Decide(o, facts)
	if err != nil {
		return Plan{}, err
	}
	return s.forecast(d, facts), nil
}

// situation is what the members of a view said when they were asked.
type situation struct {
	plan       gtid.UUID
	group      gtid.UUID
	ends       gtid.UUID // the incarnation that the plan is for
	supersedes []gtid.UUID
	listed     []gtid.UUID // the survivors
	answers    []Survey    // one per raft id, ascending, after settle
	view       gcs.View    // the newest view of the incarnation, after settle
}

// settle sorts the answers, and finds the newest view of the incarnation: all
// views come from one log, so the newest that anybody delivered is the present
// one as far as can be known.
func (s *situation) settle() {
	slices.SortStableFunc(s.answers, func(a, b Survey) int { return cmp.Compare(a.RaftID, b.RaftID) })
	s.answers = slices.CompactFunc(s.answers, func(a, b Survey) bool { return a.RaftID == b.RaftID })
	for i := range s.answers {
		a := &s.answers[i]
		s.look(a.View)
		if a.Record.In(s.plan) {
			s.look(a.Record.Facts.View)
		}
	}
}

func (s *situation) look(v gcs.View) {
	if v.Incarnation == s.ends && v.ID > s.view.ID {
		s.view = v
		s.view.Cause = gcs.Change{}
	}
}

// answer returns what a member said, nil when it did not answer.
func (s *situation) answer(member gtid.UUID) *Survey {
	i := slices.IndexFunc(s.answers, func(a Survey) bool { return a.Member == member })
	if i < 0 {
		return nil
	}
	return &s.answers[i]
}

// check refuses to go on when the group needs no force, or when a listed member
// cannot take part.
func (s *situation) check() error {
	for i := range s.answers {
		if err := s.checkAlive(&s.answers[i]); err != nil {
			return err
		}
	}
	free := 0
	for _, member := range s.listed {
		if err := s.checkListed(member); err != nil {
			return err
		}
	}
	for _, m := range s.view.Members {
		// A frozen one heals nothing: it is told to go on by a plan only.
		if a := s.answer(m.UUID); contains(s.listed, m.UUID) && a.Record.MayRun() {
			free++
		}
	}
	if q := s.view.Quorum(); free >= q {
		return refuse(HealsByItself, gtid.UUID{},
			"%d of those listed are free to vote, and %d make a quorum: the group heals by itself once they reach each other; see why they do not", free, q)
	}
	return nil
}

// checkAlive refuses for what any member of the view says, listed or not.
func (s *situation) checkAlive(a *Survey) error {
	m, ok := s.view.Member(a.RaftID)
	if !ok || m.UUID != a.Member || a.Group != s.group {
		return nil
	}
	switch {
	case a.Record.Phase == Adopted && a.Record.Order.Ends == s.ends:
		return refuse(AdoptedOther, a.Member,
			"has adopted plan %s, which ended this incarnation: run that plan again with its id; who was left out of it joins the group anew. Stop that member first if what it has is to be given up",
			a.Record.Order.Plan)
	case a.Quorum && a.Record.MayRun():
		return refuse(HasQuorum, a.Member, "has quorum: the group decides by itself, remove members in the ordinary way; who hears no majority is cut off from it")
	case a.Record.Phase == Frozen && a.Record.Order.Ends == s.ends && a.Record.Order.Plan != s.plan:
		return s.checkRival(a)
	}
	return nil
}

// checkRival refuses for a member that is frozen for another plan of the same
// incarnation. That plan may be carried out at this moment: it must be
// superseded, and so few of its survivors be left to it that they could begin
// nothing without those whom this plan takes over.
func (s *situation) checkRival(a *Survey) error {
	o := &a.Record.Order
	if err := supersedes(&a.Record, a.Member, s.supersedes); err != nil || contains(s.listed, a.Member) {
		return err
	}
	left := 0
	for _, m := range o.Members {
		if !contains(s.listed, m.UUID) {
			left++
		}
	}
	if quorum := (gcs.View{Members: o.Members}).Quorum(); left >= quorum {
		return refuse(FrozenForOther, a.Member,
			"is frozen for plan %s, and %d of the survivors of that plan are not listed in this one: they could carry it out. List it too, or stop it first", o.Plan, left)
	}
	return nil
}

// checkListed refuses a member that cannot be a survivor.
func (s *situation) checkListed(member gtid.UUID) error {
	i := slices.IndexFunc(s.view.Members, func(m gcs.Member) bool { return m.UUID == member })
	if i < 0 {
		return refuse(NotMember, member, "is not in view %d, the present one; list members of the view only", s.view.ID)
	}
	m := s.view.Members[i]
	if m.State != gcs.Online {
		return refuse(NoVote, member, "is %s and has no vote; leave it out, it joins again by itself", m.State)
	}
	a := s.answer(member)
	switch {
	case a == nil:
		return refuse(Unreachable, member, "at %s does not answer; start it, or leave it out", m.Address)
	case a.Group != s.group:
		return refuse(OtherGroup, member, "belongs to group %s, this one to %s; leave it out", a.Group, s.group)
	case a.RaftID != m.RaftID:
		return refuse(NotMember, member, "answers with raft id %d, in the view it has %d: it lost its disk; leave it out, it joins anew", a.RaftID, m.RaftID)
	case a.Incarnation != s.ends:
		return refuse(OtherIncarnation, member, "is of incarnation %s, this member of %s; leave it out, it joins anew", a.Incarnation, s.ends)
	}
	if err := cmp.Or(a.settled(), a.sure()); err != nil {
		return err
	}
	if !a.Record.In(s.plan) {
		if err := supersedes(&a.Record, member, s.supersedes); err != nil {
			return err
		}
	}
	if reason := a.flaw(); reason != "" {
		return refuse(Damaged, member, "%s; leave it out, it has to join anew", reason)
	}
	return nil
}

// order is what the plan fixes.
func (s *situation) order() (Order, error) {
	o := Order{
		Plan: s.plan, Group: s.group, Ends: s.ends, Begins: Incarnation(s.plan), Supersedes: s.supersedes,
	}
	for _, m := range s.view.Members {
		if contains(s.listed, m.UUID) {
			o.Members = append(o.Members, m)
		}
	}
	if reason := o.flaw(); reason != "" {
		return o, refuse(OtherPlan, gtid.UUID{}, "%s", reason)
	}
	return o, nil
}

func contains(us []gtid.UUID, u gtid.UUID) bool { return slices.Contains(us, u) }

// sortedUUIDs returns us ascending and each once, nil when there are none.
func sortedUUIDs(us []gtid.UUID) []gtid.UUID {
	if len(us) == 0 {
		return nil
	}
	us = slices.Clone(us)
	slices.SortFunc(us, gtid.UUID.Compare)
	return slices.Compact(us)
}
