package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/concordatdb/concordat/internal/server"
	"github.com/concordatdb/concordat/proto/concordat/admin/v1"
)

func newPrimaryCommand() *cobra.Command {
	var f clientFlags
	var why bool
	cmd := &cobra.Command{
		Use:   "primary",
		Short: "Show who is primary and why, or make another member primary",
		Long: `Show which member is the primary of a single-primary group: since which epoch and
log position, and why, as the node that is asked knows it. An epoch is the time
from one change of who may write to the next. With --why, show how an election
would come out if it were held now, member by member: of the ONLINE members of
the lowest version the one with the highest --weight, of equals the one with the
lowest UUID.

concordat primary set makes another member primary, concordat history --epochs
shows who was before.`,
		Example: `  concordat primary
  concordat primary --why --address 127.0.0.1:7501
  concordat primary set 00000000-0000-4000-8000-000000000002
  concordat primary --json`,
		Args: exactArgs(),
	}
	f.register(cmd)
	f.registerJSON(cmd)
	cmd.Flags().BoolVar(&why, "why", false, "show how an election would come out now")
	cmd.RunE = f.call(func(ctx context.Context, cmd *cobra.Command, c *server.Client, _ []string) error {
		s, err := c.Status(ctx, &adminpb.StatusRequest{})
		if err != nil {
			return err
		}
		r, err := c.Why(ctx, &adminpb.WhyRequest{})
		if err != nil {
			return err
		}
		if f.json {
			return printJSON(cmd.OutOrStdout(), primaryOf(s, r, why))
		}
		return printPrimary(cmd.OutOrStdout(), s, r, why)
	})
	cmd.AddCommand(newPrimarySetCommand(), newPrimaryCancelCommand(), newPrimaryActionCommand())
	return cmd
}

// modeName returns single-primary for MODE_SINGLE_PRIMARY.
func modeName(m adminpb.Mode) string { return strings.ReplaceAll(word(m, "MODE_"), " ", "-") }

// memberIn returns a member of the view, nil if it is not there.
func memberIn(v *adminpb.View, uuid string) *adminpb.Member {
	for _, m := range v.GetMembers() {
		if m.GetUuid() == uuid {
			return m
		}
	}
	return nil
}

// writersIn are those who may write.
func writersIn(v *adminpb.View) []string {
	writers := []string{}
	for _, m := range v.GetMembers() {
		if m.GetWrites() {
			writers = append(writers, m.GetUuid())
		}
	}
	return writers
}

// at is a member's address for members in brackets, as in the diagnoses.
func at(v *adminpb.View, uuid string) string {
	if m := memberIn(v, uuid); m.GetAddress() != "" {
		return uuid + " (" + m.GetAddress() + ")"
	}
	return uuid
}

// primaryJSON is what primary --json prints. Its fields stay.
type primaryJSON struct {
	SeenBy        string      `json:"seen_by"`
	Mode          string      `json:"mode"`
	Epoch         uint64      `json:"epoch"`
	Since         uint64      `json:"since"` // log position that began the epoch
	Cause         string      `json:"cause,omitempty"`
	Reason        string      `json:"reason,omitempty"`
	Primary       string      `json:"primary,omitempty"`
	Address       string      `json:"address,omitempty"`
	ClientAddress string      `json:"client_address,omitempty"`
	Writers       []string    `json:"writers"`
	Alone         bool        `json:"alone"`
	Outdated      uint64      `json:"outdated,omitempty"` // a newer epoch of which others have told
	Action        *actionJSON `json:"action,omitempty"`
	Winner        string      `json:"winner,omitempty"`
	Ranking       []rankJSON  `json:"ranking,omitempty"`
}

type rankJSON struct {
	Member  string `json:"member"`
	Rank    uint32 `json:"rank"` // 0: no candidate
	Verdict string `json:"verdict"`
	Behind  uint64 `json:"behind"`
	Text    string `json:"text"`
	Version string `json:"version"`
	Weight  uint32 `json:"weight"`
}

