package server

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/concordatdb/concordat"
	"github.com/concordatdb/concordat/election"
	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/proto/concordat/admin/v1"
)

// What elections have in the library, and on the network. What is in none of these
// tables travels as the unspecified value.
var (
	modes = map[concordat.Mode]adminpb.Mode{
		concordat.SinglePrimary: adminpb.Mode_MODE_SINGLE_PRIMARY,
		concordat.MultiPrimary:  adminpb.Mode_MODE_MULTI_PRIMARY,
	}
	actionKinds = map[concordat.ActionKind]adminpb.Action_Kind{
		election.SetPrimary:  adminpb.Action_KIND_SET_PRIMARY,
		election.ToSingle:    adminpb.Action_KIND_TO_SINGLE,
		election.ToMulti:     adminpb.Action_KIND_TO_MULTI,
		election.SetProtocol: adminpb.Action_KIND_SET_PROTOCOL,
	}
	actionResults = map[concordat.ActionResult]adminpb.Action_Result{
		election.Done:           adminpb.Action_RESULT_DONE,
		election.DoneByFailover: adminpb.Action_RESULT_DONE_BY_FAILOVER,
		election.Aborted:        adminpb.Action_RESULT_ABORTED,
		election.Cancelled:      adminpb.Action_RESULT_CANCELLED,
		election.Refused:        adminpb.Action_RESULT_REFUSED,
		election.NoChange:       adminpb.Action_RESULT_NO_CHANGE,
	}
	verdicts = map[election.Verdict]adminpb.Rank_Verdict{
		election.Elected:             adminpb.Rank_VERDICT_ELECTED,
		election.OutrankedByProgress: adminpb.Rank_VERDICT_OUTRANKED_BY_PROGRESS,
		election.OutrankedByWeight:   adminpb.Rank_VERDICT_OUTRANKED_BY_WEIGHT,
		election.OutrankedByUUID:     adminpb.Rank_VERDICT_OUTRANKED_BY_UUID,
		election.NotOnline:           adminpb.Rank_VERDICT_NOT_ONLINE,
		election.NewerVersion:        adminpb.Rank_VERDICT_NEWER_VERSION,
		election.PassedOver:          adminpb.Rank_VERDICT_PASSED_OVER,
	}
)

// SetPrimary implements adminpb.AdminServer.
func (a *admin) SetPrimary(ctx context.Context, r *adminpb.SetPrimaryRequest) (*adminpb.SetPrimaryResponse, error) {
	done, err := a.switched(r.GetTerms(), func(n *concordat.Node, opts []concordat.SwitchOption) (concordat.ActionReport, error) {
		member, err := someUUID("member", r.GetMember())
		if err != nil {
			return concordat.ActionReport{}, err
		}
		return n.SetPrimary(ctx, member, opts...)
	})
	if err != nil {
		return nil, err
	}
	return &adminpb.SetPrimaryResponse{Action: done}, nil
}

// SwitchMode implements adminpb.AdminServer.
func (a *admin) SwitchMode(ctx context.Context, r *adminpb.SwitchModeRequest) (*adminpb.SwitchModeResponse, error) {
	done, err := a.switched(r.GetTerms(), func(n *concordat.Node, opts []concordat.SwitchOption) (concordat.ActionReport, error) {
		member, err := optionalUUID("member", r.GetMember())
		switch {
		case err != nil:
			return concordat.ActionReport{}, err
		case r.GetMode() == adminpb.Mode_MODE_SINGLE_PRIMARY:
			return n.SwitchToSinglePrimary(ctx, member, opts...)
		case r.GetMode() == adminpb.Mode_MODE_MULTI_PRIMARY && member.IsZero():
			return n.SwitchToMultiPrimary(ctx, opts...)
		case r.GetMode() == adminpb.Mode_MODE_MULTI_PRIMARY:
			return concordat.ActionReport{}, fmt.Errorf("%w: in a multi-primary group there is no primary to name", concordat.ErrInvalid)
		}
		return concordat.ActionReport{}, fmt.Errorf("%w: %v is no mode", concordat.ErrInvalid, r.GetMode())
	})
	if err != nil {
		return nil, err
	}
	return &adminpb.SwitchModeResponse{Action: done}, nil
}

// SetProtocol implements adminpb.AdminServer.
func (a *admin) SetProtocol(ctx context.Context, r *adminpb.SetProtocolRequest) (*adminpb.SetProtocolResponse, error) {
	done, err := a.switched(r.GetTerms(), func(n *concordat.Node, opts []concordat.SwitchOption) (concordat.ActionReport, error) {
		return n.SetProtocol(ctx, r.GetProtocol(), opts...)
	})
	if err != nil {
		return nil, err
	}
	return &adminpb.SetProtocolResponse{Action: done}, nil
}

// switched makes a planned change on its terms.
func (a *admin) switched(t *adminpb.SwitchTerms,
	order func(*concordat.Node, []concordat.SwitchOption) (concordat.ActionReport, error),
) (*adminpb.Action, error) {
	n, err := a.server.current()
	if err != nil {
		return nil, toStatus(err)
	}
	opts, err := switchOptions(t)
	if err != nil {
		return nil, toStatus(err)
	}
	r, err := order(n, opts)
	if err != nil {
		return nil, toStatus(givenUp(err, r.Result))
	}
	return action(&r), nil
}

