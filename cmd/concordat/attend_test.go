package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/concordatdb/concordat"
)

// freeAddress returns one on which nobody listens for now.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", loopback)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

// startIdle starts a node that is told of no group, and returns once it says
// what it waits for.
func startIdle(t *testing.T) (n *testNode, lines *bufio.Reader) {
	t.Helper()
	n = &testNode{ready: ready{ClientAddress: freeAddress(t), Address: loopback}, dir: filepath.Join(t.TempDir(), "new")}
	return n, n.startWaiting(t, "concordat join")
}

// startWaiting starts a node and returns once its status says what it waits for.
func (n *testNode) startWaiting(t *testing.T, what string) (lines *bufio.Reader) {
	t.Helper()
	n.cmd = command(testContext(t), t, "node", "--json", "--group", testGroup, "--dir", n.dir,
		"--listen", n.Address, "--client-listen", n.ClientAddress)
	n.cmd.Stderr = &n.stderr
	out, err := n.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := n.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = n.cmd.Process.Kill()
		_ = n.cmd.Wait()
	})
	for text := ""; !strings.Contains(text, what); {
		text, _, _ = runCommand(t, "status", "--address", n.ClientAddress)
	}
	return bufio.NewReader(out)
}

// A new node that is told of no group waits until an operator has it join.
func TestOfflineNodeJoins(t *testing.T) {
	first := startNode(t, filepath.Join(t.TempDir(), "1"), "--bootstrap")
	second, lines := startIdle(t)
	if text := want(t, exitTryAgain, "put", "--direct", "app.t", "k", "v", "--address", second.ClientAddress); !strings.Contains(text, "OFFLINE") {
		t.Error(text)
	}
	if text := want(t, exitTryAgain, "get", "app.t", "k", "--address", second.ClientAddress); !strings.Contains(text, "OFFLINE") {
		t.Error(text)
	}
	plan := want(t, exitOK, "join", "--plan", "--plan-at", first.ClientAddress, "--address", second.ClientAddress)
	if !strings.Contains(plan, "RECOVERING") || !strings.Contains(plan, "nothing was changed") {
		t.Error(plan)
	}
	if said := want(t, exitOK, "join", "--address", second.ClientAddress, "--seeds", first.Address); !strings.Contains(said, "is ONLINE") {
		t.Error(said)
	}
	line, err := lines.ReadBytes('\n')
	if err != nil || json.Unmarshal(line, &second.ready) != nil || second.Event != "ready" {
		t.Fatalf("%q: %v", line, err)
	}
	want(t, exitOK, "put", "--direct", "app.t", "k", "v", "--address", second.ClientAddress)
	if out := want(t, exitOK, "members", "--address", first.ClientAddress); !strings.Contains(out, second.Member) {
		t.Error(out)
	}
	if out := want(t, exitOK, "history", "--address", second.ClientAddress); !strings.Contains(out, "ONLINE, before that RECOVERING") {
		t.Error(out)
	}
	if out := want(t, exitOK, "history", "--views", "--address", second.ClientAddress); strings.Count(out, "\n") < 3 {
		t.Error(out)
	}
	if text := want(t, exitRefused, "join", "--address", second.ClientAddress); !strings.Contains(text, "ONLINE") {
		t.Error(text)
	}
	if code := second.end(t, syscall.SIGTERM); code != exitOK {
		t.Errorf("exit code %d\n%s", code, second.stderr.String())
	}
	if out := want(t, exitOK, "members", "--address", first.ClientAddress); strings.Contains(out, second.Member) {
		t.Errorf("it has left, and is in\n%s", out)
	}
	// Nobody has emptied its directory, and it goes by the same name.
	back := second.again(t)
	if out := want(t, exitOK, "get", "app.t", "k", "--address", back.ClientAddress); out != "v\n" || back.Member != second.Member {
		t.Errorf("%s came back as %s, and reads %q", second.Member, back.Member, out)
	}
}

// A member that waits for its group, alone of two, shows nothing: what it holds
// may be long past.
func TestRecoveringNodeReads(t *testing.T) {
	t.Parallel()
	first := startNode(t, filepath.Join(t.TempDir(), "1"), "--bootstrap")
	second := startNode(t, filepath.Join(t.TempDir(), "2"), "--seeds", first.Address)
	get := []string{"get", "app.t", "k", "--address", second.ClientAddress}
	want(t, exitOK, "put", "--direct", "app.t", "k", "v", "--address", second.ClientAddress)
	for _, n := range []*testNode{first, second} {
		n.end(t, syscall.SIGKILL)
	}
	alone := &testNode{ready: second.ready, dir: second.dir}
	lines := alone.startWaiting(t, "RECOVERING")
	if text := want(t, exitTryAgain, get...); !strings.Contains(text, "RECOVERING") {
		t.Error(text)
	}
	first.again(t)
	if line, err := lines.ReadBytes('\n'); err != nil { // once it is ONLINE
		t.Fatalf("%q: %v", line, err)
	}
	if out := want(t, exitOK, get...); out != "v\n" {
		t.Errorf("with its group it reads %q", out)
	}
}

// A node that is in no group has none to leave.
func TestOfflineNodeEnds(t *testing.T) {
	n, _ := startIdle(t)
	if code := n.end(t, syscall.SIGTERM); code != exitOK {
		t.Errorf("exit code %d\n%s", code, n.stderr.String())
	}
}

// A member that gives its place up ends if it is told to, and tells so to who
// has started it.
func TestAbort(t *testing.T) {
	base := t.TempDir()
	first := startNode(t, filepath.Join(base, "1"), "--bootstrap", "--exit-state-action", "abort",
		"--member-suspect-timeout", "500ms", "--unreachable-majority-timeout", "500ms", "--autorejoin-tries", "0")
	second := startNode(t, filepath.Join(base, "2"), "--seeds", first.Address)
	if code := second.end(t, syscall.SIGKILL); code == exitOK {
		t.Fatal("SIGKILL let it end in order")
	}
	if code := first.wait(t); code != exitMemberFailed || !strings.Contains(first.stderr.String(), "ABORT") {
		t.Errorf("exit code %d, want %d\n%s", code, exitMemberFailed, first.stderr.String())
	}
}

// Whatever the member has given up for, ABORT is one exit code.
func TestAbortExitCode(t *testing.T) {
	for _, reason := range []error{concordat.ErrNoQuorum, concordat.ErrJoinRefused, &concordat.DivergedError{}, errors.New("expelled")} {
		if code := exitCode(fmt.Errorf("%w: %w", errAborted, reason)); code != exitMemberFailed {
			t.Errorf("%v: exit code %d, want %d", reason, code, exitMemberFailed)
		}
	}
}
