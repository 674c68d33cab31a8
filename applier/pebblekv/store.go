package pebblekv

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"

	"github.com/concordatdb/concordat/applier"
)

// store is one Pebble instance: the state that CURRENT names, or one that an
// import is bringing in.
//
// Whatever may write runs on one goroutine, the worker. When the disk fails,
// that is where Pebble gets parked, and the caller, who also waits for the
// failure, returns. Reads run on their callers' goroutines: they never write,
// and no lock they need is ever held by a parked goroutine (see guard).
type store struct {
	dir     string
	db      *pebble.DB
	cache   *pebble.Cache
	failure *failure

	running sync.Mutex    // held by whoever uses the worker
	work    chan job      // to the worker; closed to end it
	results chan error    // from the worker, one for each job
	idle    chan struct{} // closed when the worker has ended

	reap   chan *pebble.Snapshot // to the reaper; closed to end it
	reaped chan struct{}         // closed when the reaper has ended

	visible atomic.Pointer[state] // what readers see
	commits atomic.Uint64         // odd while a commit is under way
	builder builder               // of batches
	tables  *pebble.Options       // by which tables are written that are to be taken in
	changes changeWriter          // belongs to the builder's goroutine too
	number  uint64                // of the state, in which a place of the changes counts

	mu    sync.Mutex
	snaps map[*snapshot]struct{} // open
}

// job is something for the worker to do: commit a batch that leads to a state,
// or call a function.
type job struct {
	batch *pebble.Batch
	next  *state
	call  func() error
}

// openStore opens the store in dir, or creates it there.
func openStore(dir string, opts Options, f *failure, create bool) (*store, error) {
	g := &guard{FS: opts.FS, dir: dir, failure: f}
	cache := pebble.NewCache(opts.CacheBytes)
	popts := opts.pebbleOptions(g, cache)
	popts.ErrorIfNotExists = !create
	popts.ErrorIfExists = create
	db, err := openPebble(dir, popts, g)
	if err != nil {
		cache.Unref()
		if pebble.IsCorruptionError(err) || errors.Is(err, pebble.ErrDBDoesNotExist) {
			err = fmt.Errorf("%w: %w", ErrCorrupt, err)
		}
		return nil, fmt.Errorf("open %s: %w", dir, err)
	}
	s := &store{
		dir: dir, db: db, cache: cache, failure: f,
		work: make(chan job), results: make(chan error, 1), idle: make(chan struct{}),
		reap: make(chan *pebble.Snapshot, maxUnreaped), reaped: make(chan struct{}),
		snaps:   make(map[*snapshot]struct{}),
		builder: newBuilder(opts.Workers), changes: newChangeWriter(opts), number: opts.stateNumber,
		tables: tableOptions(popts),
	}
	g.armed.Store(true)
	go s.worker()
	go s.reaper()
	if err := s.load(create); err != nil {
		return nil, errors.Join(fmt.Errorf("open %s: %w", dir, err), s.close())
	}
	return s, nil
}

// openPebble calls pebble.Open on a goroutine of its own, which Fatalf may end,
// and turns a panic of it into an error: Pebble panics when it cannot sync a
// directory.
func openPebble(dir string, popts *pebble.Options, g *guard) (db *pebble.DB, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() {
			if r := recover(); r != nil {
				err = fmt.Errorf("pebble: %v", r)
			}
		}()
		db, err = pebble.Open(dir, popts)
	}()
	<-done
	if fatal := g.opening.Load(); fatal != nil {
		return nil, *fatal
	}
	return db, err
}

// load reads format and position, or writes the format of a new store.
func (s *store) load(create bool) error {
	if create {
		format := binary.BigEndian.AppendUint32(nil, formatVersion)
		if err := s.call(func() error { return s.db.Set(formatKey, format, pebble.Sync) }); err != nil {
			return err
		}
		st := &state{}
		if err := s.loadChanges(st); err != nil {
			return err
		}
		s.visible.Store(st)
		return nil
	}
	format, err := s.get(formatKey)
	if err != nil {
		return err
	}
	if err := checkFormat(format); err != nil {
		return err
	}
	record, err := s.get(positionKey)
	if err != nil {
		return err
	}
	st := &state{}
	if record != nil {
		if st, err = decodeRecord(record); err != nil {
			return err
		}
	}
	if err := s.loadChanges(st); err != nil {
		return err
	}
	s.visible.Store(st)
	return nil
}

// get returns a copy of the value of a key of the store, nil if there is none.
func (s *store) get(key []byte) ([]byte, error) {
	v, closer, err := s.db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", s.dir, err)
	}
	return append([]byte{}, v...), closer.Close()
}

// worker does the jobs until work is closed or the disk fails.
func (s *store) worker() {
	defer close(s.idle)
	for j := range s.work {
		s.results <- s.do(j)
	}
}

func (s *store) do(j job) (err error) {
	defer func() {
		if r := recover(); r != nil {
			// Pebble's assertions. Its locks may be held for ever now.
			s.failure.set(fmt.Errorf("pebble: %v", r))
			err = s.failure.err
		}
	}()
	if j.batch == nil {
		return j.call()
	}
	return s.show(j.next, func() error { return j.batch.Commit(pebble.NoSync) })
}

// show makes a state visible by a commit to Pebble, which the worker is in.
func (s *store) show(next *state, commit func() error) error {
	s.commits.Add(1)
	err := commit()
	if err == nil {
		s.visible.Store(next)
	}
	s.commits.Add(1)
	return err
}

