package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/concordatdb/concordat"
	"github.com/concordatdb/concordat/internal/server"
	"github.com/concordatdb/concordat/proto/concordat/kv/v1"
)

// fleetWriters write new keys, wherever that is possible.
type fleetWriters struct {
	fleet  *fleet
	cancel context.CancelFunc
	all    sync.WaitGroup
	done   atomic.Int64
}

// writers begins to write through the members. A write goes to the next one where
// a member says that it does not write; that one is refused for any other reason,
// or lost, is an error.
func (f *fleet) writers(clients int) *fleetWriters {
	f.Helper()
	ctx, cancel := context.WithCancel(f.ctx)
	w := &fleetWriters{fleet: f, cancel: cancel}
	var through []*server.Client
	for _, m := range f.members {
		c, err := server.Dial(m.client, nil)
		if err != nil {
			f.Fatal(err)
		}
		through = append(through, c)
	}
	for i := range clients {
		w.all.Go(func() { w.write(ctx, i, through) })
	}
	f.Cleanup(func() {
		w.stop()
		for _, c := range through {
			_ = c.Close()
		}
	})
	return w
}

func (w *fleetWriters) write(ctx context.Context, number int, through []*server.Client) {
	at := number % len(through)
	for n := 0; ctx.Err() == nil; {
		// A deadline has a member wait that is about to get the right or to lose it.
		patient, cancel := context.WithTimeout(ctx, time.Minute)
		_, err := through[at].Put(patient, &kvpb.PutRequest{
			Table: &kvpb.Table{Schema: "app", Name: "t"}, Key: fmt.Appendf(nil, "%d-%d", number, n), Value: []byte("v"),
		})
		cancel()
		switch {
		case err == nil:
			w.done.Add(1)
			n++
		case ctx.Err() != nil:
		case strings.Contains(err.Error(), "member does not write") && !strings.Contains(err.Error(), "had lost the right"):
			at = (at + 1) % len(through)
		default:
			w.fleet.Errorf("writer %d: %v", number, err)
			return
		}
	}
}

func (w *fleetWriters) stop() {
	w.cancel()
	w.all.Wait()
}

// more waits until so many writes more have come through.
func (w *fleetWriters) more(n int64) {
	w.fleet.Helper()
	want := w.done.Load() + n
	w.fleet.until(fmt.Sprintf("%d writes more", n), func() bool { return w.done.Load() >= want || w.fleet.Failed() })
}

// switched runs a command that changes who writes, and returns what became of it.
func (f *fleet) switched(args ...string) (a actionJSON) {
	f.Helper()
	f.asJSON(&a, args...)
	return a
}

// asJSON runs a command line that has to work, and takes what it prints.
func (f *fleet) asJSON(into any, args ...string) {
	f.Helper()
	out, errOut, code := f.try(append(args, "--json")...)
	if err := json.Unmarshal([]byte(out), into); err != nil || code != exitOK {
		f.Fatalf("concordat %s: exit code %d, %v\n%s%s", strings.Join(args, " "), code, err, out, errOut)
	}
}

// awaitPrimary waits until all members say who is primary, in which epoch.
func (f *fleet) awaitPrimary(primary *fleetMember, epoch uint64) {
	f.Helper()
	for _, m := range f.members {
		m.awaitStatus(fmt.Sprintf("member %d is primary in epoch %d", primary.number, epoch), func(s statusJSON) bool {
			return s.Primary == primary.uuid && s.Epoch == epoch && s.Writable == (m == primary)
		})
	}
}

// A group is switched in every way while clients write, and none of them is refused
// what had begun.
func TestPrimaryOfProcesses(t *testing.T) {
	t.Parallel()
	f := newFleet(t, newLoopback(t), 3, "--single-primary", "--failover-timeout", "3s")
	f.found()
	first, second, third := f.members[0], f.members[1], f.members[2]
	f.awaitPrimary(first, 1)
	var who primaryJSON
	f.asJSON(&who, "primary", "--why", "--address", third.client)
	if who.Primary != first.uuid || who.Cause != "founded" || who.ClientAddress != first.client || who.Address != first.address || len(who.Ranking) != 3 || who.Winner != first.uuid {
		t.Errorf("%+v", who)
	}
	w := f.writers(4)
	w.more(20)
	if a := f.switched("primary", "set", second.address, "--address", third.client); a.Result != "done" || a.Target != second.uuid || a.Epoch != 2 || a.Cut != 0 {
		t.Errorf("%+v", a)
	}
	f.awaitPrimary(second, 2)
	w.more(20)
	f.says(f.want(exitOK, "primary", "set", third.client, "--address", first.client, "--reason", "the story goes on"), "done: "+third.uuid+" is primary since epoch 3")
	w.more(20)
	if a := f.switched("mode", "multi", "--address", first.client); a.Result != "done" || a.Epoch != 4 {
		t.Errorf("%+v", a)
	}
	for _, m := range f.members {
		m.awaitStatus("it may write", func(s statusJSON) bool { return s.Writable && s.Mode == "multi-primary" && s.Primary == "" })
		m.put("through "+m.uuid, "v")
	}
	w.more(20)
	f.says(f.want(exitRefused, "primary", "set", first.uuid, "--address", first.client), "multi-primary mode")
	if a := f.switched("mode", "single", "--address", third.client); a.Result != "done" || a.Target != first.uuid || a.Cut != 0 {
		t.Errorf("%+v", a)
	}
	f.awaitPrimary(first, 5)
	w.more(20)
	w.stop()

	f.says(f.want(exitOK, "protocol", "set", "1", "--address", second.client), "no change: the group speaks protocol 1 already")
	f.says(f.want(exitRefused, "protocol", "set", "9", "--address", second.client), "speaks protocols")
	f.says(f.want(exitRefused, "primary", "set", testAction, "--plan", "--address", second.client), "is no member", "nothing was changed")
	f.says(f.want(exitOK, "primary", "set", second.uuid, "--plan", "--address", third.client),
		"who may write then: "+second.uuid, "waits for: "+first.uuid, "which runs no transactions now", "nothing was changed")
	f.says(f.want(exitOK, "history", "--epochs", "--address", second.client),
		"founded", "planned", "the story goes on", "switched to multi-primary", "switched to single-primary")
	f.says(second.events(), "PRIMARY_CHANGED", "MODE_CHANGED", "ACTION_BEGUN", "ACTION_ENDED")
	f.says(f.want(exitOK, "members", "--address", third.client), "single-primary, epoch 5", "PRIMARY", "SECONDARY")
	f.agree(f.members...)
}

