package pebblekv

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/concordatdb/concordat/applier"
)

var _ applier.Preparer = (*Engine)(nil)

// maxPreparedKeys bounds how many keys a transaction may have that is got ready for,
// and how many may be written beside it: they are held in memory.
const maxPreparedKeys = 1 << 20

// maxMutation is more than any mutation takes: beyond it what is held is none.
const maxMutation = applier.MaxValueLen + applier.MaxKeyLen + 4<<10

// preparation gets a transaction ready as tables of Pebble's own, which its turn
// only has to take in: what comes in is written to them at once, and never gathers in
// memory. For that its keys have to come in ascending order, each once. Tables for
// which they do not are of no use, and the transaction is applied in the ordinary
// way.
//
// What a key had before is read as it comes. That is what it has when the
// transaction comes to its turn, unless somebody writes the key in between: so the
// keys of every batch that is built meanwhile are noted, and one in common makes the
// preparation void. Certification leaves few of those: additions to one counter, and
// what says nothing of what it writes.
type preparation struct {
	engine *Engine
	store  *store
	dir    string
	record pieces // that the log of changes is to hold

	// Add's.
	reader  applier.MutationReader
	work    shard // for its digester, of what changes
	data    tableRun
	payload tableRun
	write   write
	last    []byte // the key before, nil for none
	key     []byte // scratch
	ids     []keyID
	whole   bool  // all of it has come
	err     error // why nothing more is taken

	keys writtenKeys
}

// writtenKeys are those of a transaction, and those that others write meanwhile.
type writtenKeys struct {
	mu     sync.Mutex
	own    map[keyID]struct{}
	others map[keyID]struct{}
	err    error // why they cannot be told apart
}

var (
	errCommonKey   = errors.New("another transaction has written one of its keys")
	errTooManyKeys = fmt.Errorf("more than %d keys were written", maxPreparedKeys)
	errKeyOrder    = errors.New("its keys are not in ascending order")
	errNoMutation  = errors.New("its payload is malformed")
)

// enter adds keys of the transaction, or of others.
func (w *writtenKeys) enter(into, against map[keyID]struct{}, ids []keyID) {
	for _, id := range ids {
		if _, both := against[id]; both {
			w.err = errCommonKey
		}
		into[id] = struct{}{}
	}
	if w.err == nil && len(into) > maxPreparedKeys {
		w.err = errTooManyKeys
	}
}

// enterOwn adds keys of the transaction. The error says why they do not help.
func (w *writtenKeys) enterOwn(ids []keyID) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil {
		w.enter(w.own, w.others, ids)
	}
	return w.err
}

// enterOthers adds what a batch that is built touches.
func (w *writtenKeys) enterOthers(touched map[keyID]pairState) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return
	}
	ids := make([]keyID, 0, len(touched))
	for id := range touched { // order-free: it becomes a set
		ids = append(ids, id)
	}
	w.enter(w.others, w.own, ids)
}

// Prepare implements [applier.Preparer], for one transaction at a time. An engine
// that keeps old values with its changes does not get ready.
func (e *Engine) Prepare() (applier.Preparation, error) {
	s, before, done, err := e.useInTurn()
	if err != nil {
		return nil, err
	}
	defer done()
	switch {
	case s.builder.preparing != nil:
		return nil, fmt.Errorf("%w: there is another one", applier.ErrUnprepared)
	case s.changes.old:
		return nil, fmt.Errorf("%w: old values are kept", applier.ErrUnprepared)
	case len(s.builder.pending) > 0:
		return nil, fmt.Errorf("%w: %d batches are under way", applier.ErrUnprepared, len(s.builder.pending))
	}
	dir := e.dir.join(fmt.Sprintf("%s%06d", preparedPrefix, e.preparedSeq.Add(1)))
	if err := errors.Join(e.dir.RemoveAll(dir), e.dir.MkdirAll(dir, 0o755)); err != nil {
		return nil, fmt.Errorf("%w: %w", applier.ErrUnprepared, err)
	}
	p := &preparation{engine: e, store: s, dir: dir}
	p.data, p.payload = newTableRun(e.dir.FS, dir, "data", s.tables), newTableRun(e.dir.FS, dir, "changes", s.tables)
	p.keys.own, p.keys.others = map[keyID]struct{}{}, map[keyID]struct{}{}
	if before.changes != nil {
		p.record.giant = before.changes.giants
	}
	s.builder.preparing = p
	return p, nil
}

// Add implements [applier.Preparation].
func (p *preparation) Add(payload []byte) error {
	if p.err == nil {
		p.err = p.add(payload)
	}
	if p.err != nil {
		return fmt.Errorf("%w: %w", applier.ErrUnprepared, p.err)
	}
	return nil
}

// Complete implements [applier.Preparation]. It waits for the disk.
func (p *preparation) Complete() error {
	if p.err == nil {
		p.err = p.complete()
	}
	if p.err != nil {
		return fmt.Errorf("%w: %w", applier.ErrUnprepared, p.err)
	}
	return nil
}

func (p *preparation) complete() error {
	_, done, err := p.engine.use()
	if err != nil {
		return err
	}
	defer done()
	p.whole = true
	return errors.Join(p.data.finish(), p.payload.finish())
}

