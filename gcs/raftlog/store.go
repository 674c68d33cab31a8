package raftlog

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/cockroachdb/pebble/v2"
)

// failure holds the first error after which the log cannot be written.
type failure struct {
	once    sync.Once
	failed  chan struct{} // closed once err is set
	err     error
	onFatal func(error)
	logger  *slog.Logger

	// lost is closed when Pebble cannot even be closed any more, because one
	// of its goroutines was stopped where it stood.
	lost     chan struct{}
	loseOnce sync.Once
}

func newFailure(o Options) *failure {
	return &failure{
		failed:  make(chan struct{}),
		lost:    make(chan struct{}),
		onFatal: o.OnFatal,
		logger:  o.Logger,
	}
}

// report records err if it is the first, and tells the owner of the log.
func (f *failure) report(err error) {
	f.once.Do(func() {
		f.err = err
		close(f.failed)
		f.logger.Error("log: out of service for writing", "err", err)
		f.onFatal(err)
	})
}

// lose reports err and gives Pebble up.
func (f *failure) lose(err error) {
	f.report(err)
	f.loseOnce.Do(func() { close(f.lost) })
}

// get returns the error, nil as long as there is none.
func (f *failure) get() error {
	select {
	case <-f.failed:
		return f.err
	default:
		return nil
	}
}

// logger is what Pebble logs to. Pebble's own logger ends the process on a
// fatal error, and Pebble counts on Fatalf for not returning: it may have left
// locks held and its commit pipeline torn. So the goroutine that calls it is
// parked for ever, and the store is left as it is.
type logger struct {
	log     *slog.Logger
	failure *failure
}

func (l logger) Infof(format string, args ...any) {
	l.log.Debug("log: pebble", "text", fmt.Sprintf(format, args...))
}

func (l logger) Errorf(format string, args ...any) {
	l.log.Warn("log: pebble", "text", fmt.Sprintf(format, args...))
}

func (l logger) Fatalf(format string, args ...any) {
	l.failure.lose(fmt.Errorf("raftlog: disk failed: "+format, args...))
	select {}
}

// store runs everything that writes to Pebble on a goroutine of its own, which
// may be parked, by Fatalf or by [guardFS], or panic, without harm to the
// caller. The naive way, calling Batch.Commit where Write was called, hangs
// Write for ever when the disk fails. Here callers wait for the result or for
// the loss of Pebble, whichever comes first.
type store struct {
	db      *pebble.DB
	fs      *guardFS
	failure *failure
	jobs    chan job
	results chan error
	stopped chan struct{} // closed when the goroutine has ended
}

// job is one piece of work for the goroutine of a store.
type job struct {
	kind  jobKind
	batch *pebble.Batch // to write
	sync  bool
}

type jobKind int

const (
	jobWrite jobKind = iota
	jobFlush
	jobClose // and end
)

// openStore opens Pebble in dir.
//
// Segments that are created before serve is called have warm bytes written in
// advance.
func openStore(dir string, opts *pebble.Options, f *failure, warm int) (*store, error) {
	fs := &guardFS{FS: opts.FS, failure: f}
	fs.warm.Store(int64(warm))
	opts.FS = fs
	s := &store{
		fs:      fs,
		failure: f,
		jobs:    make(chan job),
		results: make(chan error, 1),
		stopped: make(chan struct{}),
	}
	go s.run(dir, opts)
	if err := s.result(); err != nil {
		return nil, err
	}
	return s, nil
}

// run is the goroutine. It ends after an open that did not succeed, after a
// close and after a panic, unless it is parked before.
func (s *store) run(dir string, opts *pebble.Options) {
	defer close(s.stopped)
	err := guard(func() (err error) {
		s.db, err = pebble.Open(dir, opts)
		return err
	})
	s.fs.serving.Store(err == nil)
	s.results <- err
	if err != nil {
		return
	}
	for j := range s.jobs {
		err := guard(func() error { return s.perform(j) })
		if errors.Is(err, errPanic) {
			s.failure.lose(err)
			return
		}
		s.results <- err
		if j.kind == jobClose {
			return
		}
	}
}

func (s *store) perform(j job) error {
	switch j.kind {
	case jobWrite:
		return s.db.Apply(j.batch, &pebble.WriteOptions{Sync: j.sync})
	case jobFlush:
		return s.db.Flush()
	default:
		// The next Open would flush anyway. Doing it now leaves nothing to the
		// write-ahead log, whose end is the one place where Pebble cannot tell
		// a flipped bit from a write that a crash tore.
		err := s.db.Flush()
		s.fs.serving.Store(false)
		return errors.Join(err, s.db.Close())
	}
}

// errPanic marks a panic of Pebble, which may have left locks held.
var errPanic = errors.New("raftlog: disk failed")

func guard(f func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: %v", errPanic, r)
		}
	}()
	return f()
}

// commit writes a batch. An error is final, and the batch must not be used
// again.
func (s *store) commit(b *pebble.Batch, sync bool) error {
	if err := s.failure.get(); err != nil {
		return err
	}
	return s.final(s.do(job{kind: jobWrite, batch: b, sync: sync}))
}

// flush moves everything from the write-ahead log into tables, and begins a
// new segment. An error is final.
func (s *store) flush() error { return s.final(s.do(job{kind: jobFlush})) }

// serve ends the opening: from now on nobody waits for a segment to be warm.
func (s *store) serve() { s.fs.warm.Store(0) }

// final reports an error as the one that ended writing.
func (s *store) final(err error) error {
	if err == nil {
		return nil
	}
	s.failure.report(fmt.Errorf("raftlog: disk failed: %w", err))
	return s.failure.get()
}

// close closes the database and waits for the goroutine. If Pebble is lost it
// does neither, and says why.
func (s *store) close() error {
	err := s.do(job{kind: jobClose})
	select {
	case <-s.failure.lost:
		return s.failure.err
	default:
		<-s.stopped
		return err
	}
}

// do hands a job to the goroutine.
func (s *store) do(j job) error {
	select {
	case s.jobs <- j:
		return s.result()
	case <-s.failure.lost:
		return s.failure.err
	}
}

// result waits for the outcome of the last job, or for the loss of Pebble.
func (s *store) result() error {
	select {
	case err := <-s.results:
		return err
	case <-s.failure.lost:
		return s.failure.err
	}
}
