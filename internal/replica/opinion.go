package replica

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/concordatdb/concordat/election"
	"github.com/concordatdb/concordat/gcs"
)

const (
	// contactTicks is how old a sign of life may be that counts for a majority:
	// three rounds of reports.
	contactTicks = 6
	// hearsayTicks is how much later than silence it is known that a member does
	// not hear this one: its reports come in rounds.
	hearsayTicks = 4
	// askTicks is the least time between two proposals of one member to change the
	// primary.
	askTicks = 4
	// passedTimes is for how long a member that was deposed for its silence is
	// passed over, in times of FailoverTicks.
	passedTimes = 10
)

// opinions are what this member believes of others, and what it has proposed for
// that. Nothing in it is replicated; what comes of it is judged where it stands
// in the log.
type opinions struct {
	steady  int // ticks for which it has heard a majority without a gap
	primary uint64
	unready int // ticks for which the primary has told that it serves nobody
	action  election.Action
	since   int // tick at which it came to know of the open action

	asked    uint64 // term in which it proposed a change of the primary that is not delivered, 0 for none
	askedAt  int    // tick of the last such proposal, 0 for never
	lapsed   uint64 // the same for the end of a grace
	cancels  bool   // it has proposed to cancel the open action, which is not delivered
	campaign int    // tick at which it last asked for the lead

	deposed []deposed // lately, for their silence
}

type deposed struct {
	id uint64
	at int // tick
}

// tendElection does what this member can do for there to be a primary that
// serves, once a tick.
func (r *Replica) tendElection() {
	o := &r.opinions
	s := r.elect.Snapshot()
	st := r.group.Status()
	o.observe(r, &s, &st)
	if s.Mode != election.SinglePrimary && s.Action == nil || s.Epoch == 0 {
		return
	}
	if !st.Leading {
		r.campaign(&s, &st)
		return
	}
	if o.steady < contactTicks {
		return // it may be its own fault that it hears so little
	}
	if s.Mode == election.SinglePrimary && (s.Primary == 0 || r.useless(s.Primary) != "") {
		r.depose(&s, &st)
		return
	}
	if s.Action != nil {
		r.tendAction(&s, &st)
	}
}

// observe counts the time for which something has been so.
func (o *opinions) observe(r *Replica, s *election.Snapshot, st *gcs.Status) {
	heard := 0
	for _, m := range st.View.Members {
		if m.State == gcs.Online && r.group.Silent(m.RaftID) <= contactTicks {
			heard++
		}
	}
	o.steady++
	if heard < st.View.Quorum() {
		o.steady = 0
	}
	o.unready++
	if o.primary != s.Primary || s.Primary == 0 || r.ready(s.Primary, st) {
		o.primary, o.unready = s.Primary, 0
	}
	if s.Action != nil && s.Action.ID != o.action.ID {
		o.action, o.since, o.cancels = *s.Action, r.ticks, false
	}
	o.deposed = slices.DeleteFunc(o.deposed, func(d deposed) bool { return r.ticks-d.at > passedTimes*r.cfg.FailoverTicks })
}

// ready reports whether a member has not said that it serves nobody. With a disk
// that does not answer it acknowledges nothing, whatever others commit for it.
func (r *Replica) ready(id uint64, st *gcs.Status) bool {
	if id == r.cfg.Group.Identity.RaftID {
		return r.state() == Online && !st.Stalled
	}
	for _, p := range st.Peers {
		if p.RaftID == id {
			return !p.Report.Unready && !p.Report.Recovering && !p.Report.Stalled
		}
	}
	return true
}

// useless says why a primary, or who might be one, can serve nobody as far as
// this member can see, "" if it can: it is not heard, it hears this member no
// more, so that a cut of one direction is no different, its data differ from what
// the others have, or it has not come to serve. That nobody but this leader misses it does not save it: without the
// leader it commits nothing.
func (r *Replica) useless(id uint64) string {
	limit, self := r.cfg.FailoverTicks, r.cfg.Group.Identity.Member
	m, _ := r.elect.Member(id)
	switch silent, contact := r.group.Silent(id), r.group.Contact(id); {
	case silent >= limit:
		return fmt.Sprintf("%s has not heard %s for %d ticks", self, m.UUID, silent)
	case contact >= limit+hearsayTicks:
		return fmt.Sprintf("%s has not heard %s, which leads, for %d ticks", m.UUID, self, contact)
	case r.checks.state.Blamed(id):
		return fmt.Sprintf("a state check has found that the data of %s are not what the others have", m.UUID)
	case id == r.opinions.primary && r.opinions.unready >= limit:
		return fmt.Sprintf("%s has told for %d ticks that it serves nobody: it is RECOVERING, or its disk does not answer", m.UUID, r.opinions.unready)
	}
	return ""
}

