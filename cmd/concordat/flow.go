package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/concordatdb/concordat"
	"github.com/concordatdb/concordat/internal/server"
	"github.com/concordatdb/concordat/proto/concordat/admin/v1"
)

func newFlowCommand() *cobra.Command {
	var f clientFlags
	cmd := &cobra.Command{
		Use:   "flow",
		Short: "Show who slows whom",
		Long: `Show whether transactions that write are slowed on a node, since when, for whose
sake, and to how much; how long they have waited there, by their tags; and what
each member has told of its work:

  LAG       how long its store will take for what it has yet to do
  OLDEST    how long the oldest of that has waited
  WAITING   transactions that it has ordered and does not show yet
  CAN DO    transactions per second that its store does while it has work; a
            dash where it was idle too much to say
  DEMAND    transactions per second that its callers ask for
  HELD      transactions of its callers that had to wait, and WAITED how long

The member that the group is slowed for has a star. One that is EXEMPT or
RECOVERING slows nobody. One that STANDS STILL has work, and has finished nothing
for so long: it hangs, or works on something large. What to do about the one with
the star is said below the table when it hangs. concordat settings shows and changes
flow-control-….
Name several nodes, and each is shown.`,
		Example: `  concordat flow
  concordat flow --address 127.0.0.1:7500,127.0.0.1:7501 --json`,
		Args: exactArgs(),
	}
	f.register(cmd)
	f.registerJSON(cmd)
	cmd.RunE = interruptible(func(ctx context.Context, cmd *cobra.Command, _ []string) error {
		ctx, cancel := f.bound(ctx)
		defer cancel()
		answers, err := askAll(ctx, &f, func(ctx context.Context, c *server.Client) (*adminpb.FlowResponse, error) {
			return c.Flow(ctx, &adminpb.FlowRequest{})
		})
		for i, a := range answers {
			if f.json {
				err = errors.Join(err, json.NewEncoder(cmd.OutOrStdout()).Encode(flowOf(a)))
				continue
			}
			if i > 0 {
				say(cmd.OutOrStdout(), "\n")
			}
			err = errors.Join(err, printFlow(cmd.OutOrStdout(), a, time.Now()))
		}
		return err
	})
	return cmd
}

// flowLine says in a line whether a node slows its callers.
func flowLine(a *adminpb.FlowResponse, now time.Time) string {
	if !a.GetThrottled() {
		return fmt.Sprintf("%s, nobody is slowed", orDash(a.GetMode()))
	}
	since := now.Sub(time.Unix(0, a.GetSinceUnixNanos())).Round(time.Second)
	hangs := ""
	if m := stuck(a); m != nil {
		hangs = fmt.Sprintf(", and has finished nothing for %s", seconds(m.GetStillNanos()))
	}
	return fmt.Sprintf("%s, slowed for %v: %s%s; %d wait", a.GetMode(), since, a.GetInputs(), hangs, a.GetWaiting())
}

func seconds(nanos int64) string { return time.Duration(nanos).Round(time.Millisecond).String() }

