package concordat

import (
	"context"
	crand "crypto/rand"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/concordatdb/concordat/gcs"
	"github.com/concordatdb/concordat/gcs/transport"
	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/internal/forced"
	"github.com/concordatdb/concordat/internal/standing"
	"github.com/concordatdb/concordat/proto/concordat/peer/v1"
)

// ForcePlan is what imposing a membership would do, to whom, and what may be
// lost by it.
type ForcePlan = forced.Plan

// ForceReport is what a run of a plan has come to.
type ForceReport = forced.Report

// ForceRefusedError says why a membership is not forced, or a step of it not
// taken. It matches [ErrRefused].
type ForceRefusedError struct{ Cause *forced.RefusedError }

// Error says what is wrong and what to do.
func (e *ForceRefusedError) Error() string { return fmt.Sprintf("%v: %v", ErrRefused, e.Cause) }

// Is reports whether target is ErrRefused.
func (e *ForceRefusedError) Is(target error) bool { return target == ErrRefused }

// Unwrap returns the cause.
func (e *ForceRefusedError) Unwrap() error { return e.Cause }

// forceError is err as callers of this package get it.
func forceError(err error) error {
	if refused, ok := errors.AsType[*forced.RefusedError](err); ok {
		return &ForceRefusedError{Cause: refused}
	}
	return err
}

// patience is how long a member is given for a step. Aligning takes as long as
// its data do, so only the caller's ctx bounds that.
type patience struct{ survey, step time.Duration }

var defaultPatience = patience{survey: 5 * time.Second, step: 30 * time.Second}

// stepAttempts is how often a member is asked for a step.
const stepAttempts = 3

// ForceOption changes how a plan of force-members is drawn.
type ForceOption func(*forceOptions)

type forceOptions struct{ supersedes []gtid.UUID }

// Supersede has a new plan take over the members that are frozen for earlier
// ones. Those must not be carried out any more by anybody: where a member has
// gone over by one of them already, or still could, the new plan is refused. It
// says nothing to a plan that is gone on with.
func Supersede(plans ...gtid.UUID) ForceOption {
	return func(o *forceOptions) { o.supersedes = append(o.supersedes, plans...) }
}

// PlanForceMembers draws a plan that imposes a membership on a group that has
// lost its quorum: exactly these members, of which this must be one. It asks
// everybody in the view, and changes nothing. The error is a
// *ForceRefusedError where the plan cannot be.
func (n *Node) PlanForceMembers(ctx context.Context, members []gtid.UUID, opts ...ForceOption) (plan ForcePlan, err error) {
	id, err := gtid.NewUUID(crand.Reader)
	if err != nil {
		return ForcePlan{}, err
	}
	err = n.whileOpen(ctx, func(ctx context.Context) (err error) {
		plan, _, err = n.drawPlan(ctx, id, members, opts)
		return err
	})
	return plan, err
}

