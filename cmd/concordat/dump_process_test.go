package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/concordatdb/concordat/client"
)

// writers write to a group of processes until they are stopped.
type writers struct {
	over    atomic.Bool
	working sync.WaitGroup
	done    atomic.Int64
}

func (f *fleet) write(count int, addresses ...string) *writers {
	f.Helper()
	c, err := client.Open(f.ctx, client.Config{Addresses: addresses, Table: client.Table{Schema: "app", Name: "load"}})
	if err != nil {
		f.Fatal(err)
	}
	w := &writers{}
	for i := range count {
		w.working.Go(func() {
			for n := 0; !w.over.Load(); n++ {
				_, err := c.Txn(f.ctx, []client.Op{
					client.OpPut(fmt.Append(nil, "k", i, n%50), fmt.Append(nil, "value ", n)), client.OpAdd([]byte("sum"), 1),
				})
				if err != nil {
					f.Errorf("writer %d: %v", i, err)
					return
				}
				w.done.Add(1)
			}
		})
	}
	f.Cleanup(func() {
		w.stop()
		_ = c.Close()
	})
	return w
}

// stop returns when all have been answered: nothing of theirs commits any more.
func (w *writers) stop() {
	w.over.Store(true)
	w.working.Wait()
}

func (w *writers) more(f *fleet, n int64) {
	f.Helper()
	aim := w.done.Load() + n
	f.until("writers go on", func() bool { return w.done.Load() >= aim || f.Failed() })
}

// A backup is taken under load, with an archive beside it that outlives the member it
// follows. A fresh group made of it is at the very transaction that was asked for, by
// its digest; and one made of all has all.
func TestBackupAndPointInTime(t *testing.T) {
	t.Parallel()
	f := newFleet(t, newLoopback(t), 3, "--change-retention", "64MiB")
	f.found()
	base := t.TempDir()
	dump, archive := filepath.Join(base, "backup.dump"), filepath.Join(base, "archive.json")
	load := f.write(4, strings.Split(clients(f.members...), ",")...)
	load.more(f, 50)
	follower := f.command(clientPlace, "changes", "--follow", "--out", archive, "--address", clients(f.members...))
	follower.Stderr = os.Stderr
	if err := follower.Start(); err != nil {
		t.Fatal(err)
	}
	load.more(f, 50)
	f.want(exitOK, "dump", "--out", dump, "--address", f.members[1].client)
	f.want(exitUsage, "dump", "--out", dump, "--address", f.members[1].client)
	load.more(f, 50)
	f.members[2].end(syscall.SIGKILL) // which may be the one that is followed
	load.more(f, 50)
	load.stop()

	var point written
	if err := json.Unmarshal([]byte(f.want(exitOK, "put", "app.t", "the", "point", "--json", "--address", clients(f.members[0]))), &point); err != nil {
		t.Fatal(err)
	}
	there := f.exactly(f.members[:2], point.GTID)
	load = f.write(2, f.members[0].client, f.members[1].client)
	load.more(f, 50)
	load.stop()
	var end written
	if err := json.Unmarshal([]byte(f.want(exitOK, "put", "app.t", "the", "end", "--json", "--address", clients(f.members[0]))), &end); err != nil {
		t.Fatal(err)
	}
	final := f.exactly(f.members[:2], end.GTID)
	f.until("the archive has all", func() bool {
		text, err := os.ReadFile(archive)
		return err == nil && strings.Contains(string(text), `{"gtid":"`+end.GTID+`"`)
	})
	if err := follower.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if err := follower.Wait(); err != nil {
		t.Errorf("the follower: %v", err)
	}

	restore := func(dir string, more ...string) (d dumpJSON) {
		t.Helper()
		out := f.want(exitOK, append([]string{"restore", "--dir", dir, "--from", dump, "--changes", archive, "--json"}, more...)...)
		if err := json.Unmarshal([]byte(out), &d); err != nil {
			t.Fatalf("%v in\n%s", err, out)
		}
		return d
	}
	if d := restore(filepath.Join(base, "whole")); d.Digest != final.Digest || d.Executed != final.Executed {
		t.Errorf("with all changes: %+v, want %+v", d, final)
	}
	dir := filepath.Join(base, "point")
	if d := restore(dir, "--until", point.GTID); d.Digest != there.Digest || d.Executed != there.Executed || *d.Applied == 0 {
		t.Errorf("up to %s: %+v, want %+v", point.GTID, d, there)
	}
	f.want(exitFailure, "restore", "--dir", dir, "--from", dump)

	// The group of it.
	first := startNode(t, dir, "--bootstrap")
	second := startNode(t, filepath.Join(base, "second"), "--seeds", first.Address)
	for _, address := range []string{first.ClientAddress, second.ClientAddress} {
		if got := want(t, exitOK, "get", "app.t", "the", "--address", address); got != "point\n" {
			t.Errorf("at %s: %q", address, got)
		}
	}
	var s statusJSON
	if err := json.Unmarshal([]byte(want(t, exitOK, "status", "--json", "--address", first.ClientAddress+","+second.ClientAddress)), &s); err != nil {
		t.Fatal(err)
	}
	for _, r := range s.Members {
		if r.Digest != there.Digest || r.Executed != there.Executed {
			t.Errorf("member %s has %s with digest %s, want %+v", r.Member, r.Executed, r.Digest, there)
		}
	}
}

// exactly returns what members say that all show a transaction, and nothing is
// written behind it.
func (f *fleet) exactly(members []*fleetMember, last string) (r row) {
	f.Helper()
	f.until("members show "+last, func() bool {
		s, ok := f.status(members...)
		if !ok || len(s.Members) < len(members) {
			return false
		}
		r = row{}
		for _, m := range s.Members {
			if m.Digest == "" {
				continue // it does not run
			}
			if r.Digest != "" && (m.Digest != r.Digest || m.Applied != r.Applied) {
				return false
			}
			r = m
		}
		_, number, _ := strings.Cut(last, ":")
		return strings.HasSuffix(r.Executed, "-"+number)
	})
	return r
}
