package concordat

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/concordatdb/concordat/applier"
	"github.com/concordatdb/concordat/applier/pebblekv"
	"github.com/concordatdb/concordat/gcs"
	"github.com/concordatdb/concordat/gcs/raftlog"
)

// stores are the log and the data of a member on one disk.
type stores struct {
	*Node
	data *pebblekv.Engine
}

func openStoresOn(t *testing.T, disk vfs.FS) stores {
	t.Helper()
	log, err := raftlog.Open("/m/log", raftlog.Options{FS: disk})
	if err != nil {
		t.Fatal(err)
	}
	data, err := pebblekv.Open("/m/data", pebblekv.Options{FS: disk, CacheBytes: 1 << 20, MemTableBytes: 256 << 10})
	if err != nil {
		t.Fatal(errors.Join(err, log.Close()))
	}
	return stores{&Node{log: log, engine: data}, data}
}

func (s stores) close(t *testing.T) {
	t.Helper()
	if err := errors.Join(s.log.Close(), s.data.Close()); err != nil {
		t.Error(err)
	}
}

var crashTable = applier.Table{Schema: "s", Name: "t"}

// apply brings the data to a log index, at which the key says whose they are.
func (s stores) apply(t *testing.T, index uint64, whose string) {
	t.Helper()
	payload := applier.AppendMutation(nil, applier.Mutation{
		Op: applier.OpPut, Table: crashTable, Key: []byte("whose"), Value: []byte(whose),
	})
	err := s.data.Apply(applier.Batch{Transactions: []applier.Transaction{{Payload: payload}}, To: applier.Position{Index: index}})
	if err := errors.Join(err, s.data.Flush(t.Context())); err != nil {
		t.Fatal(err)
	}
}

func (s stores) whose(t *testing.T) string {
	t.Helper()
	snap, err := s.data.Begin()
	if err != nil {
		t.Fatal(err)
	}
	defer snap.Close()
	v, _, err := snap.Get(crashTable, []byte("whose"))
	if err != nil {
		t.Fatal(err)
	}
	return string(v)
}

// writeLog appends entries of a term, from the log's end to last.
func (s stores) writeLog(t *testing.T, last, term uint64) {
	t.Helper()
	from, err := s.log.LastIndex()
	if err != nil {
		t.Fatal(err)
	}
	var entries []*raftpb.Entry
	for index := from + 1; index <= last; index++ {
		entries = append(entries, &raftpb.Entry{Index: new(index), Term: new(term), Type: raftpb.EntryNormal.Enum()})
	}
	hs := &raftpb.HardState{Term: new(term), Vote: new(uint64(0)), Commit: new(last)}
	if err := s.log.Write([]gcs.LogWrite{{Entries: entries, HardState: hs, Sync: true}}); err != nil {
		t.Fatal(err)
	}
}

// checkSound fails unless log and data belong together: what the start of a
// member that needs no clone relies on.
func (s stores) checkSound(t *testing.T, c gcs.Checkpoint, old string, oldIndex uint64) {
	t.Helper()
	at := s.data.Position().Index
	first, err := s.log.FirstIndex()
	if err != nil {
		t.Fatal(err)
	}
	last, err := s.log.LastIndex()
	if err != nil {
		t.Fatal(err)
	}
	saved, err := s.log.Checkpoint(at)
	if err != nil {
		t.Fatal(err)
	}
	switch whose := s.whose(t); {
	case whose == "donor" && at == c.Index && saved.Index == c.Index && string(saved.Data) == string(c.Data) && first <= at+1:
	case whose == old && at == oldIndex && first <= at+1 && last >= at && saved.Index < c.Index:
	default:
		t.Errorf("data of %s at %d, log from %d to %d, checkpoint at %d: nobody could go on from it",
			whose, at, first, last, saved.Index)
	}
}

// TestInstallCrash loses power before each write of an installation in turn, in
// every situation in which there is one. What is left must be whole, or be seen
// to need a clone, which must then succeed.
func TestInstallCrash(t *testing.T) {
	donor := openStoresOn(t, vfs.NewMem())
	donor.apply(t, 300, "donor")
	x, err := donor.data.NewExport()
	if err != nil {
		t.Fatal(err)
	}
	var export bytes.Buffer
	if err := errors.Join(x.WriteTo(t.Context(), &export, 0), x.Close()); err != nil {
		t.Fatal(err)
	}
	donor.close(t)
	c := gcs.Checkpoint{Index: 300, Term: 3, Data: []byte("state of the group")}

	for name, test := range map[string]struct {
		prepare func(stores)
		old     string // whose data may be found sound afterwards,
		oldAt   uint64 // and at which index
	}{
		"a new member": {func(stores) {}, "", 0},
		"log ends before the checkpoint": {func(s stores) {
			s.writeLog(t, 20, 2)
			s.apply(t, 10, "self")
		}, "self", 10},
		"log goes on beyond the checkpoint": {func(s stores) {
			s.writeLog(t, 299, 2)
			s.writeLog(t, 320, 3)
			s.apply(t, 10, "self")
		}, "self", 10},
		"data that count for nothing": {func(s stores) { s.apply(t, 500, "stranger") }, "none", 0},
		"such data below the checkpoint": {func(s stores) {
			s.apply(t, 200, "stranger")
		}, "none", 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // each has disks of its own
			crashes := crashDuring(t, test.prepare, func(s stores) {
				if replaced, err := s.install(t.Context(), c, bytes.NewReader(export.Bytes())); !replaced || err != nil {
					t.Fatalf("replaced %v, %v", replaced, err)
				}
			})
			needed := 0
			for _, disk := range crashes {
				s := openStoresOn(t, disk)
				needs, err := s.needsClone()
				if err != nil {
					t.Fatal(err)
				}
				if needs {
					needed++
					if replaced, err := s.install(t.Context(), c, bytes.NewReader(export.Bytes())); !replaced || err != nil {
						t.Fatalf("after a crash: replaced %v, %v", replaced, err)
					}
					if needs, err := s.needsClone(); needs || err != nil {
						t.Errorf("after a clone, needs one: %v, %v", needs, err)
					}
				}
				s.checkSound(t, c, test.old, test.oldAt)
				s.close(t)
			}
			if len(crashes) < 20 {
				t.Errorf("only %d writes", len(crashes))
			}
			if strings.Contains(name, "count for nothing") && needed < 10 {
				t.Errorf("%d of %d crashes need a clone", needed, len(crashes))
			}
		})
	}
}

// crashDuring returns the disk as each write of run, and the end, could have
// left it.
func crashDuring(t *testing.T, prepare, run func(stores)) (crashes []*vfs.MemFS) {
	t.Helper()
	disk := vfs.NewCrashableMem()
	var mu sync.Mutex // Pebble writes from goroutines of its own
	running := false
	set := func(on bool) {
		mu.Lock()
		defer mu.Unlock()
		running = on
	}
	s := openStoresOn(t, errorfs.Wrap(disk, errorfs.InjectorFunc(func(op errorfs.Op) error {
		mu.Lock()
		defer mu.Unlock()
		if running && op.Kind.ReadOrWrite() == errorfs.OpIsWrite {
			n := uint64(len(crashes))
			cfg := vfs.CrashCloneCfg{UnsyncedDataPercent: int(n%3) * 50, RNG: rand.New(rand.NewPCG(n, 0))}
			crashes = append(crashes, disk.CrashClone(cfg))
		}
		return nil
	})))
	prepare(s)
	set(true)
	run(s)
	set(false)
	crashes = append(crashes, disk.CrashClone(vfs.CrashCloneCfg{}))
	s.close(t)
	return crashes
}
