// Command concordat runs a member of a replicated group as a server, talks to
// such servers, and shows and checks what the library does: a demo on real
// processes, a simulator, a benchmark.
//
// Each command is made by a function newXCommand in a file of its own. Only
// this package decides when a process ends, and with which exit code; see
// exit.go.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// run runs one command line and returns the exit code.
func run(args []string, out, errOut io.Writer) int {
	root := newRootCommand()
	root.SetArgs(args)
	root.SetOut(out)
	root.SetErr(errOut)
	return report(errOut, root.Execute())
}

func newRootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "concordat",
		Short: "A replicated, transactional store: Group Replication for Go programs",
		Long: `Concordat replicates tables of ordered keys over a group of members, each with
its own disk. One member takes transactions that write, the primary, or all do; a
commit that was answered is on the disks of a majority.

Start with "concordat demo": it runs a group of real processes on this machine.

` + exitHelp,
		Example: `  concordat demo
  concordat node --group 5f0c6b8a-3d1e-4c43-9a53-0d1c2b3a4f50 --dir /tmp/m1 --bootstrap
  concordat put bank.accounts alice 100
  concordat get bank.accounts alice
  concordat status`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          noSuchCommand,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usagef("%w; see %s --help", err, cmd.CommandPath())
	})
	root.CompletionOptions.HiddenDefaultCmd = true
	root.AddCommand(
		newDemoCommand(),
		newNodeCommand(),
		newStatusCommand(),
		newMembersCommand(),
		newPrimaryCommand(),
		newModeCommand(),
		newHistoryCommand(),
		newJoinCommand(),
		newLeaveCommand(),
		newRemoveCommand(),
		newRejoinCommand(),
		newReplaceCommand(),
		newCloneCommand(),
		newForceMembersCommand(),
		newCheckCommand(),
		newConflictsCommand(),
		newFlowCommand(),
		newSettingsCommand(),
		newProtocolCommand(),
		newGetCommand(),
		newPutCommand(),
		newDeleteCommand(),
		newAddCommand(),
		newScanCommand(),
		newTxnCommand(),
		newOutcomeCommand(),
		newChangesCommand(),
		newDumpCommand(),
		newRestoreCommand(),
		newSimCommand(),
		newBenchCommand(),
		newVersionCommand(),
	)
	return root
}

func noSuchCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	hint := ""
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		hint = "; did you mean " + strings.Join(near, " or ") + "?"
	}
	return usagef("there is no command %q%s; see concordat --help", args[0], hint)
}

// say writes a line or more for the user. That nobody reads it is no error.
func say(w io.Writer, format string, args ...any) { _, _ = fmt.Fprintf(w, format, args...) }

// exactArgs asks for one argument for each name.
func exactArgs(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) != len(names) {
			what := strings.Join(names, " ")
			if what == "" {
				what = "no arguments"
			}
			return usagef("%s takes %s, got %d arguments; see %s --help", cmd.CommandPath(), what, len(args), cmd.CommandPath())
		}
		return nil
	}
}

// interruptible makes a command's function out of one whose context ends with
// the first SIGINT or SIGTERM. A second one ends the process.
func interruptible(fn func(ctx context.Context, cmd *cobra.Command, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		defer context.AfterFunc(ctx, stop)()
		err := fn(ctx, cmd, args)
		if err != nil && ctx.Err() != nil && cmd.Context().Err() == nil {
			return fmt.Errorf("interrupted: %w", err)
		}
		return err
	}
}