func (p *preparation) add(payload []byte) error {
	if p.whole && len(payload) > 0 {
		return errors.New("more is added than all")
	}
	s, done, err := p.engine.use()
	if err != nil {
		return err
	}
	defer done()
	if s != p.store {
		return applier.ErrReplaced
	}
	p.ids = p.ids[:0]
	p.reader.Add(payload)
	for m, ok := p.reader.Next(); ok; m, ok = p.reader.Next() {
		if err := p.mutate(m); err != nil {
			return err
		}
	}
	if p.reader.Held() > maxMutation {
		return errNoMutation
	}
	if s.changes.limit > 0 && len(payload) > 0 {
		p.key = appendPieceKey(p.key[:0], p.record.giant, p.record.count)
		if err := p.payload.set(p.key, payload); err != nil {
			return err
		}
		p.record.count++
		p.record.bytes += uint64(len(payload))
	}
	return p.keys.enterOwn(p.ids)
}

// mutate writes down what m leads to.
func (p *preparation) mutate(m applier.Mutation) error {
	x := &p.write
	*x = write{mutation: m, key: appendKey(x.key[:0], m.Table, m.Key)}
	if p.last != nil && bytes.Compare(x.key, p.last) <= 0 {
		return errKeyOrder
	}
	p.last = append(p.last[:0], x.key...)
	p.ids = append(p.ids, p.store.builder.identify(x.key))
	old, err := p.work.readPair(p.store, x)
	if err != nil {
		return err
	}
	if _, err := p.work.replace(x, old); err != nil {
		return err
	}
	switch m.Op {
	case applier.OpPut:
		return p.data.set(x.key, m.Value)
	case applier.OpAdd:
		return p.data.set(x.key, applier.AppendCounter(nil, x.sum))
	case applier.OpDelete:
		if old.live {
			return p.data.delete(x.key)
		}
	}
	return nil
}

// Apply implements [applier.Preparation]. It waits for the disk.
func (p *preparation) Apply(b applier.Batch) error {
	s, before, done, err := p.engine.useInTurn()
	if err != nil {
		return err
	}
	defer done()
	if err := b.CheckAfter(before.position); err != nil {
		return err
	}
	if err := p.ready(s, b, before); err != nil {
		return fmt.Errorf("%w: %w", applier.ErrUnprepared, err)
	}
	next, last, err := p.finish(b, before)
	if err != nil {
		return fmt.Errorf("%w: %w", applier.ErrUnprepared, err)
	}
	// Whoever writes one of the keys next reads what it has now.
	s.builder.forget(p.keys.own)
	s.builder.preparing = nil
	return s.ingest(slices.Concat(p.data.paths, p.payload.paths, last), next)
}

// ready returns why what was prepared cannot be taken for b, nil if it can.
func (p *preparation) ready(s *store, b applier.Batch, before *state) error {
	p.keys.mu.Lock()
	defer p.keys.mu.Unlock()
	switch {
	case s != p.store:
		return applier.ErrReplaced
	case s.builder.preparing != p:
		return errors.New("it was discarded, or is visible")
	case len(s.builder.pending) > 0:
		return fmt.Errorf("%d batches are under way", len(s.builder.pending))
	case len(b.Transactions) != 1:
		return fmt.Errorf("%d transactions become visible at once", len(b.Transactions))
	case b.Transactions[0].Index <= before.position.Index || b.Transactions[0].Index > b.To.Index:
		return fmt.Errorf("it is of log index %d, in a batch from %d to %d", b.Transactions[0].Index, before.position.Index, b.To.Index)
	case p.reader.Held() > 0:
		return fmt.Errorf("%d bytes of the payload are no mutation", p.reader.Held())
	}
	return errors.Join(p.err, p.keys.err)
}

// finish completes the tables, and writes those that nobody could write before: of
// the position, and of the change record.
func (p *preparation) finish(b applier.Batch, before *state) (next *state, last []string, err error) {
	var d applier.Digester
	d.Reset(before.digest)
	d.Merge(&p.work.digester)
	next = &state{position: b.To, digest: d.Digest()}
	place := newTableRun(p.engine.dir.FS, p.dir, "position", p.store.tables)
	record := newTableRun(p.engine.dir.FS, p.dir, "record", p.store.tables)
	if next.changes, err = p.store.changes.recordPieces(record.set, b, before, p.record); err == nil {
		err = place.set(positionKey, appendRecord(nil, next))
	}
	for _, run := range []*tableRun{&p.data, &p.payload, &record, &place} {
		err = errors.Join(err, run.finish())
	}
	return next, append(place.paths, record.paths...), err
}

// Discard implements [applier.Preparation].
func (p *preparation) Discard() {
	if p.store.builder.preparing == p {
		p.store.builder.preparing = nil
	}
	// Neither can be used any more, and Open removes what is left.
	_ = errors.Join(p.data.finish(), p.payload.finish())
	_ = p.engine.dir.RemoveAll(p.dir)
}

// forget has what the cache knows of some keys forgotten: they are written beside
// it.
func (b *builder) forget(ids map[keyID]struct{}) {
	for id := range ids { // order-free: each is removed by itself
		b.shards[id.hi%uint64(len(b.shards))].pairs.forget(id)
	}
}
