package simdisk

import (
	"errors"
	"fmt"
	"slices"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/concordatdb/concordat/gcs"
)

var (
	// ErrLogClosed is returned by every method of a log after Close or Crash.
	ErrLogClosed = errors.New("simdisk: log is closed")
	// ErrLogOrder marks a call that would leave a gap in the log, make a term
	// go backwards, or otherwise lead nowhere; nothing was changed. The
	// durable log refuses the same calls.
	ErrLogOrder = errors.New("simdisk: log calls out of order")
)

// Log is a [gcs.Log] in memory that knows what is synced. It is exact: the same
// calls give the same answers, and nothing happens by itself. It is for one
// goroutine.
//
// A change goes through up to three states, and the log keeps one picture of
// itself for each:
//
//	Stage ──▶ newest ──Publish──▶ visible ──Sync──▶ durable
//	            │                                      ▲
//	            └───────────────── Sync ───────────────┘
//
// The simulator calls Stage when a member begins to append and Sync when the
// virtual fsync ends. Until then readers do not see what was staged: a log
// never shows what is not yet as durable as asked. Sync covers everything
// before it, as an fsync does, and so do SetIdentity, SetRecord, SaveCheckpoint,
// Reset and Adopt, which are durable when they return. Crash keeps what is durable and as much
// of the rest, from the front, as the simulator likes.
//
// Write is all of this at once, for members that are not simulated in time.
type Log struct {
	newest, visible, durable logState
	// journal holds the changes that newest has and durable has not;
	// the first published ones of them are visible.
	journal   []logChange
	published int

	closed bool
	failed error
}

var _ gcs.Log = (*Log)(nil)

// NewLog returns an empty log.
func NewLog() *Log { return &Log{} }

// Stage begins to append ws. It shows to nobody, and may be lost, until Sync
// or Publish. The only errors are those of a wrong call and of a failed or
// closed log.
func (l *Log) Stage(ws []gcs.LogWrite) error {
	if err := l.writable(); err != nil {
		return err
	}
	if err := l.newest.admitAll(ws); err != nil {
		return err
	}
	for _, w := range ws {
		l.change(logChange{write: w})
	}
	return nil
}

// Publish shows what was staged to readers without making it durable: the end
// of a write that did not ask for a sync.
func (l *Log) Publish() {
	for _, c := range l.journal[l.published:] {
		l.visible.apply(c)
	}
	l.published = len(l.journal)
}

// Sync makes everything durable, and visible: the end of an fsync.
func (l *Log) Sync() {
	l.Publish()
	for _, c := range l.journal {
		l.durable.apply(c)
	}
	clear(l.journal)
	l.journal, l.published = l.journal[:0], 0
}

// Unsynced returns the number of changes that a crash may lose.
func (l *Log) Unsynced() int { return len(l.journal) }

// Fail makes every later write return err, as after an error of the disk. What
// is staged stays staged; reads go on.
func (l *Log) Fail(err error) { l.failed = err }

// Crash cuts the power and returns the log that is there afterwards. keep is
// told how many changes are not durable, each [gcs.LogWrite] counting as one,
// and says how many of them survived; the rest is lost. The old log is closed.
func (l *Log) Crash(keep func(unsynced int) int) *Log {
	survivors := l.journal[:min(max(keep(len(l.journal)), 0), len(l.journal))]
	for _, c := range survivors {
		l.durable.apply(c)
	}
	l.closed = true
	return &Log{newest: l.durable.clone(), visible: l.durable.clone(), durable: l.durable}
}

// Reopen returns the log that was closed by Close, open.
func (l *Log) Reopen() (*Log, error) {
	if !l.closed {
		return nil, errors.New("simdisk: log is open: close it before opening it again")
	}
	return l.Crash(func(int) int { return 0 }), nil
}

// change makes a change to newest. It must fit.
func (l *Log) change(c logChange) {
	l.newest.apply(c)
	l.journal = append(l.journal, c)
}

func (l *Log) writable() error {
	if l.closed {
		return ErrLogClosed
	}
	return l.failed
}

// Write implements [gcs.Log].
func (l *Log) Write(ws []gcs.LogWrite) error {
	if err := l.Stage(ws); err != nil {
		return err
	}
	if slices.ContainsFunc(ws, func(w gcs.LogWrite) bool { return w.Sync }) {
		l.Sync()
	} else {
		l.Publish()
	}
	return nil
}

// Identity implements [gcs.Log].
func (l *Log) Identity() gcs.Identity { return l.visible.identity }

// SetIdentity implements [gcs.Log].
func (l *Log) SetIdentity(id gcs.Identity) error {
	if err := l.writable(); err != nil {
		return err
	}
	l.change(logChange{identity: &id})
	l.Sync()
	return nil
}

