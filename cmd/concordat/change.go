package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/concordatdb/concordat/gtid"
	"github.com/concordatdb/concordat/internal/server"
	"github.com/concordatdb/concordat/proto/concordat/admin/v1"
)

// changedJSON is what a command that changed the membership prints with --json:
// the member, and what the group looks like from the node that was asked. Its
// fields stay.
type changedJSON struct {
	Verb      string         `json:"verb"`
	Member    string         `json:"member"`
	State     string         `json:"state,omitempty"`
	View      string         `json:"view,omitempty"`
	Diagnosis *diagnosisJSON `json:"diagnosis,omitempty"`
	Discarded string         `json:"discarded,omitempty"`
	SavedTo   string         `json:"saved_to,omitempty"`
}

func newLeaveCommand() *cobra.Command {
	var f changeFlags
	cmd := &cobra.Command{
		Use:   "leave",
		Short: "Take a node out of its group",
		Long: `Take a node out of its group in order; its process then ends. The group becomes
smaller, and so does its majority; the lead goes to another member first, and if
it is the primary, so does that, once what it runs has finished. Started again in its directory the node joins the group again. The last member cannot
leave. What would leave the group without tolerance is refused (exit code 7)
without --force.`,
		Example: `  concordat leave --address 127.0.0.1:7502 --plan
  concordat leave --address 127.0.0.1:7502`,
		Args: exactArgs(),
	}
	f.register(cmd)
	f.registerJSON(cmd)
	f.registerPlan(cmd)
	f.registerForce(cmd, "leave even if the group can then bear no failure")
	noHandover := registerNoHandover(cmd)
	cmd.RunE = f.call(func(ctx context.Context, cmd *cobra.Command, c *server.Client, _ []string) error {
		if f.plan {
			return f.showPlan(ctx, cmd, c, adminpb.Verb_VERB_LEAVE, "")
		}
		s, err := c.Status(ctx, &adminpb.StatusRequest{}) // it answers no more once it is out
		if err != nil {
			return err
		}
		if _, err := c.Leave(ctx, &adminpb.LeaveRequest{Force: f.force, NoHandover: *noHandover}); err != nil {
			return err
		}
		if f.json {
			return printJSON(cmd.OutOrStdout(), changedJSON{Verb: "leave", Member: s.GetMember()})
		}
		say(cmd.OutOrStdout(), "member %s has left the group\n", s.GetMember())
		return nil
	})
	return cmd
}

func newRemoveCommand() *cobra.Command {
	var f changeFlags
	cmd := &cobra.Command{
		Use:   "remove MEMBER-UUID",
		Short: "Take a dead member out of the group",
		Long: `Take a dead member out of the group, through any other one. The group becomes
smaller, and so does its majority. The group does so itself when it has not heard
the member for --member-expel-timeout; this command is for one that is not to come
back. A member that is alive is refused (exit code 7) without --force: let it
leave. So is what would leave the group without tolerance.

A group that has lost its majority cannot remove anybody: see
concordat force-members.`,
		Example: `  concordat remove 00000000-0000-4000-8000-000000000003 --plan
  concordat remove 00000000-0000-4000-8000-000000000003 --address 127.0.0.1:7501`,
		Args: exactArgs("MEMBER-UUID"),
	}
	f.register(cmd)
	f.registerJSON(cmd)
	f.registerPlan(cmd)
	f.registerForce(cmd, "remove it even if it is alive, or if the group can then bear no failure")
	cmd.RunE = f.call(func(ctx context.Context, cmd *cobra.Command, c *server.Client, args []string) error {
		if err := checkUUID(args[0]); err != nil {
			return err
		}
		if f.plan {
			return f.showPlan(ctx, cmd, c, adminpb.Verb_VERB_REMOVE, args[0])
		}
		if _, err := c.Remove(ctx, &adminpb.RemoveRequest{Member: args[0], Force: f.force}); err != nil {
			return err
		}
		return f.changed(ctx, cmd.OutOrStdout(), c, changedJSON{Verb: "remove", Member: args[0]}, "member "+args[0]+" is out of the group")
	})
	return cmd
}

// registerNoHandover is for commands that take a member out that may be primary.
func registerNoHandover(cmd *cobra.Command) *bool {
	return cmd.Flags().Bool("no-handover", false, "a primary does not make another member primary first")
}

// checkUUID spares a node the question for a member that cannot be.
func checkUUID(text string) error {
	if _, err := gtid.ParseUUID(text); err != nil {
		return usagef("%q is not the UUID of a member; concordat members lists them: %w", text, err)
	}
	return nil
}

