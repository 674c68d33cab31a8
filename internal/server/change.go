package server

import (
	"context"
	"fmt"

	"github.com/concordatdb/concordat"
	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/proto/concordat/admin/v1"
)

// verbs pairs the changes of the membership with their form on the network.
var verbs = map[adminpb.Verb]concordat.Verb{
	adminpb.Verb_VERB_LEAVE:   concordat.VerbLeave,
	adminpb.Verb_VERB_REMOVE:  concordat.VerbRemove,
	adminpb.Verb_VERB_REPLACE: concordat.VerbReplace,
	adminpb.Verb_VERB_JOIN:    concordat.VerbJoin,
}

// Plan implements adminpb.AdminServer.
func (a *admin) Plan(_ context.Context, r *adminpb.PlanRequest) (*adminpb.PlanResponse, error) {
	n, err := a.server.current()
	if err != nil {
		return nil, toStatus(err)
	}
	op := concordat.Operation{Verb: verbs[r.GetVerb()]}
	if op.Verb == "" {
		return nil, toStatus(fmt.Errorf("%w: %v is no change of the membership", concordat.ErrInvalid, r.GetVerb()))
	}
	if op.Member, err = optionalUUID("member", r.GetMember()); err != nil {
		return nil, toStatus(err)
	}
	status := n.Status()
	if len(status.View.Members) == 0 {
		return nil, toStatus(fmt.Errorf("%w: it is in no view of the group; ask a member of it for the plan", concordat.ErrNotOnline))
	}
	if op.Verb == concordat.VerbLeave && op.Member.IsZero() {
		op.Member = status.Member
	}
	p := n.Plan(op)
	return &adminpb.PlanResponse{Plan: plan(&status, &p)}, nil
}

// Leave implements adminpb.AdminServer.
func (a *admin) Leave(ctx context.Context, r *adminpb.LeaveRequest) (*adminpb.LeaveResponse, error) {
	n, err := a.server.current()
	if err != nil {
		return nil, toStatus(err)
	}
	a.server.leaveAsked.Store(true)
	if err := n.Leave(ctx, append(insist(r.GetForce()), stay(r.GetNoHandover())...)...); err != nil {
		return nil, toStatus(err)
	}
	return &adminpb.LeaveResponse{}, nil
}

// Remove implements adminpb.AdminServer.
func (a *admin) Remove(ctx context.Context, r *adminpb.RemoveRequest) (*adminpb.RemoveResponse, error) {
	n, err := a.server.current()
	if err != nil {
		return nil, toStatus(err)
	}
	member, err := someUUID("member", r.GetMember())
	if err != nil {
		return nil, toStatus(err)
	}
	if err := n.Remove(ctx, member, insist(r.GetForce())...); err != nil {
		return nil, toStatus(err)
	}
	return &adminpb.RemoveResponse{}, nil
}

func insist(force bool) []concordat.ChangeOption {
	if force {
		return []concordat.ChangeOption{concordat.Force()}
	}
	return nil
}

// stay is for a primary that goes without making another member primary first.
func stay(noHandover bool) []concordat.ChangeOption {
	if noHandover {
		return []concordat.ChangeOption{concordat.WithoutHandover()}
	}
	return nil
}

// Join implements adminpb.AdminServer.
func (a *admin) Join(ctx context.Context, r *adminpb.JoinRequest) (*adminpb.JoinResponse, error) {
	replaces, err := optionalUUID("replaces", r.GetReplaces())
	if err != nil {
		return nil, toStatus(err)
	}
	err = a.come(ctx, func(ctx context.Context, n *concordat.Node) error {
		return n.Join(ctx, concordat.JoinOptions{Seeds: r.GetSeeds(), Replaces: replaces, Donor: r.GetDonor()})
	})
	if err != nil {
		return nil, toStatus(err)
	}
	return &adminpb.JoinResponse{}, nil
}

// Rejoin implements adminpb.AdminServer.
func (a *admin) Rejoin(ctx context.Context, r *adminpb.RejoinRequest) (*adminpb.RejoinResponse, error) {
	response := &adminpb.RejoinResponse{}
	err := a.come(ctx, func(ctx context.Context, n *concordat.Node) error {
		report, err := n.Rejoin(ctx, concordat.RejoinOptions{Seeds: r.GetSeeds(), DiscardErrant: r.GetDiscardErrant(), Donor: r.GetDonor()})
		response.Discarded, response.SavedTo = report.Discarded.String(), report.SavedTo
		return err
	})
	if err != nil {
		return nil, toStatus(err)
	}
	return response, nil
}