// passed are the members that had better not become primary, ascending: those
// that could serve nobody, and those that have lately been deposed for silence
// and may fall silent again.
func (r *Replica) passed(s *election.Snapshot, st *gcs.Status) (ids []uint64) {
	for _, m := range s.Members {
		lately := slices.ContainsFunc(r.opinions.deposed, func(d deposed) bool { return d.id == m.RaftID })
		if m.Online && (lately || r.useless(m.RaftID) != "" || !r.ready(m.RaftID, st)) {
			ids = append(ids, m.RaftID)
		}
	}
	return ids
}

// progress is how far the members have applied the log, if that is to count.
func (r *Replica) progress(st *gcs.Status) []election.Progress {
	if !r.prefer() {
		return nil
	}
	all := []election.Progress{{RaftID: r.cfg.Group.Identity.RaftID, Applied: r.applied}}
	for _, p := range st.Peers {
		if p.Report.Applied > 0 {
			all = append(all, election.Progress{RaftID: p.RaftID, Applied: p.Report.Applied})
		}
	}
	slices.SortFunc(all, func(a, b election.Progress) int { return cmp.Compare(a.RaftID, b.RaftID) })
	return all
}

// heir is who would become primary if the present one were deposed now, 0 if
// nobody would that can serve.
func (r *Replica) heir(s *election.Snapshot, st *gcs.Status, passed []uint64) uint64 {
	winner := election.Choose(election.Ballot{
		Members: s.Members, Deposed: s.Primary, Passed: passed, Progress: r.progress(st), Rules: election.OurRules,
	}).Winner
	if a := s.Action; a != nil && !slices.Contains(passed, a.Target) {
		winner = a.Target
	}
	if winner == 0 || r.useless(winner) != "" || !r.ready(winner, st) {
		return 0
	}
	return winner
}

// depose proposes that another member becomes primary. One proposal in a term is
// under way at most: it is delivered, or void in any other term.
func (r *Replica) depose(s *election.Snapshot, st *gcs.Status) {
	passed := r.passed(s, st)
	o := &r.opinions
	if o.asked == st.Term || o.askedAt != 0 && r.ticks-o.askedAt < askTicks || r.heir(s, st, passed) == 0 {
		return
	}
	evidence := []string{"there is no primary"}
	if s.Primary != 0 {
		evidence = []string{r.useless(s.Primary)}
	}
	for _, id := range passed {
		if why := r.useless(id); why != "" && id != s.Primary {
			evidence = append(evidence, why)
		}
	}
	o.asked, o.askedAt = st.Term, r.ticks
	r.submit(localMessage{kind: kindDepose, ticket: st.Term}, election.AppendDeposal([]byte{kindDepose}, election.Deposal{
		Epoch: s.Epoch, Term: st.Term, Target: s.Primary,
		Passed:   slices.DeleteFunc(passed, func(id uint64) bool { return id == s.Primary }),
		Progress: r.progress(st), Evidence: strings.Join(evidence, "; "),
	}))
}

// tendAction ends an open action whose target has fallen silent, or whose grace
// is over by this leader's clock.
func (r *Replica) tendAction(s *election.Snapshot, st *gcs.Status) {
	a, o := s.Action, &r.opinions
	switch {
	case r.group.Silent(a.Target) >= r.cfg.FailoverTicks:
		if !o.cancels {
			o.cancels = true
			r.submit(localMessage{}, election.AppendCancel([]byte{kindCancel}, a.ID))
		}
	case r.ticks-o.since >= r.inTicks(a.Grace)+r.cfg.FailoverTicks && o.lapsed != st.Term:
		o.lapsed = st.Term
		r.submit(localMessage{kind: kindGraceOver, ticket: st.Term},
			election.AppendLapse([]byte{kindGraceOver}, election.Lapse{Action: a.ID, Term: st.Term}))
	}
}

// inTicks is a time in milliseconds, rounded up.
func (r *Replica) inTicks(ms uint64) int {
	grace := time.Duration(min(ms, election.MaxGrace)) * time.Millisecond
	return int((grace + r.cfg.Tick - 1) / r.cfg.Tick)
}

// campaign asks for the lead when the leader was the primary, has fallen silent,
// and this member is the one to follow it as primary. By then nobody is bound to
// the old leader any more, so that lead and primary meet on one member without
// the chances of an election.
func (r *Replica) campaign(s *election.Snapshot, st *gcs.Status) {
	self, o := r.cfg.Group.Identity.RaftID, &r.opinions
	switch {
	case s.Mode != election.SinglePrimary || s.Primary == 0 || s.Primary == self:
	case st.Leader != 0 && st.Leader != s.Primary:
	case r.group.Silent(s.Primary) < r.cfg.FailoverTicks:
	case o.campaign != 0 && r.ticks-o.campaign < r.cfg.FailoverTicks:
	case r.heir(s, st, r.passed(s, st)) == self:
		o.campaign = r.ticks
		r.group.Campaign()
	}
}

// noteOpinion takes back that a message of this session is under way.
func (o *opinions) noteOpinion(m localMessage) {
	switch {
	case m.kind == kindDepose && m.ticket == o.asked:
		o.asked = 0
	case m.kind == kindGraceOver && m.ticket == o.lapsed:
		o.lapsed = 0
	}
}
