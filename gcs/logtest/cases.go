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

func testRecord(t *testing.T, o Options) {
	f := newFixture(t, o)
	f.terms(1, 1, 1)
	for _, record := range [][]byte{
		[]byte("first"), bytes.Repeat([]byte{7}, gcs.MaxRecord), {}, []byte("again"), nil, []byte("last"),
	} {
		if err := f.log.SetRecord(record); err != nil {
			t.Fatal(err)
		}
		f.want.record = record
		f.compare("record set")
		f.reopen()
		f.compare("opened again")
	}
	c := gcs.Checkpoint{Index: 9, Term: 2}
	if err := f.log.Reset(c, hardState(2, 0, 9)); err != nil {
		t.Fatal(err)
	}
	f.want.reset(c, hardState(2, 0, 9))
	f.compare("reset, which the record outlives")
	f.disk.Crash(3)
	f.open()
	f.compare("after a crash")
}

// adopt makes the log what a says.
func (f *fixture) adopt(a gcs.Adoption) {
	f.t.Helper()
	if err := f.log.Adopt(a); err != nil {
		f.t.Fatalf("adopt: %v", err)
	}
	f.want.adopt(a)
}

// testAdopt makes a log into another one in all the ways there are.
func testAdopt(t *testing.T, o Options) {
	f := newFixture(t, o)
	check := func(when string) {
		t.Helper()
		f.compare(when)
		f.disk.Crash(4)
		f.open()
		f.compare(when + ", after a crash")
	}
	id := gcs.Identity{Group: gtid.UUID{1}, Incarnation: gtid.UUID{2}, Member: gtid.UUID{3}, RaftID: 4, Session: 5}
	f.terms(1, 1, 1, 2, 2, 3, 3)
	f.adopt(gcs.Adoption{Identity: id, HardState: hardState(9, 0, 7), Last: 6, Entries: entriesOf(7, 50, 9), Record: []byte("first")})
	check("with an entry at its end")
	f.adopt(gcs.Adoption{Identity: id, HardState: hardState(12, 0, 4), Last: 3, Entries: entriesOf(4, 50, 11, 12)})
	check("with another end that is shorter")
	f.terms(6, 12, 12)
	f.adopt(gcs.Adoption{Identity: id, HardState: hardState(12, 0, 4), Last: 4})
	check("with less of what it has")
	f.adopt(gcs.Adoption{Identity: id, HardState: hardState(13, 0, 0), Entries: entriesOf(1, 50, 4, 5, 13)})
	check("with nothing of what it has")

	c := gcs.Checkpoint{Index: 2, Term: 5, Data: bytes.Repeat([]byte("two"), 1000)}
	if err := f.log.SaveCheckpoint(c); err != nil {
		t.Fatal(err)
	}
	f.want.save(c)
	if err := f.log.Truncate(2); err != nil {
		t.Fatal(err)
	}
	f.want.truncate(2)
	f.adopt(gcs.Adoption{Identity: id, HardState: hardState(14, 0, 3), Last: 2, Entries: entriesOf(3, 50, 14), Record: []byte("second")})
	check("right after a checkpoint at the cut")
	id.Incarnation = gtid.UUID{6}
	f.adopt(gcs.Adoption{Identity: id, HardState: hardState(15, 0, 0), Record: []byte("empty")})
	check("with nothing")
	f.terms(1, 15, 16)
	check("with nothing, and then grown")
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
	f.refuses([]refusal{
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
	})
	if err := f.log.Truncate(1); err != nil {
		t.Errorf("a truncation that is done already: %v", err)
	}
	f.compare("after a truncation that is done already")
	f.terms(7, 3, 4)
	f.reopen()
	f.compare("opened again")
}

// refusal is a call that must be refused.
type refusal struct {
	name string
	do   func() error
}

func (f *fixture) refuses(calls []refusal) {
	f.t.Helper()
	for _, call := range calls {
		if err := call.do(); err == nil {
			f.t.Errorf("%s was not refused", call.name)
		}
		f.compare("after " + call.name)
	}
}

// testAdoptRefuses makes adoptions that no right caller makes.
func testAdoptRefuses(t *testing.T, o Options) {
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
	adopt := func(a gcs.Adoption) func() error {
		if a.HardState == nil {
			a.HardState = hardState(3, 0, 0)
		}
		return func() error { return f.log.Adopt(a) }
	}
	f.refuses([]refusal{
		{"a record that is too long", func() error { return f.log.SetRecord(make([]byte, gcs.MaxRecord+1)) }},
		{"an adoption with a record that is too long", adopt(gcs.Adoption{Last: 6, Record: make([]byte, gcs.MaxRecord+1)})},
		{"an adoption of entries that are not there", adopt(gcs.Adoption{Last: 7})},
		{"an adoption that forgets a checkpoint", adopt(gcs.Adoption{Last: 3})},
		{"an adoption from the beginning of a log that is cut", adopt(gcs.Adoption{Entries: entriesOf(1, 5, 1)})},
		{"an adoption with a gap", adopt(gcs.Adoption{Last: 5, Entries: entriesOf(7, 5, 3)})},
		{"an adoption with an overlap", adopt(gcs.Adoption{Last: 5, Entries: entriesOf(5, 5, 3)})},
		{"an adoption with a term that goes backwards", adopt(gcs.Adoption{Last: 5, Entries: entriesOf(6, 5, 2)})},
		{"an adoption with a commit index beyond the end", adopt(gcs.Adoption{Last: 5, HardState: hardState(3, 0, 6)})},
		{"an adoption that empties the log, with a commit index", adopt(gcs.Adoption{HardState: hardState(3, 0, 1)})},
		{"an adoption without a hard state", func() error { return f.log.Adopt(gcs.Adoption{Last: 6}) }},
	})
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
		"record":      func() error { return f.log.SetRecord(nil) },
		"adopt":       func() error { return f.log.Adopt(gcs.Adoption{HardState: hardState(1, 0, 0)}) },
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
