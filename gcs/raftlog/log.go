package raftlog

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"

	"github.com/cockroachdb/pebble/v2"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/concordatdb/concordat/gcs"
)

var (
	// ErrClosed is returned by every method of a log after Close.
	ErrClosed = errors.New("raftlog: log is closed")
	// ErrInUse marks a directory whose log another member has open.
	ErrInUse = errors.New("raftlog: directory is in use by a running member")
	// ErrNewerFormat marks a directory written by a later version of
	// Concordat.
	ErrNewerFormat = errors.New("raftlog: directory has a newer format")
	// ErrOrder marks a call that would leave the log in a state that no
	// sequence of right calls leads to: a gap, a term that goes backwards, a
	// commit index beyond the end. Nothing was written, and the log goes on.
	ErrOrder = errors.New("raftlog: out of order")
)

// Log is a durable log in a directory of its own. It implements [gcs.Log].
//
// The writer's half may be called from several goroutines, one at a time; the
// reader's half likewise, at the same time as the writer's.
type Log struct {
	dir     string
	opts    Options
	logger  *slog.Logger
	lock    *pebble.Lock
	failure *failure
	store   *store

	// writing guards what only the writer's half uses.
	writing   sync.Mutex
	closed    bool
	batch     *pebble.Batch // reused from commit to commit
	identity  gcs.Identity
	recorded  []byte // the record; never changed, only replaced
	hardState hardState
	heads     []head // of the checkpoints, ascending
	nextBlob  uint64
	unsynced  bool // something was written since the last sync

	// pages keeps readers of Pebble and batches that remove entries apart.
	// Pebble shows a batch before it is synced; without this a reader of old
	// entries could see their replacements too early, or a hole. Appending
	// does not take it, nor does reading from memory.
	pages sync.RWMutex

	// mu guards the handover between writer and reader. It is never held
	// across I/O.
	mu         sync.Mutex
	memory     memory
	readClosed bool
}

var _ gcs.Log = (*Log)(nil)

// Identity implements [gcs.Log].
func (l *Log) Identity() gcs.Identity {
	l.writing.Lock()
	defer l.writing.Unlock()
	return l.identity
}

// SetIdentity implements [gcs.Log].
func (l *Log) SetIdentity(id gcs.Identity) error {
	l.writing.Lock()
	defer l.writing.Unlock()
	if err := l.writable(); err != nil {
		return err
	}
	putIdentity(l.batch, id)
	if err := l.commit(true); err != nil {
		return err
	}
	l.identity = id
	return nil
}

// HardState implements [gcs.Log].
func (l *Log) HardState() *raftpb.HardState {
	l.writing.Lock()
	defer l.writing.Unlock()
	return l.hardState.message()
}

// Write implements [gcs.Log]. An error that wraps [ErrOrder] is the caller's
// mistake and changes nothing; any other one is final.
func (l *Log) Write(ws []gcs.LogWrite) error {
	l.writing.Lock()
	defer l.writing.Unlock()
	if err := l.writable(); err != nil {
		return err
	}
	p, err := l.plan(ws)
	if err != nil {
		return err
	}
	l.fill(ws, p)
	if l.batch.Empty() {
		if !p.sync || !l.unsynced {
			return nil
		}
		if err := l.batch.LogData(nil, nil); err != nil {
			return fmt.Errorf("raftlog: %w", err)
		}
	}
	if p.replaces {
		l.pages.Lock()
		defer l.pages.Unlock()
	}
	if err := l.commit(p.sync); err != nil {
		return err
	}
	l.hardState = p.hardState
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, w := range ws {
		l.memory.append(w.Entries)
	}
	return nil
}

// plan is what a Write comes to.
type plan struct {
	last      uint64 // index of the last entry afterwards
	hardState hardState
	replaces  bool // entries that are there already are removed
	sync      bool
}

// plan checks that ws may follow what the log holds. Only the writer's half
// changes memory, so it may look at it without mu.
func (l *Log) plan(ws []gcs.LogWrite) (plan, error) {
	p := plan{last: l.memory.last, hardState: l.hardState}
	floor := l.floor()
	for i := range ws {
		w := &ws[i]
		p.sync = p.sync || w.Sync
		if w.HardState != nil {
			p.hardState = hardStateOf(w.HardState)
		}
		if len(w.Entries) > 0 {
			first := w.Entries[0].GetIndex()
			if first <= floor || first > p.last+1 {
				return plan{}, fmt.Errorf("%w: entry %d does not follow or replace one of the entries %d to %d",
					ErrOrder, first, floor+1, p.last)
			}
			if err := inOrder(w.Entries, l.termBefore(ws[:i], first)); err != nil {
				return plan{}, err
			}
			p.replaces = p.replaces || first <= l.memory.last
			p.last = first + uint64(len(w.Entries)) - 1
		}
		if p.hardState.commit > p.last {
			return plan{}, fmt.Errorf("%w: commit index %d is beyond the last entry %d",
				ErrOrder, p.hardState.commit, p.last)
		}
	}
	return p, nil
}

