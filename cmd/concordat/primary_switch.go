package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/concordatdb/concordat"
	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/internal/server"
	"github.com/concordatdb/concordat/proto/concordat/admin/v1"
)

// switchFlags are the flags of the commands that change who writes, or the
// protocol.
type switchFlags struct {
	clientFlags

	plan, insist bool
	reason       string
	grace        duration
	drains       bool // it takes somebody's right to write, who gets a grace
}

func (f *switchFlags) register(cmd *cobra.Command) {
	f.registerWaiting(cmd, "until the change is made")
	f.registerJSON(cmd)
	cmd.Flags().BoolVar(&f.plan, "plan", false, "show what would be done and what speaks against it, and change nothing")
	cmd.Flags().BoolVar(&f.insist, "insist", false, "make the change although members are RECOVERING or UNREACHABLE")
	cmd.Flags().StringVar(&f.reason, "reason", "", "why, on one `line`, for the history")
}

func (f *switchFlags) registerGrace(cmd *cobra.Command) {
	f.drains, f.grace = true, duration(concordat.DefaultGrace)
	cmd.Flags().Var(&f.grace, "grace", "how long transactions get to finish where the right to write is taken away; 0s: not at all")
}

// member returns the UUID of a member that is named by UUID or address.
func (f *switchFlags) member(ctx context.Context, c *server.Client, name string) (string, error) {
	if checkUUID(name) == nil {
		return name, nil
	}
	s, err := c.Status(ctx, &adminpb.StatusRequest{})
	if err != nil {
		return "", err
	}
	var known []string
	for _, m := range s.GetView().GetMembers() {
		if name == m.GetAddress() || name == m.GetClientAddress() {
			return m.GetUuid(), nil
		}
		known = append(known, at(s.GetView(), m.GetUuid()))
	}
	return "", usagef("%q is neither the UUID nor an address of a member; there are %s", name, strings.Join(known, ", "))
}

// run makes a planned change, shows what it waits for, and prints what became of
// it.
func (f *switchFlags) run(ctx context.Context, cmd *cobra.Command, c *server.Client, r *adminpb.PlanActionRequest) error {
	id, err := gtid.NewUUID(rand.Reader)
	if err != nil {
		return err
	}
	r.Terms = &adminpb.SwitchTerms{Id: id.String(), Insist: f.insist, Reason: f.reason}
	if f.drains {
		grace := int64(f.grace)
		r.Terms.GraceNanos = &grace
	}
	if f.plan {
		return f.showPlan(ctx, cmd.OutOrStdout(), c, r)
	}
	type end struct {
		action *adminpb.Action
		err    error
	}
	ended := make(chan end, 1)
	go func() {
		a, err := switchNow(ctx, c, r)
		ended <- end{a, err}
	}()
	ticker := time.NewTicker(progressInterval)
	defer ticker.Stop()
	for last := ""; ; {
		select {
		case e := <-ended:
			if e.err != nil {
				return f.explain(e.err, id.String())
			}
			return f.switched(ctx, cmd.OutOrStdout(), c, e.action)
		case <-ticker.C:
			last = f.progress(ctx, cmd.ErrOrStderr(), c, id.String(), last)
		}
	}
}

// switchNow asks for the change. It returns once that is made.
func switchNow(ctx context.Context, c *server.Client, r *adminpb.PlanActionRequest) (*adminpb.Action, error) {
	mode := adminpb.Mode_MODE_UNSPECIFIED
	switch r.GetKind() {
	case adminpb.Action_KIND_TO_SINGLE:
		mode = adminpb.Mode_MODE_SINGLE_PRIMARY
	case adminpb.Action_KIND_TO_MULTI:
		mode = adminpb.Mode_MODE_MULTI_PRIMARY
	case adminpb.Action_KIND_SET_PRIMARY:
		done, err := c.SetPrimary(ctx, &adminpb.SetPrimaryRequest{Member: r.GetMember(), Terms: r.GetTerms()})
		return done.GetAction(), err
	case adminpb.Action_KIND_SET_PROTOCOL:
		done, err := c.SetProtocol(ctx, &adminpb.SetProtocolRequest{Protocol: r.GetProtocol(), Terms: r.GetTerms()})
		return done.GetAction(), err
	default:
	}
	done, err := c.SwitchMode(ctx, &adminpb.SwitchModeRequest{Mode: mode, Member: r.GetMember(), Terms: r.GetTerms()})
	return done.GetAction(), err
}

// explain adds to an error what can be done next. What nobody can tell yet may be
// made: that the command ends takes nothing back.
func (f *switchFlags) explain(err error, id string) error {
	if refused, ok := errors.AsType[*concordat.RefusedError](err); ok && refused.Forceable {
		return fmt.Errorf("%w (--insist)", err)
	}
	if !errors.Is(err, concordat.ErrOutcomeUnknown) {
		return err
	}
	return fmt.Errorf("%w\nthe planned change is not taken back by that, and goes on by itself\nsee what becomes of it: concordat primary action %s --address %s\ntake it back: concordat primary cancel %s --address %s",
		err, id, f.addresses[0], id, f.addresses[0])
}