// whileOpen does something that ends with the node, which is not closed before.
func (n *Node) whileOpen(ctx context.Context, do func(ctx context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer n.atEnd(cancel)()
	result := make(chan error, 1)
	if !n.helpers.run(func() { result <- do(ctx) }) {
		return ErrClosed
	}
	return <-result
}

// atEnd has cancel called when the node is closed or fails, unless it is stopped
// before.
func (n *Node) atEnd(cancel context.CancelCauseFunc) (stop func() bool) {
	return context.AfterFunc(n.lifetime, func() { cancel(ErrClosed) })
}

// drawPlan draws a plan with an id. known reports whether somebody takes part in
// it already; then there is nothing to draw.
func (n *Node) drawPlan(ctx context.Context, id gtid.UUID, members []gtid.UUID, opts []ForceOption) (plan ForcePlan, known bool, err error) {
	own, err := n.ownSurvey(ctx)
	if err != nil {
		return plan, false, err
	}
	answers := n.surveyOthers(ctx, own)
	var o forceOptions
	for _, opt := range opts {
		opt(&o)
	}
	for _, a := range append(answers, own) {
		if a.Record.In(id) {
			return plan, true, forceError(sameSurvivors(&a.Record.Order, members))
		}
	}
	plan, err = forced.New(id, own, members, answers, o.supersedes)
	if err == nil {
		n.foretell(&plan)
	}
	return plan, false, forceError(err)
}

// foretell adds to a plan who is primary once it is carried out, and says so where
// that is another one than now.
func (n *Node) foretell(p *ForcePlan) {
	s := n.sight()
	if s.Election.Mode != SinglePrimary {
		return
	}
	// Who stays has answered, and a forced view takes back what is under way.
	sight := n.outlookOn(&s)
	sight.Unreachable, sight.Election.Action = nil, nil
	then := sight.Writers(gcs.View{Members: p.Members})
	p.Primary = then.Primary
	switch now, _ := s.Election.PrimaryMember(); {
	case then.Primary.IsZero():
		p.Warnings = append(p.Warnings, forced.Warning{Text: "no member can be primary then, and nobody writes"})
	case then.Primary != now.UUID:
		p.Warnings = append(p.Warnings, forced.Warning{Member: then.Primary, Text: "becomes the primary: " + then.Why})
	}
}

// sameSurvivors refuses to go on with a plan for other members than it is for.
func sameSurvivors(o *forced.Order, members []gtid.UUID) error {
	same := true
	for _, m := range members {
		_, ok := o.Member(m)
		same = same && ok
	}
	for _, m := range o.Members {
		same = same && slices.Contains(members, m.UUID)
	}
	if same {
		return nil
	}
	var survivors []gtid.UUID
	for _, m := range o.Members {
		survivors = append(survivors, m.UUID)
	}
	return &forced.RefusedError{Reason: forced.OtherPlan, Text: fmt.Sprintf(
		"plan %s was begun for the members %v, not for %v; list the same ones, or draw a new plan", o.Plan, survivors, members)}
}

// ForceMembers imposes the membership of a plan: the survivors stop, take over
// the longest of their logs, and go on as a new incarnation of the group, in
// which whoever is left out has no part. It may be called again with the same
// plan, on any survivor, after whatever came between; with members empty it
// only goes on with what was begun. It returns once this member has adopted the
// plan and every other survivor has been asked.
//
// It is the last resort: what only those who are left out have executed is
// lost, and if they live they must be stopped first. The report says what was
// known to be at risk.
func (n *Node) ForceMembers(ctx context.Context, plan gtid.UUID, members []gtid.UUID, opts ...ForceOption) (report ForceReport, err error) {
	err = n.whileOpen(ctx, func(ctx context.Context) (err error) {
		report, err = n.forceMembers(ctx, plan, members, opts)
		return err
	})
	return report, err
}

func (n *Node) forceMembers(ctx context.Context, plan gtid.UUID, members []gtid.UUID, opts []ForceOption) (ForceReport, error) {
	var c *forced.Coordinator
	own, err := n.ownSurvey(ctx)
	if err != nil {
		return ForceReport{}, err
	}
	if len(members) > 0 {
		drawn, known, err := n.drawPlan(ctx, plan, members, opts)
		if err != nil {
			return ForceReport{}, err
		}
		if !known {
			c = forced.Run(drawn)
		}
	}
	if c == nil {
		c = forced.Resume(plan, own)
	}
	n.note(EventForce, n.id.Member, "plan %s is being carried out", plan)
	report := n.coordinate(ctx, c)
	if part := n.partNow(); part.Phase == forced.Adopted && part.In(plan) {
		if executed, ok := n.executedAtFork(ctx, report.Plan.Ends); ok {
			// What is at risk stays so: a GTID of what was adopted and not yet
			// delivered may be another transaction's than the excluded executed.
			report.Plan.Executed, report.Plan.Known = executed, true
		}
	}
	n.note(EventForce, n.id.Member, "plan %s %s", plan, outcomeOfPlan(&report))
	if report.Err == nil && !report.Complete {
		return report, fmt.Errorf("concordat: plan %s is not carried out yet; run it again with its id: %w", plan, context.Cause(ctx))
	}
	return report, forceError(report.Err)
}

// executedAtFork waits until this member has gone over the end of an
// incarnation, and returns what the group had executed there.
func (n *Node) executedAtFork(ctx context.Context, incarnation gtid.UUID) (executed gtid.Set, ok bool) {
	ctx, cancel := context.WithTimeout(ctx, n.patience.survey)
	defer cancel()
	find := func() bool {
		for _, f := range n.known().Forks {
			if f.Incarnation == incarnation {
				executed, ok = f.Executed, true
			}
		}
		return ok
	}
	return executed, n.changed.until(ctx, find) == nil && ok
}

// answered is what came of a request.
type answered struct {
	request forced.Request
	survey  *forced.Survey
	answer  forced.Answer
	err     error
}

// coordinate drives a plan to its end, or to that of ctx. What is still asked then
// is given up, and what this member itself is doing goes on without anybody who
// waits for it.
func (n *Node) coordinate(ctx context.Context, c *forced.Coordinator) ForceReport {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	answers := make(chan answered)
	ask := func(r forced.Request) {
		a := n.ask(ctx, r)
		select {
		case answers <- a:
		case <-ctx.Done():
		}
	}
	for !c.Ended() {
		for _, r := range c.Requests() {
			if !n.helpers.run(func() { ask(r) }) {
				return c.Report()
			}
		}
		var a answered
		select {
		case a = <-answers:
		case <-ctx.Done():
			return c.Report()
		}
		switch id := a.request.To.RaftID; {
		case a.err != nil:
			c.Lost(id, a.request.Step, a.err.Error())
		case a.survey != nil:
			c.Surveyed(id, a.request.Step, *a.survey)
		default:
			n.note(EventForce, a.request.To.UUID, "%s: %s", a.request.Step, outcomeOfStep(a.answer))
			c.Answered(id, a.request.Step, a.answer)
		}
	}
	return c.Report()
}

func outcomeOfPlan(r *ForceReport) string {
	switch {
	case r.Err != nil:
		return "has ended: " + r.Err.Error()
	case r.Complete:
		return "is carried out"
	}
	return "is not carried out yet"
}

func outcomeOfStep(a forced.Answer) string {
	if a.Refused != nil {
		return a.Refused.Error()
	}
	return "it is " + a.Record.Phase.String()
}

// ask has a member take a step, this one or another.
func (n *Node) ask(ctx context.Context, r forced.Request) answered {
	out := answered{request: r}
	for attempt := 0; ; attempt++ {
		if out.err = n.askOnce(ctx, r, &out); out.err == nil || attempt+1 == stepAttempts || !pause(ctx, askAgain) {
			return out
		}
	}
}

func (n *Node) askOnce(ctx context.Context, r forced.Request, out *answered) error {
	patience := n.patience.step
	if r.Step.Surveys() {
		patience = n.patience.survey
	}
	if r.Step != forced.StepAlign {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, patience)
		defer cancel()
	}
	own := r.To.UUID == n.id.Member
	if r.Step.Surveys() {
		var s forced.Survey
		var err error
		if own {
			s, err = n.ownSurvey(ctx)
		} else {
			s, err = n.surveyAt(ctx, r.To.Address)
		}
		if err == nil {
			out.survey = &s
		}
		return err
	}
	if own {
		var err error
		out.answer, err = n.takeStep(ctx, r)
		return err
	}
	b, err := transport.Order(ctx, r.To.Address, n.transport.Identity(), r.Append(nil), n.cfg.TLS)
	if err == nil {
		out.answer, err = forced.DecodeAnswer(b)
	}
	return err
}

