package main

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/concordatdb/concordat/internal/server"
	"github.com/concordatdb/concordat/proto/concordat/admin/v1"
)

func newStatusCommand() *cobra.Command {
	var f clientFlags
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show how the group and a node do, and what to do about it",
		Long: `Show how the group does as a node sees it: in a word, with what to do; what the
group can bear; its members; and what the node itself does or waits for. A node
knows how far it has applied the log itself, what it has executed, and the digest
of its data: name several nodes, and their rows are filled in too. Nodes with the
same number under APPLIED have the same digest. HEARD is how long ago the node
has heard the member; never where it has not since it began to listen. One that
is heard, and UNREACHABLE all the same, comes and goes: it is trusted again when
it has been heard for a while.

The word is OK when all members of the view are well and the group can lose one
or more, OK_PARTIAL when it has lost some and can lose more, OK_NO_TOLERANCE when
it can lose none, and NO_QUORUM when it takes no transactions.

A member whose ROLE is PRIMARY may write: one in a single-primary group, all that
are ONLINE and of the lowest version in a multi-primary one. The member that
LEADS orders transactions. concordat primary says more of that.

The node answers in every state, also while it waits for its group. When one of
the nodes does not answer, the others are shown and the exit code is 4.`,
		Example: `  concordat status
  concordat status --address 127.0.0.1:7500,127.0.0.1:7501,127.0.0.1:7502
  concordat status --json`,
		Args: exactArgs(),
	}
	f.register(cmd)
	f.registerJSON(cmd)
	cmd.RunE = interruptible(func(ctx context.Context, cmd *cobra.Command, _ []string) error {
		ctx, cancel := f.bound(ctx)
		defer cancel()
		answers, err := askAll(ctx, &f, func(ctx context.Context, c *server.Client) (*adminpb.StatusResponse, error) {
			return c.Status(ctx, &adminpb.StatusRequest{})
		})
		if len(answers) == 0 {
			return err
		}
		if f.json {
			return errors.Join(err, printStatusJSON(cmd.OutOrStdout(), answers))
		}
		return errors.Join(err, printStatus(cmd.OutOrStdout(), answers))
	})
	return cmd
}

// stateName returns ONLINE for MEMBER_STATE_ONLINE.
func stateName(s adminpb.MemberState) string {
	return strings.TrimPrefix(s.String(), "MEMBER_STATE_")
}

// row is a member as it is shown. What only the member itself knows is empty
// when it was not asked.
type row struct {
	Member       string  `json:"member"`
	Address      string  `json:"address"`
	State        string  `json:"state"`
	Leader       bool    `json:"leader"`
	Role         string  `json:"role,omitempty"`    // PRIMARY for all that may write, else SECONDARY; empty outside of the view
	Primary      bool    `json:"primary,omitempty"` // of a single-primary group
	Version      string  `json:"version"`
	Weight       uint32  `json:"weight"`
	HeardSeconds float64 `json:"heard_seconds"` // 0 also for one that was never heard
	NeverHeard   bool    `json:"never_heard"`
	Client       string  `json:"client_address,omitempty"`
	FreshSeconds float64 `json:"fresh_seconds"` // how old its data may be; -1 where that is not known
	Delivered    uint64  `json:"delivered,omitempty"`
	Applied      uint64  `json:"applied,omitempty"`
	Executed     string  `json:"executed,omitempty"`
	Digest       string  `json:"digest,omitempty"`
	Error        string  `json:"error,omitempty"`

	self bool // whose view it is
}

// observer returns the answer whose view is shown: the first one of a member
// that hears a majority, or else the first.
func observer(answers []*adminpb.StatusResponse) *adminpb.StatusResponse {
	for _, a := range answers {
		if a.GetQuorum() {
			return a
		}
	}
	return answers[0]
}

