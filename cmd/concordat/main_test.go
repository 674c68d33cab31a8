package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// actAsConcordat in the environment makes the test binary the command.
const actAsConcordat = "TEST_BINARY_ACTS_AS_CONCORDAT"

const testGroup = "5f0c6b8a-3d1e-4c43-9a53-0d1c2b3a4f50"

func TestMain(m *testing.M) {
	if os.Getenv(actAsConcordat) != "" {
		main()
	}
	// Processes that tests start inherit both, the demo's members too. The race
	// detector would have each of them wait for a second before it ends.
	for name, value := range map[string]string{actAsConcordat: "1", "GORACE": "atexit_sleep_ms=0"} {
		if err := os.Setenv(name, value); err != nil {
			panic(err)
		}
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		if err := os.RemoveAll(shippedDir); err != nil {
			panic(err)
		}
		os.Exit(code)
	}))
}

// shippedDir has the program that [shipped] builds, if a test has asked for it.
var shippedDir string

var buildShipped = sync.OnceValues(func() (program string, err error) {
	if shippedDir, err = os.MkdirTemp("", "concordat"); err != nil {
		return "", err
	}
	return build(context.Background(), shippedDir)
})

// shipped is the program as users have it. Tests of whole groups run it: what is
// killed, stopped and cut off in earnest is the real thing, also when the race
// detector, which makes it take three times as long, is on for the tests. Single
// nodes and commands run as the test binary, and so with the detector.
func shipped(t *testing.T) string {
	t.Helper()
	program, err := buildShipped()
	if err != nil {
		t.Fatal(err)
	}
	return program
}

// build builds the program in a directory.
func build(ctx context.Context, dir string, flags ...string) (program string, err error) {
	program = filepath.Join(dir, "concordat")
	args := append([]string{"build", "-buildvcs=false", "-o", program}, flags...)
	if out, err := exec.CommandContext(ctx, "go", append(args, ".")...).CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return program, nil
}

// testContext bounds a test that would otherwise hang, far beyond what it takes
// on a loaded machine.
func testContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func command(ctx context.Context, t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(ctx, self, args...)
	cmd.Dir = t.TempDir()
	return cmd
}

// runCommand runs one command line in a process of its own.
func runCommand(t *testing.T, args ...string) (out, errOut string, code int) {
	t.Helper()
	cmd := command(testContext(t), t, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); err != nil && !ok {
		t.Fatal(err)
	} else if ok {
		code = exit.ExitCode()
	}
	return stdout.String(), stderr.String(), code
}

// want runs one command line that has to end with code, and returns what it
// printed: the error if there had to be one.
func want(t *testing.T, code int, args ...string) string {
	t.Helper()
	out, errOut, got := runCommand(t, args...)
	if got != code {
		t.Fatalf("concordat %s: exit code %d, want %d\n%s%s", strings.Join(args, " "), got, code, out, errOut)
	}
	if code != exitOK {
		return errOut
	}
	return out
}

// testNode is a concordat node in a process.
type testNode struct {
	ready

	dir    string
	cmd    *exec.Cmd
	stderr bytes.Buffer // to be read once it has ended
}

// withMode has a group that is founded without a mode have that of most tests.
func withMode(args []string) []string {
	if slices.Contains(args, "--bootstrap") && !slices.Contains(args, "--single-primary") && !slices.Contains(args, "--multi-primary") {
		return append(args, "--multi-primary")
	}
	return args
}

// startNode starts a node of the group in dir and waits until it is ready.
func startNode(t *testing.T, dir string, args ...string) *testNode {
	t.Helper()
	n := &testNode{dir: dir}
	args = append([]string{"node", "--json", "--group", testGroup, "--dir", dir}, args...)
	for _, flag := range []string{"--listen", "--client-listen"} {
		if !slices.Contains(args, flag) {
			args = append(args, flag, "127.0.0.1:0")
		}
	}
	args = withMode(args)
	n.cmd = command(testContext(t), t, args...)
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
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err != nil {
		_ = n.cmd.Wait()
		t.Fatalf("node did not become ready: %v\n%s", err, n.stderr.String())
	}
	if err := json.Unmarshal(line, &n.ready); err != nil {
		t.Fatalf("%q: %v", line, err)
	}
	return n
}