// beginFlush has the worker begin a new memtable. The channel is closed once
// everything applied before is in tables on the disk.
func (s *store) beginFlush() (<-chan struct{}, error) {
	// Not a shared variable: when the engine fails the worker may still be on
	// its way to an answer that nobody waits for any more.
	answer := make(chan (<-chan struct{}), 1)
	err := s.call(func() error {
		flushed, err := s.db.AsyncFlush()
		answer <- flushed
		return err
	})
	if err != nil {
		return nil, err
	}
	return <-answer, nil
}

// call has the worker call f. It returns f's error, or the failure of the
// engine, in which case f may be parked for ever.
func (s *store) call(f func() error) error { return s.submit(job{call: f}) }

func (s *store) submit(j job) error {
	s.running.Lock()
	defer s.running.Unlock()
	if err := s.failure.get(); err != nil {
		return err
	}
	// The worker is idle: it has given back its last result, or the engine has
	// failed.
	select {
	case s.work <- j:
	case <-s.failure.done:
		return s.failure.err
	}
	select {
	case err := <-s.results:
		return err
	case <-s.failure.done:
		return s.failure.err
	}
}

// begin opens a snapshot with the state that it shows. It waits for no commit.
//
// Pebble's snapshot and the pointer visible must speak of the same moment. They
// do if no commit was under way at any time in between, which the counter
// tells: commits change it before they become readable and after they have set
// visible. Otherwise, rarely, the position record is read through the snapshot,
// and is right by its nature.
func (s *store) begin() (applier.Snapshot, error) {
	commits := s.commits.Load()
	st := s.visible.Load()
	reader := s.db.NewSnapshot()
	if commits%2 == 1 || s.commits.Load() != commits {
		var err error
		if st, err = s.stateOf(reader); err != nil {
			s.release(reader)
			return nil, err
		}
	}
	snap := &snapshot{store: s, reader: reader, state: st}
	s.mu.Lock()
	s.snaps[snap] = struct{}{}
	s.mu.Unlock()
	return snap, nil
}

func (s *store) stateOf(reader *pebble.Snapshot) (*state, error) {
	record, closer, err := reader.Get(positionKey)
	if errors.Is(err, pebble.ErrNotFound) {
		return &state{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", s.dir, err)
	}
	defer func() { _ = closer.Close() }() // it only gives back a buffer
	seen := s.visible.Load()
	if index, ok := recordIndex(record); ok && index == seen.position.Index {
		return seen, nil
	}
	st, err := decodeRecord(record)
	if err != nil {
		return nil, err
	}
	st.changes = seen.changes // what it has forgotten, whoever reads them finds out
	// The commit has just become readable. Nobody may find Position behind a
	// snapshot that was already handed out.
	if st.position.Index > seen.position.Index {
		s.visible.CompareAndSwap(seen, st)
	}
	return st, nil
}

// durable returns the log index that a crash cannot undo: the one in what has
// been flushed.
func (s *store) durable() (index uint64, err error) {
	it, err := s.db.NewIter(&pebble.IterOptions{
		LowerBound:                positionKey,
		UpperBound:                append(bytes.Clone(positionKey), 0),
		OnlyReadGuaranteedDurable: true,
	})
	if err != nil {
		return 0, fmt.Errorf("read %s: %w", s.dir, err)
	}
	if it.First() {
		var st *state
		if st, err = decodeRecord(it.Value()); err == nil {
			index = st.position.Index
		}
	}
	return index, errors.Join(err, it.Error(), it.Close())
}

// maxUnreaped is how many of Pebble's snapshots may wait to be closed before
// whoever gives up another has to wait too.
const maxUnreaped = 256

// release gives up a snapshot of Pebble's. Closing one may wait for a sync of
// the MANIFEST, for ever if that failed, so the reaper does it. After a failure
// there is no point in it.
func (s *store) release(reader *pebble.Snapshot) {
	select {
	case s.reap <- reader:
	case <-s.failure.done:
	}
}

func (s *store) reaper() {
	defer close(s.reaped)
	for reader := range s.reap {
		_ = reader.Close() // it has no way to fail
	}
}

// invalidate ends every open snapshot. None may be begun meanwhile or later.
func (s *store) invalidate(why error) {
	s.mu.Lock()
	snaps := s.snaps
	s.snaps = nil
	s.mu.Unlock()
	for snap := range snaps {
		snap.invalidate(why)
	}
}

// forget is called by a snapshot that closes by itself.
func (s *store) forget(snap *snapshot) {
	s.mu.Lock()
	delete(s.snaps, snap)
	s.mu.Unlock()
}

// close ends the worker and gives everything back. Nothing else may use the
// store. One whose disk failed cannot be closed: Pebble would wait for what is
// parked. It is abandoned, with its memory, Pebble's goroutines and its lock,
// until the process ends.
func (s *store) close() error {
	s.invalidate(applier.ErrClosed)
	close(s.reap)
	select {
	case <-s.reaped:
	case <-s.failure.done:
	}
	err := s.call(s.db.Close)
	close(s.work)
	if failed := s.failure.get(); failed != nil {
		return failed
	}
	<-s.idle
	s.cache.Unref()
	if err != nil {
		return fmt.Errorf("close %s: %w", s.dir, err)
	}
	return nil
}
