package pebblekv

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/concordatdb/concordat/applier"
	"github.com/concordatdb/concordat/gtid"
)

// giantOf is the batch at a log index of one transaction that puts so many keys of
// 1,000 bytes in order.
func giantOf(index uint64, before gtid.Set, keys int, value string) applier.Batch {
	id := gtid.GTID{UUID: gtid.UUID{1}, Number: index}
	tx := applier.Transaction{Index: index, GTID: id, Origin: gtid.UUID{9}, Time: int64(index)}
	for i := range keys {
		m := applier.Mutation{Op: applier.OpPut, Table: table, Key: fmt.Appendf(nil, "giant-%06d", i), Value: []byte(strings.Repeat(value, 1000/len(value)))}
		tx.Payload = applier.AppendMutation(tx.Payload, m)
	}
	return applier.Batch{Transactions: []applier.Transaction{tx}, To: applier.Position{Index: index, Executed: before.Add(id)}}
}

// prepareAll gets an engine ready for the transaction of a batch.
func prepareAll(t testing.TB, e *Engine, b applier.Batch) applier.Preparation {
	t.Helper()
	p, err := e.Prepare()
	if err != nil {
		t.Fatal(err)
	}
	for rest := b.Transactions[0].Payload; len(rest) > 0; {
		n := min(len(rest), 128<<10)
		if err := p.Add(rest[:n]); err != nil {
			t.Fatal(err)
		}
		rest = rest[n:]
	}
	return p
}

// without is b as it is given to a preparation.
func without(b applier.Batch) applier.Batch {
	tx := b.Transactions[0]
	tx.Payload = nil
	b.Transactions = []applier.Transaction{tx}
	return b
}

// mustApplyPrepared applies b by way of a preparation, and nothing else will do.
func mustApplyPrepared(t testing.TB, e *Engine, b applier.Batch) {
	t.Helper()
	p := prepareAll(t, e, b)
	defer p.Discard()
	if err := p.Apply(without(b)); err != nil {
		t.Fatal(err)
	}
}