// end sends a signal and returns the exit code.
func (n *testNode) end(t *testing.T, s os.Signal) int {
	t.Helper()
	if err := n.cmd.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
	return n.wait(t)
}

func (n *testNode) wait(t *testing.T) int {
	t.Helper()
	err := n.cmd.Wait()
	if _, ok := errors.AsType[*exec.ExitError](err); err != nil && !ok {
		t.Fatal(err)
	}
	return n.cmd.ProcessState.ExitCode()
}

// again starts the node once more where it was.
func (n *testNode) again(t *testing.T, args ...string) *testNode {
	t.Helper()
	return startNode(t, n.dir, append(args, "--listen", n.Address, "--client-listen", n.ClientAddress)...)
}

// status returns what the nodes at the addresses say.
func nodeStatus(t *testing.T, addresses ...string) (s statusJSON) {
	t.Helper()
	out := want(t, exitOK, "status", "--json", "--address", strings.Join(addresses, ","))
	if err := json.Unmarshal([]byte(out), &s); err != nil {
		t.Fatalf("%v in\n%s", err, out)
	}
	return s
}

func TestGroupOfProcesses(t *testing.T) {
	base := t.TempDir()
	first := startNode(t, filepath.Join(base, "1"), "--bootstrap")
	second := startNode(t, filepath.Join(base, "2"), "--seeds", first.Address)
	third := startNode(t, filepath.Join(base, "3"), "--seeds", first.Address, "--weight", "70")

	want(t, exitOK, "put", "bank.accounts", "alice", "100", "--address", first.ClientAddress)
	want(t, exitOK, "put", "bank.accounts", "bob", "7", "--address", third.ClientAddress)
	s := nodeStatus(t, first.ClientAddress, second.ClientAddress, third.ClientAddress)
	if len(s.Members) != 3 || s.Group != testGroup || s.State != "ONLINE" || s.SeenBy != first.Member {
		t.Fatalf("status: %+v", s)
	}
	leaders := 0
	for _, m := range s.Members {
		if m.State != "ONLINE" || m.Digest == "" || m.Version == "" {
			t.Errorf("member: %+v", m)
		}
		if m.Member == third.Member && m.Weight != 70 {
			t.Errorf("weight %d, want 70", m.Weight)
		}
		if m.Leader {
			leaders++
		}
	}
	if leaders != 1 {
		t.Errorf("%d leaders", leaders)
	}
	if table := want(t, exitOK, "status", "--address", first.ClientAddress); !strings.Contains(table, third.Address) {
		t.Errorf("status does not show %s:\n%s", third.Address, table)
	}

	if code := third.end(t, syscall.SIGTERM); code != exitOK {
		t.Fatalf("SIGTERM: exit code %d\n%s", code, third.stderr.String())
	}
	if s := nodeStatus(t, first.ClientAddress); len(s.Members) != 2 {
		t.Fatalf("after SIGTERM: %+v", s.Members)
	}
	want(t, exitOK, "leave", "--address", second.ClientAddress)
	if code := second.wait(t); code != exitOK {
		t.Fatalf("leave: exit code %d\n%s", code, second.stderr.String())
	}
	if text := want(t, exitRefused, "leave", "--address", first.ClientAddress); !strings.Contains(text, "last") {
		t.Errorf("leave of the last member: %s", text)
	}
	if got := want(t, exitOK, "get", "bank.accounts", "bob", "--address", first.ClientAddress); got != "7\n" {
		t.Errorf("bob has %q", got)
	}
	if code := first.end(t, syscall.SIGTERM); code != exitOK {
		t.Fatalf("SIGTERM to the last: exit code %d\n%s", code, first.stderr.String())
	}
	first = first.again(t)
	if got := want(t, exitOK, "get", "bank.accounts", "alice", "--address", first.ClientAddress); got != "100\n" {
		t.Errorf("alice has %q", got)
	}
}

