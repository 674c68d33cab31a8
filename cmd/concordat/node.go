package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/concordatdb/concordat"
	"github.com/concordatdb/concordat/internal/server"
)

const nodeHelp = `Run one member of a group and serve it to clients, until a signal ends it.

The first member founds the group with --bootstrap, further ones join with
--seeds. Both matter only while the directory is new: a member that comes back
goes on from its directory, and is started without --bootstrap. Seeds may stay.
It has to be at the address where the group knows it: port 0 is for trials.

Standard output gets one line, once the member is ONLINE; with --json it is
{"event":"ready","group":…,"member":…,"address":…,"client_address":…,…}.
Everything else goes to standard error. Before that line clients can ask for the
status already.

Each setting has one name: --client-listen is also client-listen in the file of
--config (TOML) and CONCORDAT_CLIENT_LISTEN in the environment. The command line
wins over the environment, and the environment over the file.

Signals:
  SIGTERM  leave the group in order, and end. The group becomes smaller, and so
           does its majority. The directory has to be emptied to join again. The
           last member cannot leave: it just stops, and the group lives on in
           its directory. With --on-sigterm=stop the same as SIGINT.
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
			return runNode(cmd.Context(), &s, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	cmd.Flags().SortFlags = false
	cmd.Flags().StringVar(&file, "config", "", "TOML `file` with settings")
	cmd.Flags().AddFlagSet(flags)
	return cmd
}

// process is a node's process.
type process struct {
	settings *nodeSettings
	logger   *slog.Logger
	out      io.Writer
	signals  <-chan os.Signal // the first one
	server   *server.Server
	clients  net.Addr
}

func runNode(ctx context.Context, s *nodeSettings, out, errOut io.Writer) error {
	signals, release := takeSignals()
	defer release()
	p := &process{settings: s, logger: s.logger(errOut), out: out, signals: signals}
	cfg := s.config()
	cfg.Logger = p.logger
	var err error
	if s.TLSCert != "" {
		files := concordat.TLSFiles{Cert: s.TLSCert, Key: s.TLSKey, CA: s.TLSCA}
		if cfg.TLS, err = files.Load(); err != nil {
			return &usageError{err}
		}
	}
	if err := p.serve(ctx); err != nil {
		return err
	}
	defer p.drain(ctx)
	node, err := p.open(ctx, cfg)
	if err != nil || node == nil {
		return err
	}
	return p.attend(ctx, node)
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

// serve begins to answer clients.
func (p *process) serve(ctx context.Context) error {
	s := p.settings
	cfg := server.Config{Logger: p.logger}
	var err error
	if s.ClientTLSCert != "" {
		if cfg.TLS, err = serverTLS(s.ClientTLSCert, s.ClientTLSKey, s.ClientTLSCA); err != nil {
			return &usageError{err}
		}
	}
	cfg.Listener, err = new(net.ListenConfig).Listen(ctx, "tcp", s.ClientListen)
	if err != nil {
		return fmt.Errorf("listen on %s for clients: %w; choose another address with --client-listen", s.ClientListen, err)
	}
	p.clients = cfg.Listener.Addr()
	p.server = server.Start(cfg)
	return nil
}

// drain ends the service of clients; those who do not finish are cut off.
func (p *process) drain(ctx context.Context) {
	const patience = 5 * time.Second
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	p.server.Stop(ctx)
}

// open opens the node. It returns nil when a signal came first.
func (p *process) open(ctx context.Context, cfg concordat.Config) (*concordat.Node, error) {
	if t := time.Duration(p.settings.StartTimeout); t > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, t, fmt.Errorf("not ONLINE within the start timeout of %v", t))
		defer cancel()
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	type opened struct {
		node *concordat.Node
		err  error
	}
	result := make(chan opened, 1)
	go func() {
		node, err := concordat.Open(ctx, cfg)
		result <- opened{node, err}
	}()
	const interval = 10 * time.Second
	reminder := time.NewTicker(interval)
	defer reminder.Stop()
	began := time.Now()
	for {
		select {
		case o := <-result:
			return o.node, o.err
		case <-reminder.C:
			p.logger.Warn("still starting: a majority of the group has to run and be reachable",
				"dir", cfg.Dir, "seeds", cfg.Seeds, "since", time.Since(began).Round(time.Second).String())
		case s := <-p.signals:
			cancel(fmt.Errorf("%s came while the member was starting", s))
			o := <-result
			if o.node != nil {
				return nil, p.obey(ctx, o.node, s)
			}
			if p.leaves(s) {
				return nil, o.err
			}
			return nil, nil
		}
	}
}

// ready is the line that says that clients and members can come.
type ready struct {
	Event         string `json:"event"`
	Group         string `json:"group"`
	Member        string `json:"member"`
	Address       string `json:"address"`
	ClientAddress string `json:"client_address"`
	PID           int    `json:"pid"`
	Version       string `json:"version"`
}

// attend serves the node until a signal or the member itself ends it.
func (p *process) attend(ctx context.Context, node *concordat.Node) error {
	p.server.SetNode(node)
	status := node.Status()
	line := ready{
		"ready", status.Group.String(), status.Member.String(), node.Address(),
		p.clients.String(), os.Getpid(), buildVersion(),
	}
	if p.settings.JSON {
		_ = json.NewEncoder(p.out).Encode(line) // nobody may be reading
	} else {
		say(p.out, "ready: member %s of group %s, members at %s, clients at %s\n",
			line.Member, line.Group, line.Address, line.ClientAddress)
	}
	watching, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = node.WaitState(watching, func(s concordat.State) bool {
			return s == concordat.Offline || s == concordat.Error
		})
	}()
	defer func() {
		cancel()
		<-ended
	}()
	select {
	case s := <-p.signals:
		return p.obey(ctx, node, s)
	case <-ended:
		return p.bury(ctx, node)
	}
}

// leaves reports whether the signal s means to leave the group.
func (p *process) leaves(s os.Signal) bool {
	return s == syscall.SIGTERM && p.settings.OnSIGTERM == onSIGTERMLeave
}

// obey ends the node as the signal s asks.
func (p *process) obey(ctx context.Context, node *concordat.Node, s os.Signal) error {
	p.logger.Info("signal", "signal", s.String(), "leaves", p.leaves(s))
	p.drain(ctx)
	if !p.leaves(s) {
		return node.Close()
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Duration(p.settings.LeaveTimeout))
	defer cancel()
	err := node.Leave(ctx)
	switch {
	case errors.Is(err, concordat.ErrClosed) && p.server.LeaveAsked():
		return nil // a client's call was faster
	case !errors.Is(err, concordat.ErrLeave):
		return err
	case len(node.Status().View.Members) == 1:
		p.logger.Info("the last member stops without leaving: the group lives on in its directory", "dir", p.settings.Dir)
		return node.Close()
	}
	return errors.Join(fmt.Errorf("stopped, and still a member: %w", err), node.Close())
}

// bury closes a node that has ended by itself, and says why it has.
func (p *process) bury(ctx context.Context, node *concordat.Node) error {
	status := node.Status()
	p.drain(ctx) // the call that asked it to leave ends first
	closed := node.Close()
	if errors.Is(closed, concordat.ErrClosed) {
		closed = nil
	}
	switch {
	case ctx.Err() != nil:
		return closed
	case status.State == concordat.Error:
		return errors.Join(status.Err, closed)
	case p.server.LeaveAsked():
		return closed
	}
	return errors.Join(fmt.Errorf("the group has removed this member; empty %s to join anew", p.settings.Dir), closed)
}