func primaryOf(s *adminpb.StatusResponse, r *adminpb.WhyResponse, why bool) primaryJSON {
	p, e := memberIn(s.GetView(), s.GetPrimary()), r.GetEpoch()
	out := primaryJSON{
		SeenBy: s.GetMember(), Mode: modeName(s.GetMode()), Epoch: e.GetNumber(), Since: e.GetIndex(), Cause: e.GetCause(), Reason: e.GetReason(),
		Primary: s.GetPrimary(), Address: p.GetAddress(), ClientAddress: p.GetClientAddress(), Writers: writersIn(s.GetView()),
		Alone: s.GetAlone(), Outdated: s.GetOutdated(), Action: actionOf(s.GetAction()),
	}
	if !why {
		return out
	}
	out.Winner = r.GetWinner()
	for _, l := range r.GetRanking() {
		out.Ranking = append(out.Ranking, rankJSON{
			l.GetMember(), l.GetRank(), word(l.GetVerdict(), "VERDICT_"), l.GetBehind(), l.GetText(), libraryVersion(l.GetVersion()), l.GetWeight(),
		})
	}
	return out
}

func printPrimary(w io.Writer, s *adminpb.StatusResponse, r *adminpb.WhyResponse, why bool) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	p, e := memberIn(s.GetView(), s.GetPrimary()), r.GetEpoch()
	switch {
	case s.GetMode() == adminpb.Mode_MODE_MULTI_PRIMARY:
		say(t, "primaries\t%s\n", cmp.Or(strings.Join(writersIn(s.GetView()), ", "), "none"))
	case s.GetPrimary() == "":
		say(t, "primary\tnone: nobody can be it\n")
	default:
		say(t, "primary\t%s\n", s.GetPrimary())
		say(t, "for clients\t%s\n", orDash(p.GetClientAddress()))
		say(t, "for members\t%s\n", orDash(p.GetAddress()))
	}
	say(t, "mode\t%s\n", modeName(s.GetMode()))
	say(t, "epoch\t%d, since log index %d\n", e.GetNumber(), e.GetIndex())
	say(t, "why\t%s\n", strings.TrimSuffix(e.GetCause()+": "+e.GetReason(), ": "))
	say(t, "seen by\t%s\n", s.GetMember())
	if err := t.Flush(); err != nil {
		return err
	}
	for _, note := range rightNotes(s) {
		say(w, "\n%s %s\n", s.GetMember(), note)
	}
	if a := s.GetAction(); a != nil {
		say(w, "\n%s\n", openActionText(s.GetView(), a))
	}
	if !why {
		return nil
	}
	say(w, "\nwere it elected now:\n\n")
	say(t, "RANK\tMEMBER\tVERSION\tWEIGHT\tBEHIND\tVERDICT\tWHY\n")
	for _, l := range r.GetRanking() {
		rank := "-"
		if l.GetRank() > 0 {
			rank = strconv.FormatUint(uint64(l.GetRank()), 10)
		}
		say(t, "%s\t%s\t%s\t%d\t%d\t%s\t%s\n", rank, l.GetMember(), libraryVersion(l.GetVersion()), l.GetWeight(), l.GetBehind(),
			word(l.GetVerdict(), "VERDICT_"), l.GetText())
	}
	return t.Flush()
}

const switchHelp = `

The members that lose the right to write let the transactions finish that they
run, for as long as --grace says, and hold back new ones; what runs then cannot
commit. The command shows what it waits for on standard error, and ends when the
change is made and felt. Ended before, by a signal or --timeout, it stops
nothing: the change goes on, and the message names the commands that show it and
take it back (exit code 5). One that is refused ends with exit code 7, one that
had begun and was cancelled, or could not go on, with 10: then nothing has
changed.`