func TestRestarts(t *testing.T) {
	n := startNode(t, t.TempDir(), "--bootstrap", "--member", "00000000-0000-4000-8000-000000000007")
	for i, s := range []os.Signal{syscall.SIGKILL, syscall.SIGINT, syscall.SIGTERM} {
		key := string(rune('a' + i))
		want(t, exitOK, "put", "app.t", key, s.String(), "--address", n.ClientAddress)
		if err := n.cmd.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		want(t, exitOK, "get", "app.t", key, "--address", n.ClientAddress) // SIGHUP is nothing
		if code := n.end(t, s); s != syscall.SIGKILL && code != exitOK {
			t.Fatalf("%v: exit code %d\n%s", s, code, n.stderr.String())
		}
		member := n.Member
		if n = n.again(t, "--on-sigterm", "stop"); n.Member != member {
			t.Fatalf("member %s came back as %s", member, n.Member)
		}
	}
	got := want(t, exitOK, "scan", "app.t", "--address", n.ClientAddress)
	if got != "a\tkilled\nb\tinterrupt\nc\tterminated\n" {
		t.Errorf("after the restarts:\n%s", got)
	}
}

func TestKeysAndValues(t *testing.T) {
	n := startNode(t, t.TempDir(), "--bootstrap")
	at := func(args ...string) []string { return append(args, "--address", n.ClientAddress) }
	want(t, exitOK, at("put", "app.t", "--hex", "00ff", "0a")...)
	want(t, exitOK, at("put", "app.t", "k", "with space")...)
	var put struct{ GTID string }
	if err := json.Unmarshal([]byte(want(t, exitOK, at("put", "app.t", "z", "", "--json")...)), &put); err != nil || put.GTID != testGroup+":3" {
		t.Errorf("put: %v, %v", put, err)
	}
	for _, c := range []struct {
		want string
		args []string
	}{
		{"with space\n", []string{"get", "app.t", "k"}},
		{`{"key":"k","value":"with space"}` + "\n", []string{"get", "app.t", "k", "--json"}},
		{"0a\n", []string{"get", "app.t", "00ff", "--hex"}},
		{"\"\\x00\\xff\"\t\"\\n\"\nk\t\"with space\"\nz\t\"\"\n", []string{"scan", "app.t"}},
		{"z\t\"\"\nk\t\"with space\"\n", []string{"scan", "app.t", "--from", "k", "--reverse"}},
		{"6b\t77697468207370616365\n", []string{"scan", "app.t", "--hex", "--from", "01", "--limit", "1"}},
		{"", []string{"scan", "app.other"}},
	} {
		if got := want(t, exitOK, at(c.args...)...); got != c.want {
			t.Errorf("%v printed\n%s\nwant\n%s", c.args, got, c.want)
		}
	}
	want(t, exitOK, at("delete", "app.t", "k")...)
	for _, c := range []struct {
		code int
		text string
		args []string
	}{
		{exitNotFound, "no such key", []string{"get", "app.t", "k"}},
		{exitUsage, "schema.name", []string{"get", "t", "k"}},
		{exitUsage, "hexadecimal", []string{"get", "app.t", "xy", "--hex"}},
		{exitUsage, "TABLE KEY VALUE", []string{"put", "app.t", "k"}},
		{exitFailure, "--hex", []string{"scan", "app.t", "--json"}},
		{exitFailure, "limit exceeded", []string{"put", "app.t", strings.Repeat("k", 65<<10), "v"}},
		{exitUsage, "name has 300 bytes", []string{"get", "app." + strings.Repeat("t", 300), "k"}},
	} {
		if text := want(t, c.code, at(c.args...)...); !strings.Contains(text, c.text) {
			t.Errorf("%v said %q, want %q in it", c.args, text, c.text)
		}
	}
}
