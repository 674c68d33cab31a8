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
		Short: "Show the group as a node sees it",
		Long: `Show the members of the group as a node sees them. A node knows how far it has
applied the log itself, what it has executed, and the digest of its data: name
several nodes, and their rows are filled in too. Nodes with the same number
under APPLIED have the same digest.

The node answers in every state. When one of the nodes does not answer, the
others are shown and the exit code is 4.`,
		Example: `  concordat status
  concordat status --address 127.0.0.1:7500,127.0.0.1:7501,127.0.0.1:7502
  concordat status --json`,
		Args: exactArgs(),
	}
	f.register(cmd)
	f.registerJSON(cmd)
	cmd.RunE = interruptible(func(ctx context.Context, cmd *cobra.Command, _ []string) error {
		ctx, cancel := context.WithTimeout(ctx, time.Duration(f.timeout))
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
	Member   string `json:"member"`
	Address  string `json:"address"`
	State    string `json:"state"`
	Leader   bool   `json:"leader"`
	Version  string `json:"version"`
	Weight   uint32 `json:"weight"`
	Applied  uint64 `json:"applied,omitempty"`
	Executed string `json:"executed,omitempty"`
	Digest   string `json:"digest,omitempty"`
	Error    string `json:"error,omitempty"`
}

// rows merges the view of the first answer with what each member said of
// itself.
func rows(answers []*adminpb.StatusResponse) []row {
	own := map[string]*adminpb.StatusResponse{}
	for _, a := range answers {
		own[a.GetMember()] = a
	}
	var out []row
	for _, m := range answers[0].GetView().GetMembers() {
		r := row{
			Member: m.GetUuid(), Address: m.GetAddress(), State: stateName(m.GetState()),
			Leader:  m.GetUuid() == answers[0].GetLeader(),
			Version: libraryVersion(m.GetVersion()), Weight: m.GetWeight(),
		}
		if a := own[r.Member]; a != nil {
			r.State, r.Error = stateName(a.GetState()), a.GetError()
			r.Applied, r.Executed, r.Digest = a.GetApplied(), a.GetExecuted(), hex.EncodeToString(a.GetDigest())
		}
		out = append(out, r)
	}
	return out
}

func printStatus(w io.Writer, answers []*adminpb.StatusResponse) error {
	first := answers[0]
	if first.GetGroup() == "" {
		_, err := fmt.Fprintf(w, "%s: %s\n", stateName(first.GetState()), first.GetError())
		return err
	}
	say(w, "group %s, view %s, seen by %s\n\n", first.GetGroup(), first.GetView().GetId(), first.GetMember())
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	say(t, "MEMBER\tADDRESS\tSTATE\tROLE\tVERSION\tWEIGHT\tAPPLIED\tEXECUTED\tDIGEST\n")
	var notes []string
	for _, r := range rows(answers) {
		role, applied := "-", "-"
		if r.Leader {
			role = "leader"
		}
		if r.Digest != "" {
			applied = strconv.FormatUint(r.Applied, 10)
		}
		say(t, "%s\t%s\t%s\t%s\t%s\t%d\t%s\t%s\t%s\n", r.Member, r.Address, r.State, role, r.Version, r.Weight,
			applied, orDash(oneLine(r.Executed)), orDash(r.Digest))
		if r.Error != "" {
			notes = append(notes, fmt.Sprintf("%s is %s: %s", r.Member, r.State, r.Error))
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, note := range notes {
		say(w, "\n%s\n", note)
	}
	return nil
}

func orDash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}

// statusJSON is what status --json prints. Its fields stay.
type statusJSON struct {
	Group       string           `json:"group"`
	Incarnation string           `json:"incarnation"`
	View        string           `json:"view"`
	SeenBy      string           `json:"seen_by"`
	State       string           `json:"state"`
	Error       string           `json:"error,omitempty"`
	Members     []row            `json:"members"`
	Delivered   uint64           `json:"delivered"`
	Applied     uint64           `json:"applied"`
	Durable     uint64           `json:"durable"`
	Counters    map[string]int64 `json:"counters"`
}

// oneLine puts a GTID set, which has a line for each UUID, on one.
func oneLine(set string) string { return strings.ReplaceAll(set, "\n", "") }

func printStatusJSON(w io.Writer, answers []*adminpb.StatusResponse) error {
	a := answers[0]
	c := a.GetCounters()
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	return encoder.Encode(statusJSON{
		Group: a.GetGroup(), Incarnation: a.GetIncarnation(), View: a.GetView().GetId(), SeenBy: a.GetMember(),
		State: stateName(a.GetState()), Error: a.GetError(), Members: rows(answers),
		Delivered: a.GetDelivered(), Applied: a.GetApplied(), Durable: a.GetDurable(),
		Counters: map[string]int64{
			"committed": int64(c.GetCommitted()), "conflicts": int64(c.GetConflicts()),
			"snapshots_too_old": int64(c.GetSnapshotsTooOld()), "certified": int64(c.GetCertified()),
			"applied": int64(c.GetApplied()), "history_items": int64(c.GetHistoryItems()), "history_bytes": int64(c.GetHistoryBytes()),
			"log_syncs": int64(c.GetLogSyncs()), "duplicates": int64(c.GetDuplicates()),
		},
	})
}

func newLeaveCommand() *cobra.Command {
	var f clientFlags
	cmd := &cobra.Command{
		Use:   "leave",
		Short: "Take a node out of its group",
		Long: `Take a node out of its group in order; its process then ends. The group becomes
smaller, and so does its majority. The node's directory has to be emptied before
it can join again. The last member cannot leave.`,
		Example: "  concordat leave --address 127.0.0.1:7502",
		Args:    exactArgs(),
	}
	f.register(cmd)
	cmd.RunE = f.call(func(ctx context.Context, _ *cobra.Command, c *server.Client, _ []string) error {
		_, err := c.Leave(ctx, &adminpb.LeaveRequest{})
		return err
	})
	return cmd
}
