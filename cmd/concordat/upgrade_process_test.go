package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// upgradeBuild builds the program such that its nodes can say that they are other
// builds than they are.
func upgradeBuild(t *testing.T) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "concordat")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-tags", "upgrade_test", "-o", program, ".").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return program
}

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
	return p.done[:len(p.done):len(p.done)]
}

// more waits until that much more is acknowledged.
func (p *putter) more(f *fleet, n int) {
	f.Helper()
	want := len(p.acknowledged()) + n
	f.until("clients go on", func() bool { return len(p.acknowledged()) >= want })
}

// TestRollingUpgrade upgrades the members of a group one after the other, by a stop
// and a start each, while a client writes. Nothing that was acknowledged is lost, and
// an older build is kept out from then on.
func TestRollingUpgrade(t *testing.T) {
	t.Parallel()
	f := newFleet(t, newLoopback(t), 3)
	f.program = upgradeBuild(t)
	old, next := []string{"--as-version", "0.2.0"}, []string{"--as-version", "0.3.0", "--as-protocol", "2"}
	for i, m := range f.members {
		if i == 0 {
			m.start(append(old, "--bootstrap")...)
		} else {
			m.start(append(old, "--seeds", f.members[0].address)...)
		}
		m.awaitReady()
	}
	p := f.startPutter()
	for i := range f.members {
		p.more(f, 5)
		m := f.members[(i+1)%3]
		if code := m.end(syscall.SIGINT); code != exitOK {
			t.Errorf("member %d stopped with exit code %d", m.number, code)
		}
		m.start(next...)
		m.awaitReady()
	}
	p.more(f, 5)
	p.stop()
	f.agree(f.members...)
	for _, m := range f.members {
		var view membersJSON
		out := f.want(exitOK, "members", "--json", "--address", m.client)
		if err := json.Unmarshal([]byte(out), &view); err != nil {
			t.Fatalf("%v in\n%s", err, out)
		}
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
	late.start(append(old, "--seeds", f.members[0].address)...)
	<-late.ended
	text, err := os.ReadFile(late.dir + ".log")
	if err != nil {
		t.Fatal(err)
	}
	f.says(string(text), "this build is 0.2.0, the group's oldest member runs 0.3.0; start it with 0.3.0 or newer")
	if code := late.cmd.ProcessState.ExitCode(); code != exitRefused {
		t.Errorf("an older build ends with exit code %d, want %d", code, exitRefused)
	}
}