func (n *Node) surveyAt(ctx context.Context, address string) (forced.Survey, error) {
	ctx, cancel := context.WithTimeout(ctx, n.patience.survey)
	defer cancel()
	b, err := transport.Survey(ctx, address, n.transport.Identity(), n.cfg.TLS)
	if err != nil {
		return forced.Survey{}, err
	}
	return forced.DecodeSurvey(b)
}

// surveyOthers asks everybody else whom own knows of, at once.
func (n *Node) surveyOthers(ctx context.Context, own forced.Survey) (answers []forced.Survey) {
	results := make(chan *forced.Survey)
	for _, m := range own.View.Members {
		go func() {
			if m.UUID == own.Member {
				results <- nil
				return
			}
			s, err := n.surveyAt(ctx, m.Address)
			if err != nil {
				n.logger.Info("survey", "member", n.id.Member, "of", m.UUID, "err", err)
				results <- nil
				return
			}
			results <- &s
		}()
	}
	for range own.View.Members {
		if s := <-results; s != nil {
			answers = append(answers, *s)
		}
	}
	return answers
}

// takeStep takes a step of a plan. An error says that it is not known whether
// the step was taken; a refusal is an answer.
func (n *Node) takeStep(ctx context.Context, r forced.Request) (a forced.Answer, err error) {
	if a, done, err := n.foresee(ctx, r); done || err != nil {
		return a, err
	}
	err = n.order(ctx, func(ctx context.Context) (phase, error) {
		next := n.interrupted
		var err error
		switch r.Step {
		case forced.StepFreeze:
			next, err = n.freeze(ctx, r.Order)
		case forced.StepAlign:
			err = n.align(ctx, r.Decision)
		case forced.StepAdopt:
			next, err = n.adopt(r.Decision)
		default:
			err = fmt.Errorf("%w: a plan has no step %d", ErrInvalid, r.Step)
		}
		if err == nil {
			a.Record = n.partNow()
		}
		if refused, ok := errors.AsType[*forced.RefusedError](err); ok {
			a.Refused, err = refused, nil
		}
		return next, err
	})
	return a, err
}

// partNow is the part that this member has in a plan.
func (n *Node) partNow() forced.Record {
	if p := n.part.Load(); p != nil {
		return *p
	}
	return forced.Record{}
}

// foresee answers for a step that would be refused, or has been taken, without
// stopping anything for it. Only who is frozen has more to do than to freeze.
func (n *Node) foresee(ctx context.Context, r forced.Request) (a forced.Answer, done bool, err error) {
	part, changed := n.partNow(), false
	switch {
	case r.Step == forced.StepFreeze:
		var s forced.Survey
		if s, err = n.ownSurvey(ctx); err != nil {
			return a, false, err
		}
		part, changed, err = s.Record.Freeze(r.Order, s)
	case part.Phase == forced.Frozen:
		return a, false, nil
	default:
		_, err = part.Align(r.Decision, n.log)
	}
	if refused, ok := errors.AsType[*forced.RefusedError](err); ok {
		return forced.Answer{Refused: refused}, true, nil
	}
	return forced.Answer{Record: part}, !changed, err
}