// switchOptions are the terms as package concordat has them.
func switchOptions(t *adminpb.SwitchTerms) ([]concordat.SwitchOption, error) {
	id, err := optionalUUID("id", t.GetId())
	if err != nil {
		return nil, err
	}
	opts := []concordat.SwitchOption{concordat.WithActionID(id), concordat.WithReason(t.GetReason())}
	if t != nil && t.GraceNanos != nil {
		opts = append(opts, concordat.Grace(time.Duration(t.GetGraceNanos())))
	}
	if t.GetInsist() {
		opts = append(opts, concordat.InsistOnRecovering())
	}
	return opts, nil
}

// ErrGivenUp: a planned change had begun, and was cancelled or could not go on.
// Nothing has changed by it. Such an error matches concordat.ErrRefused as well.
var ErrGivenUp = errors.New("concordat: planned change was given up")

// givenUpError is the end of a planned change that had begun, and came to nothing.
type givenUpError struct {
	result concordat.ActionResult
	text   string
}

func (e *givenUpError) Error() string { return e.text }

func (e *givenUpError) Is(target error) bool {
	return target == ErrGivenUp || target == concordat.ErrRefused
}

// givenUp tells the end of a change that had begun from a refusal.
func givenUp(err error, result concordat.ActionResult) error {
	if errors.Is(err, concordat.ErrRefused) && (result == election.Cancelled || result == election.Aborted) {
		return &givenUpError{result, err.Error()}
	}
	return err
}

// PlanAction implements adminpb.AdminServer.
func (a *admin) PlanAction(_ context.Context, r *adminpb.PlanActionRequest) (*adminpb.PlanActionResponse, error) {
	n, err := a.server.current()
	if err != nil {
		return nil, toStatus(err)
	}
	kind := concordat.ActionKind(0)
	for _, k := range []concordat.ActionKind{election.SetPrimary, election.ToSingle, election.ToMulti, election.SetProtocol} {
		if actionKinds[k] == r.GetKind() {
			kind = k
		}
	}
	if kind == 0 {
		return nil, toStatus(fmt.Errorf("%w: %v is no planned change", concordat.ErrInvalid, r.GetKind()))
	}
	member, err := optionalUUID("member", r.GetMember())
	if err != nil {
		return nil, toStatus(err)
	}
	opts, err := switchOptions(r.GetTerms())
	if err != nil {
		return nil, toStatus(err)
	}
	p, err := n.PlanAction(kind, member, r.GetProtocol(), opts...)
	if err != nil {
		return nil, toStatus(err)
	}
	return &adminpb.PlanActionResponse{Plan: &adminpb.ActionPlan{
		Kind: r.GetKind(), Target: uuidText(p.Target), Pending: uuidTexts(p.Pending),
		NoChange: p.NoChange, Refused: p.Objection, Forceable: p.Forceable,
	}}, nil
}

// CancelAction implements adminpb.AdminServer.
func (a *admin) CancelAction(ctx context.Context, r *adminpb.CancelActionRequest) (*adminpb.CancelActionResponse, error) {
	n, id, err := a.ofAction(r)
	if err == nil {
		err = n.CancelAction(ctx, id)
	}
	if err != nil {
		return nil, toStatus(err)
	}
	return &adminpb.CancelActionResponse{}, nil
}

// GetAction implements adminpb.AdminServer.
func (a *admin) GetAction(_ context.Context, r *adminpb.GetActionRequest) (*adminpb.GetActionResponse, error) {
	n, id, err := a.ofAction(r)
	if err != nil {
		return nil, toStatus(err)
	}
	report, ok := n.Action(id)
	if !ok {
		return &adminpb.GetActionResponse{}, nil
	}
	return &adminpb.GetActionResponse{Action: action(&report)}, nil
}

func (a *admin) ofAction(r interface{ GetId() string }) (*concordat.Node, gtid.UUID, error) {
	n, err := a.server.current()
	if err != nil {
		return nil, gtid.UUID{}, err
	}
	id, err := someUUID("id", r.GetId())
	return n, id, err
}

func action(r *concordat.ActionReport) *adminpb.Action {
	if r == nil {
		return nil
	}
	return &adminpb.Action{
		Id: uuidText(r.ID), Kind: actionKinds[r.Kind], Result: actionResults[r.Result], Text: r.Text,
		Target: uuidText(r.Target), Asker: uuidText(r.Asker), Reason: r.Reason, Pending: uuidTexts(r.Pending), Cut: r.Cut,
		Epoch: r.Epoch, Index: r.Index, TookNanos: int64(r.Took),
	}
}

// Why implements adminpb.AdminServer.
func (a *admin) Why(context.Context, *adminpb.WhyRequest) (*adminpb.WhyResponse, error) {
	n, err := a.server.current()
	if err != nil {
		return nil, toStatus(err)
	}
	out := ranking(n.Why())
	if epochs := n.Epochs(); len(epochs) > 0 {
		out.Epoch = epochRecord(epochs[len(epochs)-1])
	}
	return out, nil
}

func ranking(c concordat.Choice) *adminpb.WhyResponse {
	out := &adminpb.WhyResponse{}
	for _, l := range c.Lines {
		if l.Member.RaftID == c.Winner {
			out.Winner = uuidText(l.Member.UUID)
		}
		out.Ranking = append(out.Ranking, &adminpb.Rank{
			Member: uuidText(l.Member.UUID), Rank: uint32(l.Rank), Verdict: verdicts[l.Verdict], Behind: l.Behind, Text: l.Text,
			Version: uint32(l.Member.Version), Weight: l.Member.Weight,
		})
	}
	return out
}

func epochRecord(e concordat.EpochRecord) *adminpb.EpochRecord {
	return &adminpb.EpochRecord{
		Number: e.Number, Index: e.Index, Mode: modes[e.Mode], Primary: uuidText(e.Primary), Cause: e.Cause.String(), Reason: e.Reason,
	}
}
