package forced

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/concordatdb/concordat/gcs"
	"github.com/concordatdb/concordat/gtid"
)

// three is members 1 to 3 of the five with the logs of pair and a third one,
// and a plan of the first two.
type three struct {
	t       *testing.T
	surveys map[uint64]Survey
	disks   map[uint64]*disk
	plan    Plan
}

func newThree(t *testing.T) *three {
	t.Helper()
	one, two := pair()
	disk1, disk2, disk3 := log(2, 1, 1, 2, 2, 2), log(1, 1, 1, 3), log(1, 1, 1)
	g := &three{
		t: t, surveys: map[uint64]Survey{1: one, 2: two, 3: says(3, disk3)},
		disks: map[uint64]*disk{1: &disk1, 2: &disk2, 3: &disk3},
	}
	p, err := New(planA, one, listed(1, 2), []Survey{two}, nil)
	if err != nil {
		t.Fatal(err)
	}
	g.plan = p
	return g
}

// asked is what a coordinator asks for now, as words.
func asked(c *Coordinator) string {
	var words []string
	for _, r := range c.Requests() {
		words = append(words, fmt.Sprintf("%s %d", r.Step, r.To.RaftID))
	}
	return strings.Join(words, ", ")
}

// take has a member take a step, and returns its answer.
func (g *three) take(n uint64, step Step, d Decision) Answer {
	g.t.Helper()
	s := g.surveys[n]
	err := error(nil)
	switch step {
	case StepSurvey, StepLook:
	case StepFreeze:
		s.Record, _, err = s.Record.Freeze(g.plan.Order, s)
	case StepAlign:
		var w Work
		if w, err = s.Record.Align(d, g.disks[n]); err == nil && !w.Done() {
			es, _ := g.disks[d.Seed].Entries(w.From, w.To+1, 0)
			g.disks[n].write(es)
		}
	case StepAdopt:
		id := gcs.Identity{Group: group, Incarnation: first, Member: testUUID(int(n)), RaftID: n}
		var a *gcs.Adoption
		if a, s.Record, err = s.Record.Adopt(d, id, g.disks[n]); a != nil {
			s.Incarnation = a.Identity.Incarnation
			g.disks[n].write(a.Entries)
		}
	}
	g.surveys[n] = s
	a := Answer{Record: s.Record}
	if err != nil && !errors.As(err, &a.Refused) {
		g.t.Fatal(err)
	}
	return a
}

// all has the members take the step that the coordinator is at.
func (g *three) all(c *Coordinator, members ...uint64) {
	g.t.Helper()
	step := c.Step()
	for _, n := range members {
		if step.Surveys() {
			c.Surveyed(n, step, g.surveys[n])
		} else {
			c.Answered(n, step, g.take(n, step, c.decision))
		}
	}
}

func (g *three) expect(c *Coordinator, want string) {
	g.t.Helper()
	if got := asked(c); got != want {
		g.t.Fatalf("asked for %q, wanted was %q; %v", got, want, c.Report().Err)
	}
}

