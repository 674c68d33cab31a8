package pebblekv

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"hash/maphash"
	"runtime/debug"
	"slices"
	"sync"

	"github.com/cockroachdb/pebble/v2"

	"github.com/concordatdb/concordat/applier"
)

// builder makes Pebble batches out of transactions, with several goroutines when
// there is enough to do. Each decodes a run of the transactions, and then each
// takes up the keys of one shard, by their hashes: all that happens to one key
// happens in one shard, in commit order, and what shards add to the digest adds
// up. The sorted writes of all shards are merged.
//
// A key stands for itself by 128 bits of a keyed hash, drawn anew in every
// process, so nobody can choose keys that collide, and by chance none do.
//
// It belongs to the goroutine that builds.
type builder struct {
	shards  []shard
	lanes   []lane
	seeds   [2]maphash.Seed
	spread  int // goroutines at the batch under construction
	pending []*built
	record  []byte
	heads   []int // of the shards' writes, in fill
	// preparing is the transaction that is being got ready, nil for none.
	preparing *preparation
}

// spreadFrom is how many bytes of payload are worth a second goroutine.
const spreadFrom = 8 << 10

// lane is the part of a batch that one goroutine decodes.
type lane struct {
	keys   []byte    // encoded, one behind the other
	shards [][]write // by shard
	fault  fault
}

// shard is the part of the keys that one goroutine looks after.
type shard struct {
	pairs    pairCache
	digester applier.Digester // of what the batch under construction changes
	writes   []*write         // that are left of it, in order of keys
	fault    fault
}

// write is what a batch does to one key.
type write struct {
	mutation applier.Mutation
	key      []byte // encoded
	id       keyID
	at       place
	sum      int64 // what an add leads to
}

// place is where in a batch something stands.
type place struct{ transaction, mutation int }

func (p place) compare(o place) int {
	return cmp.Or(cmp.Compare(p.transaction, o.transaction), cmp.Compare(p.mutation, o.mutation))
}

// fault is the first error that a goroutine met, and where.
type fault struct {
	at  place
	err error
}

func (f fault) earlier(o fault) fault {
	if f.err == nil || o.err != nil && o.at.compare(f.at) < 0 {
		return o
	}
	return f
}

func newBuilder(workers int) builder {
	b := builder{
		shards: make([]shard, workers), lanes: make([]lane, workers), heads: make([]int, workers),
		seeds: [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()},
	}
	for i := range b.shards {
		b.shards[i].pairs.share = workers
		b.lanes[i].shards = make([][]write, workers)
	}
	return b
}

// settle learns what became of the batches built before, and returns the state
// that the next one follows on. With none under way that is the visible one, which
// is looked at last: it changes before a batch is known to be committed.
func (b *builder) settle(visible func() *state) *state {
	for len(b.pending) > 0 && b.pending[0].fate.Load() == fateCommitted {
		b.pending = slices.Delete(b.pending, 0, 1)
		for i := range b.shards {
			b.shards[i].pairs.commit()
		}
	}
	if lost := slices.IndexFunc(b.pending, func(x *built) bool { return x.fate.Load() == fateLost }); lost >= 0 {
		b.pending = slices.Delete(b.pending, lost, len(b.pending))
		for i := range b.shards {
			b.shards[i].pairs.keep(lost)
		}
	}
	if len(b.pending) == 0 {
		return visible()
	}
	return b.pending[len(b.pending)-1].next
}

// built notes that the batch under construction is complete.
func (b *builder) built(x *built) {
	b.pending = append(b.pending, x)
	for i := range b.shards {
		b.shards[i].pairs.built()
	}
}

// prepare decodes transactions and finds out what they come to. The error is that
// of the first transaction that has one.
func (b *builder) prepare(s *store, txs []applier.Transaction) error {
	size := 0
	for i := range txs {
		size += len(txs[i].Payload)
	}
	b.spread = min(len(b.lanes), 1+size/spreadFrom, max(1, len(txs)))
	if b.spread == 1 {
		b.decode(0, txs)
		for i := range b.shards {
			b.shards[i].prepare(s, i, b.lanes[:1])
		}
	} else {
		b.each(b.spread, func(i int) { b.decode(i, txs) })
		b.each(len(b.shards), func(i int) { b.shards[i].prepare(s, i, b.lanes[:b.spread]) })
	}
	var first fault
	for i := range b.shards {
		first = first.earlier(b.lanes[i].fault).earlier(b.shards[i].fault)
	}
	if first.err == nil || first.at.transaction < 0 {
		return first.err
	}
	return &applier.TransactionError{GTID: txs[first.at.transaction].GTID, Err: first.err}
}

// each calls do for 0 to n-1, with as many goroutines as work at the batch, and
// waits for them. A panic is a fault of no transaction.
func (b *builder) each(n int, do func(i int)) {
	one := func(i int) {
		defer func() {
			if p := recover(); p != nil {
				b.shards[i].fault = fault{at: place{transaction: -1}, err: fmt.Errorf("pebblekv: panic: %v\n%s", p, debug.Stack())}
			}
		}()
		do(i)
	}
	var others sync.WaitGroup
	for g := 1; g < b.spread; g++ {
		others.Go(func() {
			for i := g; i < n; i += b.spread {
				one(i)
			}
		})
	}
	for i := 0; i < n; i += b.spread {
		one(i)
	}
	others.Wait()
}