// keep stores the part that this member has in a plan.
func (n *Node) keep(p forced.Record) error {
	r := n.recordNow()
	r.Plan = p.Append(nil)
	if err := n.remember(r); err != nil {
		return err
	}
	n.part.Store(&p)
	return nil
}

// freeze stops this member for a plan. The life before has ended, and what it
// wrote is on disk.
func (n *Node) freeze(ctx context.Context, o forced.Order) (phase, error) {
	part, back := n.partNow(), n.interrupted
	s, err := n.stoppedSurvey(ctx)
	if err != nil {
		return back, err
	}
	next, changed, err := part.Freeze(o, s)
	if err != nil || !changed {
		return back, err
	}
	if err := n.keep(next); err != nil {
		return back, err
	}
	n.note(EventForce, n.id.Member, "frozen for plan %s", o.Plan)
	return n.frozen, nil
}

// frozen is the phase of a member that takes no part in its group until the plan
// it is frozen for goes on, or another one takes its place.
func (n *Node) frozen(ctx context.Context) phase {
	p := n.partNow()
	if n.frozenFor.Swap(&p.Order.Plan) == nil {
		if n.state() == Offline { // after a restart
			n.move(standing.Opened)
			n.entering = standing.NewSession
		}
		n.move(standing.Frozen)
	}
	s := n.frozenStanding(p)
	n.standing.Store(s)
	// Nothing is sent, but a peer that is of another incarnation says so.
	n.setPeers(s.View.Members...)
	n.quorum.set(false)
	n.changed.broadcast()
	<-ctx.Done()
	return nil
}

// frozenStanding is what is known of a frozen member: the view that it froze in.
func (n *Node) frozenStanding(p forced.Record) *known {
	s := n.known()
	s.Quorum, s.QuorumUnknown, s.Leader, s.Peers = false, false, 0, nil
	if s.View.ID == 0 {
		s.View = p.Facts.View
	}
	return &s
}

// align makes this member's log the seed's.
func (n *Node) align(ctx context.Context, d forced.Decision) error {
	n.aligning.Lock()
	defer n.aligning.Unlock()
	part := n.partNow()
	work, err := part.Align(d, n.log)
	if err != nil || work.Done() {
		return err
	}
	seed, ok := memberOf(d.Members, d.Seed)
	if !ok {
		return fmt.Errorf("%w: the decision names no seed", ErrInvalid)
	}
	n.note(EventForce, n.id.Member, "fetches the log from %d to %d from %s, and cuts %d entries of its own", work.From, work.To, seed.UUID, work.Cut)
	req := &peerpb.EntriesRequest{Identity: n.transport.Identity(), First: work.From, Last: work.To, PlanId: d.Plan[:]}
	return transport.Entries(ctx, seed.Address, req, n.cfg.TLS, func(entries []*raftpb.Entry) error {
		next, err := work.Take(&d, entries)
		if err != nil {
			return err
		}
		if err := n.log.Write([]gcs.LogWrite{{Entries: entries, Sync: true}}); err != nil {
			return err
		}
		work = next
		return nil
	})
}

func memberOf(members []gcs.Member, raftID uint64) (gcs.Member, bool) {
	for _, m := range members {
		if m.RaftID == raftID {
			return m, true
		}
	}
	return gcs.Member{}, false
}

// adopt takes this member over to the incarnation that a plan begins.
func (n *Node) adopt(d forced.Decision) (phase, error) {
	n.aligning.Lock()
	defer n.aligning.Unlock()
	part, back := n.partNow(), n.interrupted
	adoption, next, err := part.Adopt(d, n.log.Identity(), n.log)
	if err != nil || adoption == nil {
		return back, err
	}
	r := record{Plan: next.Append(nil)}
	if adoption.Record, err = r.encode(); err != nil {
		return back, err
	}
	if err := n.log.Adopt(*adoption); err != nil {
		return back, err
	}
	n.onRecord.Store(&r)
	n.part.Store(&next)
	n.note(EventForce, n.id.Member, "adopted plan %s: incarnation %s begins at log index %d", d.Plan, d.Begins, d.Last+1)
	return func(context.Context) phase {
		// Not before the order is answered: the transport waits for its handlers.
		n.id.Incarnation = d.Begins
		if err := n.transport.SetIdentity(n.id); err != nil {
			n.fail(err)
			return nil
		}
		n.frozenFor.Store(nil)
		n.setExit(nil)
		n.reports = nil
		n.entering = standing.Adopted
		return n.living
	}, nil
}