func TestPhases(t *testing.T) {
	g := newThree(t)
	c := Run(g.plan)
	g.expect(c, "survey 1, survey 2, survey 3, survey 4, survey 5")
	g.all(c, 1, 2, 3)
	c.Lost(4, StepSurvey, "refused")
	g.expect(c, "")
	c.Lost(5, StepSurvey, "refused")
	g.expect(c, "freeze 1, freeze 2")
	g.all(c, 2)
	c.Answered(2, StepFreeze, Answer{Record: g.surveys[2].Record})
	c.Answered(1, StepSurvey, Answer{})
	c.Answered(1, StepAdopt, Answer{})
	g.expect(c, "")
	g.all(c, 1)
	g.expect(c, "look 1, look 2, look 3, look 4, look 5")
	c.Surveyed(3, StepSurvey, g.surveys[3])
	g.all(c, 1, 2)
	g.expect(c, "")
	g.look(c)
	g.expect(c, "align 1, align 2")
	g.all(c, 1)
	g.expect(c, "")
	g.all(c, 2)
	g.expect(c, "adopt 1, adopt 2")
	if r := c.Report(); r.Ended || r.Complete || !r.Decided || r.Plan.Seed != 2 {
		t.Fatalf("before the last step: %+v", r)
	}
	g.all(c, 1, 2)
	g.expect(c, "")
	r := c.Report()
	if !r.Ended || !r.Complete || r.Err != nil || len(r.Members) != 5 || len(r.Plan.Excluded) != 3 {
		t.Fatalf("at the end: %+v", r)
	}
	for _, m := range r.Members {
		if survivor := m.Member.RaftID <= 2; m.Survivor != survivor || m.Adopted != survivor || m.Answers != (m.Member.RaftID <= 3) {
			t.Errorf("member %d is %+v", m.Member.RaftID, m)
		}
	}
	// Once more changes nothing, and asks for nothing but surveys.
	c = Resume(planA, g.surveys[1])
	g.expect(c, "survey 1, survey 2, survey 3, survey 4, survey 5")
	g.all(c, 1, 2, 3)
	c.Lost(4, StepSurvey, "refused")
	c.Lost(5, StepSurvey, "refused")
	g.expect(c, "")
	if again := c.Report(); !again.Complete || again.Err != nil || !again.Plan.equal(&r.Plan.Decision) {
		t.Fatalf("once more: %+v", again)
	}
}

func TestNothingIsFrozenInVain(t *testing.T) {
	quorum := func(g *three, n uint64) {
		s := g.surveys[n]
		s.Quorum = true
		g.surveys[n] = s
	}
	cases := []struct {
		name   string
		before func(g *three, c *Coordinator)
		reason Reason
		member gtid.UUID
	}{
		{"a survivor is silent", func(_ *three, c *Coordinator) { c.Lost(2, StepSurvey, "refused") }, Unreachable, testUUID(2)},
		{"a survivor has quorum", func(g *three, _ *Coordinator) { quorum(g, 1) }, HasQuorum, testUUID(1)},
		{"the others have quorum", func(g *three, _ *Coordinator) { quorum(g, 3) }, HasQuorum, testUUID(3)},
		{"somebody else answers", func(g *three, c *Coordinator) {
			s := g.surveys[2]
			s.RaftID = 77
			c.Surveyed(2, StepSurvey, s)
		}, NotMember, testUUID(2)},
		{"another order", func(g *three, _ *Coordinator) {
			g.surveys[2] = frozenFor(t, g.surveys[2], order(planA, 2, 4))
		}, OtherPlan, testUUID(2)},
		{"another plan", func(g *three, _ *Coordinator) {
			g.surveys[2] = frozenFor(t, g.surveys[2], order(planB, 2, 4))
		}, FrozenForOther, testUUID(2)},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			g := newThree(t)
			co := Run(g.plan)
			asked(co)
			c.before(g, co)
			g.all(co, 1, 2, 3)
			co.Lost(4, StepSurvey, "refused")
			co.Lost(5, StepSurvey, "refused")
			g.expect(co, "")
			wants(t, co.Report().Err, c.reason, c.member)
			if !co.Ended() {
				t.Error("the run has not ended")
			}
		})
	}
}

// look has nobody else answer the look.
func (g *three) look(c *Coordinator) {
	g.t.Helper()
	for _, n := range []uint64{3, 4, 5} {
		c.Lost(n, StepLook, "refused")
	}
}

