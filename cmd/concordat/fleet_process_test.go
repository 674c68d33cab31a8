package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// fleet is a group whose members are processes, as an operator has it: only
// commands and signals reach them.
type fleet struct {
	*testing.T

	ctx     context.Context
	net     network
	flags   []string // of every node
	program string   // that is run
	members []*fleetMember
}

// fleetMember is a member, whose process may come and go.
type fleetMember struct {
	fleet   *fleet
	number  int // from 1
	uuid    string
	dir     string
	address string // for members
	client  string // for clients

	cmd   *exec.Cmd
	out   *bytes.Buffer // to be read once it has ended
	ready chan struct{} // closed when it has said that it is ready
	ended chan struct{} // closed when the process has ended
}

// fleetUUID is the UUID of a member.
func fleetUUID(number int) string { return fmt.Sprintf("00000000-0000-4000-8000-%012d", number) }

// newFleet makes a group of n members that do not run yet. flags are those of
// each node.
func newFleet(t *testing.T, net network, n int, flags ...string) *fleet {
	t.Helper()
	// Far beyond what a loaded machine needs: it bounds a test that hangs.
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	t.Cleanup(cancel)
	f := &fleet{T: t, ctx: ctx, net: net, flags: flags, program: shipped(t)}
	for range n {
		f.add()
	}
	t.Cleanup(f.end)
	return f
}

// end kills what runs. Of a test that failed it shows what the members said.
func (f *fleet) end() {
	for _, m := range f.members {
		if m.runs() {
			_ = m.cmd.Process.Kill()
			<-m.ended
		}
		text, err := os.ReadFile(m.dir + ".log")
		if err == nil && f.Failed() {
			f.Logf("member %d, %s at %s, logged:\n%s", m.number, m.uuid, m.address, text)
		}
	}
}

// add makes one more member, which does not run yet.
func (f *fleet) add() *fleetMember {
	f.Helper()
	number := len(f.members) + 1
	m := &fleetMember{
		fleet: f, number: number,
		uuid: fleetUUID(number),
		dir:  filepath.Join(f.TempDir(), strconv.Itoa(number)),
	}
	m.address, m.client = f.net.addresses(number)
	f.members = append(f.members, m)
	return m
}

// found starts the first member, and then the others, which join.
func (f *fleet) found() {
	f.Helper()
	for i, m := range f.members {
		if i == 0 {
			m.start("--bootstrap")
		} else {
			m.start("--seeds", f.members[0].address)
		}
		m.awaitReady()
	}
}

// clients are the addresses of members for clients, as --address takes them.
func clients(members ...*fleetMember) string {
	var all []string
	for _, m := range members {
		all = append(all, m.client)
	}
	return strings.Join(all, ",")
}

// without returns the members but for some.
func (f *fleet) without(some ...*fleetMember) []*fleetMember {
	return slices.DeleteFunc(slices.Clone(f.members), func(m *fleetMember) bool { return slices.Contains(some, m) })
}

// by returns the member with a UUID.
func (f *fleet) by(uuid string) *fleetMember {
	f.Helper()
	i := slices.IndexFunc(f.members, func(m *fleetMember) bool { return m.uuid == uuid })
	if i < 0 {
		f.Fatalf("no member is %q", uuid)
	}
	return f.members[i]
}

// at returns the member at an address for members.
func (f *fleet) at(address string) *fleetMember {
	f.Helper()
	i := slices.IndexFunc(f.members, func(m *fleetMember) bool { return m.address == address })
	if i < 0 {
		f.Fatalf("no member is at %q", address)
	}
	return f.members[i]
}

func (f *fleet) command(place int, args ...string) *exec.Cmd {
	argv := f.net.in(place, append([]string{f.program}, args...)...)
	return exec.CommandContext(f.ctx, argv[0], argv[1:]...)
}

