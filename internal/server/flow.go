package server

import (
	"context"
	"fmt"
	"time"

	"github.com/concordatdb/concordat"
	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/proto/concordat/admin/v1"
)

// Flow implements adminpb.AdminServer.
func (a *admin) Flow(context.Context, *adminpb.FlowRequest) (*adminpb.FlowResponse, error) {
	n, err := a.server.current()
	if err != nil {
		return nil, toStatus(err)
	}
	s := n.Status()
	return flow(s.Member, &s.Flow), nil
}

func flow(member gtid.UUID, f *concordat.FlowStatus) *adminpb.FlowResponse {
	out := &adminpb.FlowResponse{
		Member: uuidText(member), Throttled: f.Throttled, Stopped: f.Stopped,
		Limiting: uuidText(f.Limiting), LagNanos: int64(f.Lag), Inputs: f.Inputs,
		Transactions: f.Transactions, Bytes: f.Bytes, Group: f.Group,
		Waiting: uint64(f.Waiting), Held: f.Held, WaitedNanos: int64(f.Waited),
	}
	if f.Mode.Valid() {
		out.Mode = f.Mode.String()
	}
	if !f.Since.IsZero() {
		out.SinceUnixNanos = f.Since.UnixNano()
	}
	for i := range f.Tags {
		t := &f.Tags[i]
		out.Tags = append(out.Tags, &adminpb.FlowTag{
			Tag: t.Tag, Weight: t.Weight, Waiting: uint64(t.Waiting), Held: t.Held, WaitedNanos: int64(t.Waited),
		})
	}
	for i := range f.Members {
		m := &f.Members[i]
		out.Members = append(out.Members, &adminpb.FlowMember{
			Member: uuidText(m.Member), Counts: m.Counts, Exempt: m.Exempt, Recovering: m.Recovering,
			HeardNanos: int64(m.Heard), LagNanos: int64(m.Lag), AgeNanos: int64(m.Age), StillNanos: int64(m.Still),
			Waiting: m.Waiting, Backlog: m.Backlog, Capacity: m.Capacity, CapacityBytes: m.CapacityBytes,
			Applied: m.Applied, Demand: m.Demand, Queue: m.Queue, Held: m.Held, WaitedNanos: int64(m.Waited),
		})
	}
	return out
}

// flowControl returns nil where nothing is chosen.
func flowControl(f *concordat.FlowControl) *adminpb.FlowControl {
	if !f.Mode.Valid() {
		return nil
	}
	out := &adminpb.FlowControl{
		Mode: f.Mode.String(), TargetLagMillis: f.TargetLag.Milliseconds(), HardLagMillis: f.HardLag.Milliseconds(),
	}
	if f.Scope.Valid() {
		out.Scope = f.Scope.String()
	}
	for _, x := range flowNumbers(out, f) {
		*x.wire = int64(*x.setting)
	}
	return out
}

// flowNumber is a number in its two forms.
type flowNumber struct {
	name    string
	wire    *int64
	setting *int
}

func flowNumbers(p *adminpb.FlowControl, f *concordat.FlowControl) []flowNumber {
	return []flowNumber{
		{"floor", &p.Floor, &f.Floor},
		{"period", &p.Period, &f.Period},
		{"certifier_threshold", &p.CertifierThreshold, &f.CertifierThreshold},
		{"applier_threshold", &p.ApplierThreshold, &f.ApplierThreshold},
		{"min_quota", &p.MinQuota, &f.MinQuota},
		{"min_recovery_quota", &p.MinRecoveryQuota, &f.MinRecoveryQuota},
		{"max_quota", &p.MaxQuota, &f.MaxQuota},
		{"member_quota_percent", &p.MemberQuotaPercent, &f.MemberQuotaPercent},
		{"hold_percent", &p.HoldPercent, &f.HoldPercent},
		{"release_percent", &p.ReleasePercent, &f.ReleasePercent},
	}
}

// someFlowControl is the reverse of flowControl. What settings can be is the node's
// business.
func someFlowControl(p *adminpb.FlowControl) (f concordat.FlowControl, err error) {
	if p.GetMode() == "" {
		return f, nil
	}
	if f.Mode, err = concordat.ParseFlowControlMode(p.GetMode()); err != nil {
		return f, fmt.Errorf("%w: %w", concordat.ErrInvalid, err)
	}
	if p.GetScope() != "" {
		if f.Scope, err = concordat.ParseFlowControlScope(p.GetScope()); err != nil {
			return f, fmt.Errorf("%w: %w", concordat.ErrInvalid, err)
		}
	}
	for _, x := range []struct {
		name string
		from int64
		to   *time.Duration
	}{
		{"target_lag_millis", p.GetTargetLagMillis(), &f.TargetLag}, {"hard_lag_millis", p.GetHardLagMillis(), &f.HardLag},
	} {
		const most = int64(1 << 40)
		if x.from < -most || x.from > most {
			return f, fmt.Errorf("%w: %s is %d, which is no time", concordat.ErrInvalid, x.name, x.from)
		}
		*x.to = time.Duration(x.from) * time.Millisecond
	}
	for _, x := range flowNumbers(p, &f) {
		if *x.setting = int(*x.wire); int64(*x.setting) != *x.wire {
			return f, fmt.Errorf("%w: %s is %d, which this member cannot hold", concordat.ErrInvalid, x.name, *x.wire)
		}
	}
	return f, nil
}