// TestLook has the survivors frozen, and then looks who else is, or was.
func TestLook(t *testing.T) {
	adopted := func(s Survey, o Order) Survey {
		s = frozenFor(t, s, o)
		s.Record.Phase, s.Incarnation = Adopted, o.Begins
		return s
	}
	earlier := order(planB, 3, 4)
	earlier.Ends = testUUID(77)
	overlap := order(planB, 1, 2, 3)
	cases := []struct {
		name       string
		supersedes []gtid.UUID
		third      func(s Survey) Survey // what member 3 says
		reason     Reason
	}{
		{name: "nothing", third: func(s Survey) Survey { return s }},
		{name: "frozen", third: func(s Survey) Survey { return frozenFor(t, s, order(planB, 3)) }, reason: FrozenForOther},
		{name: "frozen, and could go on alone", supersedes: listed(1001), third: func(s Survey) Survey { return frozenFor(t, s, order(planB, 3)) }, reason: FrozenForOther},
		{name: "frozen, and could go on with another one", supersedes: listed(1001), third: func(s Survey) Survey { return frozenFor(t, s, order(planB, 1, 3, 4)) }, reason: FrozenForOther},
		{name: "frozen, and could not go on", supersedes: listed(1001), third: func(s Survey) Survey { return frozenFor(t, s, overlap) }},
		{name: "could not go on, and is not named", third: func(s Survey) Survey { return frozenFor(t, s, overlap) }, reason: FrozenForOther},
		{name: "gone over", third: func(s Survey) Survey { return adopted(s, order(planB, 3)) }, reason: AdoptedOther},
		{name: "gone over, and named", supersedes: listed(1001), third: func(s Survey) Survey { return adopted(s, overlap) }, reason: AdoptedOther},
		{name: "frozen for another end", third: func(s Survey) Survey { s = frozenFor(t, s, order(planB, 3)); s.Record.Order = earlier; return s }},
		{name: "with a new disk", third: func(s Survey) Survey { s.RaftID = 77; return s }},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			g := newThree(t)
			g.plan.Supersedes = c.supersedes
			co := g.begun()
			g.all(co, 1, 2)
			g.expect(co, "look 1, look 2, look 3, look 4, look 5")
			g.all(co, 1, 2)
			co.Surveyed(3, StepLook, c.third(g.surveys[3]))
			co.Lost(4, StepLook, "refused")
			co.Lost(5, StepLook, "refused")
			if c.reason == 0 {
				g.expect(co, "align 1, align 2")
				return
			}
			g.expect(co, "")
			wants(t, co.Report().Err, c.reason, testUUID(3))
		})
	}

	// A survivor may be taken over as soon as it has frozen.
	g := newThree(t)
	c := g.begun()
	g.all(c, 1, 2)
	taken := order(planB, 2, 3)
	taken.Supersedes = listed(1000)
	c.Surveyed(2, StepLook, frozenFor(t, g.surveys[2], taken))
	g.all(c, 1)
	g.look(c)
	wants(t, c.Report().Err, FrozenForOther, testUUID(2))

	// One that does not answer the look is asked to go on.
	g = newThree(t)
	c = g.begun()
	g.all(c, 1, 2)
	asked(c)
	g.all(c, 1)
	c.Lost(2, StepLook, "timed out")
	g.look(c)
	g.expect(c, "align 1, align 2")
}

// begun is a coordinator before the freeze.
func (g *three) begun() *Coordinator {
	c := Run(g.plan)
	g.all(c, 1, 2)
	for _, n := range []uint64{3, 4, 5} {
		c.Lost(n, StepSurvey, "refused")
	}
	g.expect(c, "freeze 1, freeze 2")
	return c
}