func digestOf(t testing.TB, e *Engine) applier.Digest {
	t.Helper()
	d, _, err := e.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// TestPrepared compares two engines, of which one gets ready for every large
// transaction: also what is written over them later, from what is remembered of the
// keys, must come to the same.
func TestPrepared(t *testing.T) {
	ready, turn := newHarness(t), newHarness(t)
	defer closeAll(t, ready, turn)
	at := gtid.Set{}
	for i := range uint64(6) {
		b := giantOf(3*i+1, at, 8000, fmt.Sprint(i, " "))
		mustApplyPrepared(t, ready.engine, b)
		mustApply(t, turn.engine, b)
		for n := uint64(1); n <= 2; n++ {
			small := batchOf(3*i+1+n, fmt.Sprintf("giant-%06d", 7*n), fmt.Sprint("small ", i))
			small.To.Executed = b.To.Executed.AddInterval(gtid.UUID{1}, "", 3*i+2, 3*i+1+n)
			mustApply(t, ready.engine, small)
			mustApply(t, turn.engine, small)
			at = small.To.Executed
		}
		if got, want := digestOf(t, ready.engine), digestOf(t, turn.engine); got != want {
			t.Fatalf("after %d: digest %v, want %v", i, got, want)
		}
	}
	if err := ready.Reopen(); err != nil {
		t.Fatal(err)
	}
	if got, want := digestOf(t, ready.engine), digestOf(t, turn.engine); got != want {
		t.Fatalf("opened again: digest %v, want %v", got, want)
	}
	if !ready.engine.Position().Executed.Equal(at) {
		t.Errorf("at %v, want %v", ready.engine.Position().Executed, at)
	}
}

func closeAll(t *testing.T, hs ...*harness) {
	t.Helper()
	for _, h := range hs {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestPreparedVoid checks what makes a preparation void, and that nothing else does.
func TestPreparedVoid(t *testing.T) {
	first := applier.AppendMutation(nil, applier.Mutation{Op: applier.OpDelete, Table: table, Key: []byte("z")})
	for _, c := range []struct {
		name   string
		before []byte // of the payload
		beside string // a key that is written in between
		want   error
	}{
		{"nothing", nil, "giant-", nil},
		{"an earlier key", nil, "giant-000001", errCommonKey},
		{"a later key", nil, "giant-000399", errCommonKey},
		{"order", first, "", errKeyOrder},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHarness(t)
			defer closeAll(t, h)
			b := giantOf(2, gtid.Set{}, 400, "new")
			b.Transactions[0].Payload = append(bytes.Clone(c.before), b.Transactions[0].Payload...)
			payload := b.Transactions[0].Payload
			p, err := h.engine.Prepare()
			if err != nil {
				t.Fatal(err)
			}
			defer p.Discard()
			if _, err := h.engine.Prepare(); !errors.Is(err, applier.ErrUnprepared) {
				t.Errorf("a second preparation: %v", err)
			}
			err = p.Add(payload[:len(payload)/2])
			mustApply(t, h.engine, batchOf(1, c.beside, "small"))
			err = errors.Join(err, p.Add(payload[len(payload)/2:]), p.Apply(without(b)))
			if !errors.Is(err, c.want) || c.want == nil && err != nil || c.want != nil && !errors.Is(err, applier.ErrUnprepared) {
				t.Errorf("%v, want %v", err, c.want)
			}
			if at := h.engine.Position().Index; at == 2 != (c.want == nil) {
				t.Errorf("the engine is at %d", at)
			}
		})
	}
	h := newHarnessWith(t, func(o *Options) { o.ChangeBytes, o.ChangeOldValues = 1<<20, true })
	defer closeAll(t, h)
	if _, err := h.engine.Prepare(); !errors.Is(err, applier.ErrUnprepared) {
		t.Errorf("with old values: %v", err)
	}
}

// TestPreparedLeaves checks that nothing is left in the directory, whatever became of
// a preparation.
func TestPreparedLeaves(t *testing.T) {
	h := newHarness(t)
	defer closeAll(t, h)
	left := func(when string, want int) {
		t.Helper()
		names, err := h.fs.List(testDir)
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for _, name := range names {
			if strings.HasPrefix(name, preparedPrefix) {
				n++
			}
		}
		if n != want {
			t.Errorf("%s: %q", when, names)
		}
	}
	b := giantOf(1, gtid.Set{}, 9000, "x")
	p := prepareAll(t, h.engine, b)
	left("under way", 1)
	p.Discard()
	p.Discard()
	left("discarded", 0)
	mustApplyPrepared(t, h.engine, b)
	left("applied", 0)
	p = prepareAll(t, h.engine, giantOf(2, b.To.Executed, 9000, "y"))
	if err := h.Crash(rand.New(rand.NewPCG(1, 1))); err != nil {
		t.Fatal(err)
	}
	left("after a crash", 0)
	p.Discard()
}

// TestPreparedCrash loses power before each write of a prepared transaction's turn, and
// behind it. Small batches come before it and after it, which nobody has synced: what
// is left is a prefix of all, the transaction whole or not there.
func TestPreparedCrash(t *testing.T) {
	mem := vfs.NewCrashableMem()
	var mu sync.Mutex
	armed, n := false, uint64(0)
	var clones []*vfs.MemFS
	arm := func(on bool) {
		mu.Lock()
		defer mu.Unlock()
		armed = on
	}
	fs := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		mu.Lock()
		defer mu.Unlock()
		if armed && op.Kind.ReadOrWrite() == errorfs.OpIsWrite {
			n++
			cfg := vfs.CrashCloneCfg{UnsyncedDataPercent: int(n%3) * 50, RNG: rand.New(rand.NewPCG(n, 0))}
			clones = append(clones, mem.CrashClone(cfg))
		}
		return nil
	}))
	opts := testOptions()
	opts.FS, opts.ChangeBytes = fs, 64<<20
	e, err := Open(testDir, opts)
	if err != nil {
		t.Fatal(err)
	}
	digests := map[uint64]applier.Digest{0: {}}
	small := func(index uint64) {
		b := changedAt(index, 300)
		mustApply(t, e, b)
		digests[index] = digestOf(t, e)
	}
	for index := range uint64(20) {
		small(index + 1)
	}
	giant := giantOf(21, e.Position().Executed, 6000, "giant")
	p := prepareAll(t, e, giant)
	arm(true)
	if err := p.Apply(without(giant)); err != nil {
		t.Fatal(err)
	}
	digests[21] = digestOf(t, e)
	p.Discard()
	for index := range uint64(5) {
		small(index + 22)
	}
	arm(false)
	mustClose(t, e)
	seen := map[bool]int{}
	for i, clone := range append(clones, mem.CrashClone(vfs.CrashCloneCfg{})) {
		opts.FS = clone
		e, err := Open(testDir, opts)
		if err != nil {
			t.Fatalf("crash %d: %v", i, err)
		}
		at := e.Position().Index
		seen[at >= 21]++
		want, known := digests[at]
		if got := digestOf(t, e); !known || got != want || rehash(t, e) != want {
			t.Errorf("crash %d: at %d, digest %v, of the data %v, want %v", i, at, got, rehash(t, e), want)
		}
		if first, bytes := kept(t, e); at >= 21 && (first != 1 || bytes < 6_000_000) {
			t.Errorf("crash %d: at %d, changes from %d with %d bytes", i, at, first, bytes)
		}
		mustClose(t, e)
	}
	if seen[true] < 2 || seen[false] < 2 {
		t.Errorf("%d crashes, %v with the transaction", len(clones), seen)
	}
}