// decode has a lane take its part of the transactions.
func (b *builder) decode(n int, txs []applier.Transaction) {
	l := &b.lanes[n]
	from, to := len(txs)*n/b.spread, len(txs)*(n+1)/b.spread
	for i, tx := range txs[from:to] {
		at := place{transaction: from + i}
		for m, err := range applier.Mutations(tx.Payload) {
			if err != nil {
				l.fault = fault{at, err}
				return
			}
			start := len(l.keys)
			l.keys = appendKey(l.keys, m.Table, m.Key)
			x := write{mutation: m, key: l.keys[start:len(l.keys):len(l.keys)], at: at}
			x.id = b.identify(x.key)
			shard := x.id.hi % uint64(len(b.shards))
			l.shards[shard] = append(l.shards[shard], x)
			at.mutation++
		}
	}
}

// identify may be called by any goroutine.
func (b *builder) identify(key []byte) keyID {
	return keyID{maphash.Bytes(b.seeds[0], key), maphash.Bytes(b.seeds[1], key)}
}

// prepare takes what lanes have decoded of the shard's keys.
func (d *shard) prepare(s *store, n int, lanes []lane) {
	d.pairs.begin()
	d.digester.Reset(applier.Digest{})
	for i := range lanes {
		for j := range lanes[i].shards[n] {
			x := &lanes[i].shards[n][j]
			if err := d.mutate(s, x); err != nil {
				d.fault = fault{x.at, err}
				return
			}
		}
	}
	slices.SortFunc(d.writes, func(a, b *write) int { return cmp.Or(bytes.Compare(a.key, b.key), a.at.compare(b.at)) })
	// Of several writes to one key only the last counts, since nobody can see the
	// others.
	n = 0
	for i, x := range d.writes {
		if i+1 == len(d.writes) || !bytes.Equal(x.key, d.writes[i+1].key) {
			d.writes[n] = x
			n++
		}
	}
	d.writes = d.writes[:n]
}

// mutate notes x and accounts for it in the digest, for which it needs what x
// replaces. A sum is computed here and not left to a merge operator of Pebble's:
// the digest speaks of values.
func (d *shard) mutate(s *store, x *write) error {
	old, known := d.pairs.find(x.id)
	if !known {
		var err error
		if old, err = d.readPair(s, x); err != nil {
			return err
		}
	}
	next, err := d.replace(x, old)
	if err != nil {
		return err
	}
	d.pairs.touch(x.id, next)
	if next.live || old.live { // else nothing to delete: no tombstone
		d.writes = append(d.writes, x)
	}
	return nil
}

// replace finds out what x makes of a key, and accounts for it in the digest.
func (d *shard) replace(x *write, old pairState) (next pairState, err error) {
	m := &x.mutation
	switch m.Op {
	case applier.OpPut:
		next = d.pairOf(m, m.Value)
	case applier.OpAdd:
		if x.sum, err = old.add(m.Delta); err != nil {
			return pairState{}, fmt.Errorf("%v, key %.64q: %w", m.Table, m.Key, err)
		}
		var value [applier.CounterLen]byte
		next = d.pairOf(m, applier.AppendCounter(value[:0], x.sum))
	case applier.OpDelete:
	}
	if old.live {
		d.digester.RemoveHash(old.hash)
	}
	if next.live {
		d.digester.AddHash(next.hash)
	}
	return next, nil
}

// pairOf is the state of m's key when it has value.
func (d *shard) pairOf(m *applier.Mutation, value []byte) pairState {
	sum, counter := applier.DecodeCounter(value)
	return pairState{live: true, counter: counter, sum: sum, hash: d.digester.Hash(m.Table, m.Key, value)}
}

// readPair reads what the database has for a key. What is built and not yet
// committed is in the cache.
func (d *shard) readPair(s *store, x *write) (pairState, error) {
	value, closer, err := s.db.Get(x.key)
	if errors.Is(err, pebble.ErrNotFound) {
		return pairState{}, nil
	}
	if err != nil {
		return pairState{}, fmt.Errorf("read %s: %w", s.dir, err)
	}
	return d.pairOf(&x.mutation, value), closer.Close()
}

// fill adds the writes of all shards to batch in the order of their keys. Pebble
// inserts a batch one by one into a list in which it searches on from the place
// before; among keys in order that place is near.
func (b *builder) fill(batch *pebble.Batch) error {
	clear(b.heads)
	var sum [applier.CounterLen]byte
	for {
		next := b.next()
		if next == nil {
			return nil
		}
		var err error
		switch next.mutation.Op {
		case applier.OpPut:
			err = batch.Set(next.key, next.mutation.Value, nil)
		case applier.OpAdd:
			err = batch.Set(next.key, applier.AppendCounter(sum[:0], next.sum), nil)
		case applier.OpDelete:
			err = batch.Delete(next.key, nil)
		}
		if err != nil {
			return err
		}
	}
}

// next takes the write with the lowest key from the heads of the shards, nil when
// there is none left.
func (b *builder) next() *write {
	var lowest *write
	from := 0
	for i := range b.shards {
		if at := b.heads[i]; at < len(b.shards[i].writes) {
			if x := b.shards[i].writes[at]; lowest == nil || bytes.Compare(x.key, lowest.key) < 0 {
				lowest, from = x, i
			}
		}
	}
	if lowest != nil {
		b.heads[from]++
	}
	return lowest
}

// digest is that of the state before, with what the batch changes.
func (b *builder) digest(before applier.Digest) applier.Digest {
	var d applier.Digester
	d.Reset(before)
	for i := range b.shards {
		d.Merge(&b.shards[i].digester)
	}
	return d.Digest()
}

// release lets go of payloads, and of faults.
func (b *builder) release() {
	for i := range b.lanes {
		l, d := &b.lanes[i], &b.shards[i]
		for j := range l.shards {
			clear(l.shards[j])
			l.shards[j] = l.shards[j][:0]
		}
		clear(d.writes[:cap(d.writes)])
		d.writes, d.fault = d.writes[:0], fault{}
		l.keys, l.fault = l.keys[:0], fault{}
	}
}
