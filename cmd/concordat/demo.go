package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"
)

type demoOptions struct {
	phase    duration // of load between two events
	clients  int      // on each member
	accounts int
	keep     bool
}

// maxDemoTime ends a demo that hangs.
const maxDemoTime = 2 * time.Minute

func newDemoCommand() *cobra.Command {
	o := demoOptions{phase: duration(3500 * time.Millisecond)}
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Run the story of a group of real processes on this machine",
		Long: `Run a group of members on this machine, each a process of its own with its own
disk in a temporary directory, and a bank on top of it. A transaction loses to
another member's, and its client is told to which and why. Workers on all members
add to one counter, and none of them loses. Then clients on all members transfer
money between accounts at once. Meanwhile the member that leads raft is killed,
comes back on its disk, and a fourth member joins. In the end it is checked that
all members hold the same, that no acknowledged transfer is missing, and that no
money came or went.

Takes about 20 seconds. Ctrl-C ends it and cleans up. Exit code 0 means that
every check passed.`,
		Example: `  concordat demo
  concordat demo --phase 10s --clients 16`,
		Args: exactArgs(),
	}
	cmd.Flags().Var(&o.phase, "phase", "how long the load runs between two events")
	cmd.Flags().IntVar(&o.clients, "clients", 4, "clients for each member")
	cmd.Flags().IntVar(&o.accounts, "accounts", 64, "accounts; fewer make more conflicts")
	cmd.Flags().BoolVar(&o.keep, "keep", false, "keep the directory with data and logs")
	cmd.RunE = interruptible(func(ctx context.Context, cmd *cobra.Command, _ []string) error {
		if o.clients < 1 || o.accounts < 2 || o.phase <= 0 {
			return usagef("a bank needs at least 1 client and 2 accounts, and a phase some time")
		}
		return runDemo(ctx, o, cmd.OutOrStdout())
	})
	return cmd
}

// errBroken marks what a demo must never find.
var errBroken = errors.New("a promise is broken")

// runDemo makes the directory, plays the story, and cleans up.
func runDemo(ctx context.Context, o demoOptions, out io.Writer) (err error) {
	executable, err := os.Executable()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "concordat-demo-")
	if err != nil {
		return err
	}
	defer func() {
		// What a broken promise left behind is evidence.
		if o.keep || errors.Is(err, errBroken) {
			say(out, "\nData and logs of the members are in %s.\n", dir)
			return
		}
		err = errors.Join(err, os.RemoveAll(dir))
	}()
	ctx, stop := context.WithTimeoutCause(ctx, maxDemoTime, fmt.Errorf("the demo did not end within %v", maxDemoTime))
	defer stop()
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	group := &demoGroup{executable: executable, dir: dir, fail: fail}
	defer group.stop()
	d := &demo{options: o, group: group, bank: newBank(group, o.accounts, fail), tell: newTeller(out)}
	defer d.bank.end()
	if err := d.play(ctx); err != nil {
		if cause := context.Cause(ctx); cause != nil {
			return cause
		}
		return err
	}
	return nil
}

// demo is one run of the story.
type demo struct {
	options demoOptions
	group   *demoGroup
	bank    *bank
	tell    *teller
	others  int   // transactions beside those of the bank
	counted int64 // what was added to the counter
}