// try runs one command line where clients are.
func (f *fleet) try(args ...string) (out, errOut string, code int) {
	f.Helper()
	cmd := f.command(clientPlace, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if _, ok := errors.AsType[*exec.ExitError](err); err != nil && !ok {
		f.Fatal(err)
	}
	return stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()
}

// want runs one command line that has to end with code, and returns what it
// printed.
func (f *fleet) want(code int, args ...string) string {
	f.Helper()
	out, errOut, got := f.try(args...)
	if got != code {
		f.Fatalf("concordat %s: exit code %d, want %d\n%s%s", strings.Join(args, " "), got, code, out, errOut)
	}
	return out + errOut
}

// until waits for what has to come, however slow the machine is.
func (f *fleet) until(what string, cond func() bool) {
	f.Helper()
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for !cond() {
		select {
		case <-ticker.C:
		case <-f.ctx.Done():
			f.Fatalf("it never came to this: %s", what)
		}
	}
}

// start runs the member's process.
func (m *fleetMember) start(flags ...string) {
	m.fleet.Helper()
	if m.runs() {
		m.fleet.Fatalf("member %d runs already", m.number)
	}
	args := []string{"node", "--json", "--group", testGroup, "--dir", m.dir, "--member", m.uuid}
	args = withMode(slices.Concat(args, m.fleet.net.flags(m.number), m.fleet.flags, flags))
	log, err := os.OpenFile(m.dir+".log", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		m.fleet.Fatal(err)
	}
	defer log.Close() // the process has its own
	m.cmd = m.fleet.command(m.number, args...)
	m.cmd.Stderr = log
	out, err := m.cmd.StdoutPipe()
	if err != nil {
		m.fleet.Fatal(err)
	}
	if err := m.cmd.Start(); err != nil {
		m.fleet.Fatal(err)
	}
	m.out, m.ready, m.ended = &bytes.Buffer{}, make(chan struct{}), make(chan struct{})
	go m.attend(m.cmd, out, m.ready, m.ended)
}

// attend reads what the process says, which is one line, until it has ended.
func (m *fleetMember) attend(cmd *exec.Cmd, out io.Reader, ready, ended chan<- struct{}) {
	var b [1024]byte
	said := false
	for {
		n, err := out.Read(b[:])
		m.out.Write(b[:n])
		if n > 0 && !said {
			said = true
			close(ready)
		}
		if err != nil {
			break
		}
	}
	_ = cmd.Wait() // its exit code is where the tests look
	close(ended)
}

func (m *fleetMember) runs() bool {
	if m.ended == nil {
		return false
	}
	select {
	case <-m.ended:
		return false
	default:
		return true
	}
}

// awaitReady waits until the member says that it serves transactions.
func (m *fleetMember) awaitReady() {
	m.fleet.Helper()
	select {
	case <-m.ready:
	case <-m.ended:
		m.fleet.Fatalf("member %d ended with exit code %d", m.number, m.cmd.ProcessState.ExitCode())
	case <-m.fleet.ctx.Done():
		m.fleet.Fatalf("member %d was never ready", m.number)
	}
}

// signal sends a signal that lets the process live.
func (m *fleetMember) signal(s syscall.Signal) {
	m.fleet.Helper()
	if err := m.cmd.Process.Signal(s); err != nil {
		m.fleet.Fatal(err)
	}
}

// end sends a signal that ends the process, and returns its exit code.
func (m *fleetMember) end(s syscall.Signal) int {
	m.fleet.Helper()
	m.signal(s)
	<-m.ended
	return m.cmd.ProcessState.ExitCode()
}

// status returns what a member says. ok is false while it does not answer.
func (m *fleetMember) status() (s statusJSON, ok bool) {
	m.fleet.Helper()
	return m.fleet.status(m)
}

func (f *fleet) status(members ...*fleetMember) (s statusJSON, ok bool) {
	f.Helper()
	out, _, code := f.try("status", "--json", "--address", clients(members...))
	if code != exitOK {
		return s, false
	}
	if err := json.Unmarshal([]byte(out), &s); err != nil {
		f.Fatalf("%v in\n%s", err, out)
	}
	return s, true
}

// awaitStatus waits until a member says what fits, and returns that.
func (m *fleetMember) awaitStatus(what string, fits func(statusJSON) bool) (s statusJSON) {
	m.fleet.Helper()
	m.fleet.until(fmt.Sprintf("member %d: %s", m.number, what), func() bool {
		var ok bool
		s, ok = m.status()
		return ok && fits(s)
	})
	return s
}

// awaitDiagnosis waits until a member's diagnosis is code, and says all texts.
func (m *fleetMember) awaitDiagnosis(code string, texts ...string) statusJSON {
	m.fleet.Helper()
	return m.awaitStatus(fmt.Sprintf("it says %s with %q", code, texts), func(s statusJSON) bool {
		return s.Diagnosis.Code == code && !slices.ContainsFunc(texts, func(text string) bool { return !strings.Contains(s.Diagnosis.Text, text) })
	})
}

// put writes through a member, which has to work.
func (m *fleetMember) put(key, value string) {
	m.fleet.Helper()
	m.fleet.want(exitOK, "put", "--direct", "app.t", key, value, "--address", m.client, "--timeout", "1m")
}

// agree waits until the members are a group of exactly these, all ONLINE and at
// one position of the log, and returns what they say. There they have to have
// executed the same, and to hold the same.
func (f *fleet) agree(members ...*fleetMember) (s statusJSON) {
	f.Helper()
	f.until(fmt.Sprintf("%d members are the group, ONLINE, and at one position", len(members)), func() bool {
		var ok bool
		s, ok = f.status(members...)
		return ok && len(s.Members) == len(members) && !slices.ContainsFunc(s.Members, func(r row) bool {
			return r.State != "ONLINE" || r.Applied != s.Members[0].Applied || r.Digest == ""
		})
	})
	for _, r := range s.Members {
		if first := s.Members[0]; r.Executed != first.Executed || r.Digest != first.Digest {
			f.Errorf("at %d member %s has executed %s with digest %s, and %s %s with %s", r.Applied,
				first.Member, first.Executed, first.Digest, r.Member, r.Executed, r.Digest)
		}
	}
	return s
}

// leader waits until a member is seen to lead by all of those asked.
func (f *fleet) leader(asked ...*fleetMember) (found *fleetMember) {
	f.Helper()
	f.until("one member leads", func() bool {
		found = nil
		for i, m := range asked {
			s, ok := m.status()
			at := slices.IndexFunc(s.Members, func(r row) bool { return r.Leader })
			if !ok || at < 0 {
				return false
			}
			leader := f.by(s.Members[at].Member)
			if i > 0 && leader != found {
				return false
			}
			found = leader
		}
		return true
	})
	return found
}

// raftID returns the raft id of a member in the view that another one knows.
func (f *fleet) raftID(of, seenBy *fleetMember) uint64 {
	f.Helper()
	var s membersJSON
	out := f.want(exitOK, "members", "--json", "--address", seenBy.client)
	if err := json.Unmarshal([]byte(out), &s); err != nil {
		f.Fatalf("%v in\n%s", err, out)
	}
	i := slices.IndexFunc(s.Members, func(m memberJSON) bool { return m.Member == of.uuid })
	if i < 0 {
		f.Fatalf("member %d is not in\n%s", of.number, out)
	}
	return s.Members[i].RaftID
}

// events returns the kinds and texts of what a member has seen, one a line.
func (m *fleetMember) events() string {
	m.fleet.Helper()
	return m.fleet.want(exitOK, "history", "--address", m.client)
}

// views returns the group's views as a member knows them, one a line.
func (m *fleetMember) views() string {
	m.fleet.Helper()
	return m.fleet.want(exitOK, "history", "--views", "--address", m.client)
}

// says checks that a text has all parts.
func (f *fleet) says(text string, parts ...string) {
	f.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			f.Errorf("%s\nhas no %q", text, part)
		}
	}
}