// rehash is the digest of the data as they are.
func rehash(t *testing.T, e *Engine) applier.Digest {
	t.Helper()
	snap, err := e.Begin()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = snap.Close() }()
	var d applier.Digester
	for key, value := range snap.Scan(table, nil, nil, false) {
		d.Add(table, key, value)
	}
	if err := snap.Err(); err != nil {
		t.Fatal(err)
	}
	return d.Digest()
}

// TestPreparedChanges checks that the log of changes holds what was prepared like
// anything else: across opening and a copy, and until it is forgotten with what comes
// before it, and no earlier.
func TestPreparedChanges(t *testing.T) {
	const limit = 8 << 20
	h := newHarnessWith(t, func(o *Options) { o.ChangeBytes = limit })
	other := newHarnessWith(t, func(o *Options) { o.ChangeBytes = limit })
	defer closeAll(t, h, other)
	mustApply(t, h.engine, changedAt(1, 10))
	giant := giantOf(2, h.engine.Position().Executed, 3000, "giant")
	mustApplyPrepared(t, h.engine, giant)
	tx := giant.Transactions[0]
	check := func(when string, e *Engine) {
		t.Helper()
		place, err := e.FindChanges(gtid.Set{}.AddInterval(gtid.UUID{1}, "", 1, 1))
		if err != nil {
			t.Fatalf("%s: %v", when, err)
		}
		for place.Index < 2 { // it may lie earlier
			if _, place, err = e.ReadChanges(place, 0); err != nil {
				t.Fatalf("%s: %v", when, err)
			}
		}
		records, next, err := e.ReadChanges(place, 0)
		if err != nil || len(records) != 1 {
			t.Fatalf("%s: %d records, %v", when, len(records), err)
		}
		r := records[0]
		if r.Index != 2 || r.Number != 0 || r.GTID != tx.GTID || r.Origin != tx.Origin || r.Time != tx.Time || !bytes.Equal(r.Payload, tx.Payload) {
			t.Errorf("%s: %d, %d, %v with %d bytes", when, r.Index, r.Number, r.GTID, len(r.Payload))
		}
		if again, _, err := e.ReadChanges(next, 1<<20); err != nil || len(again) > 0 && again[0].Index != 3 {
			t.Errorf("%s: behind it %d records, %v", when, len(again), err)
		}
	}
	check("at once", h.engine)
	mustApply(t, h.engine, changedAt(3, 10))
	check("with more behind it", h.engine)
	size := h.engine.store.visible.Load().changes.bytes
	if err := h.Reopen(); err != nil {
		t.Fatal(err)
	}
	if k := h.engine.store.visible.Load().changes; k.bytes != size || k.giants != 1 {
		t.Errorf("opened again: %d bytes and %d giants are kept, want %d and 1", k.bytes, k.giants, size)
	}
	check("opened again", h.engine)
	var stream bytes.Buffer
	export, err := h.engine.NewExport()
	if err == nil {
		err = errors.Join(export.WriteTo(t.Context(), &stream, 0), export.Close())
	}
	if err == nil {
		_, err = other.engine.Import(t.Context(), &stream)
	}
	if err != nil {
		t.Fatal(err)
	}
	check("copied", other.engine)

	mustApplyPrepared(t, h.engine, giantOf(4, h.engine.Position().Executed, 3000, "second"))
	index := uint64(5)
	for ; piecesOf(t, h.engine, 0) > 0; index++ {
		if index > 200 {
			t.Fatal("the pieces are never forgotten")
		}
		if first, _ := kept(t, h.engine); first <= 2 && piecesOf(t, h.engine, 0) < 20 {
			t.Fatalf("at %d the pieces are gone, and the record is not", index)
		}
		mustApply(t, h.engine, changedAt(index, 200<<10))
	}
	if first, _ := kept(t, h.engine); first <= 2 || first > 4 || piecesOf(t, h.engine, 1) < 20 {
		t.Errorf("without the first giant, changes begin at %d, with %d pieces of the second", first, piecesOf(t, h.engine, 1))
	}
}

