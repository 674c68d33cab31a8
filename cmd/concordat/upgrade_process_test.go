package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// putter is a client that writes one key after the other, at whatever member takes
// it, one process a key.
type putter struct {
	cancel context.CancelFunc
	ended  sync.WaitGroup
	mu     sync.Mutex
	done   []string // acknowledged
}

func (f *fleet) startPutter() *putter {
	ctx, cancel := context.WithCancel(f.ctx)
	p := &putter{cancel: cancel}
	p.ended.Go(func() {
		for i, at := 0, 0; ctx.Err() == nil; i++ {
			key := fmt.Sprint("key-", i)
			m := f.members[at%len(f.members)]
			cmd := f.command(clientPlace, "put", "app.t", key, "1", "--address", m.client, "--timeout", "5s")
			if cmd.Run() != nil {
				at++
				continue
			}
			p.mu.Lock()
			p.done = append(p.done, key)
			p.mu.Unlock()
		}
	})
	f.Cleanup(p.stop)
	return p
}

func (p *putter) stop() {
	p.cancel()
	p.ended.Wait()
}

func (p *putter) acknowledged() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clip(p.done)
}

// more waits until that much more is acknowledged.
func (p *putter) more(f *fleet, n int) {
	f.Helper()
	want := len(p.acknowledged()) + n
	f.until("clients go on", func() bool { return len(p.acknowledged()) >= want })
}

// refusedNode starts a node that has to end with an exit code, and returns what it
// logged.
func (m *fleetMember) refusedNode(code int, flags ...string) string {
	m.fleet.Helper()
	m.start(flags...)
	<-m.ended
	text, err := os.ReadFile(m.dir + ".log")
	if err != nil {
		m.fleet.Fatal(err)
	}
	if got := m.cmd.ProcessState.ExitCode(); got != code {
		m.fleet.Errorf("member %d ended with exit code %d, want %d", m.number, got, code)
	}
	return string(text)
}

// TestRollingUpgrade upgrades the members of a group one after the other, the primary
// last, by a stop and a start each, while a client writes. Nothing that was
// acknowledged is lost, the protocol rises when all members speak the next one, and
// older builds are kept out from then on.
func TestRollingUpgrade(t *testing.T) {
	t.Parallel()
	f := newFleet(t, newLoopback(t), 3)
	program, err := build(t.Context(), t.TempDir(), "-tags", "upgrade_test") // its nodes can say that they are other builds
	if err != nil {
		t.Fatal(err)
	}
	f.program = program
	old, next := []string{"--as-version", "0.2.0"}, []string{"--as-version", "0.3.0", "--as-protocol", "2"}
	first, second, third := f.members[0], f.members[1], f.members[2]
	for i, m := range f.members {
		if i == 0 {
			m.start(append(old, "--bootstrap", "--single-primary")...)
		} else {
			m.start(append(old, "--seeds", first.address)...)
		}
		m.awaitReady()
	}
	p := f.startPutter()
	for _, m := range []*fleetMember{second, third, first} {
		p.more(f, 5)
		f.says(f.want(exitRefused, "protocol", "set", "2", "--address", third.client), "speaks protocols 1 to 1, not 2; upgrade it first")
		if code := m.end(syscall.SIGINT); code != exitOK {
			t.Errorf("member %d stopped with exit code %d", m.number, code)
		}
		m.start(next...)
		m.awaitReady()
		if m == second {
			f.says(f.want(exitRefused, "primary", "set", second.uuid, "--address", third.client), "upgrade the older ones first")
		}
	}
	p.more(f, 5)
	f.says(f.want(exitOK, "protocol", "set", "2", "--address", third.client), "the group speaks protocol 2, it spoke 1")
	f.want(exitOK, "primary", "set", second.uuid, "--address", third.client)
	p.more(f, 5)
	p.stop()
	f.agree(f.members...)
	for _, m := range f.members {
		var view membersJSON
		f.asJSON(&view, "members", "--address", m.client)
		for _, r := range view.Members {
			if r.Version != "0.3.0" {
				t.Errorf("member %s runs %s", r.Member, r.Version)
			}
		}
		found := "\n" + f.want(exitOK, "scan", "app.t", "--address", m.client)
		for _, key := range p.acknowledged() {
			if !strings.Contains(found, "\n"+key+"\t") {
				t.Errorf("%q was acknowledged, and member %d does not have it", key, m.number)
			}
		}
	}

	late := f.add()
	f.says(late.refusedNode(exitRefused, append(old, "--seeds", first.address)...),
		"this build is 0.2.0, the group's oldest member runs 0.3.0; start it with 0.3.0 or newer")
	f.says(late.refusedNode(exitRefused, "--as-version", "0.3.0", "--seeds", first.address),
		"this build speaks protocols 1 to 1, the group speaks 2; start it with a newer build")
	third.end(syscall.SIGINT)
	third.start(old...)
	<-third.ended
	text, err := os.ReadFile(third.dir + ".log")
	if err != nil {
		t.Fatal(err)
	}
	f.says(string(text), "it is 2, and 0.2.0 speaks 1 to 1; start the version that this member ran, or a newer one")
	third.start(next...)
	third.awaitReady()
	f.agree(first, second, third)
}
