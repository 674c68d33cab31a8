package forced

import (
	"cmp"
	"slices"

	"github.com/concordatdb/concordat/gcs"
	"github.com/concordatdb/concordat/gtid"
)

// Step is what a member is asked for. The values travel between members.
type Step byte

// The steps. All are taken in this order, but for the look, which comes after
// the freeze.
const (
	// StepSurvey: say who you are and what you have.
	StepSurvey Step = 1
	// StepFreeze: see [Record.Freeze].
	StepFreeze Step = 2
	// StepAlign: see [Record.Align]. The answer is given when no work is left.
	StepAlign Step = 3
	// StepAdopt: see [Record.Adopt].
	StepAdopt Step = 4
	// StepLook: a survey once more, when all survivors are frozen. Of two plans
	// that were begun at the same time at least one sees the other then.
	StepLook Step = 5
)

// Surveys reports whether a request for the step is one for a survey, which
// [Coordinator.Surveyed] takes the answer to.
func (s Step) Surveys() bool { return s == StepSurvey || s == StepLook }

// String returns the step as a verb.
func (s Step) String() string {
	switch s {
	case StepSurvey:
		return "survey"
	case StepFreeze:
		return "freeze"
	case StepAlign:
		return "align"
	case StepAdopt:
		return "adopt"
	case StepLook:
		return "look"
	}
	return "step of no name"
}

// Request asks a member to take a step. A survey, of either step, needs nothing
// but the asking.
type Request struct {
	To       gcs.Member // not part of the encoding
	Step     Step
	Order    Order    // for StepFreeze
	Decision Decision // for StepAlign and StepAdopt
}

// Answer is what a member says to any step but a survey: the record that it has
// on disk now, or why it refuses.
type Answer struct {
	Record  Record
	Refused *RefusedError // nil when the step is taken
}

// State is how far a member has come in one run of a plan.
type State byte

// The states.
const (
	// Waiting: it has been asked to take the present step, and has not answered.
	Waiting State = 0
	// Taken: it has taken the present step.
	Taken State = 1
	// Failed: it refused, or did not answer.
	Failed State = 2
)

// Progress is how far a member has come.
type Progress struct {
	Member   gcs.Member
	Survivor bool
	Answers  bool // it answered the survey
	Step     Step // the last one that it was asked for
	State    State
	Adopted  bool
	Err      error // why it failed, nil otherwise
}

// Report is what a run of a plan has come to.
type Report struct {
	// Plan is made of what the survivors had when they froze, as far as they
	// have said so. Of a plan that nobody knew only the id is there.
	Plan Plan
	// Decided: the decision in Plan is the plan's, not a forecast.
	Decided bool
	Members []Progress // ascending by raft id
	// Ended: nothing more will be asked in this run.
	Ended bool
	// Complete: every survivor has adopted.
	Complete bool
	// Err is why the run ended before all survivors had adopted. The plan can
	// be run again with its id, unless the text says that another one is
	// needed.
	Err error
}

// Coordinator leads the survivors through a plan. It keeps nothing durably:
// one that is gone is replaced by another one with the plan's id, on the same
// member or on any other survivor, and several at once do no harm. It belongs
// to one goroutine.
//
// It is fed what came of each request: Surveyed or Answered, or Lost when no
// answer came in a time that its caller chooses, after as many attempts as its
// caller makes. Then Requests has what to ask next.
type Coordinator struct {
	plan     gtid.UUID
	order    Order // its Plan is zero until it is known
	decision Decision
	decided  bool
	// late: somebody has adopted. So all survivors have been aligned, nobody
	// has to wait for another one, and nothing can be called off any more.
	late     bool
	step     Step
	members  []member // ascending by raft id
	requests []Request
	ended    bool
	err      error
}

// member is what the coordinator knows of one member of the view.
type member struct {
	gcs.Member
	survivor bool
	survey   *Survey
	record   Record // of the plan; zero until known
	step     Step
	state    State
	err      error
}

// Run begins a plan that has been confirmed.
func Run(p Plan) *Coordinator {
	c := &Coordinator{plan: p.Plan, order: p.Order}
	c.know(p.View.Members)
	c.know(p.Members)
	c.begin()
	return c
}

// Resume goes on with a plan of which only the id is known. own is what the
// coordinating member says of itself.
func Resume(plan gtid.UUID, own Survey) *Coordinator {
	c := &Coordinator{plan: plan}
	if own.Record.In(plan) {
		c.know(own.Record.Order.Members)
		c.know(own.Record.Facts.View.Members)
	}
	c.know(own.View.Members)
	c.begin()
	return c
}

// know adds members to those who are asked.
func (c *Coordinator) know(ms []gcs.Member) {
	for _, m := range ms {
		i, ok := slices.BinarySearchFunc(c.members, m.RaftID, func(t member, id uint64) int { return cmp.Compare(t.RaftID, id) })
		if !ok {
			c.members = slices.Insert(c.members, i, member{Member: m})
		}
	}
}

func (c *Coordinator) begin() {
	c.step = StepSurvey
	c.ask()
}

// Requests returns what is to be asked now, each once.
func (c *Coordinator) Requests() []Request {
	rs := c.requests
	c.requests = nil
	return rs
}

// Step returns the present step.
func (c *Coordinator) Step() Step { return c.step }

// Ended reports whether nothing more will be asked.
func (c *Coordinator) Ended() bool { return c.ended }