// switched prints what became of a change, and what the group looks like then.
// That the latter cannot be had is no failure of the change.
func (f *switchFlags) switched(ctx context.Context, w io.Writer, c *server.Client, a *adminpb.Action) error {
	if f.json {
		return printJSON(w, actionOf(a))
	}
	say(w, "%s: %s (%s)\n", word(a.GetResult(), "RESULT_"), a.GetText(), shortTime(a.GetTookNanos()))
	s, err := c.Status(ctx, &adminpb.StatusRequest{})
	if err == nil && s.GetDiagnosis().GetCode() != "" {
		say(w, "%s: %s\n", s.GetDiagnosis().GetCode(), s.GetDiagnosis().GetText())
	}
	return nil
}

// shortTime rounds what mostly is a part of a second.
func shortTime(nanos int64) string {
	d := time.Duration(nanos)
	if d < time.Second {
		return d.Round(time.Millisecond).String()
	}
	return shortDuration(d)
}

// progress prints what the change waits for unless it was the last thing printed.
func (f *switchFlags) progress(ctx context.Context, w io.Writer, c *server.Client, id, last string) string {
	r, err := c.GetAction(ctx, &adminpb.GetActionRequest{Id: id})
	if err != nil || r.GetAction() == nil {
		return last
	}
	s, err := c.Status(ctx, &adminpb.StatusRequest{})
	if err != nil {
		return last
	}
	text := f.waitsFor(ctx, s, r.GetAction())
	if !f.json && text != last {
		say(w, "%s\n", text)
	}
	return text
}

// waitsFor says what an action waits for.
func (f *switchFlags) waitsFor(ctx context.Context, s *adminpb.StatusResponse, a *adminpb.Action) string {
	if a.GetResult() != adminpb.Action_RESULT_UNSPECIFIED {
		return fmt.Sprintf("%s: %s; waits until %s has applied what is older", word(a.GetResult(), "RESULT_"), a.GetText(), at(s.GetView(), a.GetTarget()))
	}
	var waits []string
	for _, member := range a.GetPending() {
		what := at(s.GetView(), member)
		if n, _ := f.running(ctx, s, member); n > 0 {
			what = plural(n, "transaction") + " at " + what
		}
		waits = append(waits, what)
	}
	return "waits for " + strings.Join(waits, ", and for ")
}

// askPatience bounds the question to a member that is not the one that was given.
const askPatience = 500 * time.Millisecond

// running is how many transactions a member runs that may write. known is false if
// it does not say.
func (f *switchFlags) running(ctx context.Context, s *adminpb.StatusResponse, member string) (n uint64, known bool) {
	if member == s.GetMember() {
		return s.GetRunning(), true
	}
	address := memberIn(s.GetView(), member).GetClientAddress()
	if address == "" {
		return 0, false
	}
	c, err := f.dial(address)
	if err != nil {
		return 0, false
	}
	defer func() { _ = c.Close() }()
	ctx, cancel := context.WithTimeout(ctx, askPatience)
	defer cancel()
	own, err := c.Status(ctx, &adminpb.StatusRequest{})
	if err != nil || own.GetMember() != member {
		return 0, false
	}
	return own.GetRunning(), true
}

// actionJSON is a planned change in all --json. Its fields stay.
type actionJSON struct {
	ID          string   `json:"id"`
	Kind        string   `json:"kind"`
	Result      string   `json:"result"` // "under way" until it has ended
	Text        string   `json:"text,omitempty"`
	Target      string   `json:"target,omitempty"`
	Asker       string   `json:"asker,omitempty"`
	Reason      string   `json:"reason,omitempty"`
	Pending     []string `json:"pending"`
	Cut         uint64   `json:"cut"` // transactions that still ran when the grace was over
	Epoch       uint64   `json:"epoch"`
	Index       uint64   `json:"index"`
	TookSeconds float64  `json:"took_seconds,omitempty"`
}

func actionOf(a *adminpb.Action) *actionJSON {
	if a == nil {
		return nil
	}
	return &actionJSON{
		a.GetId(), word(a.GetKind(), "KIND_"), resultText(a), a.GetText(), a.GetTarget(), a.GetAsker(), a.GetReason(),
		append([]string{}, a.GetPending()...), a.GetCut(), a.GetEpoch(), a.GetIndex(), time.Duration(a.GetTookNanos()).Seconds(),
	}
}

func resultText(a *adminpb.Action) string {
	if a.GetResult() == adminpb.Action_RESULT_UNSPECIFIED {
		return "under way"
	}
	return word(a.GetResult(), "RESULT_")
}

