package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/concordatdb/concordat"
	"github.com/concordatdb/concordat/internal/server"
)

// process is a node's process.
type process struct {
	settings *nodeSettings
	logger   *slog.Logger
	out      io.Writer
	signals  <-chan os.Signal // the first one
	exits    chan error       // why the member does its exit state action
	server   *server.Server
	clients  net.Addr
}

func newProcess(s *nodeSettings, logger *slog.Logger, out io.Writer, signals <-chan os.Signal) *process {
	return &process{settings: s, logger: logger, out: out, signals: signals, exits: make(chan error, 1)}
}

// errAborted: the member is out of its group for good, and is configured to
// end its process then.
var errAborted = errors.New("the member is out of its group, and exit-state-action is ABORT")

// exited is told once that the member does its exit state action.
func (p *process) exited(reason error) { p.exits <- reason }

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
	watching, cancel := context.WithCancel(ctx)
	var watchers sync.WaitGroup
	defer watchers.Wait()
	defer cancel()
	settled, ended := make(chan struct{}), make(chan struct{})
	watchers.Go(func() { p.awaitSettled(watching, node, settled) })
	watchers.Go(func() { awaitEnd(watching, node, sync.OnceFunc(func() { close(ended) })) })
	const interval = 10 * time.Second
	reminder := time.NewTicker(interval)
	defer reminder.Stop()
	var late <-chan time.Time
	if t := time.Duration(p.settings.StartTimeout); t > 0 {
		timer := time.NewTimer(t)
		defer timer.Stop()
		late = timer.C
	}
	last := ""
	for {
		select {
		case s := <-p.signals:
			return p.obey(ctx, node, s)
		case <-ended:
			return p.bury(ctx, node)
		case reason := <-p.exits:
			if exitStateAction(p.settings.ExitStateAction) == concordat.Abort {
				return p.end(ctx, node, fmt.Errorf("%w: %w", errAborted, reason))
			}
		case <-settled:
			if status := node.Status(); status.State == concordat.Offline {
				return p.end(ctx, node, status.Err)
			}
			p.announce(node)
			settled, late = nil, nil
		case <-late:
			return p.end(ctx, node, fmt.Errorf("not ONLINE within the start timeout of %v: %s", time.Duration(p.settings.StartTimeout), node.Status().Diagnosis.Text))
		case <-reminder.C:
			last = p.remind(node, last)
		}
	}
}

// awaitSettled closes settled when the member is ONLINE, or OFFLINE because the
// group does not take it. One that could be taken without the transactions that
// only it has may yet be ordered to give them up.
func (p *process) awaitSettled(ctx context.Context, node *concordat.Node, settled chan<- struct{}) {
	_, err := node.WaitState(ctx, func(s concordat.State) bool {
		if s != concordat.Offline {
			return s == concordat.Online
		}
		err := node.Status().Err
		return errors.Is(err, concordat.ErrJoinRefused) && !errors.Is(err, concordat.ErrDiverged)
	})
	if err == nil {
		close(settled)
	}
}

// awaitEnd calls ended when the member can never serve again: it was closed, or
// what it keeps its data in has failed. One that is out of its group can come
// back.
func awaitEnd(ctx context.Context, node *concordat.Node, ended func()) {
	var waiting sync.WaitGroup
	defer waiting.Wait()
	waiting.Go(func() {
		_, err := node.WaitState(ctx, func(s concordat.State) bool {
			return s == concordat.Error && errors.Is(node.Status().Err, concordat.ErrFailed)
		})
		if err == nil {
			ended()
		}
	})
	// There is no such event: only Close, or ctx, ends the wait.
	if _, err := node.WaitEvents(ctx, math.MaxUint64); errors.Is(err, concordat.ErrClosed) {
		ended()
	}
}

// announce says that clients and members can come.
func (p *process) announce(node *concordat.Node) {
	status := node.Status()
	line := ready{
		"ready", status.Group.String(), status.Member.String(), node.Address(),
		p.clients.String(), os.Getpid(), buildVersion(),
	}
	if p.settings.JSON {
		_ = json.NewEncoder(p.out).Encode(line) // nobody may be reading
		return
	}
	say(p.out, "ready: member %s of group %s, members at %s, clients at %s\n",
		line.Member, line.Group, line.Address, line.ClientAddress)
}

// remind logs what keeps the member from being ONLINE, once for each reason.
func (p *process) remind(node *concordat.Node, last string) string {
	status := node.Status()
	text := status.Diagnosis.Text
	if status.State == concordat.Online || text == last {
		return text
	}
	p.logger.Warn("not ONLINE", "state", string(status.State), "diagnosis", string(status.Diagnosis.Code), "text", text)
	return text
}

// leaves reports whether the signal s means to leave the group.
func (p *process) leaves(s os.Signal) bool {
	return s == syscall.SIGTERM && p.settings.OnSIGTERM == onSIGTERMLeave
}

// obey ends the node as the signal s asks.
func (p *process) obey(ctx context.Context, node *concordat.Node, s os.Signal) error {
	p.logger.Info("signal", "signal", s.String(), "leaves", p.leaves(s))
	state := node.Status().State
	switch {
	case !p.leaves(s), state == concordat.Offline, state == concordat.Error:
		return p.end(ctx, node, nil)
	case state != concordat.Online:
		return p.end(ctx, node, fmt.Errorf("stopped, and still a member: %w: it is %s", concordat.ErrNotOnline, state))
	}
	p.drain(ctx)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Duration(p.settings.LeaveTimeout))
	defer cancel()
	err := node.Leave(ctx, concordat.Force()) // the process ends in any case: a member that is dead helps nobody
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

// end stops the node for a reason, nil if it was asked to.
func (p *process) end(ctx context.Context, node *concordat.Node, reason error) error {
	p.drain(ctx) // calls that wait for the node end first
	err := node.Close()
	if errors.Is(err, concordat.ErrClosed) {
		err = nil
	}
	return errors.Join(reason, err)
}

// bury closes a node that has ended by itself, and says why it has.
func (p *process) bury(ctx context.Context, node *concordat.Node) error {
	status := node.Status()
	if ctx.Err() == nil && errors.Is(status.Err, concordat.ErrFailed) {
		return p.end(ctx, node, status.Err)
	}
	return p.end(ctx, node, nil)
}