// ask asks everybody who has a part in the present step.
func (c *Coordinator) ask() {
	c.requests = nil
	for i := range c.members {
		c.askMember(&c.members[i])
	}
}

func (c *Coordinator) askMember(m *member) {
	if m.step == c.step || !c.step.Surveys() && !m.survivor || m.err != nil && m.survivor {
		return
	}
	m.step, m.state = c.step, Waiting
	if c.taken(m) {
		m.state = Taken
		return
	}
	r := Request{To: m.Member, Step: c.step}
	switch c.step {
	case StepSurvey, StepLook:
	case StepFreeze:
		r.Order = c.order
	case StepAlign, StepAdopt:
		r.Decision = c.decision
	}
	c.requests = append(c.requests, r)
}

// taken reports whether the member is known to have taken the present step.
func (c *Coordinator) taken(m *member) bool {
	switch c.step {
	case StepSurvey, StepLook:
		return false
	case StepFreeze:
		return m.record.Phase != Free
	case StepAlign, StepAdopt:
		return m.record.Phase == Adopted
	}
	return false
}

// Surveyed takes a member's answer to a survey: the first one, or the look after
// the freeze. It must have been made after it was asked for in this step.
func (c *Coordinator) Surveyed(raftID uint64, step Step, s Survey) {
	m := c.waiting(raftID, step)
	if m == nil || !step.Surveys() {
		return
	}
	if s.RaftID != raftID {
		c.fail(m, refuse(NotMember, m.UUID, "answers with raft id %d, in the view it has %d: it lost its disk; leave it out, it joins anew", s.RaftID, raftID))
		return
	}
	m.survey, m.state, m.err = &s, Taken, nil
	if s.Record.In(c.plan) {
		c.learn(m, s.Record)
	}
	c.advance()
}

// Answered takes a member's answer to any other step.
func (c *Coordinator) Answered(raftID uint64, step Step, a Answer) {
	m := c.waiting(raftID, step)
	if m == nil {
		return
	}
	switch {
	case a.Refused != nil:
		c.fail(m, a.Refused)
		return
	case !a.Record.In(c.plan) || step == StepAdopt && a.Record.Phase != Adopted:
		c.fail(m, refuse(NotFrozen, m.UUID, "says that it took the step %s of plan %s, and is %s", step, c.plan, a.Record.part()))
		return
	}
	m.state = Taken
	c.learn(m, a.Record)
	c.advance()
}

// Lost says that a member does not answer, and why.
func (c *Coordinator) Lost(raftID uint64, step Step, why string) {
	if m := c.waiting(raftID, step); m != nil {
		c.fail(m, refuse(Unreachable, m.UUID, "at %s did not answer to %s: %s; run plan %s again with its id once it does", m.Address, step, why, c.plan))
	}
}

// waiting returns the member from which an answer is expected, or nil: what
// comes late or twice says nothing that is not asked for again.
func (c *Coordinator) waiting(raftID uint64, step Step) *member {
	for i := range c.members {
		if m := &c.members[i]; m.RaftID == raftID && m.step == step && m.state == Waiting && step == c.step && !c.ended {
			return m
		}
	}
	return nil
}

// fail notes why a member goes no further. Before anybody has adopted that is
// the end of the run: of those who stay behind nothing may be cut. Who does not
// answer a survey keeps nobody from going on with the others; a survivor is
// asked for its next step all the same.
func (c *Coordinator) fail(m *member, err error) {
	m.state = Failed
	if c.step != StepLook || !m.survivor {
		m.err = err
	}
	if !c.step.Surveys() && c.step != StepAdopt && !c.late {
		c.end(err)
		return
	}
	c.advance()
}

// learn takes a member's record of the plan.
func (c *Coordinator) learn(m *member, r Record) {
	m.record = r
	if c.order.Plan.IsZero() {
		c.order = r.Order
	}
	if !c.order.equal(&r.Order) {
		c.end(refuse(OtherPlan, m.UUID, "knows plan %s with other survivors or of another incarnation; draw a new plan", c.plan))
		return
	}
	if r.Phase != Adopted {
		return
	}
	if c.decided && !c.decision.equal(&r.Decision) {
		c.end(refuse(OtherDecision, m.UUID, "has adopted another decision of plan %s than others; stop it, it has to join anew", c.plan))
		return
	}
	c.decision, c.decided, c.late = r.Decision, true, true
}

func (c *Coordinator) end(err error) {
	c.ended, c.err, c.requests = true, err, nil
}

// advance goes to the next step when everybody has taken the present one.
func (c *Coordinator) advance() {
	for !c.ended {
		if c.late && (c.step == StepFreeze || c.step == StepLook) {
			c.step = StepAlign
			c.ask()
		}
		for i := range c.members {
			if m := &c.members[i]; m.step == c.step && m.state == Waiting {
				return
			}
		}
		c.next()
	}
}

// next begins the step after the present one.
func (c *Coordinator) next() {
	switch c.step {
	case StepSurvey:
		if !c.surveyed() {
			return
		}
		c.step = StepFreeze
	case StepFreeze:
		d, err := Decide(c.order, c.frozen())
		if err != nil {
			c.end(err)
			return
		}
		c.decision, c.decided = d, true
		c.step = StepLook
	case StepLook:
		if err := c.looked(); err != nil {
			c.end(err)
			return
		}
		c.step = StepAlign
	case StepAlign:
		c.step = StepAdopt
	case StepAdopt:
		c.end(c.unfinished())
		return
	}
	c.ask()
}
