package main

import (
	"context"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/concordatdb/concordat/internal/server"
	"github.com/concordatdb/concordat/proto/concordat/admin/v1"
)

func newMembersCommand() *cobra.Command {
	var f clientFlags
	cmd := &cobra.Command{
		Use:   "members",
		Short: "List the members of the group",
		Long: `List the members of the group as one node sees them: their state, how long ago
the node has heard them, and how far each has come in the log. One whose ROLE is
PRIMARY may write; the one that LEADS orders transactions. A member that is
not heard any more is UNREACHABLE; a node that is in no group lists itself.
concordat status says what that means for the group.`,
		Example: `  concordat members
  concordat members --address 127.0.0.1:7501 --json`,
		Args: exactArgs(),
	}
	f.register(cmd)
	f.registerJSON(cmd)
	cmd.RunE = f.call(func(ctx context.Context, cmd *cobra.Command, c *server.Client, _ []string) error {
		s, err := c.Status(ctx, &adminpb.StatusRequest{})
		if err != nil {
			return err
		}
		if f.json {
			return printMembersJSON(cmd.OutOrStdout(), s)
		}
		return printMembers(cmd.OutOrStdout(), s)
	})
	return cmd
}

func printMembers(w io.Writer, s *adminpb.StatusResponse) error {
	if text := standingText(s); text != "" {
		say(w, "%s\n\n", text)
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	say(t, "MEMBER\tADDRESS\tSTATE\tROLE\tLEADS\tVERSION\tWEIGHT\tHEARD\tDELIVERED\n")
	for _, r := range rows([]*adminpb.StatusResponse{s}) {
		say(t, "%s\t%s\t%s\t%s\t%s\t%s\t%d\t%s\t%d\n", r.Member, orDash(r.Address), r.State, orDash(r.Role), r.leads(), orDash(r.Version), r.Weight,
			r.heard(), r.Delivered)
	}
	return t.Flush()
}

// membersJSON is what members --json prints. Its fields stay.
type membersJSON struct {
	Group       string       `json:"group"`
	Incarnation string       `json:"incarnation"`
	View        string       `json:"view"`
	SeenBy      string       `json:"seen_by"`
	Mode        string       `json:"mode,omitempty"`
	Epoch       uint64       `json:"epoch"`
	Primary     string       `json:"primary,omitempty"`
	Members     []memberJSON `json:"members"`
}

type memberJSON struct {
	Member       string  `json:"member"`
	RaftID       uint64  `json:"raft_id,string,omitempty"` // more than a JSON number can hold everywhere
	Address      string  `json:"address"`
	State        string  `json:"state"`
	Leader       bool    `json:"leader"`
	Version      string  `json:"version"`
	Weight       uint32  `json:"weight"`
	HeardSeconds float64 `json:"heard_seconds"` // 0 also for one that was never heard
	NeverHeard   bool    `json:"never_heard"`
	Delivered    uint64  `json:"delivered"`
	Role         string  `json:"role,omitempty"` // PRIMARY for all that may write, else SECONDARY
	Client       string  `json:"client_address,omitempty"`
}

func printMembersJSON(w io.Writer, s *adminpb.StatusResponse) error {
	out := membersJSON{
		Group: s.GetGroup(), Incarnation: s.GetIncarnation(), View: s.GetView().GetId(), SeenBy: s.GetMember(),
		Mode: modeJSONName(s), Epoch: s.GetEpoch(), Primary: s.GetPrimary(),
		Members: []memberJSON{},
	}
	raftIDs := map[string]uint64{}
	for _, m := range s.GetView().GetMembers() {
		raftIDs[m.GetUuid()] = m.GetRaftId()
	}
	for _, r := range rows([]*adminpb.StatusResponse{s}) {
		out.Members = append(out.Members, memberJSON{
			r.Member, raftIDs[r.Member], r.Address, r.State, r.Leader, r.Version, r.Weight, r.HeardSeconds, r.NeverHeard, r.Delivered,
			r.Role, r.Client,
		})
	}
	return printJSON(w, out)
}
