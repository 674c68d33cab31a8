package logtest

import (
	"bytes"
	"fmt"
	"math"
	"testing"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/concordatdb/concordat/gcs"
	"github.com/concordatdb/concordat/gtid"
)

// fixture is a log, its model, and the test that they belong to.
type fixture struct {
	t    testing.TB
	disk Disk
	log  gcs.Log
	want model
}

func newFixture(t testing.TB, o Options) *fixture {
	f := &fixture{t: t, disk: o.New(t), want: newModel()}
	f.open()
	t.Cleanup(func() { _ = f.log.Close() })
	return f
}

func (f *fixture) open() {
	f.t.Helper()
	l, err := f.disk.Open()
	if err != nil {
		f.t.Fatalf("open: %v", err)
	}
	f.log = l
}

func (f *fixture) reopen() {
	f.t.Helper()
	if err := f.log.Close(); err != nil {
		f.t.Fatalf("close: %v", err)
	}
	f.open()
}

func (f *fixture) compare(when string) {
	f.t.Helper()
	if err := compare(f.log, f.want); err != nil {
		f.t.Fatalf("%s: %v", when, err)
	}
}

func (f *fixture) write(ws ...gcs.LogWrite) {
	f.t.Helper()
	if err := f.log.Write(ws); err != nil {
		f.t.Fatalf("write: %v", err)
	}
	for _, w := range ws {
		f.want.write(w)
	}
}

// terms appends entries of the given terms, synced, the first one at index.
func (f *fixture) terms(index uint64, terms ...uint64) {
	f.t.Helper()
	f.write(gcs.LogWrite{Entries: entriesOf(index, 50, terms...), Sync: true})
}

func entriesOf(index uint64, size int, terms ...uint64) []*raftpb.Entry {
	var out []*raftpb.Entry
	for i, term := range terms {
		out = append(out, entry(index+uint64(i), term, size))
	}
	return out
}

func testFresh(t *testing.T, o Options) {
	f := newFixture(t, o)
	f.compare("a fresh log")
	f.reopen()
	f.compare("a fresh log opened again")
	f.want.identity = gcs.Identity{
		Group: gtid.UUID{1}, Incarnation: gtid.UUID{2}, Member: gtid.UUID{3}, RaftID: math.MaxUint64 - 7, Session: 1,
	}
	if err := f.log.SetIdentity(f.want.identity); err != nil {
		t.Fatal(err)
	}
	f.terms(1, 1, 1, 2)
	f.disk.Crash(1)
	f.open()
	f.compare("after a crash with everything synced")
}

// testGhosts replaces a long tail by a short one; the rest of the long one must
// not come back, neither at once nor when the log is opened again, nor when the
// log has grown past it again.
func testGhosts(t *testing.T, o Options) {
	f := newFixture(t, o)
	f.terms(1, 1, 1, 1, 1, 1, 1, 1, 1)
	f.terms(4, 2, 2)
	f.compare("after the shorter tail")
	f.reopen()
	f.compare("opened again")
	f.terms(6, 2, 3, 3, 3, 3)
	f.compare("grown again")
	// Two overlapping pieces of work in one group commit, the later one
	// shorter.
	f.write(
		gcs.LogWrite{Entries: entriesOf(5, 10, 4, 4, 4, 4)},
		gcs.LogWrite{Entries: entriesOf(6, 10, 5), Sync: true},
	)
	f.compare("two pieces in one write")
	f.reopen()
	f.compare("two pieces, opened again")
}

func mustEntries(f *fixture, lo, hi uint64) []*raftpb.Entry {
	f.t.Helper()
	entries, err := f.log.Entries(lo, hi, math.MaxUint64)
	if err != nil {
		f.t.Fatal(err)
	}
	return entries
}

func testSizes(t *testing.T, o Options) {
	f := newFixture(t, o)
	var entries []*raftpb.Entry
	for i := range uint64(40) {
		entries = append(entries, entry(i+1, i/7+1, int(i*i)))
	}
	f.write(gcs.LogWrite{Entries: entries, Sync: true})
	check := func(when string) {
		for lo := uint64(1); lo <= 41; lo += 4 {
			for hi := lo; hi <= 41; hi += 3 {
				for _, limit := range []uint64{0, 1, 60, 500, 1500, 9000, math.MaxUint64} {
					if err := compareEntries(f.log, f.want, lo, hi, limit); err != nil {
						t.Fatalf("%s: %v", when, err)
					}
				}
			}
		}
	}
	check("as written")
	f.reopen()
	check("opened again")
	// A caller may append to what it was given.
	_ = append(mustEntries(f, 1, 4), entry(99, 99, 1), entry(100, 99, 1))
	f.terms(41, 9, 9)
	_ = append(mustEntries(f, 41, 42), entry(99, 99, 1))
	f.compare("after the caller appended to its slice")
}