func newPrimarySetCommand() *cobra.Command {
	var f switchFlags
	cmd := &cobra.Command{
		Use:   "set MEMBER",
		Short: "Make another member primary",
		Long: `Make another member, by UUID or address, the primary of a single-primary group.
Any node can be asked. The member must be ONLINE, of the lowest version in the
group, and heard.` + switchHelp,
		Example: `  concordat primary set 00000000-0000-4000-8000-000000000002 --plan
  concordat primary set 00000000-0000-4000-8000-000000000002 --grace 30s
  concordat primary set 127.0.0.1:7501 --address 127.0.0.1:7500`,
		Args: exactArgs("MEMBER"),
	}
	f.register(cmd)
	f.registerGrace(cmd)
	cmd.RunE = f.call(func(ctx context.Context, cmd *cobra.Command, c *server.Client, args []string) error {
		member, err := f.member(ctx, c, args[0])
		if err != nil {
			return err
		}
		return f.run(ctx, cmd, c, &adminpb.PlanActionRequest{Kind: adminpb.Action_KIND_SET_PRIMARY, Member: member})
	})
	return cmd
}

// errUnknownAction: the node does not know the planned change that was asked for.
var errUnknownAction = errors.New("the node knows no such planned change, or no longer")

func newPrimaryCancelCommand() *cobra.Command {
	var f clientFlags
	cmd := &cobra.Command{
		Use:   "cancel ACTION-UUID",
		Short: "Take a planned change back that has not been made yet",
		Long: `Take a planned change of the primary or the mode back that has not been made yet,
through any node. The member that writes goes on. A change that has ended is
refused (exit code 7).`,
		Example: `  concordat primary cancel 1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed`,
		Args:    exactArgs("ACTION-UUID"),
	}
	f.register(cmd)
	f.registerJSON(cmd)
	cmd.RunE = f.call(func(ctx context.Context, cmd *cobra.Command, c *server.Client, args []string) error {
		if err := checkAction(args[0]); err != nil {
			return err
		}
		if _, err := c.CancelAction(ctx, &adminpb.CancelActionRequest{Id: args[0]}); err != nil {
			return err
		}
		if f.json {
			return showAction(ctx, cmd.OutOrStdout(), c, args[0], true)
		}
		say(cmd.OutOrStdout(), "planned change %s is cancelled; nothing has changed\n", args[0])
		return nil
	})
	return cmd
}

func newPrimaryActionCommand() *cobra.Command {
	var f clientFlags
	cmd := &cobra.Command{
		Use:   "action [ACTION-UUID]",
		Short: "Show how far a planned change is, or how it ended",
		Long: `Show how far a planned change of the primary, the mode or the protocol is, or how
it ended; without a UUID, the one that is under way. Any node can be asked. The
last 16 that ended are known; of another one the exit code is 3.`,
		Example: `  concordat primary action
  concordat primary action 1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed --json`,
		Args: atMostOne("ACTION-UUID"),
	}
	f.register(cmd)
	f.registerJSON(cmd)
	cmd.RunE = f.call(func(ctx context.Context, cmd *cobra.Command, c *server.Client, args []string) error {
		if len(args) > 0 {
			if err := checkAction(args[0]); err != nil {
				return err
			}
			return showAction(ctx, cmd.OutOrStdout(), c, args[0], f.json)
		}
		s, err := c.Status(ctx, &adminpb.StatusRequest{})
		if err != nil {
			return err
		}
		if s.GetAction() == nil {
			return fmt.Errorf("%w: none is under way", errUnknownAction)
		}
		return printAction(cmd.OutOrStdout(), s.GetView(), s.GetAction(), f.json)
	})
	return cmd
}

// checkAction spares a node the question for a planned change that cannot be.
func checkAction(text string) error {
	if checkUUID(text) != nil {
		return usagef("%q is not the UUID of a planned change; concordat primary action shows the one that is under way", text)
	}
	return nil
}

// showAction asks for a planned change and prints it.
func showAction(ctx context.Context, w io.Writer, c *server.Client, id string, asJSON bool) error {
	r, err := c.GetAction(ctx, &adminpb.GetActionRequest{Id: id})
	if err != nil {
		return err
	}
	if r.GetAction() == nil {
		return fmt.Errorf("%w: %s", errUnknownAction, id)
	}
	s, err := c.Status(ctx, &adminpb.StatusRequest{}) // for addresses
	if err != nil {
		return err
	}
	return printAction(w, s.GetView(), r.GetAction(), asJSON)
}

// atMostOne asks for one argument or none.
func atMostOne(name string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) > 1 {
			return exactArgs(name)(cmd, args)
		}
		return nil
	}
}
