package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/concordatdb/concordat"
	"github.com/concordatdb/concordat/internal/server"
	"github.com/concordatdb/concordat/proto/concordat/admin/v1"
)

const (
	demoName = "c0c0da7e-de30-4000-8000-000000000001"
	loopback = "127.0.0.1:0"
)

// demoGroup is the group of a demo: processes of this executable.
type demoGroup struct {
	executable string
	dir        string
	fail       context.CancelCauseFunc // told of a member that ends by itself

	attending sync.WaitGroup

	mu      sync.Mutex
	members []*demoMember
}

// demoMember is one member, whose process may come and go. What it is changes
// only while it is not running.
type demoMember struct {
	name  string
	dir   string
	ready ready

	mu      sync.Mutex
	client  *server.Client // nil while it is down
	process *nodeProcess
	killed  bool
}

// start adds a member and runs it.
func (g *demoGroup) start(ctx context.Context) (*demoMember, error) {
	m := g.add()
	return m, g.run(ctx, m)
}

func (g *demoGroup) add() *demoMember {
	g.mu.Lock()
	defer g.mu.Unlock()
	name := fmt.Sprintf("m%d", len(g.members)+1)
	m := &demoMember{
		name: name, dir: filepath.Join(g.dir, name),
		ready: ready{Address: loopback, ClientAddress: loopback},
	}
	g.members = append(g.members, m)
	return m
}

func (g *demoGroup) all() []*demoMember {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.members)
}

// down returns the member that was killed.
func (g *demoGroup) down() *demoMember {
	for _, m := range g.all() {
		if m.use() == nil {
			return m
		}
	}
	return nil
}

// run starts the process of m, for the first time or again, and waits until it
// is ready.
func (g *demoGroup) run(ctx context.Context, m *demoMember) error {
	args := []string{
		"--group", demoName, "--dir", m.dir,
		"--listen", m.ready.Address, "--client-listen", m.ready.ClientAddress,
	}
	if first := g.all()[0]; first != m {
		args = append(args, "--seeds", first.ready.Address)
	} else if m.ready.Member == "" {
		args = append(args, "--bootstrap", modeFlag(concordat.SinglePrimary))
	}
	process, err := startNodeProcess(ctx, g.executable, m.dir+".log", args)
	if err != nil {
		return fmt.Errorf("%s: %w", m.name, err)
	}
	m.ready = process.ready
	client, err := server.Dial(m.ready.ClientAddress, nil)
	if err != nil {
		return errors.Join(err, process.kill())
	}
	m.mu.Lock()
	m.process, m.client, m.killed = process, client, false
	m.mu.Unlock()
	g.attending.Go(func() { g.attend(ctx, m, process) })
	return nil
}

// attend waits for the end of a process, which only a kill may bring.
func (g *demoGroup) attend(ctx context.Context, m *demoMember, p *nodeProcess) {
	<-p.ended
	m.mu.Lock()
	killed := m.killed
	m.mu.Unlock()
	if !killed && ctx.Err() == nil {
		g.fail(fmt.Errorf("%w: %s ended by itself (%w); its log ends with:\n%s", errBroken, m.name, p.err, p.tail()))
	}
}

// use returns a client of the member, nil while it is down.
func (m *demoMember) use() *server.Client {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.client
}

// kill ends the process with SIGKILL, and waits for its end.
func (m *demoMember) kill() error {
	m.mu.Lock()
	process, client := m.process, m.client
	m.killed, m.client = true, nil
	m.mu.Unlock()
	if process == nil {
		return nil
	}
	err := process.kill()
	if client != nil {
		_ = client.Close() // its process is gone
	}
	return err
}

// stop ends all processes.
func (g *demoGroup) stop() {
	for _, m := range g.all() {
		_ = m.kill() // the directory goes next, there is nothing to lose
	}
	g.attending.Wait()
}

// agree returns the status of all members once they are at one position, and
// fails if they then differ, or never get there.
func (g *demoGroup) agree(ctx context.Context) ([]*adminpb.StatusResponse, error) {
	var all []*adminpb.StatusResponse
	err := poll(ctx, "the members do not come to the same position of the log", func() bool {
		all = all[:0]
		for _, m := range g.all() {
			s, err := m.use().Status(ctx, &adminpb.StatusRequest{})
			if err != nil || s.GetState() != adminpb.MemberState_MEMBER_STATE_ONLINE {
				return false
			}
			all = append(all, s)
		}
		return !slices.ContainsFunc(all, func(s *adminpb.StatusResponse) bool {
			return s.GetDigestPosition() != all[0].GetDigestPosition()
		})
	})
	if err != nil {
		return nil, err
	}
	for i, s := range all {
		if s.GetExecuted() != all[0].GetExecuted() || !bytes.Equal(s.GetDigest(), all[0].GetDigest()) {
			return nil, fmt.Errorf("%w: at position %d m1 has executed %s with digest %x, and m%d %s with %x", errBroken,
				s.GetDigestPosition(), all[0].GetExecuted(), all[0].GetDigest(), i+1, s.GetExecuted(), s.GetDigest())
		}
	}
	return all, nil
}

// poll waits until cond holds, for a time in which it must come to hold.
func poll(ctx context.Context, otherwise string, cond func() bool) error {
	const interval, patience = 20 * time.Millisecond, 20 * time.Second
	ctx, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("%w: %s within %v", errBroken, otherwise, patience))
	defer cancel()
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for !cond() {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}