// Clone implements adminpb.AdminServer.
func (a *admin) Clone(ctx context.Context, r *adminpb.CloneRequest) (*adminpb.CloneResponse, error) {
	err := a.come(ctx, func(ctx context.Context, n *concordat.Node) error {
		return n.Clone(ctx, r.GetDonor(), stay(r.GetNoHandover())...)
	})
	if err != nil {
		return nil, toStatus(err)
	}
	return &adminpb.CloneResponse{}, nil
}

// come has the node come into its group, and waits until it is ONLINE. A caller
// who does not wait so long stops nothing: the order lives as long as the
// server.
func (a *admin) come(ctx context.Context, order func(context.Context, *concordat.Node) error) error {
	n, err := a.server.current()
	if err != nil {
		return err
	}
	done := make(chan error, 1)
	a.server.workers.Go(func() {
		err := order(a.server.lifetime, n)
		if err == nil {
			err = online(a.server.lifetime, n)
		}
		done <- err
	})
	select {
	case err = <-done:
	case <-ctx.Done():
		err = ctx.Err()
	case <-a.server.lifetime.Done():
		err = concordat.ErrClosed
	}
	return err
}

// online waits until n serves transactions, or is in ERROR. What it was before
// it came may be seen for a moment yet: then it has no error.
func online(ctx context.Context, n *concordat.Node) error {
	state, err := n.WaitState(ctx, func(s concordat.State) bool {
		return s == concordat.Online || s == concordat.Error && n.Status().Err != nil
	})
	if err == nil && state == concordat.Error {
		err = n.Status().Err
	}
	return err
}

// plan is a change as it would be made on the view that status has.
func plan(status *concordat.Status, p *concordat.Plan) *adminpb.Plan {
	out := &adminpb.Plan{
		View: view(status.View), ViewAfter: &adminpb.View{},
		Outlook: outlookOf(p.Now), OutlookAfter: outlookOf(p.Then), OutlookLater: outlookOf(p.Later),
		Leader: uuidText(status.Leader), Primaries: uuidTexts(p.Primaries), Warnings: p.Warnings, Refused: p.Objection, Forceable: p.Forceable,
	}
	for _, m := range p.Members {
		after := &adminpb.Member{
			Uuid: uuidText(m.UUID), RaftId: m.RaftID, Address: m.Address, Version: m.Version, Weight: m.Weight,
			State: state(concordat.State(m.State.String())),
		}
		// What the member that is asked knows of somebody, it knows of the same
		// one after the change.
		for _, before := range out.GetView().GetMembers() {
			if before.GetRaftId() == m.RaftID {
				after = before
			}
		}
		out.ViewAfter.Members = append(out.ViewAfter.Members, after)
		if m.UUID == status.Leader {
			out.LeaderAfter = out.GetLeader()
		}
	}
	return out
}

func outlookOf(o concordat.Outlook) *adminpb.Outlook {
	return &adminpb.Outlook{
		Members: uint32(o.Members), Voters: uint32(o.Voters), Recovering: uint32(o.Recovering),
		Reachable: uint32(o.Reachable), Quorum: uint32(o.Quorum), Tolerance: uint32(o.Tolerance),
	}
}

// optionalUUID reads what may be left out.
func optionalUUID(name, text string) (gtid.UUID, error) {
	if text == "" {
		return gtid.UUID{}, nil
	}
	return someUUID(name, text)
}

func someUUID(name, text string) (gtid.UUID, error) {
	u, err := gtid.ParseUUID(text)
	if err != nil {
		return u, fmt.Errorf("%w: %s: %w", concordat.ErrInvalid, name, err)
	}
	return u, nil
}

func someUUIDs(name string, texts []string) ([]gtid.UUID, error) {
	all := make([]gtid.UUID, len(texts))
	for i, text := range texts {
		var err error
		if all[i], err = someUUID(name, text); err != nil {
			return nil, err
		}
	}
	return all, nil
}