// floor is the index of the last entry that must stay: a checkpoint is of
// entries that do.
func (l *Log) floor() uint64 {
	if n := len(l.heads); n > 0 {
		return l.heads[n-1].index
	}
	return l.memory.cut
}

// termBefore returns the term of the entry before first, as it will be once ws
// is written.
func (l *Log) termBefore(ws []gcs.LogWrite, first uint64) uint64 {
	for _, w := range slices.Backward(ws) {
		entries := w.Entries
		if len(entries) == 0 || entries[0].GetIndex() >= first {
			continue
		}
		return entries[first-1-entries[0].GetIndex()].GetTerm()
	}
	term, err := l.memory.term(first - 1)
	if err != nil {
		return 0
	}
	return term
}

// inOrder checks that entries are consecutive and that their terms, beginning
// with that of the entry before, do not go backwards.
func inOrder(entries []*raftpb.Entry, term uint64) error {
	first := entries[0].GetIndex()
	for i, e := range entries {
		if want := first + uint64(i); e.GetIndex() != want {
			return fmt.Errorf("%w: entry %d where %d should be", ErrOrder, e.GetIndex(), want)
		}
		if e.GetTerm() < term {
			return fmt.Errorf("%w: entry %d has term %d after term %d",
				ErrOrder, e.GetIndex(), e.GetTerm(), term)
		}
		if e.GetType() < 0 || e.GetType() > 0xff {
			return fmt.Errorf("%w: entry %d has type %d, which does not fit a byte",
				ErrOrder, e.GetIndex(), e.GetType())
		}
		term = e.GetTerm()
	}
	return nil
}

// fill puts ws into the batch.
func (l *Log) fill(ws []gcs.LogWrite, p plan) {
	last := l.memory.last
	for i := range ws {
		entries := ws[i].Entries
		if len(entries) == 0 {
			continue
		}
		for _, e := range entries {
			putEntryInto(l.batch, e)
		}
		// What a shorter new tail does not overwrite would come back as a
		// ghost at the next Open.
		newLast := entries[len(entries)-1].GetIndex()
		if newLast < last {
			removeEntries(l.batch, newLast+1, last+1)
		}
		last = newLast
	}
	if p.hardState != l.hardState {
		putHardStateInto(l.batch, p.hardState)
	}
}

// Truncate implements [gcs.Log]. It is not synced: if a crash undoes it, the
// log is longer than it needs to be.
func (l *Log) Truncate(index uint64) error {
	l.writing.Lock()
	defer l.writing.Unlock()
	if err := l.writable(); err != nil {
		return err
	}
	if index <= l.memory.cut {
		return nil
	}
	if index > l.memory.last {
		return fmt.Errorf("%w: cannot truncate up to %d, the last entry is %d",
			ErrOrder, index, l.memory.last)
	}
	term, err := l.memory.term(index)
	if err != nil {
		return err
	}
	removeEntries(l.batch, l.memory.cut+1, index+1)
	putCut(l.batch, index, term)
	keep := 0
	for ; keep < len(l.heads) && l.heads[keep].index < index; keep++ {
		removeCheckpoint(l.batch, l.heads[keep])
	}
	l.pages.Lock()
	defer l.pages.Unlock()
	if err := l.commit(false); err != nil {
		return err
	}
	l.heads = l.heads[keep:]
	l.mu.Lock()
	defer l.mu.Unlock()
	l.memory.forget(index, term)
	return nil
}

// Close implements [gcs.Log]. After a failure that left Pebble in pieces it
// returns that failure, and the directory stays in use until the process ends.
func (l *Log) Close() error {
	l.writing.Lock()
	defer l.writing.Unlock()
	if l.closed {
		return ErrClosed
	}
	l.closed = true
	l.mu.Lock()
	l.readClosed = true
	l.mu.Unlock()
	l.pages.Lock() // a reader in the middle of a page finishes it
	defer l.pages.Unlock()
	return l.release()
}

// release closes Pebble and unlocks the directory.
func (l *Log) release() error {
	if err := l.store.close(); err != nil {
		select {
		case <-l.failure.lost:
			return fmt.Errorf("raftlog: %s stays in use until the process ends: %w", l.dir, err)
		default:
			return errors.Join(fmt.Errorf("raftlog: closing %s: %w", l.dir, err), l.lock.Close())
		}
	}
	return l.lock.Close()
}

// writable returns the reason why nothing can be written, and otherwise leaves
// an empty batch.
func (l *Log) writable() error {
	if l.closed {
		return ErrClosed
	}
	if err := l.failure.get(); err != nil {
		return err
	}
	if l.batch == nil {
		l.batch = l.store.db.NewBatch(
			pebble.WithInitialSizeBytes(64<<10), pebble.WithMaxRetainedSizeBytes(4<<20))
	}
	l.batch.Reset()
	return nil
}

// commit writes the batch.
func (l *Log) commit(sync bool) error {
	if err := l.store.commit(l.batch, sync); err != nil {
		l.batch = nil
		return err
	}
	l.unsynced = !sync
	return nil
}