func (d *demo) play(ctx context.Context) error {
	for _, scene := range []func(context.Context) error{
		d.form, d.contend, d.countUp, d.transfer, d.kill, d.restart, d.join, d.settle,
	} {
		if err := scene(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (d *demo) form(ctx context.Context) error {
	d.tell.heading("A group forms")
	first, err := d.group.start(ctx)
	if err != nil {
		return err
	}
	d.tell.line("%s has founded it, alone: process %d on %s", first.name, first.ready.PID, first.ready.Address)
	others := make(chan error, 2)
	for range 2 {
		m := d.group.add()
		go func() { others <- d.group.run(ctx, m) }()
	}
	if err := errors.Join(<-others, <-others); err != nil {
		return err
	}
	d.tell.line("m2 and m3 have joined it, each a process with its own disk")
	if err := d.bank.open(ctx, first); err != nil {
		return err
	}
	d.tell.line("a bank opens: %s accounts with %s each", count(d.options.accounts), count(openingBalance))
	return nil
}

func (d *demo) transfer(ctx context.Context) error {
	n := 3 * d.options.clients
	d.tell.heading("Clients of all three members transfer money at once")
	d.bank.begin(ctx, n)
	d.tell.line("%d clients read two accounts, and write both if they are still the same", n)
	before := d.bank.tally()
	if err := d.wait(ctx, time.Duration(d.options.phase)); err != nil {
		return err
	}
	now := d.bank.tally()
	d.tell.line("%s transfers, %s a second; %s conflicts, each tried again",
		count(now.acknowledged-before.acknowledged), d.rate(now.acknowledged-before.acknowledged), count(now.conflicts-before.conflicts))
	return nil
}

func (d *demo) kill(ctx context.Context) error {
	victim, err := d.group.leader(ctx, nil)
	if err != nil {
		return err
	}
	d.tell.heading(fmt.Sprintf("%s, which leads raft, is killed", victim.name))
	began := d.bank.tally()
	d.bank.watchPause()
	if err := victim.kill(); err != nil {
		return err
	}
	before := d.bank.tally()
	d.tell.line("SIGKILL for process %d", victim.ready.PID)
	if err := poll(ctx, "the members left do not commit", func() bool {
		return d.bank.tally().acknowledged > before.acknowledged
	}); err != nil {
		return err
	}
	if err := d.wait(ctx, time.Duration(d.options.phase)); err != nil {
		return err
	}
	now, pause := d.bank.tally(), d.bank.longestPause()
	leader, err := d.group.leader(ctx, victim)
	if err != nil {
		return err
	}
	d.tell.line("the others went on, with %s as leader: %s transfers", leader.name, count(now.acknowledged-before.acknowledged))
	d.tell.line("longest pause between two commits: %s", d.tell.strong(pause.Round(time.Millisecond).String()))
	if open := now.unknown - began.unknown; open > 0 {
		d.tell.line("%s transfers were under way there: what became of them can be asked by their ids", count(open))
	}
	return nil
}

func (d *demo) restart(ctx context.Context) error {
	victim := d.group.down()
	d.tell.heading(victim.name + " is started again on its own disk")
	before := d.bank.tally()
	began := time.Now()
	if err := d.group.run(ctx, victim); err != nil {
		return err
	}
	d.tell.line("ONLINE after %v, with all that it had missed", time.Since(began).Round(time.Millisecond))
	d.bank.spread()
	if err := d.wait(ctx, time.Duration(d.options.phase)); err != nil {
		return err
	}
	d.tell.line("its clients are back: %s transfers on all three", count(d.bank.tally().acknowledged-before.acknowledged))
	return nil
}

func (d *demo) join(ctx context.Context) error {
	d.tell.heading("A fourth, empty member joins while the load runs")
	before := d.bank.tally()
	began := time.Now()
	m := d.group.add()
	if err := d.group.run(ctx, m); err != nil {
		return err
	}
	d.tell.line("%s is ONLINE after %v", m.name, time.Since(began).Round(time.Millisecond))
	d.bank.spread()
	if err := d.wait(ctx, time.Duration(d.options.phase)); err != nil {
		return err
	}
	d.tell.line("%s transfers meanwhile; clients use %s too", count(d.bank.tally().acknowledged-before.acknowledged), m.name)
	return nil
}

// settle stops the clients and checks everything.
func (d *demo) settle(ctx context.Context) error {
	d.tell.heading("The clients stop, and the books are checked")
	d.bank.end()
	members, err := d.group.agree(ctx)
	if err != nil {
		return err
	}
	d.tell.table(members)
	found, err := d.bank.audit(ctx, d.group.all(), members[0].GetExecuted(), d.others)
	if err != nil {
		return err
	}
	if err := d.checkCounter(ctx); err != nil {
		return err
	}
	t := d.bank.tally()
	d.tell.check("all %d members are at the same position of the log, with the same GTID set and digest", len(members))
	d.tell.check("%s transfers were acknowledged, and every one is there", count(t.acknowledged))
	if t.unknown > 0 {
		d.tell.check("%s had an unknown outcome: %s happened, %s did not, none by half; asked by id, the group says the same",
			count(t.unknown), count(found.unknownHappened), count(t.unknown-found.unknownHappened))
	}
	d.tell.check("%s conflicts were refused, and left no trace", count(t.conflicts))
	d.tell.check("the counter shows %s on each of them", count(int(d.counted)))
	d.tell.check("%s accounts hold %s, as in the beginning", count(d.options.accounts), count(found.sum))
	return nil
}

// wait lets the load run.
func (d *demo) wait(ctx context.Context, long time.Duration) error {
	timer := time.NewTimer(long)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (d *demo) rate(n int) string {
	return count(int(float64(n) / time.Duration(d.options.phase).Seconds()))
}