// here opens a member in this process, so that a test can hold a transaction open,
// and serves it.
func (f *fleet) here(number int) *concordat.Node {
	f.Helper()
	members, clients := f.net.addresses(number)
	l, err := new(net.ListenConfig).Listen(f.ctx, "tcp", clients)
	if err != nil {
		f.Fatal(err)
	}
	s := server.Start(server.Config{Listener: l})
	f.Cleanup(func() { s.Stop(f.Context()) }) // which has ended: at once
	node, err := concordat.Open(f.ctx, concordat.Config{
		Group: testGroup, Dir: f.TempDir(), Member: fleetUUID(number), Listen: members, ClientAddress: clients,
		Seeds: []string{f.members[0].address}, FailoverTimeout: 3 * time.Second,
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = node.Close() })
	s.SetNode(node)
	return node
}

// switching is a command that changes who writes, and goes on.
type switching struct {
	cmd  *exec.Cmd
	out  io.Reader
	text []byte // on standard error
}

func (f *fleet) beginSwitch(args ...string) *switching {
	f.Helper()
	s := &switching{cmd: f.command(clientPlace, args...)}
	var err error
	if s.out, err = s.cmd.StderrPipe(); err == nil {
		err = s.cmd.Start()
	}
	if err != nil {
		f.Fatal(err)
	}
	return s
}

// until reads until the command has said something, or has ended.
func (s *switching) until(text string) {
	for buffer := make([]byte, 1024); text == "" || !bytes.Contains(s.text, []byte(text)); {
		n, err := s.out.Read(buffer)
		if s.text = append(s.text, buffer[:n]...); err != nil {
			return
		}
	}
}

// ends returns all that the command has said, and its exit code.
func (s *switching) ends() (string, int) {
	s.until("")
	_ = s.cmd.Wait() // its exit code is what counts
	return string(s.text), s.cmd.ProcessState.ExitCode()
}

// A change waits for a transaction: that its command is interrupted takes nothing
// back; cancel does; and when the member dies that is to be primary, the present one
// goes on. The transaction commits through all of that.
func TestPrimarySetWaits(t *testing.T) {
	t.Parallel()
	f := newFleet(t, newLoopback(t), 2, "--single-primary", "--failover-timeout", "3s")
	f.found()
	asked, target := f.members[0], f.members[1]
	node, self := f.here(3), fleetUUID(3)
	f.until("all are ONLINE", func() bool {
		s, ok := asked.status()
		return ok && len(s.Members) == 3 && s.Members[2].State == "ONLINE" && s.Diagnosis.Code == "OK"
	})
	f.want(exitOK, "primary", "set", self, "--address", asked.client)
	tx, err := node.Begin(f.ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := tx.Put(concordat.Table{Schema: "app", Name: "t"}, []byte("held"), []byte("v")); err != nil {
		t.Fatal(err)
	}

	change := f.beginSwitch("primary", "set", target.uuid, "--grace", "10m", "--address", asked.client)
	change.until("waits for 1 transaction at " + self)
	f.says(string(change.text), "waits for 1 transaction at "+self)
	var open actionJSON
	f.asJSON(&open, "primary", "action", "--address", target.client)
	if open.Result != "under way" || open.Target != target.uuid || len(open.Pending) != 1 || open.Pending[0] != self {
		t.Errorf("%+v", open)
	}
	f.says(f.want(exitRefused, "mode", "multi", "--address", target.client), open.ID)
	if err := change.cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	text, code := change.ends()
	f.says(text, "interrupted", "is not taken back", "concordat primary cancel "+open.ID+" --address "+asked.client)
	if code != exitUnknown {
		t.Errorf("exit code %d, want %d\n%s", code, exitUnknown, text)
	}
	f.says(f.want(exitOK, "status", "--address", asked.client), "planned change "+open.ID)
	f.want(exitOK, "primary", "cancel", open.ID, "--address", target.client)
	f.says(f.want(exitOK, "primary", "action", open.ID, "--address", target.client), "cancelled")

	change = f.beginSwitch("primary", "set", target.uuid, "--grace", "10m", "--address", asked.client)
	change.until("waits for 1 transaction at " + self)
	target.end(syscall.SIGKILL)
	if text, code = change.ends(); code != exitGivenUp {
		t.Errorf("exit code %d, want %d\n%s", code, exitGivenUp, text)
	}
	if _, err := tx.Commit(f.ctx); err != nil {
		t.Errorf("the transaction that was waited for: %v", err)
	}
	s := asked.awaitStatus("nothing is under way", func(s statusJSON) bool { return s.Action == nil })
	if s.Primary != self || s.Epoch != 2 {
		t.Errorf("then the primary is %s in epoch %d", s.Primary, s.Epoch)
	}
	f.until("another member shows it", func() bool {
		out, _, _ := f.try("get", "app.t", "held", "--address", asked.client)
		return out == "v\n"
	})
}
