package raftlog

import (
	"fmt"

	"github.com/cockroachdb/pebble/v2"
	"go.etcd.io/raft/v3/raftpb"
)

// FirstIndex implements [raft.Storage].
func (l *Log) FirstIndex() (uint64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.readClosed {
		return 0, ErrClosed
	}
	return l.memory.cut + 1, nil
}

// LastIndex implements [raft.Storage].
func (l *Log) LastIndex() (uint64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.readClosed {
		return 0, ErrClosed
	}
	return l.memory.last, nil
}

// Term implements [raft.Storage].
func (l *Log) Term(index uint64) (uint64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.readClosed {
		return 0, ErrClosed
	}
	return l.memory.term(index)
}

// Entries implements [raft.Storage].
//
// An error of the disk must not reach raft, which panics on any that is not
// one of its own, and on most of its own as well. It goes to OnFatal, and
// Entries returns no entries and no error. Raft takes that for nothing to send
// and nothing to apply: it replicates and delivers no further from here, which
// is right for a member that can no longer read its log and is about to be
// taken to ERROR. (The one place where raft does not bear an empty answer is a
// campaign with committed entries still unapplied; a member must not campaign
// after OnFatal.)
func (l *Log) Entries(lo, hi, maxSize uint64) ([]*raftpb.Entry, error) {
	entries, ok, err := l.entriesInMemory(lo, hi)
	if err != nil {
		return nil, err
	}
	if ok {
		return limitSize(entries, maxSize), nil
	}
	return l.entriesOnDisk(lo, hi, maxSize)
}

func (l *Log) entriesInMemory(lo, hi uint64) (entries []*raftpb.Entry, ok bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.readClosed {
		return nil, false, ErrClosed
	}
	if err := l.memory.check(lo, hi); err != nil {
		return nil, false, err
	}
	if lo >= hi {
		return nil, true, nil
	}
	entries, ok = l.memory.recent(lo, hi)
	return entries, ok, nil
}

// entriesOnDisk reads from Pebble what is no longer in memory, and goes on in
// memory where that begins.
func (l *Log) entriesOnDisk(lo, hi, maxSize uint64) ([]*raftpb.Entry, error) {
	l.pages.RLock()
	defer l.pages.RUnlock()
	// The log may have been cut since the first look; from here on it cannot.
	l.mu.Lock()
	closed, err := l.readClosed, l.memory.check(lo, hi)
	onDisk := min(hi, l.memory.firstInTail())
	var tail []*raftpb.Entry
	if !closed && err == nil {
		tail, _ = l.memory.recent(onDisk, hi)
	}
	l.mu.Unlock()
	if closed {
		return nil, ErrClosed
	}
	if err != nil {
		return nil, err
	}
	entries, err := l.readPage(lo, onDisk, maxSize)
	if err != nil {
		l.failure.report(err)
		return nil, nil
	}
	if uint64(len(entries)) < onDisk-lo || len(tail) == 0 {
		return entries, nil
	}
	return limitSize(append(entries, tail...), maxSize), nil
}

// readPage reads the entries lo..hi-1 from Pebble, as many as fit into maxSize
// but at least one.
func (l *Log) readPage(lo, hi, maxSize uint64) ([]*raftpb.Entry, error) {
	if lo >= hi {
		return nil, nil
	}
	it, err := l.store.db.NewIter(&pebble.IterOptions{
		LowerBound: indexKey(kindEntry, lo),
		UpperBound: indexKey(kindEntry, hi),
	})
	if err != nil {
		return nil, fmt.Errorf("raftlog: reading entry %d: %w", lo, err)
	}
	defer func() { _ = it.Close() }()
	var (
		entries []*raftpb.Entry
		size    uint64
		next    = lo
	)
	for ok := it.First(); ok; ok = it.Next() {
		e, err := readEntry(it, next)
		if err != nil {
			return nil, err
		}
		if size += encodedSize(e); size > maxSize && len(entries) > 0 {
			return entries, nil
		}
		entries = append(entries, e)
		next++
	}
	if err := it.Error(); err != nil {
		return nil, readError(fmt.Sprintf("entry %d", next), err)
	}
	if next != hi {
		return nil, corrupt("entry %d is missing", next)
	}
	return entries, nil
}

// readEntry copies the entry that the iterator is at, which should be the one
// of the given index.
func readEntry(it *pebble.Iterator, want uint64) (*raftpb.Entry, error) {
	value, err := entryValue(it, want)
	if err != nil {
		return nil, err
	}
	return getEntry(want, value), nil
}

// entryValue checks the entry that the iterator is at. The value is valid
// until the iterator moves.
func entryValue(it *pebble.Iterator, want uint64) ([]byte, error) {
	index, ok := indexOf(it.Key())
	if !ok {
		return nil, corrupt("key %x where entry %d should be", it.Key(), want)
	}
	if index != want {
		return nil, corrupt("entry %d is missing, the next one is %d", want, index)
	}
	value, err := it.ValueAndErr()
	if err != nil {
		return nil, readError(fmt.Sprintf("entry %d", want), err)
	}
	if !intact(it.Key(), value, entryHeaderLen) {
		return nil, corrupt("entry %d does not match its checksum", want)
	}
	return value, nil
}

// readError wraps an error of Pebble, as corruption if it is one.
func readError(what string, err error) error {
	if pebble.IsCorruptionError(err) {
		return corrupt("reading %s: %v", what, err)
	}
	return fmt.Errorf("raftlog: reading %s: %w", what, err)
}
