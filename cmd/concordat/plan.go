package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/concordatdb/concordat/internal/server"
	"github.com/concordatdb/concordat/proto/concordat/admin/v1"
)

// changeFlags are the flags of the commands that change the membership.
type changeFlags struct {
	clientFlags

	plan, force bool
	planAt      string
}

func (f *changeFlags) registerPlan(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&f.plan, "plan", false, "show what the group would be, and change nothing")
}

func (f *changeFlags) registerForce(cmd *cobra.Command, what string) {
	cmd.Flags().BoolVar(&f.force, "force", false, what)
}

// registerPlanAt is for commands whose --address is of a node that is in no
// group, and so cannot know what the group would be.
func (f *changeFlags) registerPlanAt(cmd *cobra.Command) {
	f.registerPlan(cmd)
	cmd.Flags().StringVar(&f.planAt, "plan-at", "", "with --plan: `host:port` on which a member of the group serves clients; it is asked instead")
}

// planJSON is what --plan --json prints. Its fields stay.
type planJSON struct {
	Verb         string       `json:"verb"`
	Member       string       `json:"member,omitempty"`
	Now          planViewJSON `json:"now"`
	After        planViewJSON `json:"after"`
	OutlookLater outlookJSON  `json:"outlook_later"` // once those have caught up that then do so
	Primaries    []string     `json:"primaries"`     // who may write after the change
	Warnings     []string     `json:"warnings"`
	Refused      string       `json:"refused,omitempty"`
	Forceable    bool         `json:"forceable"`
}

type planViewJSON struct {
	Members []memberJSON `json:"members"`
	Outlook outlookJSON  `json:"outlook"`
	Leader  string       `json:"leader,omitempty"`
}

// showPlan asks what a change would make of the group, and prints it. What
// would be refused is an error, unless force is given and helps.
func (f *changeFlags) showPlan(ctx context.Context, cmd *cobra.Command, c *server.Client, verb adminpb.Verb, member string) error {
	if f.planAt != "" {
		var err error
		if c, err = f.dial(f.planAt); err != nil {
			return err
		}
		defer func() { _ = c.Close() }()
	}
	r, err := c.Plan(ctx, &adminpb.PlanRequest{Verb: verb, Member: member})
	if err != nil {
		return err
	}
	p := r.GetPlan()
	name := word(verb, "VERB_")
	if f.json {
		err = printJSON(cmd.OutOrStdout(), planOf(name, member, p))
	} else {
		err = printPlan(cmd.OutOrStdout(), name, member, p)
	}
	if err == nil && p.GetRefused() != "" && !(f.force && p.GetForceable()) {
		err = errRefusedPlan
	}
	return err
}

func planOf(verb, member string, p *adminpb.Plan) planJSON {
	return planJSON{
		Verb: verb, Member: member,
		Now: planViewOf(p.GetView(), p.GetOutlook(), p.GetLeader()), After: planViewOf(p.GetViewAfter(), p.GetOutlookAfter(), p.GetLeaderAfter()),
		OutlookLater: outlookOf(p.GetOutlookLater()), Primaries: append([]string{}, p.GetPrimaries()...),
		Warnings: append([]string{}, p.GetWarnings()...), Refused: p.GetRefused(), Forceable: p.GetForceable(),
	}
}

func planViewOf(v *adminpb.View, o *adminpb.Outlook, leader string) planViewJSON {
	out := planViewJSON{Members: []memberJSON{}, Outlook: outlookOf(o), Leader: leader}
	for _, m := range v.GetMembers() {
		out.Members = append(out.Members, memberJSON{
			m.GetUuid(), m.GetRaftId(), m.GetAddress(), stateName(m.GetState()), m.GetUuid() == leader, libraryVersion(m.GetVersion()), m.GetWeight(),
			heardSeconds(m), neverHeard(m), m.GetDelivered(), "", m.GetClientAddress(),
		})
	}
	return out
}

// printPlan shows now, then, when the change is agreed, and later, when those
// have caught up that have to.
func printPlan(w io.Writer, verb, member string, p *adminpb.Plan) error {
	say(w, "plan: %s\n\n", strings.TrimSpace(verb+" "+member))
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	now, then, later := p.GetOutlook(), p.GetOutlookAfter(), p.GetOutlookLater()
	say(t, "\tNOW\tTHEN\tLATER\n")
	for _, l := range []struct {
		name  string
		value func(*adminpb.Outlook) uint32
	}{
		{"members", (*adminpb.Outlook).GetMembers},
		{"catching up", (*adminpb.Outlook).GetRecovering},
		{"voters", (*adminpb.Outlook).GetVoters},
		{"reachable", (*adminpb.Outlook).GetReachable},
		{"majority", (*adminpb.Outlook).GetQuorum},
		{"tolerance", (*adminpb.Outlook).GetTolerance},
	} {
		say(t, "%s\t%d\t%d\t%d\n", l.name, l.value(now), l.value(then), l.value(later))
	}
	say(t, "\nMEMBER\tADDRESS\tNOW\tTHEN\n")
	for _, m := range p.GetView().GetMembers() {
		say(t, "%s\t%s\t%s\t%s\n", m.GetUuid(), m.GetAddress(), stateName(m.GetState()), stateIn(p.GetViewAfter(), m))
	}
	for _, m := range p.GetViewAfter().GetMembers() {
		if stateIn(p.GetView(), m) == "-" {
			say(t, "%s\t%s\t-\t%s\n", orNewcomer(m.GetUuid()), orDash(m.GetAddress()), stateName(m.GetState()))
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if p.GetLeader() != "" {
		say(w, "\nleader: %s now, then %s\n", p.GetLeader(), orElected(p.GetLeaderAfter()))
	}
	say(w, "\nwho may write then: %s\n", cmp.Or(strings.Join(p.GetPrimaries(), ", "), "nobody"))
	printWarnings(w, p.GetWarnings())
	if p.GetRefused() != "" {
		say(w, "\nrefused: %s%s\n", p.GetRefused(), map[bool]string{true: "; --force insists"}[p.GetForceable()])
	}
	_, err := fmt.Fprint(w, "\nnothing was changed\n")
	return err
}

func printWarnings(w io.Writer, warnings []string) {
	for _, warning := range warnings {
		say(w, "\nWARNING: %s\n", warning)
	}
}

// stateIn returns the state of a member in a view, a dash if it is not there.
// Its raft id tells it from one that takes its name over.
func stateIn(v *adminpb.View, m *adminpb.Member) string {
	for _, other := range v.GetMembers() {
		if other.GetUuid() == m.GetUuid() && other.GetRaftId() == m.GetRaftId() {
			return stateName(other.GetState())
		}
	}
	return "-"
}

func orElected(leader string) string {
	if leader == "" {
		return "one that is to be elected"
	}
	return leader
}

func orNewcomer(member string) string {
	if member == "" {
		return "(the newcomer)"
	}
	return member
}