func testCheckpoints(t *testing.T, o Options) {
	f := newFixture(t, o)
	f.terms(1, 1, 1, 2, 2, 3, 3)
	save := func(index, term uint64, data []byte) {
		t.Helper()
		c := gcs.Checkpoint{Index: index, Term: term, Data: data}
		if err := f.log.SaveCheckpoint(c); err != nil {
			t.Fatal(err)
		}
		f.want.save(c)
		f.compare(fmt.Sprintf("checkpoint at %d", index))
	}
	save(2, 1, bytes.Repeat([]byte("two"), 100_000))
	save(4, 2, []byte("four"))
	save(4, 2, bytes.Repeat([]byte("four, again"), 1000)) // replaces
	save(3, 2, nil)
	save(6, 3, []byte("six"))
	f.reopen()
	f.compare("opened again")
	if err := f.log.Truncate(4); err != nil {
		t.Fatal(err)
	}
	f.want.truncate(4)
	f.compare("truncated up to a checkpoint, which stays")

	c := gcs.Checkpoint{Index: 1000, Term: 7, Data: bytes.Repeat([]byte("clone"), 10_000)}
	hs := hardState(8, 0, 1000)
	if err := f.log.Reset(c, hs); err != nil {
		t.Fatal(err)
	}
	f.want.reset(c, hs)
	f.compare("reset")
	f.terms(1001, 7, 8)
	f.disk.Crash(2)
	f.open()
	f.compare("reset, grown, after a crash")
}

// testRefusals makes calls that no right caller makes. They must be refused
// and change nothing, and the log must go on.
func testRefusals(t *testing.T, o Options) {
	f := newFixture(t, o)
	f.terms(1, 1, 1, 2, 2, 3, 3)
	if err := f.log.Truncate(2); err != nil {
		t.Fatal(err)
	}
	f.want.truncate(2)
	c := gcs.Checkpoint{Index: 4, Term: 2}
	if err := f.log.SaveCheckpoint(c); err != nil {
		t.Fatal(err)
	}
	f.want.save(c)
	entries := func(index uint64, terms ...uint64) func() error {
		return func() error {
			return f.log.Write([]gcs.LogWrite{{Entries: entriesOf(index, 5, terms...), Sync: true}})
		}
	}
	for _, call := range []struct {
		name string
		do   func() error
	}{
		{"a gap", entries(8, 3)},
		{"an entry that is forgotten", entries(2, 3)},
		{"an entry before a checkpoint", entries(4, 3)},
		{"a term before that of the entry before", entries(7, 2)},
		{"terms that go backwards", entries(7, 4, 3)},
		{"entries that are not consecutive", func() error {
			return f.log.Write([]gcs.LogWrite{{Entries: []*raftpb.Entry{entry(7, 3, 1), entry(9, 3, 1)}}})
		}},
		{"a commit index beyond the end", func() error {
			return f.log.Write([]gcs.LogWrite{{HardState: hardState(3, 1, 7)}})
		}},
		{"a truncation beyond the end", func() error { return f.log.Truncate(7) }},
		{"a checkpoint beyond the end", func() error {
			return f.log.SaveCheckpoint(gcs.Checkpoint{Index: 7, Term: 3})
		}},
		{"a checkpoint of another term", func() error {
			return f.log.SaveCheckpoint(gcs.Checkpoint{Index: 5, Term: 2})
		}},
		{"a reset with a commit index beyond it", func() error {
			return f.log.Reset(gcs.Checkpoint{Index: 9, Term: 3}, hardState(3, 0, 10))
		}},
	} {
		if err := call.do(); err == nil {
			t.Errorf("%s was not refused", call.name)
		}
		f.compare("after " + call.name)
	}
	if err := f.log.Truncate(1); err != nil {
		t.Errorf("a truncation that is done already: %v", err)
	}
	f.compare("after a truncation that is done already")
	f.terms(7, 3, 4)
	f.reopen()
	f.compare("opened again")
}

func testClosed(t *testing.T, o Options) {
	f := newFixture(t, o)
	f.terms(1, 1, 1)
	if err := f.log.Close(); err != nil {
		t.Fatal(err)
	}
	for name, call := range map[string]func() error{
		"first index": func() error { _, err := f.log.FirstIndex(); return err },
		"last index":  func() error { _, err := f.log.LastIndex(); return err },
		"term":        func() error { _, err := f.log.Term(1); return err },
		"entries":     func() error { _, err := f.log.Entries(1, 2, 1); return err },
		"identity":    func() error { return f.log.SetIdentity(gcs.Identity{}) },
		"write":       func() error { return f.log.Write(nil) },
		"save":        func() error { return f.log.SaveCheckpoint(gcs.Checkpoint{Index: 1, Term: 1}) },
		"checkpoint":  func() error { _, err := f.log.Checkpoint(1); return err },
		"truncate":    func() error { return f.log.Truncate(1) },
		"reset":       func() error { return f.log.Reset(gcs.Checkpoint{Index: 9, Term: 1}, nil) },
		"close":       f.log.Close,
	} {
		if err := call(); err == nil {
			t.Errorf("%s on a closed log gave no error", name)
		}
	}
	f.open()
	f.compare("opened again")
}
