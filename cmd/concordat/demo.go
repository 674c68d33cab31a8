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
	clients  int
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
disk in a temporary directory, one of them primary, and a bank on top of it whose
clients know nothing but the members' addresses. They transfer money between
accounts, each transfer a transaction. Meanwhile the primary is killed: another one
takes over, and the clients go on; how long nobody could write is told. The killed
one comes back on its disk, as a secondary. A row is written at the primary and
read at once on a follower. Then the primary is changed as planned.

Then all members write, and a fourth one joins. A transaction loses to another
member's, and its client is told to which and why. Workers on all members add to
one counter, and none of them loses. In the end it is checked that all members hold
the same, that no acknowledged transfer is missing, and that no money came or went.

Takes about half a minute. Ctrl-C ends it and cleans up. Exit code 0 means that
every check passed.`,
		Example: `  concordat demo
  concordat demo --phase 10s --clients 16`,
		Args: exactArgs(),
	}
	cmd.Flags().Var(&o.phase, "phase", "how long the load runs between two events")
	cmd.Flags().IntVar(&o.clients, "clients", 12, "clients of the bank")
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
	d := &demo{options: o, group: group, bank: newBank(o.accounts, fail), tell: newTeller(out)}
	defer d.bank.close()
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
		d.form, d.transfer, d.kill, d.restart, d.readOwn, d.move, d.openUp, d.join, d.close, d.contend, d.countUp, d.settle,
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
	d.tell.line("m2 and m3 have joined it, each a process with its own disk; %s is the primary", first.name)
	if err := d.bank.open(ctx, d.group.all()); err != nil {
		return err
	}
	d.tell.line("a bank opens: %s accounts with %s each", count(d.options.accounts), count(openingBalance))
	return nil
}

func (d *demo) transfer(ctx context.Context) error {
	n := d.options.clients
	d.tell.heading("Clients transfer money, all at once")
	d.bank.begin(ctx, n)
	d.tell.line("%d clients read two accounts, and write both, each in a transaction", n)
	before := d.bank.tally()
	if err := d.wait(ctx, time.Duration(d.options.phase)); err != nil {
		return err
	}
	now := d.bank.tally()
	d.tell.line("%s transfers, %s a second; %s had to be run again for another one's",
		count(now.acknowledged-before.acknowledged), d.rate(now.acknowledged-before.acknowledged), count(now.repeated-before.repeated))
	return nil
}

// join has a further member join.
func (d *demo) join(ctx context.Context) error {
	d.tell.heading("A fourth, empty member joins while the load runs")
	before := d.bank.tally()
	began := time.Now()
	m := d.group.add()
	if err := d.group.run(ctx, m); err != nil {
		return err
	}
	d.tell.line("%s is ONLINE after %v", m.name, time.Since(began).Round(time.Millisecond))
	if err := d.wait(ctx, time.Duration(d.options.phase)/2); err != nil {
		return err
	}
	d.tell.line("%s transfers meanwhile", count(d.bank.tally().acknowledged-before.acknowledged))
	return nil
}

// close stops the clients of the bank.
func (d *demo) close(context.Context) error {
	d.bank.end()
	d.tell.line("the bank closes")
	return nil
}

// settle checks everything.
func (d *demo) settle(ctx context.Context) error {
	d.tell.heading("The books are checked")
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
	d.tell.check("%s attempts lost to others and were run again; they left no trace", count(t.repeated))
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
