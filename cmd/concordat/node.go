package main

import (
	"cmp"
	"context"
	"io"
	"net"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/concordatdb/concordat"
)

const nodeHelp = `Run one member of a group and serve it to clients, until a signal ends it.

The first member founds the group with --bootstrap, further ones join with
--seeds. Both matter only while the directory is new: a member that comes back
goes on from its directory, and is started without --bootstrap. Seeds may stay.
With neither, a new member is OFFLINE and waits for concordat join. Whether one
member writes or all do is chosen once, with --single-primary or --multi-primary;
concordat mode switches it later. A member has
to be at the address where the group knows it: port 0 is for trials.

Standard output gets one line, once the member is ONLINE; with --json it is
{"event":"ready","group":…,"member":…,"address":…,"client_address":…,…}.
Everything else goes to standard error. Before that line, and whenever the member
is not ONLINE, clients can ask for the status, and have it join, rejoin, or take
part in concordat force-members.

A member that the group does not take ends with exit code 7, unless it has
transactions that the group does not: then it stays OFFLINE for concordat rejoin.
One that loses its place later tries to come back, and then does its
--exit-state-action; with ABORT that is to end with exit code 6.

Each setting has one name: --client-listen is also client-listen in the file of
--config (TOML) and CONCORDAT_CLIENT_LISTEN in the environment. The command line
wins over the environment, and the environment over the file.

Signals:
  SIGTERM  leave the group in order, and end. The group becomes smaller, and so
           does its majority. Started again in its directory the member joins
           the group again: what starts it has to be told, too. The last member
           cannot leave: it just stops, and the group lives on in its directory.
           So does one that is not ONLINE, which keeps its place (exit code 4).
           With --on-sigterm=stop the same as SIGINT.
  SIGINT   stop, and keep the place in the group. The others go on as long as
           they are a majority; started again, the member catches up. This is
           the way to restart a node.
  SIGHUP   nothing.
  A second SIGTERM or SIGINT ends the process at once, which is safe.

` + exitHelp

const nodeExample = `  # a group of three on one machine, one command per terminal
  G=5f0c6b8a-3d1e-4c43-9a53-0d1c2b3a4f50
  concordat node --group $G --dir /tmp/m1 --bootstrap
  concordat node --group $G --dir /tmp/m2 --listen 127.0.0.1:7401 --client-listen 127.0.0.1:7501 --seeds 127.0.0.1:7400
  concordat node --group $G --dir /tmp/m3 --listen 127.0.0.1:7402 --client-listen 127.0.0.1:7502 --seeds 127.0.0.1:7400

  # a member that is told everything by a file
  cat > node.toml <<END
  group = "5f0c6b8a-3d1e-4c43-9a53-0d1c2b3a4f50"
  dir = "/var/lib/concordat"
  listen = "10.0.0.1:7400"
  client-listen = "10.0.0.1:7500"
  seeds = ["10.0.0.2:7400", "10.0.0.3:7400"]
  on-sigterm = "stop"
  END
  concordat node --config node.toml`

func newNodeCommand() *cobra.Command {
	parsed := defaultSettings()
	flags := parsed.flags()
	var file string
	var build func(*concordat.Config) error
	cmd := &cobra.Command{
		Use:     "node",
		Short:   "Run one member of a group",
		Long:    nodeHelp,
		Example: nodeExample,
		Args:    exactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := resolve(flags, file, os.LookupEnv)
			if err != nil {
				return err
			}
			return runNode(cmd.Context(), &s, build, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	cmd.Flags().SortFlags = false
	cmd.Flags().StringVar(&file, "config", "", "TOML `file` with settings")
	cmd.Flags().AddFlagSet(flags)
	build = asBuild(cmd)
	return cmd
}

// runNode runs a member. Which build it is says build, the last to change its
// configuration.
func runNode(ctx context.Context, s *nodeSettings, build func(*concordat.Config) error, out, errOut io.Writer) error {
	signals, release := takeSignals()
	defer release()
	p := newProcess(s, s.logger(errOut), out, signals)
	cfg := s.config()
	cfg.Logger, cfg.OnExit = p.logger, p.exited
	var err error
	if s.TLSCert != "" {
		files := concordat.TLSFiles{Cert: s.TLSCert, Key: s.TLSKey, CA: s.TLSCA}
		if cfg.TLS, err = files.Load(); err != nil {
			return &usageError{err}
		}
	}
	if err := build(&cfg); err != nil {
		return &usageError{err}
	}
	if err := p.serve(ctx); err != nil {
		return err
	}
	defer p.drain(ctx)
	if cfg.ClientAddress == "" {
		cfg.ClientAddress = clientAddress(p.clients.String(), cmp.Or(s.Advertise, s.Listen))
	}
	node, err := concordat.Start(ctx, cfg)
	if err != nil {
		return err
	}
	return p.attend(ctx, node)
}

// clientAddress is where clients reach a node that listens for them at one address.
// If that is every address of the host, they reach it where other members do.
func clientAddress(listens, members string) string {
	host, port, err := net.SplitHostPort(listens)
	if ip := net.ParseIP(host); err != nil || ip != nil && !ip.IsUnspecified() {
		return listens
	}
	if host, _, err = net.SplitHostPort(members); err != nil {
		return listens
	}
	return net.JoinHostPort(host, port)
}

// takeSignals hands the first signal that ends a node to whoever reads. A
// second one ends the process: nothing can be lost by that.
func takeSignals() (first <-chan os.Signal, release func()) {
	signal.Ignore(syscall.SIGHUP)
	all := make(chan os.Signal, 2)
	signal.Notify(all, syscall.SIGTERM, os.Interrupt)
	handed := make(chan os.Signal, 1)
	done := make(chan struct{})
	go func() {
		for count := 0; ; count++ {
			select {
			case s := <-all:
				if count > 0 {
					os.Exit(exitAtOnce)
				}
				handed <- s
			case <-done:
				return
			}
		}
	}()
	return handed, func() {
		signal.Stop(all)
		close(done)
	}
}
