package pebblekv

import (
	"errors"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"

	"github.com/concordatdb/concordat/applier"
)

// built is a batch that only needs to be committed: Pebble's own, with the state
// that it leads to.
type built struct {
	engine *Engine
	store  *store
	batch  *pebble.Batch
	base   uint64 // log index that it follows on
	next   *state
	// written is what the batch leaves of a key, nil for nothing. Only where the
	// values before are kept with the changes.
	written map[string][]byte
	fate    atomic.Int32
}

// What became of a built batch.
const (
	fatePending int32 = iota
	fateCommitted
	fateLost
)

// Apply implements [applier.Engine]. It returns without waiting for the disk,
// unless Pebble has to hold writers back.
func (e *Engine) Apply(b applier.Batch) error {
	x, err := e.Build(b)
	if err != nil {
		return err
	}
	return x.Commit()
}

// Build implements [applier.Pipelined]. The whole Pebble batch is built before
// anything is committed, so a malformed payload changes nothing.
func (e *Engine) Build(b applier.Batch) (applier.Built, error) {
	s, before, done, err := e.useInTurn()
	if err != nil {
		return nil, err
	}
	defer done()
	if err := b.CheckAfter(before.position); err != nil {
		return nil, err
	}
	x := &built{engine: e, store: s, batch: s.db.NewBatch(), base: before.position.Index}
	if err := s.build(x, b, before); err != nil {
		return nil, errors.Join(err, x.batch.Close())
	}
	s.builder.built(x)
	return x, nil
}

// Commit implements [applier.Built].
func (x *built) Commit() error {
	err := x.commit()
	if err != nil {
		x.fate.Store(fateLost)
		return err
	}
	x.fate.Store(fateCommitted)
	return x.batch.Close()
}

func (x *built) commit() error {
	s, done, err := x.engine.use()
	if err != nil {
		return err
	}
	defer done()
	switch at := s.visible.Load().position; {
	case s != x.store:
		return applier.ErrReplaced
	case at.Index != x.base:
		return applier.Batch{To: applier.Position{Index: x.base}}.CheckAfter(at)
	}
	return s.submit(job{batch: x.batch, next: x.next}) // after an error the batch may be in the hands of a parked goroutine
}

// Discard implements [applier.Built].
func (x *built) Discard() {
	x.fate.Store(fateLost)
	_ = x.batch.Close() // it only gives back memory
}

// build fills x with b's mutations, what the log of changes keeps of them, and the
// record of the position that follows from them.
func (s *store) build(x *built, b applier.Batch, before *state) error {
	w := &s.builder
	defer w.release()
	if err := w.prepare(s, b.Transactions); err != nil {
		return err
	}
	if w.preparing != nil {
		for i := range w.shards {
			w.preparing.keys.enterOthers(w.shards[i].pairs.touched)
		}
	}
	if err := w.fill(x.batch); err != nil {
		return err
	}
	var err error
	next := &state{position: b.To, digest: w.digest(before.digest)}
	if next.changes, err = s.changes.record(x.batch, b, before, w.pending, s.readValue); err != nil {
		return err
	}
	x.next, x.written = next, s.changes.written
	w.record = appendRecord(w.record[:0], next)
	return x.batch.Set(positionKey, w.record, nil)
}