func TestRunEndsAndGoesOn(t *testing.T) {
	g := newThree(t)
	c := g.begun()
	g.all(c, 1)
	c.Lost(2, StepFreeze, "timed out")
	wants(t, c.Report().Err, Unreachable, testUUID(2))
	g.expect(c, "")

	// The order is known to the member that froze, and the one that did not
	// answer may have frozen.
	g.take(2, StepFreeze, Decision{})
	c = Resume(planA, g.surveys[2])
	g.expect(c, "survey 1, survey 2, survey 3, survey 4, survey 5")
	g.all(c, 1, 2)
	for _, n := range []uint64{3, 4, 5} {
		c.Lost(n, StepSurvey, "refused")
	}
	g.expect(c, "look 1, look 2, look 3, look 4, look 5")
	g.all(c, 1, 2)
	g.look(c)
	g.expect(c, "align 1, align 2")
	g.all(c, 2)
	g.all(c, 1)
	g.expect(c, "adopt 1, adopt 2")
	g.all(c, 2)
	c.Lost(1, StepAdopt, "timed out")
	r := c.Report()
	wants(t, r.Err, Unreachable, testUUID(1))
	if !r.Ended || r.Complete || !r.Decided {
		t.Fatalf("one of two has adopted: %+v", r)
	}

	// Now the decision is made: whoever does not answer is not waited for.
	c = Resume(planA, g.surveys[1])
	g.all(c, 1, 2)
	for _, n := range []uint64{3, 4, 5} {
		c.Lost(n, StepSurvey, "refused")
	}
	g.expect(c, "align 1")
	g.all(c, 1)
	g.expect(c, "adopt 1")
	g.all(c, 1)
	if r := c.Report(); !r.Complete || r.Err != nil {
		t.Fatalf("both have adopted: %+v", r)
	}
}

// TestLate resumes a plan that one of three has adopted.
func TestLate(t *testing.T) {
	o := order(planA, 1, 2, 3)
	g := newThree(t)
	g.plan.Order = o
	d, err := Decide(o, []Facts{g.surveys[1].Facts, g.surveys[2].Facts, g.surveys[3].Facts})
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []Step{StepFreeze, StepAlign, StepAdopt} {
		for n := uint64(1); n <= 3; n++ {
			if step != StepAdopt || n == 2 {
				g.take(n, step, d)
			}
		}
	}
	c := Resume(planA, g.surveys[1])
	g.all(c, 1, 2)
	for _, n := range []uint64{3, 4, 5} {
		c.Lost(n, StepSurvey, "refused")
	}
	g.expect(c, "align 1")
	g.all(c, 1)
	g.expect(c, "adopt 1")
	g.all(c, 1)
	r := c.Report()
	wants(t, r.Err, Unreachable, testUUID(3))
	if r.Complete || r.Plan.Seed != 2 || len(r.Plan.Survivors) != 3 {
		t.Fatalf("two of three have adopted: %+v", r)
	}

	// A decision that is not the one adopted stops everything.
	other := g.surveys[1]
	other.Record.Decision.Term++
	c = Resume(planA, other)
	g.surveys[1] = other
	g.all(c, 1, 2)
	wants(t, c.Report().Err, OtherDecision, testUUID(2))
}

func TestAdoptionIsHeardOfWhileFreezing(t *testing.T) {
	g := newThree(t)
	c := g.begun()
	other := g.begun()
	g.all(other, 1, 2)
	asked(other)
	g.all(other, 1, 2)
	g.look(other)
	g.all(other, 1, 2)
	asked(other)
	g.all(other, 1)
	g.all(c, 1)
	g.expect(c, "align 2")
	g.all(c, 2)
	g.expect(c, "adopt 2")
}

func TestLies(t *testing.T) {
	g := newThree(t)
	c := g.begun()
	c.Answered(1, StepFreeze, Answer{})
	wants(t, c.Report().Err, NotFrozen, testUUID(1))

	c = g.begun()
	g.all(c, 1, 2)
	g.all(c, 1, 2)
	g.look(c)
	g.all(c, 1, 2)
	asked(c)
	c.Answered(1, StepAdopt, Answer{Record: g.surveys[1].Record})
	g.all(c, 2)
	wants(t, c.Report().Err, NotFrozen, testUUID(1))

	c = Resume(planB, g.surveys[1])
	g.all(c, 1, 2, 3)
	c.Lost(4, StepSurvey, "refused")
	c.Lost(5, StepSurvey, "refused")
	wants(t, c.Report().Err, UnknownPlan, gtid.UUID{})
	if r := c.Report(); r.Plan.Plan != planB || r.Complete {
		t.Errorf("of an unknown plan: %+v", r)
	}
}

