package main

import (
	"context"
	"strconv"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/concordatdb/concordat/internal/server"
	"github.com/concordatdb/concordat/proto/concordat/admin/v1"
)

// protocolJSON is what protocol --json prints. Its fields stay.
type protocolJSON struct {
	Protocol uint32                `json:"protocol"`
	Members  []protocolVersionJSON `json:"members"`
}

type protocolVersionJSON struct {
	Member  string `json:"member"`
	Address string `json:"address"`
	Version string `json:"version"`
}

func newProtocolCommand() *cobra.Command {
	var f clientFlags
	cmd := &cobra.Command{
		Use:   "protocol",
		Short: "Show or raise the version of what members tell each other",
		Long: `Show the version of what members tell each other, which all of them speak, and
the versions of their programs. After all have been upgraded, concordat protocol
set raises it.`,
		Example: `  concordat protocol
  concordat protocol set 1
  concordat protocol --json`,
		Args: exactArgs(),
	}
	f.register(cmd)
	f.registerJSON(cmd)
	cmd.RunE = f.call(func(ctx context.Context, cmd *cobra.Command, c *server.Client, _ []string) error {
		s, err := c.Status(ctx, &adminpb.StatusRequest{})
		if err != nil {
			return err
		}
		out := protocolJSON{Protocol: s.GetProtocol(), Members: []protocolVersionJSON{}}
		for _, m := range s.GetView().GetMembers() {
			out.Members = append(out.Members, protocolVersionJSON{m.GetUuid(), m.GetAddress(), libraryVersion(m.GetVersion())})
		}
		if f.json {
			return printJSON(cmd.OutOrStdout(), out)
		}
		say(cmd.OutOrStdout(), "the group speaks protocol %d\n\n", out.Protocol)
		t := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
		say(t, "MEMBER\tADDRESS\tVERSION\n")
		for _, m := range out.Members {
			say(t, "%s\t%s\t%s\n", m.Member, m.Address, m.Version)
		}
		return t.Flush()
	})
	cmd.AddCommand(newProtocolSetCommand())
	return cmd
}

func newProtocolSetCommand() *cobra.Command {
	var f switchFlags
	cmd := &cobra.Command{
		Use:   "set N",
		Short: "Raise the version of what members tell each other",
		Long: `Raise the version of what members tell each other, once all of them speak it. It
can never be lowered, and keeps older programs out of the group. What a member
does not speak is refused (exit code 7).`,
		Example: `  concordat protocol set 2 --plan
  concordat protocol set 2`,
		Args: exactArgs("N"),
	}
	f.register(cmd)
	cmd.RunE = f.call(func(ctx context.Context, cmd *cobra.Command, c *server.Client, args []string) error {
		n, err := strconv.ParseUint(args[0], 10, 32)
		if err != nil || n == 0 {
			return usagef("%q is no protocol: write a whole number from 1 on; concordat protocol shows the present one", args[0])
		}
		return f.run(ctx, cmd, c, &adminpb.PlanActionRequest{Kind: adminpb.Action_KIND_SET_PROTOCOL, Protocol: uint32(n)})
	})
	return cmd
}
