package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/concordatdb/concordat/internal/server"
	"github.com/concordatdb/concordat/proto/concordat/admin/v1"
)

const forceHelp = `Impose a membership on a group that has lost its quorum for good. It is the last
resort: what only the members that are left out hold is lost, even if it was
acknowledged. Try first to bring back as many members as make a majority; the
group then heals by itself.

Name exactly the members that are to go on. Each must be in the group's view, and
running, and must not hear a majority; the node that is asked is one of them.
First they tell how far their logs go, which changes nothing, and the plan is
printed: whose log is the longest and becomes everybody's (the seed), what each
of the others has to fetch from it or to cut off its own, who is left out, and
which transactions are at risk and where they were last seen. Then it asks for
confirmation on the terminal; in a script give --yes. --plan ends after the plan.

Make sure that the members that are left out do not run, or cannot be reached by
clients. Should they come back, they are refused; concordat rejoin takes them
back, and lists the transactions that only they have, if there are any.

A plan that was interrupted is run again with its number: --plan-id and the same
--members. It goes on where it ended, and does nothing twice. A survivor that has
begun with a plan waits for it, or for a new one, also over a restart.

The command ends when its members are ONLINE. If one is not in time, the report
says so: the plan is done all the same.

While a member waits for a plan, another one is refused: somebody may be carrying
out the first. Two operators who begin at the same moment may stop each other.
If a plan is given up for good, name it in --supersede, and list in --members
those who wait for it; or stop them first.

A group that has its quorum is refused (exit code 7).`

// forceFlags are the flags of force-members.
type forceFlags struct {
	clientFlags

	members   []string
	plan, yes bool
	planID    string
	supersede []string
}

func newForceMembersCommand() *cobra.Command {
	var f forceFlags
	cmd := &cobra.Command{
		Use:   "force-members",
		Short: "Impose a membership on a group that has lost its quorum",
		Long:  forceHelp,
		Example: `  concordat force-members --members 00000000-0000-4000-8000-000000000001,00000000-0000-4000-8000-000000000002 --plan
  concordat force-members --members 00000000-0000-4000-8000-000000000001,00000000-0000-4000-8000-000000000002
  concordat force-members --members 00000000-0000-4000-8000-000000000001 --plan-id 1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed --yes`,
		Args: exactArgs(),
	}
	f.registerWaiting(cmd, "for the members that are named")
	f.registerJSON(cmd)
	cmd.Flags().StringSliceVar(&f.members, "members", nil, "`UUIDs` of the members that go on")
	cmd.Flags().BoolVar(&f.plan, "plan", false, "print the plan, and change nothing")
	cmd.Flags().BoolVar(&f.yes, "yes", false, "do not ask for confirmation")
	cmd.Flags().StringVar(&f.planID, "plan-id", "", "go on with the plan of this `UUID` instead of making one")
	cmd.Flags().StringSliceVar(&f.supersede, "supersede", nil, "`UUIDs` of plans that are given up, whose members this one takes over")
	cmd.RunE = f.call(func(ctx context.Context, cmd *cobra.Command, c *server.Client, _ []string) error {
		if err := f.check(); err != nil {
			return err
		}
		return f.run(ctx, cmd, c, interactive(os.Stdin))
	})
	return cmd
}