// TestPreparedBetweenMilestones opens an engine that has set no milestone since it kept
// a payload in pieces: the next one's must not be taken for the same.
func TestPreparedBetweenMilestones(t *testing.T) {
	h := newHarnessWith(t, func(o *Options) { o.ChangeBytes = 1 << 30 })
	defer closeAll(t, h)
	var giants []applier.Batch
	for i := range uint64(3) {
		b := giantOf(i+1, h.engine.Position().Executed, 300, fmt.Sprint("giant ", i))
		mustApplyPrepared(t, h.engine, b)
		giants = append(giants, b)
		if k := h.engine.store.visible.Load().changes; len(k.milestones) != 1 || k.giants != i+1 {
			t.Fatalf("%d milestones and %d giants", len(k.milestones), k.giants)
		}
		if err := h.Reopen(); err != nil {
			t.Fatal(err)
		}
	}
	place, err := h.engine.FindChanges(gtid.Set{})
	if err != nil {
		t.Fatal(err)
	}
	records, _, err := h.engine.ReadChanges(place, 1<<30)
	if err != nil || len(records) != len(giants) {
		t.Fatalf("%d records, %v", len(records), err)
	}
	for i, r := range records {
		if !bytes.Equal(r.Payload, giants[i].Transactions[0].Payload) {
			t.Errorf("record %d has another payload", i)
		}
	}
}

// piecesOf counts the pieces of a record.
func piecesOf(t *testing.T, e *Engine, giant uint64) (n int) {
	t.Helper()
	it, err := e.store.changeIterator()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = it.Close() }()
	for ok := it.SeekGE(appendPieceKey(nil, giant, 0)); ok && bytes.Compare(it.Key(), appendPieceKey(nil, giant+1, 0)) < 0; ok = it.Next() {
		n++
	}
	return n
}

func FuzzDecodeChangeValue(f *testing.F) {
	f.Add([]byte{changeWhole, 1, 2})
	f.Add(append((&pieces{giant: 1, count: 2, bytes: 3}).append(nil), 7))
	f.Add([]byte{changeInPieces})
	f.Fuzz(func(t *testing.T, b []byte) {
		in, record, err := decodeChangeValue(b)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Errorf("%v is not of a kind", err)
			}
			return
		}
		again := []byte{changeWhole}
		if in.count > 0 {
			again = in.append(nil)
		}
		if !bytes.Equal(append(again, record...), b) {
			t.Errorf("%x comes back as %x", b, append(again, record...))
		}
	})
}