// Record implements [gcs.Log].
func (l *Log) Record() []byte { return l.visible.record }

// SetRecord implements [gcs.Log].
func (l *Log) SetRecord(record []byte) error {
	if err := l.writable(); err != nil {
		return err
	}
	if len(record) > gcs.MaxRecord {
		return fmt.Errorf("%w: a record of %d bytes, the most is %d", ErrLogOrder, len(record), gcs.MaxRecord)
	}
	own := ownRecord(record)
	l.change(logChange{record: &own})
	l.Sync()
	return nil
}

// ownRecord is a copy of the record that its giver cannot change, nil for none.
func ownRecord(record []byte) []byte {
	if len(record) == 0 {
		return nil
	}
	return slices.Clone(record)
}

// Adopt implements [gcs.Log].
func (l *Log) Adopt(a gcs.Adoption) error {
	if err := l.writable(); err != nil {
		return err
	}
	if err := l.newest.admitAdoption(a); err != nil {
		return err
	}
	a.Record = ownRecord(a.Record)
	l.change(logChange{adopt: &a})
	l.Sync()
	return nil
}

// HardState implements [gcs.Log].
func (l *Log) HardState() *raftpb.HardState {
	if l.visible.hardState == nil {
		return &raftpb.HardState{}
	}
	return copyHardState(l.visible.hardState)
}

// SaveCheckpoint implements [gcs.Log].
func (l *Log) SaveCheckpoint(c gcs.Checkpoint) error {
	if err := l.writable(); err != nil {
		return err
	}
	if term, err := l.newest.term(c.Index); err != nil || term != c.Term {
		return fmt.Errorf("%w: checkpoint at %d of term %d (term %d, %w)", ErrLogOrder, c.Index, c.Term, term, err)
	}
	c.Data = slices.Clone(c.Data)
	l.change(logChange{checkpoint: &c})
	l.Sync()
	return nil
}

// Checkpoint implements [gcs.Log].
func (l *Log) Checkpoint(limit uint64) (gcs.Checkpoint, error) {
	if l.closed {
		return gcs.Checkpoint{}, ErrLogClosed
	}
	return l.visible.checkpoint(limit), nil
}

// Truncate implements [gcs.Log]. Like the durable log it does not sync.
func (l *Log) Truncate(index uint64) error {
	if err := l.writable(); err != nil {
		return err
	}
	if index <= l.newest.cut {
		return nil
	}
	if last := l.newest.last(); index > last {
		return fmt.Errorf("%w: cannot truncate up to %d, the last entry is %d", ErrLogOrder, index, last)
	}
	l.change(logChange{truncate: index})
	l.Publish()
	return nil
}

// Reset implements [gcs.Log].
func (l *Log) Reset(c gcs.Checkpoint, hs *raftpb.HardState) error {
	if err := l.writable(); err != nil {
		return err
	}
	if hs.GetCommit() > c.Index {
		return fmt.Errorf("%w: commit index %d is beyond the checkpoint at %d", ErrLogOrder, hs.GetCommit(), c.Index)
	}
	c.Data = slices.Clone(c.Data)
	l.change(logChange{checkpoint: &c, reset: true, write: gcs.LogWrite{HardState: hs}})
	l.Sync()
	return nil
}

// Close implements [gcs.Log].
func (l *Log) Close() error {
	if l.closed {
		return ErrLogClosed
	}
	l.Sync()
	l.closed = true
	return nil
}

// FirstIndex implements [raft.Storage].
func (l *Log) FirstIndex() (uint64, error) {
	if l.closed {
		return 0, ErrLogClosed
	}
	return l.visible.cut + 1, nil
}

// LastIndex implements [raft.Storage].
func (l *Log) LastIndex() (uint64, error) {
	if l.closed {
		return 0, ErrLogClosed
	}
	return l.visible.last(), nil
}

// Term implements [raft.Storage].
func (l *Log) Term(index uint64) (uint64, error) {
	if l.closed {
		return 0, ErrLogClosed
	}
	return l.visible.term(index)
}

// Entries implements [raft.Storage].
func (l *Log) Entries(lo, hi, maxSize uint64) ([]*raftpb.Entry, error) {
	if l.closed {
		return nil, ErrLogClosed
	}
	s := &l.visible
	switch {
	case lo <= s.cut:
		return nil, raft.ErrCompacted
	case hi > s.last()+1:
		return nil, raft.ErrUnavailable
	case lo >= hi:
		return nil, nil
	}
	entries := s.entries[lo-s.cut-1 : hi-s.cut-1]
	size := uint64(0)
	for i, e := range entries {
		if size += uint64(proto.Size(e)); size > maxSize && i > 0 {
			entries = entries[:i]
			break
		}
	}
	return slices.Clip(entries), nil
}