// interactive reports whether somebody can answer a question there.
func interactive(file *os.File) bool {
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

func (f *forceFlags) check() error {
	if len(f.members) == 0 {
		return usagef("name the members that go on with --members; concordat members lists them")
	}
	for i, m := range f.members {
		if err := checkUUID(m); err != nil {
			return err
		}
		if slices.Contains(f.members[:i], m) {
			return usagef("member %s is named twice", m)
		}
	}
	for _, p := range f.supersede {
		if checkUUID(p) != nil {
			return usagef("--supersede %q is not the UUID of a plan", p)
		}
	}
	if f.planID == "" {
		return nil
	}
	if f.plan {
		return usagef("--plan makes a plan, --plan-id goes on with one; choose")
	}
	if checkUUID(f.planID) != nil {
		return usagef("--plan-id %q is not the UUID of a plan", f.planID)
	}
	return nil
}

// forceJSON is what force-members --json prints. Its fields stay.
type forceJSON struct {
	Plan   *forcePlanJSON   `json:"plan,omitempty"`
	Report *forceReportJSON `json:"report,omitempty"`
}

// run plans, asks, and executes. somebody is whether a question can be
// answered on the standard input.
func (f *forceFlags) run(ctx context.Context, cmd *cobra.Command, c *server.Client, somebody bool) error {
	var out forceJSON
	id := f.planID
	question := "go on with plan " + id
	if id == "" {
		p, err := f.makePlan(ctx, cmd.OutOrStdout(), c)
		if err != nil {
			return err
		}
		out.Plan, id = planOfForce(p), p.GetId()
		question = "impose this membership"
		if f.plan || p.GetRefused() != "" {
			if f.json {
				err = printJSON(cmd.OutOrStdout(), out)
			}
			if p.GetRefused() != "" {
				err = errors.Join(err, errRefusedPlan)
			}
			return err
		}
	}
	if err := f.confirm(cmd.InOrStdin(), cmd.ErrOrStderr(), somebody, question); err != nil {
		return err
	}
	report, err := f.execute(ctx, cmd.ErrOrStderr(), c, id)
	if exitCode(err) == exitRefused {
		return err // it would be refused again
	}
	if err != nil {
		return fmt.Errorf("%w\nplan %s is not done as far as is known here; go on with it: concordat force-members --address %s --members %s --plan-id %s%s",
			err, id, f.addresses[0], strings.Join(f.members, ","), id, f.superseding())
	}
	states := awaitOnline(ctx, c, report)
	report.Warnings = append(report.Warnings, notOnline(report, states)...)
	if f.json {
		out.Report = reportOfForce(report, states)
		return printJSON(cmd.OutOrStdout(), out)
	}
	return printForceReport(cmd.OutOrStdout(), report, states)
}

// superseding is the flag as it was given, for a command that goes on.
func (f *forceFlags) superseding() string {
	if len(f.supersede) == 0 {
		return ""
	}
	return " --supersede " + strings.Join(f.supersede, ",")
}

func (f *forceFlags) makePlan(ctx context.Context, w io.Writer, c *server.Client) (*adminpb.ForcePlan, error) {
	r, err := c.PlanForceMembers(ctx, &adminpb.PlanForceMembersRequest{Members: f.members, Supersede: f.supersede})
	if err != nil || f.json {
		return r.GetPlan(), err
	}
	return r.GetPlan(), printForcePlan(w, r.GetPlan())
}

// confirm asks whether to go on. Only the whole word counts.
func (f *forceFlags) confirm(in io.Reader, w io.Writer, somebody bool, question string) error {
	if f.yes {
		return nil
	}
	answer := ""
	if somebody {
		say(w, "\nType yes to %s: ", question)
		answer, _ = bufio.NewReader(in).ReadString('\n') // what cannot be read is no yes
	}
	switch strings.TrimSpace(answer) {
	case "yes":
		return nil
	case "":
		return usagef("nobody has answered; give --yes to %s without a question; nothing was changed", question)
	}
	return errors.New("not confirmed; nothing was changed")
}

// execute runs the plan and tells of its steps meanwhile.
func (f *forceFlags) execute(ctx context.Context, w io.Writer, c *server.Client, id string) (*adminpb.ForceReport, error) {
	last := uint64(0)
	err := readHistory(ctx, c, &adminpb.HistoryRequest{}, func(part *adminpb.HistoryResponse) error {
		for _, e := range part.GetEvents() {
			last = max(last, e.GetSeq())
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	following, stop := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		// That the steps cannot be shown is no reason to end them.
		_ = readHistory(following, c, &adminpb.HistoryRequest{After: last, Follow: true}, func(part *adminpb.HistoryResponse) error {
			for _, e := range part.GetEvents() {
				if e.GetKind() == "FORCE_MEMBERS" {
					say(w, "%s\n", e.GetText())
				}
			}
			return nil
		})
	}()
	r, err := c.ForceMembers(ctx, &adminpb.ForceMembersRequest{Plan: id, Members: f.members, Supersede: f.supersede})
	stop()
	<-ended
	return r.GetReport(), err
}

func printForcePlan(w io.Writer, p *adminpb.ForcePlan) error {
	say(w, "plan %s: the membership after view %s of incarnation %s\n\n", p.GetId(), p.GetView().GetId(), p.GetView().GetIncarnation())
	if err := printSurvivors(w, p.GetSeed(), p.GetSurvivors()); err != nil {
		return err
	}
	if err := printLeftOut(w, p.GetExcluded(), p.GetAtRisk()); err != nil {
		return err
	}
	if p.GetExecuted() != "" {
		say(w, "\nsurvives: %s%s\n", oneLine(p.GetExecuted()), map[bool]string{false: " and perhaps more"}[p.GetExecutedComplete()])
	}
	if o := p.GetOutlookAfter(); o != nil {
		say(w, "\nthen: %s\n", outlookText(o))
	}
	printWarnings(w, p.GetWarnings())
	if p.GetRefused() != "" {
		say(w, "\nrefused: %s\n", p.GetRefused())
	}
	return nil
}

// survivorTask is what a survivor has to do to have the seed's log.
func survivorTask(s *adminpb.ForceSurvivor) string {
	switch {
	case s.GetCut() > 0 && s.GetFetch() > 0:
		return fmt.Sprintf("cut %d, fetch %d", s.GetCut(), s.GetFetch())
	case s.GetCut() > 0:
		return fmt.Sprintf("cut %d", s.GetCut())
	case s.GetFetch() > 0:
		return fmt.Sprintf("fetch %d", s.GetFetch())
	}
	return "nothing"
}

func printSurvivors(w io.Writer, seed string, survivors []*adminpb.ForceSurvivor) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	say(t, "GOES ON\tADDRESS\tROLE\tLAST TERM\tLAST ENTRY\tDELIVERED\tTO DO\tFROZEN FOR\n")
	for _, s := range survivors {
		role := "-"
		if s.GetMember() == seed {
			role = "seed"
		}
		say(t, "%s\t%s\t%s\t%d\t%d\t%d\t%s\t%s\n", s.GetMember(), s.GetAddress(), role, s.GetTerm(), s.GetLast(), s.GetDelivered(),
			survivorTask(s), orDash(s.GetFrozen()))
	}
	return t.Flush()
}

func printLeftOut(w io.Writer, excluded []*adminpb.ForceExcluded, risks []*adminpb.ForceRisk) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	if len(excluded) > 0 {
		say(t, "\nLEFT OUT\tADDRESS\tSTATE\tANSWERS\tLAST HEARD\tDELIVERED\n")
	}
	for _, x := range excluded {
		say(t, "%s\t%s\t%s\t%s\t%s\t%d\n", x.GetMember(), x.GetAddress(), stateName(x.GetState()), map[bool]string{true: "yes", false: "no"}[x.GetAnswers()],
			lastHeard(x), x.GetDelivered())
	}
	if len(risks) > 0 {
		say(t, "\nAT RISK\tLOG\tLAST SEEN ON\tADDRESS\n")
	}
	for _, r := range risks {
		say(t, "%s\t%s\t%s\t%s\n", orDash(oneLine(r.GetTransactions())), positions(r), orDash(r.GetMember()), orDash(r.GetAddress()))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if len(risks) == 0 {
		say(w, "\nno transaction is known to be at risk\n")
	}
	return nil
}

// lastHeard says how long no survivor has heard one that is left out.
func lastHeard(x *adminpb.ForceExcluded) string {
	switch {
	case x.GetAnswers():
		return "now"
	case x.GetHeardNanos() == 0:
		return "never"
	}
	return shortDuration(time.Duration(x.GetHeardNanos()))
}

// positions shows the log positions of what is at risk.
func positions(r *adminpb.ForceRisk) string {
	switch {
	case r.GetFirst() == 0:
		return "-"
	case r.GetFirst() == r.GetLast():
		return strconv.FormatUint(r.GetFirst(), 10)
	}
	return fmt.Sprintf("%d-%d", r.GetFirst(), r.GetLast())
}

func printForceReport(w io.Writer, r *adminpb.ForceReport, states []string) error {
	say(w, "plan %s is done: view %s, incarnation %s\n\n", r.GetPlan(), r.GetView().GetId(), r.GetView().GetIncarnation())
	if err := printSurvivors(w, r.GetSeed(), r.GetSurvivors()); err != nil {
		return err
	}
	if err := printLeftOut(w, r.GetExcluded(), r.GetAtRisk()); err != nil {
		return err
	}
	if len(notOnline(r, states)) == 0 {
		say(w, "\nall its members are ONLINE\n")
	}
	printWarnings(w, r.GetWarnings())
	return nil
}