func printFlow(w io.Writer, a *adminpb.FlowResponse, now time.Time) error {
	say(w, "member %s: %s\n", a.GetMember(), flowLine(a, now))
	if a.GetHeld() > 0 {
		say(w, "since it was started %d transactions have waited for %s\n", a.GetHeld(), seconds(a.GetWaitedNanos()))
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	say(t, "\nMEMBER\tLAG\tOLDEST\tWAITING\tCAN DO\tDEMAND\tHELD\tWAITED\tNOTE\n")
	for _, m := range a.GetMembers() {
		name, capacity := m.GetMember(), "-"
		if a.GetThrottled() && name == a.GetLimiting() {
			name += " *"
		}
		if m.GetCapacity() > 0 {
			capacity = strconv.FormatUint(m.GetCapacity(), 10)
		}
		say(t, "%s\t%s\t%s\t%d\t%s\t%d\t%d\t%s\t%s\n", name, seconds(m.GetLagNanos()), seconds(m.GetAgeNanos()), m.GetWaiting()+m.GetBacklog(),
			capacity, m.GetDemand(), m.GetHeld(), seconds(m.GetWaitedNanos()), flowNote(m))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if m := stuck(a); m != nil {
		say(w, "\n"+stuckHelp, m.GetMember(), seconds(m.GetStillNanos()))
	}
	if len(a.GetTags()) == 0 {
		return nil
	}
	t = tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	say(t, "\nTAG\tWEIGHT\tWAIT NOW\tHELD\tWAITED\n")
	for _, x := range a.GetTags() {
		say(t, "%s\t%d\t%d\t%d\t%s\n", orDash(x.GetTag()), x.GetWeight(), x.GetWaiting(), x.GetHeld(), seconds(x.GetWaitedNanos()))
	}
	return t.Flush()
}

// stuckHelp is what to do about a member that the group is slowed for and that hangs.
const stuckHelp = `%s has finished nothing for %s: its store hangs, and writers go on at
flow-control-floor for its sake, or wait where flow-control-hard-lag is set.
  to write at full speed at once, while no more than a minority hangs:
    concordat settings --set flow-control-scope=MAJORITY
  then look at its disk; end its process with SIGKILL and start it again
`

// stuck is the member that the group is slowed for, if that hangs.
func stuck(a *adminpb.FlowResponse) *adminpb.FlowMember {
	for _, m := range a.GetMembers() {
		if a.GetThrottled() && m.GetMember() == a.GetLimiting() && time.Duration(m.GetStillNanos()) >= concordat.FlowStill {
			return m
		}
	}
	return nil
}

func flowNote(m *adminpb.FlowMember) string {
	var notes []string
	if m.GetExempt() {
		notes = append(notes, "EXEMPT")
	}
	if m.GetRecovering() {
		notes = append(notes, "RECOVERING")
	}
	if still := time.Duration(m.GetStillNanos()); still >= concordat.FlowStill {
		notes = append(notes, "STANDS STILL for "+still.Round(time.Second).String())
	}
	if !m.GetCounts() && len(notes) == 0 {
		notes = append(notes, "not heard")
	}
	return strings.Join(notes, " ")
}

// flowJSON is what flow --json prints for a node. Its fields stay.
type flowJSON struct {
	Member            string           `json:"member"`
	Mode              string           `json:"mode"`
	Throttled         bool             `json:"throttled"`
	Since             *time.Time       `json:"since,omitempty"`
	Stopped           bool             `json:"stopped"`
	Limiting          string           `json:"limiting,omitempty"`
	LagSeconds        float64          `json:"lag_seconds"`
	Inputs            string           `json:"inputs"`
	Transactions      uint64           `json:"transactions"`
	Bytes             uint64           `json:"bytes"`
	GroupTransactions uint64           `json:"group_transactions"`
	Waiting           uint64           `json:"waiting"`
	Held              uint64           `json:"held"`
	WaitedSeconds     float64          `json:"waited_seconds"`
	Tags              []flowTagJSON    `json:"tags"`
	Members           []flowMemberJSON `json:"members"`
}

type flowTagJSON struct {
	Tag           string  `json:"tag"`
	Weight        uint32  `json:"weight"`
	Waiting       uint64  `json:"waiting"`
	Held          uint64  `json:"held"`
	WaitedSeconds float64 `json:"waited_seconds"`
}

type flowMemberJSON struct {
	Member        string  `json:"member"`
	Counts        bool    `json:"counts"`
	Exempt        bool    `json:"exempt"`
	Recovering    bool    `json:"recovering"`
	LagSeconds    float64 `json:"lag_seconds"`
	AgeSeconds    float64 `json:"age_seconds"`
	StillSeconds  float64 `json:"still_seconds"`
	Waiting       uint64  `json:"waiting"`
	Backlog       uint64  `json:"backlog"`
	Capacity      uint64  `json:"capacity"`
	CapacityBytes uint64  `json:"capacity_bytes"`
	Applied       uint64  `json:"applied"`
	Demand        uint64  `json:"demand"`
	Queue         uint64  `json:"queue"`
	Held          uint64  `json:"held"`
	WaitedSeconds float64 `json:"waited_seconds"`
}

func flowOf(a *adminpb.FlowResponse) flowJSON {
	out := flowJSON{
		Member: a.GetMember(), Mode: a.GetMode(), Throttled: a.GetThrottled(), Stopped: a.GetStopped(), Limiting: a.GetLimiting(),
		LagSeconds: time.Duration(a.GetLagNanos()).Seconds(), Inputs: a.GetInputs(),
		Transactions: a.GetTransactions(), Bytes: a.GetBytes(), GroupTransactions: a.GetGroup(),
		Waiting: a.GetWaiting(), Held: a.GetHeld(), WaitedSeconds: time.Duration(a.GetWaitedNanos()).Seconds(),
		Tags: []flowTagJSON{}, Members: []flowMemberJSON{},
	}
	if at := a.GetSinceUnixNanos(); at != 0 {
		out.Since = new(time.Unix(0, at).UTC())
	}
	for _, x := range a.GetTags() {
		out.Tags = append(out.Tags, flowTagJSON{x.GetTag(), x.GetWeight(), x.GetWaiting(), x.GetHeld(), time.Duration(x.GetWaitedNanos()).Seconds()})
	}
	for _, m := range a.GetMembers() {
		out.Members = append(out.Members, flowMemberJSON{
			Member: m.GetMember(), Counts: m.GetCounts(), Exempt: m.GetExempt(), Recovering: m.GetRecovering(),
			LagSeconds: time.Duration(m.GetLagNanos()).Seconds(), AgeSeconds: time.Duration(m.GetAgeNanos()).Seconds(),
			StillSeconds: time.Duration(m.GetStillNanos()).Seconds(),
			Waiting:      m.GetWaiting(), Backlog: m.GetBacklog(), Capacity: m.GetCapacity(), CapacityBytes: m.GetCapacityBytes(),
			Applied: m.GetApplied(), Demand: m.GetDemand(), Queue: m.GetQueue(), Held: m.GetHeld(),
			WaitedSeconds: time.Duration(m.GetWaitedNanos()).Seconds(),
		})
	}
	return out
}

// flowSettings are the group settings of flow control.
func flowSettings() []groupSetting {
	all := []groupSetting{
		{
			"flow-control-mode", "how writers are slowed for members that fall behind: ADAPTIVE, QUOTA or DISABLED",
			func(s *adminpb.Settings) string { return s.GetFlowControl().GetMode() },
			func(s *adminpb.Settings, text string) error {
				if text == "0" {
					text = concordat.DefaultFlowControl().Mode.String()
				}
				m, err := concordat.ParseFlowControlMode(strings.ToUpper(text))
				flowOfSettings(s).Mode = m.String()
				return err
			},
		},
		{
			"flow-control-scope", "whose pace counts: that of ALL, or of a MAJORITY",
			func(s *adminpb.Settings) string { return s.GetFlowControl().GetScope() },
			func(s *adminpb.Settings, text string) error {
				if text == "0" {
					text = concordat.DefaultFlowControl().Scope.String()
				}
				scope, err := concordat.ParseFlowControlScope(strings.ToUpper(text))
				flowOfSettings(s).Scope = scope.String()
				return err
			},
		},
		flowTime("flow-control-target-lag", "how far behind the slowest one settles", func(f *adminpb.FlowControl) *int64 { return &f.TargetLagMillis }),
		flowTime("flow-control-hard-lag", "how far behind it may be when nobody writes any more; 0s: no bound", func(f *adminpb.FlowControl) *int64 { return &f.HardLagMillis }),
	}
	for _, x := range []struct {
		name, help string
		field      func(*adminpb.FlowControl) *int64
	}{
		{"floor", "what the group may write in any case, per second", func(f *adminpb.FlowControl) *int64 { return &f.Floor }},
		{"period", "QUOTA: seconds", func(f *adminpb.FlowControl) *int64 { return &f.Period }},
		{"certifier-threshold", "QUOTA: log entries not judged that hold", func(f *adminpb.FlowControl) *int64 { return &f.CertifierThreshold }},
		{"applier-threshold", "QUOTA: transactions not shown that hold", func(f *adminpb.FlowControl) *int64 { return &f.ApplierThreshold }},
		{"min-quota", "QUOTA: floor of the capacity, before it is shared", func(f *adminpb.FlowControl) *int64 { return &f.MinQuota }},
		{"min-recovery-quota", "QUOTA: the same while nobody lags who applies", func(f *adminpb.FlowControl) *int64 { return &f.MinRecoveryQuota }},
		{"max-quota", "QUOTA: never more than that per period", func(f *adminpb.FlowControl) *int64 { return &f.MaxQuota }},
		{"member-quota-percent", "QUOTA: of a member; 0: equal shares", func(f *adminpb.FlowControl) *int64 { return &f.MemberQuotaPercent }},
		{"hold-percent", "QUOTA: of the capacity that stays unused", func(f *adminpb.FlowControl) *int64 { return &f.HoldPercent }},
		{"release-percent", "QUOTA: growth per period that holds nobody", func(f *adminpb.FlowControl) *int64 { return &f.ReleasePercent }},
	} {
		all = append(all, number("flow-control-"+x.name, x.help, func(s *adminpb.Settings) *int64 { return x.field(flowOfSettings(s)) }))
	}
	return all
}

// flowOfSettings makes flow control part of s if it is not.
func flowOfSettings(s *adminpb.Settings) *adminpb.FlowControl {
	if s.FlowControl == nil {
		s.FlowControl = &adminpb.FlowControl{}
	}
	return s.FlowControl
}

func flowTime(name, help string, field func(*adminpb.FlowControl) *int64) groupSetting {
	return groupSetting{
		name, help,
		func(s *adminpb.Settings) string {
			return (time.Duration(*field(flowOfSettings(s))) * time.Millisecond).String()
		},
		func(s *adminpb.Settings, text string) error {
			d, err := time.ParseDuration(text)
			if err != nil || d < 0 || d%time.Millisecond != 0 {
				return fmt.Errorf("%q is no time in milliseconds: write it as in 2s or 500ms", text)
			}
			*field(flowOfSettings(s)) = d.Milliseconds()
			return nil
		},
	}
}

// flowSettingsJSON are the settings of flow control in settings --json.
type flowSettingsJSON struct {
	Mode               string `json:"mode"`
	Scope              string `json:"scope"`
	TargetLagMillis    int64  `json:"target_lag_millis"`
	HardLagMillis      int64  `json:"hard_lag_millis"`
	Floor              int64  `json:"floor"`
	Period             int64  `json:"period"`
	CertifierThreshold int64  `json:"certifier_threshold"`
	ApplierThreshold   int64  `json:"applier_threshold"`
	MinQuota           int64  `json:"min_quota"`
	MinRecoveryQuota   int64  `json:"min_recovery_quota"`
	MaxQuota           int64  `json:"max_quota"`
	MemberQuotaPercent int64  `json:"member_quota_percent"`
	HoldPercent        int64  `json:"hold_percent"`
	ReleasePercent     int64  `json:"release_percent"`
}

func flowSettingsOf(f *adminpb.FlowControl) flowSettingsJSON {
	return flowSettingsJSON{
		f.GetMode(), f.GetScope(), f.GetTargetLagMillis(), f.GetHardLagMillis(), f.GetFloor(), f.GetPeriod(), f.GetCertifierThreshold(),
		f.GetApplierThreshold(), f.GetMinQuota(), f.GetMinRecoveryQuota(), f.GetMaxQuota(), f.GetMemberQuotaPercent(), f.GetHoldPercent(), f.GetReleasePercent(),
	}
}

// flowStatusOf is the flow control of a status, nil of a node that has not said.
func flowStatusOf(a *adminpb.FlowResponse) *flowJSON {
	if a == nil {
		return nil
	}
	return new(flowOf(a))
}
