package pebblekv

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"pgregory.net/rapid"

	"github.com/concordatdb/concordat/applier"
	"github.com/concordatdb/concordat/gtid"
)

// TestPairCache compares the cache with maps: what it knows is true, and it
// knows all that was touched by the batch under construction and by those that
// are built.
func TestPairCache(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := pairCache{share: rapid.IntRange(0, 3).Draw(t, "share")}
		var d applier.Digester
		committed := map[keyID]pairState{}
		var built []map[keyID]pairState
		for range rapid.IntRange(1, 12).Draw(t, "batches") {
			c.begin()
			touched := map[keyID]pairState{}
			for range rapid.IntRange(0, 30).Draw(t, "keys") {
				// Few sets, so that pairs push each other out.
				n := rapid.Uint64Range(0, 11).Draw(t, "key")
				id := keyID{lo: n % 3, hi: n}
				want, ok := committed[id], false
				for _, m := range append(slices.Clone(built), touched) {
					if state, there := m[id]; there {
						want, ok = state, true
					}
				}
				if got, known := c.find(id); known && got != want || ok && !known {
					t.Fatalf("find %v: %v, %v, want %v, %v", id, got, known, want, ok)
				}
				value := binary.AppendUvarint(nil, rapid.Uint64().Draw(t, "value"))
				state := pairState{live: len(value)%2 == 1, hash: d.Hash(table, nil, value)}
				state.sum, state.counter = applier.DecodeCounter(value)
				c.touch(id, state)
				touched[id] = state
			}
			if rapid.Bool().Draw(t, "build") {
				c.built()
				built = append(built, touched)
			}
			if rapid.IntRange(0, 4).Draw(t, "lose") == 0 {
				n := rapid.IntRange(0, len(built)).Draw(t, "keep")
				c.keep(n)
				built = built[:n]
			}
			for len(built) > 0 && rapid.Bool().Draw(t, "commit") {
				c.commit()
				maps.Copy(committed, built[0])
				built = built[1:]
			}
		}
	})
}

// TestPairCacheKeeps checks that the cache is of use.
func TestPairCacheKeeps(t *testing.T) {
	var c pairCache
	id := func(n uint64) keyID { return keyID{lo: 5, hi: n} }
	touch := func(id keyID, state pairState) {
		c.begin()
		c.touch(id, state)
		c.built()
		c.commit()
	}
	for n := range uint64(4) {
		touch(id(n), pairState{live: true})
	}
	touch(id(2), pairState{}) // again, in place
	c.begin()
	for n, want := range []bool{false, false, true, true} {
		if _, known := c.find(id(uint64(n))); known != want {
			t.Errorf("key %d: known %v, want %v", n, known, want)
		}
	}
	if state, _ := c.find(id(2)); state.live {
		t.Error("an older state of a key is found")
	}
}

// TestWorkers builds the same batches with one goroutine and with several: what
// they come to, and what is wrong with them, must not depend on that.
func TestWorkers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		one, several := testOptions(), testOptions()
		one.Workers, several.Workers = 1, rapid.IntRange(2, 5).Draw(t, "workers")
		var engines [2]*Engine
		for i, o := range []Options{one, several} {
			o.FS = vfs.NewMem()
			e, err := Open(testDir, o)
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := e.Close(); err != nil {
					t.Error(err)
				}
			}()
			engines[i] = e
		}
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		keys := rapid.SampledFrom([]int{3, 40, 2000}).Draw(t, "keys")
		for index := uint64(1); index <= 6; index++ {
			b := randomBatch(rng, index, keys)
			errs := [2]error{engines[0].Apply(b), engines[1].Apply(b)}
			if fmt.Sprint(errs[0]) != fmt.Sprint(errs[1]) {
				t.Fatalf("batch %d: %v with one worker, %v with %d", index, errs[0], errs[1], several.Workers)
			}
		}
		a, at, _ := engines[0].Digest()
		b, _, err := engines[1].Digest()
		if a != b || err != nil || at.Index != engines[1].Position().Index {
			t.Fatalf("digests %v and %v, %v", a, b, err)
		}
	})
}

// randomBatch makes a batch that is large enough to be spread. Sometimes there are
// payloads in it that are none, and sums to what is no counter.
func randomBatch(rng *rand.Rand, index uint64, keys int) applier.Batch {
	b := applier.Batch{To: applier.Position{Index: index}}
	worst := rng.IntN(3)
	for i := range 1 + rng.IntN(200) {
		tx := applier.Transaction{Index: index, GTID: gtid.GTID{UUID: gtid.UUID{1}, Number: index*1000 + uint64(i)}}
		for range rng.IntN(6) {
			n := rng.IntN(keys)
			m := applier.Mutation{Op: applier.OpPut, Table: table, Key: benchKey(n), Value: make([]byte, 100+rng.IntN(50))}
			switch {
			case n%2 == 0 || worst == 0 && rng.IntN(100) == 0:
				m = applier.Mutation{Op: applier.OpAdd, Table: table, Key: benchKey(n), Delta: rng.Int64()}
			case rng.IntN(4) == 0:
				m = applier.Mutation{Op: applier.OpDelete, Table: table, Key: benchKey(n)}
			default:
				m.Value[0] = byte(rng.Uint32())
			}
			tx.Payload = applier.AppendMutation(tx.Payload, m)
		}
		if worst == 1 && rng.IntN(100) == 0 {
			tx.Payload = append(tx.Payload, 99)
		}
		b.Transactions = append(b.Transactions, tx)
	}
	return b
}

