package main

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"github.com/concordatdb/concordat/internal/server"
	"github.com/concordatdb/concordat/proto/concordat/admin/v1"
)

// modeJSON is what mode --json prints. Its fields stay.
type modeJSON struct {
	Mode    string   `json:"mode"`
	Epoch   uint64   `json:"epoch"`
	Primary string   `json:"primary,omitempty"`
	Writers []string `json:"writers"`
}

func newModeCommand() *cobra.Command {
	var f clientFlags
	cmd := &cobra.Command{
		Use:   "mode",
		Short: "Show or switch how many members write: one or all",
		Long: `Show how many members write: in a single-primary group one, the primary, in a
multi-primary group all that are ONLINE and of the lowest version. concordat mode
single and concordat mode multi switch.`,
		Example: `  concordat mode
  concordat mode multi
  concordat mode single
  concordat mode single 00000000-0000-4000-8000-000000000002 --grace 30s`,
		Args: exactArgs(),
	}
	f.register(cmd)
	f.registerJSON(cmd)
	cmd.RunE = f.call(func(ctx context.Context, cmd *cobra.Command, c *server.Client, _ []string) error {
		s, err := c.Status(ctx, &adminpb.StatusRequest{})
		if err != nil {
			return err
		}
		writers := writersIn(s.GetView())
		if f.json {
			return printJSON(cmd.OutOrStdout(), modeJSON{modeName(s.GetMode()), s.GetEpoch(), s.GetPrimary(), writers})
		}
		who := strings.Join(writers, ", ")
		if who == "" {
			who = "nobody"
		}
		say(cmd.OutOrStdout(), "%s, since epoch %d: %s may write\n", modeName(s.GetMode()), s.GetEpoch(), who)
		return nil
	})
	cmd.AddCommand(newModeSingleCommand(), newModeMultiCommand())
	return cmd
}

func newModeSingleCommand() *cobra.Command {
	var f switchFlags
	cmd := &cobra.Command{
		Use:   "single [MEMBER]",
		Short: "Have one member write from here on",
		Long: `Have one member write from here on, by UUID or address; without one, that which
ranks first (concordat primary --why).` + switchHelp,
		Example: `  concordat mode single --plan
  concordat mode single 00000000-0000-4000-8000-000000000002`,
		Args: atMostOne("MEMBER"),
	}
	f.register(cmd)
	f.registerGrace(cmd)
	cmd.RunE = f.call(func(ctx context.Context, cmd *cobra.Command, c *server.Client, args []string) error {
		r := &adminpb.PlanActionRequest{Kind: adminpb.Action_KIND_TO_SINGLE}
		if len(args) > 0 {
			var err error
			if r.Member, err = f.member(ctx, c, args[0]); err != nil {
				return err
			}
		}
		return f.run(ctx, cmd, c, r)
	})
	return cmd
}

func newModeMultiCommand() *cobra.Command {
	var f switchFlags
	cmd := &cobra.Command{
		Use:   "multi",
		Short: "Have all members write from here on",
		Long: `Have all members write from here on that are ONLINE and of the lowest version.
Nobody has to wait for that. A switch that is refused ends with exit code 7.`,
		Example: `  concordat mode multi
  concordat mode multi --plan --json`,
		Args: exactArgs(),
	}
	f.register(cmd)
	cmd.RunE = f.call(func(ctx context.Context, cmd *cobra.Command, c *server.Client, _ []string) error {
		return f.run(ctx, cmd, c, &adminpb.PlanActionRequest{Kind: adminpb.Action_KIND_TO_MULTI})
	})
	return cmd
}