// changed prints what was done and what the group looks like then. That the
// latter cannot be had is no failure of the change.
func (f *changeFlags) changed(ctx context.Context, w io.Writer, c *server.Client, done changedJSON, text string) error {
	s, err := c.Status(ctx, &adminpb.StatusRequest{})
	if err == nil {
		done.View = s.GetView().GetId()
		done.Diagnosis = &diagnosisJSON{s.GetDiagnosis().GetCode(), s.GetDiagnosis().GetText()}
	}
	if f.json {
		return printJSON(w, done)
	}
	say(w, "%s\n", text)
	if err == nil && s.GetDiagnosis().GetCode() != "" {
		say(w, "%s: %s\n", s.GetDiagnosis().GetCode(), s.GetDiagnosis().GetText())
	}
	return nil
}

// comingFlags are the flags of the commands that bring a member into a group.
type comingFlags struct {
	changeFlags

	seeds         []string
	donor         string
	discardErrant bool
}

func (f *comingFlags) register(cmd *cobra.Command) {
	f.registerWaiting(cmd, "until the member is ONLINE")
	f.registerJSON(cmd)
	cmd.Flags().StringVar(&f.donor, "donor", "", "`member`, by UUID or address, to catch up from; empty: chosen")
}

func (f *comingFlags) registerSeeds(cmd *cobra.Command) {
	cmd.Flags().StringSliceVar(&f.seeds, "seeds", nil, "`addresses` of members of the group to ask; empty: those that the node was started with")
	f.registerPlanAt(cmd)
}

const comingHelp = `

The command waits until the member is ONLINE, and shows its progress on standard
error. Ended before, it stops nothing: concordat status has the progress. A
member that has transactions which the group does not have is refused (exit code
7), and they are listed.`

func newJoinCommand() *cobra.Command {
	var f comingFlags
	cmd := &cobra.Command{
		Use:   "join",
		Short: "Bring a node that is OFFLINE into a group",
		Long: `Bring a node into a group that was started without --bootstrap and without
--seeds, and so is OFFLINE.` + comingHelp,
		Example: `  concordat join --address 127.0.0.1:7503 --seeds 127.0.0.1:7400,127.0.0.1:7401
  concordat join --address 127.0.0.1:7503 --plan --plan-at 127.0.0.1:7500`,
		Args: exactArgs(),
	}
	f.register(cmd)
	f.registerSeeds(cmd)
	cmd.RunE = f.call(func(ctx context.Context, cmd *cobra.Command, c *server.Client, _ []string) error {
		if f.plan {
			return f.planJoin(ctx, cmd, c)
		}
		return f.come(ctx, cmd, c, changedJSON{Verb: "join"}, func(ctx context.Context, _ *changedJSON) error {
			_, err := c.Join(ctx, &adminpb.JoinRequest{Seeds: f.seeds, Donor: f.donor})
			return err
		})
	})
	return cmd
}

// planJoin shows what the group would be with the node that c is of.
func (f *comingFlags) planJoin(ctx context.Context, cmd *cobra.Command, c *server.Client) error {
	s, err := c.Status(ctx, &adminpb.StatusRequest{})
	if err != nil {
		return err
	}
	return f.showPlan(ctx, cmd, c, adminpb.Verb_VERB_JOIN, s.GetMember())
}

func newReplaceCommand() *cobra.Command {
	var f comingFlags
	cmd := &cobra.Command{
		Use:   "replace DEAD-MEMBER-UUID",
		Short: "Put a new node in the place of a dead member",
		Long: `Put a node that is OFFLINE, whose address is given, in the place of a dead
member: one leaves and the other comes in the same step, so that the group's
majority stays what it is. A member that is alive is refused (exit code 7).` + comingHelp,
		Example: `  concordat replace 00000000-0000-4000-8000-000000000003 --address 127.0.0.1:7503 --seeds 127.0.0.1:7400
  concordat replace 00000000-0000-4000-8000-000000000003 --plan --plan-at 127.0.0.1:7500`,
		Args: exactArgs("DEAD-MEMBER-UUID"),
	}
	f.register(cmd)
	f.registerSeeds(cmd)
	cmd.RunE = f.call(func(ctx context.Context, cmd *cobra.Command, c *server.Client, args []string) error {
		if err := checkUUID(args[0]); err != nil {
			return err
		}
		if f.plan {
			return f.showPlan(ctx, cmd, c, adminpb.Verb_VERB_REPLACE, args[0])
		}
		return f.come(ctx, cmd, c, changedJSON{Verb: "replace"}, func(ctx context.Context, _ *changedJSON) error {
			_, err := c.Join(ctx, &adminpb.JoinRequest{Seeds: f.seeds, Replaces: args[0], Donor: f.donor})
			return err
		})
	})
	return cmd
}

