package forced

import (
	"strings"
	"testing"

	"github.com/concordatdb/concordat/gtid"
)

// A plan that is done is done, whoever asks: also once its members have made a
// quorum, and with somebody who has joined them since and took no part in it.
func TestDoneIsDone(t *testing.T) {
	g := newThree(t)
	c := g.begun()
	g.all(c, 1, 2) // freeze
	g.all(c, 1, 2) // look
	g.look(c)
	g.expect(c, "align 1, align 2")
	g.all(c, 1, 2)
	g.all(c, 1, 2)
	done := c.Report()
	if !done.Complete {
		t.Fatalf("%+v", done)
	}
	members := order(planA, 1, 2, 3).Members
	for n := uint64(1); n <= 3; n++ {
		s := g.surveys[n]
		s.Incarnation, s.Quorum = done.Plan.Begins, true
		s.View.ID, s.View.Incarnation, s.View.Members = 9, done.Plan.Begins, members
		g.surveys[n] = s
	}
	for _, asker := range []uint64{1, 3} {
		c = Resume(planA, g.surveys[asker])
		for _, m := range c.Report().Members {
			if m.Member.RaftID <= 3 {
				g.all(c, m.Member.RaftID)
			}
		}
		for _, r := range c.Requests() {
			if r.Step != StepSurvey {
				t.Errorf("member %d is asked to %s by way of %d", r.To.RaftID, r.Step, asker)
			}
		}
		for _, n := range []uint64{4, 5} {
			c.Lost(n, StepSurvey, "refused")
		}
		r := c.Report()
		if !r.Ended || !r.Complete || r.Err != nil || !r.Plan.equal(&done.Plan.Decision) {
			t.Errorf("by way of %d it is %+v", asker, r)
		}
	}
	// Who did not begin it, and hears nobody who did, knows nothing of it.
	stranger := g.surveys[3]
	stranger.View.Members = members[2:]
	c = Resume(planA, stranger)
	c.Surveyed(3, StepSurvey, stranger)
	wants(t, c.Report().Err, UnknownPlan, gtid.UUID{})
}

// An operator reads a refusal behind the word of what is refused. What it says is
// so whichever member was asked, also the one that has the quorum.
func TestRefusalTexts(t *testing.T) {
	one, two := pair()
	for _, quorum := range []*Survey{&one, &two} {
		quorum.Quorum = true
		_, err := New(planA, one, listed(1, 2), []Survey{two}, nil)
		quorum.Quorum = false
		wants(t, err, HasQuorum, quorum.Member)
		text := err.Error()
		if !strings.HasPrefix(text, "member "+quorum.Member.String()+" has quorum") || strings.Contains(text, "this member") {
			t.Errorf("%q", text)
		}
	}
	_, err := New(planA, one, nil, nil, nil)
	if text := err.Error(); !strings.HasPrefix(text, "no survivor is listed") {
		t.Errorf("%q", text)
	}
}