// rows merges the observer's view with what each member said of itself. Those
// that are in no view come last.
func rows(answers []*adminpb.StatusResponse) []row {
	own := map[string]*adminpb.StatusResponse{}
	for _, a := range answers {
		own[a.GetMember()] = a
	}
	seen := observer(answers)
	var out []row
	for _, m := range seen.GetView().GetMembers() {
		r := row{
			Member: m.GetUuid(), Address: m.GetAddress(), State: stateName(m.GetState()),
			Leader: m.GetUuid() == seen.GetLeader(), Role: role(seen, m), Primary: m.GetPrimary(),
			Client: m.GetClientAddress(), FreshSeconds: freshSeconds(m.GetFreshNanos()),
			Version: libraryVersion(m.GetVersion()), Weight: m.GetWeight(), Delivered: m.GetDelivered(),
			HeardSeconds: heardSeconds(m), NeverHeard: neverHeard(m), self: m.GetUuid() == seen.GetMember(),
		}
		if a := own[r.Member]; a != nil {
			r.fill(a)
			delete(own, r.Member)
		}
		out = append(out, r)
	}
	for _, a := range answers {
		if a.GetMember() != "" && own[a.GetMember()] == a {
			r := row{Member: a.GetMember(), Address: a.GetAddress(), self: true}
			r.fill(a)
			out = append(out, r)
		}
	}
	return out
}

// fill sets what a member says of itself.
func (r *row) fill(a *adminpb.StatusResponse) {
	r.State, r.Error = stateName(a.GetState()), a.GetError()
	r.Delivered, r.FreshSeconds = a.GetDelivered(), freshSeconds(a.GetFreshNanos())
	r.Applied, r.Executed, r.Digest = a.GetApplied(), a.GetExecuted(), hex.EncodeToString(a.GetDigest())
}

// role is a member's in the words of Group Replication, empty where nothing is
// known of it.
func role(seen *adminpb.StatusResponse, m *adminpb.Member) string {
	switch {
	case seen.GetMode() == adminpb.Mode_MODE_UNSPECIFIED:
		return ""
	case m.GetWrites():
		return "PRIMARY"
	}
	return "SECONDARY"
}

func (r *row) leads() string {
	if r.Leader {
		return "yes"
	}
	return "-"
}

// freshSeconds is -1 for an age of which nothing is known.
func freshSeconds(nanos int64) float64 {
	if nanos < 0 {
		return -1
	}
	return time.Duration(nanos).Seconds()
}

// neverHeard reports whether the observer has heard nothing of a member since it
// began to listen.
func neverHeard(m *adminpb.Member) bool { return m.GetHeardNanos() < 0 }

// heardSeconds is how long ago a member was heard, 0 for one that never was.
func heardSeconds(m *adminpb.Member) float64 {
	return time.Duration(max(m.GetHeardNanos(), 0)).Seconds()
}

// heard is empty for the observer, which always hears itself.
func (r *row) heard() string {
	switch {
	case r.self:
		return "-"
	case r.NeverHeard:
		return "never"
	}
	return shortDuration(time.Duration(r.HeardSeconds * float64(time.Second)))
}

// shortDuration rounds to what a reader can use.
func shortDuration(d time.Duration) string {
	switch {
	case d < 10*time.Second:
		return d.Round(100 * time.Millisecond).String()
	case d < time.Hour:
		return d.Round(time.Second).String()
	}
	return d.Round(time.Minute).String()
}

