package concordat_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/concordatdb/concordat"
	"github.com/concordatdb/concordat/gtid"
)

// mustDump takes a dump of a member.
func mustDump(t testing.TB, n *concordat.Node) (*bytes.Buffer, concordat.DumpInfo) {
	t.Helper()
	var b bytes.Buffer
	info, err := n.Dump(testContext(t), &b)
	if err != nil {
		t.Fatal(err)
	}
	if read, err := concordat.ReadDumpInfo(bytes.NewReader(b.Bytes())); err != nil || read.Digest != info.Digest || read.Position.Index != info.Position.Index {
		t.Fatalf("the dump says %+v, %v, and was to say %+v", read, err, info)
	}
	return &b, info
}

// archived is an archive that is complete behind a set.
func archived(after gtid.Set, changes []concordat.Change) iter.Seq2[concordat.Archived, error] {
	return func(yield func(concordat.Archived, error) bool) {
		for _, c := range changes {
			if !yield(concordat.Archived{Change: c, After: after}, nil) {
				return
			}
		}
	}
}

// A dump is taken while clients write, and a group made of it and of changes up to one
// transaction holds what the former group held there. Members join it, and a consumer
// of the former one goes on with it.
func TestRestoreToPointInTime(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	g := openGroup(t, 2, keepsChanges)
	load := startLoad(t, g.nodes...)
	load.more(t, 20)
	dump, info := mustDump(t, g.nodes[1])
	load.more(t, 20)
	load.mustCount(t, g.nodes...)
	fence(t, g.nodes...)
	point := mustPut(t, g.nodes[0], "the", "point")
	mustAgree(t, g.nodes...)
	want, at, err := g.nodes[0].Digest()
	if err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		mustPut(t, g.nodes[i%2], "behind", fmt.Sprint("the point ", i))
	}
	mustAgree(t, g.nodes...)
	k := &taker{t: t}
	k.take(g.nodes[0])

	cfg := founder(t)
	cfg.Group, cfg.Dir = "7d0c6b8a-3d1e-4c43-9a53-0d1c2b3a4f50", filepath.Join(t.TempDir(), "restored")
	keepsChanges(&cfg)
	r, err := concordat.Restore(ctx, bytes.NewReader(dump.Bytes()), concordat.RestoreOptions{
		Dir: cfg.Dir, Changes: archived(gtid.Set{}, k.taken), Until: point,
		ChangeRetentionBytes: cfg.ChangeRetentionBytes, ChangeOldValues: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	if r.Digest != want || !r.Position.Executed.Equal(at.Executed) || r.Dump.Digest != info.Digest || r.Applied != at.Executed.Count()-info.Position.Executed.Count() {
		t.Errorf("restored %+v, want digest %v of %v", r, want, at.Executed)
	}

	first := mustOpen(t, cfg)
	if got, now, err := first.Digest(); err != nil || got != want || !now.Executed.Equal(at.Executed) {
		t.Fatalf("the new group begins with %v of %v, %v", got, now.Executed, err)
	}
	id := mustPut(t, first, "behind", "the restore")
	if id.UUID.String() != cfg.Group || id.Number != 1 {
		t.Errorf("its first transaction is %v", id)
	}
	second := joiner(t, first)
	second.Group = cfg.Group
	keepsChanges(&second)
	other := mustOpen(t, second)
	mustPut(t, other, "from", "the second")
	mustAgree(t, first, other)
	first = reopen(t, first, cfg)
	if err := add(ctx, first, "load", 1); err != nil {
		t.Error(err)
	}
	mustAgree(t, first, other)

	follower := &taker{t: t, seen: at.Executed}
	follower.take(other)
	if len(follower.taken) != 3 || follower.taken[0].GTID != id {
		t.Errorf("a consumer of the former group gets %+v", follower.taken)
	}
	whole := &taker{t: t}
	whole.take(other)
	whole.must(other)
}

// The name of the former group can be that of the new one: its numbers go on.
func TestRestoreUnderTheSameName(t *testing.T) {
	t.Parallel()
	n := mustOpen(t, founder(t))
	last := gtid.GTID{}
	for i := range 7 {
		last = mustPut(t, n, fmt.Sprint("k", i), "v")
	}
	dump, info := mustDump(t, n)
	mustClose(t, n)
	cfg := founder(t)
	if _, err := concordat.Restore(testContext(t), dump, concordat.RestoreOptions{Dir: cfg.Dir}); err != nil {
		t.Fatal(err)
	}
	again := mustOpen(t, cfg)
	if id := mustPut(t, again, "k", "v"); id.UUID != last.UUID || id.Number != last.Number+1 {
		t.Errorf("behind %v comes %v", last, id)
	}
	if s := again.Status(); s.Incarnation == info.Incarnation {
		t.Errorf("it is of the former incarnation %v", s.Incarnation)
	}
}

// What does not fit is refused, and says why.
func TestRestoreRefused(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	cfg := founder(t)
	keepsChanges(&cfg)
	n := mustOpen(t, cfg)
	mustPut(t, n, "k", "1")
	early := n.Status().Executed
	dump, info := mustDump(t, n)
	mustPut(t, n, "k", "2")
	mustPut(t, n, "k", "3")
	k := &taker{t: t}
	k.take(n)
	stranger := gtid.GTID{UUID: gtid.UUID{7}, Number: 1}
	reversed := []concordat.Change{k.taken[2], k.taken[1]}
	restore := func(dump []byte, o concordat.RestoreOptions) error {
		o.Dir = filepath.Join(t.TempDir(), "restored")
		_, err := concordat.Restore(ctx, bytes.NewReader(dump), o)
		return err
	}
	damaged := bytes.Clone(dump.Bytes())
	damaged[len(damaged)/2] ^= 1
	for _, c := range []struct {
		what string
		dump []byte
		o    concordat.RestoreOptions
		want error
		says string
	}{
		{"nothing", nil, concordat.RestoreOptions{}, concordat.ErrDump, "cut off"},
		{"no dump", bytes.Repeat([]byte("no"), 100), concordat.RestoreOptions{}, concordat.ErrDump, "begins with"},
		{"cut off", dump.Bytes()[:dump.Len()-1], concordat.RestoreOptions{}, concordat.ErrDump, "cut off"},
		{"damaged", damaged, concordat.RestoreOptions{}, concordat.ErrDump, ""},
		{"a gap", dump.Bytes(), concordat.RestoreOptions{Changes: archived(early.Union(k.seen), k.taken)}, concordat.ErrInvalid, "begins behind"},
		{"out of order", dump.Bytes(), concordat.RestoreOptions{Changes: archived(early, reversed)}, concordat.ErrInvalid, "out of order"},
		{"never reached", dump.Bytes(), concordat.RestoreOptions{Changes: archived(early, k.taken), Until: stranger}, concordat.ErrInvalid, "neither in the dump nor in the changes"},
		{"passed", dump.Bytes(), concordat.RestoreOptions{Changes: archived(early, k.taken), Until: k.taken[0].GTID}, concordat.ErrInvalid, "already"},
	} {
		if err := restore(c.dump, c.o); !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %v and %q in it", c.what, err, c.want, c.says)
		}
	}
	full := t.TempDir()
	if err := os.WriteFile(filepath.Join(full, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := concordat.Restore(ctx, bytes.NewReader(dump.Bytes()), concordat.RestoreOptions{Dir: full}); !errors.Is(err, concordat.ErrDirectory) {
		t.Errorf("a directory that is not empty: %v", err)
	}
	if _, err := concordat.Restore(ctx, bytes.NewReader(dump.Bytes()), concordat.RestoreOptions{}); !errors.Is(err, concordat.ErrInvalid) {
		t.Errorf("no directory: %v", err)
	}

	// Data that nobody has restored are not founded upon.
	fresh := founder(t)
	if _, err := concordat.Restore(ctx, bytes.NewReader(dump.Bytes()), concordat.RestoreOptions{Dir: fresh.Dir}); err != nil {
		t.Fatal(err)
	}
	mark := filepath.Join(fresh.Dir, "RESTORED")
	if err := os.WriteFile(mark, []byte("of other data"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := concordat.Open(ctx, fresh); !errors.Is(err, concordat.ErrDirectory) {
		t.Errorf("with the mark of other data: %v", err)
	}
	if err := os.Remove(mark); err != nil {
		t.Fatal(err)
	}
	if _, err := concordat.Open(ctx, fresh); !errors.Is(err, concordat.ErrDirectory) {
		t.Errorf("without a mark: %v", err)
	}
	if info.Position.Index == 0 {
		t.Error("a dump of nothing")
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := n.Dump(ended, &bytes.Buffer{}); !errors.Is(err, context.Canceled) {
		t.Errorf("a dump that is given up: %v", err)
	}
}

// FuzzReadDumpInfo checks that whatever is read as the head of a dump is one.
func FuzzReadDumpInfo(f *testing.F) {
	n := mustOpen(f, founder(f))
	var b bytes.Buffer
	if _, err := n.Dump(f.Context(), &b); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes()[:min(b.Len(), 400)])
	f.Add([]byte("CCDTDP\x00\x01"))
	f.Fuzz(func(t *testing.T, b []byte) {
		info, err := concordat.ReadDumpInfo(bytes.NewReader(b))
		if err == nil && info.Position.Index == 0 {
			t.Errorf("a dump of no index: %+v", info)
		}
		if err != nil && !errors.Is(err, concordat.ErrDump) {
			t.Errorf("%v", err)
		}
	})
}
