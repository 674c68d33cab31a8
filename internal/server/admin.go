package server

import (
	"context"
	"strconv"

	"github.com/concordatdb/concordat"
	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/proto/concordat/admin/v1"
)

// admin implements the service Admin.
type admin struct {
	adminpb.UnimplementedAdminServer
	server *Server
}

// Status implements adminpb.AdminServer.
func (a *admin) Status(context.Context, *adminpb.StatusRequest) (*adminpb.StatusResponse, error) {
	n := a.server.node.Load()
	if n == nil {
		return &adminpb.StatusResponse{State: adminpb.MemberState_MEMBER_STATE_OFFLINE, Error: errStarting.Error(), FreshNanos: int64(concordat.NotKnown)}, nil
	}
	s := n.Status()
	response := &adminpb.StatusResponse{
		Group: s.Group.String(), Incarnation: s.Incarnation.String(), Member: s.Member.String(),
		State: state(s.State), Leader: uuidText(s.Leader), View: view(s.View),
		Delivered: s.Delivered, Applied: s.Applied, Durable: s.Durable,
		Executed:  s.Executed.String(),
		Counters:  counters(s.Counters),
		Address:   n.Address(),
		Diagnosis: &adminpb.Diagnosis{Code: string(s.Diagnosis.Code), Text: s.Diagnosis.Text},
		Outlook:   outlookOf(s.Outlook), Quorum: s.Quorum, Waiting: s.Waiting,
		Recovery: recovery(s.Recovery), LogStalled: s.LogStalled, Frozen: uuidText(s.Frozen),
		RejoinTry: uint32(s.RejoinTry),
		Mode:      modes[s.Mode], Epoch: s.Epoch, Primary: uuidText(s.Primary), Protocol: s.Protocol,
		Writable: s.Writable, Alone: s.Alone, Outdated: s.Outdated, Running: uint64(s.Running),
		Action: action(s.Action), Gate: gate(s.Gate), FreshNanos: int64(s.Fresh), StateCheck: stateCheck(&s.StateCheck),
		ApplyFaults: applyFaults(&s.ApplyFaults), Flow: flow(s.Member, &s.Flow),
	}
	if s.Err != nil {
		response.Error = s.Err.Error()
	}
	// A store that cannot give its digest is no reason to hide the rest.
	if digest, at, err := n.Digest(); err == nil {
		response.Digest, response.DigestPosition = digest[:], at.Index
		response.Applied, response.Executed = at.Index, at.Executed.String()
	}
	return response, nil
}

func state(s concordat.State) adminpb.MemberState {
	switch s {
	case concordat.Offline:
		return adminpb.MemberState_MEMBER_STATE_OFFLINE
	case concordat.Recovering:
		return adminpb.MemberState_MEMBER_STATE_RECOVERING
	case concordat.Online:
		return adminpb.MemberState_MEMBER_STATE_ONLINE
	case concordat.Error:
		return adminpb.MemberState_MEMBER_STATE_ERROR
	case concordat.Unreachable:
		return adminpb.MemberState_MEMBER_STATE_UNREACHABLE
	}
	return adminpb.MemberState_MEMBER_STATE_UNSPECIFIED
}

func view(v concordat.View) *adminpb.View {
	out := &adminpb.View{Id: strconv.FormatUint(v.ID, 10), Index: v.Index, Cause: v.Cause}
	for _, m := range v.Members {
		out.Members = append(out.Members, &adminpb.Member{
			Uuid: m.UUID.String(), RaftId: m.RaftID, Address: m.Address,
			State: state(m.State), Version: m.Version, Weight: m.Weight,
			HeardNanos: int64(m.Heard), Delivered: m.Delivered, Applied: m.Applied, FreshNanos: int64(m.Fresh),
			Primary: m.Primary, Writes: m.Writes, ClientAddress: m.ClientAddress,
		})
	}
	return out
}

// gate returns nil where nothing is held back.
func gate(g *concordat.Gate) *adminpb.Gate {
	if g == nil {
		return nil
	}
	return &adminpb.Gate{Index: g.Index, Missing: uuidTexts(g.Waits)}
}

// recovery returns nil for a member that does not catch up.
func recovery(r *concordat.Recovery) *adminpb.Recovery {
	if r == nil {
		return nil
	}
	out := &adminpb.Recovery{
		Donor: uuidText(r.Donor), DonorAddress: r.Address, Done: r.Done, Total: r.Total,
		Rate: r.Rate, LeftNanos: int64(r.Left),
	}
	switch r.Method {
	case concordat.RecoveryClone:
		out.Method = adminpb.Recovery_METHOD_CLONE
	case concordat.RecoveryLog:
		out.Method, out.Done, out.Total = adminpb.Recovery_METHOD_LOG, r.Position, r.Target
	}
	return out
}

func counters(c concordat.Counters) *adminpb.Counters {
	return &adminpb.Counters{
		Committed: c.Committed, Conflicts: c.Conflicts, SnapshotsTooOld: c.SnapshotsTooOld,
		Certified: c.Sequence, Applied: c.Applied,
		HistoryItems: c.HistoryItems, HistoryBytes: c.HistoryBytes, LogSyncs: c.LogWrites, Duplicates: c.Duplicates,
		StateChecks: c.StateChecks, CheckedPairs: c.CheckedPairs, StateCheckNanos: int64(c.StateCheckTime),
	}
}

// uuidText returns u as text, empty for the zero UUID.
func uuidText(u gtid.UUID) string {
	if u.IsZero() {
		return ""
	}
	return u.String()
}

func uuidTexts(all []gtid.UUID) (texts []string) {
	for _, u := range all {
		texts = append(texts, uuidText(u))
	}
	return texts
}