func newRejoinCommand() *cobra.Command {
	var f comingFlags
	cmd := &cobra.Command{
		Use:   "rejoin",
		Short: "Bring a node back that is out of its group or in ERROR",
		Long: `Bring a node back into its group that was expelled, was left out by
concordat force-members, or is in ERROR. What its log still holds it keeps; the
rest comes from the other members.` + comingHelp + `

With --discard-errant such transactions are given up: the node first writes them
to a file on its own host, which is named, and which a person can read.`,
		Example: `  concordat rejoin --address 127.0.0.1:7502
  concordat rejoin --address 127.0.0.1:7502 --discard-errant --donor 127.0.0.1:7401`,
		Args: exactArgs(),
	}
	f.register(cmd)
	f.registerSeeds(cmd)
	cmd.Flags().BoolVar(&f.discardErrant, "discard-errant", false, "save transactions that only this node has to a file, and give them up")
	cmd.RunE = f.call(func(ctx context.Context, cmd *cobra.Command, c *server.Client, _ []string) error {
		if f.plan {
			return f.planJoin(ctx, cmd, c)
		}
		return f.come(ctx, cmd, c, changedJSON{Verb: "rejoin"}, func(ctx context.Context, done *changedJSON) error {
			r, err := c.Rejoin(ctx, &adminpb.RejoinRequest{Seeds: f.seeds, DiscardErrant: f.discardErrant, Donor: f.donor})
			done.Discarded, done.SavedTo = oneLine(r.GetDiscarded()), r.GetSavedTo()
			return err
		})
	})
	return cmd
}

func newCloneCommand() *cobra.Command {
	var f comingFlags
	cmd := &cobra.Command{
		Use:   "clone",
		Short: "Copy the whole state of another member to a node",
		Long: `Copy the whole state of another member in place of a node's own. A member that
has to catch up does so by itself where the log does not reach; this command is
for one whose own state is in doubt. Until the copy is complete and checked, the
node keeps the state that it has.

A primary makes another member primary first. The command waits until the member
is ONLINE again, and shows its progress on standard error. Ended before, it stops
nothing.`,
		Example: `  concordat clone --address 127.0.0.1:7502
  concordat clone --address 127.0.0.1:7502 --donor 00000000-0000-4000-8000-000000000001`,
		Args: exactArgs(),
	}
	f.register(cmd)
	noHandover := registerNoHandover(cmd)
	cmd.RunE = f.call(func(ctx context.Context, cmd *cobra.Command, c *server.Client, _ []string) error {
		return f.come(ctx, cmd, c, changedJSON{Verb: "clone"}, func(ctx context.Context, _ *changedJSON) error {
			_, err := c.Clone(ctx, &adminpb.CloneRequest{Donor: f.donor, NoHandover: *noHandover})
			return err
		})
	})
	return cmd
}

// come orders a member to come into the group, which answers once it is ONLINE,
// and tells of its progress meanwhile.
func (f *comingFlags) come(ctx context.Context, cmd *cobra.Command, c *server.Client, done changedJSON,
	order func(ctx context.Context, done *changedJSON) error,
) error {
	ordered := make(chan error, 1)
	go func() { ordered <- order(ctx, &done) }()
	if err := f.follow(ctx, cmd.ErrOrStderr(), c, ordered); err != nil {
		return err
	}
	s, err := c.Status(ctx, &adminpb.StatusRequest{})
	if err != nil {
		return fmt.Errorf("it is done, but the member does not tell how it is: %w", err)
	}
	done.Member, done.State = s.GetMember(), stateName(s.GetState())
	if !f.json && done.SavedTo != "" {
		say(cmd.OutOrStdout(), "discarded %s, saved to %s\n", done.Discarded, done.SavedTo)
	}
	return f.changed(ctx, cmd.OutOrStdout(), c, done, "member "+done.Member+" is "+done.State)
}

// progressInterval is how often a member is asked how far it has come.
const progressInterval = time.Second

// follow tells of the progress of the member until ordered has the outcome.
func (f *comingFlags) follow(ctx context.Context, w io.Writer, c *server.Client, ordered <-chan error) error {
	ticker := time.NewTicker(progressInterval)
	defer ticker.Stop()
	last := ""
	for {
		select {
		case err := <-ordered:
			return err
		case <-ticker.C:
			if s, err := c.Status(ctx, &adminpb.StatusRequest{}); err == nil {
				last = f.progress(w, s, last)
			}
		}
	}
}

// progress prints what the member does unless it was the last thing printed.
func (f *comingFlags) progress(w io.Writer, s *adminpb.StatusResponse, last string) string {
	text := stateName(s.GetState())
	switch {
	case s.GetRecovery() != nil:
		text += ": " + recoveryText(s.GetRecovery())
	case s.GetWaiting() != "":
		text += ": waits for " + s.GetWaiting()
	}
	if !f.json && text != last {
		say(w, "%s\n", text)
	}
	return text
}