// TestBuildAhead builds batches on others that are not committed, gives some up,
// and compares what comes of it with the same batches one after the other.
func TestBuildAhead(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		opts := testOptions()
		opts.FS = vfs.NewMem()
		e, err := Open(testDir, opts)
		if err != nil {
			t.Fatal(err)
		}
		opts.FS = vfs.NewMem()
		plain, err := Open(testDir, opts)
		if err != nil {
			t.Fatal(err)
		}
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		var built []applier.Built
		var batches []applier.Batch
		for index := uint64(1); index <= 20; index++ {
			b := randomBatch(rng, index, 40)
			if x, err := e.Build(b); err == nil {
				built, batches = append(built, x), append(batches, b)
			}
			switch rapid.IntRange(0, 5).Draw(t, "then") {
			case 0: // and with it what was built behind it
				for i := rapid.IntRange(0, len(built)).Draw(t, "discard"); i < len(built); i++ {
					built[i].Discard()
					built, batches = built[:i+copy(built[i:], built[i+1:])], append(batches[:i], batches[i+1:]...)
					i--
				}
			case 1, 2, 3:
				for len(built) > rapid.IntRange(0, 2).Draw(t, "ahead") {
					if err := errors.Join(built[0].Commit(), plain.Apply(batches[0])); err != nil {
						t.Fatal(err)
					}
					built, batches = built[1:], batches[1:]
				}
			}
			a, at, _ := e.Digest()
			b2, at2, err := plain.Digest()
			if a != b2 || at.Index != at2.Index || err != nil {
				t.Fatalf("digest %v at %d, want %v at %d", a, at.Index, b2, at2.Index)
			}
		}
		for _, x := range built {
			x.Discard()
		}
		if err := errors.Join(e.Close(), plain.Close()); err != nil {
			t.Fatal(err)
		}
	})
}

// TestBeginDuringCommit begins a snapshot at the moment when a commit can be
// read and the engine has not been told yet. The snapshot must say what it
// holds, and Position must not be behind it afterwards.
func TestBeginDuringCommit(t *testing.T) {
	e := mustOpen(t, vfs.NewMem())
	mustApply(t, e, batchOf(1, "k", "v"))
	s := e.store
	x := &built{batch: s.db.NewBatch()}
	if err := s.build(x, batchOf(2, "k", "w"), s.visible.Load()); err != nil {
		t.Fatal(err)
	}
	next := x.next
	s.commits.Add(1)
	if err := x.batch.Commit(pebble.NoSync); err != nil {
		t.Fatal(err)
	}
	snap, err := e.Begin()
	if err != nil {
		t.Fatal(err)
	}
	value, _, err := snap.Get(table, []byte("k"))
	if at := snap.Position().Index; at != 2 || string(value) != "w" || err != nil {
		t.Errorf("snapshot at %d holds %q, %v, want 2 and %q", at, value, err, "w")
	}
	if at := e.Position().Index; at != 2 {
		t.Errorf("position %d behind a snapshot at 2", at)
	}
	if digest, _, err := e.Digest(); digest != next.digest || err != nil {
		t.Errorf("digest %v, %v, want %v", digest, err, next.digest)
	}
	s.visible.Store(next)
	s.commits.Add(1)
	mustApply(t, e, batchOf(3, "k", "x"))
	mustClose(t, e)
}

// TestBuildBesideCommit builds thousands of small batches while those before them
// are committed: at some time one becomes visible in the middle of each step of
// the next build.
func TestBuildBesideCommit(t *testing.T) {
	e := mustOpen(t, vfs.NewMem())
	built, ended := make(chan applier.Built, 1), make(chan error, 1)
	go func() {
		var failed error
		for x := range built {
			if failed != nil {
				x.Discard()
			} else {
				failed = x.Commit()
			}
		}
		ended <- failed
	}()
	const batches = 20_000
	b := addBatch(0, 1)
	var err error
	for index := uint64(1); index <= batches && err == nil; index++ {
		b.To.Index = index
		var x applier.Built
		if x, err = e.Build(b); err == nil {
			built <- x
		}
	}
	close(built)
	if err := errors.Join(err, <-ended); err != nil {
		t.Fatal(err)
	}
	if got := counterAt(t, e); got != batches {
		t.Errorf("counter at %d, want %d", got, batches)
	}
	mustClose(t, e)
}
