package main

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/concordatdb/concordat"
	"github.com/concordatdb/concordat/bench"
)

const benchHelp = `Measure what commits cost on this machine, with real files, fsync and sockets.

Two shapes. in-process: three members in this process, talking over loopback
TCP, with their callers beside them, as a program that embeds the library has
it. processes: three "concordat node" processes, driven through gRPC from this
one, as a server is used. Members and load share the machine either way.

Each row is a closed loop of single-row updates, each client with keys of its
own among 60,000; with --conflicts also clients of all members that write the
same few keys. Clients are at the member that leads ("one") or evenly at all
("spread"). CPU is that of all members and the load together. A row marked *
was measured while something else kept the machine busy.

The members' directories are made below --dir, which has to be on a real disk,
and removed at the end. The full matrix takes about five minutes.`

func newBenchCommand() *cobra.Command {
	o := bench.Defaults()
	var quick bool
	var shapes, placements []string
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure commits per second, latency, CPU and fsyncs",
		Long:  benchHelp,
		Example: `  concordat bench --quick
  concordat bench --shapes in-process --clients 64 --values 100 --repeats 5
  concordat bench --shapes in-process --clients 64 --profile profiles
  concordat bench --json > figures.json`,
		Args: exactArgs(),
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.StringSliceVar(&shapes, "shapes", texts(o.Shapes), "where the members run: in-process, processes")
	f.StringSliceVar(&placements, "at", texts(o.Placements), "where the clients are: one, spread")
	f.IntSliceVar(&o.Clients, "clients", o.Clients, "how many clients")
	f.IntSliceVar(&o.ValueBytes, "values", o.ValueBytes, "sizes of a value in bytes")
	f.BoolVar(&o.Conflicts, "conflicts", o.Conflicts, "also measure hot keys, in process")
	timingFlags(f, &o.Timing, "each row")
	f.IntVar(&o.Repeats, "repeats", o.Repeats, "how often everything is measured, in turn")
	f.IntVar(&o.Keys, "keys", o.Keys, "how many keys are preloaded")
	siteFlags(f, &o.Site)
	f.BoolVar(&o.WarmLog, "warm-log", o.WarmLog, "open the members with --warm-log")
	f.IntVar(&o.Procs, "procs", 0, "GOMAXPROCS of this process, which in process has all three members; 0: Go's own choice")
	f.StringVar(&o.Profiles, "profile", "", "`directory` for CPU and allocation profiles of the in-process rows")
	f.BoolVar(&quick, "quick", false, "16 and 64 clients, 100 bytes, one second each")
	reports(cmd, &o.Site, oneObject, func(ctx context.Context) (bench.Report, error) {
		o.Shapes, o.Placements = kinds[bench.Shape](shapes), kinds[bench.Placement](placements)
		if quick {
			o.Clients, o.ValueBytes, o.Conflicts = []int{16, 64}, []int{100}, false
			o.Duration = time.Second
		}
		return bench.Run(ctx, o)
	}, bench.Report.WriteTable)
	cmd.AddCommand(newBenchLevelsCommand(), newBenchFailuresCommand(), newBenchFailoverCommand(), newBenchApplyCommand(),
		newBenchCheckCommand(), newBenchFlowCommand(), newBenchChangesCommand(), newBenchGiantCommand())
	return cmd
}

func texts[T ~string](kinds []T) []string {
	var out []string
	for _, k := range kinds {
		out = append(out, string(k))
	}
	return out
}

func kinds[T ~string](texts []string) []T {
	var out []T
	for _, t := range texts {
		out = append(out, T(t))
	}
	return out
}

// startMember starts a member of the group under measurement as a process of this
// executable, which can be started again.
func startMember(ctx context.Context, o bench.MemberOptions) (bench.NodeProcess, error) {
	executable, err := os.Executable()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(o.Dir), 0o750); err != nil {
		return nil, err
	}
	p, err := startNodeProcess(ctx, executable, o.Dir+".log", memberArgs(&o))
	if err != nil {
		return nil, err
	}
	return benchNode{p}, nil
}

// memberArgs are those of the node command.
func memberArgs(o *bench.MemberOptions) []string {
	args := []string{"--group", bench.Group, "--dir", o.Dir}
	switch {
	case o.Place != nil:
		args = append(args, "--member", o.Place.Member, "--listen", o.Place.Listen, "--advertise", o.Place.Advertise,
			"--client-listen", o.Place.ClientListen, "--client-address", o.Place.ClientAddress)
	case o.Earlier != nil:
		args = append(args, "--listen", o.Earlier.MemberAddress(), "--client-listen", o.Earlier.ClientAddress())
	default:
		args = append(args, "--listen", loopback, "--client-listen", loopback)
	}
	switch {
	case o.Seed != "":
		args = append(args, "--seeds", o.Seed)
	case o.Earlier == nil:
		args = append(args, "--bootstrap", modeFlag(o.Mode))
	}
	if o.CheckpointBytes > 0 {
		args = append(args, "--checkpoint-size", strconv.Itoa(o.CheckpointBytes)+"B")
	}
	if o.ApplyWorkers > 0 {
		args = append(args, "--apply-workers", strconv.Itoa(o.ApplyWorkers))
	}
	if o.WarmLog {
		args = append(args, "--warm-log")
	}
	return args
}

// modeFlag is the flag of a node that founds a group of a mode.
func modeFlag(m concordat.Mode) string { return "--" + m.String() }

// benchNode is a node process as the benchmark sees it.
type benchNode struct{ *nodeProcess }

func (n benchNode) PID() int              { return n.cmd.Process.Pid }
func (n benchNode) MemberAddress() string { return n.ready.Address }
func (n benchNode) ClientAddress() string { return n.ready.ClientAddress }

// Stop kills the process: the directory goes next, there is nothing to save.
func (n benchNode) Stop() error { return n.kill() }