func printAction(w io.Writer, v *adminpb.View, a *adminpb.Action, asJSON bool) error {
	if asJSON {
		return printJSON(w, actionOf(a))
	}
	var pending []string
	for _, member := range a.GetPending() {
		pending = append(pending, at(v, member))
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, line := range [][2]string{
		{"action", a.GetId()},
		{"kind", word(a.GetKind(), "KIND_")},
		{"result", resultText(a)},
		{"", a.GetText()},
		{"target", at(v, a.GetTarget())},
		{"asked at", at(v, a.GetAsker())},
		{"reason", a.GetReason()},
		{"waits for", strings.Join(pending, ", ")},
		{"epoch", strconv.FormatUint(a.GetEpoch(), 10)},
		{"log index", strconv.FormatUint(a.GetIndex(), 10)},
	} {
		if line[0] == "waits for" && a.GetResult() != adminpb.Action_RESULT_UNSPECIFIED {
			line[0] = "waited for"
		}
		if line[1] != "" {
			say(t, "%s\t%s\n", line[0], line[1])
		}
	}
	return t.Flush()
}

// openActionText tells of a planned change that is under way.
func openActionText(v *adminpb.View, a *adminpb.Action) string {
	text := fmt.Sprintf("planned change %s (%s", a.GetId(), word(a.GetKind(), "KIND_"))
	if a.GetTarget() != "" {
		text += ", primary is to be " + a.GetTarget()
	}
	var pending []string
	for _, member := range a.GetPending() {
		pending = append(pending, at(v, member))
	}
	return fmt.Sprintf("%s) waits for %s; concordat primary cancel takes it back", text, strings.Join(pending, ", "))
}

// actionPlanJSON is what --plan --json prints. Its fields stay.
type actionPlanJSON struct {
	Kind      string   `json:"kind"`
	Mode      string   `json:"mode"` // now
	Primary   string   `json:"primary,omitempty"`
	Target    string   `json:"target,omitempty"`
	Pending   []string `json:"pending"`
	NoChange  bool     `json:"no_change"`
	Refused   string   `json:"refused,omitempty"`
	Forceable bool     `json:"forceable"`
}

// showPlan prints what a change would do. What would be refused is an error.
func (f *switchFlags) showPlan(ctx context.Context, w io.Writer, c *server.Client, r *adminpb.PlanActionRequest) error {
	answer, err := c.PlanAction(ctx, r)
	if err != nil {
		return err
	}
	s, err := c.Status(ctx, &adminpb.StatusRequest{})
	if err != nil {
		return err
	}
	p := answer.GetPlan()
	if f.json {
		err = printJSON(w, actionPlanJSON{
			word(p.GetKind(), "KIND_"), modeName(s.GetMode()), s.GetPrimary(), p.GetTarget(), append([]string{}, p.GetPending()...),
			p.GetNoChange(), p.GetRefused(), p.GetForceable(),
		})
	} else {
		f.printPlan(ctx, w, s, r, p)
	}
	if err == nil && p.GetRefused() != "" {
		err = errRefusedPlan
	}
	return err
}

func (f *switchFlags) printPlan(ctx context.Context, w io.Writer, s *adminpb.StatusResponse, r *adminpb.PlanActionRequest, p *adminpb.ActionPlan) {
	say(w, "plan: %s\n\n", word(p.GetKind(), "KIND_"))
	if r.GetKind() == adminpb.Action_KIND_SET_PROTOCOL {
		say(w, "protocol: %d now, then %d\n", s.GetProtocol(), r.GetProtocol())
	} else {
		say(w, "who may write now: %s\n", named(s.GetView(), writersIn(s.GetView())))
		then := "all that are ONLINE and of the lowest version"
		if p.GetKind() != adminpb.Action_KIND_TO_MULTI {
			then = named(s.GetView(), []string{p.GetTarget()})
		}
		say(w, "who may write then: %s\n", then)
	}
	for _, member := range p.GetPending() {
		text := at(s.GetView(), member)
		if n, known := f.running(ctx, s, member); known {
			text += ", which runs " + plural(n, "transaction") + " now"
		}
		say(w, "waits for: %s\n", text)
	}
	if len(p.GetPending()) > 0 {
		say(w, "for at most: %s\n", time.Duration(f.grace))
	}
	if p.GetNoChange() && p.GetRefused() == "" {
		say(w, "\nit is so already\n")
	}
	if p.GetRefused() != "" {
		say(w, "\nrefused: %s%s\n", p.GetRefused(), map[bool]string{true: "; --insist insists"}[p.GetForceable()])
	}
	say(w, "\nnothing was changed\n")
}

// named lists members with their addresses.
func named(v *adminpb.View, members []string) string {
	var out []string
	for _, m := range members {
		if m != "" {
			out = append(out, at(v, m))
		}
	}
	if len(out) == 0 {
		return "nobody"
	}
	return strings.Join(out, ", ")
}