func printStatus(w io.Writer, answers []*adminpb.StatusResponse) error {
	seen := observer(answers)
	if d := seen.GetDiagnosis(); d.GetCode() != "" {
		say(w, "%s: %s\n\n", d.GetCode(), d.GetText())
	}
	if seen.GetGroup() == "" {
		_, err := fmt.Fprintf(w, "%s: %s\n", stateName(seen.GetState()), seen.GetError())
		return err
	}
	say(w, "group %s, view %s, seen by %s\n", seen.GetGroup(), seen.GetView().GetId(), seen.GetMember())
	if o := seen.GetOutlook(); o != nil {
		say(w, "%s\n", outlookText(o))
	}
	if text := standingText(seen); text != "" {
		say(w, "%s\n", text)
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	say(t, "\nMEMBER\tADDRESS\tSTATE\tROLE\tLEADS\tVERSION\tWEIGHT\tHEARD\tAPPLIED\tEXECUTED\tDIGEST\n")
	for _, r := range rows(answers) {
		applied := "-"
		if r.Digest != "" {
			applied = strconv.FormatUint(r.Applied, 10)
		}
		say(t, "%s\t%s\t%s\t%s\t%s\t%s\t%d\t%s\t%s\t%s\t%s\n", r.Member, r.Address, r.State, orDash(r.Role), r.leads(), orDash(r.Version), r.Weight,
			r.heard(), applied, orDash(oneLine(r.Executed)), orDash(r.Digest))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, a := range answers {
		for _, note := range append(notes(a), rightNotes(a)...) {
			say(w, "\n%s %s\n", a.GetMember(), note)
		}
	}
	if a := seen.GetAction(); a != nil {
		say(w, "\n%s\n", openActionText(seen.GetView(), a))
	}
	for _, text := range findingTexts(seen) {
		say(w, "\n%s\n", text)
	}
	return nil
}

// standingText says who writes; empty if the member does not know.
func standingText(s *adminpb.StatusResponse) string {
	if s.GetMode() == adminpb.Mode_MODE_UNSPECIFIED {
		return ""
	}
	text := fmt.Sprintf("%s, epoch %d, protocol %d", modeName(s.GetMode()), s.GetEpoch(), s.GetProtocol())
	switch {
	case s.GetMode() == adminpb.Mode_MODE_MULTI_PRIMARY:
		return text
	case s.GetPrimary() == "":
		return text + ", nobody is primary"
	}
	return text + ", primary " + at(s.GetView(), s.GetPrimary())
}

// rightNotes are what keeps a member from writing or showing, each to follow its
// name.
func rightNotes(a *adminpb.StatusResponse) (out []string) {
	add := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	if a.GetAlone() {
		add("is the primary, and too few of the others tell that they hear it: nothing that writes begins there, and another one may have been elected")
	}
	if a.GetOutdated() > 0 {
		add("is told that epoch %d has begun, and has come to epoch %d", a.GetOutdated(), a.GetEpoch())
	}
	if g := a.GetGate(); g != nil {
		add("does not show what is ordered up to log index %d before %s tell that they know of it", g.GetIndex(), named(a.GetView(), g.GetMissing()))
	}
	if f := a.GetFlow(); f.GetThrottled() {
		add("slows its writers, %s; concordat flow says more", flowLine(f, time.Now()))
	}
	return out
}

func outlookText(o *adminpb.Outlook) string {
	text := plural(uint64(o.GetMembers()), "member")
	if o.GetRecovering() > 0 {
		text += fmt.Sprintf(" (%d catching up)", o.GetRecovering())
	}
	return fmt.Sprintf("%s, %d of %s reachable, majority %d, tolerance %d", text,
		o.GetReachable(), plural(uint64(o.GetVoters()), "voter"), o.GetQuorum(), o.GetTolerance())
}

// notes are what a member says of itself beside its state, each to follow its
// name.
func notes(a *adminpb.StatusResponse) (out []string) {
	add := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	if a.GetError() != "" {
		add("is %s: %s", stateName(a.GetState()), a.GetError())
	}
	if a.GetRejoinTry() != 0 {
		add("tries to come back, for the %s time", ordinal(a.GetRejoinTry()))
	}
	if a.GetWaiting() != "" {
		add("waits for %s", a.GetWaiting())
	}
	if r := a.GetRecovery(); r != nil {
		add("catches up: %s", recoveryText(r))
	}
	if a.GetLogStalled() {
		add("cannot write its log: its disk hangs")
	}
	if a.GetFrozen() != "" {
		add("is frozen for plan %s; run concordat force-members again with that plan or a new one", a.GetFrozen())
	}
	return out
}

func ordinal(n uint32) string {
	suffix := "th"
	if n%100 < 11 || n%100 > 13 {
		switch n % 10 {
		case 1:
			suffix = "st"
		case 2:
			suffix = "nd"
		case 3:
			suffix = "rd"
		}
	}
	return strconv.FormatUint(uint64(n), 10) + suffix
}

// recoveryText tells the progress of a member that catches up.
func recoveryText(r *adminpb.Recovery) string {
	amount := func(n uint64) string { return strconv.FormatUint(n, 10) }
	text, unit := "log", " entries"
	if r.GetMethod() == adminpb.Recovery_METHOD_CLONE {
		text, unit, amount = "clone", "", byteText
	}
	if r.GetDonor() != "" {
		text += " from " + r.GetDonor()
	}
	text += ", " + amount(r.GetDone())
	if r.GetTotal() != 0 {
		text += " of " + amount(r.GetTotal())
	}
	text += unit
	if r.GetRate() > 0 {
		text += ", " + amount(uint64(r.GetRate())) + " per second"
	}
	if r.GetLeftNanos() > 0 {
		text += ", " + shortDuration(time.Duration(r.GetLeftNanos())) + " left"
	}
	return text
}

// byteText rounds a number of bytes for a reader.
func byteText(n uint64) string {
	for _, u := range units {
		if size := uint64(u.bytes); n >= size && size > 1 {
			return strconv.FormatFloat(float64(n)/float64(size), 'f', 1, 64) + u.name
		}
	}
	return strconv.FormatUint(n, 10) + "B"
}

func orDash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}

// statusJSON is what status --json prints. Its fields stay.
type statusJSON struct {
	Diagnosis   diagnosisJSON    `json:"diagnosis"`
	Outlook     outlookJSON      `json:"outlook"`
	Group       string           `json:"group"`
	Incarnation string           `json:"incarnation"`
	View        string           `json:"view"`
	SeenBy      string           `json:"seen_by"`
	Address     string           `json:"address"`
	State       string           `json:"state"`
	Quorum      bool             `json:"quorum"`
	Mode        string           `json:"mode,omitempty"`
	Epoch       uint64           `json:"epoch"`
	Primary     string           `json:"primary,omitempty"`
	Writable    bool             `json:"writable"`
	Alone       bool             `json:"alone"`
	Outdated    uint64           `json:"outdated,omitempty"` // a newer epoch of which others have told
	Action      *actionJSON      `json:"action,omitempty"`
	Protocol    uint32           `json:"protocol"`
	Gate        *gateJSON        `json:"gate,omitempty"`
	Fresh       float64          `json:"fresh_seconds"` // how old what is visible may be; -1 where that is not known
	Running     uint64           `json:"running"`       // transactions that may write
	Flow        *flowJSON        `json:"flow,omitempty"`
	Error       string           `json:"error,omitempty"`
	Waiting     string           `json:"waiting,omitempty"`
	Recovery    *recoveryJSON    `json:"recovery,omitempty"`
	LogStalled  bool             `json:"log_stalled"`
	Frozen      string           `json:"frozen,omitempty"`
	RejoinTry   uint32           `json:"rejoin_try,omitempty"`
	Members     []row            `json:"members"`
	Delivered   uint64           `json:"delivered"`
	Applied     uint64           `json:"applied"`
	Durable     uint64           `json:"durable"`
	Counters    map[string]int64 `json:"counters"`
	StateCheck  stateCheckJSON   `json:"state_check"`
	ApplyFaults applyFaultsJSON  `json:"apply_faults"`
}

// gateJSON is a transaction that is not visible before others know of it.
type gateJSON struct {
	Index   uint64   `json:"index"`
	Missing []string `json:"missing"`
}

func gateOf(g *adminpb.Gate) *gateJSON {
	if g == nil {
		return nil
	}
	return &gateJSON{g.GetIndex(), append([]string{}, g.GetMissing()...)}
}

type diagnosisJSON struct {
	Code string `json:"code"`
	Text string `json:"text"`
}

type outlookJSON struct {
	Members    uint32 `json:"members"`
	Voters     uint32 `json:"voters"`
	Recovering uint32 `json:"recovering"`
	Reachable  uint32 `json:"reachable"`
	Quorum     uint32 `json:"quorum"`
	Tolerance  uint32 `json:"tolerance"`
}

func outlookOf(o *adminpb.Outlook) outlookJSON {
	return outlookJSON{o.GetMembers(), o.GetVoters(), o.GetRecovering(), o.GetReachable(), o.GetQuorum(), o.GetTolerance()}
}

// recoveryJSON counts entries of the log, or bytes of a clone.
type recoveryJSON struct {
	Method       string  `json:"method"`
	Donor        string  `json:"donor,omitempty"`
	DonorAddress string  `json:"donor_address,omitempty"`
	Done         uint64  `json:"done"`
	Total        uint64  `json:"total,omitempty"`
	PerSecond    float64 `json:"per_second"`
	LeftSeconds  float64 `json:"left_seconds,omitempty"`
}

func recoveryOf(r *adminpb.Recovery) *recoveryJSON {
	if r == nil {
		return nil
	}
	return &recoveryJSON{
		strings.TrimPrefix(r.GetMethod().String(), "METHOD_"), r.GetDonor(), r.GetDonorAddress(),
		r.GetDone(), r.GetTotal(), r.GetRate(), time.Duration(r.GetLeftNanos()).Seconds(),
	}
}

// oneLine puts a GTID set, which has a line for each UUID, on one.
func oneLine(set string) string { return strings.ReplaceAll(set, "\n", "") }

func printStatusJSON(w io.Writer, answers []*adminpb.StatusResponse) error {
	a := observer(answers)
	c := a.GetCounters()
	return printJSON(w, statusJSON{
		Diagnosis: diagnosisJSON{a.GetDiagnosis().GetCode(), a.GetDiagnosis().GetText()}, Outlook: outlookOf(a.GetOutlook()),
		Group: a.GetGroup(), Incarnation: a.GetIncarnation(), View: a.GetView().GetId(), SeenBy: a.GetMember(), Address: a.GetAddress(),
		State: stateName(a.GetState()), Quorum: a.GetQuorum(), Error: a.GetError(), Waiting: a.GetWaiting(),
		Recovery: recoveryOf(a.GetRecovery()), LogStalled: a.GetLogStalled(), Frozen: a.GetFrozen(), RejoinTry: a.GetRejoinTry(),
		Mode: modeJSONName(a), Epoch: a.GetEpoch(), Primary: a.GetPrimary(), Writable: a.GetWritable(), Alone: a.GetAlone(), Outdated: a.GetOutdated(),
		Action: actionOf(a.GetAction()), Protocol: a.GetProtocol(), Gate: gateOf(a.GetGate()), Fresh: freshSeconds(a.GetFreshNanos()), Running: a.GetRunning(),
		Flow:      flowStatusOf(a.GetFlow()),
		Members:   rows(answers),
		Delivered: a.GetDelivered(), Applied: a.GetApplied(), Durable: a.GetDurable(),
		StateCheck: stateCheckOf(a.GetStateCheck()), ApplyFaults: applyFaultsOf(a.GetApplyFaults()),
		Counters: map[string]int64{
			"committed": int64(c.GetCommitted()), "conflicts": int64(c.GetConflicts()),
			"snapshots_too_old": int64(c.GetSnapshotsTooOld()), "certified": int64(c.GetCertified()),
			"applied": int64(c.GetApplied()), "history_items": int64(c.GetHistoryItems()), "history_bytes": int64(c.GetHistoryBytes()),
			"log_syncs": int64(c.GetLogSyncs()), "duplicates": int64(c.GetDuplicates()),
			"state_checks": int64(c.GetStateChecks()), "checked_pairs": int64(c.GetCheckedPairs()), "state_check_nanos": c.GetStateCheckNanos(),
		},
	})
}

// modeJSONName is empty where the member does not know the mode.
func modeJSONName(a *adminpb.StatusResponse) string {
	if a.GetMode() == adminpb.Mode_MODE_UNSPECIFIED {
		return ""
	}
	return modeName(a.GetMode())
}

// printJSON prints v for scripts, and for people who look.
func printJSON(w io.Writer, v any) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	return encoder.Encode(v)
}
