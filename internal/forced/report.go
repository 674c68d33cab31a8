package forced

import (
	"github.com/concordatdb/concordat/gtid"
)

// surveyed judges what the survey brought. It returns false when the run has
// ended, or when somebody else has to be asked first.
func (c *Coordinator) surveyed() bool {
	if c.order.Plan.IsZero() {
		c.end(refuse(UnknownPlan, gtid.UUID{},
			"nobody who answers takes part in plan %s: it was never begun, or another one has followed on it; draw a new plan", c.plan))
		return false
	}
	c.know(c.order.Members)
	present := c.situation()
	c.know(present.view.Members)
	more := false
	for i := range c.members {
		m := &c.members[i]
		m.survivor = c.order.has(m.UUID, m.RaftID)
		if m.step == 0 {
			c.askMember(m)
			more = true
		}
	}
	if more {
		return false
	}
	if c.late {
		return true
	}
	for i := range c.members {
		if m := &c.members[i]; m.survivor && m.err != nil {
			c.end(m.err)
			return false
		}
	}
	s := c.situation()
	if err := s.check(); err != nil {
		c.end(err)
		return false
	}
	return true
}

// looked judges what the look brought, of those who have answered it. All
// survivors have been frozen before anybody was asked, and so they had been for
// any other plan that has come as far: of two plans one sees the other.
func (c *Coordinator) looked() error {
	s := c.situation()
	for i := range c.members {
		m := &c.members[i]
		if m.step != StepLook || m.state != Taken {
			continue
		}
		a := m.survey // what it says now, whatever it had said of this plan
		if m.survivor && !a.Record.In(c.plan) {
			return refuse(FrozenForOther, m.UUID, "has been taken over, it is %s; go on with that plan", a.Record.part())
		}
		if err := s.checkAlive(a); err != nil {
			return err
		}
	}
	return nil
}

// situation is what the members said in this run.
func (c *Coordinator) situation() situation {
	s := situation{
		plan: c.plan, group: c.order.Group, ends: c.order.Ends, supersedes: c.order.Supersedes,
	}
	for _, m := range c.order.Members {
		s.listed = append(s.listed, m.UUID)
	}
	for i := range c.members {
		m := &c.members[i]
		if m.survey == nil {
			continue
		}
		a := *m.survey
		if m.record.In(c.plan) {
			a.Record = m.record
		}
		s.answers = append(s.answers, a)
	}
	s.settle()
	return s
}

// frozen is what the survivors had when they froze, of those who have said so.
func (c *Coordinator) frozen() []Facts {
	var facts []Facts
	for i := range c.members {
		if m := &c.members[i]; m.survivor && m.record.In(c.plan) {
			facts = append(facts, m.record.Facts)
		}
	}
	return facts
}

// unfinished is why not all survivors have adopted, nil when they have.
func (c *Coordinator) unfinished() error {
	for i := range c.members {
		if m := &c.members[i]; m.survivor && m.err != nil {
			return m.err
		}
	}
	return nil
}

// Report says what the run has come to, at any time.
func (c *Coordinator) Report() Report {
	r := Report{Decided: c.decided, Ended: c.ended, Err: c.err, Complete: !c.order.Plan.IsZero()}
	r.Plan.Plan = c.plan
	adopted := 0
	for i := range c.members {
		m := &c.members[i]
		p := Progress{
			Member: m.Member, Survivor: m.survivor, Answers: m.survey != nil,
			Step: m.step, State: m.state, Adopted: m.record.Phase == Adopted, Err: m.err,
		}
		if p.Adopted {
			adopted++
		}
		r.Members = append(r.Members, p)
	}
	r.Complete = r.Complete && adopted == len(c.order.Members)
	if !c.order.Plan.IsZero() {
		r.Plan = c.forecast()
	}
	return r
}

// forecast is the plan as far as it is known.
func (c *Coordinator) forecast() Plan {
	s := c.situation()
	facts := c.frozen()
	d := c.decision
	if !c.decided {
		if made, err := Decide(c.order, facts); err == nil {
			d = made
		} else {
			d = Decision{Order: c.order}
		}
	}
	return s.forecast(d, facts)
}
