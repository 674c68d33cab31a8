package server

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/concordatdb/concordat"
	"github.com/concordatdb/concordat/internal/outlook"
	"github.com/concordatdb/concordat/proto/concordat/admin/v1"
)

// PlanForceMembers implements adminpb.AdminServer.
func (a *admin) PlanForceMembers(ctx context.Context, r *adminpb.PlanForceMembersRequest) (*adminpb.PlanForceMembersResponse, error) {
	n, err := a.server.current()
	if err != nil {
		return nil, toStatus(err)
	}
	members, err := someUUIDs("members", r.GetMembers())
	if err != nil {
		return nil, toStatus(err)
	}
	supersede, err := someUUIDs("supersede", r.GetSupersede())
	if err != nil {
		return nil, toStatus(err)
	}
	p, err := n.PlanForceMembers(ctx, members, concordat.Supersede(supersede...))
	if err != nil {
		return nil, toStatus(undrawn(err))
	}
	return &adminpb.PlanForceMembersResponse{Plan: forcePlan(&p, n.TickInterval())}, nil
}

// ForceMembers implements adminpb.AdminServer.
func (a *admin) ForceMembers(ctx context.Context, r *adminpb.ForceMembersRequest) (*adminpb.ForceMembersResponse, error) {
	n, err := a.server.current()
	if err != nil {
		return nil, toStatus(err)
	}
	id, err := someUUID("plan", r.GetPlan())
	if err != nil {
		return nil, toStatus(err)
	}
	members, err := someUUIDs("members", r.GetMembers())
	if err != nil {
		return nil, toStatus(err)
	}
	supersede, err := someUUIDs("supersede", r.GetSupersede())
	if err != nil {
		return nil, toStatus(err)
	}
	report, err := n.ForceMembers(ctx, id, members, concordat.Supersede(supersede...))
	if err != nil {
		return nil, toStatus(err)
	}
	status := n.Status()
	return &adminpb.ForceMembersResponse{Report: forceReport(&status, &report, n.TickInterval())}, nil
}

// undrawn is why there is no plan. That a survivor does not answer is no refusal:
// the same order may do later.
func undrawn(err error) error {
	if r, ok := errors.AsType[*concordat.ForceRefusedError](err); ok && r.Cause.Unanswered() {
		return fmt.Errorf("%w: %s; nothing was changed", concordat.ErrNotOnline, r.Cause.Error())
	}
	return err
}

func forcePlan(p *concordat.ForcePlan, tick time.Duration) *adminpb.ForcePlan {
	after := p.View
	after.Members = p.Members
	return &adminpb.ForcePlan{
		Id: uuidText(p.Plan), View: endedView(p), Seed: seed(p),
		Survivors: survivors(p), Excluded: excluded(p, tick), AtRisk: atRisk(p), Warnings: warnings(p),
		OutlookAfter: outlookOf(outlook.Of(after, nil)),
		Executed:     p.Executed.String(), ExecutedComplete: p.Known, Primary: uuidText(p.Primary),
	}
}

func forceReport(status *concordat.Status, r *concordat.ForceReport, tick time.Duration) *adminpb.ForceReport {
	p := &r.Plan
	out := &adminpb.ForceReport{
		Plan: uuidText(p.Plan), Seed: seed(p), View: view(status.View),
		Survivors: survivors(p), Excluded: excluded(p, tick), AtRisk: atRisk(p),
	}
	out.View.Incarnation = uuidText(p.Begins)
	for i := range r.Members {
		if m := &r.Members[i]; m.Survivor && !m.Adopted {
			out.Warnings = append(out.Warnings, fmt.Sprintf("%s (%s) has not adopted the view yet: run the plan again with its id", m.Member.UUID, m.Member.Address))
		}
	}
	for i := range p.Excluded {
		if x := &p.Excluded[i]; x.Answers {
			out.Warnings = append(out.Warnings, fmt.Sprintf("%s (%s) was left out and alive: stop it, or bring it back with rejoin", x.Member.UUID, x.Member.Address))
		}
	}
	return out
}

// endedView is the view that lost its quorum. Who does not answer is
// UNREACHABLE.
func endedView(p *concordat.ForcePlan) *adminpb.View {
	out := &adminpb.View{Id: strconv.FormatUint(p.View.ID, 10), Index: p.View.Index, Incarnation: uuidText(p.View.Incarnation)}
	for _, m := range p.View.Members {
		of := concordat.State(m.State.String())
		for i := range p.Excluded {
			if x := &p.Excluded[i]; x.Member.RaftID == m.RaftID && !x.Answers {
				of = concordat.Unreachable
			}
		}
		out.Members = append(out.Members, &adminpb.Member{
			Uuid: m.UUID.String(), RaftId: m.RaftID, Address: m.Address, State: state(of), Version: m.Version, Weight: m.Weight,
		})
	}
	return out
}

func seed(p *concordat.ForcePlan) string {
	for _, m := range p.Members {
		if m.RaftID == p.Seed {
			return uuidText(m.UUID)
		}
	}
	return ""
}

func survivors(p *concordat.ForcePlan) (out []*adminpb.ForceSurvivor) {
	for i := range p.Survivors {
		s := &p.Survivors[i]
		survivor := &adminpb.ForceSurvivor{
			Member: uuidText(s.Member.UUID), Address: s.Member.Address,
			Term: s.LastTerm, Last: s.Last, Delivered: s.Delivered, Fetch: s.Fetch, Cut: s.Cut,
		}
		if s.Phase > 0 {
			survivor.Frozen = uuidText(p.Plan)
		}
		out = append(out, survivor)
	}
	return out
}

// excluded tells of each one that is left out how long the survivors had not
// heard it. The member that is asked cannot be asked for that: once frozen it
// hears nobody, and afterwards its view is without them.
func excluded(p *concordat.ForcePlan, tick time.Duration) (out []*adminpb.ForceExcluded) {
	for i := range p.Excluded {
		x := &p.Excluded[i]
		of := concordat.Unreachable
		if x.Answers {
			of = concordat.State(x.Member.State.String())
		}
		left := &adminpb.ForceExcluded{
			Member: uuidText(x.Member.UUID), Address: x.Member.Address, State: state(of), Answers: x.Answers,
			Delivered: x.Delivered,
		}
		if x.Seen && !x.Answers {
			ticks := min(max(x.Ticks, 1), uint64(math.MaxInt64/tick)) // never is 0
			left.HeardNanos = int64(ticks) * int64(tick)
		}
		out = append(out, left)
	}
	return out
}

// atRisk lists, for each one that is left out, what was seen there and nowhere
// among the survivors.
func atRisk(p *concordat.ForcePlan) (out []*adminpb.ForceRisk) {
	for i := range p.Excluded {
		x := &p.Excluded[i]
		risk := &adminpb.ForceRisk{
			Transactions: x.AtRisk.String(),
			Member:       uuidText(x.Member.UUID), Address: x.Member.Address,
		}
		if x.Delivered > p.Last {
			risk.First, risk.Last = p.Last+1, x.Delivered
		}
		if risk.GetTransactions() != "" || risk.GetFirst() > 0 {
			out = append(out, risk)
		}
	}
	return out
}

func warnings(p *concordat.ForcePlan) (out []string) {
	for _, w := range p.Warnings {
		out = append(out, strings.TrimSpace(uuidText(w.Member)+" "+w.Text))
	}
	return out
}
