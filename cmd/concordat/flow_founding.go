package main

import (
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/concordatdb/concordat"
)

// foundFlow sets the flow control that a founder gives its group to the library's
// default.
func (s *nodeSettings) foundFlow() {
	d := concordat.DefaultFlowControl()
	s.FlowControlMode, s.FlowControlScope = d.Mode.String(), d.Scope.String()
	s.FlowControlTargetLag, s.FlowControlHardLag, s.FlowControlFloor = duration(d.TargetLag), duration(d.HardLag), d.Floor
	s.FlowControlPeriod, s.FlowControlCertifierThreshold, s.FlowControlApplierThreshold = d.Period, d.CertifierThreshold, d.ApplierThreshold
	s.FlowControlMinQuota, s.FlowControlMinRecoveryQuota, s.FlowControlMaxQuota = d.MinQuota, d.MinRecoveryQuota, d.MaxQuota
	s.FlowControlMemberQuotaPercent, s.FlowControlHoldPercent, s.FlowControlReleasePercent = d.MemberQuotaPercent, d.HoldPercent, d.ReleasePercent
}

// flowFlags makes those of flow control. What they mean is told once, where a group's
// settings are changed.
func (s *nodeSettings) flowFlags(fs *pflag.FlagSet) {
	to := map[string]any{
		"mode": &s.FlowControlMode, "scope": &s.FlowControlScope, "target-lag": &s.FlowControlTargetLag, "hard-lag": &s.FlowControlHardLag,
		"floor": &s.FlowControlFloor, "period": &s.FlowControlPeriod,
		"certifier-threshold": &s.FlowControlCertifierThreshold, "applier-threshold": &s.FlowControlApplierThreshold,
		"min-quota": &s.FlowControlMinQuota, "min-recovery-quota": &s.FlowControlMinRecoveryQuota, "max-quota": &s.FlowControlMaxQuota,
		"member-quota-percent": &s.FlowControlMemberQuotaPercent, "hold-percent": &s.FlowControlHoldPercent, "release-percent": &s.FlowControlReleasePercent,
	}
	for _, g := range flowSettings() {
		usage := "with --bootstrap: " + g.help
		switch p := to[strings.TrimPrefix(g.name, "flow-control-")].(type) {
		case *string:
			fs.StringVar(p, g.name, *p, usage)
		case *duration:
			fs.Var(p, g.name, usage)
		case *int:
			fs.IntVar(p, g.name, *p, usage)
		}
	}
}

// flowControl is what they come to. An error names the word that is none.
func (s *nodeSettings) flowControl() (f concordat.FlowControl, err error) {
	if f.Mode, err = concordat.ParseFlowControlMode(strings.ToUpper(s.FlowControlMode)); err != nil {
		return f, err
	}
	if f.Scope, err = concordat.ParseFlowControlScope(strings.ToUpper(s.FlowControlScope)); err != nil {
		return f, err
	}
	f.TargetLag, f.HardLag, f.Floor = time.Duration(s.FlowControlTargetLag), time.Duration(s.FlowControlHardLag), s.FlowControlFloor
	f.Period, f.CertifierThreshold, f.ApplierThreshold = s.FlowControlPeriod, s.FlowControlCertifierThreshold, s.FlowControlApplierThreshold
	f.MinQuota, f.MinRecoveryQuota, f.MaxQuota = s.FlowControlMinQuota, s.FlowControlMinRecoveryQuota, s.FlowControlMaxQuota
	f.MemberQuotaPercent, f.HoldPercent, f.ReleasePercent = s.FlowControlMemberQuotaPercent, s.FlowControlHoldPercent, s.FlowControlReleasePercent
	return f, nil
}