// TestUndecidable freezes members whose logs changed after the plan was drawn,
// so that there is no decision.
func TestUndecidable(t *testing.T) {
	g := newThree(t)
	c := g.begun()
	s := g.surveys[2]
	s.Commit, s.Delivered = 3, 3
	g.surveys[2] = s
	behind := g.surveys[1]
	behind.Commit, behind.Delivered = 4, 4
	g.surveys[1] = behind
	g.all(c, 1, 2)
	wants(t, c.Report().Err, OtherHistory, testUUID(2))
}

func TestForecast(t *testing.T) {
	gtids := func(s string) gtid.Set {
		set, err := gtid.ParseSet("3e11fa47-71ca-11e1-9e33-c80aa9429562:" + s)
		if err != nil {
			t.Fatal(err)
		}
		return set
	}
	one, two := pair()
	one.Executed, two.Executed = gtids("1-10"), gtids("1-4")
	one.Heard = []Heard{{RaftID: 2, Delivered: 1, Ticks: 3}, {RaftID: 3, Delivered: 2, Executed: gtids("1-12"), Ticks: 50}, {RaftID: 4, Delivered: 9, Executed: gtids("1-10"), Ticks: 70}}
	two.Heard = []Heard{{RaftID: 3, Delivered: 2, Ticks: 20}}
	alive := says(5, log(1, 1, 1))
	alive.Executed = gtids("1-3:30")
	frozen := frozenFor(t, two, order(planB, 2, 4))
	p, err := New(planA, one, listed(1, 2), []Survey{frozen, alive}, listed(1001))
	if err != nil {
		t.Fatal(err)
	}
	want := []Excluded{
		{Member: testMember(3, gcs.Online), Seen: true, By: testUUID(2), Ticks: 20, Delivered: 2, AtRisk: gtids("11-12")},
		{Member: testMember(4, gcs.Online), Seen: true, By: testUUID(1), Ticks: 70, Delivered: 9},
		{Member: testMember(5, gcs.Recovering), Answers: true, Seen: true, By: testUUID(5), Delivered: 1, AtRisk: gtids("30")},
	}
	if !slices.EqualFunc(p.Excluded, want, func(a, b Excluded) bool {
		same := a.AtRisk.Equal(b.AtRisk)
		a.AtRisk, b.AtRisk = gtid.Set{}, gtid.Set{}
		return same && fmt.Sprint(a) == fmt.Sprint(b)
	}) {
		t.Errorf("excluded are %+v\nwanted were %+v", p.Excluded, want)
	}
	if !p.Executed.Equal(gtids("1-10")) || p.Known {
		t.Errorf("executed is %s, known %v", p.Executed, p.Known)
	}
	if s := p.Survivors[0]; s.Cut != 3 || s.Fetch != 1 || s.Last != 5 || s.LastTerm != 2 {
		t.Errorf("survivor 1 is %+v", s)
	}
	for _, w := range []struct {
		member int
		text   string
	}{{4, "up to entry 9"}, {4, "may have adopted that plan"}, {5, "is alive"}} {
		if !slices.ContainsFunc(p.Warnings, func(g Warning) bool { return g.Member == testUUID(w.member) && strings.Contains(g.Text, w.text) }) {
			t.Errorf("no warning that member %d %s: %v", w.member, w.text, p.Warnings)
		}
	}
	two.Delivered, two.Commit = 3, 3
	one.Delivered, one.Commit, one.Heard = 2, 2, nil
	p, err = New(planA, two, listed(1, 2), []Survey{one}, nil)
	if err != nil || !p.Known {
		t.Fatalf("known %v, %v", p.Known, err)
	}
	if !slices.ContainsFunc(p.Warnings, func(g Warning) bool { return strings.Contains(g.Text, "not been heard of") && g.Member == testUUID(4) }) {
		t.Errorf("nobody has heard of member 4: %v", p.Warnings)
	}
}
